package sqlstore

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

var trailEpoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newTrail is a store with five changes of two keys.
func newTrail(t *testing.T, dataKey []byte) (*Store, []keystore.ID) {
	t.Helper()
	s, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keys.db"), Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.SetAuditKey(dataKey)
	var ids []keystore.ID
	var recs []*keystore.Record
	for _, name := range []string{"first", "second"} {
		rec := &keystore.Record{ID: keystore.NewID(), Name: name, Prefix: "hive_sk_aB00", Scopes: []string{"farms:read"}, CreatedAt: trailEpoch,
			Hint: "hint-of-" + name, Secrets: []keystore.Secret{{Hash: []byte("the hash of " + name), Digest: []byte("the digest of " + name)}}}
		ids, recs = append(ids, rec.ID), append(recs, rec)
	}
	if err := s.Create(t.Context(), keystore.Change{Action: "import", Actor: "command", At: trailEpoch}, recs...); err != nil {
		t.Fatal(err)
	}
	for i, action := range []string{"update", "disable", "revoke"} {
		by := keystore.Change{Action: action, Actor: "key_AAAAAAAAAAAA", Address: "192.0.2.1", At: trailEpoch.Add(time.Duration(i+1) * time.Hour)}
		if _, err := s.Update(t.Context(), by, ids[i%2], func(rec *keystore.Record) error { rec.Name += action; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return s, ids
}

func TestEveryChangeHasItsRowAndNoRowASecret(t *testing.T) {
	s, ids := newTrail(t, nil)
	if _, err := s.Update(t.Context(), keystore.Change{Action: "update"}, ids[0], func(*keystore.Record) error { return errors.New("no") }); err == nil {
		t.Fatal("want fn's error")
	}
	var actions []string
	err := s.Audit(t.Context(), time.Time{}, func(e keystore.AuditEntry) error {
		actions = append(actions, e.Action)
		if e.N != int64(len(actions)) || len(e.Hash) != 64 || (string(e.Before) == "null") != (e.Action == "import") {
			t.Errorf("row %+v", e)
		}
		for _, secret := range []string{"the hash", "the digest", "hint-of"} {
			if strings.Contains(string(e.Before)+string(e.After), secret) {
				t.Errorf("row %d holds %q", e.N, secret)
			}
		}
		return nil
	})
	if got := strings.Join(actions, " "); err != nil || got != "import import update disable revoke" {
		t.Errorf("%s, %v", got, err)
	}
	n := 0
	if err := s.Audit(t.Context(), trailEpoch.Add(2*time.Hour), func(keystore.AuditEntry) error { n++; return nil }); err != nil || n != 2 {
		t.Errorf("%d rows since the second hour, want 2 (%v)", n, err)
	}
}

func TestAWholeTrailPasses(t *testing.T) {
	for name, key := range map[string][]byte{"with a data key": []byte("0123456789abcdef0123456789abcdef"), "without": nil} {
		s, _ := newTrail(t, key)
		report, err := s.VerifyAudit(t.Context())
		if err != nil || len(report.Problems) != 0 || report.Entries != 5 || report.Keyed != (key != nil) {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
	}
	empty, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keys.db"), Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = empty.Close() }()
	if report, err := empty.VerifyAudit(t.Context()); err != nil || len(report.Problems) != 0 {
		t.Errorf("an empty trail: %+v, %v", report, err)
	}
}

// forgeries are changes of the database by somebody without the data key.
var forgeries = map[string]string{
	"an actor changed":          `UPDATE audit SET actor = 'somebody else' WHERE n = 3`,
	"a time changed":            `UPDATE audit SET at = at + 1 WHERE n = 1`,
	"a state changed":           `UPDATE audit SET after_state = replace(after_state, 'farms:read', '*') WHERE n = 2`,
	"a row removed":             `DELETE FROM audit WHERE n = 3`,
	"the first row removed":     `DELETE FROM audit WHERE n = 1`,
	"the last row removed":      `DELETE FROM audit WHERE n = 5`,
	"all rows removed":          `DELETE FROM audit`,
	"removed and renumbered":    `DELETE FROM audit WHERE n = 3; UPDATE audit SET n = n - 1 WHERE n > 3; UPDATE audit_head SET n = 4`,
	"two rows exchanged":        `UPDATE audit SET n = 99 WHERE n = 3; UPDATE audit SET n = 3 WHERE n = 4; UPDATE audit SET n = 4 WHERE n = 99`,
	"a row put in":              `INSERT INTO audit SELECT 6, at, seq, key_id, action, actor, address, before_state, after_state, keyed, hash FROM audit WHERE n = 5`,
	"a tail cut, head set":      `DELETE FROM audit WHERE n = 5; UPDATE audit_head SET n = 4, hash = (SELECT hash FROM audit WHERE n = 4)`,
	"everything reset":          `DELETE FROM audit; UPDATE audit_head SET n = 0, hash = x'', keyed = 0, mac = x''`,
	"a key changed beside it":   `UPDATE keys SET seq = seq + 100 WHERE name LIKE 'first%'`,
	"the beginning moved":       `UPDATE audit_head SET base = 1000`,
	"rows taken from the key":   `UPDATE audit SET keyed = 0`,
	"the end taken off it":      `UPDATE audit_head SET keyed = 0`,
	"a hash changed":            `UPDATE audit SET hash = zeroblob(32) WHERE n = 2`,
	"the noted end changed":     `UPDATE audit_head SET mac = zeroblob(32)`,
	"a hash in the end":         `UPDATE audit_head SET hash = zeroblob(32)`,
	"a last row made anonymous": `UPDATE audit SET actor = '', address = '' WHERE n = 5`,
}

func TestWhoeverHasNotTheDataKeyCannotForgeTheTrail(t *testing.T) {
	for name, forgery := range forgeries {
		t.Run(name, func(t *testing.T) {
			s, _ := newTrail(t, []byte("0123456789abcdef0123456789abcdef"))
			if _, err := s.writer.ExecContext(t.Context(), forgery); err != nil {
				t.Fatal(err)
			}
			report, err := s.VerifyAudit(t.Context())
			if err != nil || len(report.Problems) == 0 {
				t.Errorf("not found: %+v, %v", report, err)
			}
		})
	}
}

// Without a data key the chain can be computed anew by whoever writes the
// database; what was not computed anew is found all the same.
func TestATrailWithoutADataKeyStillShowsChanges(t *testing.T) {
	for _, name := range []string{"an actor changed", "a row removed", "the last row removed", "two rows exchanged", "removed and renumbered", "a key changed beside it"} {
		s, _ := newTrail(t, nil)
		if _, err := s.writer.ExecContext(t.Context(), forgeries[name]); err != nil {
			t.Fatal(err)
		}
		if report, err := s.VerifyAudit(t.Context()); err != nil || len(report.Problems) == 0 {
			t.Errorf("%s: not found: %+v, %v", name, report, err)
		}
	}
}

func TestATrailThatBeganBeforeTheDataKeyGoesOnUnderIt(t *testing.T) {
	s, ids := newTrail(t, nil)
	s.SetAuditKey([]byte("0123456789abcdef0123456789abcdef"))
	if _, err := s.Update(t.Context(), keystore.Change{Action: "update", At: trailEpoch}, ids[0], func(rec *keystore.Record) error { rec.Name = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	if report, err := s.VerifyAudit(t.Context()); err != nil || len(report.Problems) != 0 || !report.Keyed || report.Entries != 6 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestUsesOfScopesGoForwardOnly(t *testing.T) {
	s, ids := newTrail(t, nil)
	touch := func(at time.Time, scopes ...string) {
		if err := s.Touch(t.Context(), []keystore.Use{{ID: ids[0], At: at, Scopes: scopes}}); err != nil {
			t.Fatal(err)
		}
	}
	touch(trailEpoch, "a:b", "c:d")
	touch(trailEpoch.Add(time.Hour), "a:b")
	touch(trailEpoch.Add(-time.Hour), "c:d")
	uses, err := s.ScopeUses(t.Context(), ids[0])
	if err != nil || len(uses) != 2 || !uses["a:b"].Equal(trailEpoch.Add(time.Hour)) || !uses["c:d"].Equal(trailEpoch) {
		t.Errorf("%v, %v", uses, err)
	}
}
