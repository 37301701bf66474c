package policy

import (
	"strings"
	"testing"
)

func TestNearestFindsWhatWasMeant(t *testing.T) {
	words := []string{"farms:read", "farms:write", "workers:command", "ai", "dialect", "realm"}
	for word, want := range map[string]string{
		"farm:read":        "farms:read",
		"farms:raed":       "farms:read",
		"Farms:Read":       "farms:read",
		"workers:comand":   "workers:command",
		"dailect":          "dialect",
		"relm":             "realm",
		"ia":               "ai",
		"ai":               "ai",
		"":                 "",
		"zebra:unicorn":    "",
		"x":                "",
		"farms:administer": "",
	} {
		if got := Nearest(word, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
	if got := Nearest("aa", []string{"ab", "ac", "aa"}); got != "aa" {
		t.Errorf("an equal word loses to %q", got)
	}
	if got := Nearest("aa", []string{"ab", "ac"}); got != "ab" {
		t.Errorf("of equally near words the first wins, got %q", got)
	}
	if got := Nearest(strings.Repeat("a", 1<<20), []string{strings.Repeat("a", 1<<20)}); got != "" {
		t.Error("long words are compared")
	}
}

func TestDistanceCountsEachKindOfEdit(t *testing.T) {
	for _, c := range []struct {
		a, b string
		d    int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"ca", "abc", 3}, {"flaw", "lawn", 2},
	} {
		if d := distance(c.a, c.b); d != c.d {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, d, c.d)
		}
	}
}
