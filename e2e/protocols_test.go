package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// roundTrip sends one request over a transport of the caller's, and tells which
// protocol was spoken.
func roundTrip(t *testing.T, tr http.RoundTripper, method, url string, changes ...change) (a *answer, proto string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		c(r)
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	if a, err = read(resp); err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	a.search(t, method+" "+url)
	return a, resp.Proto
}

// twice checks that a protocol lets the right key in and nobody else.
func twice(t *testing.T, g *gate, tr http.RoundTripper, base, proto string) {
	t.Helper()
	k := g.createScoped(t, "farms:read")
	a, spoke := roundTrip(t, tr, "GET", base+"/farms", key(k.Key), header("X-Auth-Id", "spoof"))
	a.passed(t)
	if spoke != proto {
		t.Fatalf("spoke %s, want %s", spoke, proto)
	}
	if got := g.farm.got(t).header; got.Get("X-Auth-Id") != k.ID || got.Get("Authorization") != "" {
		t.Errorf("the backend was told %q, key sent on: %t", got.Get("X-Auth-Id"), got.Get("Authorization") != "")
	}
	a, _ = roundTrip(t, tr, "GET", base+"/farms")
	a.refused(t, 401, "missing_credentials")
	a, _ = roundTrip(t, tr, "POST", base+"/crews", key(k.Key))
	a.refused(t, 403, "insufficient_scope")
	a, _ = roundTrip(t, tr, "GET", base+"/any//x", key(k.Key))
	a.refused(t, 400, "ambiguous_path")
}

func h2c() *http.Transport {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: &p, DialContext: dialFrom("")}
}

// startH2C starts a gate that takes HTTP/2 without TLS, and makes what speaks it.
func startH2C(t *testing.T) (*gate, *http.Transport) {
	t.Helper()
	c := farms
	c.options = "servers {\n\t\tprotocols h1 h2c\n\t}"
	tr := h2c()
	t.Cleanup(tr.CloseIdleConnections)
	return start(t, c), tr
}

func TestHTTP2WithoutTLS(t *testing.T) {
	g, tr := startH2C(t)
	twice(t, g, tr, "http://"+g.sites[0], "HTTP/2.0")

	// Many streams of one connection.
	k := g.createScoped(t, "farms:read")
	var wg sync.WaitGroup
	for range 100 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r, _ := http.NewRequest(http.MethodGet, "http://"+g.sites[0]+"/farms", nil)
			key(k.Key)(r)
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Error(err)
				return
			}
			if a, err := read(resp); err != nil || a.status != 200 {
				t.Errorf("one of many streams: %v %v", err, a)
			}
		}()
	}
	wg.Wait()
}

func TestTrailersOverHTTP2AreCleaned(t *testing.T) {
	g, tr := startH2C(t)
	k := g.createScoped(t, "farms:read")
	for _, name := range []string{"X-Auth-Id", "X-Auth_Id", "x_auth.scopes", "X-Real-Ip", "Password", "X-Http-Method-Override"} {
		pr := strings.NewReader("hello")
		r, err := http.NewRequest(http.MethodPatch, "http://"+g.sites[0]+"/farms/1", struct{ *strings.Reader }{pr})
		if err != nil {
			t.Fatal(err)
		}
		key(k.Key)(r)
		r.ContentLength = -1
		r.Trailer = http.Header{name: {"spoof"}, "X-Fine": {"yes"}}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		a, err := read(resp)
		if err != nil {
			t.Fatal(err)
		}
		a.passed(t)
		got := g.farm.got(t)
		if bad := append(spoofed(got.trailer), spoofed(got.header)...); len(bad) > 0 {
			t.Errorf("trailer %s reached the backend as %v", name, bad)
		}
	}
}

// tlsSite is a gate whose second site speaks TLS with Caddy's own authority.
func tlsSite(t *testing.T) (*gate, *tls.Config) {
	t.Helper()
	c := farms
	c.options = "https_port 0\n\tauto_https disable_redirects"
	c.more = "https://localhost:TLSPORT {\n\ttls internal\n\thivegate {\n\t\trequire_https strict\n\t\trealm secure\n" + farms.gate +
		"\n\t}\n\treverse_proxy FARM\n}\n"
	g := prepare(t, c)
	_, port, err := net.SplitHostPort(g.sites[1])
	if err != nil {
		t.Fatal(err)
	}
	for old, with := range map[string]string{"TLSPORT": port, "https_port 0": "https_port " + port} {
		c.more, c.options = strings.ReplaceAll(c.more, old, with), strings.ReplaceAll(c.options, old, with)
	}
	g.write(t, c)
	g.run(t)
	root := filepath.Join(g.dir, "data", "caddy", "pki", "authorities", "local", "root.crt")
	pool := x509.NewCertPool()
	eventually(t, 20*time.Second, "Caddy's own authority is made and its certificate served", func() bool {
		text, err := os.ReadFile(root)
		if err != nil || !pool.AppendCertsFromPEM(text) {
			return false
		}
		conn, err := tls.Dial("tcp", g.sites[1], &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12})
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
	return g, &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

func TestHTTP2AndHTTP1OverTLS(t *testing.T) {
	g, conf := tlsSite(t)
	_, port, _ := net.SplitHostPort(g.sites[1])
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return dialFrom("")(ctx, "tcp", g.sites[1]) }
	h2 := &http.Transport{TLSClientConfig: conf.Clone(), DialContext: dial, ForceAttemptHTTP2: true}
	defer h2.CloseIdleConnections()
	twice(t, g, h2, "https://localhost:"+port, "HTTP/2.0")
	h1 := &http.Transport{TLSClientConfig: conf.Clone(), DialContext: dial}
	defer h1.CloseIdleConnections()
	twice(t, g, h1, "https://localhost:"+port, "HTTP/1.1")
}

func h3(conf *tls.Config, addr string) *http3.Transport {
	return &http3.Transport{
		TLSClientConfig: conf.Clone(),
		Dial: func(ctx context.Context, _ string, conf *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, addr, conf, qc)
		},
	}
}

func TestHTTP3(t *testing.T) {
	g, conf := tlsSite(t)
	_, port, _ := net.SplitHostPort(g.sites[1])
	tr := h3(conf, g.sites[1])
	defer func() { _ = tr.Close() }()
	twice(t, g, tr, "https://localhost:"+port, "HTTP/3.0")
}

// What comes before the handshake is complete may be a replay (RFC 8446,
// section 8), so it reaches no backend. A request that the server reads only
// when the handshake is done is an ordinary one: hence several tries.
func TestTLSEarlyDataIsTooEarly(t *testing.T) {
	const tries = 20
	g, _ := tlsSite(t)
	k := g.createScoped(t, "farms:read")
	client, err := buildPackage("./earlydata", filepath.Join(t.TempDir(), "earlydata"))
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(g.dir, "data", "caddy", "pki", "authorities", "local", "root.crt")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, client, g.sites[1], root, strconv.Itoa(tries))
	cmd.Stdin, cmd.Stderr = strings.NewReader(k.Key), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	early, passed := 0, 0
	for line := range bytes.Lines(out) {
		var got struct {
			Status int
			Header http.Header
			Body   []byte
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		a := &answer{status: got.Status, header: got.Header, body: got.Body}
		a.search(t, "early data")
		if a.status == http.StatusTooEarly {
			a.refused(t, 425, "too_early")
			early++
			continue
		}
		a.passed(t)
		passed++
	}
	t.Logf("%d of %d requests in early data were refused as such", early, tries)
	if early == 0 || early+passed != tries {
		t.Errorf("%d requests in early data were refused, %d passed, of %d", early, passed, tries)
	}
	// Each try began with one ordinary request.
	if hits := int(g.farm.hits.Load()); hits != tries+passed {
		t.Errorf("the backend saw %d requests, want %d: early data reached it", hits, tries+passed)
	}
}

// TestARefusalOverHTTP2WaitsForASmallBodyOnlyShortly: the answer does not reset the
// stream while a small body is still coming, and comes without one that never does.
func TestARefusalOverHTTP2WaitsForASmallBodyOnlyShortly(t *testing.T) {
	g, tr := startH2C(t)
	body, never := io.Pipe()
	defer func() { _ = never.Close() }()
	req, err := http.NewRequest("POST", "http://"+g.sites[0]+"/crews", body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 10
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != 401 || resp.ProtoMajor != 2 || !strings.Contains(string(text), "missing_credentials") {
		t.Errorf("%s %v: %s", resp.Proto, resp.StatusCode, text)
	}
}
