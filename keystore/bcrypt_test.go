package keystore

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// sameAsLibrary tells whether compareBcrypt and x/crypto agree, and what they say.
func sameAsLibrary(t *testing.T, hash, password []byte) bool {
	t.Helper()
	before := bytes.Clone(password)
	got, want := compareBcrypt(hash, password), bcrypt.CompareHashAndPassword(hash, password)
	if (got == nil) != (want == nil) {
		t.Fatalf("%s, %d bytes of password: %v, the library says %v", hash, len(password), got, want)
	}
	if !bytes.Equal(before, password) {
		t.Fatal("the password was changed")
	}
	return got == nil
}

func TestCompareBcryptIsTheLibrarys(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 72 + 1 {
		password := make([]byte, n)
		for i := range password {
			password[i] = byte(1 + r.IntN(255))
		}
		hash, err := bcrypt.GenerateFromPassword(password, bcrypt.MinCost+n%2)
		if err != nil {
			t.Fatal(err)
		}
		for _, minor := range "aby" {
			hash[2] = byte(minor)
			if !sameAsLibrary(t, hash, password) {
				t.Fatalf("%s is refused for its own password of %d bytes", hash, n)
			}
		}
		for i := range password {
			wrong := bytes.Clone(password)
			wrong[i] ^= 1 << r.IntN(7)
			if i%9 == 0 && sameAsLibrary(t, hash, wrong) {
				t.Fatalf("a wrong password of %d bytes is taken", n)
			}
		}
		if n < 72 && sameAsLibrary(t, hash, append(bytes.Clone(password), 'x')) {
			t.Fatalf("a longer password than %d bytes is taken", n)
		}
	}
}

// Each character of salt and hash counts, and in the last ones only some bits: what
// the library makes of spellings that it would not write is done here as well.
func TestCompareBcryptReadsHashesAsTheLibraryDoes(t *testing.T) {
	password := []byte("hive_sk_something")
	hash, err := bcrypt.GenerateFromPassword(password, bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for i := 7; i < len(hash); i++ {
		for _, c := range []byte("./Aa9z") {
			other := bytes.Clone(hash)
			other[i] = c
			sameAsLibrary(t, other, password)
		}
	}
	for _, bad := range []string{"", "$2a$", strings.Repeat("$", 60), string(hash[:59]), string(hash) + "A",
		"$2x" + string(hash[3:]), "$3" + string(hash[2:]), "$2a$15" + string(hash[6:]), "$2a$99" + string(hash[6:]), "$2a$0x" + string(hash[6:])} {
		if compareBcrypt([]byte(bad), password) == nil {
			t.Errorf("%q is taken for a hash of anything", bad)
		}
	}
}

func BenchmarkCompareBcrypt(b *testing.B) {
	password := []byte("hive_sk_" + strings.Repeat("k", 48))
	hash, err := bcrypt.GenerateFromPassword(password, 10)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		compare func(hash, password []byte) error
	}{{"library", bcrypt.CompareHashAndPassword}, {"yielding", compareBcrypt}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if err := c.compare(hash, password); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
