package openapi

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/hivegate/hivegate/internal/policy"
)

// maxTogether bounds the groups of scopes that a line takes over. A line that
// would need more is left out.
const maxTogether = 64

// tighten sees to it that no line is an open side door: a path of an operation
// without a line may be served by another line, which then has to require what
// the operation does. It reports whether it took in a skipped operation for the
// first time, after which the lines have to be settled again.
func (c *converter) tighten() (more bool) {
	for _, o := range c.ops {
		switch {
		case o.skip == "" && o.wide:
			c.narrow(o)
		case o.skip != "" && !o.counted:
			o.counted, more = true, true
			from := o.shape()
			for _, line := range c.ops {
				if line.skip == "" && sharesMethod(o.method, line.method) && from.reaches(line.shape()) {
					line.takeOver(o)
				}
			}
		}
	}
	return more
}

// narrow makes a line that covers more than is described require what the more
// general lines do, to which those paths would fall without it.
func (c *converter) narrow(wide *operation) {
	for _, o := range c.ops {
		if o != wide && o.skip == "" && sharesMethod(o.method, wide.method) && o.shape().covers(wide.shape()) {
			wide.add(o, "it covers more than is described, and so paths of %s, which needs %s")
			if wide.skip != "" {
				return
			}
		}
	}
}

// takeOver makes a line at least as strict as a skipped operation.
func (o *operation) takeOver(skipped *operation) {
	if skipped.unknown {
		o.skip = fmt.Sprintf("it could let through %s, which has no line and of which it is not known what it requires", comment(skipped.String(), 120))
		return
	}
	o.add(skipped, "made stricter: it matches paths of %s, which has no line and needs %s")
}

// add makes a line require what another operation is described to require, with
// a note where that changes it.
func (o *operation) add(other *operation, note string) {
	need := both(o.need, other.wants)
	if need.String() == o.need.String() {
		return
	}
	if len(need.Scopes) > maxTogether {
		o.skip = fmt.Sprintf("it matches paths of other operations, with which it would need more than %d scopes", maxTogether)
		return
	}
	o.need = need
	o.notes = append(o.notes, fmt.Sprintf(note, comment(other.String(), 120), comment(other.wants.String(), 120)))
}

// both is what two requirements ask for together.
func both(a, b policy.Requirement) policy.Requirement {
	switch {
	case b.Public:
		return a
	case a.Public:
		return b
	case len(b.Scopes) == 0:
		return a
	}
	return policy.Requirement{Scopes: absorb(append(slices.Clone(a.Scopes), b.Scopes...))}
}

// sharesMethod says whether a request can belong to both methods. HEAD follows
// GET.
func sharesMethod(a, b string) bool {
	return a == b || a == "*" || b == "*" || a == "HEAD" && b == "GET" || a == "GET" && b == "HEAD"
}

// shape is what can be told of the paths of an operation, without the empty
// segments: backends often ignore those.
type shape struct {
	segments []string // decoded; wild: any one segment
	open     bool     // any segments may follow
	doubt    bool     // it is a guess
}

// wild stands for a segment that is not known. No literal has a slash.
const wild = "/"

func (s *shape) concrete() bool { return !s.open && !slices.Contains(s.segments, wild) }

// shape is worked out once: neither path nor pattern change.
func (o *operation) shape() *shape {
	if o.form == nil {
		described := o.path
		if o.pattern != "" {
			described = o.pattern // its parameters are whole segments
		}
		o.form = shapeOf(described)
		if o.nowhere {
			o.form = &shape{open: true, doubt: true}
		}
	}
	return o.form
}

// shapeOf reads a path as it was described, whatever is wrong with it. What
// cannot be read may be anything.
func shapeOf(described string) *shape {
	s := &shape{}
	if cut := strings.IndexAny(described, "?#"); cut >= 0 {
		described, s.doubt = described[:cut], true
	}
	if clean := path.Clean("/" + described); clean != strings.TrimSuffix(described, "/") && clean != described {
		described, s.doubt = clean, true // clients resolve dots before they send
	}
	for _, text := range strings.Split(described, "/") {
		outside := paramRE.ReplaceAllString(text, "")
		switch {
		case text == "":
			continue
		case strings.ContainsAny(outside, "{}"):
			s.open, s.doubt = true, true
			return s
		case strings.Contains(text, "+}"), strings.Contains(text, "*}"), strings.Contains(text, "...}"), strings.Contains(text, "{+"):
			s.open = true
			return s
		case outside != text:
			s.segments = append(s.segments, wild)
			continue
		}
		decoded, err := url.PathUnescape(text)
		switch {
		case err == nil && strings.ContainsAny(decoded, `/\`):
			s.open, s.doubt = true, true
			return s
		case err != nil || strings.ContainsAny(decoded, ";\x00") || decoded == "." || decoded == "..":
			decoded, s.doubt = wild, true
		}
		s.segments = append(s.segments, decoded)
	}
	return s
}

// reaches says whether a line of the shape line can be given a request that
// belongs to the operation of the shape s. A path without parameters is never
// that of a described pattern (OpenAPI 3.1, section 4.8.8.2: concrete paths are
// matched before templated ones).
func (s *shape) reaches(line *shape) bool {
	if line.concrete() && !line.doubt && !s.concrete() && !s.doubt {
		return false
	}
	for i := 0; ; i++ {
		endS, endL := i == len(s.segments), i == len(line.segments)
		switch {
		case endS && s.open, endL && line.open, endS && endL:
			return true
		case endS || endL:
			return false
		case s.segments[i] != wild && line.segments[i] != wild && s.segments[i] != line.segments[i]:
			return false
		}
	}
}

// covers says whether all paths of the shape line are paths of s too.
func (s *shape) covers(line *shape) bool {
	for i, text := range s.segments {
		if i == len(line.segments) || text != wild && text != line.segments[i] {
			return false
		}
	}
	return s.open || !line.open && len(s.segments) == len(line.segments)
}
