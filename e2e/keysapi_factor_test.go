package e2e

import (
	"strings"
	"testing"
)

// A second factor on write is the gate's to check, also where a backend checks
// those of the other routes: behind the API there is none.
func TestKeysAPIAsksForASecondFactorAndChecksItItself(t *testing.T) {
	for _, mode := range []string{"verify", "present"} {
		t.Run(mode, func(t *testing.T) {
			c := withKeysAPI
			c.gate = strings.Replace(c.gate, "write keys:manage", "write keys:manage 2fa", 1) + "\nsecond_factor " + mode + "\n"
			g := start(t, c)
			root := g.manager(t, "--owner", "acme")
			f := g.enroll(t, "--owner", "acme")
			body := jsonBody(`{"name":"x","permissions":["farms:read"]}`)
			g.do(t, "POST", "/v1/api-keys", key(root.Key), body).refused(t, 401, "second_factor_required")
			g.do(t, "POST", "/v1/api-keys", key(root.Key), body, withCode(f.wrong(t, 1)[0])).refused(t, 401, "second_factor_invalid")
			if a := g.get(t, "/v1/api-keys", key(root.Key)); a.status != 200 || strings.Count(string(a.body), `"id"`) != 1 {
				t.Errorf("reading needs no code, and nothing was made: %d %s", a.status, a.body)
			}
			a, err := g.try(g.sites[0], "POST", "/v1/api-keys", key(root.Key), body, withCode(f.next(t)))
			if err != nil || a.status != 201 {
				t.Fatalf("with its code: %v %+v", err, a)
			}
			book.addKey("a key made with a code", a.member(t, "key"))
		})
	}
}

// explain knows the calls of the keys API.
func TestExplainKnowsTheKeysAPI(t *testing.T) {
	g := prepare(t, withKeysAPI)
	reader := g.create(t, "--scope", "keys:read", "--plan", "big")
	for _, c := range []struct{ method, path, verdict string }{
		{"GET", "/v1/api-keys/key_AAAAAAAAAAAA", "allow"}, {"DELETE", "/v1/api-keys/key_AAAAAAAAAAAA", "deny"}, {"GET", "/v1/auth/verify", "allow"},
	} {
		out := g.hivegate(t, "explain", "--method", c.method, "--path", c.path, "--key-id", reader.ID, "--json").object(t)
		if out["verdict"] != c.verdict || !strings.Contains(out["route"].(string), "/v1/") {
			t.Errorf("%s %s: %v", c.method, c.path, out)
		}
	}
}
