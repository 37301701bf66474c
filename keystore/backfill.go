package keystore

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// backfillEvery is how often digests that became known are stored.
	backfillEvery = time.Second
	// maxBackfill bounds the digests that wait to be stored. Past it one is
	// dropped: its key is hashed once more after the next restart.
	maxBackfill = 10_000
)

// backfill stores the digests of imported secrets that are known to be random
// (import --random). From a bcrypt hash none can be made; the first credential
// that matches the hash is the key, and from then on there is one.
type backfill struct {
	mu   sync.Mutex // guards list
	list []foundDigest
}

// foundDigest is a digest and the hash that it belongs to.
type foundDigest struct {
	id     ID
	hash   []byte
	digest []byte
}

// found notes the digest of a credential that has just matched secret i.
func (v *Verifier) found(e *Entry, i int, credential string) {
	secret := &e.rec.Secrets[i]
	if !secret.Random || len(secret.Digest) > 0 || !v.o.Crypto.HasDataKey() {
		return
	}
	b := &v.backfill
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.list) < maxBackfill {
		b.list = append(b.list, foundDigest{e.core.id, secret.Hash, v.o.Crypto.StoredDigest(credential)})
	}
}

// errHasDigest leaves a transaction that found nothing to do.
var errHasDigest = errors.New("the digest is stored already")

// storeDigests stores what was noted. What fails while the store is away is kept
// for the next time.
func (v *Verifier) storeDigests(ctx context.Context) {
	b := &v.backfill
	b.mu.Lock()
	list := b.list
	b.list = nil
	b.mu.Unlock()
	for i, d := range list {
		rec, err := v.o.Store.Update(ctx, Change{Action: "digest", Actor: "gate", At: v.wallNow()}, d.id, func(rec *Record) error {
			for i := range rec.Secrets {
				if s := &rec.Secrets[i]; bytes.Equal(s.Hash, d.hash) && len(s.Digest) == 0 {
					s.Digest = d.digest
					return nil
				}
			}
			return errHasDigest
		})
		switch {
		case err == nil:
			v.apply(rec)
		case errors.Is(err, errHasDigest), errors.Is(err, ErrNotFound), errors.Is(err, ErrRevoked):
		default:
			b.mu.Lock()
			b.list = append(b.list, list[i:min(len(list), i+maxBackfill-len(b.list))]...)
			b.mu.Unlock()
			return
		}
	}
}
