package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// spellings of a header name that some backend would take for the same: CGI,
// WSGI and PHP fold case and make one of "-", "_" and ".".
func spellings(name string) []string {
	return []string{
		name, strings.ToLower(name), strings.ToUpper(name),
		strings.ReplaceAll(name, "-", "_"), strings.ToUpper(strings.ReplaceAll(name, "-", "_")),
		strings.ReplaceAll(name, "-", "."), strings.Replace(name, "-", "_", 1), strings.Replace(strings.ToLower(name), "-", ".", 1),
	}
}

// fold is how such a backend reads a name.
func fold(name string) string {
	return strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
}

// forbidden are the names that no client may send to a backend.
var forbidden = []string{
	"X-Auth-Kind", "X-Auth-Id", "X-Auth-Owner", "X-Auth-Scopes", "X-Auth-Plan", "X-Auth-Issuer", "X-Auth-Second-Factor", "X-Auth-Anything",
	"X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-Method", "X-Forwarded-Method", "X-Original-URL",
	"X-Original-URI", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Forwarded-Path", "X-Forwarded-Prefix", "X-Request-URI", "X-Real-IP",
	"Forwarded", "login", "password", "twofa_code", "remember",
}

// spoofed returns the forbidden names that reached the backend with the
// client's value.
func spoofed(h http.Header) []string {
	var out []string
	for name, values := range h {
		for _, f := range forbidden {
			if fold(name) == fold(f) && slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "spoof") }) {
				out = append(out, name)
			}
		}
	}
	return out
}

func TestForbiddenHeadersReachNoBackendInAnySpelling(t *testing.T) {
	g := start(t, farms)
	k := g.create(t, "--scope", "farms:read", "--owner", "acme")
	sent := 0
	for _, route := range []struct {
		target string
		cred   string
	}{
		{"/farms", "Authorization: Bearer " + k.Key + "\n"},
		{"/healthz", ""},
		{"/healthz", "Authorization: Bearer " + k.Key + "\n"},
	} {
		for _, name := range forbidden {
			for _, s := range spellings(name) {
				a := g.raw(t, "GET "+route.target+" HTTP/1.1\nHost: SITE0\n"+route.cred+s+": spoof\nConnection: close\n", "")
				if a.status != 200 {
					t.Fatalf("%s with %s: %d %s", route.target, s, a.status, a.reason())
				}
				sent++
				got := g.farm.got(t)
				if bad := spoofed(got.header); len(bad) > 0 {
					t.Errorf("%s: %s reached the backend as %v", route.target, s, bad)
				}
			}
		}
	}
	t.Logf("%d requests, %d names in %d spellings", sent, len(forbidden), len(spellings("a")))
}

func TestForbiddenTrailersReachNoBackend(t *testing.T) {
	g := start(t, farms)
	k := g.createScoped(t, "farms:read", "farms:write")
	for _, announce := range []string{"", "Trailer: X-Fine\n", "all"} {
		for _, name := range forbidden {
			for _, s := range spellings(name) {
				head := "PATCH /farms/1 HTTP/1.1\nHost: SITE0\nAuthorization: Bearer " + k.Key + "\nTransfer-Encoding: chunked\nConnection: close\n"
				if announce == "all" {
					head += "Trailer: " + s + ", X-Fine\n"
				} else {
					head += announce
				}
				a := g.raw(t, head, "5\r\nhello\r\n0\r\n"+s+": spoof\r\nX-Fine: yes\r\n\r\n")
				if a.status == 400 && a.reason() == "" {
					continue // net/http refuses some trailer names itself
				}
				if a.status != 200 {
					t.Fatalf("trailer %s: %d %s", s, a.status, a.reason())
				}
				got := g.farm.got(t)
				if bad := append(spoofed(got.trailer), spoofed(got.header)...); len(bad) > 0 {
					t.Errorf("trailer %s (announced: %q) reached the backend as %v", s, announce, bad)
				}
				for _, v := range got.header["Trailer"] {
					if strings.Contains(fold(v), fold(name)) {
						t.Errorf("the backend was told of a trailer %s", v)
					}
				}
				if string(got.body) != "hello" {
					t.Fatalf("body %q", got.body)
				}
			}
		}
	}
}

// Reverse proxies remove what Connection names, after the gate has run: so a
// client could have the gate's own headers removed.
func TestConnectionCannotRemoveWhatTheGateSets(t *testing.T) {
	g := start(t, farms)
	k := g.create(t, "--scope", "farms:read", "--owner", "acme")
	for _, connection := range []string{
		"Connection: close, X-Auth-Kind, X-Auth-Id, X-Auth-Scopes, X-Auth-Owner, X-Auth-Plan, X-Request-Id\n",
		"Connection: close\nConnection: X-Auth-Kind\nConnection: x-auth-id,x-auth-scopes , X-AUTH-OWNER,X-Auth-Plan,x-request-id\n",
	} {
		a := g.raw(t, "GET /farms HTTP/1.1\nHost: SITE0\nAuthorization: Bearer "+k.Key+"\n"+connection, "")
		a.passed(t)
		got := g.farm.got(t).header
		for name, want := range map[string]string{
			"X-Auth-Kind": "api_key", "X-Auth-Id": k.ID, "X-Auth-Owner": "acme", "X-Auth-Scopes": "farms:read", "X-Auth-Plan": "roomy",
			"X-Request-Id": a.header.Get("X-Request-Id"),
		} {
			if v := got.Get(name); v != want {
				t.Errorf("%s reached the backend as %q, want %q (%q)", name, v, want, connection)
			}
		}
	}
}

func TestTheBackendIsToldWhoCallsAndNothingElse(t *testing.T) {
	g := start(t, farms.with("strip X-Internal-Debug"))
	k := g.create(t, "--scope", "farms:read", "--scope", "crews:read@crewId=7,8")
	a := g.get(t, "/farms?page=2&per_page=5", key(k.Key), header("X-Request-Id", "mine"), header("Accept", "application/json"),
		header("X-Internal-Debug", "1"), spelt("x-internal_debug", "1"), header("X-Security-Code", "123456"), header("X-Async-Request", "1"))
	a.passed(t)
	got := g.farm.got(t)
	if got.target != "/farms?page=2&per_page=5" {
		t.Errorf("target %q", got.target)
	}
	want := map[string]string{
		"X-Auth-Kind": "api_key", "X-Auth-Id": k.ID, "X-Auth-Scopes": "farms:read crews:read@crewId=7,8", "X-Auth-Plan": "roomy",
		"X-Auth-Owner": "", "X-Auth-Issuer": "", "Authorization": "", "X-Internal-Debug": "", "Accept": "application/json",
		// Where no route asks for a code, it is the backend's affair.
		"X-Security-Code": "123456", "X-Async-Request": "1",
	}
	for name, v := range want {
		if g := got.header.Get(name); g != v {
			t.Errorf("%s: %q, want %q", name, g, v)
		}
	}
	for name := range got.header {
		if fold(name) == "x-internal-debug" {
			t.Errorf("%s reached the backend", name)
		}
	}
	if id := got.header.Get("X-Request-Id"); id == "mine" || id == "" || id != a.header.Get("X-Request-Id") {
		t.Errorf("request id %q upstream, %q on the answer", id, a.header.Get("X-Request-Id"))
	}

	g.get(t, "/healthz").passed(t)
	anonymous := g.farm.got(t).header
	for name := range anonymous {
		if strings.HasPrefix(name, "X-Auth-") && name != "X-Auth-Kind" {
			t.Errorf("an anonymous request carries %s", name)
		}
	}
	if v := anonymous.Get("X-Auth-Kind"); v != "anonymous" {
		t.Errorf("X-Auth-Kind %q, want anonymous", v)
	}
	// A key on a public route is not judged, but removed all the same.
	g.get(t, "/healthz", key(k.Key)).passed(t)
	if v := g.farm.got(t).header.Get("Authorization"); v != "" {
		t.Error("a key went through a public route")
	}
	g.get(t, "/healthz", header("Authorization", "Basic dXNlcjpwYXNz")).passed(t)
	if v := g.farm.got(t).header.Get("Authorization"); v != "Basic dXNlcjpwYXNz" {
		t.Errorf("somebody else's credential on a public route became %q", v)
	}
}

func TestForwardPrefixAndCredentialsAreAsConfigured(t *testing.T) {
	g := start(t, farms.with("forward {\n\t\tprefix X-Caller-\n\t\tcredentials all\n\t}"))
	k := g.createScoped(t, "farms:read")
	// Not through the helper: this answer echoes the key, as it was told to.
	a, err := g.try(g.sites[0], "GET", "/farms", key(k.Key), header("X-Caller-Id", "spoof"), spelt("x_caller.id", "spoof"), header("X-Auth-Id", "fine"))
	if err != nil {
		t.Fatal(err)
	}
	a.passed(t)
	got := g.farm.got(t).header
	if got.Get("Authorization") != "Bearer "+k.Key {
		t.Error("with `credentials all` the key goes on")
	}
	if got.Get("X-Caller-Id") != k.ID || got.Get("X-Caller-Kind") != "api_key" {
		t.Errorf("identity headers under the configured prefix: %q %q", got.Get("X-Caller-Id"), got.Get("X-Caller-Kind"))
	}
	for name, values := range got {
		if fold(name) == "x-caller-id" && fmt.Sprint(values) != "["+k.ID+"]" {
			t.Errorf("%s: %v", name, values)
		}
	}
	if got.Get("X-Auth-Id") != "fine" {
		t.Error("another prefix's headers are nobody's identity here, and pass")
	}
}

// The gate's own headers win over a backend's, on answers of every kind.
func TestABackendCannotSpeakForTheGate(t *testing.T) {
	g := start(t, farms)
	g.farm.handle("/farms", func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range []string{
			"X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy",
			"X-Hivegate-Reason", "X-Hivegate-Shadow", "x-hivegate-anything",
		} {
			w.Header().Set(name, "backend")
		}
		w.Header().Set("X-Other", "stays")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = w.Write([]byte("{}"))
	})
	k := g.create(t, "--scope", "farms:read", "--plan", "tiny")
	a := g.get(t, "/farms", key(k.Key))
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for name, values := range a.header {
		if slices.Contains(values, "backend") || len(values) != 1 && strings.HasPrefix(name, "X-R") {
			t.Errorf("%s: %v", name, values)
		}
	}
	if a.header.Get("X-Other") != "stays" {
		t.Error("an ordinary header of the backend is gone")
	}
	if a.header.Get("X-Ratelimit-Limit") != "3" {
		t.Errorf("X-RateLimit-Limit %q, want 3", a.header.Get("X-Ratelimit-Limit"))
	}
}

func TestTrustedProxiesMayNameTheClient(t *testing.T) {
	c := farms
	c.options = "servers {\n\t\ttrusted_proxies static 127.0.0.20/32\n\t\ttrusted_proxies_strict\n\t}"
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	for _, h := range []string{"X-Forwarded-Prefix", "X-Real-Ip", "Forwarded"} {
		g.get(t, "/farms", key(k.Key), from("127.0.0.20"), header(h, "kept")).passed(t)
		if v := g.farm.got(t).header.Get(h); v != "kept" {
			t.Errorf("%s from a trusted proxy became %q", h, v)
		}
		g.get(t, "/farms", key(k.Key), header(h, "dropped")).passed(t)
		if v := g.farm.got(t).header.Get(h); v != "" {
			t.Errorf("%s from anybody: %q", h, v)
		}
	}
	// Failures count under the client that the proxy names, not under the proxy.
	for range 10 {
		g.get(t, "/farms", key(wrong(t, k)), from("127.0.0.20"), header("X-Forwarded-For", "203.0.113.1")).refused(t, 401, "api_key_invalid")
	}
	g.get(t, "/farms", key(wrong(t, k)), from("127.0.0.20"), header("X-Forwarded-For", "203.0.113.1")).refused(t, 429, "auth_attempts_limited")
	g.get(t, "/farms", key(wrong(t, k)), from("127.0.0.20"), header("X-Forwarded-For", "203.0.113.2")).refused(t, 401, "api_key_invalid")
	// What an untrusted client says of itself counts nothing: one budget.
	for i := range 10 {
		g.get(t, "/farms", key(wrong(t, k)), from("127.0.0.21"), header("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", 10+i))).refused(t, 401, "api_key_invalid")
	}
	g.get(t, "/farms", key(wrong(t, k)), from("127.0.0.21"), header("X-Forwarded-For", "203.0.113.99")).refused(t, 429, "auth_attempts_limited")
}
