package keystore

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"runtime"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/blowfish" //nolint:staticcheck // for new systems there is better; bcrypt is made of it
)

// bcryptText is the base64 of bcrypt's salts and hashes.
var bcryptText = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)

// What a bcrypt hash consists of: $2b$10$, the salt, the hash.
const (
	bcryptSaltAt  = 7
	bcryptHashAt  = bcryptSaltAt + 22
	bcryptHashLen = 23 // bytes of the 24 that were enciphered
)

// bcryptPause is how many rounds lie between two moments at which a hash gives way:
// some 0.2 ms. There are 1,024 at cost 10.
const bcryptPause = 4

// compareBcrypt is bcrypt.CompareHashAndPassword for a hash that [ValidHash] has
// passed, and gives way while it computes: to other goroutines, and to other
// threads of the machine. A hash takes a core for 50 ms; without this whoever is
// next on that core, another request or the backend, waits until the kernel's
// clock ticks, which is 4 ms on many servers. On a busy machine giving way may cost
// all of a time slice; so it waits no longer in all than it computes, and a hash
// takes at most about twice its time.
//
// bcrypt is that of Provos and Mazières, "A Future-Adaptable Password Scheme"
// (1999), section 4, with the key's final NUL as OpenBSD has it.
func compareBcrypt(hash, password []byte) error {
	if err := ValidHash(hash); err != nil {
		return err
	}
	cost, err := bcrypt.Cost(hash)
	if err != nil {
		return err
	}
	salt, err := bcryptText.DecodeString(string(hash[bcryptSaltAt:bcryptHashAt]))
	if err != nil {
		return errors.New("the salt of a bcrypt hash cannot be read")
	}
	key := append(append(make([]byte, 0, len(password)+1), password...), 0)
	defer clear(key)
	c, err := blowfish.NewSaltedCipher(key, salt)
	if err != nil {
		return errors.New("a key cannot be hashed with bcrypt")
	}
	var computed, waited time.Duration
	since := time.Now()
	for i := range uint64(1) << cost {
		blowfish.ExpandKey(key, c)
		blowfish.ExpandKey(salt, c)
		if i%bcryptPause < bcryptPause-1 {
			continue
		}
		now := time.Now()
		computed += now.Sub(since)
		if since = now; waited < computed {
			yieldProcessor()
			runtime.Gosched()
			since = time.Now()
			waited += since.Sub(now)
		}
	}
	text := []byte("OrpheanBeholderScryDoubt")
	for block := text; len(block) > 0; block = block[blowfish.BlockSize:] {
		for range 64 {
			c.Encrypt(block, block)
		}
	}
	got := bcryptText.EncodeToString(text[:bcryptHashLen])
	if subtle.ConstantTimeCompare([]byte(got), hash[bcryptHashAt:]) != 1 {
		return bcrypt.ErrMismatchedHashAndPassword
	}
	return nil
}
