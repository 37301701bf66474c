package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// upTo sends the same request until it is refused; at most 200 may pass.
func (p hiveProtocol) upTo(t *testing.T, call string, changes ...change) (passed int, last *answer) {
	t.Helper()
	method, path, _ := strings.Cut(call, " ")
	return p.until(t, method, path, changes...)
}

func (p hiveProtocol) limited(t *testing.T) {
	_, a := p.upTo(t, "POST /functions/v1/agent-respond", p.signedIn("talkative"), jsonBody("{}"))
	a.refused(t, 429, "rate_limited")
	a.isBody(t, fmt.Sprintf(`{"error":"Rate limit exceeded","code":"RATE_LIMITED","retry_after":%s}`, a.header.Get("Retry-After")))
}

func (p hiveProtocol) retryAfter(t *testing.T) {
	who := p.signedIn("patient")
	_, a := p.upTo(t, "POST /functions/v1/execute-tool", who, jsonBody("{}"))
	began := time.Now()
	wait, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || wait < 1 || wait > 60 {
		t.Fatalf("Retry-After %q", a.header.Get("Retry-After"))
	}
	eventually(t, time.Duration(wait)*time.Second+5*time.Second, "the wait is over", func() bool {
		return time.Since(began) >= time.Duration(wait)*time.Second
	})
	p.ask(t, "POST /functions/v1/execute-tool", who, jsonBody("{}")).isFine(t, "after the wait")
}

func (p hiveProtocol) classes(t *testing.T) {
	for _, c := range []struct {
		call  string
		limit int
	}{
		{"GET /rest/v1/messages", 100}, {"POST /functions/v1/agent-respond", 30}, {"POST /functions/v1/execute-tool", 50},
		{"POST /functions/v1/test-webhook", 100}, {"POST /functions/v1/dispatch", 100}, {"POST /auth/v1/otp", 10},
	} {
		a := p.ask(t, c.call, from("127.0.0.16"), p.signedIn("classes of "+c.call), jsonBody("{}"))
		a.isFine(t, c.call)
		if got := a.header.Get("X-Ratelimit-Limit"); got != strconv.Itoa(c.limit) {
			t.Errorf("%s: limit %s, want %d", c.call, got, c.limit)
		}
		if policy := a.header.Get("Ratelimit-Policy"); !strings.Contains(policy, fmt.Sprintf("q=%d;w=60", c.limit)) {
			t.Errorf("%s: policy %s", c.call, policy)
		}
	}
	// Each user by itself; attempts at signing in by address, whoever is named.
	began := time.Now()
	n, _ := p.upTo(t, "POST /functions/v1/agent-respond", p.signedIn("one"), jsonBody("{}"))
	if late := int(time.Since(began)/(2*time.Second)) + 1; n < 30 || n > 30+late {
		t.Errorf("%d responses of one user pass, want 30", n)
	}
	p.ask(t, "POST /functions/v1/agent-respond", p.signedIn("another"), jsonBody("{}")).isFine(t, "another user")
	began = time.Now()
	n, _ = p.upTo(t, "POST /auth/v1/token?grant_type=password", from("127.0.0.17"), p.anon(), jsonBody("{}"))
	if late := int(time.Since(began)/(6*time.Second)) + 1; n < 10 || n > 10+late {
		t.Errorf("%d attempts from one address pass, want 10", n)
	}
	p.ask(t, "POST /auth/v1/signup", from("127.0.0.17"), header("Apikey", p.keys["anon key"]), jsonBody("{}")).refused(t, 429, "rate_limited")
	p.ask(t, "POST /auth/v1/signup", from("127.0.0.18"), p.anon(), jsonBody("{}")).isFine(t, "another address")
}

func (p hiveProtocol) limitHeaders(t *testing.T) {
	who := p.signedIn("counting")
	for i, call := range []string{"GET /rest/v1/agents", "GET /rest/v1/agents", "POST /auth/v1/admin/users"} {
		a := p.ask(t, call, who, from("127.0.0.19"))
		if call == "POST /auth/v1/admin/users" {
			a.refused(t, 403, "insufficient_scope")
			continue
		}
		reset, err := strconv.ParseInt(a.header.Get("X-Ratelimit-Reset"), 10, 64)
		if ahead := time.Until(time.Unix(reset, 0)); err != nil || ahead < -2*time.Second || ahead > 62*time.Second {
			t.Errorf("X-RateLimit-Reset %q", a.header.Get("X-Ratelimit-Reset"))
		}
		if a.header.Get("X-Ratelimit-Limit") != "100" || a.header.Get("X-Ratelimit-Remaining") != strconv.Itoa(99-i) && i == 0 {
			t.Errorf("%v", a.header)
		}
	}
	_, a := p.upTo(t, "POST /functions/v1/agent-respond", p.signedIn("used up"), jsonBody("{}"))
	if a.header.Get("X-Ratelimit-Limit") != "30" || a.header.Get("X-Ratelimit-Remaining") != "0" {
		t.Errorf("429: %v", a.header)
	}
}
