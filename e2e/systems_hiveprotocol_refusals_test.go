package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const hiveProtocol401 = `{"error":"Invalid authentication credentials","code":"UNAUTHORIZED","message":"JWT expired or invalid"}`

func (p hiveProtocol) unauthorized(t *testing.T) {
	a := p.ask(t, "GET /rest/v1/agents", p.anon(), bearer("a.b.c"))
	a.refused(t, 401, "token_invalid")
	a.isBody(t, hiveProtocol401)
	// supabase-js reads the code of what stands under auth beside this version.
	a = p.ask(t, "GET /auth/v1/user", p.anon(), bearer("a.b.c"))
	a.refused(t, 401, "token_invalid")
	if v := a.header.Get("X-Supabase-Api-Version"); v != "2024-01-01" {
		t.Errorf("X-Supabase-Api-Version %q", v)
	}
	if v := p.ask(t, "GET /auth/v1/user", p.signedIn("fine")).header.Get("X-Supabase-Api-Version"); v != "" {
		t.Errorf("X-Supabase-Api-Version %q on an answer of the project", v)
	}
}

func (p hiveProtocol) badTokens(t *testing.T) {
	good := p.user("a@example.com", time.Hour)
	none := b64u([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + strings.Split(good, ".")[1] + "."
	for what, c := range map[string]struct {
		changes []change
		reason  string
	}{
		"no header":           {nil, "missing_credentials"},
		"expired":             {[]change{p.anon(), bearer(p.user("a@example.com", -time.Hour))}, "token_expired"},
		"malformed":           {[]change{p.anon(), bearer("not.a.token")}, "token_invalid"},
		"badly signed":        {[]change{p.anon(), bearer(good[:len(good)-8] + "AAAAAAAA")}, "token_invalid"},
		"no algorithm":        {[]change{p.anon(), bearer(none)}, "token_invalid"},
		"of another project":  {[]change{p.anon(), bearer(tokenKeys()["ES256"].token(claims(nil)))}, "token_invalid"},
		"not even a token":    {[]change{p.anon(), bearer("nonsense")}, "api_key_invalid"},
		"without the scheme":  {[]change{p.anon(), header("Authorization", good)}, "malformed_authorization"},
		"in the query string": {nil, "missing_credentials"},
	} {
		call := "GET /rest/v1/agents"
		if what == "in the query string" {
			call += "?apikey=" + p.keys["publishable key"]
		}
		a := p.ask(t, call, append(c.changes, from("127.0.0.15"))...)
		if a.status != 401 || a.reason() != c.reason {
			t.Errorf("%s: %d %q, want 401 %q", what, a.status, a.reason(), c.reason)
		}
		if m := a.asJSON(t); len(m) != 3 || m["error"] != "Invalid authentication credentials" || m["code"] != "UNAUTHORIZED" {
			t.Errorf("%s: %s", what, a.body)
		}
	}
}

func (p hiveProtocol) expiredIs401(t *testing.T) {
	for _, call := range []string{"GET /rest/v1/agents", "POST /functions/v1/agent-respond", "GET /auth/v1/user"} {
		a := p.ask(t, call, p.anon(), bearer(p.user("a@example.com", -time.Hour)), jsonBody("{}"))
		a.refused(t, 401, "token_expired")
		a.isBody(t, hiveProtocol401)
		if ch := a.header.Get("Www-Authenticate"); !strings.Contains(ch, `error="invalid_token"`) {
			t.Errorf("challenge %q", ch)
		}
	}
}

const hiveProtocol403 = `{"error":"Access denied","code":"FORBIDDEN","message":"User does not have permission to access this resource"}`

func (p hiveProtocol) forbidden(t *testing.T) {
	a := p.ask(t, "GET /auth/v1/admin/users", p.signedIn("curious"))
	a.refused(t, 403, "insufficient_scope")
	a.isBody(t, hiveProtocol403)
}

func (p hiveProtocol) weakRole(t *testing.T) {
	for _, call := range []string{"GET /rest/v1/agents", "POST /rest/v1/swarms", "POST /functions/v1/agent-respond"} {
		for _, kind := range []string{"anon key", "publishable key"} {
			a := p.ask(t, call, header("Apikey", p.keys[kind]), jsonBody("{}"))
			a.refused(t, 403, "insufficient_scope")
			a.isBody(t, hiveProtocol403)
		}
	}
	// The project's own refusals, of policies and other owners, pass as they are.
	p.farm.handle("/rest/v1/tools", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(403)
		_, _ = io.WriteString(w, `{"code":"42501","message":"new row violates row-level security policy"}`)
	})
	if a := p.ask(t, "POST /rest/v1/tools", p.signedIn("policy"), jsonBody("{}")); a.status != 403 || a.reason() != "" || a.member(t, "code") != "42501" {
		t.Errorf("the project's own refusal: %d %q %s", a.status, a.reason(), a.body)
	}
}

func (p hiveProtocol) serviceKeyInBrowser(t *testing.T) {
	for _, kind := range []string{"service_role key", "secret key"} {
		k := p.keys[kind]
		for what, marker := range map[string]change{
			"Origin": header("Origin", "https://app.example.com"), "Sec-Fetch-Site": header("Sec-Fetch-Site", "same-origin"),
			"Sec-Fetch-Dest": header("Sec-Fetch-Dest", "empty"), "a cookie": header("Cookie", "theme=dark"),
		} {
			for _, c := range [][]change{{header("Apikey", k)}, {header("Apikey", k), bearer(k)}} {
				a := p.ask(t, "GET /rest/v1/agents", append(c, marker)...)
				a.refused(t, 403, "browser_forbidden")
				if a.member(t, "code") != "FORBIDDEN" {
					t.Errorf("%s with %s: %s", kind, what, a.body)
				}
			}
		}
		p.ask(t, "GET /rest/v1/agents", header("Apikey", k)).isFine(t, kind+" of a server")
	}
}

func (p hiveProtocol) validatedHere(t *testing.T) {
	a := p.ask(t, "POST /functions/v1/agent-respond", p.anon(), bearer("a.b.c"), jsonBody("{}"))
	a.refused(t, 401, "token_invalid")
	if text, ok := a.asJSON(t)["error"].(string); !ok || text == "" {
		t.Errorf("error is no text: %s", a.body)
	}
}

func (p hiveProtocol) httpsOnly(t *testing.T) {
	for _, changes := range [][]change{
		{p.signedIn("plain"), header("X-Forwarded-Proto", "http")},
		{p.signedIn("liar"), header("X-Forwarded-Proto", "https")}, // nobody here is a trusted proxy
	} {
		a := p.ask(t, "GET /rest/v1/agents", changes...)
		a.refused(t, 403, "https_required")
		if a.header.Get("Location") != "" {
			t.Errorf("redirected to %s", a.header.Get("Location"))
		}
	}
}

func (p hiveProtocol) expiryIsGraceful(t *testing.T) {
	a := p.ask(t, "GET /rest/v1/agents", p.anon(), bearer(p.user("a@example.com", -time.Hour)))
	a.refused(t, 401, "token_expired")
	if hint := a.challengeHint(); hint == "" {
		t.Error("no error_description")
	}
	a = p.ask(t, "POST /auth/v1/token?grant_type=refresh_token", from("127.0.0.20"), p.anon(), jsonBody(`{"refresh_token":"r"}`))
	a.isFine(t, "refresh")
	token, _ := a.asJSON(t)["access_token"].(string)
	p.ask(t, "GET /rest/v1/agents", p.anon(), bearer(token)).isFine(t, "the same request again")
}
