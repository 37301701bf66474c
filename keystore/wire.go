package keystore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// The parts of a key's body, in characters.
const (
	idLen       = 12
	checksumLen = 6
	overhead    = idLen + checksumLen

	// DefaultPrefix and DefaultLength make the keys of a configuration that
	// says nothing: hive_sk_ and 48 characters, 178 bits of them secret.
	DefaultPrefix = "hive_sk_"
	DefaultLength = 48

	// MinLength leaves a secret of 22 characters, 131 bits.
	MinLength = 40
	// MaxKeyLen is what bcrypt reads: whatever follows byte 72 would not count.
	MaxKeyLen = 72
)

// alphabet is base62; the position of a character is its value as a digit of
// the checksum, the most significant digit first.
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// isBase62 answers for every byte whether it stands in alphabet.
var isBase62 = func() (t [256]bool) {
	for i := range len(alphabet) {
		t[alphabet[i]] = true
	}
	return t
}()

// Format is the shape of native keys: Prefix, then Length characters of base62:
// 12 public id, Length−18 secret, 6 checksum. The checksum is the CRC-32 (IEEE)
// of all that precedes it, prefix included, as base62 digits. Make one with
// [NewFormat]; the zero Format fits no key.
type Format struct {
	Prefix string
	Length int
}

// NewFormat returns the format of keys that begin with prefix (characters
// A-Z a-z 0-9 _ . -, at most one dot) and go on with length characters, 40 to
// 72 − len(prefix).
func NewFormat(prefix string, length int) (Format, error) {
	if prefix == "" {
		return Format{}, errors.New("the key prefix is empty: give one that tells your keys from other text, such as hive_sk_")
	}
	for _, c := range prefix {
		if c >= utf8.RuneSelf || !isBase62[c] && c != '_' && c != '.' && c != '-' {
			return Format{}, fmt.Errorf("the key prefix %q holds %q: use only the characters A-Z a-z 0-9 _ . -", prefix, c)
		}
	}
	if strings.Count(prefix, ".") > 1 {
		return Format{}, fmt.Errorf("the key prefix %q holds more than one dot, by which its keys would pass for JWTs: leave the dots out", prefix)
	}
	if most := MaxKeyLen - len(prefix); length < MinLength || length > most {
		if most < MinLength {
			return Format{}, fmt.Errorf("the key prefix %q is too long: at most %d characters, so that %d remain", prefix, MaxKeyLen-MinLength, MinLength)
		}
		return Format{}, fmt.Errorf("the key length %d after prefix %q is out of bounds: give %d to %d", length, prefix, MinLength, most)
	}
	return Format{Prefix: prefix, Length: length}, nil
}

// DefaultFormat is hive_sk_ and 48 characters.
func DefaultFormat() Format { return Format{Prefix: DefaultPrefix, Length: DefaultLength} }

// Generate makes a new key and its id from the system's randomness.
func (f Format) Generate() (key string, id ID) {
	id = NewID()
	return f.Regenerate(id), id
}

// Regenerate makes another key for the same id: the new secret of a rotation.
func (f Format) Regenerate(id ID) string {
	n := len(f.Prefix) + f.Length
	b := make([]byte, 0, n)
	b = append(b, f.Prefix...)
	b = append(b, id[:]...)
	b = b[:n-checksumLen]
	randomBase62(b[len(f.Prefix)+idLen:])
	sum := checksum(crc32.ChecksumIEEE(b))
	return string(append(b, sum[:]...))
}

// Display returns what may be shown of a key of this format: the prefix and the
// first four characters of the id.
func (f Format) Display(id ID) string { return f.Prefix + string(id[:4]) }

// shaped reports whether s has the format's length and prefix.
func (f *Format) shaped(s string) bool {
	return f.Length >= MinLength && len(s) == len(f.Prefix)+f.Length && len(s) <= MaxKeyLen && strings.HasPrefix(s, f.Prefix)
}

// idIn returns what stands in the place of the id of an s that is shaped.
func (f *Format) idIn(s string) (id ID) {
	copy(id[:], s[len(f.Prefix):])
	return id
}

// fits reports whether s is a key of this format, checksum included.
func (f *Format) fits(s string) bool {
	if !f.shaped(s) {
		return false
	}
	for i := len(f.Prefix); i < len(s); i++ {
		if !isBase62[s[i]] {
			return false
		}
	}
	at := len(s) - checksumLen
	// The bytes are only read: the conversion would allocate, because crc32
	// calls through a function value.
	sum := checksum(crc32.ChecksumIEEE(unsafe.Slice(unsafe.StringData(s), at))) //nolint:gosec // at is within s
	// A checksum is no secret: it catches typing errors and random floods.
	return string(sum[:]) == s[at:]
}

// Parse returns the id of a credential in native form. native is false unless
// prefix, length, alphabet and checksum fit one of formats. It allocates
// nothing and says nothing about whether such a key exists.
func Parse(formats []Format, credential string) (id ID, native bool) {
	for i := range formats {
		if formats[i].fits(credential) {
			return formats[i].idIn(credential), true
		}
	}
	return ID{}, false
}

// HasPrefix reports whether credential begins like a key of one of formats.
func HasPrefix(formats []Format, credential string) bool {
	for i := range formats {
		if p := formats[i].Prefix; p != "" && strings.HasPrefix(credential, p) {
			return true
		}
	}
	return false
}

// idText precedes an id where users see it.
const idText = "key_"

// NewID makes a random id.
func NewID() (id ID) {
	randomBase62(id[:])
	return id
}

// ParseID reads an id as users see it: key_ and 12 characters.
func ParseID(s string) (ID, error) {
	if len(s) != len(idText)+idLen || !strings.HasPrefix(s, idText) {
		return ID{}, errors.New(`not a key id: it must be "key_" and 12 characters of A-Z a-z 0-9`)
	}
	for i := len(idText); i < len(s); i++ {
		if !isBase62[s[i]] {
			return ID{}, errors.New(`not a key id: after "key_" only the characters A-Z a-z 0-9 may stand`)
		}
	}
	return ID([]byte(s[len(idText):])), nil
}

// String returns the id as users see it.
func (id ID) String() string { return idText + string(id[:]) }

// IsZero reports whether id is no id at all.
func (id ID) IsZero() bool { return id == ID{} }

// checksum writes a CRC-32 as six base62 digits (62⁶ > 2³²).
func checksum(crc uint32) (out [checksumLen]byte) {
	for i := checksumLen - 1; i >= 0; i-- {
		out[i] = alphabet[crc%62]
		crc /= 62
	}
	return out
}

// randomBase62 fills b with uniform characters: bytes of 248 (4 × 62) and above
// are thrown away, since the remainder would favour the first eight. crypto/rand
// never fails short of ending the program.
func randomBase62(b []byte) {
	var buf [64]byte
	for n := 0; n < len(b); {
		rand.Read(buf[:])
		for _, c := range buf {
			if c < 248 && n < len(b) {
				b[n] = alphabet[c%62]
				n++
			}
		}
	}
	clear(buf[:])
}
