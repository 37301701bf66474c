package caddymodule

import (
	"math"
	"math/bits"
	"strings"
	"sync/atomic"

	"github.com/hivegate/hivegate/internal/policy"
)

// neededScopes numbers the scopes that routes require, for scopeUses. It grows
// while the gates of a configuration are provisioned, one after the other, and
// never changes afterwards.
type neededScopes struct {
	names []string
	index map[string]uint16
}

// numbers returns the numbers of all scopes in groups, alternatives included.
// Past 65,536 different scopes uses are not noted.
func (n *neededScopes) numbers(u *policy.Universe, groups [][]string) []uint16 {
	var out []uint16
	for _, group := range groups {
		for _, scope := range group {
			name := u.Canonical(scope)
			no, ok := n.index[name]
			if !ok {
				if len(n.names) > math.MaxUint16 {
					continue
				}
				if n.index == nil {
					n.index = make(map[string]uint16)
				}
				no = uint16(len(n.names))
				n.index[name] = no
				n.names = append(n.names, name)
			}
			out = append(out, no)
		}
	}
	return out
}

// scopeUses notes which required scopes the requests of one key met: a bit for
// each. Noting one again costs an atomic load. Which of the key's own scopes that
// means is found out when last uses are written, off the request's path.
type scopeUses struct {
	set  *settings
	bits []atomic.Uint64
}

func (s *scopeUses) init(set *settings) {
	s.set, s.bits = set, make([]atomic.Uint64, (len(set.needed.names)+63)/64)
}

func (s *scopeUses) mark(numbers []uint16) {
	for _, n := range numbers {
		i, bit := int(n>>6), uint64(1)<<(n&63)
		// A route of a gate that was provisioned after the key was compiled has
		// no bit yet; then the key is stale, and compiled again.
		if i < len(s.bits) && s.bits[i].Load()&bit == 0 {
			s.bits[i].Or(bit)
		}
	}
}

// TakeScopes implements keystore.ScopeUser. All scopes of the key that cover
// what was required count as used, whether they are narrowed or not.
func (p *principal) TakeScopes() []string {
	var required []string
	for i := range p.uses.bits {
		for word := p.uses.bits[i].Swap(0); word != 0; word &= word - 1 {
			required = append(required, p.uses.set.needed.names[i*64+bits.TrailingZeros64(word)])
		}
	}
	if required == nil {
		return nil
	}
	var used []string
	for _, scope := range p.scopes {
		whole, _, _ := strings.Cut(scope, "@")
		for _, r := range required {
			if _, ok := p.set.universe.Covers([]string{whole}, []string{r}); ok {
				used = append(used, scope)
				break
			}
		}
	}
	return used
}

// used notes the use of the key that the request came with.
func (x *exchange) used() {
	if x.route != nil {
		x.principal.uses.mark(x.route.scopes) // first: it is written with the use
	}
	x.entry.Used(x.now, x.clientIP, x.routeLabel(), x.secret)
}
