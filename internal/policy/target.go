package policy

import "strings"

// Why a request target is refused, beside its path.
const (
	errTarget   pathError = "the request target is neither a path nor an absolute URI"
	errScheme   pathError = "the request target is an absolute URI with a scheme other than http and https"
	errUserinfo pathError = "the request target is an absolute URI with userinfo"
	errHost     pathError = "the request target is an absolute URI without a valid host"
	errOverride pathError = "the query has a _method member, which some backends take for the method"
)

// CheckTarget judges the request target as the client sent it (RFC 9112, section
// 3.2): the path as [CheckPath] does, of an absolute URI also scheme and
// authority. "*" passes, and so does host:port, which CONNECT has and which has
// no path. Of the query only this is judged, that no member's name is _method to
// any backend: decoded, in any case, as PHP rewrites names, with '&' or ';'
// between members.
func CheckTarget(requestURI string, a PathAllow) error {
	path, query, _ := strings.Cut(requestURI, "?")
	if err := CheckQuery(query); err != nil {
		return err
	}
	switch {
	case path == "":
		return errTarget
	case path[0] == '/':
		return CheckPath(path, a)
	case requestURI == "*":
		return nil
	}
	scheme, rest, absolute := strings.Cut(path, "://")
	if !absolute {
		if host, port, ok := splitAuthority(requestURI); ok && host != "" && port != "" {
			return nil
		}
		return errTarget
	}
	if !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return errScheme
	}
	authority := rest
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	} else {
		path = ""
	}
	if strings.IndexByte(authority, '@') >= 0 {
		return errUserinfo
	}
	if host, _, ok := splitAuthority(authority); !ok || host == "" {
		return errHost
	}
	return CheckPath(path, a)
}

// CheckQuery judges a query, without its '?', as [CheckTarget] does: for one that
// was rewritten since. It does not allocate.
func CheckQuery(rawQuery string) error {
	if overridesMethod(rawQuery) {
		return errOverride
	}
	return nil
}

// splitAuthority splits host and port of an authority without userinfo. A host
// is a name in unreserved characters, an IPv4 address, or an IPv6 address in
// brackets.
func splitAuthority(s string) (host, port string, ok bool) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", false
		}
		host, port = s[1:end], s[end+1:]
		if strings.Trim(host, "0123456789abcdefABCDEF:.") != "" {
			return "", "", false
		}
	} else {
		end := strings.IndexByte(s, ':')
		if end < 0 {
			end = len(s)
		}
		host, port = s[:end], s[end:]
		for i := 0; i < len(host); i++ {
			c := host[i] | 0x20
			if (c < 'a' || c > 'z') && (host[i] < '0' || host[i] > '9') && strings.IndexByte("-._~", host[i]) < 0 {
				return "", "", false
			}
		}
	}
	if port == "" {
		return host, "", true
	}
	if port[0] != ':' || strings.Trim(port[1:], "0123456789") != "" {
		return "", "", false
	}
	return host, port[1:], true
}

// methodMember is the query member that backends take for the method.
const methodMember = "_method"

func overridesMethod(query string) bool {
	for start, i := 0, 0; i <= len(query); i++ {
		if i < len(query) && query[i] != '&' && query[i] != ';' {
			continue
		}
		// No encoding of a name is shorter than the name.
		if i-start >= len(methodMember) && isMethodMember(query[start:i]) {
			return true
		}
		start = i + 1
	}
	return false
}

// isMethodMember says whether a backend may take the member's name for _method.
// PHP drops leading spaces, makes '_' of '.', ' ' and a '[' without ']', cuts at
// NUL, and takes name[x] for a list called name.
func isMethodMember(member string) bool {
	matched := 0
	for i := 0; i < len(member) && member[i] != '='; i++ {
		c := member[i]
		if decoded, ok := escapeAt(member, i); ok {
			c = decoded
			i += 2
		} else if c == '+' {
			c = ' '
		}
		if matched == 0 && c <= ' ' {
			continue
		}
		if matched == len(methodMember) {
			return c <= ' ' || c == '['
		}
		switch {
		case c == '.' || c == ' ' || c == '[':
			c = '_'
		case c >= 'A' && c <= 'Z':
			c |= 0x20
		}
		if c != methodMember[matched] {
			return false
		}
		matched++
	}
	return matched == len(methodMember)
}
