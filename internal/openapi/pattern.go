package openapi

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// pattern is a path as a route pattern.
type pattern struct {
	text  string
	notes []string
	wide  bool   // it covers more than the path
	why   string // why there is none
}

var (
	paramRE    = regexp.MustCompile(`\{[^{}/]*\}`)
	wordRE     = regexp.MustCompile(`[A-Za-z0-9_]+`)
	identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// makePattern turns a described path into a pattern.
func makePattern(path string, reserved func(string) bool) (p pattern) {
	if !strings.HasPrefix(path, "/") {
		return pattern{why: "the path does not begin with '/'"}
	}
	if cut := strings.IndexAny(path, "?#"); cut >= 0 {
		return pattern{why: "a route is a path, without query or fragment"}
	}
	var text []string
	names := map[string]bool{}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		if !strings.ContainsAny(s, "{}") {
			literal, err := literalSegment(s)
			if err != nil {
				return pattern{why: err.Error()}
			}
			text = append(text, literal)
			continue
		}
		params := paramRE.FindAllString(s, -1)
		if len(params) == 0 || strings.ContainsAny(paramRE.ReplaceAllString(s, ""), "{}") {
			return pattern{why: "its braces do not match"}
		}
		whole := len(params) == 1 && params[0] == s
		inner := strings.Trim(params[0], "{}")
		rest := ""
		if bare := strings.TrimRight(inner, "+*"); whole && bare != inner && i == len(segments)-1 {
			inner, rest = bare, "..."
			p.note("{%s} is taken for the rest of the path", bare)
		}
		if !whole {
			// Together they get one name, made of all.
			inner = strings.Join(wordRE.FindAllString(strings.Join(params, " "), -1), "_")
			p.wide = true
			p.note("a parameter takes a whole segment: %s became {%s}, which covers more than that", s, clean(inner))
		}
		name := p.rename(clean(inner), inner, reserved, names)
		names[name] = true
		text = append(text, "{"+name+rest+"}")
	}
	p.text = "/" + strings.Join(text, "/")
	return p
}

func (p *pattern) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// clean makes an identifier of a parameter's name.
func clean(name string) string {
	name = strings.Join(wordRE.FindAllString(name, -1), "_")
	if name == "" {
		name = "param"
	}
	if !identifier.MatchString(name) {
		name = "p" + name
	}
	if len(name) > 60 {
		name = name[:60]
	}
	return name
}

// rename returns a name that Caddy leaves alone and that is new in the path.
func (p *pattern) rename(name, was string, reserved func(string) bool, taken map[string]bool) string {
	to := name
	if reserved(to) {
		to += "Name"
	}
	for n := 2; taken[to] || reserved(to); n++ {
		to = fmt.Sprintf("%s%d", name, n)
	}
	if to != was && name == was {
		p.note("{%s} became {%s}", was, to)
	}
	return to
}

// literalSegment writes a segment without parameters so that it stands for
// itself in a route file: anything but plain characters is percent-encoded.
func literalSegment(s string) (string, error) {
	decoded, err := url.PathUnescape(s)
	if err != nil {
		return "", fmt.Errorf("%s is no valid percent-encoding", comment(s, 60))
	}
	var b strings.Builder
	for _, c := range []byte(decoded) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~!&'()+,@=$", c) >= 0 ||
			c == ':' && b.Len() > 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String(), nil
}

// prefix is the path of the server of an operation, without a slash at its end.
func (c *converter) prefix(item *openapi3.PathItem, op *openapi3.Operation) (string, error) {
	if c.opts.Prefix != nil {
		return strings.TrimRight(*c.opts.Prefix, "/"), nil
	}
	servers := c.doc.spec.Servers
	if len(item.Servers) > 0 {
		servers = item.Servers
	}
	if op.Servers != nil && len(*op.Servers) > 0 {
		servers = *op.Servers
	}
	if len(servers) == 0 || servers[0] == nil {
		return c.counted(""), nil
	}
	text := servers[0].URL
	for name, v := range servers[0].Variables {
		if v != nil {
			text = strings.ReplaceAll(text, "{"+name+"}", v.Default)
		}
	}
	if strings.ContainsAny(text, "{}") {
		return "", fmt.Errorf("the server's URL has a variable without a default; give --prefix")
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("the server's URL is none; give --prefix")
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	if path != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path // relative to where the description lies
	}
	return c.counted(path), nil
}

func (c *converter) counted(prefix string) string {
	c.prefixes[prefix]++
	return prefix
}

// firstWord is the first literal segment of a path, the group of operations that
// have no tag.
func firstWord(path string) string {
	for _, s := range strings.Split(path, "/") {
		if s != "" && !strings.ContainsAny(s, "{}") {
			return s
		}
	}
	return "default"
}
