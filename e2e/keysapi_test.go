package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// withKeysAPI is a gate whose keys are managed over HTTP.
var withKeysAPI = config{
	global: cheap + `
		scopes farms:read farms:write keys:read keys:manage admin:write
		preset read_only farms:read
		plan tiny {
			requests 5/m
		}
		plan big {
			requests 1000000/m
		}
		default_plan big
	`,
	gate: `
		dialect hornethive
		routes {
			GET /farms farms:read
			GET /events farms:read
			* /v1/{rest...} admin:write
		}
		keys_api /v1 {
			read keys:read|keys:manage
			write keys:manage
			any_owner admin:write
		}
	`,
}

// member is a text member of a JSON answer.
func (a *answer) member(t testing.TB, name string) string {
	t.Helper()
	v, _ := a.asJSON(t)[name].(string)
	return v
}

func jsonBody(body string) change { return content("application/json", body) }

// makeOverHTTP makes a key through the API, and notes its secret.
func (g *gate) makeOverHTTP(t testing.TB, with, body string) created {
	t.Helper()
	a, err := g.try(g.sites[0], "POST", "/v1/api-keys", key(with), jsonBody(body))
	if err != nil || a.status != http.StatusCreated {
		t.Fatalf("create: %v %+v", err, a)
	}
	var k created
	if err := json.Unmarshal(a.body, &k); err != nil {
		t.Fatal(err)
	}
	book.addKey("a key made over HTTP", k.Key)
	return k
}

func (g *gate) manager(t testing.TB, more ...string) created {
	t.Helper()
	args := []string{"--scope", "keys:manage", "--scope", "farms:read", "--plan", "big"}
	return g.create(t, append(args, more...)...)
}

func TestKeysAPIAnswersThroughTheGate(t *testing.T) {
	g := start(t, withKeysAPI)
	root := g.manager(t, "--owner", "acme")
	t.Run("verify counts as one request and tells the limit", func(t *testing.T) {
		k := g.create(t, "--scope", "farms:read", "--plan", "tiny", "--owner", "counted")
		for want := 4; want >= 3; want-- {
			a := g.get(t, "/v1/auth/verify", key(k.Key))
			limit, _ := a.asJSON(t)["rate_limit"].(map[string]any)
			if a.status != 200 || a.asJSON(t)["valid"] != true || a.member(t, "key_id") != k.ID || limit["limit"] != 5.0 || limit["remaining"] != float64(want) {
				t.Errorf("verify: %d %s", a.status, a.body)
			}
			if a.header.Get("X-Ratelimit-Remaining") != fmt.Sprint(want) || fmt.Sprint(int64(limit["reset"].(float64))) != a.header.Get("X-Ratelimit-Reset") {
				t.Errorf("headers %v against %v", a.header, limit)
			}
			if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Request-Id") == "" || a.header.Get("Content-Type") != "application/json; charset=utf-8" {
				t.Errorf("headers %v", a.header)
			}
		}
		for range 3 {
			g.get(t, "/v1/auth/verify", key(k.Key))
		}
		g.get(t, "/v1/auth/verify", key(k.Key)).refused(t, 429, "rate_limited")
	})
	t.Run("refusals have the site's dialect", func(t *testing.T) {
		k := g.createScoped(t, "farms:read")
		g.get(t, "/v1/auth/verify").refused(t, 401, "missing_credentials")
		g.get(t, "/v1/auth/verify", key(k.Key[:55]+"0")).refused(t, 401, "api_key_invalid")
		g.get(t, "/v1/api-keys", key(k.Key)).refused(t, 403, "insufficient_scope")
		a := g.do(t, "POST", "/v1/api-keys", key(root.Key), jsonBody(`{"name":"x","permissions":["farms:write"]}`))
		a.refused(t, 403, "insufficient_scope")
		if want := `{"error":{"code":"forbidden","message":"Insufficient permissions","details":{"required_permission":"farms:write","provided_permissions":["keys:manage","farms:read"]}}}`; string(a.body) != want {
			t.Errorf("got %s", a.body)
		}
		if a.header.Get("X-Ratelimit-Limit") == "" {
			t.Error("a refusal of the API has no limit headers")
		}
		g.do(t, "POST", "/v1/api-keys", key(root.Key), jsonBody(`{"name":"x","permissions":[],"expires_at":"2020-01-01T00:00:00Z"}`)).refused(t, 422, "field_invalid")
		g.do(t, "PATCH", "/v1/api-keys/key_AAAAAAAAAAAA", key(root.Key), jsonBody(`{"name":"x"}`)).refused(t, 404, "not_found")
		g.do(t, "POST", "/v1/api-keys", key(root.Key), jsonBody(`{"name":"`+strings.Repeat("x", 10<<20)+`"}`)).refused(t, 413, "body_too_large")
		g.get(t, "/v1/api-keys?limit=0", key(root.Key)).refused(t, 400, "query_invalid")
	})
	t.Run("its paths go before wildcard lines", func(t *testing.T) {
		wide := g.create(t, "--scope", "*", "--plan", "big")
		g.get(t, "/v1/other", key(wide.Key)).passed(t)
		a := g.do(t, "PUT", "/v1/api-keys", key(wide.Key))
		a.refused(t, 405, "method_not_allowed")
		if a.header.Get("Allow") != "GET, HEAD, POST" {
			t.Errorf("Allow %q", a.header.Get("Allow"))
		}
		g.do(t, "POST", "/v1/auth/verify", key(wide.Key)).refused(t, 405, "method_not_allowed")
		g.get(t, "/v1/api-keys/", key(wide.Key)).refused(t, 404, "route_not_found")
		g.do(t, "PUT", "/v1/api-keys").refused(t, 401, "missing_credentials")
		if n := g.farm.hits.Load(); n != 1 {
			t.Errorf("the backend saw %d requests, want the one to /v1/other", n)
		}
	})
	t.Run("the description is served", func(t *testing.T) {
		a := g.get(t, "/v1/openapi.json", key(root.Key))
		if a.status != 200 || a.member(t, "openapi") != "3.1.0" {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("HEAD has no body", func(t *testing.T) {
		if a := g.do(t, "HEAD", "/v1/api-keys", key(root.Key)); a.status != 200 || len(a.body) != 0 {
			t.Errorf("%d %q", a.status, a.body)
		}
	})
	t.Run("every change is logged with its actor", func(t *testing.T) {
		k := g.makeOverHTTP(t, root.Key, `{"name":"logged","permissions":["farms:read"]}`)
		for _, want := range []string{`"logger":"hivegate.audit"`, `"action":"create"`, `"key_id":"` + k.ID + `"`, `"actor":"` + root.ID + `"`, `"address":"127.0.0.1"`} {
			eventually(t, 10*time.Second, "the log has "+want, func() bool { return strings.Contains(g.log.String(), want) })
		}
	})
}

func TestAChangeHoldsFromTheNextRequestOnThisNode(t *testing.T) {
	g := start(t, withKeysAPI)
	root := g.manager(t, "--owner", "acme")
	ask := func(k string) *answer { return g.get(t, "/farms", key(k)) }
	call := func(method, id, body string) *answer {
		return g.do(t, method, "/v1/api-keys/"+id, key(root.Key), jsonBody(body))
	}
	fresh := func() created {
		k := g.makeOverHTTP(t, root.Key, `{"name":"k","preset":"read_only"}`)
		ask(k.Key).passed(t)
		return k
	}
	k := fresh()
	if a := call("PATCH", k.ID, `{"disabled":true}`); a.status != 200 {
		t.Fatalf("disable: %d %s", a.status, a.body)
	}
	ask(k.Key).refused(t, 401, "api_key_disabled")
	call("PATCH", k.ID, `{"disabled":false}`)
	ask(k.Key).passed(t)
	call("PATCH", k.ID, `{"permissions":[]}`)
	ask(k.Key).refused(t, 403, "insufficient_scope")
	call("PATCH", k.ID, `{"permissions":["farms:read"],"ip_allowlist":["192.0.2.1"]}`)
	ask(k.Key).refused(t, 403, "address_forbidden")

	k = fresh()
	a, err := g.try(g.sites[0], "POST", "/v1/api-keys/"+k.ID+"/rotate", key(root.Key), jsonBody(`{"overlap":"0s"}`))
	if err != nil || a.status != 200 {
		t.Fatal(err, a)
	}
	second := a.member(t, "key")
	book.addKey("a rotated key", second)
	ask(k.Key).refused(t, 401, "api_key_invalid")
	ask(second).passed(t)
	if a := g.do(t, "DELETE", "/v1/api-keys/"+k.ID, key(root.Key)); a.status != 204 || len(a.body) != 0 {
		t.Fatalf("revoke: %d %s", a.status, a.body)
	}
	ask(second).refused(t, 401, "api_key_revoked")
	// Deleting oneself is allowed, and is the last thing that the key does.
	if a := g.do(t, "DELETE", "/v1/api-keys/"+root.ID, key(root.Key)); a.status != 204 {
		t.Fatalf("own key: %d %s", a.status, a.body)
	}
	g.get(t, "/v1/auth/verify", key(root.Key)).refused(t, 401, "api_key_revoked")
}

// While the overlap lasts a person can see whether the old secret is in use.
func TestBothSecretsWorkDuringAnOverlapAndTheOldOnesUseIsShown(t *testing.T) {
	g := start(t, withKeysAPI)
	root := g.manager(t, "--owner", "acme")
	k := g.makeOverHTTP(t, root.Key, `{"name":"k","permissions":["farms:read"]}`)
	a, err := g.try(g.sites[0], "POST", "/v1/api-keys/"+k.ID+"/rotate", key(root.Key))
	if err != nil || a.status != 200 {
		t.Fatal(err, a)
	}
	second := a.member(t, "key")
	book.addKey("a rotated key", second)
	g.get(t, "/farms", key(k.Key)).passed(t)
	g.get(t, "/farms", key(second)).passed(t)
	g.stop(t) // writes last uses
	g.run(t)
	old, _ := g.get(t, "/v1/api-keys/"+k.ID, key(root.Key)).asJSON(t)["old_secret"].(map[string]any)
	if old["last_used_at"] == nil || old["expires_at"] == nil {
		t.Errorf("old secret: %v", old)
	}
	if out := g.hivegate(t, "apikey", "show", k.ID).ok(t); !strings.Contains(out.stdout, "old secret") || !strings.Contains(out.stdout, "GET /farms") {
		t.Errorf("show:\n%s", out.stdout)
	}
}

func TestAStreamOfARevokedKeyIsCutWithinASecond(t *testing.T) {
	g := start(t, withKeysAPI)
	root := g.manager(t, "--owner", "acme")
	g.farm.handle("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: x\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	var longest time.Duration
	const rounds = 20
	for range rounds {
		k := g.makeOverHTTP(t, root.Key, `{"name":"s","permissions":["farms:read"]}`)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+g.sites[0]+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+k.Key)
		resp, err := g.clientFor(req).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body := bufio.NewReader(resp.Body)
		if line, err := body.ReadString('\n'); err != nil || line != "data: x\n" {
			t.Fatal(line, err)
		}
		if a := g.do(t, "DELETE", "/v1/api-keys/"+k.ID, key(root.Key)); a.status != 204 {
			t.Fatal(a.status)
		}
		begin := time.Now()
		_, err = io.Copy(io.Discard, body)
		took := time.Since(begin)
		_ = resp.Body.Close()
		cancel()
		if ctx.Err() == context.DeadlineExceeded || took > time.Second {
			t.Fatalf("the stream was open for %s after the revocation (%v)", took, err)
		}
		longest = max(longest, took)
	}
	t.Logf("%d streams of revoked keys were cut, the slowest after %s", rounds, longest.Round(10*time.Microsecond))
}
