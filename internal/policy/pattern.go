package policy

import (
	"errors"
	"fmt"
	"strings"
)

// pattern is a path pattern, segment by segment. "/" is one empty literal, and
// so is what follows a trailing slash.
type pattern []segment

type segment struct {
	kind segmentKind
	// text is the decoded literal, or the parameter's name.
	text string
}

type segmentKind uint8

const (
	literal segmentKind = iota
	param               // one segment, not empty
	rest                // one segment or more, the first not empty
)

// relation is that of the paths which two patterns match.
type relation uint8

const (
	equivalent relation = iota
	moreGeneral
	moreSpecific
	overlapping // both match some paths, and each some that the other does not
	disjoint
)

// parsePattern reads a pattern: net/http's grammar without a host, in which a
// trailing slash stands for itself and {$} does not exist.
func parsePattern(s string, allow PathAllow) (pattern, error) {
	if !strings.HasPrefix(s, "/") {
		return nil, errors.New("a path pattern begins with '/'")
	}
	var p pattern
	names := map[string]bool{}
	for left, more := s[1:], true; more; {
		var text string
		text, left, more = strings.Cut(left, "/")
		if text == "" && more {
			return nil, refusedLiteral(errEmpty)
		}
		seg, err := parseSegment(text, allow)
		if err != nil {
			return nil, err
		}
		if seg.kind == rest && more {
			return nil, fmt.Errorf("{%s...} stands for the rest of a path and must come last", seg.text)
		}
		if seg.kind != literal {
			if names[seg.text] {
				return nil, fmt.Errorf("{%s} occurs twice: give each parameter its own name", seg.text)
			}
			names[seg.text] = true
		}
		p = append(p, seg)
	}
	return p, nil
}

func parseSegment(text string, allow PathAllow) (segment, error) {
	if !strings.ContainsAny(text, "{}") {
		return parseLiteral(text, allow)
	}
	if text[0] != '{' || strings.IndexByte(text, '}') != len(text)-1 || strings.LastIndexByte(text, '{') != 0 {
		return segment{}, fmt.Errorf("%s: a parameter takes a whole segment, as in /{name}/; for a literal brace write %%7B or %%7D", quote(text))
	}
	name := text[1 : len(text)-1]
	if name == "$" {
		return segment{}, errors.New("{$} is not needed: a pattern that ends in '/' means that path alone; leave it out")
	}
	name, all := strings.CutSuffix(name, "...")
	if !isIdentifier(name) {
		return segment{}, fmt.Errorf("{%s} needs a name: a letter or '_', then letters, digits and '_'", name)
	}
	if all {
		return segment{rest, name}, nil
	}
	return segment{param, name}, nil
}

func parseLiteral(text string, allow PathAllow) (segment, error) {
	switch {
	case strings.ContainsAny(text, "?#"):
		return segment{}, fmt.Errorf("%s: a pattern is a path, without query or fragment; for the characters themselves write %%3F and %%23", quote(text))
	case text == "*":
		return segment{}, errors.New("* is no wildcard in a path: write {name} for one segment, {name...} for the rest, %2A for a star")
	case len(text) > 1 && text[0] == ':' && isIdentifier(text[1:]):
		return segment{}, fmt.Errorf("%s: write {%s} for a parameter, %%3A%s for a literal colon", text, text[1:], text[1:])
	case strings.Contains(text, `\`):
		return segment{}, refusedLiteral(errBackslash)
	}
	decoded, ok := unescape(text)
	if !ok {
		return segment{}, refusedLiteral(errEscape)
	}
	if decoded == "" {
		return segment{}, nil // what follows a trailing slash
	}
	if err := judgeSegment(decoded, allow); err != nil {
		return segment{}, refusedLiteral(err)
	}
	return segment{text: decoded}, nil
}

func refusedLiteral(err error) error {
	return fmt.Errorf("it would never match: %w, and such paths are refused", err)
}

// params returns the names in order, and the segments they stand for.
func (p pattern) params() (names []string, segments []int) {
	for i, s := range p {
		if s.kind != literal {
			names = append(names, s.text)
			segments = append(segments, i)
		}
	}
	return names, segments
}

// withoutSlash is the pattern without its trailing slash.
func (p pattern) withoutSlash() pattern {
	if last := len(p) - 1; last > 0 && p[last] == (segment{}) {
		return p[:last]
	}
	return p
}

// compare tells how the paths that p matches relate to those of q.
func (p pattern) compare(q pattern) relation {
	r := equivalent
	for i := 0; i < len(p) && i < len(q); i++ {
		r = r.and(p[i].compare(q[i]))
		if r == disjoint {
			return disjoint
		}
	}
	switch {
	case len(p) == len(q):
		return r
	case len(p) < len(q) && p[len(p)-1].kind == rest:
		return r.and(moreGeneral)
	case len(p) > len(q) && q[len(q)-1].kind == rest:
		return r.and(moreSpecific)
	}
	return disjoint
}

func (s segment) compare(t segment) relation {
	switch {
	case s.kind == t.kind:
		if s.kind == literal && s.text != t.text {
			return disjoint
		}
		return equivalent
	case s == segment{} || t == segment{}:
		// Parameters are never empty.
		return disjoint
	case s.kind < t.kind:
		return moreSpecific
	}
	return moreGeneral
}

// and is the relation of paths that are related as r in one part and as s in the
// rest.
func (r relation) and(s relation) relation {
	switch {
	case r == disjoint || s == disjoint:
		return disjoint
	case r == equivalent || r == s:
		return s
	case s == equivalent:
		return r
	}
	return overlapping
}

// common returns a path that both patterns match; they must not be disjoint.
func (p pattern) common(q pattern) string {
	if len(p) < len(q) {
		p, q = q, p
	}
	var b strings.Builder
	for i, s := range p {
		if i < len(q) && q[i].kind < s.kind {
			s = q[i]
		}
		b.WriteByte('/')
		b.WriteString(s.text)
	}
	return b.String()
}
