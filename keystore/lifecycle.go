package keystore

import (
	"context"
	"errors"
	"time"
)

// sweepEvery is how often open streams are judged by the clock.
const sweepEvery = 250 * time.Millisecond

// storeWord is what the log last said of the store.
type storeWord uint8

const (
	storeAnswers storeWord = iota
	storeDown
)

// closeTimeout is for writing the last uses on Close.
const closeTimeout = 5 * time.Second

// Start learns the store's state and begins to follow its changes, to cut
// streams and to write last uses. A store that cannot be read is no error: it is
// logged and tried again until it answers, and meanwhile keys get Unavailable.
// Calling Start again does nothing. Verify works before Start, but then reads
// the store for every key. It fails only after Close, or when ctx ends first.
func (v *Verifier) Start(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state.closed {
		return errors.New("start verifier: it is closed")
	}
	if v.state.started {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if v.nodes.store != nil {
		// Before anything in memory is trusted, so that nobody who waits for all
		// nodes overlooks this one. Where it fails the store is away, as the poll
		// will say.
		_ = v.beatNow(ctx)
		v.wg.Go(v.beat)
	}
	v.reportStore(v.poll(ctx))
	v.state.started = true
	v.wg.Go(v.follow)
	if w, ok := v.o.Store.(Waker); ok {
		v.wg.Go(func() { v.watch(w) })
	}
	v.wg.Go(func() { v.every(sweepEvery, func() { v.sweepStreams(v.now()) }) })
	v.wg.Go(func() { v.every(sweepEvery, v.recheck) })
	v.wg.Go(func() { v.every(backfillEvery, func() { v.storeDigests(v.ctx) }) })
	v.wg.Go(func() {
		v.every(v.o.FlushEvery, func() { v.reportFlush(v.flush(v.ctx, v.now(), false)) })
	})
	return nil
}

// Close writes the last uses, and ends everything that Start began. Calling it
// again does nothing. Afterwards nothing is read from the store any more: keys in
// memory are judged until that is stale, others get Unavailable.
func (v *Verifier) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state.closed {
		return nil
	}
	v.state.closed = true
	v.cancel()
	v.wg.Wait()
	v.verified.close()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := v.flush(ctx, v.now(), true)
	v.reportFlush(err)
	v.storeDigests(ctx)
	return errors.Join(err, v.leave(ctx))
}

// follow polls the store for changes until Close.
func (v *Verifier) follow() {
	wait := v.o.Poll
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-v.ctx.Done():
			return
		case <-timer.C:
		case <-v.woken:
		}
		err := v.poll(v.ctx)
		if v.ctx.Err() != nil {
			return
		}
		v.reportStore(err)
		if err != nil {
			wait = max(v.o.Poll, min(2*wait, feedBackoff))
		} else {
			wait = v.o.Poll
		}
		timer.Reset(wait)
	}
}

// sweepStreams ends the streams that the clock has ended: of keys that are past
// their end, and all of them when memory is too old to say that they may go on.
func (v *Verifier) sweepStreams(now time.Time) {
	v.streams.sweep(v.Wall(now))
	if at := v.confirmed.Load(); at != nil && now.Sub(*at) > max(v.o.MaxStaleness, v.o.Poll+time.Second) {
		v.streams.cutAll()
	}
}

func (v *Verifier) every(d time.Duration, do func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-v.ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}

// reload reads a record for background work.
func (v *Verifier) reload(id ID) (*Entry, error) {
	return v.load(v.ctx, id, v.now())
}

// reportStore notes whether the store answers, and logs when that changes.
func (v *Verifier) reportStore(err error) {
	v.storeUp.Store(err == nil)
	switch {
	case err != nil && v.told != storeDown:
		v.told = storeDown
		v.log().Error("the keystore does not answer: keys in memory go on for a while, others are refused",
			"max_staleness", v.o.MaxStaleness, "error", err)
	case err == nil && v.told == storeDown:
		v.told = storeAnswers
		v.log().Info("the keystore answers again")
	}
}

func (v *Verifier) reportFlush(err error) {
	if err != nil {
		v.log().Warn("last uses of keys could not be written; they are kept for the next time", "error", err)
	}
}
