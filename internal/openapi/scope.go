package openapi

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hivegate/hivegate/internal/policy"
)

// maxScope bounds a scope's name, maxGroups what alternatives multiply to.
const (
	maxScope  = 100
	maxGroups = 16
)

// scopeName is a scope of the description in hivegate's grammar.
type scopeName struct {
	name string
	why  string // why there is none
}

// mapScope writes a scope of a description in the grammar resource:action:
//
//	read:pets                        read:pets, where it fits as it is
//	Read:Pets                        read:pets
//	a:b:c                            a:b.c
//	repo, openid                     scope:repo, scope:openid
//	https://www.example.com/auth/x   scope:www.example.com.auth.x
//	*                                scope:all
//
// In lower case; a slash becomes '.', every other character that the grammar
// lacks '-'.
func mapScope(text string) scopeName {
	if policy.ParseScope(text) == nil && !strings.Contains(text, "*") && len(text) <= maxScope {
		return scopeName{name: text}
	}
	if text == "*" {
		return scopeName{name: "scope:all"}
	}
	s := strings.ToLower(text)
	for _, scheme := range []string{"https://", "http://"} {
		if rest, ok := strings.CutPrefix(s, scheme); ok {
			s = strings.ReplaceAll(rest, ":", "-")
		}
	}
	resource, action, found := strings.Cut(s, ":")
	if !found {
		resource, action = "scope", s
	}
	name := slug(resource) + ":" + slug(strings.ReplaceAll(action, ":", "."))
	if len(name) > maxScope {
		return scopeName{why: fmt.Sprintf("a scope of its security has more than %d characters", maxScope)}
	}
	if policy.ParseScope(name) != nil {
		return scopeName{why: "a scope of its security has no letter or digit"}
	}
	return scopeName{name: name}
}

// slug keeps a-z, 0-9, '.', '_' and '-'.
func slug(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r == '/':
			return '.'
		}
		return '-'
	}, s)
	return strings.Trim(s, "-.")
}

// scopeNames maps all scopes that operations name. Two that come out alike are
// told apart by a number, since one right must not open what another was for.
func scopeNames(doc *document, warn func(string, ...any)) map[string]scopeName {
	var all []string
	seen := make(map[string]bool)
	collect := func(reqs openapi3.SecurityRequirements) {
		for _, req := range reqs {
			for _, scopes := range req {
				for _, s := range scopes {
					if !seen[s] {
						seen[s] = true
						all = append(all, s)
					}
				}
			}
		}
	}
	collect(doc.spec.Security)
	for _, item := range doc.items {
		if item.item == nil {
			continue
		}
		for _, op := range item.item.Operations() {
			if op.Security != nil {
				collect(*op.Security)
			}
		}
	}
	// Those that fit as they are come first, and keep their names.
	sort.Slice(all, func(i, j int) bool {
		a, b := mapScope(all[i]).name == all[i], mapScope(all[j]).name == all[j]
		return a && !b || a == b && all[i] < all[j]
	})
	names := make(map[string]scopeName, len(all))
	taken := make(map[string]bool, len(all))
	for _, s := range all {
		n := mapScope(s)
		base := n.name
		for i := 2; n.why == "" && taken[n.name]; i++ {
			n.name = fmt.Sprintf("%s-%d", base, i)
		}
		if n.name != base {
			warn("the scope %s is called %s here, since another has the name %s", comment(s, 60), n.name, base)
		}
		taken[n.name] = true
		names[s] = n
	}
	return names
}

// require says what the line of an operation asks for.
func (c *converter) require(o *operation, op *openapi3.Operation) {
	reqs, declared := c.doc.spec.Security, c.doc.spec.Security != nil
	if op.Security != nil {
		reqs, declared = *op.Security, true
	}
	optional := slices.ContainsFunc(reqs, func(r openapi3.SecurityRequirement) bool { return len(r) == 0 })
	reqs = slices.DeleteFunc(slices.Clone(reqs), func(r openapi3.SecurityRequirement) bool { return len(r) == 0 })
	if declared && len(reqs) == 0 {
		o.need = policy.Requirement{Public: true}
		return
	}
	if optional {
		o.notes = append(o.notes, "a credential is optional there; the line asks for one, write public where that is meant")
	}
	switch c.opts.ScopeFrom {
	case ScopeTag:
		o.need.Scopes = [][]string{{tagResource(o.group) + right(o.method)}}
		return
	case ScopeMethod:
		o.need.Scopes = [][]string{{c.opts.Resource + right(o.method)}}
		return
	}
	groups, why := c.groups(o, reqs)
	switch {
	case why != "":
		o.unknown = true
		if o.skip == "" {
			o.skip = why
		}
	case len(groups) > 0:
		o.need.Scopes = groups
	default:
		o.need.Authenticated = true
		switch {
		case o.skip != "": // no line asks for it
		case declared:
			c.noScope++
		default:
			c.undeclared++
		}
	}
}

// groups turns alternatives of which each wants several scopes (any of all-of)
// into what a line can say (all of any-of).
func (c *converter) groups(o *operation, reqs openapi3.SecurityRequirements) ([][]string, string) {
	var alternatives [][]string
	bare := false
	for _, req := range reqs {
		var all []string
		for _, scopes := range req {
			for _, s := range scopes {
				n := c.names[s]
				if n.why != "" {
					return nil, n.why
				}
				all = append(all, n.name)
			}
		}
		sort.Strings(all)
		if all = slices.Compact(all); len(all) == 0 {
			bare = true
			continue
		}
		alternatives = append(alternatives, all)
	}
	if len(alternatives) == 0 {
		return nil, ""
	}
	if bare {
		o.notes = append(o.notes, "one of the ways to authenticate names no scope; the line asks for the scopes of the others")
	}
	groups := [][]string{{}}
	for _, all := range alternatives {
		if len(groups)*len(all) > maxGroups {
			o.notes = append(o.notes, "its alternatives cannot be written in one line; the line asks for the scopes of the first")
			groups = nil
			for _, s := range alternatives[0] {
				groups = append(groups, []string{s})
			}
			return groups, ""
		}
		var next [][]string
		for _, g := range groups {
			for _, s := range all {
				with := append(slices.Clone(g), s)
				sort.Strings(with)
				next = append(next, slices.Compact(with))
			}
		}
		groups = next
	}
	return absorb(groups), ""
}

// absorb leaves out groups that another one implies.
func absorb(groups [][]string) (out [][]string) {
	sort.SliceStable(groups, func(i, j int) bool {
		if len(groups[i]) != len(groups[j]) {
			return len(groups[i]) < len(groups[j])
		}
		return slices.Compare(groups[i], groups[j]) < 0
	})
	for _, g := range groups {
		implied := slices.ContainsFunc(out, func(small []string) bool {
			return !slices.ContainsFunc(small, func(s string) bool { return !slices.Contains(g, s) })
		})
		if !implied {
			out = append(out, g)
		}
	}
	return out
}

// tagResource is the resource of a tag's scopes.
func tagResource(tag string) string {
	s := slug(strings.TrimSpace(tag))
	if len(s) > maxScope-len(":write") {
		s = strings.Trim(s[:maxScope-len(":write")], "-.")
	}
	if s == "" {
		return "default"
	}
	return s
}

// right is the action of tag and method scopes.
func right(method string) string {
	switch method {
	case "GET", "HEAD", "OPTIONS", "QUERY":
		return ":read"
	}
	return ":write"
}
