package limiter_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/hivegate/hivegate/limiter"
)

func TestASetBucketHoldsWhatItWasToldAndIsRefilledFromThere(t *testing.T) {
	m := newMemory(t)
	l := mustLimit(t, "plan", 60, time.Minute, 0)
	for _, tokens := range []float64{0, 0.25, 1, 17.75, 59.999, -2.5, 12} { // debts and what is more than before too
		m.Set(epoch, l, "ada", tokens)
		got := math.NaN()
		m.Each(epoch, func(of *limiter.Limit, subject string, have float64) {
			if of != l || subject != "ada" {
				t.Errorf("%s of %s", of.Policy, subject)
			}
			got = have
		})
		if math.Abs(got-tokens) > 1e-5 {
			t.Fatalf("set to %v, holds %v", tokens, got)
		}
	}
	if got := remaining(t, m, epoch.Add(3*time.Second), one(l, "ada")); got != 15 {
		t.Fatalf("3 s after 12: %d", got)
	}
	m.Set(epoch.Add(time.Hour), l, "bob", 60)
	if n := m.Len(); n != 1 {
		t.Fatalf("%d buckets: a full one was made", n)
	}
	m.Set(epoch, l, "ada", 3)
	other := mustLimit(t, "plan", 6, time.Minute, 4)
	m.Set(epoch, other, "ada", 100)
	if got := remaining(t, m, epoch, one(other, "ada")); got != 4 {
		t.Fatalf("more than the capacity: %d", got)
	}
	m.Set(epoch, mustLimit(t, "plan", 0, time.Minute, 0), "ada", 3)
}

// TestASnapshotTellsWhatTheBucketTells compares both on the same history.
func TestASnapshotTellsWhatTheBucketTells(t *testing.T) {
	m := newMemory(t)
	for _, l := range []*limiter.Limit{
		mustLimit(t, "a", 7, time.Minute, 0), mustLimit(t, "b", 3, time.Hour, 11), mustLimit(t, "c", 1_000_000, time.Second, 0),
		mustLimit(t, "d", 0, time.Minute, 0), mustLimit(t, "e", 333, 1009*time.Millisecond, 50),
	} {
		snap, now := limiter.Snapshot{Tokens: float64(l.Burst)}, epoch
		for i := range 200 {
			now = now.Add(time.Duration(i%7) * 13 * time.Millisecond)
			snap.Age += time.Duration(i%7) * 13 * time.Millisecond
			cost := 1 + i%3
			var dec limiter.Decision
			req := &limiter.Request{Demands: []limiter.Demand{{Limit: l, Subject: "ada", Cost: cost}}}
			if err := m.Decide(context.Background(), now, req, &dec); err != nil {
				t.Fatal(err)
			}
			if dec.Outcome == limiter.Allowed {
				snap = limiter.Snapshot{Tokens: snap.TokensAt(l, 0) - float64(cost)}
				cost = 0
			}
			if got := snap.State(l, cost); got != dec.States[0] {
				t.Fatalf("%s, step %d: %+v, the bucket tells %+v", l.Policy, i, got, dec.States[0])
			}
		}
	}
}

func TestTotalsNameEachBucketOnce(t *testing.T) {
	a, b := mustLimit(t, "a", 60, time.Minute, 0), mustLimit(t, "b", 60, time.Minute, 0)
	totals, places, err := limiter.Totals(nil, nil, []limiter.Demand{one(a, "x"), one(b, "x"), {Limit: a, Subject: "x", Cost: 4}, one(a, "y"), {Limit: b, Subject: "x", Cost: -3}})
	if err != nil || len(totals) != 3 || totals[0].Cost != 5 || totals[1].Cost != 2 || totals[2].Subject != "y" {
		t.Fatalf("%+v %v", totals, err)
	}
	for i, want := range []int{0, 1, 0, 2, 1} {
		if places[i] != want {
			t.Fatalf("places %v", places)
		}
	}
	if _, _, err := limiter.Totals(nil, nil, []limiter.Demand{{}}); err == nil {
		t.Fatal("a demand without a limit")
	}
}

func TestOnFailureWordsAreReadAndWritten(t *testing.T) {
	for _, f := range []limiter.OnFailure{limiter.FailDefault, limiter.FailLocal, limiter.FailDeny, limiter.FailAllow} {
		if got, err := limiter.ParseOnFailure(f.String()); err != nil || got != f {
			t.Errorf("%q: %v %v", f.String(), got, err)
		}
	}
	if _, err := limiter.ParseOnFailure("open"); err == nil {
		t.Error("an unknown word was read")
	}
}
