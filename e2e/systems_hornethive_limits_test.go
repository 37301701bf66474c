package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"
)

func (h *hornetHive) plans(t *testing.T) {
	for plan, c := range map[string]struct{ minute, outcomes int }{"explorer": {60, 3}, "operator": {300, 10}, "swarm": {1000, 25}} {
		k := h.makeOverHTTP(t, h.root.Key, fmt.Sprintf(`{"name":%q,"owner":"plan %s","preset":"developer","plan":%q}`, plan, plan, plan))
		h.outcomesAtOnce(t, plan, k, c.outcomes)
		if limit := h.get(t, "/v1/crews", key(k.Key)).header.Get("X-Ratelimit-Limit"); limit != strconv.Itoa(c.minute) {
			t.Errorf("%s: limit %s, want %d", plan, limit, c.minute)
		}
	}
	// HiveCore: what was agreed upon stands at the key.
	k := h.create(t, "--owner", "core", "--plan", "hivecore", "--preset", "developer", "--requests", "5000/m", "--concurrent", "outcomes=2")
	h.outcomesAtOnce(t, "hivecore", k, 2)
	if limit := h.get(t, "/v1/crews", key(k.Key)).header.Get("X-Ratelimit-Limit"); limit != "5000" {
		t.Errorf("hivecore: limit %s, want 5000", limit)
	}
}

// outcomesAtOnce starts as many outcomes as the plan allows, and one more.
func (h *hornetHive) outcomesAtOnce(t *testing.T, plan string, k created, n int) {
	t.Helper()
	path := "/v1/crews/" + plan + "/deploy"
	inside, letGo := h.farm.hold(path)
	done := make(chan int, n)
	for range n {
		go func() {
			a, err := h.try(h.sites[0], http.MethodPost, path, key(k.Key))
			if err != nil {
				done <- 0
				return
			}
			done <- a.status
		}()
		<-inside
	}
	for _, call := range []string{"POST " + path, "POST /v1/outcomes", "POST /v1/outcomes/9/revise"} {
		h.call(t, call, key(k.Key)).refused(t, 429, "concurrency_limited")
	}
	h.get(t, "/v1/outcomes/9", key(k.Key)).passed(t) // its status may be asked
	close(letGo)
	for range n {
		if status := <-done; status != 200 {
			t.Errorf("%s: an outcome within the limit: %d", plan, status)
		}
	}
}

func (h *hornetHive) limitHeaders(t *testing.T) {
	k := h.makeOverHTTP(t, h.root.Key, `{"name":"headers","owner":"headers","permissions":["crews:read"]}`)
	remaining := 60
	check := func(what string, a *answer, limit string) {
		t.Helper()
		reset, err := strconv.ParseInt(a.header.Get("X-Ratelimit-Reset"), 10, 64)
		if in := time.Until(time.Unix(reset, 0)); err != nil || in < -2*time.Second || in > 62*time.Second {
			t.Errorf("%s: X-RateLimit-Reset %q", what, a.header.Get("X-Ratelimit-Reset"))
		}
		if got := a.header.Get("X-Ratelimit-Limit"); limit != "" && got != limit || got == "" {
			t.Errorf("%s: X-RateLimit-Limit %q, want %q", what, got, limit)
		}
		if n, err := strconv.Atoi(a.header.Get("X-Ratelimit-Remaining")); err != nil || limit == "60" && n > remaining {
			t.Errorf("%s: X-RateLimit-Remaining %q, want at most %d", what, a.header.Get("X-Ratelimit-Remaining"), remaining)
		}
	}
	for _, c := range []struct {
		what   string
		status int
		call   string
	}{
		{"success", 200, "GET /v1/crews"}, {"403", 403, "POST /v1/crews"}, {"404", 404, "GET /v1/none"},
		{"405", 405, "POST /v1/crews/7"}, {"verify", 200, "GET /v1/auth/verify"}, {"the list of keys", 200, "GET /v1/api-keys"},
		{"a key that is not there", 404, "GET /v1/api-keys/key_000000000000"},
	} {
		a := h.call(t, c.call, key(k.Key))
		if a.status != c.status {
			t.Errorf("%s: %d", c.what, a.status)
		}
		remaining-- // the request that is answered is counted
		check(c.what, a, "60")
		remaining += 2 // a token comes back each second
	}
	check("401", h.get(t, "/v1/crews"), "10") // of the address's failure budget
	check("429", h.until429(t, k), "60")
}

// until429 uses up a key's minute.
func (h *hornetHive) until429(t *testing.T, k created) *answer {
	t.Helper()
	for range 200 {
		if a := h.get(t, "/v1/crews", key(k.Key)); a.status == 429 {
			return a
		}
	}
	t.Fatal("200 requests pass")
	return nil
}

func (h *hornetHive) retryAfter(t *testing.T) {
	k := h.makeOverHTTP(t, h.root.Key, `{"name":"patient","owner":"patient","permissions":["crews:read"]}`)
	a := h.until429(t, k)
	began := time.Now()
	a.refused(t, 429, "rate_limited")
	wait, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || wait < 1 {
		t.Fatalf("Retry-After %q", a.header.Get("Retry-After"))
	}
	e := errorOf(t, a)
	d, _ := e["details"].(map[string]any)
	if e["code"] != "rate_limit_exceeded" || d["retry_after"] != float64(wait) || d["limit"] != 60.0 || d["remaining"] != 0.0 {
		t.Errorf("body %s, Retry-After %d", a.body, wait)
	}
	// Who waits that long is let through.
	eventually(t, time.Duration(wait)*time.Second+5*time.Second, "the wait is over", func() bool {
		return time.Since(began) >= time.Duration(wait)*time.Second
	})
	h.get(t, "/v1/crews", key(k.Key)).passed(t)
}
