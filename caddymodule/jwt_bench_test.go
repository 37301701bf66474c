package caddymodule

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/golang-jwt/jwt/v5"
)

const jwtBenchSecret = "benchmark-secret-of-more-than-32-bytes"

// jwtRig is a rig with one issuer that takes tokens of every algorithm, and
// what makes them. directive stands before the routes.
func jwtRig(tb testing.TB, directive string) (*rig, func(alg, sub string) string) {
	tb.Helper()
	dir := tb.TempDir()
	private := map[string]any{"HS256": []byte(jwtBenchSecret)}
	global := benchGlobal + `
		issuer bench {
			iss https://abc.supabase.co/auth/v1
			aud authenticated
			hmac_secret {env.HIVEGATE_TEST_SECRET}
			algorithms HS256 RS256 PS256 ES256 ES384 ES512 EdDSA
			role_claim role
			role authenticated a:read a:write@id={sub}
	`
	publish := func(name string, pub any) {
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			tb.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
			tb.Fatal(err)
		}
		global += "public_key " + file + "\n"
	}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			tb.Fatal(err)
		}
		private[alg] = k
		publish(alg, &k.PublicKey)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	private["RS256"], private["PS256"] = r, r
	publish("RSA", &r.PublicKey)
	pub, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	private["EdDSA"] = ed
	publish("EdDSA", pub)
	tb.Setenv("HIVEGATE_TEST_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	tb.Setenv("HIVEGATE_TEST_SECRET", jwtBenchSecret)
	rg := newRig(tb, global+"}\n", directive+"\nroutes {\nGET /r/{id}/x a:read class=ai\nGET /pub public\n}",
		KeyRequest{Name: "bench", Owner: "o", Plan: "p", Scopes: []string{"a:read"}})
	sign := func(alg, sub string) string {
		tok := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{
			"iss": "https://abc.supabase.co/auth/v1", "aud": "authenticated", "sub": sub, "role": "authenticated",
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "email": "user@example.com", "aal": "aal1",
			"session_id":    "0f9e8d7c-6b5a-4e1d-a0c9-60f35e2c1a7b",
			"amr":           []map[string]any{{"method": "password", "timestamp": 1772600000}},
			"app_metadata":  map[string]any{"provider": "email", "providers": []string{"email"}},
			"user_metadata": map[string]any{"full_name": "A User", "avatar_url": "https://example.com/a.png"},
		})
		text, err := tok.SignedString(private[alg])
		if err != nil {
			tb.Fatal(err)
		}
		return text
	}
	return rg, sign
}

var jwtBenchAlgorithms = []string{"HS256", "RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"}

// pass sends one request through the gate, and fails unless it goes on.
func (rg *rig) pass(tb testing.TB, r *http.Request, w *nullWriter, next caddyhttp.Handler) {
	clear(w.h)
	delete(r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any), gateVar)
	if err := rg.gate.ServeHTTP(w, r, next); err != nil {
		tb.Fatal(err)
	}
	if reason := w.h["X-Hivegate-Reason"]; reason != nil {
		tb.Fatal(reason)
	}
}

var toNowhere = caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusOK)
	return nil
})

// BenchmarkGateJWTWarm measures the whole decision for a token that is
// remembered: as Authorization, beside a required apikey, and in a cookie.
func BenchmarkGateJWTWarm(b *testing.B) {
	for _, c := range []struct {
		name, directive string
		headers         func(token string) map[string]string
	}{
		{"bearer", "", func(token string) map[string]string { return map[string]string{"Authorization": "Bearer " + token} }},
		{"bearer+apikey", "credentials {\nbearer\nheader apikey required\n}", func(token string) map[string]string {
			return map[string]string{"Authorization": "Bearer " + token, "Apikey": token}
		}},
		{"cookie", "credentials {\nbearer\ncookie sb-*-auth-token\n}", func(token string) map[string]string {
			session, err := json.Marshal(map[string]any{"access_token": token, "refresh_token": "r", "token_type": "bearer"})
			if err != nil {
				b.Fatal(err)
			}
			return map[string]string{"Cookie": "theme=dark; sb-abc-auth-token=base64-" + base64.RawURLEncoding.EncodeToString(session)}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			rg, sign := jwtRig(b, c.directive)
			r, w := request(http.MethodGet, "/r/42/x", ""), &nullWriter{h: make(http.Header)}
			sent := make(map[string][]string)
			for name, v := range c.headers(sign("ES256", "user-1")) {
				sent[name] = []string{v}
			}
			b.ReportAllocs()
			for b.Loop() {
				for name, v := range sent {
					r.Header[name] = v
				}
				rg.pass(b, r, w, toNowhere)
			}
		})
	}
}

// BenchmarkGateJWTCold measures the whole decision for tokens never seen
// before, by algorithm.
func BenchmarkGateJWTCold(b *testing.B) {
	for _, alg := range jwtBenchAlgorithms {
		b.Run(alg, func(b *testing.B) {
			rg, sign := jwtRig(b, "")
			r, w := request(http.MethodGet, "/r/42/x", ""), &nullWriter{h: make(http.Header)}
			var tokens []string
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%256 == 0 { // signing is not what is measured
					b.StopTimer()
					tokens = tokens[:0]
					for j := range 256 {
						tokens = append(tokens, "Bearer "+sign(alg, fmt.Sprintf("user-%d-%d", i, j)))
					}
					b.StartTimer()
				}
				r.Header["Authorization"] = tokens[i%256 : i%256+1]
				rg.pass(b, r, w, toNowhere)
			}
		})
	}
}

// A remembered token costs no allocation more than a remembered key does.
func TestARememberedTokenCostsNoMoreAllocationsThanAKey(t *testing.T) {
	rg, sign := jwtRig(t, "")
	measure := func(credential string) float64 {
		r, w := request(http.MethodGet, "/r/42/x", ""), &nullWriter{h: make(http.Header)}
		auth := []string{"Bearer " + credential}
		for range 100 { // until it is remembered
			r.Header["Authorization"] = auth
			rg.pass(t, r, w, toNowhere)
		}
		return testing.AllocsPerRun(1000, func() {
			r.Header["Authorization"] = auth
			rg.pass(t, r, w, toNowhere)
		})
	}
	if key, token := measure(rg.keys[0].Key), measure(sign("ES256", "user-1")); token > key+dropped {
		t.Errorf("%.0f allocations with a token, %.0f with a key", token, key)
	}
}
