package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// until sends the same request until it is refused, and tells how many passed.
func (p *project) until(t *testing.T, method, path string, changes ...change) (passed int, last *answer) {
	t.Helper()
	for passed <= 200 {
		a, err := p.try(p.sites[0], method, path, changes...)
		if err != nil {
			t.Fatal(err)
		}
		if a.status >= 400 && a.reason() != "" {
			return passed, a
		}
		passed++
	}
	t.Fatalf("%s %s: more than 200 pass", method, path)
	return 0, nil
}

func TestHiveProtocolHasItsFiveRateClasses(t *testing.T) {
	p := startProject(t)
	anon := header("Apikey", p.keys["publishable key"])
	user := func(sub string) change {
		return bearer(tokenKeys()["ES256"].token(claims(map[string]any{"iss": p.iss, "sub": sub})))
	}
	body := content("application/json", "{}")
	for _, c := range []struct {
		class        string
		method, path string
		changes      []change
		burst        int
		refill       time.Duration
	}{
		{"api", "GET", "/rest/v1/agents", []change{anon, user("u-api")}, 100, 600 * time.Millisecond},
		{"ai", "POST", "/functions/v1/agent-respond", []change{anon, user("u-ai"), body}, 30, 2 * time.Second},
		{"tools", "POST", "/functions/v1/execute-tool", []change{anon, user("u-tools"), body}, 50, 1200 * time.Millisecond},
		{"webhooks", "POST", "/functions/v1/test-webhook", []change{anon, user("u-hooks"), body}, 100, 600 * time.Millisecond},
		{"auth", "POST", "/auth/v1/token?grant_type=password", []change{from("127.0.0.9"), anon, body}, 10, 6 * time.Second},
		{"auth, links in mails", "GET", "/auth/v1/verify?token=x", []change{from("127.0.0.10")}, 10, 6 * time.Second},
	} {
		began := time.Now()
		n, a := p.until(t, c.method, c.path, c.changes...)
		if late := int(time.Since(began)/c.refill) + 1; n < c.burst || n > c.burst+late {
			t.Errorf("%s: %d passed, want %d", c.class, n, c.burst)
		}
		a.refused(t, 429, "rate_limited")
		if got := a.asJSON(t); got["error"] != "Rate limit exceeded" || got["code"] != "RATE_LIMITED" || len(got) != 3 ||
			fmt.Sprint(got["retry_after"]) != a.header.Get("Retry-After") {
			t.Errorf("%s: body %v, Retry-After %q", c.class, got, a.header.Get("Retry-After"))
		}
		if limit := a.header.Get("X-Ratelimit-Limit"); limit != fmt.Sprint(c.burst) {
			t.Errorf("%s: X-RateLimit-Limit %s, want %d", c.class, limit, c.burst)
		}
	}
	// Each class is a bucket of its own, and so is each user; attempts are the address's.
	for what, changes := range map[string][]change{
		"another user":                 {anon, user("u-other")},
		"the same user, another class": {anon, user("u-ai")},
	} {
		if a, err := p.try(p.sites[0], "GET", "/rest/v1/agents", changes...); err != nil || a.status != 200 {
			t.Errorf("%s: %v %v", what, err, a)
		}
	}
	a := p.do(t, "POST", "/auth/v1/signup", from("127.0.0.9"), header("Apikey", p.keys["anon key"]), body)
	a.refused(t, 429, "rate_limited")
}

// What the backend is sent, and what it is spared.
func TestHiveProtocolAsksForAKeyEverywhereButAtTheOpenPaths(t *testing.T) {
	p := startProject(t)
	anon, user := header("Apikey", p.keys["anon key"]), bearer(p.user("user@example.com", time.Hour))
	for _, path := range []string{"/auth/v1/verify", "/auth/v1/callback", "/auth/v1/authorize", "/auth/v1/.well-known/jwks.json"} {
		if a := p.get(t, path); a.status != 200 || a.reason() != "" {
			t.Errorf("%s without a key: %d %q", path, a.status, a.reason())
		}
	}
	for what, c := range map[string]struct {
		method, path string
		changes      []change
		status       int
		reason       string
	}{
		"neither":                    {"GET", "/rest/v1/agents", nil, 401, "missing_credentials"},
		"user without apikey":        {"GET", "/rest/v1/agents", []change{user}, 401, "missing_credentials"},
		"apikey alone: anon":         {"GET", "/rest/v1/agents", []change{anon}, 403, "insufficient_scope"},
		"sign-in without apikey":     {"POST", "/auth/v1/token", nil, 401, "missing_credentials"},
		"a wrong apikey":             {"GET", "/rest/v1/agents", []change{user, header("Apikey", "sb_publishable_nobodys")}, 401, "api_key_invalid"},
		"an apikey of hivegate":      {"GET", "/rest/v1/agents", []change{user, header("Apikey", "hive_sk_"+strings.Repeat("a", 48))}, 401, "api_key_invalid"},
		"an apikey twice":            {"GET", "/rest/v1/agents", []change{user, anon, anon}, 400, "multiple_credentials"},
		"a user's token as apikey":   {"GET", "/rest/v1/agents", []change{header("Apikey", p.user("user@example.com", time.Hour))}, 200, ""},
		"an expired user":            {"GET", "/rest/v1/agents", []change{anon, bearer(p.user("user@example.com", -time.Minute))}, 401, "token_expired"},
		"an expired apikey":          {"GET", "/rest/v1/agents", []change{user, header("Apikey", p.user("user@example.com", -time.Minute))}, 401, "token_expired"},
		"both right":                 {"GET", "/rest/v1/agents", []change{anon, user}, 200, ""},
		"key as Bearer too":          {"GET", "/rest/v1/agents", []change{anon, bearer(p.keys["publishable key"])}, 403, "insufficient_scope"},
		"admin calls of a user":      {"GET", "/auth/v1/admin/users", []change{anon, user}, 403, "insufficient_scope"},
		"admin calls of a server":    {"GET", "/auth/v1/admin/users", []change{header("Apikey", p.keys["service_role key"])}, 200, ""},
		"an unknown table":           {"GET", "/rest/v1/secrets", []change{anon, user}, 404, "route_not_found"},
		"plain HTTP behind a proxy":  {"GET", "/rest/v1/agents", []change{anon, user, header("X-Forwarded-Proto", "http")}, 403, "https_required"},
		"server key from a browser":  {"GET", "/rest/v1/agents", []change{header("Apikey", p.keys["secret key"]), header("Sec-Fetch-Dest", "empty")}, 403, "browser_forbidden"},
		"server key beside a user's": {"GET", "/rest/v1/agents", []change{header("Apikey", p.keys["secret key"]), user, header("Origin", "https://app.example.com")}, 403, "browser_forbidden"},
		"Node's Sec-Fetch-Mode":      {"GET", "/rest/v1/agents", []change{header("Apikey", p.keys["secret key"]), header("Sec-Fetch-Mode", "cors")}, 200, ""},
	} {
		a, err := p.try(p.sites[0], c.method, c.path, append(c.changes, from("127.0.0.8"))...)
		if err != nil {
			t.Fatal(err)
		}
		if a.status != c.status || a.reason() != c.reason {
			t.Errorf("%s: %d %q, want %d %q; %s", what, a.status, a.reason(), c.status, c.reason, a.body)
		}
		if c.status == 401 {
			if m := a.asJSON(t); m["error"] != "Invalid authentication credentials" || m["code"] != "UNAUTHORIZED" || m["message"] == "" {
				t.Errorf("%s: body %s", what, a.body)
			}
		}
	}
	// Supabase judges key and user again, so both go on.
	if _, err := p.try(p.sites[0], "GET", "/rest/v1/agents", header("Apikey", p.keys["publishable key"]), user); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"X-Auth-Kind": "jwt", "X-Auth-Id": userID, "X-Auth-Issuer": "supabase", "Apikey": p.keys["publishable key"],
		"X-Auth-Scopes": "auth:use agents:* swarms:* messages:* tools:* webhooks:*",
	} {
		if got := p.lastHeader(name); got != want {
			t.Errorf("the backend was sent %s %q, want %q", name, got, want)
		}
	}
	if !strings.HasPrefix(p.lastHeader("Authorization"), "Bearer eyJ") {
		t.Error("the user's token did not reach the backend")
	}
}

// The filter of the example, wherever a token stands.
func TestNoTokenLandsInTheLogOfHiveProtocol(t *testing.T) {
	p := prepareProject(t)
	token := p.user("user@example.com", time.Hour)
	book.add("a user's token", token[strings.LastIndexByte(token, '.')+1:])
	p.farm.handle("/auth/v1/verify", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://app.example.com/#access_token="+token)
		w.WriteHeader(http.StatusSeeOther)
	})
	p.farm.handle("/rest/v1/tools", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	p.run(t)
	apikey := header("Apikey", p.keys["secret key"])
	sent := 0
	for _, c := range []struct {
		path    string
		changes []change
	}{
		{"/rest/v1/agents", []change{apikey, bearer(token)}},
		{"/rest/v1/tools", []change{apikey, bearer(token)}}, // 502, with an error line
		{"/rest/v1/agents?access_token=" + token, []change{apikey}},
		{"/rest/v1/agents?apikey=" + p.keys["secret key"], []change{bearer(token)}},
		{"/rest/v1/" + token, []change{apikey}},
		{"/rest/v1/" + p.keys["secret key"], []change{bearer(token)}},
		{"/auth/v1/verify?token=" + token, nil},
		{"/rest/v1/agents", []change{header("Cookie", "sb-127-auth-token="+token)}},
		{"/rest/v1/agents", []change{header("X-Custom", token), header("Referer", "https://x/?t="+token)}},
		{"/rest/v1/agents", []change{header("Authorization", token)}},
		{"/rest/v1/agents", []change{apikey, header("Authorization", "Bearer"+token)}},
		{"/rest/v1/agents", []change{apikey, bearer(token + "x")}},
		{"/rest/v1/agents", []change{apikey, bearer(p.user("user@example.com", -time.Hour))}},
	} {
		if _, err := p.try(p.sites[0], "GET", c.path, c.changes...); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	eventually(t, 5*time.Second, "the requests are logged", func() bool {
		return len(p.logLines(t, map[string]string{"logger": "http.log.access"})) >= sent
	})
	if !reached(5*time.Second, func() bool { return p.failuresLogged(t) > 0 }) {
		t.Error("no error was logged: this test does not look at error lines")
	}
	p.stop(t) // and its log is searched
}
