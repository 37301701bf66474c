package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// mint makes tokens of one issuer, with the claims of a Supabase user.
type mint struct {
	keys  map[string]any // by algorithm
	files []string       // of the public keys
	made  int
}

func (b *bed) newMint() (*mint, error) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make an RSA key: %w", err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make an EC key: %w", err)
	}
	m := &mint{keys: map[string]any{"HS256": []byte(hmacSecret), "RS256": r, "ES256": e}}
	for name, pub := range map[string]any{"rsa.pem": &r.PublicKey, "ec.pem": &e.PublicKey} {
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			return nil, fmt.Errorf("encode a public key: %w", err)
		}
		path, err := b.file(name, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
		if err != nil {
			return nil, err
		}
		m.files = append(m.files, path)
	}
	return m, nil
}

// tokens makes n tokens, as values of Authorization, each of another user.
func (m *mint) tokens(ctx context.Context, alg string, n int) ([]string, error) {
	out := make([]string, n)
	first := m.made
	m.made += n
	now := time.Now()
	err := eachOf(ctx, n, func(i int) error {
		t := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{
			"iss": issuerURL, "aud": "authenticated", "sub": fmt.Sprintf("0f9e8d7c-6b5a-4e1d-a0c9-%012d", first+i),
			"role": "authenticated", "iat": now.Unix(), "exp": now.Add(2 * time.Hour).Unix(),
			"email": "user@example.com", "aal": "aal1", "session_id": "0f9e8d7c-6b5a-4e1d-a0c9-60f35e2c1a7b",
			"amr":           []map[string]any{{"method": "password", "timestamp": 1772600000}},
			"app_metadata":  map[string]any{"provider": "email", "providers": []string{"email"}},
			"user_metadata": map[string]any{"full_name": "A User", "avatar_url": "https://example.com/a.png"},
		})
		text, err := t.SignedString(m.keys[alg])
		out[i] = "Bearer " + text
		return err
	})
	return out, err
}
