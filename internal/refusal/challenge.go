package refusal

// appendChallenge appends the value of WWW-Authenticate for a refusal
// (RFC 6750 section 3; insufficient_user_authentication: RFC 9470 section 3).
func appendChallenge(dst []byte, e *entry, r *Refusal) []byte {
	dst = append(dst, `Bearer realm="`...)
	dst = append(appendQuoted(dst, r.Realm), '"')
	if e.reason == ReasonMissingCredentials && !r.Credential {
		return dst
	}
	dst = append(dst, `, error="`...)
	dst = append(dst, e.oauth...)
	dst = append(dst, `", error_description="`...)
	dst = appendDescription(dst, r.hint(e))
	if docs := r.docs(e); docs != "" {
		dst = append(dst, "; see "...)
		dst = appendDescription(dst, docs)
	}
	dst = append(dst, '"')
	if e.reason == ReasonInsufficientScope && len(r.Required) > 0 {
		dst = append(dst, `, scope="`...)
		for i, s := range r.Required {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = appendScope(dst, s)
		}
		dst = append(dst, '"')
	}
	return dst
}

// appendQuoted appends the inside of a quoted-string (RFC 9110 section 5.6.4):
// quotes and backslashes are escaped, all but printable ASCII is left out.
func appendQuoted(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ' && c <= '~':
			dst = append(dst, c)
		}
	}
	return dst
}

// appendDescription keeps to the characters that error_description may have
// (RFC 6750 section 3: %x20-21 / %x23-5B / %x5D-7E). A quote becomes an
// apostrophe, everything else outside the set is left out.
func appendDescription(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"':
			dst = append(dst, '\'')
		case c >= ' ' && c <= '~' && c != '\\':
			dst = append(dst, c)
		}
	}
	return dst
}

// appendScope keeps to the characters of a scope-token (RFC 6749 section 3.3):
// those of a description without the space.
func appendScope(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c > ' ' && c <= '~' && c != '"' && c != '\\' {
			dst = append(dst, c)
		}
	}
	return dst
}
