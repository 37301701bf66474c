package jwtauth

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
)

const defaultCacheSize = 16384

// entry is one verified token: what was found, and on what that rests. It is
// immutable once put.
type entry struct {
	digest    digest
	issuer    *Issuer
	keys      *keySet    // of the issuer, when it was verified
	key       *verifyKey // that made the signature
	principal *Principal
	until     time.Time // exp and leeway
}

// current reports whether what the entry rests on still holds: the issuer's
// keys have not changed, and may still be relied on.
func (e *entry) current(now time.Time) bool {
	return e.issuer.keys.Load() == e.keys && e.key.usable(now)
}

// cache remembers verified tokens by digest. It is a help and nothing rests on
// it: ristretto shows an entry a little late and may refuse or drop any, which
// then costs a signature check. The recent slots, one per low bits of the
// digest, are asked first: ristretto reads the clock and takes a lock. They also
// have an entry that is still on its way into ristretto, or was refused there
// because the cache is full of tokens that are used more often.
type cache struct {
	tokens *ristretto.Cache[uint64, *entry]
	recent [recentSlots]atomic.Pointer[entry]
}

const recentSlots = 1024 // a power of two; the newest entry of a slot stays

// newCache makes a cache of about size entries; nil for a negative size.
func newCache(size int) (*cache, error) {
	if size < 0 {
		return nil, nil // a nil cache remembers nothing
	}
	if size == 0 {
		size = defaultCacheSize
	}
	tokens, err := ristretto.NewCache(&ristretto.Config[uint64, *entry]{
		NumCounters:        int64(size) * 10,
		MaxCost:            int64(size),
		BufferItems:        64,
		IgnoreInternalCost: true, // cost is in entries
	})
	if err != nil {
		return nil, fmt.Errorf("make token cache: %w", err)
	}
	return &cache{tokens: tokens}, nil
}

// get returns the entry with exactly this digest, or nil.
func (c *cache) get(sum *digest) *entry {
	if c == nil {
		return nil
	}
	h := binary.LittleEndian.Uint64(sum[:])
	if e := c.recent[h%recentSlots].Load(); e != nil && e.digest == *sum {
		return e
	}
	if e, ok := c.tokens.Get(h); ok && e.digest == *sum {
		return e
	}
	return nil
}

// touchEvery is how many hits there are to one that ristretto is told of.
const touchEvery = 16

// touch tells ristretto of a use, hit being its number: it keeps the tokens that it is
// asked for most, and would else know nothing of those in a recent slot, and drop
// them first.
func (c *cache) touch(sum *digest, hit uint64) {
	if c != nil && hit%touchEvery == 0 {
		c.tokens.Get(binary.LittleEndian.Uint64(sum[:]))
	}
}

// put remembers an entry until its token has expired.
func (c *cache) put(e *entry, now time.Time) {
	if c == nil {
		return
	}
	h := binary.LittleEndian.Uint64(e.digest[:])
	c.recent[h%recentSlots].Store(e)
	// A principal with many scopes weighs as much as several: the cache's
	// bound is one on memory, too.
	cost := int64(1 + len(e.principal.ScopesText)/512)
	if ttl := e.until.Sub(now); ttl > 0 {
		c.tokens.SetWithTTL(h, e, cost, ttl)
	}
}

func (c *cache) close() {
	if c != nil {
		c.tokens.Close()
	}
}
