package keystore

import (
	"context"
	"testing"
	"time"
)

func (f *fixture) flushNow() {
	f.t.Helper()
	if err := f.flush(context.Background(), f.clock.now(), false); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) use(key, addr string) Result {
	f.t.Helper()
	r := f.want(key, nil, Valid)
	r.Entry.Used(f.clock.now(), addr, "GET /farms", r.Secret)
	return r
}

func TestTheFirstUseIsWrittenAtTheNextFlushAndLaterOnesOnceAMinute(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	var writes []time.Time
	written := 0
	for range 4 * 12 { // twelve minutes of steady use, flushed every 15 s
		for range 15 {
			f.use(key, "192.0.2.1")
			f.clock.advance(time.Second)
		}
		f.pollNow()
		f.flushNow()
		if uses := f.store.touched(); len(uses) > written {
			if len(uses) != written+1 {
				t.Fatalf("%d writes at once", len(uses)-written)
			}
			written++
			writes = append(writes, f.clock.now())
			u := uses[written-1]
			if late := f.clock.now().Sub(u.At); late > 2*time.Second || u.ID != rec.ID || u.Addr != "192.0.2.1" || u.Route != "GET /farms" {
				t.Errorf("wrote %+v, %v after that use", u, late)
			}
		}
	}
	if written != 12 {
		t.Errorf("%d writes in 12 minutes, want 12", written)
	}
	for i := 1; i < len(writes); i++ {
		if d := writes[i].Sub(writes[i-1]); d != time.Minute {
			t.Errorf("two writes within %v", d)
		}
	}
}

func TestTheVeryLastUseIsWrittenWithinAMinute(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	f.use(key, "192.0.2.1")
	f.flushNow()
	last := f.clock.advance(2 * time.Second)
	f.use(key, "192.0.2.2")
	for range 4 {
		f.clock.advance(15 * time.Second)
		f.flushNow()
	}
	uses := f.store.touched()
	if len(uses) != 2 || !uses[1].At.Equal(last) || uses[1].Addr != "192.0.2.2" {
		t.Errorf("wrote %+v, want the use at %v", uses, last)
	}
	f.clock.advance(time.Hour)
	f.flushNow()
	if n := len(f.store.touched()); n != 2 {
		t.Errorf("%d writes without a use", n-2)
	}
}

func TestLastUsesOnlyMoveForward(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	e := f.want(key, nil, Valid).Entry
	now := f.clock.now()
	e.Used(now, "192.0.2.1", "a", 0)
	e.Used(now.Add(-time.Hour), "192.0.2.2", "b", 0)
	e.Used(now, "192.0.2.3", "c", 7) // no such secret
	e.Used(now, "192.0.2.3", "c", -1)
	f.flushNow()
	if uses := f.store.touched(); len(uses) != 1 || !uses[0].At.Equal(now) || uses[0].Addr != "192.0.2.1" {
		t.Errorf("wrote %+v", uses)
	}
}

func TestTheOldSecretsUseIsWrittenUnderItsOwnPlaceEvenIfItMoved(t *testing.T) {
	old, rec := newKey()
	f := newFixture(t, Options{}, rec)
	f.use(old, "192.0.2.1") // secret 0 by now
	fresh := DefaultFormat().Regenerate(rec.ID)
	f.Apply(f.store.change(rec.ID, func(r *Record) {
		s := r.Secrets[0]
		s.NotAfter = testTime.Add(time.Hour)
		r.Secrets = []Secret{{Hash: fakeHash(fresh)}, s}
	}))
	f.flushNow()
	f.clock.advance(2 * time.Minute)
	f.use(fresh, "192.0.2.2")
	f.use(old, "192.0.2.3")
	f.flushNow()
	uses := f.store.touched()
	if len(uses) != 3 || uses[0].Secret != 1 || uses[1].Secret != 0 || uses[1].Addr != "192.0.2.2" || uses[2].Secret != 1 || uses[2].Addr != "192.0.2.3" {
		t.Errorf("wrote %+v", uses)
	}
}

func TestUsesAreKeptWhileTheStoreIsAwayAndWrittenOnClose(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	f.use(key, "192.0.2.1")
	f.store.setAway(true)
	if err := f.flush(context.Background(), f.clock.now(), false); err == nil {
		t.Error("a failed write is no error")
	}
	f.store.setAway(false)
	f.flushNow()
	if n := len(f.store.touched()); n != 1 {
		t.Fatalf("%d uses written, want 1", n)
	}
	f.clock.advance(2 * time.Second)
	f.use(key, "192.0.2.2") // not due for a minute
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if uses := f.store.touched(); len(uses) != 2 || uses[1].Addr != "192.0.2.2" {
		t.Errorf("wrote %+v", uses)
	}
}

func TestTheListOfUsesIsBoundedAndWritesComeInBatches(t *testing.T) {
	const records = 600
	f := newFixture(t, Options{Records: records})
	f.uses.limit = records - 10
	for range records {
		key, rec := newKey()
		f.store.put(rec)
		f.use(key, "192.0.2.1")
	}
	f.flushNow()
	if n := len(f.store.touched()); n != records-10 {
		t.Errorf("%d uses written, want %d", n, records-10)
	}
	if n := len(f.store.touches); n != 2 {
		t.Errorf("%d writes, want 2", n)
	}
}
