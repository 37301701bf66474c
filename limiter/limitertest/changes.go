package limitertest

import (
	"time"

	"github.com/hivegate/hivegate/limiter"
)

func limitLowered(h *harness) {
	wide, narrow := h.perMinute(60), h.perMinute(10)
	h.allow(cost(wide, "ada", 20)) // 40 left: more than the new capacity
	h.wantRemaining(10, one(narrow))
	h.allow(cost(narrow, "ada", 4))
	// The way back does not bring the cut tokens back.
	h.wantRemaining(6, one(wide))
	h.allow(cost(wide, "bob", 57)) // 3 left: less than the new capacity
	h.wantRemaining(3, cost(narrow, "bob", 1))
	h.allow(cost(narrow, "bob", 3))
	if dec := h.refuse(cost(narrow, "bob", 1)); dec.RetryAfter != 6*time.Second {
		h.Fatalf("RetryAfter is %v, want the new rate's 6s", dec.RetryAfter)
	}
}

func limitRaised(h *harness) {
	narrow, wide := h.perMinute(6), h.perMinute(60)
	h.exhaust(narrow, "ada")
	h.pass(20 * time.Second) // 2 tokens, at the rate that held then
	if s := h.peek(one(wide))[0]; s.Remaining != 2 || s.Full != 58*time.Second {
		h.Fatalf("%+v, want 2 remaining, full in 58s", s)
	}
	h.allow(cost(wide, "ada", 2))
	h.refuse(one(wide))
	h.pass(5 * time.Second)
	h.allow(cost(wide, "ada", 5))
	h.refuse(one(wide))
	// A limit with the same figures is the same limit.
	again := h.perMinute(60)
	h.refuse(one(again))
	h.pass(time.Second)
	h.allow(one(again))
}

// refusedUnderNewRate: a caller who was at 0 under 1/d and is asked for under
// 60/m must not wait for a day, though each of its requests is refused.
func refusedUnderNewRate(h *harness) {
	slow, fast := h.limit("plan", 1, 24*time.Hour, 0), h.perMinute(60)
	h.exhaust(slow, "ada")
	h.refuse(one(fast))
	h.pass(600 * time.Millisecond)
	h.refuse(one(fast))
	h.pass(400 * time.Millisecond)
	h.allow(one(fast))
}

// twoLimitsInTurn: keys on two plans may share a class's bucket. Being full
// under the smaller limit must not give back what the larger has lost.
func twoLimitsInTurn(h *harness) {
	hourly, small := h.limit("ai", 60, time.Hour, 0), h.limit("ai", 1, time.Second, 0)
	h.exhaust(hourly, "ada")
	admitted := 0
	for range 100 {
		h.decide(one(small)) // the bucket is now small's
		h.pass(30 * time.Second)
		// It is full again, with one token, under small; not under hourly.
		if h.decide(cost(hourly, "ada", 2)).Outcome == limiter.Allowed {
			admitted++
		}
	}
	if admitted > 0 {
		h.Fatalf("%d times a full small bucket made a full large one", admitted)
	}
}

func peekTakesNothing(h *harness) {
	l, zero := h.perMinute(3), h.limit("zero", 0, time.Minute, 0)
	for range 10 {
		if s := h.peek(one(l), one(zero), cost(l, "bob", 2)); s[0].Remaining != 3 || s[0].Limit != l || s[1].Limit != zero || s[2].Remaining != 3 || s[2].Full != 0 {
			h.Fatalf("%+v, want two full buckets", s)
		}
	}
	h.allow(cost(l, "ada", 2))
	for range 10 {
		if s := h.peek(cost(l, "ada", 3))[0]; s.Remaining != 1 || s.Wait != 40*time.Second || s.Full != 40*time.Second {
			h.Fatalf("%+v, want 1 remaining and a wait of 40s", s)
		}
	}
	if err := h.l.Peek(h.ctx, h.now, []limiter.Demand{one(l)}, nil); err == nil {
		h.Fatal("peek with no room for the states gives no error")
	}
}

func refund(h *harness) {
	l := h.perMinute(10)
	h.allow(cost(l, "ada", 7))
	h.refund(cost(l, "ada", 2))
	h.wantRemaining(5, one(l))
	for range 5 {
		h.refund(cost(l, "ada", 9))
	}
	if s := h.peek(one(l))[0]; s.Remaining != 10 || s.Full != 0 {
		h.Fatalf("%+v after refunds of more than was taken, want a full bucket", s)
	}
	h.refund(cost(l, "new", 5))
	h.wantRemaining(10, cost(l, "new", 1))
	for range 10 {
		h.allow(one(l))
	}
	h.refuse(one(l))
	// A capacity that grows afterwards does not bring the excess back.
	h.refund(cost(l, "ada", 1000))
	h.wantRemaining(10, one(h.perMinute(500)))
	h.refund(cost(l, "ada", -5), cost(l, "ada", 0))
	h.wantRemaining(10, one(l))
}
