package caddymodule

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hivegate/hivegate/keystore"
)

// usedScopes makes a principal of a configuration with the given routes.
func usedScopes(t *testing.T, scopes ...string) (*settings, *compiledGate, *principal) {
	t.Helper()
	set, mistake := compileApp(&App{Aliases: []Alias{{Name: "agents:write", Of: "agents:interact"}}})
	if mistake != nil {
		t.Fatal(mistake)
	}
	g := &Gate{Routes: []Route{
		{Methods: []string{"GET"}, Path: "/farms", Scopes: [][]string{{"farms:read"}}},
		{Methods: []string{"POST"}, Path: "/farms", Scopes: [][]string{{"farms:write", "admin:write"}, {"farms:read"}}},
		{Methods: []string{"POST"}, Path: "/ask", Scopes: [][]string{{"agents:write"}}},
		{Methods: []string{"GET"}, Path: "/open", Authenticated: true},
	}}
	for i := range 100 {
		g.Routes = append(g.Routes, Route{Methods: []string{"GET"}, Path: fmt.Sprintf("/r%d", i), Scopes: [][]string{{fmt.Sprintf("r%d:x", i)}}})
	}
	c, mistake := compileGate(g, set)
	if mistake != nil {
		t.Fatal(mistake)
	}
	rt := &runtime{settings: set}
	return set, c, rt.compilePrincipal(&keystore.Record{ID: keystore.NewID(), Scopes: scopes})
}

func TestAScopeIsOfUseWhenARequestNeededIt(t *testing.T) {
	for name, c := range map[string]struct {
		held   []string
		routes []int
		want   []string
	}{
		"nothing yet":               {[]string{"farms:read"}, nil, nil},
		"the one that is needed":    {[]string{"farms:read", "farms:write"}, []int{0}, []string{"farms:read"}},
		"all that are needed":       {[]string{"farms:read", "farms:write"}, []int{1}, []string{"farms:read", "farms:write"}},
		"alternatives that it has":  {[]string{"admin:write", "farms:read"}, []int{1}, []string{"admin:write", "farms:read"}},
		"a wildcard":                {[]string{"farms:*", "crews:*"}, []int{0}, []string{"farms:*"}},
		"everything":                {[]string{"*"}, []int{0}, []string{"*"}},
		"an alias, as it was given": {[]string{"agents:interact", "farms:read"}, []int{2}, []string{"agents:interact"}},
		"narrowed":                  {[]string{"farms:read@farmId=1"}, []int{0}, []string{"farms:read@farmId=1"}},
		"a route without scopes":    {[]string{"farms:read"}, []int{3}, nil},
		"beyond the first word":     {[]string{"r99:x", "r98:x"}, []int{4 + 99}, []string{"r99:x"}},
	} {
		_, gate, p := usedScopes(t, c.held...)
		for _, i := range c.routes {
			p.uses.mark(gate.routes[i].scopes)
			p.uses.mark(gate.routes[i].scopes)
		}
		if got := p.TakeScopes(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if got := p.TakeScopes(); got != nil {
			t.Errorf("%s: %v is taken twice", name, got)
		}
	}
}

func TestNotingAScopeAllocatesNothing(t *testing.T) {
	_, gate, p := usedScopes(t, "farms:*")
	if n := testing.AllocsPerRun(1000, func() { p.uses.mark(gate.routes[1].scopes) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var _ keystore.ScopeUser = p
}
