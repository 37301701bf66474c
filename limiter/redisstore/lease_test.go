package redisstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hivegate/hivegate/limiter"
	"github.com/hivegate/hivegate/limiter/limitertest"
	"github.com/hivegate/hivegate/limiter/redisstore"
)

func leased(o *redisstore.Options) { o.HandClock, o.Lease = true, true }

func mustLimit(t testing.TB, policy string, n int, per time.Duration, burst int) *limiter.Limit {
	t.Helper()
	l, err := limiter.NewLimit(policy, n, per, burst)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fleet is some nodes on one server and one clock.
type fleet struct {
	t     *testing.T
	now   time.Time
	nodes []*redisstore.Store
	dec   limiter.Decision
}

func newFleet(t *testing.T, n int, change func(*redisstore.Options)) *fleet {
	t.Helper()
	flush(t)
	f := &fleet{t: t, now: limitertest.Epoch}
	for range n {
		f.nodes = append(f.nodes, open(t, slow(server), change))
	}
	return f
}

func (f *fleet) ask(node int, demands ...limiter.Demand) limiter.Outcome {
	f.t.Helper()
	if err := f.nodes[node].Decide(context.Background(), f.now, &limiter.Request{Demands: demands}, &f.dec); err != nil {
		f.t.Fatal(err)
	}
	if f.dec.Degraded {
		f.t.Fatal("the server was taken for away")
	}
	return f.dec.Outcome
}

// TestNodesTogetherNeverLetThroughWhatOneBucketWouldNot drives a fleet in both
// modes at random, with bursts, pauses, changing figures and refunds, and lets one
// limiter in memory judge each request that was let through.
func TestNodesTogetherNeverLetThroughWhatOneBucketWouldNot(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 66))
			lease := func(o *redisstore.Options) {
				o.HandClock = true
				o.Lease = seed%3 != 2 || rnd.IntN(2) == 0 // on some fleets both modes
			}
			f, one := newFleet(t, 3, lease), newMemory(t)
			limits := func() []*limiter.Limit {
				return []*limiter.Limit{
					mustLimit(t, "plan", 60*(1+rnd.IntN(20)), time.Minute, 100*rnd.IntN(9)),
					mustLimit(t, "ai", 120, time.Minute, 0),
					mustLimit(t, "fast", 1000, time.Second, 5000),
				}
			}
			ls := limits()
			var local, through, refused int
			ctx := context.Background()
			for i := range 8000 {
				switch n := rnd.IntN(1000); {
				case n < 700:
					f.now = f.now.Add(time.Duration(rnd.IntN(3000)) * time.Microsecond)
				case n < 990:
				case n < 998:
					f.now = f.now.Add(time.Duration(rnd.IntN(900)) * time.Millisecond)
				case n < 999:
					f.now = f.now.Add(time.Duration(rnd.IntN(20)) * time.Second)
				default:
					ls = limits()
				}
				subject := fmt.Sprintf("owner:%d", rnd.IntN(3))
				demands := []limiter.Demand{{Limit: ls[rnd.IntN(3)], Subject: subject, Cost: 1}}
				if rnd.IntN(4) == 0 && demands[0].Limit != ls[1] {
					demands = append(demands, limiter.Demand{Limit: ls[1], Subject: subject, Cost: 1 + rnd.IntN(3)})
				}
				if f.ask(rnd.IntN(3), demands...) != limiter.Allowed {
					refused++
					// What nobody got, changes of figures included, both have seen.
					if err := one.Peek(ctx, f.now, demands, make([]limiter.State, len(demands))); err != nil {
						t.Fatal(err)
					}
					continue
				}
				through++
				var dec limiter.Decision
				if err := one.Decide(ctx, f.now, &limiter.Request{Demands: demands}, &dec); err != nil {
					t.Fatal(err)
				}
				if dec.Outcome != limiter.Allowed {
					t.Fatalf("step %d: the fleet let %v through, one bucket does not: %+v", i, demands, dec.States)
				}
			}
			for _, n := range f.nodes {
				local += n.Local()
			}
			t.Logf("%d let through, %d refused, %d decided on leased tokens", through, refused, local)
			if through == 0 || refused == 0 || local == 0 {
				t.Error("this shows too little")
			}
		})
	}
}

// TestALeasingFleetLetsAlmostEverythingThroughThatOneBucketWould: skewed load at
// three times the limit.
func TestALeasingFleetLetsAlmostEverythingThroughThatOneBucketWould(t *testing.T) {
	for _, c := range []struct {
		mode   string
		change func(*redisstore.Options)
		loss   float64
	}{{"strict", handClock, 0}, {"lease", leased, 0.05}} {
		t.Run(c.mode, func(t *testing.T) {
			f, one := newFleet(t, 3, c.change), newMemory(t)
			l := mustLimit(t, "plan", 600, time.Minute, 0)
			rnd := rand.New(rand.NewPCG(1, 2))
			got, want := 0, 0
			for range 30 * 60 {
				f.now = f.now.Add(time.Second / 30)
				node := min(rnd.IntN(6), 2) // two thirds on the last
				d := limiter.Demand{Limit: l, Subject: "owner:a", Cost: 1}
				if f.ask(node, d) == limiter.Allowed {
					got++
				}
				var dec limiter.Decision
				if err := one.Decide(context.Background(), f.now, &limiter.Request{Demands: []limiter.Demand{d}}, &dec); err != nil {
					t.Fatal(err)
				}
				if dec.Outcome == limiter.Allowed {
					want++
				}
			}
			t.Logf("%d let through, one bucket %d", got, want)
			if got > want || float64(got) < float64(want)*(1-c.loss) {
				t.Fatalf("%d let through, one bucket %d", got, want)
			}
		})
	}
}

func TestWhatANodeShowsNeverRisesButByRefill(t *testing.T) {
	f := newFleet(t, 3, leased)
	l := mustLimit(t, "plan", 6000, time.Minute, 0)
	rnd := rand.New(rand.NewPCG(3, 4))
	shown := [3]float64{6000, 6000, 6000}
	last := [3]time.Time{f.now, f.now, f.now}
	for i := range 5000 {
		f.now = f.now.Add(2 * time.Millisecond)
		n := rnd.IntN(3)
		if i/500%2 == 1 {
			n = 0 // the others bring back what they hold
		}
		f.ask(n, limiter.Demand{Limit: l, Subject: "owner:a", Cost: 1})
		if i%100 == 0 {
			for _, node := range f.nodes {
				node.Tidy(f.now)
			}
		}
		got := float64(f.dec.States[0].Remaining)
		if most := shown[n] + 100*f.now.Sub(last[n]).Seconds() + 1; got > most {
			t.Fatalf("step %d: node %d showed %.0f, then %.0f", i, n, shown[n], got)
		}
		shown[n], last[n] = got, f.now
	}
}

func TestTokensThatNobodySpendsComeBack(t *testing.T) {
	f := newFleet(t, 2, leased)
	l := mustLimit(t, "plan", 1000, time.Hour, 0)
	d := limiter.Demand{Limit: l, Subject: "owner:a", Cost: 1}
	for range 200 {
		f.now = f.now.Add(5 * time.Millisecond)
		f.ask(0, d)
	}
	left := func() int {
		var st [1]limiter.State
		if err := f.nodes[1].Peek(context.Background(), f.now, []limiter.Demand{d}, st[:]); err != nil {
			t.Fatal(err)
		}
		return st[0].Remaining
	}
	if n := left(); n >= 800 {
		t.Fatalf("%d left of 800: nothing was lent", n)
	}
	f.now = f.now.Add(600 * time.Millisecond)
	f.nodes[0].Tidy(f.now)
	if n := left(); n != 800 {
		t.Fatalf("%d left after the node has brought back what it held, want 800", n)
	}
}

// TestALeasingNodeAloneConforms: one node in lease mode keeps the rules of every
// limiter but one: what it shows of two buckets is not read at one moment. What it
// decides is.
func TestALeasingNodeAloneConforms(t *testing.T) {
	limitertest.RunBut(t, func(t *testing.T) limiter.Limiter {
		flush(t)
		return open(t, slow(server), leased)
	}, "NobodySeesHalfADecision")
}
