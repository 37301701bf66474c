package jwtauth

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	maxCookieChunks = 16
	maxCookieValue  = 64 << 10 // all chunks of a session together
	maxCookieName   = 256
)

// Errors of [CookiePattern.Token]. They hold no part of a cookie.
var (
	ErrCookieAmbiguous = errors.New("several session cookies with different values were sent")
	ErrCookieInvalid   = errors.New("the session cookie cannot be read")
	ErrCookieTooLarge  = errors.New("the session cookie is larger than 64 KiB or has more than 16 parts")
)

// CookiePattern is the name of a session cookie, in which one "*" stands for at
// least one letter, digit, "_" or "-": "sb-*-auth-token".
type CookiePattern struct {
	prefix, suffix string
	wild           bool
}

// ParseCookiePattern reads the name of a session cookie.
func ParseCookiePattern(s string) (CookiePattern, error) {
	if s == "" || len(s) > maxCookieName {
		return CookiePattern{}, errors.New("the name of a cookie must be 1 to 256 characters")
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && !strings.ContainsRune("_-.*", rune(s[i])) {
			return CookiePattern{}, errors.New("the name of a cookie may hold letters, digits, '.', '_', '-' and one '*'")
		}
	}
	prefix, suffix, wild := strings.Cut(s, "*")
	switch {
	case strings.Contains(suffix, "*"):
		return CookiePattern{}, errors.New("the name of a cookie may hold one '*' only")
	case wild && prefix == "" && suffix == "":
		return CookiePattern{}, errors.New("the name of a cookie must hold more than '*'")
	}
	return CookiePattern{prefix, suffix, wild}, nil
}

// matches reports whether a whole name is meant.
func (p CookiePattern) matches(name string) bool {
	if !p.wild {
		return name == p.prefix
	}
	if len(name) <= len(p.prefix)+len(p.suffix) || !strings.HasPrefix(name, p.prefix) || !strings.HasSuffix(name, p.suffix) {
		return false
	}
	for _, b := range []byte(name[len(p.prefix) : len(name)-len(p.suffix)]) {
		if !isAlnum(b) && b != '_' && b != '-' {
			return false
		}
	}
	return true
}

// Match reports whether a cookie of this name belongs to the session: the name
// itself, or one of its chunks, such as "sb-abc-auth-token.0".
func (p CookiePattern) Match(name string) bool {
	base, _, chunked := cutChunk(name)
	return p.matches(name) || chunked && p.matches(base)
}

// Token returns the access token of the session cookie in a request's Cookie
// headers; "" when no such cookie was sent.
//
// It reads what @supabase/ssr writes (https://github.com/supabase/ssr): a JSON
// session, after "base64-" as base64url, or percent-encoded as older versions
// left it, in one cookie or in chunks ".0", ".1" and so on. The cookie without
// a number wins over chunks; chunks end at the first number that is missing.
// The list form of the older auth-helpers is read, too, and a cookie that is a
// token or key by itself. Cookies of one name
// with different values, and of different names that match, are an error:
// another site under the same domain may have planted one of them.
func (p CookiePattern) Token(h http.Header) (string, error) {
	var s session
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, val, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			if !ok {
				continue
			}
			if err := s.add(p, name, val); err != nil {
				return "", err
			}
		}
	}
	if s.name == "" {
		return "", nil
	}
	raw, err := s.join()
	if err != nil || raw == "" {
		return "", err
	}
	return accessToken(raw)
}

// session gathers the cookies of one session.
type session struct {
	name      string
	whole     string
	unchunked bool // there is a cookie without a number
	chunks    [maxCookieChunks]string
	has       [maxCookieChunks]bool
}

func (s *session) add(p CookiePattern, name, val string) error {
	if p.matches(name) {
		if s.name != "" && s.name != name || s.unchunked && s.whole != val {
			return ErrCookieAmbiguous
		}
		s.name, s.whole, s.unchunked = name, val, true
		return nil
	}
	base, n, ok := cutChunk(name)
	if !ok || !p.matches(base) {
		return nil
	}
	if n >= maxCookieChunks {
		return ErrCookieTooLarge
	}
	if s.name != "" && s.name != base || s.has[n] && s.chunks[n] != val {
		return ErrCookieAmbiguous
	}
	s.name, s.chunks[n], s.has[n] = base, val, true
	return nil
}

// join puts the value together. Each chunk is percent-decoded on its own, as
// each was encoded on its own.
func (s *session) join() (string, error) {
	if s.unchunked {
		if len(s.whole) > maxCookieValue {
			return "", ErrCookieTooLarge
		}
		return unescapeCookie(s.whole)
	}
	var b strings.Builder
	for n := range s.chunks {
		if !s.has[n] {
			break
		}
		if b.Len()+len(s.chunks[n]) > maxCookieValue {
			return "", ErrCookieTooLarge
		}
		part, err := unescapeCookie(s.chunks[n])
		if err != nil {
			return "", err
		}
		b.WriteString(part)
	}
	if b.Len() == 0 {
		return "", ErrCookieInvalid // the first chunk is missing
	}
	return b.String(), nil
}

// cutChunk splits "name.3" into "name" and 3.
func cutChunk(name string) (base string, n int, ok bool) {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return "", 0, false
	}
	digits := name[dot+1:]
	if digits == "" || len(digits) > 4 || digits[0] == '0' && len(digits) > 1 || strings.Trim(digits, "0123456789") != "" {
		return "", 0, false
	}
	n, err := strconv.Atoi(digits)
	return name[:dot], n, err == nil
}

func unescapeCookie(s string) (string, error) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' { // RFC 6265 section 4.1.1
		s = s[1 : len(s)-1]
	}
	if !strings.Contains(s, "%") {
		return s, nil
	}
	out, err := url.PathUnescape(s)
	if err != nil {
		return "", ErrCookieInvalid
	}
	return out, nil
}

// bareCredential reports whether a cookie is a token or key as it stands: nothing
// but what these consist of, and not shorter than the shortest of them.
func bareCredential(raw string) bool {
	if len(raw) < 20 {
		return false
	}
	for i := range len(raw) {
		if c := raw[i]; !isAlnum(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// accessToken takes access_token out of a session. A session that has none, or
// an empty one (signed out), has no token.
func accessToken(raw string) (string, error) {
	if encoded, ok := strings.CutPrefix(raw, "base64-"); ok {
		decoded, ok := decodeSegment(encoded)
		if !ok {
			return "", ErrCookieInvalid
		}
		raw = decoded
	}
	if bareCredential(raw) {
		return raw, nil
	}
	root, err := parseJSON(raw, maxTokenValues)
	if err != nil {
		return "", ErrCookieInvalid
	}
	var v *value
	switch root.kind {
	case kindObject:
		v = root.get("access_token")
	case kindArray:
		if len(root.members) == 0 {
			return "", nil
		}
		v = &root.members[0].value
	case kindNull:
		return "", nil
	default:
		return "", ErrCookieInvalid
	}
	switch {
	case v == nil || v.kind == kindNull:
		return "", nil
	case v.kind != kindString || len(v.text) > maxToken:
		return "", ErrCookieInvalid
	}
	return strings.Clone(v.text), nil
}
