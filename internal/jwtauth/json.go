package jwtauth

import (
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// kind is the type of a JSON value.
type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// value is one JSON value. It refers to the text it was parsed from.
type value struct {
	kind    kind
	text    string   // of a string: decoded; of a number or bool: as written
	members []member // of an object, or the elements of an array
}

type member struct {
	name  string // empty in an array
	value value
}

// get returns the member of an object, by exact name.
func (v *value) get(name string) *value {
	if v.kind != kindObject {
		return nil
	}
	for i := range v.members {
		if v.members[i].name == name {
			return &v.members[i].value
		}
	}
	return nil
}

// Bounds of a JSON document: what a parser may be made to do by a stranger.
const (
	maxJSONDepth     = 32
	maxTokenValues   = 4096
	maxJWKSValues    = 16384
	linearDuplicates = 32 // members, or scopes, up to which they are compared pairwise
)

var (
	errJSONSyntax    = errors.New("it is not valid JSON")
	errJSONUTF8      = errors.New("it is not valid UTF-8")
	errJSONDuplicate = errors.New("it names a member twice")
	errJSONBounds    = errors.New("it is nested too deeply or has too many values")
)

// parseJSON reads exactly one JSON text (RFC 8259), more strictly than
// encoding/json: invalid UTF-8, lone surrogates and duplicate member names, at
// any depth and compared after unescaping, are errors (RFC 8259 leaves all
// three to the parser, which is how two parsers come to read one token
// differently).
func parseJSON(doc string, maxValues int) (value, error) {
	w := takeWorkspace()
	defer w.free()
	w.mayKeep = 0 // the value outlives the workspace
	return w.parseJSON(doc, maxValues)
}

// parseJSON is the function of this name, whose value lasts as long as what is in the
// workspace.
func (w *workspace) parseJSON(doc string, maxValues int) (value, error) {
	if !utf8.ValidString(doc) {
		return value{}, errJSONUTF8
	}
	p := jsonParser{doc: doc, left: maxValues, workspace: w}
	p.space()
	v, err := p.value(0)
	if err != nil {
		return value{}, err
	}
	p.space()
	if p.pos != len(p.doc) {
		return value{}, errJSONSyntax
	}
	return v, nil
}

type jsonParser struct {
	*workspace
	doc  string
	pos  int
	left int // values that may still come
}

func (p *jsonParser) space() {
	for p.pos < len(p.doc) {
		switch p.doc[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		default:
			return
		}
	}
}

func (p *jsonParser) take(b byte) bool {
	if p.pos < len(p.doc) && p.doc[p.pos] == b {
		p.pos++
		return true
	}
	return false
}

func (p *jsonParser) word(w string) bool {
	if len(p.doc)-p.pos >= len(w) && p.doc[p.pos:p.pos+len(w)] == w {
		p.pos += len(w)
		return true
	}
	return false
}

func (p *jsonParser) value(depth int) (value, error) {
	if p.left--; p.left < 0 || depth > maxJSONDepth {
		return value{}, errJSONBounds
	}
	if p.pos >= len(p.doc) {
		return value{}, errJSONSyntax
	}
	switch b := p.doc[p.pos]; {
	case b == '{':
		return p.object(depth)
	case b == '[':
		return p.array(depth)
	case b == '"':
		s, err := p.text()
		return value{kind: kindString, text: s}, err
	case b == '-' || b >= '0' && b <= '9':
		return p.number()
	case p.word("true"):
		return value{kind: kindBool, text: "true"}, nil
	case p.word("false"):
		return value{kind: kindBool, text: "false"}, nil
	case p.word("null"):
		return value{kind: kindNull}, nil
	}
	return value{}, errJSONSyntax
}

func (p *jsonParser) object(depth int) (value, error) {
	v := value{kind: kindObject}
	first := len(p.stack)
	p.pos++
	p.space()
	if p.take('}') {
		return v, nil
	}
	for {
		p.space()
		if p.pos >= len(p.doc) || p.doc[p.pos] != '"' {
			return v, errJSONSyntax
		}
		name, err := p.text()
		if err != nil {
			return v, err
		}
		p.space()
		if !p.take(':') {
			return v, errJSONSyntax
		}
		p.space()
		m, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		p.stack = append(p.stack, member{name, m})
		p.space()
		if p.take('}') {
			break
		}
		if !p.take(',') {
			return v, errJSONSyntax
		}
	}
	if hasDuplicates(p.stack[first:]) {
		return v, errJSONDuplicate
	}
	v.members = p.keep(first)
	return v, nil
}

func (p *jsonParser) array(depth int) (value, error) {
	v := value{kind: kindArray}
	first := len(p.stack)
	p.pos++
	p.space()
	if p.take(']') {
		return v, nil
	}
	for {
		p.space()
		e, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		p.stack = append(p.stack, member{value: e})
		p.space()
		if p.take(']') {
			v.members = p.keep(first)
			return v, nil
		}
		if !p.take(',') {
			return v, errJSONSyntax
		}
	}
}

// number takes a number by the grammar of RFC 8259 section 6 and keeps it as
// it is written.
func (p *jsonParser) number() (value, error) {
	start := p.pos
	p.take('-')
	if !p.take('0') && p.digits() == 0 {
		return value{}, errJSONSyntax
	}
	if p.take('.') && p.digits() == 0 {
		return value{}, errJSONSyntax
	}
	if p.take('e') || p.take('E') {
		if !p.take('+') {
			p.take('-')
		}
		if p.digits() == 0 {
			return value{}, errJSONSyntax
		}
	}
	return value{kind: kindNumber, text: p.doc[start:p.pos]}, nil
}

func (p *jsonParser) digits() int {
	start := p.pos
	for p.pos < len(p.doc) && p.doc[p.pos] >= '0' && p.doc[p.pos] <= '9' {
		p.pos++
	}
	return p.pos - start
}

// text takes a string; one without escapes is a part of the document and
// costs nothing.
func (p *jsonParser) text() (string, error) {
	p.pos++ // the opening quote
	start := p.pos
	for p.pos < len(p.doc) {
		switch b := p.doc[p.pos]; {
		case b == '"':
			s := p.doc[start:p.pos]
			p.pos++
			return s, nil
		case b < 0x20:
			return "", errJSONSyntax
		case b == '\\':
			return p.escapedText(start)
		}
		p.pos++
	}
	return "", errJSONSyntax
}

// escapedText goes on with a string at its first backslash.
func (p *jsonParser) escapedText(start int) (string, error) {
	buf := append(make([]byte, 0, p.pos-start+32), p.doc[start:p.pos]...)
	for p.pos < len(p.doc) {
		b := p.doc[p.pos]
		p.pos++
		switch {
		case b == '"':
			return string(buf), nil
		case b < 0x20:
			return "", errJSONSyntax
		case b != '\\':
			buf = append(buf, b)
			continue
		}
		if p.pos >= len(p.doc) {
			return "", errJSONSyntax
		}
		esc := p.doc[p.pos]
		p.pos++
		switch esc {
		case '"', '\\', '/':
			buf = append(buf, esc)
		case 'b':
			buf = append(buf, '\b')
		case 'f':
			buf = append(buf, '\f')
		case 'n':
			buf = append(buf, '\n')
		case 'r':
			buf = append(buf, '\r')
		case 't':
			buf = append(buf, '\t')
		case 'u':
			r, ok := p.unicode()
			if !ok {
				return "", errJSONSyntax
			}
			buf = utf8.AppendRune(buf, r)
		default:
			return "", errJSONSyntax
		}
	}
	return "", errJSONSyntax
}

// unicode takes what follows \u, and the second half of a surrogate pair. A
// half on its own is not a character and is refused: parsers replace it by
// U+FFFD, and so two different texts would become one.
func (p *jsonParser) unicode() (rune, bool) {
	r, ok := p.hex4()
	if !ok || !utf16.IsSurrogate(r) {
		return r, ok
	}
	if !p.word(`\u`) {
		return 0, false
	}
	low, ok := p.hex4()
	if !ok {
		return 0, false
	}
	r = utf16.DecodeRune(r, low)
	return r, r != utf8.RuneError
}

func (p *jsonParser) hex4() (rune, bool) {
	if len(p.doc)-p.pos < 4 {
		return 0, false
	}
	var n rune
	for range 4 {
		b := p.doc[p.pos]
		p.pos++
		switch {
		case b >= '0' && b <= '9':
			n = n<<4 | rune(b-'0')
		case b >= 'a' && b <= 'f':
			n = n<<4 | rune(b-'a'+10)
		case b >= 'A' && b <= 'F':
			n = n<<4 | rune(b-'A'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

func hasDuplicates(ms []member) bool {
	if len(ms) > linearDuplicates {
		seen := make(map[string]struct{}, len(ms))
		for i := range ms {
			seen[ms[i].name] = struct{}{}
		}
		return len(seen) != len(ms)
	}
	for i := range ms {
		for j := range i {
			if ms[i].name == ms[j].name {
				return true
			}
		}
	}
	return false
}
