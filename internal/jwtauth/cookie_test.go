package jwtauth

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func cookies(lines ...string) http.Header { return http.Header{"Cookie": lines} }

func TestSessionCookiesOfSupabaseAreRead(t *testing.T) {
	const tok = "aaa.bbb.ccc"
	sess := `{"access_token":"aaa.bbb.ccc","token_type":"bearer","expires_in":3600,"expires_at":1772604367,"refresh_token":"r","user":{"id":"u","user_metadata":{"access_token":"evil"}}}`
	enc := "base64-" + b64([]byte(sess))
	big := strings.Replace(sess, `"refresh_token":"r"`, `"refresh_token":"`+strings.Repeat("r", 7000)+`"`, 1)
	bigEnc := "base64-" + b64([]byte(big))
	rawBig := url.PathEscape(big)
	const name = "sb-abc-auth-token"
	for _, tc := range []struct {
		name string
		h    http.Header
		want string
		err  error
	}{
		{"none", http.Header{}, "", nil},
		{"others", cookies("a=b; sb-abc-auth-token-code-verifier=x; sbabc-auth-token=y; xsb-abc-auth-token=z"), "", nil},
		{"base64", cookies(name + "=" + enc), tok, nil},
		{"among others", cookies("a=b; "+name+"="+enc+"; c=d", "e=f"), tok, nil},
		{"no space after the semicolon", cookies("a=b;" + name + "=" + enc), tok, nil},
		{"quoted", cookies(name + `="` + enc + `"`), tok, nil},
		{"localhost", cookies("sb-127-auth-token=" + enc), tok, nil},
		{"a plus is no space", cookies(name + "=" + `{"access_token":"a+b"}`), "a+b", nil},
		{"percent-encoded JSON", cookies(name + "=" + url.PathEscape(sess)), tok, nil},
		{"JSON as it is", cookies(name + `={"access_token":"aaa.bbb.ccc"}`), tok, nil},
		{"the older list", cookies(name + "=" + url.PathEscape(`["aaa.bbb.ccc","r",null,null,null]`)), tok, nil},
		{"chunks", cookies(chunks(name, bigEnc)), tok, nil},
		{"chunks in any order", cookies(reverseCookies(chunks(name, bigEnc))), tok, nil},
		{"chunks on several lines", cookies(strings.Split(chunks(name, bigEnc), "; ")...), tok, nil},
		{"chunks of raw JSON, cut anywhere", cookies(chunksAt(name, rawBig, 3179)), tok, nil},
		{"unchunked wins", cookies(name + ".0=base64-x; " + name + "=" + enc + "; " + name + ".1=y"), tok, nil},
		{"stale chunk past a gap", cookies(chunks(name, bigEnc) + "; " + name + ".9=old"), tok, nil},
		{"first chunk missing", cookies(name + ".1=" + enc), "", ErrCookieInvalid},
		{"middle chunk missing", cookies(strings.Replace(chunks(name, bigEnc), name+".1=", "x=", 1)), "", ErrCookieInvalid},
		{"chunk 16", cookies(name + ".16=x"), "", ErrCookieTooLarge},
		{"chunk 00 is none", cookies(name + ".00=x"), "", nil},
		{"too large", cookies(name + "=" + strings.Repeat("a", 65537)), "", ErrCookieTooLarge},
		{"too large in chunks", cookies(chunksAt(name, strings.Repeat("a", 70000), 7000)), "", ErrCookieTooLarge},
		{"the same cookie twice", cookies(name + "=" + enc + "; " + name + "=" + enc), tok, nil},
		{"twice with different values", cookies(name + "=" + enc + "; " + name + "=base64-e30"), "", ErrCookieAmbiguous},
		{"a chunk twice with different values", cookies(name + ".0=a; " + name + ".0=b"), "", ErrCookieAmbiguous},
		{"two projects", cookies(name + "=" + enc + "; sb-xyz-auth-token=" + enc), "", ErrCookieAmbiguous},
		{"two projects in chunks", cookies(name + ".0=a; sb-xyz-auth-token.0=b"), "", ErrCookieAmbiguous},
		{"padded base64", cookies(name + "=" + enc + "=="), "", ErrCookieInvalid},
		{"standard base64", cookies(name + "=base64-+/+/"), "", ErrCookieInvalid},
		{"bad escape", cookies(name + "=%7Baccess%zz"), "", ErrCookieInvalid},
		{"no JSON", cookies(name + "=hello"), "", ErrCookieInvalid},
		{"a bare token", cookies(name + "=aaa.bbb.ccc"), "", ErrCookieInvalid},
		{"a number", cookies(name + "=7"), "", ErrCookieInvalid},
		{"empty", cookies(name + "="), "", nil},
		{"null", cookies(name + "=null"), "", nil},
		{"signed out", cookies(name + "=" + `{"access_token":null}`), "", nil},
		{"without token", cookies(name + "={}"), "", nil},
		{"empty list", cookies(name + "=[]"), "", nil},
		{"token a number", cookies(name + `={"access_token":7}`), "", ErrCookieInvalid},
		{"token twice", cookies(name + `={"access_token":"a","access_token":"b"}`), "", ErrCookieInvalid},
		{"token in another case", cookies(name + `={"Access_Token":"a"}`), "", nil},
		{"control character", cookies(name + "=%7B%22access_token%22:%22a%0Ab%22%7D"), "", ErrCookieInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := ParseCookiePattern("sb-*-auth-token")
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Token(tc.h)
			if got != tc.want || !errors.Is(err, tc.err) || tc.err == nil && err != nil {
				t.Errorf("got %q, %v; want %q, %v", got, err, tc.want, tc.err)
			}
		})
	}
}

// chunks cuts as @supabase/ssr does, at 3180 characters.
func chunks(name, v string) string { return chunksAt(name, v, 3180) }

func chunksAt(name, v string, size int) string {
	var out []string
	for n := 0; v != ""; n++ {
		cut := min(size, len(v))
		// A percent-escape is not cut in two.
		for cut < len(v) && (v[cut-1] == '%' || v[cut-2] == '%') {
			cut--
		}
		out = append(out, fmt.Sprintf("%s.%d=%s", name, n, v[:cut]))
		v = v[cut:]
	}
	return strings.Join(out, "; ")
}

func reverseCookies(line string) string {
	parts := strings.Split(line, "; ")
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, "; ")
}

func TestCookiePatternsMatchWholeNames(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		whole, part   bool
	}{
		{"sb-*-auth-token", "sb-abc-auth-token", true, true},
		{"sb-*-auth-token", "sb-abc-auth-token.0", false, true},
		{"sb-*-auth-token", "sb-a-b_c-auth-token", true, true},
		{"sb-*-auth-token", "sb--auth-token", false, false},
		{"sb-*-auth-token", "sb-a.b-auth-token", false, false},
		{"sb-*-auth-token", "sb-abc-auth-token.x", false, false},
		{"sb-*-auth-token", "sb-abc-auth-token-code-verifier", false, false},
		{"sb-*-auth-token", "SB-abc-auth-token", false, false},
		{"session", "session", true, true},
		{"session", "session.3", false, true},
		{"session", "session2", false, false},
	} {
		p, err := ParseCookiePattern(tc.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if p.matches(tc.name) != tc.whole || p.Match(tc.name) != tc.part {
			t.Errorf("%s, %s: %v, %v", tc.pattern, tc.name, p.matches(tc.name), p.Match(tc.name))
		}
	}
	for _, bad := range []string{"", "*", "a*b*", "a b", "a=b", "a;b", "ä", strings.Repeat("a", 257)} {
		if _, err := ParseCookiePattern(bad); err == nil {
			t.Errorf("pattern %q is accepted", bad)
		}
	}
}

func TestCookieSearchWithoutASessionDoesNotAllocate(t *testing.T) {
	p, err := ParseCookiePattern("sb-*-auth-token")
	if err != nil {
		t.Fatal(err)
	}
	h := cookies("theme=dark; _ga=GA1.1.1; cf_clearance=xyz")
	if n := testing.AllocsPerRun(100, func() { _, _ = p.Token(h) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestBrowsersAreToldByTheirHeaders(t *testing.T) {
	for _, tc := range []struct {
		header http.Header
		want   bool
	}{
		{http.Header{}, false},
		{http.Header{"Sec-Fetch-Mode": {"cors"}}, false}, // fetch of Node.js
		{http.Header{"Sec-Fetch-Mode": {"cors"}, "User-Agent": {"Mozilla/5.0"}}, false},
		{http.Header{"Origin": {"https://a.example"}}, true},
		{http.Header{"Origin": {""}}, true},
		{http.Header{"Sec-Fetch-Site": {"none"}}, true},
		{http.Header{"Sec-Fetch-Dest": {"empty"}}, true},
		{http.Header{"Cookie": {"a=b"}}, true},
	} {
		if got := Browser(&http.Request{Header: tc.header}); got != tc.want {
			t.Errorf("%v: %v", tc.header, got)
		}
	}
}

func TestSameOriginNeedsABrowserThatSaysSo(t *testing.T) {
	type h = http.Header
	for _, tc := range []struct {
		name   string
		header http.Header
		host   string
		https  bool
		want   bool
	}{
		{"nothing", h{}, "a.example", false, false},
		{"Sec-Fetch-Site same-origin", h{"Sec-Fetch-Site": {"same-origin"}}, "a.example", false, true},
		{"same-origin, host rewritten in front", h{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://a.example"}}, "10.0.0.1", false, true},
		{"same-site", h{"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://a.example"}}, "a.example", false, false},
		{"cross-site", h{"Sec-Fetch-Site": {"cross-site"}}, "a.example", false, false},
		{"none", h{"Sec-Fetch-Site": {"none"}}, "a.example", false, false},
		{"twice", h{"Sec-Fetch-Site": {"same-origin", "cross-site"}}, "a.example", false, false},
		{"empty, Origin right", h{"Sec-Fetch-Site": {""}, "Origin": {"https://a.example"}}, "a.example", false, false},
		{"Origin", h{"Origin": {"https://a.example"}}, "a.example", true, true},
		{"Origin with its own port", h{"Origin": {"https://a.example:443"}}, "a.example", true, true},
		{"Host with its own port", h{"Origin": {"https://a.example"}}, "a.example:443", true, true},
		{"other case", h{"Origin": {"https://A.example"}}, "a.EXAMPLE", true, true},
		{"both with a port", h{"Origin": {"http://localhost:3000"}}, "localhost:3000", false, true},
		{"another port", h{"Origin": {"http://localhost:3001"}}, "localhost:3000", false, false},
		{"IPv6", h{"Origin": {"http://[::1]:80"}}, "[::1]", false, true},
		{"another host", h{"Origin": {"https://evil.example"}}, "a.example", true, false},
		{"a longer host", h{"Origin": {"https://a.example.evil.example"}}, "a.example", true, false},
		{"a subdomain", h{"Origin": {"https://x.a.example"}}, "a.example", true, false},
		{"http page, https request", h{"Origin": {"http://a.example"}}, "a.example", true, false},
		{"https page, TLS ended in front", h{"Origin": {"https://a.example"}}, "a.example", false, true},
		{"null", h{"Origin": {"null"}}, "a.example", true, false},
		{"empty", h{"Origin": {""}}, "a.example", true, false},
		{"empty, no host", h{"Origin": {"https://"}}, "", true, false},
		{"two", h{"Origin": {"https://a.example", "https://a.example"}}, "a.example", true, false},
		{"a list", h{"Origin": {"https://a.example https://evil.example"}}, "a.example", true, false},
		{"with a path", h{"Origin": {"https://a.example/x"}}, "a.example", true, false},
		{"with userinfo", h{"Origin": {"https://a.example@evil.example"}}, "a.example", true, false},
		{"extension", h{"Origin": {"chrome-extension://a.example"}}, "a.example", false, false},
	} {
		if got := SameOrigin(&http.Request{Header: tc.header, Host: tc.host}, tc.https); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	r := &http.Request{Header: h{"Origin": {"http://a.example"}}, Host: "a.example", TLS: &tls.ConnectionState{}}
	if SameOrigin(r, false) {
		t.Error("an http page may use an https connection")
	}
}
