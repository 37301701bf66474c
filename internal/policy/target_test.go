package policy

import (
	"errors"
	"strings"
	"testing"
)

func TestRequestTargets(t *testing.T) {
	for target, want := range map[string]error{
		"/":                           nil,
		"/a?b=c":                      nil,
		"/a?":                         nil,
		"/a?x=//../%00":               nil, // of the query only _method is judged
		"*":                           nil,
		"http://example.com":          nil,
		"http://example.com/a/b?c":    nil,
		"HTTPS://example.com:443/":    nil,
		"http://[::1]:80/a":           nil,
		"http://[::ffff:1.2.3.4]/a":   nil,
		"http://h:/a":                 nil,
		"http://h?x":                  nil,
		"example.com:443":             nil, // CONNECT
		"[::1]:443":                   nil,
		"":                            errTarget,
		"?a":                          errTarget,
		"*?a":                         errTarget,
		"a/b":                         errTarget,
		"example.com":                 errTarget,
		"example.com:":                errTarget,
		":80":                         errTarget,
		"example.com:80/":             errTarget,
		"a@b:80":                      errTarget,
		"http:/a":                     errTarget,
		"http:a":                      errTarget,
		"mailto:x":                    errTarget,
		"://h/a":                      errScheme,
		"ftp://h/a":                   errScheme,
		"file:///etc/passwd":          errScheme,
		"ws://h/a":                    errScheme,
		"javascript://h/a":            errScheme,
		"http ://h/a":                 errScheme,
		"http://u@h/a":                errUserinfo,
		"http://u:p@h/a":              errUserinfo,
		"http://@h/a":                 errUserinfo,
		"http://h@evil.example:80/":   errUserinfo,
		"http:///a":                   errHost,
		"http://":                     errHost,
		"http://?a":                   errHost,
		"http://:80/a":                errHost,
		"http://[]/a":                 errHost,
		"http://[::1/a":               errHost,
		"http://[::1]x/a":             errHost,
		"http://[fe80::1%25eth0]/a":   errHost,
		"http://h:80:81/a":            errHost,
		"http://h:x/a":                errHost,
		"http://h h/a":                errHost,
		"http://h%2fa/b":              errHost,
		`http://h\a/b`:                errHost,
		"http://h\x00/a":              errHost,
		"http://h#a":                  errHost,
		"http://é/a":                  errHost,
		"http://h//a":                 errEmpty,
		"http://h/../a":               errDot,
		"http://h/%2e%2e/a":           errDot,
		`http://h/a\b`:                errBackslash,
		"//h/a":                       errEmpty,
		"/a#b":                        errRaw,
		`/a\b?c`:                      errBackslash,
		"/a/../b?c":                   errDot,
		"/a?_method=DELETE":           errOverride,
		"http://h/a?_method=DELETE":   errOverride,
		"*?_method=DELETE":            errOverride,
		"example.com:443?_method=PUT": errOverride,
	} {
		if err := CheckTarget(target, PathAllow{}); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", target, err, want)
		}
	}
	if err := CheckTarget("http://h/a;b", PathAllow{Semicolon: true}); err != nil {
		t.Errorf("what is allowed holds for an absolute URI too: %v", err)
	}
}

func TestAMethodMemberIsFoundInEverySpelling(t *testing.T) {
	for _, q := range []string{
		"_method=PUT", "_method", "_method=", "a=b&_method=PUT", "a=b;_method=PUT", "&&_method=x", ";_method", "a&_method&b",
		"%5fmethod=PUT", "%5Fmethod=PUT", "_%6dethod=PUT", "%5f%6d%65%74%68%6f%64=PUT", "_METHOD=PUT", "_Method=PUT", "%5F%4DETHOD",
		"+_method=PUT", "%20_method=PUT", "%09%0a_method", ".method=PUT", "%2Emethod=PUT", "a&.method", "_method[]=PUT", "_method%5B%5D=PUT",
		"_method[a]=PUT", "_method%00x=PUT", "_method%00", "[method=PUT", "_method+=PUT", "%20method%20&_method",
	} {
		if !overridesMethod(q) {
			t.Errorf("%q passes", q)
		}
		if !errors.Is(CheckTarget("/a?"+q, everything), errOverride) || !errors.Is(CheckQuery(q), errOverride) {
			t.Errorf("%q passes as part of a target, or alone", q)
		}
	}
	for _, q := range []string{
		"", "a=_method", "method=PUT", "_methods=1", "__method=1", "x_method=1", "_metho", "_meth%6", "a=b&c=_method;d", "_met%zzhod=1",
		"%255fmethod=1", "_method_=1", "_method%5f", "_methodx", "+method=1",
	} {
		if CheckQuery(q) != nil {
			t.Errorf("%q is refused", q)
		}
	}
}

func FuzzCheckTarget(f *testing.F) {
	for _, s := range []string{"/a?_method=x", "http://h/a", "*", "h:80", "http://u@h//", "/a?%5fmethod", "http://[::1]:80?x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if CheckTarget(target, PathAllow{}) != nil {
			return
		}
		p, query, _ := strings.Cut(target, "?")
		if strings.ContainsAny(p, "\\@ \x00#") && !strings.HasPrefix(p, "/") {
			t.Errorf("%q passes", target)
		}
		for _, member := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' }) {
			name, _, _ := strings.Cut(member, "=")
			if strings.EqualFold(lenient(name), "_method") {
				t.Errorf("%q passes", target)
			}
		}
	})
}
