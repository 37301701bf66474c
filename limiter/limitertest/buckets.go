package limitertest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hivegate/hivegate/limiter"
)

func evenRefill(h *harness) {
	l := h.perMinute(60)
	for i := range 60 {
		if got := h.allow(one(l)).States[0].Remaining; got != 59-i {
			h.Fatalf("request %d leaves %d, want %d", i, got, 59-i)
		}
	}
	for range 5 {
		if dec := h.refuse(one(l)); dec.RetryAfter != time.Second {
			h.Fatalf("RetryAfter is %v, want 1s", dec.RetryAfter)
		}
		h.pass(time.Second - time.Microsecond)
		h.refuse(one(l))
		h.pass(time.Microsecond)
		h.allow(one(l))
	}
}

func burstIsCapacity(h *harness) {
	for _, l := range []*limiter.Limit{
		h.limit("small", 300, time.Minute, 50),
		h.limit("large", 2, time.Minute, 50),
	} {
		for range 50 {
			h.allow(one(l))
		}
		want := l.Per / time.Duration(l.N)
		if dec := h.refuse(one(l)); dec.RetryAfter != want {
			h.Fatalf("%s: RetryAfter is %v, want %v", l.Policy, dec.RetryAfter, want)
		}
		h.pass(10 * want)
		for range 10 {
			h.allow(one(l))
		}
		h.refuse(one(l))
		h.pass(3 * l.Window())
		h.wantRemaining(50, one(l))
	}
}

func statesAreTrue(h *harness) {
	l := h.limit("plan", 60, time.Minute, 10)
	if s := h.peek(one(l))[0]; s.Remaining != 10 || s.Full != 0 || s.Wait != 0 {
		h.Fatalf("an untouched bucket shows %+v", s)
	}
	if s := h.allow(one(l)).States[0]; s.Remaining != 9 || s.Full != time.Second || s.Wait != 0 {
		h.Fatalf("after one request: %+v, want 9 remaining, full in 1s", s)
	}
	h.pass(400 * time.Millisecond)
	if s := h.allow(cost(l, "ada", 4)).States[0]; s.Remaining != 5 || s.Full != 4600*time.Millisecond {
		h.Fatalf("after 4 more: %+v, want 5 remaining, full in 4.6s", s)
	}
	if s := h.refuse(cost(l, "ada", 8)).States[0]; s.Remaining != 5 || s.Full != 4600*time.Millisecond || s.Wait != 2600*time.Millisecond {
		h.Fatalf("after a refusal: %+v, want 5 remaining, full in 4.6s, a wait of 2.6s", s)
	}
	h.pass(4600 * time.Millisecond)
	if s := h.peek(one(l))[0]; s.Remaining != 10 || s.Full != 0 {
		h.Fatalf("after Full has passed: %+v", s)
	}
}

// retryAfterIsTrue waits RetryAfter, as it is and in the whole seconds of the
// header, after any history on odd rates: the request must then get through,
// and before that, to the microsecond, it must not.
func retryAfterIsTrue(h *harness) {
	rnd := rand.New(rand.NewPCG(20, 26))
	limits := oddLimits(h)
	for i := range 600 {
		l := limits[i%len(limits)]
		d := cost(l, fmt.Sprintf("subject-%d", i), 1+rnd.IntN(min(l.Burst, 9)))
		for range 40 { // some history, ending in a refusal
			h.pass(time.Duration(rnd.Int64N(int64(l.Per) / int64(4*l.N))))
			if h.decide(cost(l, d.Subject, 1+rnd.IntN(l.Burst))).Outcome != limiter.Allowed && rnd.IntN(4) == 0 {
				break
			}
		}
		dec := h.decide(d)
		for dec.Outcome == limiter.Allowed {
			dec = h.decide(d)
		}
		refusedAt := h.now
		h.now = h.now.Truncate(time.Microsecond)
		if h.pass(dec.RetryAfter - 2*time.Microsecond); dec.RetryAfter > 2*time.Microsecond {
			if early := h.decide(d); early.Outcome == limiter.Allowed {
				h.Fatalf("%d/%v burst %d, cost %d: told to wait %v, but let through before", l.N, l.Per, l.Burst, d.Cost, dec.RetryAfter)
			}
		}
		h.now = refusedAt
		if i%2 == 0 {
			h.pass(dec.RetryAfter)
		} else {
			h.pass((dec.RetryAfter + time.Second - 1).Truncate(time.Second))
		}
		if h.decide(d).Outcome != limiter.Allowed {
			h.Fatalf("%d/%v burst %d, cost %d: waited %v as told, refused", l.N, l.Per, l.Burst, d.Cost, h.now.Sub(refusedAt))
		}
	}
}

// oddLimits are limits whose refill is no round number of microseconds.
func oddLimits(h *harness) []*limiter.Limit {
	h.Helper()
	return []*limiter.Limit{
		h.limit("a", 7, time.Minute, 0),
		h.limit("b", 3, time.Hour, 0),
		h.limit("c", 100, time.Minute, 0),
		h.limit("d", 1, 24*time.Hour, 0),
		h.limit("e", 7, time.Minute, 33),
		h.limit("f", 3, time.Hour, 11),
		h.limit("g", 1, 31*24*time.Hour, 5),
		h.limit("h", 99_991, 24*time.Hour, 13),
		h.limit("i", 13, 17*time.Second, 1),
		h.limit("j", 333, time.Millisecond*1009, 50),
	}
}

func costCounts(h *harness) {
	l := h.perMinute(10)
	if got := h.allow(cost(l, "ada", 7)).States[0].Remaining; got != 3 {
		h.Fatalf("7 of 10 leave %d", got)
	}
	if dec := h.refuse(cost(l, "ada", 5)); dec.RetryAfter != 12*time.Second || dec.States[0].Remaining != 3 {
		h.Fatalf("5 of 3: %+v, want 3 remaining and a wait of 12s", dec)
	}
	h.allow(cost(l, "ada", 3))
	h.refuse(one(l))
}

func costAboveCapacity(h *harness) {
	l := h.limit("plan", 60, time.Minute, 5)
	for range 3 {
		if dec := h.refuse(cost(l, "ada", 6)); dec.RetryAfter != 24*time.Hour || dec.States[0].Wait != 24*time.Hour || dec.States[0].Remaining != 5 {
			h.Fatalf("6 of a capacity of 5: %+v", dec)
		}
		h.pass(time.Hour)
	}
	h.allow(cost(l, "ada", 5))
	if dec := h.refuse(cost(l, "ada", 6)); dec.RetryAfter != 24*time.Hour {
		h.Fatalf("6 of a capacity of 5, used up: %+v", dec)
	}
}

func costBelowOne(h *harness) {
	l := h.perMinute(10)
	for _, c := range []int{0, -1, -1000} {
		h.allow(cost(l, "ada", c))
	}
	h.wantRemaining(7, one(l))
}

func zeroRefusesAll(h *harness) {
	zero, l := h.limit("zero", 0, time.Minute, 0), h.perMinute(10)
	for range 3 {
		dec := h.refuse(one(zero), one(l))
		if s := dec.States[0]; dec.RetryAfter != 24*time.Hour || s.Remaining != 0 || s.Wait != 24*time.Hour {
			h.Fatalf("0/m: %+v", dec)
		}
		h.pass(24 * time.Hour)
	}
	if s := h.peek(one(zero))[0]; s.Remaining != 0 || s.Wait != 24*time.Hour {
		h.Fatalf("0/m, peeked at: %+v", s)
	}
	h.refund(one(zero))
	h.refuse(one(zero))
	h.wantRemaining(10, one(l))
}

func sameBucketTwice(h *harness) {
	l, other := h.perMinute(5), h.limit("other", 5, time.Minute, 0)
	dec := h.allow(one(l), one(other), cost(l, "ada", 2))
	if a, b := dec.States[0].Remaining, dec.States[2].Remaining; a != 2 || b != 2 {
		h.Fatalf("1 and 2 of 5 leave %d and %d, want 2 and 2", a, b)
	}
	dec = h.refuse(cost(l, "ada", 2), one(other), one(l))
	if dec.RetryAfter != 12*time.Second {
		h.Fatalf("2 and 1 of 2 tokens: a wait of %v, want 12s", dec.RetryAfter)
	}
	h.wantRemaining(2, one(l))
	h.wantRemaining(4, one(other))
	h.refund(one(l), cost(l, "ada", 2))
	h.wantRemaining(5, one(l))
}

func independent(h *harness) {
	a, b := h.limit("a", 3, time.Minute, 0), h.limit("b", 3, time.Minute, 0)
	h.exhaust(a, "ada")
	h.refuse(cost(a, "ada", 1))
	h.wantRemaining(3, cost(b, "ada", 1))
	h.wantRemaining(3, cost(a, "bob", 1))
	// No two pairs may be confused by the way they are joined.
	l := h.limit("x:y", 3, time.Minute, 0)
	h.exhaust(l, "z")
	h.wantRemaining(3, cost(h.limit("x", 3, time.Minute, 0), "y:z", 1))
	h.wantRemaining(3, cost(l, "", 1))
}

func timeRunsBack(h *harness) {
	l := h.perMinute(60)
	h.exhaust(l, "ada")
	for range 100 {
		h.pass(-10 * time.Second)
		h.refuse(one(l))
		h.pass(10 * time.Second)
		h.refuse(one(l))
	}
	h.pass(time.Second)
	h.allow(one(l))
	// A request that comes late is told a wait that counts from its own time.
	h.pass(-10 * time.Second)
	dec := h.refuse(one(l))
	if dec.RetryAfter != 11*time.Second {
		h.Fatalf("10 s behind: RetryAfter is %v, want 11s", dec.RetryAfter)
	}
	h.pass(dec.RetryAfter)
	h.allow(one(l))
}

func idleIsFull(h *harness) {
	l := h.limit("plan", 7, time.Minute, 20)
	h.exhaust(l, "ada")
	h.pass(365 * 24 * time.Hour)
	if s := h.peek(one(l))[0]; s.Remaining != 20 || s.Full != 0 {
		h.Fatalf("after a year: %+v", s)
	}
	for range 20 {
		h.allow(one(l))
	}
	h.refuse(one(l))
}
