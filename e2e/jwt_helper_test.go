package e2e

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
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// tokenKey is a private key that signs tokens, with its kid.
type tokenKey struct {
	alg, kid  string
	priv, pub any
}

// hmacSecret is the shared secret of the tests; no output may hold it.
const hmacSecret = "shared-secret-of-the-tests-0123456789-abcdef"

var tokenKeys = sync.OnceValue(func() map[string]tokenKey {
	book.add("the shared secret", hmacSecret)
	book.add("the static secret key", staticSecret)
	m := map[string]tokenKey{"HS256": {"HS256", "", []byte(hmacSecret), nil}}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		m[alg] = newECKey(alg, "kid-"+alg, curve)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	m["RS256"] = tokenKey{"RS256", "kid-RSA", r, &r.PublicKey}
	m["PS256"] = tokenKey{"PS256", "kid-RSA", r, &r.PublicKey}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	m["EdDSA"] = tokenKey{"EdDSA", "kid-EdDSA", priv, pub}
	return m
})

func newECKey(alg, kid string, curve elliptic.Curve) tokenKey {
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return tokenKey{alg, kid, k, &k.PublicKey}
}

// es256 makes a key that no issuer knows until a set with it is published.
func es256(kid string) tokenKey { return newECKey("ES256", kid, elliptic.P256()) }

func b64u(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign returns the signature of a signing input.
func (k tokenKey) sign(input string) []byte {
	sig, err := jwt.GetSigningMethod(k.alg).Sign(input, k.priv)
	if err != nil {
		panic(err)
	}
	return sig
}

// compact signs a header and claims that are given as JSON text.
func (k tokenKey) compact(header, claims string) string {
	input := b64u([]byte(header)) + "." + b64u([]byte(claims))
	return input + "." + b64u(k.sign(input))
}

func (k tokenKey) header() string {
	if k.kid == "" {
		return fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, k.alg)
	}
	return fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":%q}`, k.alg, k.kid)
}

// token signs claims under the usual header.
func (k tokenKey) token(claims string) string { return k.compact(k.header(), claims) }

// jwk is the public JWK, with members replaced, added, or removed by nil.
func (k tokenKey) jwk(changes map[string]any) map[string]any {
	m := map[string]any{"kid": k.kid, "use": "sig"}
	switch p := k.pub.(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64u(p.N.Bytes()), "AQAB"
	case *ecdsa.PublicKey:
		raw, err := p.Bytes() // 4, x, y
		if err != nil {
			panic(err)
		}
		half := (len(raw) - 1) / 2
		m["kty"], m["crv"], m["alg"] = "EC", p.Params().Name, k.alg
		m["x"], m["y"] = b64u(raw[1:1+half]), b64u(raw[1+half:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["alg"], m["x"] = "OKP", "Ed25519", "EdDSA", b64u(p)
	}
	return changed(m, changes)
}

func jwkSet(keys ...map[string]any) string {
	b, err := json.Marshal(map[string]any{"keys": append([]map[string]any{}, keys...)})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// pemOf is the public key as a PEM block.
func (k tokenKey) pemOf() string {
	der, err := x509.MarshalPKIXPublicKey(k.pub)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

const mainIss = "https://main.example/auth/v1"

// asIs stands in claims as it is written.
func asIs(text string) json.RawMessage { return json.RawMessage(text) }

// in is seconds from now, as claims have it.
func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// claims is what the issuer "main" takes, with members replaced, added, or
// removed by nil.
func claims(changes map[string]any) string {
	m := changed(map[string]any{
		"iss": mainIss, "aud": "authenticated", "sub": "user-1", "role": "authenticated",
		"iat": in(-10 * time.Second), "exp": in(time.Hour),
	}, changes)
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte(',')
		}
		text, ok := m[name].(json.RawMessage)
		if !ok {
			var err error
			if text, err = json.Marshal(m[name]); err != nil {
				panic(err)
			}
		}
		fmt.Fprintf(&b, "%q:%s", name, text)
	}
	return "{" + b.String() + "}"
}

// with is claims with one member changed.
func with(name string, v any) string { return claims(map[string]any{name: v}) }

func changed(m, changes map[string]any) map[string]any {
	for k, v := range changes {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	return m
}

// bearer sends a token as Authorization.
func bearer(token string) change { return header("Authorization", "Bearer "+token) }

// keyServer publishes a JWK set, as an issuer does, and counts who asks.
type keyServer struct {
	url     string
	srv     *httptest.Server
	fetches atomic.Int64
	answer  atomic.Pointer[http.HandlerFunc]
}

func newKeyServer(t testing.TB, doc string) *keyServer {
	t.Helper()
	s := &keyServer{}
	s.publish(doc)
	s.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fetches.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(func() {
		s.srv.CloseClientConnections()
		s.srv.Close()
	})
	s.url = s.srv.URL + "/jwks.json"
	return s
}

// publish answers with a document from now on.
func (s *keyServer) publish(doc string) {
	s.do(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "public, max-age=600")
		_, _ = w.Write([]byte(doc))
	})
}

func (s *keyServer) do(h http.HandlerFunc) { s.answer.Store(&h) }

// mainIssuer is an issuer block with a key of every kind, from a file that
// mainFiles writes.
const mainIssuer = `
	issuer main {
		iss ` + mainIss + `
		aud authenticated
		jwks DIR/jwks.json
		hmac_secret {env.JWT_SECRET}
		algorithms ES256 ES384 ES512 RS256 PS256 EdDSA HS256
		scopes_claim scope
		role_claim role
		role authenticated farms:read
		role service_role *
		server_only service_role
		owner_claim app_metadata.org
		plan_claim app_metadata.plan
		static_key sb_publishable_0123456789 role authenticated
		static_key sb_secret_0123456789abcdef role service_role
	}
`

const (
	publishable  = "sb_publishable_0123456789"
	staticSecret = "sb_secret_0123456789abcdef"
)

// mainKeys are the published keys of main.
func mainKeys() []map[string]any {
	var out []map[string]any
	for _, alg := range []string{"ES256", "ES384", "ES512", "RS256", "EdDSA"} {
		out = append(out, tokenKeys()[alg].jwk(nil))
	}
	return out
}

func mainFiles() map[string]string { return map[string]string{"jwks.json": jwkSet(mainKeys()...)} }

// mainConfig is a gate that takes main's tokens.
func mainConfig(global, gate string) config {
	return config{
		global: cheap + mainIssuer + global, gate: gate, files: mainFiles(),
		env: []string{"JWT_SECRET=" + hmacSecret},
	}
}

const farmRoutes = `
	routes {
		GET /healthz public
		GET,POST /farms farms:read
		DELETE /farms farms:write
		GET /me authenticated
		GET /admin admin:read
	}
`
