package policy

import (
	"slices"
	"strings"
)

// Found says what is known of a path and method.
type Found uint8

// What a lookup may find.
const (
	NotFound         Found = iota // no line matches the path
	Matched                       // a line matches path and method
	MethodNotAllowed              // lines match the path, none of them the method
)

// Match is the outcome of one lookup. It holds on to the path that was looked
// up and is reused by passing it to [Table.Match] again.
type Match struct {
	Found Found
	// Route is the line that matches; nil unless Matched.
	Route *Route
	// PublicOnly says, with MethodNotAllowed, that all lines which know the path
	// are public: the caller learns nothing that anybody could not find out.
	PublicOnly bool
	// Slash says, with NotFound, that lines know the path without the '/' at its
	// end. Such a path is not found even where unknown ones are let through: a
	// backend that ignores the slash would serve what those lines guard.
	Slash bool

	path string
}

// Param returns the decoded value of a parameter of the route that matched. Of
// {name...} it is the rest of the path, with its slashes.
func (m *Match) Param(name string) (string, bool) {
	if m.Route == nil {
		return "", false
	}
	for i, p := range m.Route.Params {
		if p == name {
			return m.value(i), true
		}
	}
	return "", false
}

// Match looks up a path that passed [CheckPath], with its percent-escapes, and
// writes the outcome to m. Of the lines that match path and method the one with
// the most specific path is found; on one path a named method comes before all
// methods, and HEAD follows GET unless it is named.
//
// A path that ends in '/' is another path than without, and not found when
// without it a more specific line would match: a backend that ignores the slash
// would serve what that line guards.
//
// Match does not allocate for paths without percent-escapes, except to tell
// MethodNotAllowed from NotFound where lines know the path with and without a
// '/' at its end.
func (t *Table) Match(method, escapedPath string, m *Match) {
	*m = Match{path: escapedPath}
	w, ok := newWalk(method, escapedPath)
	if !ok {
		return
	}
	r, hidden := t.find(&w)
	if r != nil {
		m.Found, m.Route = Matched, r
		return
	}
	bare, slash := w.withoutSlash()
	if slash {
		m.Slash, _ = t.root.known(&bare, 1)
	}
	if hidden {
		return
	}
	known, guarded := t.root.known(&w, 1)
	if !known || m.Slash && t.Allow(escapedPath) == "" {
		return
	}
	m.Found, m.PublicOnly, m.Slash = MethodNotAllowed, !guarded, false
}

// Allow lists the methods that would match the path, for the Allow header of a
// 405 (RFC 9110, section 10.2.1): sorted, HEAD with GET, and the usual ones for
// a line of all methods. It is empty for a path that is not found.
func (t *Table) Allow(escapedPath string) string {
	w, ok := newWalk("", escapedPath)
	if !ok {
		return ""
	}
	var methods []string
	t.root.matching(&w, 1, func(r *Route) {
		for _, m := range r.Methods {
			switch m {
			case anyMethod:
				methods = append(methods, usualMethods...)
			case "GET":
				methods = append(methods, m, "HEAD")
			default:
				methods = append(methods, m)
			}
		}
	})
	slices.Sort(methods)
	methods = slices.Compact(methods)
	methods = slices.DeleteFunc(methods, func(method string) bool {
		w.method = method
		r, _ := t.find(&w)
		return r == nil
	})
	return strings.Join(methods, ", ")
}

// find returns the route for the walk's method and path. Hidden says that there
// is none because of the trailing slash.
func (t *Table) find(w *walk) (r *Route, hidden bool) {
	if !routable(w.method) {
		return nil, false
	}
	r = t.root.find(w, 1)
	bare, slash := w.withoutSlash()
	if !slash {
		return r, false
	}
	without := t.root.find(&bare, 1)
	if without == nil || without == r {
		return r, false
	}
	// Compared as if the line that matches had no slash at its end either: for
	// /farms/1/, the line /farms/{id}/ is less specific than /farms/1.
	if r == nil || without.pattern.compare(r.pattern.withoutSlash()) == moreSpecific {
		return nil, true
	}
	return r, false
}

// value returns the decoded value of the route's parameter i.
func (m *Match) value(i int) string {
	at := m.Route.paramSegments[i]
	text := m.path[1:]
	for range at {
		text = text[strings.IndexByte(text, '/')+1:]
	}
	if m.Route.pattern[at].kind == param {
		if end := strings.IndexByte(text, '/'); end >= 0 {
			text = text[:end]
		}
	}
	if strings.IndexByte(text, '%') >= 0 {
		text, _ = unescape(text)
	}
	return text
}
