package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	errLoadBusy    = errors.New("too many reads of the keystore are waiting")
	errLoadTimeout = errors.New("the keystore did not answer in time")
)

// load reads a record that is not in memory, or no longer trusted there. All who
// ask for the same id at the same time share one read, which the end of one
// caller's ctx does not stop.
func (v *Verifier) load(ctx context.Context, id ID, now time.Time) (*Entry, error) {
	v.table.misses.Add(1)
	if v.unknown.has(id, now) {
		return nil, ErrNotFound
	}
	left := v.patience()
	if v.probes.batch > 0 && v.table.get(id) == nil {
		asked := time.Now()
		switch known, err := v.exists(ctx, id); {
		case err != nil:
			return nil, err
		case !known:
			return nil, ErrNotFound
		}
		left -= time.Since(asked)
	}
	return shared(ctx, v, string(id[:]), left, func(ctx context.Context) (*Entry, error) {
		// Whoever looked before a read ended and asks after it needs no other.
		if e := v.held(id, now); e != nil {
			return e, nil
		}
		return v.fetch(ctx, id)
	})
}

// patience is how long a caller waits for what a read may take: a little longer, so
// that a read which ends in time is had.
func (v *Verifier) patience() time.Duration { return v.loadWait + v.loadWait/20 }

// shared runs read once for all who ask under the same key, at most loadSlots
// at a time and loadWait long. The caller waits until left has passed: a store that
// heeds no context holds its slot, not its callers.
func shared[T any](ctx context.Context, v *Verifier, key string, left time.Duration, read func(context.Context) (*T, error)) (*T, error) {
	ch := v.loads.DoChan(key, func() (any, error) {
		if v.waiting.Add(1) > loadQueue {
			v.waiting.Add(-1)
			return nil, errLoadBusy
		}
		defer v.waiting.Add(-1)
		ctx, cancel := context.WithTimeout(v.ctx, v.loadWait)
		defer cancel()
		select {
		case v.loadSem <- struct{}{}:
		case <-ctx.Done():
			return nil, errLoadTimeout
		}
		defer func() { <-v.loadSem }()
		var (
			val  *T
			err  error
			done = make(chan struct{})
		)
		v.onReader(func() {
			defer close(done)
			val, err = read(ctx)
		})
		<-done
		return val, err
	})
	limit := time.NewTimer(left)
	defer limit.Stop()
	select {
	case r := <-ch:
		// A key always stands for one type.
		val, ok := r.Val.(*T)
		if r.Err == nil && !ok {
			return nil, errors.New("read keystore: something else was read")
		}
		return val, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-limit.C:
		return nil, errLoadTimeout
	}
}

// readerIdle is how long a reader waits for more to read.
const readerIdle = 10 * time.Second

// onReader runs f on a reader that waits, or on a new one. SQLite in Go needs a deep
// stack; a goroutine for each read would grow its own, step by step, for an eighth of
// what the read takes. Their callers hold one of loadSlots each, so there are about as
// many.
func (v *Verifier) onReader(f func()) {
	select {
	case v.readers <- f:
	default:
		go v.reader(f)
	}
}

func (v *Verifier) reader(f func()) {
	idle := time.NewTimer(readerIdle)
	defer idle.Stop()
	for {
		f()
		idle.Reset(readerIdle)
		select {
		case f = <-v.readers:
		case <-idle.C:
			return
		case <-v.ctx.Done():
			return
		}
	}
}

// fetch reads a record into memory. A change that arrives while the store is
// read wins over what was read.
func (v *Verifier) fetch(ctx context.Context, id ID) (*Entry, error) {
	t := v.table
	epoch := v.epoch.Load()
	l := &loading{}
	t.mu.Lock()
	t.loading[id] = l
	t.mu.Unlock()

	rec, err := v.o.Store.Get(ctx, id)

	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.loading, id)
	if n := l.newer; n != nil && (rec == nil || err != nil || n.Seq >= rec.Seq) {
		rec, err = n, nil
	}
	switch {
	case errors.Is(err, ErrNotFound):
		if c := t.get(id); c != nil {
			t.remove(c)
		}
		v.unknown.put(id, v.now(), unknownFor)
		return nil, ErrNotFound
	case err != nil:
		return nil, fmt.Errorf("read key from keystore: %w", err)
	case rec == nil || rec.ID != id:
		return nil, errors.New("read key from keystore: another record was returned")
	}
	return v.place(rec, epoch), nil
}

// place puts a record into memory, or confirms what is there; under the table's
// lock. An older version than the one in memory changes nothing.
func (v *Verifier) place(rec *Record, epoch uint64) *Entry {
	c := v.table.get(rec.ID)
	if c == nil {
		c = &core{id: rec.ID}
		if !rec.LastUsedAt.IsZero() {
			c.written = rec.LastUsedAt.UnixNano()
		}
		e := v.newEntry(c, rec, nil, epoch)
		c.entry.Store(e)
		v.table.insert(c)
		return e
	}
	cur := c.entry.Load()
	if rec.Seq <= cur.rec.Seq && cur.epoch.Load() >= v.restarted.Load() {
		if cur.epoch.Load() < epoch {
			cur.epoch.Store(epoch)
		}
		return cur
	}
	e := v.newEntry(c, rec, cur, epoch)
	c.entry.Store(e)
	cur.live.Store(false)
	return e
}
