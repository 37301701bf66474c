package e2e

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// attack is a request with a credential, and what becomes of it.
type attack struct {
	name string
	// token is made when it is sent, so that its times are right then.
	token func() string
	// reason and hint are empty for what must pass; hint is part of
	// error_description.
	reason, hint string
	// status is 401 where it is 0 and a reason is given.
	status int
	// send replaces "Authorization: Bearer <token>".
	send func(token string) []change
}

// Texts of error_description that the rows refer to.
const (
	hintAlg       = "algorithm is not one that is allowed"
	hintSignature = "signature is wrong"
	hintKey       = "does not publish"
	hintNoSig     = "no signature"
	hintBase64    = "base64url"
	hintHeader    = "header is not a JSON object"
	hintClaims    = "claims are not a JSON object"
	hintEmbedded  = "brings its own key"
	hintCrit      = "crit"
	hintTyp       = "typ must be"
	hintKid       = "kid must be"
	hintTimes     = "as numbers"
	hintNotYet    = "not valid yet"
	hintExpired   = "expired"
	hintAud       = "another audience"
	hintAudType   = "aud must be"
	hintSub       = "sub must be"
	hintIss       = "iss"
	hintLong      = "longer than 16 KiB"
)

func refusedAs(name, hint string, token func() string) attack {
	return attack{name: name, token: token, reason: "token_invalid", hint: hint}
}

func accepted(name string, token func() string) attack { return attack{name: name, token: token} }

// fixed is a token whose times do not matter to the second.
func fixed(token string) func() string { return func() string { return token } }

// swapClaims keeps header and signature.
func swapClaims(token, claims string) string {
	p := strings.Split(token, ".")
	return p[0] + "." + b64u([]byte(claims)) + "." + p[2]
}

func withSignature(token string, sig []byte) string {
	return token[:strings.LastIndexByte(token, '.')+1] + b64u(sig)
}

func signatureOf(token string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(token[strings.LastIndexByte(token, '.')+1:])
	if err != nil {
		panic(err)
	}
	return b
}

func algorithmAttacks() []attack {
	k := tokenKeys()
	es, rs, hs := k["ES256"], k["RS256"], k["HS256"]
	good := claims(nil)
	var rows []attack
	for _, alg := range []string{"ES256", "ES384", "ES512", "RS256", "PS256", "EdDSA", "HS256"} {
		rows = append(rows,
			accepted(alg, fixed(k[alg].token(good))),
			accepted(alg+" without kid", fixed(k[alg].compact(`{"alg":"`+alg+`"}`, good))),
			refusedAs(alg+" with a changed claim", hintSignature, fixed(swapClaims(k[alg].token(good), with("role", "service_role")))))
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", "non\u0435", "null", ""} {
		h := fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, none)
		rows = append(rows,
			refusedAs(fmt.Sprintf("alg %q without signature", none), hintNoSig, fixed(b64u([]byte(h))+"."+b64u([]byte(good))+".")),
			refusedAs(fmt.Sprintf("alg %q with a signature", none), hintAlg, fixed(es.compact(h, good))))
	}
	for name, secret := range map[string]string{
		"the RSA public key's PEM": rs.pemOf(), "the EC public key's PEM": es.pemOf(),
		"the PEM without its line end": strings.TrimSpace(rs.pemOf()),
		"the JWK set":                  mainFiles()["jwks.json"], "nothing": "", "the word secret": "secret",
		"the name of the variable": "{env.JWT_SECRET}",
	} {
		rows = append(rows, refusedAs("HS256 made with "+name, hintSignature, fixed(tokenKey{"HS256", "", []byte(secret), nil}.token(good))))
	}
	return append(rows,
		refusedAs("HS256 made with the RSA key, under its kid", hintSignature, fixed(tokenKey{"HS256", rs.kid, []byte(rs.pemOf()), nil}.token(good))),
		refusedAs("RS256 header on an HS256 signature", hintSignature, fixed(hs.compact(rs.header(), good))),
		refusedAs("HS256 header on an RS256 signature", hintSignature, fixed(rs.compact(hs.header(), good))),
		refusedAs("ES256 header on an RS256 signature", hintSignature, fixed(rs.compact(es.header(), good))),
		refusedAs("wrong curve: ES256 with a P-384 key", hintSignature, fixed(es.compact(`{"alg":"ES256","kid":"kid-ES384"}`, good))),
		refusedAs("wrong curve: ES384 with a P-256 key", hintSignature, fixed(es.compact(`{"alg":"ES384","kid":"kid-ES256"}`, good))),
		refusedAs("PS256 signature under RS256", hintSignature, fixed(k["PS256"].compact(rs.header(), good))),
		refusedAs("HS512, which is not allowed", hintAlg, fixed(tokenKey{"HS512", "", []byte(hmacSecret), nil}.token(good))),
		refusedAs("alg in lower case", hintAlg, fixed(es.compact(`{"alg":"es256","kid":"kid-ES256"}`, good))),
		refusedAs("ES256K", hintAlg, fixed(es.compact(`{"alg":"ES256K","kid":"kid-ES256"}`, good))),
		refusedAs("ECDSA r and s zero", hintSignature, fixed(withSignature(es.token(good), make([]byte, 64)))),
		refusedAs("ECDSA r zero", hintSignature, fixed(withSignature(es.token(good), append(make([]byte, 32), signatureOf(es.token(good))[32:]...)))),
		refusedAs("ECDSA s zero", hintSignature, fixed(withSignature(es.token(good), append(signatureOf(es.token(good))[:32], make([]byte, 32)...)))),
		refusedAs("ECDSA signature with a byte more", hintSignature, fixed(withSignature(es.token(good), append(signatureOf(es.token(good)), 0)))),
		refusedAs("ECDSA signature in DER", hintSignature, fixed(withSignature(es.token(good), []byte{0x30, 6, 2, 1, 1, 2, 1, 1}))),
		refusedAs("RSA signature cut by a byte", hintSignature, fixed(withSignature(rs.token(good), signatureOf(rs.token(good))[:255]))),
		refusedAs("EdDSA signature of zeros", hintSignature, fixed(withSignature(k["EdDSA"].token(good), make([]byte, 64)))),
		refusedAs("signature of another token", hintSignature, fixed(withSignature(es.token(good), signatureOf(es.token(with("sub", "user-2")))))),
		refusedAs("a key that nobody published", hintKey, fixed(es256("kid-stranger").token(good))),
		refusedAs("another key under a known kid", hintSignature, fixed(es256("kid-ES256").token(good))),
		refusedAs("RSA of 1024 bits", hintKey, fixed(weakToken())),
	)
}

// weakToken is good in all but its key of 1024 bits, which Go makes no more.
func weakToken() string {
	b, err := os.ReadFile("testdata/jwt/rsa1024.jwt")
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(b))
}

// weakKey is the public half of the key of weakToken, as a JWK.
func weakKey(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile("testdata/jwt/rsa1024.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return tokenKey{"RS256", "kid-weak", nil, pub}.jwk(nil)
}

func headerAttacks() []attack {
	es := tokenKeys()["ES256"]
	mallory := es256("kid-mallory")
	own, err := json.Marshal(mallory.jwk(nil))
	if err != nil {
		panic(err)
	}
	good := claims(nil)
	h := func(name, hint, header string) attack { return refusedAs(name, hint, fixed(es.compact(header, good))) }
	kid := func(name, kid string) attack {
		text, err := json.Marshal(kid)
		if err != nil {
			panic(err)
		}
		return h("kid "+name, hintKey, `{"alg":"ES256","kid":`+string(text)+`}`)
	}
	return []attack{
		accepted("typ at+jwt", fixed(es.compact(`{"alg":"ES256","typ":"at+jwt"}`, good))),
		accepted("typ application/jwt", fixed(es.compact(`{"alg":"ES256","typ":"application/jwt"}`, good))),
		accepted("unknown header members", fixed(es.compact(`{"alg":"ES256","x":{"a":[1]},"cty":"x"}`, good))),
		h("typ of a DPoP proof", hintTyp, `{"alg":"ES256","typ":"dpop+jwt"}`),
		h("typ of a logout token", hintTyp, `{"alg":"ES256","typ":"logout+jwt"}`),
		h("typ a number", hintTyp, `{"alg":"ES256","typ":1}`),
		refusedAs("embedded jwk, signed with it", hintEmbedded, fixed(mallory.compact(`{"alg":"ES256","jwk":`+string(own)+`}`, good))),
		refusedAs("embedded jwk under a known kid", hintEmbedded, fixed(mallory.compact(`{"alg":"ES256","kid":"kid-ES256","jwk":`+string(own)+`}`, good))),
		h("jku", hintEmbedded, `{"alg":"ES256","jku":"https://evil.example/jwks.json"}`),
		h("x5u", hintEmbedded, `{"alg":"ES256","x5u":"https://evil.example/cert"}`),
		h("x5c", hintEmbedded, `{"alg":"ES256","x5c":["MIIB"]}`),
		h("unknown crit", hintCrit, `{"alg":"ES256","crit":["exp"],"exp":1}`),
		h("empty crit", hintCrit, `{"alg":"ES256","crit":[]}`),
		h("b64 false", hintCrit, `{"alg":"ES256","b64":false,"crit":["b64"]}`),
		kid("a path", "../../../../../dev/null"),
		kid("a path to a key", "DIR/jwks.json"),
		kid("with NUL", "kid-ES256\x00"),
		kid("SQL", "x' UNION SELECT 'secret';--"),
		kid("a command", "| cat /etc/passwd #"),
		kid("a URL", "https://evil.example/jwks.json"),
		kid("with a line end", "kid-ES256\r\nX-Admin: 1"),
		kid("in another case", "KID-ES256"),
		kid("empty", ""),
		h("kid of 257 bytes", hintKid, `{"alg":"ES256","kid":"`+strings.Repeat("k", 257)+`"}`),
		h("kid a number", hintKid, `{"alg":"ES256","kid":7}`),
		h("kid a list", hintKid, `{"alg":"ES256","kid":["kid-ES256"]}`),
		h("alg missing", "no alg", `{"typ":"JWT"}`),
		h("alg a list", hintAlg, `{"alg":["ES256"]}`),
		h("alg twice", hintHeader, `{"alg":"none","alg":"ES256"}`),
		h("alg twice, once escaped", hintHeader, `{"alg":"ES256","\u0061lg":"none"}`),
		h("header a list", hintHeader, `["ES256"]`),
		h("header with data after", hintHeader, `{"alg":"ES256"}{}`),
		h("header with a BOM", hintHeader, "\ufeff"+`{"alg":"ES256"}`),
		h("header 40 deep", hintHeader, `{"alg":"ES256","x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`),
	}
}

// formAttacks change the token's text.
func formAttacks() []attack {
	es := tokenKeys()["ES256"]
	good := es.token(claims(nil))
	head, rest, _ := strings.Cut(good, ".")
	payload, sig, _ := strings.Cut(rest, ".")
	key := func(name, token string) attack {
		return attack{name: name, token: fixed(token), reason: "api_key_invalid"}
	}
	malformed := func(name, token string) attack {
		return attack{name: name, token: fixed(token), reason: "malformed_authorization"}
	}
	sent := func(a attack, send func(string) []change) attack { a.send = send; return a }
	with2 := func(values ...string) func(string) []change {
		return func(token string) []change {
			var out []change
			for _, v := range values {
				out = append(out, header("Authorization", strings.ReplaceAll(v, "TOKEN", token)))
			}
			return out
		}
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	stray := good[:len(good)-1] + string(alphabet[strings.IndexByte(alphabet, good[len(good)-1])|1])
	many := make([]int, 5000)
	return []attack{
		refusedAs("empty signature", hintNoSig, fixed(head+"."+payload+".")),
		refusedAs("signature cut by a character", "", fixed(good[:len(good)-1])),
		refusedAs("signature padded", hintBase64, fixed(good+"==")),
		refusedAs("header padded", hintBase64, fixed(head+"=."+payload+"."+sig)),
		refusedAs("standard base64", hintBase64, fixed(head+"."+payload+"."+"+/"+sig[2:])),
		refusedAs("stray bits at the end", hintBase64, fixed(stray)),
		refusedAs("a character after", "", fixed(good+"A")),
		refusedAs("percent-encoded byte after", hintBase64, fixed(good+"%00")),
		refusedAs("empty header", hintHeader, fixed("."+payload+"."+sig)),
		refusedAs("empty claims", hintClaims, fixed(head+".."+sig)),
		refusedAs("two dots alone", hintNoSig, fixed("..")),
		key("two parts", head+"."+payload),
		key("four parts", good+".x"),
		key("encrypted (five parts)", head+".a.b.c.d"),
		malformed("a comma and another token", good+","+good),
		accepted("a space after, which HTTP takes away", fixed(good+" ")),
		malformed("a space and more after", good+" x"),
		malformed("a tab after", good+"\tx"),
		refusedAs("claims of 17 KiB", hintLong, fixed(es.token(with("x", strings.Repeat("x", 17<<10))))),
		accepted("claims of 10 KiB", fixed(es.token(with("x", strings.Repeat("x", 10<<10))))),
		refusedAs("thousands of claims", hintClaims, fixed(es.token(with("x", many)))),
		refusedAs("claims 40 deep", hintClaims, fixed(es.token(with("x", asIs(strings.Repeat("[", 40)+strings.Repeat("]", 40)))))),
		refusedAs("claims a list", hintClaims, fixed(es.token(`[1]`))),
		refusedAs("claims null", hintClaims, fixed(es.token(`null`))),
		refusedAs("claims with data after", hintClaims, fixed(es.token(claims(nil)+"x"))),
		refusedAs("claims with invalid UTF-8", hintClaims, fixed(es.token(strings.Replace(claims(nil), "user-1", "user-\xc0\xaf", 1)))),
		sent(accepted("scheme in lower case", fixed(good)), with2("bearer TOKEN")),
		sent(malformed("without the scheme", good), with2("TOKEN")),
		sent(malformed("glued to the scheme", good), with2("BearerTOKEN")),
		sent(malformed("two spaces", good), with2("Bearer  TOKEN")),
		sent(malformed("as Basic", good), with2("Basic TOKEN")),
		sent(attack{name: "two Authorization headers", token: fixed(good), reason: "multiple_credentials", status: 400}, with2("Bearer TOKEN", "Bearer TOKEN")),
		sent(attack{name: "two Authorization headers, one bad", token: fixed(good), reason: "multiple_credentials", status: 400}, with2("Bearer TOKEN", "Bearer x")),
		sent(attack{name: "in a cookie that is not configured", token: fixed(good), reason: "missing_credentials"}, func(token string) []change {
			return []change{header("Cookie", "sb-x-auth-token="+token)}
		}),
		sent(attack{name: "in a header that is not configured", token: fixed(good), reason: "missing_credentials"}, func(token string) []change {
			return []change{header("Apikey", token)}
		}),
		sent(attack{name: "in the query", token: fixed(good), reason: "missing_credentials", hint: "credentials in the query string are not accepted"}, func(token string) []change {
			return []change{func(r *http.Request) { r.URL.RawQuery = "access_token=" + token }}
		}),
	}
}

func timeAttacks() []attack {
	es := tokenKeys()["ES256"]
	at := func(changes func() map[string]any) func() string {
		return func() string { return es.token(claims(changes())) }
	}
	one := func(name string, v func() any) func() string {
		return at(func() map[string]any { return map[string]any{name: v()} })
	}
	lit := func(text string) func() any { return func() any { return asIs(text) } }
	sec := func(d time.Duration) func() any { return func() any { return in(d) } }
	expired := func(name string, token func() string) attack {
		return attack{name: name, token: token, reason: "token_expired", hint: hintExpired}
	}
	return []attack{
		refusedAs("exp missing", "no exp", one("exp", func() any { return nil })),
		refusedAs("exp null", hintTimes, one("exp", lit("null"))),
		refusedAs("exp text", hintTimes, one("exp", func() any { return fmt.Sprint(in(time.Hour)) })),
		refusedAs("exp true", hintTimes, one("exp", lit("true"))),
		refusedAs("exp a list", hintTimes, one("exp", lit("[4000000000]"))),
		refusedAs("exp negative", hintTimes, one("exp", lit("-1"))),
		refusedAs("exp past int64", hintTimes, one("exp", lit("9223372036854775808"))),
		refusedAs("exp int64's largest", hintTimes, one("exp", lit("9223372036854775807"))),
		refusedAs("exp 1e400", hintTimes, one("exp", lit("1e400"))),
		refusedAs("exp in milliseconds", hintTimes, one("exp", func() any { return in(time.Hour) * 1000 })),
		refusedAs("exp with a leading zero", hintClaims, one("exp", lit("04000000000"))),
		refusedAs("exp hexadecimal", hintClaims, one("exp", lit("0xFFFFFFFF"))),
		refusedAs("exp as EXP", "no exp", at(func() map[string]any { return map[string]any{"exp": nil, "EXP": in(time.Hour)} })),
		refusedAs("exp twice, the later one good", hintClaims, func() string {
			return es.token(strings.Replace(with("exp", in(-time.Hour)), "{", fmt.Sprintf(`{"exp":%d,`, in(time.Hour)), 1))
		}),
		refusedAs("exp twice, once escaped", hintClaims, func() string {
			return es.token(strings.Replace(claims(nil), "{", fmt.Sprintf(`{"\u0065xp":%d,`, in(time.Hour)), 1))
		}),
		accepted("exp with a fraction", one("exp", func() any { return asIs(fmt.Sprintf("%d.5", in(time.Hour))) })),
		accepted("exp with an exponent", one("exp", lit("4.0e9"))),
		accepted("exp inside the leeway", one("exp", sec(-15*time.Second))),
		expired("exp at the leeway's end", one("exp", sec(-30*time.Second))),
		expired("exp an hour ago", one("exp", sec(-time.Hour))),
		expired("exp zero", one("exp", lit("0"))),
		accepted("nbf past", one("nbf", sec(-time.Second))),
		accepted("nbf at the leeway's end", one("nbf", sec(30*time.Second))),
		refusedAs("nbf past the leeway", hintNotYet, one("nbf", sec(50*time.Second))),
		refusedAs("nbf tomorrow", hintNotYet, one("nbf", sec(24*time.Hour))),
		refusedAs("nbf text", hintTimes, one("nbf", lit(`"0"`))),
		refusedAs("iat past the leeway", hintNotYet, one("iat", sec(50*time.Second))),
		refusedAs("iat text", hintTimes, one("iat", lit(`"now"`))),
		refusedAs("expired and not yet valid", hintNotYet, at(func() map[string]any { return map[string]any{"exp": in(-time.Hour), "nbf": in(time.Hour)} })),
		refusedAs("expired with a wrong signature", hintSignature, func() string {
			return swapClaims(es.token(claims(nil)), with("exp", in(-time.Hour)))
		}),
	}
}

func claimAttacks() []attack {
	es := tokenKeys()["ES256"]
	no := func(name, hint, claim string, v any) attack {
		return refusedAs(name, hint, fixed(es.token(with(claim, v))))
	}
	yes := func(name, claim string, v any) attack { return accepted(name, fixed(es.token(with(claim, v)))) }
	poor := func(name, claim string, v any) attack {
		return attack{name: name, token: fixed(es.token(with(claim, v))), reason: "insufficient_scope", status: 403}
	}
	return []attack{
		no("iss of nobody", hintIss, "iss", "https://evil.example"),
		no("iss missing", hintIss, "iss", nil),
		no("iss with a slash more", hintIss, "iss", mainIss+"/"),
		no("iss a list", hintIss, "iss", []string{mainIss}),
		yes("aud a list with ours", "aud", []string{"other", "authenticated"}),
		no("aud a list without ours", hintAud, "aud", []string{"other"}),
		no("aud an empty list", hintAud, "aud", []string{}),
		no("aud missing", hintAud, "aud", nil),
		no("aud a number", hintAudType, "aud", 1),
		no("aud a list with a number", hintAudType, "aud", asIs(`["authenticated",1]`)),
		no("aud an object", hintAudType, "aud", asIs(`{"authenticated":true}`)),
		yes("sub missing", "sub", nil),
		no("sub a number", hintSub, "sub", 42),
		no("sub with a line end", hintSub, "sub", "user\r\nX-Auth-Owner: root"),
		no("sub with NUL", hintSub, "sub", "user\x00"),
		no("sub of 1025 bytes", hintSub, "sub", strings.Repeat("s", 1025)),
		refusedAs("sub twice", hintClaims, fixed(es.token(strings.Replace(claims(nil), "{", `{"sub":"root",`, 1)))),
		refusedAs("role twice", hintClaims, fixed(es.token(strings.Replace(claims(nil), "{", `{"role":"service_role",`, 1)))),
		refusedAs("a member twice where nobody reads", hintClaims, fixed(es.token(with("x", asIs(`{"a":{"b":1,"b":2}}`))))),
		no("role a list", "role", "role", []string{"service_role"}),
		no("role a number", "role", "role", 1),
		poor("role unknown", "role", "root"),
		poor("role missing", "role", nil),
		poor("role in user_metadata alone", "role", asIs(`"anon","user_metadata":{"role":"service_role","scope":"farms:read"}`)),
		poor("role as ROLE", "role", asIs(`"anon","ROLE":"authenticated"`)),
		{name: "scope of the claim", token: fixed(es.token(claims(map[string]any{"role": nil, "scope": "crews:read farms:read"})))},
		poor("scope split by a no-break space", "role", asIs(`"anon","scope":"x:y`+"\u00a0"+`farms:read"`)),
		poor("scope split by a tab", "role", asIs(`"anon","scope":"x:y\tfarms:read"`)),
		poor("scope a wildcard", "role", asIs(`"anon","scope":"* farms:*"`)),
		no("scope a number", "scopes claim", "scope", 7),
		no("scope a list with a number", "scopes claim", "scope", asIs(`["farms:read",1]`)),
		no("owner owner:x", "owner claim", "app_metadata", asIs(`{"org":"owner:acme"}`)),
		no("owner key:x", "owner claim", "app_metadata", asIs(`{"org":"key:AbCdEfGhIjKl"}`)),
		no("owner jwt:x", "owner claim", "app_metadata", asIs(`{"org":"jwt:main:user-2"}`)),
		no("owner a number", "owner claim", "app_metadata", asIs(`{"org":7}`)),
		no("plan a list", "plan claim", "app_metadata", asIs(`{"plan":["operator"]}`)),
		no("app_metadata a text", "claim", "app_metadata", "x"),
		no("aal a number", "aal", "aal", 2),
	}
}

// Every token is sent twice: what is remembered of it must not change the answer.
func TestNoHostileTokenPassesAndNoSoundOneFails(t *testing.T) {
	keys := newKeyServer(t, jwkSet(append(mainKeys(), weakKey(t))...))
	c := mainConfig("auth_failures 1000000/m\n", farmRoutes)
	c.global = strings.Replace(c.global, "jwks DIR/jwks.json", "jwks "+keys.url, 1)
	g := start(t, c)
	rows := append(algorithmAttacks(), headerAttacks()...)
	rows = append(rows, formAttacks()...)
	rows = append(rows, timeAttacks()...)
	rows = append(rows, claimAttacks()...)
	if len(rows) < 60 {
		t.Fatalf("%d rows, want at least 60", len(rows))
	}
	seen, passed, refused := map[string]bool{}, 0, 0
	for _, row := range rows {
		if seen[row.name] {
			t.Errorf("two rows are named %q", row.name)
		}
		seen[row.name] = true
		if row.reason == "" {
			passed++
		} else {
			refused++
		}
		for _, again := range []string{"", ", sent again"} {
			if err := row.judge(g); err != nil {
				t.Errorf("%s%s: %v", row.name, again, err)
			}
		}
	}
	t.Logf("%d rows: %d pass, %d are refused, each sent twice", len(rows), passed, refused)
	if n := keys.fetches.Load(); n > 2 {
		t.Errorf("the keys were fetched %d times, want once at start and once for all unknown kids", n)
	}
	if !strings.Contains(g.log.String(), "1024 bits") {
		t.Errorf("the log does not say that the RSA key of 1024 bits is not used:\n%s", g.tail())
	}
}

// judge sends the row and compares the answer with what it should be.
func (row attack) judge(g *gate) error {
	token := row.token()
	changes := []change{bearer(token)}
	if row.send != nil {
		changes = row.send(token)
	}
	before := g.farm.hits.Load()
	a, err := g.try(g.sites[0], "GET", "/farms", changes...)
	if err != nil {
		return err
	}
	status := row.status
	switch {
	case row.reason == "":
		status = 200
	case status == 0:
		status = 401
	}
	if a.status != status || a.reason() != row.reason {
		return fmt.Errorf("got %d %q, want %d %q; %s", a.status, a.reason(), status, row.reason, a.header.Get("Www-Authenticate"))
	}
	if hits := g.farm.hits.Load() - before; (hits == 1) != (status == 200) {
		return fmt.Errorf("%d requests reached the backend", hits)
	}
	return row.judgeChallenge(a.header.Get("Www-Authenticate"))
}

// judgeChallenge compares WWW-Authenticate with RFC 6750, section 3.
func (row attack) judgeChallenge(got string) error {
	var code string
	switch row.reason {
	case "token_invalid", "token_expired", "api_key_invalid":
		code = "invalid_token"
	case "malformed_authorization":
		code = "invalid_request"
	case "insufficient_scope":
		code = "insufficient_scope"
	case "missing_credentials":
		if row.hint != "" { // sent, but where none is looked for
			code = "invalid_request"
			break
		}
		if got != `Bearer realm="127.0.0.1"` {
			return fmt.Errorf("WWW-Authenticate %q, want the realm alone", got)
		}
		return nil
	default:
		if got != "" {
			return fmt.Errorf("WWW-Authenticate %q, want none", got)
		}
		return nil
	}
	want := fmt.Sprintf(`Bearer realm=%q, error=%q, error_description="`, "127.0.0.1", code)
	if !strings.HasPrefix(got, want) || !strings.Contains(got, row.hint) {
		return fmt.Errorf("WWW-Authenticate %q, want %s…%s…", got, want, row.hint)
	}
	return nil
}
