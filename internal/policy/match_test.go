package policy

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func describe(m *Match) string {
	switch m.Found {
	case Matched:
		return m.Route.Name
	case MethodNotAllowed:
		if m.PublicOnly {
			return "405 public"
		}
		return "405"
	}
	return "404"
}

func TestMatch(t *testing.T) {
	tab := table(t, universe(t, nil),
		"GET /healthz public",
		"POST /auth/login public",
		"GET /farms farms:read",
		"GET /farms/{farmId}/{rest...} farms:read",
		"POST /farms/{farmId}/workers/{workerId}/command workers:command",
		"DELETE /farms/{farmId} farms:write",
		"* /reports/{rest...} authenticated",
		"GET /reports/secret reports:secret",
		"* /same farms:read", "DELETE /same farms:write",
		"GET /head a:b", "HEAD /head a:c",
		"GET /slash/ a:b", "GET /both a:b", "GET /both/ a:c",
		"GET /x/{id}/ a:b", "GET /x/1 a:c",
		"GET /mixed public", "POST /mixed a:b",
		"GET /café/{n} a:b",
		"POST /tail a:b", "GET /tail/ a:b",
		"PUT /u/1 a:b", "PUT /u/{id}/ a:b",
	)
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/healthz", "GET /healthz"},
		{"HEAD", "/healthz", "GET /healthz"},
		{"POST", "/healthz", "405 public"},
		{"GET", "/healthz/", "404"},
		{"GET", "/Healthz", "404"},
		{"GET", "/health%7a", "GET /healthz"},
		{"GET", "/", "404"},
		{"GET", "", "404"},
		{"OPTIONS", "*", "404"},
		{"GET", "healthz", "404"},
		{"GET", "/nowhere", "404"},
		{"GET", "/health%zz", "404"},
		{"GET", "/health%7", "404"},
		{"GET", "/farms", "GET /farms"},
		{"GET", "/farms/", "404"},
		{"GET", "/farms/1", "405"},
		{"DELETE", "/farms/1", "DELETE /farms/{farmId}"},
		{"DELETE", "/farms/1/", "404"},
		{"DELETE", "/farms/", "404"},
		{"GET", "/farms/1/", "404"},
		{"GET", "/farms/1/a", "GET /farms/{farmId}/{rest...}"},
		{"GET", "/farms/1/a/", "GET /farms/{farmId}/{rest...}"},
		{"GET", "/farms/1/a/b/c", "GET /farms/{farmId}/{rest...}"},
		{"GET", "/farms/1/workers/2/command", "GET /farms/{farmId}/{rest...}"},
		{"POST", "/farms/1/workers/2/command", "POST /farms/{farmId}/workers/{workerId}/command"},
		{"POST", "/farms/1/workers/2/command/", "404"}, // without the slash it would match
		{"POST", "/farms/1/workers/2/Command", "405"},
		// A more specific line for the method, whatever is named.
		{"GET", "/reports/secret", "GET /reports/secret"},
		{"HEAD", "/reports/secret", "GET /reports/secret"},
		{"POST", "/reports/secret", "* /reports/{rest...}"},
		{"GET", "/reports/secret/", "404"},
		{"HEAD", "/reports/secret/", "404"},
		{"POST", "/reports/secret/", "* /reports/{rest...}"},
		{"GET", "/reports/%73ecret", "GET /reports/secret"},
		{"GET", "/reports/secre%74/", "404"},
		{"GET", "/reports/", "404"},
		{"GET", "/reports", "404"},
		// On one path a named method beats all of them.
		{"DELETE", "/same", "DELETE /same"},
		{"GET", "/same", "* /same"},
		{"FROB", "/same", "* /same"},
		// What never matches, not even a line for all methods.
		{"CONNECT", "/same", "405"},
		{"TRACE", "/same", "405"},
		{"delete", "/same", "405"},
		{"Delete", "/same", "405"},
		{"", "/same", "405"},
		{"*", "/same", "405"},
		{"\xa1", "/same", "405"},
		{"GET ", "/same", "405"},
		{"TRACE", "/healthz", "405 public"},
		{"TRACE", "/nowhere", "404"},
		{"HEAD", "/head", "HEAD /head"},
		{"GET", "/head", "GET /head"},
		{"GET", "/slash/", "GET /slash/"},
		{"GET", "/slash", "404"},
		{"GET", "/both/", "GET /both/"},
		{"GET", "/both", "GET /both"},
		{"GET", "/x/2/", "GET /x/{id}/"},
		{"GET", "/x/1/", "404"}, // a backend that ignores the slash serves /x/1
		{"PUT", "/mixed", "405"},
		{"GET", "/caf%C3%A9/1", "GET /café/{n}"},
		{"GET", "/caf%c3%a9/%2e1", "GET /café/{n}"},
		{"GET", "/cafe/1", "404"},
		{"POST", "/tail/", "404"}, // without the slash it would match
		{"PUT", "/tail/", "405"},
		{"PUT", "/u/2/", "PUT /u/{id}/"},
		{"GET", "/u/1/", "404"}, // no method gets through here
		{"GET", "/u/2/", "405"},
		{"GET", "//", "404"},
		{"GET", "/farms//x", "404"},
		{"GET", "/reports//x", "404"},
	} {
		var m Match
		tab.Match(c.method, c.path, &m)
		if got := describe(&m); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.method, c.path, got, c.want)
		}
		if (m.Route != nil) != (m.Found == Matched) {
			t.Errorf("%s %s: %v with route %v", c.method, c.path, m.Found, m.Route)
		}
	}
	for path, want := range map[string]string{
		"/healthz":    "GET, HEAD",
		"/auth/login": "POST",
		"/mixed":      "GET, HEAD, POST",
		"/same":       "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
		"/farms/1/a":  "GET, HEAD",
		"/farms/1":    "DELETE",
		"/tail/":      "GET, HEAD",
		"/u/1/":       "",
		"/u/2/":       "PUT",
		"/nowhere":    "",
		"":            "",
		"/%":          "",
	} {
		if got := tab.Allow(path); got != want {
			t.Errorf("Allow(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestWhatIsKnownWithoutItsSlashIsMarked(t *testing.T) {
	tab := table(t, universe(t, nil), "DELETE /farms/{farmId} farms:write", "* /r/{rest...} authenticated", "GET /r/secret a:b", "POST /tail/ a:b", "PUT /tail a:b")
	for _, c := range []struct {
		method, path string
		found        Found
		slash        bool
	}{
		{"DELETE", "/farms/1/", NotFound, true},
		{"GET", "/farms/1/", NotFound, true},
		{"TRACE", "/farms/1/", NotFound, true},
		{"DELETE", "/farms/%31/", NotFound, true},
		{"GET", "/r/secret/", NotFound, true},
		{"GET", "/r/other/", Matched, false},
		{"DELETE", "/farms/", NotFound, false},
		{"DELETE", "/farms/1//", NotFound, false},
		{"GET", "/nowhere/", NotFound, false},
		{"GET", "/nowhere", NotFound, false},
		{"GET", "/", NotFound, false},
		{"PUT", "/tail/", NotFound, true},
		{"GET", "/tail/", MethodNotAllowed, false},
	} {
		m := Match{Slash: !c.slash}
		if tab.Match(c.method, c.path, &m); m.Found != c.found || m.Slash != c.slash {
			t.Errorf("%s %s: %v, slash %v", c.method, c.path, m.Found, m.Slash)
		}
	}
}

func TestAMatchIsWhollyOverwritten(t *testing.T) {
	tab := table(t, universe(t, nil), "GET /a/{x} public")
	var m Match
	tab.Match("GET", "/a/1", &m)
	tab.Match("GET", "/b", &m)
	if m != (Match{path: "/b"}) {
		t.Errorf("%+v", m)
	}
	if v, ok := m.Param("x"); ok || v != "" {
		t.Errorf("a parameter of the request before: %q", v)
	}
	tab.Match("POST", "/a/1", &m)
	tab.Match("GET", "/a/2", &m)
	if v, ok := m.Param("x"); !ok || v != "2" || m.PublicOnly {
		t.Errorf("%q %+v", v, m)
	}
}

func TestParamsAreDecodedSegments(t *testing.T) {
	tab := table(t, universe(t, nil), "GET /f/{farm}/w/{worker} public", "GET /r/{a}/{rest...} public", "GET /s/{a}/ public")
	for _, c := range []struct{ path, name, want string }{
		{"/f/1/w/2", "farm", "1"},
		{"/f/1/w/2", "worker", "2"},
		{"/f/%C3%A9/w/a%20b+c", "farm", "é"},
		{"/f/%C3%A9/w/a%20b+c", "worker", "a b+c"},
		{"/f/a%2Fb/w/2", "farm", "a/b"},
		{"/f/a%252Fb/w/2", "farm", "a%2Fb"},
		{"/r/1/x", "rest", "x"},
		{"/r/1/x/y/", "rest", "x/y/"},
		{"/r/1/x/%79", "rest", "x/y"},
		{"/s/1/", "a", "1"},
	} {
		var m Match
		tab.Match("GET", c.path, &m)
		if v, ok := m.Param(c.name); !ok || v != c.want {
			t.Errorf("%s: %s = %q, %v, want %q", c.path, c.name, v, ok, c.want)
		}
		if v, ok := m.Param("other"); ok {
			t.Errorf("%s: other = %q", c.path, v)
		}
	}
}

// slowMatches says whether a line's path matches, read off the pattern's text.
func slowMatches(pattern, path string) bool {
	want, have := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, w := range want {
		if i >= len(have) {
			return false
		}
		h, ok := unescape(have[i])
		switch {
		case !ok:
			return false
		case strings.HasSuffix(w, "...}"):
			return h != ""
		case strings.HasPrefix(w, "{"):
			if h == "" {
				return false
			}
		case w != h:
			return false
		}
	}
	return len(want) == len(have)
}

// specificity orders the patterns that match one path, the most specific first.
func specificity(pattern string) string {
	var b strings.Builder
	for _, s := range strings.Split(pattern, "/") {
		switch {
		case strings.HasSuffix(s, "...}"):
			b.WriteByte('2')
		case strings.HasPrefix(s, "{"):
			b.WriteByte('1')
		default:
			b.WriteByte('0')
		}
	}
	return b.String()
}

var upperCase = regexp.MustCompile(`^[A-Z0-9._-]+$`)

// slowFind is the rule of the lookup over all lines, without the trailing slash.
func slowFind(tab *Table, method, path string) *Route {
	if method == "TRACE" || method == "CONNECT" || !upperCase.MatchString(method) {
		return nil
	}
	var best *Route
	rank := func(r *Route) string {
		k := specificity(r.Pattern)
		switch {
		case slices.Contains(r.Methods, method):
			return k + "a"
		case method == "HEAD" && slices.Contains(r.Methods, "GET"):
			return k + "b"
		}
		return k + "c"
	}
	for _, r := range tab.Routes() {
		if !slowMatches(r.Pattern, path) || !shareMethod([]string{method}, r.Methods) || method == "GET" && !slices.Contains(r.Methods, "GET") && !slices.Contains(r.Methods, "*") {
			continue
		}
		if best == nil || rank(r) < rank(best) {
			best = r
		}
	}
	return best
}

func slowMatch(tab *Table, method, path string) string {
	if !strings.HasPrefix(path, "/") || !validEscapes(path) {
		return "404"
	}
	find := func(method string) (r *Route, hidden bool) {
		r = slowFind(tab, method, path)
		bare, cut := strings.CutSuffix(path, "/")
		if !cut || bare == "" {
			return r, false
		}
		without := slowFind(tab, method, bare)
		if without == nil || without == r {
			return r, false
		}
		if r == nil {
			return nil, true
		}
		// Both match bare, the one without its slash.
		a, b := specificity(without.Pattern), specificity(strings.TrimSuffix(r.Pattern, "/"))
		if a == b || strings.Trim(r.Pattern, "/") == strings.Trim(without.Pattern, "/") {
			return r, false
		}
		n := min(len(a), len(b))
		more, less := false, len(a) < len(b)
		for i := range n {
			more, less = more || a[i] < b[i], less || a[i] > b[i]
		}
		if more && !less || len(a) > len(b) && !less {
			return nil, true
		}
		return r, false
	}
	r, hidden := find(method)
	if r != nil {
		return r.Name
	}
	if hidden {
		return "404"
	}
	known, public := false, true
	for _, r := range tab.Routes() {
		if !slowMatches(r.Pattern, path) {
			continue
		}
		public = public && r.Require.Public
		for _, m := range append(slices.Clone(r.Methods), "GET", "HEAD") {
			if m == "*" {
				m = "PUT"
			}
			if found, _ := find(m); found != nil {
				known = true
			}
		}
	}
	switch {
	case !known:
		return "404"
	case public:
		return "405 public"
	}
	return "405"
}

func randomTable(t *testing.T, r *rand.Rand, methods []string) *Table {
	t.Helper()
	var lines []Line
	for range 1 + r.IntN(12) {
		var p strings.Builder
		n := 1 + r.IntN(4)
		for i := range n {
			p.WriteByte('/')
			switch k := r.IntN(8); {
			case i == n-1 && k < 2:
				fmt.Fprintf(&p, "{r%d...}", i)
			case i == n-1 && k < 3:
			case k < 5:
				fmt.Fprintf(&p, "{p%d}", i)
			default:
				p.WriteByte("abc"[r.IntN(3)])
			}
		}
		l := Line{Methods: []string{methods[r.IntN(len(methods))]}, Pattern: p.String(), Require: Requirement{Public: r.IntN(2) == 0}}
		l.Require.Authenticated = !l.Require.Public
		if next := append(lines, l); compiles(t, next) {
			lines = next
		}
	}
	tab, err := Compile(universe(t, nil), lines)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func compiles(t *testing.T, lines []Line) bool {
	_, err := Compile(universe(t, nil), lines)
	return err == nil
}

func randomPath(r *rand.Rand) string {
	var p strings.Builder
	for range 1 + r.IntN(4) {
		p.WriteByte('/')
		p.WriteString([]string{"a", "b", "c", "d", "%61"}[r.IntN(5)])
	}
	if r.IntN(3) == 0 {
		p.WriteByte('/')
	}
	return p.String()
}

func TestMatchAgreesWithItsDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	methods := []string{"GET", "GET", "HEAD", "POST", "*"}
	asked := []string{"GET", "HEAD", "POST", "PUT", "TRACE", "get"}
	seen := map[string]int{}
	for range 500 {
		tab := randomTable(t, r, methods)
		for range 30 {
			method, path := asked[r.IntN(len(asked))], randomPath(r)
			var m Match
			tab.Match(method, path, &m)
			got, want := describe(&m), slowMatch(tab, method, path)
			if got != want {
				t.Fatalf("%s %s: %s, want %s, of %s", method, path, got, want, names(tab))
			}
			seen[strings.SplitN(got, " ", 2)[0]]++
			allow := tab.Allow(path)
			for _, m := range asked {
				routed := slowFindVisible(tab, m, path)
				if listed := slices.Contains(strings.Split(allow, ", "), m); listed != routed {
					t.Fatalf("Allow(%s) = %q, but %s matches: %v, of %s", path, allow, m, routed, names(tab))
				}
			}
		}
	}
	for _, k := range []string{"GET", "*", "404", "405", "HEAD"} {
		if seen[k] < 150 {
			t.Errorf("%s was found only %d times", k, seen[k])
		}
	}
}

func slowFindVisible(tab *Table, method, path string) bool {
	return !strings.HasPrefix(slowMatch(tab, method, path), "40")
}

func names(tab *Table) string {
	var out []string
	for _, r := range tab.Routes() {
		out = append(out, r.Name)
	}
	return strings.Join(out, "; ")
}

func FuzzMatch(f *testing.F) {
	lines := []string{
		"GET /healthz public", "GET /farms farms:read", "GET /farms/{farmId}/{rest...} farms:read",
		"POST /farms/{farmId}/workers/{workerId}/command workers:command", "DELETE /farms/{farmId} farms:write",
		"* /farms/{farmId}/workers authenticated", "* /reports/{rest...} authenticated", "GET /reports/secret a:b",
		"GET /x/{id}/ a:b", "GET /x/1 a:c", "HEAD /x/1 a:c", "* / public",
	}
	tab := table(f, universe(f, nil), lines...)
	for _, p := range []string{"/", "/healthz", "/farms/1/workers/2/command", "/farms/%31/", "/reports/secret/", "/x/1/", "/x/%2f/", "//"} {
		for _, m := range []string{"GET", "HEAD", "POST", "get", "TRACE"} {
			f.Add(m, p)
		}
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		var m Match
		tab.Match(method, path, &m)
		if got, want := describe(&m), slowMatch(tab, method, path); got != want {
			t.Errorf("%q %q: %s, want %s", method, path, got, want)
		}
		if m.Route != nil {
			for _, name := range m.Route.Params {
				if v, ok := m.Param(name); !ok || v == "" {
					t.Errorf("%q: %s = %q, %v", path, name, v, ok)
				}
			}
		}
		if allow := tab.Allow(path); m.Found != NotFound && allow == "" {
			t.Errorf("%q %q: found %v, Allow %q", method, path, m.Found, allow)
		}
	})
}
