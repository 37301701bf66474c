package limiter

import (
	"time"

	"golang.org/x/time/rate"
)

// Snapshot is one bucket as a store of its own keeps it. From it follows, by the
// arithmetic of this package, everything that a caller is told.
type Snapshot struct {
	// Tokens were there at the bucket's last change.
	Tokens float64
	// Age is the time from that change to the moment that was decided at, in
	// whole microseconds; never negative.
	Age time.Duration
	// Ahead is how much later that moment is than the caller's own: above 0
	// where the bucket was changed by somebody whose clock is ahead.
	Ahead time.Duration
}

// TokensAt is the number of tokens that are there after a further time.
func (s Snapshot) TokensAt(l *Limit, after time.Duration) float64 {
	if l.closed() {
		return 0
	}
	elapsed := min(max(s.Age, 0), maxDuration) + min(after, maxDuration)
	tokens := s.Tokens + elapsed.Seconds()*float64(l.rate())
	return min(tokens, float64(l.Burst))
}

// State is what the caller is told about the bucket, who asks for cost tokens
// (0: who has got them).
func (s Snapshot) State(l *Limit, cost int) State {
	if l.closed() {
		return State{Limit: l, Wait: never, Full: never}
	}
	r := l.rate()
	tokens := s.TokensAt(l, 0)
	st := State{Limit: l, Remaining: wholeTokens(tokens, l.Burst, r), Full: fullIn(tokens, l.Burst, r)}
	if st.Full > 0 {
		st.Full = min(st.Full+s.Ahead, maxDuration)
	}
	switch {
	case cost > l.Burst:
		st.Wait = never
	case cost > 0 && !enough(tokens, cost, l.Burst, r):
		st.Wait = min(s.waitFor(l, cost, r)+s.Ahead, maxDuration)
	}
	return st
}

// waitFor is bucket.waitFor of a snapshot.
func (s Snapshot) waitFor(l *Limit, cost int, r rate.Limit) time.Duration {
	w := wholeMicros(durationFromTokens(float64(cost)-s.TokensAt(l, 0), r))
	for step := time.Microsecond; w < maxDuration; step *= 2 {
		if enough(s.TokensAt(l, w), cost, l.Burst, r) {
			break
		}
		w += step
	}
	return min(w, maxDuration)
}

// Closed reports whether the limit lets nothing through, ever, and so needs no
// bucket.
func (l *Limit) Closed() bool { return l.closed() }

// Rate is the refill in tokens per second.
func (l *Limit) Rate() float64 { return float64(l.rate()) }

// SlotWait is what a caller is told to wait for a concurrency slot.
const SlotWait = slotWait

// Total is one bucket that a request asks: the first of its demands on it, and
// what all of them ask for together.
type Total struct {
	Limit   *Limit
	Subject string
	Cost    int
}

// Totals appends the buckets of demands to totals, each once, and to places the
// index among them of each demand's. It fails for a demand without a Limit.
func Totals(totals []Total, places []int, demands []Demand) ([]Total, []int, error) {
	if err := checkDemands(demands); err != nil {
		return totals, places, err
	}
	base := len(totals)
	for i := range demands {
		first, cost := merge(demands, i)
		if first < i {
			places = append(places, places[len(places)-i+first])
			continue
		}
		places = append(places, len(totals)-base)
		totals = append(totals, Total{Limit: demands[i].Limit, Subject: demands[i].Subject, Cost: cost})
	}
	return totals, places, nil
}
