package caddymodule

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/limiter"
)

// backendCollector reports what the pooled backends count. They outlast
// configurations and their registries, so their counters go on through reloads.
type backendCollector struct {
	keys   *keyBackend
	tokens *tokenBackend // nil: no issuer is configured
	limits limiter.Limiter
}

var (
	hashDesc = prometheus.NewDesc("hivegate_hash_total",
		"Password hashes computed or refused, by result (ok, wrong, overloaded).", []string{"result"}, nil)
	inflightDesc = prometheus.NewDesc("hivegate_hash_inflight",
		"Password hashes being computed.", nil, nil)
	cacheDesc = prometheus.NewDesc("hivegate_cache_total",
		"Look-ups in caches, by cache (records, verified, failures, unknown, tokens) and result (hit, miss).", []string{"cache", "result"}, nil)
	storeUpDesc = prometheus.NewDesc("hivegate_store_up",
		"Whether a store could be reached when last asked (1) or not (0), by store.", []string{"store"}, nil)
)

// Describe implements prometheus.Collector.
func (c *backendCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{hashDesc, inflightDesc, cacheDesc, storeUpDesc} {
		ch <- d
	}
	c.keys.lag.Describe(ch)
}

// newLagHistogram belongs to a keystore, not to a configuration: every
// configuration that uses the keystore shows it.
func newLagHistogram() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "hivegate_revocation_lag_seconds",
		Help:    "Time from a revocation made elsewhere to the moment this process held to it.",
		Buckets: []float64{.05, .1, .2, .3, .5, .75, 1, 2, 5, 30, 60},
	})
}

// Collect implements prometheus.Collector. It opens nothing and asks no store.
func (c *backendCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	limits := 1.0 // counters in this process are always there
	if l, ok := c.limits.(upper); ok && !l.Up() {
		limits = 0
	}
	gauge(storeUpDesc, limits, "limiter")
	if c.tokens != nil {
		now := time.Now()
		for _, i := range c.tokens.set.Issuers() {
			up := 0.0
			if i.Status(now).Reachable {
				up = 1
			}
			gauge(storeUpDesc, up, "issuer:"+i.Name())
		}
		hits, misses := c.tokens.set.CacheStats()
		count(cacheDesc, hits, "tokens", "hit")
		count(cacheDesc, misses, "tokens", "miss")
	}
	opened := c.keys.ready.Load()
	if opened == nil {
		gauge(storeUpDesc, 0, "keystore")
		return
	}
	s := opened.verifier.Stats()
	up := 0.0
	if s.StoreUp {
		up = 1
	}
	gauge(storeUpDesc, up, "keystore")
	c.keys.lag.Collect(ch)
	count(hashDesc, s.HashOK, "ok")
	count(hashDesc, s.HashWrong, "wrong")
	count(hashDesc, s.HashOverloaded, "overloaded")
	gauge(inflightDesc, float64(s.HashInflight))
	for _, cache := range []struct {
		name string
		n    keystore.CacheStats
	}{{"records", s.Records}, {"verified", s.Verified}, {"failures", s.Failures}, {"unknown", s.Unknown}} {
		count(cacheDesc, cache.n.Hits, cache.name, "hit")
		count(cacheDesc, cache.n.Misses, cache.name, "miss")
	}
}
