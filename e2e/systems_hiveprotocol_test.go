package e2e

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// hiveProtocol is examples/hive-protocol.Caddyfile as it stands, in front of a
// small backend that answers as Supabase does.
type hiveProtocol struct{ *project }

// Every requirement of HIVE Protocol that a gate can meet. docs/systems.md has
// the list.
func TestSystemHiveProtocol(t *testing.T) {
	p := hiveProtocol{startProject(t)}
	t.Run("S3-1 browser sessions, bearer tokens and service keys are let in", p.threeMethods)
	t.Run("S3-2 tokens are verified before functions run", p.verifiedFirst)
	t.Run("S3-4 sign-up needs no user and its answer passes as it is", p.signUp)
	t.Run("S3-5 sign-in needs no user and its answer passes as it is", p.signIn)
	t.Run("S3-6 sign-out reaches the project", p.signOut)
	t.Run("S3-7 the session can be read", p.readSession)
	t.Run("S3-9 a client that sends both headers reads rows", p.databaseCall)
	t.Run("S3-10 agent-respond takes its headers and body", p.agentRespond)
	t.Run("S3-11 a token ends when it says so", p.tokenLife)
	t.Run("S3-12 a session is renewed at any time", p.refresh)
	t.Run("S3-13 the service role reaches everything", p.serviceRole)
	t.Run("S3-14 the database asks for apikey and Authorization", p.databaseHeaders)
	t.Run("S3-15 functions ask for apikey and Authorization", p.functionHeaders)
	t.Run("S3-16 X-Client-Info passes through", p.clientInfo)
	t.Run("S3-17 401 has its three members", p.unauthorized)
	t.Run("S3-18 401 for missing, expired, malformed and badly signed tokens", p.badTokens)
	t.Run("S3-19 an expired token is 401 so that the client renews it", p.expiredIs401)
	t.Run("S3-20 403 has its three members", p.forbidden)
	t.Run("S3-21 403 for a weak role", p.weakRole)
	t.Run("S3-22 429 has its three members", p.limited)
	t.Run("S3-23 Retry-After is whole seconds and true", p.retryAfter)
	t.Run("S3-24 five classes of calls with their figures", p.classes)
	t.Run("S3-25 the three X-RateLimit headers", p.limitHeaders)
	t.Run("S3-28 the backend is told who is calling, and nobody else can say so", p.identity)
	t.Run("S3-29 a service key from a browser is refused", p.serviceKeyInBrowser)
	t.Run("S3-30 a token that fails is 401 with an error text", p.validatedHere)
	t.Run("S3-31 plain HTTP is refused and never redirected", p.httpsOnly)
	t.Run("S3-32 an expired session is told apart and renewed", p.expiryIsGraceful)
	t.Run("S3-34 agents, swarms and messages have their calls", p.tables)
	t.Run("a page of the front end reads answers and refusals", p.frontEnd)
}

// The example with the one word that its routes file speaks of: signing is
// optional.
func TestSystemHiveProtocolSigned(t *testing.T) {
	p := hiveProtocol{prepareProject(t)}
	const line = "tools:execute class=tools"
	routes, err := os.ReadFile(filepath.Join(p.dir, "hive-protocol.routes"))
	if err != nil || strings.Count(string(routes), line) != 1 {
		t.Fatalf("the line of execute-tool: %v", err)
	}
	signed := strings.Replace(string(routes), line, "tools:execute signed class=tools", 1)
	if err := os.WriteFile(filepath.Join(p.dir, "hive-protocol.routes"), []byte(signed), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run(t)
	t.Run("S3-33 a signed request proves its body with the user's secret", p.signed)
}

func (p hiveProtocol) signed(t *testing.T) {
	const body = `{"tool":"search","arguments":{"q":"é & more"}}`
	secret := p.signingSecret(t, "signing-secret", "rotate", "--issuer", "supabase", "--sub", "signer")
	other := p.signingSecret(t, "signing-secret", "rotate", "--issuer", "supabase", "--sub", "somebody")
	call, who := "POST /functions/v1/execute-tool", p.signedIn("signer")
	p.ask(t, call, who, jsonBody(body)).refused(t, 401, "signature_required")
	p.ask(t, call, who, jsonBody(body), signature(sign(other, body))).refused(t, 401, "signature_invalid")
	p.ask(t, call, who, jsonBody(body+" "), signature(sign(secret, body))).refused(t, 401, "signature_invalid")
	p.ask(t, call, who, jsonBody(body), signature(sign(secret, body))).isFine(t, "signed")
	if got := p.farm.got(t); string(got.body) != body {
		t.Errorf("the function got %q", got.body)
	}
	p.ask(t, "POST /functions/v1/agent-respond", who, jsonBody("{}")).isFine(t, "a line without the word")
}

// ask sends a request as a client of the project does. Answers may hold tokens.
func (p hiveProtocol) ask(t *testing.T, call string, changes ...change) *answer {
	t.Helper()
	method, path, _ := strings.Cut(call, " ")
	a, err := p.try(p.sites[0], method, path, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (p hiveProtocol) anon() change { return header("Apikey", p.keys["publishable key"]) }

func (p hiveProtocol) service() change { return header("Apikey", p.keys["secret key"]) }

// signedIn sends what a client sends for somebody who is signed in, each
// somebody else.
func (p hiveProtocol) signedIn(sub string) change {
	token := bearer(tokenKeys()["ES256"].token(claims(map[string]any{"iss": p.iss, "sub": sub})))
	return func(r *http.Request) {
		p.anon()(r)
		token(r)
	}
}

// isFine checks that the backend answered.
func (a *answer) isFine(t *testing.T, what string) {
	t.Helper()
	if a.status/100 != 2 || a.reason() != "" {
		t.Errorf("%s: %d %q %s", what, a.status, a.reason(), a.body)
	}
}

func (p hiveProtocol) threeMethods(t *testing.T) {
	session, err := json.Marshal(map[string]any{"access_token": p.user("user@example.com", time.Hour), "token_type": "bearer",
		"expires_in": 3600, "expires_at": in(time.Hour), "refresh_token": "r", "user": map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	cookie := header("Cookie", "sb-127-auth-token=base64-"+b64u(session))
	p.ask(t, "GET /rest/v1/agents", p.anon(), cookie).isFine(t, "browser session")
	if id := p.lastHeader("X-Auth-Id"); id != userID {
		t.Errorf("of the session the backend was told %q", id)
	}
	p.ask(t, "GET /rest/v1/agents", p.signedIn("u1")).isFine(t, "bearer token")
	for _, kind := range []string{"service_role key", "secret key"} {
		p.ask(t, "GET /rest/v1/agents", header("Apikey", p.keys[kind])).isFine(t, kind)
		p.ask(t, "GET /rest/v1/agents", header("Apikey", p.keys[kind]), bearer(p.keys[kind])).isFine(t, kind+" in both headers")
	}
}

func (p hiveProtocol) verifiedFirst(t *testing.T) {
	ran := 0
	p.farm.handle("/functions/v1/execute-tool", func(w http.ResponseWriter, _ *http.Request) {
		ran++
		_, _ = io.WriteString(w, `{}`)
	})
	good := tokenKeys()["ES256"].token(claims(map[string]any{"iss": p.iss}))
	for _, bad := range []string{good[:len(good)-8] + "AAAAAAAA", es256("nobodys").token(claims(map[string]any{"iss": p.iss})), "a.b.c"} {
		p.ask(t, "POST /functions/v1/execute-tool", p.anon(), bearer(bad), jsonBody("{}")).refused(t, 401, "token_invalid")
	}
	if ran != 0 {
		t.Errorf("the function ran %d times for tokens that are not valid", ran)
	}
	p.ask(t, "POST /functions/v1/execute-tool", p.anon(), bearer(good), jsonBody("{}")).isFine(t, "a valid token")
	if ran != 1 {
		t.Errorf("the function ran %d times", ran)
	}
}

func (p hiveProtocol) signUp(t *testing.T) {
	const sent = `{"email":"new@example.com","password":"secret","data":{"full_name":"New User"}}`
	const answered = `{"user":{"id":"u","email":"new@example.com","created_at":"2026-01-01T00:00:00Z"},"session":null}`
	var got string
	p.farm.handle("/auth/v1/signup", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = string(body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answered)
	})
	a := p.ask(t, "POST /auth/v1/signup", from("127.0.0.11"), p.anon(), jsonBody(sent))
	if a.status != 200 || string(a.body) != answered || got != sent {
		t.Errorf("%d %s; the backend got %s", a.status, a.body, got)
	}
	p.ask(t, "POST /auth/v1/signup", from("127.0.0.11"), jsonBody(sent)).refused(t, 401, "missing_credentials") // apikey it needs
}

func (p hiveProtocol) signIn(t *testing.T) {
	a := p.ask(t, "POST /auth/v1/token?grant_type=password", from("127.0.0.12"), p.anon(), jsonBody(`{"email":"user@example.com","password":"right"}`))
	a.isFine(t, "sign-in")
	session := a.asJSON(t)
	token, _ := session["access_token"].(string)
	if session["expires_in"] != 3600.0 || session["refresh_token"] == nil || session["expires_at"] == nil || session["user"] == nil {
		t.Errorf("a session without all its members: %v", slices.Sorted(maps.Keys(session)))
	}
	p.ask(t, "GET /rest/v1/agents", p.anon(), bearer(token)).isFine(t, "with the new session")
	// What older projects sign with their shared secret is taken as well.
	old := tokenKeys()["HS256"].token(claims(map[string]any{"iss": p.iss, "sub": "hs"}))
	p.ask(t, "GET /rest/v1/agents", p.anon(), bearer(old)).isFine(t, "an HS256 token")
	a = p.ask(t, "POST /auth/v1/token?grant_type=password", from("127.0.0.12"), p.anon(), jsonBody(`{"email":"user@example.com","password":"wrong"}`))
	if a.status != 400 || a.reason() != "" {
		t.Errorf("a wrong password is the project's to refuse: %d %q", a.status, a.reason())
	}
}

func (p hiveProtocol) signOut(t *testing.T) {
	p.ask(t, "POST /auth/v1/logout?scope=global", from("127.0.0.13"), p.signedIn("leaving")).isFine(t, "sign-out")
}

func (p hiveProtocol) readSession(t *testing.T) {
	a := p.ask(t, "GET /auth/v1/user", p.signedIn("reading"))
	a.isFine(t, "the user of the session")
	if a.asJSON(t)["id"] != userID {
		t.Errorf("got %s", a.body)
	}
}

func (p hiveProtocol) databaseCall(t *testing.T) {
	a := p.ask(t, "GET /rest/v1/agents?select=*&order=created_at.desc", p.signedIn("dora"))
	a.isFine(t, "rows")
	if !strings.HasPrefix(p.lastHeader("Authorization"), "Bearer ") || p.lastHeader("Apikey") == "" || a.header.Get("Content-Range") != "0-0/1" {
		t.Error("the database did not get both headers, or its Content-Range was lost")
	}
}

func (p hiveProtocol) agentRespond(t *testing.T) {
	const body = `{"swarm_id":"b9c1","message":"hello"}`
	var got string
	var sent http.Header
	p.farm.handle("/functions/v1/agent-respond", func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, sent = string(text), r.Header.Clone()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"reply":"hello"}`)
	})
	a := p.ask(t, "POST /functions/v1/agent-respond", p.signedIn("asking"), jsonBody(body))
	a.isFine(t, "agent-respond")
	if got != body || sent.Get("Content-Type") != "application/json" || sent.Get("Apikey") == "" || !strings.HasPrefix(sent.Get("Authorization"), "Bearer ") {
		t.Errorf("the function got %q", got)
	}
}

func (p hiveProtocol) tokenLife(t *testing.T) {
	p.ask(t, "GET /rest/v1/agents", p.anon(), bearer(p.user("a@example.com", time.Hour))).isFine(t, "within its hour")
	p.ask(t, "GET /rest/v1/agents", p.anon(), bearer(p.user("a@example.com", -10*time.Second))).isFine(t, "within 30 s of clocks that differ")
	p.ask(t, "GET /rest/v1/agents", p.anon(), bearer(p.user("a@example.com", -time.Minute))).refused(t, 401, "token_expired")
	forever := tokenKeys()["ES256"].token(claims(map[string]any{"iss": p.iss, "exp": nil}))
	p.ask(t, "GET /rest/v1/agents", p.anon(), bearer(forever)).refused(t, 401, "token_invalid")
}

func (p hiveProtocol) refresh(t *testing.T) {
	for range 2 {
		a := p.ask(t, "POST /auth/v1/token?grant_type=refresh_token", from("127.0.0.14"), p.anon(),
			bearer(p.keys["publishable key"]), jsonBody(`{"refresh_token":"refresh-0123456789"}`))
		a.isFine(t, "refresh")
		token, _ := a.asJSON(t)["access_token"].(string)
		p.ask(t, "GET /rest/v1/agents", p.anon(), bearer(token)).isFine(t, "with the renewed session")
	}
}

func (p hiveProtocol) serviceRole(t *testing.T) {
	for _, call := range []string{"GET /rest/v1/agents", "DELETE /rest/v1/swarms", "GET /auth/v1/admin/users", "POST /functions/v1/dispatch"} {
		p.ask(t, call, p.service()).isFine(t, call)
	}
	p.ask(t, "GET /auth/v1/admin/users", p.signedIn("nobody special")).refused(t, 403, "insufficient_scope")
	// A user does not become one by saying so where users may write.
	p.ask(t, "GET /auth/v1/admin/users", p.anon(), bearer(p.user("x@example.com", time.Hour))).refused(t, 403, "insufficient_scope")
}

func (p hiveProtocol) databaseHeaders(t *testing.T) {
	token := bearer(p.user("a@example.com", time.Hour))
	p.ask(t, "GET /rest/v1/agents", p.anon(), token).isFine(t, "a GET without Content-Type")
	for _, method := range []string{"POST", "PATCH"} {
		p.ask(t, method+" /rest/v1/agents", p.anon(), token, jsonBody(`{"name":"a"}`)).isFine(t, method)
		if got := p.lastHeader("Content-Type"); got != "application/json" {
			t.Errorf("%s: the database got Content-Type %q", method, got)
		}
	}
	p.ask(t, "GET /rest/v1/agents", token).refused(t, 401, "missing_credentials")
	p.ask(t, "GET /rest/v1/agents", p.anon()).refused(t, 403, "insufficient_scope")
	p.ask(t, "GET /rest/v1/agents", token, header("Apikey", "sb_publishable_another_projects")).refused(t, 401, "api_key_invalid")
}

func (p hiveProtocol) functionHeaders(t *testing.T) {
	token := bearer(tokenKeys()["ES256"].token(claims(map[string]any{"iss": p.iss, "sub": "calling"})))
	for _, name := range []string{"agent-respond", "execute-tool", "test-webhook", "dispatch"} {
		call := "POST /functions/v1/" + name
		p.ask(t, call, p.anon(), token, jsonBody("{}")).isFine(t, name)
		p.ask(t, call, token, jsonBody("{}")).refused(t, 401, "missing_credentials")
		p.ask(t, call, p.anon(), jsonBody("{}")).refused(t, 403, "insufficient_scope")
	}
}

func (p hiveProtocol) clientInfo(t *testing.T) {
	p.ask(t, "GET /rest/v1/agents", p.signedIn("info"), header("X-Client-Info", "hive-protocol/1.0")).isFine(t, "with X-Client-Info")
	if got := p.lastHeader("X-Client-Info"); got != "hive-protocol/1.0" {
		t.Errorf("the backend got %q", got)
	}
}

func (p hiveProtocol) identity(t *testing.T) {
	spoofed := []change{header("X-Auth-Id", "root"), header("X-Auth-Scopes", "*"), spelt("x_auth_kind", "api_key"), header("X-Auth-Owner", "root")}
	p.ask(t, "GET /rest/v1/agents", append(spoofed, p.signedIn("4711"))...).isFine(t, "a user")
	for name, want := range map[string]string{
		"X-Auth-Kind": "jwt", "X-Auth-Id": "4711", "X-Auth-Issuer": "supabase", "X-Auth-Owner": "", "X_auth_kind": "",
		"X-Auth-Scopes": "auth:use agents:* swarms:* messages:* tools:* webhooks:*",
	} {
		if got := p.lastHeader(name); got != want {
			t.Errorf("the backend was sent %s %q, want %q", name, got, want)
		}
	}
}

func (p hiveProtocol) tables(t *testing.T) {
	tables := strings.Fields("agents swarms swarm_shares messages message_flags tool_usage user_tools webhooks webhook_deliveries")
	for _, table := range tables {
		who := p.signedIn("table " + table)
		for _, method := range []string{"GET", "HEAD", "POST", "PATCH", "DELETE"} {
			p.ask(t, method+" /rest/v1/"+table+"?id=eq.1", who).isFine(t, method+" "+table)
		}
		a := p.ask(t, "GET /rest/v1/"+table, p.anon())
		a.refused(t, 403, "insufficient_scope")
	}
	p.ask(t, "GET /rest/v1/secrets", p.signedIn("tables")).refused(t, 404, "route_not_found")
}

func (p hiveProtocol) frontEnd(t *testing.T) {
	const page = "https://app.example.com"
	a := p.ask(t, "OPTIONS /rest/v1/agents", header("Origin", page), header("Access-Control-Request-Method", "POST"),
		header("Access-Control-Request-Headers", "apikey,authorization,content-type,prefer,x-client-info"))
	if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != page {
		t.Errorf("preflight: %d %v", a.status, a.header)
	}
	for _, name := range strings.Fields("apikey authorization content-type prefer x-client-info x-supabase-api-version range accept-profile content-profile") {
		if !listed(a.header.Get("Access-Control-Allow-Headers"), name) {
			t.Errorf("%s may not be sent: %q", name, a.header.Get("Access-Control-Allow-Headers"))
		}
	}
	for what, a := range map[string]*answer{
		"rows": p.ask(t, "GET /rest/v1/agents", p.signedIn("page"), header("Origin", page)),
		"401":  p.ask(t, "GET /rest/v1/agents", header("Origin", page)),
	} {
		if a.header.Get("Access-Control-Allow-Origin") != page || !listed(a.header.Get("Access-Control-Expose-Headers"), "Retry-After") {
			t.Errorf("%s: %d %v", what, a.status, a.header)
		}
	}
}
