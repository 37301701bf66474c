package jwtauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// row is one token and what becomes of it. An empty want means accepted.
type row struct {
	name  string
	token string
	want  Reason
	count bool // counts under auth_failures
}

func TestHostileTokensAreRefusedAndSoundOnesAccepted(t *testing.T) {
	s := newSet(t, startIssuer(t, mainConfig(t), Options{}))
	rows := append(signatureRows(), headerRows()...)
	rows = append(rows, formRows()...)
	rows = append(rows, timeRows()...)
	rows = append(rows, claimRows()...)
	rows = append(rows, roleRows()...)
	if len(rows) < 60 {
		t.Fatalf("the table has %d rows only", len(rows))
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r.name] {
			t.Errorf("two rows are named %q", r.name)
		}
		seen[r.name] = true
		t.Run(r.name, func(t *testing.T) {
			for _, again := range []string{"cold", "again"} {
				p, d := s.Verify(context.Background(), t0, r.token, nil)
				switch {
				case (p == nil) == (d == nil):
					t.Fatalf("%s: principal %v, denied %v: want exactly one", again, p, d)
				case r.want == "" && d != nil:
					t.Fatalf("%s: refused: %v", again, d)
				case r.want != "" && d == nil:
					t.Fatalf("%s: accepted as %+v", again, p)
				case d != nil && d.Reason != r.want:
					t.Fatalf("%s: %v, want %s", again, d, r.want)
				case d != nil && d.Count != r.count:
					t.Fatalf("%s: counts as failure: %v, want %v (%v)", again, d.Count, r.count, d)
				case d != nil && d.Hint == "":
					t.Fatalf("%s: no hint", again)
				}
			}
		})
	}
	t.Logf("%d rows", len(rows))
}

func signatureRows() []row {
	k := testKeys()
	es, rs, hs := k["ES256"], k["RS256"], k["HS256"]
	rows := []row{}
	for _, alg := range []string{"ES256", "ES384", "ES512", "RS256", "PS256", "EdDSA", "HS256"} {
		rows = append(rows,
			row{alg + " with its key", k[alg].token(good(nil)), "", false},
			row{alg + " with a changed claim", swapPayload(k[alg].token(good(nil)), good(map[string]any{"sub": "user-2"})), TokenInvalid, true},
			row{alg + " without kid", k[alg].compact(`{"alg":"`+alg+`"}`, good(nil)), "", false})
	}
	for _, spelling := range []string{"none", "None", "NONE", "nOnE", "none ", ""} {
		h := fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, spelling)
		rows = append(rows, row{fmt.Sprintf("alg %q without signature", spelling), b64([]byte(h)) + "." + b64([]byte(good(nil))) + ".", TokenInvalid, false},
			row{fmt.Sprintf("alg %q with a signature", spelling), es.compact(h, good(nil)), TokenInvalid, false})
	}
	// Algorithm confusion: public keys, as anybody may know them, as secrets.
	pub := pemText(rs.pub)
	for name, secret := range map[string][]byte{
		"the RSA public key's PEM": []byte(pub), "the same without the last line end": []byte(strings.TrimSpace(pub)),
		"an empty secret": {}, "the JWK set": []byte(jwks(rs.jwk(nil))), "the EC key's x": []byte(es.jwk(nil)["x"].(string)),
	} {
		evil := signer{alg: "HS256", priv: secret}
		rows = append(rows, row{"HS256 made with " + name, evil.token(good(nil)), TokenInvalid, true})
	}
	hsRSA := signer{alg: "HS256", kid: rs.kid, priv: []byte(pub)}
	rows = append(rows,
		row{"HS256 with the RSA key's kid", hsRSA.token(good(nil)), TokenInvalid, true},
		row{"RS256 header on an HS256 signature", hs.compact(rs.header(), good(nil)), TokenInvalid, true},
		row{"ES256 header on an RS256 signature", rs.compact(es.header(), good(nil)), TokenInvalid, true},
		row{"ES256 with the kid of a P-384 key", es.compact(`{"alg":"ES256","kid":"kid-ES384"}`, good(nil)), TokenInvalid, true},
		row{"ES384 header, P-256 key and signature", es.compact(`{"alg":"ES384","kid":"kid-ES256"}`, good(nil)), TokenInvalid, true},
		row{"an algorithm that is not allowed", signer{alg: "HS512", priv: []byte(testSecret)}.token(good(nil)), TokenInvalid, false},
		row{"an algorithm that nobody knows", es.compact(`{"alg":"ES257"}`, good(nil)), TokenInvalid, false},
		row{"alg in lower case", es.compact(`{"alg":"es256","kid":"kid-ES256"}`, good(nil)), TokenInvalid, false},
		row{"ES256K", es.compact(`{"alg":"ES256K","kid":"kid-ES256"}`, good(nil)), TokenInvalid, false},
		row{"a key that nobody published", otherES256().token(good(nil)), TokenInvalid, true},
		row{"another key under a known kid", withKid(otherES256(), "kid-ES256").token(good(nil)), TokenInvalid, true},
		row{"ECDSA r and s zero", withSig(es.token(good(nil)), make([]byte, 64)), TokenInvalid, true},
		row{"ECDSA r and s the group's order", withSig(es.token(good(nil)), append(p256Order(), p256Order()...)), TokenInvalid, true},
		row{"ECDSA signature in DER", withSig(es.token(good(nil)), []byte{0x30, 6, 2, 1, 1, 2, 1, 1}), TokenInvalid, true},
		row{"ECDSA signature with a zero before", withSig(es.token(good(nil)), append([]byte{0}, sigOf(es.token(good(nil)))...)), TokenInvalid, true},
		row{"ECDSA signature with a byte after", withSig(es.token(good(nil)), append(sigOf(es.token(good(nil))), 0)), TokenInvalid, true},
		row{"signature of another token", withSig(es.token(good(nil)), sigOf(es.token(good(map[string]any{"sub": "user-2"})))), TokenInvalid, true},
		row{"signature cut by a byte", withSig(rs.token(good(nil)), sigOf(rs.token(good(nil)))[:255]), TokenInvalid, true},
		row{"signature of zero bytes", withSig(k["EdDSA"].token(good(nil)), make([]byte, 64)), TokenInvalid, true},
		row{"EdDSA with alg Ed25519, which is not allowed", k["EdDSA"].compact(`{"alg":"Ed25519","kid":"kid-EdDSA"}`, good(nil)), TokenInvalid, false},
		row{"HS256 with any kid", hs.compact(`{"alg":"HS256","kid":"whatever"}`, good(nil)), "", false},
	)
	return rows
}

func headerRows() []row {
	es := testKeys()["ES256"]
	jwkText, err := json.Marshal(otherES256().jwk(nil))
	if err != nil {
		panic(err)
	}
	h := func(name, header string, want Reason) row {
		return row{"header: " + name, es.compact(header, good(nil)), want, false}
	}
	unknown := func(name, kid string) row {
		return row{"header: " + name, es.compact(`{"alg":"ES256","kid":`+quote(kid)+`}`, good(nil)), TokenInvalid, true}
	}
	return []row{
		h("typ absent", `{"alg":"ES256","kid":"kid-ES256"}`, ""),
		h("typ jwt", `{"alg":"ES256","typ":"jwt"}`, ""),
		h("typ at+jwt", `{"alg":"ES256","typ":"at+jwt"}`, ""),
		h("typ application/at+JWT", `{"alg":"ES256","typ":"application/at+JWT"}`, ""),
		h("typ application/jwt", `{"alg":"ES256","typ":"application/jwt"}`, ""),
		h("typ of a DPoP proof", `{"alg":"ES256","typ":"dpop+jwt"}`, TokenInvalid),
		h("typ of a logout token", `{"alg":"ES256","typ":"logout+jwt"}`, TokenInvalid),
		h("typ JOSE", `{"alg":"ES256","typ":"JOSE"}`, TokenInvalid),
		h("typ with a space", `{"alg":"ES256","typ":"JWT "}`, TokenInvalid),
		h("typ empty", `{"alg":"ES256","typ":""}`, TokenInvalid),
		h("typ null", `{"alg":"ES256","typ":null}`, TokenInvalid),
		h("typ a number", `{"alg":"ES256","typ":1}`, TokenInvalid),
		h("typ a list", `{"alg":"ES256","typ":["JWT"]}`, TokenInvalid),
		h("an unknown member", `{"alg":"ES256","kid":"kid-ES256","x-extra":{"a":[1]},"cty":"x"}`, ""),
		h("x5t, which fetches nothing", `{"alg":"ES256","kid":"kid-ES256","x5t":"abc"}`, ""),
		h("crit unknown", `{"alg":"ES256","crit":["exp"],"exp":1}`, TokenInvalid),
		h("crit empty", `{"alg":"ES256","crit":[]}`, TokenInvalid),
		h("crit null", `{"alg":"ES256","crit":null}`, TokenInvalid),
		h("crit with b64 (RFC 7797)", `{"alg":"ES256","b64":false,"crit":["b64"]}`, TokenInvalid),
		h("b64 true", `{"alg":"ES256","b64":true}`, TokenInvalid),
		{"header: embedded jwk, signed with it", otherES256().compact(`{"alg":"ES256","jwk":`+string(jwkText)+`}`, good(nil)), TokenInvalid, false},
		h("jku", `{"alg":"ES256","jku":"https://evil.example/jwks.json"}`, TokenInvalid),
		h("x5u", `{"alg":"ES256","x5u":"https://evil.example/cert"}`, TokenInvalid),
		h("x5c", `{"alg":"ES256","x5c":["MIIB"]}`, TokenInvalid),
		unknown("kid a path", "../../../../dev/null"),
		unknown("kid a path with NUL", "kid-ES256\x00.pem"),
		unknown("kid SQL", "x' UNION SELECT 'secret'--"),
		unknown("kid a command", "| whoami"),
		unknown("kid a URL", "https://evil.example/key"),
		unknown("kid empty", ""),
		unknown("kid in another case", "KID-ES256"),
		unknown("kid with a space after", "kid-ES256 "),
		h("kid too long", `{"alg":"ES256","kid":"`+strings.Repeat("a", 257)+`"}`, TokenInvalid),
		h("kid a number", `{"alg":"ES256","kid":0}`, TokenInvalid),
		h("kid null", `{"alg":"ES256","kid":null}`, TokenInvalid),
		h("kid a list", `{"alg":"ES256","kid":["kid-ES256"]}`, TokenInvalid),
		h("alg missing", `{"typ":"JWT"}`, TokenInvalid),
		h("alg null", `{"alg":null}`, TokenInvalid),
		h("alg a list", `{"alg":["ES256"]}`, TokenInvalid),
		h("alg as ALG", `{"ALG":"ES256"}`, TokenInvalid),
		h("alg twice", `{"alg":"none","alg":"ES256"}`, TokenInvalid),
		h("alg twice, once escaped", `{"alg":"ES256","\u0061lg":"none"}`, TokenInvalid),
		h("kid twice", `{"alg":"ES256","kid":"kid-ES256","kid":"kid-ES256"}`, TokenInvalid),
		h("a list", `["ES256"]`, TokenInvalid),
		h("null", `null`, TokenInvalid),
		h("empty", ``, TokenInvalid),
		h("BOM", "\ufeff"+`{"alg":"ES256"}`, TokenInvalid),
		h("trailing data", `{"alg":"ES256"}{}`, TokenInvalid),
		h("trailing comma", `{"alg":"ES256",}`, TokenInvalid),
		h("comment", `{"alg":"ES256"/**/}`, TokenInvalid),
		h("single quotes", `{'alg':'ES256'}`, TokenInvalid),
		h("invalid UTF-8", "{\"alg\":\"ES256\",\"x\":\"\xff\"}", TokenInvalid),
		h("lone surrogate", `{"alg":"ES256","x":"\ud800"}`, TokenInvalid),
		h("control character in a text", "{\"alg\":\"ES256\",\"x\":\"\x01\"}", TokenInvalid),
		h("nested 40 deep", `{"alg":"ES256","x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`, TokenInvalid),
		h("white space around", " {\r\n\t\"alg\" : \"ES256\" } \n", ""),
	}
}

// formRows are tokens whose compact form was tampered with.
func formRows() []row {
	es := testKeys()["ES256"]
	tok := es.token(good(nil))
	parts := strings.Split(tok, ".")
	form := func(name, tok string) row { return row{"form: " + name, tok, TokenInvalid, false} }
	huge := es.token(good(map[string]any{"x": strings.Repeat("a", 13000)}))
	fits := es.token(good(map[string]any{"x": strings.Repeat("a", 11000)}))
	many := make([]int, 5000)
	return []row{
		form("empty", ""),
		form("dots alone", ".."),
		form("two parts", parts[0]+"."+parts[1]),
		form("four parts", tok+".x"),
		form("five parts (JWE)", tok+".x.y"),
		form("empty signature", parts[0]+"."+parts[1]+"."),
		form("empty claims", parts[0]+".."+parts[2]),
		form("empty header", "."+parts[1]+"."+parts[2]),
		form("space before", " "+tok),
		form("space after", tok+" "),
		form("line end after", tok+"\n"),
		form("NUL after", tok+"\x00"),
		form("line end inside the signature", tok[:len(tok)-4]+"\r\n"+tok[len(tok)-4:]),
		form("line end inside the claims", parts[0]+"."+parts[1][:8]+"\n"+parts[1][8:]+"."+parts[2]),
		form("padded signature", tok+"=="),
		form("padded header", parts[0]+"=."+parts[1]+"."+parts[2]),
		form("standard alphabet", parts[0]+"."+parts[1]+"."+base64.RawStdEncoding.EncodeToString([]byte{0xfb, 0xff, 0xfe})),
		form("percent sign", tok[:len(tok)-1]+"%41"),
		form("stray bits in the signature", strayBits(tok)),
		form("signature cut to an impossible length", parts[0]+"."+parts[1]+"."+parts[2][:85]),
		form("non-ASCII", parts[0]+"."+parts[1]+".é"),
		form("longer than 16 KiB", huge),
		{"form: large but within the bound", fits, "", false},
		form("thousands of values", es.token(good(map[string]any{"x": many}))),
		{"form: claims a list", es.token(`[1]`), TokenInvalid, false},
		{"form: claims a text", es.token(`"x"`), TokenInvalid, false},
		{"form: claims null", es.token(`null`), TokenInvalid, false},
		{"form: claims nested 40 deep", es.token(good(map[string]any{"x": raw(strings.Repeat("[", 40) + strings.Repeat("]", 40))})), TokenInvalid, false},
		{"form: claims with trailing data", es.token(good(nil) + "x"), TokenInvalid, false},
		{"form: claims with invalid UTF-8", es.token(strings.Replace(good(nil), "user-1", "user-\xc0\xaf", 1)), TokenInvalid, false},
	}
}

func timeRows() []row {
	es := testKeys()["ES256"]
	now := t0.Unix()
	c := func(name string, changes map[string]any, want Reason) row {
		return row{"time: " + name, es.token(good(changes)), want, false}
	}
	one := func(name, claim string, v any, want Reason) row { return c(name, map[string]any{claim: v}, want) }
	return []row{
		one("exp missing", "exp", nil, TokenInvalid),
		one("exp null", "exp", raw("null"), TokenInvalid),
		one("exp text", "exp", fmt.Sprint(now+100), TokenInvalid),
		one("exp true", "exp", true, TokenInvalid),
		one("exp a list", "exp", []int64{now + 100}, TokenInvalid),
		one("exp negative", "exp", -1, TokenInvalid),
		one("exp negative zero", "exp", raw("-0"), TokenInvalid),
		one("exp zero", "exp", 0, TokenExpired),
		one("exp past int64", "exp", raw("9223372036854775808"), TokenInvalid),
		one("exp at int64's end", "exp", raw("9223372036854775807"), TokenInvalid),
		one("exp with twenty digits more", "exp", raw("99999999999999999999999999999999"), TokenInvalid),
		one("exp 1e400", "exp", raw("1e400"), TokenInvalid),
		one("exp 1e308", "exp", raw("1e308"), TokenInvalid),
		one("exp past the year 9999", "exp", raw("253402300800"), TokenInvalid),
		one("exp at the end of the year 9999", "exp", raw("253402300799"), ""),
		one("exp with a fraction", "exp", raw(fmt.Sprintf("%d.5", now+100)), ""),
		one("exp with an exponent", "exp", raw("4.0e9"), ""),
		one("exp with a leading zero", "exp", raw("04000000000"), TokenInvalid),
		one("exp hexadecimal", "exp", raw("0xFFFFFFFF"), TokenInvalid),
		one("exp in milliseconds", "exp", now*1000, TokenInvalid),
		c("exp as EXP", map[string]any{"exp": nil, "EXP": now + 100}, TokenInvalid),
		c("exp as Exp beside an expired exp", map[string]any{"exp": now - 100, "Exp": now + 100}, TokenExpired),
		one("expired an hour ago", "exp", now-3600, TokenExpired),
		one("exp a second inside the leeway", "exp", now-29, ""),
		one("exp at the leeway's edge", "exp", now-30, TokenExpired),
		one("exp a fraction inside the leeway", "exp", raw(fmt.Sprintf("%d.5", now-30)), ""),
		one("nbf in the past", "nbf", now-1, ""),
		one("nbf at the leeway's edge", "nbf", now+30, ""),
		one("nbf a second past the leeway", "nbf", now+31, TokenInvalid),
		one("nbf text", "nbf", "0", TokenInvalid),
		one("nbf null", "nbf", raw("null"), TokenInvalid),
		one("iat missing", "iat", nil, ""),
		one("iat at the leeway's edge", "iat", now+30, ""),
		one("iat a second past the leeway", "iat", now+31, TokenInvalid),
		one("iat text", "iat", "now", TokenInvalid),
		c("expired and not yet valid", map[string]any{"exp": now - 100, "nbf": now + 100}, TokenInvalid),
		c("expired and for another audience", map[string]any{"exp": now - 100, "aud": "other"}, TokenInvalid),
		{"time: expired with a wrong signature", swapPayload(es.token(good(nil)), good(map[string]any{"exp": now - 100})), TokenInvalid, true},
		{"time: exp twice, the later one valid", es.token(strings.Replace(good(map[string]any{"exp": now - 100}), "{", fmt.Sprintf(`{"exp":%d,`, now+100), 1)), TokenInvalid, false},
		{"time: exp twice, once escaped", es.token(strings.Replace(good(nil), "{", fmt.Sprintf(`{"\u0065xp":%d,`, now+100), 1)), TokenInvalid, false},
	}
}

func claimRows() []row {
	es := testKeys()["ES256"]
	c := func(name, claim string, v any, want Reason) row {
		return row{"claim: " + name, es.token(good(map[string]any{claim: v})), want, false}
	}
	return []row{
		c("iss of nobody", "iss", "https://evil.example", TokenInvalid),
		c("iss missing", "iss", nil, TokenInvalid),
		c("iss empty", "iss", "", TokenInvalid),
		c("iss null", "iss", raw("null"), TokenInvalid),
		c("iss a list", "iss", []string{"https://main.example/auth/v1"}, TokenInvalid),
		c("iss with a slash more", "iss", "https://main.example/auth/v1/", TokenInvalid),
		c("iss in another case", "iss", "https://MAIN.example/auth/v1", TokenInvalid),
		c("aud a list with ours", "aud", []string{"other", "authenticated"}, ""),
		c("aud a list without ours", "aud", []string{"other"}, TokenInvalid),
		c("aud another", "aud", "other", TokenInvalid),
		c("aud missing", "aud", nil, TokenInvalid),
		c("aud empty text", "aud", "", TokenInvalid),
		c("aud empty list", "aud", []string{}, TokenInvalid),
		c("aud null", "aud", raw("null"), TokenInvalid),
		c("aud a number", "aud", 1, TokenInvalid),
		c("aud a list with a number", "aud", raw(`["authenticated",1]`), TokenInvalid),
		c("aud a list in a list", "aud", raw(`[["authenticated"]]`), TokenInvalid),
		c("aud an object", "aud", raw(`{"authenticated":true}`), TokenInvalid),
		c("aud with a NUL after", "aud", "authenticated\x00", TokenInvalid),
		c("sub missing", "sub", nil, ""),
		c("sub empty", "sub", "", ""),
		c("sub a number", "sub", 42, TokenInvalid),
		c("sub null", "sub", raw("null"), TokenInvalid),
		c("sub an object", "sub", raw(`{"id":1}`), TokenInvalid),
		c("sub with a line end", "sub", "user\nX-Admin: 1", TokenInvalid),
		c("sub with an escaped NUL", "sub", raw(`"user\u0000"`), TokenInvalid),
		c("sub with DEL", "sub", "user\x7f", TokenInvalid),
		c("sub with a C1 control", "sub", "user\u0085", TokenInvalid),
		c("sub with a line separator", "sub", "user\u2028", TokenInvalid),
		c("sub of 1024 bytes", "sub", strings.Repeat("s", 1024), ""),
		c("sub of 1025 bytes", "sub", strings.Repeat("s", 1025), TokenInvalid),
		c("sub with an umlaut and an emoji", "sub", "jürgen-\U0001F41D", ""),
		c("sub with a lone surrogate", "sub", raw(`"user\udc00"`), TokenInvalid),
		{"claim: sub twice", es.token(strings.Replace(good(nil), "{", `{"sub":"admin",`, 1)), TokenInvalid, false},
		{"claim: role twice", es.token(strings.Replace(good(nil), "{", `{"role":"service_role",`, 1)), TokenInvalid, false},
		{"claim: app_metadata names plan twice", es.token(good(map[string]any{"app_metadata": raw(`{"plan":"a","plan":"b"}`)})), TokenInvalid, false},
		{"claim: a member twice in what nobody reads", es.token(good(map[string]any{"x": raw(`{"a":{"b":1,"b":2}}`)})), TokenInvalid, false},
		{"claim: 20 members and one of them twice", es.token(good(map[string]any{"x": raw(`{` + members(20) + `,"m3":1}`)})), TokenInvalid, false},
		{"claim: 20 members", es.token(good(map[string]any{"x": raw(`{` + members(20) + `}`)})), "", false},
	}
}

func roleRows() []row {
	es := testKeys()["ES256"]
	c := func(name, claim string, v any, want Reason) row {
		return row{"rights: " + name, es.token(good(map[string]any{claim: v})), want, false}
	}
	return []row{
		c("role missing", "role", nil, ""),
		c("role unknown", "role", "nobody", ""),
		c("role a list", "role", []string{"service_role"}, TokenInvalid),
		c("role a number", "role", 1, TokenInvalid),
		c("role null", "role", raw("null"), TokenInvalid),
		c("role with a line end", "role", "service_role\n", TokenInvalid),
		c("scope a text", "scope", "crews:read admin:read", ""),
		c("scope a list", "scope", []string{"crews:read"}, ""),
		c("scope a number", "scope", 7, TokenInvalid),
		c("scope null", "scope", raw("null"), TokenInvalid),
		c("scope an object", "scope", raw(`{"crews:read":true}`), TokenInvalid),
		c("scope a list with a number", "scope", raw(`["crews:read",1]`), TokenInvalid),
		c("scope a list with null", "scope", raw(`[null]`), TokenInvalid),
		c("plan a number", "app_metadata", raw(`{"plan":1}`), TokenInvalid),
		c("plan null", "app_metadata", raw(`{"plan":null}`), TokenInvalid),
		c("plan's parent a text", "app_metadata", "x", TokenInvalid),
		c("plan's parent a list", "app_metadata", raw(`["plan"]`), TokenInvalid),
		c("plan's parent null", "app_metadata", raw(`null`), TokenInvalid),
		c("plan with a control character", "app_metadata", raw(`{"plan":"a\tb"}`), TokenInvalid),
		c("owner", "app_metadata", raw(`{"org":"acme"}`), ""),
		c("owner a number", "app_metadata", raw(`{"org":7}`), TokenInvalid),
		c("owner owner:x", "app_metadata", raw(`{"org":"owner:acme"}`), TokenInvalid),
		c("owner key:x", "app_metadata", raw(`{"org":"key:AbCdEfGhIjKl"}`), TokenInvalid),
		c("owner jwt:x", "app_metadata", raw(`{"org":"jwt:main:user-2"}`), TokenInvalid),
		c("owner with a control character", "app_metadata", raw(`{"org":"a\u0001"}`), TokenInvalid),
		c("aal a number", "aal", 2, TokenInvalid),
		c("aal2", "aal", "aal2", ""),
		c("user_metadata of any form", "user_metadata", raw(`{"plan":1,"role":["service_role"],"app_metadata":{"plan":"x"}}`), ""),
	}
}

func members(n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(`"m%d":%d`, i, i)
	}
	return strings.Join(out, ",")
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func withKid(s signer, kid string) signer { s.kid = kid; return s }

func swapPayload(token, claims string) string {
	p := strings.Split(token, ".")
	return p[0] + "." + b64([]byte(claims)) + "." + p[2]
}

func withSig(token string, sig []byte) string {
	return token[:strings.LastIndexByte(token, '.')+1] + b64(sig)
}

func sigOf(token string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(token[strings.LastIndexByte(token, '.')+1:])
	if err != nil {
		panic(err)
	}
	return b
}

// strayBits sets a bit in the last character of a 64-byte signature that
// stands for no bit of it.
func strayBits(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last|1])
}

func TestLeewayIsAsConfigured(t *testing.T) {
	es := testKeys()["ES256"]
	for _, tc := range []struct {
		leeway *Duration
		past   time.Duration
		ok     bool
	}{
		{nil, 29 * time.Second, true}, {nil, 30 * time.Second, false},
		{duration(0), 0, false}, {duration(0), -time.Second, true},
		{duration(time.Minute), 59 * time.Second, true}, {duration(time.Minute), time.Minute, false},
	} {
		cfg := mainConfig(t)
		cfg.Leeway = tc.leeway
		s := newSet(t, startIssuer(t, cfg, Options{}))
		_, d := s.Verify(context.Background(), t0, es.token(good(map[string]any{"exp": t0.Add(-tc.past).Unix()})), nil)
		if (d == nil) != tc.ok {
			t.Errorf("leeway %v, expired %v ago: %v", tc.leeway, tc.past, d)
		}
	}
}
