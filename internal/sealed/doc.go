// Package sealed keeps secrets at rest: what is written to the keystore and must
// be read back in clear (the data key, TOTP and signing secrets) is sealed under
// a master key that the keystore does not hold.
//
// # Algorithm
//
// XChaCha20-Poly1305 (RFC 8439's AEAD with a 192-bit nonce,
// draft-irtf-cfrg-xchacha-03). Nonces are random, since several processes seal
// under one key without talking to each other; at 192 bits no number of seals
// makes a repetition likely, whereas AES-GCM's 96 bits bound a key to 2³² seals.
// It runs in constant time on machines without AES instructions too.
//
// # Form
//
// A sealed secret is text: "hgs1." and, in unpadded URL base64, 4 bytes that
// name the master key, 24 bytes of nonce, the ciphertext and its tag. The bytes
// that name the key only choose the key and word the error; all of it is
// authenticated. What the secret belongs to is additional data: a sealed secret
// that is copied to another record does not open there.
//
// # Keys
//
// A [Ring] has a primary key, which seals, and old ones, which only open. The
// master key itself seals one random data key, which does the daily work, so
// that changing the master key rewraps 32 bytes and leaves every stored digest
// valid.
package sealed
