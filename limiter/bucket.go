package limiter

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

const (
	// never is what a caller is told to wait where waiting does not help: for
	// a limit of 0, and for a cost above the capacity.
	never = day
	// slotWait is what a caller is told to wait for a concurrency slot.
	slotWait = time.Second
	// grace is how long, in microseconds, a bucket is kept when it counts as new
	// again. A request whose clock was read a little earlier than the sweeper's
	// then finds what it would have found.
	grace = int64(time.Second / time.Microsecond)
)

// bucket is one (policy, subject). All of it is guarded by its shard's lock.
// 112 bytes, a size class of Go's allocator: mind it when adding a field.
type bucket struct {
	// lim holds tokens and time. It is only ever called with times at or
	// after at: x/time/rate would take a time that runs back for its new
	// "last", and so refill the same seconds twice.
	lim rate.Limiter
	// limit is what lim is set to; nil once the bucket is forgotten, and nobody
	// finds it any more but by a place.
	limit *Limit
	// tokens is what lim holds at the time at. It is kept because asking lim
	// costs as much as taking from it: what there is follows by the same
	// arithmetic, to the last bit, and only taking is left to lim.
	tokens float64
	// at is the time of lim's last change, in the Memory's microseconds.
	at int64
	// idleAt, never before at, is the time from which on the bucket is full
	// under each limit it was used with. From then on it counts as new, which
	// is the same as no bucket at all.
	idleAt int64
}

// instant is one moment in both forms that buckets use: whole microseconds of
// a Memory, and the same as a time for x/time/rate.
type instant struct {
	us int64
	t  time.Time
}

// since is the time from o to a later i, at most maxDuration.
func (i instant) since(o instant) time.Duration {
	return time.Duration(min(i.us-o.us, int64(maxDuration/time.Microsecond))) * time.Microsecond
}

// fill makes b a full bucket of limit.
func (b *bucket) fill(at instant, limit *Limit) {
	b.limit, b.idleAt = limit, at.us
	b.lim = rate.Limiter{}
	b.lim.SetLimitAt(at.t, limit.rate())
	b.lim.SetBurstAt(at.t, limit.Burst)
	b.lim.AllowN(at.t, -limit.Burst)
	b.read(at)
}

// read sets at and tokens after a change of lim at that time.
func (b *bucket) read(at instant) {
	b.at, b.tokens = at.us, b.lim.TokensAt(at.t)
}

// tokensAt is lim.TokensAt for a time that is not before b.at.
func (b *bucket) tokensAt(us int64) float64 {
	elapsed := time.Duration(us-b.at) * time.Microsecond
	tokens := b.tokens + elapsed.Seconds()*float64(b.limit.rate())
	return min(tokens, float64(b.limit.Burst))
}

// settle brings b under other figures: what was refilled until then stays,
// clamped to the new capacity, and the new rate counts from then on.
func (b *bucket) settle(at instant, limit *Limit) {
	b.limit = limit
	b.lim.SetBurstAt(at.t, limit.Burst)
	b.lim.SetLimitAt(at.t, limit.rate())
	b.read(at)
	b.stay(fullIn(b.tokens, limit.Burst, limit.rate()))
}

// take takes cost tokens, which the caller has found to be there; left is what
// then remains. It returns the time until b is full.
func (b *bucket) take(at instant, cost int, left float64) time.Duration {
	// Cannot be refused: AllowN computes what enough has computed, from the
	// same state at the same time.
	b.lim.AllowN(at.t, cost)
	b.at, b.tokens = at.us, left
	full := fullIn(left, b.limit.Burst, b.limit.rate())
	b.stay(full)
	return full
}

// give adds cost tokens. What exceeds the capacity is cut off by the next
// reading, whatever that is. A full bucket is left alone, time included: it
// must go on to behave like one that is not there.
func (b *bucket) give(at instant, cost int) {
	tokens := b.tokensAt(at.us)
	if at.us >= b.idleAt || tokens >= float64(b.limit.Burst) {
		return
	}
	b.lim.ReserveN(at.t, -cost) // AllowN would leave a debt as it is
	b.at, b.tokens = at.us, tokens+float64(cost)
}

// stay puts off the time at which b counts as new: a bucket that two limits
// share in turn must not be forgotten because it is full under the smaller.
func (b *bucket) stay(full time.Duration) {
	b.idleAt = max(b.idleAt, b.at+int64(full/time.Microsecond))
}

// idle reports whether b may be forgotten.
func (b *bucket) idle(at instant) bool {
	return at.us >= b.idleAt+grace && b.tokensAt(at.us) >= float64(b.limit.Burst)
}

// fullness is the share of b's capacity that is there, 0 to 1.
func (b *bucket) fullness(at instant) float64 {
	if at.us < b.at {
		return 0 // in use by a request that is ahead of this one
	}
	return b.tokensAt(at.us) / float64(b.limit.Burst)
}

// waitFor is the time from us until cost tokens, no more than the capacity, are
// there, if nobody takes any:
// whole microseconds, and true, because the answer is tried with the very
// arithmetic that will be asked then.
func (b *bucket) waitFor(us int64, cost int) time.Duration {
	r := b.limit.rate()
	w := wholeMicros(durationFromTokens(float64(cost)-b.tokensAt(us), r))
	for step := time.Microsecond; w < maxDuration; step *= 2 {
		if enough(b.tokensAt(us+int64(w/time.Microsecond)), cost, b.limit.Burst, r) {
			break
		}
		w += step
	}
	return min(w, maxDuration)
}

// enough is rate.Limiter.AllowN's decision: a lack that would be refilled in
// less than a nanosecond is none.
func enough(tokens float64, cost, burst int, r rate.Limit) bool {
	left := tokens - float64(cost)
	return cost <= burst && (left >= 0 || durationFromTokens(-left, r) <= 0)
}

// wholeTokens is the largest cost for which enough says yes.
func wholeTokens(tokens float64, burst int, r rate.Limit) int {
	n := min(max(int(tokens), 0), burst)
	// The lack of one more is, as a rule, far above what enough overlooks: a
	// nanosecond's refill. At a million a millisecond that is a thousand tokens.
	if slack := float64(r) * 1e-9; float64(n+1)-tokens < 2*slack {
		for n = min(max(int(tokens+slack)+1, 0), burst); n > 0 && !enough(tokens, n, burst, r); n-- {
		}
	}
	return n
}

// fullIn is the time until a bucket with so many tokens is full, rounded up to
// whole microseconds.
func fullIn(tokens float64, burst int, r rate.Limit) time.Duration {
	lack := float64(burst) - tokens
	if lack <= 0 {
		return 0
	}
	return wholeMicros(durationFromTokens(lack, r))
}

// durationFromTokens is x/time/rate's function of that name (which it does not
// export), to the last bit: the time in which tokens are refilled, nanoseconds
// cut off.
func durationFromTokens(tokens float64, r rate.Limit) time.Duration {
	if r <= 0 {
		return rate.InfDuration
	}
	d := (tokens / float64(r)) * float64(time.Second)
	if d > float64(math.MaxInt64) {
		return rate.InfDuration
	}
	return time.Duration(d)
}

// wholeMicros rounds up to whole microseconds.
func wholeMicros(d time.Duration) time.Duration {
	if d >= maxDuration {
		return maxDuration
	}
	return (d + time.Microsecond - 1).Truncate(time.Microsecond)
}
