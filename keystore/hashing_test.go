package keystore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// gated makes every comparison announce itself and wait.
func gated() *counter {
	return &counter{entered: make(chan string, 4096), gate: make(chan struct{})}
}

// begin waits for the next comparison to begin and returns its key.
func (c *counter) begin(t *testing.T) string {
	t.Helper()
	select {
	case key := <-c.entered:
		return key
	case <-time.After(10 * time.Second):
		t.Fatal("no comparison began")
		return ""
	}
}

// async verifies in the background.
func (f *fixture) async(ctx context.Context, key string, g Guard) <-chan Result {
	out := make(chan Result, 1)
	go func() { out <- f.Verify(ctx, f.clock.now(), testFormats, key, g) }()
	return out
}

func wantSoon(t *testing.T, what string, ch <-chan Result, want Outcome) {
	t.Helper()
	select {
	case r := <-ch:
		if r.Outcome != want {
			t.Errorf("%s: %v (%v), want %v", what, r.Outcome, r.Err, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: no answer", what)
	}
}

// inFlight says how many wait for the comparison of a key.
func (f *fixture) inFlight(key string) int {
	d := f.key.of(key)
	f.flights.mu.Lock()
	defer f.flights.mu.Unlock()
	for k, fl := range f.flights.m {
		if k.digest == d {
			return 1 + len(fl.waiters)
		}
	}
	return 0
}

func TestAThousandRequestsWithOneNeverSeenKeyMakeOneComparison(t *testing.T) {
	key, rec := newKey()
	c := gated()
	f := newFixture(t, Options{Compare: c.compare}, rec)
	g := newBudget(10) // of one address, far fewer than the requests
	var answers []<-chan Result
	for range 1000 {
		answers = append(answers, f.async(context.Background(), key, g))
	}
	c.begin(t)
	waitFor(t, "all to arrive", func() bool { return f.inFlight(key) == 1000 })
	close(c.gate)
	for i, a := range answers {
		wantSoon(t, fmt.Sprint(i), a, Valid)
	}
	if c.count() != 1 {
		t.Errorf("%d comparisons, want exactly 1", c.count())
	}
	if g.remaining(rec.ID) != 10 {
		t.Errorf("%d attempts left, want all 10", g.remaining(rec.ID))
	}
}

func TestALeaderPastItsBudgetDoesNotDecideForOtherAddresses(t *testing.T) {
	key, rec := newKey()
	c := gated()
	f := newFixture(t, Options{Compare: c.compare, HashSlots: 1}, rec)
	// A guard that holds its caller until the others have joined.
	spend := make(chan struct{})
	flooder := f.async(context.Background(), key, guardFunc(func(ID) bool { <-spend; return false }))
	waitFor(t, "the flooder to lead", func() bool { return f.inFlight(key) == 1 })
	var same []<-chan Result
	for range 50 { // the flooding address again
		same = append(same, f.async(context.Background(), key, newBudget(0)))
	}
	waitFor(t, "its others to join", func() bool { return f.inFlight(key) == 51 })
	other := f.async(context.Background(), key, newBudget(1))
	waitFor(t, "another address to join", func() bool { return f.inFlight(key) == 52 })
	close(spend)
	wantSoon(t, "flooder", flooder, AttemptsExceeded)
	for _, s := range same {
		wantSoon(t, "same address", s, AttemptsExceeded)
	}
	if got := c.begin(t); got != key {
		t.Errorf("compared %q", got)
	}
	close(c.gate)
	wantSoon(t, "other address", other, Valid)
	if c.count() != 1 {
		t.Errorf("%d comparisons, want 1", c.count())
	}
}

// guardFunc is a Guard whose refunds go nowhere.
type guardFunc func(ID) bool

func (g guardFunc) Spend(id ID) bool { return g(id) }
func (guardFunc) Refund(ID)          {}

func TestEveryFollowerOfAWrongSecretIsChargedItself(t *testing.T) {
	_, rec := newKey()
	wrong := wrongFor(rec.ID)
	c := gated()
	f := newFixture(t, Options{Compare: c.compare}, rec)
	g := newBudget(5)
	var answers []<-chan Result
	for range 20 {
		answers = append(answers, f.async(context.Background(), wrong, g))
	}
	c.begin(t)
	waitFor(t, "all to arrive", func() bool { return f.inFlight(wrong) == 20 })
	close(c.gate)
	count := map[Outcome]int{}
	for _, a := range answers {
		count[(<-a).Outcome]++
	}
	if count[WrongSecret] != 5 || count[AttemptsExceeded] != 15 || c.count() != 1 {
		t.Errorf("%v after %d comparisons", count, c.count())
	}
}

func TestALeaderWhoseClientLeavesDoesNotFailTheOthers(t *testing.T) {
	busy, busyRec := newKey()
	key, rec := newKey()
	c := gated()
	f := newFixture(t, Options{Compare: c.compare, HashSlots: 1}, rec, busyRec)
	blocker := f.async(context.Background(), busy, nil)
	c.begin(t)
	g := newBudget(3)
	ctx, leave := context.WithCancel(context.Background())
	leader := f.async(ctx, key, g)
	waitFor(t, "the leader to queue", func() bool { return f.Stats().HashQueued == 1 })
	followerCtx, followerLeaves := context.WithCancel(context.Background())
	gone := f.async(followerCtx, key, g)
	waitFor(t, "a follower", func() bool { return f.inFlight(key) == 2 })
	follower := f.async(context.Background(), key, g)
	waitFor(t, "another", func() bool { return f.inFlight(key) == 3 })
	followerLeaves()
	wantSoon(t, "follower that left", gone, Unavailable)
	leave()
	wantSoon(t, "leader that left", leader, Unavailable)
	waitFor(t, "the follower to lead", func() bool { return f.Stats().HashQueued == 1 })
	c.gate <- struct{}{}
	wantSoon(t, "blocker", blocker, Valid)
	c.begin(t)
	c.gate <- struct{}{}
	wantSoon(t, "follower", follower, Valid)
	if g.remaining(rec.ID) != 3 {
		t.Errorf("%d attempts left, want 3", g.remaining(rec.ID))
	}
	if c.count() != 2 {
		t.Errorf("%d comparisons, want 2", c.count())
	}
}

func TestALeaderWhoseClientLeavesWhileHashingStillVerifiesTheKey(t *testing.T) {
	key, rec := newKey()
	c := gated()
	f := newFixture(t, Options{Compare: c.compare}, rec)
	ctx, leave := context.WithCancel(context.Background())
	leader := f.async(ctx, key, nil)
	c.begin(t)
	follower := f.async(context.Background(), key, nil)
	waitFor(t, "a follower", func() bool { return f.inFlight(key) == 2 })
	leave()
	close(c.gate)
	wantSoon(t, "follower", follower, Valid)
	wantSoon(t, "leader", leader, Valid)
	f.want(key, nil, Valid)
	if c.count() != 1 {
		t.Errorf("%d comparisons, want 1", c.count())
	}
}

func TestAPanicWhileHashingLeavesNobodyWaitingAndNoSlotTaken(t *testing.T) {
	key, rec := newKey()
	first := true
	f := newFixture(t, Options{HashSlots: 1, Compare: func(hash, password []byte) error {
		if first {
			first = false
			panic("broken")
		}
		return nil
	}}, rec)
	func() {
		defer func() { _ = recover() }()
		f.verify(key, nil)
	}()
	f.want(key, nil, Valid)
}

func TestNeverMoreThanTheSlotsHashAtOnceAndPastTheQueueIsOverloaded(t *testing.T) {
	c := gated()
	f := newFixture(t, Options{Compare: c.compare, HashSlots: 2, Queue: 3})
	var answers []<-chan Result
	for i := range 5 {
		key, rec := newKey()
		f.store.put(rec)
		answers = append(answers, f.async(context.Background(), key, nil))
		waitFor(t, "it to arrive", func() bool { s := f.Stats(); return s.HashInflight+s.HashQueued == i+1 })
	}
	key, rec := newKey()
	f.store.put(rec)
	g := newBudget(1)
	r := f.want(key, g, Overloaded)
	if r.ID != rec.ID || g.remaining(rec.ID) != 1 {
		t.Errorf("refused without a hash, yet charged: %+v", r)
	}
	close(c.gate)
	for _, a := range answers {
		wantSoon(t, "queued", a, Valid)
	}
	if c.most > 2 {
		t.Errorf("%d at once, want at most 2", c.most)
	}
	f.want(key, g, Valid)
	s := f.Stats()
	if s.HashOK != 6 || s.HashWrong != 0 || s.HashOverloaded != 1 || s.HashInflight != 0 || s.HashQueued != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestUnderAFloodOfWrongSecretsAKeyThatNobodyAttacksGoesFirst(t *testing.T) {
	c := gated()
	f := newFixture(t, Options{Compare: c.compare, HashSlots: 1, Queue: 8})
	_, attacked := newKey()
	f.store.put(attacked)
	// The flood: one hashing, the queue full, more turned away; each of them
	// another secret, none of the caller's budget in the way.
	flood := func() <-chan Result { return f.async(context.Background(), wrongFor(attacked.ID), nil) }
	var floods []<-chan Result
	for i := range 9 {
		floods = append(floods, flood())
		waitFor(t, "the flood", func() bool { s := f.Stats(); return s.HashInflight+s.HashQueued == i+1 })
	}
	f.want(wrongFor(attacked.ID), nil, Overloaded)
	c.begin(t)

	key, rec := newKey()
	f.store.put(rec)
	valid := f.async(context.Background(), key, newBudget(1))
	waitFor(t, "the worst to be turned away", func() bool {
		select {
		case r := <-floods[8]:
			return r.Outcome == Overloaded
		default:
			return false
		}
	})
	c.gate <- struct{}{}
	if got := c.begin(t); got != key {
		t.Error("another of the flood went before the key that nobody attacks")
	}
	close(c.gate)
	wantSoon(t, "valid", valid, Valid)
	for _, a := range floods[:8] {
		wantSoon(t, "flood", a, WrongSecret)
	}
}

func TestIDsAreServedByHowMuchTheyWereAttackedThenByArrival(t *testing.T) {
	c := gated()
	f := newFixture(t, Options{Compare: c.compare, HashSlots: 1})
	var keys []string
	for i := range 4 {
		key, rec := newKey()
		f.store.put(rec)
		keys = append(keys, key)
		e, err := f.Lookup(context.Background(), rec.ID)
		if err != nil {
			t.Fatal(err)
		}
		for range []int{2, 0, 1, 0}[i] {
			e.core.failed(f.clock.now())
		}
	}
	busy, rec := newKey()
	f.store.put(rec)
	answers := []<-chan Result{f.async(context.Background(), busy, nil)}
	c.begin(t)
	for i, key := range keys {
		answers = append(answers, f.async(context.Background(), key, nil))
		waitFor(t, "it to queue", func() bool { return f.Stats().HashQueued == i+1 })
	}
	close(c.gate)
	for _, a := range answers {
		wantSoon(t, "each", a, Valid)
	}
	if want := []string{busy, keys[1], keys[3], keys[2], keys[0]}; !slices.Equal(c.order, want) {
		t.Error("served in another order")
	}
}

func TestAttacksAreForgottenByHalvesEachMinute(t *testing.T) {
	var c core
	now := testTime
	for range 8 {
		c.failed(now)
	}
	for minutes, want := range []uint32{8, 4, 2, 1, 0, 0} {
		if got := c.recentFailures(now.Add(time.Duration(minutes) * time.Minute)); got != want {
			t.Errorf("after %d minutes: %d, want %d", minutes, got, want)
		}
	}
	c.failed(now) // the clock went back
	if got := c.recentFailures(now); got != 1 {
		t.Errorf("got %d", got)
	}
}

func TestAVerifiedCallerIsServedWhileEverySlotHashes(t *testing.T) {
	key, rec := newKey()
	c := &counter{}
	f := newFixture(t, Options{Compare: c.compare, HashSlots: 1, Queue: 1}, rec)
	f.want(key, nil, Valid)
	c.mu.Lock()
	c.entered, c.gate = make(chan string, 10), make(chan struct{})
	c.mu.Unlock()
	var flood []<-chan Result
	for i := range 2 {
		k, r := newKey()
		f.store.put(r)
		flood = append(flood, f.async(context.Background(), k, nil))
		waitFor(t, "the flood", func() bool { s := f.Stats(); return s.HashInflight+s.HashQueued == i+1 })
	}
	f.want(key, nil, Valid)
	close(c.gate)
	for _, a := range flood {
		wantSoon(t, "flood", a, Valid)
	}
}

func TestTheQueueGivesUpItsPlaceWhenTheClientLeaves(t *testing.T) {
	p := &hashPool{slots: 1, limit: 2, wait: time.Minute}
	var at uint64
	if p.acquire(context.Background(), ID{1}, 0, &at) != slotGranted {
		t.Fatal("no slot")
	}
	ctx, cancel := context.WithCancel(context.Background())
	out := make(chan slot)
	go func() { var at uint64; out <- p.acquire(ctx, ID{2}, 0, &at) }()
	waitFor(t, "it to queue", func() bool { _, n := p.load(); return n == 1 })
	cancel()
	if got := <-out; got != slotGone {
		t.Errorf("got %v", got)
	}
	if p.acquire(ctx, ID{2}, 0, &at) != slotGone {
		t.Error("a client that left was served")
	}
	if running, waiting := p.load(); running != 1 || waiting != 0 {
		t.Errorf("%d running, %d waiting", running, waiting)
	}
	p.release(ID{1})
	if running, _ := p.load(); running != 0 {
		t.Errorf("%d running after release", running)
	}
}

func TestTheQueueNeverLosesASlot(t *testing.T) {
	p := &hashPool{slots: 3, limit: 5, wait: time.Millisecond}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 200 {
				ctx, cancel := context.WithCancel(context.Background())
				if (i+w)%3 == 0 {
					go cancel()
				}
				var at uint64
				id := ID{byte(w)}
				if p.acquire(ctx, id, uint32(i%4), &at) == slotGranted {
					if running, _ := p.load(); running > 3 {
						t.Errorf("%d running", running)
					}
					p.release(id)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if running, waiting := p.load(); running != 0 || waiting != 0 {
		t.Errorf("%d running, %d waiting at the end", running, waiting)
	}
}

func TestWhoeverWaitsTooLongForAHashIsOverloadedAndNotCharged(t *testing.T) {
	busy, busyRec := newKey()
	key, rec := newKey()
	c := gated()
	f := newFixture(t, Options{Compare: c.compare, HashSlots: 1}, rec, busyRec)
	f.pool.wait = 20 * time.Millisecond
	blocker := f.async(context.Background(), busy, nil)
	c.begin(t)
	g := newBudget(2)
	leader, follower := f.async(context.Background(), key, g), f.async(context.Background(), key, g)
	wantSoon(t, "one", leader, Overloaded)
	wantSoon(t, "the other", follower, Overloaded)
	second := f.async(context.Background(), busy, g) // follows the one that hashes
	if g.remaining(rec.ID) != 2 || g.remaining(busyRec.ID) != 2 {
		t.Error("charged although nothing was compared")
	}
	if f.inFlight(key) != 0 || f.Stats().HashQueued != 0 {
		t.Error("somebody is still waiting")
	}
	close(c.gate)
	wantSoon(t, "the one that hashed", blocker, Valid)
	wantSoon(t, "who waited for it, however long it took", second, Valid)
	f.want(key, g, Valid)
}

func TestCandidatesOfAHintDoNotWaitOneAfterTheOther(t *testing.T) {
	busy, busyRec := newKey()
	c := gated()
	recs := []*Record{busyRec}
	for i := range 16 {
		recs = append(recs, imported(fmt.Sprintf("shared_hint_%d", i), "shared_h"))
	}
	f := newFixture(t, Options{Compare: c.compare, HashSlots: 1}, recs...)
	f.pool.wait = 20 * time.Millisecond
	blocker := f.async(context.Background(), busy, nil)
	c.begin(t)
	g := newBudget(1)
	wantSoon(t, "wrong", f.async(context.Background(), "shared_hint_x", g), Overloaded)
	if n := f.Stats().HashOverloaded; n > 2 {
		t.Errorf("%d waits for one credential", n)
	}
	close(c.gate)
	wantSoon(t, "the one that hashed", blocker, Valid)
}
