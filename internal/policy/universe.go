package policy

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// Universe is what one configuration says about scopes. It is built once, grows
// while routes are compiled against it, and is safe for concurrent use.
type Universe struct {
	id     uint64              // tells the universes of a process apart
	closed map[string]struct{} // canonical names; nil: every scope is known
	names  []string            // the closed list and the aliases as written, for hints
	alias  map[string]string   // another name to its canonical one, chains resolved

	// version counts what was interned. It is written under mu.
	version atomic.Uint64
	mu      sync.RWMutex // guards the maps and slices below
	// The maps hold what routes require, not what keys hold: they are bounded
	// by the configuration.
	scopes     map[string]uint32   // canonical required scope to its number, from 0
	resources  map[string]uint32   // resource of a required scope to its number, from 1
	byResource map[uint32][]uint32 // resource to the required scopes of it
	params     map[string]uint32   // name of a route parameter to its number, from 1
}

// AliasError is what [NewUniverse] returns about one alias.
type AliasError struct {
	Index int // of the alias
	Msg   string
}

// Error returns Msg.
func (e *AliasError) Error() string { return e.Msg }

const (
	noParam    = 0 // stands for a parameter that no route has
	noResource = 0 // stands for the resource of "*"
)

var universes atomic.Uint64

// NewUniverse makes a universe of a closed list (empty: any scope may be named)
// and aliases. {A, B} makes A another name of B: both are resource:action with
// the same resource. Chains are resolved; a cycle, one name for two scopes, or,
// with a closed list, an alias of a scope that is not in it is an error.
func NewUniverse(closed []string, aliases [][2]string) (*Universe, error) {
	u := &Universe{
		id:         universes.Add(1),
		scopes:     map[string]uint32{},
		resources:  map[string]uint32{},
		byResource: map[uint32][]uint32{},
		params:     map[string]uint32{},
	}
	for _, s := range closed {
		if err := ParseScope(s); err != nil {
			return nil, err
		}
	}
	var err error
	if u.alias, err = resolveAliases(aliases); err != nil {
		return nil, err
	}
	if len(closed) == 0 {
		return u, nil
	}
	u.closed = make(map[string]struct{}, len(closed))
	for _, s := range closed {
		u.closed[u.Canonical(s)] = struct{}{}
	}
	u.names = slices.Clone(closed)
	for i, a := range aliases {
		if _, listed := u.closed[u.Canonical(a[1])]; !listed {
			return nil, &AliasError{i, fmt.Sprintf("%s is not in the list of scopes%s", a[1], didYouMean(a[1], closed))}
		}
		u.names = append(u.names, a[0])
	}
	return u, nil
}

// Known says whether a scope, narrowed or not, may be named: it is a scope at
// all and, with a closed list, it or an alias of it is in the list, or it is a
// wildcard that covers one that is. The error names the nearest known one.
func (u *Universe) Known(scope string) error {
	g, err := ParseGrant(scope)
	if err != nil {
		return err
	}
	if u.closed == nil || g.Scope == "*" {
		return nil
	}
	if _, listed := u.closed[u.Canonical(g.Scope)]; listed {
		return nil
	}
	if isWildcard(g.Scope) {
		resource := resourceOf(g.Scope)
		for s := range u.closed {
			if resourceOf(s) == resource {
				return nil
			}
		}
	}
	return fmt.Errorf("scope %s is not in the list of scopes%s", quote(g.Scope), didYouMean(g.Scope, u.names))
}

// Canonical returns what an alias stands for, and any other scope as it is.
func (u *Universe) Canonical(scope string) string {
	if s, ok := u.alias[scope]; ok {
		return s
	}
	return scope
}

// resolveAliases maps each alias straight to the end of its chain.
func resolveAliases(aliases [][2]string) (map[string]string, error) {
	direct := make(map[string]string, len(aliases))
	for i, a := range aliases {
		if err := checkAlias(a[0], a[1], direct); err != nil {
			return nil, &AliasError{i, err.Error()}
		}
		direct[a[0]] = a[1]
	}
	resolved := make(map[string]string, len(direct))
	for i, a := range aliases {
		end, steps := a[1], 0
		for next, more := direct[end]; more; next, more = direct[end] {
			if steps++; steps > len(direct) {
				return nil, &AliasError{i, fmt.Sprintf("the aliases of %s go round in a circle: one of them must name the scope itself", a[0])}
			}
			end = next
		}
		resolved[a[0]] = end
	}
	return resolved, nil
}

func checkAlias(name, of string, known map[string]string) error {
	for _, s := range []string{name, of} {
		if err := ParseScope(s); err != nil {
			return err
		}
		if isWildcard(s) {
			return fmt.Errorf("%s: a wildcard can be neither an alias nor have one; name the actions one by one", s)
		}
	}
	if name == of {
		return fmt.Errorf("%s is an alias of itself", name)
	}
	// With another resource, res:* would cover the one name and not the other.
	if a, b := resourceOf(name), resourceOf(of); a != b {
		return fmt.Errorf("alias %s of %s: both must have the same resource, these have %s and %s", name, of, a, b)
	}
	if before, twice := known[name]; twice {
		if before == of {
			return fmt.Errorf("alias %s of %s is given twice", name, of)
		}
		return fmt.Errorf("%s is an alias of %s already", name, before)
	}
	return nil
}

// required is a scope that something requires, as numbers.
type required struct {
	scope    uint32
	resource uint32 // noResource for "*"
}

// intern gives a required scope its number.
func (u *Universe) intern(scope string) required {
	scope = u.Canonical(scope)
	u.mu.Lock()
	defer u.mu.Unlock()
	r := required{resource: noResource}
	if name := resourceOf(scope); name != "" {
		n, seen := u.resources[name]
		if !seen {
			n = number(len(u.resources)) + 1
			u.resources[name] = n
		}
		r.resource = n
	}
	n, seen := u.scopes[scope]
	if !seen {
		n = number(len(u.scopes))
		u.scopes[scope] = n
		if r.resource != noResource {
			u.byResource[r.resource] = append(u.byResource[r.resource], n)
		}
		u.version.Add(1)
	}
	r.scope = n
	return r
}

// internParam gives the name of a route parameter its number.
func (u *Universe) internParam(name string) uint32 {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, seen := u.params[name]
	if !seen {
		n = number(len(u.params)) + 1
		u.params[name] = n
		u.version.Add(1)
	}
	return n
}

// number holds the sizes of a universe within the 31 bits that a narrowed grant
// has for each.
func number(n int) uint32 {
	if n < 0 || n >= math.MaxInt32 {
		panic(errors.New("more names in the route tables than can be counted"))
	}
	return uint32(n)
}
