package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const sorry = "<!DOCTYPE html><html><body><h1>Sorry</h1></body></html>"

// page returns a handler that answers with a page.
func htmlPage(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, sorry)
	}
}

// broken writes text and breaks the connection, so that its peer sees a reset.
func broken(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, strings.ReplaceAll(text, "\n", "\r\n"))
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

// badBackend gives the farm backend a path for every way to fail.
func badBackend(g *gate) {
	for path, h := range map[string]http.HandlerFunc{
		"html403": htmlPage(403), "html401": htmlPage(401), "html500": htmlPage(500), "html429": htmlPage(429),
		"empty404": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"empty500": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(500)
			_ = http.NewResponseController(w).Flush() // the length is not known
		},
		"empty200": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(200)
		},
		"chunked200": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = http.NewResponseController(w).Flush()
		},
		"slow":  func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"reset": broken(""),
		"cut":   broken("HTTP/1.1 200 OK\nContent-Type: application/json\nTransfer-Encoding: chunked\n\n"),
	} {
		g.farm.handle("/any/"+path, h)
	}
}

const failingProxy = `@down path /any/down
	reverse_proxy @down 127.0.0.1:1 {
		fail_duration 1m
		max_fails 2
	}
	reverse_proxy FARM {
		transport http {
			response_header_timeout 300ms
		}
	}`

// failures are what the bad backend does, and how it is told.
var failures = []struct {
	path, reason string
	status       int
	code         string // in hornethive
	says         string
}{
	{"html403", "backend_error", 403, "forbidden", "The backend answered 403 Forbidden"},
	{"html401", "backend_error", 401, "unauthorized", "The backend answered 401 Unauthorized"},
	{"html500", "backend_error", 500, "internal_server_error", "The backend answered 500 Internal Server Error"},
	{"html429", "backend_error", 429, "rate_limit_exceeded", "The backend answered 429 Too Many Requests"},
	{"empty404", "backend_error", 404, "not_found", "The backend answered 404 Not Found"},
	{"empty500", "backend_error", 500, "internal_server_error", "The backend answered 500 Internal Server Error"},
	{"empty200", "backend_empty", 502, "bad_gateway", "The backend sent an empty body"},
	{"chunked200", "backend_empty", 502, "bad_gateway", "The backend sent an empty body"},
	{"slow", "backend_timeout", 504, "gateway_timeout", "The backend did not answer in time"},
	{"reset", "backend_unreachable", 502, "bad_gateway", "The backend could not be reached"},
	{"cut", "backend_unreachable", 502, "bad_gateway", "The backend could not be reached"},
	{"down", "backend_unreachable", 502, "bad_gateway", "The backend could not be reached"},
	// Past max_fails there is no upstream: the proxy's 503.
	{"down", "backend_unreachable", 502, "bad_gateway", "The backend could not be reached"},
	{"down", "backend_unreachable", 502, "bad_gateway", "The backend could not be reached"},
}

func TestEveryFailureOfABackendIsToldInEveryDialect(t *testing.T) {
	site := func(dialect string) string {
		return "dialect " + dialect + "\n\t\tbackend_errors envelope\n\t\tcors https://app.example.com\n\t\troutes {\n\t\t\t* /any/{rest...} farms:read\n\t\t}\n"
	}
	c := config{global: cheap + "plan roomy {\n\t\t\trequests 1000/m\n\t\t}\n\t\tdefault_plan roomy\n", gate: site(dialects[0]), after: failingProxy}
	c.before = "log\n"
	for i, d := range dialects[1:] {
		c.more += fmt.Sprintf("http://SITE%d {\n\thivegate {\n\t\t%s\n\t}\n\t%s\n}\n", i+1, site(d), failingProxy)
	}
	g := start(t, c)
	badBackend(g)
	k := g.createScoped(t, "farms:read")
	for i, dialect := range dialects {
		for _, f := range failures {
			a := g.doAt(t, g.sites[i], "GET", "/any/"+f.path, key(k.Key), header("Origin", page))
			what := dialect + " " + f.path
			if a.status != f.status || a.reason() != f.reason {
				t.Errorf("%s: %d %q, want %d %q: %s", what, a.status, a.reason(), f.status, f.reason, a.body)
				continue
			}
			a.asJSON(t)
			upper := strings.ToUpper(f.code)
			if f.status == 429 {
				upper = "RATE_LIMITED"
			}
			error := http.StatusText(f.status)
			if f.status == 403 {
				error = "Access denied"
			}
			want := map[string]string{
				"hornethive":   fmt.Sprintf(`{"error":{"code":"%s","message":"%s","details":{"reason":"%s"}}}`, f.code, f.says, f.reason),
				"hiveclaw":     fmt.Sprintf(`{"success":false,"error":{"code":"%s","message":"%s"}}`, upper, f.says),
				"hiveprotocol": fmt.Sprintf(`{"error":"%s","code":"%s","message":"%s"}`, error, upper, f.says),
				"hiveos":       fmt.Sprintf(`{"message":"%s"}`, f.says),
				"problem":      "",
			}[dialect]
			switch {
			case dialect == "hiveprotocol" && f.status == 429:
				want = fmt.Sprintf(`{"error":"%s","code":"RATE_LIMITED"}`, f.says)
			case dialect == "hiveos" && f.status == 403:
				want = fmt.Sprintf(`{"message":"%s","code":403000}`, f.says)
			}
			if dialect == "problem" {
				m := a.asJSON(t)
				if m["reason"] != f.reason || m["status"] != float64(f.status) || m["title"] == "" || m["detail"] == "" ||
					!strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") {
					t.Errorf("%s: %s", what, a.body)
				}
			} else if strings.TrimSpace(string(a.body)) != want {
				t.Errorf("%s:\n got %s\nwant %s", what, a.body, want)
			}
			for _, name := range []string{"X-Request-Id", "X-Ratelimit-Limit", "Ratelimit", "Cache-Control"} {
				if a.header.Get(name) == "" {
					t.Errorf("%s: %s is missing", what, name)
				}
			}
			a.mayRead(t, what, page)
			if (a.header.Get("Www-Authenticate") != "") != (f.status == 401) || a.header.Get("Etag") != "" {
				t.Errorf("%s: %v", what, a.header)
			}
		}
	}
	if n := g.metric(t, "hivegate_backend_errors_total", `reason="backend_empty"`); n != 10 {
		t.Errorf("%v empty answers counted, want 10", n)
	}
	if n := g.metric(t, "hivegate_requests_total", `outcome="allowed"`); n != float64(len(failures)*len(dialects)) {
		t.Errorf("%v requests allowed, want every one: the gate refused none", n)
	}
	for _, want := range []string{`"msg":"backend error","reason":"backend_error","status":403`, `"hivegate_reason":"backend_timeout"`} {
		if !reached(5*time.Second, func() bool { return strings.Contains(g.log.String(), want) }) {
			t.Errorf("the log has no %s\n%s", want, g.tail())
		}
	}
	if strings.Contains(g.log.String(), `"msg":"refused"`) {
		t.Error("an error of the backend is logged as a refusal of the gate")
	}
}

// enveloped is a gate on which nothing but errors of the backend is changed.
func enveloped(t *testing.T) (*gate, created) {
	t.Helper()
	c := farms.with("backend_errors envelope\ndialect hornethive")
	c.options = "servers {\n\t\tprotocols h1 h2c\n\t}"
	g := start(t, c)
	badBackend(g)
	return g, g.createScoped(t, "farms:read")
}

func TestFineAnswersPassUntouched(t *testing.T) {
	g, k := enveloped(t)
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(zw, `{"zipped":true}`)
	_ = zw.Close()
	type row struct {
		method, contentType, body string
		status                    int
		more                      http.Header
		chunked                   bool
	}
	rows := map[string]row{
		"json":               {"GET", "application/json", `{"a":1}`, 200, nil, false},
		"json in chunks":     {"GET", "application/json", `{"a":1}`, 200, nil, true},
		"json refusal":       {"GET", "application/json", `{"mine":"yes"}`, 403, http.Header{"Www-Authenticate": {`Basic realm="b"`}}, false},
		"refusal in chunks":  {"GET", "application/json", `{"mine":"yes"}`, 500, nil, true},
		"text refusal":       {"GET", "text/plain; charset=utf-8", "no such thing", 404, nil, false},
		"problem refusal":    {"GET", "application/problem+json", `{"title":"x"}`, 422, nil, false},
		"a page":             {"GET", "text/html", sorry, 200, nil, false},
		"a redirect":         {"GET", "text/html", sorry, 302, http.Header{"Location": {"/elsewhere"}}, false},
		"gzip":               {"GET", "application/json", zipped.String(), 200, http.Header{"Content-Encoding": {"gzip"}, "Vary": {"Accept-Encoding"}}, false},
		"gzip refusal":       {"GET", "application/json", zipped.String(), 400, http.Header{"Content-Encoding": {"gzip"}}, false},
		"a range":            {"GET", "application/octet-stream", "abc", 206, http.Header{"Content-Range": {"bytes 0-2/9"}}, false},
		"not modified":       {"GET", "", "", 304, http.Header{"Etag": {`"x"`}}, false},
		"no content":         {"GET", "", "", 204, nil, false},
		"empty 201":          {"GET", "application/json", "", 201, nil, false},
		"empty text":         {"GET", "text/plain", "", 200, nil, false},
		"empty lines":        {"GET", "application/x-ndjson", "", 200, nil, true},
		"empty to a POST":    {"POST", "application/json", "", 200, nil, false},
		"empty to a DELETE":  {"DELETE", "application/json", "", 200, nil, false},
		"HEAD of JSON":       {"HEAD", "application/json", `{"a":1}`, 200, nil, false},
		"HEAD of nothing":    {"HEAD", "application/json", "", 200, nil, true},
		"HEAD of a refusal":  {"HEAD", "application/json", `{"mine":"yes"}`, 404, nil, false},
		"gRPC without a 200": {"POST", "application/grpc", "", 400, http.Header{"Grpc-Status": {"13"}}, false},
	}
	var answer atomic.Pointer[row]
	g.farm.handle("/any/fine", func(w http.ResponseWriter, _ *http.Request) {
		now := answer.Load()
		for name, values := range now.more {
			w.Header()[name] = values
		}
		if w.Header()["Content-Type"] = nil; now.contentType != "" {
			w.Header().Set("Content-Type", now.contentType)
		}
		w.WriteHeader(now.status)
		if now.chunked {
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, now.body)
	})
	for name, r := range rows {
		answer.Store(&r)
		a := g.do(t, r.method, "/any/fine", key(k.Key), header("Accept-Encoding", "gzip"))
		want := r.body
		if r.method == "HEAD" {
			want = ""
		}
		if a.status != r.status || string(a.body) != want || a.reason() != "" || a.header.Get("Content-Type") != r.contentType {
			t.Errorf("%s: %d %q %v", name, a.status, a.body, a.header)
		}
		for header, values := range r.more {
			if got := a.header[header]; len(got) != 1 || got[0] != values[0] {
				t.Errorf("%s: %s is %q, want %q", name, header, got, values)
			}
		}
	}
	if n := g.metric(t, "hivegate_backend_errors_total"); n != 0 {
		t.Errorf("%v errors counted", n)
	}
}

func TestRefusalsOfTheBackendKeepWhatTheyAskFor(t *testing.T) {
	g, k := enveloped(t)
	g.farm.handle("/any/full", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		for name, value := range map[string]string{
			"Retry-After": "17", "Allow": "GET", "Www-Authenticate": `Digest realm="b"`, "Set-Cookie": "sid=gone; Max-Age=0", "X-Other": "kept",
			"Content-Type": "text/html", "Etag": `"x"`, "Last-Modified": "Mon, 02 Jan 2006 15:04:05 GMT", "Cache-Control": "public, max-age=9",
			"Content-Encoding": "identity", "Content-Disposition": "attachment", "Content-Language": "de", "Trailer": "X-Late",
			"X-Hivegate-Reason": "forged",
		} {
			h.Set(name, value)
		}
		w.WriteHeader(429)
		_, _ = io.WriteString(w, sorry)
		h.Set("X-Late", "1")
	})
	a := g.get(t, "/any/full", key(k.Key))
	for name, want := range map[string]string{
		"Retry-After": "17", "Allow": "GET", "Www-Authenticate": `Digest realm="b"`, "Set-Cookie": "sid=gone; Max-Age=0", "X-Other": "kept",
		"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store", "X-Hivegate-Reason": "backend_error",
		"Etag": "", "Last-Modified": "", "Content-Encoding": "", "Content-Disposition": "", "Content-Language": "", "Trailer": "", "X-Late": "",
	} {
		if got := strings.Join(a.header.Values(name), "|"); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	want := `{"error":{"code":"rate_limit_exceeded","message":"The backend answered 429 Too Many Requests","details":{"reason":"backend_error","retry_after":17}}}`
	if string(a.body) != want || len(a.trailer) != 0 {
		t.Errorf("got %s and the trailers %v", a.body, a.trailer)
	}
	for path, status := range map[string]int{"/any/html403": 403, "/any/empty404": 404} {
		if a := g.do(t, "HEAD", path, key(k.Key)); a.status != status || a.reason() != "backend_error" || len(a.body) != 0 || !strings.Contains(a.header.Get("Content-Type"), "json") {
			t.Errorf("HEAD %s: %d %v", path, a.status, a.header)
		}
	}
	// A page that nobody called one.
	g.farm.handle("/any/untyped", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		w.WriteHeader(503)
		_, _ = io.WriteString(w, sorry)
	})
	if a := g.get(t, "/any/untyped", key(k.Key)); a.status != 503 || a.reason() != "backend_error" {
		t.Errorf("an untyped page: %d %s", a.status, a.body)
	}
}

func TestBackendErrorsPassUnlessAskedFor(t *testing.T) {
	g := start(t, farms)
	badBackend(g)
	k := g.createScoped(t, "farms:read")
	if a := g.get(t, "/any/html403", key(k.Key)); a.status != 403 || string(a.body) != sorry || a.reason() != "" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := g.get(t, "/any/empty200", key(k.Key)); a.status != 200 || len(a.body) != 0 {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// What broke off looks broken off: no answer is completed or added to.
func TestAnAnswerThatBreaksOffIsNotMadeWhole(t *testing.T) {
	g, k := enveloped(t)
	g.farm.handle("/any/half", broken("HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 100\n\n{\"half\":"))
	g.farm.handle("/any/part", broken("HTTP/1.1 200 OK\nContent-Type: application/json\nTransfer-Encoding: chunked\n\n8\n{\"half\":\n"))
	g.farm.handle("/any/error", broken("HTTP/1.1 500 No\nContent-Type: application/json\nTransfer-Encoding: chunked\n\n8\n{\"half\":\n"))
	g.farm.handle("/any/page", broken("HTTP/1.1 500 No\nContent-Type: text/html\nContent-Length: 100\n\n<html>"))
	two := h2c()
	defer two.CloseIdleConnections()
	one := &http.Transport{}
	defer one.CloseIdleConnections()
	for _, tr := range []*http.Transport{one, two} {
		for path, status := range map[string]int{"half": 200, "part": 200, "error": 500} {
			r, err := http.NewRequest(http.MethodGet, "http://"+g.sites[0]+"/any/"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			key(k.Key)(r)
			resp, err := tr.RoundTrip(r)
			if err != nil {
				continue // broken off before the head was sent
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil || resp.StatusCode != status || !strings.HasPrefix(`{"half":`, string(body)) {
				t.Errorf("%s over %s: %d, error %v, body %q", path, resp.Proto, resp.StatusCode, err, body)
			}
		}
		// The page is not sent, so it does not matter that it broke off.
		a, _ := roundTrip(t, tr, "GET", "http://"+g.sites[0]+"/any/page", key(k.Key))
		if a.status != 500 || a.reason() != "backend_error" {
			t.Errorf("a page that broke off: %d %s", a.status, a.body)
		}
		a.asJSON(t)
	}
}

// A key that is revoked ends its request, also one whose answer has not begun: that
// is no failure of the backend.
func TestARevokedKeyIsNoErrorOfTheBackend(t *testing.T) {
	g, k := enveloped(t)
	waits := make(chan struct{}, 1)
	g.farm.handle("/any/waits", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = http.NewResponseController(w).Flush()
		waits <- struct{}{}
		<-r.Context().Done()
	})
	conn, err := net.Dial("tcp", g.sites[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = fmt.Fprintf(conn, "GET /any/waits HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", g.sites[0], k.Key)
	<-waits
	g.hivegate(t, "apikey", "revoke", k.ID).ok(t)
	if said, err := io.ReadAll(conn); err != nil || len(said) != 0 {
		t.Errorf("got %q, %v, want the connection's end alone", said, err)
	}
	if n := g.metric(t, "hivegate_backend_errors_total"); n != 0 {
		t.Errorf("%v errors of the backend counted", n)
	}
}

// An error page without an end is told at once, and not read for ever.
func TestAnEndlessErrorPageEnds(t *testing.T) {
	g, k := enveloped(t)
	ended := make(chan struct{})
	g.farm.handle("/any/endless", func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(500)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat(sorry, 100)); err != nil {
				return
			}
		}
	})
	a := g.get(t, "/any/endless", key(k.Key))
	if a.status != 500 || a.reason() != "backend_error" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the page is still being read")
	}
	g.get(t, "/farms", key(k.Key)).passed(t) // over the same connection or another
}

func TestStreamsAreNotHeldBack(t *testing.T) {
	g, k := enveloped(t)
	for _, kind := range []string{"text/event-stream", "application/x-ndjson", "application/json"} {
		next := make(chan struct{})
		g.farm.handle("/any/stream", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Trailer", "X-Sum")
			for i := range 3 {
				_, _ = fmt.Fprintf(w, "data: %d\n", i)
				_ = http.NewResponseController(w).Flush()
				select {
				case <-next:
				case <-r.Context().Done():
					return
				}
			}
			w.Header().Set("X-Sum", "3")
		})
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.sites[0]+"/any/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		key(k.Key)(r)
		resp, err := newClient().Do(r)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		lines := bufio.NewReader(resp.Body)
		for i := range 3 {
			line, err := lines.ReadString('\n')
			if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
				t.Fatalf("%s: %q %v, want %q while the backend waits", kind, line, err, want)
			}
			next <- struct{}{}
		}
		if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 || resp.Trailer.Get("X-Sum") != "3" {
			t.Errorf("%s: %q %v, trailers %v", kind, rest, err, resp.Trailer)
		}
		_ = resp.Body.Close()
	}
	// What comes before the head of a stream is passed at once.
	g.farm.handle("/any/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</x>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(404)
	})
	conn, err := net.Dial("tcp", g.sites[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = fmt.Fprintf(conn, "GET /any/hints HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", g.sites[0], k.Key)
	all, err := io.ReadAll(conn)
	if err != nil || !regexp.MustCompile(`(?s)^HTTP/1\.1 103 .*\r\n\r\nHTTP/1\.1 404 .*"reason":"backend_error"`).Match(all) {
		t.Errorf("%v\n%s", err, all)
	}
	// And an upgraded connection is nobody's answer.
	g.farm.handle("/any/upgrade", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
	})
	a, err := g.upgrade("/any/upgrade", k.Key)
	if err != nil || a != "hello" {
		t.Errorf("over an upgraded connection came %q, %v", a, err)
	}
}

// upgrade asks for another protocol and returns what is said in it.
func (g *gate) upgrade(path, k string) (string, error) {
	conn, err := net.Dial("tcp", g.sites[0])
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", path, g.sites[0], k)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return "", errors.New(resp.Status)
	}
	said, err := io.ReadAll(in)
	return string(said), err
}
