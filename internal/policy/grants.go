package policy

import (
	"slices"
	"strings"
)

// Grants are the scopes of one principal, compiled against a [Universe]. They
// are immutable. Where the bits and the narrowed list come from, see doc.go.
type Grants struct {
	universe uint64 // id of the universe
	version  uint64 // of the universe when compiled
	all      bool   // "*" is held whole
	bits     []uint64
	narrowed []narrowed // sorted by key
}

// narrowed is what is held of one scope, resource or everything, for some values
// of one parameter.
type narrowed struct {
	key    uint64
	values []string // sorted; nil where no route has the parameter
}

// The kinds of narrowed scopes, in the two upper bits of a key.
const (
	kindScope    = 0 // resource:action, or resource:* where a route requires just that
	kindResource = 1 // resource:*, for all that a route may require of it
	kindAll      = 2 // *
)

// Compile compiles the scopes of a principal. Scopes that no route requires are
// left out. The error is that of the first that is no scope; a closed list is
// not consulted, see [Universe.Known].
func (u *Universe) Compile(scopes []string) (*Grants, error) {
	grants := make([]Grant, 0, len(scopes))
	for _, s := range scopes {
		g, err := ParseGrant(s)
		if err != nil {
			return nil, err
		}
		grants = append(grants, g)
	}
	return u.compile(grants), nil
}

// CompileLenient is [Universe.Compile] for scopes that were stored: one that
// cannot be read grants nothing.
func (u *Universe) CompileLenient(scopes []string) *Grants {
	return u.compile(parseLenient(scopes))
}

// Stale says that the grants were compiled before all routes were known, or for
// another configuration: compile them again. So are nil Grants.
func (g *Grants) Stale(u *Universe) bool {
	return g == nil || g.universe != u.id || g.version != u.version.Load()
}

// Covers says whether granter may hand out requested: whatever route a holder of
// requested opens, on any object, a holder of granter opens too. It holds for
// routes to come, and is therefore stricter than the routes there are: all
// actions of a resource do not make up resource:*. Missing is the first of
// requested that is not covered, as written; one that is no scope is never
// covered, and in granter it covers nothing.
func (u *Universe) Covers(granter, requested []string) (missing string, ok bool) {
	held := u.heldBy(granter)
	for _, s := range requested {
		g, err := ParseGrant(s)
		if err != nil || !held.cover(g, u.Canonical(g.Scope)) {
			return s, false
		}
	}
	return "", true
}

// heldScopes is a set of grants by name.
type heldScopes struct {
	whole map[string]struct{}
	parts map[heldPart]struct{}
}

type heldPart struct{ scope, param, value string }

func (u *Universe) heldBy(scopes []string) heldScopes {
	h := heldScopes{whole: map[string]struct{}{}, parts: map[heldPart]struct{}{}}
	for _, g := range parseLenient(scopes) {
		scope := u.Canonical(g.Scope)
		if g.Param == "" {
			h.whole[scope] = struct{}{}
		}
		for _, v := range g.Values {
			h.parts[heldPart{scope, g.Param, v}] = struct{}{}
		}
	}
	return h
}

func (h heldScopes) cover(g Grant, scope string) bool {
	covering := [3]string{scope, "*", "*"}
	if r := resourceOf(scope); r != "" {
		covering[1] = r + ":*"
	}
	for _, s := range covering {
		if _, ok := h.whole[s]; ok {
			return true
		}
	}
	if g.Param == "" {
		return false
	}
	for _, v := range g.Values {
		if !slices.ContainsFunc(covering[:], func(s string) bool {
			_, ok := h.parts[heldPart{s, g.Param, v}]
			return ok
		}) {
			return false
		}
	}
	return true
}

func parseLenient(scopes []string) []Grant {
	grants := make([]Grant, 0, len(scopes))
	for _, s := range scopes {
		if g, err := ParseGrant(s); err == nil {
			grants = append(grants, g)
		}
	}
	return grants
}

func (u *Universe) compile(grants []Grant) *Grants {
	u.mu.RLock()
	defer u.mu.RUnlock()
	g := &Grants{universe: u.id, version: u.version.Load()}
	for _, grant := range grants {
		if grant.Param != "" {
			g.narrow(u, grant)
			continue
		}
		if grant.Scope == "*" {
			g.all = true
			continue
		}
		if isWildcard(grant.Scope) {
			if r, used := u.resources[resourceOf(grant.Scope)]; used {
				for _, n := range u.byResource[r] {
					g.set(n)
				}
			}
			continue
		}
		if n, used := u.scopes[u.Canonical(grant.Scope)]; used {
			g.set(n)
		}
	}
	g.merge()
	return g
}

func (g *Grants) set(n uint32) {
	for len(g.bits) <= int(n>>6) {
		g.bits = append(g.bits, 0)
	}
	g.bits[n>>6] |= 1 << (n & 63)
}

// narrow adds a narrowed grant, as long as something requires what it covers.
func (g *Grants) narrow(u *Universe, grant Grant) {
	var kind, n uint32
	var used bool
	switch {
	case grant.Scope == "*":
		kind, used = kindAll, true
	case isWildcard(grant.Scope):
		kind = kindResource
		n, used = u.resources[resourceOf(grant.Scope)]
	default:
		kind = kindScope
		n, used = u.scopes[u.Canonical(grant.Scope)]
	}
	if !used {
		return
	}
	entry := narrowed{key: narrowedKey(kind, n, u.params[grant.Param])}
	if u.params[grant.Param] != noParam {
		entry.values = grant.Values
	}
	g.narrowed = append(g.narrowed, entry)
}

// merge sorts the narrowed grants and unites those of the same key.
func (g *Grants) merge() {
	slices.SortStableFunc(g.narrowed, func(a, b narrowed) int {
		if a.key < b.key {
			return -1
		}
		if a.key > b.key {
			return 1
		}
		return 0
	})
	united := g.narrowed[:0]
	for _, n := range g.narrowed {
		last := len(united) - 1
		if last < 0 || united[last].key != n.key {
			// Clipped, so that what is united does not grow into the caller's
			// list of values.
			n.values = slices.Clip(n.values)
			united = append(united, n)
			continue
		}
		united[last].values = append(united[last].values, n.values...)
	}
	for i := range united {
		values := slices.Clone(united[i].values)
		slices.SortFunc(values, strings.Compare)
		united[i].values = slices.Clip(slices.Compact(values))
	}
	g.narrowed = slices.Clip(united)
}

func narrowedKey(kind, n, param uint32) uint64 {
	return uint64(kind)<<62 | uint64(n)<<31 | uint64(param)
}

// whole says whether r is held for all objects.
func (g *Grants) whole(r required) bool {
	if g.all {
		return true
	}
	word := int(r.scope >> 6)
	return word < len(g.bits) && g.bits[word]&(1<<(r.scope&63)) != 0
}

// part says whether r is held for the object that m is about, and whether it is
// held for any object.
func (g *Grants) part(r required, m *Match) (here, anywhere bool) {
	if len(g.narrowed) == 0 {
		return false, false
	}
	h1, a1 := g.lookup(kindScope, r.scope, m)
	if h1 {
		return true, true
	}
	var h2, a2 bool
	if r.resource != noResource {
		if h2, a2 = g.lookup(kindResource, r.resource, m); h2 {
			return true, true
		}
	}
	h3, a3 := g.lookup(kindAll, 0, m)
	return h3, h3 || a1 || a2 || a3
}

func (g *Grants) lookup(kind, n uint32, m *Match) (here, anywhere bool) {
	first := narrowedKey(kind, n, noParam)
	i := g.search(first)
	if i == len(g.narrowed) || g.narrowed[i].key&^(1<<31-1) != first {
		return false, false
	}
	if m == nil || m.Route == nil {
		return false, true
	}
	for p, param := range m.Route.paramIDs {
		key := first | uint64(param)
		if i := g.search(key); i < len(g.narrowed) && g.narrowed[i].key == key {
			if _, found := slices.BinarySearch(g.narrowed[i].values, m.value(p)); found {
				return true, true
			}
		}
	}
	return false, true
}

// search returns the index of the first narrowed grant at or after key.
func (g *Grants) search(key uint64) int {
	lo, hi := 0, len(g.narrowed)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if g.narrowed[mid].key < key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
