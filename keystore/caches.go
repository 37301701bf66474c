package keystore

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
)

// verifiedCache remembers verified keys beyond their records' stay in memory:
// keyed digest to id and fingerprint of the bcrypt hash. ristretto applies sets
// late, drops some, and refuses most new keys when it is full, so it is a second
// memory only: the first is the secretState, and revocation is read from the
// current record always.
type verifiedCache struct {
	// mu keeps Close apart from the others: ristretto panics on a Set that
	// races it. Nothing on the warm path comes here.
	mu     sync.RWMutex
	closed bool
	c      *ristretto.Cache[uint64, verifiedKey]
}

type verifiedKey struct {
	digest digest
	id     ID
	fp     fingerprint
}

func newVerifiedCache(bound int64) (*verifiedCache, error) {
	c, err := ristretto.NewCache(&ristretto.Config[uint64, verifiedKey]{
		// Twice the bound instead of the usual tenfold: it only sharpens the
		// choice of what to drop, and costs memory from the start.
		NumCounters: max(2*bound, 64),
		MaxCost:     bound,
		BufferItems: 64,
		// A key costs 1, so that the bound is a number of keys.
		IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make verified-key cache: %w", err)
	}
	return &verifiedCache{c: c}, nil
}

// get compares the whole digest: the first 64 bits only lead to the place.
func (c *verifiedCache) get(d *digest) (verifiedKey, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return verifiedKey{}, false
	}
	k, ok := c.c.Get(binary.LittleEndian.Uint64(d[:]))
	if !ok || !k.digest.equal(d) {
		return verifiedKey{}, false
	}
	return k, true
}

func (c *verifiedCache) put(k verifiedKey) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.closed {
		c.c.Set(binary.LittleEndian.Uint64(k.digest[:]), k, 1)
	}
}

func (c *verifiedCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.c.Close()
	}
}

// attemptKey is one credential against one bcrypt hash.
type attemptKey struct {
	digest digest
	fp     fingerprint
}

// brief remembers keys for a short while, in a fixed array of small sets. When a
// set is full, the member that would end first gives way; forgetting one costs
// its work again, never a wrong answer.
type brief[K comparable] struct {
	seed   maphash.Seed
	locks  [64]sync.Mutex
	sets   [][briefWays]briefItem[K]
	hits   atomic.Uint64
	misses atomic.Uint64
}

const briefWays = 4

type briefItem[K comparable] struct {
	key   K
	until int64 // Unix nanoseconds; 0: free
}

// newBrief makes one of size entries, a power of two.
func newBrief[K comparable](size int) *brief[K] {
	return &brief[K]{seed: maphash.MakeSeed(), sets: make([][briefWays]briefItem[K], size/briefWays)}
}

func (b *brief[K]) has(k K, now time.Time) bool {
	set, mu := b.set(k)
	mu.Lock()
	defer mu.Unlock()
	n := now.UnixNano()
	for i := range set {
		if set[i].key == k && set[i].until > n {
			b.hits.Add(1)
			return true
		}
	}
	b.misses.Add(1)
	return false
}

func (b *brief[K]) put(k K, now time.Time, d time.Duration) {
	set, mu := b.set(k)
	mu.Lock()
	defer mu.Unlock()
	at := 0
	for i := range set {
		if set[i].key == k {
			at = i
			break
		}
		if set[i].until < set[at].until {
			at = i
		}
	}
	set[at] = briefItem[K]{key: k, until: now.Add(d).UnixNano()}
}

func (b *brief[K]) drop(k K) {
	set, mu := b.set(k)
	mu.Lock()
	defer mu.Unlock()
	for i := range set {
		if set[i].key == k {
			set[i] = briefItem[K]{}
		}
	}
}

func (b *brief[K]) set(k K) (*[briefWays]briefItem[K], *sync.Mutex) {
	h := maphash.Comparable(b.seed, k)
	i := h & (uint64(len(b.sets)) - 1)
	return &b.sets[i], &b.locks[i%uint64(len(b.locks))]
}
