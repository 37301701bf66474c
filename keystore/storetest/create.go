package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

var createTests = []singleTest{
	{"a record comes back as it was created, every member", func(t *testing.T, s keystore.Store) {
		full, small := fullRecord(1), newRecord(2)
		create(t, s, full, small)
		wantRecord(t, "full record", get(t, s, full.ID), full)
		wantRecord(t, "small record", get(t, s, small.ID), small)
	}},
	{"times are UTC and exact to the microsecond", func(t *testing.T, s keystore.Store) {
		rec := newRecord(1)
		zone := time.FixedZone("east", 5*3600+1800)
		rec.CreatedAt = time.Date(2026, 3, 1, 12, 0, 0, 123456789, zone)
		rec.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
		create(t, s, rec)
		got := get(t, s, rec.ID)
		if want := rec.CreatedAt.UTC().Truncate(time.Microsecond); got.CreatedAt != want {
			t.Errorf("CreatedAt is %v, want %v", got.CreatedAt, want)
		}
		if want := rec.ExpiresAt.Truncate(time.Microsecond); got.ExpiresAt != want {
			t.Errorf("ExpiresAt is %v, want %v", got.ExpiresAt, want)
		}
		if !got.RevokedAt.IsZero() || !got.LastUsedAt.IsZero() || !got.Secrets[0].NotAfter.IsZero() {
			t.Errorf("times that were not set came back set: %+v", got)
		}
	}},
	{"an unknown id is ErrNotFound", func(t *testing.T, s keystore.Store) {
		create(t, s, newRecord(1))
		rec, err := s.Get(t.Context(), newID(2))
		wantErr(t, "Get", err, keystore.ErrNotFound)
		if rec != nil {
			t.Errorf("Get returned %v beside its error", rec)
		}
	}},
	{"ids differ by case", func(t *testing.T, s keystore.Store) {
		lower, upper := newRecord(1), newRecord(2)
		copy(lower.ID[:], "abcdefghijkl")
		copy(upper.ID[:], "ABCDEFGHIJKL")
		create(t, s, lower, upper)
		wantRecord(t, "lower", get(t, s, lower.ID), lower)
		wantRecord(t, "upper", get(t, s, upper.ID), upper)
	}},
	{"creating a taken id is ErrExists and creates none of the batch", func(t *testing.T, s keystore.Store) {
		create(t, s, newRecord(1))
		before := seq(t, s)
		again := newRecord(1)
		again.Name = "another"
		wantErr(t, "Create", s.Create(t.Context(), change, newRecord(2), again, newRecord(3)), keystore.ErrExists)
		wantErr(t, "Create twice in one batch", s.Create(t.Context(), change, newRecord(4), newRecord(4)), keystore.ErrExists)
		for _, n := range []int{2, 3, 4} {
			_, err := s.Get(t.Context(), newID(n))
			wantErr(t, "Get", err, keystore.ErrNotFound)
		}
		if got := get(t, s, newID(1)); got.Name != "key 1" {
			t.Errorf("the existing key was changed: %+v", got)
		}
		if after := seq(t, s); after != before {
			t.Errorf("the change number went from %d to %d", before, after)
		}
	}},
	{"Create sets the change number of each record, rising", func(t *testing.T, s keystore.Store) {
		before := seq(t, s)
		a, b, c := newRecord(1), newRecord(2), newRecord(3)
		create(t, s, a, b)
		create(t, s, c)
		if !(before < a.Seq && a.Seq < b.Seq && b.Seq < c.Seq && c.Seq == seq(t, s)) {
			t.Errorf("change numbers %d, %d, %d after %d; Seq is %d", a.Seq, b.Seq, c.Seq, before, seq(t, s))
		}
		for _, rec := range []*keystore.Record{a, b, c} {
			if got := get(t, s, rec.ID).Seq; got != rec.Seq {
				t.Errorf("Get says change %d, Create said %d", got, rec.Seq)
			}
		}
	}},
	{"creating nothing changes nothing", func(t *testing.T, s keystore.Store) {
		before := seq(t, s)
		create(t, s)
		if after := seq(t, s); after != before {
			t.Errorf("the change number went from %d to %d", before, after)
		}
	}},
	{"what a caller does to a record stays outside the store", func(t *testing.T, s keystore.Store) {
		rec := fullRecord(1)
		create(t, s, rec)
		want := get(t, s, rec.ID)
		for _, handed := range []*keystore.Record{rec, get(t, s, rec.ID)} {
			handed.Name = "changed"
			handed.Scopes[0] = "changed:all"
			handed.Secrets[0].Hash[0] = 'X'
			handed.Limits.Concurrent["outcomes"] = 1
		}
		wantRecord(t, "after the caller's changes", get(t, s, rec.ID), want)
	}},
	{"a record with three secrets or a secret without hash is refused", func(t *testing.T, s keystore.Store) {
		three, empty := newRecord(1), newRecord(2)
		three.Secrets = slices.Repeat(three.Secrets, 3)
		empty.Secrets[0].Hash = nil
		for _, rec := range []*keystore.Record{three, empty} {
			if err := s.Create(t.Context(), change, rec); err == nil {
				t.Errorf("record with secrets %+v was created", rec.Secrets)
			}
			_, err := s.Get(t.Context(), rec.ID)
			wantErr(t, "Get", err, keystore.ErrNotFound)
		}
	}},
}
