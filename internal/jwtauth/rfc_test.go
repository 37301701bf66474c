package jwtauth

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
	"time"
)

// The examples of RFC 7515 (JWS), RFC 7519 (JWT) and RFC 8037 (Ed25519), as
// they are printed there.

const (
	// RFC 7515 appendix A.1.1; also RFC 7519 section 3.1.
	rfcHMACKey = `AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow`
	rfcClaims  = `eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ`
	rfcHS256   = `eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.` + rfcClaims + `.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk`

	// RFC 7515 appendix A.2.1.
	rfcRSAKey = `{"keys":[{"kty":"RSA",
		"n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
		"e":"AQAB"}]}`
	rfcRS256 = `eyJhbGciOiJSUzI1NiJ9.` + rfcClaims + `.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw`

	// RFC 7515 appendix A.3.1.
	rfcP256Key = `{"keys":[{"kty":"EC","crv":"P-256",
		"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
		"y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`
	rfcES256 = `eyJhbGciOiJFUzI1NiJ9.` + rfcClaims + `.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q`

	// RFC 7519 section 6.1.
	rfcUnsecured = `eyJhbGciOiJub25lIn0.` + rfcClaims + `.`
)

// rfcNow is a second before the exp of the examples, 1300819380.
var rfcNow = time.Unix(1300819379, 0)

func TestExamplesOfTheRFCsAreAccepted(t *testing.T) {
	base := Config{Name: "rfc", Iss: []string{"joe"}, Leeway: duration(0)}
	for _, tc := range []struct {
		name, token string
		setup       func(*Config)
	}{
		{"RFC 7515 A.1 HS256", rfcHS256, func(c *Config) {
			key, ok := decodeSegment(rfcHMACKey)
			if !ok {
				t.Fatal("key")
			}
			c.HMACSecret, c.Algorithms = key, []string{"HS256"}
		}},
		{"RFC 7515 A.2 RS256", rfcRS256, func(c *Config) {
			c.JWKS, c.Algorithms = []string{writeFile(t, "rsa.json", rfcRSAKey)}, []string{"RS256"}
		}},
		{"RFC 7515 A.3 ES256", rfcES256, func(c *Config) {
			c.JWKS, c.Algorithms = []string{writeFile(t, "ec.json", rfcP256Key)}, []string{"ES256"}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := base
			tc.setup(&cfg)
			s := newSet(t, startIssuer(t, cfg, Options{}))
			if p, d := s.Verify(context.Background(), rfcNow, tc.token, nil); d != nil || p.Expires.Unix() != 1300819380 {
				t.Errorf("a second before exp: %v, %v", p, d)
			}
			// RFC 7519 section 4.1.4: on or after exp it must not be accepted.
			if _, d := s.Verify(context.Background(), rfcNow.Add(time.Second), tc.token, nil); d == nil || d.Reason != TokenExpired {
				t.Errorf("at exp: %v", d)
			}
			if _, d := s.Verify(context.Background(), rfcNow, tc.token[:len(tc.token)-4]+"AAAA", nil); d == nil {
				t.Error("accepted with a changed signature")
			}
		})
	}
}

func TestUnsecuredExampleOfRFC7519IsRefused(t *testing.T) {
	for _, tok := range []string{rfcUnsecured, rfcUnsecured + "AA"} {
		s := newSet(t, startIssuer(t, Config{Name: "rfc", Iss: []string{"joe"}, HMACSecret: testSecret, Algorithms: []string{"HS256"}}, Options{}))
		if _, d := s.Verify(context.Background(), rfcNow, tok, nil); d == nil || d.Reason != TokenInvalid {
			t.Errorf("%v", d)
		}
	}
}

// RFC 7515 appendix A.4: ES512 over a payload that is no JSON.
func TestES512ExampleOfRFC7515Verifies(t *testing.T) {
	const set = `{"keys":[{"kty":"EC","crv":"P-521",
		"x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
		"y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}]}`
	const es512 = `eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn`
	keys, refused, err := parseJWKS([]byte(set))
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, refused %v, %v", len(keys), refused, err)
	}
	dot := strings.LastIndexByte(es512, '.')
	if err := algorithms["ES512"].method.Verify(es512[:dot], sigOf(es512), keys[0].key); err != nil {
		t.Error(err)
	}
	if _, d := parseToken(new(workspace), es512); d != denyClaimsJSON {
		t.Errorf("its payload is no claims set: %v", d)
	}
}

// RFC 8037 appendix A.2 and A.4.
func TestEd25519ExampleOfRFC8037Verifies(t *testing.T) {
	const set = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	const eddsa = `eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg`
	keys, refused, err := parseJWKS([]byte(set))
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, refused %v, %v", len(keys), refused, err)
	}
	want := "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
	if pub, ok := keys[0].key.(ed25519.PublicKey); !ok || hex.EncodeToString(pub) != want {
		t.Fatalf("key %x", keys[0].key)
	}
	dot := strings.LastIndexByte(eddsa, '.')
	sig := sigOf(eddsa)
	if err := algorithms["EdDSA"].method.Verify(eddsa[:dot], sig, keys[0].key); err != nil {
		t.Error(err)
	}
	// The same signature with S + L verifies where malleability is not
	// checked (RFC 8032 section 5.1.7).
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := new(big.Int).SetBytes(reversed(sig[32:]))
	high := s.Add(s, order).FillBytes(make([]byte, 32))
	if err := algorithms["EdDSA"].method.Verify(eddsa[:dot], append(sig[:32:32], reversed(high)...), keys[0].key); err == nil {
		t.Error("accepted with S + L")
	}
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[len(b)-1-i] = b[i]
	}
	return out
}
