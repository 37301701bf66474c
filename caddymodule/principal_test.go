package caddymodule

import (
	"strings"
	"testing"

	"github.com/hivegate/hivegate/internal/jwtauth"
	"github.com/hivegate/hivegate/internal/policy"
)

// TestTokensOfOneRoleShareTheirGrants, and no others do.
func TestTokensOfOneRoleShareTheirGrants(t *testing.T) {
	rg := newRig(t, "", "routes {\nGET /r/{id}/x a:read\nGET /s/{id} b:read\n}", KeyRequest{Name: "k", Scopes: []string{"a:read"}})
	rt := rg.app.runtime
	holder := func(scopes ...string) *principal {
		return rt.tokenPrincipal(&jwtauth.Principal{Issuer: "i", Scopes: scopes, ScopesText: strings.Join(scopes, " ")})
	}
	allowed := func(p *principal, path string) bool {
		var m policy.Match
		rg.gate.c.table.Match("GET", path, &m)
		return m.Found == policy.Matched && m.Route.Check(p.grants, &m).Kind == policy.VerdictOK
	}
	first, again := holder("a:read@id=7", "b:read"), holder("a:read@id=7", "b:read")
	if first.grants != again.grants {
		t.Error("the same scopes were compiled twice")
	}
	// More lists than there are places, so that places change hands.
	for range 2 {
		for i := range 200 {
			id := strings.Repeat("z", i%100+1)
			p := holder("a:read@id=" + id)
			if !allowed(p, "/r/"+id+"/x") || allowed(p, "/r/"+id+"z/x") || allowed(p, "/s/1") {
				t.Fatalf("a:read@id=%s has the rights of another", id)
			}
		}
	}
	if p := holder("a:read@id=7", "b:read"); !allowed(p, "/r/7/x") || allowed(p, "/r/8/x") || !allowed(p, "/s/1") {
		t.Error("the first list has other rights now")
	}
	if p := holder(); allowed(p, "/r/7/x") || allowed(p, "/s/1") {
		t.Error("no scopes open something")
	}
}
