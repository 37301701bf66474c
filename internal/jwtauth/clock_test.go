package jwtauth

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const patience = 20 * time.Second // of a test that waits for another goroutine

// fakeClock moves when told to. Every timer that is asked for is reported on
// set, so that a test knows that a fetch has ended and when the next is due.
type fakeClock struct {
	set chan time.Duration

	mu     sync.Mutex
	now    time.Time
	timers map[*fakeTimer]struct{}
}

type fakeTimer struct {
	at time.Time
	c  chan time.Time
}

func newClock() *fakeClock {
	return &fakeClock{set: make(chan time.Duration, 1000), now: t0, timers: map[*fakeTimer]struct{}{}}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) After(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &fakeTimer{c.now.Add(d), make(chan time.Time, 1)}
	c.timers[t] = struct{}{}
	c.set <- d
	return t.c, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, t)
	}
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for t := range c.timers {
		if !t.at.After(c.now) {
			delete(c.timers, t)
			t.c <- c.now
		}
	}
}

// planned waits until the next fetch has been planned, which is when the last
// one has ended, and returns the time until then.
func (c *fakeClock) planned(t *testing.T) time.Duration {
	t.Helper()
	return receive(t, c.set, "a fetch to end")
}

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// keyServer is an issuer's JWK set endpoint.
type keyServer struct {
	*httptest.Server
	requests atomic.Int64
	handler  atomic.Pointer[http.HandlerFunc]
}

func newKeyServer(t *testing.T, h http.HandlerFunc) *keyServer {
	t.Helper()
	s := &keyServer{}
	s.answer(h)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		(*s.handler.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) answer(h http.HandlerFunc) { s.handler.Store(&h) }

func serve(doc string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		_, _ = w.Write([]byte(doc))
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// remoteConfig is an issuer with nothing but a JWK set over HTTP.
func remoteConfig(url string) Config {
	return Config{
		Name: "remote", Iss: []string{"https://main.example/auth/v1"}, JWKS: []string{url},
		Algorithms: []string{"ES256", "RS256", "EdDSA"},
	}
}
