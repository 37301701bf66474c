package keyapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hivegate/hivegate/internal/keyapi"
	"github.com/hivegate/hivegate/internal/refusal"
)

// bad is one request that must be refused without a change. ID stands for an own
// key, THEIRS for another owner's.
type bad struct {
	call   string // method and path
	body   string
	status int
	names  string // what the refusal must name
	header http.Header
}

const jsonType = "application/json"

var badRequests = map[string]bad{
	// What is no JSON object.
	"empty body":                  {"POST /api-keys", "", 415, "Content-Type", nil},
	"empty object":                {"POST /api-keys", `{}`, 422, "name", nil},
	"empty text":                  {"POST /api-keys", ` `, 400, "body", nil},
	"a list":                      {"POST /api-keys", `[]`, 400, "body", nil},
	"a string":                    {"POST /api-keys", `"name"`, 400, "body", nil},
	"null":                        {"POST /api-keys", `null`, 400, "body", nil},
	"a number":                    {"POST /api-keys", `1`, 400, "body", nil},
	"form data":                   {"POST /api-keys", `name=x`, 400, "body", nil},
	"cut off":                     {"POST /api-keys", `{"name":"x"`, 400, "body", nil},
	"cut off in a member":         {"POST /api-keys", `{"name":"x`, 400, "name", nil},
	"two objects":                 {"POST /api-keys", `{"name":"x","permissions":[]}{}`, 400, "body", nil},
	"text behind":                 {"POST /api-keys", `{"name":"x","permissions":[]} x`, 400, "body", nil},
	"byte order mark":             {"POST /api-keys", "\ufeff" + `{"name":"x","permissions":[]}`, 400, "body", nil},
	"a comment":                   {"POST /api-keys", `{/**/"name":"x","permissions":[]}`, 400, "body", nil},
	"a trailing comma":            {"POST /api-keys", `{"name":"x","permissions":[],}`, 400, "body", nil},
	"single quotes":               {"POST /api-keys", `{'name':'x'}`, 400, "body", nil},
	"invalid UTF-8":               {"POST /api-keys", "{\"name\":\"\xff\xfe\",\"permissions\":[]}", 400, "body", nil},
	"overlong UTF-8":              {"POST /api-keys", "{\"name\":\"\xc0\xae\",\"permissions\":[]}", 400, "body", nil},
	"half a surrogate pair":       {"POST /api-keys", `{"name":"\ud800","permissions":[]}`, 400, "name", nil},
	"deep nesting":                {"POST /api-keys", `{"name":` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + `}`, 400, "name", nil},
	"deep nesting of objects":     {"POST /api-keys", `{"limits":` + strings.Repeat(`{"a":`, 12_000), 400, "limits", nil},
	"deep nesting in permissions": {"POST /api-keys", `{"name":"x","permissions":` + strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000) + `}`, 400, "permissions", nil},
	"NUL bytes":                   {"POST /api-keys", "{\"name\":\"a\x00b\",\"permissions\":[]}", 400, "name", nil},
	"10 MB":                       {"POST /api-keys", `{"name":"` + strings.Repeat("x", 10<<20) + `","permissions":[]}`, 413, "body", nil},
	"one byte past 64 KiB":        {"POST /api-keys", `{"name":"x","permissions":[]}` + strings.Repeat(" ", 64<<10-28), 413, "body", nil},
	"a 10 MB patch":               {"PATCH /api-keys/ID", `{"name":"` + strings.Repeat("x", 10<<20) + `"}`, 413, "body", nil},
	// How it is sent.
	"no Content-Type":       {"POST /api-keys", `{"name":"x","permissions":[]}`, 415, "Content-Type", http.Header{"Content-Type": nil}},
	"text/plain":            {"POST /api-keys", `{"name":"x","permissions":[]}`, 415, "Content-Type", http.Header{"Content-Type": {"text/plain"}}},
	"two Content-Types":     {"POST /api-keys", `{"name":"x","permissions":[]}`, 415, "Content-Type", http.Header{"Content-Type": {jsonType, jsonType}}},
	"a list of types":       {"POST /api-keys", `{"name":"x","permissions":[]}`, 415, "Content-Type", http.Header{"Content-Type": {jsonType + ", text/plain"}}},
	"another charset":       {"POST /api-keys", `{"name":"x","permissions":[]}`, 415, "Content-Type", http.Header{"Content-Type": {jsonType + "; charset=utf-16"}}},
	"gzip":                  {"POST /api-keys", `{"name":"x","permissions":[]}`, 415, "Content-Encoding", http.Header{"Content-Type": {jsonType}, "Content-Encoding": {"gzip"}}},
	"identity encoding":     {"POST /api-keys", `{"name":"x","permissions":[]}`, 415, "Content-Encoding", http.Header{"Content-Type": {jsonType}, "Content-Encoding": {"identity"}}},
	"form type":             {"PATCH /api-keys/ID", `name=x`, 415, "Content-Type", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}},
	"rotate as text":        {"POST /api-keys/ID/rotate", `{"overlap":"1h"}`, 415, "Content-Type", http.Header{"Content-Type": {"text/plain"}}},
	"two Idempotency-Keys":  {"POST /api-keys", `{"name":"x","permissions":[]}`, 422, "Idempotency-Key", http.Header{"Content-Type": {jsonType}, "Idempotency-Key": {"a", "b"}}},
	"empty Idempotency-Key": {"POST /api-keys", `{"name":"x","permissions":[]}`, 422, "Idempotency-Key", http.Header{"Content-Type": {jsonType}, "Idempotency-Key": {""}}},
	"long Idempotency-Key":  {"POST /api-keys", `{"name":"x","permissions":[]}`, 422, "Idempotency-Key", http.Header{"Content-Type": {jsonType}, "Idempotency-Key": {strings.Repeat("x", 256)}}},
	// Members.
	"unknown member":           {"POST /api-keys", `{"name":"x","permissions":[],"is_admin":true}`, 400, "is_admin", nil},
	"misspelt member":          {"POST /api-keys", `{"name":"x","permissions":[],"expires":"2027-01-01T00:00:00Z"}`, 400, "expires", nil},
	"differently cased member": {"POST /api-keys", `{"Name":"x","permissions":[]}`, 400, "Name", nil},
	"upper case alias":         {"POST /api-keys", `{"name":"x","SCOPES":[]}`, 400, "SCOPES", nil},
	"folded letter":            {"POST /api-keys", `{"name":"x","permi\u017fsions":[]}`, 400, "unknown member", nil},
	"__proto__":                {"POST /api-keys", `{"name":"x","permissions":[],"__proto__":{}}`, 400, "__proto__", nil},
	"empty member name":        {"POST /api-keys", `{"name":"x","permissions":[],"":1}`, 400, "unknown member", nil},
	"duplicate name":           {"POST /api-keys", `{"name":"x","permissions":[],"name":"y"}`, 400, "name", nil},
	"escaped duplicate":        {"POST /api-keys", `{"name":"x","permissions":[],"\u006eame":"y"}`, 400, "name", nil},
	"duplicate permissions":    {"POST /api-keys", `{"name":"x","permissions":[],"permissions":["*"]}`, 400, "permissions", nil},
	"both spellings of scopes": {"POST /api-keys", `{"name":"x","permissions":[],"scopes":["*"]}`, 400, "scopes", nil},
	"both spellings of expiry": {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":null,"expiresAt":null}`, 400, "expiresAt", nil},
	"preset and permissions":   {"POST /api-keys", `{"name":"x","permissions":[],"preset":"read_only"}`, 422, "preset", nil},
	"neither":                  {"POST /api-keys", `{"name":"x"}`, 422, "permissions", nil},
	"an id of one's own":       {"POST /api-keys", `{"name":"x","permissions":[],"id":"key_AAAAAAAAAAAA"}`, 400, "id", nil},
	"a key of one's own":       {"POST /api-keys", `{"name":"x","permissions":[],"key":"hive_sk_x"}`, 400, "key", nil},
	"a status":                 {"POST /api-keys", `{"name":"x","permissions":[],"status":"active"}`, 400, "status", nil},
	// Types.
	"name a number":            {"POST /api-keys", `{"name":1,"permissions":[]}`, 400, "name", nil},
	"name null":                {"POST /api-keys", `{"name":null,"permissions":[]}`, 400, "name", nil},
	"permissions a string":     {"POST /api-keys", `{"name":"x","permissions":"farms:read"}`, 400, "permissions", nil},
	"permissions of numbers":   {"POST /api-keys", `{"name":"x","permissions":["farms:read",1]}`, 400, "permissions[1]", nil},
	"permissions with null":    {"POST /api-keys", `{"name":"x","permissions":[null]}`, 400, "permissions[0]", nil},
	"permissions an object":    {"POST /api-keys", `{"name":"x","permissions":{"0":"*"}}`, 400, "permissions", nil},
	"plan a list":              {"POST /api-keys", `{"name":"x","permissions":[],"plan":["operator"]}`, 400, "plan", nil},
	"owner a number":           {"POST /api-keys", `{"name":"x","permissions":[],"owner":1}`, 400, "owner", nil},
	"expiry a number":          {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":1893456000}`, 400, "expires_at", nil},
	"allowlist a string":       {"POST /api-keys", `{"name":"x","permissions":[],"ip_allowlist":"10.0.0.1"}`, 400, "ip_allowlist", nil},
	"limits a string":          {"POST /api-keys", `{"name":"x","permissions":[],"limits":"9/m"}`, 400, "limits", nil},
	"limits requests a number": {"POST /api-keys", `{"name":"x","permissions":[],"limits":{"requests":5000}}`, 400, "limits.requests", nil},
	"limits unknown":           {"POST /api-keys", `{"name":"x","permissions":[],"limits":{"burst":5}}`, 400, "limits.burst", nil},
	"limits twice":             {"POST /api-keys", `{"name":"x","permissions":[],"limits":{"requests":"1/m","requests":"9/m"}}`, 400, "limits.requests", nil},
	"slots a fraction":         {"POST /api-keys", `{"name":"x","permissions":[],"limits":{"concurrent":{"outcomes":1.5}}}`, 400, "limits.concurrent", nil},
	"slots twice":              {"POST /api-keys", `{"name":"x","permissions":[],"limits":{"concurrent":{"outcomes":1,"outcomes":9}}}`, 400, "limits.concurrent.outcomes", nil},
	"slots a huge number":      {"POST /api-keys", `{"name":"x","permissions":[],"limits":{"concurrent":{"outcomes":1e400}}}`, 400, "limits.concurrent", nil},
	"overlap a number":         {"POST /api-keys/ID/rotate", `{"overlap":3600}`, 400, "overlap", nil},
	"overlap unknown member":   {"POST /api-keys/ID/rotate", `{"grace":"1h"}`, 400, "grace", nil},
	"disabled a string":        {"PATCH /api-keys/ID", `{"disabled":"true"}`, 400, "disabled", nil},
	"disabled null":            {"PATCH /api-keys/ID", `{"disabled":null}`, 400, "disabled", nil},
	"patched permissions null": {"PATCH /api-keys/ID", `{"permissions":null}`, 400, "permissions", nil},
	// Values.
	"empty name":              {"POST /api-keys", `{"name":"","permissions":[]}`, 422, "name", nil},
	"long name":               {"POST /api-keys", `{"name":"` + strings.Repeat("é", 101) + `","permissions":[]}`, 422, "name", nil},
	"control character":       {"POST /api-keys", `{"name":"a\u0007","permissions":[]}`, 422, "name", nil},
	"new line":                {"POST /api-keys", `{"name":"a\nb","permissions":[]}`, 422, "name", nil},
	"C1 control character":    {"PATCH /api-keys/ID", `{"name":"a\u0085b"}`, 422, "name", nil},
	"unknown scope":           {"POST /api-keys", `{"name":"x","permissions":["farms:reed"]}`, 422, "permissions", nil},
	"scope with a space":      {"POST /api-keys", `{"name":"x","permissions":["farms:read *"]}`, 422, "permissions", nil},
	"empty scope":             {"POST /api-keys", `{"name":"x","permissions":[""]}`, 422, "permissions", nil},
	"upper case scope":        {"POST /api-keys", `{"name":"x","permissions":["Farms:Read"]}`, 422, "permissions", nil},
	"bad narrowing":           {"POST /api-keys", `{"name":"x","permissions":["farms:read@=1"]}`, 422, "permissions", nil},
	"101 scopes":              {"POST /api-keys", `{"name":"x","permissions":[` + strings.Repeat(`"farms:read",`, 100) + `"farms:read"]}`, 422, "permissions", nil},
	"unknown preset":          {"POST /api-keys", `{"name":"x","preset":"root"}`, 422, "preset", nil},
	"unknown plan":            {"POST /api-keys", `{"name":"x","permissions":[],"plan":"gigantic"}`, 422, "plan", nil},
	"empty plan":              {"POST /api-keys", `{"name":"x","permissions":[],"plan":""}`, 422, "plan", nil},
	"unknown plan in a patch": {"PATCH /api-keys/ID", `{"plan":"gigantic"}`, 422, "plan", nil},
	"reserved owner":          {"POST /api-keys", `{"name":"x","permissions":[],"owner":"key:key_AAAAAAAAAAAA"}`, 422, "owner", nil},
	"owner with a tab":        {"POST /api-keys", `{"name":"x","permissions":[],"owner":"a\tb"}`, 422, "owner", nil},
	"empty owner":             {"POST /api-keys", `{"name":"x","permissions":[],"owner":""}`, 422, "owner", nil},
	"expiry in the past":      {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":"2020-01-01T00:00:00Z"}`, 422, "expires_at", nil},
	"expiry now":              {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":"` + epoch.Format(time.RFC3339) + `"}`, 422, "expires_at", nil},
	"expiry without zone":     {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":"2027-01-01T00:00:00"}`, 422, "expires_at", nil},
	"expiry a date":           {"POST /api-keys", `{"name":"x","permissions":[],"expiresAt":"2027-01-01"}`, 422, "expiresAt", nil},
	"expiry 31 June":          {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":"2027-06-31T00:00:00Z"}`, 422, "expires_at", nil},
	"expiry of one digit":     {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":"2027-01-01T1:00:00Z"}`, 422, "expires_at", nil},
	"expiry with a comma":     {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":"2027-01-01T00:00:00,5Z"}`, 422, "expires_at", nil},
	"expiry a day off":        {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":"2027-01-01T00:00:00+24:00"}`, 422, "expires_at", nil},
	"expiry a span":           {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":"90d"}`, 422, "expires_at", nil},
	"expiry the year 1":       {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":"0001-01-01T00:00:00Z"}`, 422, "expires_at", nil},
	"expiry beyond year 9999": {"POST /api-keys", `{"name":"x","permissions":[],"expires_at":"9999-12-31T23:59:59-23:59"}`, 422, "expires_at", nil},
	"patched expiry in past":  {"PATCH /api-keys/ID", `{"expires_at":"2020-01-01T00:00:00Z"}`, 422, "expires_at", nil},
	"allowlist a name":        {"POST /api-keys", `{"name":"x","permissions":[],"ip_allowlist":["example.com"]}`, 422, "ip_allowlist", nil},
	"allowlist /33":           {"POST /api-keys", `{"name":"x","permissions":[],"ip_allowlist":["10.0.0.0/33"]}`, 422, "ip_allowlist", nil},
	"allowlist with a zone":   {"POST /api-keys", `{"name":"x","permissions":[],"ip_allowlist":["fe80::1%eth0"]}`, 422, "ip_allowlist", nil},
	"bad rate":                {"POST /api-keys", `{"name":"x","permissions":[],"limits":{"requests":"many"}}`, 422, "limits", nil},
	"unknown class":           {"POST /api-keys", `{"name":"x","permissions":[],"limits":{"concurrent":{"nope":1}}}`, 422, "limits", nil},
	"no slots":                {"POST /api-keys", `{"name":"x","permissions":[],"limits":{"concurrent":{"outcomes":0}}}`, 422, "limits", nil},
	"overlap no span":         {"POST /api-keys/ID/rotate", `{"overlap":"tomorrow"}`, 422, "overlap", nil},
	"overlap negative":        {"POST /api-keys/ID/rotate", `{"overlap":"-1h"}`, 422, "overlap", nil},
	"overlap of ten years":    {"POST /api-keys/ID/rotate", `{"overlap":"87600h"}`, 422, "overlap", nil},
	// What cannot be changed.
	"patch id":           {"PATCH /api-keys/ID", `{"id":"key_AAAAAAAAAAAA"}`, 400, "id", nil},
	"patch owner":        {"PATCH /api-keys/ID", `{"owner":"rival"}`, 400, "owner", nil},
	"patch prefix":       {"PATCH /api-keys/ID", `{"prefix":"x"}`, 400, "prefix", nil},
	"patch status":       {"PATCH /api-keys/ID", `{"status":"active"}`, 400, "status", nil},
	"patch created_at":   {"PATCH /api-keys/ID", `{"created_at":"2020-01-01T00:00:00Z"}`, 400, "created_at", nil},
	"patch last_used_at": {"PATCH /api-keys/ID", `{"last_used_at":null}`, 400, "last_used_at", nil},
	"patch preset":       {"PATCH /api-keys/ID", `{"preset":"everything"}`, 400, "preset", nil},
	"half a good patch":  {"PATCH /api-keys/ID", `{"name":"new","plan":"gigantic"}`, 422, "plan", nil},
	// Ids.
	"no id":               {"GET /api-keys/", "", 404, "", nil},
	"traversal":           {"GET /api-keys/..%2f..%2fetc%2fpasswd", "", 404, "", nil},
	"SQL":                 {"GET /api-keys/key_'%20OR%201=1--", "", 404, "", nil},
	"SQL in a patch":      {"PATCH /api-keys/key_A';DROP%20TABLE", `{"name":"x"}`, 404, "", nil},
	"SQL in a delete":     {"DELETE /api-keys/key_%25", "", 404, "", nil},
	"an id of 13":         {"GET /api-keys/key_AAAAAAAAAAAAA", "", 404, "", nil},
	"an id in upper case": {"DELETE /api-keys/KEY_AAAAAAAAAAAA", "", 404, "", nil},
	"without prefix":      {"POST /api-keys/AAAAAAAAAAAA/rotate", "", 404, "", nil},
	"NUL in an id":        {"GET /api-keys/key_AAAAAAAAAAA%00", "", 404, "", nil},
	"unknown id":          {"DELETE /api-keys/key_AAAAAAAAAAAA", "", 404, "", nil},
	"theirs":              {"GET /api-keys/THEIRS", "", 404, "", nil},
	"patch theirs":        {"PATCH /api-keys/THEIRS", `{"name":"x"}`, 404, "", nil},
	"delete theirs":       {"DELETE /api-keys/THEIRS", "", 404, "", nil},
	"rotate theirs":       {"POST /api-keys/THEIRS/rotate", "", 404, "", nil},
	// Queries.
	"limit 0":              {"GET /api-keys?limit=0", "", 400, "limit", nil},
	"limit 201":            {"GET /api-keys?limit=201", "", 400, "limit", nil},
	"limit -1":             {"GET /api-keys?limit=-1", "", 400, "limit", nil},
	"limit a word":         {"GET /api-keys?limit=all", "", 400, "limit", nil},
	"limit 1e2":            {"GET /api-keys?limit=1e2", "", 400, "limit", nil},
	"limit +5":             {"GET /api-keys?limit=%2B5", "", 400, "limit", nil},
	"limit empty":          {"GET /api-keys?limit=", "", 400, "limit", nil},
	"limit beyond int":     {"GET /api-keys?limit=99999999999999999999", "", 400, "limit", nil},
	"limit twice":          {"GET /api-keys?limit=1&limit=2", "", 400, "limit", nil},
	"cursor made up":       {"GET /api-keys?cursor=abc", "", 400, "cursor", nil},
	"cursor SQL":           {"GET /api-keys?cursor=" + url.QueryEscape("' OR 1=1--"), "", 400, "cursor", nil},
	"cursor huge":          {"GET /api-keys?cursor=" + strings.Repeat("A", 5000), "", 400, "cursor", nil},
	"status unknown":       {"GET /api-keys?status=deleted", "", 400, "status", nil},
	"status upper case":    {"GET /api-keys?status=Active", "", 400, "status", nil},
	"unknown parameter":    {"GET /api-keys?page=2", "", 400, "page", nil},
	"q with a control":     {"GET /api-keys?q=%07", "", 400, "q", nil},
	"q invalid UTF-8":      {"GET /api-keys?q=%ff", "", 400, "q", nil},
	"q too long":           {"GET /api-keys?q=" + strings.Repeat("x", 101), "", 400, "q", nil},
	"owner with a control": {"GET /api-keys?owner=%00", "", 400, "owner", nil},
	"broken escape":        {"GET /api-keys?q=%zz", "", 400, "query", nil},
	"semicolon":            {"GET /api-keys?limit=1;q=2", "", 400, "query", nil},
}

func TestBadRequestsAreRefusedNameTheFieldAndChangeNothing(t *testing.T) {
	if len(badRequests) < 80 {
		t.Fatalf("%d bad requests, want at least 80", len(badRequests))
	}
	s := newSite(t, refusal.Problem)
	own := s.make(admin(), `{"name":"own","permissions":["farms:read"],"owner":"acme"}`)
	theirs := s.make(admin(), `{"name":"theirs","permissions":["farms:read"],"owner":"rival"}`)
	before := s.snapshot()
	callers := map[string]*keyapi.Caller{"of an owner": ofOwner("acme", "*"), "crossing owners": admin()}
	for name, b := range badRequests {
		for who, c := range callers {
			if who == "crossing owners" && strings.Contains(b.call, "THEIRS") {
				continue
			}
			t.Run(name+"/"+who, func(t *testing.T) {
				method, path, _ := strings.Cut(strings.NewReplacer("ID", own.ID, "THEIRS", theirs.ID).Replace(b.call), " ")
				r := httptest.NewRequest(method, base+path, strings.NewReader(b.body))
				if b.body != "" && b.header == nil {
					r.Header.Set("Content-Type", jsonType)
				}
				for name, values := range b.header {
					r.Header[name] = values
				}
				got := s.send(c, r)
				if got.status != b.status {
					t.Fatalf("%d, want %d: %s", got.status, b.status, got.body)
				}
				if !strings.Contains(string(got.body), b.names) {
					t.Errorf("does not name %q: %s", b.names, got.body)
				}
			})
		}
	}
	if s.snapshot() != before {
		t.Error("something changed in the store")
	}
}

// In a dialect without room for details the field is in the message.
func TestEveryDialectNamesTheField(t *testing.T) {
	for _, d := range []refusal.Dialect{refusal.HornetHive, refusal.HiveClaw, refusal.HiveProtocol, refusal.HiveOS, refusal.Problem} {
		s := newSite(t, d)
		for _, body := range []string{`{"name":"x","permissions":[],"is_admin":true}`, `{"name":"x","permissions":[],"plan":"is_admin"}`} {
			got := s.do(admin(), "POST", "/api-keys", body)
			if field := map[int]string{400: "is_admin", 422: "plan"}[got.status]; field == "" || !strings.Contains(string(got.body), field) {
				t.Errorf("%s: %d %s", d, got.status, got.body)
			}
		}
	}
}

// A key that was pasted into the wrong place is not sent back.
func TestARefusalDoesNotEchoAPastedKey(t *testing.T) {
	s := newSite(t, refusal.Problem)
	k := s.make(admin(), `{"name":"x","permissions":[]}`)
	for _, body := range []string{`{%q:1}`, `{"name":"x","permissions":[%q]}`, `{"name":"x","permissions":[],"plan":%q}`,
		`{"name":"x","preset":%q}`, `{"name":"x","permissions":[],"ip_allowlist":[%q]}`, `{"name":"x","permissions":[],"expires_at":%q}`} {
		got := s.do(admin(), "POST", "/api-keys", fmt.Sprintf(body, k.Key))
		if got.status < 400 || strings.Contains(string(got.body), k.Key[len(k.Key)-36:]) {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
}

// The check of answers against the description finds what is not described.
func TestTheDescriptionIsHeldAgainstAnswers(t *testing.T) {
	s := newSite(t, refusal.HornetHive)
	k := s.make(admin(), `{"name":"x","permissions":[]}`)
	good := s.do(admin(), "GET", "/api-keys/"+k.ID, "")
	for name, broken := range map[string]reply{
		"another status":   {http.StatusTeapot, good.header, good.body},
		"a missing member": {200, good.header, []byte(strings.Replace(string(good.body), `"status"`, `"state"`, 1))},
		"a wrong type":     {200, good.header, []byte(strings.Replace(string(good.body), `"name":"x"`, `"name":1`, 1))},
		"a wrong time":     {200, good.header, []byte(strings.Replace(string(good.body), epoch.Format(time.RFC3339), "yesterday", 1))},
		"another type":     {200, http.Header{"Content-Type": {"text/plain"}, "X-Request-Id": {"1"}}, good.body},
		"a missing header": {200, http.Header{"Content-Type": {jsonType}}, good.body},
	} {
		var found recorder
		found.TB = t
		s.spec.check(&found, keyapi.Route{Method: "GET", Path: "/api-keys/{id}"}, &broken)
		if found.n == 0 {
			t.Errorf("%s was not found", name)
		}
	}
}

// recorder counts errors instead of failing.
type recorder struct {
	testing.TB
	n int
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.n++ }
