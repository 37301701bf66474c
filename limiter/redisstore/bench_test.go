//go:build unix

package redisstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hivegate/hivegate/limiter"
	"github.com/hivegate/hivegate/limiter/redisstore"
)

// BenchmarkDecide asks a real redis-server on this machine, beside which the
// benchmark runs: two buckets of one owner, from one goroutine and from 64.
func BenchmarkDecide(b *testing.B) {
	for _, mode := range []string{"strict", "lease"} {
		for _, owners := range []int{1, 1000} {
			names := make([]string, owners)
			for i := range names {
				names[i] = fmt.Sprintf("owner:acct-%07d", i)
			}
			b.Run(fmt.Sprintf("%s/owners=%d", mode, owners), func(b *testing.B) {
				s := benchStore(b, mode == "lease")
				b.ReportAllocs()
				ask := asker(b, s, mode, names)
				for b.Loop() {
					ask()
				}
			})
			b.Run(fmt.Sprintf("%s/parallel/owners=%d", mode, owners), func(b *testing.B) {
				s := benchStore(b, mode == "lease")
				b.ReportAllocs()
				b.SetParallelism(32)
				b.RunParallel(func(pb *testing.PB) {
					ask := asker(b, s, mode, names)
					for pb.Next() {
						ask()
					}
				})
			})
		}
	}
}

func benchStore(b *testing.B, lease bool) *redisstore.Store {
	b.Helper()
	addr, err := redisstore.ParseURL(server.URL())
	if err != nil {
		b.Fatal(err)
	}
	s := redisstore.New(redisstore.Options{Address: addr, Lease: lease})
	b.Cleanup(func() { _ = s.Close() })
	s.Start()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !s.Up(); <-tick.C {
		if time.Now().After(end) {
			b.Fatal("Redis is not reached")
		}
	}
	return s
}

var askers atomic.Int64

// asker returns what makes one decision, for one goroutine.
func asker(b *testing.B, s *redisstore.Store, mode string, names []string) func() {
	b.Helper()
	var limits [2]*limiter.Limit
	for i, policy := range []string{"operator-" + mode, "ai-" + mode} {
		var err error
		if limits[i], err = limiter.NewLimit(policy, 1_000_000, time.Second, 1_000_000_000); err != nil {
			b.Fatal(err)
		}
	}
	var (
		req limiter.Request
		dec limiter.Decision
	)
	i := int(askers.Add(1)) * 7919
	return func() {
		i++
		name := names[i%len(names)]
		req.Demands = append(req.Demands[:0], limiter.Demand{Limit: limits[0], Subject: name, Cost: 1}, limiter.Demand{Limit: limits[1], Subject: name, Cost: 1})
		if err := s.Decide(context.Background(), time.Now(), &req, &dec); err != nil {
			b.Error(err)
		}
		s.Release(&req, &dec)
	}
}
