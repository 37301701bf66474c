package bodyrule

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is how many objects and arrays may be inside one another. Parsers
// have bounds of their own (PHP 512, encoding/json 10000); ours is below all of
// them, so that a body that goes on is not cut short elsewhere.
const maxDepth = 64

// kind is what stands at a field.
type kind uint8

const (
	kindAbsent kind = iota // no member, or null
	kindText
	kindOther
)

// found is a field's value.
type found struct {
	kind kind
	text string
}

var (
	errSyntax   = errors.New("it is not valid JSON")
	errUTF8     = errors.New("it is not valid UTF-8, or escapes half of a surrogate pair")
	errBOM      = errors.New("it begins with a byte order mark; send it without")
	errEmpty    = errors.New("it is empty")
	errObject   = errors.New("it is not a JSON object")
	errTrailing = errors.New("something follows the JSON object")
	errDepth    = fmt.Errorf("it is nested more than %d levels deep", maxDepth)
	errProto    = errors.New("it names a member " + protoName)
	errNUL      = errors.New("a name or a command in it holds the character U+0000")
)

// walker reads one body, once, from left to right, and keeps nothing but what
// stands at the fields.
type walker struct {
	doc   []byte
	pos   int
	depth int
	found []found // by number of the field
	// notObjects are the nodes with fields below them whose value is neither an
	// object nor null.
	notObjects []*node
}

// walk reads a whole body. Its errors say what is wrong, and quote no more than
// names of fields.
func (s *Set) walk(raw []byte) (*walker, error) {
	w := &walker{doc: raw, found: make([]found, len(s.fields))}
	switch {
	case bytes.HasPrefix(raw, []byte("\uFEFF")):
		return nil, errBOM
	case !utf8.Valid(raw):
		return nil, errUTF8
	}
	w.space()
	switch {
	case w.pos == len(raw):
		return nil, errEmpty
	case raw[w.pos] != '{' && (raw[w.pos] == '[' || raw[w.pos] == '"'):
		return nil, errObject
	case raw[w.pos] != '{':
		return nil, errSyntax
	}
	if err := w.object(s.root); err != nil {
		return nil, err
	}
	if w.space(); w.pos != len(raw) {
		return nil, errTrailing
	}
	return w, nil
}

// covered reports whether a refusal about an object around the field has been
// noted already.
func (w *walker) covered(path string) bool {
	return slices.ContainsFunc(w.notObjects, func(n *node) bool { return strings.HasPrefix(path, n.path+".") })
}

// object takes an object; n is nil where no field can be inside.
func (w *walker) object(n *node) error {
	if w.depth++; w.depth > maxDepth {
		return errDepth
	}
	w.pos++ // the brace
	w.space()
	if w.take('}') {
		w.depth--
		return nil
	}
	var seen uint64 // bit i: child i; a set has at most 64 fields, so children too
	for {
		w.space()
		child := -1
		if n == nil {
			if err := w.skipText(); err != nil {
				return err
			}
		} else {
			var err error
			if child, err = w.name(n); err != nil {
				return err
			}
		}
		w.space()
		if !w.take(':') {
			return errSyntax
		}
		var err error
		switch {
		case child < 0:
			err = w.value()
		case seen>>child&1 == 1:
			return fmt.Errorf("it names %s twice", n.children[child].path)
		default:
			seen |= 1 << child
			err = w.member(n.children[child])
		}
		if err != nil {
			return err
		}
		if w.space(); w.take('}') {
			w.depth--
			return nil
		}
		if !w.take(',') {
			return errSyntax
		}
	}
}

// name takes a member's name inside an object on the way, and returns which
// child of n it is, -1 for none.
func (w *walker) name(n *node) (int, error) {
	name, err := w.text()
	if err != nil {
		return -1, err
	}
	for i, c := range n.children {
		if c.name == name {
			return i, nil
		}
	}
	if name == protoName {
		return -1, errProto
	}
	if strings.IndexByte(name, 0) >= 0 {
		return -1, errNUL
	}
	folded := fold(name)
	for _, c := range n.children {
		if c.folded == folded {
			return -1, fmt.Errorf("it names %s in another spelling", c.path)
		}
	}
	if slices.Contains(n.flat, folded) {
		return -1, fmt.Errorf("it has %s as one name; send objects inside one another", strconv.Quote(name))
	}
	return -1, nil
}

// member takes the value of a child node and notes what it is.
func (w *walker) member(n *node) error {
	w.space()
	if w.pos == len(w.doc) {
		return errSyntax
	}
	c := w.doc[w.pos]
	if n.field < 0 {
		switch c {
		case '{':
			return w.object(n)
		case 'n':
		default:
			w.notObjects = append(w.notObjects, n)
		}
		return w.value()
	}
	switch c {
	case '"':
		text, err := w.text()
		if err != nil {
			return err
		}
		if strings.IndexByte(text, 0) >= 0 {
			return errNUL
		}
		w.found[n.field] = found{kindText, text}
		return nil
	case 'n':
	default:
		w.found[n.field].kind = kindOther
	}
	return w.value()
}

// value takes any value in which no field can be.
func (w *walker) value() error {
	w.space()
	if w.pos == len(w.doc) {
		return errSyntax
	}
	switch c := w.doc[w.pos]; {
	case c == '{':
		return w.object(nil)
	case c == '[':
		return w.array()
	case c == '"':
		return w.skipText()
	case c == '-' || c >= '0' && c <= '9':
		return w.number()
	case w.word("true") || w.word("false") || w.word("null"):
		return nil
	}
	return errSyntax
}

func (w *walker) array() error {
	if w.depth++; w.depth > maxDepth {
		return errDepth
	}
	w.pos++ // the bracket
	w.space()
	if w.take(']') {
		w.depth--
		return nil
	}
	for {
		if err := w.value(); err != nil {
			return err
		}
		if w.space(); w.take(']') {
			w.depth--
			return nil
		}
		if !w.take(',') {
			return errSyntax
		}
	}
}

// number takes a number by the grammar of RFC 8259 section 6.
func (w *walker) number() error {
	w.take('-')
	if !w.take('0') && w.digits() == 0 {
		return errSyntax
	}
	if w.take('.') && w.digits() == 0 {
		return errSyntax
	}
	if w.take('e') || w.take('E') {
		if !w.take('+') {
			w.take('-')
		}
		if w.digits() == 0 {
			return errSyntax
		}
	}
	return nil
}

func (w *walker) digits() int {
	start := w.pos
	for w.pos < len(w.doc) && w.doc[w.pos] >= '0' && w.doc[w.pos] <= '9' {
		w.pos++
	}
	return w.pos - start
}

func (w *walker) space() {
	for w.pos < len(w.doc) {
		switch w.doc[w.pos] {
		case ' ', '\t', '\r', '\n':
			w.pos++
		default:
			return
		}
	}
}

func (w *walker) take(c byte) bool {
	if w.pos < len(w.doc) && w.doc[w.pos] == c {
		w.pos++
		return true
	}
	return false
}

func (w *walker) word(s string) bool {
	if bytes.HasPrefix(w.doc[w.pos:], []byte(s)) {
		w.pos += len(s)
		return true
	}
	return false
}
