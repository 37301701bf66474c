package limitertest

import (
	"time"

	"github.com/hivegate/hivegate/limiter"
)

func allOrNothing(h *harness) {
	a, b := h.limit("a", 10, time.Minute, 0), h.limit("b", 2, time.Minute, 0)
	slot := limiter.Hold{Name: "outcomes", Subject: "ada", Max: 1}
	h.exhaust(b, "ada")
	for range 20 {
		for _, demands := range [][]limiter.Demand{{one(a), one(b)}, {one(b), one(a)}} {
			dec := h.request(&limiter.Request{Demands: demands, Holds: []limiter.Hold{slot}})
			if dec.Outcome != limiter.RateLimited {
				h.Fatalf("outcome %d, want rate limited", dec.Outcome)
			}
		}
	}
	h.wantRemaining(10, one(a))

	req := &limiter.Request{Demands: []limiter.Demand{one(a)}, Holds: []limiter.Hold{slot}}
	held := h.request(req)
	if held.Outcome != limiter.Allowed {
		h.Fatal("a refused request has kept a slot")
	}
	for range 20 {
		dec := h.request(req)
		if dec.Outcome != limiter.ConcurrencyLimited || dec.RetryAfter != time.Second {
			h.Fatalf("no slot free: %+v", dec)
		}
		if s := dec.States[0]; s.Remaining != 9 || s.Wait != 0 {
			h.Fatalf("no slot free: state %+v, want what a peek shows", s)
		}
	}
	h.wantRemaining(9, one(a))
	h.l.Release(req, &held)
}

func longestWait(h *harness) {
	a, b := h.limit("a", 60, time.Minute, 0), h.limit("b", 2, time.Minute, 0)
	h.exhaust(a, "ada")
	h.exhaust(b, "ada")
	dec := h.refuse(one(a), one(b))
	if dec.RetryAfter != 30*time.Second || dec.States[0].Wait != time.Second || dec.States[1].Wait != 30*time.Second {
		h.Fatalf("%+v, want waits of 1s and 30s and the longer as RetryAfter", dec)
	}
	// Tokens and slots lacking: it is the tokens' refusal, and never sooner
	// than the slots'.
	fast := h.limit("fast", 100, time.Second, 1)
	hold := []limiter.Hold{{Name: "outcomes", Subject: "ada", Max: 1}}
	first := &limiter.Request{Demands: []limiter.Demand{one(fast)}, Holds: hold}
	held := h.request(first)
	for _, c := range []struct {
		l    *limiter.Limit
		want time.Duration
	}{{fast, time.Second}, {b, 30 * time.Second}} {
		dec := h.request(&limiter.Request{Demands: []limiter.Demand{one(c.l)}, Holds: hold})
		if dec.Outcome != limiter.RateLimited || dec.RetryAfter != c.want {
			h.Fatalf("tokens and slots lacking: %+v, want rate limited for %v", dec, c.want)
		}
	}
	h.l.Release(first, &held)
}

func slotsBound(h *harness) {
	req := &limiter.Request{Holds: []limiter.Hold{
		{Name: "outcomes", Subject: "ada", Max: 2},
		{Name: "operator", Subject: "ada", Max: 3},
	}}
	var held []limiter.Decision
	for range 2 {
		dec := h.request(req)
		if dec.Outcome != limiter.Allowed {
			h.Fatalf("a free slot was refused: %+v", dec)
		}
		held = append(held, dec)
	}
	for range 10 { // were the other hold's slot kept, it would run out here
		if dec := h.request(req); dec.Outcome != limiter.ConcurrencyLimited {
			h.Fatalf("a third of two slots: %+v", dec)
		}
	}
	all := &limiter.Request{Holds: req.Holds[1:]}
	third := h.request(all)
	if third.Outcome != limiter.Allowed {
		h.Fatal("a refused request has kept a slot of its other hold")
	}
	bob := &limiter.Request{Holds: []limiter.Hold{{Name: "outcomes", Subject: "bob", Max: 2}}}
	if dec := h.request(bob); dec.Outcome != limiter.Allowed {
		h.Fatal("another subject's slot was refused")
	}
	h.l.Release(all, &third)
	h.l.Release(req, &held[0])
	if dec := h.request(req); dec.Outcome != limiter.Allowed {
		h.Fatal("a slot given back was refused")
	}
	if dec := h.request(req); dec.Outcome != limiter.ConcurrencyLimited {
		h.Fatal("one slot given back let two through")
	}
	none := &limiter.Request{Holds: []limiter.Hold{{Name: "none", Subject: "ada", Max: 0}}}
	if dec := h.request(none); dec.Outcome != limiter.ConcurrencyLimited {
		h.Fatal("a maximum of 0 let one through")
	}
}

func slotTwice(h *harness) {
	hold := limiter.Hold{Name: "outcomes", Subject: "ada", Max: 3}
	req := &limiter.Request{Holds: []limiter.Hold{hold, hold}}
	held := h.request(req)
	if held.Outcome != limiter.Allowed {
		h.Fatal("two of three slots were refused")
	}
	if dec := h.request(req); dec.Outcome != limiter.ConcurrencyLimited {
		h.Fatal("four of three slots were given")
	}
	h.l.Release(req, &held)
	if dec := h.request(req); dec.Outcome != limiter.Allowed {
		h.Fatal("two slots given back were refused")
	}
}

func releaseAfterChange(h *harness) {
	with := func(n int) *limiter.Request {
		return &limiter.Request{Holds: []limiter.Hold{{Name: "outcomes", Subject: "ada", Max: n}}}
	}
	wide := with(5)
	var held []limiter.Decision
	for range 5 {
		held = append(held, h.request(wide))
	}
	for i := range held {
		if dec := h.request(with(1)); dec.Outcome != limiter.ConcurrencyLimited {
			h.Fatalf("a maximum of 1 let one through beside %d", 5-i)
		}
		h.l.Release(with(1), &held[i])
	}
	last := h.request(with(1))
	if last.Outcome != limiter.Allowed {
		h.Fatal("a slot has leaked")
	}
	h.l.Release(with(1), &last)
	// The refused hold nothing: to release them by mistake frees nobody's slot.
	one := with(1)
	held[0] = h.request(one)
	refused := h.request(one)
	h.l.Release(one, &refused)
	if dec := h.request(one); dec.Outcome != limiter.ConcurrencyLimited {
		h.Fatal("releasing a refusal has freed another's slot")
	}
}

func noDemands(h *harness) {
	if dec := h.request(&limiter.Request{}); dec.Outcome != limiter.Allowed {
		h.Fatalf("a request for nothing: %+v", dec)
	}
}

func overwritten(h *harness) {
	l := h.perMinute(1)
	dec := limiter.Decision{
		Outcome: limiter.ConcurrencyLimited, RetryAfter: time.Hour, Lease: "stale", Degraded: true,
		States: []limiter.State{{Remaining: 77, Full: 77, Wait: 77}, {Remaining: 77}, {Remaining: 77}},
	}
	array := &dec.States[0]
	if err := h.l.Decide(h.ctx, h.now, &limiter.Request{Demands: []limiter.Demand{one(l)}}, &dec); err != nil {
		h.Fatal(err)
	}
	if dec.Outcome != limiter.Allowed || dec.RetryAfter != 0 || dec.Lease == "stale" || dec.Degraded || len(dec.States) != 1 {
		h.Fatalf("something of the last decision is left: %+v", dec)
	}
	if &dec.States[0] != array {
		h.Fatal("the states' array was not kept")
	}
	if want := (limiter.State{Limit: l, Full: time.Minute}); dec.States[0] != want {
		h.Fatalf("state %+v, want %+v", dec.States[0], want)
	}
}

func ping(h *harness) {
	if err := h.l.Ping(h.ctx); err != nil {
		h.Fatal(err)
	}
}
