package credential

import (
	"fmt"
	"net/http"
	"strings"
)

// DefaultPrefix is the beginning of the identity headers' names.
const DefaultPrefix = "X-Auth-"

// Cleaner removes from a request what the client must not say.
type Cleaner struct {
	// exact and prefixes are found by a name's first byte, normalised.
	exact    [256][]rule
	prefixes [256][]string
	// lengths has, per first byte, bit n set where an exact name is n bytes
	// long (bit 63: 63 or more), so that most names cost one look.
	lengths [256]uint64
}

// rule is one forbidden name.
type rule struct {
	name string // normalised
	// proper is the spelling that a trusted proxy may use; empty: none.
	proper string
	login  bool // login data
}

// forbidden are the names that are removed on every route.
var forbidden = [...]rule{
	{name: "x-http-method"}, {name: "x-http-method-override"}, {name: "x-method-override"},
	{name: "x-original-method"}, {name: "x-forwarded-method"},
	{name: "x-original-url"}, {name: "x-original-uri"}, {name: "x-rewrite-url"}, {name: "x-request-uri"},
	{name: "x-forwarded-uri"}, {name: "x-forwarded-path"},
	{name: "x-forwarded-prefix", proper: "X-Forwarded-Prefix"},
	{name: "x-real-ip", proper: "X-Real-Ip"},
	{name: "forwarded", proper: "Forwarded"},
	{name: "login", login: true}, {name: "password", login: true},
	{name: "twofa-code"}, {name: "remember"},
	{name: "x-request-id"}, {name: "proxy-connection"},
}

// hivegatePrefix begins the gate's own headers.
const hivegatePrefix = "x-hivegate-"

// NewCleaner returns a Cleaner for identity headers that begin with
// forwardPrefix (empty: [DefaultPrefix]), which also removes the headers named in
// strip. Both are taken in any spelling; see [CheckPrefix] for what makes sense.
func NewCleaner(forwardPrefix string, strip []string) *Cleaner {
	if forwardPrefix == "" {
		forwardPrefix = DefaultPrefix
	}
	c := new(Cleaner)
	for _, p := range [...]string{hivegatePrefix, normalise(forwardPrefix)} {
		c.prefixes[p[0]] = append(c.prefixes[p[0]], p)
	}
	// What the operator strips goes whoever sent it: these rules come first.
	for _, name := range strip {
		if name != "" {
			name = normalise(name)
			c.add(rule{name: name, login: name == "login" || name == "password"})
		}
	}
	for _, r := range forbidden {
		c.add(r)
	}
	return c
}

// CheckPrefix says what is wrong with a forward prefix: it must be a header name
// (RFC 9110 section 5.1), and must not be the beginning of a header that
// requests need, because all headers that begin with it are removed.
func CheckPrefix(prefix string) error {
	if err := CheckName(prefix); err != nil {
		return fmt.Errorf("forward prefix: %w", err)
	}
	p := normalise(prefix)
	for _, needed := range [...]string{"Authorization", "Connection", "Content-Type", "Content-Length", "Content-Encoding",
		"Cookie", "Host", "Accept", "Origin", "Upgrade", "User-Agent", "Sec-Fetch-Site", "Sec-WebSocket-Key",
		"Transfer-Encoding", "X-Forwarded-For", "X-Security-Code", "X-Request-Signature", "X-Request-Timestamp"} {
		if strings.HasPrefix(normalise(needed), p) {
			return fmt.Errorf("forward prefix %q would remove %s from requests: use a longer one such as %s", prefix, needed, DefaultPrefix)
		}
	}
	return nil
}

// CheckName says what is wrong with the name of a header.
func CheckName(name string) error {
	if name == "" {
		return fmt.Errorf("a header name is empty")
	}
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return fmt.Errorf("header name %q has a character that no header name may have: use letters, digits and '-'", name)
		}
	}
	return nil
}

// Clean removes the forbidden headers and filters Connection. trustedProxy says
// that the peer is a proxy whose X-Forwarded-Prefix, X-Real-IP and Forwarded
// count. It reports whether login or password were sent as headers.
func (c *Cleaner) Clean(h http.Header, trustedProxy bool) (hadLoginHeaders bool) {
	for name := range h {
		gone, login := c.judge(name, trustedProxy)
		if gone {
			delete(h, name)
		}
		hadLoginHeaders = hadLoginHeaders || login
	}
	if values, ok := h["Connection"]; ok {
		cleanConnection(h, values)
	}
	return hadLoginHeaders
}

// Forbidden reports whether a header of that name, in any spelling, is removed.
// It is for trailers, which are filtered when they have arrived; no proxy adds
// the excepted headers there, so trustedProxy is false for them.
func (c *Cleaner) Forbidden(name string, trustedProxy bool) bool {
	gone, _ := c.judge(name, trustedProxy)
	return gone
}

func (c *Cleaner) add(r rule) {
	first := r.name[0]
	c.exact[first] = append(c.exact[first], r)
	c.lengths[first] |= 1 << min(len(r.name), 63)
}

func (c *Cleaner) judge(name string, trustedProxy bool) (gone, login bool) {
	if name == "" {
		return false, false
	}
	first := fold(name[0])
	for _, p := range c.prefixes[first] {
		if len(name) >= len(p) && equal(name[:len(p)], p) {
			return true, false
		}
	}
	if c.lengths[first]&(1<<min(len(name), 63)) == 0 {
		return false, false
	}
	for i := range c.exact[first] {
		r := &c.exact[first][i]
		if len(name) == len(r.name) && equal(name, r.name) {
			return !trustedProxy || r.proper == "" || r.proper != name, r.login
		}
	}
	return false, false
}

// equal reports whether name, normalised, is want, which is normalised and of
// the same length.
func equal(name, want string) bool {
	for i := range len(name) {
		if fold(name[i]) != want[i] {
			return false
		}
	}
	return true
}

func normalise(name string) string {
	b := []byte(name)
	for i := range b {
		b[i] = fold(b[i])
	}
	return string(b)
}

// fold is a lower-case letter for a letter, the digit for a digit, and '-' for
// all else.
func fold(c byte) byte { return folded[c] }

// folded is fold as a table. Written at start only.
var folded = func() (t [256]byte) {
	for i := range t {
		c := byte(i)
		switch {
		case c >= 'A' && c <= 'Z':
			t[i] = c | 0x20
		case alphanumeric(c):
			t[i] = c
		default:
			t[i] = '-'
		}
	}
	return t
}()

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
