package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func compileOne(pattern string, methods ...string) error {
	if len(methods) == 0 {
		methods = []string{"GET"}
	}
	u, _ := NewUniverse(nil, nil)
	_, err := Compile(u, []Line{{Methods: methods, Pattern: pattern, Require: Requirement{Authenticated: true}}})
	return err
}

func TestPatternGrammarIsExact(t *testing.T) {
	for _, p := range []string{
		"/", "/a", "/a/", "/{x}", "/{x}/", "/{x...}", "/a/{x}/b/{y}/{z...}", "/a.b", "/...", "/a%20b", "/caf%C3%A9", "/café",
		"/a:b", "/a=b", "/a,b", "/{_}", "/{å}", "/{x1}", "/v1/x:cancel", "/%7Bx%7D", "/%2A", "/%3Aid", "/a*b", "/[x]", "/a b",
	} {
		if err := compileOne(p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	for p, want := range map[string]string{
		"":               "begins with '/'",
		"a":              "begins with '/'",
		"example.com/a":  "begins with '/'",
		"GET /a":         "begins with '/'",
		"//":             "empty segment",
		"/a//b":          "empty segment",
		"/a//":           "empty segment",
		"/.":             "'.' or '..'",
		"/a/../b":        "'.' or '..'",
		"/a/%2e%2E/b":    "'.' or '..'",
		"/a/．．/b":        "'.' or '..'",
		"/{$}":           "leave it out",
		"/a/{$}":         "leave it out",
		"/{}":            "needs a name",
		"/{...}":         "needs a name",
		"/{1x}":          "needs a name",
		"/{x-y}":         "needs a name",
		"/{x y}":         "needs a name",
		"/{x..}":         "needs a name",
		"/{x...}/b":      "must come last",
		"/{x...}/":       "must come last",
		"/{x}/{x}":       "occurs twice",
		"/{x}/{x...}":    "occurs twice",
		"/{x}y":          "whole segment",
		"/y{x}":          "whole segment",
		"/{x}.{y}":       "whole segment",
		"/{{x}}":         "whole segment",
		"/{x":            "whole segment",
		"/x}":            "whole segment",
		"/a/*":           "{name...}",
		"/a/:id":         "write {id}",
		"/a?b=c":         "without query",
		"/a#b":           "without query",
		"/a%":            "invalid percent-encoding",
		"/a%zz":          "invalid percent-encoding",
		"/a%2Fb":         "encoded slash",
		"/a%5Cb":         "backslash",
		`/a\b`:           "backslash",
		"/a%25b":         "encoded percent",
		"/a%00":          "control character",
		"/a\x00":         "control character",
		"/a%7f":          "control character",
		"/a%C2%85":       "control character",
		"/a;b":           "semicolon",
		"/a%3Bb":         "semicolon",
		"/a%FF":          "UTF-8",
		"/a\xff":         "UTF-8",
		"/a%EF%BC%8Fb":   "normalization",
		"/%E2%80%A5":     "'.' or '..'",
		"/a/{x}/%EF%BC%": "invalid percent-encoding",
	} {
		if err := compileOne(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want mention of %q", p, err, want)
		}
	}
}

func TestASiteThatAllowsMoreMayNameItInPatterns(t *testing.T) {
	u := universe(t, nil)
	tab, err := CompileWith(u, []Line{
		{Methods: []string{"GET"}, Pattern: "/a;v=1/100%25/g%2Fp", Require: Requirement{Public: true}},
	}, PathAllow{true, true, true})
	if err != nil {
		t.Fatal(err)
	}
	var m Match
	if tab.Match("GET", "/a%3Bv=1/100%25/g%2fp", &m); m.Found != Matched {
		t.Error("not matched")
	}
	if tab.Match("GET", "/a;v=1/100%25/g/p", &m); m.Found != NotFound {
		t.Error("an encoded slash equals a slash")
	}
}

func TestMethodsOfALine(t *testing.T) {
	for _, m := range []string{"GET", "GET,POST", "*", "PROPFIND", "HEAD", "M-SEARCH", "OPTIONS"} {
		if err := compileOne("/a", strings.Split(m, ",")...); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
	for m, want := range map[string]string{
		"get":     "write GET",
		"Post":    "write POST",
		"TRACE":   "never let through",
		"connect": "never let through",
		"DELTE":   "did you mean DELETE?",
		"FROB":    "not a known method",
		"GET,":    "is empty",
		",GET":    "is empty",
		"":        "is empty",
		"*,GET":   "stands for all",
		"GET,*":   "stands for all",
		"GET,GET": "twice",
		"ANY":     "not a known method",
		"/a":      "not a known method",
	} {
		if err := compileOne("/a", strings.Split(m, ",")...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want mention of %q", m, err, want)
		}
	}
	u := universe(t, nil)
	if _, err := Compile(u, []Line{{Pattern: "/a", Require: Requirement{Public: true}}}); err == nil {
		t.Error("no method passed")
	}
}

func TestALineThatIsWrongInItselfIsRefused(t *testing.T) {
	public := Requirement{Public: true}
	for name, c := range map[string]struct {
		line Line
		want string
	}{
		"nothing required":     {Line{}, "requirement is missing"},
		"unknown scope":        {Line{Require: Requirement{Scopes: [][]string{{"farm:read"}}}}, "did you mean farms:read?"},
		"unknown alternative":  {Line{Require: Requirement{Scopes: [][]string{{"farms:read", "x:y"}}}}, "not in the list"},
		"negative cost":        {Line{Require: public, Cost: -1}, "at least 1"},
		"public second factor": {Line{Require: public, SecondFactor: true}, "public"},
		"public signed":        {Line{Require: public, Signed: true}, "public"},
	} {
		c.line.Methods, c.line.Pattern = []string{"GET"}, "/a"
		_, err := Compile(universe(t, []string{"farms:read"}), []Line{{Methods: []string{"GET"}, Pattern: "/", Require: public}, c.line})
		var line *LineError
		if !errors.As(err, &line) || line.Index != 1 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConflictsNameTheOtherLine(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"GET /a/{x}/c", "GET /a/b/{y}", "GET /a/b/{y} conflicts with line 12: GET /a/{x}/c: both match paths like /a/b/c"},
		{"GET /a/{x}/c", "* /a/b/{y}", "both match paths like /a/b/c"},
		{"GET /a/{x}/c", "HEAD /a/b/{y}", "both match"},
		{"HEAD /a/{x}/c", "POST,GET /a/b/{y}", "both match"},
		{"* /a/{x}/c", "* /a/b/{y}", "both match"},
		{"GET /a/{x...}", "GET /{y}/b", "both match paths like /a/b"},
		{"GET /{x}/b/{y...}", "GET /a/{z...}", "both match paths like /a/b/y"},
		{"GET /{x}/{y}/c", "GET /a/{z...}", "both match paths like /a/y/c"},
		{"GET /{x}/b/", "GET /a/{y}/", "both match paths like /a/b/"},
		{"GET /a", "GET /a", "both name GET on the same path"},
		{"* /a", "* /a", "both name * on the same path"},
		{"GET,POST /a/{x}", "PUT,POST /a/{y}", "both name POST on the same path"},
		{"GET /a/{x...}", "GET /a/{y...}", "both name GET on the same path"},
		{"HEAD /a", "GET,HEAD /a", "both name HEAD on the same path"},
		{"GET /caf%C3%A9", "GET /café", "both name GET on the same path"},
	} {
		lines := parseLines(t, c.a+" public", c.b+" public")
		lines[0].LineNo, lines[1].LineNo = 12, 15
		_, err := Compile(universe(t, nil), lines)
		var line *LineError
		if !errors.As(err, &line) || line.Index != 1 || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "line 12: "+c.a) {
			t.Errorf("%s, %s: %v", c.a, c.b, err)
		}
		if _, err := Compile(universe(t, nil), []Line{lines[1], lines[0]}); err == nil {
			t.Errorf("%s, %s: no conflict in the other order", c.b, c.a)
		}
	}
}

func TestLinesWithoutConflict(t *testing.T) {
	for _, c := range []struct{ a, b string }{
		{"GET /a/{x}/c", "POST /a/b/{y}"}, // no method in common
		{"GET /a/{x}", "GET /a/b"},
		{"GET /a/{x}", "GET /{y}/{z}"},
		{"GET /a/{x...}", "GET /a/{y}"},
		{"GET /a/{x...}", "GET /{y...}"},
		{"GET /a", "GET /a/"},
		{"GET /a", "* /a"},
		{"GET /a", "HEAD /a"},
		{"* /a/b", "GET /a/{x}"},
		{"GET /a/", "GET /{x}/{y...}"}, // the rest never begins with nothing
		{"GET /{x}/", "GET /a/{y...}"},
		{"GET /a/{x...}", "GET /a"},
		{"GET /a/{x}/c", "GET /a/b/{y}/d"},
		{"GET /A/{x}", "GET /a/{x}"},
	} {
		lines := parseLines(t, c.a+" public", c.b+" public")
		for range 2 {
			if _, err := Compile(universe(t, nil), lines); err != nil {
				t.Errorf("%s, %s: %v", c.a, c.b, err)
			}
			slices.Reverse(lines)
		}
	}
}

func TestConflictErrorsSayWhereTheOtherLineStands(t *testing.T) {
	for _, c := range []struct {
		file, otherFile string
		lineNo          int
		want            string
	}{
		{"Caddyfile", "Caddyfile", 7, "with line 7: GET /a"},
		{"Caddyfile", "hive.routes", 7, "with hive.routes:7: GET /a"},
		{"", "", 0, "with route 2: GET /a"},
	} {
		lines := parseLines(t, "GET /z public", "GET /a public", "GET /a public")
		lines[1].File, lines[1].LineNo, lines[2].File = c.otherFile, c.lineNo, c.file
		if _, err := Compile(universe(t, nil), lines); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want mention of %q", err, c.want)
		}
	}
	// Of several conflicts the first line is named, every time.
	for range 20 {
		_, err := Compile(universe(t, nil), parseLines(t, "GET /{x}/c public", "GET /{x}/d public", "GET /{x}/e public", "GET /a/{y...} public"))
		if err == nil || !strings.Contains(err.Error(), "line 1:") {
			t.Fatal(err)
		}
	}
}

func TestRoutesKeepWhatTheLineSays(t *testing.T) {
	u := universe(t, nil)
	lines := []Line{
		{Methods: []string{"GET", "POST"}, Pattern: "/farms/{farmId}/{rest...}", Require: Requirement{Authenticated: true}, Cost: 5, Classes: []string{"ai"}},
		{Methods: []string{"*"}, Pattern: "/", Require: Requirement{Public: true}},
	}
	tab, err := Compile(u, lines)
	if err != nil {
		t.Fatal(err)
	}
	r := tab.Routes()[0]
	if r.Name != "GET,POST /farms/{farmId}/{rest...}" || r.Cost != 5 || !slices.Equal(r.Params, []string{"farmId", "rest"}) || r.Index != 0 || r.Classes[0] != "ai" {
		t.Errorf("%+v", r)
	}
	if r := tab.Routes()[1]; r.Cost != 1 || r.Index != 1 || r.Name != "* /" {
		t.Errorf("%+v", r)
	}
}

func TestHasExactFindsTheLineThatNamesAPathItself(t *testing.T) {
	tab := table(t, universe(t, nil), "GET /healthz public", "* /v1/{rest...} authenticated", "POST /v1/api-keys/{key}/rotate authenticated",
		"GET /caf%C3%A9/ public", "POST /healthz public")
	for path, want := range map[string]string{
		"/healthz":                 "GET /healthz",
		"/v1/api-keys/{id}/rotate": "POST /v1/api-keys/{key}/rotate",
		"/v1/{x...}":               "* /v1/{rest...}",
		"/caf%c3%a9/":              "GET /caf%C3%A9/",
	} {
		if r, ok := tab.HasExact(path); !ok || r.Name != want {
			t.Errorf("%s: %v, %v", path, r, ok)
		}
	}
	for _, path := range []string{"", "x", "/", "/v1", "/v1/", "/v1/auth/verify", "/v1/api-keys/1/rotate", "/healthz/", "/Healthz", "/v1/{x}", "//"} {
		if r, ok := tab.HasExact(path); ok {
			t.Errorf("%s: %s", path, r.Name)
		}
	}
}

func TestAFullTableCompilesInAMoment(t *testing.T) {
	// Every line overlaps the walk of every other at some depth; what is held
	// here is that nothing worse than the walk happens.
	var lines []string
	for i := range 3000 {
		lines = append(lines, fmt.Sprintf("GET /api/v1/r%d/{id}/s%d/{x...} a:r%d", i, i%7, i))
	}
	if got := len(table(t, universe(t, nil), lines...).Routes()); got != 3000 {
		t.Error(got)
	}
}
