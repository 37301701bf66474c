package e2e

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hiveosOperation is one row of testdata/hiveos-routes.csv, made callable.
type hiveosOperation struct {
	method, path, auth string
	// pattern is the row's path with every parameter as {}, one a segment.
	pattern string
}

var (
	paramRE   = regexp.MustCompile(`\{[^}]*\}`)
	segmentRE = regexp.MustCompile(`/[^/]*\{[^/]*`)
)

func hiveosOperations(t *testing.T) []hiveosOperation {
	t.Helper()
	f, err := os.Open("testdata/hiveos-routes.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []hiveosOperation
	for i, r := range rows[1:] {
		n := 0
		path := paramRE.ReplaceAllStringFunc(r[1], func(string) string {
			n++
			return fmt.Sprintf("%d%d", i+1, n)
		})
		out = append(out, hiveosOperation{
			method: r[0], path: "/api/v2" + path, auth: r[3],
			pattern: "/api/v2" + segmentRE.ReplaceAllString(r[1], "/{}"),
		})
	}
	return out
}

// hiveosScopes reads which scopes each operation needs (most need one) from the
// route file that is shipped, not from what made it.
func hiveosScopes(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../examples/hiveos.routes")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, l := range strings.Split(string(text), "\n") {
		f := strings.Fields(l)
		if len(f) < 3 || f[0] == "#" || f[0] == "json" {
			continue
		}
		var scopes []string
		for _, w := range f[2:] {
			if w == "public" || strings.Contains(w, ":") {
				scopes = append(scopes, w)
			}
		}
		out[f[0]+" "+paramRE.ReplaceAllString(f[1], "{}")] = strings.Join(scopes, " ")
	}
	return out
}

// example is a shipped Caddyfile as it stands: where it listens and what lies
// behind it are in its environment.
func example(t testing.TB, name string) config {
	t.Helper()
	text, err := os.ReadFile("../examples/" + name)
	if err != nil {
		t.Fatal(err)
	}
	c := config{caddyfile: string(text), files: map[string]string{}, env: []string{
		"CADDY_ADMIN=ADMIN", "HIVEGATE_SITE=http://SITE0",
		"HIVEGATE_BACKEND=FARM", "HIVEGATE_FARM=FARM", "HIVEGATE_COMMAND=COMMAND",
	}}
	routes := strings.TrimSuffix(name, ".Caddyfile") + ".routes"
	text, err = os.ReadFile("../examples/" + routes)
	switch {
	case err == nil:
		c.files[routes] = string(text)
	case !errors.Is(err, fs.ErrNotExist):
		t.Fatal(err)
	}
	if placeholderRE.MatchString(c.caddyfile) {
		t.Fatalf("%s would not be run as it stands", name)
	}
	return c
}

// The main job on real input: every operation of the Hive OS API, with a key
// that holds exactly its scope, with one that holds every scope but that, and
// with none.
func TestEveryHiveOSOperationNeedsExactlyItsScope(t *testing.T) {
	c := example(t, "hiveos.Caddyfile")
	// The plan's and the classes' figures are not what is walked here.
	for _, l := range []string{"requests 300/m burst 100", "requests 3000/m burst 500"} {
		c.caddyfile = strings.Replace(c.caddyfile, l, "requests unlimited", 1)
	}
	g := start(t, c)
	ops, scopes := hiveosOperations(t), hiveosScopes(t)
	if len(ops) != 292 {
		t.Fatalf("%d operations, want 292", len(ops))
	}
	var all []string
	exact, lacking := map[string]created{}, map[string]created{}
	for _, need := range scopes {
		for _, s := range strings.Fields(need) {
			if s != "public" && !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	for _, need := range scopes {
		if _, made := exact[need]; made || need == "public" {
			continue
		}
		words := strings.Fields(need)
		exact[need] = g.createScoped(t, words...)
		lacking[need] = g.createScoped(t, slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == words[len(words)-1] })...)
	}
	// Firmware for many workers takes a second factor that the gate checks.
	codes := g.enroll(t, "--key", exact["workers:command workers:admin"].ID).recovery

	commands := regexp.MustCompile(`/workers/([^/]+/)?command(/|$)`)
	passed, public, refused403, refused401 := 0, 0, 0, 0
	for _, op := range ops {
		scope, ok := scopes[op.method+" "+op.pattern]
		if !ok {
			t.Errorf("no route line for %s %s", op.method, op.pattern)
			continue
		}
		backend, other := g.farm, g.command
		if commands.MatchString(op.path) {
			backend, other = g.command, g.farm
		}
		expectPass := func(changes ...change) bool {
			switch {
			case strings.HasSuffix(op.path, "_upload"):
				changes = append(changes, header("X-Security-Code", codes[0]))
				codes = codes[1:]
			case op.auth == "bearer+code":
				changes = append(changes, header("X-Security-Code", "123456"))
			case strings.HasSuffix(op.path, "/workers/command"):
				changes = append(changes, content("application/json", `{"worker_ids":[1,2],"data":{"command":"reboot"}}`))
			case strings.HasSuffix(op.path, "/command"):
				changes = append(changes, content("application/json", `{"command":"reboot"}`))
			}
			before, beforeOther := backend.hits.Load(), other.hits.Load()
			a := g.do(t, op.method, op.path, changes...)
			if a.status != http.StatusOK {
				t.Errorf("%s %s: %d %q %s", op.method, op.path, a.status, a.reason(), a.body)
				return false
			}
			if backend.hits.Load() != before+1 || other.hits.Load() != beforeOther {
				t.Errorf("%s %s did not reach the %s backend alone", op.method, op.path, backend.name)
			}
			got := backend.got(t)
			if got.method != op.method || got.target != op.path {
				t.Errorf("%s %s reached the backend as %s %s", op.method, op.path, got.method, got.target)
			}
			return true
		}
		if strings.HasPrefix(op.auth, "public") {
			if scope != "public" {
				t.Errorf("%s %s is public in the list and needs %s here", op.method, op.path, scope)
			}
			if expectPass() {
				public++
			}
			continue
		}
		if scope == "public" {
			t.Errorf("%s %s is public here and %s in the list", op.method, op.path, op.auth)
			continue
		}
		if expectPass(key(exact[scope].Key)) {
			passed++
			if got := backend.got(t).header.Get("X-Auth-Scopes"); got != scope {
				t.Errorf("the backend was told the scopes %q, want %q", got, scope)
			}
		}
		hits := g.farm.hits.Load() + g.command.hits.Load()
		if a := g.do(t, op.method, op.path, key(lacking[scope].Key)); a.status != 403 || a.reason() != "insufficient_scope" {
			t.Errorf("%s %s without %s: %d %q", op.method, op.path, scope, a.status, a.reason())
		} else if want := `{"message":"This action is unauthorized.","code":403000}`; strings.TrimSpace(string(a.body)) != want {
			t.Errorf("%s %s: body %s, want %s", op.method, op.path, a.body, want)
		} else {
			refused403++
		}
		if a := g.do(t, op.method, op.path); a.status != 401 || a.reason() != "missing_credentials" {
			t.Errorf("%s %s without a key: %d %q", op.method, op.path, a.status, a.reason())
		} else if want := `{"message":"Unauthenticated."}`; strings.TrimSpace(string(a.body)) != want {
			t.Errorf("%s %s: body %s, want %s", op.method, op.path, a.body, want)
		} else {
			refused401++
		}
		if n := g.farm.hits.Load() + g.command.hits.Load(); n != hits {
			t.Errorf("%s %s: %d refused requests reached a backend", op.method, op.path, n-hits)
		}
	}
	t.Logf("%d operations: %d passed with exactly their scope (%d scopes), %d refused without it, %d refused without a key, %d public",
		len(ops), passed, len(all), refused403, refused401, public)
	if passed != 263 || refused403 != 263 || refused401 != 263 || public != 29 {
		t.Error("want 263 passed, 263 refused without the scope, 263 without a key, and 29 public")
	}
}
