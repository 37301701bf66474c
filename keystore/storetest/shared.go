package storetest

import (
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

var sharedTests = []sharedTest{
	{"what one handle stored the other sees at once", func(t *testing.T, a, b keystore.Store) {
		start := seq(t, b)
		rec := fullRecord(1)
		rec.RevokedAt = time.Time{}
		create(t, a, rec)
		wantRecord(t, "created", get(t, b, rec.ID), rec)
		for i, pair := range [][2]keystore.Store{{a, b}, {b, a}, {a, b}} {
			stored := update(t, pair[0], rec.ID, func(rec *keystore.Record) { rec.Disabled = i%2 == 0 })
			wantRecord(t, "updated", get(t, pair[1], rec.ID), stored)
			if got := seq(t, pair[1]); got != stored.Seq {
				t.Errorf("Seq of the other handle is %d, want %d", got, stored.Seq)
			}
			wantNumbers(t, "changes", changed(t, pair[1], start, 10), 1)
			wantNumbers(t, "list", listAll(t, pair[1], keystore.Query{Now: epoch}), 1)
			if got, err := pair[1].ByHint(t.Context(), rec.Hint); err != nil || len(got) != 1 {
				t.Errorf("ByHint: %d records, %v", len(got), err)
			}
		}
		touch(t, a, keystore.Use{ID: rec.ID, At: epoch.Add(2 * time.Hour)})
		touch(t, b, keystore.Use{ID: rec.ID, At: epoch.Add(time.Hour)})
		if got := get(t, b, rec.ID); got.LastUsedAt != epoch.Add(2*time.Hour) {
			t.Errorf("last use is %v", got.LastUsedAt)
		}
	}},
	{"a revocation by one handle cannot be undone by the other", func(t *testing.T, a, b keystore.Store) {
		create(t, a, newRecord(1))
		update(t, b, newID(1), func(rec *keystore.Record) { rec.RevokedAt = epoch })
		_, err := a.Update(t.Context(), change, newID(1), func(rec *keystore.Record) error { rec.RevokedAt = time.Time{}; return nil })
		wantErr(t, "Update", err, keystore.ErrRevoked)
	}},
	{"an id taken through one handle is taken for the other", func(t *testing.T, a, b keystore.Store) {
		create(t, a, newRecord(1))
		wantErr(t, "Create", b.Create(t.Context(), change, newRecord(1)), keystore.ErrExists)
	}},
	{"parallel updates through both handles lose nothing", func(t *testing.T, a, b keystore.Store) {
		rec := newRecord(1)
		rec.Scopes = nil
		create(t, a, rec)
		const writers, rounds = 6, 15
		parallel(writers, func(w int) { appendScopes(t, []keystore.Store{a, b}[w%2], rec.ID, w, rounds) })
		wantAllScopes(t, get(t, a, rec.ID), writers, rounds)
		wantAllScopes(t, get(t, b, rec.ID), writers, rounds)
	}},
	{"a reader on one handle misses no change of writers on both", func(t *testing.T, a, b keystore.Store) {
		followWriters(t, a, b, b)
	}},
	{"both handles together keep to 16 per hint", fillHint},
	{"of first data keys through both handles one wins", raceDataKey},
	{"a handle goes on when the other is closed", func(t *testing.T, a, b keystore.Store) {
		create(t, a, newRecord(1))
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		create(t, b, newRecord(2))
		wantNumbers(t, "list", listAll(t, b, keystore.Query{Now: epoch}), 2, 1)
	}},
}
