package keystore

import "time"

// Stats is a snapshot of a Verifier's counters. They count from its making.
type Stats struct {
	// HashOK and HashWrong are bcrypt comparisons; HashOverloaded is requests
	// that were refused one.
	HashOK, HashWrong, HashOverloaded uint64
	// HashInflight is comparisons under way, HashQueued those waiting.
	HashInflight, HashQueued int

	// Records: records in memory. Verified: the verified-key cache beyond them.
	// Failures: credentials known to be wrong. Unknown: ids known not to exist.
	Records, Verified, Failures, Unknown CacheStats
	// Held is how many records are in memory.
	Held int

	// StoreUp is whether the last poll of the store succeeded, and not long ago.
	StoreUp bool
	// Confirmed is when the store last said that memory is up to date; zero:
	// never.
	Confirmed time.Time
}

// storeQuiet is how long a poll may go without an answer until the store counts as
// down.
const storeQuiet = 10 * time.Second

// CacheStats counts look-ups.
type CacheStats struct{ Hits, Misses uint64 }

// Stats returns the counters.
func (v *Verifier) Stats() Stats {
	s := Stats{
		HashOK:         v.hashOK.Load(),
		HashWrong:      v.hashWrong.Load(),
		HashOverloaded: v.hashOverloaded.Load(),
		Records:        CacheStats{Misses: v.table.misses.Load()},
		Verified:       CacheStats{v.verifiedHits.Load(), v.verifiedMisses.Load()},
		Failures:       CacheStats{v.failures.hits.Load(), v.failures.misses.Load()},
		Unknown:        CacheStats{v.unknown.hits.Load(), v.unknown.misses.Load()},
		Held:           v.table.len(),
		StoreUp:        v.storeUp.Load(),
	}
	for i := range v.table.hits {
		s.Records.Hits += v.table.hits[i].n.Load()
	}
	s.HashInflight, s.HashQueued = v.pool.load()
	if at := v.confirmed.Load(); at != nil {
		s.Confirmed = at.Round(0).UTC()
		s.StoreUp = s.StoreUp && v.now().Sub(*at) < storeQuiet
	}
	return s
}
