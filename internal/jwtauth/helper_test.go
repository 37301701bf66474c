package jwtauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// t0 is "now" in tests that need no other.
var t0 = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const testSecret = "super-secret-jwt-token-with-at-least-32-characters-long"

// signer is a private key with its JWK.
type signer struct {
	alg  string
	kid  string
	priv any // for golang-jwt's Sign
	pub  any
}

var testKeys = sync.OnceValue(func() map[string]signer {
	m := map[string]signer{}
	ec := func(alg string, c elliptic.Curve) {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			panic(err)
		}
		m[alg] = signer{alg, "kid-" + alg, k, &k.PublicKey}
	}
	ec("ES256", elliptic.P256())
	ec("ES384", elliptic.P384())
	ec("ES512", elliptic.P521())
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	m["RS256"] = signer{"RS256", "kid-RSA", r, &r.PublicKey}
	m["PS256"] = signer{"PS256", "kid-RSA", r, &r.PublicKey}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	m["EdDSA"] = signer{"EdDSA", "kid-EdDSA", priv, pub}
	m["HS256"] = signer{"HS256", "", []byte(testSecret), nil}
	return m
})

// other is a second key of a kind, which no issuer knows.
var otherES256 = sync.OnceValue(func() signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return signer{"ES256", "kid-other", k, &k.PublicKey}
})

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// compact signs a header and claims that are given as JSON text.
func (s signer) compact(header, claims string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(claims))
	return signed + "." + b64(s.sign(signed))
}

func (s signer) sign(signed string) []byte {
	sig, err := jwt.GetSigningMethod(s.alg).Sign(signed, s.priv)
	if err != nil {
		panic(err)
	}
	return sig
}

func (s signer) header() string {
	if s.kid == "" {
		return fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, s.alg)
	}
	return fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":%q}`, s.alg, s.kid)
}

// token signs claims with the usual header.
func (s signer) token(claims string) string { return s.compact(s.header(), claims) }

// jwk is the key's public JWK with members replaced or added; a nil value
// removes one.
func (s signer) jwk(changes map[string]any) map[string]any {
	m := map[string]any{"kid": s.kid, "use": "sig"}
	switch p := s.pub.(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(p.N.Bytes()), "AQAB"
	case *ecdsa.PublicKey:
		raw, err := p.Bytes() // 4, x, y
		if err != nil {
			panic(err)
		}
		half := (len(raw) - 1) / 2
		m["kty"], m["crv"], m["alg"] = "EC", p.Params().Name, s.alg
		m["x"], m["y"] = b64(raw[1:1+half]), b64(raw[1+half:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["alg"], m["x"] = "OKP", "Ed25519", "EdDSA", b64(p)
	}
	for k, v := range changes {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	return m
}

func jwks(keys ...map[string]any) string {
	if keys == nil {
		keys = []map[string]any{}
	}
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func writeFile(tb testing.TB, name, text string) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// startIssuer makes and starts an issuer, and closes it with the test.
func startIssuer(tb testing.TB, cfg Config, opts Options) *Issuer {
	tb.Helper()
	i, err := NewIssuer(cfg, opts)
	if err != nil {
		tb.Fatal(err)
	}
	if err := i.Start(context.Background()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = i.Close() })
	return i
}

func newSet(tb testing.TB, issuers ...*Issuer) *Set {
	tb.Helper()
	s, err := NewSet(issuers, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// mainConfig is an issuer with a key of every kind, kept in files.
func mainConfig(tb testing.TB) Config {
	tb.Helper()
	k := testKeys()
	set := jwks(k["ES256"].jwk(nil), k["ES384"].jwk(nil), k["ES512"].jwk(nil), k["RS256"].jwk(nil), k["EdDSA"].jwk(nil))
	return Config{
		Name: "main", Iss: []string{"https://main.example/auth/v1"}, Aud: []string{"authenticated"},
		JWKS: []string{writeFile(tb, "jwks.json", set)}, HMACSecret: testSecret,
		Algorithms:  []string{"ES256", "ES384", "ES512", "RS256", "PS256", "EdDSA", "HS256"},
		ScopesClaim: "scope", RoleClaim: "role", PlanClaim: "app_metadata.plan", OwnerClaim: "app_metadata.org",
		Roles: map[string][]string{
			"authenticated": {"crews:read", "crews:write@userId={sub}"},
			"service_role":  {"*"},
		},
		ServerOnly: []string{"service_role"}, Plan: "explorer",
		StaticKeys: []StaticKey{{"sb_publishable_abcdefgh", "authenticated"}},
	}
}

// good is a set of claims that mainConfig takes, with members replaced; a nil
// value removes one. Values that are json.RawMessage stand as they are.
func good(changes map[string]any) string {
	m := map[string]any{
		"iss": "https://main.example/auth/v1", "aud": "authenticated", "sub": "user-1",
		"role": "authenticated", "iat": t0.Unix() - 10, "exp": t0.Unix() + 3600,
	}
	for k, v := range changes {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte(',')
		}
		text, isRaw := m[name].(json.RawMessage)
		if !isRaw {
			var err error
			if text, err = json.Marshal(m[name]); err != nil {
				panic(err)
			}
		}
		fmt.Fprintf(&b, "%q:%s", name, text)
	}
	return "{" + b.String() + "}"
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func duration(d time.Duration) *Duration { v := Duration(d); return &v }

func pemText(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func p256Order() []byte { return elliptic.P256().Params().N.FillBytes(make([]byte, 32)) }

func sha256Of(s string) []byte { sum := sha256.Sum256([]byte(s)); return sum[:] }
