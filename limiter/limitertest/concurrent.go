package limitertest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hivegate/hivegate/limiter"
)

// workers is how many goroutines the concurrent tests start.
const workers = 16

// together runs f in all workers and waits for them, at most a minute.
func (h *harness) together(f func(worker int)) {
	h.Helper()
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() { f(i) })
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		h.Fatal("the workers have not ended after a minute: a deadlock")
	}
}

// try is decide without the harness's checks, for goroutines.
func (h *harness) try(req *limiter.Request, dec *limiter.Decision) limiter.Outcome {
	if err := h.l.Decide(h.ctx, h.now, req, dec); err != nil {
		h.Errorf("decide: %v", err)
	}
	return dec.Outcome
}

func concurrentTokens(h *harness) {
	a, b := h.limit("a", 500, time.Minute, 0), h.limit("b", 2, time.Minute, 700)
	var admitted atomic.Int64
	h.together(func(int) {
		req := &limiter.Request{Demands: []limiter.Demand{one(a), one(b)}}
		var dec limiter.Decision
		for range 100 {
			if h.try(req, &dec) == limiter.Allowed {
				admitted.Add(1)
			}
		}
	})
	if got := admitted.Load(); got != 500 {
		h.Fatalf("%d of %d were admitted, want 500", got, workers*100)
	}
	h.wantRemaining(0, one(a))
	h.wantRemaining(200, one(b))
}

func concurrentSlots(h *harness) {
	const most = 5
	var inFlight, worst, admitted atomic.Int64
	hold := []limiter.Hold{{Name: "outcomes", Subject: "ada", Max: most}}
	h.together(func(int) {
		req := &limiter.Request{Holds: hold}
		var dec limiter.Decision
		for range 100 {
			if h.try(req, &dec) != limiter.Allowed {
				continue
			}
			n := inFlight.Add(1)
			for w := worst.Load(); n > w && !worst.CompareAndSwap(w, n); w = worst.Load() {
			}
			admitted.Add(1)
			inFlight.Add(-1)
			h.l.Release(req, &dec)
		}
	})
	if worst.Load() > most || admitted.Load() == 0 {
		h.Fatalf("%d in flight at once of %d slots, %d admitted in all", worst.Load(), most, admitted.Load())
	}
	req := &limiter.Request{Holds: hold}
	for i := range most + 1 {
		dec := h.request(req)
		if (dec.Outcome == limiter.Allowed) != (i < most) {
			h.Fatalf("afterwards slot %d of %d: outcome %d", i+1, most, dec.Outcome)
		}
	}
}

// noHalfDecision: the buckets are always taken from together, so whoever looks
// at both must see the same in both.
func noHalfDecision(h *harness) {
	plan, class := h.limit("plan", 100_000, time.Minute, 0), h.limit("class", 100_000, time.Minute, 0)
	h.together(func(worker int) {
		demands := []limiter.Demand{cost(plan, "ada", 1), cost(class, "198.51.100.7", 1)}
		if worker%2 == 1 {
			demands[0], demands[1] = demands[1], demands[0]
		}
		states := make([]limiter.State, 2)
		var dec limiter.Decision
		for range 100 {
			switch {
			case worker < workers/2:
				h.try(&limiter.Request{Demands: demands}, &dec)
				states = dec.States
			case h.l.Peek(h.ctx, h.now, demands, states) != nil:
				h.Error("peek has failed")
			}
			if a, b := states[0].Remaining, states[1].Remaining; a != b {
				h.Errorf("%d in one bucket and %d in the other", a, b)
				return
			}
		}
	})
}

func noDeadlock(h *harness) {
	limits := []*limiter.Limit{h.perMinute(1000), h.limit("other", 1000, time.Minute, 0)}
	h.together(func(worker int) {
		rnd := rand.New(rand.NewPCG(uint64(worker), 1))
		var dec limiter.Decision
		for range 200 {
			req := &limiter.Request{}
			for range 1 + rnd.IntN(4) {
				req.Demands = append(req.Demands, cost(limits[rnd.IntN(2)], fmt.Sprint(rnd.IntN(5)), 1))
			}
			for range rnd.IntN(3) {
				req.Holds = append(req.Holds, limiter.Hold{Name: "slot", Subject: fmt.Sprint(rnd.IntN(5)), Max: 20})
			}
			if h.try(req, &dec) == limiter.Allowed {
				if len(req.Holds) > 0 {
					h.l.Release(req, &dec)
				}
			} else if err := h.l.Refund(h.ctx, h.now, req.Demands); err != nil {
				h.Errorf("refund: %v", err)
			}
		}
	})
}
