package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

var updateTests = []singleTest{
	{"Update stores every member that may change and returns what is stored", func(t *testing.T, s keystore.Store) {
		create(t, s, newRecord(1))
		want := fullRecord(1)
		want.LastUsedAt, want.LastAddr, want.LastRoute = time.Time{}, "", "" // Touch's
		got := update(t, s, want.ID, func(rec *keystore.Record) {
			kept := *rec
			*rec = *fullRecord(1)
			rec.ID, rec.Seq = kept.ID, kept.Seq
		})
		if want.Seq = got.Seq; want.Seq != seq(t, s) {
			t.Errorf("the record's change number is %d, the store's %d", got.Seq, seq(t, s))
		}
		wantRecord(t, "returned", got, want)
		wantRecord(t, "stored", get(t, s, want.ID), want)
	}},
	{"Update can take everything away again", func(t *testing.T, s keystore.Store) {
		rec := fullRecord(1)
		rec.RevokedAt = time.Time{}
		create(t, s, rec)
		want := newRecord(1)
		want.LastUsedAt, want.LastAddr, want.LastRoute = rec.LastUsedAt, rec.LastAddr, rec.LastRoute
		got := update(t, s, rec.ID, func(rec *keystore.Record) { *rec = *newRecord(1) })
		want.Seq = got.Seq
		wantRecord(t, "stored", get(t, s, rec.ID), want)
	}},
	{"fn is handed the current record", func(t *testing.T, s keystore.Store) {
		rec := fullRecord(1)
		create(t, s, rec)
		update(t, s, rec.ID, func(got *keystore.Record) { wantRecord(t, "handed", got, rec) })
	}},
	{"every Update raises the change number", func(t *testing.T, s keystore.Store) {
		create(t, s, newRecord(1), newRecord(2))
		for i := range 3 {
			before := seq(t, s)
			got := update(t, s, newID(1), func(rec *keystore.Record) { rec.Name = fmt.Sprint(i) })
			if got.Seq <= before || got.Seq != seq(t, s) {
				t.Errorf("after %d the record's change number is %d, the store's %d", before, got.Seq, seq(t, s))
			}
		}
	}},
	{"updating an unknown id is ErrNotFound and calls no fn", func(t *testing.T, s keystore.Store) {
		before := seq(t, s)
		_, err := s.Update(t.Context(), change, newID(1), func(*keystore.Record) error {
			t.Error("fn was called")
			return nil
		})
		wantErr(t, "Update", err, keystore.ErrNotFound)
		if after := seq(t, s); after != before {
			t.Errorf("the change number went from %d to %d", before, after)
		}
	}},
	{"an error of fn comes back as it is and changes nothing", func(t *testing.T, s keystore.Store) {
		rec := fullRecord(1)
		create(t, s, rec)
		before := seq(t, s)
		mine := errors.New("mine")
		got, err := s.Update(t.Context(), change, rec.ID, func(rec *keystore.Record) error {
			rec.Name, rec.Scopes[0] = "changed", "changed:all"
			return mine
		})
		if err != mine || got != nil { //nolint:errorlint // the error itself, not one that wraps it
			t.Errorf("Update returned %v, %v, want nil and the error itself", got, err)
		}
		wantRecord(t, "stored", get(t, s, rec.ID), rec)
		if after := seq(t, s); after != before {
			t.Errorf("the change number went from %d to %d", before, after)
		}
	}},
	{"a panic of fn changes nothing and leaves the store usable", func(t *testing.T, s keystore.Store) {
		rec := newRecord(1)
		create(t, s, rec)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_, _ = s.Update(t.Context(), change, rec.ID, func(rec *keystore.Record) error {
				rec.Name = "changed"
				panic("mine")
			})
		}()
		wantRecord(t, "stored", get(t, s, rec.ID), rec)
		update(t, s, rec.ID, func(rec *keystore.Record) { rec.Name = "works" })
	}},
	{"id, creation, change number and last use are not fn's to change", func(t *testing.T, s keystore.Store) {
		rec := fullRecord(1)
		create(t, s, rec)
		got := update(t, s, rec.ID, func(rec *keystore.Record) {
			rec.ID, rec.Seq, rec.CreatedAt = newID(2), 1<<40, epoch.Add(-time.Hour)
			rec.LastUsedAt, rec.LastAddr, rec.LastRoute = time.Time{}, "", ""
		})
		rec.Seq = seq(t, s)
		wantRecord(t, "returned", got, rec)
		wantRecord(t, "stored", get(t, s, rec.ID), rec)
	}},
	{"a revocation is for ever", func(t *testing.T, s keystore.Store) {
		rec := newRecord(1)
		create(t, s, rec)
		update(t, s, rec.ID, func(rec *keystore.Record) { rec.RevokedAt = epoch.Add(time.Hour) })
		_, err := s.Update(t.Context(), change, rec.ID, func(rec *keystore.Record) error {
			rec.RevokedAt = time.Time{}
			return nil
		})
		wantErr(t, "Update", err, keystore.ErrRevoked)
		if got := get(t, s, rec.ID); got.StatusAt(epoch.Add(2*time.Hour)) != keystore.StatusRevoked {
			t.Errorf("the key is %v again", got.StatusAt(epoch.Add(2*time.Hour)))
		}
	}},
	{"secrets come and go in order", func(t *testing.T, s keystore.Store) {
		rec := newRecord(1)
		create(t, s, rec)
		old := rec.Secrets[0]
		old.NotAfter = epoch.Add(time.Hour)
		fresh := keystore.Secret{Hash: []byte("fresh"), Digest: []byte("digest")}
		for _, secrets := range [][]keystore.Secret{{fresh, old}, {fresh}, {old, fresh}, {fresh}} {
			update(t, s, rec.ID, func(rec *keystore.Record) { rec.Secrets = slices.Clone(secrets) })
			want := get(t, s, rec.ID)
			want.Secrets = secrets
			wantRecord(t, "stored", get(t, s, rec.ID), want)
		}
	}},
	{"a change that shares a secret's memory with fn is kept apart", func(t *testing.T, s keystore.Store) {
		create(t, s, fullRecord(1))
		var leaked *keystore.Record
		got := update(t, s, newID(1), func(rec *keystore.Record) { leaked = rec; rec.Name = "kept" })
		want := get(t, s, newID(1))
		leaked.Name, leaked.Scopes[0], leaked.Secrets[0].Hash[0] = "changed", "changed:all", 'X'
		leaked.IPAllowlist[0] = netip.MustParsePrefix("10.0.0.0/8")
		wantRecord(t, "returned", got, want)
		wantRecord(t, "stored", get(t, s, newID(1)), want)
	}},
	{"parallel updates of one record lose nothing", func(t *testing.T, s keystore.Store) {
		rec := newRecord(1)
		rec.Scopes = nil
		create(t, s, rec)
		const writers, rounds = 8, 10
		parallel(writers, func(w int) { appendScopes(t, s, rec.ID, w, rounds) })
		wantAllScopes(t, get(t, s, rec.ID), writers, rounds)
	}},
}

// appendScopes makes rounds updates, each of which appends one scope.
func appendScopes(t *testing.T, s keystore.Store, id keystore.ID, writer, rounds int) {
	for round := range rounds {
		_, err := s.Update(t.Context(), change, id, func(rec *keystore.Record) error {
			rec.Scopes = append(rec.Scopes, fmt.Sprintf("w%d:r%d", writer, round))
			return nil
		})
		if err != nil {
			t.Errorf("writer %d, round %d: %v", writer, round, err)
			return
		}
	}
}

// wantAllScopes checks that no update was lost and that each writer's came in
// its order.
func wantAllScopes(t *testing.T, rec *keystore.Record, writers, rounds int) {
	t.Helper()
	next := make([]int, writers)
	for _, scope := range rec.Scopes {
		var w, r int
		if _, err := fmt.Sscanf(scope, "w%d:r%d", &w, &r); err != nil {
			t.Fatalf("unexpected scope %q", scope)
		}
		if r != next[w] {
			t.Errorf("writer %d: round %d where %d was expected", w, r, next[w])
		}
		next[w] = r + 1
	}
	for w, n := range next {
		if n != rounds {
			t.Errorf("writer %d: %d of %d updates are there", w, n, rounds)
		}
	}
}
