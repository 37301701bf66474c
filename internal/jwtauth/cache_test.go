//go:build !race

// Under the race detector sync.Pool drops a part of what it is given, and with it
// what ristretto was told.

package jwtauth

import (
	"encoding/binary"
	"testing"
)

// TestACacheKeepsTheTokenThatIsUsedMost: the recent slots answer for it, and yet a
// flood of others does not push it out of the cache behind them.
func TestACacheKeepsTheTokenThatIsUsedMost(t *testing.T) {
	s, err := NewSet([]*Issuer{startIssuer(t, mainConfig(t), Options{})}, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	hs := testKeys()["HS256"]
	hot := hs.token(good(nil))
	for n := range 2000 {
		for range 2 * touchEvery {
			principalOf(t, s, hot)
		}
		principalOf(t, s, hs.token(good(map[string]any{"jti": n})))
		if n%10 == 0 {
			s.cache.tokens.Wait()
		}
	}
	s.cache.tokens.Wait()
	sum := s.digest.of(hot)
	if _, ok := s.cache.tokens.Get(binary.LittleEndian.Uint64(sum[:])); !ok {
		t.Error("it was dropped")
	}
}
