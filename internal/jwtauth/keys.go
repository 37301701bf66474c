package jwtauth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
)

const (
	maxJWKSBytes = 1 << 20
	maxJWKSKeys  = 64 // so many are tried for a token without kid, at most
	minRSABits   = 2048
	maxRSABits   = 8192 // above it one check costs milliseconds
)

// verifyKey is one key that signatures are checked with. It is immutable but for macs.
type verifyKey struct {
	id     [sha256.Size]byte // digest of all that follows but src
	kid    string            // empty: the key goes with any kid
	alg    string            // the one algorithm it is for; empty: any of its family
	family family
	key    any       // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or []byte
	src    *remote   // where it is fetched from; nil: it came with the configuration
	macs   sync.Pool // of hash.Hash, where key is a []byte
}

// usable reports whether the key may still be relied on at now.
func (k *verifyKey) usable(now time.Time) bool { return k.src == nil || k.src.fresh(now) }

// fits reports whether the key may check a token with this algorithm and kid.
func (k *verifyKey) fits(alg *algorithm, t *token) bool {
	return k.family == alg.family && (k.alg == "" || k.alg == alg.name) &&
		(!t.hasKid || k.kid == "" || k.kid == t.kid)
}

// keySet is all keys of an issuer at a time. It is immutable: a change makes a
// new one, by which tokens verified under the old one are known.
type keySet struct{ keys []*verifyKey }

// newPublicKey makes a verifyKey of a public key, or says why it must not be
// used.
func newPublicKey(pub any, kid, alg string) (*verifyKey, error) {
	k := &verifyKey{kid: kid, alg: alg, family: familyOf(pub), key: pub}
	switch p := pub.(type) {
	case *rsa.PublicKey:
		if bits := p.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("an RSA key must have %d to %d bits, this one has %d", minRSABits, maxRSABits, bits)
		}
		if p.E < 3 || p.E&1 == 0 || p.E > 1<<31-1 {
			return nil, errors.New("an RSA key's exponent must be odd and from 3 to 2^31-1")
		}
	case *ecdsa.PublicKey:
		if _, err := p.ECDH(); err != nil { // is the point on its curve
			return nil, errors.New("the point is not on its curve, or the curve is none of P-256, P-384, P-521")
		}
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return nil, errors.New("an Ed25519 key must have 32 bytes")
		}
	}
	if k.family == familyNone {
		return nil, fmt.Errorf("a key of type %T is not supported", pub)
	}
	if alg != "" {
		a := algorithms[alg]
		if a == nil || a.family != k.family {
			return nil, errors.New("its alg is no signature algorithm of its kind of key")
		}
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	h := sha256.New()
	h.Write(fmt.Appendf(nil, "%q %q ", kid, alg))
	h.Write(der)
	h.Sum(k.id[:0])
	return k, nil
}

// parseJWKS reads a JWK set (RFC 7517). Keys that must not be used, or are of
// a kind that is not known, are left out and named in refused; an error says
// that the whole is no JWK set.
func parseJWKS(doc []byte) (keys []*verifyKey, refused []error, err error) {
	if len(doc) > maxJWKSBytes {
		return nil, nil, errors.New("the JWK set is larger than 1 MiB")
	}
	root, err := parseJSON(string(doc), maxJWKSValues)
	if err != nil {
		return nil, nil, fmt.Errorf("read JWK set: %w", err)
	}
	list := root.get("keys")
	if list == nil || list.kind != kindArray {
		return nil, nil, errors.New("it is not a JWK set: there is no list \"keys\"")
	}
	if len(list.members) > maxJWKSKeys {
		return nil, nil, fmt.Errorf("the JWK set has more than %d keys", maxJWKSKeys)
	}
	raw, err := rawKeys(doc)
	if err != nil || len(raw) != len(list.members) {
		return nil, nil, fmt.Errorf("read JWK set: %w", errors.Join(errJSONSyntax, err))
	}
	for i := range list.members {
		k, err := parseJWK(&list.members[i].value, raw[i])
		if err != nil {
			refused = append(refused, fmt.Errorf("key %d of %d: %w", i+1, len(raw), err))
			continue
		}
		keys = append(keys, k)
	}
	return keys, refused, nil
}

// rawKeys returns the elements of "keys" as they are written. The document was
// read strictly before, so that names are unique.
func rawKeys(doc []byte) ([]json.RawMessage, error) {
	var members map[string]json.RawMessage // a map is matched by exact case
	if err := json.Unmarshal(doc, &members); err != nil {
		return nil, err
	}
	var raw []json.RawMessage
	err := json.Unmarshal(members["keys"], &raw)
	return raw, err
}

// parseJWK reads one key and honours what it says about its use (RFC 7517
// section 4).
func parseJWK(v *value, raw []byte) (*verifyKey, error) {
	if v.kind != kindObject {
		return nil, errors.New("it is not an object")
	}
	kty := v.get("kty") // by exact case, which the library does not insist on
	if kty == nil || kty.kind != kindString {
		return nil, errors.New("it has no kty")
	}
	if kty.text == "oct" {
		return nil, errors.New("it is symmetric: whoever can read the set could make tokens (use hmac_secret)")
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if v.get(private) != nil {
			return nil, errors.New("it holds a private key: replace that key, and publish the public half alone")
		}
	}
	if use := v.get("use"); use != nil && (use.kind != kindString || use.text != "sig") {
		return nil, errors.New("its use is not \"sig\"")
	}
	if ops := v.get("key_ops"); ops != nil {
		list, ok := textList(ops)
		if !ok || ops.kind != kindArray || !slices.Contains(list, "verify") {
			return nil, errors.New("its key_ops do not name \"verify\"")
		}
	}
	kid, okKid := optionalText(v, "kid", maxKid)
	alg, okAlg := optionalText(v, "alg", maxKid)
	if !okKid || !okAlg {
		return nil, errors.New("its kid and alg must be texts of at most 256 bytes")
	}
	key, err := jwk.ParseKey(raw)
	if err != nil {
		return nil, fmt.Errorf("parse JWK: %w", err)
	}
	var pub any
	if err := jwk.Export(key, &pub); err != nil {
		return nil, fmt.Errorf("export JWK: %w", err)
	}
	return newPublicKey(pub, kid, alg)
}

func optionalText(v *value, name string, limit int) (string, bool) {
	m := v.get(name)
	if m == nil {
		return "", true
	}
	return m.text, m.kind == kindString && m.text != "" && len(m.text) <= limit
}

// parsePEM reads the public keys of a PEM file: public keys and certificates.
func parsePEM(data []byte) ([]*verifyKey, error) {
	var keys []*verifyKey
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		pub, err := parsePEMBlock(block)
		if err != nil {
			return nil, err
		}
		k, err := newPublicKey(pub, "", "")
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no PEM block with a public key in it")
	}
	if len(bytes.TrimSpace(data)) > 0 {
		return nil, errors.New("something that is no PEM block follows the last key")
	}
	return keys, nil
}

func parsePEMBlock(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse public key: %w", err)
		}
		return pub, nil
	case "RSA PUBLIC KEY":
		pub, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse RSA public key: %w", err)
		}
		return pub, nil
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
		return cert.PublicKey, nil
	}
	return nil, fmt.Errorf("a PEM block %q is not a public key: give the public half alone", block.Type)
}
