package e2e

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"testing"
	"time"
)

var limited = config{
	global: cheap + `
		class ai 2/m
		class perkey 2/m per key
		class perip 2/m per ip
		plan explorer {
			requests 6/m
		}
		plan hourly {
			requests 50/s
			requests 100/h burst 7
			class ai 4/m
		}
		plan closed {
			requests 0/m
		}
		plan roomy {
			requests unlimited
		}
		plan busy {
			requests unlimited
			concurrent 2
		}
		default_plan explorer
		anonymous 3/m
	`,
	gate: `
		routes {
			GET /open public
			GET /open-ai public class=ai
			GET /farms farms:read
			GET /ai farms:read class=ai
			GET /perkey farms:read class=perkey
			GET /perip farms:read class=perip
			GET /dear farms:read cost=4
			GET /write farms:write class=ai
			GET /hold farms:read
		}
	`,
}

func TestLimitHeadersCountDownAndRetryAfterIsTrue(t *testing.T) {
	g := start(t, limited)
	k := g.createScoped(t, "farms:read")
	for i := range 6 {
		a := g.get(t, "/farms", key(k.Key))
		a.passed(t)
		for name, want := range map[string]string{
			"X-Ratelimit-Limit": "6", "X-Ratelimit-Remaining": fmt.Sprint(5 - i),
			"Ratelimit-Policy": `"explorer";q=6;w=60`,
		} {
			if v := a.header.Get(name); v != want {
				t.Errorf("request %d: %s %q, want %q", i+1, name, v, want)
			}
		}
		if v := a.header.Get("Ratelimit"); !regexp.MustCompile(fmt.Sprintf(`^"explorer";r=%d;t=[0-9]+$`, 5-i)).MatchString(v) {
			t.Errorf("request %d: RateLimit %q", i+1, v)
		}
		reset, err := strconv.ParseInt(a.header.Get("X-Ratelimit-Reset"), 10, 64)
		if away := time.Until(time.Unix(reset, 0)).Seconds(); err != nil || away < float64(10*i) || away > float64(10*(i+1)+2) {
			t.Errorf("request %d: reset in %.1f s, want about %d", i+1, away, 10*(i+1))
		}
	}
	a := g.get(t, "/farms", key(k.Key))
	a.refused(t, 429, "rate_limited")
	if v := a.header.Get("X-Ratelimit-Remaining"); v != "0" {
		t.Errorf("remaining %q", v)
	}
	if v := a.header.Get("Retry-After"); v != "10" && v != "9" {
		t.Errorf("Retry-After %q of a bucket that refills one in 10 s", v)
	}
	// 403 and 404 count as well, and say so.
	f := g.createScoped(t, "farms:write")
	a = g.get(t, "/farms", key(f.Key))
	a.refused(t, 403, "insufficient_scope")
	if v := a.header.Get("X-Ratelimit-Remaining"); v != "5" {
		t.Errorf("after a 403: %q left, want 5", v)
	}
	a = g.get(t, "/none", key(f.Key))
	a.refused(t, 404, "route_not_found")
	if v := a.header.Get("X-Ratelimit-Remaining"); v != "4" {
		t.Errorf("after a 404: %q left, want 4", v)
	}
}

func TestRetryAfterLetsAPatientClientIn(t *testing.T) {
	g := start(t, config{global: cheap + "plan second {\n\t\t\trequests 1/s\n\t\t}\n\t\tdefault_plan second\n", gate: oneRoute})
	k := g.createScoped(t, "farms:read")
	g.get(t, "/farms", key(k.Key)).passed(t)
	a := g.get(t, "/farms", key(k.Key))
	a.refused(t, 429, "rate_limited")
	wait, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Duration(wait) * time.Second)
	g.get(t, "/farms", key(k.Key)).passed(t)
}

func TestARefusedRequestTakesFromNoBucket(t *testing.T) {
	g := start(t, limited)
	k := g.create(t, "--scope", "farms:read", "--plan", "hourly")
	for range 4 {
		g.get(t, "/ai", key(k.Key)).passed(t)
	}
	for range 3 { // the class refuses, the plan must not pay
		a := g.get(t, "/ai", key(k.Key))
		a.refused(t, 429, "rate_limited")
		if fmt.Sprint(a.asJSON(t)["violated-policies"]) == "" {
			t.Error("no violated policy is named")
		}
	}
	g.get(t, "/none", key(k.Key)).refused(t, 404, "route_not_found")
	a := g.get(t, "/farms", key(k.Key))
	a.passed(t)
	// hourly.2 holds 7: four of /ai, one of /none, one of /farms.
	if v := a.header.Get("Ratelimit"); !regexp.MustCompile(`"hourly\.2";r=1;`).MatchString(v) {
		t.Errorf("RateLimit %q, want one left of hourly.2", v)
	}
	if v := a.header.Get("Ratelimit-Policy"); v != `"hourly";q=50;w=1, "hourly.2";q=7;w=252` {
		t.Errorf("RateLimit-Policy %q", v)
	}
}

func TestClassesCountPerOwnerKeyAndAddress(t *testing.T) {
	g := start(t, limited)
	make2 := func(owner string) (created, created) {
		return g.create(t, "--scope", "farms:read", "--owner", owner, "--plan", "roomy"),
			g.create(t, "--scope", "farms:read", "--owner", owner, "--plan", "roomy")
	}
	a, b := make2("acme")
	g.get(t, "/ai", key(a.Key)).passed(t)
	g.get(t, "/ai", key(b.Key)).passed(t)
	g.get(t, "/ai", key(a.Key)).refused(t, 429, "rate_limited")
	g.get(t, "/ai", key(b.Key)).refused(t, 429, "rate_limited")
	for range 2 {
		g.get(t, "/perkey", key(a.Key)).passed(t)
		g.get(t, "/perkey", key(b.Key)).passed(t)
	}
	g.get(t, "/perkey", key(a.Key)).refused(t, 429, "rate_limited")
	g.get(t, "/perip", key(a.Key)).passed(t)
	g.get(t, "/perip", key(b.Key)).passed(t)
	g.get(t, "/perip", key(a.Key)).refused(t, 429, "rate_limited")
	g.get(t, "/perip", key(a.Key), from("127.0.0.30")).passed(t)
	// The class is another owner's as well.
	o, _ := make2("other")
	g.get(t, "/ai", key(o.Key)).passed(t)
	// Class and cost count only where the scopes hold.
	for range 3 {
		g.get(t, "/write", key(o.Key)).refused(t, 403, "insufficient_scope")
	}
	g.get(t, "/ai", key(o.Key)).passed(t)
	g.get(t, "/ai", key(o.Key)).refused(t, 429, "rate_limited")
}

func TestCostTakesSeveralTokens(t *testing.T) {
	g := start(t, limited)
	k := g.createScoped(t, "farms:read")
	a := g.get(t, "/dear", key(k.Key))
	a.passed(t)
	if v := a.header.Get("X-Ratelimit-Remaining"); v != "2" {
		t.Errorf("remaining %q after a request that costs 4 of 6", v)
	}
	a = g.get(t, "/dear", key(k.Key))
	a.refused(t, 429, "rate_limited")
	if v := a.header.Get("Retry-After"); v != "20" && v != "19" {
		t.Errorf("Retry-After %q: two tokens are missing, one comes in 10 s", v)
	}
	g.get(t, "/farms", key(k.Key)).passed(t)
}

func TestAnonymousLimitCountsPerAddress(t *testing.T) {
	g := start(t, limited)
	for i := range 3 {
		a := g.get(t, "/open")
		a.passed(t)
		if v := a.header.Get("Ratelimit-Policy"); v != `"anonymous";q=3;w=60` {
			t.Errorf("RateLimit-Policy %q", v)
		}
		if v := a.header.Get("X-Ratelimit-Remaining"); v != fmt.Sprint(2-i) {
			t.Errorf("remaining %q", v)
		}
	}
	g.get(t, "/open").refused(t, 429, "rate_limited")
	for range 2 {
		g.get(t, "/open-ai", from("127.0.0.31")).passed(t)
	}
	g.get(t, "/open-ai", from("127.0.0.31")).refused(t, 429, "rate_limited")
	g.get(t, "/open", from("127.0.0.31")).passed(t)
}

func TestAKeysOwnLimitsOverrideItsPlan(t *testing.T) {
	g := start(t, limited)
	k := g.create(t, "--scope", "farms:read", "--requests", "2/m")
	a := g.get(t, "/farms", key(k.Key))
	a.passed(t)
	if v := a.header.Get("Ratelimit-Policy"); v != `"key";q=2;w=60` {
		t.Errorf("RateLimit-Policy %q", v)
	}
	g.get(t, "/farms", key(k.Key)).passed(t)
	g.get(t, "/farms", key(k.Key)).refused(t, 429, "rate_limited")
}

func TestAClosedPlanRefusesEverything(t *testing.T) {
	g := start(t, limited)
	k := g.create(t, "--scope", "farms:read", "--plan", "closed")
	a := g.get(t, "/farms", key(k.Key))
	a.refused(t, 429, "rate_limited")
	if v := a.header.Get("Retry-After"); v != "86400" {
		t.Errorf("Retry-After %q, want 86400", v)
	}
}

func TestWithoutALimitThereAreNoLimitHeaders(t *testing.T) {
	g := start(t, limited)
	k := g.create(t, "--scope", "farms:read", "--plan", "roomy")
	a := g.get(t, "/farms", key(k.Key))
	a.passed(t)
	for _, name := range []string{"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset", "Ratelimit", "Ratelimit-Policy", "Retry-After"} {
		if v, ok := a.header[name]; ok {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestRateLimitHeadersCanBeTurnedOff(t *testing.T) {
	for value, want := range map[string][2]bool{"off": {false, false}, "x": {true, false}, "ietf": {false, true}, "x ietf": {true, true}} {
		g := start(t, limited.with("ratelimit_headers "+value))
		k := g.createScoped(t, "farms:read")
		a := g.get(t, "/farms", key(k.Key))
		a.passed(t)
		if x, ietf := a.header.Get("X-Ratelimit-Limit") != "", a.header.Get("Ratelimit") != ""; x != want[0] || ietf != want[1] {
			t.Errorf("ratelimit_headers %s: X-RateLimit-* sent: %t, RateLimit sent: %t", value, x, ietf)
		}
	}
}

func TestAGoneClientGivesItsSlotBack(t *testing.T) {
	g := start(t, limited)
	streaming(t, g)
	c := limited
	c.gate = "routes {\n\t\t\tGET /any/{rest...} farms:read\n\t\t\tGET /farms farms:read\n\t\t}"
	if err := g.reload(t, c); err != nil {
		t.Fatal(err)
	}
	k := g.create(t, "--scope", "farms:read", "--plan", "busy")
	first, second := openEvents(t, g, k.Key), openSocket(t, g, k.Key)
	g.get(t, "/farms", key(k.Key)).refused(t, 429, "concurrency_limited")
	_ = first.Close()
	eventually(t, 5*time.Second, "the client that left gave its slot back", func() bool { return g.get(t, "/farms", key(k.Key)).status == 200 })
	_ = second.Close()
	third, fourth := openEvents(t, g, k.Key), socketWhenFree(t, g, k.Key)
	_ = third.Close()
	_ = fourth.Close()
}

// socketWhenFree opens an upgraded connection as soon as a slot is free for it.
func socketWhenFree(t *testing.T, g *gate, k string) io.Closer {
	t.Helper()
	eventually(t, 5*time.Second, "the closed tunnel gave its slot back", func() bool { return g.get(t, "/farms", key(k)).status == 200 })
	return openSocket(t, g, k)
}
