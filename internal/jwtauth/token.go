package jwtauth

import (
	"encoding/base64"
	"slices"
	"strings"
)

const (
	maxToken = 16 << 10
	maxKid   = 256
)

// Shaped reports whether a credential is a JWT rather than an API key: three
// parts separated by dots.
func Shaped(credential string) bool { return strings.Count(credential, ".") == 2 }

// token is a compact JWS (RFC 7515 section 7.1) taken apart. Nothing in it is
// verified, and it is only there until its workspace is given back.
type token struct {
	*workspace
	alg    string
	kid    string
	hasKid bool
	claims claims
	signed string // what the signature is over
}

// parseToken takes a token apart in a workspace, or says why it can be none.
func parseToken(w *workspace, raw string) (*token, *Denied) {
	header, payload, sig, d := splitToken(raw)
	if d != nil {
		return nil, d
	}
	t := &w.token
	t.workspace, t.signed = w, raw[:len(header)+1+len(payload)]
	if d := t.parseHeader(header); d != nil {
		return nil, d
	}
	var ok bool
	if w.text, ok = appendSegment(w.text[:0], payload); !ok {
		return nil, denyBase64
	}
	if w.sig, ok = appendSegment(w.sig[:0], sig); !ok {
		return nil, denyBase64
	}
	root, err := w.parseJSON(string(w.text), maxTokenValues)
	if err != nil || root.kind != kindObject {
		return nil, denyClaimsJSON
	}
	return t, t.claims.read(&root)
}

// splitToken finds the three parts and checks length and alphabet.
func splitToken(raw string) (header, payload, sig string, d *Denied) {
	if len(raw) > maxToken {
		return "", "", "", denyTooLong
	}
	header, rest, ok := strings.Cut(raw, ".")
	if !ok {
		return "", "", "", denyParts
	}
	payload, sig, ok = strings.Cut(rest, ".")
	if !ok || strings.Contains(sig, ".") {
		return "", "", "", denyParts
	}
	if sig == "" {
		return "", "", "", denyNoSig
	}
	return header, payload, sig, nil
}

// parseHeader reads the JOSE header (RFC 7515 section 4).
func (t *token) parseHeader(segment string) *Denied {
	var ok bool
	if t.text, ok = appendSegment(t.text[:0], segment); !ok {
		return denyBase64
	}
	root, err := t.parseJSON(string(t.text), maxTokenValues)
	if err != nil || root.kind != kindObject {
		return denyHeaderJSON
	}
	for i := range root.members {
		v := &root.members[i].value
		switch root.members[i].name {
		case "alg":
			if v.kind != kindString {
				return denyAlg
			}
			t.alg = v.text
		case "kid":
			if v.kind != kindString || len(v.text) > maxKid {
				return denyKid
			}
			t.kid, t.hasKid = v.text, true
		case "typ":
			if v.kind != kindString || !acceptedTyp(v.text) {
				return denyTyp
			}
		case "crit", "b64":
			return denyCrit
		case "jwk", "jku", "x5u", "x5c":
			return denyEmbedded
		}
	}
	if root.get("alg") == nil {
		return denyAlgMissing
	}
	return nil
}

// acceptedTyp judges typ: a media type without regard to case whose
// "application/" may be left out (RFC 7515 section 4.1.9). JWT is RFC 7519
// section 5.1, at+jwt RFC 9068 section 2.1. ID tokens of logout, DPoP proofs
// and so on name another type and are refused.
func acceptedTyp(typ string) bool {
	const application = "application/"
	if len(typ) > len(application) && strings.EqualFold(typ[:len(application)], application) {
		typ = typ[len(application):]
	}
	return equalASCIIFold(typ, "jwt") || equalASCIIFold(typ, "at+jwt")
}

// equalASCIIFold compares without regard to the case of ASCII letters alone;
// lower is in lower case. (strings.EqualFold knows further letters, such as
// the Kelvin sign.)
func equalASCIIFold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(s) {
		b := s[i]
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != lower[i] {
			return false
		}
	}
	return true
}

func decodeSegment(s string) (string, bool) {
	b, ok := decodeSegmentBytes(s)
	return string(b), ok
}

func decodeSegmentBytes(s string) ([]byte, bool) { return appendSegment(nil, s) }

var base64url = base64.RawURLEncoding.Strict()

// appendSegment decodes base64url without padding (RFC 7515 section 2) behind b. One
// text stands for one value only: Go's decoder skips line ends, and unless it is
// strict ignores stray bits at the end.
func appendSegment(b []byte, s string) ([]byte, bool) {
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != '_' {
			return b, false
		}
	}
	n := len(b)
	b = slices.Grow(b, base64url.DecodedLen(len(s)))
	m, err := base64url.Decode(b[n:n+base64url.DecodedLen(len(s))], []byte(s))
	return b[:n+m], err == nil
}
