package caddymodule

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sites has gates that only port, path or a name tell apart.
const sites = `{
	hivegate {
		keystore sqlite KEYS
		master_key 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a01
	}
}
(gate) {
	hivegate {
		health /health
		routes {
			GET {args[0]} {args[1]}:read
			GET /both {args[1]}:both
		}
	}
}
&(named) {
	import gate /named named
}
http://localhost:18201 {
	import gate /one one
}
http://localhost:18202 {
	import gate /two two
}
http://split.example.com:18203 {
	handle /a* {
		import gate /a a
	}
	handle {
		import gate /rest rest
	}
}
http://named.example.com:18203 {
	invoke named
}
http://maybe.example.com:18203 {
	@yes header X-Maybe yes
	handle @yes {
		import gate /yes yes
	}
	handle {
		import gate /no no
	}
}
:18204 {
	import gate /any any
}
`

func writeSites(t *testing.T) (file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(sites, "KEYS", filepath.Join(dir, "keys.db"))), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestExplainFindsTheSite(t *testing.T) {
	file := writeSites(t)
	for _, c := range []struct{ host, path, scope, note string }{
		{"localhost:18201", "/both", "one:both", ""},
		{"localhost:18202", "/both", "two:both", ""},
		{"LOCALHOST:18202", "/two", "two:read", ""},
		{"localhost", "/both", "one:both", "the first, on localhost:18201"},
		{"split.example.com", "/a", "a:read", "explained is the one on split.example.com:18203 that /a goes to"},
		{"split.example.com:18203", "/both", "rest:both", "that /both goes to"},
		{"split.example.com:18203", "/rest", "rest:read", "that /rest goes to"},
		{"named.example.com", "/named", "named:read", ""},
		{"maybe.example.com", "/both", "yes:both", "2 gates on maybe.example.com:18203 may get this request"},
		{":18204", "/any", "any:read", ""},
		{"[::1]:18204", "/any", "any:read", ""},
		{"other.example.com", "/any", "any:read", ""},
	} {
		out, errs, err := commandLine(t, "explain", "--config", file, "--host", c.host, "--path", c.path, "--json")
		var e explanation
		if err != nil || json.Unmarshal([]byte(out), &e) != nil {
			t.Errorf("%s%s: %v\n%s", c.host, c.path, err, errs)
			continue
		}
		if strings.Join(e.Requires, " ") != c.scope || e.Status != 401 {
			t.Errorf("%s%s: requires %v, status %d; want %s, 401", c.host, c.path, e.Requires, e.Status, c.scope)
		}
		if c.note == "" && errs != "" || !strings.Contains(errs, c.note) {
			t.Errorf("%s%s: standard error %q, want %q", c.host, c.path, errs, c.note)
		}
	}
	for _, c := range []struct{ host, want string }{
		{"localhost:18209", "no site for host"}, {"localhost:http", "no site for host"},
		{"", "localhost:18201 localhost:18202"},
	} {
		out, errs, err := commandLine(t, "explain", "--config", file, "--host", c.host, "--path", "/both", "--json")
		if err == nil || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("--host %q: %v, %q, %q", c.host, err, out, errs)
		}
	}
}

func TestExplainOfTheHealthPath(t *testing.T) {
	file := writeSites(t)
	for method, want := range map[string]string{
		"GET":  `{"route":"GET,HEAD /health","requires":["public"],"held":[],"limits":[],"verdict":"allow","status":200,"reason":""}`,
		"POST": `{"route":"GET,HEAD /health","requires":["public"],"held":[],"limits":[],"verdict":"deny","status":405,"reason":"method_not_allowed"}`,
	} {
		out, errs, err := commandLine(t, "explain", "--config", file, "--host", "localhost:18201", "--method", method, "--path", "/health", "--json")
		if err != nil || strings.TrimSpace(out) != want {
			t.Errorf("%s: %v, %s\n%s", method, err, out, errs)
		}
	}
}

// What a configuration is warned of is a line in a command, without the place in
// the program that says it.
func TestCommandsWarnInOneLine(t *testing.T) {
	file := writeSites(t) // its master key stands in clear text
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = w
	_, errs, err := commandLine(t, "explain", "--config", file, "--host", ":18204", "--path", "/any")
	os.Stderr = stderr
	if err != nil {
		t.Error(errs)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); strings.Count(s, "\n") != 1 || !strings.Contains(s, "master_key stands in clear text") || strings.Contains(s, ".go:") {
		t.Errorf("standard error: %q", s)
	}
}
