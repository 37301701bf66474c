package policy

import (
	"iter"
	"strings"
)

// node is a place in the trie of patterns: what the segments up to here match.
type node struct {
	literals literals
	param    *node
	rest     *node // a leaf
	routes   methodRoutes
}

// literals are the children of a node by literal segment. Most nodes have few:
// those are compared one by one, which is faster than a map and keeps a large
// table small.
type literals struct {
	few  []literalChild
	many map[string]*node // nil up to maxFew
}

type literalChild struct {
	text string
	node *node
}

const maxFew = 8

func (l *literals) get(text string) *node {
	if l.many != nil {
		return l.many[text]
	}
	for i := range l.few {
		if l.few[i].text == text {
			return l.few[i].node
		}
	}
	return nil
}

func (l *literals) add(text string, child *node) {
	if l.many == nil && len(l.few) < maxFew {
		l.few = append(l.few, literalChild{text, child})
		return
	}
	if l.many == nil {
		l.many = make(map[string]*node, 2*maxFew)
		for text, child := range l.all() {
			l.many[text] = child
		}
		l.few = nil
	}
	l.many[text] = child
}

// all yields the children in no particular order.
func (l *literals) all() iter.Seq2[string, *node] {
	return func(yield func(string, *node) bool) {
		for _, c := range l.few {
			if !yield(c.text, c.node) {
				return
			}
		}
		for text, child := range l.many {
			if !yield(text, child) {
				return
			}
		}
	}
}

// walk is what a lookup carries down the trie.
type walk struct {
	path    string
	method  string
	escaped bool // the path has valid percent-escapes
}

func newWalk(method, path string) (walk, bool) {
	if path == "" || path[0] != '/' {
		return walk{}, false
	}
	w := walk{path: path, method: method}
	if i := strings.IndexByte(path, '%'); i >= 0 {
		if !validEscapes(path[i:]) {
			return walk{}, false
		}
		w.escaped = true
	}
	return w, true
}

// withoutSlash returns the walk to the path without the '/' at its end. It
// reports false for the root and a path that has none.
func (w *walk) withoutSlash() (walk, bool) {
	bare, last := *w, len(w.path)-1
	if last < 1 || w.path[last] != '/' {
		return bare, false
	}
	bare.path = w.path[:last]
	return bare, true
}

// segment returns the decoded segment that begins at i, and the index of the
// next one, which lies beyond the path's end after the last.
func (w *walk) segment(i int) (text string, next int) {
	text, next = w.path[i:], len(w.path)+1
	if end := strings.IndexByte(text, '/'); end >= 0 {
		text, next = text[:end], i+end+1
	}
	if w.escaped && strings.IndexByte(text, '%') >= 0 {
		text, _ = unescape(text)
	}
	return text, next
}

// find returns the most specific route for what is left of the path at i. The
// first hit is the one, because no two lines for a method overlap without one
// being more specific. A node is visited at most once: there is one way to it.
func (n *node) find(w *walk, i int) *Route {
	if i > len(w.path) {
		return n.routes.pick(w.method)
	}
	text, next := w.segment(i)
	if child := n.literals.get(text); child != nil {
		if r := child.find(w, next); r != nil {
			return r
		}
	}
	if text == "" {
		return nil
	}
	if n.param != nil {
		if r := n.param.find(w, next); r != nil {
			return r
		}
	}
	if n.rest != nil {
		return n.rest.routes.pick(w.method)
	}
	return nil
}

// known says whether any line matches what is left of the path, and whether one
// of those is not public.
func (n *node) known(w *walk, i int) (known, guarded bool) {
	if i > len(w.path) {
		return n.routes.any(), n.routes.guarded
	}
	text, next := w.segment(i)
	if child := n.literals.get(text); child != nil {
		known, guarded = child.known(w, next)
	}
	if text == "" {
		return known, guarded
	}
	if n.param != nil {
		k, g := n.param.known(w, next)
		known, guarded = known || k, guarded || g
	}
	if n.rest != nil {
		known, guarded = true, guarded || n.rest.routes.guarded
	}
	return known, guarded
}

// matching calls fn for every line that matches what is left of the path,
// whatever the method; more than once for a line that names several.
func (n *node) matching(w *walk, i int, fn func(*Route)) {
	if i > len(w.path) {
		n.routes.each(fn)
		return
	}
	text, next := w.segment(i)
	if child := n.literals.get(text); child != nil {
		child.matching(w, next, fn)
	}
	if text == "" {
		return
	}
	if n.param != nil {
		n.param.matching(w, next, fn)
	}
	if n.rest != nil {
		n.rest.routes.each(fn)
	}
}

// overlapping calls fn for every line that matches a path which p matches too.
func (n *node) overlapping(p pattern, fn func(*Route)) {
	if len(p) == 0 {
		n.routes.each(fn)
		return
	}
	s, left := p[0], p[1:]
	if s.kind == rest {
		n.below(fn)
		return
	}
	if s.kind == literal {
		if child := n.literals.get(s.text); child != nil {
			child.overlapping(left, fn)
		}
		if s.text == "" {
			return
		}
	} else {
		for text, child := range n.literals.all() {
			if text != "" {
				child.overlapping(left, fn)
			}
		}
	}
	if n.param != nil {
		n.param.overlapping(left, fn)
	}
	if n.rest != nil {
		n.rest.routes.each(fn)
	}
}

// below calls fn for every line of the children that do not begin with an empty
// segment.
func (n *node) below(fn func(*Route)) {
	for text, child := range n.literals.all() {
		if text != "" {
			child.subtree(fn)
		}
	}
	if n.param != nil {
		n.param.subtree(fn)
	}
	if n.rest != nil {
		n.rest.routes.each(fn)
	}
}

func (n *node) subtree(fn func(*Route)) {
	n.routes.each(fn)
	for _, child := range n.literals.all() {
		child.subtree(fn)
	}
	if n.param != nil {
		n.param.subtree(fn)
	}
	if n.rest != nil {
		n.rest.routes.each(fn)
	}
}

func (n *node) child(s segment) *node {
	switch s.kind {
	case literal:
		return n.literals.get(s.text)
	case param:
		return n.param
	}
	return n.rest
}

func (n *node) insert(r *Route, p pattern) {
	if len(p) == 0 {
		n.routes.add(r)
		return
	}
	child := n.child(p[0])
	if child == nil {
		child = &node{}
		switch p[0].kind {
		case literal:
			n.literals.add(p[0].text, child)
		case param:
			n.param = child
		case rest:
			n.rest = child
		}
	}
	child.insert(r, p[1:])
}
