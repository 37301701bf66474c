package caddymodule

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/crypto/bcrypt"

	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

// Two names for two things: BenchmarkDecision goes from the clean-up to the
// limits, BenchmarkWithHeaders through all of ServeHTTP, with every header of
// request and answer. The next handler does nothing in both.

// gridGlobal is a plan nobody exhausts, one that refuses all, and no budget for
// bad keys, so that each of them is refused for what it is.
const gridGlobal = benchGlobal + `
		auth_failures 100000000/s
		plan none {
			requests 0/m
		}`

// benchIssuer takes what signBench makes.
const benchIssuer = `
		issuer bench {
			iss https://abc.supabase.co/auth/v1
			aud authenticated
			hmac_secret {env.HIVEGATE_TEST_SECRET}
			algorithms HS256
			role_claim role
			role authenticated a:read
			plan p
		}`

// grid is a gate with some routes, and the callers of the benchmarks.
type grid struct {
	*rig
	token string
}

func newGrid(b *testing.B, routes int) *grid {
	b.Helper()
	b.Setenv("HIVEGATE_TEST_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	b.Setenv("HIVEGATE_TEST_SECRET", jwtBenchSecret)
	var table strings.Builder
	table.WriteString("routes {\nGET /pub public\n")
	for i := range routes - 1 {
		fmt.Fprintf(&table, "GET /r%d/{id}/x a:read class=ai\n", i)
	}
	rg := newRig(b, gridGlobal+benchIssuer, table.String()+"}",
		KeyRequest{Name: "good", Owner: "o", Plan: "p", Scopes: []string{"a:read"}},
		KeyRequest{Name: "poor", Owner: "q", Plan: "p", Scopes: []string{"b:read"}},
		KeyRequest{Name: "spent", Owner: "r", Plan: "none", Scopes: []string{"a:read"}})
	// Lines of refusals are made, as in a server, and written nowhere.
	rg.gate.log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zapcore.InfoLevel))
	return &grid{rig: rg, token: signBench(b)}
}

// gridCase is one kind of request, and what becomes of it.
type gridCase struct {
	name, target string
	credentials  func(g *grid) []string // they take turns; nil: none
	reason       refusal.Reason         // empty: allowed
}

func gridCases() []gridCase {
	const target = "/r7/42/x"
	return []gridCase{
		{"key", target, func(g *grid) []string { return []string{g.keys[0].Key} }, ""},
		{"jwt", target, func(g *grid) []string { return []string{g.token} }, ""},
		{"public", "/pub", nil, ""},
		{"401-malformed", target, func(*grid) []string { return []string{"hive_sk_" + strings.Repeat("0", 48)} }, refusal.ReasonAPIKeyInvalid},
		{"401-unknown", target, func(*grid) []string { return unknownKeys() }, refusal.ReasonAPIKeyInvalid},
		{"403", target, func(g *grid) []string { return []string{g.keys[1].Key} }, refusal.ReasonInsufficientScope},
		{"429", target, func(g *grid) []string { return []string{g.keys[2].Key} }, refusal.ReasonRateLimited},
	}
}

// unknownKeys are well-formed keys that nobody has: 200,000, which is more than are
// remembered to be unknown at any time.
func unknownKeys() []string {
	keys := make([]string, 200_000)
	for i := range keys {
		keys[i], _ = keystore.DefaultFormat().Generate()
	}
	return keys
}

// caller sends one request again and again, from one goroutine.
type caller struct {
	g     *grid
	r     *http.Request
	sent  http.Header // what each request has by itself
	auth  []string
	vars  map[string]any
	repl  *caddy.Replacer
	fresh caddy.Replacer
	w     *nullWriter
	x     *exchange
}

func (g *grid) caller(target string) *caller {
	c := &caller{g: g, r: request(http.MethodGet, target, ""), w: &nullWriter{h: make(http.Header)}, auth: []string{""}}
	c.sent = c.r.Header.Clone()
	c.vars, _ = c.r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	c.repl, _ = c.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	c.fresh = *c.repl
	c.x = &exchange{g: g.gate, r: c.r, scratch: takeScratch()}
	c.x.rt = g.gate.rt
	return c
}

func (c *caller) present(credential string) {
	if credential != "" {
		c.auth[0] = credential
		c.r.Header["Authorization"] = c.auth
	}
}

// serve is a whole request. Its headers are those that a client sends: the gate
// removes the credential and adds its own.
func (c *caller) serve() error {
	sent := c.r.Header["Authorization"]
	clear(c.r.Header)
	maps.Copy(c.r.Header, c.sent)
	if sent != nil {
		c.r.Header["Authorization"] = sent
	}
	delete(c.vars, gateVar)
	*c.repl = c.fresh // each request has a replacer of its own
	clear(c.w.h)
	return c.g.gate.ServeHTTP(c.w, c.r, toNowhere)
}

// decide is the part of it before any header is written.
func (c *caller) decide() *refusal.Refusal {
	x := c.x
	x.principal, x.entry, x.route, x.scratch.address = nil, nil, nil, ""
	x.now = time.Now()
	x.loginHeaders = x.g.c.cleaner.Clean(x.r.Header, false)
	if ref := x.checkTransport(); ref != nil {
		return ref
	}
	public, ref := x.lookUp()
	if ref == nil && !public {
		ref = x.authenticate()
	}
	if ref == nil {
		ref = x.limit()
	}
	return ref
}

func BenchmarkDecision(b *testing.B) {
	eachCase(b, func(b *testing.B, c *caller, sent []string, want refusal.Reason) {
		i := 0
		for b.Loop() {
			i++
			c.present(sent[i%len(sent)])
			ref := c.decide()
			if ref == nil && want != "" || ref != nil && ref.Reason != want {
				b.Fatalf("%v instead of %q", ref, want)
			}
		}
	})
}

func BenchmarkWithHeaders(b *testing.B) {
	eachCase(b, func(b *testing.B, c *caller, sent []string, want refusal.Reason) {
		i := 0
		for b.Loop() {
			i++
			c.present(sent[i%len(sent)])
			if err := c.serve(); err != nil {
				b.Fatal(err)
			}
		}
		if got := c.w.h.Get("X-Hivegate-Reason"); got != string(want) {
			b.Fatalf("%q instead of %q", got, want)
		}
	})
}

func eachCase(b *testing.B, run func(b *testing.B, c *caller, sent []string, want refusal.Reason)) {
	for _, routes := range []int{10, 300, 3000} {
		g := newGrid(b, routes)
		for _, k := range gridCases() {
			b.Run(fmt.Sprintf("%s/routes=%d", k.name, routes), func(b *testing.B) {
				sent := []string{""}
				if k.credentials != nil {
					sent = k.credentials(g)
					for i := range sent {
						sent[i] = "Bearer " + sent[i]
					}
				}
				c := g.caller(k.target)
				b.ReportAllocs()
				run(b, c, sent, k.reason)
			})
		}
	}
}

// BenchmarkParallel is to be run with -cpu 1,2: the same caller on all cores, and
// one caller on each.
func BenchmarkParallel(b *testing.B) {
	g := newGrid(b, 300)
	keys := g.fill(b, 64, 1)
	for _, c := range []struct {
		name string
		keys []string
	}{{"one-key", keys[:1]}, {"a-key-each", keys}, {"one-token", []string{g.token}}} {
		b.Run(c.name, func(b *testing.B) {
			var n atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				who := g.caller("/r7/42/x")
				auth := "Bearer " + c.keys[int(n.Add(1))%len(c.keys)]
				for pb.Next() {
					who.present(auth)
					if err := who.serve(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkScopes: keys that hold 1 to 1,000 scopes, the last of which is needed.
func BenchmarkScopes(b *testing.B) {
	g := newGrid(b, 300)
	for _, n := range []int{1, 10, 100, 1000} {
		key := g.fill(b, 1, n)[0]
		key = "Bearer " + key
		b.Run(fmt.Sprintf("scopes=%d", n), func(b *testing.B) {
			c := g.caller("/r7/42/x")
			b.ReportAllocs()
			for b.Loop() {
				c.present(key)
				if err := c.serve(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkKeys: as many keys in the store, all of which have been seen and are in
// memory where that holds them (100,000), and take turns. Of a million ten
// thousand take turns. HIVEGATE_BENCH=full adds the large ones, which take a minute
// to make.
func BenchmarkKeys(b *testing.B) {
	sizes := []struct{ stored, used int }{{100, 100}, {10_000, 10_000}}
	if os.Getenv("HIVEGATE_BENCH") == "full" {
		sizes = append(sizes, []struct{ stored, used int }{{90_000, 90_000}, {1_000_000, 10_000}}...)
	}
	for _, size := range sizes {
		g := newGrid(b, 300)
		keys := g.fill(b, size.stored, 1)[:size.used]
		for i := range keys {
			keys[i] = "Bearer " + keys[i]
		}
		c := g.caller("/r7/42/x")
		for _, k := range keys {
			c.present(k)
			if err := c.serve(); err != nil || c.w.h["X-Hivegate-Reason"] != nil {
				b.Fatal(err, c.w.h)
			}
		}
		b.Run(fmt.Sprintf("stored=%d/used=%d", size.stored, size.used), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i = (i + 7919) % len(keys) // no two neighbours
				c.present(keys[i])
				if err := c.serve(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill puts keys into the store directly, with stored digests and a hash of
// nothing, each with an owner of its own and some scopes.
func (g *grid) fill(b *testing.B, n, scopes int) []string {
	b.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("none of them"), bcrypt.MinCost)
	if err != nil {
		b.Fatal(err)
	}
	var held []string
	for i := range scopes - 1 {
		held = append(held, fmt.Sprintf("s%d:read", i))
	}
	held = append(held, "a:read")
	opened := g.app.runtime.keys.ready.Load()
	keys := make([]string, n)
	for done := 0; done < n; {
		recs := make([]*keystore.Record, min(50_000, n-done))
		for i := range recs {
			key, id := keystore.DefaultFormat().Generate()
			own := bytes.Clone(hash)
			copy(own[len(own)-len(id)-1:], id[:])
			keys[done+i] = key
			recs[i] = &keystore.Record{
				ID: id, Name: "bench", Prefix: keystore.DefaultFormat().Display(id), Owner: "owner-" + id.String(), Scopes: held, Plan: "p",
				CreatedAt: time.Now(), Secrets: []keystore.Secret{{Hash: own, Digest: opened.crypto.StoredDigest(key)}},
			}
		}
		slices.SortFunc(recs, func(a, b *keystore.Record) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		if err := opened.store.Create(b.Context(), keystore.Change{Action: "create", Actor: "command", At: time.Now()}, recs...); err != nil {
			b.Fatal(err)
		}
		done += len(recs)
	}
	return keys
}

// signBench makes a token of the grid's issuer.
func signBench(b *testing.B) string {
	b.Helper()
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": "https://abc.supabase.co/auth/v1", "aud": "authenticated", "sub": "user-1", "role": "authenticated",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "email": "user@example.com", "aal": "aal1",
		"session_id":    "0f9e8d7c-6b5a-4e1d-a0c9-60f35e2c1a7b",
		"app_metadata":  map[string]any{"provider": "email", "providers": []string{"email"}},
		"user_metadata": map[string]any{"full_name": "A User", "avatar_url": "https://example.com/a.png"},
	}).SignedString([]byte(jwtBenchSecret))
	if err != nil {
		b.Fatal(err)
	}
	return text
}
