package caddymodule

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/hivegate/hivegate/internal/credential"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/totp"
)

// CORS lets pages of other origins read this site's answers, refusals included
// (https://fetch.spec.whatwg.org/#http-cors-protocol). The gate answers
// preflights by itself for paths in the route table, and sets the CORS headers
// of every answer; what a backend sends of them is replaced.
//
// It does not change who may do what: a page needs a credential as everybody
// does, and a cookie keeps counting for the site's own pages alone where a
// request changes something.
type CORS struct {
	// The origins whose pages may read, as browsers send them:
	// `https://app.example.com`, with a port where it is not the scheme's own.
	// `*` alone means every page, and cannot stand beside cookie credentials.
	// Required. Misuse: with `*` any page may try keys from its visitors'
	// browsers.
	Origins []string `json:"origins"`
	// Further request headers that pages may send. Always allowed are
	// Authorization, Content-Type, the headers that credentials are looked for
	// in, and what the site's routes ask for: X-Security-Code, the signature and
	// its timestamp, Idempotency-Key. Default: none.
	Headers []string `json:"headers,omitempty"`
	// How long a browser may remember a preflight's answer. Unit: whole seconds
	// as a duration, 1s to 24h. Default: `10m`.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
}

const (
	defaultCORSMaxAge = 10 * time.Minute
	maxCORSMaxAge     = 24 * time.Hour
	anyOrigin         = "*"
)

// Canonical names of the CORS headers (Fetch, section 3.3.3).
const (
	headerOrigin           = "Origin"
	headerRequestMethod    = "Access-Control-Request-Method"
	headerRequestHeaders   = "Access-Control-Request-Headers"
	headerAllowOrigin      = "Access-Control-Allow-Origin"
	headerAllowCredentials = "Access-Control-Allow-Credentials"
	headerAllowMethods     = "Access-Control-Allow-Methods"
	headerAllowHeaders     = "Access-Control-Allow-Headers"
	headerExposeHeaders    = "Access-Control-Expose-Headers"
	headerMaxAge           = "Access-Control-Max-Age"
)

// compiledCORS is the compiled form of a CORS.
type compiledCORS struct {
	// origins maps each origin to itself: what is answered is the
	// configuration's own text, never the request's.
	origins     map[string]string
	any         bool
	credentials bool
	headers     string
	exposed     string
	maxAge      string
}

// compileCORS follows the steps that know the site's credentials and routes.
func compileCORS(g *Gate, _ *settings, c *compiledGate) *configError {
	if g.CORS == nil {
		return nil
	}
	out := &compiledCORS{origins: make(map[string]string), credentials: len(c.cookies) > 0}
	if len(g.CORS.Origins) == 0 {
		return mistake("cors", "cors: name the origins whose pages may read, such as https://app.example.com, or '*'")
	}
	for i, origin := range g.CORS.Origins {
		path := "cors/origins/" + strconv.Itoa(i)
		if origin == anyOrigin {
			if len(g.CORS.Origins) > 1 {
				return mistake(path, "cors: '*' means every origin and stands alone; leave it or the others out")
			}
			if out.credentials {
				return mistake(path, "cors *: this site takes cookies as credentials, and with '*' every page could read what its visitor's cookie shows; name the origins")
			}
			out.any = true
			continue
		}
		if why := badOrigin(origin); why != "" {
			return mistake(path, "cors %s: %s", origin, why)
		}
		if _, twice := out.origins[origin]; twice {
			return mistake(path, "cors: %s is given twice", origin)
		}
		out.origins[origin] = origin
	}
	for _, name := range []string{headerOrigin, headerRequestMethod, headerRequestHeaders} {
		if c.cleaner.Forbidden(name, false) {
			return mistake("cors", "cors: the header %s is removed from every request by 'strip', and without it no page is known", name)
		}
	}
	maxAge := time.Duration(g.CORS.MaxAge)
	if maxAge == 0 {
		maxAge = defaultCORSMaxAge
	}
	if maxAge < time.Second || maxAge > maxCORSMaxAge || maxAge%time.Second != 0 {
		return mistake("cors/max_age", "cors: max_age %s: write whole seconds from 1s to 24h, such as 10m", maxAge)
	}
	out.maxAge = strconv.Itoa(int(maxAge / time.Second))
	headers, e := corsRequestHeaders(g.CORS, c)
	if e != nil {
		return e
	}
	out.headers, out.exposed = strings.Join(headers, ", "), strings.Join(c.ownHeaders(), ", ")
	c.cors = out
	return nil
}

// badOrigin says what is wrong with an origin and what to write instead; empty
// where it is written as browsers send it (RFC 6454, section 6.2).
func badOrigin(origin string) string {
	if strings.EqualFold(origin, "null") {
		return "the origin null is that of files and sandboxed frames of anybody, so it never matches; serve the page from a host"
	}
	scheme, rest, found := strings.Cut(origin, "://")
	if !found {
		host := strings.Trim(origin, "/:")
		return "an origin begins with its scheme; write https://" + host + " or http://" + host
	}
	if strings.Contains(origin, "*") {
		return "wildcards are not supported, because whoever gets hold of any subdomain could read; name each origin, such as https://app.example.com"
	}
	if !isScheme(strings.ToLower(scheme)) || scheme == "file" {
		return "the scheme must be http, https or that of an app or extension"
	}
	host := rest
	if i := strings.IndexAny(rest, "/?#\\"); i >= 0 {
		host = rest[:i]
		if host != "" && !strings.Contains(host, "@") {
			return "an origin has no path and no slash at its end; write " + strings.ToLower(scheme+"://"+host)
		}
	}
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		return "an origin has no user name; write " + strings.ToLower(scheme+"://"+host[i+1:])
	}
	if lower := strings.ToLower(origin); lower != origin {
		return "browsers send scheme and host in lower case; write " + lower
	}
	return badOriginHost(scheme, host)
}

func badOriginHost(scheme, hostport string) string {
	host, port, hasPort := hostport, "", false
	if i := strings.LastIndexByte(hostport, ':'); i > strings.LastIndexByte(hostport, ']') {
		host, port, hasPort = hostport[:i], hostport[i+1:], true
	}
	if host == "" {
		return "the host is missing; write it as in https://app.example.com"
	}
	if strings.HasPrefix(host, "[") {
		a, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if err != nil || "["+a.String()+"]" != host || a.Zone() != "" {
			return "an IPv6 address stands in brackets and in its shortest form, as in http://[2001:db8::1]:8080"
		}
	} else {
		for i := range len(host) {
			if b := host[i]; (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' && b != '.' && b != '_' {
				return "the host may hold letters, digits, '-' and '.' alone; write other names in punycode (xn--...), as browsers send them"
			}
		}
	}
	if !hasPort {
		return ""
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "the port must be 1 to 65535"
	}
	if scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		return "browsers leave the scheme's own port out; write " + scheme + "://" + host
	}
	return ""
}

func isScheme(s string) bool {
	for i := range len(s) {
		if b := s[i]; (b < 'a' || b > 'z') && (i == 0 || (b < '0' || b > '9') && b != '+' && b != '-' && b != '.') {
			return false
		}
	}
	return s != ""
}

// corsRequestHeaders lists the request headers that pages may send: what the
// site's credentials and routes need, and what the configuration adds.
func corsRequestHeaders(o *CORS, c *compiledGate) ([]string, *configError) {
	var names []string
	add := func(name string) {
		for _, n := range names {
			if strings.EqualFold(n, name) {
				return
			}
		}
		names = append(names, name)
	}
	if c.bearer {
		add("Authorization")
	}
	add("Content-Type")
	for i := range c.headers {
		add(c.headers[i].shown)
	}
	asksCode, asksSign := false, false
	for _, routes := range [][]compiledRoute{c.routes, c.keys.all()} {
		for i := range routes {
			asksCode = asksCode || routes[i].asksCode
			asksSign = asksSign || routes[i].asksSign
		}
	}
	if asksCode {
		add(totp.Header)
	}
	if asksSign {
		add(c.signature.HeaderName())
		add("X-Request-Timestamp")
	}
	if c.keys != nil {
		add("Idempotency-Key")
	}
	for i, name := range o.Headers {
		path := "cors/headers/" + strconv.Itoa(i)
		if name == "*" {
			return nil, mistake(path, "cors: headers *: name the headers; a '*' would not cover Authorization anyway")
		}
		if err := credential.CheckName(name); err != nil {
			return nil, wrapMistake(path, "cors: headers", err)
		}
		add(name)
	}
	return names, nil
}

func (k *compiledKeys) all() []compiledRoute {
	if k == nil {
		return nil
	}
	return k.routes
}

// ownHeaders are the answer's headers that come from the gate and that pages may
// read.
func (c *compiledGate) ownHeaders() []string {
	var names []string
	if c.headersX {
		names = append(names, "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
	}
	if c.headersIETF {
		names = append(names, "RateLimit", "RateLimit-Policy")
	}
	names = append(names, "Retry-After", "X-Request-Id", "X-Hivegate-Reason", "WWW-Authenticate", "Allow")
	if c.keys != nil {
		names = append(names, "Location")
	}
	if c.shadowHeader {
		names = append(names, "X-Hivegate-Shadow")
	}
	return names
}

// corsAnswer is what one answer says about CORS.
type corsAnswer struct {
	c *compiledCORS
	// origin is the value of Access-Control-Allow-Origin; empty where the
	// request's origin is not listed.
	origin string
	values [3]string // back the header's slices
}

// startCORS remembers who asks, so that every answer from here on, a refusal
// too, can be read by the pages that may.
func (x *exchange) startCORS() {
	c := x.g.c.cors
	a := &corsAnswer{c: c}
	if c.any {
		a.origin = anyOrigin
	} else if origin := x.r.Header[headerOrigin]; len(origin) == 1 {
		a.origin = c.origins[origin[0]]
	}
	x.responder.cors = a
}

// install puts the CORS headers in place of whatever stands there.
func (a *corsAnswer) install(h http.Header) {
	exposed := a.c.exposed
	if values := h[headerExposeHeaders]; len(values) > 0 && a.origin != "" {
		exposed = joinExposed(exposed, values)
	}
	for name := range h {
		if len(name) > len(corsPrefix) && name[:len(corsPrefix)] == corsPrefix {
			delete(h, name)
		}
	}
	if !a.c.any {
		addVary(h, headerOrigin)
	}
	if a.origin == "" {
		return
	}
	a.put(h, headerAllowOrigin, 0, a.origin)
	a.put(h, headerExposeHeaders, 1, exposed)
	if a.c.credentials {
		a.put(h, headerAllowCredentials, 2, "true")
	}
}

// corsPrefix begins all CORS headers, in canonical spelling.
const corsPrefix = "Access-Control-"

func (a *corsAnswer) put(h http.Header, name string, i int, value string) {
	a.values[i] = value
	h[name] = a.values[i : i+1 : i+1]
}

// maxExposed bounds what a backend may expose. Unit: bytes, with the gate's own
// names. What is past it is left out.
const maxExposed = 4 << 10

// joinExposed adds the names that a backend exposes to the gate's: they are its
// own headers, and a page that may read its answers may read those.
func joinExposed(exposed string, values []string) string {
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); len(exposed)+len(name)+2 > maxExposed {
				return exposed
			}
			if credential.CheckName(name) == nil && !listed(exposed, name) {
				exposed += ", " + name
			}
		}
	}
	return exposed
}

// listed reports whether a header's list holds a name.
func listed(list, name string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(item), name) {
			return true
		}
	}
	return false
}

// addVary adds a name to Vary (RFC 9110, section 12.5.5), so that no cache gives
// one origin's answer to another.
func addVary(h http.Header, name string) {
	for _, value := range h["Vary"] {
		if listed(value, name) || listed(value, "*") {
			return
		}
	}
	h["Vary"] = append(h["Vary"][:len(h["Vary"]):len(h["Vary"])], name)
}

// preflight answers a browser's question whether a page may send a request
// (Fetch, section 4.8), for paths that the tables know. It takes from no limit
// and counts as no failure. A page of an origin that is not listed gets the same
// answer without the headers that would let it go on.
func (x *exchange) preflight() bool {
	if !isPreflight(x.r) {
		return false
	}
	asked := x.r.Header[headerRequestMethod][0]
	methods, known := x.methodsFor(asked)
	if !known {
		return false // unknown paths go the way of every request
	}
	a, h := x.responder.cors, x.responder.ResponseWriter.Header()
	x.responder.install(h)
	for _, name := range []string{headerOrigin, headerRequestMethod, headerRequestHeaders} {
		addVary(h, name)
	}
	delete(h, headerExposeHeaders) // is for the answer proper
	if a.origin != "" {
		h[headerAllowMethods] = []string{methods}
		h[headerAllowHeaders] = []string{a.c.headers}
		h[headerMaxAge] = []string{a.c.maxAge}
	}
	x.rt.metrics.answeredPreflight(x)
	x.responder.ResponseWriter.WriteHeader(http.StatusNoContent)
	return true
}

// methodsFor lists the methods that may be sent to the request's path, and
// reports whether the path is known.
func (x *exchange) methodsFor(asked string) (methods string, known bool) {
	c := x.g.c
	table := c.table
	var m policy.Match
	if c.keys != nil {
		if c.keys.table.Match(asked, x.path, &m); m.Found != policy.NotFound || m.Slash {
			table = c.keys.table // its paths go before the route table's
		}
	}
	table.Match(asked, x.path, &m)
	switch m.Found {
	case policy.NotFound:
		// Where every caller may go to unknown paths, every method may.
		return asked, c.openUnmatched && table == c.table && !m.Slash && strings.HasPrefix(x.path, "/") && plainMethod(asked)
	case policy.Matched:
		if methods = table.Allow(x.path); !listed(methods, asked) {
			methods += ", " + asked // a rare one, by a line for all methods
		}
		return methods, true
	}
	return table.Allow(x.path), true
}

// plainMethod reports whether a method may be repeated in an answer and sent on.
func plainMethod(method string) bool {
	switch strings.ToUpper(method) {
	case http.MethodTrace, http.MethodConnect, "TRACK":
		return false
	}
	return credential.CheckName(method) == nil
}
