package jwtauth

import (
	"strings"
	"testing"
)

// TestADigestTellsCredentialsApart: any bit of a token changes its digest, and
// another set's digest of the same token is another one.
func TestADigestTellsCredentialsApart(t *testing.T) {
	for name, fast := range map[string]bool{"GMAC": true, "SHA-256": false} {
		t.Run(name, func(t *testing.T) {
			d, err := newDigester(fast)
			if err != nil {
				t.Fatal(err)
			}
			if (d.mac != nil) != fast {
				t.Fatal("the other digest is made")
			}
			other, err := newDigester(fast)
			if err != nil {
				t.Fatal(err)
			}
			token := strings.Repeat("eyJhbGciOiJIUzI1NiJ9.e30.", 40)
			seen := map[digest]string{other.of(token): "the other set's"}
			add := func(text, what string) {
				sum := d.of(text)
				if sum == (digest{}) || sum != d.of(text) {
					t.Errorf("%s: digest %x, and then %x", what, sum, d.of(text))
				}
				if was, twice := seen[sum]; twice {
					t.Errorf("%s has the digest of %s", what, was)
				}
				seen[sum] = what
			}
			for i := range len(token) {
				for bit := range 8 {
					b := []byte(token)
					b[i] ^= 1 << bit
					add(string(b), "a bit changed")
				}
			}
			for n := range len(token) {
				add(token[:n+1], "a part")
			}
			// A length that pads to the same blocks is another text.
			add(token+"\x00", "a zero more")
			add(strings.Repeat("x", maxToken), "the longest")
		})
	}
}

func TestADigestCostsNoAllocation(t *testing.T) {
	for _, fast := range []bool{true, false} {
		d, err := newDigester(fast)
		if err != nil {
			t.Fatal(err)
		}
		token := strings.Repeat("a", 808)
		// A collection may empty the pool now and then.
		if n := testing.AllocsPerRun(1000, func() { d.of(token) }); n >= 1 {
			t.Errorf("fast %v: %v allocations", fast, n)
		}
	}
}
