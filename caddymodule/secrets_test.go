package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/hotp"

	"github.com/hivegate/hivegate/internal/keycli"
	"github.com/hivegate/hivegate/internal/sealed"
	"github.com/hivegate/hivegate/internal/totp"
	"github.com/hivegate/hivegate/internal/totp/totptest"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// openSQLiteFile opens a database as a process of its own would.
func openSQLiteFile(t *testing.T, path string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestFactorStoreOnSQLite(t *testing.T) {
	totptest.Run(t, func(t *testing.T) totp.Store {
		return factorStore{openSQLiteFile(t, filepath.Join(t.TempDir(), "keys.db"))}
	})
}

func TestFactorStoreOnSQLiteSharedByTwoNodes(t *testing.T) {
	totptest.RunShared(t, func(t *testing.T) (a, b totp.Store) {
		path := filepath.Join(t.TempDir(), "keys.db")
		return factorStore{openSQLiteFile(t, path)}, factorStore{openSQLiteFile(t, path)}
	})
}

// masterKey is a master key for tests.
func masterKey(n byte) (key [32]byte) {
	for i := range key {
		key[i] = n + byte(i)
	}
	return key
}

// openVault opens the vault of a store as a process with these master keys.
func openVault(t *testing.T, store *sqlstore.Store, keys ...[32]byte) *vault {
	t.Helper()
	ring := &sealed.Ring{Primary: keys[0], Old: keys[1:]}
	dataKey, err := sealed.LoadDataKey(t.Context(), store, *ring)
	if err != nil {
		t.Fatal(err)
	}
	v, err := newVault(store, ring, dataKey)
	if err != nil || v == nil {
		t.Fatalf("newVault: %v, %v", v, err)
	}
	return v
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestWithoutAMasterKeyThereIsNoVault(t *testing.T) {
	v, err := newVault(openSQLiteFile(t, filepath.Join(t.TempDir(), "keys.db")), nil, nil)
	if v != nil || err != nil {
		t.Errorf("newVault: %v, %v", v, err)
	}
}

func TestASigningSecretIsGoodUntilItIsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	a, b := openVault(t, openSQLiteFile(t, path), masterKey(1)), openVault(t, openSQLiteFile(t, path), masterKey(1))
	if _, err := a.signing.Secret(t.Context(), "owner:acme"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a secret that was never made: %v", err)
	}
	seen := map[string]bool{}
	for i := range 3 {
		made, err := a.signing.Rotate(t.Context(), "owner:acme", noon)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.signing.Secret(t.Context(), "owner:acme")
		if err != nil || got != made || seen[got] {
			t.Errorf("round %d: the other node has another secret, or an old one: %v", i, err)
		}
		seen[made] = true
	}
	if _, err := b.signing.Secret(t.Context(), "owner:Acme"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("the secret of another owner: %v", err)
	}
}

// copyDoc puts the document of one name in the place of another's.
func copyDoc(t *testing.T, s *sqlstore.Store, kind, from, to string) {
	t.Helper()
	doc, err := s.LoadDoc(t.Context(), kind, from)
	if err != nil {
		t.Fatal(err)
	}
	old := ""
	if held, err := s.LoadDoc(t.Context(), kind, to); err == nil {
		old = held.Version
	}
	if done, err := s.SwapDoc(t.Context(), kind, to, old, &doc); err != nil || !done {
		t.Fatalf("SwapDoc: %v, %v", done, err)
	}
}

func TestASealedSecretThatIsCopiedToAnotherRecordDoesNotOpen(t *testing.T) {
	s := openSQLiteFile(t, filepath.Join(t.TempDir(), "keys.db"))
	v := openVault(t, s, masterKey(1))
	if _, err := v.signing.Rotate(t.Context(), "owner:mallory", noon); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"owner:acme", "key:key_AAAABBBBCCCC", "jwt:main:u"} {
		copyDoc(t, s, docSigning, "owner:mallory", to)
		if got, err := v.signing.Secret(t.Context(), to); err == nil || got != "" {
			t.Errorf("mallory's signing secret opens as that of %s", to)
		}
	}

	e := confirmed(t, v, "owner:mallory")
	copyDoc(t, s, docTOTP, "owner:mallory", "owner:acme")
	code, err := totpCode(e.Secret, noon.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := v.factors.Verify(t.Context(), noon.Add(time.Minute), "owner:acme", []string{code}); err == nil || out.Result == totp.OK {
		t.Errorf("mallory's code passes for acme: %+v, %v", out, err)
	}
	// Recovery codes are bound to their subject as well.
	if out, err := v.factors.Verify(t.Context(), noon.Add(time.Minute), "owner:acme", []string{e.RecoveryCodes[0]}); err != nil || out.Result == totp.OK {
		t.Errorf("mallory's recovery code passes for acme: %+v, %v", out, err)
	}
	// Nor does what one kind has sealed open as the other.
	if _, err := v.signing.ring.Open(sealedSecret(t, s, "owner:mallory"), signingFor("owner:mallory")); err == nil {
		t.Error("a sealed second factor opens as a signing secret")
	}
}

// sealedSecret is a subject's sealed secret as it is stored.
func sealedSecret(t *testing.T, s *sqlstore.Store, subject string) []byte {
	t.Helper()
	state, err := factorStore{s}.Load(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	return state.Sealed
}

// confirmed enrolls and confirms a factor at noon.
func confirmed(t *testing.T, v *vault, subject string) *totp.Enrolment {
	t.Helper()
	e, err := v.factors.Enroll(t.Context(), noon, subject)
	if err != nil {
		t.Fatal(err)
	}
	code, err := totpCode(e.Secret, noon)
	if err != nil {
		t.Fatal(err)
	}
	out, err := v.factors.Confirm(t.Context(), noon, subject, code)
	if err != nil || out.Result != totp.OK {
		t.Fatalf("Confirm: %+v, %v", out, err)
	}
	return e
}

func TestResealLetsTheOldMasterKeyGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	oldKey, newKey := masterKey(1), masterKey(100)
	s := openSQLiteFile(t, path)
	before := openVault(t, s, oldKey)
	factors := map[string]*totp.Enrolment{}
	secrets := map[string]string{}
	// More than a page of each.
	for i := range 120 {
		subject := "owner:" + strings.Repeat("x", i+1)
		if i < 3 {
			factors[subject] = confirmed(t, before, subject)
		} else if _, err := before.factors.Enroll(t.Context(), noon, subject); err != nil {
			t.Fatal(err)
		}
		secret, err := before.signing.Rotate(t.Context(), subject, noon)
		if err != nil {
			t.Fatal(err)
		}
		secrets[subject] = secret
	}
	both := openVault(t, openSQLiteFile(t, path), newKey, oldKey)
	done, err := both.reseal(t.Context(), s)
	if want := (keycli.Resealed{DataKey: true, Factors: 120, Signing: 120}); err != nil || done != want {
		t.Fatalf("reseal: %+v, %v, want %+v", done, err, want)
	}
	if done, err := both.reseal(t.Context(), s); err != nil || done != (keycli.Resealed{}) {
		t.Errorf("reseal again: %+v, %v", done, err)
	}
	after := openVault(t, openSQLiteFile(t, path), newKey)
	for subject, secret := range secrets {
		if got, err := after.signing.Secret(t.Context(), subject); err != nil || got != secret {
			t.Errorf("the signing secret of %s: %v", subject, err)
		}
	}
	for subject, e := range factors {
		code, err := totpCode(e.Secret, noon.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []string{code, e.RecoveryCodes[0]} {
			if out, err := after.factors.Verify(t.Context(), noon.Add(time.Minute), subject, []string{c}); err != nil || out.Result != totp.OK {
				t.Errorf("a code of %s: %+v, %v", subject, out, err)
			}
		}
	}
	held, err := s.DataKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealed.OpenDataKey(sealed.Ring{Primary: oldKey}, held); !errors.Is(err, sealed.ErrOtherKey) {
		t.Errorf("the old key opens the data key: %v", err)
	}
}

// A reseal that meets a record which does not open goes on with the others, says
// which it was, and leaves the data key under the old key: that stays needed.
func TestResealNamesWhatDoesNotOpenAndGoesOn(t *testing.T) {
	s := openSQLiteFile(t, filepath.Join(t.TempDir(), "keys.db"))
	oldKey, newKey := masterKey(1), masterKey(100)
	before := openVault(t, s, oldKey)
	for _, owner := range []string{"owner:a", "owner:b", "owner:c"} {
		if _, err := before.signing.Rotate(t.Context(), owner, noon); err != nil {
			t.Fatal(err)
		}
	}
	copyDoc(t, s, docSigning, "owner:a", "owner:b")
	confirmed(t, before, "owner:a")
	confirmed(t, before, "owner:c")
	copyDoc(t, s, docTOTP, "owner:a", "owner:b")
	both := openVault(t, s, newKey, oldKey)
	done, err := both.reseal(t.Context(), s)
	if err == nil || strings.Count(err.Error(), "owner:b") != 2 || done.Factors != 2 || done.Signing != 2 || done.DataKey {
		t.Errorf("reseal: %+v, %v", done, err)
	}
}

// What a rotation wrote while reseal was at work stays.
func TestResealDoesNotUndoARotation(t *testing.T) {
	s := openSQLiteFile(t, filepath.Join(t.TempDir(), "keys.db"))
	before := openVault(t, s, masterKey(1))
	if _, err := before.signing.Rotate(t.Context(), "owner:a", noon); err != nil {
		t.Fatal(err)
	}
	var fresh string
	both := openVault(t, s, masterKey(100), masterKey(1))
	racing := *both.signing
	racing.docs = beforeSwap{s, func() {
		var err error
		if fresh, err = both.signing.Rotate(t.Context(), "owner:a", noon); err != nil {
			t.Error(err)
		}
	}}
	if changed, err := racing.resealAll(t.Context()); err != nil || changed != 0 {
		t.Errorf("resealAll: %d, %v", changed, err)
	}
	if got, err := both.signing.Secret(t.Context(), "owner:a"); err != nil || got != fresh {
		t.Errorf("the rotated secret is gone: %v", err)
	}
}

// beforeSwap is a store in which somebody else is faster.
type beforeSwap struct {
	keystore.DocStore
	first func()
}

func (b beforeSwap) SwapDoc(ctx context.Context, kind, name, old string, next *keystore.Doc) (bool, error) {
	b.first()
	return b.DocStore.SwapDoc(ctx, kind, name, old, next)
}

func TestDocumentsHoldNoSecretInTheClear(t *testing.T) {
	s := openSQLiteFile(t, filepath.Join(t.TempDir(), "keys.db"))
	v := openVault(t, s, masterKey(1))
	e := confirmed(t, v, "owner:acme")
	secret, err := v.signing.Rotate(t.Context(), "owner:acme", noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{docTOTP, docSigning} {
		doc, err := s.LoadDoc(t.Context(), kind, "owner:acme")
		if err != nil {
			t.Fatal(err)
		}
		for _, plain := range append(slices.Clone(e.RecoveryCodes), e.Secret, secret) {
			if bytes.Contains(doc.Data, []byte(plain)) {
				t.Errorf("the %s document holds a secret", kind)
			}
		}
	}
}

// totpCode is the code of a secret at a time, as an authenticator app shows it.
func totpCode(secret string, at time.Time) (string, error) {
	return hotp.GenerateCode(secret, uint64(at.Unix()/30))
}
