package credential

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// RemoveKeys removes from Authorization every value that carries a credential
// with one of the accepted key prefixes: behind any scheme or none, glued to it,
// in a list, or as user or password of Basic. Other values stay, such as a JWT
// whose base64 happens to hold a prefix in its middle. It is for public routes,
// where nothing is judged.
func RemoveKeys(h http.Header, prefixes []string) {
	values := h["Authorization"]
	found := false
	for _, v := range values {
		found = found || carriesKey(v, prefixes)
	}
	if !found {
		return
	}
	var kept []string // a new slice: others may hold the old one
	for _, v := range values {
		if !carriesKey(v, prefixes) {
			kept = append(kept, v)
		}
	}
	if kept == nil {
		delete(h, "Authorization")
		return
	}
	h["Authorization"] = kept
}

// gluedWords are what people put right before a token.
var gluedWords = [...]string{bearer, "basic", "token", "apikey", "key"}

// carriesKey reports whether a prefix stands where a token may begin: at the
// start, after a byte that no token has, or after a scheme glued to it.
func carriesKey(v string, prefixes []string) bool {
	for _, p := range prefixes {
		if p == "" {
			continue
		}
		for from := 0; ; {
			i := strings.Index(v[from:], p)
			if i < 0 {
				break
			}
			i += from
			if begins(v, i) {
				return true
			}
			from = i + 1
		}
	}
	return basicCarriesKey(v, prefixes)
}

// begins reports whether a token may begin at v[i].
func begins(v string, i int) bool {
	if i == 0 || !tokenByte(v[i-1]) {
		return true
	}
	for _, w := range gluedWords {
		if j := i - len(w); j >= 0 && hasPrefixFold(v[j:i], w) && (j == 0 || !tokenByte(v[j-1])) {
			return true
		}
	}
	return false
}

// tokenByte reports whether c may stand inside a token (RFC 6750's b64token
// without the padding).
func tokenByte(c byte) bool { return alphanumeric(c) || strings.IndexByte("-._~+/", c) >= 0 }

// basicCarriesKey looks into the user and password of Basic (RFC 7617). Longer
// values than any user and key together are not decoded: a key has at most 72
// bytes.
func basicCarriesKey(v string, prefixes []string) bool {
	if !hasPrefixFold(v, "basic") {
		return false
	}
	encoded := strings.TrimRight(strings.Trim(v[len("basic"):], " \t"), "=")
	var buf [768]byte
	if base64.RawStdEncoding.DecodedLen(len(encoded)) > len(buf) {
		return false
	}
	n, err := base64.RawStdEncoding.Decode(buf[:], []byte(encoded))
	if err != nil {
		return false
	}
	user, password, _ := strings.Cut(string(buf[:n]), ":")
	for _, p := range prefixes {
		if p != "" && (strings.HasPrefix(user, p) || strings.HasPrefix(password, p)) {
			return true
		}
	}
	return false
}
