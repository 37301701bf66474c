package keystore

import (
	"context"
	"errors"
	"testing"
	"time"
)

// newProbed is a fixture whose store is a Prober of batches of 4.
func newProbed(t testing.TB, recs ...*Record) *fixture {
	s := newFakeStore(recs...)
	s.batch = 4
	return newFixture(t, Options{Store: s}, recs...)
}

// holdSlots has every slot taken by one question of one stranger, where the store
// hangs.
func (f *fixture) holdSlots() (strangers []<-chan Result) {
	f.t.Helper()
	for i := range loadSlots {
		stranger, _ := newKey()
		strangers = append(strangers, f.async(context.Background(), stranger, nil))
		waitFor(f.t, "a question", func() bool { return len(f.store.probes()) == i+1 })
	}
	return strangers
}

// wantWaiting waits until n ids are still to be asked for.
func (f *fixture) wantWaiting(n int) {
	f.t.Helper()
	waitFor(f.t, "the queue", func() bool {
		f.probes.mu.Lock()
		defer f.probes.mu.Unlock()
		return len(f.probes.waiting) == n
	})
}

func TestAProbedIDIsAskedForOnceASecondAndOnlyAKeyIsRead(t *testing.T) {
	key, rec := newKey()
	f := newProbed(t, rec)
	stranger, _ := newKey()
	for range 3 {
		f.want(stranger, nil, Unknown)
	}
	if n := len(f.store.probes()); n != 1 || f.store.getCount() != 0 {
		t.Errorf("%d probes and %d reads, want 1 and none", n, f.store.getCount())
	}
	f.clock.advance(unknownFor)
	f.want(stranger, nil, Unknown)
	if n := len(f.store.probes()); n != 2 {
		t.Errorf("%d probes a second later, want 2", n)
	}
	f.want(key, nil, Valid)
	f.want(key, nil, Valid)
	if f.store.getCount() != 1 {
		t.Errorf("%d reads of a key, want 1", f.store.getCount())
	}
}

// TestWhoeverWaitsIsProbedTogether: keys and strangers in one question, each with its
// own answer.
func TestWhoeverWaitsIsProbedTogether(t *testing.T) {
	key, rec := newKey()
	f := newProbed(t, rec)
	hang := make(chan struct{})
	f.store.onProbe = func([]ID) { <-hang }
	ctx := context.Background()
	strangers := f.holdSlots()
	// Ten more have to wait: one is of a key, one leaves.
	known := f.async(ctx, key, nil)
	leaving, leave := context.WithCancel(ctx)
	left, _ := newKey()
	gone := f.async(leaving, left, nil)
	for range 8 {
		stranger, _ := newKey()
		strangers = append(strangers, f.async(ctx, stranger, nil))
	}
	f.wantWaiting(10)
	leave()
	wantSoon(t, "the client that left", gone, Unavailable)
	f.wantWaiting(9) // it is not asked for any more
	close(hang)
	wantSoon(t, "the key", known, Valid)
	for _, s := range strangers {
		wantSoon(t, "a stranger", s, Unknown)
	}
	sizes := make(map[int]int)
	for _, ids := range f.store.probes() {
		sizes[len(ids)]++
	}
	if sizes[1] != loadSlots+1 || sizes[4] != 2 || len(sizes) != 2 {
		t.Errorf("questions by size: %v, want %d of 1 and 2 of 4", sizes, loadSlots+1)
	}
}

func TestAKeyCreatedWhileItIsProbedIsNotUnknown(t *testing.T) {
	key, rec := newKey()
	f := newProbed(t)
	f.store.onProbe = func([]ID) {
		f.store.onProbe = nil
		f.Apply(f.store.put(rec))
	}
	f.want(key, nil, Valid)
	f.want(key, nil, Valid)
}

func TestAProbeThatFailsIsUnavailableAndNotRemembered(t *testing.T) {
	f := newProbed(t)
	key, _ := newKey()
	f.store.setAway(true)
	if r := f.want(key, nil, Unavailable); !errors.Is(r.Err, errStoreAway) {
		t.Errorf("got %v", r.Err)
	}
	f.store.setAway(false)
	f.want(key, nil, Unknown)
}

func TestAProbeThatNeverAnswersHoldsNobodyForLong(t *testing.T) {
	held, rec := newKey()
	f := newProbed(t, rec)
	f.want(held, nil, Valid)
	f.loadWait = 20 * time.Millisecond
	hang := make(chan struct{})
	f.store.onProbe = func([]ID) { <-hang }
	key, _ := newKey()
	if r := f.want(key, nil, Unavailable); !errors.Is(r.Err, errLoadTimeout) {
		t.Errorf("got %v", r.Err)
	}
	f.want(held, nil, Valid)
	close(hang)
	waitFor(t, "the probe to end", func() bool { return f.verify(key, nil).Outcome == Unknown })
}

// TestPastTheBoundOfProbesAReadDecides: requests for one key share a read, however many
// they are, and only the bound of reads says that it is too many.
func TestPastTheBoundOfProbesAReadDecides(t *testing.T) {
	key, rec := newKey()
	f := newProbed(t, rec)
	f.probes.gathering = true // by a reader that never comes
	f.probes.waiting = make([]*probeWait, loadQueue)
	stranger, _ := newKey()
	f.want(stranger, nil, Unknown)
	f.want(key, nil, Valid)
	f.waiting.Store(loadQueue)
	stranger, _ = newKey()
	if r := f.want(stranger, nil, Unavailable); !errors.Is(r.Err, errLoadBusy) {
		t.Errorf("got %v", r.Err)
	}
	if len(f.probes.waiting) != loadQueue || len(f.store.probes()) != 0 {
		t.Error("it waits all the same")
	}
	f.probes.waiting = nil
}

func TestManyRequestsForOneKeyAreServedThoughTheStoreStalls(t *testing.T) {
	key, rec := newKey()
	f := newProbed(t, rec)
	hang := make(chan struct{})
	f.store.onProbe = func([]ID) { <-hang }
	f.store.block = hang
	var all []<-chan Result
	for range 3 * loadQueue {
		all = append(all, f.async(context.Background(), key, nil))
	}
	f.wantWaiting(loadQueue)
	close(hang)
	for _, a := range all {
		wantSoon(t, "a request", a, Valid)
	}
	if n := f.store.getCount(); n != 1 {
		t.Errorf("%d reads, want 1", n)
	}
}

func TestProbeAndReadTogetherTakeNoLongerThanARead(t *testing.T) {
	key, rec := newKey()
	f := newProbed(t, rec)
	f.loadWait = time.Second
	hang := make(chan struct{})
	defer close(hang)
	var probed time.Time
	f.store.onProbe = func([]ID) {
		probed = time.Now()
		<-time.After(f.loadWait * 3 / 4)
	}
	f.store.onGet = func(ID) { <-hang }
	f.want(key, nil, Unavailable)
	if took := time.Since(probed); took > f.loadWait*3/2 {
		t.Errorf("it took %v", took)
	}
}

func TestWhoeverWaitsForAProbeIsToldThatTheVerifierCloses(t *testing.T) {
	f := newProbed(t)
	hang := make(chan struct{})
	f.store.onProbe = func([]ID) { <-hang }
	ctx := context.Background()
	f.holdSlots()
	var waiting []<-chan Result
	for range 9 {
		stranger, _ := newKey()
		waiting = append(waiting, f.async(ctx, stranger, nil))
	}
	f.wantWaiting(9)
	f.cancel() // as Close does first
	for _, w := range waiting {
		wantSoon(t, "one that waits", w, Unavailable)
	}
	close(hang)
}
