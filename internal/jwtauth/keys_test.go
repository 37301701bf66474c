package jwtauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
)

// weakRSA is a modulus of so many bits; no private key is needed to refuse it.
func weakRSA(bits int) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
}

func TestJWKsThatMustNotVerifyAreLeftOutAndTheOthersUsed(t *testing.T) {
	k := testKeys()
	es, rs, ed := k["ES256"], k["RS256"], k["EdDSA"]
	off := es.jwk(nil)
	off["y"] = off["x"]
	for name, bad := range map[string]map[string]any{
		"use enc":                 es.jwk(map[string]any{"use": "enc"}),
		"use SIG":                 es.jwk(map[string]any{"use": "SIG"}),
		"use a list":              es.jwk(map[string]any{"use": []string{"sig"}}),
		"use empty":               es.jwk(map[string]any{"use": ""}),
		"key_ops sign alone":      es.jwk(map[string]any{"use": nil, "key_ops": []string{"sign"}}),
		"key_ops empty":           es.jwk(map[string]any{"use": nil, "key_ops": []string{}}),
		"key_ops a text":          es.jwk(map[string]any{"use": nil, "key_ops": "verify"}),
		"key_ops encrypt":         rs.jwk(map[string]any{"use": nil, "key_ops": []string{"encrypt", "wrapKey"}}),
		"alg of encryption":       rs.jwk(map[string]any{"alg": "RSA-OAEP-256"}),
		"alg of another kind":     es.jwk(map[string]any{"alg": "RS256"}),
		"alg of another curve":    es.jwk(map[string]any{"alg": "ES384"}),
		"alg HS256 on an RSA key": rs.jwk(map[string]any{"alg": "HS256"}),
		"alg none":                es.jwk(map[string]any{"alg": "none"}),
		"alg a number":            es.jwk(map[string]any{"alg": 1}),
		"kid a number":            es.jwk(map[string]any{"kid": 1}),
		"kid too long":            es.jwk(map[string]any{"kid": strings.Repeat("k", 257)}),
		"symmetric":               {"kty": "oct", "k": b64([]byte(testSecret)), "kid": "s", "alg": "HS256"},
		"EC private":              es.jwk(map[string]any{"d": b64(make([]byte, 32))}),
		"RSA private":             rs.jwk(map[string]any{"d": "AQ", "p": "AQ", "q": "AQ"}),
		"OKP private":             ed.jwk(map[string]any{"d": b64(make([]byte, 32))}),
		"RSA of 1024 bits":        signer{kid: "w", pub: weakRSA(1024)}.jwk(nil),
		"RSA of 2047 bits":        signer{kid: "w", pub: weakRSA(2047)}.jwk(nil),
		"RSA of 16384 bits":       signer{kid: "w", pub: weakRSA(16384)}.jwk(nil),
		"RSA with exponent 1":     rs.jwk(map[string]any{"e": "AQ"}),
		"RSA with an even e":      rs.jwk(map[string]any{"e": "Ag"}),
		"RSA without n":           rs.jwk(map[string]any{"n": nil}),
		"point not on its curve":  off,
		"point of another curve":  es.jwk(map[string]any{"crv": "P-384", "alg": "ES384"}),
		"curve of no algorithm":   es.jwk(map[string]any{"crv": "secp256k1", "alg": nil}),
		"EC without y":            es.jwk(map[string]any{"y": nil}),
		"X25519":                  ed.jwk(map[string]any{"crv": "X25519", "alg": nil}),
		"Ed448":                   ed.jwk(map[string]any{"crv": "Ed448", "alg": nil}),
		"Ed25519 cut":             ed.jwk(map[string]any{"x": "AAAA"}),
		"kty unknown":             es.jwk(map[string]any{"kty": "PQC"}),
		"kty missing":             es.jwk(map[string]any{"kty": nil}),
		"kty as KTY":              es.jwk(map[string]any{"kty": nil, "KTY": "EC"}),
	} {
		keys, refused, err := parseJWKS([]byte(jwks(bad, rs.jwk(nil))))
		if err != nil || len(refused) != 1 || len(keys) != 1 || keys[0].family != familyRSA {
			t.Errorf("%s: %d keys, refused %v, error %v", name, len(keys), refused, err)
		}
	}
}

func TestJWKsWithOrWithoutHintsAreTaken(t *testing.T) {
	k := testKeys()
	keys, refused, err := parseJWKS([]byte(jwks(
		k["ES256"].jwk(map[string]any{"use": nil, "alg": nil, "kid": nil}),
		k["RS256"].jwk(map[string]any{"use": nil, "key_ops": []string{"verify"}, "x5c": nil, "ext": true}),
		k["EdDSA"].jwk(map[string]any{"alg": "Ed25519"}),
		k["ES512"].jwk(nil),
	)))
	if err != nil || len(refused) > 0 || len(keys) != 4 {
		t.Fatalf("%d keys, %v, %v", len(keys), refused, err)
	}
}

func TestAlgOfAJWKBindsItsTokens(t *testing.T) {
	k := testKeys()
	for _, tc := range []struct {
		jwkAlg, tokenAlg string
		ok               bool
	}{
		{"RS256", "RS256", true}, {"RS256", "PS256", false}, {"PS256", "RS256", false}, {"PS256", "PS256", true}, {"RS512", "RS256", false},
	} {
		cfg := Config{
			Name: "x", Iss: []string{"https://main.example/auth/v1"}, Algorithms: []string{"RS256", "PS256", "RS512"},
			JWKS: []string{writeFile(t, "k.json", jwks(k["RS256"].jwk(map[string]any{"alg": tc.jwkAlg})))},
		}
		s := newSet(t, startIssuer(t, cfg, Options{}))
		_, d := s.Verify(context.Background(), t0, k[tc.tokenAlg].token(good(nil)), nil)
		if (d == nil) != tc.ok {
			t.Errorf("alg %s of the key, %s of the token: %v", tc.jwkAlg, tc.tokenAlg, d)
		}
	}
}

func TestPSSSaltMustHaveTheHashsLength(t *testing.T) {
	rs := testKeys()["PS256"]
	key, err := newPublicKey(rs.pub, "", "")
	if err != nil {
		t.Fatal(err)
	}
	for salt, ok := range map[int]bool{32: true, 0: false, 20: false, 64: false} {
		m := strictPSS("PS256", 5) // crypto.SHA256
		digest := sha256Of("header.claims")
		sig, err := rsa.SignPSS(rand.Reader, rs.priv.(*rsa.PrivateKey), 5, digest, &rsa.PSSOptions{SaltLength: salt, Hash: 5})
		if salt == 0 { // 0 means "auto" in the options of crypto/rsa
			sig, err = rsa.SignPSS(rand.Reader, rs.priv.(*rsa.PrivateKey), 5, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Verify("header.claims", sig, key.key); (err == nil) != ok {
			t.Errorf("salt of %d bytes: %v", salt, err)
		}
	}
}

func TestPEMKeysVerifyWhateverTheKid(t *testing.T) {
	k := testKeys()
	cfg := Config{
		Name: "pem", Iss: []string{"https://main.example/auth/v1"}, Algorithms: []string{"ES256", "RS256", "EdDSA"},
		PublicKeys: []string{
			writeFile(t, "a.pem", pemText(k["ES256"].pub)+pemText(k["EdDSA"].pub)),
			writeFile(t, "b.pem", certificate(t, k["RS256"])),
			writeFile(t, "c.pem", string(pem.EncodeToMemory(&pem.Block{
				Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(k["RS256"].pub.(*rsa.PublicKey)),
			}))),
		},
	}
	s := newSet(t, startIssuer(t, cfg, Options{}))
	for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
		if _, d := s.Verify(context.Background(), t0, k[alg].token(good(nil)), nil); d != nil {
			t.Errorf("%s: %v", alg, d)
		}
	}
	if _, d := s.Verify(context.Background(), t0, otherES256().token(good(nil)), nil); d == nil || !d.Count {
		t.Errorf("another key: %v", d)
	}
}

func certificate(t *testing.T, s signer) string {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: t0.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, s.pub, s.priv)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestKeyFilesThatCannotBeUsedFailTheStart(t *testing.T) {
	k := testKeys()
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	priv, err := x509.MarshalPKCS8PrivateKey(k["ES256"].priv)
	if err != nil {
		t.Fatal(err)
	}
	weak := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(weakRSA(1024))}))
	for _, tc := range []struct{ name, option, text, want string }{
		{"no PEM", "public_key", "hello", "no PEM block"},
		{"a private key", "public_key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: priv})), "not a public key"},
		{"RSA of 1024 bits", "public_key", weak, "1024"},
		{"P-224", "public_key", pemText(&p224.PublicKey), "P-256"},
		{"of no allowed algorithm", "public_key", pemText(k["EdDSA"].pub), "none of the allowed algorithms"},
		{"rubbish after the key", "public_key", pemText(k["ES256"].pub) + "rubbish", "no PEM block follows"},
		{"damaged", "public_key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "parse public key"},
		{"no JWK set", "jwks", "{}", "JWK set"},
		{"a symmetric JWK", "jwks", jwks(map[string]any{"kty": "oct", "k": "AAAA"}), "symmetric"},
		{"a weak JWK", "jwks", jwks(signer{kid: "w", pub: weakRSA(1024)}.jwk(nil)), "too small"},
		{"over 1 MiB", "jwks", jwks() + strings.Repeat(" ", 1<<20), "1 MiB"},
	} {
		cfg := Config{Name: "x", Iss: []string{"x"}, Algorithms: []string{"ES256", "RS256"}}
		file := writeFile(t, "key", tc.text)
		if tc.option == "jwks" {
			cfg.JWKS = []string{file}
		} else {
			cfg.PublicKeys = []string{file}
		}
		i, err := NewIssuer(cfg, Options{})
		if err != nil {
			t.Errorf("%s: found before the start: %v", tc.name, err)
			continue
		}
		err = i.Start(context.Background())
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.option) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	cfg := Config{Name: "x", Iss: []string{"x"}, Algorithms: []string{"ES256"}, PublicKeys: []string{"/does/not/exist.pem"}}
	i, err := NewIssuer(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Start(context.Background()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
