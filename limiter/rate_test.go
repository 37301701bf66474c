package limiter_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hivegate/hivegate/limiter"
)

func TestParseRateReadsEveryPeriod(t *testing.T) {
	for s, want := range map[string]struct {
		n   int
		per time.Duration
	}{
		"60/m":         {60, time.Minute},
		"1/s":          {1, time.Second},
		"5000/h":       {5000, time.Hour},
		"100000/d":     {100_000, 24 * time.Hour},
		"0/m":          {0, time.Minute},
		"10/30s":       {10, 30 * time.Second},
		"3/1h30m":      {3, 90 * time.Minute},
		"7/1.5s":       {7, 1500 * time.Millisecond},
		"1/1ms":        {1, time.Millisecond},
		"1/744h":       {1, limiter.MaxPer},
		"1000000000/s": {limiter.MaxN, time.Second},
		"007/m":        {7, time.Minute},
	} {
		n, per, err := limiter.ParseRate(s)
		if n != want.n || per != want.per || err != nil {
			t.Errorf("%q: %d, %v, %v; want %d, %v", s, n, per, err, want.n, want.per)
		}
	}
}

func TestParseRateSaysWhatToWriteInstead(t *testing.T) {
	for s, want := range map[string]string{
		"60":                           `rate "60" has no period: write 60/m`,
		"60/":                          `rate "60/" has no period: write 60/m`,
		"":                             `rate "" has no number: write 60/m`,
		"/m":                           `rate "/m" has no number: write 60/m`,
		"-5/m":                         `rate "-5/m" is negative: write a number from 0 up`,
		"+5/m":                         `rate "+5/m" does not begin with a whole number: write digits only, as in 60/m or burst 50`,
		"1.5/s":                        `rate "1.5/s" does not begin with a whole number: write digits only, as in 60/m or burst 50`,
		"1e3/s":                        `rate "1e3/s" does not begin with a whole number: write digits only, as in 60/m or burst 50`,
		"٣/m":                          `rate "٣/m" does not begin with a whole number: write digits only, as in 60/m or burst 50`,
		"1000000001/s":                 `rate "1000000001/s" is too large: the number must be at most 1000000000`,
		"99999999999999999999999/s":    `rate "99999999999999999999999/s" is too large: the number must be at most 1000000000`,
		"10/30":                        `rate "10/30" has a period without a unit: write 30s, 30m or 30h`,
		"10/7d":                        `rate "10/7d" has the unknown period "7d": write s, m, h, d or a duration such as 10s or 168h`,
		"10/min":                       `rate "10/min" has the unknown period "min": write s, m, h, d or a duration such as 10s or 168h`,
		"10/m/s":                       `rate "10/m/s" has the unknown period "m/s": write s, m, h, d or a duration such as 10s or 168h`,
		"10/0s":                        `rate "10/0s" has a period of 0s: it must be 1ms to 31 days (744h)`,
		"10/-1s":                       `rate "10/-1s" has a period of -1s: it must be 1ms to 31 days (744h)`,
		"10/999us":                     `rate "10/999us" has a period of 999µs: it must be 1ms to 31 days (744h)`,
		"10/745h":                      `rate "10/745h" has a period of 745h0m0s: it must be 1ms to 31 days (744h)`,
		"1/" + strings.Repeat("x", 99): `rate "1/` + strings.Repeat("x", 38) + `"… has the unknown period "` + strings.Repeat("x", 40) + `"…: write s, m, h, d or a duration such as 10s or 168h`,
	} {
		n, per, err := limiter.ParseRate(s)
		if err == nil || err.Error() != want || n != 0 || per != 0 {
			t.Errorf("%q: %d, %v, %v\nwant %s", s, n, per, err, want)
		}
	}
}

func TestParseSpecTakesTheOptionsInAnyOrder(t *testing.T) {
	for words, want := range map[string]limiter.Spec{
		"60/m":                    {N: 60, Per: time.Minute},
		"300/m burst 50":          {N: 300, Per: time.Minute, Burst: 50},
		"50/m per key":            {N: 50, Per: time.Minute, By: "key"},
		"50/m burst 5 per ip":     {N: 50, Per: time.Minute, Burst: 5, By: "ip"},
		"50/m per owner burst 80": {N: 50, Per: time.Minute, Burst: 80, By: "owner"},
		"0/m per key":             {N: 0, Per: time.Minute, By: "key"},
	} {
		got, err := limiter.ParseSpec(strings.Fields(words))
		if got != want || err != nil {
			t.Errorf("%q: %+v, %v", words, got, err)
		}
	}
}

func TestParseSpecSaysWhatToWriteInstead(t *testing.T) {
	for words, want := range map[string]string{
		"":                       `a rate is missing: write 60/m`,
		"60":                     `rate "60" has no period: write 60/m`,
		"unlimited":              `rate "unlimited" does not begin with a whole number: write digits only, as in 60/m or burst 50`,
		"60/m burst":             `burst has no number: write burst 50`,
		"60/m burst x":           `burst "x" does not begin with a whole number: write digits only, as in 60/m or burst 50`,
		"60/m burst -5":          `burst "-5" is negative: write a number from 0 up`,
		"60/m burst 0":           `burst 0 would let nothing through: write burst 1 or more, or leave it out`,
		"60/m burst 5 burst 6":   `burst stands twice: write it once`,
		"60/m burst 2000000000":  `burst "2000000000" is too large: the number must be at most 1000000000`,
		"0/m burst 5":            `burst 5 has no use beside a rate of 0, which refuses everything: leave it out`,
		"60/m per":               `per has no word after it: write per owner, per key or per ip`,
		"60/m per user":          `per "user" is unknown: write per owner, per key or per ip`,
		"60/m per ip per key":    `per stands twice: write it once`,
		"60/m brust 5":           `unexpected "brust" after the rate: write burst N, or per owner, per key or per ip`,
		"60/m 50/m":              `unexpected "50/m" after the rate: write burst N, or per owner, per key or per ip`,
		"60/m per key burst 5 x": `unexpected "x" after the rate: write burst N, or per owner, per key or per ip`,
	} {
		got, err := limiter.ParseSpec(strings.Fields(words))
		if err == nil || err.Error() != want || got != (limiter.Spec{}) {
			t.Errorf("%q: %+v, %v\nwant %s", words, got, err, want)
		}
	}
}

func TestNewLimitChecksEveryFigure(t *testing.T) {
	for _, c := range []struct {
		policy string
		n      int
		per    time.Duration
		burst  int
		want   string
	}{
		{"", 1, time.Second, 0, `a limit needs a name`},
		{"p", -1, time.Second, 0, `limit "p" allows -1 per period: the number must be 0 to 1000000000`},
		{"p", limiter.MaxN + 1, time.Second, 0, `limit "p" allows 1000000001 per period: the number must be 0 to 1000000000`},
		{"p", 1, time.Microsecond, 0, `limit "p" has a period of 1µs: it must be 1ms to 31 days`},
		{"p", 1, limiter.MaxPer + 1, 0, `limit "p" has a period of 744h0m0.000000001s: it must be 1ms to 31 days`},
		{"p", 1, time.Second, -1, `limit "p": burst -1 is negative: write burst 1 or more, or leave it out`},
		{"p", 1, time.Second, limiter.MaxN + 1, `limit "p": burst 1000000001 is too large: it must be at most 1000000000`},
		{"p", 0, time.Second, 1, `limit "p": burst 1 has no use beside a rate of 0, which refuses everything: leave it out`},
	} {
		l, err := limiter.NewLimit(c.policy, c.n, c.per, c.burst)
		if err == nil || err.Error() != c.want || l != nil {
			t.Errorf("%+v: %v, %v", c, l, err)
		}
	}
}

func TestCapacityAndWindow(t *testing.T) {
	for _, c := range []struct {
		n, burst, capacity int
		per, window        time.Duration
	}{
		{60, 0, 60, time.Minute, time.Minute},
		{300, 50, 50, time.Minute, 10 * time.Second},
		{1, 24, 24, time.Hour, 24 * time.Hour},
		{7, 1, 1, time.Minute, 8571428572}, // ns, rounded up
		{0, 0, 0, time.Minute, time.Minute},
		{limiter.MaxN, 0, limiter.MaxN, time.Millisecond, time.Millisecond},
		{1, limiter.MaxN, limiter.MaxN, limiter.MaxPer, 100 * 365 * 24 * time.Hour}, // would overflow
	} {
		l := mustLimit(t, "p", c.n, c.per, c.burst)
		if l.Capacity() != c.capacity || l.Window() != c.window {
			t.Errorf("%+v: capacity %d, window %v", c, l.Capacity(), l.Window())
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{"60/m", "10/30s burst 5 per ip", "0/m", "1/1h1m1s per key burst 1000000000", "-1/m", "60", "9/1ns", "\xff/\x00", "1/9223372036854775807ns"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		s, err := limiter.ParseSpec(strings.Fields(line))
		if err != nil {
			if s != (limiter.Spec{}) || strings.ContainsAny(err.Error(), "\n\r\x00") || len(err.Error()) > 600 {
				t.Fatalf("%q: %+v with the error %q", line, s, err)
			}
			return
		}
		l, err := s.Limit("p")
		if err != nil {
			t.Fatalf("%q was read as %+v, but: %v", line, s, err)
		}
		if l.Window() <= 0 || l.Capacity() < 0 || l.Capacity() == 0 && l.N > 0 {
			t.Fatalf("%q: capacity %d, window %v", line, l.Capacity(), l.Window())
		}
		n, per, err := limiter.ParseRate(limiter.FormatRate(s.N, s.Per))
		if n != s.N || per != s.Per || err != nil {
			t.Fatalf("%q: written as %s, read as %d, %v, %v", line, limiter.FormatRate(s.N, s.Per), n, per, err)
		}
	})
}
