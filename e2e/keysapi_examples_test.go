package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTheHornetHiveExampleRunsAsItStands(t *testing.T) {
	g := start(t, example(t, "hornethive.Caddyfile"))
	root := g.create(t, "--owner", "ops", "--plan", "hivecore", "--scope", "*")
	made := func(body string) created {
		t.Helper()
		return g.makeOverHTTP(t, root.Key, body)
	}
	verify := func(k created) map[string]any {
		t.Helper()
		a := g.get(t, "/v1/auth/verify", key(k.Key))
		limit, _ := a.asJSON(t)["rate_limit"].(map[string]any)
		if a.status != 200 || a.asJSON(t)["valid"] != true || a.member(t, "key_id") != k.ID || a.header.Get("X-Ratelimit-Limit") != fmt.Sprint(limit["limit"]) {
			t.Errorf("verify: %d %s", a.status, a.body)
		}
		return limit
	}
	for plan, limit := range map[string]float64{"explorer": 60, "operator": 300, "swarm": 1000} {
		k := made(`{"name":"` + plan + `","owner":"` + plan + `","preset":"developer","plan":"` + plan + `"}`)
		if got := verify(k); got["limit"] != limit || got["remaining"] != limit-1 {
			t.Errorf("%s: %v", plan, got)
		}
	}
	core := made(`{"name":"core","owner":"acme","permissions":["crews:read","crews:write"],"plan":"hivecore","expires_at":"2099-01-01T00:00:00Z",
		"limits":{"requests":"5000/m","concurrent":{"outcomes":2}}}`)
	if got := verify(core); got["limit"] != 5000.0 {
		t.Errorf("its own limit: %v", got)
	}
	explorer := made(`{"name":"e","owner":"explorer-2","permissions":["crews:read"]}`)
	g.get(t, "/v1/crews", key(explorer.Key)).passed(t)
	g.do(t, "POST", "/v1/crews", key(explorer.Key)).refused(t, 403, "insufficient_scope")
	g.get(t, "/v1/api-keys/"+core.ID, key(explorer.Key)).refused(t, 404, "not_found") // another owner's
	t.Run("outcomes at once", func(t *testing.T) {
		entered, leave := make(chan struct{}), make(chan struct{})
		g.farm.handle("/v1/crews/7/run", func(w http.ResponseWriter, r *http.Request) {
			entered <- struct{}{}
			<-leave
			_, _ = io.WriteString(w, `{}`)
		})
		done := make(chan int, 2)
		for range 2 {
			go func() {
				a, err := g.try(g.sites[0], "POST", "/v1/crews/7/run", key(core.Key))
				if err != nil {
					done <- 0
					return
				}
				done <- a.status
			}()
			<-entered
		}
		g.do(t, "POST", "/v1/crews/7/run", key(core.Key)).refused(t, 429, "concurrency_limited")
		close(leave)
		for range 2 {
			if status := <-done; status != 200 {
				t.Errorf("an outcome within the limit: %d", status)
			}
		}
	})
}

// session is a token of the HiveClaw web site.
func session(secret, sub string) string {
	encode := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := encode(map[string]string{"alg": "HS256", "typ": "JWT"}) + "." + encode(map[string]any{
		"iss": "https://hiveclaw.example", "sub": sub, "role": "user", "exp": time.Now().Add(time.Hour).Unix(),
	})
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestTheHiveClawExampleRunsAsItStands(t *testing.T) {
	const secret = "the-session-secret-of-the-web-site-0123456789"
	book.add("the session secret", secret)
	c := example(t, "hiveclaw.Caddyfile")
	c.env = append(c.env, "HIVECLAW_SESSION_SECRET="+secret)
	g := start(t, c)
	alice, bob := session(secret, "alice"), session(secret, "bob")
	const keys, mcp = "/api/account/api-keys", "/api/v1/mcp"
	call := func(token, method, path, body string) *answer {
		t.Helper()
		a, err := g.try(g.sites[0], method, path, key(token), jsonBody(body))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	create := func(body string) created {
		t.Helper()
		a := call(alice, "POST", keys, body)
		if a.status != 201 {
			t.Fatalf("create: %d %s", a.status, a.body)
		}
		var k created
		if err := json.Unmarshal(a.body, &k); err != nil {
			t.Fatal(err)
		}
		book.addKey("a key of the example", k.Key)
		return k
	}
	k := create(`{"name":"editor","scopes":["projects:read","agents:write"],"expiresAt":"2099-01-01T00:00:00Z"}`)
	if !strings.HasPrefix(k.Key, "hc_") || len(k.Key) != 51 || k.Prefix != k.Key[:7] {
		t.Errorf("a key of %d characters, prefix %s", len(k.Key), k.Prefix)
	}
	g.get(t, mcp+"/projects", key(k.Key)).passed(t)
	// agents:write and agents:interact are one scope.
	g.do(t, "POST", mcp+"/agents/1/ask", key(k.Key)).passed(t)
	g.do(t, "POST", mcp+"/agents/1/ask", key(create(`{"name":"i","scopes":["agents:interact"]}`).Key)).passed(t)
	a := g.do(t, "POST", mcp+"/agents/1/ask", key(create(`{"name":"r","preset":"read_only"}`).Key))
	a.refused(t, 403, "insufficient_scope")
	if want := `{"success":false,"error":{"code":"FORBIDDEN","message":"API key missing required scope: agents:write"}}`; string(a.body) != want {
		t.Errorf("got %s", a.body)
	}
	for _, preset := range []string{"full_access", "mcp_assistant", "vault_only", "read_only", "pa_only"} {
		create(`{"name":"` + preset + `","preset":"` + preset + `"}`)
	}
	if a := call(alice, "POST", keys, `{"name":"custom","scopes":["agents:write","vault:write"]}`); a.status != 201 {
		t.Errorf("custom: %d %s", a.status, a.body)
	}
	t.Run("a key manages no keys, a session calls no API", func(t *testing.T) {
		g.get(t, keys, key(create(`{"name":"f","preset":"full_access"}`).Key)).refused(t, 401, "api_key_invalid")
		a, err := g.try(g.sites[0], "GET", mcp+"/projects", key(alice))
		if err != nil || a.status != 401 {
			t.Errorf("a session: %v %v", err, a)
		}
	})
	t.Run("people see their own keys", func(t *testing.T) {
		if a := call(bob, "GET", keys+"/"+k.ID, ""); a.status != 404 {
			t.Errorf("another's key: %d", a.status)
		}
		if a := call(bob, "GET", keys, ""); a.status != 200 || !strings.HasPrefix(string(a.body), `{"data":[],`) {
			t.Errorf("another's list: %d %s", a.status, a.body)
		}
		if a := call(alice, "PATCH", keys+"/"+k.ID, `{"name":"renamed"}`); a.status != 200 || a.member(t, "name") != "renamed" {
			t.Errorf("rename: %d %s", a.status, a.body)
		}
		if a := call(alice, "GET", "/api/account/auth/verify", ""); a.status != 200 || strings.Contains(string(a.body), "key_id") {
			t.Errorf("verify of a session: %d %s", a.status, a.body)
		}
		if a := call(alice, "DELETE", keys+"/"+k.ID, ""); a.status != 204 {
			t.Errorf("delete: %d", a.status)
		}
		g.get(t, mcp+"/projects", key(k.Key)).refused(t, 401, "api_key_revoked")
	})
	t.Run("10 writes and 60 requests a minute for each key", func(t *testing.T) {
		one, two := create(`{"name":"1","scopes":["projects:read","projects:write"]}`), create(`{"name":"2","scopes":["projects:write"]}`)
		for range 10 {
			g.do(t, "POST", mcp+"/projects", key(one.Key)).passed(t)
		}
		g.do(t, "POST", mcp+"/projects", key(one.Key)).refused(t, 429, "rate_limited")
		g.do(t, "POST", mcp+"/projects", key(two.Key)).passed(t)
		a := g.get(t, mcp+"/projects", key(one.Key))
		a.passed(t)
		if a.header.Get("X-Ratelimit-Limit") != "60" {
			t.Errorf("limit %s, want 60", a.header.Get("X-Ratelimit-Limit"))
		}
	})
}
