package credential

import (
	"net/http"
	"strings"
)

// Problem says why no credential was found; None where one was.
type Problem uint8

// The problems. [Problem.Malformed] tells those of a malformed header.
const (
	None Problem = iota
	// Missing: there is no Authorization header.
	Missing
	// LoginHeaders: as Missing, but login data were sent as headers (see
	// [Problem.WithLogin]).
	LoginHeaders
	// Multiple: there are several Authorization headers.
	Multiple

	// Bare: a token without a scheme.
	Bare
	// Glued: no space between Bearer and the token.
	Glued
	// Separator: Bearer is followed by ':' or '='.
	Separator
	// WrongScheme: a scheme other than Bearer.
	WrongScheme
	// Spaces: more white space than one space, or white space around or
	// within the value.
	Spaces
	// Empty: no token.
	Empty
	// ListInOne: several credentials, or a comma, in one header.
	ListInOne
	// BadCharacter: a control character or one outside ASCII.
	BadCharacter
	problems // how many there are
)

const (
	// LoginHint answers login data that were sent as headers.
	LoginHint = "send login data in the POST body, or use only the token"
	// QueryHint answers a credential in the query string, which is never
	// accepted: addresses end up in logs, histories and Referer headers.
	QueryHint = "credentials in the query string are not accepted; send 'Authorization: Bearer <token>', and replace what was sent"
)

// hints are printable ASCII without '"' and '\', as error_description asks.
var hints = [problems]string{
	Missing:      "send 'Authorization: Bearer <token>' with an API key or a JWT as the token",
	LoginHeaders: LoginHint,
	Multiple:     "send exactly one Authorization header",
	Bare:         "Authorization must be 'Bearer <token>'; the token was sent without the scheme",
	Glued:        "a space is missing after Bearer",
	Separator:    "Authorization must be 'Bearer <token>': one space after Bearer, no colon and no equals sign",
	WrongScheme:  "Authorization must be 'Bearer <token>'; another scheme was sent",
	Spaces:       "Authorization must be 'Bearer <token>' with exactly one space, and no other white space",
	Empty:        "Authorization must be 'Bearer <token>'; the token is empty",
	ListInOne:    "Authorization must be 'Bearer <token>' with one token; it holds a comma",
	BadCharacter: "Authorization must be 'Bearer <token>'; the value holds a character that no token has",
}

// Hint is the text that would have saved the caller; empty for None.
func (p Problem) Hint() string {
	if p < problems {
		return hints[p]
	}
	return ""
}

// Malformed reports whether a header was there but could not be read.
func (p Problem) Malformed() bool { return p >= Bare && p < problems }

// WithLogin turns Missing into LoginHeaders where the request had login data as
// headers (see [Cleaner.Clean]).
func (p Problem) WithLogin(had bool) Problem {
	if had && p == Missing {
		return LoginHeaders
	}
	return p
}

// IsJWT reports whether v has three dot-separated parts, empty ones included: a
// token with an empty signature is a bad token, not a bad key.
func IsJWT(v string) bool { return strings.Count(v, ".") == 2 }

const bearer = "bearer"

// Bearer returns the credential in Authorization (RFC 6750 section 2.1), or why
// there is none. It returns a value or a problem, never both, and allocates
// nothing.
func Bearer(h http.Header) (value string, problem Problem) {
	values := h["Authorization"]
	switch len(values) {
	case 0:
		return "", Missing
	case 1:
		v := values[0]
		if hasPrefixFold(v, bearer) && len(v) > len(bearer)+1 && v[len(bearer)] == ' ' && clean(v[len(bearer)+1:]) {
			return v[len(bearer)+1:], None
		}
		return "", diagnose(v)
	}
	return "", Multiple
}

// acceptable has the bytes a credential may consist of: visible ASCII except the
// comma. Written at start only.
var acceptable = func() (t [256]bool) {
	for c := '!'; c <= '~'; c++ {
		t[c] = c != ','
	}
	return t
}()

// clean reports whether v has acceptable bytes only. It reads eight bytes at a
// time, and looks at what was found out every four times: a JWT has hundreds, and
// every request comes through here.
func clean(v string) bool {
	for ; len(v) >= 32; v = v[32:] {
		if (unclean(word(v))|unclean(word(v[8:]))|unclean(word(v[16:]))|unclean(word(v[24:])))&tops != 0 {
			return false
		}
	}
	for ; len(v) >= 8; v = v[8:] {
		if unclean(word(v))&tops != 0 {
			return false
		}
	}
	for i := range len(v) {
		if !acceptable[v[i]] {
			return false
		}
	}
	return true
}

const ones, tops = 0x0101010101010101, 0x8080808080808080

// unclean has a top bit set, of those that tops names, if and only if a byte of x is
// not acceptable. In a byte below 0x80, adding 0x80-n sets the top bit if and only if
// the byte is n or more, and carries nothing into the next one; bytes from 0x80 on
// show by x itself, whatever their carries do to their neighbours.
func unclean(x uint64) uint64 {
	visible := x + ones*(0x80-'!')
	del := x + ones
	noComma := (x ^ ones*',') + ones*0x7f
	return ^(visible & noComma) | del | x
}

// word is the first eight bytes of v.
func word(v string) uint64 {
	_ = v[7]
	return uint64(v[0]) | uint64(v[1])<<8 | uint64(v[2])<<16 | uint64(v[3])<<24 |
		uint64(v[4])<<32 | uint64(v[5])<<40 | uint64(v[6])<<48 | uint64(v[7])<<56
}

// diagnose says what is wrong with a value that is not 'Bearer <token>'.
func diagnose(v string) Problem {
	commas, spaces := 0, 0
	tabs := false
	for i := range len(v) {
		switch c := v[i]; {
		case c == '\t':
			tabs = true
		case c < ' ' || c > '~':
			return BadCharacter
		case c == ',':
			commas++
		case c == ' ':
			spaces++
		}
	}
	switch {
	case len(v) == spaces && !tabs: // nothing but spaces
		return Empty
	case tabs:
		return Spaces
	case !hasPrefixFold(v, bearer):
		return notBearer(v, commas)
	}
	rest := v[len(bearer):]
	switch {
	case strings.Trim(rest, " ") == "":
		return Empty
	case commas > 0:
		return ListInOne
	case v[len(v)-1] == ' ':
		return Spaces
	case rest[0] == ':' || rest[0] == '=':
		return Separator
	case rest[0] != ' ' && spaces > 0:
		return WrongScheme // "BearerToken abc"
	case rest[0] != ' ':
		return Glued
	}
	return Spaces // more than one
}

// schemes are words that stand alone for a forgotten credential rather than for
// a bare token (IANA's registry of authentication schemes, and two in wide use).
var schemes = [...]string{
	"basic", "digest", "dpop", "gnap", "hoba", "mutual", "negotiate", "ntlm", "oauth", "privatetoken",
	"scram-sha-1", "scram-sha-256", "token", "apikey", "vapid",
}

// notBearer says what is wrong with a value that does not begin with Bearer and
// has only visible ASCII and spaces.
func notBearer(v string, commas int) Problem {
	if v[0] == ' ' || v[len(v)-1] == ' ' {
		return Spaces
	}
	scheme, _, spaced := strings.Cut(v, " ")
	switch {
	case spaced && !strings.Contains(scheme, ","):
		return WrongScheme
	case commas > 0:
		return ListInOne
	}
	for _, s := range schemes {
		if strings.EqualFold(v, s) {
			return WrongScheme
		}
	}
	return Bare
}

// hasPrefixFold reports whether s begins with prefix, which is lower-case
// letters, in any case.
func hasPrefixFold(s, prefix string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if s[i]|0x20 != prefix[i] {
			return false
		}
	}
	return true
}
