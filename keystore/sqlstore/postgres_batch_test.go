package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// What one statement inserts is not what a caller sees: all records are there, in
// order, with their secrets and audit rows, or none is.
func TestPostgresManyRecordsAreStoredInBatchesAllOrNone(t *testing.T) {
	dsn, _ := newDatabase(t)
	s := openPostgres(t, dsn, true)
	ctx := t.Context()
	for _, n := range []int{499, 500, 501, 1203} {
		recs := records(n)
		for i, rec := range recs {
			rec.Name, rec.Hint = fmt.Sprintf("of %d, number %d", n, i), ""
			if i%7 == 0 {
				rec.Secrets = append(rec.Secrets, keystore.Secret{Hash: []byte("old"), NotAfter: rec.CreatedAt})
			}
		}
		if err := s.Create(ctx, keystore.Change{Action: "import"}, recs...); err != nil {
			t.Fatal(err)
		}
		for i, rec := range recs {
			got, err := s.Get(ctx, rec.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got.Name != rec.Name || got.Seq != rec.Seq || i > 0 && rec.Seq != recs[i-1].Seq+1 || len(got.Secrets) != len(rec.Secrets) {
				t.Fatalf("record %d of %d: %+v, want %+v", i, n, got, rec)
			}
		}
	}
	stored := sound(t, s, 499+500+501+1203)

	// The last of them is there already.
	again := records(1100)
	for _, rec := range again {
		rec.Hint = ""
	}
	again[1099].ID = again[3].ID
	if err := s.Create(ctx, keystore.Change{Action: "import"}, again...); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("an id twice: %v", err)
	}
	// The first and the last of 17 that share a hint are in different batches.
	crowd := records(1100)
	for i, rec := range crowd {
		rec.Hint = fmt.Sprintf("crowd_%05d", i)
		if i%64 == 0 && i < 16*64 || i == 1099 {
			rec.Hint = "shared_by_17"
		}
	}
	if err := s.Create(ctx, keystore.Change{Action: "import"}, crowd...); !errors.Is(err, keystore.ErrHintFull) {
		t.Errorf("17 of one hint: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Create(ended, keystore.Change{Action: "import"}, records(1100)...); err == nil {
		t.Error("a caller that has gone is not noticed")
	}
	sound(t, s, stored)

	crowd[1099].Hint = ""
	if err := s.Create(ctx, keystore.Change{Action: "import"}, crowd...); err != nil {
		t.Errorf("16 of one hint: %v", err)
	}
	sound(t, s, stored+1100)
}

// sound checks the audit trail, and that it has this many rows.
func sound(t *testing.T, s *sqlstore.Store, want int) int {
	t.Helper()
	report, err := s.VerifyAudit(t.Context())
	if err != nil || len(report.Problems) > 0 || report.Entries != int64(want) {
		t.Fatalf("the audit trail has %d rows, want %d: %v, %v", report.Entries, want, report.Problems, err)
	}
	return want
}
