package limiter

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// Set makes the bucket of (l.Policy, subject) hold so many tokens at now, as
// another store of counters has told. Cut off at the capacity; below 0 is a debt.
func (m *Memory) Set(now time.Time, l *Limit, subject string, tokens float64) {
	if l.closed() {
		return
	}
	tokens = min(tokens, float64(l.Burst))
	at := m.clock(now)
	s := &m.shards[m.index(subject)]
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[bucketKey{l.Policy, subject}]
	if b == nil {
		if tokens >= float64(l.Burst) {
			return // full, as a bucket is that is not there
		}
		b = s.insert(at, &Demand{Limit: l, Subject: subject})
	} else {
		at = m.inside(b, at)
	}
	b.set(at, l, tokens)
}

// set makes b a bucket of limit with so many tokens. x/time/rate takes whole
// tokens only: the rest is refilled since a moment before.
func (b *bucket) set(at instant, limit *Limit, tokens float64) {
	b.limit = limit
	whole := math.Floor(tokens)
	since := at.t.Add(-min(durationFromTokens(tokens-whole, limit.rate()), maxDuration))
	b.lim = rate.Limiter{}
	b.lim.SetLimitAt(since, limit.rate())
	b.lim.SetBurstAt(since, limit.Burst)
	b.lim.ReserveN(since, -int(max(whole, float64(-limit.Burst))))
	b.lim.ReserveN(at.t, 0) // its time is now that of the bucket, a debt included
	b.read(at)
	b.stay(fullIn(b.tokens, limit.Burst, limit.rate()))
}

// Tokens is what the bucket of (l.Policy, subject) holds at now under l. ok: the
// bucket is there; one that is not is full.
func (m *Memory) Tokens(now time.Time, l *Limit, subject string) (tokens float64, ok bool) {
	if l.closed() {
		return 0, false
	}
	at := m.clock(now)
	s := &m.shards[m.index(subject)]
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[bucketKey{l.Policy, subject}]
	if b == nil {
		return float64(l.Burst), false
	}
	return min(b.tokensAt(m.inside(b, at).us), float64(l.Burst)), true
}

// Each calls f for every bucket that is not full at now, with the tokens that it
// holds. No lock is held while f runs; what changes meanwhile may be missed.
func (m *Memory) Each(now time.Time, f func(l *Limit, subject string, tokens float64)) {
	type found struct {
		limit   *Limit
		subject string
		tokens  float64
	}
	at := m.clock(now)
	var page []found
	for i := range m.shards {
		s := &m.shards[i]
		page = page[:0]
		s.mu.Lock()
		for k, b := range s.buckets {
			when := m.inside(b, at)
			if tokens := b.tokensAt(when.us); tokens < float64(b.limit.Burst) {
				page = append(page, found{b.limit, k.subject, tokens})
			}
		}
		s.mu.Unlock()
		for _, p := range page {
			f(p.limit, p.subject, p.tokens)
		}
	}
}
