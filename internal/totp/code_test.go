package totp

import (
	"encoding/base32"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// rfcSecret is the seed of RFC 6238 Appendix B for SHA-1.
var rfcSecret = base32.StdEncoding.EncodeToString([]byte("12345678901234567890"))

// rfcVectors are the SHA-1 rows of RFC 6238 Appendix B. The RFC prints eight
// digits; a code of six is the same number modulo 10^6, so its last six digits.
var rfcVectors = map[int64]string{
	59:          "94287082",
	1111111109:  "07081804",
	1111111111:  "14050471",
	1234567890:  "89005924",
	2000000000:  "69279037",
	20000000000: "65353130",
}

func TestVectorsOfRFC6238(t *testing.T) {
	for seconds, printed := range rfcVectors {
		code, step := printed[2:], seconds/30
		for offset, want := range map[int64][]int64{
			0: {step}, 30: {step}, -30: {step}, // one step to either side
			60: nil, -60: nil, 3600: nil,
		} {
			now := time.Unix(seconds+offset, 0)
			got, err := matching(rfcSecret, code, now)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s at %d: steps %v, %v; want %v", code, now.Unix(), got, err, want)
			}
		}
	}
}

func TestACodeIsGoodFromOneStepBeforeToOneAfter(t *testing.T) {
	const step = 1111111111 / 30
	for now, want := range map[int64]bool{
		(step-1)*30 - 1: false, (step - 1) * 30: true, step * 30: true, (step+2)*30 - 1: true, (step + 2) * 30: false,
	} {
		got, err := matching(rfcSecret, "050471", time.Unix(now, 999_999_999))
		if err != nil || (len(got) == 1) != want {
			t.Errorf("at %d: %v, %v", now, got, err)
		}
	}
}

func TestStepsAreWholeSpansOf30Seconds(t *testing.T) {
	for seconds, want := range map[int64]int64{0: 0, 29: 0, 30: 1, 59: 1, -1: -1, -30: -1, -31: -2, 20000000000: 666666666} {
		if got := stepAt(time.Unix(seconds, 0)); got != want {
			t.Errorf("%d is in step %d, want %d", seconds, got, want)
		}
	}
	if got, err := matching(rfcSecret, "755224", time.Unix(0, 0)); err != nil || !slices.Equal(got, []int64{0}) { // RFC 4226 Appendix D, count 0
		t.Errorf("at the epoch: %v, %v", got, err)
	}
	if _, err := matching("not base32!", "755224", time.Unix(0, 0)); err == nil {
		t.Error("a broken secret is no error")
	}
}

// malformed are header values that are no codes, by what is wrong with them.
var malformed = map[string][]string{
	"empty":                {""},
	"5 digits":             {"12345"},
	"7 digits":             {"1234567"},
	"8 digits":             {"12345678"},
	"space before":         {" 123456"},
	"space after":          {"123456 "},
	"space within":         {"123 456"},
	"space for a digit":    {" 12345"},
	"tab":                  {"123456\t"},
	"line end":             {"123456\n"},
	"no-break space":       {"123456\u00a0"},
	"Arabic digits":        {"١٢٣٤٥٦"},
	"extended Arabic":      {"۱۲۳۴۵۶"},
	"full-width digits":    {"１２３４５６"},
	"one Arabic digit":     {"12345٦"},
	"six bytes of Arabic":  {"١٢٣"},
	"plus":                 {"+12345"},
	"plus and six":         {"+123456"},
	"minus":                {"-12345"},
	"letters":              {"abcdef"},
	"one letter":           {"12345a"},
	"hex":                  {"0x1234"},
	"point":                {"123.45"},
	"exponent":             {"1234e5"},
	"underscore":           {"123_45"},
	"quotes":               {`"123456"`},
	"NUL":                  {"12345\x00"},
	"NUL after":            {"123456\x00"},
	"two headers":          {"123456", "123456"},
	"two, one empty":       {"123456", ""},
	"list":                 {"123456,123456"},
	"list with space":      {"123456, 654321"},
	"long":                 {strings.Repeat("1", 100000)},
	"recovery, no dashes":  {"aaaaabbbbbccccc"},
	"recovery, short":      {"aaaaa-bbbbb-cccc"},
	"recovery, long":       {"aaaaa-bbbbb-cccccc"},
	"recovery, two groups": {"aaaaa-bbbbb"},
	"recovery, four":       {"aaaaa-bbbbb-ccccc-ddddd"},
	"recovery, 0":          {"aaaa0-bbbbb-ccccc"},
	"recovery, 1":          {"aaaa1-bbbbb-ccccc"},
	"recovery, 8":          {"aaaaa-bbbb8-ccccc"},
	"recovery, 9":          {"aaaaa-bbbbb-cccc9"},
	"recovery, spaces":     {"aaaaa bbbbb ccccc"},
	"recovery, padding":    {"aaaaa-bbbbb-cccc="},
	"recovery, space":      {" aaaaa-bbbbb-cccc"},
	"recovery, Kelvin":     {"\u212aaaa-bbbbb-ccccc"},
	"recovery, shifted":    {"aaaa-abbbbb-ccccc"},
	"recovery, twice":      {"aaaaa-bbbbb-ccccc", "aaaaa-bbbbb-ccccc"},
}

func TestOnlyExactShapesAreCodes(t *testing.T) {
	for name, values := range malformed {
		if _, got := shapeOf(values); got != shapeMalformed {
			t.Errorf("%s: shape %d", name, got)
		}
	}
	for _, c := range []struct {
		values []string
		want   shape
	}{
		{nil, shapeNone}, {[]string{}, shapeNone},
		{[]string{"000000"}, shapeDigits}, {[]string{"999999"}, shapeDigits},
		{[]string{"abcde-fghij-klm27"}, shapeRecovery}, {[]string{"ABCDE-FGHIJ-KLM27"}, shapeRecovery}, {[]string{"22222-33333-77777"}, shapeRecovery},
	} {
		if code, got := shapeOf(c.values); got != c.want || got != shapeNone && code != c.values[0] {
			t.Errorf("%q: %q, shape %d", c.values, code, got)
		}
	}
}

func TestOnlySixDigitsAreTakenForABackend(t *testing.T) {
	for name, values := range malformed {
		if got := Present(values); got.Result != Invalid {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := Present([]string{"aaaaa-bbbbb-ccccc"}); got.Result != Invalid {
		t.Errorf("a recovery code: %+v", got)
	}
	if got := Present(nil); got.Result != Required {
		t.Errorf("nothing: %+v", got)
	}
	if got := Present([]string{"012345"}); got.Result != OK || got.Method != "" {
		t.Errorf("six digits: %+v", got)
	}
}

func TestRecoveryCodesAreRandomAndOfOneShape(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		c := newRecovery()
		if !isRecovery(c) || c != strings.ToLower(c) || seen[c] {
			t.Fatalf("%q", c)
		}
		seen[c] = true
	}
}

func TestARecoveryDigestIsForOneSubjectAndCode(t *testing.T) {
	key := []byte(strings.Repeat("k", 32))
	digest := func(key []byte, subject, code string) string { return string(recoveryDigest(key, subject, code)) }
	one := digest(key, "owner:a", "aaaaa-bbbbb-ccccc")
	if one != digest(key, "owner:a", "AAAAA-bbbbb-ccccc") || len(one) != 32 {
		t.Error("case matters")
	}
	for _, other := range []string{
		digest([]byte(strings.Repeat("l", 32)), "owner:a", "aaaaa-bbbbb-ccccc"),
		digest(key, "owner:A", "aaaaa-bbbbb-ccccc"),
		digest(key, "owner:a", "aaaaa-bbbbb-ccccd"),
		digest(key, "owner:aa", "aaaa-bbbbb-ccccc"),
	} {
		if other == one {
			t.Error("two digests are equal")
		}
	}
}

// FuzzShape holds the hand-written judgement against regular expressions.
func FuzzShape(f *testing.F) {
	for _, values := range malformed {
		f.Add(values[0])
	}
	f.Add("123456")
	f.Add("abcde-fghij-klm27")
	code := regexp.MustCompile(`\A[0-9]{6}\z`)
	recovery := regexp.MustCompile(`\A[A-Za-z2-7]{5}-[A-Za-z2-7]{5}-[A-Za-z2-7]{5}\z`)
	f.Fuzz(func(t *testing.T, s string) {
		want := shapeMalformed
		switch {
		case code.MatchString(s):
			want = shapeDigits
		case recovery.MatchString(s):
			want = shapeRecovery
		}
		if _, got := shapeOf([]string{s}); got != want {
			t.Errorf("%q: shape %d, want %d", s, got, want)
		}
		if _, got := shapeOf([]string{s, s}); got != shapeMalformed {
			t.Errorf("%q twice: shape %d", s, got)
		}
		if got := Present([]string{s}).Result == OK; got != (want == shapeDigits) {
			t.Errorf("%q for a backend: %v", s, got)
		}
	})
}
