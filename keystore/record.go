package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

// Bounds of what a record may hold.
const (
	MaxName  = 100 // characters
	MaxOwner = 255 // bytes
	// MaxStoredOwner leaves room for the subject text of a JWT.
	MaxStoredOwner = 512 // bytes

	MinHint = 6  // characters
	MaxHint = 20 // characters
	// hintBeyond is how far a hint must reach past an accepted prefix.
	hintBeyond = 4

	// MaxCost is the highest bcrypt cost that is ever compared: about a second
	// of one core.
	MaxCost = 14
)

// rfc3339 is the form of a time. time.Parse alone lets through what the form has
// not: hours of one digit, a comma before the fraction, offsets of a whole day.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// ParseTime reads a time of RFC 3339 with its zone.
func ParseTime(text string) (time.Time, error) {
	text = strings.ToUpper(text) // 't' and 'z' are as good as 'T' and 'Z'
	if !rfc3339.MatchString(text) {
		return time.Time{}, errors.New("not a time with its zone")
	}
	return time.Parse(time.RFC3339, text)
}

// StatusAt returns the record's state at now. Revoked outranks disabled, which
// outranks expired. A key expires at ExpiresAt, not after it.
func (r *Record) StatusAt(now time.Time) Status {
	switch {
	case !r.RevokedAt.IsZero():
		return StatusRevoked
	case r.Disabled:
		return StatusDisabled
	case !r.ExpiresAt.IsZero() && !now.Before(r.ExpiresAt):
		return StatusExpired
	}
	return StatusActive
}

// Clone returns a copy that shares nothing with r.
func (r *Record) Clone() *Record {
	c := *r
	c.Scopes = slices.Clone(r.Scopes)
	c.IPAllowlist = slices.Clone(r.IPAllowlist)
	if r.Limits != nil {
		c.Limits = &Limits{Requests: r.Limits.Requests, Concurrent: maps.Clone(r.Limits.Concurrent)}
	}
	c.Secrets = slices.Clone(r.Secrets)
	for i := range c.Secrets {
		c.Secrets[i].Hash = bytes.Clone(c.Secrets[i].Hash)
		c.Secrets[i].Digest = bytes.Clone(c.Secrets[i].Digest)
	}
	return &c
}

// Subject returns whom limits and second factors belong to: "owner:<owner>",
// else "key:<id>". A key made by a caller without an owner keeps that caller's
// subject as its owner, and shares it.
func (r *Record) Subject() string {
	switch {
	case r.Owner == "":
		return "key:" + r.ID.String()
	case strings.HasPrefix(r.Owner, "key:"), strings.HasPrefix(r.Owner, "jwt:"):
		return r.Owner
	}
	return "owner:" + r.Owner
}

// AllowsAddr reports whether the key may be used from a. An empty allowlist
// allows every address, any other refuses what is no address.
func (r *Record) AllowsAddr(a netip.Addr) bool {
	if len(r.IPAllowlist) == 0 {
		return true
	}
	a = a.Unmap().WithZone("")
	for _, p := range r.IPAllowlist {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// ValidName checks a key's name: 1 to 100 characters, none of them a control
// character.
func ValidName(s string) error {
	switch n := utf8.RuneCountInString(s); {
	case !utf8.ValidString(s):
		return errors.New("the name is not valid UTF-8")
	case n == 0:
		return errors.New("the name is empty: give 1 to 100 characters")
	case n > MaxName:
		return fmt.Errorf("the name has %d characters: give at most %d", n, MaxName)
	case hasControl(s):
		return errors.New("the name holds a control character: leave it out")
	}
	return nil
}

// ValidOwner checks an owner that somebody gave: empty for none, else at most
// 255 bytes, no control character, and not beginning like a subject (owner:,
// key:, jwt:).
func ValidOwner(s string) error {
	for _, p := range [...]string{"owner:", "key:", "jwt:"} {
		if strings.HasPrefix(s, p) {
			return fmt.Errorf("the owner begins with %q, which is reserved: choose another name", p)
		}
	}
	if len(s) > MaxOwner {
		return fmt.Errorf("the owner has %d bytes: give at most %d", len(s), MaxOwner)
	}
	return validOwnerText(s)
}

// ValidStoredOwner checks what a record may hold as its owner: what ValidOwner
// takes, or the subject (key: or jwt:) of the caller who made the key and has no
// owner.
func ValidStoredOwner(s string) error {
	if !strings.HasPrefix(s, "key:") && !strings.HasPrefix(s, "jwt:") {
		return ValidOwner(s)
	}
	if len(s) > MaxStoredOwner {
		return fmt.Errorf("the owner has %d bytes: at most %d fit", len(s), MaxStoredOwner)
	}
	return validOwnerText(s)
}

// ValidHint checks the first characters of an imported key: 6 to 20 of visible
// ASCII, reaching at least 4 beyond an accepted prefix, so that no hint catches
// whatever begins like one of our own keys.
func ValidHint(s string, formats []Format) error {
	if len(s) < MinHint || len(s) > MaxHint {
		return fmt.Errorf("the hint has %d characters: give the key's first %d to %d", len(s), MinHint, MaxHint)
	}
	if !presentable(s) {
		return errors.New("the hint holds a space, a control character or a character beyond ASCII: such a key cannot be sent in a header")
	}
	for _, f := range formats {
		if strings.HasPrefix(f.Prefix, s) || (strings.HasPrefix(s, f.Prefix) && len(s) < len(f.Prefix)+hintBeyond) {
			return fmt.Errorf("the hint is too near the key prefix %q: give at least %d characters beyond it", f.Prefix, hintBeyond)
		}
	}
	return nil
}

// ValidHash checks a bcrypt hash: $2a$, $2b$ or $2y$, cost 4 to 14, 60
// characters. The error never holds the hash.
func ValidHash(hash []byte) error {
	if len(hash) != 60 || hash[0] != '$' || hash[1] != '2' || hash[3] != '$' || hash[6] != '$' {
		return errors.New("not a bcrypt hash: it must be 60 characters that begin with $2a$, $2b$ or $2y$")
	}
	switch hash[2] {
	case 'a', 'b', 'y':
	default:
		return fmt.Errorf("bcrypt version $2%c$ is not taken: only $2a$, $2b$ and $2y$ are", hash[2])
	}
	cost, err := bcrypt.Cost(hash)
	if err != nil || !isDigit(hash[4]) || !isDigit(hash[5]) {
		return errors.New("not a bcrypt hash: its cost must be two digits, 04 to 14")
	}
	if cost > MaxCost {
		return fmt.Errorf("the bcrypt cost is %d: at most %d is compared; make a new key, or hash this one again", cost, MaxCost)
	}
	for _, c := range hash[7:] {
		if !isBase62[c] && c != '.' && c != '/' {
			return errors.New("not a bcrypt hash: salt and hash hold only the characters A-Z a-z 0-9 . /")
		}
	}
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func validOwnerText(s string) error {
	switch {
	case !utf8.ValidString(s):
		return errors.New("the owner is not valid UTF-8")
	case hasControl(s):
		return errors.New("the owner holds a control character: leave it out")
	case s != strings.TrimSpace(s):
		return errors.New("the owner begins or ends with white space, which headers lose on their way: leave it out")
	}
	return nil
}

func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }
