package sqlstore_test

import (
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

func TestPostgresKeepsAnAuditTrail(t *testing.T) {
	dsn, _ := newDatabase(t)
	s := openPostgres(t, dsn, true)
	s.SetAuditKey([]byte("0123456789abcdef0123456789abcdef"))
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	rec := &keystore.Record{ID: keystore.NewID(), Name: "x", Scopes: []string{"a:b"}, CreatedAt: at, Secrets: []keystore.Secret{{Hash: []byte("hash")}}}
	if err := s.Create(t.Context(), keystore.Change{Action: "create", Actor: "command", At: at}, rec); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(t.Context(), keystore.Change{Action: "update", Actor: "command", At: at}, rec.ID, func(rec *keystore.Record) error { rec.Name = "y"; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Touch(t.Context(), []keystore.Use{{ID: rec.ID, At: at, Scopes: []string{"a:b"}}}); err != nil {
		t.Fatal(err)
	}
	if uses, err := s.ScopeUses(t.Context(), rec.ID); err != nil || !uses["a:b"].Equal(at) {
		t.Errorf("uses of scopes: %v, %v", uses, err)
	}
	n := 0
	if err := s.Audit(t.Context(), time.Time{}, func(keystore.AuditEntry) error { n++; return nil }); err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
	if report, err := s.VerifyAudit(t.Context()); err != nil || len(report.Problems) != 0 || !report.Keyed || report.Entries != 2 {
		t.Errorf("%+v, %v", report, err)
	}
}
