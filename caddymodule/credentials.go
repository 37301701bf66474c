package caddymodule

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/hivegate/hivegate/internal/credential"
	"github.com/hivegate/hivegate/internal/jwtauth"
	"github.com/hivegate/hivegate/internal/refusal"
)

// authenticate is steps 4 and 5: the credentials, and who they stand for.
// Authorization comes first, then cookies, then headers; the first that is there
// names the principal. A header that is required must hold a valid credential
// as well.
func (x *exchange) authenticate() *refusal.Refusal {
	value, named, ref := x.findCredential()
	if ref != nil {
		return ref
	}
	if x.g.c.needsHeader {
		if ref := x.requiredHeaders(named, value != ""); ref != nil {
			return ref
		}
	}
	if value == "" {
		// A bearer where none is looked for is a credential that was sent.
		return x.missing(!x.g.c.bearer && len(x.r.Header["Authorization"]) > 0, x.g.c.missingHint)
	}
	if ref := x.verify(value); ref != nil {
		return ref
	}
	if len(x.g.c.headers) > 0 && jwtauth.Browser(x.r) {
		return x.serverOnlyHeaders(named)
	}
	return nil
}

// findCredential returns the credential that names the principal, and the
// header source that it came from, if it did.
func (x *exchange) findCredential() (value string, named *headerSource, _ *refusal.Refusal) {
	c := x.g.c
	if c.bearer {
		value, problem := credential.Bearer(x.r.Header)
		switch problem = problem.WithLogin(x.loginHeaders); {
		case problem == credential.None:
			return value, nil, nil
		case problem == credential.Multiple:
			return "", nil, &refusal.Refusal{Reason: refusal.ReasonMultipleCredentials, Credential: true, Hint: problem.Hint()}
		case problem.Malformed():
			return "", nil, x.withFailureBudget(&refusal.Refusal{Reason: refusal.ReasonMalformedAuthorization, Credential: true, Hint: problem.Hint()})
		}
	}
	if len(c.cookies) > 0 {
		value, ref := x.cookieCredential()
		if value != "" || ref != nil {
			return value, nil, ref
		}
	}
	for i := range c.headers {
		h := &c.headers[i]
		switch values := x.r.Header[h.name]; {
		case len(values) > 1:
			return "", nil, multipleHeaders(h)
		case len(values) == 1 && values[0] != "":
			return values[0], h, nil
		}
	}
	return "", nil, nil
}

func multipleHeaders(h *headerSource) *refusal.Refusal {
	return &refusal.Refusal{Reason: refusal.ReasonMultipleCredentials, Credential: true,
		Hint: "send exactly one " + h.shown + " header"}
}

// cookieCredential reads the session of a browser. What it may do is bound to
// the site's own pages: a cookie is sent along by any page.
func (x *exchange) cookieCredential() (string, *refusal.Refusal) {
	for _, p := range x.g.c.cookies {
		token, err := p.Token(x.r.Header)
		switch {
		case errors.Is(err, jwtauth.ErrCookieAmbiguous):
			return "", &refusal.Refusal{Reason: refusal.ReasonMultipleCredentials, Credential: true, Hint: err.Error()}
		case err != nil:
			return "", x.withFailureBudget(&refusal.Refusal{Reason: refusal.ReasonTokenInvalid, Kind: refusal.KindJWT, Credential: true, Hint: err.Error()})
		case token == "":
			continue
		}
		if changesState(x.r) && !jwtauth.SameOrigin(x.r, x.clientUsedHTTPS()) {
			return "", &refusal.Refusal{Reason: refusal.ReasonCrossSite, Kind: refusal.KindJWT, Credential: true}
		}
		return token, nil
	}
	return "", nil
}

// changesState reports whether a request may change something, or opens a
// connection on which later messages do.
func changesState(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return len(r.Header["Upgrade"]) > 0
	}
	return true
}

// clientUsedHTTPS reports whether the client is known to have used HTTPS.
func (x *exchange) clientUsedHTTPS() bool {
	proto := x.r.Header["X-Forwarded-Proto"]
	return x.r.TLS != nil || x.trusted && len(proto) == 1 && proto[0] == "https"
}

// requiredHeaders verifies the headers that must be there beside whatever names
// the principal. sent tells whether anything does.
func (x *exchange) requiredHeaders(named *headerSource, sent bool) *refusal.Refusal {
	for i := range x.g.c.headers {
		h := &x.g.c.headers[i]
		if !h.required || h == named {
			continue
		}
		switch values := x.r.Header[h.name]; {
		case len(values) > 1:
			return multipleHeaders(h)
		case len(values) == 0 || values[0] == "":
			return x.missing(sent, "send the header "+h.shown+" with an API key as well")
		default:
			if ref := x.verify(values[0]); ref != nil {
				return ref
			}
			x.accompany()
		}
	}
	// What names the principal is verified next, and replaces these.
	x.principal, x.entry = nil, nil
	return nil
}

// serverOnlyHeaders refuses a browser that presents a server's credential in an
// optional header beside the one that names it. Nothing else is judged there:
// what is required was verified.
func (x *exchange) serverOnlyHeaders(named *headerSource) *refusal.Refusal {
	if x.rt.tokens == nil || !x.g.c.takesTokens {
		return nil
	}
	set, err := x.rt.tokens.ready(x.r.Context())
	if err != nil {
		return &refusal.Refusal{Reason: refusal.ReasonIssuerUnavailable, Kind: refusal.KindJWT, Credential: true, Err: err}
	}
	for i := range x.g.c.headers {
		h := &x.g.c.headers[i]
		values := x.r.Header[h.name]
		if h == named || h.required || len(values) == 0 {
			continue
		}
		if p, ok := set.StaticKey(values[0]); ok && p.ServerOnly {
			return browserForbidden()
		}
		if credential.IsJWT(values[0]) {
			if p, _ := set.Verify(x.r.Context(), x.wall(), values[0], x.g.c.issuers); p != nil && p.ServerOnly {
				return browserForbidden()
			}
		}
	}
	return nil
}

func browserForbidden() *refusal.Refusal {
	return &refusal.Refusal{Reason: refusal.ReasonBrowserForbidden, Kind: refusal.KindJWT, Credential: true}
}

// missing refuses a request without the credential that it needs. sent tells
// whether it has another one.
func (x *exchange) missing(sent bool, hint string) *refusal.Refusal {
	ref := &refusal.Refusal{Reason: refusal.ReasonMissingCredentials, Hint: hint, Credential: sent}
	switch {
	case x.loginHeaders:
		ref.Credential, ref.Hint = true, credential.LoginHint
	case holdsCredential(x.r.URL.RawQuery, x.rt.prefixes):
		ref.Credential, ref.Hint = true, credential.QueryHint
	}
	return x.withFailureBudget(ref)
}

// verify judges one credential: a JWT has three parts, a static key is known
// word for word, and all else is an API key.
func (x *exchange) verify(value string) *refusal.Refusal {
	if credential.IsJWT(value) {
		x.kind = refusal.KindJWT
		return x.verifyToken(value)
	}
	if x.rt.tokens != nil && x.g.c.takesTokens {
		if p, ok := x.rt.tokens.set.StaticKey(value); ok && (x.g.c.issuers == nil || x.g.c.issuers(p.Issuer)) {
			x.kind = refusal.KindAPIKey
			return x.admitToken(p)
		}
	}
	x.kind = refusal.KindAPIKey
	if !x.g.c.takesKeys {
		return x.withFailureBudget(&refusal.Refusal{Reason: refusal.ReasonAPIKeyInvalid, Kind: refusal.KindAPIKey, Credential: true,
			Hint: "this site takes no API keys; send a JWT"})
	}
	return x.verifyKey(value)
}

// verifyToken judges a JWT.
func (x *exchange) verifyToken(value string) *refusal.Refusal {
	if x.rt.tokens == nil || !x.g.c.takesTokens {
		return x.withFailureBudget(&refusal.Refusal{Reason: refusal.ReasonTokenInvalid, Kind: refusal.KindJWT, Credential: true,
			Hint: "this site takes no JWTs; send an API key"})
	}
	set, err := x.rt.tokens.ready(x.r.Context())
	if err != nil {
		return &refusal.Refusal{Reason: refusal.ReasonIssuerUnavailable, Kind: refusal.KindJWT, Credential: true, Err: err}
	}
	p, denied := set.Verify(x.r.Context(), x.wall(), value, x.g.c.issuers)
	if denied == nil {
		return x.admitToken(p)
	}
	ref := &refusal.Refusal{Kind: refusal.KindJWT, Credential: true, Hint: denied.Hint, Err: denied.Err}
	switch denied.Reason {
	case jwtauth.IssuerUnavailable:
		ref.Reason = refusal.ReasonIssuerUnavailable
		return ref
	case jwtauth.TokenExpired:
		ref.Reason = refusal.ReasonTokenExpired
	default:
		ref.Reason = refusal.ReasonTokenInvalid
	}
	if denied.Count {
		return x.countFailure(ref)
	}
	return x.withFailureBudget(ref)
}

// admitToken takes whom a token or static key stands for as the principal.
func (x *exchange) admitToken(t *jwtauth.Principal) *refusal.Refusal {
	if t.ServerOnly && jwtauth.Browser(x.r) {
		return browserForbidden()
	}
	x.entry = nil
	x.principal = x.rt.tokenPrincipal(t)
	x.subject = x.principal.subject
	if x.subject == "" {
		x.subject = x.addressSubject()
	}
	return nil
}

// dropCredentials removes what the configuration does not let go on. Sessions
// in cookies count as JWTs.
func (x *exchange) dropCredentials() {
	c, h := x.g.c, x.r.Header
	if c.forwardKeys {
		return
	}
	if !c.forwardTokens {
		delete(h, "Authorization") // there or not: one look into the map
	} else if auth := h["Authorization"]; len(auth) > 0 && !x.tokenGoesOn(auth[0]) {
		delete(h, "Authorization")
	}
	for i := range c.headers {
		if values := h[c.headers[i].name]; len(values) > 0 && !x.tokenGoesOn(values[0]) {
			delete(h, c.headers[i].name)
		}
	}
	switch {
	case len(c.cookies) == 0 || len(h["Cookie"]) == 0:
	case c.forwardTokens:
		x.dropKeySessions()
	default:
		dropCookies(h, c.cookies)
	}
}

// dropKeySessions removes the session cookies that hold an API key, and leaves
// those that hold a token.
func (x *exchange) dropKeySessions() {
	h := x.r.Header
	for _, p := range x.g.c.cookies {
		if value, err := p.Token(h); err == nil && value != "" && !x.tokenGoesOn(value) {
			dropCookies(h, []jwtauth.CookiePattern{p})
		}
	}
	dropKeyCookies(h, x.rt.prefixes)
}

// tokenGoesOn reports whether a credential header is one that goes on: a JWT or
// static key, where the configuration lets those.
func (x *exchange) tokenGoesOn(value string) bool {
	if !x.g.c.forwardTokens {
		return false
	}
	if i := strings.IndexByte(value, ' '); i >= 0 {
		value = value[i+1:]
	}
	if credential.IsJWT(value) {
		return true
	}
	if x.rt.tokens == nil {
		return false
	}
	_, static := x.rt.tokens.set.StaticKey(value)
	return static
}

// dropCookies removes session cookies and leaves the others.
func dropCookies(h http.Header, patterns []jwtauth.CookiePattern) {
	dropCookiesThat(h, func(name, _ string) bool {
		for _, p := range patterns {
			if p.Match(name) {
				return true
			}
		}
		return false
	})
}

// dropKeyCookies removes cookies that are keys, by their prefix.
func dropKeyCookies(h http.Header, prefixes []string) {
	dropCookiesThat(h, func(_, value string) bool {
		plain, err := url.PathUnescape(strings.Trim(value, `"`))
		return hasAnyPrefix(value, prefixes) || err == nil && hasAnyPrefix(plain, prefixes)
	})
}

func dropCookiesThat(h http.Header, drop func(name, value string) bool) {
	lines := h["Cookie"]
	var kept []string
	for _, line := range lines {
		var pairs []string
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			if pair = strings.TrimSpace(pair); pair != "" && !drop(name, value) {
				pairs = append(pairs, pair)
			}
		}
		if len(pairs) > 0 {
			kept = append(kept, strings.Join(pairs, "; "))
		}
	}
	if kept == nil {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}

// dropKeysOnPublic removes what has an accepted key prefix; nothing is judged.
func (x *exchange) dropKeysOnPublic() {
	if x.g.c.forwardKeys {
		return
	}
	credential.RemoveKeys(x.r.Header, x.rt.prefixes)
	if len(x.g.c.cookies) > 0 {
		dropKeyCookies(x.r.Header, x.rt.prefixes)
	}
	for i := range x.g.c.headers {
		name := x.g.c.headers[i].name
		for _, v := range x.r.Header[name] {
			if hasAnyPrefix(v, x.rt.prefixes) {
				delete(x.r.Header, name)
				break
			}
		}
	}
}
