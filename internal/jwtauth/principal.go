package jwtauth

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Principal is whom a token stands for. Its fields are never changed once it
// was handed out: the same one serves every request with the same token.
type Principal struct {
	// Issuer is the issuer's name.
	Issuer string
	// Subject is the sub claim; may be empty.
	Subject string
	// Owner is the account; empty without owner_claim.
	Owner string
	// Role is the role's name; may be empty.
	Role string
	// Plan is the plan's name; empty: the default one. It may name a plan that
	// does not exist.
	Plan string
	// Scopes are the scopes of claim and role, united, as they were written
	// (aliases are not resolved), each once. ScopesText has them separated by
	// spaces.
	Scopes     []string
	ScopesText string
	// AAL is the aal claim ("aal2": a second factor was used); may be empty.
	AAL string
	// Expires is the exp claim, leeway not included; zero for a static key.
	Expires time.Time
	// Until is Expires with the issuer's leeway: from then on the token is refused.
	Until time.Time
	// ServerOnly: to be refused when it comes from a browser.
	ServerOnly bool
	// Static: it stands for a static key, not for a token.
	Static bool
	// SubjectKey is to whom limits and second factors belong: "owner:<owner>",
	// else "jwt:<issuer>:<sub>". Empty: nobody in particular, so the client's
	// address.
	SubjectKey string

	attached atomic.Value
}

// ID names the principal to the backend: the sub, or else the role.
func (p *Principal) ID() string {
	if p.Subject != "" {
		return p.Subject
	}
	return p.Role
}

// Attach keeps something that the caller made of this principal, such as its
// compiled scopes, for as long as the principal is remembered. The last caller
// wins; all attach the same type of value.
func (p *Principal) Attach(v any) { p.attached.Store(v) }

// Attached returns what was attached, or nil.
func (p *Principal) Attached() any { return p.attached.Load() }

// rules say what claims mean. They are compiled from a Config.
type rules struct {
	issuer                    string
	scopes, role, owner, plan path
	defaultPlan               string
	roles                     map[string][]scopeTemplate
	// plain are the scopes of roles without claims in them.
	plain map[string]scopeList
	// names are what a token is likely to name, so that they need not be kept for
	// each.
	names      map[string]string
	serverOnly map[string]bool
	static     []staticKey
}

// scopeList is scopes, each once, and as one text.
type scopeList struct {
	scopes []string
	text   string
}

type staticKey struct {
	value     string
	principal *Principal
}

func newRules(cfg *Config) (*rules, error) {
	r := &rules{
		issuer: cfg.Name, defaultPlan: cfg.Plan,
		roles: map[string][]scopeTemplate{}, serverOnly: map[string]bool{},
		plain: map[string]scopeList{}, names: map[string]string{"aal1": "aal1", "aal2": "aal2"},
	}
	for _, c := range []struct {
		to   *path
		name string
	}{{&r.scopes, cfg.ScopesClaim}, {&r.role, cfg.RoleClaim}, {&r.owner, cfg.OwnerClaim}, {&r.plan, cfg.PlanClaim}} {
		if c.name == "" {
			continue
		}
		p, err := parsePath(c.name)
		if err != nil {
			return nil, err
		}
		*c.to = p
	}
	for role, scopes := range cfg.Roles {
		for _, s := range scopes {
			t, err := parseScopeTemplate(s)
			if err != nil {
				return nil, err
			}
			r.roles[role] = append(r.roles[role], t)
		}
		r.names[role] = role
		if !slices.ContainsFunc(r.roles[role], func(t scopeTemplate) bool { return t.parts != nil }) {
			r.plain[role] = listOf(r.roleScopes(nil, role, nil))
		}
	}
	for _, role := range cfg.ServerOnly {
		r.serverOnly[role] = true
	}
	for _, k := range cfg.StaticKeys {
		none := value{kind: kindObject}
		p := &Principal{Issuer: r.issuer, Role: k.Role, Plan: r.defaultPlan, Static: true, ServerOnly: r.serverOnly[k.Role]}
		p.setScopes(listOf(r.roleScopes(nil, k.Role, &none)))
		r.static = append(r.static, staticKey{k.Value, p})
	}
	return r, nil
}

// principal reads what the claims say into p. A claim of the wrong type refuses the
// token; it is never taken for a missing one. Of the token's own text p keeps nothing.
func (r *rules) principal(p *Principal, c *claims) *Denied {
	p.Issuer, p.Expires = r.issuer, c.exp.Time
	texts := [...]struct {
		to   *string
		from path
		deny *Denied
	}{
		{&p.Role, r.role, denyRole}, {&p.Plan, r.plan, denyPlan},
		{&p.Owner, r.owner, denyOwner}, {&p.AAL, aalPath, denyAAL},
	}
	for i := range texts {
		t := &texts[i]
		s, ok := t.from.text(&c.root)
		if !ok {
			return t.deny
		}
		*t.to = r.own(s)
	}
	if reservedOwner(p.Owner) {
		return denyOwner
	}
	if p.Plan == "" {
		p.Plan = r.defaultPlan
	}
	scopes, ok := r.claimScopes(&c.root)
	if !ok {
		return denyScopes
	}
	if list, ok := r.plain[p.Role]; ok && scopes == nil {
		p.setScopes(list)
	} else {
		p.setScopes(listOf(r.roleScopes(scopes, p.Role, &c.root)))
	}
	p.ServerOnly = r.serverOnly[p.Role]
	switch {
	case p.Owner != "":
		p.SubjectKey, p.Subject = "owner:"+p.Owner, strings.Clone(c.sub)
	case c.sub != "":
		p.SubjectKey = "jwt:" + p.Issuer + ":" + c.sub
		p.Subject = p.SubjectKey[len(p.SubjectKey)-len(c.sub):] // one text for both
	}
	return nil
}

// own returns s in memory that is not the token's.
func (r *rules) own(s string) string {
	if name, ok := r.names[s]; ok {
		return name
	}
	return strings.Clone(s)
}

var aalPath = path{"aal"}

// claimScopes reads the scopes claim. What is no plain resource:action there
// counts for nothing: OpenID's own scopes ("openid"), and wildcards and
// narrowed scopes, which the configuration alone may give.
func (r *rules) claimScopes(root *value) ([]string, bool) {
	if r.scopes == nil {
		return nil, true
	}
	v, ok := r.scopes.find(root)
	if !ok {
		return nil, false
	}
	if v == nil {
		return nil, true
	}
	list, ok := textList(v)
	if !ok {
		return nil, false
	}
	if v.kind == kindString {
		// At single spaces, as RFC 6749 section 3.3 has it: no other white
		// space separates, or a scope could be smuggled in beside another.
		list = strings.Split(v.text, " ")
	}
	var scopes []string
	for _, s := range list {
		if plainScope(s, false) {
			scopes = append(scopes, strings.Clone(s))
		}
	}
	return scopes, true
}

// roleScopes appends the scopes of a role.
func (r *rules) roleScopes(scopes []string, role string, root *value) []string {
	templates := r.roles[role]
	for i := range templates {
		if s, ok := templates[i].expand(root); ok {
			scopes = append(scopes, s)
		}
	}
	return scopes
}

// listOf makes a list of scopes, which become its own.
func listOf(scopes []string) scopeList {
	if len(scopes) <= linearDuplicates {
		n := 0
		for _, s := range scopes {
			if !slices.Contains(scopes[:n], s) {
				scopes[n] = s
				n++
			}
		}
		clear(scopes[n:])
		scopes = scopes[:n]
	} else {
		seen := make(map[string]struct{}, len(scopes))
		scopes = slices.DeleteFunc(scopes, func(s string) bool {
			_, twice := seen[s]
			seen[s] = struct{}{}
			return twice
		})
	}
	return scopeList{slices.Clip(scopes), strings.Join(scopes, " ")}
}

func (p *Principal) setScopes(l scopeList) { p.Scopes, p.ScopesText = l.scopes, l.text }

// reservedOwner reports owners that would be taken for another kind of
// subject.
func reservedOwner(owner string) bool {
	return owner != strings.TrimSpace(owner) || strings.HasPrefix(owner, "owner:") || strings.HasPrefix(owner, "key:") || strings.HasPrefix(owner, "jwt:")
}
