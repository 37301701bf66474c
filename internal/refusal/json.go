package refusal

import (
	"strconv"
	"unicode/utf8"
)

// appendString appends s as a JSON string (RFC 8259 section 7). '<', '>' and '&'
// stay readable; invalid UTF-8 becomes U+FFFD; U+2028 and U+2029 are escaped,
// because JavaScript once took them for line ends.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\uFFFD"...)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			dst = append(dst, s[start:i]...)
			dst = append(dst, '\\', 'u', '2', '0', '2', hex[r&15])
			start = i + size
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// appendMember appends a comma, unless the object was just opened, and the name.
// Names are constants of this package and need no escaping.
func appendMember(dst []byte, name string) []byte {
	if n := len(dst); n > 0 && dst[n-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

func appendText(dst []byte, name, value string) []byte {
	return appendString(appendMember(dst, name), value)
}

func appendInt(dst []byte, name string, value int64) []byte {
	return strconv.AppendInt(appendMember(dst, name), value, 10)
}

func appendTexts(dst []byte, name string, values []string) []byte {
	return appendList(appendMember(dst, name), values)
}

func appendList(dst []byte, values []string) []byte {
	dst = append(dst, '[')
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, v)
	}
	return append(dst, ']')
}

// appendErrors appends the member errors: an object from field to texts, each
// field once. The texts of a field that comes twice are put together.
func appendErrors(dst []byte, e *entry, r *Refusal) []byte {
	if e.backend() {
		return dst // the gate does not know them
	}
	fields := r.Fields
	dst = append(appendMember(dst, "errors"), '{')
	for i, f := range fields {
		if mentioned(fields[:i], f.Field) {
			continue
		}
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, f.Field), ':')
		texts := f.Messages
		for _, later := range fields[i+1:] {
			if later.Field == f.Field {
				texts = append(texts[:len(texts):len(texts)], later.Messages...)
			}
		}
		dst = appendList(dst, texts)
	}
	return append(dst, '}')
}

func mentioned(fields []FieldError, name string) bool {
	for _, f := range fields {
		if f.Field == name {
			return true
		}
	}
	return false
}
