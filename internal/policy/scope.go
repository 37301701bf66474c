package policy

import (
	"fmt"
	"strings"
	"unicode"
)

// maxValue is the longest narrowing value, in bytes.
const maxValue = 128

// Grant is one scope as a principal holds it. "workers:command@farmId=42,43"
// is {Scope: "workers:command", Param: "farmId", Values: {"42", "43"}}; a scope
// held whole has neither Param nor Values.
type Grant struct {
	Scope string
	// Param is the name of the route parameter that the grant is narrowed by;
	// empty: it is not.
	Param string
	// Values are those that the parameter may have.
	Values []string
}

// String writes the grant as [ParseGrant] reads it.
func (g Grant) String() string {
	if g.Param == "" {
		return g.Scope
	}
	return g.Scope + "@" + g.Param + "=" + strings.Join(g.Values, ",")
}

// ParseScope says whether s is a scope without narrowing: resource:action,
// resource:* or *, in characters a-z, 0-9, '.', '_' and '-'.
func ParseScope(s string) error {
	if s == "*" {
		return nil
	}
	if strings.Contains(s, "@") {
		return fmt.Errorf("%s is narrowed to objects, which only the scopes of a key or a role can be: leave out '@' and what follows", quote(s))
	}
	resource, action, _ := strings.Cut(s, ":")
	if isScopeWord(resource) && (action == "*" || isScopeWord(action)) {
		return nil
	}
	if lower := strings.ToLower(s); lower != s && ParseScope(lower) == nil {
		return fmt.Errorf("%s is not a scope: scopes are in lower case, write %s", quote(s), lower)
	}
	return fmt.Errorf("%s is not a scope: write resource:action (in a-z, 0-9, '.', '_' and '-'), resource:* or *", quote(s))
}

// ParseGrant reads a scope that may be narrowed: scope@param=value,value. The
// parameter is an identifier as in a route pattern; values are 1 to 128
// characters of A-Z, a-z, 0-9, '.', '_', '~', ':' and '-'.
func ParseGrant(s string) (Grant, error) {
	scope, narrowing, narrowed := strings.Cut(s, "@")
	if err := ParseScope(scope); err != nil {
		return Grant{}, err
	}
	if !narrowed {
		return Grant{Scope: scope}, nil
	}
	param, list, found := strings.Cut(narrowing, "=")
	if !found {
		return Grant{}, fmt.Errorf("%s: after '@' write parameter=value, or several values with ',' between them", quote(s))
	}
	if !isIdentifier(param) {
		return Grant{}, fmt.Errorf("%s: %s is not the name of a route parameter", quote(s), quote(param))
	}
	values := strings.Split(list, ",")
	for _, v := range values {
		if !isValue(v) {
			return Grant{}, fmt.Errorf("%s: %s is not a value for %s: write 1 to %d characters of A-Z, a-z, 0-9, '.', '_', '~', ':' and '-'",
				quote(s), quote(v), param, maxValue)
		}
	}
	return Grant{Scope: scope, Param: param, Values: values}, nil
}

// resourceOf returns the part of a valid scope before the colon; "" for "*".
func resourceOf(scope string) string {
	if i := strings.IndexByte(scope, ':'); i > 0 {
		return scope[:i]
	}
	return ""
}

// isWildcard says whether a valid scope stands for several: * or resource:*.
func isWildcard(scope string) bool {
	return strings.HasSuffix(scope, "*")
}

func isScopeWord(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return s != ""
}

func isValue(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > ':') && // ':' follows '9'
			c != '.' && c != '_' && c != '~' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxValue
}

// isIdentifier says whether s is a Go identifier, which is what net/http's
// patterns ask of a parameter's name.
func isIdentifier(s string) bool {
	for i, c := range s {
		if c == unicode.ReplacementChar || !unicode.IsLetter(c) && c != '_' && (i == 0 || !unicode.IsDigit(c)) {
			return false
		}
	}
	return s != ""
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
