package keyapi

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

// Caller is who manages keys.
type Caller struct {
	// ID names the caller in the audit trail: a key's id, or a token's subject.
	ID string
	// Key is the caller's own key; zero where a token calls.
	Key keystore.ID
	// Owner is the caller's account; may be empty.
	Owner string
	// Subject is owner:<owner>, else key:<id> or jwt:<issuer>:<sub>. Empty: a
	// token without sub, which is nobody in particular and has no keys.
	Subject string
	Scopes  []string
	// Plan is the plan that holds for the caller, by name; may be empty.
	Plan string
	// ExpiresAt and IPAllowlist are those of the caller's key. Zero and empty
	// bound nothing, and so it is for tokens.
	ExpiresAt   time.Time
	IPAllowlist []netip.Prefix
	// AnyOwner: the caller manages the keys of all owners.
	AnyOwner bool
	// Address is where the call comes from.
	Address string
	// Limit is what verify says of the tightest limit; nil: there is none.
	Limit *Limit
}

// Limit is the state of a limit.
type Limit struct {
	Limit     int   `json:"limit"`
	Remaining int   `json:"remaining"`
	Reset     int64 `json:"reset"` // Unix seconds
}

// storedOwner is the owner of the keys that the caller makes.
func (c *Caller) storedOwner() string {
	if c.Owner != "" {
		return c.Owner
	}
	return c.Subject
}

// Rights is what a configuration says about handing on rights.
type Rights struct {
	Universe *policy.Universe
	// AnyOwner is the scope whose holders cross owners; empty: nobody does.
	AnyOwner string
	// DefaultPlan is the plan of keys that name none; may be empty.
	DefaultPlan string
}

// Judge says whether c may make of before (nil: a new key) what is in after.
// nil: it may. action is the keeper's word: create, rotate, update, disable,
// enable, revoke.
//
// Whose: only keys of the caller's own owner. Those of others do not exist for
// it (not_found), and it makes none for them.
//
// How much: the caller covers what the key may do, before and after. A key that
// is made, enabled or given a secret is in the caller's hands: so it may not
// live longer than the caller's own nor be used from more addresses. What a
// change sets is judged alike. Plans are the caller's or the default, limits
// are not theirs to set.
//
// Holders of AnyOwner are bound by scopes alone. Anybody may revoke what it
// sees.
func (r *Rights) Judge(c *Caller, action string, before, after *keystore.Record) *refusal.Refusal {
	if before != nil && !c.sees(before) {
		return &refusal.Refusal{Reason: refusal.ReasonNotFound}
	}
	if before == nil && !c.AnyOwner && (c.Subject == "" || after.Owner != c.storedOwner()) {
		return r.forbid(c, "owner: keys are made for your own account; leave owner out")
	}
	if action == "revoke" {
		return nil
	}
	if before != nil {
		if missing, ok := r.Universe.Covers(c.Scopes, before.Scopes); !ok {
			return insufficient(c, missing, "this key holds scopes that yours does not")
		}
	}
	if missing, ok := r.Universe.Covers(c.Scopes, after.Scopes); !ok {
		return insufficient(c, missing, "permissions: a key can only hold what the one that makes or changes it holds")
	}
	if c.AnyOwner {
		return nil
	}
	return r.judgeBounds(c, action, before, after)
}

// judgeBounds is Judge's part on expiry, addresses, plan and limits.
func (r *Rights) judgeBounds(c *Caller, action string, before, after *keystore.Record) *refusal.Refusal {
	handed := before == nil || action == "rotate" || before.Disabled && !after.Disabled
	if (handed || !before.ExpiresAt.Equal(after.ExpiresAt)) && !within(c.ExpiresAt, after.ExpiresAt) {
		return r.forbid(c, "expires_at: a key may not live longer than yours, which ends "+c.ExpiresAt.UTC().Format(time.RFC3339))
	}
	if (handed || !slices.Equal(before.IPAllowlist, after.IPAllowlist)) && !narrower(c.IPAllowlist, after.IPAllowlist) {
		return r.forbid(c, "ip_allowlist: a key may not be used from addresses that yours may not")
	}
	plan, limits := "", (*keystore.Limits)(nil)
	if before != nil {
		plan, limits = before.Plan, before.Limits
	}
	if after.Plan != plan && after.Plan != "" && after.Plan != c.Plan && after.Plan != r.DefaultPlan {
		return r.forbid(c, "plan: only your own plan and the default one can be given")
	}
	if !limits.Equal(after.Limits) {
		return r.forbid(c, "limits: they are set by an administrator")
	}
	return nil
}

// sees reports whether the caller may know of a key.
func (c *Caller) sees(rec *keystore.Record) bool {
	return c.AnyOwner || c.Subject != "" && rec.Subject() == c.Subject
}

// within reports whether a key that ends at end ends no later than own; zero is
// never.
func within(own, end time.Time) bool {
	return own.IsZero() || !end.IsZero() && !end.After(own)
}

// narrower reports whether every prefix of list lies within one of own. Two
// halves in own that make up a prefix of list are not looked for.
func narrower(own, list []netip.Prefix) bool {
	if len(own) == 0 {
		return true
	}
	for _, p := range list {
		if !slices.ContainsFunc(own, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) }) {
			return false
		}
	}
	return len(list) > 0
}

// forbid refuses what only holders of AnyOwner may do.
func (r *Rights) forbid(c *Caller, why string) *refusal.Refusal {
	ref := insufficient(c, r.AnyOwner, why)
	ref.Message = why
	return ref
}

func insufficient(c *Caller, missing, why string) *refusal.Refusal {
	ref := &refusal.Refusal{Reason: refusal.ReasonInsufficientScope, Hint: why, Credential: true, Granted: c.Scopes}
	if missing != "" {
		ref.Required = []string{missing}
	}
	return ref
}
