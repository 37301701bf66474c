package caddymodule

import (
	"net/http"
	"strconv"
	"time"

	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/limiter"
)

// resetAt is the Unix second at which a bucket is full again, rounded up.
func resetAt(now time.Time, full time.Duration) int64 {
	t := now.Add(full)
	if t.Nanosecond() > 0 {
		return t.Unix() + 1
	}
	return t.Unix()
}

// limitHeaders writes what the decision says about the limits into the values
// of this answer: X-RateLimit-* for the tightest one (on a 429 the one with the
// longest wait), RateLimit and RateLimit-Policy
// (draft-ietf-httpapi-ratelimit-headers-10) for every one.
func (x *exchange) limitHeaders(ref *refusal.Refusal) {
	states := x.scratch.dec.States
	if !x.limited || len(states) == 0 {
		return
	}
	shown := tightest(states)
	if ref != nil && ref.Numbers.HasLimit {
		shown = longestWait(states)
	}
	b := x.text.room()
	var cut [5]int
	if x.g.c.headersX {
		b = strconv.AppendInt(b, int64(shown.Limit.Capacity()), 10)
		cut[1] = len(b)
		b = strconv.AppendInt(b, int64(shown.Remaining), 10)
		cut[2] = len(b)
		b = strconv.AppendInt(b, resetAt(x.wall(), shown.Full), 10)
	}
	cut[3] = len(b)
	if x.g.c.headersIETF {
		x.values[valuePolicy] = x.policies(states)
		b = appendStates(b, states)
		cut[4] = len(b)
	}
	all := x.text.keep(b)
	if x.g.c.headersX {
		x.values[valueLimit], x.values[valueRemaining], x.values[valueReset] = all[:cut[1]], all[cut[1]:cut[2]], all[cut[2]:cut[3]]
	}
	if x.g.c.headersIETF {
		x.values[valueStates] = all[cut[3]:cut[4]]
	}
}

// policyText is RateLimit-Policy for some limits.
type policyText struct {
	limits []*limiter.Limit
	text   string
}

func (p *policyText) is(states []limiter.State) bool {
	if p == nil || len(p.limits) != len(states) {
		return false
	}
	for i := range states {
		if states[i].Limit != p.limits[i] {
			return false
		}
	}
	return true
}

// policies is RateLimit-Policy, which the limits alone decide: the route keeps
// one for each plan.
func (x *exchange) policies(states []limiter.State) string {
	if x.route == nil {
		return string(appendPolicies(nil, states))
	}
	plan := 0
	if x.principal != nil && x.principal.plan != nil {
		plan = x.principal.plan.index + 1
	}
	if plan >= len(x.route.policies) {
		return string(appendPolicies(nil, states))
	}
	kept := x.route.policies[plan].Load()
	if kept.is(states) {
		return kept.text
	}
	if x.principal != nil && x.principal.requests != nil {
		return string(appendPolicies(nil, states)) // the key has a limit of its own
	}
	made := &policyText{text: string(appendPolicies(nil, states))}
	for i := range states {
		made.limits = append(made.limits, states[i].Limit)
	}
	x.route.policies[plan].CompareAndSwap(nil, made)
	return made.text
}

// tightest is the state with the least remaining in proportion.
func tightest(states []limiter.State) *limiter.State {
	best := &states[0]
	for i := 1; i < len(states); i++ {
		s := &states[i]
		// remaining/capacity compared crosswise, so that 0 needs no division.
		if s.Remaining*best.Limit.Capacity() < best.Remaining*s.Limit.Capacity() {
			best = s
		}
	}
	return best
}

func longestWait(states []limiter.State) *limiter.State {
	best := &states[0]
	for i := 1; i < len(states); i++ {
		if states[i].Wait > best.Wait {
			best = &states[i]
		}
	}
	return best
}

// appendPolicies writes `"explorer";q=60;w=60, "ai";q=30;w=60`. Names hold no
// quote or backslash: compileApp sees to it.
func appendPolicies(b []byte, states []limiter.State) []byte {
	for i := range states {
		l := states[i].Limit
		b = appendName(b, i, l.Policy)
		b = append(b, ";q="...)
		b = strconv.AppendInt(b, int64(l.Capacity()), 10)
		b = append(b, ";w="...)
		b = strconv.AppendInt(b, int64(max(1, wholeSeconds(l.Window()))), 10)
	}
	return b
}

// appendStates writes `"explorer";r=59;t=1, …`.
func appendStates(b []byte, states []limiter.State) []byte {
	for i := range states {
		s := &states[i]
		b = appendName(b, i, s.Limit.Policy)
		b = append(b, ";r="...)
		b = strconv.AppendInt(b, int64(s.Remaining), 10)
		b = append(b, ";t="...)
		b = strconv.AppendInt(b, int64(wholeSeconds(s.Full)), 10)
	}
	return b
}

func appendName(b []byte, i int, name string) []byte {
	if i > 0 {
		b = append(b, ", "...)
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"')
}

func newIdentityNames(prefix string) identityNames {
	name := func(s string) string { return http.CanonicalHeaderKey(prefix + s) }
	return identityNames{kind: name("Kind"), id: name("Id"), owner: name("Owner"), scopes: name("Scopes"), plan: name("Plan"), issuer: name("Issuer"), factor: name("Second-Factor")}
}

// identify is step 10: what the backend is told about the caller, and the
// limits that every answer tells.
func (x *exchange) identify() {
	h, names := x.r.Header, &x.g.c.identity
	if p := x.principal; p == nil {
		x.put(h, names.kind, valueKind, kindAnonymous)
	} else {
		x.dropCredentials() // first: a map of nine headers takes twice the memory of one of eight
		x.put(h, names.kind, valueKind, p.kind)
		x.put(h, names.id, valueWho, p.id)
		x.put(h, names.owner, valueOwner, p.owner)
		x.put(h, names.scopes, valueScopes, p.scopesText)
		x.put(h, names.plan, valuePlan, p.planName())
		x.put(h, names.issuer, valueIssuer, p.issuer)
		x.put(h, names.factor, valueFactor, x.factor)
	}
	x.put(h, "X-Request-Id", valueOnwardID, x.requestID)
	x.limitHeaders(nil)
	x.logRoute()
}
