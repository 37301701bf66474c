package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Requirement is what must hold before a request goes on: exactly one of its
// fields is set.
type Requirement struct {
	// Public lets everybody through, without a credential.
	Public bool `json:"public,omitempty"`
	// Authenticated asks for a valid credential and no scope.
	Authenticated bool `json:"authenticated,omitempty"`
	// Scopes must all be held. Each element lists alternatives, of which one
	// suffices; refusals name the first.
	Scopes [][]string `json:"scopes,omitempty"`
}

// ParseRequirement reads the words of a requirement: "public", "authenticated",
// or scopes, where "a|b" asks for either.
func ParseRequirement(words []string) (Requirement, error) {
	var r Requirement
	for _, word := range words {
		switch word {
		case "public":
			r.Public = true
			continue
		case "authenticated":
			r.Authenticated = true
			continue
		}
		r.Scopes = append(r.Scopes, strings.Split(word, "|"))
	}
	if err := r.check(); err != nil {
		return Requirement{}, err
	}
	return r, nil
}

// String writes the requirement as in a route line.
func (r Requirement) String() string {
	if r.Public {
		return "public"
	}
	if r.Authenticated {
		return "authenticated"
	}
	words := make([]string, len(r.Scopes))
	for i, alternatives := range r.Scopes {
		words[i] = strings.Join(alternatives, "|")
	}
	return strings.Join(words, " ")
}

func (r Requirement) check() error {
	switch {
	case !r.Public && !r.Authenticated && len(r.Scopes) == 0:
		return errors.New("a requirement is missing: write public, authenticated, or the scopes that are needed")
	case r.Public && (r.Authenticated || len(r.Scopes) > 0):
		return errors.New("public stands alone: a route that anybody may use cannot require anything else")
	case r.Authenticated && len(r.Scopes) > 0:
		return errors.New("authenticated stands alone: a scope requires a credential anyway")
	}
	seen := map[string]bool{}
	for _, alternatives := range r.Scopes {
		if len(alternatives) == 0 {
			return errors.New("a list of alternative scopes is empty")
		}
		for i, s := range alternatives {
			if err := checkRequired(s, len(alternatives) > 1); err != nil {
				return err
			}
			if slices.Contains(alternatives[:i], s) {
				return fmt.Errorf("%s is its own alternative", s)
			}
		}
		if len(alternatives) == 1 && seen[alternatives[0]] {
			return fmt.Errorf("%s is required twice", alternatives[0])
		}
		seen[strings.Join(alternatives, "|")] = true
	}
	return nil
}

func checkRequired(s string, alternative bool) error {
	switch {
	case alternative && s == "":
		return errors.New("an alternative is empty: write scopes on both sides of '|', without spaces")
	case alternative && (s == "public" || s == "authenticated"):
		return fmt.Errorf("%s stands alone: it cannot be an alternative to a scope", s)
	}
	err := ParseScope(s)
	if err != nil && !strings.Contains(s, ":") {
		if near := Nearest(s, []string{"public", "authenticated"}); near != "" {
			return fmt.Errorf("%s is not a requirement; did you mean %s?", quote(s), near)
		}
	}
	return err
}

// VerdictKind says how a check came out.
type VerdictKind uint8

// The outcomes of a check.
const (
	// VerdictOK: what is required is held.
	VerdictOK VerdictKind = iota
	// VerdictInsufficient: a required scope is not held at all.
	VerdictInsufficient
	// VerdictObject: it is held for other objects only, or the route has no
	// such parameter.
	VerdictObject
)

// Verdict is the outcome of a check.
type Verdict struct {
	Kind VerdictKind
	// Missing is the first required scope that is missing, the first of its
	// alternatives, as it was written; empty with VerdictOK.
	Missing string
}

// Need is a [Requirement] compiled against a universe.
type Need struct {
	universe      uint64
	public        bool
	authenticated bool
	groups        []needGroup
}

// needGroup is one required scope with its alternatives.
type needGroup struct {
	written string // the first of them, as it was written
	anyOf   []required
}

// Need compiles a requirement that belongs to no route line of its own. Its
// scopes count as required from then on: grants compiled before are stale.
func (u *Universe) Need(r Requirement) (*Need, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	n := &Need{universe: u.id, public: r.Public, authenticated: r.Authenticated}
	for _, alternatives := range r.Scopes {
		for _, s := range alternatives {
			if err := u.Known(s); err != nil {
				return nil, err
			}
		}
	}
	for _, alternatives := range r.Scopes {
		group := needGroup{written: alternatives[0]}
		for _, s := range alternatives {
			group.anyOf = append(group.anyOf, u.intern(s))
		}
		n.groups = append(n.groups, group)
	}
	return n, nil
}

// Check says whether grants meet the need on the route and object of m. A nil m
// is a route without parameters. Nil grants, and those of another universe, meet
// nothing but a public need; those of a principal without scopes, which are not
// nil, meet an authenticated one. Check does not allocate unless a parameter's
// value has percent-escapes.
func (n *Need) Check(g *Grants, m *Match) Verdict {
	if n.public {
		return Verdict{}
	}
	if g != nil && g.universe != n.universe {
		g = nil
	}
	if n.authenticated && g != nil {
		return Verdict{}
	}
	for i := range n.groups {
		if kind := n.groups[i].check(g, m); kind != VerdictOK {
			return Verdict{kind, n.groups[i].written}
		}
	}
	if len(n.groups) == 0 {
		return Verdict{Kind: VerdictInsufficient}
	}
	return Verdict{}
}

func (n *needGroup) check(g *Grants, m *Match) VerdictKind {
	if g == nil {
		return VerdictInsufficient
	}
	for _, r := range n.anyOf {
		if g.whole(r) {
			return VerdictOK
		}
	}
	verdict := VerdictInsufficient
	for _, r := range n.anyOf {
		here, anywhere := g.part(r, m)
		if here {
			return VerdictOK
		}
		if anywhere {
			verdict = VerdictObject
		}
	}
	return verdict
}
