package keystore_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hivegate/hivegate/keystore"
)

// An imported key that is known to be random is hashed once in its life: its
// digest is stored after the first match, and decides from then on, in another
// process too. A chosen one is never digested.
func TestARandomImportedKeyGetsItsDigestAtItsFirstUse(t *testing.T) {
	b := newBench(t, []byte(strings.Repeat("k", 32)))
	const random, chosen = "sk_live_kQ7w9XzP4mR2", "password-of-somebody"
	line := func(key string) string {
		hash, err := bcrypt.GenerateFromPassword([]byte(key), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return `{"hash":"` + string(hash) + `","hint":"` + key[:10] + `","name":"x"}`
	}
	for key, opts := range map[string]keystore.ImportOptions{random: {Random: true}, chosen: {}} {
		if _, err := b.Import(t.Context(), byCommand, strings.NewReader(line(key)), opts); err != nil {
			t.Fatal(err)
		}
	}
	var hashes atomic.Int64
	process := func() *keystore.Verifier {
		v, err := keystore.NewVerifier(keystore.Options{Store: b.Store, Crypto: b.Crypto, Compare: func(hash, key []byte) error {
			hashes.Add(1)
			return bcrypt.CompareHashAndPassword(hash, key)
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return v
	}
	use := func(v *keystore.Verifier, key string) keystore.ID {
		t.Helper()
		r := v.Verify(context.Background(), time.Now(), b.Formats, key, nil)
		if r.Outcome != keystore.Valid {
			t.Fatalf("%s: %v", key, r.Outcome)
		}
		return r.ID
	}
	first := process()
	ids := []keystore.ID{use(first, random), use(first, chosen)}
	use(first, random)
	use(first, chosen)
	if err := first.Close(); err != nil { // stores what it has found out
		t.Fatal(err)
	}
	for i, want := range []int{32, 0} {
		rec, err := b.Store.Get(t.Context(), ids[i])
		if err != nil || len(rec.Secrets[0].Digest) != want {
			t.Errorf("a digest of %d bytes, want %d (%v)", len(rec.Secrets[0].Digest), want, err)
		}
	}
	if n := hashes.Load(); n != 2 {
		t.Errorf("%d hashes by the first process, want one for each key", n)
	}
	second := process()
	defer func() { _ = second.Close() }()
	use(second, random)
	if n := hashes.Load(); n != 2 {
		t.Errorf("the second process hashed a key whose digest is stored")
	}
	var actions []string
	trail := b.Store.(keystore.AuditTrail)
	if err := trail.Audit(t.Context(), time.Time{}, func(e keystore.AuditEntry) error { actions = append(actions, e.Action); return nil }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(actions, " "); got != "import import digest" {
		t.Errorf("trail: %s", got)
	}
}
