package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// object reads a command's standard output as the one JSON object it must be.
func (c cli) object(t testing.TB) map[string]any {
	t.Helper()
	c.ok(t)
	var m map[string]any
	if err := json.Unmarshal([]byte(c.stdout), &m); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, c.stdout)
	}
	return m
}

func TestKeysAreMadeListedAndShown(t *testing.T) {
	c := farms
	c.global += "preset read_only farms:read crews:read\n"
	g := prepare(t, c)
	k := g.create(t, "--owner", "acme", "--scope", "farms:read", "--scope", "crews:read", "--plan", "tiny", "--expires", "90d")
	if !strings.HasPrefix(k.Key, "hive_sk_") || len(k.Key) != 56 || k.ID != "key_"+k.Key[8:20] || k.Prefix != k.Key[:12] {
		t.Errorf("a key of %d characters, id %s, prefix %s", len(k.Key), k.ID, k.Prefix)
	}
	if k.Owner != "acme" || k.Plan != "tiny" || k.Status != "active" || strings.Join(k.Permissions, " ") != "farms:read crews:read" {
		t.Errorf("record %+v", k)
	}
	p := g.create(t, "--preset", "read_only")
	if strings.Join(p.Permissions, " ") != "farms:read crews:read" {
		t.Errorf("of a preset: %v", p.Permissions)
	}
	shown := g.hivegate(t, "apikey", "show", k.ID, "--json").object(t)
	for _, m := range []string{"id", "name", "prefix", "owner", "permissions", "plan", "limits", "status", "created_at", "expires_at", "last_used_at", "ip_allowlist"} {
		if _, ok := shown[m]; !ok {
			t.Errorf("the record has no member %s", m)
		}
	}
	if _, ok := shown["key"]; ok {
		t.Error("a key is shown once only, when it is made")
	}
	at, err := time.Parse(time.RFC3339, shown["expires_at"].(string))
	if err != nil || at.Location() != time.UTC || time.Until(at).Round(time.Hour) != 90*24*time.Hour {
		t.Errorf("expires_at %v", shown["expires_at"])
	}
	list := g.hivegate(t, "apikey", "list", "--json").object(t)
	data, _ := list["data"].([]any)
	if len(data) != 2 || data[0].(map[string]any)["id"] != p.ID {
		t.Errorf("list: %v, want two, the newest first", list)
	}
	for _, out := range []cli{
		g.hivegate(t, "apikey", "list").ok(t), g.hivegate(t, "apikey", "show", k.ID).ok(t),
		g.hivegate(t, "apikey", "list", "--json").ok(t), g.hivegate(t, "apikey", "export").ok(t),
	} {
		if l := book.leaks(out.stdout); len(l) > 0 && !strings.Contains(out.stdout, `"hash"`) {
			t.Errorf("a command prints secrets: %v", l)
		}
		if !strings.Contains(out.stderr, g.database()) {
			t.Errorf("standard error does not name the keystore: %q", out.stderr)
		}
	}
	// The same commands under Caddy's own name for them.
	if out := g.hivegate(t, "hivegate", "apikey", "show", k.ID, "--json").object(t); out["id"] != k.ID {
		t.Errorf("caddy hivegate apikey show: %v", out)
	}
}

func TestExitCodesTellFailureFromWrongUsage(t *testing.T) {
	g := prepare(t, farms)
	k := g.createScoped(t, "farms:read")
	for _, c := range []struct {
		code  int
		names string // what standard error must name
		args  []string
	}{
		{0, "", []string{"apikey", "list"}},
		{1, "", []string{"apikey", "show", "key_AAAAAAAAAAAA"}},
		{1, "", []string{"apikey", "revoke", "key_AAAAAAAAAAAA"}},
		{2, "farms:reed", []string{"apikey", "create", "--name", "x", "--scope", "farms:reed"}},
		// Never split at commas: those belong to narrowing.
		{2, "", []string{"apikey", "create", "--name", "x", "--scope", "farms:read,crews:read"}},
		{2, "gigantic", []string{"apikey", "create", "--name", "x", "--scope", "farms:read", "--plan", "gigantic"}},
		{2, "nothing", []string{"apikey", "create", "--name", "x", "--preset", "nothing"}},
		{1, "missing.Caddyfile", []string{"apikey", "list", "--config", "missing.Caddyfile"}},
		{2, "", []string{"apikey", "show"}},
		{2, "", []string{"apikey", "frobnicate"}},
		{2, "--nonsense", []string{"apikey", "list", "--nonsense"}},
		{2, "--name", []string{"apikey", "create", "--scope", "farms:read"}},
		{2, "", []string{"apikey", "create", "--name", "x", "--scope", "farms:read", "--preset", "p"}},
		{2, "", []string{"explain"}},
		{2, "extra", []string{"demo", "extra"}},
		{2, "--nonsense", []string{"demo", "--nonsense"}},
	} {
		out := g.hivegate(t, c.args...)
		if out.code != c.code || !strings.Contains(out.stderr, c.names) {
			t.Errorf("%v: exit code %d, want %d naming %q; %s", c.args, out.code, c.code, c.names, out.stderr)
		}
		if c.code != 0 && (out.stdout != "" || strings.TrimSpace(out.stderr) == "") {
			t.Errorf("%v: the reason belongs on standard error; standard output %q", c.args, out.stdout)
		}
	}
	// Nothing of what failed was half done.
	if data, _ := g.hivegate(t, "apikey", "list", "--json").object(t)["data"].([]any); len(data) != 1 {
		t.Errorf("%d keys, want the one of %s", len(data), k.ID)
	}
}

func TestOnlyCreateAndImportMakeAKeystore(t *testing.T) {
	g := prepare(t, farms)
	for _, args := range [][]string{
		{"apikey", "list"}, {"apikey", "show", "key_AAAAAAAAAAAA"}, {"apikey", "revoke", "key_AAAAAAAAAAAA"}, {"apikey", "export"},
		{"apikey", "disable", "key_AAAAAAAAAAAA"}, {"apikey", "rotate", "key_AAAAAAAAAAAA"},
	} {
		if c := g.hivegate(t, args...); c.code != 1 || !strings.Contains(c.stderr, "keys.db") {
			t.Errorf("%v without a keystore: exit code %d, %q", args, c.code, c.stderr)
		}
		if _, err := os.Stat(g.database()); err == nil {
			t.Fatalf("%v made a keystore", args)
		}
	}
	g.createScoped(t, "farms:read")
	if _, err := os.Stat(g.database()); err != nil {
		t.Error(err)
	}
}

func TestCommandsFindTheirConfiguration(t *testing.T) {
	g := prepare(t, farms)
	k := g.createScoped(t, "farms:read") // ./Caddyfile, as all of them
	moved := filepath.Join(g.dir, "elsewhere.Caddyfile")
	if err := os.Rename(g.caddyfile(), moved); err != nil {
		t.Fatal(err)
	}
	if c := g.hivegate(t, "apikey", "show", k.ID); c.code != 1 {
		t.Errorf("without any configuration: exit code %d", c.code)
	}
	g.hivegate(t, "apikey", "show", k.ID, "--config", moved).ok(t)
	g.env = append(g.env, "HIVEGATE_CONFIG="+moved)
	g.hivegate(t, "apikey", "show", k.ID).ok(t)
}

func TestExplainSaysWhatWouldHappenAndWhy(t *testing.T) {
	c := farms
	g := prepare(t, c)
	k := g.createScoped(t, "farms:read@farmId=42", "workers:command")
	for _, e := range []struct {
		method, path    string
		id              string
		verdict, reason string
		status          float64
		route           string
	}{
		{"GET", "/farms/42", k.ID, "allow", "", 200, "/farms/{farmId}"},
		{"GET", "/farms/43", k.ID, "deny", "object_forbidden", 403, "/farms/{farmId}"},
		{"POST", "/crews", k.ID, "deny", "insufficient_scope", 403, "/crews"},
		{"POST", "/farms/1/workers/2/command", k.ID, "allow", "", 200, "/farms/{farmId}/workers/{workerId}/command"},
		{"GET", "/farms", "", "deny", "missing_credentials", 401, "/farms"},
		{"GET", "/healthz", "", "allow", "", 200, "/healthz"},
		{"GET", "/none", k.ID, "deny", "route_not_found", 404, ""},
		{"DELETE", "/crews", k.ID, "deny", "method_not_allowed", 405, ""},
		{"GET", "/farms//1", k.ID, "deny", "ambiguous_path", 400, ""},
	} {
		args := []string{"explain", "--method", e.method, "--path", e.path, "--json"}
		if e.id != "" {
			args = append(args, "--key-id", e.id)
		}
		m := g.hivegate(t, args...).object(t)
		for _, member := range []string{"route", "requires", "held", "limits", "verdict", "status", "reason"} {
			if _, ok := m[member]; !ok {
				t.Errorf("%s %s: no member %s", e.method, e.path, member)
			}
		}
		route, _ := m["route"].(string)
		if m["verdict"] != e.verdict || m["reason"] != e.reason || m["status"] != e.status && e.verdict == "deny" || !strings.Contains(route, e.route) {
			t.Errorf("%s %s: %v, want %s %v %s on %s", e.method, e.path, m, e.verdict, e.status, e.reason, e.route)
		}
	}
	out := g.hivegate(t, "explain", "--method", "POST", "--path", "/farms/1/workers/2/command", "--key-id", k.ID).ok(t)
	for _, want := range []string{"/farms/{farmId}/workers/{workerId}/command", "workers:command", "commands", "allow"} {
		if !strings.Contains(out.stdout, want) {
			t.Errorf("the text does not say %q:\n%s", want, out.stdout)
		}
	}
}

// What explain says must be what the gate does.
func TestExplainAgreesWithTheGate(t *testing.T) {
	g := start(t, farms.with("health /alive ready /ready"))
	k := g.createScoped(t, "farms:read@farmId=42,43", "crews:*")
	for _, r := range []string{
		"GET /farms", "GET /farms/42", "GET /farms/44", "PATCH /farms/42", "DELETE /farms/42", "GET /crews", "POST /crews", "DELETE /crews",
		"GET /either", "GET /both", "GET /me", "GET /any/x/y", "GET /any", "GET /any/", "GET /none", "GET /farms/42/", "HEAD /farms/42",
		"POST /farms/42/workers/1/command", "GET /login", "POST /login", "GET /healthz", "GET /farms/%34%32", "GET /farms/..", "GET /farms?_method=PUT",
		"GET /alive", "HEAD /ready", "POST /alive", "GET /alive/", "GET /alive?x=1",
	} {
		method, path, _ := strings.Cut(r, " ")
		m := g.hivegate(t, "explain", "--method", method, "--path", path, "--key-id", k.ID, "--json").object(t)
		a := g.do(t, method, path, key(k.Key))
		said, _ := m["reason"].(string)
		if said != a.reason() || (m["verdict"] == "allow") != (a.status == 200) || m["verdict"] == "deny" && m["status"] != float64(a.status) {
			t.Errorf("%s: explain says %v %v %q, the gate answers %d %q", r, m["verdict"], m["status"], said, a.status, a.reason())
		}
	}
}

func TestExportedKeysCanBeImportedElsewhere(t *testing.T) {
	from := start(t, farms)
	k := from.createScoped(t, "farms:read")
	out := from.hivegate(t, "apikey", "export").ok(t)
	for _, l := range strings.Split(strings.TrimSpace(out.stdout), "\n") {
		var m map[string]any
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatalf("export prints %q: %v", l, err)
		}
		if strings.Contains(l, k.Key) {
			t.Error("the export holds a key")
		}
	}
}
