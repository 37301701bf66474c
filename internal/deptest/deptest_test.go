package deptest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hivegate/hivegate"

// pkg is what `go list -json` says of one package.
type pkg struct {
	ImportPath   string
	Imports      []string // of its shipped files
	Deps         []string // Imports, and theirs, all the way down
	TestImports  []string
	XTestImports []string
}

// rule forbids some imports to some packages of the module.
type rule struct {
	// to says which packages it binds, by path below the module.
	to func(path string) bool
	// forbid says which imports break it.
	forbid func(importPath string) bool
	// deep also judges what the imports import.
	deep bool
	// tests also judges what the package's tests import.
	tests  bool
	reason string
}

var rules = []rule{
	{
		to: under("keystore"), forbid: ours("limiter"), deep: true,
		reason: "a key names a plan; only the app turns that name into a limit, so keys know nothing of limits",
	},
	{
		to: under("limiter"), forbid: ours("keystore"), deep: true,
		reason: "a limit travels with each call, so counters know nothing of keys",
	},
	{
		to: under("keystore", "limiter"), forbid: caddy, deep: true, tests: true,
		reason: "what a key and a limit are holds without a server; caddymodule alone translates between them and Caddy",
	},
	{
		to: exactly("keystore", "limiter"), forbid: anyOf(std("net/http"), zap), deep: true,
		reason: "the domain neither speaks HTTP nor picks a logger: it logs through *slog.Logger",
	},
	{
		to: exactly("keystore", "limiter"), forbid: driver, deep: true,
		reason: "drivers live one level below, so that the domain is tested without a database",
	},
	{
		to: under("keystore", "limiter", "internal"), forbid: zap,
		reason: "libraries log through *slog.Logger; Caddy's zap logger meets it in caddymodule",
	},
	{
		to: under("internal"), forbid: caddy, deep: true, tests: true,
		reason: "only caddymodule imports Caddy: it translates, the internal packages decide",
	},
	{
		to: under("internal"), forbid: driver,
		reason: "drivers live one level below keystore and limiter",
	},
	{
		to: exactly(""), forbid: anyOf(caddy, driver),
		reason: "the root holds embedded files and nothing else",
	},
	{
		to: under("keystore", "limiter", "internal", ""), forbid: ours("caddymodule", "cmd", "e2e"), tests: true,
		reason: "nothing imports upward: caddymodule and cmd stand on top of the libraries",
	},
	{
		to: under("caddymodule"), forbid: ours("cmd", "e2e"), tests: true,
		reason: "cmd stands on top of caddymodule",
	},
	{
		to: under("caddymodule"), forbid: anyOf(pathAt("github.com/caddyserver/caddy/v2/modules/standard"), pathAt("github.com/caddyserver/caddy/v2/modules/metrics")),
		reason: "xcaddy's users choose Caddy's modules; the standard set comes from cmd",
	},
	{
		to: under("caddymodule", "cmd"), forbid: driver,
		reason: "stores are opened through keystore/sqlstore and limiter/redisstore, which alone know their driver",
	},
	{
		// The demo runs a configuration in this process, so it needs Caddy's own
		// API and adapters besides the commands.
		to: under("cmd"), forbid: func(p string) bool {
			allowed := anyOf(std("github.com/caddyserver/caddy/v2"), std("github.com/caddyserver/caddy/v2/caddyconfig"),
				pathAt("github.com/caddyserver/caddy/v2/cmd"), pathAt("github.com/caddyserver/caddy/v2/modules/standard"))
			return caddy(p) && !allowed(p)
		},
		reason: "cmd runs Caddy with its standard modules and caddymodule; what speaks to Caddy's modules belongs in caddymodule",
	},
	{
		to: under("keystore", "limiter", "internal", "caddymodule", "cmd", ""), forbid: std("testing"),
		reason: "a test's tools are not shipped (the conformance suites are named by the exceptions)",
	},
}

// suites are packages of tests that other packages' tests call.
var suites = []string{"keystore/storetest", "limiter/limitertest", "internal/totp/totptest"}

func TestPackagesImportOnlyWhatTheirLayerMay(t *testing.T) {
	for _, p := range list(t, "./...") {
		path := below(p.ImportPath)
		for _, r := range rules {
			if !r.to(path) || slices.Contains(suites, path) && r.forbid("testing") {
				continue
			}
			imports := p.Imports
			if r.deep {
				imports = p.Deps
			}
			if r.tests {
				imports = slices.Concat(imports, p.TestImports, p.XTestImports)
			}
			for _, i := range broken(r, imports) {
				t.Errorf("%s imports %s: %s", p.ImportPath, i, r.reason)
			}
		}
	}
}

func TestSuitesAreImportedByTestsAlone(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, i := range p.Imports {
			if slices.Contains(suites, below(i)) {
				t.Errorf("%s ships %s: a conformance suite is for tests", p.ImportPath, i)
			}
		}
	}
}

func TestOnlyCaddymoduleAndCmdImportCaddy(t *testing.T) {
	seen := false
	for _, p := range list(t, "./...") {
		path := below(p.ImportPath)
		if under("caddymodule", "cmd")(path) {
			seen = seen || slices.ContainsFunc(p.Imports, caddy)
			continue
		}
		for _, i := range p.Imports {
			if caddy(i) {
				t.Errorf("%s imports %s: only caddymodule and cmd may", p.ImportPath, i)
			}
		}
	}
	if !seen {
		t.Error("no package imports Caddy at all: the rules look at the wrong thing")
	}
}

// A rule that nothing can break would hold for ever and mean nothing.
func TestEveryRuleCanBeBroken(t *testing.T) {
	samples := []string{
		module + "/keystore", module + "/limiter", module + "/caddymodule", module + "/cmd/hivegate",
		"github.com/caddyserver/caddy/v2", "github.com/caddyserver/caddy/v2/modules/standard",
		"github.com/caddyserver/caddy/v2/modules/caddyhttp", "go.uber.org/zap", "net/http", "testing", "modernc.org/sqlite", "github.com/redis/go-redis/v9",
	}
	for _, r := range rules {
		if len(broken(r, samples)) == 0 {
			t.Errorf("no sample import breaks the rule %q", r.reason)
		}
	}
}

func broken(r rule, imports []string) []string {
	var out []string
	for _, i := range imports {
		if r.forbid(i) && !slices.Contains(out, i) {
			out = append(out, i)
		}
	}
	return out
}

// list runs go list on the whole module.
func list(t *testing.T, patterns ...string) []pkg {
	t.Helper()
	args := append([]string{"list", "-json=ImportPath,Imports,Deps,TestImports,XTestImports"}, patterns...)
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("parse go list's answer: %v", err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) == 0 {
		t.Fatal("go list named no package")
	}
	return pkgs
}

// below is a package's path inside the module, "" for the root; paths outside
// of it are returned whole.
func below(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

func exactly(paths ...string) func(string) bool {
	return func(p string) bool { return slices.Contains(paths, p) }
}

// under matches the named folders of the module and everything below them; the
// root ("") matches itself alone.
func under(paths ...string) func(string) bool {
	return func(p string) bool {
		return slices.ContainsFunc(paths, func(q string) bool { return p == q || q != "" && strings.HasPrefix(p, q+"/") })
	}
}

// pathAt matches an import path and everything below it.
func pathAt(path string) func(string) bool {
	return func(p string) bool { return p == path || strings.HasPrefix(p, path+"/") }
}

func ours(paths ...string) func(string) bool {
	in := under(paths...)
	return func(p string) bool { return strings.HasPrefix(p, module+"/") && in(below(p)) }
}

func std(path string) func(string) bool { return func(p string) bool { return p == path } }

func anyOf(fs ...func(string) bool) func(string) bool {
	return func(p string) bool {
		return slices.ContainsFunc(fs, func(f func(string) bool) bool { return f(p) })
	}
}

var (
	caddy  = pathAt("github.com/caddyserver/caddy/v2")
	zap    = pathAt("go.uber.org/zap")
	driver = anyOf(
		std("database/sql"), std("database/sql/driver"),
		pathAt("modernc.org/sqlite"), pathAt("github.com/jackc/pgx/v5"), pathAt("github.com/lib/pq"),
		pathAt("github.com/mattn/go-sqlite3"), pathAt("github.com/redis/go-redis/v9"),
	)
)
