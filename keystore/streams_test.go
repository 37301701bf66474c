package keystore

import (
	"context"
	"sync"
	"testing"
	"time"
)

// fakeStream allows what is active, and counts its cuts.
type fakeStream struct {
	mu   sync.Mutex
	cuts int
	last *Record
	done chan struct{}
}

func (s *fakeStream) Allowed(rec *Record, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = rec
	return rec.StatusAt(now) == StatusActive && len(rec.Scopes) == 0
}

func (s *fakeStream) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cuts++
	if s.done != nil {
		close(s.done)
	}
}

func (s *fakeStream) wasCut() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cuts
}

// join opens n streams of a key.
func join(e *Entry, n int) (streams []*fakeStream, nodes []*StreamNode) {
	for range n {
		s := &fakeStream{}
		node := &StreamNode{Stream: s}
		e.Join(node)
		streams, nodes = append(streams, s), append(nodes, node)
	}
	return streams, nodes
}

func wantCuts(t *testing.T, what string, streams []*fakeStream, want int) {
	t.Helper()
	for i, s := range streams {
		if got := s.wasCut(); got != want {
			t.Errorf("%s: stream %d was cut %d times, want %d", what, i, got, want)
		}
	}
}

func TestStreamsAreCutOnceWhenTheirKeyIsRevokedHere(t *testing.T) {
	key, rec := newKey()
	other, otherRec := newKey()
	f := newFixture(t, Options{}, rec, otherRec)
	e := f.want(key, nil, Valid).Entry
	streams, nodes := join(e, 3)
	spared, _ := join(f.want(other, nil, Valid).Entry, 2)
	e.Leave(nodes[1])
	e.Leave(nodes[1]) // again: nothing
	f.Apply(f.store.change(rec.ID, func(r *Record) { r.Name = "renamed" }))
	wantCuts(t, "renamed", streams, 0)
	f.Apply(f.store.change(rec.ID, func(r *Record) { r.RevokedAt = testTime }))
	f.streams.sweep(f.clock.now())
	f.pollNow()
	wantCuts(t, "revoked", []*fakeStream{streams[0], streams[2]}, 1)
	wantCuts(t, "left", streams[1:2], 0)
	wantCuts(t, "another key", spared, 0)
}

func TestStreamsAreCutWhenAnotherProcessTakesTheirScopes(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	streams, _ := join(f.want(key, nil, Valid).Entry, 2)
	f.store.change(rec.ID, func(r *Record) { r.Scopes = []string{"less:now"} })
	f.pollNow()
	wantCuts(t, "changed", streams, 1)
}

func TestStreamsAreCutWhenTheirKeyExpires(t *testing.T) {
	key, rec := newKey()
	rec.ExpiresAt = testTime.Add(time.Minute)
	f := newFixture(t, Options{}, rec)
	e := f.want(key, nil, Valid).Entry
	streams, _ := join(e, 2)
	f.streams.sweep(f.clock.advance(time.Minute - 1))
	wantCuts(t, "before", streams, 0)
	f.streams.sweep(f.clock.advance(1))
	wantCuts(t, "at the end", streams, 1)
	late, _ := join(e, 1) // verified just before
	f.streams.sweep(f.clock.now())
	wantCuts(t, "joined after", late, 1)
	wantCuts(t, "already cut", streams, 1)
}

func TestARequestThatJoinsAfterItsKeyWasRevokedIsCutAtOnce(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	e := f.want(key, nil, Valid).Entry
	f.Apply(f.store.change(rec.ID, func(r *Record) { r.RevokedAt = testTime }))
	first, _ := join(e, 1)
	wantCuts(t, "nobody else there", first, 1)
	second, _ := join(e, 1)
	wantCuts(t, "another there", second, 1)
}

func TestStreamsAreCutAlthoughTheirRecordLeftMemory(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{Records: 1}, rec)
	e := f.want(key, nil, Valid).Entry
	streams, _ := join(e, 1)
	for range 3 { // these need the only place
		k, r := newKey()
		f.store.put(r)
		f.want(k, nil, Valid)
	}
	if e.live.Load() {
		t.Fatal("the record is still in memory")
	}
	f.store.change(rec.ID, func(r *Record) { r.RevokedAt = testTime })
	f.pollNow()
	wantCuts(t, "revoked while away", streams, 1)

	late, _ := join(e, 1) // and one that was verified before all this
	f.recheck()
	wantCuts(t, "joined after", late, 1)
}

func TestStreamsOfAKeyThatLeftMemoryAreJudgedOnceTheStoreAnswers(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{Records: 1}, rec)
	e := f.want(key, nil, Valid).Entry
	k, r := newKey()
	f.store.put(r)
	f.want(k, nil, Valid)
	f.store.change(rec.ID, func(r *Record) { r.RevokedAt = testTime })
	f.pollNow()
	f.store.setAway(true)
	streams, _ := join(e, 1)
	f.recheck()
	wantCuts(t, "while away", streams, 0)
	f.store.setAway(false)
	f.recheck()
	wantCuts(t, "when back", streams, 1)
}

func TestStreamsOfAKeyThatIsGoneAreCut(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	streams, _ := join(f.want(key, nil, Valid).Entry, 1)
	f.store.mu.Lock()
	delete(f.store.recs, rec.ID) // restored from a copy that never had it
	f.store.seq = 0
	f.store.mu.Unlock()
	f.pollNow()
	f.recheck()
	wantCuts(t, "gone", streams, 1)
}

func TestARevocationByAnotherProcessCutsStreamsWithinASecond(t *testing.T) {
	key, rec := newKey()
	store := newFakeStore(rec)
	c := &counter{}
	v, err := NewVerifier(Options{Store: store, Compare: c.compare, Verified: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	lag := make(chan time.Duration, 1)
	v.OnRevocationLag(func(d time.Duration) { lag <- d })
	r := v.Verify(context.Background(), time.Now(), testFormats, key, nil)
	s := &fakeStream{done: make(chan struct{})}
	node := &StreamNode{Stream: s}
	r.Entry.Join(node)
	defer r.Entry.Leave(node)
	began := time.Now()
	store.change(rec.ID, func(r *Record) { r.RevokedAt = began })
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		t.Fatal("never cut")
	}
	if d := <-lag; d < 0 || d > 5*time.Second {
		t.Errorf("the lag was reported as %v", d)
	}
	if r := v.Verify(context.Background(), time.Now(), testFormats, key, nil); r.Outcome != Revoked {
		t.Errorf("got %v", r.Outcome)
	}
	t.Logf("cut after %v", time.Since(began))
}

func TestJoiningAndLeavingAllocatesNothing(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	e := f.want(key, nil, Valid).Entry
	node := &StreamNode{Stream: &fakeStream{}}
	if n := testing.AllocsPerRun(1000, func() { e.Join(node); e.Leave(node) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is kept of a key with nothing open is forgotten after two sweeps, and then used
// for another key: neither is cut with the other.
func TestAKeyThatComesAgainHasStreamsOfItsOwn(t *testing.T) {
	key, rec := newKey()
	other, otherRec := newKey()
	f := newFixture(t, Options{}, rec, otherRec)
	e, o := f.want(key, nil, Valid).Entry, f.want(other, nil, Valid).Entry
	kept := func() (n int) {
		for i := range f.streams.shards {
			n += len(f.streams.shards[i].sets)
		}
		return n
	}
	for range 3 {
		_, nodes := join(e, 2)
		e.Leave(nodes[0])
		e.Leave(nodes[1])
		if f.streams.open(rec.ID) || kept() != 1 {
			t.Fatalf("open: %v, %d keys are kept, want 1", f.streams.open(rec.ID), kept())
		}
		f.streams.sweep(f.clock.now())
	}
	if f.streams.sweep(f.clock.now()); kept() != 0 {
		t.Fatalf("%d keys are kept after two sweeps", kept())
	}
	// Whatever shard the other is in, it takes the set that the first one had.
	sh, osh := f.streams.shard(rec.ID), f.streams.shard(otherRec.ID)
	sh.mu.Lock()
	set := sh.free
	sh.free = nil
	sh.mu.Unlock()
	osh.mu.Lock()
	osh.free = set
	osh.mu.Unlock()
	others, _ := join(o, 1)
	mine, nodes := join(e, 2)
	if e.core.streams == o.core.streams {
		t.Fatal("two keys share their streams")
	}
	e.Leave(nodes[1])
	f.Apply(f.store.change(rec.ID, func(r *Record) { r.RevokedAt = testTime }))
	wantCuts(t, "revoked", mine[:1], 1)
	wantCuts(t, "left", mine[1:], 0)
	wantCuts(t, "the other key", others, 0)
	f.Apply(f.store.change(otherRec.ID, func(r *Record) { r.RevokedAt = testTime }))
	wantCuts(t, "the other, revoked", others, 1)
}

// A request was verified by one store, and joins when another has taken its place:
// whatever change numbers the two have, the other's word counts.
func TestARequestThatJoinsUnderAnotherStoreIsCutWhenThatRevokes(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	for range 5 {
		f.Apply(f.store.change(rec.ID, func(r *Record) { r.Name += "x" }))
	}
	f.pollNow()
	e := f.want(key, nil, Valid).Entry
	f.store.mu.Lock()
	old := *f.store.recs[rec.ID]
	old.Seq = 1
	f.store.recs[rec.ID], f.store.seq = &old, 1 // restored from a copy
	f.store.mu.Unlock()
	f.pollNow()
	if e.rec.Seq <= old.Seq || e.epoch.Load() >= f.restarted.Load() {
		t.Fatal("the store was not replaced, so this shows nothing")
	}
	streams, _ := join(e, 2)
	f.recheck()
	wantCuts(t, "as valid there", streams, 0)
	f.store.change(rec.ID, func(r *Record) { r.RevokedAt = testTime })
	f.pollNow()
	f.recheck()
	wantCuts(t, "revoked there", streams, 1)
}
