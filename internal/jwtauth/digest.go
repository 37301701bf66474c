package jwtauth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"

	"golang.org/x/sys/cpu"
)

// digest identifies a credential without holding it. Digests of different sets
// have nothing to do with each other.
type digest [sha256.Size]byte

// digester makes digests under a secret of its own, which nobody outside the
// process knows; nor does anybody there ever see a digest.
//
// Where the processor computes GHASH it is a GMAC (NIST SP 800-38D) of 128 bits
// with a fixed nonce: for those who see no tags a universal hash under a random
// key, so that two tokens of n blocks share a digest with a chance of n in
// 2^128. It takes a third of the time of SHA-256, which does the work elsewhere.
type digester struct {
	secret [sha256.Size]byte
	mac    cipher.AEAD // nil: SHA-256
}

// fastMAC reports whether AES and the carry-less product are instructions here.
func fastMAC() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
}

func newDigester(fast bool) (*digester, error) {
	d := new(digester)
	if _, err := rand.Read(d.secret[:]); err != nil {
		return nil, fmt.Errorf("make cache secret: %w", err)
	}
	if !fast || fips140.Enabled() { // FIPS 140-3 knows no fixed nonce
		return d, nil
	}
	block, err := aes.NewCipher(d.secret[:])
	if err != nil {
		return nil, fmt.Errorf("make cache digest: %w", err)
	}
	if d.mac, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("make cache digest: %w", err)
	}
	return d, nil
}

// scratchBuf holds the secret and a credential while they are digested, and the
// digest while it is made.
type scratchBuf struct {
	in  [sha256.Size + maxToken]byte
	out digest
}

var scratch = sync.Pool{New: func() any { return new(scratchBuf) }}

var noNonce [12]byte

// of is the digest of a credential of at most maxToken bytes.
func (d *digester) of(credential string) digest {
	buf, ok := scratch.Get().(*scratchBuf)
	if !ok { // the pool holds nothing else
		buf = new(scratchBuf)
	}
	var n int
	if d.mac == nil {
		n = copy(buf.in[:], d.secret[:])
		n += copy(buf.in[n:], credential)
		buf.out = sha256.Sum256(buf.in[:n])
	} else {
		n = copy(buf.in[:], credential)
		buf.out = digest{}
		d.mac.Seal(buf.out[:0], noNonce[:], nil, buf.in[:n]) //nolint:gosec // a MAC that nobody sees needs no nonce
	}
	sum := buf.out
	clear(buf.in[:n]) // no credential stays behind in the pool
	scratch.Put(buf)
	return sum
}
