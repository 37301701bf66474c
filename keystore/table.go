package keystore

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// table holds records by id. Reading takes no lock: chains of atomic pointers
// hang from a fixed array. Writers share one mutex; they are the loads of
// records that were not in memory, and changes.
//
// It holds at most bound records. When it is full, a new one takes the place of
// an old one chosen by a clock (second chance) that spares what is precious.
type table struct {
	buckets []atomic.Pointer[core]
	shift   uint // of the hash, to an index of buckets
	seed    uint64
	bound   int

	// mu guards ring, hand and loading, and all writing to chains and entries.
	mu   sync.Mutex
	ring []*core
	hand int
	// loading holds what is being read from the store, so that a change that
	// arrives meanwhile is not overwritten by what was read before it. It has
	// at most loadSlots members.
	loading map[ID]*loading

	precious func(*core) bool

	misses atomic.Uint64
	hits   [64]struct { // by id, so that cores seldom share a line
		n atomic.Uint64
		_ [56]byte
	}
}

// loading is one read of the store under way.
type loading struct{ newer *Record }

// clockReach is how many records are looked at to find one to drop.
const clockReach = 128

func newTable(bound int) *table {
	width := max(4, bits.Len(uint(bound-1)))
	return &table{
		buckets: make([]atomic.Pointer[core], 1<<width),
		shift:   uint(64 - width),
		seed:    rand.Uint64(), //nolint:gosec // guards nothing: see hash
		bound:   bound,
		loading: make(map[ID]*loading),
	}
}

// hash spreads ids over the buckets. Ids are random and made by us; the seed is
// for those that a store was filled with by hand.
func (t *table) hash(id *ID) uint64 {
	h := binary.LittleEndian.Uint64(id[:8]) ^ t.seed
	h *= 0x9e3779b97f4a7c15
	h ^= h>>32 ^ uint64(binary.LittleEndian.Uint32(id[8:]))
	return h * 0xd6e8feb86659fd93
}

func (t *table) get(id ID) *core {
	for c := t.buckets[t.hash(&id)>>t.shift].Load(); c != nil; c = c.next.Load() {
		if c.id == id {
			return c
		}
	}
	return nil
}

func (t *table) hit(id *ID) { t.hits[id[5]%64].n.Add(1) }

// insert adds a core that is not there; under mu. One that had to go is
// returned.
func (t *table) insert(c *core) (gone *core) {
	if len(t.ring) < t.bound {
		c.pos = len(t.ring)
		t.ring = append(t.ring, c)
	} else {
		gone = t.victim()
		t.unlink(gone)
		c.pos = gone.pos
		t.ring[c.pos] = c
	}
	b := &t.buckets[t.hash(&c.id)>>t.shift]
	// New members come first, so that a member dropped long ago and still held
	// by somebody keeps no later ones alive.
	c.next.Store(b.Load())
	b.Store(c)
	return gone
}

// remove drops a core; under mu.
func (t *table) remove(c *core) {
	t.unlink(c)
	last := t.ring[len(t.ring)-1]
	t.ring[c.pos], last.pos = last, c.pos
	t.ring[len(t.ring)-1] = nil
	t.ring = t.ring[:len(t.ring)-1]
}

// clear drops everything; under mu.
func (t *table) clear() {
	for _, c := range t.ring {
		t.unlink(c)
	}
	clear(t.ring)
	t.ring, t.hand = t.ring[:0], 0
}

func (t *table) unlink(c *core) {
	c.entry.Load().live.Store(false)
	at := &t.buckets[t.hash(&c.id)>>t.shift]
	for p := at.Load(); p != nil; p = at.Load() {
		if p == c {
			// Readers that stand on c still find their way by its next.
			at.Store(c.next.Load())
			return
		}
		at = &p.next
	}
}

// victim chooses the record to drop: the first without recent use that is not
// precious; failing that, within reach of the hand, precious ones last.
func (t *table) victim() *core {
	var best *core
	least := 4
	for range min(clockReach, len(t.ring)) {
		c := t.ring[t.hand]
		t.hand = (t.hand + 1) % len(t.ring)
		score := 0
		if c.ref.Swap(false) {
			score = 1
		}
		if t.precious(c) {
			score += 2
		}
		if score < least {
			best, least = c, score
		}
		if score == 0 {
			break
		}
	}
	return best
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.ring)
}

// precious reports whether losing this record would cost more than a read: it
// has open streams, or a verification that only memory holds.
func (v *Verifier) precious(c *core) bool {
	e := c.entry.Load()
	for i, s := range e.secrets {
		if s.verified.Load() != nil && (e.rec.Secrets[i].Digest == nil || !v.o.Crypto.HasDataKey()) {
			return true
		}
	}
	return v.streams.open(c.id)
}
