package caddymodule

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hivegate/hivegate/internal/keycli"
	"github.com/hivegate/hivegate/internal/sealed"
	"github.com/hivegate/hivegate/internal/signature"
	"github.com/hivegate/hivegate/internal/totp"
	"github.com/hivegate/hivegate/keystore"
)

// Kinds of documents in the keystore.
const (
	docTOTP    = "totp"
	docSigning = "signing"
)

// vault is what needs a master key: second factors and signing secrets.
type vault struct {
	factors *totp.Factors
	signing *signingSecrets
}

// newVault returns nil where the store keeps no documents or there is no master
// key.
func newVault(store keystore.Store, ring *sealed.Ring, dataKey []byte) (*vault, error) {
	docs, ok := store.(keystore.DocStore)
	if !ok || ring == nil {
		return nil, nil
	}
	factors, err := totp.New(factorStore{docs}, ring, dataKey)
	if err != nil {
		return nil, err
	}
	return &vault{factors: factors, signing: &signingSecrets{docs: docs, ring: ring}}, nil
}

// factorStore keeps second factors as documents.
type factorStore struct{ docs keystore.DocStore }

// Load implements totp.Store.
func (s factorStore) Load(ctx context.Context, subject string) (*totp.State, error) {
	doc, err := s.docs.LoadDoc(ctx, docTOTP, subject)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, totp.ErrNotEnrolled
	}
	if err != nil {
		return nil, err
	}
	state := new(totp.State)
	if err := json.Unmarshal(doc.Data, state); err != nil {
		return nil, fmt.Errorf("read second factor: %w", err)
	}
	// The version that is compared is the store's own.
	state.Version = doc.Version
	return state, nil
}

// Swap implements totp.Store.
func (s factorStore) Swap(ctx context.Context, subject, old string, next *totp.State) (bool, error) {
	if next == nil {
		return s.docs.SwapDoc(ctx, docTOTP, subject, old, nil)
	}
	data, err := json.Marshal(next)
	if err != nil {
		return false, fmt.Errorf("write second factor: %w", err)
	}
	return s.docs.SwapDoc(ctx, docTOTP, subject, old, &keystore.Doc{Version: next.Version, Data: data})
}

// Subjects implements totp.Store.
func (s factorStore) Subjects(ctx context.Context, after string, limit int) ([]string, error) {
	return s.docs.DocNames(ctx, docTOTP, after, limit)
}

// signingSecrets keeps the signing secrets of keys and subjects, sealed. The
// name of a document is `key:<id>` or a subject; the same text is the
// additional data, so that a secret copied to another name does not open.
type signingSecrets struct {
	docs keystore.DocStore
	ring *sealed.Ring
}

// signingDoc is what is kept of a signing secret.
type signingDoc struct {
	Sealed    []byte    `json:"sealed"`
	CreatedAt time.Time `json:"created_at"`
}

func signingFor(name string) []byte { return []byte("signing\x00" + name) }

// Secret returns the signing secret of a name, or keystore.ErrNotFound.
func (s *signingSecrets) Secret(ctx context.Context, name string) (string, error) {
	doc, err := s.docs.LoadDoc(ctx, docSigning, name)
	if err != nil {
		return "", err
	}
	kept := new(signingDoc)
	if err := json.Unmarshal(doc.Data, kept); err != nil {
		return "", fmt.Errorf("read signing secret: %w", err)
	}
	plain, err := s.ring.Open(kept.Sealed, signingFor(name))
	if err != nil {
		return "", fmt.Errorf("open signing secret: %w", err)
	}
	return string(plain), nil
}

// Rotate makes a new secret for a name; the old one is gone at once.
func (s *signingSecrets) Rotate(ctx context.Context, name string, now time.Time) (string, error) {
	secret := signature.NewSecret()
	sealedSecret, err := s.ring.Seal([]byte(secret), signingFor(name))
	if err != nil {
		return "", fmt.Errorf("seal signing secret: %w", err)
	}
	data, err := json.Marshal(signingDoc{Sealed: sealedSecret, CreatedAt: now.UTC().Truncate(time.Second)})
	if err != nil {
		return "", err
	}
	return secret, s.put(ctx, name, data)
}

// put stores a document whatever was there before.
func (s *signingSecrets) put(ctx context.Context, name string, data []byte) error {
	for range 16 { // others rotate the same secret at the same time: a few at most
		doc, err := s.docs.LoadDoc(ctx, docSigning, name)
		if err != nil && !errors.Is(err, keystore.ErrNotFound) {
			return err
		}
		done, err := s.docs.SwapDoc(ctx, docSigning, name, doc.Version, &keystore.Doc{Version: rand.Text(), Data: data})
		if err != nil || done {
			return err
		}
	}
	return fmt.Errorf("store signing secret of %s: it is being changed by others", name)
}

// resealAll seals all signing secrets under the current master key.
func (s *signingSecrets) resealAll(ctx context.Context) (changed int, _ error) {
	const page = 100
	var failed []error
	for after := ""; ; {
		names, err := s.docs.DocNames(ctx, docSigning, after, page)
		if err != nil {
			return changed, errors.Join(append(failed, err)...)
		}
		if len(names) == 0 {
			return changed, errors.Join(failed...)
		}
		for _, name := range names {
			did, err := s.reseal(ctx, name)
			// One that was removed meanwhile needs nothing.
			if err != nil && !errors.Is(err, keystore.ErrNotFound) {
				failed = append(failed, fmt.Errorf("reseal signing secret of %s: %w", name, err))
			}
			if did {
				changed++
			}
		}
		after = names[len(names)-1]
	}
}

func (s *signingSecrets) reseal(ctx context.Context, name string) (bool, error) {
	doc, err := s.docs.LoadDoc(ctx, docSigning, name)
	if err != nil {
		return false, err
	}
	kept := new(signingDoc)
	if err := json.Unmarshal(doc.Data, kept); err != nil {
		return false, err
	}
	fresh, changed, err := s.ring.Reseal(kept.Sealed, signingFor(name))
	if err != nil || !changed {
		return false, err
	}
	kept.Sealed = fresh
	data, err := json.Marshal(kept)
	if err != nil {
		return false, err
	}
	// One that was rotated meanwhile is sealed under the current key already.
	return s.docs.SwapDoc(ctx, docSigning, name, doc.Version, &keystore.Doc{Version: rand.Text(), Data: data})
}

// reseal seals the data key and all secrets under the current master key. The
// data key comes last: until then everything opens with the old one.
func (v *vault) reseal(ctx context.Context, store keystore.Store) (done keycli.Resealed, err error) {
	var factors, signing error
	done.Factors, factors = v.factors.ResealAll(ctx)
	done.Signing, signing = v.signing.resealAll(ctx)
	if err := errors.Join(factors, signing); err != nil {
		return done, err
	}
	done.DataKey, err = sealed.ResealDataKey(ctx, store, *v.signing.ring)
	return done, err
}
