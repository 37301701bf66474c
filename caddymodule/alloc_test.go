package caddymodule

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/limiter"
)

const allocRoutes = "routes {\nGET /r/{id}/x a:read class=ai\nGET /pub public\n}"

// TestARequestCostsFewAllocations: with all headers of request and answer, the
// caller's rights and two limits. The two of a key are its exchange and its
// placeholders.
func TestARequestCostsFewAllocations(t *testing.T) {
	t.Setenv("HIVEGATE_TEST_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	rg := newRig(t, benchGlobal, allocRoutes, KeyRequest{Name: "k", Owner: "o", Plan: "p", Scopes: []string{"a:read"}})
	for _, c := range []struct {
		name, target, key string
		most              float64
	}{
		{"key", "/r/42/x", rg.keys[0].Key, 2},
		{"public", "/pub", "", 4},
	} {
		r, w := request(http.MethodGet, c.target, c.key), &nullWriter{h: make(http.Header)}
		auth := r.Header["Authorization"]
		repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		was := *repl
		n := testing.AllocsPerRun(500, func() {
			*repl = was // each request has one of its own
			if auth != nil {
				r.Header["Authorization"] = auth
			}
			rg.pass(t, r, w, toNowhere)
		})
		if w.h["X-Ratelimit-Remaining"] == nil || r.Header["X-Auth-Kind"] == nil {
			t.Fatalf("%s: answered %v, the backend got %v", c.name, w.h, r.Header)
		}
		if n > c.most+dropped {
			t.Errorf("%s: %v allocations, want at most %v", c.name, n, c.most)
		}
	}
}

// TestADecisionCostsNoAllocation: from the clean-up to the limits, headers not
// counted.
func TestADecisionCostsNoAllocation(t *testing.T) {
	t.Setenv("HIVEGATE_TEST_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	rg := newRig(t, benchGlobal, allocRoutes, KeyRequest{Name: "k", Owner: "o", Plan: "p", Scopes: []string{"a:read"}})
	r := request(http.MethodGet, "/r/42/x", rg.keys[0].Key)
	x := &exchange{g: rg.gate, r: r, scratch: takeScratch()}
	x.rt = rg.gate.rt
	decide := func() (ref *refusal.Refusal) {
		x.principal, x.entry, x.route = nil, nil, nil
		x.now = time.Now()
		x.loginHeaders = rg.gate.c.cleaner.Clean(x.r.Header, false)
		if ref = x.checkTransport(); ref != nil {
			return ref
		}
		if _, ref = x.lookUp(); ref != nil {
			return ref
		}
		if ref = x.authenticate(); ref != nil {
			return ref
		}
		return x.limit()
	}
	if ref := decide(); ref != nil || x.principal == nil || len(x.scratch.dec.States) != 2 {
		t.Fatalf("refused with %v, principal %v, limits %v", ref, x.principal, x.scratch.dec.States)
	}
	if n := testing.AllocsPerRun(500, func() {
		if decide() != nil {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestTheSizeOfAnExchange: a byte more than this class of Go's allocator, and each
// request takes the next one.
func TestTheSizeOfAnExchange(t *testing.T) {
	if n := reflect.TypeFor[exchange]().Size(); n > 512 {
		t.Errorf("%d bytes, more than 512", n)
	}
}

// TestAScratchKeepsNothingOfItsRequest: the next one to take it finds it empty, and
// placeholders are answered without it.
func TestAScratchKeepsNothingOfItsRequest(t *testing.T) {
	t.Setenv("HIVEGATE_TEST_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	rg := newRig(t, benchGlobal, allocRoutes, KeyRequest{Name: "k", Owner: "o", Plan: "p", Scopes: []string{"a:read"}})
	r, w := request(http.MethodGet, "/r/42/x", rg.keys[0].Key), &nullWriter{h: make(http.Header)}
	var s *scratch
	rg.pass(t, r, w, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		s = w.(*exchange).scratch
		if s.entry == nil || s.subject == "" || len(s.dec.States) != 2 {
			t.Errorf("%+v", s)
		}
		return nil
	}))
	for _, kept := range []any{s.req.Demands[:2], s.dec.States[:2]} {
		for v, i := reflect.ValueOf(kept), 0; i < v.Len(); i++ {
			if !v.Index(i).IsZero() {
				t.Errorf("kept %+v", v.Index(i))
			}
		}
	}
	s.req, s.dec = limiter.Request{}, limiter.Decision{}
	if !reflect.ValueOf(*s).IsZero() {
		t.Errorf("kept %+v", *s)
	}
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	for name, want := range map[string]string{"http.auth.user.owner": "o", "http.hivegate.route": "GET /r/{id}/x", "http.hivegate.reason": ""} {
		if got, ok := repl.GetString(name); got != want || !ok {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
