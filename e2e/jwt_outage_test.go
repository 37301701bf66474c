package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// manyIssuers is one gate with an issuer for each URL, named like it, whose iss
// is the name.
func manyIssuers(urls map[string]string) config {
	c := config{gate: farmRoutes, global: cheap}
	for name, url := range urls {
		c.global += fmt.Sprintf("issuer %s {\n\t\t\tiss %s\n\t\t\tjwks %s\n\t\t\talgorithms ES256\n\t\t\trole_claim role\n\t\t\trole authenticated farms:read\n\t\t}\n", name, name, url)
	}
	return c
}

// of is a token of one of the issuers, never seen before.
func of(k tokenKey, iss string) change {
	return bearer(k.token(claims(map[string]any{"iss": iss, "sub": fmt.Sprint(time.Now().UnixNano())})))
}

// An issuer that is away when the server starts hinders nobody but its own
// callers, who are told to come again and not to sign in again.
func TestAnIssuerThatIsDownAtStartIs503UntilItIsBack(t *testing.T) {
	t.Parallel()
	k := es256("k")
	good := jwkSet(k.jwk(nil))
	closed := freePorts(t, 1)[0]
	elsewhere := newKeyServer(t, good)
	serve := func(h http.HandlerFunc) *keyServer {
		s := newKeyServer(t, good)
		s.do(h)
		return s
	}
	stuck := make(chan struct{})
	var once sync.Once
	release := func() { once.Do(func() { close(stuck) }) }
	t.Cleanup(release)
	servers := map[string]*keyServer{
		"fine":    newKeyServer(t, good),
		"html":    serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>maintenance</html>") }),
		"notkeys": serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"error":"x"}`) }),
		"failing": serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }),
		"big": serve(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"keys":[],"x":"`+strings.Repeat("x", 1<<20)+`"}`)
		}),
		"redirect": serve(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, strings.Replace(elsewhere.url, "127.0.0.1", "localhost", 1), http.StatusFound)
		}),
		"twice": serve(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Replace(good, `"keys"`, `"keys":[],"keys"`, 1))
		}),
		"cut": serve(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = io.WriteString(w, good[:len(good)-2])
		}),
		"slow": serve(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-stuck:
				_, _ = io.WriteString(w, good)
			case <-r.Context().Done():
			}
		}),
		"drip": serve(func(w http.ResponseWriter, r *http.Request) { // a byte at a time
			for tick := time.NewTicker(50 * time.Millisecond); ; {
				select {
				case <-tick.C:
					_, _ = io.WriteString(w, " ")
					_ = http.NewResponseController(w).Flush()
				case <-r.Context().Done():
					tick.Stop()
					return
				}
			}
		}),
		"empty": serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) }),
	}
	urls := map[string]string{"down": "http://" + closed + "/jwks.json"}
	for name, s := range servers {
		urls[name] = s.url
	}
	g := start(t, manyIssuers(urls))

	g.get(t, "/farms", of(k, "fine")).passed(t)
	var wg sync.WaitGroup
	for name := range urls {
		if name == "fine" || name == "empty" {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			began := time.Now()
			a, err := g.try(g.sites[0], "GET", "/farms", of(k, name))
			if err != nil || a.status != 503 || a.reason() != "issuer_unavailable" || a.header.Get("Retry-After") == "" || a.header.Get("Www-Authenticate") != "" {
				t.Errorf("%s: %v %+v, want 503 issuer_unavailable", name, err, a)
			}
			if d := time.Since(began); d > 14*time.Second {
				t.Errorf("%s: refused after %s only", name, d)
			}
		}()
	}
	wg.Wait()
	// No key is an answer, too: a project that only has a shared secret gives it.
	g.get(t, "/farms", of(k, "empty")).refused(t, 401, "token_invalid")
	for name := range urls {
		want := 0.0
		if name == "fine" || name == "empty" {
			want = 1
		}
		if up := g.metric(t, "hivegate_store_up", fmt.Sprintf("store=%q", "issuer:"+name)); up != want {
			t.Errorf("hivegate_store_up of issuer %s is %g, want %g", name, up, want)
		}
		if want == 0 && len(g.awaitLines(t, 1, map[string]string{"issuer": name, "level": "warn"})) == 0 {
			t.Errorf("nothing is logged of issuer %s", name)
		}
	}
	if elsewhere.fetches.Load() != 0 {
		t.Error("a redirect to another host was followed")
	}

	// Back again: the next attempts come after 1, 2, 4 … seconds, at most 30.
	back := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, good) }))
	l, err := net.Listen("tcp", closed)
	if err != nil {
		t.Fatal(err)
	}
	_ = back.Listener.Close()
	back.Listener = l
	back.Start()
	t.Cleanup(back.Close)
	servers["html"].publish(good)
	servers["failing"].publish(good)
	release()
	for _, name := range []string{"down", "html", "failing", "slow"} {
		eventually(t, 35*time.Second, "issuer "+name+" is back", func() bool {
			a, err := g.try(g.sites[0], "GET", "/farms", of(k, name))
			return err == nil && a.status == 200
		})
		if up := g.metric(t, "hivegate_store_up", fmt.Sprintf("store=%q", "issuer:"+name)); up != 1 {
			t.Errorf("issuer %s is back, and hivegate_store_up says %g", name, up)
		}
	}
}

// Keys that were fetched are relied on while the issuer is away: its callers
// notice nothing, and only what those keys cannot decide is 503.
func TestAnIssuerThatGoesDownLaterKeepsItsCallers(t *testing.T) {
	t.Parallel()
	k, unknown := es256("k"), es256("new")
	good := jwkSet(k.jwk(nil))
	outages := map[string]http.HandlerFunc{
		"failing": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"garbage": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "\x00\x01garbage") },
		"gone":    nil,
		"slow":    func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	}
	urls, servers := map[string]string{}, map[string]*keyServer{}
	for name := range outages {
		servers[name] = newKeyServer(t, good)
		urls[name] = servers[name].url
	}
	g := start(t, manyIssuers(urls))
	remembered := map[string]change{}
	for name, outage := range outages {
		remembered[name] = of(k, name)
		g.get(t, "/farms", remembered[name]).passed(t)
		if outage != nil {
			servers[name].do(outage)
		} else {
			servers[name].srv.CloseClientConnections()
			servers[name].srv.Close()
		}
	}
	var wg sync.WaitGroup
	for name := range outages {
		wg.Add(1)
		go func() {
			defer wg.Done()
			check := func(what string, token change, status int, reason string) {
				a, err := g.try(g.sites[0], "GET", "/farms", token)
				if err != nil || a.status != status || a.reason() != reason {
					t.Errorf("%s, %s: %v %+v, want %d %q", name, what, err, a, status, reason)
				}
			}
			check("a kid that is not known yet", of(unknown, name), 503, "issuer_unavailable")
			check("a remembered token", remembered[name], 200, "")
			check("a new token", of(k, name), 200, "")
			forged := es256("k")
			check("a forged token", of(forged, name), 401, "token_invalid")
			check("the unknown kid again", of(unknown, name), 503, "issuer_unavailable")
		}()
	}
	wg.Wait()
	for name := range outages {
		if up := g.metric(t, "hivegate_store_up", fmt.Sprintf("store=%q", "issuer:"+name)); up != 0 {
			t.Errorf("issuer %s gave no keys when last asked, and hivegate_store_up says %g", name, up)
		}
		if len(g.awaitLines(t, 1, map[string]string{"issuer": name, "level": "warn"})) == 0 {
			t.Errorf("nothing is logged of the outage of %s", name)
		}
	}
}

// A reload with the same issuers fetches nothing again, and forgets no token;
// other settings verify anew.
func TestReloadsKeepTheKeysUnlessTheIssuerChanged(t *testing.T) {
	k := es256("k")
	keys := newKeyServer(t, jwkSet(k.jwk(nil)))
	c := remoteMain(keys.url, farmRoutes)
	g := start(t, c)
	token := bearer(k.token(claims(nil)))
	g.get(t, "/farms", token).passed(t)
	for range 3 {
		if err := g.reload(t, c); err != nil {
			t.Fatal(err)
		}
		g.get(t, "/farms", token).passed(t)
	}
	if n := keys.fetches.Load(); n != 1 {
		t.Errorf("%d fetches after three reloads, want 1", n)
	}
	other := c
	other.global = strings.Replace(c.global, "aud authenticated", "aud somebody-else", 1)
	if err := g.reload(t, other); err != nil {
		t.Fatal(err)
	}
	g.get(t, "/farms", token).refused(t, 401, "token_invalid")
	narrow := c
	narrow.global = strings.Replace(c.global, "role authenticated farms:read", "role authenticated crews:read", 1)
	if err := g.reload(t, narrow); err != nil {
		t.Fatal(err)
	}
	g.get(t, "/farms", token).refused(t, 403, "insufficient_scope")
	if err := g.reload(t, c); err != nil {
		t.Fatal(err)
	}
	g.get(t, "/farms", token).passed(t)
}

// A file of keys is read again with each load: a key that was taken out of it is
// not believed any more, and one that was put in is. A file that holds none is a
// mistake, and changes nothing.
func TestReloadsReadKeyFilesAgain(t *testing.T) {
	first, second := es256("first"), es256("second")
	c := mainConfig("", farmRoutes)
	c.files["jwks.json"] = jwkSet(first.jwk(nil))
	g := start(t, c)
	old, other := bearer(first.token(claims(nil))), bearer(second.token(claims(nil)))
	g.get(t, "/farms", old).passed(t)
	g.get(t, "/farms", other).refused(t, 401, "token_invalid")

	c.files["jwks.json"] = jwkSet(second.jwk(nil))
	// Caddy loads nothing where nothing differs.
	c.gate = farmRoutes + "\n\trealm second"
	if err := g.reload(t, c); err != nil {
		t.Fatal(err)
	}
	g.get(t, "/farms", old).refused(t, 401, "token_invalid")
	g.get(t, "/farms", other).passed(t)

	c.files["jwks.json"] = "no keys"
	c.gate = farmRoutes + "\n\trealm third"
	if err := g.reload(t, c); err == nil || !strings.Contains(err.Error(), "jwks.json") {
		t.Errorf("a file without keys: %v", err)
	}
	g.get(t, "/farms", other).passed(t)
}

// What was remembered is not believed longer than the token lives.
func TestARememberedTokenEndsWithItsLeeway(t *testing.T) {
	t.Parallel()
	c := mainConfig("", farmRoutes)
	c.global = strings.Replace(c.global, "iss "+mainIss, "iss "+mainIss+"\nleeway 1s", 1)
	g := start(t, c)
	exp := time.Now().Add(3 * time.Second).Unix()
	token := bearer(tokenKeys()["ES256"].token(with("exp", exp)))
	end := time.Unix(exp, 0).Add(time.Second)
	g.get(t, "/farms", token).passed(t)
	eventually(t, 10*time.Second, "the token is refused", func() bool {
		sent := time.Now()
		a, err := g.try(g.sites[0], "GET", "/farms", token)
		if err != nil {
			return false
		}
		if a.status == 200 && sent.After(end) {
			t.Fatalf("accepted %s past exp and leeway", time.Since(end))
		}
		if a.status != 200 && time.Now().Before(end) {
			t.Fatalf("refused %s before exp and leeway: %s", time.Until(end), a.reason())
		}
		return a.reason() == "token_expired"
	})
}
