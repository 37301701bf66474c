package sealed

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// version begins every sealed secret.
const version = "hgs1."

const keyIDLen = 4

// MaxSecret is the longest secret that is sealed, in bytes. Everything sealed
// here is a key or a short list of codes.
const MaxSecret = 64 << 10

// Errors of Open. Which of them it is says nothing about the secret.
var (
	// ErrOtherKey: sealed under a master key that the ring does not have.
	ErrOtherKey = errors.New("sealed under another master key")
	// ErrDamaged: changed since it was sealed, or moved from where it belongs.
	ErrDamaged = errors.New("the sealed secret is damaged or belongs elsewhere")
)

// Ring is the master keys of a process: Primary seals, all of them open.
type Ring struct {
	Primary [32]byte
	// Old keys opened by this ring until everything is resealed.
	Old [][32]byte
}

// Seal encrypts secret, at most MaxSecret bytes, under the primary key. The
// same ad, the identity of what the secret belongs to, must be given to Open.
func (r Ring) Seal(secret, ad []byte) ([]byte, error) {
	if len(secret) > MaxSecret {
		return nil, fmt.Errorf("seal secret: %d bytes are more than %d", len(secret), MaxSecret)
	}
	aead, err := chacha20poly1305.NewX(r.Primary[:])
	if err != nil {
		return nil, fmt.Errorf("seal secret: %w", err)
	}
	raw := make([]byte, keyIDLen+chacha20poly1305.NonceSizeX, keyIDLen+chacha20poly1305.NonceSizeX+len(secret)+chacha20poly1305.Overhead)
	id := keyID(&r.Primary)
	copy(raw, id[:])
	nonce := raw[keyIDLen:]
	rand.Read(nonce)
	raw = aead.Seal(raw, nonce, secret, bind(id, ad))
	return base64.RawURLEncoding.AppendEncode([]byte(version), raw), nil
}

// Open decrypts what Seal made with the same ad. Its errors are ErrOtherKey and
// ErrDamaged.
func (r Ring) Open(sealed, ad []byte) ([]byte, error) {
	secret, _, err := r.open(sealed, ad)
	return secret, err
}

// Current reports whether sealed is under the primary key, so that resealing
// can pass it over. It does not say that it opens.
func (r Ring) Current(sealed []byte) bool {
	raw, err := decode(sealed)
	if err != nil {
		return false
	}
	id := keyID(&r.Primary)
	return bytes.Equal(raw[:keyIDLen], id[:])
}

// Reseal seals anew, under the primary key, what is sealed under an old one.
// changed is false, and the result what was given, where it already was; it must
// open in either case.
func (r Ring) Reseal(sealed, ad []byte) (resealed []byte, changed bool, err error) {
	secret, old, err := r.open(sealed, ad)
	if err != nil {
		return nil, false, err
	}
	defer clear(secret)
	if !old {
		return sealed, false, nil
	}
	resealed, err = r.Seal(secret, ad)
	return resealed, err == nil, err
}

func (r Ring) open(sealed, ad []byte) (secret []byte, old bool, err error) {
	raw, err := decode(sealed)
	if err != nil {
		return nil, false, err
	}
	body := raw[keyIDLen:]
	nonce, box := body[:chacha20poly1305.NonceSizeX], body[chacha20poly1305.NonceSizeX:]
	known := false
	for i := -1; i < len(r.Old); i++ {
		key := &r.Primary
		if i >= 0 {
			key = &r.Old[i]
		}
		id := keyID(key)
		if !bytes.Equal(raw[:keyIDLen], id[:]) {
			continue
		}
		known = true
		aead, err := chacha20poly1305.NewX(key[:])
		if err != nil {
			return nil, false, fmt.Errorf("open secret: %w", err)
		}
		if secret, err := aead.Open(nil, nonce, box, bind(id, ad)); err == nil {
			return secret, i >= 0, nil
		}
	}
	if known {
		return nil, false, fmt.Errorf("open secret: %w", ErrDamaged)
	}
	return nil, false, fmt.Errorf("open secret: %w", ErrOtherKey)
}

// decode takes the text form apart; what it returns is long enough.
func decode(sealed []byte) ([]byte, error) {
	text, ok := bytes.CutPrefix(sealed, []byte(version))
	if !ok || len(text) > base64.RawURLEncoding.EncodedLen(MaxSecret+256) {
		return nil, fmt.Errorf("open secret: %w", ErrDamaged)
	}
	// Strict: one secret has one text.
	raw, err := base64.RawURLEncoding.Strict().AppendDecode(nil, text)
	if err != nil || len(raw) < keyIDLen+chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead || bytes.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("open secret: %w", ErrDamaged)
	}
	return raw, nil
}

// keyID names a key without telling anything of it.
func keyID(key *[32]byte) (id [keyIDLen]byte) {
	sum := sha256.Sum256(append([]byte("hivegate master key id\x00"), key[:]...))
	copy(id[:], sum[:])
	return id
}

// bind is the additional data: the form's version, the key's name, and ad.
func bind(id [keyIDLen]byte, ad []byte) []byte {
	b := make([]byte, 0, len(version)+keyIDLen+len(ad))
	b = append(b, version...)
	b = append(b, id[:]...)
	return append(b, ad...)
}

// Weak reports whether a key is one byte repeated: a placeholder, never a random
// key. It works, and whoever reads a configuration should warn of it.
func Weak(key *[32]byte) bool {
	for _, c := range key {
		if c != key[0] {
			return false
		}
	}
	return true
}
