package e2e

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

var shadowed = config{
	global: farms.global,
	gate: farms.gate + `
		routes {
			POST /ruled farms:read {
				json command oneof reboot
				json command reboot require farms:read
			}
			POST /signed farms:read signed
			POST /coded farms:read 2fa
			POST /plain farms:read
		}
		keys_api /v1 {
			read farms:write
			write farms:write
		}
		require_https
	`,
}

// wouldRefuse checks that a request went on as nobody's, and is said to.
func (g *gate) wouldRefuse(t testing.TB, a *answer, reason string) {
	t.Helper()
	if a.status != 200 || a.reason() != "" || a.header.Get("X-Hivegate-Shadow") != reason {
		t.Errorf("%d, reason %q, shadow %q, want 200 that would have been %q: %s", a.status, a.reason(), a.header.Get("X-Hivegate-Shadow"), reason, a.body)
		return
	}
	got := g.farm.got(t).header
	for name := range got {
		if strings.HasPrefix(name, "X-Auth-") && name != "X-Auth-Kind" || strings.HasPrefix(name, "X-Hivegate-") || name == "Authorization" || name == "X-Security-Code" {
			t.Errorf("%s: the backend was sent %s", reason, name)
		}
	}
	if kind := got["X-Auth-Kind"]; len(kind) != 1 || kind[0] != "anonymous" || got.Get("X-Request-Id") != a.header.Get("X-Request-Id") {
		t.Errorf("%s: the backend was told of %q", reason, kind)
	}
}

func TestShadowDecidesAndRefusesNothing(t *testing.T) {
	c := shadowed
	c.gate += "\nshadow header\ncors https://app.example.com\n"
	c.before = "log\n"
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	gone := g.createScoped(t, "farms:read")
	g.hivegate(t, "apikey", "revoke", gone.ID).ok(t)
	tiny := g.create(t, "--scope", "farms:read", "--plan", "tiny")
	spoof := []change{header("X-Auth-Id", "spoof"), header("X_Auth.Scopes", "*"), header("X-Hivegate-Shadow", "forged")}
	for reason, r := range map[string]struct {
		method, path string
		changes      []change
	}{
		"missing_credentials":      {"GET", "/farms", nil},
		"malformed_authorization":  {"GET", "/farms", []change{header("Authorization", k.Key)}},
		"api_key_invalid":          {"GET", "/farms", []change{key(wrong(t, k))}},
		"api_key_revoked":          {"GET", "/farms", []change{key(gone.Key)}},
		"insufficient_scope":       {"GET", "/crews", []change{key(k.Key)}},
		"route_not_found":          {"GET", "/none", []change{key(k.Key)}},
		"method_not_allowed":       {"PUT", "/farms", []change{key(k.Key)}},
		"too_early":                {"GET", "/farms", []change{key(k.Key), header("Early-Data", "1")}},
		"https_required":           {"GET", "/farms", []change{key(k.Key), header("X-Forwarded-For", "203.0.113.9")}},
		"body_not_json":            {"POST", "/ruled", []change{key(k.Key), content("text/plain", "reboot")}},
		"body_invalid":             {"POST", "/ruled", []change{key(k.Key), content("application/json", "{")}},
		"field_invalid":            {"POST", "/ruled", []change{key(k.Key), content("application/json", `{"command":"stop"}`)}},
		"signature_required":       {"POST", "/signed", []change{key(k.Key), content("application/json", "{}")}},
		"signature_invalid":        {"POST", "/signed", []change{key(k.Key), content("application/json", "{}"), header("X-Request-Signature", strings.Repeat("0", 64))}},
		"second_factor_required":   {"POST", "/coded", []change{key(k.Key)}},
		"second_factor_invalid":    {"POST", "/coded", []change{key(k.Key), withCode("12345x")}},
		"api_key_invalid, and JWT": {"GET", "/farms", []change{key("hive_sk_nonsense")}},
	} {
		reason, _, _ = strings.Cut(reason, ",")
		a := g.do(t, r.method, r.path, append(r.changes, append(spoof, header("Origin", page))...)...)
		g.wouldRefuse(t, a, reason)
		a.mayRead(t, reason, page)
		if !listed(a.header.Get("Access-Control-Expose-Headers"), "X-Hivegate-Shadow") {
			t.Errorf("%s: X-Hivegate-Shadow is not exposed", reason)
		}
		if a.header.Get("Retry-After") != "" || a.header.Get("Www-Authenticate") != "" {
			t.Errorf("%s: %v", reason, a.header)
		}
		if n := g.metric(t, "hivegate_requests_total", `outcome="shadow_`+reason+`"`); n < 1 {
			t.Errorf("shadow_%s is not counted", reason)
		}
	}
	// What is allowed goes on as its caller's.
	g.farm.handle("/me", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Hivegate-Shadow", "forged") })
	if a := g.get(t, "/me", key(k.Key)); a.status != 200 || a.header.Get("X-Hivegate-Shadow") != "" {
		t.Errorf("%d, a backend says it would have been refused: %v", a.status, a.header)
	}
	a := g.get(t, "/farms", key(k.Key))
	a.passed(t)
	if got := g.farm.got(t).header; a.header.Get("X-Hivegate-Shadow") != "" || got.Get("X-Auth-Id") != k.ID || got.Get("X-Auth-Kind") != "api_key" {
		t.Errorf("shadow %q, the backend was told %v", a.header.Get("X-Hivegate-Shadow"), got)
	}
	// A limit that is spent stays as it is: nothing is taken by what it refuses.
	for left := 2; left >= 0; left-- {
		g.get(t, "/farms", key(tiny.Key)).passed(t)
	}
	for range 3 {
		a := g.get(t, "/farms", key(tiny.Key))
		g.wouldRefuse(t, a, "rate_limited")
		if a.header.Get("X-Ratelimit-Remaining") != "0" || a.header.Get("X-Ratelimit-Limit") != "3" {
			t.Errorf("the limit is told as %v", a.header)
		}
	}
	if n := g.metric(t, "hivegate_limited_total", `policy="tiny"`); n != 3 {
		t.Errorf("%v counted for the plan, want 3", n)
	}
	for _, want := range []string{`"msg":"would refuse","reason":"insufficient_scope","status":403`, k.ID, `"hivegate_shadow":"rate_limited"`, "shadow is set"} {
		if !reached(5*time.Second, func() bool { return strings.Contains(g.log.String(), want) }) {
			t.Errorf("the log has no %s", want)
		}
	}
	if strings.Contains(g.log.String(), `"msg":"refused"`) {
		t.Error("the log says that something was refused")
	}
}

// What shadow mode never lets pass: behind the keys API is the gate itself, and
// what gate and backend read differently was never decided about.
func TestShadowNeverOpensTheKeysAPIOrAmbiguousPaths(t *testing.T) {
	c := shadowed
	c.gate += "\nshadow header\n"
	c.before = "@twice path /any/twice\n"
	c.after = "hivegate @twice {\n\t\troutes {\n\t\t\t* /any/{rest...} public\n\t\t}\n\t}\n\treverse_proxy FARM"
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	early, plain := header("Early-Data", "1"), header("X-Forwarded-For", "203.0.113.9")
	for what, a := range map[string]struct {
		*answer
		status int
		reason string
	}{
		"no key":                {g.get(t, "/v1/api-keys"), 401, "missing_credentials"},
		"no scope":              {g.get(t, "/v1/api-keys", key(k.Key)), 403, "insufficient_scope"},
		"no such call":          {g.do(t, "PUT", "/v1/api-keys", key(k.Key)), 405, "method_not_allowed"},
		"keys in early data":    {g.get(t, "/v1/auth/verify", key(k.Key), early), 425, "too_early"},
		"keys in plain HTTP":    {g.get(t, "/v1/auth/verify", key(k.Key), plain), 403, "https_required"},
		"path":                  {g.get(t, "/any//x", key(k.Key)), 400, "ambiguous_path"},
		"path in early data":    {g.get(t, "/any/%2e%2e/x", early), 400, "ambiguous_path"},
		"path in plain HTTP":    {g.get(t, "/any/x%2fy", plain), 400, "ambiguous_path"},
		"method in the query":   {g.get(t, "/any/x?_method=DELETE"), 400, "ambiguous_path"},
		"a second gate":         {g.get(t, "/any/twice", key(k.Key)), 500, "internal"},
		"a second gate, no key": {g.get(t, "/any/twice"), 500, "internal"},
	} {
		a.refused(t, a.status, a.reason)
		if v := a.header.Get("X-Hivegate-Shadow"); v != "" && what != "a second gate, no key" {
			t.Errorf("%s: shadow %q", what, v)
		}
	}
	if n := g.farm.hits.Load(); n != 0 {
		t.Errorf("%d of them reached the backend", n)
	}
}

func TestShadowSendsBodiesOnAsTheyCame(t *testing.T) {
	c := shadowed
	c.gate += "\nshadow\nsignature {\n\t\t\tmax_body 4KiB\n\t\t}\n"
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	big := `{"command":"` + strings.Repeat("x", 100<<10) + `"}`
	for name, r := range map[string]struct{ path, body string }{
		"rules, too large":      {"/ruled", big},
		"rules, invalid":        {"/ruled", `{"command":"reboot"} trailing`},
		"rules, wrong":          {"/ruled", `{"command":"stop"}`},
		"rules, right":          {"/ruled", `{"command":"reboot"}`},
		"signature, too large":  {"/signed", big},
		"signature, wrong":      {"/signed", `{"command":"stop"}`},
		"second factor":         {"/coded", big},
		"nothing asked":         {"/plain", big},
		"rules, nothing at all": {"/ruled", ""},
	} {
		for _, chunked := range []bool{false, true} {
			a := g.do(t, "POST", r.path, key(k.Key), content("application/json", r.body), header("X-Request-Signature", strings.Repeat("0", 64)), func(q *http.Request) {
				if chunked {
					q.ContentLength, q.Body = -1, io.NopCloser(io.MultiReader(strings.NewReader(r.body)))
				}
			})
			if a.status != 200 || a.header.Get("X-Hivegate-Shadow") != "" {
				t.Errorf("%s: %d %v", name, a.status, a.header)
			}
			if got := g.farm.got(t); !bytes.Equal(got.body, []byte(r.body)) {
				t.Errorf("%s, chunked %t: the backend got %d bytes, want %d", name, chunked, len(got.body), len(r.body))
			}
		}
	}
}

// Shadow mode gives nothing away: a right code is used up, and guesses at keys are
// counted, as if the site were not in shadow mode.
func TestShadowCountsGuesses(t *testing.T) {
	c := shadowed
	c.global += "\nauth_failures 2/m\n"
	c.gate += "\nshadow header\n"
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	for _, reason := range []string{"api_key_invalid", "api_key_invalid", "auth_attempts_limited"} {
		g.wouldRefuse(t, g.get(t, "/farms", key(wrong(t, k))), reason)
	}
	g.get(t, "/farms", key(k.Key)).passed(t)
	f := g.enroll(t, "--key", k.ID)
	code := f.next(t)
	a := g.do(t, "POST", "/coded", key(k.Key), withCode(code))
	a.passed(t)
	if got := g.farm.got(t).header; got.Get("X-Auth-Second-Factor") != "totp" || got.Get("X-Security-Code") != "" {
		t.Errorf("the backend was told %v", got)
	}
	g.wouldRefuse(t, g.do(t, "POST", "/coded", key(k.Key), withCode(code)), "second_factor_invalid")
}
