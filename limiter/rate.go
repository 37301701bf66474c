package limiter

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of what a rate may say.
const (
	// MaxN is the largest number of tokens, per period and as a burst.
	MaxN = 1_000_000_000
	// MinPer and MaxPer bound the period.
	MinPer = time.Millisecond
	MaxPer = 31 * day

	day = 24 * time.Hour
)

// maxDuration caps every duration that is computed from a limit. A limit of
// 1/31d with a burst of a billion would otherwise overflow a time.Duration.
const maxDuration = 100 * 365 * day

// NewLimit makes the limit that is known to callers as policy: n tokens in
// each per, and a capacity of burst tokens, where a burst of 0 means n. The
// error, for a figure that is out of bounds, is one sentence that says which.
func NewLimit(policy string, n int, per time.Duration, burst int) (*Limit, error) {
	switch {
	case policy == "":
		return nil, errors.New("a limit needs a name")
	case n < 0 || n > MaxN:
		return nil, fmt.Errorf("limit %q allows %d per period: the number must be 0 to %d", policy, n, MaxN)
	case per < MinPer || per > MaxPer:
		return nil, fmt.Errorf("limit %q has a period of %v: it must be 1ms to 31 days", policy, per)
	}
	if err := checkBurst(n, burst); err != nil {
		return nil, fmt.Errorf("limit %q: %w", policy, err)
	}
	if burst == 0 {
		burst = n
	}
	l := &Limit{Policy: policy, N: n, Per: per, Burst: burst}
	l.refill = l.rate()
	return l, nil
}

// Capacity is the number of tokens that a full bucket holds.
func (l *Limit) Capacity() int {
	return max(l.Burst, 0)
}

// Window is the time in which an empty bucket becomes full; Per for a limit
// of 0, which never does.
func (l *Limit) Window() time.Duration {
	if l.N <= 0 || l.Per <= 0 || l.Burst == l.N {
		return l.Per
	}
	hi, lo := bits.Mul64(uint64(l.Capacity()), uint64(l.Per))
	if hi >= uint64(l.N) {
		return maxDuration
	}
	q, rest := bits.Div64(hi, lo, uint64(l.N))
	if rest > 0 {
		q++
	}
	return time.Duration(min(q, uint64(maxDuration)))
}

// rate is the refill in tokens per second.
func (l *Limit) rate() rate.Limit {
	if l.refill != 0 {
		return l.refill
	}
	return rate.Limit(float64(l.N) / l.Per.Seconds())
}

// closed reports whether the limit lets nothing through, ever. Figures that
// NewLimit would have refused count as such: deny when in doubt.
func (l *Limit) closed() bool {
	return l.N <= 0 || l.Per <= 0 || l.Burst <= 0
}

// sameFigures reports whether a bucket under l needs no change for o.
func (l *Limit) sameFigures(o *Limit) bool {
	return l == o || l.N == o.N && l.Per == o.Per && l.Burst == o.Burst
}

// ParseRate reads a rate, <n>/<period>: "60/m", "10/30s", "0/m". The period is
// s, m, h, d or a duration of Go's time package. n is 0 to MaxN and per MinPer
// to MaxPer. The error is one sentence that says what to write instead.
func ParseRate(s string) (n int, per time.Duration, err error) {
	number, period, slash := strings.Cut(s, "/")
	if n, err = parseCount(number); err != nil {
		return 0, 0, fmt.Errorf("rate %s %w", quote(s), err)
	}
	if !slash || period == "" {
		return 0, 0, fmt.Errorf("rate %s has no period: write %d/m", quote(s), n)
	}
	if per, err = parsePeriod(period); err != nil {
		return 0, 0, fmt.Errorf("rate %s %w", quote(s), err)
	}
	if per < MinPer || per > MaxPer {
		return 0, 0, fmt.Errorf("rate %s has a period of %v: it must be 1ms to 31 days (744h)", quote(s), per)
	}
	return n, per, nil
}

// FormatRate writes a rate in the way that ParseRate reads it.
func FormatRate(n int, per time.Duration) string {
	period := per.String()
	switch per {
	case time.Second:
		period = "s"
	case time.Minute:
		period = "m"
	case time.Hour:
		period = "h"
	case day:
		period = "d"
	}
	return strconv.Itoa(n) + "/" + period
}

// Spec is a limit as it is written in a configuration, before it has a name.
type Spec struct {
	// N tokens in each Per.
	N   int
	Per time.Duration
	// Burst is the capacity; 0 where none was written, which means N.
	Burst int
	// By says whom a bucket belongs to: "owner", "key" or "ip"; empty where
	// nothing was written.
	By string
}

// ParseSpec reads the words RATE [burst N] [per owner|key|ip], the two options
// in any order and each at most once. The error is one sentence that says what
// to write instead.
func ParseSpec(words []string) (Spec, error) {
	if len(words) == 0 {
		return Spec{}, errors.New("a rate is missing: write 60/m")
	}
	var s Spec
	var err error
	if s.N, s.Per, err = ParseRate(words[0]); err != nil {
		return Spec{}, err
	}
	for rest := words[1:]; len(rest) > 0; rest = rest[2:] {
		switch rest[0] {
		case "burst":
			err = s.parseBurst(rest[1:])
		case "per":
			err = s.parseBy(rest[1:])
		default:
			err = fmt.Errorf("unexpected %s after the rate: write burst N, or per owner, per key or per ip", quote(rest[0]))
		}
		if err != nil {
			return Spec{}, err
		}
	}
	if err := checkBurst(s.N, s.Burst); err != nil {
		return Spec{}, err
	}
	return s, nil
}

// Limit gives the spec a name.
func (s Spec) Limit(policy string) (*Limit, error) {
	return NewLimit(policy, s.N, s.Per, s.Burst)
}

func (s *Spec) parseBurst(rest []string) error {
	if s.Burst != 0 {
		return errors.New("burst stands twice: write it once")
	}
	if len(rest) == 0 {
		return errors.New("burst has no number: write burst 50")
	}
	n, err := parseCount(rest[0])
	if err != nil {
		return fmt.Errorf("burst %s %w", quote(rest[0]), err)
	}
	if n == 0 {
		return errors.New("burst 0 would let nothing through: write burst 1 or more, or leave it out")
	}
	s.Burst = n
	return nil
}

func (s *Spec) parseBy(rest []string) error {
	if s.By != "" {
		return errors.New("per stands twice: write it once")
	}
	if len(rest) == 0 {
		return errors.New("per has no word after it: write per owner, per key or per ip")
	}
	switch rest[0] {
	case "owner", "key", "ip":
		s.By = rest[0]
		return nil
	}
	return fmt.Errorf("per %s is unknown: write per owner, per key or per ip", quote(rest[0]))
}

func checkBurst(n, burst int) error {
	switch {
	case burst < 0:
		return fmt.Errorf("burst %d is negative: write burst 1 or more, or leave it out", burst)
	case burst > MaxN:
		return fmt.Errorf("burst %d is too large: it must be at most %d", burst, MaxN)
	case n == 0 && burst > 0:
		return fmt.Errorf("burst %d has no use beside a rate of 0, which refuses everything: leave it out", burst)
	}
	return nil
}

// parseCount reads decimal digits and nothing else; errors continue a sentence
// that begins with the text in question.
func parseCount(s string) (int, error) {
	switch {
	case s == "":
		return 0, errors.New("has no number: write 60/m")
	case s[0] == '-':
		return 0, errors.New("is negative: write a number from 0 up")
	}
	n := 0
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, errors.New("does not begin with a whole number: write digits only, as in 60/m or burst 50")
		}
		if n = n*10 + int(c-'0'); n > MaxN {
			return 0, fmt.Errorf("is too large: the number must be at most %d", MaxN)
		}
	}
	return n, nil
}

func parsePeriod(s string) (time.Duration, error) {
	switch s {
	case "s":
		return time.Second, nil
	case "m":
		return time.Minute, nil
	case "h":
		return time.Hour, nil
	case "d":
		return day, nil
	}
	per, err := time.ParseDuration(s)
	if err != nil {
		if _, plain := parseCount(s); plain == nil {
			return 0, fmt.Errorf("has a period without a unit: write %ss, %sm or %sh", s, s, s)
		}
		return 0, fmt.Errorf("has the unknown period %s: write s, m, h, d or a duration such as 10s or 168h", quote(s))
	}
	return per, nil
}

// quote shows a text of the configuration, or of a caller, at a bounded length.
func quote(s string) string {
	const most = 40
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
