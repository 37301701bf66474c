package jwtauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"hash"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// family is a kind of key: its type and, where there is one, its curve. An
// algorithm goes with exactly one family, and so no key is ever used with an
// algorithm of another kind (RFC 8725 sections 2.1 and 3.1).
type family uint8

const (
	familyNone family = iota
	familyHMAC
	familyRSA
	familyP256
	familyP384
	familyP521
	familyEd25519
)

// algorithm is one value of the alg header parameter (RFC 7518, 8037, 9864).
type algorithm struct {
	name   string
	family family
	method jwt.SigningMethod
}

// algorithms are all that can be allowed. "none" is not among them, and
// neither is anything that golang-jwt's global registry may hold besides.
var algorithms = func() map[string]*algorithm {
	m := map[string]*algorithm{}
	for _, a := range []algorithm{
		{"HS256", familyHMAC, jwt.SigningMethodHS256},
		{"HS384", familyHMAC, jwt.SigningMethodHS384},
		{"HS512", familyHMAC, jwt.SigningMethodHS512},
		{"RS256", familyRSA, jwt.SigningMethodRS256},
		{"RS384", familyRSA, jwt.SigningMethodRS384},
		{"RS512", familyRSA, jwt.SigningMethodRS512},
		{"PS256", familyRSA, strictPSS("PS256", crypto.SHA256)},
		{"PS384", familyRSA, strictPSS("PS384", crypto.SHA384)},
		{"PS512", familyRSA, strictPSS("PS512", crypto.SHA512)},
		{"ES256", familyP256, jwt.SigningMethodES256},
		{"ES384", familyP384, jwt.SigningMethodES384},
		{"ES512", familyP521, jwt.SigningMethodES512},
		{"EdDSA", familyEd25519, jwt.SigningMethodEdDSA},
		{"Ed25519", familyEd25519, jwt.SigningMethodEdDSA},
	} {
		m[a.name] = &a
	}
	return m
}()

// verify checks a token's signature.
func (k *verifyKey) verify(alg *algorithm, t *token) bool {
	m, ok := alg.method.(*jwt.SigningMethodHMAC)
	secret, symmetric := k.key.([]byte)
	if !ok || !symmetric || !m.Hash.Available() {
		return alg.method.Verify(t.signed, t.sig, k.key) == nil
	}
	// As golang-jwt does, but with a MAC that is used again: to make one takes longer
	// than to compute it.
	mac, ok := k.macs.Get().(hash.Hash)
	if !ok || mac.Size() != m.Hash.Size() { // which tells SHA-256, SHA-384 and SHA-512 apart
		mac = hmac.New(m.Hash.New, secret)
	}
	defer k.macs.Put(mac)
	mac.Reset()
	t.text = append(t.text[:0], t.signed...)
	mac.Write(t.text)
	t.text = mac.Sum(t.text[:0])
	return hmac.Equal(t.sig, t.text)
}

// strictPSS takes salts of the hash's length alone, as RFC 7518 section 3.5
// demands; golang-jwt's own methods take any.
func strictPSS(name string, hash crypto.Hash) jwt.SigningMethod {
	return &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: &jwt.SigningMethodRSA{Name: name, Hash: hash},
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash},
	}
}

func algorithmNames() []string {
	names := make([]string, 0, len(algorithms))
	for name := range algorithms {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// familyOf returns the family of a public key, familyNone for what no
// algorithm here uses.
func familyOf(key any) family {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return familyRSA
	case ed25519.PublicKey:
		return familyEd25519
	case *ecdsa.PublicKey:
		switch k.Curve.Params().Name {
		case "P-256":
			return familyP256
		case "P-384":
			return familyP384
		case "P-521":
			return familyP521
		}
	}
	return familyNone
}
