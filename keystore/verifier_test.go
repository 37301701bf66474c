package keystore

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func TestAValidKeyIsValidAndHashedOnce(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	for range 3 {
		r := f.want(key, nil, Valid)
		if r.ID != rec.ID || r.Entry.Record().Name != "test" || r.Secret != 0 {
			t.Fatalf("got %+v", r)
		}
	}
	f.wantHashes(1)
	if n := f.store.getCount(); n != 1 {
		t.Errorf("%d reads, want 1", n)
	}
}

func TestMalformedCredentialsReachNeitherStoreNorHash(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	for _, s := range []string{"", " ", "x", key + "x", key[:55], strings.Repeat("x", 73), key + strings.Repeat("x", 72), "hive_sk_", "\xff\xfe", key[:20] + "\x00" + key[21:], key + "\n"} {
		if r := f.want(s, newBudget(0), Malformed); r.ID != (ID{}) {
			t.Errorf("%q has an id", s)
		}
	}
	f.wantHashes(0)
	if f.store.getCount() != 0 || f.store.byHints != 0 {
		t.Error("the store was asked")
	}
}

func TestAKeyOfAFormatThatIsNotAcceptedHereIsMalformed(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	if r := f.Verify(context.Background(), f.clock.now(), testFormats[1:], key, nil); r.Outcome != Malformed {
		t.Errorf("got %v", r.Outcome)
	}
}

func TestAnUnknownIDIsReadOnceASecond(t *testing.T) {
	key, _ := newKey()
	f := newFixture(t, Options{})
	g := newBudget(0)
	for range 5 {
		f.want(key, g, Unknown)
	}
	if n := f.store.getCount(); n != 1 {
		t.Errorf("%d reads, want 1", n)
	}
	f.clock.advance(unknownFor)
	f.want(key, g, Unknown)
	if n := f.store.getCount(); n != 2 {
		t.Errorf("%d reads, want 2", n)
	}
	if g.spent != 0 {
		t.Error("an unknown id was charged to the pair's budget")
	}
	f.wantHashes(0)
}

func TestAKeyCreatedElsewhereWorksOnceTheFeedBringsIt(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{})
	f.want(key, nil, Unknown)
	f.store.put(rec)
	f.want(key, nil, Unknown) // remembered for a moment
	f.pollNow()
	f.want(key, nil, Valid)
}

func TestAKeyCreatedHereWorksAtOnce(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{})
	f.want(key, nil, Unknown)
	f.Apply(f.store.put(rec))
	f.want(key, nil, Valid)
}

func TestTheStateIsToldOnlyToWhoKnowsTheSecret(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Record)
		want   Outcome
	}{
		"revoked":  {func(r *Record) { r.RevokedAt = testTime }, Revoked},
		"disabled": {func(r *Record) { r.Disabled = true }, Disabled},
		"expired":  {func(r *Record) { r.ExpiresAt = testTime }, Expired},
	} {
		for _, dataKey := range [][]byte{nil, make([]byte, 32)} {
			key, rec := newKey()
			c.change(rec)
			crypto := NewCrypto(dataKey)
			rec.Secrets[0].Digest = crypto.StoredDigest(key)
			f := newFixture(t, Options{Crypto: crypto}, rec)
			if r := f.want(wrongFor(rec.ID), nil, WrongSecret); r.Entry != nil || r.ID != rec.ID {
				t.Errorf("%s: a wrong secret got %+v", name, r)
			}
			for range 2 {
				if r := f.want(key, nil, c.want); r.Entry == nil || r.ID != rec.ID {
					t.Errorf("%s: the right secret got %+v", name, r)
				}
			}
		}
	}
}

func TestRevocationExpiryAndDisablingHoldFromTheNextRequestOn(t *testing.T) {
	key, rec := newKey()
	rec.ExpiresAt = testTime.Add(time.Hour)
	f := newFixture(t, Options{}, rec)
	f.want(key, nil, Valid)
	f.Apply(f.store.change(rec.ID, func(r *Record) { r.Disabled = true }))
	f.want(key, nil, Disabled)
	f.Apply(f.store.change(rec.ID, func(r *Record) { r.Disabled = false }))
	f.want(key, nil, Valid)
	f.store.change(rec.ID, func(r *Record) { r.Scopes = []string{"a:b"} }) // by another process
	f.pollNow()
	if r := f.want(key, nil, Valid); len(r.Entry.Record().Scopes) != 1 {
		t.Error("a change of scopes did not arrive")
	}
	now := f.clock.now()
	if r := f.Verify(context.Background(), now.Add(time.Hour), testFormats, key, nil); r.Outcome == Valid {
		t.Error("valid past its end")
	}
	f.store.change(rec.ID, func(r *Record) { r.RevokedAt = now })
	f.pollNow()
	f.want(key, nil, Revoked)
	f.wantHashes(1)
}

func TestAnOlderVersionNeverReplacesANewerOne(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	old, _ := f.store.Get(context.Background(), rec.ID)
	f.want(key, nil, Valid)
	f.Apply(f.store.change(rec.ID, func(r *Record) { r.RevokedAt = testTime }))
	f.Apply(old)
	f.want(key, nil, Revoked)
}

func TestARecordReadBeforeItsRevocationDoesNotUndoIt(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	f.store.onGet = func(id ID) { // what Get returns was read before
		f.store.onGet = nil
		f.Apply(f.store.change(id, func(r *Record) { r.RevokedAt = testTime }))
	}
	f.want(key, nil, Revoked)
	f.want(key, nil, Revoked)
}

func TestAKeyCreatedWhileItIsLookedUpIsNotRememberedAsUnknown(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{})
	f.store.onGet = func(ID) {
		f.store.onGet = nil
		f.Apply(f.store.put(rec))
	}
	f.want(key, nil, Valid)
}

func TestTheStoredDigestDecidesRightAndWrongWithoutHashing(t *testing.T) {
	crypto := NewCrypto([]byte("0123456789abcdef0123456789abcdef"))
	key, rec := newKey()
	rec.Secrets[0].Digest = crypto.StoredDigest(key)
	f := newFixture(t, Options{Crypto: crypto}, rec)
	g := newBudget(2)
	f.want(wrongFor(rec.ID), g, WrongSecret)
	f.want(wrongFor(rec.ID), g, WrongSecret)
	f.want(wrongFor(rec.ID), g, AttemptsExceeded)
	before := g.spent
	f.want(key, g, Valid) // although the budget is spent
	f.want(key, g, Valid)
	if g.spent != before {
		t.Error("a right stored digest consulted the guard")
	}
	f.wantHashes(0)
}

func TestAStoredDigestIsOfNoUseWithoutTheDataKeyAndBcryptDecides(t *testing.T) {
	key, rec := newKey()
	rec.Secrets[0].Digest = NewCrypto([]byte("0123456789abcdef0123456789abcdef")).StoredDigest(key)
	f := newFixture(t, Options{}, rec)
	f.want(key, nil, Valid)
	f.wantHashes(1)
}

func TestAWrongSecretIsChargedAndARightOneGivenBack(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	g := newBudget(3)
	wrong := wrongFor(rec.ID)
	f.want(wrong, g, WrongSecret)
	f.want(wrong, g, WrongSecret) // known to be wrong: charged, not hashed
	f.wantHashes(1)
	if g.remaining(rec.ID) != 1 {
		t.Fatalf("%d attempts left, want 1", g.remaining(rec.ID))
	}
	f.want(key, g, Valid)
	if g.remaining(rec.ID) != 1 || g.refunds != 1 {
		t.Errorf("%d attempts left after a right one, want 1", g.remaining(rec.ID))
	}
	f.want(wrongFor(rec.ID), g, WrongSecret)
	r := f.want(wrongFor(rec.ID), g, AttemptsExceeded)
	if r.ID != rec.ID || r.Entry != nil {
		t.Errorf("got %+v", r)
	}
	spent := g.spent
	f.want(key, g, Valid) // already verified: never consults the guard
	if g.spent != spent {
		t.Error("a verified key consulted the guard")
	}
	f.wantHashes(2)
}

func TestPastTheBudgetNothingIsHashed(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	g := newBudget(0)
	f.want(wrongFor(rec.ID), g, AttemptsExceeded)
	f.want(key, g, AttemptsExceeded) // nobody knows yet that it is right
	f.wantHashes(0)
	f.want(key, newBudget(1), Valid) // from another address
}

func TestOnceItsKeyIsKnownAHashIsNeverComputedForAnother(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	f.want(key, nil, Valid)
	g := newBudget(50)
	for range 50 {
		f.want(wrongFor(rec.ID), g, WrongSecret)
	}
	f.want(wrongFor(rec.ID), g, AttemptsExceeded)
	f.wantHashes(1)
}

func TestFailuresAreForgottenAfterTenSeconds(t *testing.T) {
	_, rec := newKey()
	f := newFixture(t, Options{}, rec)
	wrong := wrongFor(rec.ID)
	f.want(wrong, nil, WrongSecret)
	f.clock.advance(failureFor - 1)
	f.want(wrong, nil, WrongSecret)
	f.wantHashes(1)
	f.clock.advance(1)
	f.want(wrong, nil, WrongSecret)
	f.wantHashes(2)
}

// rotated returns two keys of one record: the new one, and the old one that
// lives an hour longer.
func rotated(crypto *Crypto) (fresh, old string, rec *Record) {
	old, rec = newKey()
	fresh = DefaultFormat().Regenerate(rec.ID)
	rec.Secrets = []Secret{
		{Hash: fakeHash(fresh), Digest: crypto.StoredDigest(fresh)},
		{Hash: fakeHash(old), Digest: crypto.StoredDigest(old), NotAfter: testTime.Add(time.Hour)},
	}
	return fresh, old, rec
}

func TestBothSecretsWorkUntilTheOverlapEnds(t *testing.T) {
	for _, dataKey := range [][]byte{nil, make([]byte, 32)} {
		crypto := NewCrypto(dataKey)
		fresh, old, rec := rotated(crypto)
		f := newFixture(t, Options{Crypto: crypto}, rec)
		g := newBudget(1)
		for range 2 {
			if r := f.want(fresh, g, Valid); r.Secret != 0 {
				t.Errorf("the new key matched secret %d", r.Secret)
			}
			if r := f.want(old, g, Valid); r.Secret != 1 {
				t.Errorf("the old key matched secret %d", r.Secret)
			}
		}
		if g.remaining(rec.ID) != 1 {
			t.Errorf("right keys cost %d attempts", 1-g.remaining(rec.ID))
		}
		f.clock.advance(time.Hour)
		f.pollNow()
		f.want(fresh, g, Valid)
		f.want(old, g, WrongSecret)
		f.want(old, g, AttemptsExceeded)
		if dataKey != nil {
			f.wantHashes(0)
		} else {
			f.wantHashes(2) // the new key's hash is known by then
		}
	}
}

func TestAWrongSecretIsChargedOnceHoweverManySecretsTheKeyHas(t *testing.T) {
	_, _, rec := rotated(NewCrypto(nil))
	f := newFixture(t, Options{}, rec)
	g := newBudget(5)
	f.want(wrongFor(rec.ID), g, WrongSecret)
	if g.remaining(rec.ID) != 4 {
		t.Errorf("charged %d times", 5-g.remaining(rec.ID))
	}
	f.wantHashes(2)
}

func TestRotationKeepsWhatIsKnownOfTheOldSecretAndDropsItWithIt(t *testing.T) {
	old, rec := newKey()
	f := newFixture(t, Options{}, rec)
	f.want(old, nil, Valid)
	fresh := DefaultFormat().Regenerate(rec.ID)
	f.Apply(f.store.change(rec.ID, func(r *Record) {
		s := r.Secrets[0]
		s.NotAfter = testTime.Add(time.Hour)
		r.Secrets = []Secret{{Hash: fakeHash(fresh)}, s}
	}))
	if r := f.want(old, nil, Valid); r.Secret != 1 {
		t.Errorf("the old key matched secret %d", r.Secret)
	}
	f.wantHashes(1)
	f.Apply(f.store.change(rec.ID, func(r *Record) { r.Secrets = r.Secrets[:1] }))
	f.want(old, nil, WrongSecret)
	f.want(fresh, nil, Valid)
}

func TestARecordWithoutAUsableSecretIsNeverRight(t *testing.T) {
	key, rec := newKey()
	rec.Secrets = nil
	f := newFixture(t, Options{}, rec)
	f.want(key, nil, WrongSecret)
	f.want(key, newBudget(0), AttemptsExceeded)
	_, costly := newKey()
	h := fakeHash("x")
	costly.Secrets[0].Hash = append([]byte("$2b$15$"), h[7:]...)
	f.store.put(costly)
	f.want(wrongFor(costly.ID), nil, WrongSecret)
	_, broken := newKey()
	broken.Secrets[0].Hash = []byte("not a hash")
	f.store.put(broken)
	f.want(wrongFor(broken.ID), nil, WrongSecret)
	f.wantHashes(0)
}

func TestForeignBcryptHashesOfEveryVersionCompare(t *testing.T) {
	// Published: crypt_blowfish's wrapper.c, Apache's htpasswd documentation,
	// pyca/bcrypt's tests. bcrypt computes the three versions alike for ASCII.
	for _, c := range []struct{ hash, key string }{
		{"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
		{"$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", "U*U*"},
		{"$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "myPassword"},
		{"$2b$04$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm", "Kk4DQuMMfZL9o"},
		{"$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
		{"$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
	} {
		if err := ValidHash([]byte(c.hash)); err != nil {
			t.Errorf("%s: %v", c.hash, err)
		}
		if err := bcrypt.CompareHashAndPassword([]byte(c.hash), []byte(c.key)); err != nil {
			t.Errorf("%s %s: %v", c.hash, c.key, err)
		}
		if err := bcrypt.CompareHashAndPassword([]byte(c.hash), []byte(c.key+"x")); err == nil {
			t.Errorf("%s: another key passes", c.hash)
		}
	}
}

func TestRealBcryptVerifiesAKeyOf72Bytes(t *testing.T) {
	format, err := NewFormat("hive_sk_", 64)
	if err != nil {
		t.Fatal(err)
	}
	key, id := format.Generate()
	hash, err := bcrypt.GenerateFromPassword([]byte(key), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, Options{Compare: bcrypt.CompareHashAndPassword}, &Record{ID: id, Secrets: []Secret{{Hash: hash}}})
	formats := []Format{format}
	verify := func(s string) Outcome {
		return f.Verify(context.Background(), f.clock.now(), formats, s, nil).Outcome
	}
	if got := verify(key); got != Valid {
		t.Errorf("got %v", got)
	}
	if got := verify(key + "x"); got != Malformed { // bcrypt would not read the x
		t.Errorf("a key with more behind it: %v", got)
	}
	if got := verify(format.Regenerate(id)); got != WrongSecret {
		t.Errorf("another secret: %v", got)
	}
}

func TestLookup(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	e, err := f.Lookup(context.Background(), rec.ID)
	if err != nil || e.Record().ID != rec.ID {
		t.Fatalf("%v %v", e, err)
	}
	if r := f.want(key, nil, Valid); r.Entry != e {
		t.Error("a second copy of the record in memory")
	}
	if _, err := f.Lookup(context.Background(), NewID()); !errors.Is(err, ErrNotFound) {
		t.Errorf("an id that does not exist: %v", err)
	}
	f.store.setAway(true)
	if _, err := f.Lookup(context.Background(), NewID()); !errors.Is(err, errStoreAway) {
		t.Errorf("a store that is away: %v", err)
	}
}

func TestWhatIsAttachedIsGoneWithTheNextVersion(t *testing.T) {
	key, rec := newKey()
	f := newFixture(t, Options{}, rec)
	e := f.want(key, nil, Valid).Entry
	if e.Attached() != nil {
		t.Error("something is attached from the start")
	}
	e.Attach("compiled")
	if got := f.want(key, nil, Valid).Entry.Attached(); got != "compiled" {
		t.Errorf("attached: %v", got)
	}
	f.Apply(f.store.change(rec.ID, func(r *Record) { r.Scopes = []string{"a:b"} }))
	e.Attach("of the old version, compiled too late")
	if got := f.want(key, nil, Valid).Entry.Attached(); got != nil {
		t.Errorf("the new version has %v", got)
	}
}

func TestNewVerifierDoesNoIOAndNeedsAStore(t *testing.T) {
	if _, err := NewVerifier(Options{}); err == nil {
		t.Error("made without a store")
	}
	s := newFakeStore()
	s.away = true
	v, err := NewVerifier(Options{Store: s, Verified: 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Close(), v.Close()); err != nil {
		t.Error(err)
	}
	if err := v.Start(context.Background()); err == nil {
		t.Error("started after Close")
	}
}

func TestVerifyWorksBeforeStartAndAfterClose(t *testing.T) {
	key, rec := newKey()
	c := &counter{}
	v, err := NewVerifier(Options{Store: newFakeStore(rec), Compare: c.compare, Verified: 10})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r := v.Verify(context.Background(), time.Now(), testFormats, key, nil); r.Outcome != Valid {
			t.Errorf("before Start: %v", r.Outcome)
		}
	}
	if err := v.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := v.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if r := v.Verify(context.Background(), time.Now(), testFormats, key, nil); r.Outcome != Valid {
		t.Errorf("after Start: %v", r.Outcome)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if r := v.Verify(context.Background(), time.Now(), testFormats, key, nil); r.Outcome != Valid {
		t.Errorf("a key in memory, after Close: %v", r.Outcome)
	}
	unheld, _ := newKey()
	if r := v.Verify(context.Background(), time.Now(), testFormats, unheld, nil); r.Outcome == Valid {
		t.Errorf("a key that is not in memory, after Close: %v", r.Outcome)
	}
	if c.count() != 1 {
		t.Errorf("%d comparisons, want 1", c.count())
	}
}

func TestConcurrentUseOfEverything(t *testing.T) {
	var keys []string
	var recs []*Record
	for range 40 {
		key, rec := newKey()
		keys, recs = append(keys, key), append(recs, rec)
	}
	c := &counter{}
	store := newFakeStore(recs...)
	v, err := NewVerifier(Options{Store: store, Compare: c.compare, Records: 16, Verified: 20, Poll: time.Millisecond, FlushEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			var n StreamNode
			n.Stream = &fakeStream{}
			g := newBudget(1000)
			for i := range 300 {
				k := (i*7 + w) % len(keys)
				now := time.Now()
				r := v.Verify(context.Background(), now, testFormats, keys[k], g)
				if r.Outcome == Valid {
					r.Entry.Join(&n)
					r.Entry.Used(now, "192.0.2.1", "GET /", r.Secret)
					r.Entry.Attach(i)
					r.Entry.Leave(&n)
				} else if r.Outcome != Overloaded {
					t.Errorf("a valid key got %v (%v)", r.Outcome, r.Err)
				}
				v.Verify(context.Background(), now, testFormats, wrongFor(recs[k].ID), g)
				if w == 0 && i%10 == 0 {
					v.Apply(store.change(recs[k].ID, func(r *Record) { r.Name += "x" }))
				}
				if w == 1 && i%10 == 0 {
					store.change(recs[k].ID, func(r *Record) { r.Name += "y" })
				}
				v.Stats()
			}
		})
	}
	wg.Wait()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if s := v.Stats(); s.Held > 16 {
		t.Errorf("%d records in memory, want at most 16", s.Held)
	}
}
