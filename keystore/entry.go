package keystore

import (
	"sync"
	"sync/atomic"
	"time"
)

// Entry is one version of one record in memory. When the record changes, another
// Entry takes its place, so that what is read from one Entry always belongs
// together.
type Entry struct {
	v       *Verifier
	core    *core
	rec     *Record
	secrets []*secretState // one for each of rec.Secrets
	// epoch is the Verifier's epoch in which the store last confirmed the record.
	epoch atomic.Uint64
	// live is cleared once another version has taken its place, or the record
	// left memory; under the table's lock.
	live     atomic.Bool
	attached atomic.Pointer[any]
}

// core is what the versions of one record share while it is in memory.
type core struct {
	id    ID
	next  atomic.Pointer[core] // in the table's chain
	entry atomic.Pointer[Entry]
	ref   atomic.Bool // used since the clock's hand last passed
	pos   int         // in the table's ring; under the table's lock

	streams *streamSet // where its open requests were last; under their shard's lock

	mu     sync.Mutex // guards fails and failAt
	fails  uint32     // wrong secrets that had to be hashed, halved each minute
	failAt int64      // Unix nanoseconds of the last halving

	dirty   atomic.Bool // in the list of last uses to be written
	written int64       // Unix nanoseconds; of the flusher alone
}

// secretState is what is known of one bcrypt hash, whatever version of the
// record holds it. A key is never hashed twice while this lives.
type secretState struct {
	fp fingerprint
	// sound: a bcrypt hash of a cost that is compared.
	sound bool
	// verified is the keyed digest of the one key that this hash belongs to,
	// once that is known. It is never changed afterwards.
	verified atomic.Pointer[digest]
	use      lastUse
}

// Record returns the record; it must not be changed.
func (e *Entry) Record() *Record { return e.rec }

// Attached returns what Attach left here, else nil.
func (e *Entry) Attached() any {
	if p := e.attached.Load(); p != nil {
		return *p
	}
	return nil
}

// Attach keeps x, something made from this version of the record, for later
// requests. It is gone once the record changes.
func (e *Entry) Attach(x any) { e.attached.Store(&x) }

// match returns the secret whose key is known to have this digest, else −1.
func (e *Entry) match(d *digest, now time.Time) int {
	for i, s := range e.secrets {
		if p := s.verified.Load(); p != nil && p.equal(d) && e.usable(i, now) {
			return i
		}
	}
	return -1
}

// usable reports whether a secret still counts at now.
func (e *Entry) usable(i int, now time.Time) bool {
	end := e.rec.Secrets[i].NotAfter
	return end.IsZero() || e.v.Wall(now).Before(end)
}

// newEntry makes a version of a record; what is known of its hashes is taken
// over from prev, which may be nil.
func (v *Verifier) newEntry(c *core, rec *Record, prev *Entry, epoch uint64) *Entry {
	e := &Entry{v: v, core: c, rec: rec, secrets: make([]*secretState, len(rec.Secrets))}
	for i := range rec.Secrets {
		fp := v.key.fingerprint(rec.Secrets[i].Hash)
		if prev != nil {
			for _, s := range prev.secrets {
				if s.fp == fp {
					e.secrets[i] = s
				}
			}
		}
		if e.secrets[i] == nil {
			err := ValidHash(rec.Secrets[i].Hash)
			e.secrets[i] = &secretState{fp: fp, sound: err == nil}
			if err != nil {
				v.log().Warn("a key's hash cannot be compared and is never right", "key_id", rec.ID.String(), "secret", i, "error", err)
			}
		}
	}
	e.epoch.Store(epoch)
	e.live.Store(true)
	return e
}

// touch gives the record another round in memory.
func (c *core) touch() {
	if !c.ref.Load() {
		c.ref.Store(true)
	}
}

const failureHalfLife = int64(time.Minute)

// failed notes a wrong secret that had to be hashed.
func (c *core) failed(now time.Time) {
	c.mu.Lock()
	c.decay(now.UnixNano())
	if c.fails < 1<<20 {
		c.fails++
	}
	c.mu.Unlock()
}

// recentFailures says how much this id is under attack.
func (c *core) recentFailures(now time.Time) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decay(now.UnixNano())
	return c.fails
}

func (c *core) decay(now int64) {
	n := (now - c.failAt) / failureHalfLife
	if c.fails == 0 || n < 0 {
		c.failAt = now
		return
	}
	c.fails >>= min(uint64(n), 31)
	c.failAt += n * failureHalfLife
}
