package jwtauth

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"testing"
)

// supabaseClaims are of the size of a real user's token.
func supabaseClaims() string {
	return good(map[string]any{
		"sub": "7b1a2c5e-3f60-4c0a-9d1e-5a6b7c8d9e0f", "email": "user@example.com", "phone": "", "aal": "aal1",
		"session_id":   "0f9e8d7c-6b5a-4e1d-a0c9-60f35e2c1a7b",
		"amr":          raw(`[{"method":"password","timestamp":1772600000}]`),
		"app_metadata": raw(`{"provider":"email","providers":["email"],"plan":"operator"}`), "is_anonymous": false,
		"user_metadata": raw(`{"full_name":"A User","avatar_url":"https://example.com/a.png"}`),
	})
}

func BenchmarkVerifyWarm(b *testing.B) {
	s := newSet(b, startIssuer(b, mainConfig(b), Options{}))
	ctx := context.Background()
	for _, alg := range []string{"HS256", "ES256", "RS256"} {
		tok := testKeys()[alg].token(supabaseClaims())
		b.Run(fmt.Sprintf("%s-%dB", alg, len(tok)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, d := s.Verify(ctx, t0, tok, nil); d != nil {
					b.Fatal(d)
				}
			}
		})
	}
}

func BenchmarkVerifyWarmParallel(b *testing.B) {
	s := newSet(b, startIssuer(b, mainConfig(b), Options{}))
	tok := testKeys()["ES256"].token(supabaseClaims())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, d := s.Verify(context.Background(), t0, tok, nil); d != nil {
				b.Fatal(d)
			}
		}
	})
}

// BenchmarkWarmParts tells where the time of a warm token goes.
func BenchmarkWarmParts(b *testing.B) {
	s := newSet(b, startIssuer(b, mainConfig(b), Options{}))
	tok := testKeys()["ES256"].token(supabaseClaims())
	if _, d := s.Verify(context.Background(), t0, tok, nil); d != nil {
		b.Fatal(d)
	}
	s.cache.tokens.Wait()
	b.Run(fmt.Sprintf("digest-%dB", len(tok)), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.digest.of(tok)
		}
	})
	sum := s.digest.of(tok)
	b.Run("cache", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if s.cache.get(&sum) == nil {
				b.Fatal("gone")
			}
		}
	})
}

func BenchmarkVerifyCold(b *testing.B) {
	set, err := NewSet([]*Issuer{startIssuer(b, mainConfig(b), Options{})}, -1)
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	for _, alg := range []string{"HS256", "RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"} {
		tok := testKeys()[alg].token(supabaseClaims())
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, d := set.Verify(ctx, t0, tok, nil); d != nil {
					b.Fatal(d)
				}
			}
		})
	}
}

// BenchmarkRefuse tells what a flood of bad tokens costs.
func BenchmarkRefuse(b *testing.B) {
	s := newSet(b, startIssuer(b, mainConfig(b), Options{}))
	es := testKeys()["ES256"]
	for name, tok := range map[string]string{
		"malformed":       "aaaa.bbbb.cccc",
		"unknown-issuer":  es.token(good(map[string]any{"iss": "nobody"})),
		"unknown-kid":     otherES256().token(good(nil)),
		"wrong-signature": swapPayload(es.token(good(nil)), good(map[string]any{"sub": "x"})),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, d := s.Verify(context.Background(), t0, tok, nil); d == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

func BenchmarkCookie(b *testing.B) {
	p, err := ParseCookiePattern("sb-*-auth-token")
	if err != nil {
		b.Fatal(err)
	}
	tok := testKeys()["ES256"].token(supabaseClaims())
	sess := `{"access_token":"` + tok + `","token_type":"bearer","expires_in":3600,"refresh_token":"r","user":` + supabaseClaims() + `}`
	h := http.Header{"Cookie": {"theme=dark; sb-abc-auth-token=base64-" + b64([]byte(sess))}}
	b.ReportAllocs()
	for b.Loop() {
		if got, err := p.Token(h); err != nil || got != tok {
			b.Fatal(err)
		}
	}
}

// BenchmarkRSAKeySize shows why keys above 8192 bits are refused.
func BenchmarkRSAKeySize(b *testing.B) {
	for _, bits := range []int{2048, 4096} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			b.Fatal(err)
		}
		m := algorithms["RS256"].method
		sig, err := m.Sign("a.b", k)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(bits), func(b *testing.B) {
			for b.Loop() {
				if err := m.Verify("a.b", sig, &k.PublicKey); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
