package keystore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
)

// Crypto makes the stored digest: HMAC-SHA256 of a key under the data key. It
// is kept beside the bcrypt hash and decides right and wrong without hashing.
// What it protects: a copy of the database shows nothing without the data key,
// and native keys are random, so that there is nothing to guess.
type Crypto struct {
	dataKey []byte // nil: nothing but bcrypt is stored
	// inner and outer are the data key under HMAC's two pads (RFC 2104).
	inner, outer [sha256.BlockSize]byte
}

// NewCrypto returns a Crypto that works with dataKey (32 bytes as sealed.NewDataKey
// makes them), or one that stores nothing but bcrypt when dataKey is nil.
func NewCrypto(dataKey []byte) *Crypto {
	if len(dataKey) == 0 {
		return &Crypto{}
	}
	c := &Crypto{dataKey: bytes.Clone(dataKey)}
	k := c.dataKey
	if len(k) > sha256.BlockSize {
		sum := sha256.Sum256(k)
		k = sum[:]
	}
	copy(c.inner[:], k)
	copy(c.outer[:], k)
	for i := range c.inner {
		c.inner[i] ^= 0x36
		c.outer[i] ^= 0x5c
	}
	return c
}

// HasDataKey reports whether stored digests are made and compared.
func (c *Crypto) HasDataKey() bool { return c != nil && c.dataKey != nil }

// DataKey returns a copy of the data key, nil where there is none.
func (c *Crypto) DataKey() []byte {
	if !c.HasDataKey() {
		return nil
	}
	return bytes.Clone(c.dataKey)
}

// StoredDigest returns HMAC-SHA256(data key, key), 32 bytes, or nil where there
// is no data key.
func (c *Crypto) StoredDigest(key string) []byte {
	if !c.HasDataKey() {
		return nil
	}
	d := c.digest(key)
	return d[:]
}

// digest is StoredDigest without allocation for keys of at most MaxKeyLen
// bytes: hmac.New would cost more than the hashing. A test holds it against
// crypto/hmac.
func (c *Crypto) digest(key string) digest {
	var buf [sha256.BlockSize + MaxKeyLen]byte
	in := append(buf[:0], c.inner[:]...)
	in = append(in, key...)
	sum := sha256.Sum256(in)
	clear(in)
	var out [sha256.BlockSize + sha256.Size]byte
	copy(out[:], c.outer[:])
	copy(out[sha256.BlockSize:], sum[:])
	return sha256.Sum256(out[:])
}

// digest is a whole SHA-256; it is never shortened before a comparison.
type digest [sha256.Size]byte

// equal compares in constant time, four words at once: subtle's loop over bytes
// is a tenth of the warm path.
func (d *digest) equal(e *digest) bool {
	var diff uint64
	for i := 0; i < len(d); i += 8 {
		diff |= binary.LittleEndian.Uint64(d[i:]) ^ binary.LittleEndian.Uint64(e[i:])
	}
	return diff == 0
}

// fingerprint stands for one bcrypt hash: 128 bits of its keyed SHA-256.
type fingerprint [16]byte

// processKey keys the digests by which this process remembers what it has
// verified. It is random, lives in memory only and ends with the process.
type processKey [32]byte

// of returns SHA-256(process key ‖ s) without allocation for s of at most
// MaxKeyLen bytes. Extending the message is of no use to anybody, because the
// digest never leaves the process.
func (k *processKey) of(s string) digest {
	var buf [len(processKey{}) + MaxKeyLen]byte
	in := append(buf[:0], k[:]...)
	in = append(in, s...)
	return sha256.Sum256(in)
}

// fingerprint returns what stands for a bcrypt hash in the caches.
func (k *processKey) fingerprint(hash []byte) fingerprint {
	d := k.of(string(hash))
	return fingerprint(d[:len(fingerprint{})])
}

// presentable reports whether s can be a credential at all: 1 to 72 bytes of
// visible ASCII.
func presentable(s string) bool {
	if len(s) == 0 || len(s) > MaxKeyLen {
		return false
	}
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return true
}
