package caddymodule

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/hivegate/hivegate/internal/openapi"
	"github.com/hivegate/hivegate/internal/policy"
)

// commandLine runs a command as the program would, and returns what it printed
// and how it ended.
func commandLine(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	for _, cmd := range commandTree() {
		if cmd.Name() != args[0] {
			continue
		}
		finishCommands(cmd)
		var out, errs bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&errs)
		cmd.SetArgs(args[1:])
		err := cmd.ExecuteContext(t.Context())
		return out.String(), errs.String(), err
	}
	t.Fatalf("there is no command %s", args[0])
	return "", "", nil
}

// adaptRoutes imports a route file into a site and returns the lines that came of
// it, as "METHOD PATH".
func adaptRoutes(t *testing.T, file string) (lines []string, raw string) {
	t.Helper()
	gate, raw := adaptGate(t, file)
	for _, r := range gate.Routes {
		lines = append(lines, strings.Join(r.Methods, ",")+" "+r.Path)
	}
	return lines, raw
}

// adaptGate imports a route file into a site and returns its gate, and the
// configuration in JSON.
func adaptGate(t *testing.T, file string) (gate *Gate, raw string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "my.routes"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "http://localhost {\n\thivegate {\n\t\troutes {\n\t\t\timport my.routes\n\t\t}\n\t}\n}\n"
	out, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": filepath.Join(dir, "Caddyfile")})
	if err != nil {
		t.Fatalf("adapt the route file: %v", err)
	}
	cfg := commandConfig{}
	var doc struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		t.Fatal(err)
	}
	cfg.apps = doc.Apps
	gate, err = cfg.gate("", "GET", "/", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return gate, string(out)
}

// What has no line must not be served by a weaker one.
func TestRouteFilesRefuseSkippedOperationsWithoutAKey(t *testing.T) {
	for _, c := range []struct{ description, path, need string }{
		{`"/reports/{x}/secret":{"get":{"security":[{"o":["r:secret"]}]}},
		  "/reports/all/{y}":{"get":{"security":[{"o":["r:all"]}]}},
		  "/reports/{a}/{b}":{"get":{"security":[]}}`, "/reports/7/secret", "r:secret"},
		{`"/pets/{petId}":{"get":{"security":[]}},
		  "/pets/{petId}.json":{"get":{"security":[{"o":["p:read"]}]}}`, "/pets/7.json", "p:read"},
	} {
		file := filepath.Join(t.TempDir(), "openapi.json")
		if err := os.WriteFile(file, []byte(`{"openapi":"3.0.0","paths":{`+c.description+`}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs, err := commandLine(t, "routes", "from-openapi", file)
		if err != nil || !strings.Contains(errs, "made stricter") || !strings.Contains(out, "# NOTE made stricter") {
			t.Fatalf("%v\n%s%s", err, errs, out)
		}
		gate, _ := adaptGate(t, out)
		var table []policy.Line
		for _, r := range gate.Routes {
			need := policy.Requirement{Public: r.Public, Authenticated: r.Authenticated, Scopes: r.Scopes}
			table = append(table, policy.Line{Methods: r.Methods, Pattern: r.Path, Require: need})
		}
		universe, err := policy.NewUniverse(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		compiled, err := policy.Compile(universe, table)
		if err != nil {
			t.Fatal(err)
		}
		var m policy.Match
		compiled.Match("GET", c.path, &m)
		if m.Found != policy.Matched || m.Route.Require.String() != c.need {
			t.Errorf("GET %s: %+v, want a line that needs %s", c.path, m.Route, c.need)
		}
	}
}

func TestRouteFilesOfRealDescriptionsAdapt(t *testing.T) {
	for file, want := range map[string]int{
		"github.json": 1190, "petstore-swagger2.json": 20, "petstore.yaml": 20, "lxkns.yaml": 3,
	} {
		for _, from := range []string{"security", "tag", "method"} {
			t.Run(file+" "+from, func(t *testing.T) {
				out, errs, err := commandLine(t, "routes", "from-openapi", "../internal/openapi/testdata/"+file, "--scope-from", from)
				if err != nil {
					t.Fatalf("%v\n%s", err, errs)
				}
				if lines, _ := adaptRoutes(t, out); len(lines) != want {
					t.Errorf("%d lines, want %d", len(lines), want)
				}
				if n := strings.Count(out, "# SKIPPED"); n != strings.Count(errs, " has no line: ") || file != "github.json" && n != 0 {
					t.Errorf("%d operations are skipped in the file, the warnings are %s", n, errs)
				}
			})
		}
	}
}

// Every name that Caddy rewrites in a Caddyfile gets another.
func TestRouteFilesHoldNoNameThatCaddyRewrites(t *testing.T) {
	paths := make(map[string]any)
	for name := range caddyShorthands {
		paths["/"+name+"/{"+name+"}/x"] = map[string]any{"get": map[string]any{}}
	}
	text, err := json.Marshal(map[string]any{"openapi": "3.0.0", "paths": paths})
	if err != nil {
		t.Fatal(err)
	}
	result, err := openapi.Routes(text, openapi.Options{Reserved: caddyRewrites})
	if err != nil {
		t.Fatal(err)
	}
	lines, raw := adaptRoutes(t, string(result.File))
	if len(lines) != len(caddyShorthands) || strings.Contains(raw, "{http.") {
		t.Errorf("%d lines of %d, and a placeholder: %t", len(lines), len(caddyShorthands), strings.Contains(raw, "{http."))
	}
}

// hiveOS describes the 292 operations of the list, for both versions.
func hiveOS(t *testing.T, swagger bool) []byte {
	t.Helper()
	f, err := os.Open("../e2e/testdata/hiveos-routes.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]map[string]any{}
	for _, r := range rows[1:] {
		method, path, summary, auth, group := strings.ToLower(r[0]), r[1], r[2], r[3], r[6]
		op := map[string]any{"summary": summary, "tags": []string{group}, "responses": map[string]any{"200": map[string]any{"description": "ok"}}}
		if strings.HasPrefix(auth, "public") {
			op["security"] = []any{}
		}
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path][method] = op
	}
	doc := map[string]any{"info": map[string]any{"title": "Hive OS", "version": "2"}, "paths": paths, "security": []any{map[string]any{"token": []any{}}}}
	if swagger {
		doc["swagger"], doc["basePath"], doc["host"] = "2.0", "/api/v2", "api.example.com"
		doc["securityDefinitions"] = map[string]any{"token": map[string]any{"type": "apiKey", "in": "header", "name": "Authorization"}}
	} else {
		doc["openapi"], doc["servers"] = "3.0.3", []any{map[string]any{"url": "https://api.example.com/api/v2"}}
		doc["components"] = map[string]any{"securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer"}}}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var anyParam = regexp.MustCompile(`\{[^}]*\}`)

// The lines that were written by hand for Hive OS are those that its description
// gives, whichever version it is written in; only names of parameters may differ.
func TestTheDescriptionOfHiveOSGivesItsRouteFile(t *testing.T) {
	shipped, err := os.ReadFile("../examples/hiveos.routes")
	if err != nil {
		t.Fatal(err)
	}
	normal := func(lines []string) []string {
		for i := range lines {
			lines[i] = anyParam.ReplaceAllString(lines[i], "{}")
		}
		slices.Sort(lines)
		return lines
	}
	// The classes are declared beside it, and change no path.
	want, _ := adaptRoutes(t, regexp.MustCompile(` class=\S+`).ReplaceAllString(string(shipped), ""))
	want = normal(want)
	if len(want) != 292 {
		t.Fatalf("the shipped file has %d lines", len(want))
	}
	var bodies []string
	for _, swagger := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "hiveos.json")
		if err := os.WriteFile(file, hiveOS(t, swagger), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs, err := commandLine(t, "routes", "from-openapi", file, "--scope-from", "tag")
		if err != nil {
			t.Fatalf("%v\n%s", err, errs)
		}
		got, _ := adaptRoutes(t, out)
		if got = normal(got); !slices.Equal(got, want) {
			t.Errorf("swagger %t: the lines differ from examples/hiveos.routes:\n%s", swagger, diff(got, want))
		}
		if n := strings.Count(out, " public\n"); n != 29 {
			t.Errorf("%d public lines, want 29", n)
		}
		_, body, _ := strings.Cut(out, "\n\n")
		bodies = append(bodies, body)
	}
	if bodies[0] != bodies[1] {
		t.Error("the two versions give different lines")
	}
}

func diff(got, want []string) string {
	var b strings.Builder
	for _, l := range got {
		if !slices.Contains(want, l) {
			fmt.Fprintf(&b, "+ %s\n", l)
		}
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	return b.String()
}

func TestRoutesCommandSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"nowhere.yaml"}, "no such file"},
		{[]string{"routes_test.go"}, "read the description"},
		{[]string{"x", "--scope-from", "tags"}, "none of security, tag, method"},
		{[]string{"x", "--resource", "api"}, "--scope-from method"},
		{[]string{"x", "--prefix", "api"}, "begin with '/'"},
		{[]string{}, "arg"},
	} {
		out, errs, err := commandLine(t, append([]string{"routes", "from-openapi"}, c.args...)...)
		if err == nil || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("%v: %v, %q, standard output %q", c.args, err, errs, out)
		}
	}
}
