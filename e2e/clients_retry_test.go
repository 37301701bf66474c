//go:build clients

package e2e

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// waited is what a retrying client tells of its calls.
type waited struct {
	Calls   []waitedCall `json:"calls"`
	Version string       `json:"version"`
}

type waitedCall struct {
	Status int     `json:"status"` // what the caller got in the end
	MS     float64 `json:"ms"`     // and after how long
	// Refused are the refusals that the client kept from its caller.
	Refused []struct {
		Status     int    `json:"status"`
		RetryAfter string `json:"retryAfter"`
	} `json:"refused"`
}

// most is how many calls a client makes at most until it meets its limit.
const most = 250

// retrying are the clients: each calls until it has met a refusal once.
var retrying = map[string]func(t *testing.T, c caller) waited{
	"got":                        byScript("retry.mjs", "got"),
	"ky":                         byScript("retry.mjs", "ky"),
	"axios-retry":                byScript("retry.mjs", "axios-retry"),
	"undici RetryAgent":          byScript("retry.mjs", "undici RetryAgent"),
	"urllib3":                    byScript("retry.py", "urllib3"),
	"hashicorp go-retryablehttp": goRetryable,
}

func byScript(name, client string) func(t *testing.T, c caller) waited {
	return func(t *testing.T, c caller) (w waited) {
		script(t, name, map[string]any{"client": client, "url": c.url, "headers": c.headers, "most": most}, &w)
		if w.Version != "" {
			t.Logf("%s %s", client, w.Version)
		} else {
			t.Log(version(t, strings.Fields(client)[0]))
		}
		return w
	}
}

func goRetryable(t *testing.T, c caller) (w waited) {
	client := retryablehttp.NewClient()
	client.Logger = nil
	defer client.HTTPClient.CloseIdleConnections()
	for len(w.Calls) < most && (len(w.Calls) == 0 || len(w.Calls[len(w.Calls)-1].Refused) == 0) {
		var call waitedCall
		client.ResponseLogHook = func(_ retryablehttp.Logger, r *http.Response) {
			if r.StatusCode != http.StatusOK {
				call.Refused = append(call.Refused, struct {
					Status     int    `json:"status"`
					RetryAfter string `json:"retryAfter"`
				}{r.StatusCode, r.Header.Get("Retry-After")})
			}
		}
		r, err := retryablehttp.NewRequestWithContext(context.Background(), http.MethodGet, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range c.headers {
			r.Header.Set(name, v)
		}
		began := time.Now()
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		call.Status, call.MS = resp.StatusCode, float64(time.Since(began).Microseconds())/1000
		w.Calls = append(w.Calls, call)
	}
	return w
}

// Each client with its own defaults, in front of each configuration: it meets
// the limit, waits as long as it was told, and its caller sees 200 alone.
func TestClientsRecoverFrom429ByRetryAfter(t *testing.T) {
	for name, run := range systems {
		t.Run(name, func(t *testing.T) {
			s := run(t)
			before := s.farm.hits.Load() // what the gate asked for by itself
			var mu sync.Mutex
			passed, refused := 0, 0
			t.Run("clients", func(t *testing.T) {
				for client, calls := range retrying {
					t.Run(client, func(t *testing.T) {
						t.Parallel()
						w := calls(t, s.newCaller(t))
						n := w.judge(t)
						mu.Lock()
						defer mu.Unlock()
						passed, refused = passed+len(w.Calls), refused+n
					})
				}
			})
			// What the clients told is what the gate did.
			if got := s.farm.hits.Load() - before; got != int64(passed) {
				t.Errorf("%d requests reached the backend, %d calls succeeded", got, passed)
			}
			if got := s.metric(t, "hivegate_limited_total"); got != float64(refused) {
				t.Errorf("the gate counts %v refusals, the clients met %d", got, refused)
			}
			if got := len(s.awaitLines(t, refused, map[string]string{"logger": "http.handlers.hivegate", "reason": "rate_limited"})); got != refused {
				t.Errorf("the gate logged %d refusals, the clients met %d", got, refused)
			}
		})
	}
}

// judge checks what one client saw, and returns how often it was refused.
func (w waited) judge(t *testing.T) int {
	t.Helper()
	if i := slices.IndexFunc(w.Calls, func(c waitedCall) bool { return c.Status != http.StatusOK }); i >= 0 {
		t.Fatalf("call %d ended with %d", i, w.Calls[i].Status)
	}
	last := w.Calls[len(w.Calls)-1]
	if len(last.Refused) == 0 {
		t.Fatalf("%d calls met no limit", len(w.Calls))
	}
	told := 0.0
	for _, r := range last.Refused {
		n, err := strconv.Atoi(r.RetryAfter)
		if err != nil || r.Status != http.StatusTooManyRequests || n < 1 || n > 2 {
			t.Fatalf("refused with %d, Retry-After %q, want 429 with 1 or 2", r.Status, r.RetryAfter)
		}
		told += float64(n) * 1000
	}
	if len(last.Refused) != 1 {
		t.Errorf("refused %d times: Retry-After was not true, or not obeyed: %+v", len(last.Refused), last.Refused)
	}
	// Timers of Node may fire a millisecond early.
	if last.MS < told-2 {
		t.Errorf("came back after %.0f ms, was told to wait %.0f ms", last.MS, told)
	}
	t.Logf("call %d met 429 with Retry-After %s, and had its 200 after %.0f ms", len(w.Calls), last.Refused[0].RetryAfter, last.MS)
	return len(last.Refused)
}

// One that comes with the system, and retries when it is asked to.
func TestClientsCurlRetriesByRetryAfter(t *testing.T) {
	s := systems["hornethive"](t)
	c := s.newCaller(t)
	get := []string{"--retry", "2", "-H", "Authorization: " + c.headers["Authorization"], c.url}
	runCurl(t, get...)
	began := time.Now()
	got := runCurl(t, get...)
	if took := time.Since(began); got.status != 200 || took < 2*time.Second {
		t.Errorf("%d after %s, want 200 after 2 s", got.status, took)
	}
	if got := s.metric(t, "hivegate_limited_total", `policy="key"`); got != 1 {
		t.Errorf("%v refusals, want 1", got)
	}
}

// X-RateLimit-*, read by a parser that many clients use. It knows RateLimit as
// draft 7 had it, and looks at that first: hence a site without it. RateLimit and
// RateLimit-Policy are read by a parser of structured fields.
func TestClientsParsersReadTheLimitHeaders(t *testing.T) {
	c := example(t, "hornethive.Caddyfile")
	g := start(t, c)
	at := func(limits string) *gate {
		c := example(t, "hornethive.Caddyfile")
		if c.caddyfile = strings.Replace(c.caddyfile, "\t\tdialect hornethive\n", "\t\tdialect hornethive\n\t\tratelimit_headers "+limits+"\n", 1); !strings.Contains(c.caddyfile, "ratelimit_headers") {
			t.Fatal("the example has no dialect line")
		}
		return start(t, c)
	}
	x := at("x")
	const capacity, window = 10, 3600
	auth := func(g *gate) map[string]string {
		return map[string]string{"Authorization": "Bearer " + g.create(t, "--scope", "crews:read", "--requests", "10/h").Key}
	}
	type parsed struct {
		Status                             int
		Now, Limit, Used, Remaining, Reset float64
	}
	var got struct {
		Parsed            []parsed
		RateLimit, Policy [][]any
	}
	script(t, "headers.mjs", map[string]any{
		"plain": "http://" + x.sites[0] + "/v1/crews", "url": "http://" + x.sites[0] + "/v1/crews", "headers": auth(x), "calls": capacity + 2,
	}, &got)
	t.Log(version(t, "ratelimit-header-parser"))
	for i, p := range got.Parsed {
		used := min(i+1, capacity)
		status := http.StatusOK
		if i >= capacity {
			status = http.StatusTooManyRequests
		}
		if p.Status != status || p.Limit != capacity || p.Remaining != float64(capacity-used) || p.Used != float64(used) {
			t.Errorf("call %d: %+v, want %d with limit %d, remaining %d", i+1, p, status, capacity, capacity-used)
		}
		// The whole quota is back when what was used is.
		if full := p.Now + float64(used)*window/capacity; math.Abs(p.Reset-full) > 5 {
			t.Errorf("call %d: reset is %.1f s off", i+1, p.Reset-full)
		}
	}
	if len(got.Parsed) != capacity+2 || got.RateLimit != nil || got.Policy != nil {
		t.Errorf("%d answers, RateLimit %v, RateLimit-Policy %v, want X-RateLimit-* alone", len(got.Parsed), got.RateLimit, got.Policy)
	}

	// As it stands: both kinds.
	script(t, "headers.mjs", map[string]any{"url": "http://" + g.sites[0] + "/v1/crews", "headers": auth(g), "calls": 0}, &got)
	t.Log(version(t, "structured-headers"))
	for what, c := range map[string]struct {
		got  [][]any
		want string
	}{
		"RateLimit-Policy": {got.Policy, "[[key map[q:10 w:3600]]]"},
		"RateLimit":        {got.RateLimit, "[[key map[r:9 t:360]]]"},
	} {
		if text := fmt.Sprint(c.got); text != c.want {
			t.Errorf("%s is read as %s, want %s", what, text, c.want)
		}
	}
}

// Octokit's throttling reads X-RateLimit-Remaining and -Reset, and Retry-After of
// what its API calls secondary limits, which here are the backend's own.
func TestClientsOctokitThrottlesByTheLimitHeaders(t *testing.T) {
	s := systems["hornethive"](t)
	asked := 0
	s.farm.handle("/v1/outcomes", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if asked++; asked == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"You have exceeded a secondary rate limit."}`)
			return
		}
		_, _ = io.WriteString(w, `[]`)
	})
	c := s.newCaller(t)
	second := s.createScoped(t, "outcomes:read")
	type call struct {
		Status int
		MS     float64
	}
	var got struct {
		Primary, Secondary []call
		Told               []struct {
			Kind, URL  string
			RetryAfter float64
		}
	}
	arg := map[string]any{"baseUrl": "http://" + s.sites[0], "headers": c.headers, "primary": "/v1/crews", "secondary": "/v1/outcomes"}
	arg["secondaryHeaders"] = map[string]string{"Authorization": "Bearer " + second.Key}
	script(t, "octokit.mjs", arg, &got)
	t.Logf("%s, %s: %+v", version(t, "@octokit/core"), version(t, "@octokit/plugin-throttling"), got)
	if len(got.Told) != 2 || got.Told[0].Kind != "primary" || got.Told[1].Kind != "secondary" {
		t.Fatalf("the handlers were told %+v, want one primary and one secondary limit", got.Told)
	}
	// Two seconds until the quota is back, in whole ones, and one that the plugin adds.
	if n := got.Told[0].RetryAfter; n < 3 || n > 4 {
		t.Errorf("onRateLimit was told %v s, want 3 or 4", n)
	}
	if n := got.Told[1].RetryAfter; n != 1 {
		t.Errorf("onSecondaryRateLimit was told %v s, want 1", n)
	}
	for _, c := range slices.Concat(got.Primary, got.Secondary) {
		if c.Status != 200 {
			t.Errorf("a call ended with %d", c.Status)
		}
	}
	if len(got.Primary) != 2 || got.Primary[1].MS < 2000 || len(got.Secondary) != 1 || got.Secondary[0].MS < 1000 {
		t.Errorf("the waits: %+v", got)
	}
	if n := s.metric(t, "hivegate_limited_total", `policy="key"`); n != 1 {
		t.Errorf("the gate refused %v requests, want 1", n)
	}
}
