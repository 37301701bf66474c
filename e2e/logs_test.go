package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// logLines are the JSON lines of the log whose members have these values.
func (g *gate) logLines(t testing.TB, want map[string]string) []map[string]any {
	t.Helper()
	var out []map[string]any
lines:
	for _, l := range strings.Split(g.log.String(), "\n") {
		var m map[string]any
		if json.Unmarshal([]byte(l), &m) != nil {
			continue
		}
		for name, v := range want {
			if s, _ := m[name].(string); !strings.HasPrefix(s, v) {
				continue lines
			}
		}
		out = append(out, m)
	}
	return out
}

// awaitLines is logLines when there are n, or after five seconds what there is. A line
// may come later than the answer: the output hivegate gathers lines for a moment, and
// a pipe lies between.
func (g *gate) awaitLines(t testing.TB, n int, want map[string]string) []map[string]any {
	t.Helper()
	var lines []map[string]any
	reached(5*time.Second, func() bool {
		lines = g.logLines(t, want)
		return len(lines) >= n
	})
	return lines
}

var logged = func() config {
	c := farms
	c.options = "log {\n\t\tformat json\n\t}"
	c.before = "log"
	return c
}()

func TestEveryRefusalIsOneStructuredLogLine(t *testing.T) {
	g := start(t, logged)
	k := g.createScoped(t, "farms:read")
	a := g.do(t, "POST", "/crews", key(k.Key))
	a.refused(t, 403, "insufficient_scope")
	gate := map[string]string{"logger": "http.handlers.hivegate", "reason": "insufficient_scope"}
	eventually(t, 5*time.Second, "the refusal is logged", func() bool { return len(g.logLines(t, gate)) > 0 })
	lines := g.logLines(t, gate)
	if len(lines) != 1 {
		t.Fatalf("%d lines for one refusal", len(lines))
	}
	text, err := json.Marshal(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]string{
		"route": "/crews", "key id": k.ID, "address": "127.0.0.1", "request id": a.header.Get("X-Request-Id"),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the line does not hold the %s %s: %s", what, want, text)
		}
	}
}

// TestLinesThatAreWrittenTogetherAreAllThere: of a flood, over a reload that lets go of
// the log, and to the last line of the process.
func TestLinesThatAreWrittenTogetherAreAllThere(t *testing.T) {
	gathered, plain := farms, farms
	gathered.options = "log {\n\t\toutput hivegate file DIR/gate.log\n\t\tformat hivegate\n\t}"
	plain.options = "log {\n\t\tformat hivegate\n\t}"
	g := start(t, gathered)
	const n = 300
	nobody := func(i int) string { return fmt.Sprintf("hive_sk_nobody%d", i) }
	refusals := func() int {
		text, err := os.ReadFile(filepath.Join(g.dir, "gate.log"))
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, l := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
			var m map[string]any
			if err := json.Unmarshal([]byte(l), &m); err != nil {
				t.Fatalf("a broken line %q: %v", l, err)
			}
			if m["logger"] == "http.handlers.hivegate" && m["reason"] != nil {
				count++
			}
		}
		return count
	}
	g.burst(t, n, "/farms/7", nobody)
	if err := g.reload(t, plain); err != nil {
		t.Fatal(err)
	}
	if got := refusals(); got != n {
		t.Errorf("%d lines for %d refusals once another configuration is loaded", got, n)
	}
	if err := g.reload(t, gathered); err != nil {
		t.Fatal(err)
	}
	g.burst(t, n, "/farms/7", nobody)
	g.stop(t)
	if got := refusals(); got != 2*n {
		t.Errorf("%d lines for %d refusals once the process has ended", got, 2*n)
	}
	text, err := os.ReadFile(filepath.Join(g.dir, "gate.log"))
	if err != nil || !strings.Contains(string(text), "shutdown complete") {
		t.Errorf("the last line of the process is not there: %v", err)
	}
}

// Raw paths are the client's text: one may hold a key.
func TestTheGatesOwnLinesHoldNoRawPath(t *testing.T) {
	c := farms
	c.options = logged.options
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	g.get(t, "/none/"+k.Key, key(k.Key)).refused(t, 404, "route_not_found")
	g.get(t, "/none/"+k.Key+"//", key(k.Key)).refused(t, 400, "ambiguous_path")
	eventually(t, 5*time.Second, "both refusals are logged", func() bool {
		return len(g.logLines(t, map[string]string{"logger": "http.handlers.hivegate", "reason": ""})) >= 2
	})
}

func TestAccessLogsNameTheCallerTheRouteAndTheReason(t *testing.T) {
	g := start(t, logged)
	k := g.createScoped(t, "farms:read")
	g.get(t, "/farms/7", key(k.Key)).passed(t)
	g.do(t, "POST", "/crews", key(k.Key)).refused(t, 403, "insufficient_scope")
	access := map[string]string{"logger": "http.log.access"}
	eventually(t, 5*time.Second, "both requests are in the access log", func() bool { return len(g.logLines(t, access)) >= 2 })
	for _, m := range g.logLines(t, access) {
		if m["user_id"] != k.ID {
			t.Errorf("user_id %v, want %s", m["user_id"], k.ID)
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"/farms/{farmId}"}
		if m["status"] != 200.0 {
			want = []string{"/crews", "insufficient_scope"}
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("the access log does not hold %s: %s", w, text)
			}
		}
	}
}

// Whatever a caller does with a key, it is in no log of the shipped
// configuration: not in access logs, not in the errors of a backend that is away.
func TestNoCredentialLandsInALogHoweverItWasSent(t *testing.T) {
	hiveos := example(t, "hiveos.Caddyfile")
	hiveos.env = append(hiveos.env, "HIVEGATE_COMMAND=127.0.0.1:1") // nobody there
	text, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	first := config{caddyfile: strings.Replace(string(text), "\n{\n", "\n{\n\tadmin ADMIN\n\tpersist_config off\n\tdefault_bind 127.0.0.1\n", 1)}
	t.Run("hiveos.Caddyfile", func(t *testing.T) { sendCredentials(t, prepare(t, hiveos), "/api/v2") })
	t.Run("Caddyfile.example", func(t *testing.T) {
		g := prepare(t, first)
		g.env = append(g.env, "HIVEGATE_SITE=http://"+g.sites[0], "HIVEGATE_FARM="+g.farm.addr, "HIVEGATE_COMMAND=127.0.0.1:1")
		sendCredentials(t, g, "")
	})
}

// failuresLogged counts the lines about failed backends: Caddy's, or the gate's
// where it answers for them.
func (g *gate) failuresLogged(t testing.TB) int {
	t.Helper()
	return len(g.logLines(t, map[string]string{"logger": "http.log.error"})) +
		len(g.logLines(t, map[string]string{"logger": "http.handlers.hivegate", "reason": "backend_"}))
}

func sendCredentials(t *testing.T, g *gate, base string) {
	t.Helper()
	g.run(t)
	k := g.createScoped(t, "farms:read", "workers:command")
	stranger := "somebody-elses-secret-1234"
	book.add("a password", stranger)
	path := base + "/farms"
	// The echo holds what passed in the URL, so answers of backends are not searched.
	send := func(method, target string, changes ...change) *answer {
		a, err := g.try(g.sites[0], method, target, changes...)
		if err != nil {
			t.Fatalf("%s %s: %v", method, target, err)
		}
		if a.status != 200 {
			a.search(t, target)
		}
		return a
	}
	requests := []*answer{
		send("POST", path+"/1/workers/2/command?key="+k.Key, key(k.Key), header("X-Security-Code", stranger),
			content("application/json", `{"command":"reboot"}`)),
		send("GET", path, key(k.Key)),
		send("GET", path, header("Authorization", k.Key)),
		send("GET", path, header("Authorization", "Bearer"+k.Key)),
		send("GET", path, header("Authorization", "Basic "+stranger)),
		send("GET", path, key(k.Key), key(k.Key)),
		send("GET", path, key(k.Key+"x")),
		send("GET", path, key(wrong(t, k))),
		send("GET", path, key(stranger)),
		send("GET", path+"?token="+k.Key),
		send("GET", path+"?api_key="+stranger, key(k.Key)),
		send("GET", path+"?anything="+k.Key, key(k.Key)),
		send("GET", path+"/"+k.Key, key(k.Key)),
		send("GET", base+"//"+k.Key),
		send("GET", path, header("Apikey", k.Key), header("X-Api-Key", stranger)),
		send("GET", path, header("Login", stranger), header("Password", stranger), spelt("twofa_code", stranger)),
		send("GET", path, spelt("pass_word", stranger), spelt("x_security_code", stranger), spelt("api_key", stranger)),
		send("GET", path, header("X-Security-Code", stranger), header("Cookie", "sb-x-auth-token="+stranger)),
		send("POST", base+"/auth/login", content("application/json", `{"login":"me","password":"`+stranger+`"}`)),
		send("GET", path, spelt("authorization", "Bearer "+k.Key)),
		send("GET", path, header("Referer", "https://x/?token="+k.Key), header("User-Agent", k.Key), header("X-Forwarded-For", k.Key)),
		send("GET", path, header("Connection", k.Key)),
	}
	if a := requests[0]; a.status != 502 {
		t.Errorf("the absent backend: %d %s", a.status, a.reason())
	}
	eventually(t, 5*time.Second, "the requests are logged", func() bool {
		return len(g.logLines(t, map[string]string{"logger": "http.log.access"})) >= len(requests)
	})
	if !reached(5*time.Second, func() bool { return g.failuresLogged(t) > 0 }) {
		t.Error("the backend that is away was not logged: this test looks at nothing")
	}
	if strings.Contains(g.fromAdmin(t, "/metrics"), "127.0.0.1\"") {
		t.Error("a metric holds an address")
	}
	g.stop(t) // and its log is searched
}

func TestMetricsCountDecisionsByOutcomeKindAndPlan(t *testing.T) {
	g := start(t, farms)
	k := g.create(t, "--scope", "farms:read", "--plan", "tiny")
	for range 3 {
		g.get(t, "/farms", key(k.Key)).passed(t)
	}
	g.get(t, "/farms", key(k.Key)).refused(t, 429, "rate_limited")
	g.get(t, "/healthz").passed(t)
	g.get(t, "/farms").refused(t, 401, "missing_credentials")
	for _, m := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{3, "hivegate_requests_total", []string{`outcome="allowed"`, `kind="api_key"`, `plan="tiny"`}},
		{1, "hivegate_requests_total", []string{`outcome="allowed"`, `kind="anonymous"`}},
		{1, "hivegate_requests_total", []string{`outcome="rate_limited"`, `plan="tiny"`}},
		{1, "hivegate_requests_total", []string{`outcome="missing_credentials"`}},
		{6, "hivegate_decision_seconds_count", nil},
		{1, "hivegate_limited_total", []string{`policy="tiny"`}},
		{1, "hivegate_store_up", []string{`store="keystore"`}},
		{0, "hivegate_hash_inflight", nil},
	} {
		if v := g.metric(t, m.name, m.labels...); v != m.want {
			t.Errorf("%s%v = %g, want %g", m.name, m.labels, v, m.want)
		}
	}
	text := g.fromAdmin(t, "/metrics")
	for _, name := range []string{"hivegate_cache_total", "hivegate_revocation_lag_seconds", "hivegate_hash_total"} {
		if !strings.Contains(text, "\n"+name) && !strings.Contains(text, "# TYPE "+name+" ") {
			t.Errorf("there is no metric %s", name)
		}
	}
	if strings.Contains(text, k.ID) || strings.Contains(text, k.ID[4:]) {
		t.Error("a metric holds a key's id")
	}
}

func TestHealthSaysAliveAndReadySaysStoresReachable(t *testing.T) {
	g := start(t, farms.with("health /-/health ready /-/ready"))
	for _, p := range []string{"/-/health", "/-/ready"} {
		a := g.get(t, p)
		if a.status != 200 || strings.TrimSpace(string(a.body)) != `{"status":"ok","keystore":"ok","limiter":"ok"}` {
			t.Errorf("%s: %d %s", p, a.status, a.body)
		}
	}
	g.breakStore(t)
	eventually(t, 10*time.Second, "the broken keystore is noticed", func() bool { return g.get(t, "/-/ready").status == 503 })
	if a := g.get(t, "/-/health"); a.status != 200 {
		t.Errorf("alive all the same: %d %s", a.status, a.body)
	}
}
