package openapi

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hivegate/hivegate/internal/policy"
)

// describe makes a description of "METHOD path need" lines; need is public,
// bare (a credential, no scope), nothing, or scopes that are all needed.
func describe(ops ...string) string {
	var b strings.Builder
	b.WriteString("{\"openapi\":\"3.0.0\",\"paths\":{\"/-\":{}")
	for _, op := range ops {
		f := strings.Fields(op)
		security := `"security":[{"o":["` + strings.Join(f[2:], `","`) + `"]}]`
		switch f[2] {
		case "public":
			security = `"security":[]`
		case "bare":
			security = `"security":[{"o":[]}]`
		}
		fmt.Fprintf(&b, `,%q:{%q:{%s}}`, f[1], strings.ToLower(f[0]), security)
	}
	return b.String() + "}}"
}

func TestASkippedOperationIsNoSideDoor(t *testing.T) {
	for name, c := range map[string]struct {
		ops, want []string
		warning   string
	}{
		"a literal across": {
			[]string{"GET /reports/{x}/secret r:secret", "GET /reports/all/{y} r:all", "GET /reports/{a}/{b} public"},
			[]string{"GET /reports/all/{y} r:all r:secret", "GET /reports/{a}/{b} r:secret"},
			"GET /reports/{a}/{b}: made stricter: it matches paths of GET /reports/{x}/secret, which has no line and needs r:secret",
		},
		"part of a segment": {
			[]string{"GET /pets/{petId} public", "GET /pets/{petId}.json p:read"},
			[]string{"GET /pets/{petId} p:read"},
			"GET /pets/{petId}: made stricter: it matches paths of GET /pets/{petId}.json, which has no line and needs p:read",
		},
		"a weaker scope": {
			[]string{"GET /pets/{petId} p:read", "GET /pets/{petId}.json p:read p:admin"},
			[]string{"GET /pets/{petId} p:admin p:read"}, "needs p:admin p:read",
		},
		"any credential": {
			[]string{"GET /pets/{petId} public", "GET /pets/{petId}.json bare"},
			[]string{"GET /pets/{petId} authenticated"}, "needs authenticated",
		},
		"HEAD follows GET": {
			[]string{"GET /pets/{petId} public", "HEAD /pets/{petId}/{$}{x h:ead"},
			[]string{"GET /pets/{petId} h:ead"}, "needs h:ead",
		},
		"another method": {
			[]string{"GET /pets/{petId} public", "POST /pets/{petId}{x p:write"},
			[]string{"GET /pets/{petId} public"}, "no line",
		},
		"a query": {
			[]string{"GET /pets public", "GET /pets?all=1 p:all"},
			[]string{"GET /pets p:all"}, "needs p:all",
		},
		"slashes and dots": {
			[]string{"GET /a/b public", "GET /a//b a:one", "GET /a/x/../b a:two", "GET /b public"},
			[]string{"GET /a/b a:one a:two", "GET /b public"}, "needs a:two",
		},
		"no slash": {
			[]string{"GET /a public", "GET /c public", "GET a a:one"},
			[]string{"GET /a a:one", "GET /c public"}, "needs a:one",
		},
		"the stricter one stays": {
			[]string{"GET /pets/{petId} p:read", "GET /pets/{petId}.json public"},
			[]string{"GET /pets/{petId} p:read"}, "no line",
		},
		"a concrete path is its own": {
			[]string{"GET /pets/up public", "GET /pets/{petId} public", "GET /pets/{petId}.json p:read"},
			[]string{"GET /pets/up public", "GET /pets/{petId} p:read"}, "needs p:read",
		},
		"a requirement that cannot be told": {
			[]string{"GET /pets/{petId} public", "GET /pets/{petId}.json ä", "GET /{kind}/{id} public", "GET /other public"},
			[]string{"GET /other public"}, "it is not known what it requires",
		},
		"a line that covers more": {
			[]string{"GET /pets/{petId}.json public", "GET /{kind}/{id} p:read"},
			[]string{"GET /pets/{petId} p:read", "GET /{kind}/{id} p:read"}, "it covers more than is described, and so paths of GET /{kind}/{id}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := routes(t, describe(c.ops...), Options{})
			got := lines(r.File)
			slices.Sort(got)
			if want := slices.Sorted(slices.Values(c.want)); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			warned(t, r, c.warning)
			if !strings.Contains(string(r.File), c.warning) && !strings.Contains(c.warning, ": made") && c.warning != "no line" {
				t.Errorf("the file does not say %q:\n%s", c.warning, r.File)
			}
			checkFile(t, r.File)
			checkSideDoors(t, []byte(describe(c.ops...)), Options{})
		})
	}
}

func TestAlternativesStayTogether(t *testing.T) {
	r := routes(t, `{"openapi":"3.0.0","paths":{
		"/a/{x}":{"get":{"security":[{"o":["a:one"]},{"o":["a:two"]}]}},
		"/a/{x}.json":{"get":{"security":[{"o":["a:three"]},{"o":["a:four"]}]}}}}`, Options{})
	wantLines(t, r, "GET /a/{x} a:four|a:three a:one|a:two")
}

// The path of an operation whose server is not known may be any.
func TestAnUnknownPrefixMayBeAny(t *testing.T) {
	r := routes(t, `{"openapi":"3.0.0","paths":{
		"/a/{x}":{"get":{"security":[]}},
		"/b":{"get":{"servers":[{"url":"https://x.example/{v}"}],"security":[{"o":["b:read"]}]}}}}`, Options{})
	wantLines(t, r, "GET /a/{x} b:read")
}

func TestRealDescriptionsHaveNoSideDoor(t *testing.T) {
	for _, file := range []string{"github.json", "petstore-swagger2.json", "petstore.yaml", "lxkns.yaml"} {
		data, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range []ScopeFrom{ScopeSecurity, ScopeTag, ScopeMethod} {
			checked := checkSideDoors(t, data, Options{ScopeFrom: from})
			if file == "github.json" && checked == 0 {
				t.Errorf("%s: no line was compared with a skipped operation", file)
			}
		}
	}
}

var anyParameter = regexp.MustCompile(`\{[^{}]*\}`)

// checkSideDoors asks the compiled table for sample paths of all skipped
// operations and of those it serves in their stead. What it finds has to be as
// strict. It returns how often something was found.
func checkSideDoors(t *testing.T, data []byte, opts Options) (found int) {
	t.Helper()
	r, c := convert(t, data, opts)
	u, err := policy.NewUniverse(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var kept []policy.Line
	samples := map[string]bool{}
	for _, l := range lines(r.File) {
		m := lineShape.FindStringSubmatch(l)
		need, err := policy.ParseRequirement(strings.Fields(m[3]))
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, policy.Line{Methods: []string{m[1]}, Pattern: m[2], Require: need})
		for _, s := range strings.Split(m[2], "/") {
			if !strings.ContainsAny(s, "{}%") && s != "" {
				samples[s] = true
			}
		}
	}
	table, err := policy.Compile(u, kept)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range c.ops {
		if o.skip == "" || o.unknown || o.pattern == "" {
			continue
		}
		try := func(value string) {
			var m policy.Match
			path := anyParameter.ReplaceAllString(o.pattern, value)
			table.Match(o.method, path, &m)
			if m.Found != policy.Matched || !strings.Contains(m.Route.Pattern, "{") && strings.Contains(o.pattern, "{") {
				return // a concrete path is its own
			}
			found++
			if got := m.Route.Require; !meets(got, o.wants) {
				t.Errorf("%s %s needs %s, and %s lets it through with %s", o.method, path, o.wants, m.Route.Name, got)
			}
		}
		try("some-value")
		for s := range samples { // literals of other lines, in place of parameters
			try(s)
		}
	}
	return found
}

func convert(t *testing.T, data []byte, opts Options) (*Result, *converter) {
	t.Helper()
	c, err := converted(data, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c.result(), c
}

// meets says whether who may pass the first requirement may pass the second.
func meets(strict, weak policy.Requirement) bool {
	switch {
	case weak.Public:
		return true
	case strict.Public:
		return false
	}
	for _, w := range weak.Scopes {
		implied := slices.ContainsFunc(strict.Scopes, func(s []string) bool {
			return !slices.ContainsFunc(s, func(scope string) bool { return !slices.Contains(w, scope) })
		})
		if !implied {
			return false
		}
	}
	return true
}
