package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// anyMethod is how a line names all methods.
const anyMethod = "*"

// usualMethods stand for anyMethod in an Allow header.
var usualMethods = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}

// knownMethods are those of the IANA registry (RFC 9110, section 16.1.1, and
// its additions) and a few in wide use. A line that names another is a mistake:
// were a misspelt one accepted, its requests would fall to a more general line.
var knownMethods = append([]string{
	"ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "LABEL", "LINK", "LOCK", "MERGE",
	"MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "ORDERPATCH",
	"PROPFIND", "PROPPATCH", "QUERY", "REBIND", "REPORT", "SEARCH", "UNBIND", "UNCHECKOUT", "UNLINK",
	"UNLOCK", "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL",
	"BAN", "M-SEARCH", "NOTIFY", "PURGE", "SUBSCRIBE", "UNSUBSCRIBE",
}, usualMethods...)

// checkMethods says whether these may be the methods of a line.
func checkMethods(methods []string) error {
	if len(methods) == 0 {
		return errors.New("a method is missing: write GET, several as GET,POST, or * for all")
	}
	for i, m := range methods {
		if slices.Contains(methods[:i], m) {
			return fmt.Errorf("method %s is given twice", quote(m))
		}
		if m == anyMethod && len(methods) > 1 {
			return errors.New("* stands for all methods: name no other beside it")
		}
		if err := checkMethod(m); err != nil {
			return err
		}
	}
	return nil
}

func checkMethod(m string) error {
	if m == anyMethod || slices.Contains(knownMethods, m) {
		return nil
	}
	upper := strings.ToUpper(m)
	switch {
	case m == "":
		return errors.New("a method is empty: write GET,POST without spaces and without ',' at the end")
	case upper == "TRACE" || upper == "CONNECT":
		return fmt.Errorf("%s is never let through; leave it out", upper)
	case slices.Contains(knownMethods, upper):
		return fmt.Errorf("methods are in upper case: write %s for %s", upper, quote(m))
	}
	return fmt.Errorf("%s is not a known method%s (others are covered by *)", quote(m), didYouMean(m, knownMethods))
}

// routable says whether a request's method can match a line at all: in upper-case
// letters, digits, '-', '_' and '.', and neither TRACE nor CONNECT. Methods are
// case-sensitive (RFC 9110, section 9.1), so "get" would pass for a line of all
// methods where GET has a stricter one, and many backends upper-case it.
func routable(method string) bool {
	for i := 0; i < len(method); i++ {
		if c := method[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return method != "" && method != "TRACE" && method != "CONNECT"
}

// methodRoutes are the routes of one pattern, by method.
type methodRoutes struct {
	named []namedRoute
	all   *Route // of the line for all methods
	// guarded says that one of them is not public.
	guarded bool
}

type namedRoute struct {
	method string
	route  *Route
}

// pick returns the route for a routable method, or nil. A named method comes
// before all methods, and HEAD follows GET unless it is named itself.
func (r *methodRoutes) pick(method string) *Route {
	for i := range r.named {
		if r.named[i].method == method {
			return r.named[i].route
		}
	}
	if method == "HEAD" {
		return r.pick("GET")
	}
	return r.all
}

func (r *methodRoutes) add(route *Route) {
	r.guarded = r.guarded || !route.Require.Public
	for _, m := range route.Methods {
		if m == anyMethod {
			r.all = route
		} else {
			r.named = append(r.named, namedRoute{m, route})
		}
	}
}

func (r *methodRoutes) any() bool { return r.all != nil || len(r.named) > 0 }

// each calls fn for the route of every line, more than once for one that names
// several methods.
func (r *methodRoutes) each(fn func(*Route)) {
	for i := range r.named {
		fn(r.named[i].route)
	}
	if r.all != nil {
		fn(r.all)
	}
}

// shareMethod says whether a request can match the methods of both lines.
func shareMethod(a, b []string) bool {
	for _, m := range a {
		if m == anyMethod || slices.Contains(b, anyMethod) || slices.Contains(b, m) ||
			m == "HEAD" && slices.Contains(b, "GET") || m == "GET" && slices.Contains(b, "HEAD") {
			return true
		}
	}
	return false
}
