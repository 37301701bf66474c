package bodyrule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hivegate/hivegate/internal/policy"
)

// Bounds of a rule.
const (
	maxSegments = 8
	maxName     = 64  // bytes of one segment of a field
	maxValues   = 256 // of one rule
	maxValue    = 128 // bytes
)

// Rule is one line about the JSON body of a route's requests. It has one of two
// forms: OneOf closes the set of values of a field, the other form requires more
// of a request whose field has one of the values.
type Rule struct {
	// Field is the member that is looked at, such as "command". Dots reach
	// inside: "data.command" is the member command of the object data. Names are
	// of A-Z, a-z, 0-9, '_' and '-', and not a number; array elements cannot be
	// named.
	Field string `json:"field"`
	// Values are the texts that the rule is about, compared exactly: 1 to 256 of
	// them, 1 to 128 bytes each.
	Values []string `json:"values"`
	// OneOf refuses with 422 field_invalid every other value of the field, and a
	// body without it. Default: false.
	OneOf bool `json:"oneof,omitempty"`
	// Require is what a request with one of the values requires, on top of what
	// its route does. Not with OneOf; "public" is not possible. Default: a valid
	// credential, where SecondFactor or Signed is set.
	Require policy.Requirement `json:"require,omitzero"`
	// SecondFactor asks for a security code. Not with OneOf. Default: false.
	SecondFactor bool `json:"second_factor,omitempty"`
	// Signed asks for a request signature. Not with OneOf. Default: false.
	Signed bool `json:"signed,omitempty"`
}

// ParseRule reads the words of a line after "json":
//
//	FIELD oneof VALUE…
//	FIELD VALUE… require REQUIREMENT… [2fa] [signed]
//
// "require 2fa" alone, or with "signed", requires a valid credential besides.
// Values named "oneof" or "require" can be had in the native JSON form only.
func ParseRule(words []string) (Rule, error) {
	const form = "write 'json FIELD oneof VALUE…' or 'json FIELD VALUE… require REQUIREMENT… [2fa] [signed]'"
	if len(words) < 2 {
		return Rule{}, errors.New("a json rule is too short: " + form)
	}
	r := Rule{Field: words[0]}
	rest := words[1:]
	at := slices.Index(rest, "require")
	switch {
	case rest[0] == "oneof" && at >= 0:
		return Rule{}, errors.New("oneof and require are two lines: " + form)
	case rest[0] == "oneof":
		r.OneOf, r.Values = true, slices.Clone(rest[1:])
	case at < 0:
		return Rule{}, fmt.Errorf("json %s says nothing of its values: %s", r.Field, form)
	default:
		r.Values = slices.Clone(rest[:at])
		if err := r.parseRequire(rest[at+1:]); err != nil {
			return Rule{}, fmt.Errorf("json %s: %w", r.Field, err)
		}
	}
	if err := r.check(); err != nil {
		return Rule{}, err
	}
	return r, nil
}

func (r *Rule) parseRequire(words []string) error {
	var scopes []string
	for _, w := range words {
		switch {
		case w == "2fa" && !r.SecondFactor:
			r.SecondFactor = true
		case w == "signed" && !r.Signed:
			r.Signed = true
		case w == "2fa" || w == "signed":
			return fmt.Errorf("%s stands there twice", w)
		default:
			scopes = append(scopes, w)
		}
	}
	if len(scopes) == 0 && (r.SecondFactor || r.Signed) {
		r.Require = policy.Requirement{Authenticated: true}
		return nil
	}
	var err error
	r.Require, err = policy.ParseRequirement(scopes)
	return err
}

// String writes the rule as in a route's block, without the word "json".
func (r Rule) String() string {
	words := []string{r.Field}
	if r.OneOf {
		return strings.Join(append(append(words, "oneof"), r.Values...), " ")
	}
	words = append(append(words, r.Values...), "require", r.Require.String())
	if r.SecondFactor {
		words = append(words, "2fa")
	}
	if r.Signed {
		words = append(words, "signed")
	}
	return strings.Join(words, " ")
}

func (r *Rule) check() error {
	if err := checkField(r.Field); err != nil {
		return err
	}
	if err := checkValues(r.Values); err != nil {
		return fmt.Errorf("json %s: %w", r.Field, err)
	}
	required := r.Require.Public || r.Require.Authenticated || len(r.Require.Scopes) > 0
	switch {
	case r.OneOf && (required || r.SecondFactor || r.Signed):
		return fmt.Errorf("json %s: oneof and what a value requires are two rules", r.Field)
	case r.Require.Public:
		return fmt.Errorf("json %s: public requires nothing: leave the rule out, or name scopes", r.Field)
	case !r.OneOf && !required && !r.SecondFactor && !r.Signed:
		return fmt.Errorf("json %s: it requires nothing: name scopes, 2fa or signed, or close the set of values with oneof", r.Field)
	}
	return nil
}

func checkField(field string) error {
	segments := strings.Split(field, ".")
	if len(segments) > maxSegments {
		return fmt.Errorf("field %s reaches more than %d levels deep", quote(field), maxSegments)
	}
	for _, s := range segments {
		if !isName(s) {
			return fmt.Errorf("%s is not a field: write names of at most %d characters of A-Z, a-z, 0-9, '_' and '-', with '.' between them", quote(field), maxName)
		}
		if strings.Trim(s, "0123456789") == "" {
			return fmt.Errorf("field %s names an element of an array: only members of objects can be looked at", quote(field))
		}
		if s == protoName {
			return fmt.Errorf("field %s: a member %s is refused in every body", quote(field), protoName)
		}
	}
	return nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return strings.Trim(s, "_-") != "" && len(s) <= maxName
}

func checkValues(values []string) error {
	switch {
	case len(values) == 0:
		return errors.New("no value is named")
	case len(values) > maxValues:
		return fmt.Errorf("it names more than %d values", maxValues)
	}
	for i, v := range values {
		switch {
		case v == "" || len(v) > maxValue || !utf8.ValidString(v) || strings.IndexFunc(v, unicode.IsControl) >= 0:
			return fmt.Errorf("%s is not a value: write 1 to %d bytes of text without control characters", quote(v), maxValue)
		case slices.Contains(values[:i], v):
			return fmt.Errorf("the value %s stands there twice", quote(v))
		}
	}
	return nil
}

// quote makes a word from outside fit for an error: quoted, and cut where it is
// long.
func quote(s string) string {
	const most = 100
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
