package limiter

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestABucketKnowsWhatItsLimiterHolds: what is read beside x/time/rate's own
// limiter is, to the last bit, what that would have said.
func TestABucketKnowsWhatItsLimiterHolds(t *testing.T) {
	limits := []*Limit{}
	for _, f := range []struct {
		n     int
		per   time.Duration
		burst int
	}{{60, time.Minute, 0}, {7, time.Second, 3}, {99_991, 24 * time.Hour, 17}, {1_000_000, time.Millisecond, 0}, {1, 31 * day, 1_000_000}, {3, time.Hour, 5}} {
		l, err := NewLimit("p", f.n, f.per, f.burst)
		if err != nil {
			t.Fatal(err)
		}
		limits = append(limits, l)
	}
	base := time.Now()
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		us := int64(0)
		at := func() instant { return instant{us, base.Add(time.Duration(us) * time.Microsecond)} }
		var b bucket
		b.fill(at(), limits[0])
		taken := 0
		for step := range 5000 {
			us += rnd.Int64N(1 << rnd.IntN(30))
			switch rnd.IntN(20) {
			case 0:
				b.settle(at(), limits[rnd.IntN(len(limits))])
			case 1:
				b.set(at(), limits[rnd.IntN(len(limits))], rnd.Float64()*40-20)
			case 2:
				b.give(at(), 1+rnd.IntN(3))
			default:
				cost := 1 + rnd.IntN(3)
				if tokens := b.tokensAt(us); enough(tokens, cost, b.limit.Burst, b.limit.rate()) {
					b.take(at(), cost, tokens-float64(cost))
					taken++
				} else if b.lim.AllowN(at().t, cost) {
					t.Fatalf("seed %d, step %d: the limiter allows what the bucket refuses", seed, step)
				}
			}
			later := rnd.Int64N(1 << 31)
			got, want := b.tokensAt(us+later), b.lim.TokensAt(at().t.Add(time.Duration(later)*time.Microsecond))
			if got != want {
				t.Fatalf("seed %d, step %d: %v tokens, the limiter has %v", seed, step, got, want)
			}
		}
		if taken < 100 {
			t.Fatalf("seed %d: only %d took anything", seed, taken)
		}
	}
}
