package jwtauth

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// startRemote starts an issuer on srv with a fake clock and waits for the first
// attempt to end.
func startRemote(t *testing.T, srv *keyServer, path string) (*Set, *Issuer, *fakeClock, *syncBuffer) {
	t.Helper()
	clock, log := newClock(), &syncBuffer{}
	i := startIssuer(t, remoteConfig(srv.URL+path), Options{
		Now: clock.Now, After: clock.After,
		Log: func() *slog.Logger { return slog.New(slog.NewTextHandler(log, nil)) },
	})
	return newSet(t, i), i, clock, log
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// verdict verifies at the clock's time and returns the reason, "" if accepted.
func verdict(s *Set, c *fakeClock, token string) Reason {
	if _, d := s.Verify(context.Background(), c.Now(), token, nil); d != nil {
		return d.Reason
	}
	return ""
}

func TestIssuerDownAtStartGives503UntilItIsUp(t *testing.T) {
	es := testKeys()["ES256"]
	srv := newKeyServer(t, status(http.StatusBadGateway))
	s, i, clock, log := startRemote(t, srv, "/jwks?apikey=hidden-query")
	var waits []time.Duration
	for range 7 {
		d := clock.planned(t)
		waits = append(waits, d)
		if got := verdict(s, clock, es.token(good(nil))); got != IssuerUnavailable {
			t.Fatalf("while down: %q", got)
		}
		clock.advance(d)
	}
	want := []int{1, 2, 4, 8, 16, 30, 30}
	for n := range want {
		if int(waits[n].Seconds()) != want[n] {
			t.Fatalf("retried after %v", waits)
		}
	}
	if _, d := s.Verify(context.Background(), clock.Now(), es.token(good(nil)), nil); d == nil || d.Count {
		t.Errorf("an unavailable issuer counts as the caller's failure: %v", d)
	}
	if st := i.Status(clock.Now()); st.Usable || st.Reachable || st.Sources[0].Usable || st.Sources[0].LastError == "" || st.Sources[0].Failures < 7 {
		t.Errorf("status %+v", st)
	}
	clock.planned(t)
	srv.answer(serve(jwks(es.jwk(nil))))
	clock.advance(time.Minute)
	clock.planned(t)
	if got := verdict(s, clock, es.token(good(nil))); got != "" {
		t.Errorf("once up: %q", got)
	}
	if st := i.Status(clock.Now()); !st.Usable || !st.Reachable || st.Sources[0].Keys != 1 || st.Sources[0].LastError != "" || st.Sources[0].Source != srv.URL+"/jwks" {
		t.Errorf("status %+v", st)
	}
	if text := log.String(); strings.Contains(text, "hidden-query") || strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "status 502") {
		t.Errorf("log: %s", text)
	}
}

func TestRequestsBeforeTheFirstAnswerWaitForIt(t *testing.T) {
	es := testKeys()["ES256"]
	release := make(chan struct{})
	srv := newKeyServer(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		serve(jwks(es.jwk(nil)))(w, r)
	})
	s, _, clock, _ := startRemote(t, srv, "")
	got := make(chan Reason, 50)
	for n := range 50 {
		go func() { got <- verdict(s, clock, es.token(good(map[string]any{"sub": fmt.Sprint(n)}))) }()
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, d := s.Verify(gone, clock.Now(), es.token(good(nil)), nil); d == nil || d.Reason != IssuerUnavailable {
		t.Errorf("a caller that is gone: %v", d)
	}
	close(release)
	for range 50 {
		if r := receive(t, got, "a request"); r != "" {
			t.Errorf("refused: %s", r)
		}
	}
	if n := srv.requests.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestIssuerThatWasNeverStartedGives503AtOnce(t *testing.T) {
	i, err := NewIssuer(remoteConfig("https://127.0.0.1:1/jwks"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, d := newSet(t, i).Verify(context.Background(), t0, testKeys()["ES256"].token(good(nil)), nil)
	if d == nil || d.Reason != IssuerUnavailable {
		t.Errorf("%v", d)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
}

func TestKeysAreKeptThroughAnOutageForADay(t *testing.T) {
	es := testKeys()["ES256"]
	srv := newKeyServer(t, serve(jwks(es.jwk(nil))))
	s, i, clock, log := startRemote(t, srv, "")
	clock.planned(t)
	tok := es.token(good(map[string]any{"exp": t0.Add(72 * time.Hour).Unix()}))
	if got := verdict(s, clock, tok); got != "" {
		t.Fatal(got)
	}
	srv.Close()
	clock.advance(StaleLimit - time.Second)
	clock.planned(t)
	if got := verdict(s, clock, tok); got != "" {
		t.Errorf("in the outage, verified before: %q", got)
	}
	other := es.token(good(map[string]any{"sub": "late", "exp": t0.Add(72 * time.Hour).Unix()}))
	if got := verdict(s, clock, other); got != "" {
		t.Errorf("in the outage, never seen: %q", got)
	}
	if got := verdict(s, clock, withKid(otherES256(), "new").token(good(map[string]any{"exp": t0.Add(72 * time.Hour).Unix()}))); got != IssuerUnavailable {
		t.Errorf("in the outage, a new kid: %q", got)
	}
	if st := i.Status(clock.Now()); !st.Usable || st.Reachable || st.Sources[0].LastError == "" {
		t.Errorf("status %+v", st)
	}
	clock.advance(time.Second)
	for _, tk := range []string{tok, other} {
		if got := verdict(s, clock, tk); got != IssuerUnavailable {
			t.Errorf("after a day: %q", got)
		}
	}
	if st := i.Status(clock.Now()); st.Usable {
		t.Errorf("status %+v", st)
	}
	if text := log.String(); !strings.Contains(text, "keys_kept=1") {
		t.Errorf("log: %s", text)
	}
}

func TestNextFetchComesBeforeTheLifetimeEndsWithinBounds(t *testing.T) {
	for _, tc := range []struct {
		header []string
		want   time.Duration
	}{
		{nil, 8 * time.Minute},
		{[]string{"Cache-Control", "max-age=600"}, 8 * time.Minute},
		{[]string{"Cache-Control", "public, max-age=300, must-revalidate"}, 4 * time.Minute},
		{[]string{"Cache-Control", `Max-Age="300"`}, 4 * time.Minute},
		{[]string{"Cache-Control", "max-age=300", "Age", "100"}, 160 * time.Second},
		{[]string{"Cache-Control", "max-age=300", "Age", "9999"}, 48 * time.Second},
		{[]string{"Cache-Control", "max-age=0"}, 48 * time.Second},
		{[]string{"Cache-Control", "max-age=-1"}, 48 * time.Second},
		{[]string{"Cache-Control", "max-age=x"}, 48 * time.Second},
		{[]string{"Cache-Control", "no-store"}, 48 * time.Second},
		{[]string{"Cache-Control", "no-cache, max-age=600"}, 48 * time.Second},
		{[]string{"Cache-Control", "max-age=31536000"}, 8 * time.Minute},
		{[]string{"Cache-Control", "max-age=99999999999999999999"}, 48 * time.Second},
	} {
		srv := newKeyServer(t, serve(jwks(), tc.header...))
		_, _, clock, _ := startRemote(t, srv, "")
		if got := clock.planned(t); got != tc.want {
			t.Errorf("%v: next fetch after %v, want %v", tc.header, got, tc.want)
		}
	}
}

func TestUnknownKidIsRefetchedOnceIn30SecondsWhateverTheLoad(t *testing.T) {
	es, second := testKeys()["ES256"], otherES256()
	srv := newKeyServer(t, serve(jwks(es.jwk(nil))))
	s, _, clock, _ := startRemote(t, srv, "")
	clock.planned(t)
	srv.answer(serve(jwks(es.jwk(nil), second.jwk(nil))))

	storm := func(s1 signer, want Reason) {
		t.Helper()
		var wg sync.WaitGroup
		var wrong atomic.Int64
		for n := range 300 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if verdict(s, clock, s1.token(good(map[string]any{"sub": fmt.Sprint(n)}))) != want {
					wrong.Add(1)
				}
			}()
		}
		wg.Wait()
		if n := wrong.Load(); n != 0 {
			t.Errorf("kid %q: %d of 300 did not get %q", s1.kid, n, want)
		}
	}
	storm(second, "")
	if n := srv.requests.Load(); n != 2 {
		t.Errorf("%d fetches, want the first and one more", n)
	}
	bogus := withKid(second, "bogus")
	storm(bogus, TokenInvalid)
	clock.advance(29 * time.Second)
	storm(bogus, TokenInvalid)
	if n := srv.requests.Load(); n != 2 {
		t.Errorf("%d fetches within 30 s", n)
	}
	clock.advance(time.Second)
	storm(bogus, TokenInvalid)
	storm(bogus, TokenInvalid)
	if n := srv.requests.Load(); n != 3 {
		t.Errorf("%d fetches after 30 s, want 3", n)
	}
	_, d := s.Verify(context.Background(), clock.Now(), bogus.token(good(nil)), nil)
	if d == nil || !d.Count {
		t.Errorf("an unknown kid does not count: %v", d)
	}
}

func TestPlannedFetchDoesNotUseUpTheRefetchForAnUnknownKid(t *testing.T) {
	es, second := testKeys()["ES256"], otherES256()
	srv := newKeyServer(t, serve(jwks(es.jwk(nil))))
	s, _, clock, _ := startRemote(t, srv, "")
	d := clock.planned(t)
	clock.advance(d)
	clock.planned(t)
	srv.answer(serve(jwks(second.jwk(nil))))
	if got := verdict(s, clock, second.token(good(nil))); got != "" {
		t.Errorf("a key published right after a planned fetch: %q", got)
	}
	// And the planned one moves away from it.
	if got := clock.planned(t); got != 8*time.Minute {
		t.Errorf("planned after %v", got)
	}
}

func TestUnusableAnswersChangeNothing(t *testing.T) {
	es := testKeys()["ES256"]
	for name, h := range map[string]http.HandlerFunc{
		"HTML":                   serve("<html>maintenance</html>", "Content-Type", "text/html"),
		"empty":                  serve(""),
		"a list":                 serve("[]"),
		"an object without keys": serve(`{"error":"x"}`),
		"KEYS":                   serve(`{"KEYS":[]}`),
		"keys null":              serve(`{"keys":null}`),
		"keys an object":         serve(`{"keys":{}}`),
		"keys twice":             serve(`{"keys":[],"keys":[]}`),
		"a key's member twice":   serve(`{"keys":[{"kty":"EC","kty":"oct"}]}`),
		"trailing data":          serve(`{"keys":[]}x`),
		"cut":                    serve(jwks(es.jwk(nil))[:50]),
		"over 1 MiB":             serve(`{"keys":[]}` + strings.Repeat(" ", 1<<20)),
		"65 keys":                serve(`{"keys":[` + strings.TrimSuffix(strings.Repeat(`{"kty":"x"},`, 65), ",") + `]}`),
		"status 204":             status(http.StatusNoContent),
		"status 304":             status(http.StatusNotModified),
		"status 401":             status(http.StatusUnauthorized),
		"status 500":             status(http.StatusInternalServerError),
		"hanging up": func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		},
		"redirect to another host": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://localhost.example:1/jwks", http.StatusFound)
		},
		"redirect to another port": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/jwks", http.StatusFound)
		},
		"redirect without end": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/again", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newKeyServer(t, serve(jwks(es.jwk(nil))))
			s, i, clock, _ := startRemote(t, srv, "")
			next := clock.planned(t)
			keys := i.keys.Load()
			srv.answer(h)
			clock.advance(next)
			if again := clock.planned(t); again != time.Second {
				t.Errorf("next attempt after %v", again)
			}
			if got := verdict(s, clock, es.token(good(nil))); got != "" {
				t.Errorf("a good token: %q", got)
			}
			if i.keys.Load() != keys {
				t.Error("the keys were replaced")
			}
			if st := i.Status(clock.Now()).Sources[0]; st.LastError == "" || st.Failures != 1 || !st.Usable || st.Keys != 1 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

func TestRedirectOnTheSameHostIsFollowed(t *testing.T) {
	es := testKeys()["ES256"]
	srv := newKeyServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/new" {
			http.Redirect(w, r, "/new", http.StatusMovedPermanently)
			return
		}
		serve(jwks(es.jwk(nil)))(w, r)
	})
	s, _, clock, _ := startRemote(t, srv, "/old")
	clock.planned(t)
	if got := verdict(s, clock, es.token(good(nil))); got != "" {
		t.Error(got)
	}
}

func TestRedirectFromHTTPSToHTTPIsRefused(t *testing.T) {
	at := func(raw string) *http.Request {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Request{URL: u}
	}
	if sameHostOnly(at("http://a.example/x"), []*http.Request{at("https://a.example/")}) == nil {
		t.Error("followed to http")
	}
	if sameHostOnly(at("http://a.example/x"), []*http.Request{at("https://a.example/"), at("http://a.example/")}) == nil {
		t.Error("followed in two steps")
	}
	if err := sameHostOnly(at("https://A.example/x"), []*http.Request{at("https://a.example/")}); err != nil {
		t.Error(err)
	}
}

func TestSlowAnswerIsGivenUp(t *testing.T) {
	hang := make(chan struct{})
	srv := newKeyServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // the body is what is slow
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(hang) })
	clock := newClock()
	i := startIssuer(t, remoteConfig(srv.URL), Options{Now: clock.Now, After: clock.After, timeout: 50 * time.Millisecond})
	clock.planned(t)
	if got := verdict(newSet(t, i), clock, testKeys()["ES256"].token(good(nil))); got != IssuerUnavailable {
		t.Error(got)
	}
	if st := i.Status(clock.Now()).Sources[0]; !strings.Contains(st.LastError, "within 50ms") {
		t.Errorf("%q", st.LastError)
	}
}

func TestWaitingRequestsAreBounded(t *testing.T) {
	es := testKeys()["ES256"]
	srv := newKeyServer(t, serve(jwks(es.jwk(nil))))
	s, i, clock, _ := startRemote(t, srv, "")
	clock.planned(t)
	i.remotes[0].waiting.Store(maxWaiting)
	if got := verdict(s, clock, otherES256().token(good(nil))); got != IssuerUnavailable {
		t.Errorf("past the bound: %q", got)
	}
	if n := i.remotes[0].waiting.Load(); n != maxWaiting {
		t.Errorf("%d are said to wait", n)
	}
}

func TestUnchangedKeysKeepWhatWasVerified(t *testing.T) {
	es, rs := testKeys()["ES256"], testKeys()["RS256"]
	srv := newKeyServer(t, serve(jwks(es.jwk(nil), rs.jwk(nil))))
	_, i, clock, _ := startRemote(t, srv, "")
	next := clock.planned(t)
	before := i.keys.Load()
	srv.answer(serve(jwks(rs.jwk(nil), es.jwk(map[string]any{"x-comment": "moved"}))))
	clock.advance(next)
	clock.planned(t)
	if i.keys.Load() != before {
		t.Error("the same keys in another order made a new set")
	}
	srv.answer(serve(jwks(rs.jwk(nil), es.jwk(map[string]any{"kid": "renamed"}))))
	clock.advance(next)
	clock.planned(t)
	if i.keys.Load() == before {
		t.Error("a renamed key made no new set")
	}
}

func TestWithdrawnKeyDropsWhatItVerified(t *testing.T) {
	es, second := testKeys()["ES256"], otherES256()
	srv := newKeyServer(t, serve(jwks(es.jwk(nil))))
	s, _, clock, _ := startRemote(t, srv, "")
	next := clock.planned(t)
	tok := es.token(good(nil))
	for range 3 {
		if got := verdict(s, clock, tok); got != "" {
			t.Fatal(got)
		}
		s.cache.tokens.Wait()
	}
	srv.answer(serve(jwks(second.jwk(nil))))
	clock.advance(next)
	clock.planned(t)
	if got := verdict(s, clock, tok); got != TokenInvalid {
		t.Errorf("after its key was withdrawn: %q", got)
	}
}

// The keys change from A to A and B to B while valid tokens are verified.
func TestRotationRefusesNoValidToken(t *testing.T) {
	a, b := testKeys()["ES256"], otherES256()
	srv := newKeyServer(t, serve(jwks(a.jwk(nil))))
	s, _, clock, _ := startRemote(t, srv, "")
	clock.planned(t)

	var current atomic.Pointer[signer]
	current.Store(&a)
	var stop atomic.Bool
	var verified [2]atomic.Int64
	var wg sync.WaitGroup
	refused := make(chan Reason, 1)
	for w := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; !stop.Load(); n++ {
				k := *current.Load()
				// Half of them are warm, half are new.
				sub := fmt.Sprintf("%d-%d", w, n*(n%2))
				if r := verdict(s, clock, k.token(good(map[string]any{"sub": sub}))); r != "" {
					select {
					case refused <- r:
					default:
					}
					return
				}
				if k.kid == a.kid {
					verified[0].Add(1)
				} else {
					verified[1].Add(1)
				}
				runtime.Gosched()
			}
		}()
	}
	reach := func(n int, more int64) {
		t.Helper()
		target := verified[n].Load() + more
		deadline := time.Now().Add(patience)
		for verified[n].Load() < target && len(refused) == 0 {
			if time.Now().After(deadline) {
				t.Fatal("nothing is verified any more")
			}
			runtime.Gosched()
		}
	}
	reach(0, 200)
	srv.answer(serve(jwks(a.jwk(nil), b.jwk(nil))))
	reach(0, 200)
	current.Store(&b) // signed with at once, long before the next planned fetch
	reach(1, 200)
	srv.answer(serve(jwks(b.jwk(nil))))
	reach(1, 200)
	clock.advance(10 * time.Minute) // the planned fetch sees B alone
	reach(1, 400)
	stop.Store(true)
	wg.Wait()
	if len(refused) > 0 {
		t.Errorf("a valid token was refused: %s", <-refused)
	}
	if n := srv.requests.Load(); n != 3 {
		t.Errorf("%d fetches, want the first, one for the new kid and a planned one", n)
	}
	t.Logf("%d tokens of A, %d of B", verified[0].Load(), verified[1].Load())
}

func TestCloseEndsFetchingAndKeepsTheKeys(t *testing.T) {
	es := testKeys()["ES256"]
	entered := make(chan struct{}, 1)
	srv := newKeyServer(t, serve(jwks(es.jwk(nil))))
	s, i, clock, log := startRemote(t, srv, "")
	next := clock.planned(t)
	srv.answer(func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done() // until the client hangs up
	})
	clock.advance(next)
	receive(t, entered, "a fetch to begin")
	closed := make(chan error, 1)
	go func() { closed <- i.Close() }()
	if err := receive(t, closed, "Close"); err != nil {
		t.Error(err)
	}
	if got := verdict(s, clock, es.token(good(nil))); got != "" {
		t.Errorf("a request of the old configuration: %q", got)
	}
	n := srv.requests.Load()
	if got := verdict(s, clock, otherES256().token(good(nil))); got != TokenInvalid {
		t.Errorf("an unknown kid after Close: %q", got)
	}
	if srv.requests.Load() != n {
		t.Error("fetched after Close")
	}
	if strings.Contains(log.String(), "level=WARN") {
		t.Errorf("Close was logged as a failure: %s", log)
	}
	if err := i.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestHS256IsVerifiedWhileTheKeySetIsAway(t *testing.T) {
	srv := newKeyServer(t, status(http.StatusInternalServerError))
	clock := newClock()
	cfg := remoteConfig(srv.URL)
	cfg.HMACSecret, cfg.Algorithms = testSecret, []string{"ES256", "HS256"}
	s := newSet(t, startIssuer(t, cfg, Options{Now: clock.Now, After: clock.After}))
	clock.planned(t)
	if got := verdict(s, clock, testKeys()["HS256"].token(good(nil))); got != "" {
		t.Errorf("HS256: %q", got)
	}
	if got := verdict(s, clock, signer{alg: "HS256", priv: []byte("x")}.token(good(nil))); got != TokenInvalid {
		t.Errorf("wrong secret: %q", got)
	}
	if got := verdict(s, clock, testKeys()["ES256"].token(good(nil))); got != IssuerUnavailable {
		t.Errorf("ES256: %q", got)
	}
}

func TestEmptyKeySetIsAnAnswer(t *testing.T) {
	// Supabase publishes this while a project signs with its shared secret.
	srv := newKeyServer(t, serve(`{"keys":[]}`))
	s, i, clock, _ := startRemote(t, srv, "")
	clock.planned(t)
	if st := i.Status(clock.Now()); !st.Usable {
		t.Errorf("%+v", st)
	}
	if got := verdict(s, clock, testKeys()["ES256"].token(good(nil))); got != TokenInvalid {
		t.Error(got)
	}
}

func TestSecondStartDoesNothing(t *testing.T) {
	srv := newKeyServer(t, serve(jwks()))
	_, i, clock, _ := startRemote(t, srv, "")
	clock.planned(t)
	if err := i.Start(context.Background()); err != nil {
		t.Error(err)
	}
	if n := srv.requests.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestRealTimersAndTheDefaultTransportServe(t *testing.T) {
	es := testKeys()["ES256"]
	srv := newKeyServer(t, serve(jwks(es.jwk(nil))))
	s := newSet(t, startIssuer(t, remoteConfig(srv.URL), Options{HTTPClient: &http.Client{}}))
	now := time.Now()
	tok := es.token(good(map[string]any{"iat": now.Unix(), "exp": now.Unix() + 60}))
	if _, d := s.Verify(context.Background(), now, tok, nil); d != nil {
		t.Error(d)
	}
}

func TestRefusedKeysAreLoggedOnceWithoutTheirContents(t *testing.T) {
	es := testKeys()["ES256"]
	secret := b64([]byte("a-symmetric-secret-in-a-jwks"))
	srv := newKeyServer(t, serve(jwks(es.jwk(nil), map[string]any{"kty": "oct", "k": secret})))
	_, i, clock, log := startRemote(t, srv, "")
	clock.advance(clock.planned(t))
	clock.planned(t)
	if text := log.String(); strings.Count(text, "some of the issuer's keys are not used") != 1 || strings.Contains(text, secret) {
		t.Errorf("%s", text)
	}
	if st := i.Status(clock.Now()).Sources[0]; st.Keys != 1 || st.Fetches != 2 {
		t.Errorf("%+v", st)
	}
}
