package keystore

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

var errHintsUnread = errors.New("the hints of imported keys could not be read from the keystore yet")

// hintIndex knows the hints of all imported keys, so that a credential of
// foreign shape needs no store to be refused. It is bounded by the store: some
// 60 bytes for each hint in use, and 16 ids at most once a hint was asked for.
// Hints stay until the process ends or the store is replaced, even when all
// their keys are revoked: such a hint costs one look-up and decides nothing.
type hintIndex struct {
	lens atomic.Uint32 // bit n: there are hints of n characters
	gen  atomic.Uint64 // rises with every change to an imported key
	// ready: the store's hints have been read.
	ready atomic.Bool
	mu    sync.RWMutex // guards m
	m     map[hintKey]*hintSet
}

// hintsTimeout is for reading all hints of a store, some million a second.
const hintsTimeout = 30 * time.Second

// hintKey is a hint without a pointer.
type hintKey struct {
	n uint8
	b [MaxHint]byte
}

// hintSet is the candidates of a hint; immutable.
type hintSet struct {
	ids   []ID
	epoch uint64
}

func makeHintKey(s string) (k hintKey) {
	k.n = uint8(copy(k.b[:], s))
	return k
}

func (k *hintKey) String() string { return string(k.b[:k.n]) }

// add notes a hint and forgets its candidates.
func (h *hintIndex) add(hint string) {
	if len(hint) < MinHint || len(hint) > MaxHint {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gen.Add(1)
	h.m[makeHintKey(hint)] = nil
	h.lens.Store(h.lens.Load() | 1<<len(hint))
}

// match appends the known hints that s begins with, the longest first.
func (h *hintIndex) match(s string, dst []hintKey) []hintKey {
	lens := h.lens.Load()
	if len(s) < MaxHint {
		lens &= 1<<(len(s)+1) - 1
	}
	if lens == 0 {
		return dst
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for lens != 0 {
		n := bits.Len32(lens) - 1
		lens &^= 1 << n
		k := makeHintKey(s[:n])
		if _, ok := h.m[k]; ok {
			dst = append(dst, k)
		}
	}
	return dst
}

// verifyForeign judges what has not the native shape: malformed, unless it
// begins like an imported key.
func (v *Verifier) verifyForeign(ctx context.Context, now time.Time, credential string, g Guard) Result {
	if !presentable(credential) {
		return Result{Outcome: Malformed}
	}
	var buf [MaxHint - MinHint + 1]hintKey
	hints := v.hints.match(credential, buf[:0])
	if len(hints) == 0 {
		if !v.hints.ready.Load() && len(credential) >= MinHint {
			return Result{Outcome: Unavailable, Err: errHintsUnread}
		}
		return Result{Outcome: Malformed}
	}
	a := attempt{ctx: ctx, now: now, credential: credential, digest: v.key.of(credential), guard: g}
	// Whose it is may be known, even where the key was revoked since.
	if k, ok := v.verified.get(&a.digest); ok {
		e, err := v.entryOf(ctx, k.id, now)
		if err == nil {
			for i, s := range e.secrets {
				if s.fp == k.fp && e.usable(i, now) {
					v.verifiedHits.Add(1)
					s.verified.CompareAndSwap(nil, &k.digest)
					return e.judge(i, now)
				}
			}
		}
	}
	entries, err := v.candidates(ctx, now, hints)
	if err != nil {
		return Result{Outcome: Unavailable, Err: err}
	}
	return v.tryCandidates(&a, entries)
}

// tryCandidates compares a credential with each of the records: all of them
// without hashing before the first is hashed.
func (v *Verifier) tryCandidates(a *attempt, entries []*Entry) Result {
	for _, e := range entries {
		if i, _ := v.recall(a, e); i >= 0 {
			a.refund()
			return e.judge(i, a.now)
		}
	}
	res := Result{Outcome: Unknown}
	started := time.Now()
	for _, e := range entries {
		if time.Since(started) > v.pool.wait { // 16 candidates do not wait 16 times
			return Result{Outcome: Overloaded, ID: e.core.id}
		}
		out, i := v.attempt(a, e)
		switch out {
		case Valid:
			a.refund()
			return e.judge(i, a.now)
		case Unavailable:
			return a.failed(out, e.core.id)
		}
		// What was compared outweighs what was not, except that a hash which
		// could not be made leaves the answer open.
		if res.Outcome == Unknown || out == Overloaded || (out == WrongSecret && res.Outcome == AttemptsExceeded) {
			res = Result{Outcome: out, ID: e.core.id}
		}
	}
	return res
}

// candidates returns the records in memory of all hints.
func (v *Verifier) candidates(ctx context.Context, now time.Time, hints []hintKey) ([]*Entry, error) {
	entries := make([]*Entry, 0, 16)
	for i := range hints {
		ids, err := v.hintIDs(ctx, now, &hints[i])
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			e, err := v.entryOf(ctx, id, now)
			if err != nil {
				return nil, err
			}
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// hintIDs returns the ids that share a hint, from the store where memory does
// not know or may not be trusted.
func (v *Verifier) hintIDs(ctx context.Context, now time.Time, k *hintKey) ([]ID, error) {
	h := &v.hints
	h.mu.RLock()
	set := h.m[*k]
	h.mu.RUnlock()
	if set != nil && set.epoch == v.epoch.Load() && v.trusted(now) {
		return set.ids, nil
	}
	hint := k.String()
	set, err := shared(ctx, v, "hint "+hint, v.patience(), func(ctx context.Context) (*hintSet, error) {
		epoch, gen := v.epoch.Load(), h.gen.Load()
		recs, err := v.o.Store.ByHint(ctx, hint)
		if err != nil {
			return nil, fmt.Errorf("read imported keys from keystore: %w", err)
		}
		set := &hintSet{epoch: epoch}
		for _, r := range recs {
			set.ids = append(set.ids, r.ID)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		// A change meanwhile may be one of these: then it serves only now.
		if h.gen.Load() == gen {
			h.m[makeHintKey(hint)] = set
		}
		return set, nil
	})
	if err != nil {
		return nil, err
	}
	return set.ids, nil
}

// loadHints reads all hints.
func (v *Verifier) loadHints(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hintsTimeout)
	defer cancel()
	if err := v.o.Store.Hints(ctx, func(hint string) { v.hints.add(hint) }); err != nil {
		return fmt.Errorf("read hints of imported keys: %w", err)
	}
	v.hints.ready.Store(true)
	return nil
}
