package keystore

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// fleetStore is a fakeStore that wakes, has a history and knows its nodes.
type fleetStore struct {
	*fakeStore
	wake chan struct{} // each value is one call of wake

	mu      sync.Mutex // guards what follows
	history string
	beats   []Node
	left    []string
	events  []string // of beats and of reads of the change number, in order
}

func (s *fleetStore) Watch(ctx context.Context, wake func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			wake()
		}
	}
}

func (s *fleetStore) SeqIn(ctx context.Context) (int64, string, error) {
	seq, err := s.Seq(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, "seq")
	return seq, s.history, err
}

func (s *fleetStore) Beat(_ context.Context, n Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beats = append(s.beats, n)
	s.events = append(s.events, "beat")
	return nil
}

func (s *fleetStore) Leave(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = append(s.left, id)
	return nil
}

func (s *fleetStore) Nodes(context.Context) ([]Node, error) { return nil, errors.New("not asked here") }

func (s *fleetStore) confirmed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.beats) == 0 {
		return -1
	}
	return s.beats[len(s.beats)-1].Seq
}

func newFleetVerifier(t *testing.T, o Options, recs ...*Record) (*Verifier, *fleetStore) {
	t.Helper()
	s := &fleetStore{fakeStore: newFakeStore(recs...), wake: make(chan struct{})}
	o.Store, o.Compare, o.NodeID, o.NodeName = s, (&counter{}).compare, "n1", "host pid 1"
	v, err := NewVerifier(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v, s
}

func TestAStoreThatWakesIsAskedAtOnceAndPolledAllTheSame(t *testing.T) {
	key, rec := newKey()
	// Polling alone would bring the change an hour late.
	v, s := newFleetVerifier(t, Options{Poll: time.Hour, MaxStaleness: 10 * time.Hour}, rec)
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := v.Verify(t.Context(), time.Now(), testFormats, key, nil); r.Outcome != Valid {
		t.Fatal(r.Outcome)
	}
	s.change(rec.ID, func(r *Record) { r.Disabled = true })
	s.wake <- struct{}{}
	waitFor(t, "the change", func() bool {
		return v.Verify(t.Context(), time.Now(), testFormats, key, nil).Outcome == Disabled
	})
	if got := (Options{Store: s}).withDefaults().Poll; got != wakePoll || wakePoll >= time.Second {
		t.Errorf("it is polled every %s", got)
	}
}

func TestANodeIsKnownBeforeItTrustsMemoryAndConfirmsWhatItApplied(t *testing.T) {
	key, rec := newKey()
	v, s := newFleetVerifier(t, Options{Poll: time.Millisecond, MaxStaleness: time.Minute}, rec)
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	first := s.events[0]
	self := s.beats[0]
	s.mu.Unlock()
	if first != "beat" || self.ID != "n1" || self.Name != "host pid 1" || self.MaxStaleness != time.Minute {
		t.Errorf("first came %q, of %+v", first, self)
	}
	stream := &fakeStream{}
	r := v.Verify(t.Context(), time.Now(), testFormats, key, nil)
	r.Entry.Join(&StreamNode{Stream: stream})
	changed := s.change(rec.ID, func(r *Record) { r.Scopes = []string{"a:b"} })
	waitFor(t, "the confirmation", func() bool { return s.confirmed() >= changed.Seq })
	if stream.wasCut() != 1 {
		t.Error("confirmed while a stream that must end was open")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if len(s.left) != 1 || s.left[0] != "n1" {
		t.Errorf("after Close these have left: %q", s.left)
	}
}

func TestANodeThatWasAwayForLongIsKnownAgainBeforeItTrustsMemory(t *testing.T) {
	clock := newFakeClock()
	v, s := newFleetVerifier(t, Options{MaxStaleness: time.Minute, Now: clock.now})
	poll := func() {
		t.Helper()
		if err := v.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	poll()
	poll()
	if n := len(s.beats); n != 0 {
		t.Fatalf("%d beats of the feed without need", n)
	}
	clock.advance(2 * time.Minute)
	poll()
	if n := len(s.beats); n != 1 {
		t.Errorf("%d beats after two minutes away, want 1", n)
	}
}

// A standby that lacks the last changes gives out their numbers again.
func TestAnotherHistoryOfChangesReplacesAllThatWasKnown(t *testing.T) {
	key, rec := newKey()
	v, s := newFleetVerifier(t, Options{}, rec)
	s.history = "cluster/00000001"
	if err := v.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.change(rec.ID, func(r *Record) { r.Disabled = true })
	if err := v.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := v.Verify(t.Context(), time.Now(), testFormats, key, nil); r.Outcome != Disabled {
		t.Fatal(r.Outcome)
	}
	// The same number, another change: here the key was never disabled.
	s.fakeStore.mu.Lock()
	other := rec.Clone()
	other.Seq, other.Name = s.seq, "not disabled"
	s.recs[rec.ID] = other
	s.fakeStore.mu.Unlock()
	if err := v.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := v.Verify(t.Context(), time.Now(), testFormats, key, nil); r.Outcome != Disabled {
		t.Fatal("the test proves nothing: it was read again anyway")
	}
	s.history = "" // not told once: no reason to forget
	if err := v.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := v.Verify(t.Context(), time.Now(), testFormats, key, nil); r.Outcome != Disabled {
		t.Fatal("forgotten although nothing was told")
	}
	s.history = "cluster/00000002"
	if err := v.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := v.Verify(t.Context(), time.Now(), testFormats, key, nil); r.Outcome != Valid {
		t.Errorf("after the other history: %v", r.Outcome)
	}
}

func TestStreamsEndWhenMemoryIsTooOldToLetThemGoOn(t *testing.T) {
	_, rec := newKey()
	f := newFixture(t, Options{MaxStaleness: time.Minute}, rec)
	e, err := f.Lookup(t.Context(), rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	stream := &fakeStream{}
	e.Join(&StreamNode{Stream: stream})
	f.store.setAway(true)
	f.clock.advance(time.Minute)
	f.pollNow()
	f.sweepStreams(f.clock.now())
	if stream.wasCut() != 0 {
		t.Fatal("cut while memory is trusted")
	}
	f.clock.advance(1)
	f.sweepStreams(f.clock.now())
	f.sweepStreams(f.clock.now())
	if n := stream.wasCut(); n != 1 {
		t.Errorf("cut %d times, want once", n)
	}
}
