package bodyrule

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// protoName is the member by which JavaScript's objects get a prototype.
const protoName = "__proto__"

// fold maps names that some backend takes for one to one text: without case
// (strings.EqualFold, and the mappings to upper and lower case of other
// languages, "ı" and "İ" among them), without the difference of width and other
// compatibility forms (NFKC), without '-' and '_'. The result for names of
// fields, which are ASCII, is ASCII.
func fold(name string) string {
	ascii := true
	for i := range len(name) {
		if name[i] >= 0x80 {
			ascii = false
			break
		}
	}
	if !ascii {
		name = dotless.Replace(name)
		name = cases.Fold().String(norm.NFKC.String(name))
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == '_':
			return -1
		case r >= 'a' && r <= 'z':
			return r
		}
		return unicode.ToLower(unicode.ToUpper(r))
	}, name)
}

// dotless does what case folding leaves out: these two letters become i and I
// in upper or lower case.
var dotless = strings.NewReplacer("ı", "i", "İ", "i")
