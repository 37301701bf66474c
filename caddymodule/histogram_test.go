package caddymodule

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// TestDurationsReadAsPrometheusOwn: what a scrape gets is, to the letter, what a
// histogram of the client library would have said.
func TestDurationsReadAsPrometheusOwn(t *testing.T) {
	const name, help = "some_seconds", "Some time."
	own := newDurations(prometheus.NewDesc(name, help, nil, nil), time.Microsecond, 2*time.Microsecond, time.Millisecond, time.Second)
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: []float64{1e-6, 2e-6, 1e-3, 1}})
	for _, took := range []time.Duration{0, 500, 1000, 1001, 2000, 2048, time.Millisecond, 2 * time.Millisecond, time.Second, time.Second + 1, time.Hour} {
		own.observe(took)
		theirs.Observe(took.Seconds())
	}
	want := scrape(t, theirs)
	if got := scrape(t, own); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if !strings.Contains(want, `some_seconds_bucket{le="1e-06"} 3`) {
		t.Errorf("nothing is compared: %s", want)
	}
}

func scrape(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.Metric {
			if m.Histogram.CreatedTimestamp == nil {
				t.Error("it does not say when it was made")
			}
		}
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}
