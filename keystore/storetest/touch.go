package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

var touchTests = []singleTest{
	{"Touch stores the last use and raises no change number", func(t *testing.T, s keystore.Store) {
		rec := newRecord(1)
		create(t, s, rec, newRecord(2))
		before := seq(t, s)
		touch(t, s, keystore.Use{ID: rec.ID, At: epoch.Add(time.Minute), Addr: "192.0.2.7", Route: "GET /farms"})
		want := *rec
		want.LastUsedAt, want.LastAddr, want.LastRoute = epoch.Add(time.Minute), "192.0.2.7", "GET /farms"
		wantRecord(t, "touched", get(t, s, rec.ID), &want)
		if after := seq(t, s); after != before {
			t.Errorf("the change number went from %d to %d", before, after)
		}
		if got := get(t, s, newID(2)); !got.LastUsedAt.IsZero() {
			t.Errorf("another key was touched: %v", got.LastUsedAt)
		}
	}},
	{"Touch goes forward only, in any order of arrival", func(t *testing.T, s keystore.Store) {
		create(t, s, newRecord(1))
		at := func(minute int) keystore.Use {
			return keystore.Use{ID: newID(1), At: epoch.Add(time.Duration(minute) * time.Minute), Addr: fmt.Sprint(minute), Route: fmt.Sprint(minute)}
		}
		for _, step := range []struct {
			uses []keystore.Use
			want int
		}{
			{[]keystore.Use{at(3)}, 3},
			{[]keystore.Use{at(2)}, 3},
			{[]keystore.Use{at(5), at(4)}, 5},
			{[]keystore.Use{at(1), at(6), at(2)}, 6},
		} {
			touch(t, s, step.uses...)
			got := get(t, s, newID(1))
			if want := at(step.want); got.LastUsedAt != want.At || got.LastAddr != want.Addr || got.LastRoute != want.Route {
				t.Errorf("after %v: %v %q %q, want minute %d", step.uses, got.LastUsedAt, got.LastAddr, got.LastRoute, step.want)
			}
		}
	}},
	{"the old secret of an overlap has a last use of its own", func(t *testing.T, s keystore.Store) {
		rec := newRecord(1)
		rec.Secrets = append(rec.Secrets, keystore.Secret{Hash: []byte("old"), NotAfter: epoch.Add(time.Hour)})
		create(t, s, rec)
		touch(t, s, keystore.Use{ID: rec.ID, Secret: 1, At: epoch.Add(2 * time.Minute)}, keystore.Use{ID: rec.ID, At: epoch.Add(3 * time.Minute)})
		touch(t, s, keystore.Use{ID: rec.ID, Secret: 1, At: epoch.Add(time.Minute)}) // late
		got := get(t, s, rec.ID)
		if want := epoch.Add(2 * time.Minute); got.Secrets[1].LastUsedAt != want {
			t.Errorf("old secret: %v, want %v", got.Secrets[1].LastUsedAt, want)
		}
		if want := epoch.Add(3 * time.Minute); got.LastUsedAt != want {
			t.Errorf("record: %v, want %v", got.LastUsedAt, want)
		}
	}},
	{"Touch passes over ids and secrets that are gone", func(t *testing.T, s keystore.Store) {
		create(t, s, newRecord(1))
		touch(t, s)
		touch(t, s,
			keystore.Use{ID: newID(9), At: epoch},
			keystore.Use{ID: newID(1), Secret: 1, At: epoch.Add(time.Minute)},
			keystore.Use{ID: newID(1), Secret: 7, At: epoch.Add(2 * time.Minute)})
		if got := get(t, s, newID(1)); got.LastUsedAt != epoch.Add(2*time.Minute) || len(got.Secrets) != 1 {
			t.Errorf("got %+v", got)
		}
	}},
	{"updates and touches at the same time undo nothing of each other", func(t *testing.T, s keystore.Store) {
		rec := newRecord(1)
		rec.Scopes = nil
		create(t, s, rec)
		const rounds = 20
		parallel(3, func(i int) {
			if i < 2 {
				appendScopes(t, s, rec.ID, i, rounds)
				return
			}
			for round := range rounds {
				use := keystore.Use{ID: rec.ID, At: epoch.Add(time.Duration(round) * time.Second)}
				if err := s.Touch(t.Context(), []keystore.Use{use}); err != nil {
					t.Errorf("Touch: %v", err)
				}
			}
		})
		got := get(t, s, rec.ID)
		wantAllScopes(t, got, 2, rounds)
		if want := epoch.Add((rounds - 1) * time.Second); got.LastUsedAt != want {
			t.Errorf("last use is %v, want %v", got.LastUsedAt, want)
		}
	}},
}

func touch(t *testing.T, s keystore.Store, uses ...keystore.Use) {
	t.Helper()
	if err := s.Touch(t.Context(), uses); err != nil {
		t.Fatalf("Touch: %v", err)
	}
}
