package bodyrule

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
)

// maxRules is how many rules a route may have: a [Match] is one word of bits.
const maxRules = 64

// Set is the rules of one route, compiled. It is immutable and safe for
// concurrent use.
type Set struct {
	rules  []Rule
	root   *node
	fields []field
	nodes  int // including root
}

// field is one field that rules look at.
type field struct {
	path  string // dotted
	oneOf []string
	// rules are the rules of the other form, by number.
	rules []int
}

// node is one object or field on the way: a tree over the segments of fields.
type node struct {
	id       int
	name     string // last segment; empty at the root
	path     string // dotted, from the top
	folded   string // fold of name
	field    int    // index into Set.fields; -1: an object on the way
	children []*node
	// flat has the folded names that stand for several segments at once, such
	// as "data.command".
	flat []string
}

// Compile puts the rules of one route together: at least 1, at most 64.
func Compile(rules []Rule) (*Set, error) {
	if len(rules) == 0 || len(rules) > maxRules {
		return nil, fmt.Errorf("a route has %d json rules: 1 to %d are possible", len(rules), maxRules)
	}
	s := &Set{root: &node{field: -1}, nodes: 1}
	for i, r := range rules {
		if err := r.check(); err != nil {
			return nil, err
		}
		r.Values = slices.Clone(r.Values)
		s.rules = append(s.rules, r)
		n, err := s.place(r.Field)
		if err != nil {
			return nil, err
		}
		f := &s.fields[n.field]
		switch {
		case !r.OneOf:
			f.rules = append(f.rules, i)
		case f.oneOf != nil:
			return nil, fmt.Errorf("json %s oneof stands there twice: put the values into one line", r.Field)
		default:
			f.oneOf = r.Values
		}
	}
	for i := range s.fields {
		if err := s.reachable(&s.fields[i]); err != nil {
			return nil, err
		}
	}
	s.root.flatten()
	return s, nil
}

// place finds or makes the node of a field.
func (s *Set) place(path string) (*node, error) {
	n := s.root
	segments := strings.Split(path, ".")
	for i, name := range segments {
		if n.field >= 0 {
			return nil, fmt.Errorf("field %s cannot be text and have the member %s as well", n.path, path)
		}
		folded := fold(name)
		at := slices.IndexFunc(n.children, func(c *node) bool { return c.folded == folded })
		if at < 0 {
			c := &node{id: s.nodes, name: name, path: strings.Join(segments[:i+1], "."), folded: folded, field: -1}
			s.nodes++
			n.children = append(n.children, c)
			at = len(n.children) - 1
		} else if other := n.children[at]; other.name != name {
			return nil, fmt.Errorf("fields %s and %s differ by spelling alone: some backends take them for one", other.path, path)
		}
		n = n.children[at]
	}
	if len(n.children) > 0 {
		return nil, fmt.Errorf("field %s cannot be text and have members as well", n.path)
	}
	if n.field < 0 {
		n.field = len(s.fields)
		s.fields = append(s.fields, field{path: path})
	}
	return n, nil
}

// reachable says whether every value that requires something is one that the
// field may have.
func (s *Set) reachable(f *field) error {
	if f.oneOf == nil {
		return nil
	}
	for _, i := range f.rules {
		for _, v := range s.rules[i].Values {
			if slices.Contains(f.oneOf, v) {
				continue
			}
			err := fmt.Sprintf("json %s: %s requires something, but oneof does not allow it", f.path, quote(v))
			if near := policy.Nearest(v, f.oneOf); near != "" {
				err += "; did you mean " + near + "?"
			}
			return errors.New(err)
		}
	}
	return nil
}

// flatten fills in the names that reach down more than one level, and returns
// those that its parent has to put its own name before.
func (n *node) flatten() (below []string) {
	for _, c := range n.children {
		deeper := c.flatten()
		for _, d := range deeper {
			n.flat = append(n.flat, c.folded+"."+d)
		}
		below = append(below, c.folded)
	}
	return append(below, n.flat...)
}

// Rules returns the rules, in their order. The caller must not change them.
func (s *Set) Rules() []Rule { return s.rules }

// CanAskSecondFactor reports whether some body makes the route ask for a
// security code.
func (s *Set) CanAskSecondFactor() bool {
	return slices.ContainsFunc(s.rules, func(r Rule) bool { return r.SecondFactor })
}

// CanAskSignature reports whether some body makes the route ask for a signature.
func (s *Set) CanAskSignature() bool {
	return slices.ContainsFunc(s.rules, func(r Rule) bool { return r.Signed })
}

// Match is which rules of a set apply to a body. The zero value: none.
type Match struct {
	set     *Set
	applies uint64 // bit i: rule i, all of them of the form "require"
}

// Rules yields the rules that apply, with their numbers in [Set.Rules]: all
// that they require is required.
func (m Match) Rules() iter.Seq2[int, Rule] {
	return func(yield func(int, Rule) bool) {
		if m.set == nil {
			return
		}
		for i, r := range m.set.rules {
			if m.Applies(i) && !yield(i, r) {
				return
			}
		}
	}
}

// Applies reports whether the rule with number i in [Set.Rules] applies.
func (m Match) Applies(i int) bool { return i >= 0 && i < maxRules && m.applies>>i&1 == 1 }

// SecondFactor reports whether a rule that applies asks for a security code.
func (m Match) SecondFactor() bool {
	for _, r := range m.Rules() {
		if r.SecondFactor {
			return true
		}
	}
	return false
}

// Signed reports whether a rule that applies asks for a request signature.
func (m Match) Signed() bool {
	for _, r := range m.Rules() {
		if r.Signed {
			return true
		}
	}
	return false
}

// Evaluate judges a whole body. It returns the rules that apply, or a refusal:
// body_invalid (400) for what two parsers could read differently, field_invalid
// (422) with every wrong field for values that the rules do not allow.
func (s *Set) Evaluate(raw []byte) (Match, *refusal.Refusal) {
	w, err := s.walk(raw)
	if err != nil {
		return Match{}, &refusal.Refusal{
			Reason:  refusal.ReasonBodyInvalid,
			Message: "The request body is invalid: " + err.Error(),
		}
	}
	if wrong := s.wrong(w); len(wrong) > 0 {
		return Match{}, &refusal.Refusal{Reason: refusal.ReasonFieldInvalid, Fields: wrong}
	}
	m := Match{set: s}
	for i := range s.fields {
		if w.found[i].kind != kindText {
			continue
		}
		for _, r := range s.fields[i].rules {
			if slices.Contains(s.rules[r].Values, w.found[i].text) {
				m.applies |= 1 << r
			}
		}
	}
	return m, nil
}

// wrong lists the fields that the rules do not allow as they are.
func (s *Set) wrong(w *walker) (wrong []refusal.FieldError) {
	for _, n := range w.notObjects {
		if !s.closedBelow(n.path) {
			continue // the field is not there, so what it would require is not either
		}
		wrong = append(wrong, refusal.FieldError{Field: n.path, Messages: []string{n.name + " must be an object"}})
	}
	for i := range s.fields {
		f, got := &s.fields[i], w.found[i]
		if w.covered(f.path) {
			continue
		}
		if text := f.judge(got); text != "" {
			wrong = append(wrong, refusal.FieldError{Field: f.path, Messages: []string{text}})
		}
	}
	return wrong
}

// closedBelow reports whether a field inside the object at path must have one of
// a closed set of values.
func (s *Set) closedBelow(path string) bool {
	return slices.ContainsFunc(s.fields, func(f field) bool {
		return f.oneOf != nil && strings.HasPrefix(f.path, path+".")
	})
}

// judge returns what is wrong with a field's value; empty: nothing.
func (f *field) judge(got found) string {
	switch {
	case got.kind == kindOther && f.oneOf == nil:
		return f.name() + " must be text"
	case f.oneOf == nil || got.kind == kindText && slices.Contains(f.oneOf, got.text):
		return ""
	case got.kind == kindOther:
		return f.name() + " must be text: " + f.choices()
	case got.kind == kindAbsent:
		return f.name() + " is missing: " + f.choices()
	}
	return f.unknown(got.text)
}

// name is the last segment of the field.
func (f *field) name() string { return f.path[strings.LastIndexByte(f.path, '.')+1:] }
