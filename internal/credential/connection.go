package credential

import (
	"net/http"
	"strings"
)

// connectionKept are the names that Connection may hold.
var connectionKept = [...]string{"keep-alive", "close", "upgrade", "te", "http2-settings"}

// cleanConnection drops every other name, and the header when none is left. A
// header with nothing to drop stays as it was sent.
func cleanConnection(h http.Header, values []string) {
	kept, dropped := 0, 0
	for _, v := range values {
		for more := true; more; {
			var name string
			name, v, more = nextName(v)
			switch {
			case name == "":
			case connectionKeeps(name):
				kept++
			default:
				dropped++
			}
		}
	}
	switch {
	case kept == 0:
		delete(h, "Connection")
	case dropped > 0:
		h["Connection"] = []string{joinKept(values)}
	}
}

func joinKept(values []string) string {
	var b strings.Builder
	for _, v := range values {
		for more := true; more; {
			var name string
			name, v, more = nextName(v)
			if name == "" || !connectionKeeps(name) {
				continue
			}
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			b.WriteString(name)
		}
	}
	return b.String()
}

// nextName cuts the first element off a comma-separated list.
func nextName(list string) (name, rest string, more bool) {
	name, rest, more = strings.Cut(list, ",")
	return strings.Trim(name, " \t"), rest, more
}

func connectionKeeps(name string) bool {
	for _, k := range connectionKept {
		// strings.EqualFold would take the Kelvin sign for a k.
		if len(name) == len(k) && equalFoldASCII(name, k) {
			return true
		}
	}
	return false
}

// equalFoldASCII compares a name with a lower-case one of the same length.
func equalFoldASCII(name, lower string) bool {
	for i := range len(name) {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
