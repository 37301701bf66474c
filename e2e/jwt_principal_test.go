package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// who signs main's claims with these changes.
func who(changes map[string]any) change {
	return bearer(tokenKeys()["ES256"].token(claims(changes)))
}

const twoPlans = `
	plan roomy {
		requests unlimited
	}
	plan tiny {
		requests 3/h
	}
	plan small {
		requests 5/h
	}
	default_plan roomy
`

func TestAJWTsPrincipalIsInHeadersMetricsAndAccessLog(t *testing.T) {
	c := mainConfig(twoPlans, farmRoutes)
	c.options, c.before = "log {\n\t\tformat json\n\t}", "log"
	g := start(t, c)
	full := who(map[string]any{"sub": "user-7", "scope": "crews:read", "app_metadata": asIs(`{"org":"acme","plan":"small"}`)})
	g.get(t, "/farms", full, header("X-Auth-Owner", "root"), header("x_auth_id", "root")).passed(t)
	h := g.farm.got(t).header
	for name, want := range map[string]string{
		"X-Auth-Kind": "jwt", "X-Auth-Id": "user-7", "X-Auth-Owner": "acme", "X-Auth-Plan": "small",
		"X-Auth-Scopes": "crews:read farms:read", "X-Auth-Issuer": "main", "X-Auth-Second-Factor": "",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	g.get(t, "/farms", who(nil)).passed(t)
	if h := g.farm.got(t).header; len(h["X-Auth-Owner"]) != 0 || h.Get("X-Auth-Plan") != "roomy" {
		t.Errorf("without claims for them: owner %q, plan %q", h["X-Auth-Owner"], h.Get("X-Auth-Plan"))
	}
	g.do(t, "DELETE", "/farms", full).refused(t, 403, "insufficient_scope")
	g.get(t, "/farms", who(map[string]any{"exp": in(-time.Hour)})).refused(t, 401, "token_expired")
	for _, m := range []struct {
		want   float64
		labels []string
	}{
		{1, []string{`outcome="allowed"`, `kind="jwt"`, `plan="small"`}},
		{1, []string{`outcome="allowed"`, `kind="jwt"`, `plan="roomy"`}},
		{1, []string{`outcome="insufficient_scope"`, `kind="jwt"`, `plan="small"`}},
		{1, []string{`outcome="token_expired"`}},
	} {
		if v := g.metric(t, "hivegate_requests_total", m.labels...); v != m.want {
			t.Errorf("hivegate_requests_total%v = %g, want %g", m.labels, v, m.want)
		}
	}
	if up := g.metric(t, "hivegate_store_up", `store="issuer:main"`); up != 1 {
		t.Errorf("hivegate_store_up of the issuer is %g", up)
	}
	access := map[string]string{"logger": "http.log.access"}
	eventually(t, 5*time.Second, "four requests are in the access log", func() bool { return len(g.logLines(t, access)) >= 4 })
	users := map[any]int{}
	for _, l := range g.logLines(t, access) {
		users[l["user_id"]]++
	}
	if users["user-7"] != 2 || users["user-1"] != 1 {
		t.Errorf("user_id of the access log: %v, want user-7 twice and user-1 once", users)
	}
	if n := len(g.awaitLines(t, 1, map[string]string{"logger": "http.handlers.hivegate", "reason": "insufficient_scope"})); n != 1 {
		t.Errorf("%d lines of the refusal", n)
	}
}

// A budget belongs to the account, else to the issuer's user, else to the address.
func TestLimitsOfTokensBelongToOwnerUserOrAddress(t *testing.T) {
	c := mainConfig(twoPlans, farmRoutes)
	c.global = strings.Replace(c.global, "plan_claim app_metadata.plan", "plan_claim app_metadata.plan\n\t\tplan tiny", 1) + `
		issuer second {
			iss second
			jwks DIR/jwks.json
			algorithms ES256 ES384 ES512 RS256 EdDSA
			role_claim role
			role authenticated farms:read
			plan tiny
		}
	`
	g := start(t, c)
	k := g.create(t, "--scope", "farms:read", "--owner", "acme", "--plan", "tiny")
	org := func(org, sub string) change {
		return who(map[string]any{"sub": sub, "app_metadata": asIs(fmt.Sprintf(`{"org":%q}`, org))})
	}
	pass := func(what string, changes ...change) {
		t.Helper()
		if a := g.get(t, "/farms", changes...); a.status != 200 {
			t.Errorf("%s: %d %q", what, a.status, a.reason())
		}
	}
	limited := func(what string, changes ...change) {
		t.Helper()
		a := g.get(t, "/farms", changes...)
		if a.status != 429 || a.reason() != "rate_limited" || !strings.HasPrefix(a.header.Get("Ratelimit"), `"tiny";r=0`) {
			t.Errorf("%s: %d %q %s", what, a.status, a.reason(), a.header.Get("Ratelimit"))
		}
	}
	for range 3 {
		pass("user a", who(map[string]any{"sub": "a", "jti": fmt.Sprint(time.Now().UnixNano())}))
	}
	limited("user a with another token", who(map[string]any{"sub": "a", "jti": "x"}))
	limited("user a from elsewhere", who(map[string]any{"sub": "a"}), from("127.0.0.21"))
	pass("user b", who(map[string]any{"sub": "b"}))
	pass("user a of another issuer", who(map[string]any{"sub": "a", "iss": "second"}))

	pass("acme's first", org("acme", "u1"))
	pass("acme's second", org("acme", "u2"))
	pass("acme's key", key(k.Key))
	limited("acme's third", org("acme", "u3"))
	limited("acme's key again", key(k.Key))
	pass("another account", org("umbrella", "u1"))

	for range 3 {
		pass("nobody in particular", who(map[string]any{"sub": nil, "jti": fmt.Sprint(time.Now().UnixNano())}), from("127.0.0.22"))
	}
	limited("nobody from the same address", who(map[string]any{"sub": nil}), from("127.0.0.22"))
	limited("a static key from the same address", bearer(publishable), from("127.0.0.22"))
	pass("nobody from another address", who(map[string]any{"sub": nil}), from("127.0.0.23"))
	pass("a static key from another address", bearer(publishable), from("127.0.0.24"))

	plan := func(plan, sub string) change {
		return who(map[string]any{"sub": sub, "app_metadata": asIs(fmt.Sprintf(`{"plan":%q}`, plan))})
	}
	for range 5 {
		pass("a plan of the claim", plan("small", "p"))
	}
	g.get(t, "/farms", plan("small", "p")).refused(t, 429, "rate_limited")
	for range 6 {
		pass("a plan that is gone is the default one", plan("gone", "q"))
	}
	if len(g.awaitLines(t, 1, map[string]string{"plan": "gone", "level": "warn"})) == 0 {
		t.Error("nothing is logged of a plan that does not exist")
	}
}

// {sub} in a role is the caller's own id, literally.
func TestARoleIsNarrowedToTheCallersOwnObjects(t *testing.T) {
	c := mainConfig("", `
		routes {
			GET /users/{userId}/notes notes:read
			GET /notes notes:read
		}
	`)
	c.global = strings.Replace(c.global, "role authenticated farms:read", "role authenticated notes:read@userId={sub}", 1)
	g := start(t, c)
	own := func(sub any) change { return who(map[string]any{"sub": sub}) }
	g.get(t, "/users/u1/notes", own("u1")).passed(t)
	g.get(t, "/users/u2/notes", own("u1")).refused(t, 403, "object_forbidden")
	g.get(t, "/notes", own("u1")).refused(t, 403, "object_forbidden")
	// What is no narrowing value drops the scope: never a list, never a wildcard.
	for _, sub := range []any{"u1,u2", "*", "u1@x", "u 1", nil, ""} {
		g.get(t, "/users/u1/notes", own(sub)).refused(t, 403, "insufficient_scope")
	}
}

// Bad signatures count against the address, and never against a valid token.
func TestForgedTokensAreCountedPerAddressAndHurtNobodyElse(t *testing.T) {
	g := start(t, mainConfig("auth_failures 3/h\n", farmRoutes))
	forged := func() change {
		return bearer(es256("kid-ES256").token(with("jti", fmt.Sprint(time.Now().UnixNano()))))
	}
	addr := from("127.0.0.31")
	for range 10 { // none of these counts
		g.get(t, "/farms", addr, who(map[string]any{"exp": in(-time.Hour)})).refused(t, 401, "token_expired")
		g.get(t, "/farms", addr, bearer("a.b.c")).refused(t, 401, "token_invalid")
		g.get(t, "/farms", addr).refused(t, 401, "missing_credentials")
	}
	for range 3 {
		g.get(t, "/farms", addr, forged()).refused(t, 401, "token_invalid")
	}
	g.get(t, "/farms", addr, forged()).refused(t, 429, "auth_attempts_limited")
	g.get(t, "/farms", addr, who(nil)).passed(t)
	g.get(t, "/farms", addr, who(map[string]any{"sub": "new"})).passed(t)
	g.get(t, "/farms", addr, who(map[string]any{"exp": in(-time.Hour)})).refused(t, 401, "token_expired")
	g.get(t, "/farms", from("127.0.0.32"), forged()).refused(t, 401, "token_invalid")
}

func TestTokenInspectTellsWhatTheGateThinks(t *testing.T) {
	c := mainConfig("", farmRoutes)
	c.global += "issuer second {\n\t\t\tiss second\n\t\t\thmac_secret {env.JWT_SECRET}\n\t\t\talgorithms HS256\n\t\t}\n"
	g := prepare(t, c)
	k := tokenKeys()
	inspect := func(stdin string, args ...string) cli {
		t.Helper()
		out := g.hivegateIn(t, stdin, append([]string{"token", "inspect"}, args...)...)
		if parts := strings.Split(strings.TrimSpace(strings.TrimPrefix(stdin, "Bearer ")), "."); len(parts) == 3 && len(parts[2]) > 16 {
			for _, part := range []string{parts[2], parts[2][:16], parts[2][len(parts[2])-16:]} {
				if strings.Contains(out.stdout+out.stderr, part) {
					t.Errorf("the signature, or a part of it, is printed:\n%s%s", out.stdout, out.stderr)
				}
			}
		}
		return out
	}
	good := k["ES256"].token(claims(map[string]any{"sub": "user-9", "app_metadata": asIs(`{"org":"acme"}`)}))
	for what, c := range map[string]struct {
		stdin string
		want  []string
	}{
		"accepted":           {"Bearer " + good + "\r\n", []string{`"alg": "ES256"`, `"sub": "user-9"`, "issuer main: accepts it", "acme", "farms:read", "accepted"}},
		"expired":            {k["ES256"].token(with("exp", in(-time.Hour))), []string{"token_expired", "refuses it"}},
		"a wrong signature":  {es256("kid-ES256").token(claims(nil)), []string{"token_invalid", "signature is wrong"}},
		"of nobody":          {k["ES256"].token(with("iss", "nobody")), []string{"token_invalid", "iss", `"nobody"`}},
		"a wrong algorithm":  {k["ES256"].token(with("iss", "second")), []string{"issuer second: refuses it", "algorithm"}},
		"none":               {b64u([]byte(`{"alg":"none"}`)) + "." + b64u([]byte(claims(nil))) + ".", []string{`"alg": "none"`, "no signature"}},
		"no JWT at all":      {"hello", []string{"three parts"}},
		"control characters": {k["ES256"].token(with("sub", "\x1b[2Jroot")), []string{`\u001b`, "token_invalid"}},
	} {
		out := inspect(c.stdin)
		if out.code != 0 {
			t.Errorf("%s: exit code %d\n%s", what, out.code, out.stderr)
		}
		for _, w := range c.want {
			if !strings.Contains(out.stdout, w) {
				t.Errorf("%s: %q is not in\n%s", what, w, out.stdout)
			}
		}
		if strings.Contains(out.stdout, "\x1b") {
			t.Errorf("%s: an escape character reaches the terminal", what)
		}
	}
	var rep struct {
		Header, Claims map[string]any
		Issuer         string
		Accepted       bool
		Reason         string
		Principal      struct{ Subject, Owner string }
		Asked          []struct {
			Issuer   string
			Accepted bool
		}
	}
	if err := json.Unmarshal([]byte(inspect(good, "--json").ok(t).stdout), &rep); err != nil {
		t.Fatal(err)
	}
	if !rep.Accepted || rep.Issuer != "main" || len(rep.Asked) != 1 || rep.Header["alg"] != "ES256" || rep.Claims["sub"] != "user-9" ||
		rep.Principal.Subject != "user-9" || rep.Principal.Owner != "acme" || rep.Reason != "" {
		t.Errorf("--json: %+v", rep)
	}
	for what, c := range map[string]struct {
		stdin string
		args  []string
		code  int
	}{
		"empty input":      {" \n", nil, 2},
		"a token as word":  {"", []string{"a.b.c"}, 2},
		"no configuration": {good, []string{"--config", "/nonexistent/Caddyfile"}, 1},
	} {
		if out := inspect(c.stdin, c.args...); out.code != c.code || out.stderr == "" || out.stdout != "" {
			t.Errorf("%s: exit code %d, want %d\n%s%s", what, out.code, c.code, out.stdout, out.stderr)
		}
	}
	g = prepare(t, config{gate: farmRoutes})
	if out := inspect(good); out.code != 1 || !strings.Contains(out.stderr, "no issuer") {
		t.Errorf("without an issuer: exit code %d\n%s", out.code, out.stderr)
	}
}

// Without its keys the token cannot be judged; inspect says so.
func TestTokenInspectSaysWhenAnIssuerIsAway(t *testing.T) {
	g := prepare(t, manyIssuers(map[string]string{"away": "http://" + freePorts(t, 1)[0] + "/jwks.json"}))
	out := g.hivegateIn(t, es256("k").token(with("iss", "away")), "token", "inspect")
	if out.code != 0 || !strings.Contains(out.stdout, "issuer_unavailable") || !strings.Contains(out.stdout, `"iss": "away"`) {
		t.Errorf("exit code %d\n%s%s", out.code, out.stdout, out.stderr)
	}
}

// What is per key is each user's own, as it is each key's of one owner.
func TestLimitsPerKeyAreEachUsersOfAnAccount(t *testing.T) {
	c := mainConfig("\tclass own 1/h per key\n\tclass shared 3/h\n", `
		routes {
			GET /farms farms:read class=own
			GET /shared farms:read class=shared
		}
	`)
	g := start(t, c)
	user := func(sub string) change {
		return who(map[string]any{"sub": sub, "app_metadata": asIs(`{"org":"acme"}`)})
	}
	for _, sub := range []string{"u1", "u2"} {
		g.get(t, "/farms", user(sub)).passed(t)
		g.get(t, "/farms", user(sub)).refused(t, 429, "rate_limited")
		g.get(t, "/shared", user(sub)).passed(t)
	}
	g.get(t, "/shared", user("u3")).passed(t)
	g.get(t, "/shared", user("u4")).refused(t, 429, "rate_limited")
	g.get(t, "/farms", user("")).passed(t) // without sub it is the account
}

// What handlers behind the gate know of the caller: a token has no key's id.
func TestPlaceholdersSayWhoCalls(t *testing.T) {
	c := mainConfig(twoPlans, farmRoutes)
	c.more = "http://SITE1 {\n\thivegate {\n\t\t" + farmRoutes + "\n\t}\n\trespond \"" +
		"{http.auth.user.kind} {http.auth.user.id} {http.auth.user.key_id} {http.auth.user.owner} {http.auth.user.plan} {http.auth.user.scopes} {http.hivegate.route}" +
		"\"\n}\n"
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	for _, row := range []struct {
		path    string
		changes []change
		want    string
	}{
		{"/farms", []change{bearer(k.Key)}, "api_key " + k.ID + " " + k.ID + "  roomy farms:read GET,POST /farms"},
		{"/farms", []change{who(map[string]any{"sub": "user-7"})}, "jwt user-7   roomy farms:read GET,POST /farms"},
		{"/farms", []change{bearer(publishable)}, "jwt authenticated   roomy farms:read GET,POST /farms"},
		{"/healthz", nil, "anonymous      GET /healthz"},
	} {
		a, err := g.try(g.sites[1], "GET", row.path, row.changes...)
		if err != nil {
			t.Fatal(err)
		}
		a.passed(t)
		if got := string(a.body); got != row.want {
			t.Errorf("%s: %q, want %q", row.path, got, row.want)
		}
	}
}
