package caddymodule

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/hivegate/hivegate/internal/bodyrule"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/internal/signature"
	"github.com/hivegate/hivegate/internal/totp"
	"github.com/hivegate/hivegate/keystore"
)

// Methods of a second factor beside those of package totp, as the identity
// header names them.
const methodAAL2 = "aal2"

// protect is step 9: what the body says, then the signature, and the second
// factor last, so that a refused request never burns a code.
func (x *exchange) protect() *refusal.Refusal {
	route := x.route
	if route == nil || !route.protected {
		return nil
	}
	secondFactor, signed := route.secondFactor, route.signed
	var body []byte
	if route.rules != nil {
		match, raw, ref := x.bodyRules(route)
		if ref != nil {
			return x.protectionRefused(ref)
		}
		body = raw
		secondFactor = secondFactor || match.SecondFactor()
		signed = signed || match.Signed()
	}
	if signed {
		if ref := x.checkSignature(body, route.rules != nil); ref != nil {
			return x.protectionRefused(ref)
		}
	}
	if secondFactor {
		if ref := x.checkSecondFactor(); ref != nil {
			return x.protectionRefused(ref)
		}
	}
	if route.asksCode && !x.g.c.codePresent {
		delete(x.r.Header, totp.Header)
	}
	return nil
}

func (x *exchange) protectionRefused(ref *refusal.Refusal) *refusal.Refusal {
	ref.Kind, ref.Credential = x.kind, true
	return ref
}

// bodyRules reads the body, judges it, and puts it back byte for byte.
func (x *exchange) bodyRules(route *compiledRoute) (bodyrule.Match, []byte, *refusal.Refusal) {
	raw, ref := route.rules.Read(x.r.Body, x.r.Header, x.r.ContentLength)
	if ref != nil {
		return bodyrule.Match{}, nil, ref
	}
	match, ref := route.rules.Evaluate(raw)
	if ref != nil {
		return match, nil, ref
	}
	for i := range match.Rules() {
		v := route.needs[i].Check(x.grants(), &x.scratch.match)
		if x.entry != nil {
			x.principal.uses.mark(route.ruleScopes[i])
		}
		switch v.Kind {
		case policy.VerdictObject:
			return match, nil, &refusal.Refusal{Reason: refusal.ReasonObjectForbidden, Required: []string{v.Missing}, Granted: x.heldScopes()}
		case policy.VerdictInsufficient:
			return match, nil, &refusal.Refusal{Reason: refusal.ReasonInsufficientScope, Required: []string{v.Missing}, Granted: x.heldScopes()}
		}
	}
	x.ruled = match
	bodyrule.Replay(x.r, raw)
	return match, raw, nil
}

func (x *exchange) grants() *policy.Grants {
	if x.principal == nil {
		return nil
	}
	return x.principal.grants
}

func (x *exchange) heldScopes() []string {
	if x.principal == nil {
		return nil
	}
	return x.principal.scopes
}

// checkSignature verifies the request's signature over its raw body with the
// key's own secret and the subject's.
func (x *exchange) checkSignature(body []byte, have bool) *refusal.Refusal {
	v := x.g.c.signature
	if !have {
		raw, ref := v.Read(x.wall(), x.r.Body, x.r.Header, x.r.ContentLength)
		if ref != nil {
			return ref
		}
		bodyrule.Replay(x.r, raw)
		body = raw
	}
	secrets, ref := x.signingSecrets()
	if ref != nil {
		return ref
	}
	target := x.r.RequestURI
	if orig, ok := x.r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		target = orig.RequestURI
	}
	return v.Verify(x.wall(), signature.Request{Method: x.r.Method, Target: target, Header: x.r.Header, Body: body}, secrets...)
}

func (x *exchange) signingSecrets() (secrets [][]byte, _ *refusal.Refusal) {
	vault, err := x.vault()
	if err != nil {
		return nil, &refusal.Refusal{Reason: refusal.ReasonKeystoreUnavailable, Err: err}
	}
	names := []string{x.subject}
	if p := x.principal; p.kind == kindAPIKey && p.keySubject != x.subject {
		names = append(names, p.keySubject)
	}
	for _, name := range names {
		if totp.CheckSubject(name) != nil {
			continue // an address, or a role: it has no secret
		}
		secret, err := vault.signing.Secret(x.r.Context(), name)
		switch {
		case errors.Is(err, keystore.ErrNotFound):
		case err != nil:
			return nil, &refusal.Refusal{Reason: refusal.ReasonKeystoreUnavailable, Err: err}
		default:
			secrets = append(secrets, []byte(secret))
		}
	}
	return secrets, nil
}

// checkSecondFactor judges the code, or what counts instead of one.
func (x *exchange) checkSecondFactor() *refusal.Refusal {
	if x.g.c.acceptAAL2 && x.principal.aal == methodAAL2 {
		x.factor = methodAAL2
		return nil
	}
	values := x.r.Header[totp.Header]
	if x.g.c.codePresent && !x.keysAPI {
		return totp.Present(values).Refusal()
	}
	vault, err := x.vault()
	if err != nil {
		return &refusal.Refusal{Reason: refusal.ReasonKeystoreUnavailable, Err: err}
	}
	out, err := vault.factors.Verify(x.r.Context(), x.wall(), x.subject, values)
	if err != nil {
		return &refusal.Refusal{Reason: refusal.ReasonKeystoreUnavailable, Err: err}
	}
	x.factor = out.Method
	return out.Refusal()
}

func (x *exchange) vault() (*vault, error) {
	keys, err := x.rt.keys.opened(x.r.Context())
	if err != nil {
		return nil, err
	}
	if keys.vault == nil {
		return nil, errNoVault
	}
	return keys.vault, nil
}

var errNoVault = errors.New("this keystore has no master key, so it keeps no second factors and no signing secrets")
