package sealed

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

func newKey() (k [32]byte) {
	rand.Read(k[:])
	return k
}

func TestTheCipherIsXChaCha20Poly1305(t *testing.T) {
	// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	aead, err := chacha20poly1305.NewX(unhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"))
	if err != nil {
		t.Fatal(err)
	}
	plain := "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
	got := aead.Seal(nil, unhex("404142434445464748494a4b4c4d4e4f5051525354555657"), []byte(plain), unhex("50515253c0c1c2c3c4c5c6c7"))
	if tag := hex.EncodeToString(got[len(plain):]); tag != "c0875924c1c7987947deafd8780acf49" {
		t.Errorf("tag %s", tag)
	}
}

func TestWhatIsSealedOpensUnderItsKeyAndIdentityOnly(t *testing.T) {
	r := Ring{Primary: newKey()}
	for _, secret := range []string{"", "x", strings.Repeat("long", 1000)} {
		box, err := r.Seal([]byte(secret), []byte("totp owner:acme"))
		if err != nil {
			t.Fatal(err)
		}
		if len(secret) > 3 && bytes.Contains(box, []byte(secret)) {
			t.Error("the secret shows")
		}
		got, err := r.Open(box, []byte("totp owner:acme"))
		if err != nil || string(got) != secret {
			t.Errorf("%q %v", got, err)
		}
		if _, err := r.Open(box, []byte("totp owner:other")); !errors.Is(err, ErrDamaged) {
			t.Errorf("copied to another record: %v", err)
		}
		if _, err := (Ring{Primary: newKey()}).Open(box, []byte("totp owner:acme")); !errors.Is(err, ErrOtherKey) {
			t.Errorf("another master key: %v", err)
		}
	}
}

func TestAnyChangedCharacterKeepsASealedSecretShut(t *testing.T) {
	r := Ring{Primary: newKey()}
	box, err := r.Seal([]byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range box {
		for _, c := range []byte{'A', 'z', '_', '\n', '=', 0} {
			if box[i] == c {
				continue
			}
			bad := bytes.Clone(box)
			bad[i] = c
			if _, err := r.Open(bad, nil); err == nil {
				t.Errorf("opens with %q at %d", c, i)
			}
		}
	}
	for _, bad := range [][]byte{nil, box[:len(box)-1], append(bytes.Clone(box), 'A'), append(bytes.Clone(box), '\n'), []byte(version), box[1:]} {
		if _, err := r.Open(bad, nil); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrOtherKey) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestTwoSealsOfOneSecretDiffer(t *testing.T) {
	r := Ring{Primary: newKey()}
	a, _ := r.Seal([]byte("secret"), nil)
	b, _ := r.Seal([]byte("secret"), nil)
	if bytes.Equal(a, b) {
		t.Error("a nonce was used twice")
	}
}

func TestOldKeysOpenAndTheNewOneSeals(t *testing.T) {
	old, fresh := newKey(), newKey()
	box, err := Ring{Primary: old}.Seal([]byte("secret"), []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	r := Ring{Primary: fresh, Old: [][32]byte{newKey(), old}}
	if got, err := r.Open(box, []byte("ad")); err != nil || string(got) != "secret" {
		t.Fatalf("%q %v", got, err)
	}
	if r.Current(box) {
		t.Error("what is under the old key counts as current")
	}
	again, changed, err := r.Reseal(box, []byte("ad"))
	if err != nil || !changed || !r.Current(again) {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if got, err := (Ring{Primary: fresh}).Open(again, []byte("ad")); err != nil || string(got) != "secret" {
		t.Errorf("without the old key: %q %v", got, err)
	}
	if same, changed, err := r.Reseal(again, []byte("ad")); err != nil || changed || !bytes.Equal(same, again) {
		t.Errorf("resealed what was current: %v %v", changed, err)
	}
	if _, _, err := r.Reseal(again, []byte("elsewhere")); err == nil {
		t.Error("resealed what does not open")
	}
}

func TestAnotherKeyOpensNothingAndTheBoundHolds(t *testing.T) {
	var other Ring
	box, _ := Ring{Primary: newKey()}.Seal([]byte("x"), nil)
	if _, err := other.Open(box, nil); err == nil {
		t.Error("opened")
	}
	if _, err := (Ring{Primary: newKey()}).Seal(make([]byte, MaxSecret+1), nil); err == nil {
		t.Error("sealed more than the bound")
	}
}

func TestParseKeyTakesBase64AndHex(t *testing.T) {
	want := newKey()
	want[0], want[1], want[2] = 0xfb, 0xff, 0xfe // both alphabets differ here
	for _, s := range []string{
		hex.EncodeToString(want[:]),
		strings.ToUpper(hex.EncodeToString(want[:])),
		base64.StdEncoding.EncodeToString(want[:]),
		base64.RawStdEncoding.EncodeToString(want[:]),
		base64.URLEncoding.EncodeToString(want[:]),
		" " + base64.RawURLEncoding.EncodeToString(want[:]) + "\r\n",
	} {
		if got, err := ParseKey(s); err != nil || got != want {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestParseKeyRefusesAnythingElseWithoutShowingIt(t *testing.T) {
	key := newKey()
	std := base64.StdEncoding.EncodeToString(key[:])
	for _, s := range []string{"", "short", std[:43] + "==", std[:20] + "\n" + std[20:], std[:42], std + std, strings.Repeat("z", 64), hex.EncodeToString(key[:31]),
		hex.EncodeToString(key[:]) + "00", base64.StdEncoding.EncodeToString(key[:31]), "{env.KEY}"} {
		got, err := ParseKey(s)
		if err == nil || got != ([32]byte{}) {
			t.Errorf("%q passes", s)
			continue
		}
		if len(s) > 6 && strings.Contains(err.Error(), s[:6]) {
			t.Errorf("the error shows the key: %v", err)
		}
		if !strings.Contains(err.Error(), "openssl rand") {
			t.Errorf("the error does not say what to do: %v", err)
		}
	}
}

func TestAKeyFileIsMadeOnceReadableByItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := LoadKeyFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a file that is not there: %v", err)
	}
	key, err := CreateKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := LoadKeyFile(path); err != nil || got != key || Weak(&key) {
		t.Fatalf("another key: %v", err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	before, _ := os.ReadFile(path)
	if got, err := CreateKeyFile(path); !errors.Is(err, fs.ErrExist) || got != ([32]byte{}) {
		t.Errorf("made again: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("an existing key was changed")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := CreateKeyFile(filepath.Join(t.TempDir(), "no", "such", "dir")); err == nil {
		t.Error("made in a directory that is not there")
	}
}

func TestOfManyThatMakeAKeyFileAtOnceOneWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	var mu sync.Mutex
	made := map[[32]byte]bool{}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			key, err := CreateKeyFile(path)
			if errors.Is(err, fs.ErrExist) {
				key, err = LoadKeyFile(path) // complete, however early
			}
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			made[key] = true
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(made) != 1 {
		t.Errorf("%d different keys", len(made))
	}
}

func TestAnExclusiveKeyFileIsMadeWhereLinksAreNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	key := newKey()
	if err := writeExclusive(path, &key); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadKeyFile(path); err != nil || got != key {
		t.Error(err)
	}
	if err := writeExclusive(path, &key); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwritten: %v", err)
	}
}

func TestAKeyFileThatOthersMayUseIsRefusedWithTheCureForIt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("Windows keeps no such bits")
		return
	}
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660, 0o601, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeyFile(path); err != nil {
		t.Errorf("mode 400: %v", err)
	}
}

func TestABrokenKeyFileIsRefusedWithoutShowingIt(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "", "blank": " \n", "long": strings.Repeat("x", maxKeyFile+1), "wrong": "hunter2-is-no-key", "two": strings.Repeat("A1b2", 10) + "A1b=\nmore"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKeyFile(path); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := LoadKeyFile(dir); err == nil {
		t.Error("a directory passes for a key file")
	}
}

// memStore keeps a data key.
type memStore struct {
	mu        sync.Mutex
	key       []byte
	err       error
	beforePut func(*memStore)
}

func (s *memStore) DataKey(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.key), s.err
}

func (s *memStore) PutDataKey(_ context.Context, old, sealed []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beforePut != nil {
		s.beforePut(s)
	}
	if s.err != nil {
		return nil, s.err
	}
	if bytes.Equal(s.key, old) {
		s.key = bytes.Clone(sealed)
	}
	return bytes.Clone(s.key), nil
}

func TestAllWhoLoadTheDataKeyAtOnceGetTheSame(t *testing.T) {
	ctx, store, r := context.Background(), &memStore{}, Ring{Primary: newKey()}
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			key, err := LoadDataKey(ctx, store, r)
			if err != nil || len(key) != 32 {
				t.Errorf("%d bytes, %v", len(key), err)
			}
			mu.Lock()
			seen[string(key)] = true
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(seen) != 1 {
		t.Errorf("%d different data keys", len(seen))
	}
	for key := range seen {
		if bytes.Contains(store.key, []byte(key)) {
			t.Error("the store holds the data key in clear")
		}
	}
}

func TestALostMasterKeyIsAClearErrorAndNeverReplacesTheDataKey(t *testing.T) {
	ctx, store := context.Background(), &memStore{}
	if _, err := LoadDataKey(ctx, store, Ring{Primary: newKey()}); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(store.key)
	_, err := LoadDataKey(ctx, store, Ring{Primary: newKey(), Old: [][32]byte{newKey()}})
	if !errors.Is(err, ErrOtherKey) || !strings.Contains(err.Error(), "master_key") {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(before, store.key) {
		t.Error("the data key was replaced")
	}
	store.key[len(store.key)-2] ^= 1
	if _, err := LoadDataKey(ctx, store, Ring{Primary: newKey()}); err == nil {
		t.Error("a damaged data key opens")
	}
}

func TestErrorsOfTheStoreArePassedOn(t *testing.T) {
	away := errors.New("away")
	store := &memStore{err: away}
	if _, err := LoadDataKey(context.Background(), store, Ring{Primary: newKey()}); !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
	if _, err := ResealDataKey(context.Background(), store, Ring{Primary: newKey()}); !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
}

func TestResealingKeepsTheDataKeyAndLetsTheOldMasterKeyGo(t *testing.T) {
	ctx, store := context.Background(), &memStore{}
	old, fresh := newKey(), newKey()
	if changed, err := ResealDataKey(ctx, store, Ring{Primary: fresh}); changed || err != nil {
		t.Errorf("an empty store: %v %v", changed, err)
	}
	want, err := LoadDataKey(ctx, store, Ring{Primary: old})
	if err != nil {
		t.Fatal(err)
	}
	both := Ring{Primary: fresh, Old: [][32]byte{old}}
	if got, err := LoadDataKey(ctx, store, both); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("with both keys: %v", err)
	}
	if changed, err := ResealDataKey(ctx, store, both); !changed || err != nil {
		t.Fatalf("%v %v", changed, err)
	}
	if changed, err := ResealDataKey(ctx, store, both); changed || err != nil {
		t.Errorf("a second time: %v %v", changed, err)
	}
	if got, err := LoadDataKey(ctx, store, Ring{Primary: fresh}); err != nil || !bytes.Equal(got, want) {
		t.Errorf("without the old key: %v", err)
	}
	if _, err := ResealDataKey(ctx, store, Ring{Primary: old}); !errors.Is(err, ErrOtherKey) {
		t.Errorf("under the old key alone: %v", err)
	}
	store.beforePut = func(s *memStore) { s.key = append(s.key, 'x') }
	if changed, err := ResealDataKey(ctx, store, Ring{Primary: old, Old: [][32]byte{fresh}}); changed || err == nil {
		t.Error("somebody else's change was reported as done")
	}
}

func TestOnlyWholeDataKeysAreSealed(t *testing.T) {
	r := Ring{Primary: newKey()}
	if _, err := SealDataKey(r, []byte("short")); err == nil {
		t.Error("sealed")
	}
	box, err := r.Seal([]byte("short"), dataKeyAD)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDataKey(r, box); err == nil {
		t.Error("opened")
	}
	if bytes.Equal(NewDataKey(), NewDataKey()) {
		t.Error("two data keys are the same")
	}
}

// sealedBefore is "secret", bound to "ad", under the key 1, 2, 3, 0, …: what an
// earlier version sealed must open for ever.
const sealedBefore = "hgs1.mSj9itIMiFDj5Zu769ThUX-Rh1M2x0cNl7q1Ib9LxsRNCn0T_4ILqUOktM25jEhK8MA"

func TestWhatAnEarlierVersionSealedOpens(t *testing.T) {
	r := Ring{Primary: [32]byte{1, 2, 3}}
	if got, err := r.Open([]byte(sealedBefore), []byte("ad")); err != nil || string(got) != "secret" {
		t.Errorf("%q %v", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	r := Ring{Primary: [32]byte{1, 2, 3}}
	f.Add([]byte(sealedBefore))
	f.Add([]byte(version))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := r.Open(b, []byte("ad")); err == nil && string(b) != sealedBefore {
			t.Fatalf("%q opens as %q", b, got)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	f.Add(strings.Repeat("0f", 32))
	f.Fuzz(func(t *testing.T, s string) {
		key, err := ParseKey(s)
		if err != nil {
			if key != ([32]byte{}) {
				t.Fatal("a key beside an error")
			}
			return
		}
		for _, text := range []string{hex.EncodeToString(key[:]), base64.StdEncoding.EncodeToString(key[:])} {
			if again, err := ParseKey(text); err != nil || again != key {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}

func TestAPlaceholderKeyWorksAndIsKnownAsWeak(t *testing.T) {
	for _, text := range []string{strings.Repeat("0", 64), base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))} {
		key, err := ParseKey(text)
		if err != nil || !Weak(&key) {
			t.Errorf("%q: %v, weak %v", text, err, Weak(&key))
		}
		r := Ring{Primary: key}
		box, err := r.Seal([]byte("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Open(box, nil); err != nil || string(got) != "x" {
			t.Errorf("Open = %q, %v", got, err)
		}
	}
	if key := newKey(); Weak(&key) {
		t.Error("a random key is weak")
	}
}
