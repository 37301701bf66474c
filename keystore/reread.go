package keystore

import (
	"context"
	"sync/atomic"
	"time"
)

// rereadsPerSecond bounds how often a wrong secret makes the store be asked
// again, over all callers, so that a flood of guesses is no flood of reads.
const rereadsPerSecond = 50

// rereads counts within one second. It is written by whoever asks.
type rereads struct {
	second atomic.Int64 // Unix
	n      atomic.Int64
}

// allow reports whether one more may be made at now. Two callers at the turn of
// a second may both begin the count anew: the bound is then missed by a few.
func (r *rereads) allow(now time.Time) bool {
	if s := now.Unix(); r.second.Swap(s) != s {
		r.n.Store(0)
	}
	return r.n.Add(1) <= rereadsPerSecond
}

// reread asks the store for a record whose secret did not match: another process
// may have rotated it an instant ago, and the feed not have brought that yet. It
// returns nil where there is nothing newer. The attempt was charged before, so
// that an address asks no more often than it may guess.
func (v *Verifier) reread(ctx context.Context, e *Entry, now time.Time) *Entry {
	if !v.rereads.allow(now) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	rec, err := v.o.Store.Get(ctx, e.core.id)
	if err != nil || rec.Seq <= e.rec.Seq {
		return nil // what memory holds decides
	}
	v.apply(rec)
	return v.held(e.core.id, now)
}
