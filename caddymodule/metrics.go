package caddymodule

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hivegate/hivegate/internal/refusal"
)

// metrics are the collectors of one configuration. Labels hold outcomes, kinds,
// plans and policies: words of the configuration, never a key, an address or a
// path.
type metrics struct {
	requests *prometheus.CounterVec
	decision *durations
	limited  *prometheus.CounterVec
	// backendErrors counts answers that were put in the site's dialect.
	backendErrors *prometheus.CounterVec

	// The counters of the hot path, by plan index + 1.
	allowedKey  []prometheus.Counter
	allowedJWT  []prometheus.Counter
	allowedAnon prometheus.Counter
}

// outcomeAllowed is the outcome of a request that may go on; all others are
// reasons of refusals.
const outcomeAllowed = "allowed"

func newMetrics(reg *prometheus.Registry, rt *runtime) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hivegate_requests_total", Help: "Requests decided, by outcome (allowed, preflight, the reason of refusal, or shadow_ and the reason where a site in shadow mode let it pass), kind of principal and plan.",
		}, []string{"outcome", "kind", "plan"}),
		decision: newDurations(prometheus.NewDesc("hivegate_decision_seconds",
			"Time from the request's arrival at the gate to its decision, next handlers excluded.", nil, nil),
			time.Microsecond, 2*time.Microsecond, 5*time.Microsecond, 10*time.Microsecond, 20*time.Microsecond, 50*time.Microsecond,
			100*time.Microsecond, time.Millisecond, 10*time.Millisecond, 100*time.Millisecond, time.Second),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hivegate_limited_total", Help: "Requests refused by a limit, by policy; in shadow mode those that would have been.",
		}, []string{"policy"}),
		backendErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hivegate_backend_errors_total", Help: "Answers of backends that were put in the site's dialect (backend_errors envelope), by reason.",
		}, []string{"reason"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.decision, m.limited, m.backendErrors, &backendCollector{keys: rt.keys, tokens: rt.tokens, limits: rt.limits}} {
		if err := reg.Register(c); err != nil {
			var already prometheus.AlreadyRegisteredError
			if !errors.As(err, &already) {
				return nil, err
			}
		}
	}
	for _, reason := range envelopeReasons {
		m.backendErrors.WithLabelValues(string(reason)) // there from the start, at 0
	}
	m.allowedAnon = m.requests.WithLabelValues(outcomeAllowed, kindAnonymous, "")
	m.allowedKey = append(m.allowedKey, m.requests.WithLabelValues(outcomeAllowed, kindAPIKey, ""))
	m.allowedJWT = append(m.allowedJWT, m.requests.WithLabelValues(outcomeAllowed, kindJWT, ""))
	for _, p := range rt.plans {
		m.allowedJWT = append(m.allowedJWT, m.requests.WithLabelValues(outcomeAllowed, kindJWT, p.name))
		m.allowedKey = append(m.allowedKey, m.requests.WithLabelValues(outcomeAllowed, kindAPIKey, p.name))
	}
	return m, nil
}

func (m *metrics) passed(x *exchange) {
	if p := x.principal; p == nil {
		m.allowedAnon.Inc()
	} else {
		i := 0
		if p.plan != nil {
			i = p.plan.index + 1
		}
		if p.kind == kindJWT {
			m.allowedJWT[i].Inc()
		} else {
			m.allowedKey[i].Inc()
		}
	}
	m.decision.observe(time.Since(x.now) - x.handled)
	x.trace(nil)
}

func (m *metrics) refusedWith(x *exchange, ref *refusal.Refusal) {
	kind, plan := x.caller()
	m.requests.WithLabelValues(x.outcome(ref), kind, plan).Inc()
	if policy := policyOf(ref.Reason); policy != "" {
		m.limited.WithLabelValues(policy).Inc()
	} else {
		for _, policy := range ref.Policies {
			m.limited.WithLabelValues(policy).Inc()
		}
	}
	m.decision.observe(time.Since(x.now) - x.handled)
	x.trace(ref)
}

// policyOf names the policy of limits that are not buckets of a plan or class.
func policyOf(reason refusal.Reason) string {
	switch reason {
	case refusal.ReasonConcurrencyLimited:
		return "concurrency"
	case refusal.ReasonAuthAttemptsLimited:
		return policyAuthFailures
	case refusal.ReasonSecondFactorLocked:
		return "second_factor"
	}
	return ""
}

// caller is kind and plan for metrics and spans. Who is not known counts under
// the kind of credential that was sent.
func (x *exchange) caller() (kind, plan string) {
	switch {
	case x.principal != nil:
		return x.principal.kind, x.principal.planName()
	case x.kind == refusal.KindAPIKey:
		return kindAPIKey, ""
	case x.kind == refusal.KindJWT:
		return kindJWT, ""
	}
	return kindAnonymous, ""
}

// answeredPreflight counts a CORS preflight that the gate answered by itself.
func (m *metrics) answeredPreflight(x *exchange) {
	m.requests.WithLabelValues("preflight", kindAnonymous, "").Inc()
	m.decision.observe(time.Since(x.now))
}
