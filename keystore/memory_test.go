package keystore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestWithACacheTooSmallNoKeyInMemoryIsHashedTwice(t *testing.T) {
	f := newFixture(t, Options{Verified: 1})
	var keys []string
	for range 300 {
		key, rec := newKey()
		f.store.put(rec)
		keys = append(keys, key)
	}
	for range 3 {
		for _, key := range keys {
			f.want(key, nil, Valid)
		}
	}
	f.wantHashes(300)
}

func TestAKeyWhoseRecordLeftMemoryIsRememberedByTheCache(t *testing.T) {
	f := newFixture(t, Options{Records: 1, Verified: 1000})
	a, recA := newKey()
	b, recB := newKey()
	f.store.put(recA)
	f.store.put(recB)
	f.want(a, nil, Valid)
	f.want(b, nil, Valid)
	f.verified.c.Wait() // sets are applied late
	for range 3 {
		f.want(a, nil, Valid)
		f.want(b, nil, Valid)
	}
	f.wantHashes(2)
	if f.table.len() != 1 {
		t.Errorf("%d records in memory, want 1", f.table.len())
	}
	if s := f.Stats(); s.Verified.Hits != 6 {
		t.Errorf("stats %+v", s)
	}
}

func TestTheCacheNeverOutlivesARotationOrARevocation(t *testing.T) {
	f := newFixture(t, Options{Records: 1, Verified: 1000})
	key, rec := newKey()
	f.store.put(rec)
	f.want(key, nil, Valid)
	f.verified.c.Wait()
	evict := func() {
		k, r := newKey()
		f.store.put(r)
		f.want(k, nil, Valid)
	}
	evict()
	f.store.change(rec.ID, func(r *Record) { r.RevokedAt = testTime })
	f.want(key, nil, Revoked)
	evict()
	f.store.change(rec.ID, func(r *Record) {
		r.RevokedAt = time.Time{}
		r.Secrets = []Secret{{Hash: fakeHash("another")}}
	})
	f.want(key, nil, WrongSecret)
}

func TestTheVerifiedCacheComparesTheWholeDigest(t *testing.T) {
	c, err := newVerifiedCache(100)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	k := verifiedKey{digest: digest{1, 2, 3, 4, 5, 6, 7, 8, 9}, id: NewID()}
	c.put(k)
	c.c.Wait()
	if got, ok := c.get(&k.digest); !ok || got != k {
		t.Fatal("not there")
	}
	near := k.digest
	near[31] ^= 1 // the same first 64 bits
	if _, ok := c.get(&near); ok {
		t.Error("another digest is taken for it")
	}
	c.close()
	c.put(k)
	if _, ok := c.get(&k.digest); ok {
		t.Error("there after close")
	}
}

func TestMemoryHoldsTheBoundAndDropsWhatIsPreciousLast(t *testing.T) {
	crypto := NewCrypto(make([]byte, 32))
	f := newFixture(t, Options{Records: 8, Crypto: crypto})
	add := func(digest bool) (string, *Record) {
		key, rec := newKey()
		if digest {
			rec.Secrets[0].Digest = crypto.StoredDigest(key)
		}
		f.store.put(rec)
		return key, rec
	}
	// One that only memory knows to be verified, one with an open stream.
	costly, _ := add(false)
	f.want(costly, nil, Valid)
	streamed, _ := add(true)
	e := f.want(streamed, nil, Valid).Entry
	_, nodes := join(e, 1)
	for range 200 {
		k, _ := add(true)
		f.want(k, nil, Valid)
		if n := f.table.len(); n > 8 {
			t.Fatalf("%d records in memory, want at most 8", n)
		}
	}
	if !e.live.Load() {
		t.Error("a record with an open stream was dropped before others")
	}
	reads := f.store.getCount()
	f.want(costly, nil, Valid)
	if f.store.getCount() != reads {
		t.Error("a verified record without stored digest was dropped before others")
	}
	e.Leave(nodes[0])
	for range 200 {
		k, _ := add(true)
		f.want(k, nil, Valid)
	}
	if e.live.Load() {
		t.Error("a record stays for a stream that ended")
	}
}

func TestRecordsInUseStayInMemory(t *testing.T) {
	crypto := NewCrypto(make([]byte, 32))
	f := newFixture(t, Options{Records: 64, Crypto: crypto})
	add := func() string {
		key, rec := newKey()
		rec.Secrets[0].Digest = crypto.StoredDigest(key)
		f.store.put(rec)
		f.want(key, nil, Valid)
		return key
	}
	var used []string
	for range 10 {
		used = append(used, add())
	}
	for range 400 {
		add()
		for _, k := range used {
			f.want(k, nil, Valid)
		}
	}
	if n := f.store.getCount(); n != 410 {
		t.Errorf("%d reads for 410 keys: records in use were dropped", n)
	}
}

func TestTheTableFindsWhatIsInItAndNothingElse(t *testing.T) {
	tab := newTable(50)
	tab.precious = func(*core) bool { return false }
	in := map[ID]*core{}
	for range 5000 {
		id := ID{byte(rand.IntN(100))}
		switch c := tab.get(id); {
		case c != in[id]:
			t.Fatalf("found %p, want %p", c, in[id])
		case c != nil && rand.IntN(2) == 0:
			tab.remove(c)
			delete(in, id)
		case c == nil:
			c = &core{id: id}
			c.entry.Store(&Entry{core: c})
			if gone := tab.insert(c); gone != nil {
				delete(in, gone.id)
			}
			in[id] = c
		}
		if tab.len() != len(in) || tab.len() > 50 {
			t.Fatalf("%d members, want %d", tab.len(), len(in))
		}
	}
	tab.clear()
	for id := range in {
		if tab.get(id) != nil {
			t.Fatal("there after clear")
		}
	}
}

func TestABriefMemoryForgetsAndStaysWithinItsSize(t *testing.T) {
	b := newBrief[ID](64)
	for range 1000 {
		b.put(NewID(), testTime, time.Second)
	}
	id := NewID()
	b.put(id, testTime, time.Second)
	b.put(id, testTime, 2*time.Second)
	if !b.has(id, testTime.Add(2*time.Second-1)) || b.has(id, testTime.Add(2*time.Second)) {
		t.Error("remembered too long or too short")
	}
	b.drop(id)
	if b.has(id, testTime) {
		t.Error("there after drop")
	}
	if b.has(ID{}, testTime) {
		t.Error("a free place counts")
	}
}

func TestAThousandRequestsForOneRecordMakeOneRead(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	f.store.block = make(chan struct{})
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if r := f.verify(key, nil); r.Outcome != Valid {
				t.Errorf("got %v", r.Outcome)
			}
		})
	}
	waitFor(t, "the read", func() bool { return f.store.getCount() == 1 })
	close(f.store.block)
	wg.Wait()
	// Those that arrived after the read ended found the record in memory.
	if n := f.store.getCount(); n != 1 {
		t.Errorf("%d reads, want 1", n)
	}
	f.wantHashes(1)
}

func TestAFloodOfUnknownIDsReadsEightAtATimeAndAWaiterMayLeave(t *testing.T) {
	f := newFixture(t, Options{})
	f.store.block = make(chan struct{})
	ctx, leave := context.WithCancel(context.Background())
	var answers []<-chan Result
	for range 40 {
		key, _ := newKey()
		answers = append(answers, f.async(ctx, key, nil))
	}
	waitFor(t, "all to ask", func() bool { return f.waiting.Load() == 40 })
	waitFor(t, "the first to read", func() bool { return f.store.getCount() == loadSlots })
	leave()
	for _, a := range answers {
		wantSoon(t, "a client that left", a, Unavailable)
	}
	if n := f.store.getCount(); n != loadSlots {
		t.Errorf("%d reads at once, want %d", n, loadSlots)
	}
	close(f.store.block)
}

func TestOneClientLeavingDoesNotEndTheReadForAnother(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	f.store.block = make(chan struct{})
	ctx, leave := context.WithCancel(context.Background())
	first := f.async(ctx, key, nil)
	waitFor(t, "the read", func() bool { return f.store.getCount() == 1 })
	second := f.async(context.Background(), key, nil)
	leave()
	wantSoon(t, "first", first, Unavailable)
	close(f.store.block)
	wantSoon(t, "second", second, Valid)
}

func TestPastTheBoundOfReadsTheAnswerIsUnavailableAtOnce(t *testing.T) {
	key, _ := newKey()
	f := newFixture(t, Options{})
	f.waiting.Store(loadQueue)
	if r := f.want(key, nil, Unavailable); !errors.Is(r.Err, errLoadBusy) {
		t.Errorf("got %v", r.Err)
	}
	if f.waiting.Load() != loadQueue || f.store.getCount() != 0 {
		t.Error("it was read all the same")
	}
}

func TestMemoryIsTrustedForMaxStalenessWithoutTheStoreAndRecoversByItself(t *testing.T) {
	key, rec := newKey()
	other, otherRec := newKey()
	f := newFixture(t, Options{MaxStaleness: time.Minute}, rec, otherRec)
	f.want(key, nil, Valid)
	f.store.setAway(true)
	f.pollNow()
	if f.Stats().StoreUp {
		t.Error("the store is away, yet up")
	}
	f.clock.advance(time.Minute)
	f.want(key, nil, Valid)
	if r := f.want(other, nil, Unavailable); !errors.Is(r.Err, errStoreAway) {
		t.Errorf("a key that is not in memory: %v", r.Err)
	}
	f.clock.advance(1)
	f.pollNow()
	f.want(key, nil, Unavailable)
	streamed := &fakeStream{}
	e := f.table.get(rec.ID).entry.Load()
	e.Join(&StreamNode{Stream: streamed})

	f.store.setAway(false)
	f.want(key, nil, Valid) // through the store, before the feed has noticed
	f.clock.advance(time.Hour)
	f.store.change(rec.ID, func(r *Record) { r.Scopes = []string{"a:b"} })
	f.pollNow()
	if !f.Stats().StoreUp {
		t.Error("the store is back, yet down")
	}
	reads := f.store.getCount()
	for range 3 {
		f.want(key, nil, Valid)
	}
	if n := f.store.getCount() - reads; n != 1 {
		t.Errorf("%d reads after the outage, want 1: everything is read again once", n)
	}
	f.wantHashes(1)
	if streamed.wasCut() != 1 {
		t.Error("the stream of a key that changed meanwhile goes on")
	}
}

func TestWithoutStalenessACachedKeyFailsAsSoonAsTheStoreDoes(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{MaxStaleness: -1}, rec)
	f.want(key, nil, Valid)
	f.clock.advance(time.Second) // within what a poll may take
	f.want(key, nil, Valid)
	f.store.setAway(true)
	f.pollNow()
	f.want(key, nil, Unavailable)
	f.store.setAway(false)
	f.pollNow()
	f.want(key, nil, Valid)
	f.clock.advance(10 * time.Second) // the poll hangs
	reads := f.store.getCount()
	f.want(key, nil, Valid)
	if f.store.getCount() != reads+1 {
		t.Error("memory was trusted although the poll hangs")
	}
}

func TestSettingTheClockBackDoesNotMakeMemoryYounger(t *testing.T) {
	now := time.Now()
	v := &Verifier{o: Options{MaxStaleness: time.Minute}}
	v.confirmed.Store(&now)
	later := now.Add(2 * time.Minute)
	if v.trusted(later) {
		t.Fatal("trusted after two minutes")
	}
	if later.Sub(now) != 2*time.Minute {
		t.Error("no monotonic clock")
	}
}

func TestAStoreRestoredFromACopyReplacesAllThatWasKnown(t *testing.T) {
	key, rec := newKey()
	other, otherRec := newKey()
	f := newFixture(t, Options{}, rec, otherRec)
	f.want(key, nil, Valid)
	f.want(other, nil, Valid)
	f.Apply(f.store.change(rec.ID, func(r *Record) { r.Name = "newer" }))
	f.pollNow()
	f.store.mu.Lock()
	f.store.seq = 1
	old := rec.Clone()
	old.Seq, old.Disabled = 1, true
	f.store.recs = map[ID]*Record{rec.ID: old}
	f.store.mu.Unlock()
	f.pollNow()
	f.want(key, nil, Disabled)
	f.want(other, nil, Unknown)
}

func TestTheFeedLosesNothingOfLongOrBulkChanges(t *testing.T) {
	for name, bulk := range map[string]bool{"one number each": false, "one number for all": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Options{})
			var keys []string
			for range 50 {
				key, rec := newKey()
				f.store.put(rec)
				keys = append(keys, key)
				f.want(key, nil, Valid)
			}
			f.pollNow()
			const n = 2*feedPage + 10
			for range n {
				_, rec := newKey()
				f.store.put(rec)
			}
			for id := range f.store.recs {
				f.store.change(id, func(r *Record) { r.Disabled = true })
			}
			if bulk {
				f.store.mu.Lock()
				for _, r := range f.store.recs {
					r.Seq = f.store.seq
				}
				f.store.mu.Unlock()
			}
			f.pollNow()
			for _, key := range keys {
				f.want(key, nil, Disabled)
			}
		})
	}
}

func TestAStoreThatIsAwayAtStartIsNoErrorAndIsFoundLater(t *testing.T) {
	key, rec := newKey()
	store := newFakeStore(rec)
	store.setAway(true)
	c := &counter{}
	v, err := NewVerifier(Options{Store: store, Compare: c.compare, Verified: 10, Poll: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	verify := func(s string) Outcome {
		return v.Verify(context.Background(), time.Now(), testFormats, s, nil).Outcome
	}
	if got := verify(key); got != Unavailable {
		t.Errorf("a key: %v", got)
	}
	if got := verify("some-other-credential"); got != Unavailable {
		t.Errorf("what may be an imported key: %v", got)
	}
	store.setAway(false)
	waitFor(t, "the store", func() bool { return v.Stats().StoreUp })
	if got := verify(key); got != Valid {
		t.Errorf("a key: %v", got)
	}
	if got := verify("some-other-credential"); got != Malformed {
		t.Errorf("no key at all: %v", got)
	}
	if v.Stats().Confirmed.IsZero() {
		t.Error("never confirmed")
	}
}

func TestTheWarmPathAllocatesNothing(t *testing.T) {
	crypto := NewCrypto(make([]byte, 32))
	key, rec := newKey()
	digested, digestedRec := newKey()
	digestedRec.Secrets[0].Digest = crypto.StoredDigest(digested)
	f := newFixture(t, Options{Crypto: crypto}, rec, digestedRec)
	bad := key[:len(key)-1] + "!"
	now := f.clock.now()
	var g Guard = newBudget(1)
	ctx := context.Background()
	for name, c := range map[string]struct {
		key  string
		want Outcome
	}{"verified": {key, Valid}, "stored digest": {digested, Valid}, "malformed": {bad, Malformed}, "foreign": {"x.y.z-no-such-key", Malformed}} {
		f.Verify(ctx, now, testFormats, c.key, g)
		var r Result
		if n := testing.AllocsPerRun(200, func() { r = f.Verify(ctx, now, testFormats, c.key, g) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if r.Outcome != c.want {
			t.Errorf("%s: %v", name, r.Outcome)
		}
		if r.Entry == nil {
			continue
		}
		if n := testing.AllocsPerRun(200, func() { r.Entry.Used(now, "192.0.2.1", "GET /", 0); r.Entry.Attached() }); n != 0 {
			t.Errorf("%s: Used: %v allocations", name, n)
		}
	}
}

func TestOutcomesHaveNames(t *testing.T) {
	for o := Valid; o <= Unavailable; o++ {
		if s := o.String(); s == "" || s == "none" {
			t.Errorf("%d is %q", o, s)
		}
	}
	if got := fmt.Sprint(Outcome(0), Outcome(99)); got != "none none" {
		t.Errorf("got %q", got)
	}
}

func TestAStoreThatNeverAnswersHoldsNobodyForLong(t *testing.T) {
	held, heldRec := newKey()
	key, rec := newKey()
	f := newFixture(t, Options{}, rec, heldRec)
	f.want(held, nil, Valid)
	f.loadWait = 20 * time.Millisecond
	hang := make(chan struct{})
	f.store.onGet = func(ID) { <-hang } // and heeds no context
	r := f.want(key, nil, Unavailable)
	if !errors.Is(r.Err, errLoadTimeout) || r.ID != rec.ID {
		t.Errorf("got %+v", r)
	}
	f.want(held, nil, Valid)
	close(hang)
	waitFor(t, "the read to end", func() bool { return f.verify(key, nil).Outcome == Valid })
}
