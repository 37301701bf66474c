package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// book holds every secret that the tests used.
var book = &secretBook{parts: map[string]string{}}

// secretBook finds secrets in text. It only grows; the tests of one run use a
// few thousand secrets at most.
type secretBook struct {
	mu    sync.RWMutex
	parts map[string]string // what to search for, and what it is
}

// add registers a secret: it must be in no output, and neither must its first
// and last halves.
func (b *secretBook) add(what, secret string) {
	if len(secret) < 16 {
		panic("too short to search for: " + what)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parts[secret] = what
	half := len(secret) / 2
	b.parts[secret[:half]] = "the first half of " + what
	b.parts[secret[half:]] = "the last half of " + what
}

// addKey registers an API key of the native shape. Its prefix and id may be
// shown, its secret part may not.
func (b *secretBook) addKey(what, key string) {
	b.mu.Lock()
	b.parts[key] = what
	b.mu.Unlock()
	// 36 from the end: 30 of the secret, 6 of the checksum.
	b.add("the secret part of "+what, key[len(key)-36:])
}

// shapes are texts that are secrets by their looks, whoever made them up.
var shapes = []struct {
	what string
	re   *regexp.Regexp
}{
	// The prefix, the id's 12 and one more: the id alone may be shown.
	{"something shaped like an API key", regexp.MustCompile(`(?:hive_sk_|hc_)[0-9A-Za-z]{13,}`)},
	{"something shaped like a bcrypt hash", regexp.MustCompile(`\$2[aby]\$[0-9]{2}\$[./0-9A-Za-z]{53}`)},
	{"something shaped like a JWT", regexp.MustCompile(`eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}\.`)},
}

// leaks lists the secrets that a text holds, with what surrounds them.
func (b *secretBook) leaks(text string) []string {
	var out []string
	b.mu.RLock()
	for part, what := range b.parts {
		if i := strings.Index(text, part); i >= 0 {
			out = append(out, fmt.Sprintf("%s in %q", what, around(text, i, i+len(part))))
		}
	}
	b.mu.RUnlock()
	for _, s := range shapes {
		if at := s.re.FindStringIndex(text); at != nil {
			out = append(out, fmt.Sprintf("%s in %q", s.what, around(text, at[0], at[1])))
		}
	}
	return out
}

func around(text string, from, to int) string {
	return text[max(0, from-120):min(len(text), to+40)]
}

// mustHoldNoSecret fails the test when the text holds a secret.
func mustHoldNoSecret(t testing.TB, where, text string) {
	t.Helper()
	for _, l := range book.leaks(text) {
		t.Errorf("%s: %s", where, l)
	}
}

// The search itself is worth nothing if it finds nothing.
func TestSecretSearchFindsWholeSecretsPartsAndShapes(t *testing.T) {
	b := &secretBook{parts: map[string]string{}}
	const key = "hive_sk_AAAAbbbbCCCCdddddEEEEEfffffGGGGGhhhhhIIIIIjjjjjj"
	b.addKey("a key", key)
	b.add("a password", "correct-horse-battery")
	for name, text := range map[string]string{
		"whole key":             "level=info key=" + key + " done",
		"first half of secret":  "xdddddEEEEEfffffGGGx",
		"last half of secret":   "xGGhhhhhIIIIIjjjjjjx",
		"whole password":        `{"p":"correct-horse-battery"}`,
		"half a password":       "...rse-battery...",
		"a key never told of":   "hc_AAAAbbbbCCCCd",
		"a hash never told of":  "$2y$10$" + strings.Repeat("a", 53),
		"a token never told of": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x",
	} {
		if len(b.leaks(text)) == 0 {
			t.Errorf("%s: not found in %q", name, text)
		}
	}
	for name, text := range map[string]string{
		"id":     "key_AAAAbbbbCCCC",
		"prefix": "hive_sk_AAAA",
	} {
		if l := b.leaks(text); len(l) != 0 {
			t.Errorf("%s may be shown, but: %v", name, l)
		}
	}
}
