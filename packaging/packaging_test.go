// Package packaging holds what operators install, and the tests that hold it to
// what the gate exports. See check.sh for what other programs say of it.
package packaging

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// metrics reads the table of docs/operations.md: name to labels. A test on the
// built binary holds the table to what a gate exports.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	text := read(t, "../docs/operations.md")
	out := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(hivegate_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\|").FindAllStringSubmatch(text, -1) {
		labels := strings.FieldsFunc(m[3], func(r rune) bool { return r == ' ' || r == ',' || r == '`' })
		name := m[1]
		out[name] = labels
		if m[2] == "histogram" {
			out[name+"_bucket"] = append([]string{"le"}, labels...)
			out[name+"_sum"], out[name+"_count"] = labels, labels
		}
	}
	if len(out) < 8 {
		t.Fatalf("the table of metrics in docs/operations.md has %d rows", len(out))
	}
	return out
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Labels that Prometheus itself adds.
var scraped = []string{"job", "instance"}

var (
	seriesRE = regexp.MustCompile(`\b(hivegate_[a-z_]+)(\{[^}]*\})?`)
	labelRE  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	groupRE  = regexp.MustCompile(`\b(?:by|on|without|ignoring) \(([^)]*)\)`)
)

// judge says what is wrong with an expression: a metric or label that is not
// exported. It returns the metrics that the expression asks for.
func judge(known map[string][]string, expr string) (used, wrong []string) {
	grouped := []string{}
	for _, m := range groupRE.FindAllStringSubmatch(expr, -1) {
		grouped = append(grouped, strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	for _, m := range seriesRE.FindAllStringSubmatch(expr, -1) {
		labels, there := known[m[1]]
		if !there {
			wrong = append(wrong, "no such metric: "+m[1])
			continue
		}
		used = append(used, m[1])
		asked := slices.Clone(grouped)
		for _, l := range labelRE.FindAllStringSubmatch(m[2], -1) {
			asked = append(asked, l[1])
		}
		for _, l := range asked {
			if !slices.Contains(labels, l) && !slices.Contains(scraped, l) {
				wrong = append(wrong, m[1]+" has no label "+l)
			}
		}
	}
	return used, wrong
}

// base is the metric that a histogram's series belongs to.
func base(name string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if s, ok := strings.CutSuffix(name, suffix); ok {
			return s
		}
	}
	return name
}

func TestTheDashboardShowsEveryMetricAndAsksForNoOther(t *testing.T) {
	known := metrics(t)
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/hivegate.json")), &d); err != nil {
		t.Fatal(err)
	}
	shown, ids := map[string]bool{}, map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || len(p.Targets) == 0 {
			t.Errorf("panel %q: id %d twice, outside of the grid, or empty", p.Title, p.ID)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			used, wrong := judge(known, target.Expr)
			if len(used) == 0 {
				t.Errorf("panel %q asks for nothing of hivegate: %s", p.Title, target.Expr)
			}
			for _, w := range wrong {
				t.Errorf("panel %q: %s", p.Title, w)
			}
			for _, u := range used {
				shown[base(u)] = true
			}
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !regexp.MustCompile(`by \([^)]*\b` + m[1] + `\b`).MatchString(target.Expr) {
					t.Errorf("panel %q: the legend shows %s, by which nothing is grouped", p.Title, m[1])
				}
			}
		}
	}
	for _, v := range d.Templating.List {
		if _, wrong := judge(known, v.Definition); len(wrong) > 0 {
			t.Errorf("variable %s: %v", v.Name, wrong)
		}
	}
	for name := range known {
		if !shown[base(name)] {
			t.Errorf("no panel shows %s", base(name))
		}
	}
}

func TestAlertsAskForExportedMetricsAndEachHasATest(t *testing.T) {
	known := metrics(t)
	text := read(t, "prometheus/hivegate.rules.yml")
	tests := read(t, "prometheus/hivegate.rules.test.yml")
	for _, rule := range strings.Split(text, "- alert: ")[1:] {
		expr, _, _ := strings.Cut(rule, "        for: ")
		if _, wrong := judge(known, expr); len(wrong) > 0 {
			t.Errorf("alert %s: %v", strings.Fields(rule)[0], wrong)
		}
	}
	alerts := regexp.MustCompile(`(?m)^      - alert: (\w+)$`).FindAllStringSubmatch(text, -1)
	if len(alerts) < 8 {
		t.Fatalf("%d alerts", len(alerts))
	}
	for _, a := range alerts {
		if n := strings.Count(tests, "alertname: "+a[1]+"\n        exp_alerts:"); n == 0 {
			t.Errorf("no test raises %s", a[1])
		}
		if n := strings.Count(tests, "alertname: "+a[1]+"}"); n == 0 {
			t.Errorf("no test leaves %s silent", a[1])
		}
	}
}

func TestJudgeFindsUnknownMetricsAndLabels(t *testing.T) {
	known := map[string][]string{"hivegate_a_total": {"x"}}
	for expr, want := range map[string]int{
		`sum by (x) (rate(hivegate_a_total{x="1",job=~"j"}[5m]))`: 0,
		`hivegate_b_total`: 1, `hivegate_a_total{y!="1"}`: 1, `sum by (z) (hivegate_a_total)`: 1,
	} {
		if _, wrong := judge(known, expr); len(wrong) != want {
			t.Errorf("%s: %v, want %d mistakes", expr, wrong, want)
		}
	}
}
