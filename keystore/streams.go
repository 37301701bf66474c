package keystore

import (
	"errors"
	"sync"
	"time"
)

// Stream is an open request of a key: an upgraded connection, an event stream,
// a long answer.
//
// Both methods are called with an internal lock held, so that neither is called
// once Leave has returned: they must return at once and call nothing of the
// Verifier or its entries. Cancelling a context is fine.
type Stream interface {
	// Allowed reports whether the stream may go on under this version of the
	// record at now.
	Allowed(rec *Record, now time.Time) bool
	// Cut ends the stream; it is called at most once for each Join.
	Cut()
}

// StreamNode places a Stream in the list of its key's. It is part of whatever
// the caller keeps for a request, and may be used again after Leave.
type StreamNode struct {
	Stream Stream

	set        *streamSet
	prev, next *StreamNode
	cut        bool
}

// Join adds an open request to those that are cut when the record no longer
// allows them: it is judged as soon as this process learns of a change of the
// record, and, four times a second, while the record or one of its secrets is
// past its end. A request whose record changed since it was
// verified is judged at once. n must not be in any list.
func (e *Entry) Join(n *StreamNode) {
	s := &e.v.streams
	sh := s.shard(e.core.id)
	sh.mu.Lock()
	set := e.core.streams
	if set == nil || !set.listed || set.id != e.core.id { // gone meanwhile, maybe another key's
		set = sh.open(e.core.id)
		e.core.streams = set
	}
	set.idle = false
	rec := e.rec
	// Read from a store that another has taken the place of, the record has a change
	// number that says nothing there: see forget. restarted is set before forget
	// looks at any shard, so that either side sees the other.
	foreign := e.epoch.Load() < e.v.restarted.Load()
	if foreign {
		old := *rec
		old.Seq = -1
		rec = &old
	}
	if set.rec == nil || set.rec.Seq < rec.Seq {
		set.rec = rec
	}
	set.push(n)
	newest := set.rec
	if newest.Seq > rec.Seq {
		n.judge(newest, e.v.wallNow())
	}
	sh.mu.Unlock()
	// What replaces an entry, or drops it from memory, marks it before it looks
	// for streams, so that either side sees the other.
	if newest.Seq <= rec.Seq && (foreign || !e.live.Load()) {
		e.v.rejudge(e.core.id)
	}
}

// Leave takes the request out again. For one that is in no list it does nothing.
func (e *Entry) Leave(n *StreamNode) {
	sh := e.v.streams.shard(e.core.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if n.set != nil {
		sh.drop(n)
	}
}

// streams holds the open requests by key. It has one member for each key that
// has any or had one half a second ago.
type streams struct {
	shards [64]streamShard
	// mu guards again: ids whose record was not in memory when it was needed,
	// to be read in the background. Only ids with open streams are in it.
	mu    sync.Mutex
	again map[ID]struct{}
}

type streamShard struct {
	mu   sync.Mutex // guards all below, and every node and set in it
	sets map[ID]*streamSet
	free *streamSet // sets to use again, so that joining allocates nothing
	_    [40]byte
}

// streamSet is what is open of one key. It stays a while when nothing is, because
// most keys come again at once.
type streamSet struct {
	id   ID
	rec  *Record     // the newest version seen; nil where nothing is open
	head *StreamNode // nil: nothing is open
	idle bool        // nothing was open since before the last sweep
	// listed: it is among its shard's sets.
	listed bool
	free   *streamSet
}

func (s *streams) init() {
	s.again = make(map[ID]struct{})
	for i := range s.shards {
		s.shards[i].sets = make(map[ID]*streamSet)
	}
}

func (s *streams) shard(id ID) *streamShard {
	return &s.shards[(uint(id[3])*31+uint(id[7]))%uint(len(s.shards))]
}

// open reports whether a key has open streams.
func (s *streams) open(id ID) bool {
	sh := s.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	set := sh.sets[id]
	return set != nil && set.head != nil
}

// changed judges the open streams of a record that changed.
func (s *streams) changed(rec *Record, now time.Time) {
	sh := s.shard(rec.ID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if set := sh.sets[rec.ID]; set != nil && set.head != nil && rec.Seq >= set.rec.Seq {
		set.rec = rec
		set.judge(now)
	}
}

// gone cuts the open streams of a key that does not exist any more.
func (s *streams) gone(id ID) {
	sh := s.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if set := sh.sets[id]; set != nil {
		for n := set.head; n != nil; n = n.next {
			n.end()
		}
	}
}

// sweep judges the open streams of keys that time alone has changed, and forgets
// keys that have had none for a while.
func (s *streams) sweep(now time.Time) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for _, set := range sh.sets {
			switch {
			case set.head == nil && set.idle:
				sh.forget(set)
			case set.head == nil:
				set.idle = true
			case timeHasCome(set.rec, now):
				set.judge(now)
			}
		}
		sh.mu.Unlock()
	}
}

// cutAll ends every open stream.
func (s *streams) cutAll() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for _, set := range sh.sets {
			for n := set.head; n != nil; n = n.next {
				n.end()
			}
		}
		sh.mu.Unlock()
	}
}

// timeHasCome reports whether a record is past its end, or a secret of it has
// lately ended. Of both a request may join that was verified just before.
func timeHasCome(rec *Record, now time.Time) bool {
	if !rec.ExpiresAt.IsZero() && !now.Before(rec.ExpiresAt) {
		return true
	}
	for i := range rec.Secrets {
		if end := rec.Secrets[i].NotAfter; !end.IsZero() && !now.Before(end) && now.Sub(end) < time.Minute {
			return true
		}
	}
	return false
}

// forget makes every key with open streams be read again, and lets what is read
// count whatever its change number: the store is another one.
func (s *streams) forget() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for id, set := range sh.sets {
			if set.head == nil {
				continue
			}
			old := *set.rec
			old.Seq = -1
			set.rec = &old
			s.later(id)
		}
		sh.mu.Unlock()
	}
}

// all calls later for every key with open streams.
func (s *streams) all() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for id, set := range sh.sets {
			if set.head != nil {
				s.later(id)
			}
		}
		sh.mu.Unlock()
	}
}

func (s *streams) later(id ID) {
	s.mu.Lock()
	s.again[id] = struct{}{}
	s.mu.Unlock()
}

// rejudge judges a key's streams by the record in memory, or has it read.
func (v *Verifier) rejudge(id ID) {
	if c := v.table.get(id); c != nil {
		if e := c.entry.Load(); e.live.Load() {
			v.streams.changed(e.rec, v.wallNow())
			return
		}
	}
	v.streams.later(id)
}

// recheck reads the records that open streams have to be judged by and that are
// not in memory. It waits for the store, which sweep must not.
func (v *Verifier) recheck() {
	s := &v.streams
	s.mu.Lock()
	again := s.again
	if len(again) == 0 {
		s.mu.Unlock() // the map stays shared, and must not be walked
		return
	}
	s.again = make(map[ID]struct{})
	s.mu.Unlock()
	for id := range again {
		if !s.open(id) {
			continue
		}
		e, err := v.reload(id)
		switch {
		case err == nil:
			s.changed(e.rec, v.wallNow())
		case errors.Is(err, ErrNotFound):
			s.gone(id)
		default:
			s.later(id) // until the store answers
		}
	}
}

func (sh *streamShard) open(id ID) *streamSet {
	if set := sh.sets[id]; set != nil {
		return set
	}
	set := sh.free
	if set == nil {
		set = new(streamSet)
	}
	sh.free, set.free = set.free, nil
	set.id, set.listed = id, true
	sh.sets[id] = set
	return set
}

func (sh *streamShard) drop(n *StreamNode) {
	set := n.set
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		set.head = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	}
	n.set, n.prev, n.next, n.cut = nil, nil, nil, false
	if set.head == nil {
		set.rec = nil
	}
}

// forget drops a key with nothing open. The set is used again, for another key.
func (sh *streamShard) forget(set *streamSet) {
	delete(sh.sets, set.id)
	*set = streamSet{free: sh.free}
	sh.free = set
}

func (set *streamSet) push(n *StreamNode) {
	n.set, n.prev, n.next, n.cut = set, nil, set.head, false
	if set.head != nil {
		set.head.prev = n
	}
	set.head = n
}

func (set *streamSet) judge(now time.Time) {
	for n := set.head; n != nil; n = n.next {
		n.judge(set.rec, now)
	}
}

func (n *StreamNode) judge(rec *Record, now time.Time) {
	if !n.cut && !n.Stream.Allowed(rec, now) {
		n.end()
	}
}

func (n *StreamNode) end() {
	if !n.cut {
		n.cut = true
		n.Stream.Cut()
	}
}
