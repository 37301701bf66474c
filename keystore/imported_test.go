package keystore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// imported makes a record of somebody else's key.
func imported(key, hint string) *Record {
	return &Record{ID: NewID(), Hint: hint, Secrets: []Secret{{Hash: fakeHash(key)}}}
}

func TestAnImportedKeyIsFoundByItsHint(t *testing.T) {
	const key = "sk_live_abcdefgh"
	rec := imported(key, "sk_live_ab")
	f := newFixture(t, Options{}, imported("other_0123456", "other_0"), rec)
	g := newBudget(3)
	for range 3 {
		if r := f.want(key, g, Valid); r.ID != rec.ID {
			t.Fatalf("got %+v", r)
		}
	}
	f.wantHashes(1)
	if g.remaining(rec.ID) != 3 {
		t.Errorf("%d attempts left, want 3", g.remaining(rec.ID))
	}
	if r := f.want(key+"x", g, WrongSecret); r.ID != rec.ID || r.Entry != nil {
		t.Errorf("got %+v", r)
	}
	f.want("sk_live_xyz_unknown", g, Malformed) // begins like none
	f.want("sk_liv", g, Malformed)
	f.wantHashes(1) // its one key is known
}

func TestAnImportedHtpasswdHashVerifies(t *testing.T) {
	rec := imported("", "myPass")
	rec.Secrets[0].Hash = []byte("$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC")
	f := newFixture(t, Options{Compare: bcrypt.CompareHashAndPassword}, rec)
	f.want("myPassword", nil, Valid)
	f.want("myPasswort", nil, WrongSecret)
}

func TestImportedKeysThatShareAHintAreAllTriedAndARightOneCostsNothing(t *testing.T) {
	var recs []*Record
	for i := range 16 {
		recs = append(recs, imported(fmt.Sprintf("shared_hint_%d", i), "shared_h"))
	}
	f := newFixture(t, Options{}, recs...)
	g := newBudget(1)
	if r := f.want("shared_hint_9", g, Valid); r.ID != recs[9].ID {
		t.Fatalf("another key's record: %+v", r)
	}
	f.wantHashes(10)
	for _, rec := range recs {
		if g.remaining(rec.ID) != 1 {
			t.Error("a right key was charged to another's budget")
		}
	}
	f.want("shared_hint_9", newBudget(0), Valid)
	f.wantHashes(10)
	f.want("shared_hint_wrong", g, WrongSecret)
	f.wantHashes(25) // not again with the one whose key is known
	f.want("shared_hint_also_wrong", g, AttemptsExceeded)
	f.wantHashes(25)
	for i := range 16 { // what is spent on one does not bar the next address
		f.want(fmt.Sprintf("shared_hint_%d", i), newBudget(16), Valid)
	}
	if f.store.byHints != 1 {
		t.Errorf("the candidates were read %d times, want once", f.store.byHints)
	}
}

func TestABudgetSpentOnOneCandidateLeavesTheOthers(t *testing.T) {
	a, b := imported("shared_hint_a", "shared_h"), imported("shared_hint_b", "shared_h")
	f := newFixture(t, Options{}, a, b)
	g := newBudget(3)
	for range 3 {
		g.Spend(a.ID)
	}
	f.want("shared_hint_b", g, Valid)
	for range 3 {
		f.want("shared_hint_a", g, WrongSecret) // compared with the other
	}
	f.want("shared_hint_a", g, AttemptsExceeded)
	f.want("shared_hint_a", newBudget(2), Valid)
}

func TestLongerHintsComeFirstAndShorterOnesStillCount(t *testing.T) {
	short, long := imported("abcdefghijkl", "abcdef"), imported("abcdefghXYZ", "abcdefgh")
	f := newFixture(t, Options{}, short, long)
	if r := f.want("abcdefghXYZ", nil, Valid); r.ID != long.ID {
		t.Error("another record")
	}
	f.wantHashes(1)
	if r := f.want("abcdefghijkl", nil, Valid); r.ID != short.ID {
		t.Error("another record")
	}
	f.wantHashes(2) // the longer hint's one key is known
}

func TestARandomImportedKeyIsJudgedByItsStoredDigest(t *testing.T) {
	crypto := NewCrypto(make([]byte, 32))
	const key = "sk_live_random_0123456789"
	rec := imported(key, "sk_live_ra")
	rec.Secrets[0].Digest = crypto.StoredDigest(key)
	f := newFixture(t, Options{Crypto: crypto}, rec)
	f.want(key, newBudget(0), Valid)
	f.want(key+"x", newBudget(1), WrongSecret)
	f.wantHashes(0)
}

func TestAnImportedKeyOfNativeShapeIsFoundByIDOnly(t *testing.T) {
	key, _ := newKey()
	f := newFixture(t, Options{}, imported(key, key[:16]))
	f.want(key, nil, Unknown)
	f.wantHashes(0)
}

func TestAKeyImportedLaterWorksOnceTheFeedBringsIt(t *testing.T) {
	f := newFixture(t, Options{})
	f.want("sk_live_abcdefgh", nil, Malformed)
	f.store.put(imported("sk_live_abcdefgh", "sk_live_ab"))
	f.pollNow()
	f.want("sk_live_abcdefgh", nil, Valid)
	f.want("sk_live_abc_second", nil, WrongSecret)
	f.Apply(f.store.put(imported("sk_live_abc_second", "sk_live_ab")))
	f.want("sk_live_abc_second", nil, Valid)
}

func TestARevokedImportedKeyIsRefused(t *testing.T) {
	const key = "sk_live_abcdefgh"
	rec := imported(key, "sk_live_ab")
	f := newFixture(t, Options{}, rec)
	f.want(key, nil, Valid)
	f.verified.c.Wait()
	f.Apply(f.store.change(rec.ID, func(r *Record) { r.RevokedAt = testTime }))
	f.want(key, nil, Revoked)
	// Once nobody remembers the key, it is no candidate at all.
	fresh := newFixture(t, Options{Store: f.store})
	fresh.want(key, nil, Unknown)
	fresh.wantHashes(0)
}

func TestADisabledOrExpiredImportedKeySaysSoOnlyToItsHolder(t *testing.T) {
	rec := imported("sk_live_abcdefgh", "sk_live_ab")
	rec.ExpiresAt = testTime
	f := newFixture(t, Options{}, rec)
	f.want("sk_live_abcdefgX", nil, WrongSecret)
	f.want("sk_live_abcdefgh", nil, Expired)
}

func TestImportedKeysNeedTheStoreOnceMemoryIsStale(t *testing.T) {
	f := newFixture(t, Options{}, imported("sk_live_abcdefgh", "sk_live_ab"))
	f.want("sk_live_abcdefgh", nil, Valid)
	f.store.setAway(true)
	f.clock.advance(2 * time.Minute)
	if r := f.want("sk_live_abcdefgh", nil, Unavailable); !errors.Is(r.Err, errStoreAway) {
		t.Errorf("cause: %v", r.Err)
	}
	f.store.setAway(false)
	f.want("sk_live_abcdefgh", nil, Valid)
	f.wantHashes(1)
}

func TestACandidateChangedWhileCandidatesAreReadIsNotMissed(t *testing.T) {
	f := newFixture(t, Options{}, imported("sk_live_a", "sk_live_"))
	k := makeHintKey("sk_live_")
	v := f.Verifier
	gen := v.hints.gen.Load()
	if _, err := v.hintIDs(context.Background(), f.clock.now(), &k); err != nil {
		t.Fatal(err)
	}
	if v.hints.m[k] == nil || v.hints.gen.Load() != gen {
		t.Fatal("the candidates were not kept")
	}
	v.hints.add("sk_live_")
	if v.hints.m[k] != nil {
		t.Error("old candidates outlive a change")
	}
}

func TestHintsOfImpossibleLengthAreIgnored(t *testing.T) {
	var h hintIndex
	h.m = map[hintKey]*hintSet{}
	h.add("short")
	h.add("this hint is much too long for it")
	if len(h.m) != 0 || h.lens.Load() != 0 {
		t.Error("kept")
	}
	h.add("exactly20characters_")
	if got := h.match("exactly20characters_and_more", nil); len(got) != 1 || got[0].String() != "exactly20characters_" {
		t.Errorf("got %v", got)
	}
	if got := h.match("exactly20character", nil); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
