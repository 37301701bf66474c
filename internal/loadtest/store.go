package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hivegate/hivegate/internal/sealed"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// masterKey and hmacSecret are made for each run.
var (
	masterKey  = randomHex()
	hmacSecret = randomHex()
)

func randomHex() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// keyFile says how keys are made in bulk, directly in a new SQLite file.
type keyFile struct {
	name string
	n    int
	// digest: the keys get stored digests under masterKey, and a bcrypt hash of
	// nothing, which then is never looked at. Else each key is hashed with cost.
	digest bool
	cost   int
	// owners is over how many owners the keys are spread; 0: each has its own.
	owners int
	// keep is how many of the keys are returned; 0: all.
	keep int
}

// batch is how many records one transaction takes.
const batch = 50_000

// makeKeys writes a keystore into the folder and returns its path and keys.
func (b *bed) makeKeys(f keyFile) (path string, keys []string, err error) {
	path = filepath.Join(b.dir, f.name)
	begin := time.Now()
	store, err := sqlstore.OpenSQLite(b.ctx, path, sqlstore.Options{Create: true})
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	crypto := keystore.NewCrypto(nil)
	if f.digest {
		if crypto, err = dataKey(b.ctx, store); err != nil {
			return "", nil, err
		}
	}
	shared, err := bcrypt.GenerateFromPassword([]byte("none of the keys"), bcrypt.DefaultCost)
	if err != nil {
		return "", nil, fmt.Errorf("hash: %w", err)
	}
	keep := f.keep
	if keep == 0 {
		keep = f.n
	}
	for done := 0; done < f.n; {
		size := min(batch, f.n-done)
		recs := make([]*keystore.Record, size)
		made := make([]string, size)
		if err := eachOf(b.ctx, size, func(i int) error {
			key, rec, err := newRecord(done+i, &f, crypto, shared)
			recs[i], made[i] = rec, key
			return err
		}); err != nil {
			return "", nil, err
		}
		keys = append(keys, made[:min(size, max(0, keep-len(keys)))]...)
		slices.SortFunc(recs, func(a, b *keystore.Record) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		by := keystore.Change{Action: "create", Actor: "command", At: time.Now()}
		if err := store.Create(b.ctx, by, recs...); err != nil {
			return "", nil, err
		}
		done += size
	}
	if f.n > 1000 {
		fmt.Printf("made %d keys in %s\n", f.n, time.Since(begin).Round(time.Millisecond))
	}
	return path, keys, nil
}

func dataKey(ctx context.Context, store *sqlstore.Store) (*keystore.Crypto, error) {
	master, err := sealed.ParseKey(masterKey)
	if err != nil {
		return nil, err
	}
	key, err := sealed.LoadDataKey(ctx, store, sealed.Ring{Primary: master})
	if err != nil {
		return nil, err
	}
	store.SetAuditKey(key)
	return keystore.NewCrypto(key), nil
}

func newRecord(i int, f *keyFile, crypto *keystore.Crypto, shared []byte) (string, *keystore.Record, error) {
	format := keystore.DefaultFormat()
	key, id := format.Generate()
	owner := i
	if f.owners > 0 {
		owner = i % f.owners
	}
	secret := keystore.Secret{Hash: hashOfNothing(shared, id), Digest: crypto.StoredDigest(key)}
	if !f.digest {
		hash, err := bcrypt.GenerateFromPassword([]byte(key), f.cost)
		if err != nil {
			return "", nil, fmt.Errorf("hash: %w", err)
		}
		secret.Hash = hash
	}
	return key, &keystore.Record{
		ID: id, Name: "load", Prefix: format.Display(id), Owner: fmt.Sprintf("owner-%07d", owner),
		Scopes: []string{"farms:read", "workers:read"}, Plan: "operator", CreatedAt: time.Now(),
		Secrets: []keystore.Secret{secret},
	}, nil
}

// hashOfNothing is a bcrypt hash of the usual form that no other record has.
func hashOfNothing(like []byte, id keystore.ID) []byte {
	hash := bytes.Clone(like)
	copy(hash[len(hash)-len(id)-1:], id[:])
	return hash
}

// eachOf calls fn for 0 to n-1 on all processors.
func eachOf(ctx context.Context, n int, fn func(i int) error) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += workers {
				if err := fn(i); err != nil {
					mu.Lock()
					first = errors.Join(first, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(first, ctx.Err())
}

// unknownKey is a well-formed key that nobody has.
func unknownKey() string {
	key, _ := keystore.DefaultFormat().Generate()
	return key
}

// malformedKey has a prefix and the length of a key, and no checksum that fits.
func malformedKey() string {
	n, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return fmt.Sprintf("%s%048d", keystore.DefaultPrefix, n)
}

// wrongOf is a well-formed key with a known id and another secret.
func wrongOf(key string) string {
	id, _ := keystore.Parse([]keystore.Format{keystore.DefaultFormat()}, key)
	return keystore.DefaultFormat().Regenerate(id)
}
