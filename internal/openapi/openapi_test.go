package openapi

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hivegate/hivegate/internal/policy"
)

func routes(t *testing.T, description string, opts Options) *Result {
	t.Helper()
	r, err := Routes([]byte(description), opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lines returns the route lines of a file, blanks made one.
func lines(file []byte) (out []string) {
	for _, l := range strings.Split(string(file), "\n") {
		if l != "" && !strings.HasPrefix(l, "#") {
			out = append(out, strings.Join(strings.Fields(l), " "))
		}
	}
	return out
}

func wantLines(t *testing.T, r *Result, want ...string) {
	t.Helper()
	if got := lines(r.File); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got the lines\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r.Lines != len(want) {
		t.Errorf("%d lines are counted, want %d", r.Lines, len(want))
	}
}

func warned(t *testing.T, r *Result, part string) {
	t.Helper()
	for _, w := range r.Warnings {
		if strings.Contains(w, part) {
			return
		}
	}
	t.Errorf("no warning says %q: %q", part, r.Warnings)
}

const secured = `
openapi: 3.1.0
info: {title: Farms, version: "2"}
servers: [{url: "https://api.example.com/api/v2/"}]
security: [{oauth: ["farms:read"]}]
paths:
  /status:
    get: {tags: [meta], security: [], summary: Is it up}
  /farms:
    get: {tags: [farms]}
    post: {tags: [farms], security: [{oauth: ["farms:write", "farms:read"]}]}
  /farms/{farmId}:
    get: {tags: [farms], security: [{oauth: ["farms:read"]}, {oauth: ["admin"]}]}
    put: {tags: [farms], security: [{oauth: ["farms:write", "farms:read"]}, {oauth: ["admin"]}]}
    delete: {tags: [farms], security: [{bearer: []}]}
    patch: {tags: [farms], security: [{bearer: []}, {oauth: ["farms:write"]}]}
  /me:
    get: {security: [{}, {bearer: []}]}
    head: {security: [{}]}
`

func TestScopesComeFromSecurity(t *testing.T) {
	r := routes(t, secured, Options{})
	wantLines(t, r,
		"GET /api/v2/farms farms:read",
		"POST /api/v2/farms farms:read farms:write",
		"GET /api/v2/farms/{farmId} farms:read|scope:admin",
		"PUT /api/v2/farms/{farmId} farms:read|scope:admin farms:write|scope:admin",
		"PATCH /api/v2/farms/{farmId} farms:write",
		"DELETE /api/v2/farms/{farmId} authenticated",
		"GET /api/v2/me authenticated",
		"HEAD /api/v2/me public",
		"GET /api/v2/status public",
	)
	warned(t, r, "names no scope")
	warned(t, r, "a credential is optional there")
	if got := strings.Join(r.Scopes, " "); got != "farms:read farms:write scope:admin" {
		t.Errorf("scopes %s", got)
	}
	for _, want := range []string{"# Is it up\n", "# scopes farms:read farms:write scope:admin\n", "# scope:admin: admin in the description\n"} {
		if !strings.Contains(string(r.File), want) {
			t.Errorf("the file lacks %q:\n%s", want, r.File)
		}
	}
}

func TestScopesComeFromTagsAndMethods(t *testing.T) {
	wantLines(t, routes(t, secured, Options{ScopeFrom: ScopeTag}),
		"GET /api/v2/farms farms:read",
		"POST /api/v2/farms farms:write",
		"GET /api/v2/farms/{farmId} farms:read",
		"PUT /api/v2/farms/{farmId} farms:write",
		"PATCH /api/v2/farms/{farmId} farms:write",
		"DELETE /api/v2/farms/{farmId} farms:write",
		"GET /api/v2/me me:read", // no tag: the path's first word
		"HEAD /api/v2/me public",
		"GET /api/v2/status public",
	)
	r := routes(t, secured, Options{ScopeFrom: ScopeMethod, Resource: "hive"})
	if got := strings.Join(r.Scopes, " "); got != "hive:read hive:write" {
		t.Errorf("scopes %s", got)
	}
}

func TestPrefixes(t *testing.T) {
	description := func(servers string) string {
		return "openapi: 3.0.3\n" + servers + "\npaths: {/a: {get: {security: []}}}\n"
	}
	empty := ""
	other := "/other/"
	for _, c := range []struct {
		servers string
		prefix  *string
		want    string
	}{
		{"", nil, "/a"},
		{"servers: [{url: /api/v3}]", nil, "/api/v3/a"},
		{"servers: [{url: 'https://x.example/'}]", nil, "/a"},
		{"servers: [{url: 'https://x.example/{v}', variables: {v: {default: v9}}}]", nil, "/v9/a"},
		{"servers: [{url: /api/v3}]", &empty, "/a"},
		{"servers: [{url: /api/v3}]", &other, "/other/a"},
	} {
		wantLines(t, routes(t, description(c.servers), Options{Prefix: c.prefix}), "GET "+c.want+" public")
	}
	r := routes(t, description("servers: [{url: 'https://x.example/{v}'}]"), Options{})
	wantLines(t, r)
	warned(t, r, "without a default; give --prefix")
	wantLines(t, routes(t, `{"swagger":"2.0","basePath":"/v1/","paths":{"/a":{"get":{"security":[]}}}}`, Options{}), "GET /v1/a public")
}

func TestPathsThatAreNoPatterns(t *testing.T) {
	paths := []string{
		"/a/{path}/{file}", "/a/{pet-id}", "/b/{x}.{y}", "/c/{name}.json", "/d/{proxy+}", "/e e", "/f/{x}/{x}", "no-slash",
		"/g/{x", "/h//i", "/j?k=1", "/l/{x}/m", "/l/n/{y}", "/o/{$}", "/p/%zz", "/q/../r", "/s/100%", "/t/*", "/v/:w", "/z/{}",
	}
	var b strings.Builder
	b.WriteString("openapi: 3.0.0\npaths:\n")
	for _, p := range paths {
		fmt.Fprintf(&b, "  %q: {get: {security: []}}\n", p)
	}
	reserved := func(name string) bool { return name == "path" || name == "file" }
	r := routes(t, b.String(), Options{Reserved: reserved})
	wantLines(t, r,
		"GET /a/{pathName}/{fileName} public", "GET /a/{pet_id} public", "GET /b/{x_y} public", "GET /c/{name} public",
		"GET /d/{proxy...} public", "GET /e%20e public", "GET /f/{x}/{x2} public", "GET /l/n/{y} public",
		"GET /o/{param} public", "GET /t/%2A public", "GET /v/%3Aw public", "GET /z/{param} public",
	)
	if r.Skipped+r.Lines != len(paths) {
		t.Errorf("%d lines and %d skipped of %d paths", r.Lines, r.Skipped, len(paths))
	}
	// Everything that has no line is in the file and in a warning.
	for _, p := range []string{"no-slash", "/g/{x", "/h//i", "/j?k=1", "/l/{x}/m", "/p/%zz", "/q/../r", "/s/100%"} {
		if !strings.Contains(string(r.File), "# SKIPPED GET "+p+":") {
			t.Errorf("the file does not name %s:\n%s", p, r.File)
		}
		warned(t, r, "GET "+p+" has no line")
	}
	warned(t, r, "{path} became {pathName}")
	warned(t, r, "a parameter takes a whole segment: {x}.{y} became {x_y}")
}

func TestWhatStandsElsewhereIsNotRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/other.yaml", []byte("get: {summary: TOP SECRET}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := routes(t, fmt.Sprintf(`
openapi: 3.1.0
paths:
  /here: {$ref: "#/components/pathItems/here"}
  /file: {$ref: %q}
  /url: {$ref: "http://127.0.0.1:1/x"}
  /relative: {$ref: "./openapi_test.go"}
components:
  schemas: {X: {$ref: %q}}
  pathItems: {here: {get: {security: []}}}
`, dir+"/other.yaml", dir+"/other.yaml"), Options{})
	wantLines(t, r, "GET /here public")
	if strings.Contains(string(r.File), "TOP SECRET") {
		t.Error("another file was read")
	}
	for _, p := range []string{"/file", "/url", "/relative"} {
		warned(t, r, p+" has no line: it is described in another file")
	}
}

// A description is a stranger's file: its texts must stay comments.
func TestTextCannotLeaveItsComment(t *testing.T) {
	t.Setenv("HIVEGATE_TEST_EVIL", "x\n* /{all...} public")
	nasty := "x\\n* /{all...} public\\u2028* /{b...} public\\r\\n} import /etc/passwd {$HIVEGATE_TEST_EVIL} \\u202e \\u0000"
	text := fmt.Sprintf(`{"openapi":"3.0.0","info":{"title":"%[1]s","version":"%[1]s"},"paths":{
		"/a":{"get":{"summary":"%[1]s","tags":["%[1]s"],"security":[{"o":["%[1]s"]}]}},
		"/%[1]s":{"get":{"summary":"s"}}}}`, nasty)
	for _, from := range []ScopeFrom{ScopeSecurity, ScopeTag, ScopeMethod} {
		r := routes(t, text, Options{ScopeFrom: from})
		got := lines(r.File)
		if len(got) != 1 || !strings.HasPrefix(got[0], "GET /a ") {
			t.Errorf("%s: %q", from, got)
		}
		for _, bad := range []string{"{$", "\r", "\u2028", "\u202e", "\x00"} {
			if strings.Contains(string(r.File), bad) {
				t.Errorf("%s: the file holds %q", from, bad)
			}
			for _, w := range r.Warnings {
				if strings.Contains(w, bad) || strings.Contains(w, "\n") {
					t.Errorf("%s: a warning holds %q", from, w)
				}
			}
		}
	}
}

func TestScopeNames(t *testing.T) {
	for was, want := range map[string]string{
		"read:pets": "read:pets", "Read:Pets": "read:pets", "a:b:c": "a:b.c", "repo": "scope:repo", "*": "scope:all",
		"https://www.googleapis.com/auth/drive": "scope:www.googleapis.com.auth.drive", "user mail": "scope:user-mail",
		"farms:*": "", "": "", ":": "", "äöü": "", strings.Repeat("a", 200): "",
	} {
		n := mapScope(was)
		if n.name != want && n.why == "" || want == "" && n.why == "" {
			t.Errorf("%q is called %q, want %q", was, n.name, want)
		}
	}
	// One right must not open what another was for.
	r := routes(t, `{"openapi":"3.0.0","paths":{
		"/a":{"get":{"security":[{"o":["Read:Pets"]}]}},
		"/b":{"get":{"security":[{"o":["read:pets"]}]}}}}`, Options{})
	wantLines(t, r, "GET /a read:pets-2", "GET /b read:pets")
	warned(t, r, "the scope Read:Pets is called read:pets-2 here")
}

func TestBadDescriptions(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":                {"", "empty"},
		"no object":            {"[1]", "read the description"},
		"another format":       {`{"info":{}}`, "neither the member 'openapi' nor 'swagger'"},
		"version 1":            {`{"swagger":"1.2"}`, "version of OpenAPI is not known"},
		"version 4":            {`{"openapi":"4.0.0"}`, "version of OpenAPI is not known"},
		"no paths":             {`{"openapi":"3.1.0"}`, "no operation"},
		"bad JSON":             {`{"openapi":]`, "near byte"},
		"a path twice":         {`{"openapi":"3.0.0","paths":{"/a":{},"/a":{"get":{}}}}`, "the member /a is there twice"},
		"a path twice in YAML": {"openapi: 3.0.0\npaths:\n  /a: {}\n  /a: {}\n", "already"},
		"nested deeply":        {strings.Repeat(`{"a":`, 5000), "nested too deeply"},
		"too large":            {strings.Repeat(" ", MaxSize+1), "MiB"},
		"aliases": {"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n" +
			"g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g,*g]\nopenapi: 3.0.0\n", "alias"},
	} {
		_, err := Routes([]byte(c.text), Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestTheSameDescriptionGivesTheSameFile(t *testing.T) {
	data, err := os.ReadFile("testdata/github.json")
	if err != nil {
		t.Fatal(err)
	}
	var first string
	for range 3 {
		r := routes(t, string(data), Options{ScopeFrom: ScopeTag})
		if first == "" {
			first = string(r.File)
		} else if string(r.File) != first {
			t.Fatal("the second file differs from the first")
		}
		if r.Lines != 1190 || r.Skipped != 33 {
			t.Errorf("%d lines, %d skipped", r.Lines, r.Skipped)
		}
	}
}

var lineShape = regexp.MustCompile(`^([A-Z-]+) (/\S*) (.+)$`)

// checkFile holds what every route file promises: comments, and lines that
// policy takes one by one and together.
func checkFile(t *testing.T, file []byte) {
	t.Helper()
	u, err := policy.NewUniverse(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var table []policy.Line
	for _, l := range lines(file) {
		m := lineShape.FindStringSubmatch(l)
		if m == nil {
			t.Fatalf("not a route line: %q", l)
		}
		need, err := policy.ParseRequirement(strings.Fields(m[3]))
		if err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		table = append(table, policy.Line{Methods: []string{m[1]}, Pattern: m[2], Require: need})
	}
	if _, err := policy.Compile(u, table); err != nil {
		t.Fatal(err)
	}
}

func FuzzRoutes(f *testing.F) {
	f.Add([]byte(secured), "security")
	f.Add([]byte(`{"swagger":"2.0","basePath":"/v1","paths":{"/a/{b}.{c}":{"get":{"security":[{"o":["x y"]}]}}}}`), "tag")
	f.Add([]byte("openapi: 3.0.0\npaths: {\"/a b\\\"`{$X}\": {get: {summary: \"a\\nb\"}}}"), "method")
	f.Fuzz(func(t *testing.T, data []byte, from string) {
		r, err := Routes(data, Options{ScopeFrom: ScopeFrom(from), Reserved: func(n string) bool { return n == "path" }})
		if err != nil {
			return
		}
		if strings.Contains(string(r.File), "{$") {
			t.Fatalf("a reference to the environment: %q", r.File)
		}
		checkFile(t, r.File)
	})
}
