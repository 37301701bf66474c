package bodyrule

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hivegate/hivegate/internal/policy"
)

// knownForm is a family of words that people send as a field's value while they
// belong further inside.
type knownForm struct {
	field  string // last segment of the field
	value  string // the field's right value; the form counts only where it is allowed
	inside string // where the word belongs: dotted, from the object that has the field
	words  []string
}

// knownForms is all that is known. Of forms with the same word the first counts.
var knownForms = []knownForm{
	// Hive OS: a miner is stopped by {"command":"miner","data":{"action":"stop"}}.
	{"command", "miner", "data.action", []string{"restart", "stop", "log", "config", "tuning", "start"}},
}

// maxChoices is how many values a message lists.
const maxChoices = 24

// unknown is the message about a text that oneof does not allow.
func (f *field) unknown(text string) string {
	name := f.name()
	article := "a "
	if strings.ContainsRune("aeiouAEIOU", rune(name[0])) {
		article = "an "
	}
	shown := "the value"
	if harmless(text) {
		shown = show(text)
	}
	message := shown + " is not " + article + name
	if meant := f.meant(text); meant != "" {
		return message + "; did you mean " + meant + "?"
	}
	return message + ": " + f.choices()
}

// longestWord is the length up to which a value is told back.
const longestWord = 24

// harmless reports whether a value may be told back: a word, and neither a key
// nor a code that was put in the wrong place.
func harmless(text string) bool {
	digits := 0
	for _, c := range text {
		if c >= '0' && c <= '9' {
			digits++
		}
	}
	return len(text) <= longestWord && digits <= 2
}

// choices is the tail of a message that lists the values.
func (f *field) choices() string {
	switch n := len(f.oneOf); {
	case n == 1:
		return "it must be " + f.oneOf[0]
	case n > maxChoices:
		return "it must be one of " + strings.Join(f.oneOf[:maxChoices], ", ") + " …"
	}
	return "it must be one of " + strings.Join(f.oneOf, ", ")
}

// meant is the nearest valid form of the body, as JSON; empty where none is
// near. A word of a known form counts before a value that is merely near.
func (f *field) meant(text string) string {
	forms := f.forms()
	words := slices.Clone(f.oneOf)
	for _, k := range forms {
		for _, w := range k.words {
			if strings.EqualFold(text, w) {
				return f.nested(k.value, k.inside, w)
			}
		}
		words = append(words, k.words...)
	}
	near := policy.Nearest(text, words)
	if near == "" || slices.Contains(f.oneOf, near) {
		return f.nested(near, "", "")
	}
	for _, k := range forms {
		if slices.Contains(k.words, near) {
			return f.nested(k.value, k.inside, near)
		}
	}
	return ""
}

// forms are the known forms that lead to a value which is allowed.
func (f *field) forms() (forms []knownForm) {
	for _, k := range knownForms {
		if k.field == f.name() && slices.Contains(f.oneOf, k.value) {
			forms = append(forms, k)
		}
	}
	return forms
}

// nested writes the body in which the field has value and, where inside is
// named, word has its place beside it. No value: nothing.
func (f *field) nested(value, inside, word string) string {
	if value == "" {
		return ""
	}
	body := `"` + f.name() + `":` + literal(value)
	if inside != "" {
		body += "," + wrap(inside, literal(word))
	}
	body = "{" + body + "}"
	if i := strings.LastIndexByte(f.path, '.'); i >= 0 {
		body = "{" + wrap(f.path[:i], body) + "}"
	}
	return body
}

// wrap writes the member at a dotted path, without the outermost braces: "a.b"
// and 1 give "a":{"b":1}.
func wrap(path, value string) string {
	first, rest, deeper := strings.Cut(path, ".")
	if deeper {
		value = "{" + wrap(rest, value) + "}"
	}
	return `"` + first + `":` + value
}

// literal writes a text as JSON. Texts of rules are valid UTF-8, which json
// never fails on.
func literal(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

// show makes a client's text fit for a message: as it is where it is a short
// plain word, else quoted and cut.
func show(s string) string {
	const most = 64
	cut := ""
	if len(s) > most {
		end := most
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s, cut = s[:end], "…"
	}
	plain := s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-:/", r)
	}) < 0
	if plain {
		return s + cut
	}
	return literal(s) + cut
}
