package jwtauth

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever comes in, nothing panics, and nothing is accepted but what the
// issuer's key has signed: the fuzzer does not know it.
func FuzzToken(f *testing.F) {
	for _, r := range append(signatureRows(), headerRows()...) {
		f.Add(r.token)
	}
	for _, r := range append(formRows(), claimRows()...) {
		f.Add(r.token)
	}
	i := startIssuer(f, mainConfig(f), Options{})
	s, err := NewSet([]*Issuer{i}, -1)
	if err != nil {
		f.Fatal(err)
	}
	known := map[string]bool{} // what was signed above, by what is signed
	for _, r := range append(append(signatureRows(), headerRows()...), append(formRows(), claimRows()...)...) {
		if at := strings.LastIndexByte(r.token, '.'); at > 0 && r.want == "" {
			known[r.token[:at]] = true
		}
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, d := s.Verify(context.Background(), t0, raw, nil)
		if (p == nil) == (d == nil) {
			t.Fatal("both or neither")
		}
		if p != nil && !known[raw[:strings.LastIndexByte(raw, '.')]] {
			// The seeds are signed anew by each process: only a true signature
			// of this process's keys can get here.
			t.Fatalf("accepted: %q", raw)
		}
		s.Inspect(context.Background(), t0, raw)
	})
}

// What the strict parser takes, encoding/json takes as well, and reads alike.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{}`, `[]`, `null`, `true`, `"a\u00e9\ud83d\ude00\n"`, `-0.5e+10`, `{"a":[1,{"b":null}],"c":"d"}`, ` [ 1 , 2 ] `,
		`"\"\\\/\b\f\r\t\u00FF\uABCD"`, `"\x"`, `"\u12"`, `"\u12G4"`, `"\ud800\u0041"`, `"\ud800x"`, `"`, `"\`, `1e`, `1e+`, `-`, `{"a"`, `{"a":`, `{"a":1`, `[`, `[1`, `{"a" 1}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `"\ud800"`, `"\udc00\ud800"`, "\"\xff\"", `01`, `1.`, `.5`, `+1`, `[1,]`, `{"a":1,}`, `{a:1}`, "\"\x00\"", `nul`, `1 2`, "\ufeff1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		v, err := parseJSON(doc, maxTokenValues)
		if err != nil {
			return
		}
		dec := json.NewDecoder(strings.NewReader(doc))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil {
			t.Fatalf("taken, but encoding/json says %v: %q", err, doc)
		}
		if dec.More() {
			t.Fatalf("taken with something after it: %q", doc)
		}
		if got := plain(&v); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: read as %#v, by encoding/json as %#v", doc, got, want)
		}
		if !json.Valid([]byte(doc)) || !utf8.ValidString(doc) {
			t.Fatalf("invalid: %q", doc)
		}
	})
}

func plain(v *value) any {
	switch v.kind {
	case kindNull:
		return nil
	case kindBool:
		return v.text == "true"
	case kindNumber:
		return json.Number(v.text)
	case kindString:
		return v.text
	case kindArray:
		out := make([]any, 0, len(v.members))
		for i := range v.members {
			out = append(out, plain(&v.members[i].value))
		}
		return out
	}
	out := map[string]any{}
	for i := range v.members {
		out[v.members[i].name] = plain(&v.members[i].value)
	}
	return out
}

func FuzzCookie(f *testing.F) {
	enc := "base64-" + b64([]byte(`{"access_token":"a.b.c"}`))
	for _, s := range []string{
		"", "sb-abc-auth-token=" + enc, "sb-abc-auth-token.0=" + enc[:10] + "; sb-abc-auth-token.1=" + enc[10:],
		`sb-a-auth-token={"access_token":"x"}`, "sb-a-auth-token=%7B%22access_token%22%3A%22x%22%7D", "sb-a-auth-token.99999=x", `sb-a-auth-token=["x"]`, "a=b;;=;c",
	} {
		f.Add(s)
	}
	p, err := ParseCookiePattern("sb-*-auth-token")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		tok, err := p.Token(http.Header{"Cookie": {line}})
		if err != nil && tok != "" {
			t.Fatal("a token and an error")
		}
		if len(tok) > maxToken {
			t.Fatal("an endless token")
		}
		if tok != "" && !strings.Contains(line, "-auth-token") {
			t.Fatal("a token out of nowhere")
		}
	})
}

func FuzzJWKS(f *testing.F) {
	k := testKeys()
	f.Add([]byte(jwks(k["ES256"].jwk(nil), k["EdDSA"].jwk(nil))))
	f.Add([]byte(rfcP256Key))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		keys, refused, err := parseJWKS(doc)
		if err != nil && len(keys)+len(refused) > 0 {
			t.Fatal("keys and an error")
		}
		for _, k := range keys {
			if k.family == familyNone || k.family == familyHMAC {
				t.Fatalf("a key of family %d", k.family)
			}
		}
		_, _ = parsePEM(bytes.TrimSpace(doc))
	})
}

func FuzzScopeTemplate(f *testing.F) {
	for _, s := range []string{"*", "a:b", "a:*", "a:b@c=d", "a:b@c={sub}", "a:b@c=1,{x.y},z", "a:b@c={}", "a:b@c={a}{b}", "{a}:b"} {
		f.Add(s, "value")
	}
	f.Fuzz(func(t *testing.T, s, claim string) {
		tmpl, err := parseScopeTemplate(s)
		if err != nil {
			return
		}
		root := value{kind: kindObject, members: []member{{"sub", value{kind: kindString, text: claim}}}}
		out, ok := tmpl.expand(&root)
		if !ok {
			return
		}
		// What came out is a scope without claims, with as many values.
		again, err := parseScopeTemplate(out)
		if err != nil || again.parts != nil || strings.Count(out, ",") != strings.Count(s, ",") || strings.Count(out, "@") != strings.Count(s, "@") {
			t.Fatalf("%q with %q became %q", s, claim, out)
		}
	})
}
