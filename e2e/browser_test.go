//go:build clients

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// called is what a page may read of an answer.
type called struct {
	Status  int
	Type    string // "cors" where the page is of another origin
	Headers map[string]string
	Body    any
	Failed  string // the error of fetch
}

// submitted is what came of a form, and what the browser sent with it.
type submitted struct {
	Status       int
	Reason, Body string
	Cookie       bool
	Site         string // Sec-Fetch-Site
}

type listenedTo struct {
	Got    []string
	Failed bool
}

type talkedTo struct {
	Got      []string
	Code     int
	Protocol string
}

// visits is what browser.mjs tells.
type visits struct {
	Version string
	Calls   map[string]called
	Stream  []struct {
		Text string
		MS   float64
	}
	Stranger       map[string]called
	Own, Elsewhere struct {
		Get, Post, NoRoute called
		Events             listenedTo
		Socket             talkedTo
		Form               submitted
	}
	Lure struct {
		Get    called
		Form   submitted
		Socket talkedTo
	}
}

// newPage serves an empty page on an origin of its own.
func newPage(t *testing.T) (origin, port string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><title>a page</title><link rel=icon href='data:,'><body>")
	}))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL, srv.URL[strings.LastIndexByte(srv.URL, ':'):]
}

// browserGate has two sites: an API for pages of a listed origin, and one whose
// own pages have a session in a cookie.
func browserGate(t *testing.T, origin string) *gate {
	t.Helper()
	c := mainConfig("", `dialect hornethive
		cors `+origin+` {
			headers X-Client-Info
		}
		backend_errors envelope
		keys_api /v1 {
			read farms:read
			write farms:write
		}
		routes {
			GET /farms farms:read
			POST /farms farms:write
			GET /events farms:read
			GET /down farms:read
		}`)
	c.after = "@down path /down\n\treverse_proxy @down 127.0.0.1:1\n\treverse_proxy FARM"
	c.more = `http://SITE1 {
	hivegate {
		cors ` + origin + `
		credentials {
			bearer
			cookie sb-*-auth-token
		}
		routes {
			GET / public
			GET,POST /farms farms:read
			GET /events farms:read
			GET /socket farms:read
		}
	}
	reverse_proxy FARM
}
`
	g := start(t, c)
	g.farm.handle("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><title>home</title><link rel=icon href='data:,'><body>")
	})
	g.farm.handle("/events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for i := 1; i <= 3; i++ {
			_, _ = fmt.Fprintf(w, "data: event %d\n\n", i)
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			<-tick.C
		}
	})
	g.farm.handle("/socket", func(w http.ResponseWriter, r *http.Request) {
		// Who may connect is the gate's to say.
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo.v1"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		for {
			kind, data, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	})
	return g
}

func TestBrowserPagesSeeWhatTheyMay(t *testing.T) {
	if _, err := os.Stat("/usr/bin/chromium"); err != nil {
		t.Fatalf("Chromium is not installed (make browser installs it): %v", err)
	}
	origin, _ := newPage(t)
	_, port := newPage(t)
	g := browserGate(t, origin)
	var got visits
	script(t, "browser.mjs", map[string]any{
		"api": "http://" + g.sites[0], "own": "http://" + g.sites[1], "page": origin,
		"stranger": "http://localhost" + port, // another site, not only another origin
		"key":      g.create(t, "--scope", "farms:read", "--scope", "farms:write", "--requests", "100/m").Key,
		"narrow":   g.create(t, "--scope", "farms:read", "--requests", "100/m").Key,
		"limited":  g.create(t, "--scope", "farms:read", "--requests", "1/h").Key,
		"cookie":   map[string]string{"name": "sb-127-auth-token", "value": sessionCookie(userToken())},
	}, &got)
	t.Logf("Chromium %s, %s", got.Version, version(t, "playwright-core"))
	t.Run("a key from another origin", func(t *testing.T) { got.keyFromAnotherOrigin(t) })
	t.Run("an origin that is not listed", func(t *testing.T) { got.strangers(t) })
	t.Run("a session on the own origin", func(t *testing.T) { got.ownOrigin(t) })
	t.Run("a session from elsewhere", func(t *testing.T) { got.fromElsewhere(t) })
	// The browser did ask before it sent a key, and was stopped by the gate where it was.
	if n := g.metric(t, "hivegate_requests_total", `outcome="preflight"`); n < 3 {
		t.Errorf("%v preflights, want 3 at least", n)
	}
	if n := len(g.awaitLines(t, 4, map[string]string{"logger": "http.handlers.hivegate", "reason": "cross_site"})); n < 4 {
		t.Errorf("%d refusals as cross_site, want forms, a POST and a WebSocket", n)
	}
}

func (v visits) keyFromAnotherOrigin(t *testing.T) {
	limits := []string{"x-request-id", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit", "ratelimit-policy"}
	refusal := append([]string{"x-hivegate-reason"}, limits...)
	for what, c := range map[string]struct {
		status  int
		reason  string
		headers []string
	}{
		"ok":       {200, "", limits},
		"posted":   {200, "", limits},
		"noKey":    {401, "missing_credentials", append([]string{"www-authenticate"}, refusal...)},
		"wrongKey": {401, "api_key_invalid", append([]string{"www-authenticate"}, refusal...)},
		"noScope":  {403, "insufficient_scope", refusal},
		"notFound": {404, "not_found", refusal},
		"first":    {200, "", limits},
		"limited":  {429, "rate_limited", append([]string{"retry-after"}, refusal...)},
		"down":     {502, "backend_unreachable", refusal},
	} {
		got := v.Calls[what]
		if got.Status != c.status || got.Headers["x-hivegate-reason"] != c.reason || got.Failed != "" || got.Type != "cors" {
			t.Errorf("%s: %+v, want %d %q", what, got, c.status, c.reason)
			continue
		}
		for _, name := range c.headers {
			if got.Headers[name] == "" {
				t.Errorf("%s: the page may not read %s: %v", what, name, got.Headers)
			}
		}
		body, _ := got.Body.(map[string]any)
		if c.reason == "" {
			if c.status == 200 && body["backend"] != "farm" {
				t.Errorf("%s: body %v", what, got.Body)
			}
			continue
		}
		e, _ := body["error"].(map[string]any)
		if text, _ := e["message"].(string); text == "" || e["code"] == nil {
			t.Errorf("%s: body %v, want the refusal in its dialect", what, got.Body)
		}
	}
	if h := v.Calls["limited"].Headers; h["x-ratelimit-limit"] != "1" || h["x-ratelimit-remaining"] != "0" || h["ratelimit-policy"] != `"key";q=1;w=3600` || len(h["retry-after"]) != 4 {
		t.Errorf("the limit as the page sees it: %v", h)
	}
	for what, got := range map[string]called{"a header that is not listed": v.Calls["otherHeader"], "a path that is in no table": v.Calls["noRoute"]} {
		if got.Failed != "TypeError" {
			t.Errorf("%s: %+v, want that the browser stops it", what, got)
		}
	}
	text := ""
	for _, chunk := range v.Stream {
		text += chunk.Text
	}
	if n := len(v.Stream); n < 3 || text != "data: event 1\n\ndata: event 2\n\ndata: event 3\n\n" || v.Stream[n-1].MS-v.Stream[0].MS < 150 {
		t.Errorf("a stream by fetch: %+v, want one event after the other", v.Stream)
	}
}

func (v visits) strangers(t *testing.T) {
	for what, got := range v.Stranger {
		if want := (called{Failed: "TypeError"}); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want that the browser keeps it from the page", what, got)
		}
	}
	if len(v.Stranger) != 2 {
		t.Errorf("%d calls, want 2", len(v.Stranger))
	}
}

var threeEvents = listenedTo{Got: []string{"event 1", "event 2", "event 3"}}

func (v visits) ownOrigin(t *testing.T) {
	for what, got := range map[string]called{"GET": v.Own.Get, "POST": v.Own.Post} {
		body, _ := got.Body.(map[string]any)
		if got.Status != 200 || got.Type != "basic" || body["backend"] != "farm" {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if !reflect.DeepEqual(v.Own.Events, threeEvents) {
		t.Errorf("EventSource: %+v", v.Own.Events)
	}
	if want := (talkedTo{Got: []string{"hello from a page"}, Code: 4000, Protocol: "echo.v1"}); !reflect.DeepEqual(v.Own.Socket, want) {
		t.Errorf("WebSocket: %+v, want %+v", v.Own.Socket, want)
	}
	if f := v.Own.Form; f.Status != 200 || !f.Cookie || f.Site != "same-origin" {
		t.Errorf("form: %+v", f)
	}
}

// A session may be read by a listed origin, and used for changes by none.
func (v visits) fromElsewhere(t *testing.T) {
	if got := v.Elsewhere.Get; got.Status != 200 || got.Type != "cors" {
		t.Errorf("GET of a listed origin: %+v", got)
	}
	if !reflect.DeepEqual(v.Elsewhere.Events, threeEvents) {
		t.Errorf("EventSource of a listed origin: %+v", v.Elsewhere.Events)
	}
	if got := v.Elsewhere.Post; got.Status != 403 || got.Headers["x-hivegate-reason"] != "cross_site" {
		t.Errorf("POST of a listed origin: %+v, want 403 cross_site, readable", got)
	}
	if got := v.Elsewhere.NoRoute; got.Status != 404 || got.Headers["x-hivegate-reason"] != "route_not_found" {
		t.Errorf("a path that is in no table: %+v, want 404 route_not_found, readable", got)
	}
	if got := v.Lure.Get; got.Failed != "TypeError" {
		t.Errorf("GET of another site: %+v, want that the browser keeps it from the page", got)
	}
	for what, got := range map[string]struct {
		form   submitted
		site   string
		socket talkedTo
	}{
		"another port": {v.Elsewhere.Form, "same-site", v.Elsewhere.Socket},
		"another site": {v.Lure.Form, "cross-site", v.Lure.Socket},
	} {
		// Without the cookie it would be 401, and show nothing.
		if f := got.form; f.Status != 403 || f.Reason != "cross_site" || !f.Cookie || f.Site != got.site || !strings.Contains(f.Body, "cross_site") {
			t.Errorf("form of %s: %+v, want 403 cross_site for a form with the cookie", what, f)
		}
		if s := got.socket; len(s.Got) != 0 || s.Code != 1006 {
			t.Errorf("WebSocket of %s: %+v, want that it never opens", what, s)
		}
	}
}
