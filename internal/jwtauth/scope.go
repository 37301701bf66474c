package jwtauth

import (
	"errors"
	"fmt"
	"strings"
)

const maxNarrowing = 128

// scopeTemplate is one scope of a role. Without claims in it, it is just text.
type scopeTemplate struct {
	text string // the whole; with parts: up to and including "="
	// parts are the narrowing values; nil when no claim stands among them.
	parts []templatePart
}

// templatePart is one narrowing value: literal text, or a claim's.
type templatePart struct {
	literal string
	claim   path
}

// parseScopeTemplate reads a scope as it may stand at a role: "*",
// "resource:action", "resource:*", narrowed as in "crews:write@userId=7,{sub}".
func parseScopeTemplate(s string) (scopeTemplate, error) {
	base, narrowing, narrowed := strings.Cut(s, "@")
	if base != "*" && !plainScope(base, true) {
		return scopeTemplate{}, fmt.Errorf("%q is not a scope: it must be resource:action in lower case, resource:* or *", s)
	}
	if !narrowed {
		return scopeTemplate{text: s}, nil
	}
	name, values, ok := strings.Cut(narrowing, "=")
	if !ok || !validParameter(name) {
		return scopeTemplate{}, fmt.Errorf("scope %q: after @ must stand parameter=value", s)
	}
	t := scopeTemplate{text: base + "@" + name + "="}
	claims := false
	for v := range strings.SplitSeq(values, ",") {
		part, err := parseTemplatePart(v)
		if err != nil {
			return scopeTemplate{}, fmt.Errorf("scope %q: %w", s, err)
		}
		claims = claims || part.claim != nil
		t.parts = append(t.parts, part)
	}
	if !claims {
		return scopeTemplate{text: s}, nil
	}
	return t, nil
}

func parseTemplatePart(v string) (templatePart, error) {
	if len(v) > 2 && v[0] == '{' && v[len(v)-1] == '}' {
		p, err := parsePath(v[1 : len(v)-1])
		return templatePart{claim: p}, err
	}
	if !validNarrowing(v) {
		return templatePart{}, errors.New("a narrowing value must be 1 to 128 of letters, digits and . _ ~ : -, or one whole {claim}")
	}
	return templatePart{literal: v}, nil
}

// expand puts the values of claims in. A claim is one literal value: where it
// is missing, not a text or holds anything that narrowing values may not, the
// scope is dropped rather than widened (a value such as "1,2" would be two).
func (t *scopeTemplate) expand(root *value) (string, bool) {
	if t.parts == nil {
		return t.text, true
	}
	var b strings.Builder
	b.WriteString(t.text)
	for i := range t.parts {
		if i > 0 {
			b.WriteByte(',')
		}
		p := &t.parts[i]
		if p.claim == nil {
			b.WriteString(p.literal)
			continue
		}
		v, ok := p.claim.find(root)
		if !ok || v == nil || v.kind != kindString || !validNarrowing(v.text) {
			return "", false
		}
		b.WriteString(v.text)
	}
	return b.String(), true
}

// plainScope judges resource:action; wildcard allows "*" as the action.
func plainScope(s string, wildcard bool) bool {
	resource, action, ok := strings.Cut(s, ":")
	return ok && scopeWord(resource) && (scopeWord(action) || wildcard && action == "*")
}

// scopeWord judges [a-z0-9._-]+.
func scopeWord(s string) bool {
	for i := range len(s) {
		b := s[i]
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '.' && b != '_' && b != '-' {
			return false
		}
	}
	return s != ""
}

// validNarrowing judges [A-Za-z0-9._~:-]{1,128}.
func validNarrowing(s string) bool {
	for i := range len(s) {
		b := s[i]
		if !isAlnum(b) && b != '.' && b != '_' && b != '~' && b != ':' && b != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxNarrowing
}

// validParameter judges the name of a path parameter.
func validParameter(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '_' || i == 0 && s[i] >= '0' && s[i] <= '9' {
			return false
		}
	}
	return s != ""
}
