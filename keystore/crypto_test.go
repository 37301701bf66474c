package keystore

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestStoredDigestIsHMACSHA256(t *testing.T) {
	// RFC 4231, sections 4.2, 4.3 and 4.7.
	for _, c := range []struct{ key, data, want string }{
		{strings.Repeat("\x0b", 20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{strings.Repeat("\xaa", 131), "Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
	} {
		if got := hex.EncodeToString(NewCrypto([]byte(c.key)).StoredDigest(c.data)); got != c.want {
			t.Errorf("%q: %s, want %s", c.data, got, c.want)
		}
	}
	for range 500 {
		key, data := make([]byte, 1+rand.IntN(100)), make([]byte, rand.IntN(100))
		for i := range key {
			key[i] = byte(rand.Uint32())
		}
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		m := hmac.New(sha256.New, key)
		m.Write(data)
		if !bytes.Equal(NewCrypto(key).StoredDigest(string(data)), m.Sum(nil)) {
			t.Fatalf("key %x data %x differ from crypto/hmac", key, data)
		}
	}
}

func TestWithoutADataKeyNothingButBcryptIsStored(t *testing.T) {
	for _, c := range []*Crypto{nil, {}, NewCrypto(nil), NewCrypto([]byte{})} {
		if c.HasDataKey() || c.StoredDigest("x") != nil || c.DataKey() != nil {
			t.Error("there is a digest without a data key")
		}
	}
}

func TestTheDataKeyIsCopiedInAndOut(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	c := NewCrypto(key)
	before := c.StoredDigest("x")
	key[0] = 'X'
	c.DataKey()[0] = 'X'
	if !bytes.Equal(c.StoredDigest("x"), before) || c.DataKey()[0] != '0' {
		t.Error("somebody else's slice changes the data key")
	}
}

func TestPresentableTakesVisibleASCIIUpTo72Bytes(t *testing.T) {
	for s, want := range map[string]bool{
		"":                      false,
		"a":                     true,
		"!~":                    true,
		"a b":                   false,
		"a\x00":                 false,
		"a\x7f":                 false,
		"é":                     false,
		"\xff":                  false,
		strings.Repeat("x", 72): true,
		strings.Repeat("x", 73): false,
	} {
		if presentable(s) != want {
			t.Errorf("presentable(%q) is %v", s, !want)
		}
	}
}

func TestDigestsAllocateNothing(t *testing.T) {
	key, _ := DefaultFormat().Generate()
	c := NewCrypto([]byte("0123456789abcdef0123456789abcdef"))
	var k processKey
	if n := testing.AllocsPerRun(100, func() { _ = k.of(key); _ = c.digest(key) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDigestsAreEqualOnlyInEveryBit(t *testing.T) {
	var k processKey
	d := k.of("x")
	if e := d; !d.equal(&e) {
		t.Error("a digest differs from itself")
	}
	for i := range len(d) * 8 {
		e := d
		e[i/8] ^= 1 << (i % 8)
		if d.equal(&e) || e.equal(&d) {
			t.Errorf("bit %d does not count", i)
		}
	}
}
