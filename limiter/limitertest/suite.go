// Package limitertest holds what every implementation of [limiter.Limiter] must
// do: [Run] checks one against the rules, [Differential] drives two with the
// same calls and compares every answer.
//
// Time is always an argument. The clock of these tests starts in the year 2100,
// so that keys which a store lets expire at an absolute time outlive the test.
package limitertest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hivegate/hivegate/limiter"
)

// Epoch is the time at which the suite's clock starts.
var Epoch = time.Date(2100, time.January, 1, 0, 0, 0, 0, time.UTC)

// Run checks that what open returns is a Limiter. open is called once for each
// subtest, must return a limiter without any state, and closes it with t.Cleanup
// where that is needed.
func Run(t *testing.T, open func(t *testing.T) limiter.Limiter) {
	RunBut(t, open)
}

// RunBut is Run for a limiter that does not give some of the guarantees, and says so.
func RunBut(t *testing.T, open func(t *testing.T) limiter.Limiter, without ...string) {
	for _, c := range []struct {
		guarantee string
		check     func(h *harness)
	}{
		{"AFullBucketLetsItsCapacityThroughThenOneEachInterval", evenRefill},
		{"BurstIsTheCapacityAndTheRateRefillsIt", burstIsCapacity},
		{"RemainingCountsThisRequestAndFullSaysWhenAllIsBack", statesAreTrue},
		{"RetryAfterIsTrue", retryAfterIsTrue},
		{"ARefusedRequestTakesFromNoBucketAndNoSlot", allOrNothing},
		{"ARefusalNamesTheLongestWait", longestWait},
		{"CostTakesThatManyTokens", costCounts},
		{"ACostAboveTheCapacityNeverPasses", costAboveCapacity},
		{"ACostBelowOneIsOne", costBelowOne},
		{"ARateOfZeroRefusesAll", zeroRefusesAll},
		{"OneBucketDemandedTwiceAddsUp", sameBucketTwice},
		{"SubjectsAndPoliciesHaveBucketsOfTheirOwn", independent},
		{"SlotsBoundWhatIsInFlight", slotsBound},
		{"ASlotHeldTwiceCountsTwice", slotTwice},
		{"ReleaseGivesBackWhateverTheMaximumHasBecome", releaseAfterChange},
		{"AnAllowedDecisionWithoutDemandsHasNoStates", noDemands},
		{"ADecisionIsOverwritten", overwritten},
		{"ALimitMadeSmallerKeepsTokensUpToItsCapacity", limitLowered},
		{"ALimitMadeLargerKeepsTokensAndRefillsAtTheNewRate", limitRaised},
		{"ABucketUsedUpUnderTwoLimitsIsNotForgotten", twoLimitsInTurn},
		{"ARefusedCallerIsRefilledAtTheNewRate", refusedUnderNewRate},
		{"PeekTakesNothing", peekTakesNothing},
		{"RefundGivesBackAndNeverMoreThanTheCapacity", refund},
		{"TimeThatRunsBackRefillsNothing", timeRunsBack},
		{"AnIdleBucketIsFull", idleIsFull},
		{"ConcurrentRequestsAreAdmittedExactlyUpToTheCapacity", concurrentTokens},
		{"ConcurrentRequestsNeverHoldMoreThanTheSlots", concurrentSlots},
		{"NobodySeesHalfADecision", noHalfDecision},
		{"DecisionsOnTheSameBucketsInAnyOrderDoNotBlockEachOther", noDeadlock},
		{"PingAnswers", ping},
	} {
		if slices.Contains(without, c.guarantee) {
			continue
		}
		t.Run(c.guarantee, func(t *testing.T) {
			c.check(&harness{TB: t, l: open(t), now: Epoch, ctx: context.Background()})
		})
	}
}

// harness is one limiter, its clock, and short words for what tests do.
type harness struct {
	testing.TB
	l   limiter.Limiter
	now time.Time
	ctx context.Context
}

// pass moves the clock.
func (h *harness) pass(d time.Duration) { h.now = h.now.Add(d) }

func (h *harness) limit(policy string, n int, per time.Duration, burst int) *limiter.Limit {
	h.Helper()
	l, err := limiter.NewLimit(policy, n, per, burst)
	if err != nil {
		h.Fatal(err)
	}
	return l
}

// perMinute is a limit named "plan", n a minute.
func (h *harness) perMinute(n int) *limiter.Limit {
	h.Helper()
	return h.limit("plan", n, time.Minute, 0)
}

// decide asks for one token of each limit for the subject "ada", unless a
// demand says otherwise.
func (h *harness) decide(demands ...limiter.Demand) limiter.Decision {
	h.Helper()
	return h.request(&limiter.Request{Demands: demands})
}

func (h *harness) request(req *limiter.Request) limiter.Decision {
	h.Helper()
	var dec limiter.Decision
	if err := h.l.Decide(h.ctx, h.now, req, &dec); err != nil {
		h.Fatalf("decide: %v", err)
	}
	if len(dec.States) != len(req.Demands) {
		h.Fatalf("%d demands, but %d states", len(req.Demands), len(dec.States))
	}
	for i := range dec.States {
		if dec.States[i].Limit != req.Demands[i].Limit {
			h.Fatalf("state %d is not that of demand %d", i, i)
		}
	}
	if (dec.Outcome == limiter.Allowed) != (dec.RetryAfter == 0) {
		h.Fatalf("outcome %d with a RetryAfter of %v", dec.Outcome, dec.RetryAfter)
	}
	return dec
}

func (h *harness) peek(demands ...limiter.Demand) []limiter.State {
	h.Helper()
	states := make([]limiter.State, len(demands))
	if err := h.l.Peek(h.ctx, h.now, demands, states); err != nil {
		h.Fatalf("peek: %v", err)
	}
	return states
}

func (h *harness) refund(demands ...limiter.Demand) {
	h.Helper()
	if err := h.l.Refund(h.ctx, h.now, demands); err != nil {
		h.Fatalf("refund: %v", err)
	}
}

// allow and refuse decide on one demand and insist on the outcome.
func (h *harness) allow(demands ...limiter.Demand) limiter.Decision {
	h.Helper()
	dec := h.decide(demands...)
	if dec.Outcome != limiter.Allowed {
		h.Fatalf("refused (outcome %d, %+v), want allowed", dec.Outcome, dec.States)
	}
	return dec
}

func (h *harness) refuse(demands ...limiter.Demand) limiter.Decision {
	h.Helper()
	dec := h.decide(demands...)
	if dec.Outcome != limiter.RateLimited {
		h.Fatalf("outcome %d (%+v), want rate limited", dec.Outcome, dec.States)
	}
	return dec
}

// exhaust takes all the tokens there are.
func (h *harness) exhaust(l *limiter.Limit, subject string) {
	h.Helper()
	if n := h.peek(cost(l, subject, 1))[0].Remaining; n > 0 {
		h.allow(cost(l, subject, n))
	}
	h.wantRemaining(0, cost(l, subject, 1))
}

func (h *harness) wantRemaining(want int, d limiter.Demand) {
	h.Helper()
	if got := h.peek(d)[0].Remaining; got != want {
		h.Fatalf("%s of %s has %d tokens, want %d", d.Limit.Policy, d.Subject, got, want)
	}
}

// one is a demand of one token for "ada".
func one(l *limiter.Limit) limiter.Demand { return cost(l, "ada", 1) }

func cost(l *limiter.Limit, subject string, n int) limiter.Demand {
	return limiter.Demand{Limit: l, Subject: subject, Cost: n}
}
