package jwtauth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"sync/atomic"
	"time"
)

// Set is all issuers of a configuration, and the cache of the tokens that they
// verified. It is safe for concurrent use.
type Set struct {
	issuers []*Issuer
	// byIss and noIss hold, in configured order, who is asked about a token
	// with that iss, or without one.
	byIss  map[string][]*Issuer
	noIss  []*Issuer
	static []staticEntry
	cache  *cache
	digest *digester

	hits, misses atomic.Uint64 // of the cache
}

type staticEntry struct {
	digest    digest
	principal *Principal
}

// NewSet makes a set. cacheSize is how many verified tokens are remembered,
// about; 0 means 16,384, and a negative one none. Issuers may be in several
// sets; they are started and closed by their owner.
func NewSet(issuers []*Issuer, cacheSize int) (*Set, error) {
	s := &Set{issuers: issuers, byIss: map[string][]*Issuer{}}
	var err error
	if s.digest, err = newDigester(fastMAC()); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	keys := map[string]bool{}
	for _, i := range issuers {
		if names[i.name] {
			return nil, fmt.Errorf("there are two issuers named %q", i.name)
		}
		names[i.name] = true
		asked := map[string]bool{}
		for _, iss := range i.iss {
			if !asked[iss] {
				s.byIss[iss] = append(s.byIss[iss], i)
			}
			asked[iss] = true
		}
		if i.noIss {
			s.noIss = append(s.noIss, i)
		}
		for _, k := range i.rules.static {
			if keys[k.value] {
				return nil, fmt.Errorf("issuer %q: a static_key stands at another issuer, too", i.name)
			}
			keys[k.value] = true
			s.static = append(s.static, staticEntry{s.digest.of(k.value), k.principal})
		}
	}
	s.cache, err = newCache(cacheSize)
	return s, err
}

// Close drops the cache. Verifying goes on without it.
func (s *Set) Close() { s.cache.close() }

// CacheStats counts, since the set was made, the tokens that were judged
// without and with the whole work of [Set.Verify].
func (s *Set) CacheStats() (hits, misses uint64) { return s.hits.Load(), s.misses.Load() }

// Issuers returns the issuers, in configured order.
func (s *Set) Issuers() []*Issuer { return s.issuers }

// Verify judges a token at now. allowed says which issuers are taken here, by
// name; nil means all. Exactly one of the results is nil.
//
// A token that was verified before costs a digest and no allocation. It waits
// for the network only while the first fetch of its issuer's keys is running,
// or when it names a key that is not known, at most 5 s or until ctx is done.
func (s *Set) Verify(ctx context.Context, now time.Time, token string, allowed func(name string) bool) (*Principal, *Denied) {
	if len(token) > maxToken {
		return nil, denyTooLong
	}
	sum := s.digest.of(token)
	if e := s.cache.get(&sum); e != nil && e.current(now) && (allowed == nil || allowed(e.issuer.name)) {
		s.cache.touch(&sum, s.hits.Add(1))
		if !now.Before(e.until) {
			return nil, denyExpired
		}
		return e.principal, nil
	}
	s.misses.Add(1)
	e, d := s.verifyCold(ctx, now, token, allowed)
	if d != nil {
		return nil, d
	}
	e.digest = sum
	s.cache.put(e, now)
	return e.principal, nil
}

// verifyCold does the whole work. Where several issuers share an iss the first
// that takes the token decides; if none does, the one that came furthest.
func (s *Set) verifyCold(ctx context.Context, now time.Time, raw string, allowed func(string) bool) (*entry, *Denied) {
	w := takeWorkspace()
	defer w.free()
	t, d := parseToken(w, raw)
	if d != nil {
		return nil, d
	}
	candidates, worst := s.candidates(t), denyIss
	if !t.claims.hasIss {
		worst = denyIssMissing
	}
	for _, i := range candidates {
		if allowed != nil && !allowed(i.name) {
			continue
		}
		e, d := i.verify(ctx, now, t)
		if d == nil {
			return e, nil
		}
		if further(d) > further(worst) {
			worst = d
		}
	}
	return nil, worst
}

func (s *Set) candidates(t *token) []*Issuer {
	if !t.claims.hasIss {
		return s.noIss
	}
	return s.byIss[t.claims.iss]
}

// further ranks refusals by how far a token came. What could not be judged
// comes last: it may be a good one.
func further(d *Denied) int {
	switch d {
	case denyIss, denyIssMissing:
		return 0
	case denyAlg:
		return 1
	case denyKey, denySignature:
		return 2
	case denyUnavailable:
		return 5
	case denyExpired:
		return 4
	}
	return 3
}

// StaticKey returns whom an opaque key stands for. It compares digests of a
// fixed length, all of them, in constant time.
func (s *Set) StaticKey(value string) (*Principal, bool) {
	if len(s.static) == 0 || len(value) > maxStaticKey {
		return nil, false
	}
	sum := s.digest.of(value)
	var found *Principal
	for i := range s.static {
		if subtle.ConstantTimeCompare(sum[:], s.static[i].digest[:]) == 1 {
			found = s.static[i].principal
		}
	}
	return found, found != nil
}
