package limiter_test

import (
	"context"
	"errors"
	"math/big"
	"math/rand/v2"
	"sort"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/hivegate/hivegate/limiter"
	"github.com/hivegate/hivegate/limiter/limitertest"
)

// model is the rules once more, in the plainest way: x/time/rate's limiters in
// one map under one lock, nothing forgotten, waits found by trying.
type model struct {
	mu      sync.Mutex
	buckets map[[2]string]*modelBucket
	slots   map[[2]string]int
}

type modelBucket struct {
	*rate.Limiter
	limit  *limiter.Limit
	at     time.Time // its last change
	idleAt time.Time // from here on it counts as new
}

func newModel() *model {
	return &model{buckets: map[[2]string]*modelBucket{}, slots: map[[2]string]int{}}
}

// newModelBucket is full, and was so at any time.
func newModelBucket(l *limiter.Limit) *modelBucket {
	return &modelBucket{Limiter: rate.NewLimiter(perSecond(l), l.Burst), limit: l}
}

func perSecond(l *limiter.Limit) rate.Limit {
	return rate.Limit(float64(l.N) / l.Per.Seconds())
}

// admits is what AllowN would say, which cannot be asked without taking.
func (b *modelBucket) admits(at time.Time, n int) bool {
	if n > b.Burst() {
		return false
	}
	left := b.TokensAt(at) - float64(n)
	// A lack that is made good within the nanosecond is overlooked.
	return left >= 0 || time.Duration(-left/float64(b.Limit())*1e9) == 0
}

// after is the least number of whole microseconds after which ok holds.
func after(ok func(time.Duration) bool) time.Duration {
	const most = 400 * 24 * time.Hour
	return time.Duration(sort.Search(int(most/time.Microsecond), func(us int) bool {
		return ok(time.Duration(us) * time.Microsecond)
	})) * time.Microsecond
}

func (m *model) settle(now time.Time, demands []limiter.Demand) {
	for _, d := range demands {
		key := [2]string{d.Limit.Policy, d.Subject}
		b := m.buckets[key]
		if d.Limit.N == 0 {
			continue
		}
		if b == nil {
			m.buckets[key] = newModelBucket(d.Limit)
			continue
		}
		if b.limit.N == d.Limit.N && b.limit.Per == d.Limit.Per && b.limit.Burst == d.Limit.Burst {
			continue
		}
		at := b.not(now)
		if !at.Before(b.idleAt) {
			m.buckets[key] = newModelBucket(d.Limit)
			continue
		}
		b.SetBurstAt(at, d.Limit.Burst)
		b.SetLimitAt(at, perSecond(d.Limit))
		b.limit, b.at = d.Limit, at
		b.remember(at)
	}
}

// not is now, unless b has been changed later.
func (b *modelBucket) not(now time.Time) time.Time {
	if b.at.After(now) {
		return b.at
	}
	return now
}

func (b *modelBucket) full(at time.Time) time.Duration {
	missing := float64(b.Burst()) - b.TokensAt(at)
	ns := time.Duration(missing / float64(b.Limit()) * 1e9)
	return (ns + 999) / 1000 * 1000
}

func (b *modelBucket) remember(at time.Time) {
	if until := at.Add(b.full(at)); until.After(b.idleAt) {
		b.idleAt = until
	}
}

// totals is what demands ask of each bucket.
func totals(demands []limiter.Demand) map[[2]string]int {
	sum := map[[2]string]int{}
	for _, d := range demands {
		sum[[2]string{d.Limit.Policy, d.Subject}] += max(d.Cost, 1)
	}
	return sum
}

func (m *model) states(now time.Time, demands []limiter.Demand, wait []time.Duration) []limiter.State {
	var states []limiter.State
	for i, d := range demands {
		st := limiter.State{Limit: d.Limit, Wait: wait[i], Full: 24 * time.Hour}
		if d.Limit.N > 0 {
			b := m.buckets[[2]string{d.Limit.Policy, d.Subject}]
			at := b.not(now)
			st.Remaining = sort.Search(b.Burst(), func(n int) bool { return !b.admits(at, n+1) })
			if st.Full = b.full(at); st.Full > 0 {
				st.Full += at.Sub(now)
			}
		}
		states = append(states, st)
	}
	return states
}

func (m *model) waits(now time.Time, demands []limiter.Demand) (waits []time.Duration, longest time.Duration) {
	sum := totals(demands)
	for _, d := range demands {
		var w time.Duration
		key := [2]string{d.Limit.Policy, d.Subject}
		switch b := m.buckets[key]; {
		case d.Limit.N == 0 || sum[key] > d.Limit.Burst:
			w = 24 * time.Hour
		case !b.admits(b.not(now), sum[key]):
			at := b.not(now)
			w = at.Sub(now) + after(func(w time.Duration) bool { return b.admits(at.Add(w), sum[key]) })
		}
		waits, longest = append(waits, w), max(longest, w)
	}
	return waits, longest
}

func (m *model) Decide(_ context.Context, now time.Time, req *limiter.Request, dec *limiter.Decision) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now = now.Truncate(time.Microsecond)
	m.settle(now, req.Demands)
	waits, longest := m.waits(now, req.Demands)
	full := false
	for i, h := range req.Holds {
		key := [2]string{h.Name, h.Subject}
		if m.slots[key]++; m.slots[key] > h.Max {
			full = true
		}
		if i == len(req.Holds)-1 && (full || longest > 0) {
			m.release(req)
		}
	}
	*dec = limiter.Decision{States: dec.States[:0]}
	switch {
	case longest > 0 && full:
		dec.Outcome, dec.RetryAfter = limiter.RateLimited, max(longest, time.Second)
	case longest > 0:
		dec.Outcome, dec.RetryAfter = limiter.RateLimited, longest
	case full:
		dec.Outcome, dec.RetryAfter = limiter.ConcurrencyLimited, time.Second
	default:
		for key, n := range totals(req.Demands) {
			b := m.buckets[key]
			b.at = b.not(now)
			if !b.AllowN(b.at, n) {
				return errors.New("the model contradicts itself")
			}
			b.remember(b.at)
		}
	}
	dec.States = append(dec.States, m.states(now, req.Demands, waits)...)
	return nil
}

func (m *model) Release(req *limiter.Request, dec *limiter.Decision) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dec.Outcome == limiter.Allowed {
		m.release(req)
	}
}

func (m *model) release(req *limiter.Request) {
	for _, h := range req.Holds {
		m.slots[[2]string{h.Name, h.Subject}]--
	}
}

func (m *model) Peek(_ context.Context, now time.Time, demands []limiter.Demand, states []limiter.State) error {
	if len(states) < len(demands) {
		return errors.New("too few states")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now = now.Truncate(time.Microsecond)
	m.settle(now, demands)
	waits, _ := m.waits(now, demands)
	copy(states, m.states(now, demands, waits))
	return nil
}

func (m *model) Refund(_ context.Context, now time.Time, demands []limiter.Demand) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now = now.Truncate(time.Microsecond)
	m.settle(now, demands)
	for key, n := range totals(demands) {
		b := m.buckets[key]
		if b == nil || b.limit.N == 0 || !asked(demands, key) {
			continue
		}
		if at := b.not(now); at.Before(b.idleAt) && b.TokensAt(at) < float64(b.Burst()) {
			b.AllowN(at, -n)
			b.at = at
		}
	}
	return nil
}

// asked reports whether demands ask for key under a limit that is not 0.
func asked(demands []limiter.Demand, key [2]string) bool {
	for _, d := range demands {
		if d.Limit.N > 0 && d.Limit.Policy == key[0] && d.Subject == key[1] {
			return true
		}
	}
	return false
}

func (m *model) Ping(context.Context) error { return nil }
func (m *model) Close() error               { return nil }

// TestThePlainModelConforms: the suite asks for the rules, not for a Memory.
func TestThePlainModelConforms(t *testing.T) {
	limitertest.Run(t, func(*testing.T) limiter.Limiter { return newModel() })
}

func TestMemoryAgreesWithThePlainModel(t *testing.T) {
	for seed := range uint64(8) {
		limitertest.Differential(t, newMemory(t), newModel(), seed, 4000)
	}
}

func TestTwoMemoriesAgree(t *testing.T) {
	for seed := range uint64(8) {
		limitertest.Differential(t, newMemory(t), newMemory(t), 100+seed, 20_000)
	}
}

// sweeping sweeps before each call.
type sweeping struct{ *limiter.Memory }

func (s sweeping) Decide(ctx context.Context, now time.Time, req *limiter.Request, dec *limiter.Decision) error {
	s.Sweep(now)
	return s.Memory.Decide(ctx, now, req, dec)
}

func (s sweeping) Peek(ctx context.Context, now time.Time, demands []limiter.Demand, states []limiter.State) error {
	s.Sweep(now)
	return s.Memory.Peek(ctx, now, demands, states)
}

func TestSweepingChangesNoDecision(t *testing.T) {
	for seed := range uint64(8) {
		limitertest.Differential(t, sweeping{newMemory(t)}, newMemory(t), 200+seed, 10_000)
	}
}

// TestAdmissionsNeverExceedTheExactBucket follows one bucket in rational
// numbers. The two may only differ where the exact tokens come within a
// billionth of the cost; over-admission would add up.
func TestAdmissionsNeverExceedTheExactBucket(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	near := big.NewRat(1, 1_000_000_000)
	for _, l := range []*limiter.Limit{
		mustLimit(t, "a", 7, time.Minute, 0), mustLimit(t, "b", 3, time.Hour, 0), mustLimit(t, "c", 100, time.Minute, 20),
		mustLimit(t, "d", 1, 24*time.Hour, 0), mustLimit(t, "e", 99_991, 24*time.Hour, 17), mustLimit(t, "f", 1000, 7*time.Second, 3),
	} {
		m := newMemory(t)
		now := limitertest.Epoch
		tokens := new(big.Rat).SetInt64(int64(l.Burst))
		capacity := new(big.Rat).Set(tokens)
		perMicro := big.NewRat(int64(l.N), l.Per.Microseconds())
		outcomes := map[limiter.Outcome]int{}
		for range 5000 {
			us := rnd.Int64N(2 * l.Per.Microseconds() / int64(l.N))
			now = now.Add(time.Duration(us) * time.Microsecond)
			tokens.Add(tokens, new(big.Rat).Mul(perMicro, new(big.Rat).SetInt64(us)))
			if tokens.Cmp(capacity) > 0 {
				tokens.Set(capacity)
			}
			n := 1 + rnd.IntN(min(l.Burst, 3))
			left := new(big.Rat).Sub(tokens, new(big.Rat).SetInt64(int64(n)))
			dec := decide(t, m, now, limiter.Demand{Limit: l, Subject: "ada", Cost: n})
			outcomes[dec.Outcome]++
			if allowed := dec.Outcome == limiter.Allowed; allowed != (left.Sign() >= 0) && new(big.Rat).Abs(left).Cmp(near) > 0 {
				t.Fatalf("%d/%v: allowed is %v with %s left", l.N, l.Per, allowed, left.FloatString(15))
			} else if allowed {
				tokens = left
			}
		}
		if outcomes[limiter.Allowed] < 500 || outcomes[limiter.RateLimited] < 500 {
			t.Fatalf("%d/%v: outcomes %v show too little", l.N, l.Per, outcomes)
		}
	}
}
