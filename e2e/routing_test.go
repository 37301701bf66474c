package e2e

import (
	"net/http"
	"strings"
	"testing"
)

func TestTheMoreSpecificLineWinsWhateverTheOrder(t *testing.T) {
	g := start(t, config{global: cheap, gate: `
		routes {
			* /a/{rest...} wide:read
			GET /a/{x} one:read
			GET /a/b exact:read
			* /a/b any:read
			GET,POST /slash/ slash:read
			* /deep/{x}/{rest...} deep:read
		}
	`})
	keys := map[string]string{}
	for _, s := range []string{"wide:read", "one:read", "exact:read", "any:read", "slash:read", "deep:read"} {
		keys[s] = g.createScoped(t, s).Key
	}
	for _, r := range []struct{ method, path, scope string }{
		{"GET", "/a/b", "exact:read"}, {"HEAD", "/a/b", "exact:read"}, {"POST", "/a/b", "any:read"}, {"DELETE", "/a/b", "any:read"},
		{"GET", "/a/c", "one:read"}, {"GET", "/a/%62", "exact:read"}, {"POST", "/a/c", "wide:read"}, {"GET", "/a/b/c", "wide:read"},
		{"PATCH", "/a/x/y/z", "wide:read"}, {"GET", "/slash/", "slash:read"}, {"GET", "/deep/1/2", "deep:read"}, {"OPTIONS", "/a/q", "wide:read"},
	} {
		for scope, k := range keys {
			a := g.do(t, r.method, r.path, key(k))
			if want := scope == r.scope; (a.status == 200) != want {
				t.Errorf("%s %s with %s: %d %s, the line needs %s", r.method, r.path, scope, a.status, a.reason(), r.scope)
			}
		}
	}
	all := g.createScoped(t, "*")
	for _, p := range []string{"/a", "/a/", "/slash", "/slash/x", "/A/b", "/deep/1", "/deep/1/", "/a/b/"} {
		if a := g.get(t, p, key(all.Key)); a.status != 404 || a.header.Get("Location") != "" {
			t.Errorf("%s: %d %s, want 404 and no redirect", p, a.status, a.reason())
		}
	}
	g.do(t, "POST", "/deep/1/2", key(keys["deep:read"])).passed(t)
	g.do(t, "PUT", "/slash/", key(all.Key)).refused(t, 405, "method_not_allowed")
}

func TestScopesHeldCoverWildcardsNarrowingAndAliases(t *testing.T) {
	g := start(t, config{global: cheap + `
		scopes farms:read farms:write agents:interact admin:read
		alias agents:write agents:interact
	`, gate: `
		dialect hiveclaw
		routes {
			GET /farms farms:read
			PUT /farms/{farmId}/{rest...} farms:write
			POST /ask agents:write
			POST /talk agents:interact
			GET /both farms:read admin:read
			GET /either admin:read|farms:write
		}
	`})
	for _, c := range []struct {
		held  string
		may   string // paths, each with its method
		maynt string
	}{
		{"*", "GET /farms,PUT /farms/1/x,POST /ask,GET /both,GET /either", ""},
		{"farms:*", "GET /farms,PUT /farms/1/x,GET /either", "GET /both,POST /ask"},
		{"farms:read", "GET /farms", "PUT /farms/1/x,GET /both,GET /either"},
		{"farms:write@farmId=1,2", "PUT /farms/1/x,PUT /farms/2/x/y", "PUT /farms/3/x,PUT /farms/12/x,GET /either"},
		{"farms:*@farmId=7", "PUT /farms/7/x", "GET /farms,PUT /farms/8/x"},
		{"agents:interact", "POST /ask,POST /talk", "GET /farms"},
		{"agents:write", "POST /ask,POST /talk", "GET /farms"},
		{"admin:read farms:read", "GET /both,GET /either,GET /farms", "POST /ask"},
	} {
		k := g.createScoped(t, strings.Fields(c.held)...)
		for _, r := range strings.Split(c.may, ",") {
			method, path, _ := strings.Cut(r, " ")
			if a := g.do(t, method, path, key(k.Key)); a.status != 200 {
				t.Errorf("%s with %s: %d %s", r, c.held, a.status, a.reason())
			}
		}
		for _, r := range strings.Split(c.maynt, ",") {
			if r == "" {
				continue
			}
			method, path, _ := strings.Cut(r, " ")
			if a := g.do(t, method, path, key(k.Key)); a.status != 403 {
				t.Errorf("%s with %s: %d %s, want 403", r, c.held, a.status, a.reason())
			}
		}
	}
	k := g.createScoped(t, "farms:read")
	// An alias is shown as the route wrote it.
	for path, name := range map[string]string{"/ask": "agents:write", "/talk": "agents:interact"} {
		want := `{"success":false,"error":{"code":"FORBIDDEN","message":"API key missing required scope: ` + name + `"}}`
		if a := g.do(t, "POST", path, key(k.Key)); strings.TrimSpace(string(a.body)) != want {
			t.Errorf("%s\n got %s\nwant %s", path, a.body, want)
		}
	}
}

func TestUnmatchedPathsMayBeLeftToAnybodyWithAKey(t *testing.T) {
	g := start(t, farms.with("unmatched authenticated"))
	k := g.createScoped(t, "crews:read")
	g.get(t, "/nowhere/known", key(k.Key)).passed(t)
	g.get(t, "/nowhere/known").refused(t, 401, "missing_credentials")
	// A known path with another method is 405 all the same.
	g.do(t, "DELETE", "/crews", key(k.Key)).refused(t, 405, "method_not_allowed")
	g.get(t, "/farms", key(k.Key)).refused(t, 403, "insufficient_scope")
	g.get(t, "/nowhere//known", key(k.Key)).refused(t, 400, "ambiguous_path")
}

func TestPathsCanBeRelaxedAsFarAsIsSafe(t *testing.T) {
	g := start(t, farms.with("allow_in_path percent semicolon encoded_slash"))
	k := g.createScoped(t, "farms:read")
	for _, p := range []string{"/any/x%25y", "/any/x;v=1", "/any/x%2Fy", "/any/%25"} {
		a := g.get(t, p, key(k.Key))
		a.passed(t)
		if got := g.farm.got(t).target; got != p {
			t.Errorf("%s reached the backend as %s", p, got)
		}
	}
	for _, p := range []string{"/any/..%2Fx", "/any/%2e%2e", "/any/x%5cy", "/any/x%00", "/any//x", "/any/%2F", "/any/x%2F%2Fy", "/any/x%2F..%2Fy", "/any/..;/x", "/any/.;a/x"} {
		a := g.raw(t, "GET "+p+" HTTP/1.1\nHost: SITE0\nAuthorization: Bearer "+k.Key+"\nConnection: close\n", "")
		if a.status != 400 || a.reason() != "ambiguous_path" {
			t.Errorf("%s: %d %q, want 400 ambiguous_path", p, a.status, a.reason())
		}
	}
}

// A URI without a path names "/": for the route table as for the backend.
func TestAnAbsoluteTargetWithoutAPathIsTheRoot(t *testing.T) {
	g := start(t, farms.with("routes {\n\t\t\tGET / farms:read\n\t\t}\nunmatched authenticated"))
	k, poor := g.createScoped(t, "farms:read"), g.createScoped(t, "crews:read")
	for _, target := range []string{"http://SITE0", "http://SITE0?x=1", "http://SITE0/"} {
		g.raw(t, "GET "+target+" HTTP/1.1\nHost: SITE0\nAuthorization: Bearer "+k.Key+"\nConnection: close\n", "").passed(t)
		if got := g.farm.got(t).target; strings.TrimSuffix(got, "?x=1") != "/" {
			t.Errorf("%s reached the backend as %s", target, got)
		}
		g.raw(t, "GET "+target+" HTTP/1.1\nHost: SITE0\nAuthorization: Bearer "+poor.Key+"\nConnection: close\n", "").
			refused(t, 403, "insufficient_scope")
	}
}

// The gate judges the path at its place in the chain, and the client's own.
func TestRewritesBeforeTheGateAreSeen(t *testing.T) {
	c := config{global: cheap, caddyfile: `{
	admin ADMIN
	persist_config off
	default_bind 127.0.0.1
	hivegate {
		bcrypt_cost 4
	}
}
http://SITE0 {
	header X-Earlier stays
	rewrite /old/* /new{uri}
	handle_path /base/* {
		hivegate {
			routes {
				GET /farms farms:read
			}
		}
		reverse_proxy FARM
	}
	handle /open/* {
		respond "not gated"
	}
	handle {
		hivegate {
			routes {
				GET /new/{rest...} farms:read
			}
		}
		reverse_proxy FARM
	}
}
`}
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	g.get(t, "/base/farms", key(k.Key)).passed(t)
	if got := g.farm.got(t).target; got != "/farms" {
		t.Errorf("the backend saw %s", got)
	}
	g.get(t, "/farms", key(k.Key)).refused(t, 404, "route_not_found")
	g.get(t, "/old/x", key(k.Key)).passed(t)
	if got := g.farm.got(t).target; got != "/new/old/x" {
		t.Errorf("the backend saw %s", got)
	}
	a := g.get(t, "/base/none", key(k.Key))
	a.refused(t, 404, "route_not_found")
	if a.header.Get("X-Earlier") != "stays" {
		t.Error("a header set earlier in the chain is gone from the refusal")
	}
	for _, p := range []string{"/base//farms", "/base/../farms", "/base%2Ffarms", "/x/../base/farms", "/old/%2e%2e/farms"} {
		r := g.raw(t, "GET "+p+" HTTP/1.1\nHost: SITE0\nAuthorization: Bearer "+k.Key+"\nConnection: close\n", "")
		if r.status != 400 || r.reason() != "ambiguous_path" {
			t.Errorf("%s: %d %q, want 400 ambiguous_path", p, r.status, r.reason())
		}
	}
	if a := g.get(t, "/open/x"); a.status != 200 || string(a.body) != "not gated" {
		t.Errorf("outside its matcher: %d %s", a.status, a.body)
	}
}

func TestSitesTakeTheKeysTheySay(t *testing.T) {
	g := start(t, config{
		global: cheap + "key_format hive_sk_ 48\n\t\tkey_format hc_ 48\n",
		gate:   "accept keys hc_\n\t\t" + oneRoute,
		more:   "http://SITE1 {\n\thivegate {\n\t\taccept keys\n\t\t" + oneRoute + "\n\t}\n\treverse_proxy FARM\n}\n",
	})
	k := g.createScoped(t, "farms:read")
	if !strings.HasPrefix(k.Key, "hive_sk_") {
		t.Errorf("new keys get the first format, not %s", k.Prefix)
	}
	g.get(t, "/farms", key(k.Key)).refused(t, 401, "api_key_invalid")
	g.doAt(t, g.sites[1], "GET", "/farms", key(k.Key)).passed(t)
	other := config{global: cheap + "key_format hc_ 48\n\t\tkey_format hive_sk_ 48\n", gate: "accept keys hc_\n\t\t" + oneRoute}
	if err := g.reload(t, other); err != nil {
		t.Fatal(err)
	}
	n := g.createScoped(t, "farms:read")
	if !strings.HasPrefix(n.Key, "hc_") || len(n.Key) != 51 {
		t.Errorf("a key of %d characters with prefix %s", len(n.Key), n.Prefix)
	}
	g.get(t, "/farms", key(n.Key)).passed(t)
}

func TestPreflightsPassToPublicRoutesOnly(t *testing.T) {
	g := start(t, farms)
	preflight := func(path, method string) *answer {
		return g.do(t, http.MethodOptions, path, header("Origin", "https://app.example.com"), header("Access-Control-Request-Method", method))
	}
	preflight("/login", "POST").passed(t)
	preflight("/farms", "GET").refused(t, 401, "missing_credentials")
	preflight("/none", "GET").refused(t, 401, "missing_credentials")
}

func TestHTTPSIsRequiredAsConfigured(t *testing.T) {
	c := farms.with("require_https")
	c.options = "servers {\n\t\ttrusted_proxies static 127.0.0.20/32\n\t\ttrusted_proxies_strict\n\t}"
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	// A loopback peer that speaks for itself needs none.
	g.get(t, "/farms", key(k.Key)).passed(t)
	g.get(t, "/farms", key(k.Key), from("127.0.0.20"), header("X-Forwarded-Proto", "https"), header("X-Forwarded-For", "203.0.113.9")).passed(t)
	for name, changes := range map[string][]change{
		"a proxy says http":          {from("127.0.0.20"), header("X-Forwarded-Proto", "http"), header("X-Forwarded-For", "203.0.113.9")},
		"a stranger says https":      {header("X-Forwarded-Proto", "https"), header("X-Forwarded-For", "203.0.113.9")},
		"a proxy says nothing of it": {from("127.0.0.20"), header("X-Forwarded-For", "203.0.113.9")},
		"a proxy says both":          {from("127.0.0.20"), header("X-Forwarded-Proto", "https"), header("X-Forwarded-Proto", "http")},
	} {
		a := g.get(t, "/farms", append(changes, key(k.Key))...)
		if a.status != 403 || a.reason() != "https_required" || a.header.Get("Location") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.reason())
		}
	}
}

// A probe of the gate's own address has no TLS, and holds no secret. Nothing else
// may come that way, nor a probe's path in another spelling.
func TestHealthIsAnsweredOverPlainHTTP(t *testing.T) {
	g := start(t, farms.with("require_https strict\nhealth /alive ready /ready"))
	stranger := header("X-Forwarded-For", "203.0.113.9")
	for _, path := range []string{"/alive", "/ready"} {
		for _, method := range []string{"GET", "HEAD"} {
			if a := g.do(t, method, path, stranger); a.status != 200 {
				t.Errorf("%s %s: %d %s", method, path, a.status, a.reason())
			}
		}
		g.get(t, path, header("Early-Data", "1")).refused(t, 425, "too_early")
		g.do(t, "POST", path).refused(t, 403, "https_required")
		for _, other := range []string{path + "/", path + "/x", "/" + path, "/%61" + path[2:], "/x/.." + path, path + ";x"} {
			if a := g.get(t, other); a.status == 200 {
				t.Errorf("GET %s over plain HTTP: %d", other, a.status)
			}
		}
	}
	g.get(t, "/farms").refused(t, 403, "https_required")
	g.get(t, "/healthz").refused(t, 403, "https_required")
	if n := g.farm.hits.Load(); n != 0 {
		t.Errorf("%d requests reached the backend", n)
	}
}

func TestLastUseIsKept(t *testing.T) {
	g := start(t, farms)
	used, idle := g.createScoped(t, "farms:read"), g.createScoped(t, "farms:read")
	g.get(t, "/farms", key(used.Key)).passed(t)
	g.stop(t)
	if at, _ := g.hivegate(t, "apikey", "show", used.ID, "--json").object(t)["last_used_at"].(string); at == "" {
		t.Error("the last use is not kept when the server ends")
	}
	if at := g.hivegate(t, "apikey", "show", idle.ID, "--json").object(t)["last_used_at"]; at != nil {
		t.Errorf("last_used_at %v of a key that was never used", at)
	}
}
