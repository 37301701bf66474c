package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hornetHive is examples/hornethive.Caddyfile as it stands, with the key of an
// administrator.
type hornetHive struct {
	*gate
	root created
}

// Every requirement of the HornetHive API that a gate can meet. docs/systems.md
// has the list.
func TestSystemHornetHive(t *testing.T) {
	g := start(t, example(t, "hornethive.Caddyfile"))
	h := &hornetHive{g, g.create(t, "--owner", "ops", "--plan", "swarm", "--preset", "admin")}
	t.Run("S1-1 every request needs a key", h.everyRequestNeedsAKey)
	t.Run("S1-2 a key has a name and is shown once", h.shownOnce)
	t.Run("S1-3 the record has id, name, permissions, creation and last use", h.record)
	t.Run("S1-4 Authorization is Bearer and an alphanumeric hive_sk_ key", h.bearerForm)
	t.Run("S1-5 the API lies under v1 and nowhere else", h.base)
	t.Run("S1-6 Content-Type on a GET does no harm", h.contentTypeOnGet)
	t.Run("S1-7 each of the eight scopes opens its calls and no others", h.scopes)
	t.Run("S1-8 a key is created with name, permissions and expires_at", h.createBody)
	t.Run("S1-9 an expired key is refused", h.expiry)
	t.Run("S1-12 old and new key work side by side until the old one is deleted", h.rotation)
	t.Run("S1-13 last use, refusals and changes can be looked up", h.monitoring)
	t.Run("S1-14 401 of a bad key", h.invalidKey)
	t.Run("S1-15 403 names the required permission and those provided", h.forbidden)
	t.Run("S1-16 no Authorization is 401", h.noHeader)
	t.Run("S1-17 no Bearer is 401 and says so", h.noBearer)
	t.Run("S1-18 requests a minute and outcomes at once by plan", h.plans)
	t.Run("S1-19 every answer has the three X-RateLimit headers", h.limitHeaders)
	t.Run("S1-20 429 has a numeric Retry-After that is true", h.retryAfter)
	t.Run("S1-22 a key lists the keys of its owner", h.list)
	t.Run("S1-23 DELETE revokes a key", h.remove)
	t.Run("S1-24 PATCH renames a key", h.rename)
	t.Run("S1-25 POST creates a key", h.createOverHTTP)
	t.Run("S1-26 verify answers with key, permissions and rate limit", h.verify)
	t.Run("S1-27 verify of a bad key is an error with a message", h.verifyBad)
	t.Run("S1-28 a revoked key, a wrong header and a missing permission are told apart", h.diagnosis)
}

// made is a key with these scopes, of an owner of its own on the plan swarm.
func (h *hornetHive) made(t *testing.T, owner string, scopes ...string) created {
	t.Helper()
	list, err := json.Marshal(scopes)
	if err != nil {
		t.Fatal(err)
	}
	return h.makeOverHTTP(t, h.root.Key, fmt.Sprintf(`{"name":%q,"owner":%q,"permissions":%s,"plan":"swarm"}`, owner, owner, list))
}

// hornetHiveCalls are the calls of each scope.
var hornetHiveCalls = map[string][]string{
	"crews:read":         {"GET /v1/crews", "GET /v1/crews/7"},
	"crews:write":        {"POST /v1/crews", "PATCH /v1/crews/7", "DELETE /v1/crews/7", "POST /v1/crews/7/run", "POST /v1/crews/7/deploy", "POST /v1/outcomes"},
	"outcomes:read":      {"GET /v1/outcomes", "GET /v1/outcomes/9", "GET /v1/outcomes/9/results"},
	"outcomes:write":     {"POST /v1/outcomes/9/revise", "PATCH /v1/outcomes/9"},
	"integrations:read":  {"GET /v1/integrations", "GET /v1/integrations/slack"},
	"integrations:write": {"POST /v1/integrations", "DELETE /v1/integrations/slack", "POST /v1/webhooks", "DELETE /v1/webhooks/3"},
	"admin:read":         {"GET /v1/admin/dashboard", "GET /v1/admin/analytics/usage"},
	"admin:write":        {"POST /v1/admin/users", "PUT /v1/admin/organization", "DELETE /v1/admin/users/3"},
}

// call is do for a call written as "METHOD path".
func (g *gate) call(t *testing.T, call string, changes ...change) *answer {
	t.Helper()
	method, path, _ := strings.Cut(call, " ")
	return g.do(t, method, path, changes...)
}

// isBody compares a whole body.
func (a *answer) isBody(t *testing.T, want string) {
	t.Helper()
	if got := strings.TrimSpace(string(a.body)); got != want {
		t.Errorf("body\n%s, want\n%s", got, want)
	}
}

// errorOf is the member "error" of a refusal of HornetHive or HiveClaw.
func errorOf(t *testing.T, a *answer) map[string]any {
	t.Helper()
	e, ok := a.asJSON(t)["error"].(map[string]any)
	if !ok {
		t.Fatalf("no error object in %s", a.body)
	}
	return e
}

func (h *hornetHive) everyRequestNeedsAKey(t *testing.T) {
	for _, calls := range hornetHiveCalls {
		for _, c := range calls {
			h.call(t, c).refused(t, 401, "missing_credentials")
		}
	}
	for _, c := range []string{"GET /v1/auth/verify", "GET /v1/api-keys", "POST /v1/api-keys", "GET /v1/anything", "GET /v2/crews"} {
		h.call(t, c).refused(t, 401, "missing_credentials")
	}
	if n := h.farm.hits.Load(); n != 0 {
		t.Errorf("%d requests without a key reached the backend", n)
	}
}

func (h *hornetHive) shownOnce(t *testing.T) {
	k := h.made(t, "once", "crews:read")
	if k.Name != "once" || k.Key == "" {
		t.Errorf("created %+v", k)
	}
	// All answers are searched for the key.
	for _, c := range []string{"GET /v1/api-keys/" + k.ID, "GET /v1/api-keys?owner=once", "GET /v1/auth/verify", "GET /v1/crews"} {
		if a := h.call(t, c, key(k.Key)); a.status != 200 || strings.Contains(string(a.body), `"key":`) {
			t.Errorf("%s: %d %s", c, a.status, a.body)
		}
	}
}

func (h *hornetHive) record(t *testing.T) {
	k := h.made(t, "recorded", "crews:read", "outcomes:read")
	a := h.get(t, "/v1/api-keys/"+k.ID, key(k.Key))
	r := a.asJSON(t)
	if _, known := r["last_used_at"]; !known || r["id"] != k.ID || r["name"] != "recorded" || fmt.Sprint(r["permissions"]) != "[crews:read outcomes:read]" {
		t.Errorf("record %s", a.body)
	}
	made, err := time.Parse(time.RFC3339, fmt.Sprint(r["created_at"]))
	if err != nil || time.Since(made) > time.Minute || time.Since(made) < -time.Minute {
		t.Errorf("created_at %v: %v", r["created_at"], err)
	}
}

func (h *hornetHive) bearerForm(t *testing.T) {
	k := h.made(t, "form", "crews:read")
	if !regexp.MustCompile(`^hive_sk_[0-9A-Za-z]{48}$`).MatchString(k.Key) {
		t.Errorf("a key of %d characters in another form", len(k.Key))
	}
	h.get(t, "/v1/crews", key(k.Key)).passed(t)
	for what, c := range map[string]change{
		"another scheme": header("Authorization", "Basic "+k.Key),
		"another header": header("X-Api-Key", k.Key),
		"two spaces":     header("Authorization", "Bearer  "+k.Key),
	} {
		if a := h.get(t, "/v1/crews", c); a.status != 401 {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	if a := h.get(t, "/v1/crews?api_key="+k.Key); a.status != 401 {
		t.Errorf("in the query string: %d", a.status)
	}
}

func (h *hornetHive) base(t *testing.T) {
	k := h.made(t, "base", "crews:read")
	h.get(t, "/v1/crews", key(k.Key)).passed(t)
	if got := h.farm.got(t); got.target != "/v1/crews" || got.header.Get("Authorization") != "" || got.header.Get("X-Auth-Id") != k.ID {
		t.Errorf("the backend got %s with %v", got.target, got.header)
	}
	for _, path := range []string{"/crews", "/v2/crews", "/V1/crews", "/v1/v1/crews", "/v1/crews/"} {
		h.get(t, path, key(k.Key)).refused(t, 404, "route_not_found")
	}
}

func (h *hornetHive) contentTypeOnGet(t *testing.T) {
	k := h.made(t, "typed", "crews:read")
	h.get(t, "/v1/crews", key(k.Key), header("Content-Type", "application/json")).passed(t)
	h.get(t, "/v1/auth/verify", key(k.Key), header("Content-Type", "application/json")).passed(t)
	h.get(t, "/v1/api-keys", key(k.Key), header("Content-Type", "application/json")).passed(t)
}

func (h *hornetHive) scopes(t *testing.T) {
	if len(hornetHiveCalls) != 8 {
		t.Fatalf("%d scopes, want 8", len(hornetHiveCalls))
	}
	for _, held := range slices.Sorted(maps.Keys(hornetHiveCalls)) {
		k := h.made(t, "with "+held, held)
		for needed, calls := range hornetHiveCalls {
			for _, c := range calls {
				a := h.call(t, c, key(k.Key))
				if needed == held {
					a.passed(t)
					continue
				}
				a.refused(t, 403, "insufficient_scope")
				if d, _ := errorOf(t, a)["details"].(map[string]any); d["required_permission"] != needed {
					t.Errorf("%s with %s: %s", c, held, a.body)
				}
			}
		}
	}
	if a := h.do(t, "POST", "/v1/api-keys", key(h.root.Key), jsonBody(`{"name":"x","permissions":["crews:everything"]}`)); a.status != 422 {
		t.Errorf("a ninth scope: %d %s", a.status, a.body)
	}
}

func (h *hornetHive) createBody(t *testing.T) {
	k := h.makeOverHTTP(t, h.root.Key, `{"name":"Production","permissions":["crews:read","crews:write"],"expires_at":"2099-12-31T23:59:59Z"}`)
	r := h.get(t, "/v1/api-keys/"+k.ID, key(h.root.Key)).asJSON(t)
	if r["name"] != "Production" || fmt.Sprint(r["permissions"]) != "[crews:read crews:write]" || r["expires_at"] != "2099-12-31T23:59:59Z" {
		t.Errorf("record %v", r)
	}
	for what, body := range map[string]string{
		"no name":         `{"permissions":["crews:read"]}`,
		"no permissions":  `{"name":"x"}`,
		"a date in words": `{"name":"x","permissions":["crews:read"],"expires_at":"tomorrow"}`,
		"a past date":     `{"name":"x","permissions":["crews:read"],"expires_at":"2020-01-01T00:00:00Z"}`,
	} {
		if a := h.do(t, "POST", "/v1/api-keys", key(h.root.Key), jsonBody(body)); a.status != 422 || a.reason() != "field_invalid" {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}

func (h *hornetHive) expiry(t *testing.T) {
	at := time.Now().Add(4 * time.Second)
	k := h.makeOverHTTP(t, h.root.Key, fmt.Sprintf(`{"name":"brief","plan":"swarm","permissions":["crews:read"],"expires_at":%q}`, at.UTC().Format(time.RFC3339Nano)))
	h.get(t, "/v1/crews", key(k.Key)).passed(t)
	var a *answer
	eventually(t, 30*time.Second, "the key expires", func() bool {
		a = h.get(t, "/v1/crews", key(k.Key))
		return a.status != 200
	})
	a.refused(t, 401, "api_key_expired")
	if time.Now().Before(at) {
		t.Error("it expired too early")
	}
}

func (h *hornetHive) rotation(t *testing.T) {
	old := h.made(t, "rotating", "crews:read")
	// A key makes its own successor.
	next := h.makeOverHTTP(t, old.Key, `{"name":"next","permissions":["crews:read"]}`)
	h.get(t, "/v1/crews", key(old.Key)).passed(t)
	h.get(t, "/v1/crews", key(next.Key)).passed(t)
	if a := h.do(t, "DELETE", "/v1/api-keys/"+old.ID, key(next.Key)); a.status != 204 {
		t.Errorf("delete the old key: %d %s", a.status, a.body)
	}
	h.get(t, "/v1/crews", key(old.Key)).refused(t, 401, "api_key_revoked")
	h.get(t, "/v1/crews", key(next.Key)).passed(t)
	// And in one call.
	a, err := h.try(h.sites[0], "POST", "/v1/api-keys/"+next.ID+"/rotate", key(next.Key), jsonBody(`{"overlap":"1h"}`))
	if err != nil || a.status != 200 {
		t.Fatalf("rotate: %v %v", err, a)
	}
	rotated := a.member(t, "key")
	book.addKey("a rotated key", rotated)
	h.get(t, "/v1/crews", key(next.Key)).passed(t)
	h.get(t, "/v1/crews", key(rotated)).passed(t)
}

func (h *hornetHive) monitoring(t *testing.T) {
	k := h.made(t, "watched", "crews:read")
	h.get(t, "/v1/crews", key(k.Key)).passed(t)
	a := h.do(t, "POST", "/v1/crews", key(k.Key))
	a.refused(t, 403, "insufficient_scope")
	eventually(t, 90*time.Second, "the last use is written", func() bool {
		r := h.get(t, "/v1/api-keys/"+k.ID, key(k.Key)).asJSON(t)
		used, err := time.Parse(time.RFC3339, fmt.Sprint(r["last_used_at"]))
		return err == nil && time.Since(used) < 2*time.Minute
	})
	line := map[string]string{"logger": "http.handlers.hivegate", "reason": "insufficient_scope", "request_id": a.header.Get("X-Request-Id")}
	eventually(t, 5*time.Second, "the refusal is logged", func() bool { return len(h.logLines(t, line)) == 1 })
	if text := fmt.Sprint(h.logLines(t, line)); !strings.Contains(text, k.ID) {
		t.Errorf("the line does not name the key: %s", text)
	}
	if n := h.metric(t, "hivegate_requests_total", `outcome="insufficient_scope"`, `plan="swarm"`); n < 1 {
		t.Errorf("%g refusals counted", n)
	}
	if trail := h.hivegate(t, "audit").ok(t).stdout; !strings.Contains(trail, k.ID) {
		t.Error("the audit trail does not name the key")
	}
}

func (h *hornetHive) invalidKey(t *testing.T) {
	k := h.made(t, "guessed", "crews:read")
	const want = `{"error":{"code":"unauthorized","message":"Invalid API key","details":{"reason":"api_key_invalid"}}}`
	for _, credential := range []string{"hive_sk_1234567890abcdef", wrong(t, k)} {
		a := h.get(t, "/v1/crews", key(credential), from("127.0.0.7"))
		a.refused(t, 401, "api_key_invalid")
		a.isBody(t, want)
	}
}

func (h *hornetHive) forbidden(t *testing.T) {
	k := h.made(t, "reader", "crews:read", "outcomes:read")
	a := h.do(t, "POST", "/v1/crews/7/deploy", key(k.Key))
	a.refused(t, 403, "insufficient_scope")
	a.isBody(t, `{"error":{"code":"forbidden","message":"Insufficient permissions","details":{"required_permission":"crews:write","provided_permissions":["crews:read","outcomes:read"]}}}`)
}

func (h *hornetHive) noHeader(t *testing.T) {
	a := h.get(t, "/v1/crews")
	a.refused(t, 401, "missing_credentials")
	a.isBody(t, `{"error":{"code":"unauthorized","message":"Invalid API key","details":{"reason":"missing_credentials"}}}`)
}

func (h *hornetHive) noBearer(t *testing.T) {
	k := h.made(t, "bare", "crews:read")
	a := h.get(t, "/v1/crews", header("Authorization", k.Key))
	a.refused(t, 401, "malformed_authorization")
	a.isBody(t, `{"error":{"code":"unauthorized","message":"Invalid API key","details":{"reason":"malformed_authorization"}}}`)
	if hint := a.challengeHint(); !strings.Contains(hint, "Authorization must be 'Bearer <token>'") {
		t.Errorf("hint %q", hint)
	}
}

func (h *hornetHive) list(t *testing.T) {
	mine, other := h.made(t, "lister", "crews:read"), h.made(t, "stranger", "crews:read")
	ids := func(who created, query string) []string {
		var list struct {
			Data []struct{ ID, Owner string }
		}
		a := h.get(t, "/v1/api-keys"+query, key(who.Key))
		if err := json.Unmarshal(a.body, &list); err != nil || a.status != 200 {
			t.Fatalf("list: %d %v", a.status, err)
		}
		var out []string
		for _, k := range list.Data {
			out = append(out, k.ID)
		}
		return out
	}
	if got := ids(mine, ""); !slices.Equal(got, []string{mine.ID}) {
		t.Errorf("a key sees %v, want its own alone", got)
	}
	h.get(t, "/v1/api-keys/"+other.ID, key(mine.Key)).refused(t, 404, "not_found")
	if got := ids(h.root, "?owner=stranger"); !slices.Equal(got, []string{other.ID}) {
		t.Errorf("an administrator sees %v of another owner", got)
	}
}

func (h *hornetHive) remove(t *testing.T) {
	k := h.made(t, "deleted", "crews:read")
	h.get(t, "/v1/crews", key(k.Key)).passed(t)
	h.do(t, "DELETE", "/v1/api-keys/"+k.ID, key(h.made(t, "somebody", "crews:read").Key)).refused(t, 404, "not_found")
	if a := h.do(t, "DELETE", "/v1/api-keys/"+k.ID, key(k.Key)); a.status != 204 || len(a.body) != 0 {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	h.get(t, "/v1/crews", key(k.Key)).refused(t, 401, "api_key_revoked")
}

func (h *hornetHive) rename(t *testing.T) {
	k := h.made(t, "named", "crews:read")
	a := h.do(t, "PATCH", "/v1/api-keys/"+k.ID, key(k.Key), jsonBody(`{"name":"renamed"}`))
	if a.status != 200 || a.member(t, "name") != "renamed" {
		t.Errorf("rename: %d %s", a.status, a.body)
	}
	if name := h.get(t, "/v1/api-keys/"+k.ID, key(k.Key)).member(t, "name"); name != "renamed" {
		t.Errorf("afterwards it is called %q", name)
	}
}

func (h *hornetHive) createOverHTTP(t *testing.T) {
	k := h.made(t, "creator", "crews:read", "crews:write")
	a, err := h.try(h.sites[0], "POST", "/v1/api-keys", key(k.Key), jsonBody(`{"name":"child","permissions":["crews:read"]}`))
	if err != nil || a.status != 201 {
		t.Fatalf("create: %v %v", err, a)
	}
	child := a.member(t, "key")
	book.addKey("a child key", child)
	h.get(t, "/v1/crews", key(child)).passed(t)
	h.do(t, "POST", "/v1/crews", key(child)).refused(t, 403, "insufficient_scope")
	// Nobody gives what it does not hold, or gives it to others.
	a = h.do(t, "POST", "/v1/api-keys", key(k.Key), jsonBody(`{"name":"more","permissions":["admin:write"]}`))
	if a.status != 403 {
		t.Errorf("a scope that it does not hold: %d %s", a.status, a.body)
	}
	a = h.do(t, "POST", "/v1/api-keys", key(k.Key), jsonBody(`{"name":"theirs","owner":"others","permissions":["crews:read"]}`))
	if a.status != 403 {
		t.Errorf("a key of another owner: %d %s", a.status, a.body)
	}
}

func (h *hornetHive) verify(t *testing.T) {
	k := h.made(t, "verified", "crews:read", "outcomes:read")
	a := h.get(t, "/v1/auth/verify", key(k.Key))
	got := a.asJSON(t)
	limit, _ := got["rate_limit"].(map[string]any)
	if a.status != 200 || len(got) != 4 || got["valid"] != true || got["key_id"] != k.ID || !strings.HasPrefix(k.ID, "key_") ||
		fmt.Sprint(got["permissions"]) != "[crews:read outcomes:read]" || len(limit) != 3 {
		t.Errorf("verify: %d %s", a.status, a.body)
	}
	for member, name := range map[string]string{"limit": "Limit", "remaining": "Remaining", "reset": "Reset"} {
		if n, _ := limit[member].(float64); strconv.FormatFloat(n, 'f', 0, 64) != a.header.Get("X-Ratelimit-"+name) {
			t.Errorf("%s %v, header %s", member, limit[member], a.header.Get("X-Ratelimit-"+name))
		}
	}
	if limit["limit"] != 1000.0 || limit["remaining"] != 999.0 {
		t.Errorf("rate limit %v, want this request counted", limit)
	}
}

func (h *hornetHive) verifyBad(t *testing.T) {
	k := h.made(t, "unverified", "crews:read")
	a := h.get(t, "/v1/auth/verify", key(wrong(t, k)), from("127.0.0.6"))
	a.refused(t, 401, "api_key_invalid")
	if e := errorOf(t, a); e["message"] != "Invalid API key" {
		t.Errorf("error %v", e)
	}
}

func (h *hornetHive) diagnosis(t *testing.T) {
	k := h.made(t, "diagnosed", "crews:read")
	for reason, c := range map[string]struct {
		status int
		call   string
		change change
	}{
		"malformed_authorization": {401, "GET /v1/crews", header("Authorization", "Bearer"+k.Key)},
		"missing_credentials":     {401, "GET /v1/crews", header("X-Api-Key", "none")},
		"api_key_invalid":         {401, "GET /v1/crews", key("hive_sk_short")},
		"insufficient_scope":      {403, "POST /v1/crews", key(k.Key)},
	} {
		h.call(t, c.call, c.change).refused(t, c.status, reason)
	}
	h.hivegate(t, "apikey", "revoke", k.ID, "--wait").ok(t)
	a := h.get(t, "/v1/crews", key(k.Key))
	a.refused(t, 401, "api_key_revoked")
	if d, _ := errorOf(t, a)["details"].(map[string]any); d["reason"] != "api_key_revoked" {
		t.Errorf("details %v", d)
	}
}
