package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// hiveClaw is examples/hiveclaw.Caddyfile as it stands, with the secret that the
// sessions of the web site are signed with.
type hiveClaw struct {
	*gate
	secret string
}

// hiveClawKeys is where the web site manages keys.
const hiveClawKeys = "/api/account/api-keys"

// Every requirement of the HiveClaw API that a gate can meet. docs/systems.md
// has the list.
func TestSystemHiveClaw(t *testing.T) {
	const secret = "the-session-secret-of-this-web-site-9876543210"
	book.add("the session secret", secret)
	c := example(t, "hiveclaw.Caddyfile")
	c.env = append(c.env, "HIVECLAW_SESSION_SECRET="+secret)
	h := &hiveClaw{start(t, c), secret}
	t.Run("S2-1 a key goes as Bearer", h.bearer)
	t.Run("S2-2 a key is hc_ and 48 characters", h.keyFormat)
	t.Run("S2-4 the full key is shown at creation and never again", h.shownOnce)
	t.Run("S2-5 the API lies under api/v1/mcp", h.base)
	t.Run("S2-7 a scope is resource:action", h.scopeForm)
	t.Run("S2-8 each of the nine scopes opens its calls and no others", h.scopes)
	t.Run("S2-9 the presets hold what they should", h.presets)
	t.Run("S2-10 401 is the same for a missing and an invalid key", h.unauthorized)
	t.Run("S2-11 403 names the missing scope", h.forbidden)
	t.Run("S2-12 a key has the scopes it was given and no others", h.fewestScopes)
	t.Run("S2-13 a key may expire", h.expiry)
	t.Run("S2-15 a key is rotated and an unused one is found and revoked", h.rotateAndRevoke)
	t.Run("S2-16 keys of one owner are limited and revoked apart", h.oneKeyPerEnvironment)
	t.Run("S2-3 keys are stored as bcrypt hashes", h.atRest) // ends the gate
}

// person is who is signed in during a subtest: each has a limit of its own.
func person(t *testing.T) string {
	_, name, _ := strings.Cut(t.Name(), "/")
	id, _, _ := strings.Cut(name, "_")
	return id
}

// manage calls the key management of the web site; its answers may hold a key.
func (h *hiveClaw) manage(t *testing.T, method, path, body string) *answer {
	t.Helper()
	a, err := h.try(h.sites[0], method, hiveClawKeys+path, key(session(h.secret, person(t))), jsonBody(body))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (h *hiveClaw) made(t *testing.T, body string) created {
	t.Helper()
	a := h.manage(t, "POST", "", body)
	var k created
	if err := json.Unmarshal(a.body, &k); err != nil || a.status != 201 {
		t.Fatalf("create: %d %v", a.status, err)
	}
	book.addKey("a key of HiveClaw", k.Key)
	return k
}

func (h *hiveClaw) scoped(t *testing.T, scopes ...string) created {
	t.Helper()
	list, err := json.Marshal(scopes)
	if err != nil {
		t.Fatal(err)
	}
	return h.made(t, fmt.Sprintf(`{"name":"scoped","scopes":%s}`, list))
}

// mcp calls the API with a key; the path is written without its base.
func (h *hiveClaw) mcp(t *testing.T, call string, k created) *answer {
	t.Helper()
	method, path, _ := strings.Cut(call, " ")
	return h.do(t, method, "/api/v1/mcp"+path, key(k.Key))
}

// hiveClawCalls are the calls of each scope. agents:interact is also called
// agents:write, and refusals say the latter.
var hiveClawCalls = map[string][]string{
	"projects:read":    {"GET /projects", "GET /projects/1", "GET /projects/1/intake", "GET /projects/1/estimate"},
	"projects:write":   {"POST /projects", "POST /projects/1/intake", "POST /projects/1/submit"},
	"agents:read":      {"GET /agents", "GET /agents/1", "GET /agents/1/messages", "GET /agents/1/status"},
	"agents:interact":  {"POST /agents/1/ask"},
	"vault:read":       {"GET /vault/credentials", "GET /vault/requests"},
	"vault:write":      {"POST /vault/credentials/1", "POST /vault/requests/1/fulfill"},
	"pa:access":        {"GET /pa/status", "GET /pa/projects", "POST /pa/ask", "POST /pa/task"},
	"dashboard:read":   {"GET /dashboard/summary", "GET /dashboard/usage"},
	"dashboard:export": {"GET /dashboard/export/projects", "GET /dashboard/export/usage/csv"},
}

func (h *hiveClaw) bearer(t *testing.T) {
	k := h.scoped(t, "projects:read")
	h.mcp(t, "GET /projects", k).passed(t)
	if got := h.farm.got(t); got.header.Get("Authorization") != "" || got.header.Get("X-Auth-Id") != k.ID || got.header.Get("X-Auth-Owner") != person(t) {
		t.Errorf("the backend got %v", got.header)
	}
	for _, c := range []change{header("Authorization", k.Key), header("X-Api-Key", k.Key), header("Authorization", "Basic "+k.Key)} {
		if a := h.get(t, "/api/v1/mcp/projects", c); a.status != 401 {
			t.Errorf("in another form: %d %s", a.status, a.body)
		}
	}
}

func (h *hiveClaw) keyFormat(t *testing.T) {
	form := regexp.MustCompile(`^hc_[0-9A-Za-z]{48}$`)
	k := h.scoped(t, "projects:read")
	if !form.MatchString(k.Key) || !strings.HasPrefix(k.Key, k.Prefix) || !strings.HasPrefix(k.Prefix, "hc_") {
		t.Errorf("a key of %d characters, prefix %s", len(k.Key), k.Prefix)
	}
	for what, other := range map[string]string{"one character less": k.Key[:50], "one more": k.Key + "a", "another prefix": "hive_sk_" + k.Key[3:]} {
		if a := h.get(t, "/api/v1/mcp/projects", key(other)); a.status != 401 || a.reason() != "api_key_invalid" {
			t.Errorf("%s: %d %q", what, a.status, a.reason())
		}
	}
	if made := h.create(t, "--owner", person(t), "--preset", "read_only"); !form.MatchString(made.Key) {
		t.Errorf("the command makes a key of %d characters", len(made.Key))
	} else if a := h.manage(t, "GET", "/"+made.ID, ""); a.status != 200 {
		t.Errorf("its owner does not see it: %d %s", a.status, a.body)
	}
}

func (h *hiveClaw) shownOnce(t *testing.T) {
	k := h.scoped(t, "projects:read")
	for _, a := range []*answer{h.manage(t, "GET", "/"+k.ID, ""), h.manage(t, "GET", "", ""), h.manage(t, "PATCH", "/"+k.ID, `{"name":"n"}`)} {
		if a.status != 200 || strings.Contains(string(a.body), `"key":`) {
			t.Errorf("%d %s", a.status, a.body)
		}
		a.search(t, "key management")
	}
	if out := h.hivegate(t, "apikey", "show", k.ID, "--json").ok(t); strings.Contains(out.stdout, k.Key[len(k.Key)-36:]) {
		t.Error("the command shows it")
	}
}

func (h *hiveClaw) base(t *testing.T) {
	k := h.scoped(t, "projects:read")
	h.mcp(t, "GET /projects", k).passed(t)
	if got := h.farm.got(t); got.target != "/api/v1/mcp/projects" {
		t.Errorf("the backend got %s", got.target)
	}
	for _, path := range []string{"/projects", "/api/v1/projects", "/api/v2/mcp/projects", "/api/v1/mcp/Projects"} {
		h.get(t, path, key(k.Key)).refused(t, 404, "route_not_found")
	}
}

func (h *hiveClaw) scopeForm(t *testing.T) {
	for _, bad := range []string{"projects", "projects:", ":read", "projects.read", "projects:read:all", "unknown:read"} {
		a := h.manage(t, "POST", "", fmt.Sprintf(`{"name":"x","scopes":[%q]}`, bad))
		if a.status != 422 || a.reason() != "field_invalid" {
			t.Errorf("%q: %d %q", bad, a.status, a.reason())
		}
	}
}

func (h *hiveClaw) scopes(t *testing.T) {
	if len(hiveClawCalls) != 9 {
		t.Fatalf("%d scopes, want 9", len(hiveClawCalls))
	}
	for _, held := range slices.Sorted(maps.Keys(hiveClawCalls)) {
		k := h.scoped(t, held)
		for needed, calls := range hiveClawCalls {
			for _, c := range calls {
				a := h.mcp(t, c, k)
				if needed == held {
					a.passed(t)
					continue
				}
				a.refused(t, 403, "insufficient_scope")
				a.isBody(t, hiveClaw403(needed))
			}
		}
	}
}

// hiveClaw403 is the refusal for want of a scope.
func hiveClaw403(scope string) string {
	if scope == "agents:interact" {
		scope = "agents:write"
	}
	return `{"success":false,"error":{"code":"FORBIDDEN","message":"API key missing required scope: ` + scope + `"}}`
}

func (h *hiveClaw) presets(t *testing.T) {
	presets := map[string][]string{
		"full_access":   slices.Sorted(maps.Keys(hiveClawCalls)),
		"mcp_assistant": {"projects:read", "agents:read", "agents:interact", "pa:access", "dashboard:read"},
		"vault_only":    {"vault:read", "vault:write"},
		"read_only":     {"projects:read", "agents:read", "vault:read", "dashboard:read"},
		"pa_only":       {"pa:access"},
	}
	for preset, holds := range presets {
		k := h.made(t, fmt.Sprintf(`{"name":%q,"preset":%q}`, preset, preset))
		for scope, calls := range hiveClawCalls {
			status := 403
			if slices.Contains(holds, scope) {
				status = 200
			}
			if a := h.mcp(t, calls[0], k); a.status != status {
				t.Errorf("%s: %s: %d, want %d", preset, calls[0], a.status, status)
			}
		}
	}
	// Custom is any set, under either name of what has two.
	for _, name := range []string{"agents:write", "agents:interact"} {
		k := h.scoped(t, name, "vault:write")
		h.mcp(t, "POST /agents/1/ask", k).passed(t)
		h.mcp(t, "POST /vault/credentials/1", k).passed(t)
		h.mcp(t, "GET /agents", k).refused(t, 403, "insufficient_scope")
	}
}

func (h *hiveClaw) unauthorized(t *testing.T) {
	const want = `{"success":false,"error":{"code":"UNAUTHORIZED","message":"Invalid or missing API key"}}`
	k := h.scoped(t, "projects:read")
	for reason, c := range map[string][]change{
		"missing_credentials":     nil,
		"api_key_invalid":         {key("hc_nobodys")},
		"malformed_authorization": {header("Authorization", k.Key)},
		"api_key_revoked":         {key(k.Key)},
	} {
		if reason == "api_key_revoked" {
			if a := h.manage(t, "DELETE", "/"+k.ID, ""); a.status != 204 {
				t.Errorf("delete: %d", a.status)
			}
		}
		a := h.get(t, "/api/v1/mcp/projects", c...)
		a.refused(t, 401, reason)
		a.isBody(t, want)
	}
}

func (h *hiveClaw) forbidden(t *testing.T) {
	k := h.made(t, `{"name":"reader","preset":"read_only"}`)
	a := h.mcp(t, "POST /agents/1/ask", k)
	a.refused(t, 403, "insufficient_scope")
	a.isBody(t, `{"success":false,"error":{"code":"FORBIDDEN","message":"API key missing required scope: agents:write"}}`)
}

func (h *hiveClaw) fewestScopes(t *testing.T) {
	k := h.scoped(t, "projects:read")
	if a := h.manage(t, "POST", "", `{"name":"none"}`); a.status != 422 {
		t.Errorf("a key without scopes or preset: %d %s", a.status, a.body)
	}
	// A key widens neither itself nor another.
	h.get(t, hiveClawKeys, key(k.Key)).refused(t, 401, "api_key_invalid")
	if a := h.manage(t, "PATCH", "/"+k.ID, `{"scopes":["*"]}`); a.status != 403 && a.status != 422 {
		t.Errorf("everything: %d %s", a.status, a.body)
	}
	h.mcp(t, "POST /projects", k).refused(t, 403, "insufficient_scope")
	if a := h.manage(t, "PATCH", "/"+k.ID, `{"scopes":["vault:read"]}`); a.status != 200 {
		t.Errorf("other scopes: %d %s", a.status, a.body)
	}
	h.mcp(t, "GET /projects", k).refused(t, 403, "insufficient_scope")
	h.mcp(t, "GET /vault/requests", k).passed(t)
}

func (h *hiveClaw) expiry(t *testing.T) {
	at := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339Nano)
	for _, k := range []created{
		h.made(t, fmt.Sprintf(`{"name":"ci","scopes":["projects:read"],"expiresAt":%q}`, at)),
		h.made(t, fmt.Sprintf(`{"name":"ci","scopes":["projects:read"],"expires_at":%q}`, at)),
	} {
		eventually(t, 10*time.Second, "the key expires", func() bool {
			shown := h.manage(t, "GET", "/"+k.ID, "")
			return shown.status == 200 && shown.member(t, "status") == "expired"
		})
		h.mcp(t, "GET /projects", k).refused(t, 401, "api_key_expired")
	}
}

func (h *hiveClaw) rotateAndRevoke(t *testing.T) {
	k := h.scoped(t, "projects:read")
	a := h.manage(t, "POST", "/"+k.ID+"/rotate", `{"overlap":"0s"}`)
	if a.status != 200 {
		t.Fatalf("rotate: %d %s", a.status, a.body)
	}
	next := created{ID: k.ID, Key: a.member(t, "key")}
	book.addKey("a rotated key", next.Key)
	h.mcp(t, "GET /projects", next).passed(t)
	h.mcp(t, "GET /projects", k).refused(t, 401, "api_key_invalid")

	unused := h.scoped(t, "vault:read")
	if text := h.hivegate(t, "apikey", "report").ok(t).stdout; !strings.Contains(text, unused.ID) {
		t.Errorf("the report does not name the unused key: %s", text)
	}
	h.hivegate(t, "apikey", "revoke", unused.ID, "--wait").ok(t)
	h.mcp(t, "GET /vault/requests", unused).refused(t, 401, "api_key_revoked")
	if a := h.manage(t, "PATCH", "/"+unused.ID, `{"disabled":false}`); a.status != 409 {
		t.Errorf("a revoked key comes back: %d %s", a.status, a.body)
	}
}

func (h *hiveClaw) oneKeyPerEnvironment(t *testing.T) {
	staging := h.made(t, `{"name":"staging","scopes":["projects:read","projects:write"]}`)
	production := h.made(t, `{"name":"production","scopes":["projects:read","projects:write"]}`)
	began, passed := time.Now(), 0
	a := h.mcp(t, "POST /projects", staging)
	if got := a.header.Get("X-Ratelimit-Limit"); got != "10" {
		t.Errorf("limit %s of writes, want 10", got)
	}
	for ; a.status == 200 && passed < 60; passed++ {
		a = h.mcp(t, "POST /projects", staging)
	}
	// A token comes back every six seconds.
	if late := int(time.Since(began)/(6*time.Second)) + 1; passed < 10 || passed > 10+late {
		t.Errorf("%d writes passed, want 10", passed)
	}
	a.refused(t, 429, "rate_limited")
	a.isBody(t, `{"success":false,"error":{"code":"RATE_LIMITED","message":"Rate limit exceeded"}}`)
	if a := h.mcp(t, "GET /projects", staging); a.status != 200 || a.header.Get("X-Ratelimit-Limit") != "60" {
		t.Errorf("its reads: %d, limit %s", a.status, a.header.Get("X-Ratelimit-Limit"))
	}
	h.mcp(t, "POST /projects", production).passed(t)
	if a := h.manage(t, "DELETE", "/"+staging.ID, ""); a.status != 204 {
		t.Errorf("delete: %d", a.status)
	}
	h.mcp(t, "GET /projects", staging).refused(t, 401, "api_key_revoked")
	h.mcp(t, "GET /projects", production).passed(t)
}

func (h *hiveClaw) atRest(t *testing.T) {
	k := h.scoped(t, "projects:read")
	exported := h.hivegate(t, "apikey", "export").ok(t).stdout
	h.stop(t)
	hashes := regexp.MustCompile(`\$2[aby]\$10\$[./0-9A-Za-z]{53}`)
	found := false
	for _, f := range h.dataFiles(t) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), k.Key) || strings.Contains(string(text), k.Key[len(k.Key)-36:]) {
			t.Errorf("%s holds a key in clear text", f)
		}
		found = found || hashes.Match(text)
	}
	if !found {
		t.Error("no file holds a bcrypt hash: this test looks at nothing")
	}
	if !strings.Contains(exported, k.ID) && !hashes.MatchString(exported) {
		t.Error("the export holds no hash")
	}
}
