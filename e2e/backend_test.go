package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// seen is one request as it reached a backend.
type seen struct {
	method, target, host, proto string
	header, trailer             http.Header
	body                        []byte
}

// backend is a small server behind the gate. It records what it is sent and
// echoes it as JSON, unless a path has a handler of its own.
type backend struct {
	name string
	addr string // host:port
	hits atomic.Int64

	mu       sync.Mutex // guards what follows
	last     *seen
	handlers map[string]http.HandlerFunc
}

func newBackend(t testing.TB, name string) *backend {
	t.Helper()
	b := &backend{name: name, handlers: map[string]http.HandlerFunc{}}
	srv := httptest.NewUnstartedServer(b)
	srv.Config.ReadHeaderTimeout = 30 * time.Second
	srv.Start()
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	b.addr = srv.Listener.Addr().String()
	return b
}

// handle gives a path a handler of its own. It runs instead of the echo.
func (b *backend) handle(path string, h http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handlers[path] = h
}

// hold makes a path keep its requests until letGo is closed or their sender is
// gone. Each tells inside that it has arrived.
func (b *backend) hold(path string) (inside <-chan struct{}, letGo chan struct{}) {
	arrived := make(chan struct{})
	letGo = make(chan struct{})
	b.handle(path, func(w http.ResponseWriter, r *http.Request) {
		select {
		case arrived <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		select {
		case <-letGo:
		case <-r.Context().Done():
			return
		}
		w.WriteHeader(http.StatusOK)
	})
	return arrived, letGo
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.hits.Add(1)
	b.mu.Lock()
	h := b.handlers[r.URL.Path]
	b.mu.Unlock()
	if h != nil {
		h(w, r)
		return
	}
	body, err := io.ReadAll(r.Body) // Trailer is filled at the end of the body
	if err != nil {
		http.Error(w, "read body: "+err.Error(), http.StatusBadRequest)
		return
	}
	s := &seen{
		method: r.Method, target: r.RequestURI, host: r.Host, proto: r.Proto,
		header: r.Header.Clone(), trailer: r.Trailer.Clone(), body: body,
	}
	b.mu.Lock()
	b.last = s
	b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"backend": b.name, "method": r.Method, "target": r.RequestURI,
		"headers": r.Header, "trailers": r.Trailer, "length": len(body),
	})
}

// got returns the last request that was echoed.
func (b *backend) got(t testing.TB) *seen {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		t.Fatalf("nothing reached the %s backend", b.name)
	}
	return b.last
}
