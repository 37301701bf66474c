package caddymodule

import (
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
)

// ServeHTTP implements caddyhttp.MiddlewareHandler. It is apart from serve because a
// function with that many returns keeps its deferred calls in a list, which costs
// more than the call.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !g.rt.life.join() {
		return caddyhttp.Error(http.StatusServiceUnavailable, errClosed)
	}
	x := &exchange{g: g, r: r, scratch: takeScratch()}
	x.ResponseWriter, x.rt, x.now = w, g.rt, time.Now()
	defer x.leave()
	return x.serve(next)
}

// serve is the whole path of one request.
func (x *exchange) serve(next caddyhttp.Handler) error {
	g := x.g
	if ref := x.begin(); ref != nil { // a second gate, clean-up, request id
		return x.refuse(ref)
	}
	if ref := x.checkTransport(); ref != nil {
		return x.refuse(ref)
	}
	if g.ownPath(x) { // health and ready
		return nil
	}
	if g.c.cors != nil && x.preflight() {
		return nil
	}
	public, ref := x.lookUp()
	if first := x.shadowed(); first != nil {
		ref = first // was found before, and not refused
	}
	if ref != nil {
		return x.deny(ref, next)
	}
	if !public {
		if ref := x.authenticate(); ref != nil {
			return x.deny(ref, next)
		}
	}
	if ref := x.limit(); ref != nil { // scopes are judged first, limits decided once
		return x.deny(ref, next)
	}
	if g.c.shadow {
		x.recordBody()
	}
	if ref := x.protect(); ref != nil { // body, signature, second factor
		return x.deny(ref, next)
	}
	if x.keysAPI {
		return x.serveKeys()
	}
	x.identify()
	return x.forward(next)
}

// begin marks the request as gated, makes its id and removes what clients may
// not send.
func (x *exchange) begin() *refusal.Refusal {
	ctx := x.r.Context()
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	x.trusted, _ = vars[caddyhttp.TrustedProxyVarKey].(bool)
	x.clientIP, _ = vars[caddyhttp.ClientIPVarKey].(string)
	x.requestID = x.text.newRequestID()
	if first, second := vars[gateVar].(*responder); second {
		// This answer goes out through the first gate's writer.
		first.refusing, x.requestID = true, first.requestID
		return &refusal.Refusal{Reason: refusal.ReasonInternal, Err: errSecondGate}
	}
	if vars != nil {
		vars[gateVar] = &x.responder
	}
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(x.placeholder)
	}
	if x.g.c.httpsOn {
		x.forwarded = hasForwardingHeaders(x.r.Header) // before they are cleaned
	}
	x.loginHeaders = x.g.c.cleaner.Clean(x.r.Header, x.trusted)
	x.cleanTrailers()
	if x.g.c.cors != nil {
		x.startCORS()
	}
	return nil
}

// checkTransport is step 2: early data, HTTPS, ambiguous paths.
func (x *exchange) checkTransport() *refusal.Refusal {
	r, c := x.r, x.g.c
	if r.TLS != nil && !r.TLS.HandshakeComplete || len(r.Header["Early-Data"]) > 0 {
		// RFC 8470: what came in early data may be a replay. The header comes
		// from a proxy in front; a client that sets it only refuses itself.
		if ref := x.refuseTransport(&refusal.Refusal{Reason: refusal.ReasonTooEarly}); ref != nil {
			return ref
		}
	}
	if c.httpsOn && !x.overHTTPS() && !x.g.answersProbe(r.Method, r.URL.EscapedPath()) {
		if ref := x.refuseTransport(&refusal.Refusal{Reason: refusal.ReasonHTTPSRequired}); ref != nil {
			return ref
		}
	}
	target := r.RequestURI
	if orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		target = orig.RequestURI
	}
	if r.URL.Path == "" && r.Method != http.MethodConnect {
		// What "http://host" names is "/" to a backend (RFC 9110 section
		// 4.2.3), and so it is here.
		r.URL.Path, r.URL.RawPath = "/", ""
	}
	x.path = escapedPath(r.URL)
	if err := policy.CheckTarget(target, c.allow); err != nil {
		return &refusal.Refusal{Reason: refusal.ReasonAmbiguousPath, Hint: err.Error()}
	}
	if x.path == "" || len(target) == len(x.path) && target == x.path {
		return nil // nothing was rewritten: judged already
	}
	if err := policy.CheckPath(x.path, c.allow); err != nil {
		return &refusal.Refusal{Reason: refusal.ReasonAmbiguousPath, Hint: err.Error()}
	}
	if r.URL.RawQuery != "" {
		// A rewrite may have changed the query as well as the path.
		if err := policy.CheckQuery(r.URL.RawQuery); err != nil {
			return &refusal.Refusal{Reason: refusal.ReasonAmbiguousPath, Hint: err.Error()}
		}
	}
	return nil
}

// escapedPath is u.EscapedPath, without its look at each character for the usual
// path, which has none that could be escaped.
func escapedPath(u *url.URL) string {
	if u.RawPath != "" || u.Path == "*" {
		return u.EscapedPath()
	}
	for i := range len(u.Path) {
		if !unreserved[u.Path[i]] {
			return u.EscapedPath()
		}
	}
	return u.Path
}

// unreserved are characters that are never escaped in a path: those of RFC 3986
// section 2.3, and the slash. Written at start only.
var unreserved = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/") {
		t[c] = true
	}
	return t
}()

// overHTTPS reports whether the request came over TLS, here or at a trusted
// proxy, or from a loopback peer that speaks for itself.
func (x *exchange) overHTTPS() bool {
	if x.r.TLS != nil {
		return true
	}
	h := x.r.Header
	if x.trusted && len(h["X-Forwarded-Proto"]) == 1 && h["X-Forwarded-Proto"][0] == "https" {
		return true
	}
	if x.g.c.httpsStrict || x.forwarded {
		return false
	}
	return peerIsLoopback(x.r.RemoteAddr)
}

// hasForwardingHeaders reports whether a proxy says that it forwards for
// somebody else, by any header in use for that.
func hasForwardingHeaders(h http.Header) bool {
	for _, name := range [...]string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port",
		"X-Forwarded-Scheme", "X-Real-Ip", "Forwarded", "Via", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip"} {
		if _, there := h[name]; there {
			return true
		}
	}
	return false
}

// lookUp is step 3. It reports whether the route is public; a path that only
// public lines know is refused here for other methods.
func (x *exchange) lookUp() (public bool, _ *refusal.Refusal) {
	if x.lookUpKeys() {
		return false, nil
	}
	m, t := &x.scratch.match, x.g.c.table
	t.Match(x.method(), x.path, m)
	if m.Found != policy.Matched && isPreflight(x.r) {
		// A preflight asks about another method: where that one is public,
		// the backend may answer it.
		var asked policy.Match
		t.Match(x.r.Header.Get("Access-Control-Request-Method"), x.path, &asked)
		if asked.Found == policy.Matched && asked.Route.Require.Public {
			*m = asked
		}
	}
	switch m.Found {
	case policy.Matched:
		x.route = &x.g.c.routes[m.Route.Index]
		public = m.Route.Require.Public
	case policy.MethodNotAllowed:
		if m.PublicOnly {
			return false, x.methodNotAllowed()
		}
	}
	if public {
		x.subject = x.addressSubject()
		x.dropKeysOnPublic()
	}
	return public, nil
}

// method is the method that routes are looked up by: the extended CONNECT of a
// WebSocket over HTTP/2 or 3 (RFC 8441, RFC 9220) is a GET.
func (x *exchange) method() string {
	if x.r.Method == http.MethodConnect && x.r.ProtoMajor >= 2 {
		if p := x.r.Header[":protocol"]; len(p) == 1 && p[0] == "websocket" {
			return http.MethodGet
		}
		if x.r.ProtoMajor == 3 && x.r.Proto == "websocket" {
			return http.MethodGet
		}
	}
	return x.r.Method
}

func (x *exchange) methodNotAllowed() *refusal.Refusal {
	table := x.g.c.table
	if x.keysAPI {
		table = x.g.c.keys.table
	}
	return &refusal.Refusal{Reason: refusal.ReasonMethodNotAllowed, Allow: table.Allow(x.path)}
}

// isPreflight reports whether r is a CORS preflight (Fetch, section 4.8).
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && len(r.Header["Origin"]) == 1 &&
		len(r.Header["Access-Control-Request-Method"]) == 1
}
