package limiter

import (
	"runtime"
	"strings"
	"sync"
)

const (
	// maxShards is the most there can be: a set of shards is a uint64.
	maxShards = 64
	// minPerShard is the least number of buckets that a shard of its own is
	// worth, so that a small bound is not cut into slivers.
	minPerShard = 256
	// sampleTidy and sampleEvict are how many buckets an insertion looks at:
	// always, and when the shard is at its bound.
	sampleTidy  = 2
	sampleEvict = 16
	// sweepBatch is how many buckets are looked at before the lock is let go.
	sweepBatch = 256
	// shrinkFrom is the size from which a map is worth rebuilding: Go's maps
	// keep their memory when entries are deleted.
	shrinkFrom = 128
)

type bucketKey struct{ policy, subject string }

type slotKey struct{ name, subject string }

// shard keeps everything about the subjects whose hash it has.
type shard struct {
	// mu guards all of the shard, the buckets themselves included.
	mu sync.Mutex
	// buckets holds at most maxBuckets. One more and the fullest of a sample
	// is forgotten: see insert.
	buckets    map[bucketKey]*bucket
	maxBuckets int
	// most is the largest that buckets was since it was made.
	most int
	// slots counts requests in flight, and so is bounded by them: an entry
	// goes when its count comes to 0.
	slots     map[slotKey]int
	mostSlots int

	_ [64]byte // keeps the next shard's lock out of this one's cache line
}

// makeShards makes as many shards, a power of two, as maxBuckets are worth.
// Their bounds add up to at most maxBuckets.
func makeShards(maxBuckets int) []shard {
	n := 1
	for n < maxShards && maxBuckets/(n*2) >= minPerShard {
		n *= 2
	}
	shards := make([]shard, n)
	for i := range shards {
		shards[i].maxBuckets = max(maxBuckets/n, 1)
		shards[i].buckets = make(map[bucketKey]*bucket)
		shards[i].slots = make(map[slotKey]int)
	}
	return shards
}

// insert makes a full bucket for d. It first forgets what it finds idle among
// a few, and at the bound the fullest of a sample: that one loses least, and an
// exhausted bucket is not forgotten because of a flood of fresh subjects.
func (s *shard) insert(at instant, d *Demand) *bucket {
	n := sampleTidy
	if len(s.buckets) >= s.maxBuckets {
		n = sampleEvict
	}
	var victim bucketKey
	var fullest *bucket
	most := -1.0
	for k, b := range s.buckets { // begins at random
		if b.idle(at) {
			s.forget(k, b)
		} else if f := b.fullness(at); f > most {
			victim, fullest, most = k, b, f
		}
		if n--; n == 0 {
			break
		}
	}
	if len(s.buckets) >= s.maxBuckets && fullest != nil {
		s.forget(victim, fullest)
	}
	b := new(bucket)
	b.fill(at, d.Limit)
	// The subject may be cut out of a request's header: clone it, lest the
	// whole request stay in memory with the bucket.
	s.buckets[bucketKey{d.Limit.Policy, strings.Clone(d.Subject)}] = b
	s.most = max(s.most, len(s.buckets))
	return b
}

// forget drops a bucket, and tells those who know its place.
func (s *shard) forget(k bucketKey, b *bucket) {
	delete(s.buckets, k)
	b.limit = nil
}

// sweep forgets idle buckets and gives the map's memory back. It lets the lock
// go in between, so that no request waits for all of it; a range over a map
// stands that, as nothing is written while it holds the lock.
func (s *shard) sweep(at instant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for k, b := range s.buckets {
		if n++; n%sweepBatch == 0 {
			s.mu.Unlock()
			runtime.Gosched()
			s.mu.Lock()
			// b may be gone, or another's, since.
			if s.buckets[k] != b {
				continue
			}
		}
		if b.idle(at) {
			s.forget(k, b)
		}
	}
	if s.most >= shrinkFrom && len(s.buckets) < s.most/4 {
		s.buckets = rebuilt(s.buckets)
		s.most = len(s.buckets)
	}
	s.shrinkSlots()
}

// takeSlot raises the count of the requests in flight under k.
func (s *shard) takeSlot(k slotKey) {
	s.slots[k]++
	s.mostSlots = max(s.mostSlots, len(s.slots))
}

// releaseSlot lowers a count, never below 0.
func (s *shard) releaseSlot(k slotKey) {
	switch n := s.slots[k]; {
	case n > 1:
		s.slots[k] = n - 1
	case n == 1:
		delete(s.slots, k)
	}
}

func (s *shard) shrinkSlots() {
	if s.mostSlots >= shrinkFrom && len(s.slots) < s.mostSlots/4 {
		s.slots = rebuilt(s.slots)
		s.mostSlots = len(s.slots)
	}
}

// slotsFree reports whether every hold has its slot free. The shards are locked.
func (m *Memory) slotsFree(locked uint64, holds []Hold) bool {
	for i := range holds {
		h := &holds[i]
		wanted := 1
		for j := range i {
			if holds[j].Name == h.Name && holds[j].Subject == h.Subject {
				wanted++
			}
		}
		if m.shardOf(locked, h.Subject).slots[slotKey{h.Name, h.Subject}] > h.Max-wanted {
			return false
		}
	}
	return true
}

// takeSlots takes one slot for every hold. The shards are locked.
func (m *Memory) takeSlots(locked uint64, holds []Hold) {
	for i := range holds {
		m.shardOf(locked, holds[i].Subject).takeSlot(slotKey{holds[i].Name, holds[i].Subject})
	}
}

// rebuilt copies a map into one of its own size.
func rebuilt[K comparable, V any](m map[K]V) map[K]V {
	small := make(map[K]V, len(m))
	for k, v := range m {
		small[k] = v
	}
	return small
}
