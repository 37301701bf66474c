package jwtauth

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"
)

// claims are the registered claims of RFC 7519 section 4.1, read by exact name
// and type, and the rest as it came. It implements [jwt.Claims], so that
// golang-jwt's validator judges what was read here.
type claims struct {
	root          value
	iss, sub      string
	hasIss        bool
	aud           jwt.ClaimStrings
	exp, nbf, iat *jwt.NumericDate
	dates         [3]jwt.NumericDate // what those point to
}

var _ jwt.Claims = (*claims)(nil)

// read fills c from an object.
func (c *claims) read(root *value) *Denied {
	*c = claims{root: *root}
	for i := range root.members {
		v := &root.members[i].value
		switch root.members[i].name {
		case "iss":
			if v.kind != kindString {
				return denyIssType
			}
			c.iss, c.hasIss = v.text, true
		case "sub":
			if v.kind != kindString || v.text != "" && (!validText(v.text) || v.text != strings.TrimSpace(v.text)) {
				return denySubType
			}
			c.sub = v.text
		case "aud":
			list, ok := textList(v)
			if !ok {
				return denyAudType
			}
			c.aud = list
		case "exp", "nbf", "iat":
			at, ok := numericDate(v)
			if !ok {
				return denyTimeType
			}
			c.set(root.members[i].name, at)
		}
	}
	return nil
}

func (c *claims) set(name string, at time.Time) {
	i, to := 0, &c.exp
	switch name {
	case "nbf":
		i, to = 1, &c.nbf
	case "iat":
		i, to = 2, &c.iat
	}
	c.dates[i].Time = at
	*to = &c.dates[i]
}

// judge is golang-jwt's validator for one issuer's tokens, and the time by which it
// judges. Making one for each token would take longer than its judging.
type judge struct {
	now       time.Time
	aud       []string
	validator *jwt.Validator
}

func newJudge(leeway time.Duration, aud []string) *judge {
	j := &judge{aud: aud}
	j.validator = jwt.NewValidator(
		jwt.WithTimeFunc(func() time.Time { return j.now }),
		jwt.WithLeeway(leeway),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithAudience(aud...),
	)
	return j
}

// judge checks the times and the audience at j.now.
func (j *judge) judge(c *claims) *Denied {
	err := j.validator.Validate(c)
	switch {
	case err == nil:
		return nil
	case c.exp == nil:
		return denyExpMissing
	case len(j.aud) > 0 && (errors.Is(err, jwt.ErrTokenInvalidAudience) || errors.Is(err, jwt.ErrTokenRequiredClaimMissing)):
		return denyAud
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return denyNotYet
	case errors.Is(err, jwt.ErrTokenExpired):
		// Last: a new token would not help where something else is wrong too.
		return denyExpired
	}
	return denyClaim
}

// GetExpirationTime implements [jwt.Claims].
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp, nil }

// GetNotBefore implements [jwt.Claims].
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) { return c.nbf, nil }

// GetIssuedAt implements [jwt.Claims].
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return c.iat, nil }

// GetAudience implements [jwt.Claims].
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return c.aud, nil }

// GetIssuer implements [jwt.Claims].
func (c *claims) GetIssuer() (string, error) { return c.iss, nil }

// GetSubject implements [jwt.Claims].
func (c *claims) GetSubject() (string, error) { return c.sub, nil }

// maxNumericDate is the last second of the year 9999, the last that RFC 3339
// can write; past it arithmetic with durations comes near its end as well.
const maxNumericDate = 253402300799

// numericDate reads a NumericDate (RFC 7519 section 2): a JSON number of
// seconds since 1970, with or without a fraction. Texts, negative numbers and
// numbers past the year 9999 are errors.
func numericDate(v *value) (time.Time, bool) {
	if v.kind != kindNumber || strings.HasPrefix(v.text, "-") {
		return time.Time{}, false
	}
	if n, err := strconv.ParseInt(v.text, 10, 64); err == nil {
		return time.Unix(n, 0), n <= maxNumericDate
	}
	f, err := strconv.ParseFloat(v.text, 64)
	if err != nil || !(f >= 0 && f <= maxNumericDate) {
		return time.Time{}, false
	}
	sec, frac := math.Modf(f)
	return time.Unix(int64(sec), int64(frac*1e9)), true
}

// textList reads a text, or a list of texts.
func textList(v *value) ([]string, bool) {
	switch v.kind {
	case kindString:
		return []string{v.text}, true
	case kindArray:
		list := make([]string, 0, len(v.members))
		for i := range v.members {
			if v.members[i].value.kind != kindString {
				return nil, false
			}
			list = append(list, v.members[i].value.text)
		}
		return list, true
	}
	return nil, false
}

// path names a claim, a member of a member for each further element.
type path []string

// parsePath reads the name of a claim: dots reach inside, but a name with
// "://" (as identity providers use them for claims of their own) is one name.
// What users may write themselves is refused: rights must not come from there.
func parsePath(name string) (path, error) {
	if name == "" || len(name) > maxClaimPath || hasControl(name) {
		return nil, errors.New("the name of a claim must be 1 to 256 bytes without control characters")
	}
	if strings.ContainsAny(name, "{}") {
		return nil, errors.New("the name of a claim must not hold braces")
	}
	p := path{name}
	if !strings.Contains(name, "://") {
		p = strings.Split(name, ".")
	}
	for _, part := range p {
		if part == "" {
			return nil, errors.New("the name of a claim has an empty part between dots")
		}
		if strings.EqualFold(part, userMetadata) || strings.EqualFold(part, rawUserMetaKey) {
			return nil, errors.New("nothing is read from user_metadata, which users can write themselves: use app_metadata")
		}
	}
	return p, nil
}

// find looks a claim up. It returns nil where it is missing, and false where
// something on the way to it is no object.
func (p path) find(v *value) (*value, bool) {
	for _, part := range p {
		if v.kind != kindObject {
			return nil, false
		}
		if v = v.get(part); v == nil {
			return nil, true
		}
	}
	return v, true
}

// text looks up a claim that must be a text where it is there at all. A nil
// path is a claim that nobody asks for. An empty text counts as missing.
func (p path) text(root *value) (string, bool) {
	if p == nil {
		return "", true
	}
	v, ok := p.find(root)
	if !ok {
		return "", false
	}
	if v == nil {
		return "", true
	}
	if v.kind != kindString || v.text != "" && !validText(v.text) {
		return "", false
	}
	return v.text, true
}

// maxText bounds what names a caller, in bytes: it becomes the key of buckets
// and the value of headers.
const maxText = 1024

func validText(s string) bool { return s != "" && len(s) <= maxText && !hasControl(s) }

// hasControl reports control characters (C0, DEL, C1) and the line and
// paragraph separators, which some readers of logs take for line ends.
func hasControl(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return true
		}
	}
	return false
}
