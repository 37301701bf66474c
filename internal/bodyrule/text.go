package bodyrule

import (
	"bytes"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// text takes a string and decodes it.
func (w *walker) text() (string, error) {
	start := w.pos
	if err := w.skipText(); err != nil {
		return "", err
	}
	inner := w.doc[start+1 : w.pos-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), nil
	}
	return unescape(inner), nil
}

// skipText takes a string and checks it, escapes too, without decoding it.
func (w *walker) skipText() error {
	if !w.take('"') {
		return errSyntax
	}
	for w.pos < len(w.doc) {
		c := w.doc[w.pos]
		w.pos++
		switch {
		case c == '"':
			return nil
		case c < ' ':
			return errSyntax
		case c == '\\':
			if err := w.skipEscape(); err != nil {
				return err
			}
		}
	}
	return errSyntax
}

// skipEscape takes what follows a backslash.
func (w *walker) skipEscape() error {
	if w.pos == len(w.doc) {
		return errSyntax
	}
	c := w.doc[w.pos]
	w.pos++
	if c != 'u' {
		if strings.IndexByte(`"\/bfnrt`, c) < 0 {
			return errSyntax
		}
		return nil
	}
	r, ok := hex4(w.doc[w.pos:])
	if !ok {
		return errSyntax
	}
	w.pos += 4
	if !utf16.IsSurrogate(r) {
		return nil
	}
	// Half of a pair alone is no character: parsers replace it, keep it or
	// refuse it, and so read different texts.
	if !w.word(`\u`) {
		return errUTF8
	}
	low, ok := hex4(w.doc[w.pos:])
	if !ok || utf16.DecodeRune(r, low) == utf8.RuneError {
		return errUTF8
	}
	w.pos += 4
	return nil
}

// unescape decodes the inside of a string that skipText has checked.
func unescape(s []byte) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		i++
		switch c := s[i]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, _ := hex4(s[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				low, _ := hex4(s[i+3:])
				r = utf16.DecodeRune(r, low)
				i += 6
			}
			out = utf8.AppendRune(out, r)
		default: // '"', '\\', '/'
			out = append(out, c)
		}
	}
	return string(out)
}

// hex4 reads the four hex digits that s begins with.
func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
