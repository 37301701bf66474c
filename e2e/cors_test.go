package e2e

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

const (
	page  = "https://app.example.com"
	local = "http://localhost:3000"
)

var withCORS = farms.with("cors " + page + " " + local + " {\n\t\t\theaders X-Client-Info\n\t\t}\n" +
	"keys_api /v1 {\n\t\t\tread farms:read\n\t\t\twrite farms:write\n\t\t}")

// preflight asks, as a browser does, whether a page may send a request.
func (g *gate) preflight(t testing.TB, origin, method, path string, more ...change) *answer {
	t.Helper()
	return g.do(t, http.MethodOptions, path, append(more, header("Origin", origin), header("Access-Control-Request-Method", method),
		header("Access-Control-Request-Headers", "authorization,content-type"))...)
}

// mayRead checks what lets the pages of one origin read an answer.
func (a *answer) mayRead(t testing.TB, what, origin string) {
	t.Helper()
	for name, values := range a.header {
		if strings.HasPrefix(name, "Access-Control-") && len(values) != 1 {
			t.Errorf("%s: %s has the values %q, want one", what, name, values)
		}
	}
	if got := a.header.Get("Access-Control-Allow-Origin"); got != origin {
		t.Errorf("%s: Access-Control-Allow-Origin %q, want %q", what, got, origin)
	}
	if !a.varies("Origin") {
		t.Errorf("%s: Vary %q does not name Origin", what, a.header.Values("Vary"))
	}
	if v := a.header.Get("Access-Control-Allow-Credentials"); v != "" {
		t.Errorf("%s: Access-Control-Allow-Credentials %q without cookie credentials", what, v)
	}
	for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy",
		"Retry-After", "X-Request-Id", "X-Hivegate-Reason", "WWW-Authenticate"} {
		if !listed(a.header.Get("Access-Control-Expose-Headers"), name) {
			t.Errorf("%s: %s is not exposed by %q", what, name, a.header.Get("Access-Control-Expose-Headers"))
		}
	}
}

// hidden checks that no page may read an answer.
func (a *answer) hidden(t testing.TB, what string) {
	t.Helper()
	for name := range a.header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("%s: %s: %q", what, name, a.header[name])
		}
	}
	if !a.varies("Origin") {
		t.Errorf("%s: Vary %q does not name Origin", what, a.header.Values("Vary"))
	}
}

func (a *answer) varies(name string) bool {
	return listed(strings.Join(a.header.Values("Vary"), ","), name)
}

func listed(list, name string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(item), name) {
			return true
		}
	}
	return false
}

func TestPreflightsAreAnsweredByTheGate(t *testing.T) {
	g := start(t, withCORS)
	for _, c := range []struct{ method, path, methods string }{
		{"GET", "/farms", "GET, HEAD"},
		{"DELETE", "/farms/7", "DELETE, GET, HEAD, PATCH"},
		{"POST", "/farms/7", "DELETE, GET, HEAD, PATCH"}, // the browser refuses it
		{"POST", "/login", "POST"},
		{"PUT", "/any/x/y", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"},
		{"PROPFIND", "/any/x/y", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, PROPFIND"},
		{"TRACE", "/any/x/y", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"},
		{"patch", "/any/x/y", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"},
		{"X, Y", "/any/x/y", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"},
		{"POST", "/v1/api-keys", "GET, HEAD, POST"},
		{"PATCH", "/v1/api-keys/key_123456789012", "DELETE, GET, HEAD, PATCH"},
	} {
		a := g.preflight(t, page, c.method, c.path)
		if a.status != http.StatusNoContent || len(a.body) != 0 || a.header.Get("Access-Control-Allow-Origin") != page ||
			a.header.Get("Access-Control-Allow-Methods") != c.methods || a.header.Get("Access-Control-Max-Age") != "600" {
			t.Errorf("%s %s: %d %v", c.method, c.path, a.status, a.header)
		}
		for _, name := range []string{"Authorization", "Content-Type", "Idempotency-Key", "X-Client-Info"} {
			if !listed(a.header.Get("Access-Control-Allow-Headers"), name) {
				t.Errorf("%s %s: %s may not be sent: %q", c.method, c.path, name, a.header.Get("Access-Control-Allow-Headers"))
			}
		}
		for _, name := range []string{"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"} {
			if !a.varies(name) {
				t.Errorf("%s %s: Vary %q does not name %s", c.method, c.path, a.header.Values("Vary"), name)
			}
		}
		if a.header.Get("X-Request-Id") == "" || a.header.Get("X-Ratelimit-Limit") != "" {
			t.Errorf("%s %s: %v", c.method, c.path, a.header)
		}
	}
	if got := g.preflight(t, local, "GET", "/farms").header.Get("Access-Control-Allow-Origin"); got != local {
		t.Errorf("the other origin is answered %q", got)
	}
	// What is no preflight, or for no path of the tables, goes the way of all.
	g.do(t, "OPTIONS", "/farms", header("Origin", page)).refused(t, 401, "missing_credentials")
	a := g.preflight(t, page, "GET", "/none")
	a.refused(t, 401, "missing_credentials")
	a.mayRead(t, "preflight of an unknown path", page)
	g.preflight(t, page, "GET", "/v1/none").refused(t, 401, "missing_credentials")
	g.preflight(t, page, "GET", "/any//x").refused(t, 400, "ambiguous_path")
	if n := g.farm.hits.Load(); n != 0 {
		t.Errorf("%d preflights reached the backend", n)
	}
	if n := g.metric(t, "hivegate_requests_total", `outcome="preflight"`); n != 12 {
		t.Errorf("%v preflights counted, want 12", n)
	}
}

func TestOnlyListedOriginsMayRead(t *testing.T) {
	g := start(t, withCORS)
	k := g.createScoped(t, "farms:read")
	for _, origin := range []string{
		"https://evil.example", "null", "*", "https://app.example.com.evil.com", "https://evil.com/https://app.example.com",
		"https://app.example.com:443", "https://app.example.com:8443", "http://app.example.com", "HTTPS://APP.EXAMPLE.COM",
		"https://app.example.com/", "https://app.example.com.", "https://xapp.example.com", "https://x.app.example.com", "app.example.com",
		"https://user@app.example.com", "https://app.example.com https://evil.example", "https://app.example.com,https://evil.example",
		"https://app.example.com\tx", "", "http://localhost", "http://localhost:30000",
	} {
		a := g.preflight(t, origin, "GET", "/farms")
		if a.status != http.StatusNoContent {
			t.Errorf("preflight of %q: %d", origin, a.status)
		}
		a.hidden(t, "preflight of "+origin)
		a = g.get(t, "/farms", key(k.Key), header("Origin", origin))
		a.passed(t) // the browser keeps it from the page
		a.hidden(t, "answer to "+origin)
		g.get(t, "/farms", header("Origin", origin)).hidden(t, "refusal to "+origin)
	}
	two := []change{header("Origin", page), header("Origin", "https://evil.example")}
	g.get(t, "/farms", append(two, key(k.Key))...).hidden(t, "two origins")
	g.get(t, "/farms", key(k.Key)).hidden(t, "no origin")
	// Nothing of what was sent comes back.
	a := g.preflight(t, "https://evil.example", "EVIL", "/farms")
	if b := new(strings.Builder); a.header.Write(b) != nil || strings.Contains(strings.ToLower(b.String()), "evil") {
		t.Errorf("the answer repeats what was sent:\n%s", b)
	}
}

func TestEveryAnswerAndRefusalCanBeRead(t *testing.T) {
	c := withCORS
	c.options = "servers {\n\t\ttrusted_proxies static 127.0.0.20/32\n\t\ttrusted_proxies_strict\n\t}"
	c.gate += "\nrequire_https\n"
	c.after = "@down path /any/down\n\treverse_proxy @down 127.0.0.1:1\n\treverse_proxy FARM"
	c.before = "header Access-Control-Allow-Origin https://earlier.example\n"
	g := start(t, c)
	k := g.create(t, "--scope", "farms:read", "--scope", "farms:write", "--plan", "roomy")
	g.farm.handle("/any/own", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Access-Control-Allow-Origin"] = []string{"*", "https://evil.example"}
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Allow-Headers", "*")
		h.Set("Access-Control-Expose-Headers", "Content-Range, x-request-id, bad name")
		h.Add("Vary", "Accept-Encoding")
		h.Set("Content-Range", "0-9/100")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, "some")
	})
	g.farm.handle("/any/500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	from1 := header("Origin", page)
	for what, c := range map[string]struct {
		method, path string
		status       int
		changes      []change
	}{
		"answer":                  {"GET", "/farms", 200, []change{key(k.Key)}},
		"answer with CORS":        {"GET", "/any/own", 206, []change{key(k.Key)}},
		"HEAD":                    {"HEAD", "/farms", 200, []change{key(k.Key)}},
		"error of the backend":    {"GET", "/any/500", 500, []change{key(k.Key)}},
		"no backend":              {"GET", "/any/down", 502, []change{key(k.Key)}},
		"no credential":           {"GET", "/farms", 401, nil},
		"wrong credential":        {"GET", "/farms", 401, []change{key("hive_sk_nonsense")}},
		"missing scope":           {"GET", "/crews", 403, []change{key(k.Key)}},
		"unknown path":            {"GET", "/none", 404, []change{key(k.Key)}},
		"wrong method":            {"PUT", "/farms", 405, []change{key(k.Key)}},
		"wrong method, public":    {"GET", "/login", 405, nil},
		"ambiguous path":          {"GET", "/any//x", 400, []change{key(k.Key)}},
		"plain HTTP":              {"GET", "/farms", 403, []change{key(k.Key), header("X-Forwarded-For", "203.0.113.9")}},
		"preflight in plain HTTP": {"OPTIONS", "/farms", 403, []change{header("X-Forwarded-For", "203.0.113.9"), header("Access-Control-Request-Method", "GET")}},
		"early data":              {"GET", "/farms", 425, []change{key(k.Key), header("Early-Data", "1")}},
		"verify":                  {"GET", "/v1/auth/verify", 200, []change{key(k.Key)}},
		"a key not found":         {"GET", "/v1/api-keys/key_123456789012", 404, []change{key(k.Key)}},
	} {
		a := g.do(t, c.method, c.path, append(c.changes, from1)...)
		if a.status != c.status {
			t.Errorf("%s: %d, want %d: %s", what, a.status, c.status, a.body)
		}
		a.mayRead(t, what, page)
	}
	a := g.get(t, "/any/own", key(k.Key), from1)
	if !a.varies("Accept-Encoding") || !listed(a.header.Get("Access-Control-Expose-Headers"), "Content-Range") || string(a.body) != "some" {
		t.Errorf("what the backend varies by and exposes is lost: %v", a.header)
	}
	if v := a.header.Get("Access-Control-Expose-Headers"); strings.Contains(v, "bad name") || strings.Count(strings.ToLower(v), "x-request-id") != 1 {
		t.Errorf("exposed are %q", v)
	}
	g.get(t, "/any/own", key(k.Key), header("Origin", "https://evil.example")).hidden(t, "a backend's own CORS")
}

func TestPreflightsTakeNothingAndLimitsCanBeRead(t *testing.T) {
	c := withCORS
	c.global += "\nauth_failures 3/m\nanonymous 2/m\n"
	g := start(t, c)
	for range 20 {
		if a := g.preflight(t, page, "POST", "/login"); a.status != http.StatusNoContent {
			t.Fatalf("preflight: %d", a.status)
		}
	}
	if a := g.do(t, "POST", "/login", header("Origin", page)); a.status != 200 || a.header.Get("X-Ratelimit-Remaining") != "1" {
		t.Errorf("preflights took from the anonymous limit: %d %v", a.status, a.header)
	}
	if a := g.get(t, "/farms"); a.header.Get("X-Ratelimit-Remaining") != "3" {
		t.Errorf("preflights counted as failures: %v", a.header)
	}
	k := g.create(t, "--scope", "farms:read", "--plan", "tiny")
	for left := 2; left >= 0; left-- {
		a := g.get(t, "/farms", key(k.Key), header("Origin", local))
		a.mayRead(t, "answer", local)
		if v := a.header.Get("X-Ratelimit-Remaining"); v != strconv.Itoa(left) {
			t.Errorf("%s left, want %d", v, left)
		}
	}
	a := g.get(t, "/farms", key(k.Key), header("Origin", local))
	a.refused(t, 429, "rate_limited")
	a.mayRead(t, "429", local)
}

func TestEveryOriginMayReadWhereTheSiteSaysSo(t *testing.T) {
	c := farms.with("cors *\nunmatched authenticated")
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	for _, origin := range []string{"https://any.example", "null"} {
		for what, a := range map[string]*answer{
			"preflight": g.preflight(t, origin, "GET", "/farms"),
			"answer":    g.get(t, "/farms", key(k.Key), header("Origin", origin)),
			"refusal":   g.get(t, "/farms", header("Origin", origin)),
		} {
			if v := a.header.Values("Access-Control-Allow-Origin"); len(v) != 1 || v[0] != "*" || a.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s to %s: %v", what, origin, a.header)
			}
		}
	}
	// Paths that nobody knows may be asked for too, by every method but two.
	for method, want := range map[string]string{"GET": "GET", "PURGE": "PURGE", "TRACE": "", "CONNECT": "", "TRACK": ""} {
		if got := g.preflight(t, page, method, "/nowhere").header.Get("Access-Control-Allow-Methods"); got != want {
			t.Errorf("%s of an unknown path: %q allowed, want %q", method, got, want)
		}
	}
	g.preflight(t, page, "GET", "/farms/").refused(t, 401, "missing_credentials")
}

// A listed origin may read what its visitor's cookie shows. It does not get to
// change anything with it: that stays with the site's own pages.
func TestCookiesOfListedOriginsReadAndChangeNothing(t *testing.T) {
	g := start(t, sites("", "credentials {\n\t\t\tbearer\n\t\t\tcookie sb-*-auth-token\n\t\t\theader apikey\n\t\t}\n\t\tcors "+page))
	session := header("Cookie", "sb-127-auth-token="+sessionCookie(userToken()))
	for origin, may := range map[string]bool{page: true, "https://evil.example": false} {
		for what, a := range map[string]*answer{
			"preflight": g.preflight(t, origin, "POST", "/farms"),
			"GET":       g.get(t, "/farms", session, header("Origin", origin)),
			"refusal":   g.do(t, "POST", "/farms", session, header("Origin", origin)),
		} {
			credentials, want := a.header.Get("Access-Control-Allow-Credentials"), ""
			if may {
				want = "true"
			}
			if credentials != want || (a.header.Get("Access-Control-Allow-Origin") == origin) != may || a.header.Get("Access-Control-Allow-Origin") == "*" {
				t.Errorf("%s from %s: %v", what, origin, a.header)
			}
		}
		g.get(t, "/farms", session, header("Origin", origin)).passed(t)
		g.do(t, "POST", "/farms", session, header("Origin", origin)).refused(t, 403, "cross_site")
		g.do(t, "POST", "/farms", session, header("Origin", origin), bearer(userToken())).passed(t)
	}
	if v := g.preflight(t, page, "GET", "/farms").header.Get("Access-Control-Allow-Headers"); !listed(v, "apikey") {
		t.Errorf("the credential's own header may not be sent: %q", v)
	}
}
