package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// answer is one answer, read to its end.
type answer struct {
	status  int
	header  http.Header
	trailer http.Header
	body    []byte
}

func (a *answer) reason() string { return a.header.Get("X-Hivegate-Reason") }

// asJSON reads the body as a JSON object.
func (a *answer) asJSON(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.body, &m); err != nil {
		t.Fatalf("the body is no JSON object: %v\n%s", err, a.body)
	}
	return m
}

// change alters a request before it is sent.
type change func(*http.Request)

// key sends an API key as the gate wants it.
func key(k string) change { return header("Authorization", "Bearer "+k) }

// header adds a header under its canonical name.
func header(name, value string) change {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

// spelt adds a header in exactly this spelling.
func spelt(name, value string) change {
	return func(r *http.Request) { r.Header[name] = append(r.Header[name], value) }
}

// content sends a body.
func content(contentType, body string) change {
	return func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(body))
		r.ContentLength = int64(len(body))
		r.Header.Set("Content-Type", contentType)
	}
}

type fromKey struct{}

// from sends the request from another loopback address.
func from(addr string) change {
	return func(r *http.Request) { *r = *r.WithContext(context.WithValue(r.Context(), fromKey{}, addr)) }
}

// client follows no redirect, uses no proxy, and dials from the address that
// the request asks for.
func newClient() *http.Client {
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 256,
			DisableCompression:  true,
			DialContext:         dialFrom(""),
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dialFrom dials from an address. A connection that is reset while it is made is
// made again: a reload closes the old listener, and with it whoever still waits
// to be accepted there, which is Caddy's way and no request's loss.
func dialFrom(addr string) func(context.Context, string, string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if addr != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(addr)}
	}
	return func(ctx context.Context, network, to string) (conn net.Conn, err error) {
		for range 3 {
			if conn, err = d.DialContext(ctx, network, to); !errors.Is(err, syscall.ECONNRESET) {
				break
			}
		}
		return conn, err
	}
}

// clientFor returns the client for a request's source address: connections from
// one address are never used for another.
func (g *gate) clientFor(r *http.Request) *http.Client {
	addr, _ := r.Context().Value(fromKey{}).(string)
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.clients[addr]
	if c == nil {
		c = newClient()
		if tr, ok := c.Transport.(*http.Transport); ok {
			tr.DialContext = dialFrom(addr)
		}
		g.clients[addr] = c
	}
	return c
}

// do sends a request to the first site of the gate.
func (g *gate) do(t testing.TB, method, target string, changes ...change) *answer {
	t.Helper()
	return g.doAt(t, g.sites[0], method, target, changes...)
}

// get is do with GET.
func (g *gate) get(t testing.TB, target string, changes ...change) *answer {
	t.Helper()
	return g.do(t, http.MethodGet, target, changes...)
}

// doAt sends a request to a site of the gate and reads the whole answer, which
// must hold no secret.
func (g *gate) doAt(t testing.TB, site, method, target string, changes ...change) *answer {
	t.Helper()
	a, err := g.try(site, method, target, changes...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, target, err, g.tail())
	}
	a.search(t, method+" "+target)
	return a
}

// try is doAt for goroutines other than the test's: it returns its error, and
// searches nothing.
func (g *gate) try(site, method, target string, changes ...change) (*answer, error) {
	tries := 1
	if g.reloaded.Load() {
		tries = 4
	}
	return again(tries, func() (*http.Response, error) {
		r, err := http.NewRequest(method, "http://"+site+target, nil)
		if err != nil {
			return nil, err
		}
		for _, c := range changes {
			c(r)
		}
		return g.clientFor(r).Do(r)
	})
}

// again sends a request until it has an answer, at most so many times, as long as
// its connection ends without one. A reload replaces the listening sockets of
// sites, and any load, a refused one too, that of the admin endpoint; whoever the
// kernel has put in line at the old one is cut off unheard.
func again(tries int, send func() (*http.Response, error)) (*answer, error) {
	for {
		resp, err := send()
		if err == nil {
			return read(resp)
		}
		if tries--; tries <= 0 || !unheard(err) {
			return nil, err
		}
	}
}

// unheard reports whether a connection ended before the first byte of an answer.
func unheard(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) ||
		strings.Contains(err.Error(), "server closed idle connection")
}

// search fails the test when the answer holds a secret.
func (a *answer) search(t testing.TB, what string) {
	t.Helper()
	var b bytes.Buffer
	_ = a.header.Write(&b)
	_ = a.trailer.Write(&b)
	mustHoldNoSecret(t, "headers of the answer to "+what, b.String())
	mustHoldNoSecret(t, "body of the answer to "+what, string(a.body))
}

func read(resp *http.Response) (*answer, error) {
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	return &answer{status: resp.StatusCode, header: resp.Header, trailer: resp.Trailer, body: body}, nil
}

// raw sends a head and a body over a connection of their own, and reads one
// answer. In the head "\n" stands for CRLF and SITE0 for the address; the body
// is sent as it is.
func (g *gate) raw(t testing.TB, head, body string) *answer {
	t.Helper()
	conn, err := net.DialTimeout("tcp", g.sites[0], 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	head = strings.ReplaceAll(strings.TrimSuffix(g.fill(head), "\n"), "\n", "\r\n")
	if _, err := io.WriteString(conn, head+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(head, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no answer to %q: %v\n%s", head, err, g.tail())
	}
	a, err := read(resp)
	if err != nil {
		t.Fatalf("answer to %q: %v", head, err)
	}
	a.search(t, head)
	return a
}

// refused checks everything that all refusals have in common.
func (a *answer) refused(t testing.TB, status int, reason string) {
	t.Helper()
	if a.status != status || a.reason() != reason {
		t.Fatalf("got %d %q, want %d %q; body %s", a.status, a.reason(), status, reason, a.body)
	}
	if ct := a.header.Get("Content-Type"); !strings.Contains(ct, "json") || !strings.Contains(strings.ToLower(ct), "charset=utf-8") {
		t.Errorf("Content-Type %q of %s, want JSON with its charset", ct, reason)
	}
	if cc := a.header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control %q of %s, want no-store", cc, reason)
	}
	if a.header.Get("X-Request-Id") == "" {
		t.Errorf("%s has no X-Request-Id", reason)
	}
	challenge := a.header.Get("Www-Authenticate")
	if want := status == http.StatusUnauthorized || reason == "insufficient_scope"; want != (challenge != "") {
		t.Errorf("WWW-Authenticate of %d %s is %q", status, reason, challenge)
	}
	if challenge != "" && !strings.HasPrefix(challenge, `Bearer realm="`) {
		t.Errorf("WWW-Authenticate %q does not begin with a Bearer realm", challenge)
	}
	if retry := a.header.Get("Retry-After"); (status == 429 || status == 503) && (retry == "" || retry == "0" || strings.HasPrefix(retry, "-")) {
		t.Errorf("Retry-After %q of %s, want whole seconds, at least 1", retry, reason)
	}
	a.asJSON(t)
}

// passed checks that a backend answered.
func (a *answer) passed(t testing.TB) {
	t.Helper()
	if a.status != http.StatusOK || a.reason() != "" {
		t.Fatalf("got %d %q, want 200 of the backend; body %s", a.status, a.reason(), a.body)
	}
}
