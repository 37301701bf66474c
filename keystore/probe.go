package keystore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Prober is a Store that tells cheaper than by Get which ids are nobody's: those of
// strangers are most of what is asked for.
type Prober interface {
	// Prober returns how many ids are asked for at once, at most, and how: known[i]
	// is set where ids[i] is that of a key, a revoked one too. 0 where it is no
	// cheaper here.
	Prober() (batch int, probe func(ctx context.Context, ids []ID, known []bool) error)
}

// probes asks a [Prober] for all who wait at the same time. What a query costs
// besides its ids is most of it, so that a flood of unknown ids costs a third as much
// as one by one.
type probes struct {
	batch int // 0: the store has no way to ask
	ask   func(ctx context.Context, ids []ID, known []bool) error
	// changes counts the changes that were applied; raised under the table's lock.
	changes atomic.Uint64

	mu        sync.Mutex
	waiting   []*probeWait
	gathering bool // a reader is on its way to take them
}

type probeWait struct {
	id     ID
	answer chan probeAnswer // takes the one answer without a wait
}

type probeAnswer struct {
	known bool
	err   error
}

var errClosed = errors.New("the verifier is closed")

var probeWaits = sync.Pool{New: func() any { return &probeWait{answer: make(chan probeAnswer, 1)} }}

// exists reports whether the store may have a key of this id, revoked or not: no is
// certain. It waits no longer than a read may take.
func (v *Verifier) exists(ctx context.Context, id ID) (bool, error) {
	w := probeWaits.Get().(*probeWait) //nolint:errcheck // the pool holds nothing else
	w.id = id
	p := &v.probes
	p.mu.Lock()
	if len(p.waiting) >= loadQueue {
		p.mu.Unlock()
		probeWaits.Put(w)
		return true, nil // reads have a bound of their own, and one for all who ask alike
	}
	p.waiting = append(p.waiting, w)
	first := !p.gathering
	p.gathering = true
	p.mu.Unlock()
	if first {
		v.onReader(v.runProbe)
	}
	limit := time.NewTimer(v.patience())
	defer limit.Stop()
	select {
	case a := <-w.answer:
		probeWaits.Put(w)
		return a.known, a.err
	case <-ctx.Done():
		p.leave(w)
		return false, ctx.Err()
	case <-limit.C:
		p.leave(w)
		return false, errLoadTimeout
	}
}

// leave takes out one who no longer waits. Where it is being asked for already its
// answer is still to come, and so it is not used again.
func (p *probes) leave(w *probeWait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, w); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		probeWaits.Put(w)
	}
}

// runProbe asks once, for as many as wait by then.
func (v *Verifier) runProbe() {
	// Other goroutines that can run now may have come to ask as well.
	runtime.Gosched()
	select {
	case v.loadSem <- struct{}{}:
		defer func() { <-v.loadSem }()
	case <-v.ctx.Done():
	}
	batch, more := v.probes.take()
	if more {
		v.onReader(v.runProbe)
	}
	if len(batch) == 0 {
		return // all have left
	}
	known := make([]bool, len(batch))
	if err := v.probe(batch, known); err != nil {
		for _, w := range batch {
			w.answer <- probeAnswer{err: err}
		}
		return
	}
	for i, w := range batch {
		w.answer <- probeAnswer{known: known[i]}
	}
}

// take returns the longest waiting, at most a batch, and whether there are more: then
// the caller has to see to it that somebody takes them.
func (p *probes) take() (batch []*probeWait, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(p.waiting), p.batch)
	batch = make([]*probeWait, n)
	copy(batch, p.waiting)
	rest := copy(p.waiting, p.waiting[n:])
	clear(p.waiting[rest:])
	p.waiting = p.waiting[:rest]
	p.gathering = rest > 0
	return batch, p.gathering
}

// probe asks the store, and remembers for a while who is nobody. Where changes came
// meanwhile, nobody is that yet: known sends them to Get, which takes such changes.
func (v *Verifier) probe(batch []*probeWait, known []bool) error {
	if v.ctx.Err() != nil {
		return errClosed
	}
	ids := make([]ID, len(batch))
	for i, w := range batch {
		ids[i] = w.id
	}
	before := v.probes.changes.Load()
	ctx, cancel := context.WithTimeout(v.ctx, v.loadWait)
	defer cancel()
	if err := v.probes.ask(ctx, ids, known); err != nil {
		return fmt.Errorf("read key from keystore: %w", err)
	}
	v.table.mu.Lock()
	defer v.table.mu.Unlock()
	changed, now := v.probes.changes.Load() != before, v.now()
	for i, id := range ids {
		switch {
		case known[i]:
		case changed:
			known[i] = true
		default:
			v.unknown.put(id, now, unknownFor)
		}
	}
	return nil
}
