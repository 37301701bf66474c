package caddymodule

import (
	"net/http"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/limiter"
)

// limit is steps 6 to 8: route and scopes are evaluated, all limits are decided
// at once, and what the evaluation found is refused only then. So a caller who
// probes paths pays for it, and nobody unknown learns which paths there are.
func (x *exchange) limit() *refusal.Refusal {
	verdict := x.evaluate()
	s := x.scratch
	s.reset()
	if x.principal == nil {
		x.demandAnonymous()
	} else {
		x.demandPlan(verdict == nil)
	}
	if len(s.req.Demands)+len(s.req.Holds) == 0 {
		return verdict
	}
	if x.route != nil {
		s.req.OnFailure = x.route.onFailure
	}
	if err := x.rt.limits.Decide(x.r.Context(), x.now, &s.req, &s.dec); err != nil {
		return &refusal.Refusal{Reason: refusal.ReasonLimiterUnavailable, Credential: x.principal != nil, Err: err}
	}
	x.limited = len(s.req.Demands) > 0
	switch s.dec.Outcome {
	case limiter.Allowed:
		x.holding = len(s.req.Holds) > 0
		return verdict
	case limiter.ConcurrencyLimited:
		ref := &refusal.Refusal{Reason: refusal.ReasonConcurrencyLimited, Kind: x.kind, Credential: x.principal != nil}
		if len(s.req.Holds) == 1 { // of several nobody says which was full
			ref.Policies = []string{s.req.Holds[0].Name}
		}
		return x.rateRefusal(ref)
	}
	return x.rateRefusal(&refusal.Refusal{Reason: refusal.ReasonRateLimited, Kind: x.kind, Credential: x.principal != nil})
}

// evaluate is step 6: what the route says about this caller. nil: they may.
func (x *exchange) evaluate() *refusal.Refusal {
	m := &x.scratch.match
	if method := x.method(); m.Found == policy.NotFound && (method == http.MethodTrace || method == http.MethodConnect) {
		return x.methodRefused() // never, whatever the path
	}
	switch m.Found {
	case policy.NotFound:
		// A path that a line knows without its trailing slash is not unknown, and
		// what has no path at all is none.
		if x.g.c.openUnmatched && !m.Slash && x.path != "" && x.path[0] == '/' {
			return nil
		}
		return &refusal.Refusal{Reason: refusal.ReasonRouteNotFound, Kind: x.kind, Credential: true}
	case policy.MethodNotAllowed:
		return x.methodRefused()
	}
	req := &m.Route.Require
	if req.Public || req.Authenticated {
		return nil
	}
	v := m.Route.Check(x.principal.grants, m)
	switch v.Kind {
	case policy.VerdictOK:
		return nil
	case policy.VerdictObject:
		return &refusal.Refusal{Reason: refusal.ReasonObjectForbidden, Kind: x.kind, Credential: true,
			Required: []string{v.Missing}, Granted: x.principal.scopes}
	}
	return &refusal.Refusal{Reason: refusal.ReasonInsufficientScope, Kind: x.kind, Credential: true,
		Required: missingFirst(v.Missing, req.Scopes), Granted: x.principal.scopes}
}

// methodRefused is a 405 to a caller who is known.
func (x *exchange) methodRefused() *refusal.Refusal {
	ref := x.methodNotAllowed()
	ref.Kind, ref.Credential = x.kind, true
	return ref
}

// missingFirst lists the required scopes, the one that is missing first.
func missingFirst(missing string, groups [][]string) []string {
	out := []string{missing}
	for _, g := range groups {
		if len(g) > 0 && g[0] != missing {
			out = append(out, g[0])
		}
	}
	return out
}

// demandAnonymous asks for what a public route takes: the anonymous limit and
// the route's classes, all per address.
func (x *exchange) demandAnonymous() {
	s := x.scratch
	if x.rt.anonymous != nil {
		s.demand(x.rt.anonymous, x.subject, x.route.cost)
	}
	for _, c := range x.route.classes {
		if c.rate != nil {
			s.demand(c.rate.limit, x.subject, x.route.cost)
		}
	}
}

// demandPlan asks for what the caller's plan takes. Class, cost and slots count
// only where the request may go on.
func (x *exchange) demandPlan(allowed bool) {
	p, s := x.principal, x.scratch
	cost := 1
	var classes []*class
	if allowed && x.route != nil {
		cost, classes = x.route.cost, x.route.classes
	}
	switch {
	case p.requests != nil:
		s.demandAt(p.place(placeOwn, perKey), p.requests, p.keySubject, cost)
	case p.plan != nil:
		for i := range p.plan.requests {
			b := &p.plan.requests[i]
			s.demandAt(p.place(placeOfRequests(i), b.by), b.limit, x.whose(b.by), cost)
		}
	}
	for _, c := range classes {
		b := c.rate
		if p.plan != nil && p.plan.classes[c.index] != nil {
			b = p.plan.classes[c.index]
		}
		if b != nil {
			s.demandAt(p.place(p.placeOfClass(c), b.by), b.limit, x.whose(b.by), cost)
		}
	}
	if allowed {
		x.demandSlots(classes)
	}
}

func (x *exchange) demandSlots(classes []*class) {
	p, s := x.principal, x.scratch
	if p.plan != nil && p.plan.concurrentAll > 0 {
		s.req.Holds = append(s.req.Holds, limiter.Hold{Name: p.plan.name, Subject: x.subject, Max: p.plan.concurrentAll})
	}
	for _, c := range classes {
		switch {
		case p.concurrent != nil && p.concurrent[c.index] > 0:
			s.req.Holds = append(s.req.Holds, limiter.Hold{Name: c.name, Subject: p.keySubject, Max: p.concurrent[c.index]})
		case p.plan != nil && p.plan.concurrent[c.index] > 0:
			s.req.Holds = append(s.req.Holds, limiter.Hold{Name: c.name, Subject: x.subject, Max: p.plan.concurrent[c.index]})
		}
	}
}

// whose is the subject that a limit is counted under.
func (x *exchange) whose(by per) string {
	switch by {
	case perKey:
		if x.principal.keySubject != "" {
			return x.principal.keySubject
		}
	case perIP:
		return x.addressSubject()
	}
	return x.subject
}

// rateRefusal fills a 429 with the numbers of the limit that takes longest.
func (x *exchange) rateRefusal(ref *refusal.Refusal) *refusal.Refusal {
	s := x.scratch
	ref.Numbers.RetryAfter = max(1, wholeSeconds(s.dec.RetryAfter))
	if s.dec.Outcome == limiter.ConcurrencyLimited {
		return ref
	}
	longest := -1
	for i := range s.dec.States {
		st := &s.dec.States[i]
		if st.Wait <= 0 {
			continue
		}
		ref.Policies = append(ref.Policies, st.Limit.Policy)
		if longest < 0 || st.Wait > s.dec.States[longest].Wait {
			longest = i
		}
	}
	if longest >= 0 {
		st := &s.dec.States[longest]
		ref.Numbers.HasLimit = true
		ref.Numbers.Limit = st.Limit.Capacity()
		ref.Numbers.Remaining = st.Remaining
		ref.Numbers.Reset = resetAt(x.wall(), st.Full)
	}
	return ref
}
