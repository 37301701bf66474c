package keystore

import (
	"hash/crc32"
	"strings"
	"testing"
)

func TestNewFormatRefusesWhatNoKeyCouldCarryAndSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		prefix string
		length int
		says   string
	}{
		{"", 48, "is empty"},
		{"hive sk_", 48, "use only the characters"},
		{"hive,", 48, "use only the characters"},
		{`hive"`, 48, "use only the characters"},
		{"hive\x00", 48, "use only the characters"},
		{"hivé_", 48, "use only the characters"},
		{"a.b.", 48, "leave the dots out"},
		{"hive_sk_", 39, "give 40 to 64"},
		{"hive_sk_", 65, "give 40 to 64"},
		{"hive_sk_", -1, "give 40 to 64"},
		{strings.Repeat("x", 33), 40, "at most 32 characters"},
	} {
		if f, err := NewFormat(c.prefix, c.length); err == nil || !strings.Contains(err.Error(), c.says) || f != (Format{}) {
			t.Errorf("NewFormat(%q, %d): %v, want an error that says %q", c.prefix, c.length, err, c.says)
		}
	}
}

func TestEveryFormatGeneratesKeysThatItParses(t *testing.T) {
	for _, c := range []Format{{"hive_sk_", 48}, {"hc_", 48}, {"k", 40}, {"k", 71}, {"hive_sk_", 64}, {strings.Repeat("p", 32), 40}, {"a.b-", 41}} {
		f, err := NewFormat(c.Prefix, c.Length)
		if err != nil {
			t.Fatal(err)
		}
		key, id := f.Generate()
		if len(key) != len(c.Prefix)+c.Length || len(key) > 72 {
			t.Errorf("%q: %d characters", c.Prefix, len(key))
		}
		if got, ok := Parse([]Format{f}, key); !ok || got != id {
			t.Errorf("%q: Parse gave %v %v, want %v", c.Prefix, got, ok, id)
		}
		other := f.Regenerate(id)
		if got, ok := Parse([]Format{f}, other); !ok || got != id || other == key {
			t.Errorf("%q: a regenerated key gave %v %v", c.Prefix, got, ok)
		}
		if !strings.HasPrefix(key, f.Display(id)) || len(f.Display(id)) != len(c.Prefix)+4 {
			t.Errorf("Display is %q", f.Display(id))
		}
	}
}

func TestTheChecksumIsCRC32AsSixBase62Digits(t *testing.T) {
	// The check value of CRC-32 (IEEE 802.3): "123456789" gives cbf43926.
	if crc32.ChecksumIEEE([]byte("123456789")) != 0xcbf43926 {
		t.Fatal("not CRC-32 (IEEE)")
	}
	// 0xcbf43926 = 3·62⁵ + 45·62⁴ + 35·62³ + 27·62² + 22·62 + 14.
	for crc, want := range map[uint32]string{0: "000000", 61: "00000z", 62: "000010", 0xcbf43926: "3jZRME", 0xffffffff: "4gfFC3"} {
		if got := checksum(crc); string(got[:]) != want {
			t.Errorf("checksum(%#x) = %s, want %s", crc, got, want)
		}
	}
}

func TestAKeyWithAnyOneCharacterChangedIsNotNative(t *testing.T) {
	key, _ := DefaultFormat().Generate()
	for i := range len(key) {
		for _, c := range []byte{'0', 'z', 'A', ' ', 0, 0xff, '_'} {
			if key[i] == c {
				continue
			}
			bad := key[:i] + string([]byte{c}) + key[i+1:]
			if _, ok := Parse(testFormats, bad); ok {
				t.Errorf("%q at %d passes", c, i)
			}
		}
	}
	for _, bad := range []string{"", key[1:], key[:len(key)-1], key + "0", " " + key, key + "\n", strings.ToUpper(key), "hc_" + key[8:]} {
		if _, ok := Parse(testFormats, bad); ok {
			t.Errorf("%d characters pass", len(bad))
		}
	}
	if _, ok := Parse(nil, key); ok {
		t.Error("passes where no format is accepted")
	}
	if _, ok := Parse([]Format{{}}, ""); ok {
		t.Error("the zero Format fits the empty text")
	}
}

func TestHasPrefix(t *testing.T) {
	for s, want := range map[string]bool{"hive_sk_": true, "hive_sk_x": true, "hc_": true, "hive_sk": false, "": false, "Hive_sk_x": false, "x hive_sk_": false} {
		if HasPrefix(testFormats, s) != want {
			t.Errorf("HasPrefix(%q) is %v", s, !want)
		}
	}
	if HasPrefix([]Format{{}}, "x") {
		t.Error("an empty prefix counts")
	}
}

func TestIDsAreReadAsTheyAreShown(t *testing.T) {
	id := NewID()
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Fatalf("%v %v", got, err)
	}
	for _, bad := range []string{"", "key_", "key_0123456789", "key_0123456789ABC", "KEY_0123456789AB", "0123456789AB", "key_0123456789A/", "key_..%2f..%2f..", "key_0123456789A\x00"} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
	if id.IsZero() || !(ID{}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestRandomCharactersAreUniform(t *testing.T) {
	const n = 62 * 4000
	b := make([]byte, n)
	randomBase62(b)
	var seen [256]int
	for _, c := range b {
		seen[c]++
	}
	// Expected 4000 each, standard deviation 63. A modulo without rejection
	// would favour eight characters by a quarter.
	for i := range len(alphabet) {
		if c := alphabet[i]; seen[c] < 3500 || seen[c] > 4500 {
			t.Errorf("%c came %d times, want about 4000", c, seen[c])
		}
		seen[alphabet[i]] = 0
	}
	for c, k := range seen {
		if k != 0 {
			t.Errorf("%q is not base62", rune(c))
		}
	}
}

func TestParsingAllocatesNothing(t *testing.T) {
	key, _ := DefaultFormat().Generate()
	bad := key[:len(key)-1] + "!"
	for name, s := range map[string]string{"native": key, "malformed": bad, "foreign": "x"} {
		if n := testing.AllocsPerRun(100, func() { Parse(testFormats, s); HasPrefix(testFormats, s) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	key, _ := DefaultFormat().Generate()
	f.Add(key)
	f.Add("hc_" + key[8:])
	f.Add(key[:55])
	f.Add("")
	f.Add(strings.Repeat("\xff", 80))
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := Parse(testFormats, s)
		if !ok {
			if id != (ID{}) {
				t.Fatal("an id for what is no key")
			}
			return
		}
		if len(s) > MaxKeyLen || !presentable(s) || !HasPrefix(testFormats, s) || !strings.Contains(s, string(id[:])) {
			t.Fatalf("%q passes", s)
		}
		if got, err := ParseID(id.String()); err != nil || got != id {
			t.Fatalf("%q has an id that is none: %v", s, err)
		}
		sum := checksum(crc32.ChecksumIEEE([]byte(s[:len(s)-6])))
		if string(sum[:]) != s[len(s)-6:] {
			t.Fatalf("%q passes with another checksum", s)
		}
	})
}
