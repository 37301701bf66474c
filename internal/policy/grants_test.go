package policy

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func table(t testing.TB, u *Universe, lines ...string) *Table {
	t.Helper()
	tab, err := Compile(u, parseLines(t, lines...))
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// parseLines reads lines of methods, pattern and requirement.
func parseLines(t testing.TB, lines ...string) []Line {
	t.Helper()
	var out []Line
	for i, l := range lines {
		words := strings.Fields(l)
		r, err := ParseRequirement(words[2:])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, Line{Methods: strings.Split(words[0], ","), Pattern: words[1], Require: r, LineNo: i + 1})
	}
	return out
}

func grants(t testing.TB, u *Universe, scopes string) *Grants {
	t.Helper()
	g, err := u.Compile(strings.Fields(scopes))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestCheck(t *testing.T) {
	ok, no, object := VerdictOK, VerdictInsufficient, VerdictObject
	for _, c := range []struct {
		require, path, held string
		kind                VerdictKind
		missing             string
	}{
		{"public", "/a", "", ok, ""},
		{"authenticated", "/a", "", ok, ""},
		{"farms:read", "/a", "", no, "farms:read"},
		{"farms:read", "/a", "farms:read", ok, ""},
		{"farms:read", "/a", "farms:write", no, "farms:read"},
		{"farms:read", "/a", "farm:read farmss:read", no, "farms:read"},
		// Wildcards.
		{"farms:read", "/a", "farms:*", ok, ""},
		{"farms:read", "/a", "farm:*", no, "farms:read"},
		{"farms:read", "/a", "*", ok, ""},
		{"farms:*", "/a", "farms:read farms:write", no, "farms:*"},
		{"farms:*", "/a", "farms:*", ok, ""},
		{"farms:*", "/a", "*", ok, ""},
		{"*", "/a", "farms:*", no, "*"},
		{"*", "/a", "*", ok, ""},
		// Aliases: agents:write is agents:interact.
		{"agents:write", "/a", "agents:interact", ok, ""},
		{"agents:interact", "/a", "agents:write", ok, ""},
		{"agents:write", "/a", "agents:read", no, "agents:write"},
		{"agents:write", "/a", "agents:*", ok, ""},
		{"agents:write", "/farms/1", "agents:interact@farmId=1", ok, ""},
		// Narrowing.
		{"farms:read", "/farms/1", "farms:read@farmId=1", ok, ""},
		{"farms:read", "/farms/1", "farms:read@farmId=2,1,3", ok, ""},
		{"farms:read", "/farms/1", "farms:read@farmId=2 farms:read@farmId=1", ok, ""},
		{"farms:read", "/farms/1", "farms:read@farmId=11", object, "farms:read"},
		{"farms:read", "/farms/11", "farms:read@farmId=1", object, "farms:read"},
		{"farms:read", "/farms/%31", "farms:read@farmId=1", ok, ""},
		{"farms:read", "/farms/01", "farms:read@farmId=1", object, "farms:read"},
		{"farms:read", "/farms/Ab", "farms:read@farmId=ab", object, "farms:read"},
		{"farms:read", "/farms/1", "farms:read@farmid=1", object, "farms:read"},
		{"farms:read", "/farms/1", "farms:read@nowhere=1", object, "farms:read"},
		{"farms:read", "/a", "farms:read@farmId=1", object, "farms:read"},
		{"farms:read", "/farms/1", "farms:write@farmId=1", no, "farms:read"},
		{"farms:read", "/farms/1", "farms:*@farmId=1", ok, ""},
		{"farms:*", "/farms/1", "farms:*@farmId=1", ok, ""},
		{"farms:*", "/farms/1", "farms:read@farmId=1", no, "farms:*"},
		{"farms:read", "/farms/2", "farms:*@farmId=1", object, "farms:read"},
		{"farms:read", "/farms/1", "*@farmId=1", ok, ""},
		{"*", "/farms/1", "*@farmId=1", ok, ""},
		{"*", "/farms/1", "farms:*@farmId=1", no, "*"},
		{"farms:read", "/farms/2", "*@farmId=1", object, "farms:read"},
		{"farms:read", "/farms/2", "farms:read@farmId=1 farms:read", ok, ""},
		{"farms:read", "/farms/1/workers/9", "farms:read@farmId=2 farms:read@workerId=9", ok, ""},
		{"farms:read", "/farms/9/workers/1", "farms:read@workerId=9", object, "farms:read"},
		// The rest of a path is one value.
		{"farms:read", "/files/x", "farms:read@rest=x", ok, ""},
		{"farms:read", "/files/x/", "farms:read@rest=x", object, "farms:read"},
		{"farms:read", "/files/x/y", "farms:read@rest=x", object, "farms:read"},
		// Several, and alternatives.
		{"farms:read farms:write", "/a", "farms:read farms:write", ok, ""},
		{"farms:read farms:write", "/a", "farms:read", no, "farms:write"},
		{"farms:read farms:write", "/a", "", no, "farms:read"},
		{"farms:read|farms:write", "/a", "farms:write", ok, ""},
		{"farms:read|farms:write", "/a", "farms:other", no, "farms:read"},
		{"farms:read|farms:write", "/farms/1", "farms:write@farmId=1", ok, ""},
		{"farms:read|farms:write", "/farms/2", "farms:write@farmId=1", object, "farms:read"},
		{"farms:read farms:write", "/farms/2", "farms:read@farmId=1", object, "farms:read"},
		{"farms:read farms:write", "/farms/2", "farms:write@farmId=1", no, "farms:read"},
		{"farms:read farms:write", "/farms/1", "farms:read@farmId=1 farms:write@farmId=2", object, "farms:write"},
		{"farms:read farms:write", "/farms/1", "farms:read@farmId=1 farms:write@farmId=1", ok, ""},
	} {
		u := universe(t, nil, [2]string{"agents:write", "agents:interact"})
		tab := table(t, u, "* /a "+c.require, "* /farms/{farmId} "+c.require, "* /farms/{farmId}/workers/{workerId} "+c.require,
			"* /files/{rest...} "+c.require)
		var m Match
		tab.Match("GET", c.path, &m)
		if m.Found != Matched {
			t.Fatalf("%s: not matched", c.path)
		}
		if v := m.Route.Check(grants(t, u, c.held), &m); v != (Verdict{c.kind, c.missing}) {
			t.Errorf("%s requires %s, held %q: %+v, want %v %q", c.path, c.require, c.held, v, c.kind, c.missing)
		}
	}
}

func TestAStoredScopeThatCannotBeReadGrantsNothing(t *testing.T) {
	u := universe(t, nil)
	tab := table(t, u, "GET /a farms:read", "GET /b *")
	bad := []string{"", "farms", "FARMS:READ", "farms:read@", "farms:read@x=", "*:*", "farms:read,farms:write", "\xff", "**"}
	if _, err := u.Compile(bad); err == nil {
		t.Error("Compile took what is no scope")
	}
	g := u.CompileLenient(bad)
	for _, r := range tab.Routes() {
		if v := r.Check(g, nil); v.Kind != VerdictInsufficient {
			t.Errorf("%s: %+v", r.Name, v)
		}
	}
	if v := tab.Routes()[0].Check(u.CompileLenient(append(bad, "farms:read")), nil); v.Kind != VerdictOK {
		t.Errorf("the readable one beside them is lost: %+v", v)
	}
}

func TestNobodyAndGrantsOfAnotherConfigurationOpenNothing(t *testing.T) {
	u, other := universe(t, nil), universe(t, nil)
	tab := table(t, u, "GET /a farms:read", "GET /b authenticated", "GET /c public")
	table(t, other, "GET /a farms:read")
	for name, g := range map[string]*Grants{"nil": nil, "other": grants(t, other, "* farms:read *@p=1")} {
		for i, want := range []Verdict{{VerdictInsufficient, "farms:read"}, {VerdictInsufficient, ""}, {}} {
			if v := tab.Routes()[i].Check(g, nil); v != want {
				t.Errorf("%s, %s: %+v", name, tab.Routes()[i].Name, v)
			}
		}
	}
	if v := (&Need{universe: u.id}).Check(grants(t, u, "*"), nil); v.Kind != VerdictInsufficient {
		t.Errorf("a need for nothing in particular is met: %+v", v)
	}
}

func TestGrantsAreStaleOnceMoreIsRequired(t *testing.T) {
	u := universe(t, nil)
	table(t, u, "GET /a/{p} farms:read")
	g := grants(t, u, "farms:write crews:*@q=1")
	if g.Stale(u) {
		t.Error("fresh grants are stale")
	}
	table(t, u, "GET /a/{p} farms:read")
	if g.Stale(u) {
		t.Error("the same lines again make grants stale")
	}
	more := table(t, u, "GET /b farms:write", "GET /c/{q} crews:write")
	if !g.Stale(u) {
		t.Fatal("grants are not stale after new lines")
	}
	if v := more.Routes()[0].Check(g, nil); v.Kind == VerdictOK {
		t.Error("stale grants open a new line by accident")
	}
	g = grants(t, u, "farms:write crews:*@q=1")
	var m Match
	more.Match("GET", "/c/1", &m)
	if g.Stale(u) || more.Routes()[0].Check(g, nil).Kind != VerdictOK || m.Route.Check(g, &m).Kind != VerdictOK {
		t.Error("compiled again they do not hold")
	}
	// A parameter of a new name is reason enough.
	g = grants(t, u, "farms:read@z=1")
	tab := table(t, u, "GET /z/{z} farms:read")
	if !g.Stale(u) {
		t.Error("grants are not stale after a new parameter")
	}
	g = grants(t, u, "farms:read@z=1")
	tab.Match("GET", "/z/1", &m)
	if v := m.Route.Check(g, &m); v.Kind != VerdictOK {
		t.Errorf("narrowed by the new parameter: %+v", v)
	}
	if !g.Stale(universe(t, nil)) || !(*Grants)(nil).Stale(u) {
		t.Error("grants of another universe, or none, are fresh")
	}
}

func TestCompileDoesNotTouchItsInput(t *testing.T) {
	u := universe(t, nil)
	table(t, u, "GET /a/{p} farms:read")
	scopes := []string{"farms:read@p=3,1", "farms:read@p=2", "farms:read@p=9,3"}
	before := slices.Clone(scopes)
	g, err := u.Compile(scopes)
	if err != nil || !reflect.DeepEqual(scopes, before) {
		t.Fatalf("%v, %v", scopes, err)
	}
	if len(g.narrowed) != 1 || !slices.Equal(g.narrowed[0].values, []string{"1", "2", "3", "9"}) {
		t.Errorf("narrowed: %+v", g.narrowed)
	}
}

func TestANeedOutsideTheTableIsCheckedLikeARoute(t *testing.T) {
	u := universe(t, []string{"workers:admin", "workers:command"})
	tab := table(t, u, "POST /farms/{farmId}/command workers:command")
	need, err := u.Need(Requirement{Scopes: [][]string{{"workers:admin"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Need(Requirement{Scopes: [][]string{{"workers:admn"}}}); err == nil || !strings.Contains(err.Error(), "did you mean workers:admin?") {
		t.Errorf("an unknown scope: %v", err)
	}
	if _, err := u.Need(Requirement{}); err == nil {
		t.Error("a need for nothing passed")
	}
	var m Match
	tab.Match("POST", "/farms/1/command", &m)
	for held, want := range map[string]VerdictKind{
		"workers:command": VerdictInsufficient, "workers:admin": VerdictOK,
		"workers:admin@farmId=1": VerdictOK, "workers:admin@farmId=2": VerdictObject,
	} {
		if v := need.Check(grants(t, u, held), &m); v.Kind != want {
			t.Errorf("%s: %+v", held, v)
		}
	}
	if v := need.Check(grants(t, u, "workers:admin@farmId=1"), nil); v.Kind != VerdictObject {
		t.Errorf("without parameters: %+v", v)
	}
}

// The universe of the properties below: small enough to meet every case often.
var (
	propScopes = []string{"a:x", "a:y", "a:z", "b:x", "a:*", "b:*", "*"} // a:z is another name of a:x
	propParams = []string{"p", "q"}
	propValues = []string{"1", "2", "3"}
)

func randomGrants(r *rand.Rand) []string {
	var out []string
	for range r.IntN(5) {
		s := propScopes[r.IntN(len(propScopes))]
		if r.IntN(3) > 0 {
			s += "@" + propParams[r.IntN(2)] + "=" + propValues[r.IntN(3)]
			if r.IntN(3) == 0 {
				s += "," + propValues[r.IntN(3)]
			}
		}
		out = append(out, s)
	}
	return out
}

// propTable has every requirement on every set of parameters.
func propTable(t *testing.T, u *Universe) (*Table, []string) {
	var lines, paths []string
	requirements := append([]string{"a:x|b:x", "a:y b:x", "a:x|a:y *|b:x"}, propScopes...)
	for i, require := range requirements {
		lines = append(lines, fmt.Sprintf("GET /%d %s", i, require), fmt.Sprintf("GET /%d/p/{p} %s", i, require),
			fmt.Sprintf("GET /%d/q/{q} %s", i, require), fmt.Sprintf("GET /%d/pq/{p}/{q} %s", i, require))
		paths = append(paths, fmt.Sprintf("/%d", i))
		for _, v := range propValues {
			paths = append(paths, fmt.Sprintf("/%d/p/%s", i, v), fmt.Sprintf("/%d/q/%s", i, v))
			for _, w := range propValues {
				paths = append(paths, fmt.Sprintf("/%d/pq/%s/%s", i, v, w))
			}
		}
	}
	return table(t, u, lines...), paths
}

func TestCoversIsExactlyThatNoRouteOpensMore(t *testing.T) {
	u := universe(t, nil, [2]string{"a:z", "a:x"})
	tab, paths := propTable(t, u)
	r := rand.New(rand.NewPCG(1, 2))
	covered := 0
	for range 6000 {
		granter, requested := randomGrants(r), randomGrants(r)
		if r.IntN(2) == 0 && len(granter) > 0 {
			requested = []string{granter[r.IntN(len(granter))]}
		}
		missing, ok := u.Covers(granter, requested)
		if ok {
			covered++
		}
		g, q := u.CompileLenient(granter), u.CompileLenient(requested)
		beyond := ""
		for _, p := range paths {
			var m Match
			tab.Match("GET", p, &m)
			if m.Route.Check(q, &m).Kind == VerdictOK && m.Route.Check(g, &m).Kind != VerdictOK {
				beyond = p
				break
			}
		}
		if ok != (beyond == "") || ok != (missing == "") {
			t.Fatalf("granter %v, requested %v: covers %v (missing %q), but on %q requested opens more", granter, requested, ok, missing, beyond)
		}
	}
	if covered < 500 || covered > 5500 {
		t.Errorf("%d of 6000 covered: the test is one-sided", covered)
	}
}

func TestCoversNamesWhatIsMissingAsWritten(t *testing.T) {
	u := universe(t, nil, [2]string{"a:z", "a:x"})
	for _, c := range []struct {
		granter, requested, missing string
	}{
		{"a:x", "a:z", ""},
		{"a:x", "a:z a:y", "a:y"},
		{"a:*", "a:z@p=1", ""},
		{"a:x@p=1,2", "a:z@p=2,1", ""},
		{"a:x@p=1 a:*@p=2", "a:z@p=1,2", ""},
		{"a:x@p=1", "a:z@p=1,2", "a:z@p=1,2"},
		{"a:x@p=1", "a:z", "a:z"},
		{"a:x@p=1", "a:x@q=1", "a:x@q=1"},
		{"a:x a:y a:z", "a:*", "a:*"},
		{"a:* b:*", "*", "*"},
		{"*", "not-a-scope", "not-a-scope"},
		{"not-a-scope", "not-a-scope", "not-a-scope"},
		{"", "", ""},
	} {
		missing, ok := u.Covers(strings.Fields(c.granter), strings.Fields(c.requested))
		if missing != c.missing || ok != (c.missing == "") {
			t.Errorf("%q covers %q: %q, %v", c.granter, c.requested, missing, ok)
		}
	}
}

// slowCheck is what a check means, on the text of scopes.
func slowCheck(r *Route, held []string, m *Match, canonical func(string) string) Verdict {
	for _, alternatives := range r.Require.Scopes {
		kind := VerdictInsufficient
		for _, want := range alternatives {
			want = canonical(want)
			for _, h := range held {
				scope, narrowing, narrowed := strings.Cut(h, "@")
				scope = canonical(scope)
				if scope != "*" && scope != want && scope != strings.Split(want, ":")[0]+":*" {
					continue
				}
				if !narrowed {
					kind = VerdictOK
					continue
				}
				name, values, _ := strings.Cut(narrowing, "=")
				if v, has := m.Param(name); has && slices.Contains(strings.Split(values, ","), v) {
					kind = VerdictOK
				} else if kind != VerdictOK {
					kind = VerdictObject
				}
			}
		}
		if kind != VerdictOK {
			return Verdict{kind, alternatives[0]}
		}
	}
	return Verdict{}
}

func TestCheckAgreesWithItsDefinition(t *testing.T) {
	u := universe(t, nil, [2]string{"a:z", "a:x"})
	tab, paths := propTable(t, u)
	r := rand.New(rand.NewPCG(3, 4))
	var seen [3]int
	for range 3000 {
		held := randomGrants(r)
		g := u.CompileLenient(held)
		for range 20 {
			var m Match
			tab.Match("GET", paths[r.IntN(len(paths))], &m)
			got, want := m.Route.Check(g, &m), slowCheck(m.Route, held, &m, u.Canonical)
			if got != want {
				t.Fatalf("%s on %s, held %v: %+v, want %+v", m.Route.Name, m.path, held, got, want)
			}
			seen[got.Kind]++
		}
	}
	if slices.Min(seen[:]) < 3000 {
		t.Errorf("verdicts seen: %v", seen)
	}
}
