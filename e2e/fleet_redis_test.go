package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// admission is how much load the test of over-admission makes.
type admission struct {
	owners, perMinute int
	lasts             time.Duration
}

func admissionSize() admission {
	if full("HIVEGATE_FLEET") {
		return admission{owners: 50, perMinute: 600, lasts: time.Minute}
	}
	return admission{owners: 8, perMinute: 600, lasts: 4 * time.Second}
}

// TestFleetAdmitsWhatOneBucketWould: skewed load at three times the limit on three
// gates. What passes is never more than one bucket holds and refills in that time,
// and at most 2 % less (strict) or 5 % less (lease). In the short form the bucket
// is small, so that it is empty for most of the time.
func TestFleetAdmitsWhatOneBucketWould(t *testing.T) {
	size := admissionSize()
	burst := size.perMinute
	if !full("HIVEGATE_FLEET") {
		burst = 30
	}
	for _, c := range []struct {
		mode string
		loss float64
	}{{"strict", 0.02}, {"lease", 0.05}} {
		t.Run(c.mode, func(t *testing.T) {
			r := ownRedis(t)
			f := startRedisFleet(t, r, 3, "patient mode "+c.mode, fmt.Sprintf("plan p {\n requests %d/m burst %d\n}\n default_plan p\n", size.perMinute, burst))
			f.upEverywhere(t, 10*time.Second, 1)
			keys := f.owners(t, size.owners)
			counts := make([]count, size.owners)
			rate := float64(3*size.perMinute*size.owners) / 60
			ctx, cancel := context.WithTimeout(context.Background(), size.lasts)
			defer cancel()
			sent := f.gates[0].pace(ctx, int(rate), func(i int) {
				o := i % size.owners
				// Six of ten on one gate, three on the next, one on the last: another one
				// for each owner.
				node := []int{0, 0, 0, 0, 0, 0, 1, 1, 1, 2}[rand.IntN(10)]
				counts[o].ask(f.gates[(node+o)%3], "/farms", keys[o].Key)
			})
			var least, most, all, could float64
			least = 1
			for o := range counts {
				n := &counts[o]
				passed := float64(n.passed.Load())
				// One bucket was full before the first request, and was asked until the
				// last. What came in between is only known from outside.
				atMost := float64(burst) + float64(size.perMinute)*n.lastAnswer.Sub(n.first).Minutes()
				atLeast := float64(burst) + float64(size.perMinute)*n.last.Sub(n.firstAnswer).Minutes()
				atLeast = min(atLeast, passed+float64(n.limited.Load()))
				all, could = all+passed, could+atLeast
				most = max(most, passed/atMost)
				least = min(least, passed/atLeast)
				if n.wrong.Load() > 0 {
					t.Errorf("owner %d: %d answers other than 200 and 429", o, n.wrong.Load())
				}
				if passed > atMost+1e-6 {
					t.Errorf("owner %d: %.0f passed, one bucket holds at most %.2f", o, passed, atMost)
				}
				if slack := max(c.loss*atLeast, 1.5); passed < atLeast-slack {
					t.Errorf("owner %d: %.0f passed, one bucket lets at least %.2f through", o, passed, atLeast)
				}
			}
			t.Logf("%s: %d requests (%.1f times the limit; less than 3 is a slow machine), %.0f passed of %.0f (%+.2f %%); by owner %+.2f %% to %+.2f %%", c.mode, sent, 60*float64(sent)/size.lasts.Seconds()/float64(size.perMinute*size.owners), all, could,
				100*(all/could-1), 100*(least-1), 100*(most-1))
			for _, g := range f.gates {
				if up := g.metric(t, "hivegate_store_up", `store="limiter"`); up != 1 {
					t.Errorf("a gate has lost Redis under load\n%s", g.tail())
				}
			}
		})
	}
}

// TestFleetCountsSlotsTogetherAndAKilledGatesComeBack: three slots, taken on two
// gates; one gate is killed. The short form does not wait for what becomes of its
// slots then: that takes them as long as they live without a heartbeat.
func TestFleetCountsSlotsTogetherAndAKilledGatesComeBack(t *testing.T) {
	r := ownRedis(t)
	f := startRedisFleet(t, r, 3, "", "plan p {\n requests unlimited\n concurrent slots 3\n}\n default_plan p\n")
	f.upEverywhere(t, 10*time.Second, 1)
	k := f.owners(t, 1)[0]
	release := make(chan struct{})
	var once sync.Once
	free := func() { once.Do(func() { close(release) }) }
	for _, g := range f.gates {
		g.farm.handle("/hold", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-release
		})
	}
	t.Cleanup(free) // before the backends are closed
	hold := func(g *gate) {
		t.Helper()
		before := g.farm.hits.Load()
		go func() { _, _ = g.try(g.sites[0], "GET", "/hold", key(k.Key)) }()
		eventually(t, 5*time.Second, "the request is with the backend", func() bool { return g.farm.hits.Load() > before })
	}
	hold(f.gates[0])
	hold(f.gates[0])
	hold(f.gates[1])
	for _, g := range f.gates {
		g.get(t, "/hold", key(k.Key)).refused(t, 429, "concurrency_limited")
	}
	if !full("HIVEGATE_FAULTS") {
		free()
		for _, g := range f.gates {
			eventually(t, 5*time.Second, "the slots are given back", func() bool { return g.get(t, "/hold", key(k.Key)).status == 200 })
		}
		return
	}
	f.gates[0].kill(t)
	killed := time.Now()
	g := f.gates[2]
	// The request that is let in then holds a slot of its own, so one is enough.
	back := func() bool {
		r, err := http.NewRequest(http.MethodGet, "http://"+g.sites[0]+"/hold", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+k.Key)
		resp, err := g.clientFor(r).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode == 200
	}
	if !reached(30*time.Second, back) {
		t.Fatal("the killed gate's slots are not back after 30 s")
	}
	t.Logf("the killed gate's slots were back after %s", time.Since(killed).Round(time.Millisecond))
	// The other gate's request lives, and so does its slot: two more, and no third.
	free()
}

// TestFleetRoutesOnFailureOverridesTheLimiters while Redis is away.
func TestFleetRoutesOnFailureOverridesTheLimiters(t *testing.T) {
	r := ownRedis(t)
	f := startRedisFleet(t, r, 1, "on_failure local", "plan p {\n requests 3/h\n}\n default_plan p\n")
	g := f.gates[0]
	f.upEverywhere(t, 10*time.Second, 1)
	k := f.owners(t, 1)[0]
	g.get(t, "/farms", key(k.Key)).passed(t)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	a := g.get(t, "/farms", key(k.Key))
	a.passed(t)
	t.Logf("the first answer after Redis was killed took %s", time.Since(begin).Round(time.Millisecond))
	if v := a.header.Get("X-Ratelimit-Remaining"); v != "1" {
		t.Errorf("remaining %q after the second of three, across the loss", v)
	}
	f.upEverywhere(t, 2*time.Second, 0)
	g.get(t, "/deny", key(k.Key)).refused(t, 503, "limiter_unavailable")
	for range 5 {
		g.get(t, "/allow", key(k.Key)).passed(t)
	}
	g.get(t, "/farms", key(k.Key)).passed(t)
	g.get(t, "/farms", key(k.Key)).refused(t, 429, "rate_limited")
	if a := g.get(t, "/healthz"); a.status != 200 || a.asJSON(t)["limiter"] != "unavailable" {
		t.Errorf("health: %d %s", a.status, a.body)
	}
	if a := g.get(t, "/readyz"); a.status != 503 {
		t.Errorf("ready: %d %s", a.status, a.body)
	}
	if err := r.Start(); err != nil { // empty
		t.Fatal(err)
	}
	f.upEverywhere(t, 5*time.Second, 1)
	g.get(t, "/farms", key(k.Key)).refused(t, 429, "rate_limited")
	g.get(t, "/deny", key(k.Key)).refused(t, 429, "rate_limited")
	if a := g.get(t, "/readyz"); a.status != 200 || a.asJSON(t)["limiter"] != "ok" {
		t.Errorf("ready: %d %s", a.status, a.body)
	}
	for _, line := range []string{"the limiter's server is away", "the limiter's server is back"} {
		if !strings.Contains(g.log.String(), line) {
			t.Errorf("the log does not say that %s", line)
		}
	}
}

// TestFleetGateStartsAndServesWithoutRedis, and refuses where that is asked for.
func TestFleetGateStartsAndServesWithoutRedis(t *testing.T) {
	r := ownRedis(t)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	for how, status := range map[string]int{"local": 200, "allow": 200, "deny": 503} {
		f := startRedisFleet(t, r, 1, "on_failure "+how, "plan p {\n requests 60/m\n}\n default_plan p\n")
		k := f.owners(t, 1)[0]
		if a := f.gates[0].get(t, "/farms", key(k.Key)); a.status != status {
			t.Errorf("on_failure %s: %d %s", how, a.status, a.reason())
		}
		// A wrong secret is counted all the same.
		limited := false
		for range 15 {
			limited = limited || f.gates[0].get(t, "/farms", key(wrong(t, k))).status == 429
		}
		if !limited {
			t.Errorf("on_failure %s: guesses are not counted", how)
		}
	}
}
