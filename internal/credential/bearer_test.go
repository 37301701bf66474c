package credential

import (
	"net/http"
	"strings"
	"testing"
)

const (
	someKey = "hive_sk_0123456789abABCDEFGHIJabcdefghijKLMNOPQRSTUVWXYZ"
	someJWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl"
)

func authorization(values ...string) http.Header { return http.Header{"Authorization": values} }

func TestBearerTakesExactlyTheBytesAfterOneSpace(t *testing.T) {
	for _, scheme := range []string{"Bearer", "bearer", "BEARER", "bEaReR"} {
		for _, token := range []string{someKey, someJWT, "x", "a:b;c\"d'e\\f", "=", "~!@#$%^&*()", strings.Repeat("a", 100000)} {
			if v, p := Bearer(authorization(scheme + " " + token)); v != token || p != None {
				t.Errorf("%s %.20s: %.20q, problem %d", scheme, token, v, p)
			}
		}
	}
}

func TestBearerNamesTheProblem(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []string
		want   Problem
	}{
		{"no header", nil, Missing},
		{"two headers", []string{"Bearer " + someKey, "Bearer " + someJWT}, Multiple},
		{"the same header twice", []string{"Bearer " + someKey, "Bearer " + someKey}, Multiple},
		{"two headers, one empty", []string{"", "Bearer " + someKey}, Multiple},
		{"bare key", []string{someKey}, Bare},
		{"bare JWT", []string{someJWT}, Bare},
		{"bare word", []string{"secret"}, Bare},
		{"token=…", []string{"token=" + someKey}, Bare},
		{"glued key", []string{"Bearer" + someKey}, Glued},
		{"glued JWT in lower case", []string{"bearer" + someJWT}, Glued},
		{"glued in upper case", []string{"BEARER" + someKey}, Glued},
		{"underscore for the space", []string{"Bearer_" + someKey}, Glued},
		{"colon", []string{"Bearer:" + someKey}, Separator},
		{"colon and space", []string{"Bearer: " + someKey}, Separator},
		{"equals sign", []string{"Bearer=" + someKey}, Separator},
		{"basic", []string{"Basic aGl2ZTpoaXZl"}, WrongScheme},
		{"basic alone", []string{"basic"}, WrongScheme},
		{"digest with commas", []string{`Digest username="a", realm="b"`}, WrongScheme},
		{"token scheme", []string{"Token " + someKey}, WrongScheme},
		{"a scheme that begins like Bearer", []string{"BearerToken " + someKey}, WrongScheme},
		{"half the scheme", []string{"Bear " + someKey}, WrongScheme},
		{"two spaces", []string{"Bearer  " + someKey}, Spaces},
		{"space before", []string{" Bearer " + someKey}, Spaces},
		{"space after", []string{"Bearer " + someKey + " "}, Spaces},
		{"glued, space after", []string{"Bearer" + someKey + " "}, Spaces},
		{"space within", []string{"Bearer " + someKey + " x"}, Spaces},
		{"scheme twice", []string{"Bearer Bearer " + someKey}, Spaces},
		{"tab for the space", []string{"Bearer\t" + someKey}, Spaces},
		{"tab after", []string{"Bearer " + someKey + "\t"}, Spaces},
		{"bare, space before", []string{" " + someKey}, Spaces},
		{"tab alone", []string{"\t"}, Spaces},
		{"empty", []string{""}, Empty},
		{"spaces alone", []string{"  "}, Empty},
		{"scheme alone", []string{"Bearer"}, Empty},
		{"scheme and space", []string{"Bearer "}, Empty},
		{"list", []string{"Bearer " + someKey + ", Bearer " + someJWT}, ListInOne},
		{"list without spaces", []string{"Bearer " + someKey + "," + someJWT}, ListInOne},
		{"comma at the end", []string{"Bearer " + someKey + ","}, ListInOne},
		{"bare list", []string{someKey + ", Bearer " + someKey}, ListInOne},
		{"NUL", []string{"Bearer " + someKey + "\x00"}, BadCharacter},
		{"line end", []string{"Bearer " + someKey + "\r\nX-Auth-Id: 1"}, BadCharacter},
		{"DEL", []string{"Bearer a\x7f"}, BadCharacter},
		{"no-break space", []string{"Bearer\u00a0" + someKey}, BadCharacter},
		{"letter outside ASCII", []string{"Bearer kéy"}, BadCharacter},
		{"Latin-1 byte", []string{"Bearer k\xe9y"}, BadCharacter},
		{"long s for s", []string{"ba\u017fic abc"}, BadCharacter},
	} {
		v, p := Bearer(authorization(c.values...))
		if v != "" || p != c.want {
			t.Errorf("%s: %q, problem %d, want %d", c.name, v, p, c.want)
		}
		if malformed := c.want != Missing && c.want != Multiple; p.Malformed() != malformed {
			t.Errorf("%s: malformed is %v", c.name, p.Malformed())
		}
	}
	if v, p := Bearer(http.Header{}); v != "" || p != Missing {
		t.Errorf("no header: %q, %d", v, p)
	}
}

func TestEveryByteIsJudgedAlikeAtEveryPlace(t *testing.T) {
	for c := range 256 {
		want := c > ' ' && c <= '~' && c != ','
		for length := 1; length <= 76; length++ { // strides of 32 and 8 bytes, and what is left
			for at := range length {
				for _, fill := range []byte{'!', 'a', '~', '-', '+'} {
					v := []byte(strings.Repeat(string(fill), length))
					v[at] = byte(c)
					if got := clean(string(v)); got != want {
						t.Fatalf("%q: %v", v, got)
					}
				}
			}
		}
	}
	if !clean("") {
		t.Error("nothing is wrong with nothing")
	}
}

func TestHintsAreTheWordsThatWouldHaveHelped(t *testing.T) {
	for p, want := range map[Problem]string{
		None:         "",
		Bare:         "Authorization must be 'Bearer <token>'; the token was sent without the scheme",
		Glued:        "a space is missing after Bearer",
		LoginHeaders: "send login data in the POST body, or use only the token",
		200:          "",
	} {
		if got := p.Hint(); got != want {
			t.Errorf("%d: %q, want %q", p, got, want)
		}
	}
	seen := map[string]Problem{}
	for p := Missing; p < problems; p++ {
		hint := p.Hint()
		if hint == "" {
			t.Errorf("problem %d has no hint", p)
		}
		if other, twice := seen[hint]; twice {
			t.Errorf("problems %d and %d have one hint", p, other)
		}
		seen[hint] = p
	}
	seen[QueryHint] = None
	for hint := range seen {
		for _, c := range []byte(hint) {
			if c < ' ' || c > '~' || c == '"' || c == '\\' {
				t.Errorf("%q cannot stand in error_description", hint)
			}
		}
	}
}

func TestLoginHeadersExplainOnlyMissingCredentials(t *testing.T) {
	for p := None; p < problems; p++ {
		want := p
		if p == Missing {
			want = LoginHeaders
		}
		if got := p.WithLogin(true); got != want {
			t.Errorf("problem %d became %d", p, got)
		}
		if got := p.WithLogin(false); got != p {
			t.Errorf("problem %d became %d without login headers", p, got)
		}
	}
	if LoginHeaders.Malformed() || None.Malformed() || Problem(200).Malformed() {
		t.Error("not a malformed header")
	}
}

func TestThreePartsAreAJWT(t *testing.T) {
	for v, want := range map[string]bool{
		someJWT: true, "a.b.c": true, "a.b.": true, "..": true,
		someKey: false, "": false, "a.b": false, "a.b.c.d": false, "...": false,
	} {
		if got := IsJWT(v); got != want {
			t.Errorf("%q: %v", v, got)
		}
	}
}

func FuzzBearer(f *testing.F) {
	for _, v := range []string{"", "Bearer " + someKey, "Bearer" + someKey, someKey, someJWT, "Basic abc", "Bearer a,b",
		"Bearer  a", "bearer\ta", "Bearer é", " Bearer a ", "Bearer:", "Bearer", "Bear", "Digest a=b, c=d"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		value, p := Bearer(authorization(v))
		if (value == "") == (p == None) {
			t.Fatalf("%q: value %q and problem %d", v, value, p)
		}
		if p != None {
			if !p.Malformed() || p.Hint() == "" {
				t.Fatalf("%q: problem %d", v, p)
			}
			// The rule itself, written another way: nothing good is refused.
			if scheme, token, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "bearer") && token != "" &&
				strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }) < 0 {
				t.Fatalf("%q: refused as %d", v, p)
			}
			return
		}
		if len(v) != 7+len(value) || v[7:] != value || v[6] != ' ' || strings.ToLower(v[:6]) != "bearer" {
			t.Fatalf("%q: value %q is not what follows the space", v, value)
		}
		for _, c := range []byte(value) {
			if c <= ' ' || c > '~' || c == ',' {
				t.Fatalf("%q: byte %#x accepted", v, c)
			}
		}
		// A second header always makes it ambiguous.
		if value, p := Bearer(authorization(v, v)); value != "" || p != Multiple {
			t.Fatalf("%q twice: %q, %d", v, value, p)
		}
	})
}

func TestBearerAllocatesNothing(t *testing.T) {
	for _, v := range []string{"Bearer " + someKey, "Bearer " + someJWT, someKey, "Bearer" + someKey, "Basic abc", "Bearer a, Bearer b", ""} {
		h := authorization(v)
		if n := testing.AllocsPerRun(100, func() { _, p := Bearer(h); _ = p.WithLogin(true).Hint() }); n != 0 {
			t.Errorf("%.10q: %v allocations", v, n)
		}
	}
}

func BenchmarkBearer(b *testing.B) {
	for name, v := range map[string]string{
		"key":  "Bearer " + someKey,
		"jwt":  "Bearer " + strings.Repeat("a", 115) + "." + strings.Repeat("b", 115) + "." + strings.Repeat("c", 117),
		"bare": someKey,
	} {
		b.Run(name, func(b *testing.B) {
			h := authorization(v)
			b.ReportAllocs()
			for b.Loop() {
				Bearer(h)
			}
		})
	}
}
