package keycli_test

import (
	"bytes"
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/internal/keycli"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// auditCmd runs "audit" with what follows.
func (sh *shell) auditCmd(args ...string) (stdout, stderr string, code int) {
	sh.t.Helper()
	root := &cobra.Command{Use: "hivegate", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(keycli.AuditCommand(sh.open))
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append([]string{"audit"}, args...))
	err := root.ExecuteContext(context.Background())
	if err != nil {
		errs.WriteString(err.Error())
	}
	return out.String(), errs.String(), keycli.ExitCode(err)
}

func TestAuditShowsEveryChangeAndItsActor(t *testing.T) {
	sh := newShell(t)
	id, key := sh.create("--name", "ci", "--scope", "crews:read")
	sh.clock = sh.clock.Add(48 * time.Hour)
	sh.ok("disable", id)
	var all struct{ Data []keystore.AuditEntry }
	stdout, _, code := sh.auditCmd("--json")
	sh.decode(stdout, &all)
	if code != 0 || len(all.Data) != 2 || all.Data[0].Action != "create" || all.Data[1].Action != "disable" || all.Data[1].Actor != "command" || all.Data[1].KeyID != id {
		t.Errorf("exit code %d, %s", code, stdout)
	}
	if string(all.Data[0].Before) != "null" || !strings.Contains(string(all.Data[1].After), `"disabled":true`) {
		t.Errorf("before and after: %s", stdout)
	}
	if strings.Contains(stdout, key[20:]) || strings.Contains(stdout, "$2a$") {
		t.Error("the trail holds a secret")
	}
	stdout, _, _ = sh.auditCmd("--since", "24h")
	if strings.Contains(stdout, "create") || !strings.Contains(stdout, "disable") || !strings.Contains(stdout, "command") {
		t.Errorf("since 24h:\n%s", stdout)
	}
	stdout, _, _ = sh.auditCmd("--since", "1h", "--json")
	sh.decode(stdout, &all)
	if _, stderr, code := sh.auditCmd("--since", "yesterday"); code != 2 || !strings.Contains(stderr, "--since") {
		t.Errorf("a bad span: exit code %d, %s", code, stderr)
	}
}

func TestAuditVerifyFailsWhenARowIsGone(t *testing.T) {
	sh := newShell(t)
	id, _ := sh.create("--name", "ci", "--scope", "crews:read")
	sh.ok("disable", id)
	if stdout, stderr, code := sh.auditCmd("verify"); code != 0 || !strings.Contains(stdout, "whole: 2 rows") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	var report keystore.AuditReport
	stdout, _, _ := sh.auditCmd("verify", "--json")
	if sh.decode(stdout, &report); report.Entries != 2 || len(report.Problems) != 0 || len(report.Head) != 64 {
		t.Errorf("%+v", report)
	}
	// Somebody else's program on the same file.
	sh.tamper("DELETE FROM audit WHERE n = 2")
	if _, stderr, code := sh.auditCmd("verify"); code != 1 || !strings.Contains(stderr, "not whole") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	stdout, _, code := sh.auditCmd("verify", "--json")
	if sh.decode(stdout, &report); code != 1 || len(report.Problems) == 0 {
		t.Errorf("exit code %d, %+v", code, report)
	}
}

// What the report says of keys at their ages.
func TestReportKnowsUnusedAndExpiringKeysAndIdleScopes(t *testing.T) {
	sh := newShell(t)
	made := map[string]keystore.ID{}
	for _, name := range []string{"never", "idle", "busy", "revoked"} {
		id, _ := sh.create("--name", name, "--scope", "crews:read", "--scope", "crews:write", "--expires", map[bool]string{true: "130d", false: "1y"}[name == "busy"])
		parsed, err := keystore.ParseID(id)
		if err != nil {
			t.Fatal(err)
		}
		made[name] = parsed
	}
	sh.ok("revoke", made["revoked"].String())
	store, err := sqlstore.OpenSQLite(t.Context(), sh.path, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	later := sh.clock.Add(120 * 24 * time.Hour)
	err = store.Touch(t.Context(), []keystore.Use{
		{ID: made["idle"], At: sh.clock.Add(time.Hour), Scopes: []string{"crews:read"}},
		{ID: made["busy"], At: later.Add(-time.Hour), Scopes: []string{"crews:read"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	sh.clock = later
	var report struct {
		Never  []keystore.RecordView `json:"never_used"`
		Unused []keystore.RecordView `json:"unused_90d"`
		Soon   []keystore.RecordView `json:"expiring_14d"`
		Scopes []struct {
			ID, Name, Owner string
			Permissions     []string
		} `json:"unused_scopes_30d"`
	}
	sh.decode(sh.ok("report", "--json"), &report)
	names := func(list []keystore.RecordView) string {
		var out []string
		for _, v := range list {
			out = append(out, v.Name)
		}
		return strings.Join(out, " ")
	}
	if names(report.Never) != "never" || names(report.Unused) != "idle" || names(report.Soon) != "busy" {
		t.Errorf("never used %q, unused %q, expiring %q", names(report.Never), names(report.Unused), names(report.Soon))
	}
	idle := map[string]string{}
	for _, s := range report.Scopes {
		idle[s.Name] = strings.Join(s.Permissions, " ")
	}
	if len(idle) != 2 || idle["busy"] != "crews:write" || idle["idle"] != "crews:read crews:write" {
		t.Errorf("idle scopes: %v", idle)
	}
	if text := sh.ok("report"); !strings.Contains(text, "Expiring within 14 days: 1") || !strings.Contains(text, "crews:write") {
		t.Errorf("for people:\n%s", text)
	}
}

// tamper changes the database behind the store's back.
func (sh *shell) tamper(statement string) {
	sh.t.Helper()
	db, err := sql.Open("sqlite", "file:"+sh.path)
	if err != nil {
		sh.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(sh.t.Context(), statement); err != nil {
		sh.t.Fatal(err)
	}
}
