package storetest

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/hivegate/hivegate/keystore"
)

const sharedHints = 16 // unrevoked records per hint

var hintTests = []singleTest{
	{"ByHint returns exactly the unrevoked records with that hint", func(t *testing.T, s keystore.Store) {
		for n, hint := range []string{"", "legacy_abc", "legacy_abc", "legacy_abcd", "LEGACY_ABC", "legacy_abc"} {
			create(t, s, hinted(n, hint))
		}
		update(t, s, newID(5), func(rec *keystore.Record) { rec.RevokedAt = epoch })
		update(t, s, newID(2), func(rec *keystore.Record) { rec.Disabled = true }) // reversible: still there
		for hint, want := range map[string][]int{
			"legacy_abc": {1, 2}, "legacy_abcd": {3}, "LEGACY_ABC": {4}, "legacy_ab": nil, "": nil, "legacy_%": nil,
		} {
			got, err := s.ByHint(t.Context(), hint)
			if err != nil {
				t.Fatal(err)
			}
			n := numbers(got)
			slices.Sort(n)
			if !slices.Equal(n, want) {
				t.Errorf("ByHint(%q): records %v, want %v", hint, n, want)
			}
		}
		got, err := s.ByHint(t.Context(), "legacy_abcd")
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		wantRecord(t, "by hint", got[0], get(t, s, newID(3)))
	}},
	{"Hints names every hint of an unrevoked record", func(t *testing.T, s keystore.Store) {
		for n, hint := range []string{"", "aaaaaa", "bbbbbb", "aaaaaa", "cccccc"} {
			create(t, s, hinted(n, hint))
		}
		update(t, s, newID(4), func(rec *keystore.Record) { rec.RevokedAt = epoch })
		var got []string
		err := s.Hints(t.Context(), func(hint string) {
			got = append(got, hint)
			if _, err := s.ByHint(t.Context(), hint); err != nil { // fn may call the store
				t.Error(err)
			}
		})
		slices.Sort(got)
		if want := []string{"aaaaaa", "bbbbbb"}; err != nil || !slices.Equal(slices.Compact(got), want) {
			t.Errorf("Hints: %q, %v, want %q", got, err, want)
		}
	}},
	{"at most 16 unrevoked records share a hint", func(t *testing.T, s keystore.Store) {
		var recs []*keystore.Record
		for n := range sharedHints {
			recs = append(recs, hinted(n, "legacy_abc"))
		}
		wantErr(t, "17 in one batch", s.Create(t.Context(), change, append(slices.Clone(recs), hinted(16, "legacy_abc"))...), keystore.ErrHintFull)
		if got, err := s.ByHint(t.Context(), "legacy_abc"); err != nil || len(got) != 0 {
			t.Fatalf("a refused batch left %d records, %v", len(got), err)
		}
		create(t, s, recs...)
		before := seq(t, s)
		wantErr(t, "the 17th", s.Create(t.Context(), change, hinted(17, "other_hint"), hinted(16, "legacy_abc")), keystore.ErrHintFull)
		_, err := s.Get(t.Context(), newID(17))
		wantErr(t, "the rest of the refused batch", err, keystore.ErrNotFound)
		create(t, s, newRecord(18))
		_, err = s.Update(t.Context(), change, newID(18), func(rec *keystore.Record) error { rec.Hint = "legacy_abc"; return nil })
		wantErr(t, "Update to a full hint", err, keystore.ErrHintFull)
		if after := seq(t, s); after != before+1 {
			t.Errorf("the change number went from %d to %d, want one change", before, after)
		}
		// A revocation makes room; a change of a record among the 16 needs none.
		update(t, s, newID(3), func(rec *keystore.Record) { rec.Name = "still in" })
		update(t, s, newID(3), func(rec *keystore.Record) { rec.RevokedAt = epoch })
		create(t, s, hinted(16, "legacy_abc"))
	}},
	{"parallel creates never exceed 16 for a hint", func(t *testing.T, s keystore.Store) {
		fillHint(t, s, s)
	}},
}

// hinted is the n-th record with a hint.
func hinted(n int, hint string) *keystore.Record {
	rec := newRecord(n)
	rec.Hint = hint
	return rec
}

// fillHint lets both handles create 24 records of one hint at the same time.
func fillHint(t *testing.T, a, b keystore.Store) {
	var stored, full atomic.Int32
	parallel(24, func(i int) {
		s := a
		if i%2 == 1 {
			s = b
		}
		switch err := s.Create(t.Context(), change, hinted(i, "legacy_abc")); {
		case err == nil:
			stored.Add(1)
		case errors.Is(err, keystore.ErrHintFull):
			full.Add(1)
		default:
			t.Errorf("record %d: %v", i, err)
		}
	})
	got, err := a.ByHint(t.Context(), "legacy_abc")
	if err != nil || len(got) != sharedHints || stored.Load() != sharedHints || full.Load() != 24-sharedHints {
		t.Errorf("%d records (%d said stored, %d refused), %v, want %d", len(got), stored.Load(), full.Load(), err, sharedHints)
	}
}
