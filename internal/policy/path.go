package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// PathAllow relaxes the path check. Dot segments, empty segments, backslashes,
// NUL and control characters are refused all the same, also where they only
// show once what is allowed here is decoded.
type PathAllow struct {
	// Percent allows an encoded percent character (%25). What decodes again is
	// decoded and judged again, until nothing is left to decode.
	Percent bool
	// Semicolon allows ';' in a segment. What precedes the first one must not
	// be empty or a dot segment: some backends drop the rest.
	Semicolon bool
	// EncodedSlash allows %2F. The parts between are judged like segments.
	EncodedSlash bool
}

// pathError is why a path is refused. It never holds any of the path.
type pathError string

func (e pathError) Error() string { return string(e) }

// Why a path is refused.
const (
	errNotPath      pathError = "the path does not begin with '/'"
	errEmpty        pathError = "the path has an empty segment ('//')"
	errDot          pathError = "the path has a '.' or '..' segment"
	errUnicodeSlash pathError = "the path has a character that Unicode normalization turns into a slash or backslash"
	errSlash        pathError = "the path has an encoded slash (%2F)"
	errBackslash    pathError = "the path has a backslash"
	errPercent      pathError = "the path has an encoded percent character (%25)"
	errControl      pathError = "the path has a control character"
	errSemicolon    pathError = "the path has a semicolon"
	errRaw          pathError = "the path has a character that must be percent-encoded"
	errEscape       pathError = "the path has an invalid percent-encoding"
	errUTF8         pathError = "the path is not valid UTF-8"
	errDepth        pathError = "the path is percent-encoded too many times over"
)

// maxDecodes bounds how often a segment is decoded again under
// PathAllow.Percent. Without a bound the work would be the square of the path's
// length.
const maxDecodes = 8

// byteClass is what a raw byte of a path means for the check.
type byteClass uint8

const (
	plain byteClass = iota
	escape
	slash
	semicolon
	backslash
	control
	raw // must not stand there unencoded
)

var classes = func() (t [256]byteClass) {
	for c := range t {
		switch {
		case c < 0x20 || c == 0x7f:
			t[c] = control
		case c >= 0x80:
			// Clients send UTF-8 as it is; it is judged like what is encoded.
			t[c] = escape
		case c == ' ' || c == '?' || c == '#':
			t[c] = raw
		}
	}
	t['%'], t['/'], t[';'], t['\\'] = escape, slash, semicolon, backslash
	return t
}()

// CheckPath says whether a path, with its percent-escapes, can be read in only
// one way: no empty or dot segment, no encoded slash, backslash, NUL, percent or
// control character, no semicolon, valid escapes and valid UTF-8, and nothing
// that becomes a dot segment or a separator under Unicode normalization (NFKC,
// UAX #15). The empty path and "*", the target of OPTIONS, pass: no pattern
// matches them. It does not allocate unless the path has escapes.
func CheckPath(escapedPath string, a PathAllow) error {
	if escapedPath == "" || escapedPath == "*" {
		return nil
	}
	if escapedPath[0] != '/' {
		return errNotPath
	}
	simple, start := true, 1
	for i := 1; i < len(escapedPath); i++ {
		switch classes[escapedPath[i]] {
		case plain:
		case slash:
			if i == start {
				return errEmpty
			}
			if isDots(escapedPath[start:i]) {
				return errDot
			}
			start = i + 1
		case escape:
			simple = false
		case semicolon:
			if !a.Semicolon {
				return errSemicolon
			}
			simple = false
		case backslash:
			return errBackslash
		case control:
			return errControl
		case raw:
			return errRaw
		}
	}
	if isDots(escapedPath[start:]) {
		return errDot
	}
	if simple {
		return nil
	}
	return checkEscaped(escapedPath, a)
}

func checkEscaped(path string, a PathAllow) error {
	for left, more := path[1:], true; more; {
		var text string
		text, left, more = strings.Cut(left, "/")
		if !strings.ContainsFunc(text, func(r rune) bool { return r == '%' || r == ';' || r >= utf8.RuneSelf }) {
			continue
		}
		decoded, ok := unescape(text)
		if !ok {
			return errEscape
		}
		if err := judgeSegment(decoded, a); err != nil {
			return err
		}
	}
	return nil
}

// judgeSegment judges a decoded segment that is not empty and, where percent
// characters are allowed, what it decodes to.
func judgeSegment(text string, a PathAllow) error {
	for range maxDecodes {
		if err := judgeText(text, a); err != nil {
			return err
		}
		again := text
		if a.Percent {
			again = unescapeLenient(text)
		}
		if again == text {
			return nil
		}
		text = again
	}
	return errDepth
}

func judgeText(text string, a PathAllow) error {
	ascii := true
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c >= 0x80:
			ascii = false
		case c < 0x20 || c == 0x7f:
			return errControl
		case c == '\\':
			return errBackslash
		case c == '%' && !a.Percent:
			return errPercent
		case c == ';' && !a.Semicolon:
			return errSemicolon
		case c == '/' && !a.EncodedSlash:
			return errSlash
		}
	}
	if !ascii {
		if !utf8.ValidString(text) {
			return errUTF8
		}
		if strings.ContainsFunc(text, unicode.IsControl) { // C1
			return errControl
		}
	}
	for more := true; more; {
		var part string
		part, text, more = strings.Cut(text, "/")
		if err := judgePart(part, ascii); err != nil {
			return err
		}
	}
	return nil
}

// judgePart judges what a backend may take for one segment.
func judgePart(part string, ascii bool) error {
	if part == "" || part[0] == ';' {
		return errEmpty
	}
	if isDots(part) {
		return errDot
	}
	if ascii {
		return nil
	}
	normal := norm.NFKC.String(part)
	if normal == part {
		return nil
	}
	// A wide percent character becomes a plain one: what it then encodes is
	// judged as well.
	for _, s := range [2]string{normal, unescapeLenient(normal)} {
		if isDots(s) {
			return errDot
		}
		if strings.ContainsAny(s, `/\`) {
			return errUnicodeSlash
		}
	}
	return nil
}

// isDots says whether a segment is "." or "..", also with parameters ("..;a").
func isDots(s string) bool {
	if s == "" || s[0] != '.' {
		return false
	}
	s = s[1:]
	if s != "" && s[0] == '.' {
		s = s[1:]
	}
	return s == "" || s[0] == ';'
}
