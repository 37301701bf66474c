package keyapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hivegate/hivegate/internal/keyapi"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

func TestVerifySaysWhatTheSDKsRead(t *testing.T) {
	s := newSite(t, refusal.HornetHive)
	k := s.make(admin(), `{"name":"ci","permissions":["farms:read"],"owner":"acme"}`)
	c := s.caller(k.ID)
	c.Limit = &keyapi.Limit{Limit: 1000, Remaining: 999, Reset: 1640995200}
	want := `{"valid":true,"key_id":"` + k.ID + `","permissions":["farms:read"],"rate_limit":{"limit":1000,"remaining":999,"reset":1640995200}}`
	if got := s.do(c, "GET", "/auth/verify", "").want(t, 200, ""); string(got.body) != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
	// A token has no key; without a limit there is none to tell of.
	token := &keyapi.Caller{ID: "user-1", Subject: "jwt:supabase:user-1"}
	if got := s.do(token, "GET", "/auth/verify", "").want(t, 200, ""); string(got.body) != `{"valid":true,"permissions":[],"rate_limit":null}` {
		t.Errorf("of a token: %s", got.body)
	}
	if got := s.do(token, "HEAD", "/auth/verify", "").want(t, 200, ""); len(got.body) != 0 || got.header.Get("Content-Length") == "" {
		t.Errorf("HEAD: %q, Content-Length %q", got.body, got.header.Get("Content-Length"))
	}
}

func TestAKeyIsMadeReadChangedRotatedAndRevoked(t *testing.T) {
	s := newSite(t, refusal.Problem)
	c := admin()
	got := s.do(c, "POST", "/api-keys", `{"name":"ci","permissions":["farms:read","farms:read"],"owner":"acme","plan":"operator",
		"expires_at":"2026-06-01T02:00:00+02:00","ip_allowlist":["192.0.2.7","10.0.0.1/8"],"limits":{"requests":"5000/m","concurrent":{"outcomes":50}}}`).want(t, 201, "")
	m := got.json(t)
	id, key := m["id"].(string), m["key"].(string)
	delete(m, "key")
	if !strings.HasPrefix(key, "hive_sk_"+id[len("key_"):]) || got.header.Get("Location") != base+"/api-keys/"+id {
		t.Errorf("id %s, Location %q", id, got.header.Get("Location"))
	}
	want := `{"created_at":"2026-03-01T12:00:00Z","expires_at":"2026-06-01T00:00:00Z","id":"` + id + `","ip_allowlist":["192.0.2.7/32","10.0.0.0/8"],` +
		`"last_used_at":null,"limits":{"concurrent":{"outcomes":50},"requests":"5000/m"},"name":"ci","owner":"acme","permissions":["farms:read"],` +
		`"plan":"operator","prefix":"` + key[:12] + `","status":"active"}`
	if text, _ := json.Marshal(m); string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if read := s.do(c, "GET", "/api-keys/"+id, "").want(t, 200, "").json(t); !maps.EqualFunc(read, m, func(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
		t.Errorf("read %v, want %v", read, m)
	}
	changed := s.do(c, "PATCH", "/api-keys/"+id, `{"name":"new","scopes":["farms:*"],"expiresAt":null,"plan":null,"limits":null,"ip_allowlist":null,"disabled":true}`).want(t, 200, "").json(t)
	for name, v := range map[string]string{"name": "new", "permissions": "[farms:*]", "expires_at": "<nil>", "plan": "<nil>", "limits": "<nil>", "ip_allowlist": "<nil>", "status": "disabled"} {
		if fmt.Sprint(changed[name]) != v {
			t.Errorf("changed: %s is %v, want %s", name, changed[name], v)
		}
	}
	s.do(c, "PATCH", "/api-keys/"+id, `{"disabled":false}`).want(t, 200, "")
	rotated := s.do(c, "POST", "/api-keys/"+id+"/rotate", "").want(t, 200, "").json(t)
	if rotated["id"] != id || rotated["key"] == key || rotated["key"] == nil {
		t.Error("a rotation keeps the id and gives another key")
	}
	rotated = s.do(c, "GET", "/api-keys/"+id, "").want(t, 200, "").json(t)
	if old, _ := rotated["old_secret"].(map[string]any); old["expires_at"] != "2026-03-02T12:00:00Z" || old["last_used_at"] != nil {
		t.Errorf("old secret: %v, want 24 hours", old)
	}
	s.do(c, "DELETE", "/api-keys/"+id, "").want(t, 204, "")
	s.do(c, "DELETE", "/api-keys/"+id, "").want(t, 204, "")
	if read := s.do(c, "GET", "/api-keys/"+id, "").want(t, 200, "").json(t); read["status"] != "revoked" {
		t.Errorf("a revoked key reads as %v", read["status"])
	}
	s.do(c, "PATCH", "/api-keys/"+id, `{"name":"x"}`).want(t, 409, "conflict")
	s.do(c, "PATCH", "/api-keys/"+id, `{"disabled":false}`).want(t, 409, "conflict")
	s.do(c, "POST", "/api-keys/"+id+"/rotate", "").want(t, 409, "conflict")
	want = ""
	for _, action := range []string{"create", "update", "enable", "rotate", "revoke"} {
		want += fmt.Sprintf("%s %s by root from 192.0.2.1, new %t\n", action, id, action == "create")
	}
	if got := strings.Join(s.audited, "\n") + "\n"; got != want {
		t.Errorf("audited:\n%swant:\n%s", got, want)
	}
}

func TestRotatingTwiceDropsTheOldestSecretAtOnce(t *testing.T) {
	s := newSite(t, refusal.Problem)
	k := s.make(admin(), `{"name":"ci","preset":"read_only"}`)
	first := s.record(k.ID).Secrets[0]
	s.do(admin(), "POST", "/api-keys/"+k.ID+"/rotate", `{"overlap":"1h"}`).want(t, 200, "")
	second := s.record(k.ID).Secrets
	if len(second) != 2 || string(second[1].Hash) != string(first.Hash) || !second[1].NotAfter.Equal(epoch.Add(time.Hour)) {
		t.Fatalf("after one rotation %d secrets", len(second))
	}
	s.do(admin(), "POST", "/api-keys/"+k.ID+"/rotate", `{}`).want(t, 200, "")
	third := s.record(k.ID).Secrets
	if len(third) != 2 || string(third[1].Hash) != string(second[0].Hash) {
		t.Fatal("after two rotations the first secret must be gone")
	}
	s.do(admin(), "POST", "/api-keys/"+k.ID+"/rotate", `{"overlap":"0s"}`).want(t, 200, "")
	if n := len(s.record(k.ID).Secrets); n != 1 {
		t.Errorf("%d secrets, want the new one alone", n)
	}
}

// Clients send their Content-Type with every POST, and some end an empty body
// without ever saying how long it is.
func TestARotationTakesAnAbsentBodyHoweverItIsSent(t *testing.T) {
	s := newSite(t, refusal.Problem)
	k := s.make(admin(), `{"name":"ci","preset":"read_only"}`)
	unknown := func(r *http.Request) { r.ContentLength = -1 }
	typed := func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }
	for what, change := range map[string][]func(*http.Request){
		"a form type": {typed}, "no length": {unknown}, "a form type and no length": {typed, unknown},
	} {
		s.do(admin(), "POST", "/api-keys/"+k.ID+"/rotate", "", change...).want(t, 200, "")
		if old := s.record(k.ID).Secrets[1]; !old.NotAfter.Equal(epoch.Add(24 * time.Hour)) {
			t.Errorf("%s: the old secret ends %s, want a day from now", what, old.NotAfter)
		}
	}
	s.do(admin(), "POST", "/api-keys/"+k.ID+"/rotate", `{"overlap":"0s"}`, unknown).want(t, 200, "")
	if n := len(s.record(k.ID).Secrets); n != 1 {
		t.Errorf("a body of unknown length is not read: %d secrets", n)
	}
	s.do(admin(), "POST", "/api-keys/"+k.ID+"/rotate", `{"overlap":"0s"}`, unknown, typed).want(t, 415, "body_not_json")
}

// Clients put the server's URL before a path as it stands.
func TestThePathsOfTheDescriptionAreThoseThatAreServed(t *testing.T) {
	s := newSite(t, refusal.Problem)
	doc := s.do(admin(), "GET", "/openapi.json", "").want(t, 200, "").json(t)
	server := doc["servers"].([]any)[0].(map[string]any)["url"].(string)
	for path, item := range doc["paths"].(map[string]any) {
		for _, method := range []string{"get", "post", "patch", "delete"} {
			if item.(map[string]any)[method] == nil {
				continue
			}
			at := strings.ReplaceAll(server+path, "{id}", "key_AAAAAAAAAAAA")
			var m policy.Match
			if s.table.Match(strings.ToUpper(method), at, &m); m.Found != policy.Matched {
				t.Errorf("%s %s is described and not served", method, at)
			}
		}
	}
}

func TestACallerSeesAndManagesItsOwnersKeysOnly(t *testing.T) {
	s := newSite(t, refusal.HornetHive)
	mine := s.make(admin(), `{"name":"a","permissions":["farms:read"],"owner":"acme"}`)
	theirs := s.make(admin(), `{"name":"b","permissions":["farms:read"],"owner":"rival"}`)
	nobodys := s.make(admin(), `{"name":"c","permissions":["farms:read"]}`) // ops, the admin's own
	c := ofOwner("acme", "*")
	s.do(c, "GET", "/api-keys/"+mine.ID, "").want(t, 200, "")
	for _, id := range []string{theirs.ID, nobodys.ID, "key_AAAAAAAAAAAA"} {
		before := s.snapshot()
		s.do(c, "GET", "/api-keys/"+id, "").want(t, 404, "not_found")
		s.do(c, "PATCH", "/api-keys/"+id, `{"name":"x"}`).want(t, 404, "not_found")
		s.do(c, "PATCH", "/api-keys/"+id, `{}`).want(t, 404, "not_found")
		s.do(c, "PATCH", "/api-keys/"+id, `{"disabled":true}`).want(t, 404, "not_found")
		s.do(c, "DELETE", "/api-keys/"+id, "").want(t, 404, "not_found")
		s.do(c, "POST", "/api-keys/"+id+"/rotate", "").want(t, 404, "not_found")
		s.do(c, "POST", "/api-keys/"+id+"/rotate", "", idempotencyKey("x")).want(t, 404, "not_found")
		if s.snapshot() != before {
			t.Error("something changed")
		}
	}
	s.do(admin(), "DELETE", "/api-keys/"+theirs.ID, "").want(t, 204, "")
	s.do(c, "PATCH", "/api-keys/"+theirs.ID, `{"name":"x"}`).want(t, 404, "not_found") // not 409: it would tell that it exists
	s.do(c, "POST", "/api-keys", `{"name":"x","permissions":[],"owner":"rival"}`).want(t, 403, "insufficient_scope")
	if got := s.listed(c, ""); !slices.Equal(got, []string{mine.ID}) {
		t.Errorf("listed %v", got)
	}
	if got := s.listed(c, "owner=rival"); len(got) != 0 {
		t.Errorf("of another owner: %v", got)
	}
	if got := s.listed(admin(), "owner=rival"); !slices.Equal(got, []string{theirs.ID}) {
		t.Errorf("the administrator sees %v", got)
	}
}

func TestAKeyWithoutOwnerIsItsOwnAndItsKeysInheritIt(t *testing.T) {
	s := newSite(t, refusal.Problem)
	rec, _, err := s.keeper.Create(t.Context(), keystore.Change{Actor: "command"}, keystore.NewKey{Name: "root", Scopes: []string{"farms:*", "keys:manage"}})
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := s.keeper.Create(t.Context(), keystore.Change{Actor: "command"}, keystore.NewKey{Name: "stranger", Scopes: []string{"farms:*"}})
	if err != nil {
		t.Fatal(err)
	}
	c := s.caller(rec.ID.String())
	s.pass(time.Second)
	child := s.make(c, `{"name":"child","permissions":["farms:read","keys:manage"]}`)
	if owner := s.record(child.ID).Owner; owner != "key:"+rec.ID.String() {
		t.Errorf("owner %q", owner)
	}
	s.pass(time.Second)
	grandchild := s.make(s.caller(child.ID), `{"name":"grandchild","permissions":["farms:read"],"owner":"key:`+rec.ID.String()+`"}`)
	want := []string{grandchild.ID, child.ID, rec.ID.String()}
	for _, id := range want {
		if got := s.listed(s.caller(id), ""); !slices.Equal(got, want) {
			t.Errorf("%s sees %v, want all of the family and nobody else: %v", id, got, want)
		}
		s.do(s.caller(id), "GET", "/api-keys/"+other.ID.String(), "").want(t, 404, "not_found")
	}
	// Nobody gives such an owner to a key that is not of the family.
	s.do(s.caller(other.ID.String()), "POST", "/api-keys", `{"name":"x","permissions":[],"owner":"key:`+rec.ID.String()+`"}`).want(t, 422, "field_invalid")
	// A token that is nobody in particular has no keys and makes none.
	nobody := &keyapi.Caller{ID: "anon", Scopes: []string{"*"}}
	s.do(nobody, "POST", "/api-keys", `{"name":"x","permissions":[]}`).want(t, 403, "insufficient_scope")
	if got := s.listed(nobody, ""); len(got) != 0 {
		t.Errorf("sees %v", got)
	}
}

func (s *site) listed(c *keyapi.Caller, query string) []string {
	s.t.Helper()
	ids := []string{}
	for _, rec := range s.do(c, "GET", "/api-keys?"+query, "").want(s.t, 200, "").json(s.t)["data"].([]any) {
		ids = append(ids, rec.(map[string]any)["id"].(string))
	}
	return ids
}

// What a caller may hand on, case by case; the property test is in
// rights_test.go.
func TestNobodyHandsOnMoreThanTheyHave(t *testing.T) {
	s := newSite(t, refusal.HornetHive)
	in := func(d time.Duration) string { return `"` + epoch.Add(d).Format(time.RFC3339) + `"` }
	bounded := func() *keyapi.Caller {
		c := ofOwner("acme", "farms:*", "workers:command@farmId=1,2", "keys:manage")
		c.ExpiresAt = epoch.Add(48 * time.Hour)
		c.IPAllowlist = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
		return c
	}
	ends, from := `"expires_at":`+in(24*time.Hour)+`,`, `"ip_allowlist":["10.1.0.0/16"],`
	for name, c := range map[string]struct {
		body    string
		status  int
		missing string // the scope that is named
	}{
		"covered by a wildcard":    {`{"name":"x",` + ends + from + `"permissions":["farms:read"]}`, 201, ""},
		"narrower":                 {`{"name":"x",` + ends + from + `"permissions":["workers:command@farmId=1"]}`, 201, ""},
		"own plan":                 {`{"name":"x",` + ends + from + `"permissions":[],"plan":"operator"}`, 201, ""},
		"default plan":             {`{"name":"x",` + ends + from + `"permissions":[],"plan":"explorer"}`, 201, ""},
		"own expiry to the dot":    {`{"name":"x","expires_at":` + in(48*time.Hour) + `,` + from + `"permissions":[]}`, 201, ""},
		"another scope":            {`{"name":"x",` + ends + from + `"permissions":["admin:write"]}`, 403, "admin:write"},
		"everything":               {`{"name":"x",` + ends + from + `"permissions":["*"]}`, 403, "*"},
		"a preset beyond":          {`{"name":"x",` + ends + from + `"preset":"everything"}`, 403, "*"},
		"whole for narrowed":       {`{"name":"x",` + ends + from + `"permissions":["workers:command"]}`, 403, "workers:command"},
		"another object":           {`{"name":"x",` + ends + from + `"permissions":["workers:command@farmId=1,3"]}`, 403, "workers:command@farmId=1,3"},
		"another parameter":        {`{"name":"x",` + ends + from + `"permissions":["workers:command@workerId=1"]}`, 403, "workers:command@workerId=1"},
		"later expiry":             {`{"name":"x","expires_at":` + in(49*time.Hour) + `,` + from + `"permissions":[]}`, 403, "admin:write"},
		"no expiry":                {`{"name":"x",` + from + `"permissions":[]}`, 403, "admin:write"},
		"wider allowlist":          {`{"name":"x",` + ends + `"ip_allowlist":["10.1.0.0/16","192.0.2.1"],"permissions":[]}`, 403, "admin:write"},
		"no allowlist":             {`{"name":"x",` + ends + `"permissions":[]}`, 403, "admin:write"},
		"all addresses":            {`{"name":"x",` + ends + `"ip_allowlist":["0.0.0.0/0"],"permissions":[]}`, 403, "admin:write"},
		"mapped IPv4 is IPv4":      {`{"name":"x",` + ends + `"ip_allowlist":["::ffff:0:0/96"],"permissions":[]}`, 403, "admin:write"},
		"another plan":             {`{"name":"x",` + ends + from + `"permissions":[],"plan":"swarm"}`, 403, "admin:write"},
		"own limits":               {`{"name":"x",` + ends + from + `"permissions":[],"limits":{"requests":"9000/m"}}`, 403, "admin:write"},
		"unknown scope goes first": {`{"name":"x",` + ends + from + `"permissions":["admin:write","farms:reed"]}`, 422, ""},
		"unknown plan goes first":  {`{"name":"x",` + ends + from + `"permissions":["*"],"plan":"nope"}`, 422, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.do(bounded(), "POST", "/api-keys", c.body)
			reason := map[int]string{201: "", 403: "insufficient_scope", 422: "field_invalid"}[c.status]
			got.want(t, c.status, reason)
			if c.status == 403 {
				details := got.json(t)["error"].(map[string]any)["details"].(map[string]any)
				if details["required_permission"] != c.missing {
					t.Errorf("names %v, want %s", details["required_permission"], c.missing)
				}
			}
		})
	}
	star := s.make(admin(), `{"name":"star","permissions":["*"],"owner":"acme"}`)
	free := s.make(admin(), `{"name":"free","permissions":["farms:read"],"owner":"acme"}`)
	fine := s.make(admin(), `{"name":"fine","permissions":["farms:read"],"owner":"acme","plan":"swarm","limits":{"requests":"9/m"},`+ends+from[:len(from)-1]+`}`)
	off := s.make(admin(), `{"name":"off","permissions":["*"],"owner":"acme"}`)
	s.do(admin(), "PATCH", "/api-keys/"+off.ID, `{"disabled":true}`).want(t, 200, "")
	for name, c := range map[string]struct {
		method, path, body string
		status             int
	}{
		"rotate a * key":             {"POST", star.ID + "/rotate", "", 403},
		"rename a * key":             {"PATCH", star.ID, `{"name":"x"}`, 403},
		"an empty change of a * key": {"PATCH", star.ID, `{}`, 403},
		"shrink a * key":             {"PATCH", star.ID, `{"permissions":["farms:read"]}`, 403},
		"disable a * key":            {"PATCH", star.ID, `{"disabled":true}`, 403},
		"enable a * key":             {"PATCH", off.ID, `{"disabled":false}`, 403},
		"rotate a longer life":       {"POST", free.ID + "/rotate", "", 403},
		"rename a longer life":       {"PATCH", free.ID, `{"name":"renamed"}`, 200},
		"disable a longer life":      {"PATCH", free.ID, `{"disabled":true}`, 200},
		"widen":                      {"PATCH", fine.ID, `{"permissions":["*"]}`, 403},
		"prolong":                    {"PATCH", fine.ID, `{"expires_at":null}`, 403},
		"open to all addresses":      {"PATCH", fine.ID, `{"ip_allowlist":null}`, 403},
		"lift the limits":            {"PATCH", fine.ID, `{"limits":null}`, 403},
		"give another plan":          {"PATCH", fine.ID, `{"plan":"swarm","name":"as it was"}`, 200},
		"rotate within bounds":       {"POST", fine.ID + "/rotate", `{"overlap":"1h"}`, 200},
		"narrow":                     {"PATCH", fine.ID, `{"permissions":["farms:write"],"expires_at":` + in(time.Hour) + `}`, 200},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.snapshot()
			got := s.do(bounded(), c.method, "/api-keys/"+c.path, c.body)
			got.want(t, c.status, map[int]string{200: "", 403: "insufficient_scope"}[c.status])
			if c.status == 403 && s.snapshot() != before {
				t.Error("something changed")
			}
		})
	}
	// Revoking is always allowed, of one's own too.
	s.do(bounded(), "DELETE", "/api-keys/"+star.ID, "").want(t, 204, "")
	own := s.make(admin(), `{"name":"own","permissions":["keys:manage"],"owner":"acme"}`)
	s.do(s.caller(own.ID), "DELETE", "/api-keys/"+own.ID, "").want(t, 204, "")
	// any_owner is bound by scopes alone.
	half := admin()
	half.Scopes, half.ExpiresAt = []string{"farms:*", "admin:write"}, epoch.Add(time.Minute)
	half.IPAllowlist = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	s.make(half, `{"name":"x","permissions":["farms:read"],"owner":"rival","plan":"swarm","limits":{"requests":"9000/m"}}`)
	s.do(half, "POST", "/api-keys", `{"name":"x","permissions":["workers:command"]}`).want(t, 403, "insufficient_scope")
}

func TestPagesStayRightWhileKeysAreAdded(t *testing.T) {
	s := newSite(t, refusal.Problem)
	want := map[string]bool{}
	for i := range 25 {
		if i%3 == 0 {
			s.pass(time.Second)
		}
		want[s.make(admin(), fmt.Sprintf(`{"name":"k%d","permissions":[],"owner":"acme"}`, i)).ID] = true
	}
	seen := map[string]bool{}
	c, cursor, last := ofOwner("acme"), "", ""
	for page := 0; ; page++ {
		m := s.do(c, "GET", "/api-keys?limit=4&cursor="+cursor, "").want(t, 200, "").json(t)
		for _, rec := range m["data"].([]any) {
			id, at := rec.(map[string]any)["id"].(string), rec.(map[string]any)["created_at"].(string)
			if seen[id] || !want[id] {
				t.Errorf("%s twice, or from after the beginning", id)
			}
			if last != "" && at > last {
				t.Errorf("%s after %s: not newest first", at, last)
			}
			seen[id], last = true, at
		}
		s.pass(time.Second)
		s.make(admin(), `{"name":"later","permissions":[],"owner":"acme"}`)
		if m["next_cursor"] == nil {
			break
		}
		cursor = m["next_cursor"].(string)
	}
	if len(seen) != len(want) {
		t.Errorf("%d of %d keys seen", len(seen), len(want))
	}
}

func TestListsAreFilteredByStatusOwnerAndText(t *testing.T) {
	s := newSite(t, refusal.Problem)
	ids := map[string]string{}
	for _, name := range []string{"active", "Disabled one", "expired", "revoked"} {
		ids[name] = s.make(admin(), `{"name":"`+name+`","permissions":[],"owner":"acme","expires_at":`+map[bool]string{true: `"2026-03-01T13:00:00Z"`, false: "null"}[name == "expired"]+`}`).ID
	}
	s.do(admin(), "PATCH", "/api-keys/"+ids["Disabled one"], `{"disabled":true}`).want(t, 200, "")
	s.do(admin(), "DELETE", "/api-keys/"+ids["revoked"], "").want(t, 204, "")
	s.pass(time.Hour)
	for query, name := range map[string]string{
		"status=active": "active", "status=disabled": "Disabled one", "status=expired": "expired", "status=revoked": "revoked",
		"q=DISABLED": "Disabled one", "q=hive_sk_" + ids["active"][4:8]: "active", "q=%25": "", "q=" + strings.Repeat("é", 100): "",
		"owner=rival": "", "status=active&q=exp": "", "limit=1&status=expired&owner=acme": "expired",
	} {
		got := s.listed(admin(), query)
		if name == "" && len(got) != 0 || name != "" && !slices.Equal(got, []string{ids[name]}) {
			t.Errorf("%s: %v, want %q", query, got, name)
		}
	}
}

func idempotencyKey(v string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add("Idempotency-Key", v) }
}
