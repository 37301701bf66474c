package keystore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// usePrecision is how exactly the time of a last use is noted: a request within
// it of the one before costs one atomic load.
const usePrecision = time.Second

// useInterval is the least time between two writes of one key's last use.
const useInterval = time.Minute

// useBatch is how many last uses go into one write.
const useBatch = 500

// lastUse is the last use of one secret.
type lastUse struct {
	at          atomic.Int64 // Unix nanoseconds; only ever forward
	mu          sync.Mutex   // guards addr and route
	addr, route string
	written     int64 // Unix nanoseconds; of the flusher alone
}

// uses lists the records whose last use is still to be written.
type uses struct {
	mu    sync.Mutex // guards list
	list  []*core
	limit int // past it a use is not listed; a later one of the same key may be

	flushing sync.Mutex // one flush at a time
}

// Used notes a use of the key: when, from where, by which route, with which of
// its secrets. It does no I/O and, within a second of the last use, no more than
// an atomic load. What is noted is written in batches: the first use within
// Options.FlushEvery, later ones at most once a minute.
func (e *Entry) Used(now time.Time, addr, route string, secret int) {
	if secret < 0 || secret >= len(e.secrets) {
		return
	}
	u, n := &e.secrets[secret].use, e.v.Wall(now).UnixNano()
	if n-u.at.Load() < int64(usePrecision) {
		return
	}
	u.mu.Lock()
	if n > u.at.Load() {
		u.at.Store(n)
		u.addr, u.route = addr, route
	}
	u.mu.Unlock()
	if c := e.core; !c.dirty.Load() && c.dirty.CompareAndSwap(false, true) {
		if !e.v.uses.mark(c) {
			c.dirty.Store(false)
		}
	}
}

func (u *uses) mark(c *core) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.list) >= u.limit {
		return false
	}
	u.list = append(u.list, c)
	return true
}

// flush writes the last uses that are due, or all. What could not be written
// stays for the next time.
func (v *Verifier) flush(ctx context.Context, now time.Time, all bool) error {
	u := &v.uses
	u.flushing.Lock()
	defer u.flushing.Unlock()
	u.mu.Lock()
	list := u.list
	u.list = nil
	u.mu.Unlock()

	// Half an interval early rather than a whole one late.
	due := int64(useInterval - min(v.o.FlushEvery, useInterval)/2)
	n := now.UnixNano()
	var batch []Use
	var cores []*core
	var first error
	write := func() {
		if len(batch) == 0 {
			return
		}
		err := v.o.Store.Touch(ctx, batch)
		for _, c := range cores {
			if err == nil {
				c.written = n
			} else {
				v.rewind(c)
				v.keep(c)
			}
		}
		if err != nil && first == nil {
			first = err
		}
		batch, cores = batch[:0:0], cores[:0:0]
	}
	for _, c := range list {
		if since := n - c.written; !all && since >= 0 && since < due {
			v.keep(c)
			continue
		}
		// From here on a use lists the record again.
		c.dirty.Store(false)
		before := len(batch)
		batch = v.gather(c, batch)
		if len(batch) > before {
			cores = append(cores, c)
		}
		if len(batch) >= useBatch {
			write()
		}
	}
	write()
	return first
}

// ScopeUser may be implemented by what is attached to an Entry: it knows which of
// the key's scopes were of use.
type ScopeUser interface {
	// TakeScopes returns the scopes that were of use since it was called before,
	// as the record writes them. What it returned and could not be written is
	// noted again at the scope's next use.
	TakeScopes() []string
}

// keep puts a record back on the list.
func (v *Verifier) keep(c *core) {
	c.dirty.Store(true)
	if !v.uses.mark(c) {
		c.dirty.Store(false)
	}
}

// gather appends the uses of a record that are not written yet. Their index is
// that of the newest version in memory, where a rotation may have moved them.
func (v *Verifier) gather(c *core, batch []Use) []Use {
	e := c.entry.Load()
	newest, before := e, len(batch)
	if held := v.table.get(c.id); held != nil {
		newest = held.entry.Load()
	}
	for _, s := range e.secrets {
		u := &s.use
		u.mu.Lock()
		at, addr, route := u.at.Load(), u.addr, u.route
		u.mu.Unlock()
		if at > u.written {
			u.written = at
			batch = append(batch, Use{ID: c.id, Secret: newest.indexOf(s.fp), At: time.Unix(0, at).UTC(), Addr: addr, Route: route})
		}
	}
	if user, ok := e.Attached().(ScopeUser); ok && len(batch) > before {
		batch[before].Scopes = user.TakeScopes()
	}
	return batch
}

// rewind forgets that a record's uses were written.
func (*Verifier) rewind(c *core) {
	for _, s := range c.entry.Load().secrets {
		s.use.written = 0
	}
}

// indexOf returns where a hash stands in this version; 0, the record itself,
// for one that another version may have had in a place that is gone.
func (e *Entry) indexOf(fp fingerprint) int {
	for j, s := range e.secrets {
		if s.fp == fp {
			return j
		}
	}
	return 0
}
