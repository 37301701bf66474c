package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// rig is a gate on a real keystore, driven without a network.
type rig struct {
	app  *App
	gate *Gate
	keys []CreatedKey
}

// newRig makes a gate from a Caddyfile's global block and directive.
func newRig(tb testing.TB, global, directive string, keys ...KeyRequest) *rig {
	tb.Helper()
	tb.Setenv("HIVEGATE_TEST_DB", tb.TempDir()+"/keys.db")
	text := "{\n\thivegate {\n\t\tkeystore sqlite {$HIVEGATE_TEST_DB}\n" + global + "\n\t}\n}\nhttp://localhost:8080 {\n\thivegate {\n" + directive + "\n\t}\n}\n"
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		tb.Fatal(err)
	}
	created, err := CreateKeys(context.Background(), config, keys...)
	if err != nil {
		tb.Fatal(err)
	}
	var cfg struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(config, &cfg); err != nil {
		tb.Fatal(err)
	}
	cc := &commandConfig{apps: cfg.Apps}
	app, cancel, err := cc.app()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(cancel)
	if err := app.Start(); err != nil {
		tb.Fatal(err)
	}
	g, err := cc.gate("", "GET", "/", io.Discard)
	if err != nil {
		tb.Fatal(err)
	}
	g.rt, g.log = app.runtime, app.runtime.log
	var mistake *configError
	if g.c, mistake = compileGate(g, app.runtime.settings); mistake != nil {
		tb.Fatal(mistake)
	}
	return &rig{app: app, gate: g, keys: created}
}

// request is a request as Caddy's server hands it to handlers.
func request(method, target, key string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.RequestURI = target
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "bench/1.0")
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	r = r.WithContext(connContext()(r.Context(), nil))
	srv := new(caddyhttp.Server)
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, srv)
}

const benchGlobal = `		master_key {env.HIVEGATE_TEST_KEY}
		class ai 100000000/s
		plan p {
			requests 100000000/s
		}
		default_plan p
		anonymous 100000000/s`

// BenchmarkGate measures the whole decision with all headers, the next handler
// excluded.
func BenchmarkGate(b *testing.B) {
	b.Setenv("HIVEGATE_TEST_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	routes := "routes {\n"
	for i := range 300 {
		routes += fmt.Sprintf("GET /r%d/{id}/x a:read class=ai\n", i)
	}
	routes += "GET /pub public\n}"
	rg := newRig(b, benchGlobal, routes, KeyRequest{Name: "bench", Owner: "o", Plan: "p", Scopes: []string{"a:read"}},
		KeyRequest{Name: "poor", Owner: "q", Plan: "p", Scopes: []string{"b:read"}})
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		return nil
	})
	for _, c := range []struct{ name, target, key string }{
		{"key", "/r7/42/x", rg.keys[0].Key},
		{"public", "/pub", ""},
		{"403", "/r7/42/x", rg.keys[1].Key},
		{"401malformed", "/r7/42/x", "hive_sk_nothing"},
		{"401missing", "/r7/42/x", ""},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := request(http.MethodGet, c.target, c.key)
			auth := r.Header["Authorization"]
			w := &nullWriter{h: make(http.Header)}
			vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
			repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
			fresh := *repl
			b.ReportAllocs()
			for b.Loop() {
				delete(vars, gateVar)
				*repl = fresh // each request has a replacer of its own
				if auth != nil {
					r.Header["Authorization"] = auth
				}
				clear(w.h)
				if err := rg.gate.ServeHTTP(w, r, next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type nullWriter struct{ h http.Header }

func (w *nullWriter) Header() http.Header         { return w.h }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *nullWriter) WriteHeader(int)             {}
