package caddymodule

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// durations is a histogram of durations in seconds, which reads as one that
// prometheus.NewHistogram makes. It is for what happens in every request: that one
// writes to five words and goes a long way to them, this one to two. In return the sum
// of one that is written to meanwhile may have durations that its buckets have not.
type durations struct {
	desc    *prometheus.Desc
	created time.Time
	bounds  []time.Duration // ascending
	// counts has one more than bounds: what is above all of them.
	counts []atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

func newDurations(desc *prometheus.Desc, bounds ...time.Duration) *durations {
	return &durations{desc: desc, created: time.Now(), bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

func (d *durations) observe(took time.Duration) {
	i := 0
	for i < len(d.bounds) && took > d.bounds[i] {
		i++
	}
	d.sum.Add(int64(took)) // first, as Collect reads it last
	d.counts[i].Add(1)
}

// Describe implements prometheus.Collector.
func (d *durations) Describe(ch chan<- *prometheus.Desc) { ch <- d.desc }

// Collect implements prometheus.Collector.
func (d *durations) Collect(ch chan<- prometheus.Metric) {
	var count uint64
	buckets := make(map[float64]uint64, len(d.bounds))
	for i := range d.counts {
		count += d.counts[i].Load()
		if i < len(d.bounds) {
			buckets[d.bounds[i].Seconds()] = count
		}
	}
	sum := time.Duration(d.sum.Load()).Seconds()
	ch <- prometheus.MustNewConstHistogramWithCreatedTimestamp(d.desc, count, sum, buckets, d.created)
}
