package keystore

import (
	"context"
	"fmt"
	"time"
)

const (
	// feedTimeout is for one call of the store, unless Options say otherwise.
	feedTimeout = 2 * time.Second
	// feedPage is how many changes are read at once.
	feedPage = 1000
	// feedBackoff is the longest pause between tries while the store fails, so
	// that a change still arrives within a second of its return.
	feedBackoff = 500 * time.Millisecond
)

// Apply makes a change of this process hold from now on; the feed would bring
// it a little later. rec is the record as the store returned it. One that is
// older than what is in memory changes nothing.
func (v *Verifier) Apply(rec *Record) {
	if rec != nil {
		v.apply(rec)
	}
}

// OnRevocationLag has fn called with the time that passed between a revocation
// and the moment this process knew, whenever the feed brings one. nil: nobody.
func (v *Verifier) OnRevocationLag(fn func(time.Duration)) {
	if fn == nil {
		v.onLag.Store(nil)
		return
	}
	v.onLag.Store(&fn)
}

// apply brings a changed record into memory, where it is held or being read,
// and judges its open streams.
func (v *Verifier) apply(rec *Record) {
	t := v.table
	t.mu.Lock()
	if l := t.loading[rec.ID]; l != nil && (l.newer == nil || l.newer.Seq < rec.Seq) {
		l.newer = rec
	}
	if c := t.get(rec.ID); c != nil {
		v.place(rec, v.epoch.Load())
	}
	v.probes.changes.Add(1) // before: see probe
	v.unknown.drop(rec.ID)
	t.mu.Unlock()
	if rec.Hint != "" {
		v.hints.add(rec.Hint)
	}
	v.streams.changed(rec, v.wallNow())
}

// poll asks the store whether anything changed, and applies what did.
func (v *Verifier) poll(ctx context.Context) error {
	started := v.now()
	seq, history, err := v.storeSeq(ctx)
	if err != nil {
		return err
	}
	switch {
	case v.seqKnown && history != "" && v.history != "" && history != v.history:
		v.log().Warn("another keystore, or a standby, took over: everything is read again", "seq", seq, "before", v.seq)
		v.restart()
		v.seq = seq
	case !v.seqKnown:
		// Before this nothing in memory was trusted.
		v.seq, v.seqKnown = seq, true
		v.epoch.Add(1)
	case seq < v.seq:
		v.log().Warn("the keystore is older than it was: everything is read again", "seq", seq, "before", v.seq)
		v.restart()
		v.seq = seq
	}
	if history != "" {
		v.history = history
	}
	if !v.hints.ready.Load() {
		if err := v.loadHints(ctx); err != nil {
			return err
		}
	}
	if err := v.catchUp(ctx, seq); err != nil {
		return err
	}
	if last := v.confirmed.Load(); last != nil && started.Sub(*last) > v.o.MaxStaleness+time.Second {
		// The feed has brought all changes; after so long an absence nothing is
		// taken for granted all the same.
		v.epoch.Add(1)
		v.streams.all()
		if v.nodes.store != nil {
			_ = v.beatNow(ctx) // it may have been forgotten: see Start
		}
	}
	v.confirmed.Store(&started)
	v.reportClock()
	v.confirmApplied(v.seq)
	return nil
}

// catchUp applies the changes up to seq.
func (v *Verifier) catchUp(ctx context.Context, seq int64) error {
	for limit := feedPage; v.seq < seq; {
		recs, err := v.changedSince(ctx, limit)
		if err != nil {
			return err
		}
		for _, rec := range recs {
			v.observe(rec)
			v.apply(rec)
		}
		if len(recs) < limit {
			v.seq = seq
			if n := len(recs); n > 0 {
				v.seq = max(seq, recs[n-1].Seq)
			}
			return nil
		}
		// The page may end between records of one change: that change is read
		// again. Where it fills the page by itself, the page is too short.
		if last := recs[len(recs)-1].Seq; last-1 > v.seq {
			v.seq = last - 1
		} else {
			limit *= 2
		}
	}
	return nil
}

// observe reports how long a revocation took to arrive.
func (v *Verifier) observe(rec *Record) {
	fn := v.onLag.Load()
	if fn == nil || rec.RevokedAt.IsZero() {
		return
	}
	if c := v.table.get(rec.ID); c != nil && c.entry.Load().rec.RevokedAt.IsZero() {
		(*fn)(max(0, v.wallNow().Sub(rec.RevokedAt)))
	}
}

// restart forgets all that came from a store which is another one now: its
// change numbers mean nothing any more.
func (v *Verifier) restart() {
	v.table.mu.Lock()
	v.probes.changes.Add(1)
	v.restarted.Store(v.epoch.Add(1))
	v.table.clear()
	v.table.mu.Unlock()
	v.hints.reset()
	v.streams.forget()
}

func (v *Verifier) storeSeq(ctx context.Context) (seq int64, history string, err error) {
	ctx, cancel := context.WithTimeout(ctx, v.o.PollTimeout)
	defer cancel()
	if l, ok := v.o.Store.(Lineage); ok {
		seq, history, err = l.SeqIn(ctx)
	} else {
		seq, err = v.o.Store.Seq(ctx)
	}
	if err != nil {
		return 0, "", fmt.Errorf("read change number of keystore: %w", err)
	}
	return seq, history, nil
}

func (v *Verifier) changedSince(ctx context.Context, limit int) ([]*Record, error) {
	ctx, cancel := context.WithTimeout(ctx, v.o.PollTimeout)
	defer cancel()
	recs, err := v.o.Store.ChangedSince(ctx, v.seq, limit)
	if err != nil {
		return nil, fmt.Errorf("read changes of keystore: %w", err)
	}
	return recs, nil
}

// reset forgets all hints.
func (h *hintIndex) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready.Store(false)
	h.gen.Add(1)
	h.lens.Store(0)
	clear(h.m)
}
