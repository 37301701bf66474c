package e2e

import (
	"database/sql"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// families parses what a gate exports, of hivegate alone.
func families(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	all, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(all, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "hivegate_") })
	return all
}

// documented is the table of metrics in docs/operations.md: type and labels.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(hivegate_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		labels := strings.FieldsFunc(m[3], func(r rune) bool { return r == ' ' || r == ',' || r == '`' })
		slices.Sort(labels)
		out[m[1]] = append([]string{m[2]}, labels...)
	}
	return out
}

// words are the values that labels may have, besides the reasons of refusals and
// the names in measured.
var words = map[string][]string{
	"outcome": {"allowed", "preflight"},
	"reason":  {"backend_error", "backend_unreachable", "backend_timeout", "backend_empty", "body_too_large"},
	"kind":    {"api_key", "jwt", "anonymous"},
	"plan":    {"", "roomy", "tiny", "small"},
	"policy":  {"roomy", "tiny", "small", "key", "anonymous", "concurrency", "auth_failures", "second_factor"},
	"result":  {"ok", "wrong", "overloaded", "hit", "miss"},
	"cache":   {"records", "verified", "failures", "unknown", "tokens"},
	"store":   {"keystore", "limiter", "issuer:main"},
}

var reasonRE = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)+$`)

// judgeFamilies holds what is exported to the documented names, types and labels,
// and label values to the words they may be. It returns the number of series.
func judgeFamilies(t *testing.T, got map[string]*dto.MetricFamily) int {
	t.Helper()
	series := 0
	for name, f := range got {
		want, there := documented(t)[name]
		if !there {
			t.Errorf("%s is exported, and docs/operations.md does not have it", name)
			continue
		}
		if typ := strings.ToLower(f.GetType().String()); typ != want[0] {
			t.Errorf("%s is a %s, docs/operations.md says %s", name, typ, want[0])
		}
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		for _, m := range f.GetMetric() {
			series++
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName())
				v := l.GetValue()
				if !slices.Contains(words[l.GetName()], v) && (l.GetName() != "outcome" || !reasonRE.MatchString(v)) {
					t.Errorf("%s: the label %s is %q, which is no word of the configuration", name, l.GetName(), v)
				}
			}
			slices.Sort(labels)
			if !slices.Equal(labels, want[1:]) {
				t.Errorf("%s has the labels %v, docs/operations.md says %v", name, labels, want[1:])
			}
		}
	}
	return series
}

var measured = func() config {
	c := mainConfig("anonymous 1000/m\n"+twoPlans, farmRoutes)
	c.more = "http://SITE1 {\n\tmetrics /metrics\n}\n"
	return c
}()

func TestExportedMetricsAreTheDocumentedOnes(t *testing.T) {
	g := start(t, measured)
	k := g.create(t, "--scope", "farms:read", "--plan", "tiny")
	g.get(t, "/healthz").passed(t)
	g.get(t, "/farms", who(nil)).passed(t)
	for range 3 {
		g.get(t, "/farms", key(k.Key)).passed(t)
	}
	g.get(t, "/farms", key(k.Key)).refused(t, 429, "rate_limited")
	for range 11 {
		g.get(t, "/farms", key(wrong(t, k)))
	}
	g.get(t, "/farms", key(wrong(t, k))).refused(t, 429, "auth_attempts_limited")
	if n := g.metric(t, "hivegate_limited_total", `policy="auth_failures"`); n < 1 {
		t.Errorf("%g refusals by the failure budget are counted", n)
	}
	got := families(t, g.fromAdmin(t, "/metrics"))
	judgeFamilies(t, got)
	for name := range documented(t) {
		if got[name] == nil {
			t.Errorf("docs/operations.md has %s, and it is not exported", name)
		}
	}
	// Caddy's handler exports the same, for who scrapes from elsewhere.
	if a := g.doAt(t, g.sites[1], http.MethodGet, "/metrics"); len(families(t, string(a.body))) != len(got) {
		t.Errorf("the metrics handler exports %d metrics of hivegate, the admin endpoint %d", len(families(t, string(a.body))), len(got))
	}
}

// Whatever clients send, and whatever plans keys and tokens name, the series stay
// those of the configuration.
func TestNothingThatClientsSendMakesASeries(t *testing.T) {
	g := start(t, measured)
	const n = 1000
	send := func(round int) {
		for i := range n {
			id := fmt.Sprintf("%d-%d", round, i)
			for _, a := range []struct {
				method, target string
				change         change
			}{
				{"GET", "/farms", who(map[string]any{"sub": "user-" + id, "app_metadata": asIs(`{"plan":"plan-` + id + `","org":"org-` + id + `"}`)})},
				{"GET", "/raw-" + id, who(map[string]any{"role": "role-" + id})},
				{"M" + strings.ReplaceAll(id, "-", ""), "/farms", header("Authorization", "Bearer hive_sk_"+id)},
			} {
				if _, err := g.try(g.sites[0], a.method, a.target, a.change, header("Host", id+".example"), header("X-Forwarded-For", "10.0.0."+id)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// Keys whose plans are gone: the store names them, the configuration does not.
	keys := make([]created, 20)
	for i := range keys {
		keys[i] = g.create(t, "--scope", "farms:read")
	}
	db, err := sql.Open("sqlite", g.database()+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(`UPDATE keys SET plan = 'gone-' || id`); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		g.get(t, "/farms", key(k.Key)).passed(t)
	}
	send(0)
	before := judgeFamilies(t, families(t, g.fromAdmin(t, "/metrics")))
	send(1)
	if after := judgeFamilies(t, families(t, g.fromAdmin(t, "/metrics"))); after != before {
		t.Errorf("%d series after %d more requests, %d before", after, 3*n, before)
	}
	for _, l := range strings.Split(g.fromAdmin(t, "/metrics"), "\n") {
		if !strings.Contains(l, "hivegate_") { // Caddy's own name backends by address
			continue
		}
		for _, bad := range []string{"gone-", "plan-", "org-", "127.0.0.1", "10.0.0."} {
			if strings.Contains(l, bad) {
				t.Errorf("a metric holds what a client or a record named: %s", l)
			}
		}
	}
}
