package policy

import (
	"errors"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

var everything = PathAllow{Percent: true, Semicolon: true, EncodedSlash: true}

func TestPathsThatCanBeReadInOneWayPass(t *testing.T) {
	for _, p := range []string{
		"", "*", "/", "/a", "/a/", "/a/b/c", "/farms/1/workers/2/command", "/.well-known/x", "/...", "/a.b", "/a..b", "/..a", "/a..",
		"/a%20b", "/%7Euser", "/~user", "/caf%C3%A9", "/caf%c3%a9/", "/%E2%80%A6", "/a:b@c!$&'()*+,=", "/[x]", "/{x}", `/"<>^|` + "`",
		"/%3F", "/%23", "/%2B", "/%F0%9F%98%80", "/%EF%BC%85", "/%EF%BC%9B", "/%E2%80%A8", "/%EF%BB%BF", "/a%C2%A0b",
	} {
		if err := CheckPath(p, PathAllow{}); err != nil {
			t.Errorf("%s: %v", p, err)
		}
		if err := CheckPath(p, everything); err != nil {
			t.Errorf("%s, all allowed: %v", p, err)
		}
	}
}

// ambiguous maps paths that are refused whatever is allowed to their error.
var ambiguous = map[string]pathError{
	"a":                             errNotPath,
	"http://h/a":                    errNotPath,
	"//":                            errEmpty,
	"//a":                           errEmpty,
	"/a//b":                         errEmpty,
	"/a//":                          errEmpty,
	"///":                           errEmpty,
	"/.":                            errDot,
	"/./":                           errDot,
	"/..":                           errDot,
	"/../":                          errDot,
	"/a/.":                          errDot,
	"/a/..":                         errDot,
	"/a/./b":                        errDot,
	"/a/../b":                       errDot,
	"/a/%2e/b":                      errDot,
	"/a/%2E":                        errDot,
	"/a/%2e%2e/b":                   errDot,
	"/a/%2E%2e":                     errDot,
	"/a/.%2e/b":                     errDot,
	"/a/%2e./b":                     errDot,
	"/%ef%bc%8e":                    errDot, // fullwidth full stop
	"/%EF%BC%8E%EF%BC%8E/a":         errDot,
	"/a/%EF%BC%8E./b":               errDot,
	"/a/%2e%EF%BC%8E/b":             errDot,
	"/%E2%80%A4/b":                  errDot, // one dot leader
	"/%E2%80%A5/b":                  errDot, // two dot leader
	"/%EF%B9%92%E2%80%A4":           errDot, // small full stop
	"/%EF%BC%852e%EF%BC%852e/b":     errDot, // wide percent characters
	"/%EF%BC%8E%EF%BC%8E%EF%BC%9Bx": errDot, // a wide semicolon
	"/a%5cb":                        errBackslash,
	"/a%5C":                         errBackslash,
	`/a\b`:                          errBackslash,
	`/\`:                            errBackslash,
	"/a%00":                         errControl,
	"/%01":                          errControl,
	"/a%0d%0aX":                     errControl,
	"/%1F":                          errControl,
	"/%7f":                          errControl,
	"/%09":                          errControl,
	"/%C2%80":                       errControl,
	"/%C2%85":                       errControl,
	"/%C2%9F":                       errControl,
	"/a\x00":                        errControl,
	"/a\tb":                         errControl,
	"/a\x7f":                        errControl,
	"/a b":                          errRaw,
	"/\xc3":                         errUTF8,
	"/a\xff/b":                      errUTF8,
	"/．．":                           errDot,
	"/a／b":                          errUnicodeSlash,
	"/\u0085":                       errControl,
	"/．．/a":                         errDot,
	"/\xff":                         errUTF8,
	"/a?b":                          errRaw,
	"/a#b":                          errRaw,
	"/a%EF%BC%8Fb":                  errUnicodeSlash, // fullwidth solidus
	"/a%EF%BC%BCb":                  errUnicodeSlash, // fullwidth reverse solidus
	"/a%EF%B9%A8b":                  errUnicodeSlash, // small reverse solidus
	"/%E2%84%80":                    errUnicodeSlash, // a/c
	"/%E2%84%85":                    errUnicodeSlash, // c/o
	"/a%EF%BC%852fb":                errUnicodeSlash,
	"/a%":                           errEscape,
	"/a%2":                          errEscape,
	"/a%2/b":                        errEscape,
	"/a%g0":                         errEscape,
	"/a%0g":                         errEscape,
	"/%u002e":                       errEscape,
	"/%%":                           errEscape,
	"/%ff":                          errUTF8,
	"/%C3":                          errUTF8,
	"/%C3/%A9":                      errUTF8,
	"/%C0%AE%C0%AE/a":               errUTF8, // overlong dots
	"/%C0%AF":                       errUTF8, // overlong slash
	"/%E0%80%AF":                    errUTF8,
	"/%ED%A0%80":                    errUTF8, // a surrogate
	"/%F4%90%80%80":                 errUTF8,
}

func TestAmbiguousPathsAreRefusedWhateverIsAllowed(t *testing.T) {
	for p, want := range ambiguous {
		if err := CheckPath(p, PathAllow{}); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", p, err, want)
		}
		if err := CheckPath(p, everything); err == nil {
			t.Errorf("%q passes when all is allowed", p)
		}
		if strings.HasPrefix(p, "/") && !strings.Contains(p, "?") {
			if err := CheckTarget(p+"?x=1", PathAllow{}); !errors.Is(err, want) {
				t.Errorf("%q as a request target: %v, want %v", p, err, want)
			}
		}
	}
}

func TestWhatASiteMayAllowIsRefusedOtherwise(t *testing.T) {
	for _, c := range []struct {
		path  string
		allow PathAllow
		err   pathError
	}{
		{"/a%25b", PathAllow{Percent: true}, errPercent},
		{"/100%25", PathAllow{Percent: true}, errPercent},
		{"/%2541", PathAllow{Percent: true}, errPercent},
		{"/a;b", PathAllow{Semicolon: true}, errSemicolon},
		{"/a;b/c;d=e;f", PathAllow{Semicolon: true}, errSemicolon},
		{"/a%3Bb", PathAllow{Semicolon: true}, errSemicolon},
		{"/a%3b", PathAllow{Semicolon: true}, errSemicolon},
		{"/a%2Fb", PathAllow{EncodedSlash: true}, errSlash},
		{"/a%2fb%2fc/d", PathAllow{EncodedSlash: true}, errSlash},
	} {
		if err := CheckPath(c.path, PathAllow{}); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.path, err, c.err)
		}
		if err := CheckPath(c.path, c.allow); err != nil {
			t.Errorf("%s with %+v: %v", c.path, c.allow, err)
		}
		others := PathAllow{!c.allow.Percent, !c.allow.Semicolon, !c.allow.EncodedSlash}
		if err := CheckPath(c.path, others); !errors.Is(err, c.err) {
			t.Errorf("%s with %+v: %v, want %v", c.path, others, err, c.err)
		}
	}
}

func TestWhatIsAllowedNeverHidesDotSegments(t *testing.T) {
	percent, semicolon, slash := PathAllow{Percent: true}, PathAllow{Semicolon: true}, PathAllow{EncodedSlash: true}
	for _, c := range []struct {
		path  string
		allow PathAllow
	}{
		{"/%252e%252e/a", percent}, {"/%252e", percent}, {"/%25252e%25252E/a", percent}, {"/.%252e/a", percent},
		{"/a%252fb", percent}, {"/a%255cb", percent}, {"/a%2500", percent}, {"/a%250a", percent}, {"/a%257f", percent}, {"/a%253bb", percent},
		{"/%25ff", percent}, {"/%25C0%25AE", percent}, {"/%25EF%25BC%258E", percent}, {"/%25EF%25BC%258F", percent}, {"/%EF%BC%8E%252e", percent},
		{"/%25zz%252e%252e%252f", percent}, {"/%25C2%2585", percent},
		{"/%" + strings.Repeat("25", 20), percent}, {"/%" + strings.Repeat("25", 100000) + "2e", percent},
		{"/..;/a", semicolon}, {"/..;x=1/a", semicolon}, {"/.;", semicolon}, {"/;/a", semicolon}, {"/;x/a", semicolon}, {"/a/;x", semicolon},
		{"/%2e%2e;x/a", semicolon}, {"/..%3bx/a", semicolon}, {"/%3b/a", semicolon}, {"/%EF%BC%8E.;/a", semicolon}, {"/..%EF%BC%9Bx/a", semicolon},
		{"/..%2fa", slash}, {"/a%2f..", slash}, {"/a%2f%2e%2e%2fb", slash}, {"/a%2f.%2fb", slash}, {"/%2fa", slash}, {"/a%2f", slash}, {"/a%2f/b", slash},
		{"/a%2f%2fb", slash}, {"/%2f", slash}, {"/a%2f%5c", slash}, {"/a%2f%EF%BC%8Fb", slash}, {"/a%2f%EF%BC%8E%EF%BC%8E", slash}, {"/%2F%2Fevil.example", slash},
		{"/a%252f%252e%252e", everything}, {"/a%252f%252fb", everything}, {"/a%252f..;x", everything}, {"/%252e%252e%253bx/a", everything},
		{"/a%2f;x", everything}, {"/a%25252f..%25252fb", everything}, {"/%252fa", everything}, {"/a%252f;/b", everything},
	} {
		if err := CheckPath(c.path, c.allow); err == nil {
			t.Errorf("%.80s passes with %+v", c.path, c.allow)
		}
	}
}

func TestErrorsOfPathsHoldNoneOfThePath(t *testing.T) {
	for p := range ambiguous {
		const mark = "SECRET"
		if err := CheckPath("/"+mark+p, PathAllow{}); err != nil && strings.Contains(err.Error(), mark) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// slowCheckPath is the rule of the path check, one step after the other, on
// other people's parsers.
func slowCheckPath(p string, a PathAllow) bool {
	if p == "" || p == "*" {
		return true
	}
	if !regexp.MustCompile(`^/[!-~]*$`).MatchString(p) || strings.ContainsAny(p, `\?#`) {
		return false
	}
	segments := strings.Split(p[1:], "/")
	for i, s := range segments {
		if s == "" {
			if i < len(segments)-1 {
				return false
			}
			continue
		}
		text, err := url.PathUnescape(s)
		if err != nil {
			return false
		}
		for level := 0; ; level++ {
			if level == maxDecodes || !slowJudge(text, a) {
				return false
			}
			next := lenient(text)
			if !a.Percent || next == text {
				break
			}
			text = next
		}
	}
	return true
}

var escapes = regexp.MustCompile(`%[0-9a-fA-F]{2}`)

func lenient(s string) string {
	return escapes.ReplaceAllStringFunc(s, func(e string) string {
		b, _ := url.PathUnescape(e)
		return b
	})
}

var (
	dotSegment = regexp.MustCompile(`(?s)^\.\.?(;.*)?$`)
	controls   = regexp.MustCompile(`[\x00-\x1f\x7f-\x{9f}]`)
)

func slowJudge(text string, a PathAllow) bool {
	if !utf8.ValidString(text) || controls.MatchString(text) || strings.Contains(text, `\`) ||
		!a.Percent && strings.Contains(text, "%") || !a.Semicolon && strings.Contains(text, ";") || !a.EncodedSlash && strings.Contains(text, "/") {
		return false
	}
	for _, part := range strings.Split(text, "/") {
		if strings.Split(part, ";")[0] == "" {
			return false
		}
		forms := []string{part}
		if n := norm.NFKC.String(part); n != part {
			forms = append(forms, n, lenient(n))
		}
		for _, f := range forms {
			if dotSegment.MatchString(f) || strings.ContainsAny(f, `/\`) {
				return false
			}
		}
	}
	return true
}

func FuzzCheckPath(f *testing.F) {
	for p := range ambiguous {
		f.Add(p, uint8(0))
		f.Add(p, uint8(7))
	}
	for _, p := range []string{"/a%25b", "/a;b", "/a%2Fb", "/%252e%252e%252f", "/farms/1/", "/caf%C3%A9"} {
		f.Add(p, uint8(0))
		f.Add(p, uint8(1))
		f.Add(p, uint8(2))
		f.Add(p, uint8(4))
	}
	f.Fuzz(func(t *testing.T, p string, bits uint8) {
		a := PathAllow{bits&1 != 0, bits&2 != 0, bits&4 != 0}
		err := CheckPath(p, a)
		if want := slowCheckPath(p, a); (err == nil) != want {
			t.Fatalf("%q %+v: %v, but the rule says %v", p, a, err, want)
		}
		if strings.HasPrefix(p, "/") && !strings.Contains(p, "?") && (CheckTarget(p, a) == nil) != (err == nil) {
			t.Fatalf("%q %+v: CheckTarget and CheckPath differ", p, a)
		}
		if err != nil || p == "" || p == "*" {
			return
		}
		if CheckPath(p, everything) != nil {
			t.Fatalf("%q passes with %+v but not when all is allowed", p, a)
		}
		// However often and however normalized a backend reads it, the path
		// stays where it is.
		text, uerr := url.PathUnescape(p)
		if uerr != nil {
			t.Fatalf("%q: %v", p, uerr)
		}
		for range maxDecodes {
			for _, form := range []string{text, norm.NFKC.String(text)} {
				if clean := path.Clean(form); clean != form && clean+"/" != form {
					t.Fatalf("%q %+v: read as %q it is cleaned to %q", p, a, form, clean)
				}
				if strings.ContainsAny(form, "\\\x00\r\n") {
					t.Fatalf("%q %+v: read as %q", p, a, form)
				}
			}
			if !a.EncodedSlash && strings.Count(text, "/") != strings.Count(p, "/") {
				t.Fatalf("%q %+v: a slash appears", p, a)
			}
			text = lenient(text)
		}
	})
}

func TestUTF8ThatIsSentAsItIsPassesLikeEncoded(t *testing.T) {
	for _, path := range []string{"/café", "/農場/1", "/caf%C3%A9/é", "/ﬁ"} {
		if err := CheckPath(path, PathAllow{}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if err := CheckTarget(path+"?q=é", PathAllow{}); err != nil {
			t.Errorf("%s as a request target: %v", path, err)
		}
	}
}
