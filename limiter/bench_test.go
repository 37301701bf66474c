package limiter_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/hivegate/hivegate/limiter"
)

// owners are the numbers of distinct owners that decisions are measured with.
var owners = []int{1, 1000, 100_000, 1_000_000}

// traffic is one limiter with the requests of n owners, all seen before: two
// buckets and one slot each.
type traffic struct {
	l     *limiter.Memory
	names []string
	plan  *limiter.Limit
	class *limiter.Limit
}

func newTraffic(tb testing.TB, n int) *traffic {
	tb.Helper()
	tr := &traffic{
		l:     limiter.NewMemory(limiter.MemoryOptions{SweepEvery: -1, MaxBuckets: 4_000_000}),
		names: make([]string, n),
		plan:  mustLimit(tb, "operator", 1000, time.Second, 1_000_000_000),
		class: mustLimit(tb, "ai", 1000, time.Second, 1_000_000_000),
	}
	tb.Cleanup(func() { tr.l.Close() })
	now := time.Now()
	for i := range tr.names {
		tr.names[i] = fmt.Sprintf("owner:acct-%07d", i)
	}
	var c caller
	for _, name := range tr.names {
		tr.set(&c, name)
		if err := tr.l.Decide(context.Background(), now, &c.req, &c.dec); err != nil {
			tb.Fatal(err)
		}
		tr.l.Release(&c.req, &c.dec)
	}
	return tr
}

// caller is what one goroutine reuses.
type caller struct {
	req limiter.Request
	dec limiter.Decision
}

func (tr *traffic) set(c *caller, name string) {
	if c.req.Demands == nil {
		c.req.Demands = make([]limiter.Demand, 2)
		c.req.Holds = make([]limiter.Hold, 1)
	}
	c.req.Demands[0] = limiter.Demand{Limit: tr.plan, Subject: name, Cost: 1}
	c.req.Demands[1] = limiter.Demand{Limit: tr.class, Subject: name, Cost: 1}
	c.req.Holds[0] = limiter.Hold{Name: "outcomes", Subject: name, Max: 1_000_000}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range owners {
		tr := newTraffic(b, n)
		ctx, now := context.Background(), time.Now()
		b.Run(fmt.Sprintf("buckets=2/owners=%d", n), func(b *testing.B) {
			var c caller
			tr.set(&c, tr.names[0])
			c.req.Holds = nil
			rnd := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				name := tr.names[rnd.IntN(n)]
				c.req.Demands[0].Subject, c.req.Demands[1].Subject = name, name
				_ = tr.l.Decide(ctx, now, &c.req, &c.dec) // never fails in memory
			}
		})
		b.Run(fmt.Sprintf("buckets=2+slot/owners=%d", n), func(b *testing.B) {
			var c caller
			rnd := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				tr.set(&c, tr.names[rnd.IntN(n)])
				_ = tr.l.Decide(ctx, now, &c.req, &c.dec) // never fails in memory
				tr.l.Release(&c.req, &c.dec)
			}
		})
		b.Run(fmt.Sprintf("parallel/owners=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var seed atomic.Uint64
			b.RunParallel(func(pb *testing.PB) {
				var c caller
				rnd := rand.New(rand.NewPCG(seed.Add(1), 2))
				for pb.Next() {
					tr.set(&c, tr.names[rnd.IntN(n)])
					_ = tr.l.Decide(ctx, now, &c.req, &c.dec) // never fails in memory
					tr.l.Release(&c.req, &c.dec)
				}
			})
		})
	}
}

func BenchmarkDecideRefused(b *testing.B) {
	tr := newTraffic(b, 1)
	tr.class = mustLimit(b, "ai", 1, time.Hour, 0)
	ctx, now := context.Background(), time.Now()
	var c caller
	tr.set(&c, tr.names[0])
	b.ReportAllocs()
	for b.Loop() {
		_ = tr.l.Decide(ctx, now, &c.req, &c.dec) // never fails in memory
	}
}

func BenchmarkSweep(b *testing.B) {
	tr := newTraffic(b, 100_000)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		tr.l.Sweep(now.Add(-time.Hour))
	}
}

func mustLimit(tb testing.TB, policy string, n int, per time.Duration, burst int) *limiter.Limit {
	tb.Helper()
	l, err := limiter.NewLimit(policy, n, per, burst)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// BenchmarkRateLimiterAlone is the floor: what two buckets of x/time/rate cost
// that are read and taken from, without finding, locking or telling.
func BenchmarkRateLimiterAlone(b *testing.B) {
	plan, class := rate.NewLimiter(1000, 1_000_000_000), rate.NewLimiter(1000, 1_000_000_000)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		plan.TokensAt(now)
		class.TokensAt(now)
		plan.AllowN(now, 1)
		class.AllowN(now, 1)
	}
}
