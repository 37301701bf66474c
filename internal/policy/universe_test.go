package policy

import (
	"errors"
	"strings"
	"testing"
)

func universe(t testing.TB, closed []string, aliases ...[2]string) *Universe {
	t.Helper()
	u, err := NewUniverse(closed, aliases)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestClosedListRefusesOtherNamesAndNamesTheNearest(t *testing.T) {
	u := universe(t, []string{"crews:read", "crews:write", "agents:interact"},
		[2]string{"agents:write", "agents:interact"}, [2]string{"agents:ask", "agents:write"})
	for _, s := range []string{
		"crews:read", "agents:interact", "agents:write", "agents:ask", "crews:*", "agents:*", "*",
		"crews:read@id=1", "*@id=1", "agents:*@id=1",
	} {
		if err := u.Known(s); err != nil {
			t.Errorf("Known(%q) = %v", s, err)
		}
	}
	for s, want := range map[string]string{
		"crew:read":      "did you mean crews:read?",
		"agents:wrote":   "did you mean agents:write?",
		"crews:delete":   "not in the list",
		"farms:*":        "not in the list",
		"crews:raed@i=1": "did you mean crews:read?",
		"crews":          "not a scope",
		"crews:read@i":   "after '@'",
	} {
		if err := u.Known(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Known(%q) = %v, want mention of %q", s, err, want)
		}
	}
}

func TestWithoutAClosedListEveryScopeIsKnown(t *testing.T) {
	u := universe(t, nil)
	if err := u.Known("anything:goes"); err != nil {
		t.Error(err)
	}
	if u.Known("not a scope") == nil {
		t.Error("what is no scope is known")
	}
}

func TestAliasesResolveThroughChainsInAnyOrder(t *testing.T) {
	for _, aliases := range [][][2]string{
		{{"a:x", "a:y"}, {"a:y", "a:z"}},
		{{"a:y", "a:z"}, {"a:x", "a:y"}},
	} {
		u := universe(t, []string{"a:z"}, aliases...)
		for _, s := range []string{"a:x", "a:y", "a:z"} {
			if got := u.Canonical(s); got != "a:z" {
				t.Errorf("Canonical(%q) = %q", s, got)
			}
		}
		if got := u.Canonical("a:other"); got != "a:other" {
			t.Errorf("Canonical of a scope without alias = %q", got)
		}
	}
	// The list may hold the other name just as well.
	if err := universe(t, []string{"a:x"}, [2]string{"a:x", "a:y"}).Known("a:y"); err != nil {
		t.Error(err)
	}
}

func TestBadAliasesAreErrorsThatNameTheAlias(t *testing.T) {
	for _, c := range []struct {
		closed  []string
		aliases [][2]string
		index   int
		want    string
	}{
		{nil, [][2]string{{"a:x", "b:x"}}, 0, "same resource"},
		{nil, [][2]string{{"a:x", "a:x"}}, 0, "alias of itself"},
		{nil, [][2]string{{"a:x", "a:y"}, {"a:y", "a:x"}}, 0, "circle"},
		{nil, [][2]string{{"a:w", "a:x"}, {"a:x", "a:y"}, {"a:y", "a:z"}, {"a:z", "a:x"}}, 0, "circle"},
		{nil, [][2]string{{"a:x", "a:y"}, {"a:x", "a:z"}}, 1, "alias of a:y already"},
		{nil, [][2]string{{"a:x", "a:y"}, {"a:x", "a:y"}}, 1, "twice"},
		{nil, [][2]string{{"a:*", "a:y"}}, 0, "wildcard"},
		{nil, [][2]string{{"a:y", "*"}}, 0, "wildcard"},
		{nil, [][2]string{{"a:x", "A:y"}}, 0, "lower case"},
		{[]string{"a:read"}, [][2]string{{"a:x", "a:raed"}}, 0, "did you mean a:read?"},
	} {
		_, err := NewUniverse(c.closed, c.aliases)
		var alias *AliasError
		if !errors.As(err, &alias) || alias.Index != c.index || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want alias %d and %q", c.aliases, err, c.index, c.want)
		}
	}
	if _, err := NewUniverse([]string{"nope"}, nil); err == nil {
		t.Error("a closed list of what is no scope passed")
	}
}

func TestRequirementIsPublicOrAuthenticatedOrScopes(t *testing.T) {
	for words, want := range map[string]string{
		"public":                     "public",
		"authenticated":              "authenticated",
		"farms:read":                 "farms:read",
		"farms:read farms:*":         "farms:read farms:*",
		"a:b|c:d *":                  "a:b|c:d *",
		"a:b|c:d a:b":                "a:b|c:d a:b",
		"dashboard:read|dashboard:*": "dashboard:read|dashboard:*",
	} {
		r, err := ParseRequirement(strings.Fields(words))
		if err != nil || r.String() != want {
			t.Errorf("ParseRequirement(%q) = %q, %v", words, r, err)
		}
	}
	for words, want := range map[string]string{
		"":                     "missing",
		"public farms:read":    "public stands alone",
		"farms:read public":    "public stands alone",
		"public authenticated": "public stands alone",
		"authenticated a:b":    "authenticated stands alone",
		"public|a:b":           "stands alone",
		"a:b|":                 "alternative is empty",
		"|a:b":                 "alternative is empty",
		"a:b||c:d":             "alternative is empty",
		"a:b|a:b":              "its own alternative",
		"a:b a:b":              "required twice",
		"a:b@p=1":              "leave out '@'",
		"Farms:read":           "write farms:read",
		"pubic":                "did you mean public?",
		"authenticate":         "did you mean authenticated?",
		"farms":                "not a scope",
	} {
		if _, err := ParseRequirement(strings.Fields(words)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseRequirement(%q) = %v, want mention of %q", words, err, want)
		}
	}
	if (Requirement{Scopes: [][]string{{}}}).check() == nil {
		t.Error("no alternative at all passed")
	}
}
