package caddymodule

import (
	"context"
	"errors"
	"strings"

	"github.com/hivegate/hivegate/internal/credential"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/limiter"
)

// verifyKey judges an API key.
func (x *exchange) verifyKey(value string) *refusal.Refusal {
	if prefixes := x.g.c.prefixes; prefixes != nil && !hasAnyPrefix(value, prefixes) {
		return x.badKey(refusal.ReasonAPIKeyInvalid)
	}
	keys, err := x.rt.keys.opened(x.r.Context())
	if err != nil {
		return &refusal.Refusal{Reason: refusal.ReasonKeystoreUnavailable, Credential: true, Err: err}
	}
	x.guard = attempts{x: x}
	res := keys.verifier.Verify(x.r.Context(), x.now, x.g.c.formats, value, &x.guard)
	switch res.Outcome {
	case keystore.Valid:
		return x.admit(res)
	case keystore.Unknown:
		return x.unknownKey()
	case keystore.WrongSecret:
		x.failedID = res.ID.String()
		return x.badKey(refusal.ReasonAPIKeyInvalid)
	case keystore.AttemptsExceeded:
		x.failedID = res.ID.String()
		return x.attemptsLimited()
	case keystore.Revoked:
		x.failedID = res.ID.String()
		return x.badKey(refusal.ReasonAPIKeyRevoked)
	case keystore.Disabled:
		x.failedID = res.ID.String()
		return x.badKey(refusal.ReasonAPIKeyDisabled)
	case keystore.Expired:
		x.failedID = res.ID.String()
		return x.badKey(refusal.ReasonAPIKeyExpired)
	case keystore.Overloaded:
		return &refusal.Refusal{Reason: refusal.ReasonOverloaded, Credential: true}
	case keystore.Unavailable:
		return &refusal.Refusal{Reason: refusal.ReasonKeystoreUnavailable, Credential: true, Err: res.Err}
	}
	return x.badKey(refusal.ReasonAPIKeyInvalid) // malformed, and whatever else: deny
}

// admit takes the verified key as the principal.
func (x *exchange) admit(res keystore.Result) *refusal.Refusal {
	x.entry, x.secret = res.Entry, res.Secret
	x.principal = x.rt.principalOf(res.Entry)
	x.subject = x.principal.subject
	if secrets := res.Entry.Record().Secrets; res.Secret < len(secrets) {
		x.hash = secrets[res.Secret].Hash
	}
	if rec := res.Entry.Record(); len(rec.IPAllowlist) > 0 && !rec.AllowsAddr(x.addr()) {
		return &refusal.Refusal{Reason: refusal.ReasonAddressForbidden, Kind: refusal.KindAPIKey, Credential: true}
	}
	return nil
}

func (x *exchange) badKey(reason refusal.Reason) *refusal.Refusal {
	return x.withFailureBudget(&refusal.Refusal{Reason: reason, Kind: refusal.KindAPIKey, Credential: true})
}

// unknownKey counts an unknown id under the caller's address.
func (x *exchange) unknownKey() *refusal.Refusal {
	return x.countFailure(&refusal.Refusal{Reason: refusal.ReasonAPIKeyInvalid, Kind: refusal.KindAPIKey, Credential: true})
}

// countFailure charges a failure to the caller's address. Past the budget the
// refusal is a 429, and nothing else changes.
func (x *exchange) countFailure(ref *refusal.Refusal) *refusal.Refusal {
	s := x.scratch
	s.reset()
	s.demand(x.rt.authFailures, x.addressSubject(), 1)
	s.req.OnFailure = limiter.FailLocal // failures are never uncounted
	if err := x.rt.limits.Decide(x.r.Context(), x.now, &s.req, &s.dec); err != nil {
		ref.Err = errors.Join(ref.Err, err)
		return ref
	}
	x.limited = true
	if s.dec.Outcome != limiter.Allowed {
		x.failedID = ""
		return x.budgetSpent()
	}
	return ref
}

// attemptsLimited is the refusal of a budget that was found to be spent.
func (x *exchange) attemptsLimited() *refusal.Refusal {
	x.peekFailureBudget(1)
	return x.budgetSpent()
}

// budgetSpent is the refusal, and scratch says of which budget.
func (x *exchange) budgetSpent() *refusal.Refusal {
	s := x.scratch
	s.dec.Outcome = limiter.RateLimited
	s.dec.RetryAfter = 0
	for _, st := range s.dec.States {
		s.dec.RetryAfter = max(s.dec.RetryAfter, st.Wait)
	}
	return x.rateRefusal(&refusal.Refusal{Reason: refusal.ReasonAuthAttemptsLimited, Kind: x.kind, Credential: true})
}

// withFailureBudget lets a 401 describe the budget of failures that its
// address has left, so that every answer tells its caller where it stands.
func (x *exchange) withFailureBudget(ref *refusal.Refusal) *refusal.Refusal {
	x.peekFailureBudget(1)
	return ref
}

func (x *exchange) peekFailureBudget(cost int) {
	s := x.scratch
	s.reset()
	s.demand(x.rt.authFailures, failureSubject(x.addressSubject(), x.failedID), cost)
	s.dec.States = append(s.dec.States[:0], limiter.State{})
	if err := x.rt.limits.Peek(x.r.Context(), x.now, s.req.Demands, s.dec.States); err != nil {
		s.reset() // a 401 without numbers is still a right 401
		return
	}
	x.limited = true
}

// failureSubject is whose budget a failure is charged to: the address, or the
// pair of address and key id.
func failureSubject(address, id string) string {
	if id == "" {
		return address
	}
	return address + " " + id
}

// attempts is the budget of wrong secrets of one caller's address; it
// implements keystore.Guard.
type attempts struct{ x *exchange }

// Spend implements keystore.Guard. Where no counter can be reached the attempt
// is refused: an uncounted guess is what an attacker would cut the network for.
func (a *attempts) Spend(id keystore.ID) bool {
	var (
		demand = [1]limiter.Demand{a.demand(id)}
		dec    limiter.Decision
	)
	err := a.x.rt.limits.Decide(context.WithoutCancel(a.x.r.Context()), a.x.now, &limiter.Request{Demands: demand[:], OnFailure: limiter.FailLocal}, &dec)
	return err == nil && dec.Outcome == limiter.Allowed
}

// Refund implements keystore.Guard.
func (a *attempts) Refund(id keystore.ID) {
	demand := [1]limiter.Demand{a.demand(id)}
	// An attempt that cannot be given back only makes the budget smaller.
	_ = a.x.rt.limits.Refund(context.WithoutCancel(a.x.r.Context()), a.x.now, demand[:])
}

func (a *attempts) demand(id keystore.ID) limiter.Demand {
	return limiter.Demand{
		Limit:   a.x.rt.authFailures,
		Subject: failureSubject(a.x.addressSubject(), id.String()),
		Cost:    1,
	}
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// holdsCredential reports whether a query string has something that looks like a
// key or a token.
func holdsCredential(query string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.Contains(query, "="+p) {
			return true
		}
	}
	// The header of a JWT is a JSON object: eyJ is {" in base64. Each value is looked
	// at once: a stranger chooses how many there are.
	for pair := range strings.SplitSeq(query, "&") {
		if _, value, _ := strings.Cut(pair, "="); strings.HasPrefix(value, "eyJ") && credential.IsJWT(value) {
			return true
		}
	}
	return false
}
