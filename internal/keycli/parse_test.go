package keycli

import (
	"strings"
	"testing"
	"time"
)

func TestSpansAreReadWholeOrNotAtAll(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0s": 0, "0d": 0, "90d": 90 * day, "24h": day, "30m": 30 * time.Minute, "2w": 14 * day, "1y": 365 * day,
		"1d12h": 36 * time.Hour, "1y2w3d4h5m6s": 365*day + 17*day + 4*time.Hour + 5*time.Minute + 6*time.Second,
		"007d": 7 * day, "292y": 292 * 365 * day,
	} {
		if got, err := parseSpan(text); got != want || err != nil {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "d", "90", "-1d", "+1d", "1.5d", "1 d", " 1d", "1d ", "1D", "90days", "1h1d", "1d1d", "1d90", "1ms", "٣d",
		"293y", "9999999999999999999d", "99999999999999999999999s", "292y365d",
	} {
		if got, err := parseSpan(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func FuzzSpan(f *testing.F) {
	for _, text := range []string{"90d", "1y2w3d4h5m6s", "9223372036s", "1h1d", "٣d", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if span, err := parseSpan(text); err == nil && (span < 0 || strings.Trim(text, "0123456789smhdwy") != "") {
			t.Errorf("%q was read as %v", text, span)
		}
	})
}
