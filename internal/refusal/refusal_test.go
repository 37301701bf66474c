package refusal

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exact holds the bodies that users were promised, letter by letter.
var exact = []struct {
	name    string
	dialect Dialect
	refusal Refusal
	status  int
	body    string
}{
	{"hornethive 401 key", HornetHive, Refusal{Reason: ReasonAPIKeyInvalid, Kind: KindAPIKey}, 401,
		`{"error":{"code":"unauthorized","message":"Invalid API key","details":{"reason":"api_key_invalid"}}}`},
	{"hornethive 401 missing", HornetHive, Refusal{Reason: ReasonMissingCredentials, Message: "other", Hint: "other"}, 401,
		`{"error":{"code":"unauthorized","message":"Invalid API key","details":{"reason":"missing_credentials"}}}`},
	{"hornethive 401 token", HornetHive, Refusal{Reason: ReasonTokenExpired, Kind: KindJWT}, 401,
		`{"error":{"code":"unauthorized","message":"Invalid token","details":{"reason":"token_expired"}}}`},
	{"hornethive 401 token, kind not said", HornetHive, Refusal{Reason: ReasonTokenInvalid}, 401,
		`{"error":{"code":"unauthorized","message":"Invalid token","details":{"reason":"token_invalid"}}}`},
	{"hornethive 401 second factor of a JWT", HornetHive, Refusal{Reason: ReasonSecondFactorRequired, Kind: KindJWT}, 401,
		`{"error":{"code":"unauthorized","message":"Invalid token","details":{"reason":"second_factor_required"}}}`},
	{"hornethive 403", HornetHive,
		Refusal{Reason: ReasonInsufficientScope, Message: "other", Required: []string{"crews:write", "crews:run"}, Granted: []string{"crews:read"}}, 403,
		`{"error":{"code":"forbidden","message":"Insufficient permissions","details":{"required_permission":"crews:write","provided_permissions":["crews:read"]}}}`},
	{"hornethive 403 without any scope", HornetHive, Refusal{Reason: ReasonInsufficientScope, Required: []string{"crews:write"}}, 403,
		`{"error":{"code":"forbidden","message":"Insufficient permissions","details":{"required_permission":"crews:write","provided_permissions":[]}}}`},
	{"hornethive other 403", HornetHive, Refusal{Reason: ReasonHTTPSRequired}, 403,
		`{"error":{"code":"forbidden","message":"HTTPS is required","details":{"reason":"https_required"}}}`},
	{"hornethive 429", HornetHive,
		Refusal{Reason: ReasonRateLimited, Message: "other", Numbers: Numbers{Limit: 60, Reset: 1640995200, HasLimit: true, RetryAfter: 1}, Policies: []string{"explorer"}}, 429,
		`{"error":{"code":"rate_limit_exceeded","message":"Rate limit exceeded","details":{"reason":"rate_limited","limit":60,"remaining":0,"reset":1640995200,"retry_after":1}}}`},
	{"hornethive 429 without a limit", HornetHive, Refusal{Reason: ReasonConcurrencyLimited}, 429,
		`{"error":{"code":"rate_limit_exceeded","message":"Too many requests in flight","details":{"reason":"concurrency_limited","retry_after":1}}}`},
	{"hornethive 404", HornetHive, Refusal{Reason: ReasonRouteNotFound}, 404,
		`{"error":{"code":"not_found","message":"No such route","details":{"reason":"route_not_found"}}}`},
	{"hornethive 400", HornetHive, Refusal{Reason: ReasonMultipleCredentials}, 400,
		`{"error":{"code":"bad_request","message":"More than one Authorization header was sent","details":{"reason":"multiple_credentials"}}}`},
	{"hornethive 422", HornetHive, Refusal{Reason: ReasonFieldInvalid, Fields: []FieldError{{"command", []string{"no"}}}}, 422,
		`{"error":{"code":"unprocessable_entity","message":"The given data was invalid.","details":{"reason":"field_invalid","errors":{"command":["no"]}}}}`},
	{"hornethive 503", HornetHive, Refusal{Reason: ReasonOverloaded}, 503,
		`{"error":{"code":"service_unavailable","message":"Too many credentials are being checked right now","details":{"reason":"overloaded"}}}`},

	{"hornethive 401 of the backend", HornetHive, Refusal{Reason: ReasonBackendError, Kind: KindJWT, Status: 401, Message: "The backend answered 401 Unauthorized"}, 401,
		`{"error":{"code":"unauthorized","message":"The backend answered 401 Unauthorized","details":{"reason":"backend_error"}}}`},
	{"hornethive 403 of the backend", HornetHive, Refusal{Reason: ReasonBackendError, Status: 403}, 403,
		`{"error":{"code":"forbidden","message":"The backend answered with an error","details":{"reason":"backend_error"}}}`},
	{"hornethive 429 of the backend", HornetHive, Refusal{Reason: ReasonBackendError, Status: 429}, 429,
		`{"error":{"code":"rate_limit_exceeded","message":"The backend answered with an error","details":{"reason":"backend_error"}}}`},
	{"hornethive 429 of the backend that says when", HornetHive, Refusal{Reason: ReasonBackendError, Status: 429, Numbers: Numbers{RetryAfter: 9}}, 429,
		`{"error":{"code":"rate_limit_exceeded","message":"The backend answered with an error","details":{"reason":"backend_error","retry_after":9}}}`},
	{"hornethive 422 of the backend", HornetHive, Refusal{Reason: ReasonBackendError, Status: 422}, 422,
		`{"error":{"code":"unprocessable_entity","message":"The backend answered with an error","details":{"reason":"backend_error"}}}`},
	{"hornethive unknown status of the backend", HornetHive, Refusal{Reason: ReasonBackendError, Status: 520}, 520,
		`{"error":{"code":"status_520","message":"The backend answered with an error","details":{"reason":"backend_error"}}}`},
	{"hiveclaw 401 of the backend", HiveClaw, Refusal{Reason: ReasonBackendError, Status: 401}, 401,
		`{"success":false,"error":{"code":"UNAUTHORIZED","message":"The backend answered with an error"}}`},
	{"hiveclaw 422 of the backend", HiveClaw, Refusal{Reason: ReasonBackendError, Status: 422}, 422,
		`{"success":false,"error":{"code":"UNPROCESSABLE_ENTITY","message":"The backend answered with an error"}}`},
	{"hiveclaw 418 of the backend", HiveClaw, Refusal{Reason: ReasonBackendError, Status: 418}, 418,
		`{"success":false,"error":{"code":"IM_A_TEAPOT","message":"The backend answered with an error"}}`},
	{"hiveprotocol 401 of the backend", HiveProtocol, Refusal{Reason: ReasonBackendError, Status: 401}, 401,
		`{"error":"Unauthorized","code":"UNAUTHORIZED","message":"The backend answered with an error"}`},
	{"hiveprotocol 403 of the backend", HiveProtocol, Refusal{Reason: ReasonBackendError, Status: 403}, 403,
		`{"error":"Access denied","code":"FORBIDDEN","message":"The backend answered with an error"}`},
	{"hiveprotocol 429 of the backend", HiveProtocol, Refusal{Reason: ReasonBackendError, Status: 429, Numbers: Numbers{RetryAfter: 9}}, 429,
		`{"error":"The backend answered with an error","code":"RATE_LIMITED","retry_after":9}`},
	{"hiveprotocol unknown status of the backend", HiveProtocol, Refusal{Reason: ReasonBackendError, Status: 520}, 520,
		`{"error":"Status 520","code":"STATUS_520","message":"The backend answered with an error"}`},
	{"hiveos 401 of the backend", HiveOS, Refusal{Reason: ReasonBackendError, Status: 401}, 401,
		`{"message":"The backend answered with an error"}`},
	{"hiveos 403 of the backend", HiveOS, Refusal{Reason: ReasonBackendError, Status: 403}, 403,
		`{"message":"The backend answered with an error","code":403000}`},
	{"hiveos 422 of the backend", HiveOS, Refusal{Reason: ReasonBackendError, Status: 422}, 422,
		`{"message":"The backend answered with an error"}`},
	{"problem 403 of the backend", Problem, Refusal{Reason: ReasonBackendError, Status: 403, Message: "The backend answered 403 Forbidden"}, 403,
		`{"type":"urn:hivegate:reason:backend_error","title":"The backend answered with an error","status":403,"detail":"The backend answered 403 Forbidden","reason":"backend_error"}`},

	{"hiveclaw 401", HiveClaw, Refusal{Reason: ReasonTokenExpired, Kind: KindJWT, Message: "other"}, 401,
		`{"success":false,"error":{"code":"UNAUTHORIZED","message":"Invalid or missing API key"}}`},
	{"hiveclaw 403", HiveClaw, Refusal{Reason: ReasonInsufficientScope, Message: "other", Required: []string{"agents:write"}}, 403,
		`{"success":false,"error":{"code":"FORBIDDEN","message":"API key missing required scope: agents:write"}}`},
	{"hiveclaw other 403", HiveClaw, Refusal{Reason: ReasonObjectForbidden}, 403,
		`{"success":false,"error":{"code":"FORBIDDEN","message":"This credential does not cover this object"}}`},
	{"hiveclaw 429", HiveClaw, Refusal{Reason: ReasonRateLimited, Numbers: Numbers{Limit: 60, HasLimit: true, RetryAfter: 7}}, 429,
		`{"success":false,"error":{"code":"RATE_LIMITED","message":"Rate limit exceeded"}}`},
	{"hiveclaw 404", HiveClaw, Refusal{Reason: ReasonNotFound}, 404,
		`{"success":false,"error":{"code":"NOT_FOUND","message":"Not found"}}`},
	{"hiveclaw 422", HiveClaw, Refusal{Reason: ReasonFieldInvalid, Fields: []FieldError{{"command", []string{"no"}}}}, 422,
		`{"success":false,"error":{"code":"UNPROCESSABLE_ENTITY","message":"The given data was invalid.","details":{"errors":{"command":["no"]}}}}`},

	{"hiveprotocol 401", HiveProtocol, Refusal{Reason: ReasonMissingCredentials, Message: "other"}, 401,
		`{"error":"Invalid authentication credentials","code":"UNAUTHORIZED","message":"JWT expired or invalid"}`},
	{"hiveprotocol 403", HiveProtocol, Refusal{Reason: ReasonInsufficientScope, Message: "other", Required: []string{"agents:write"}}, 403,
		`{"error":"Access denied","code":"FORBIDDEN","message":"User does not have permission to access this resource"}`},
	{"hiveprotocol other 403", HiveProtocol, Refusal{Reason: ReasonCrossSite}, 403,
		`{"error":"Access denied","code":"FORBIDDEN","message":"Cross-site requests are not allowed with a cookie"}`},
	{"hiveprotocol 429", HiveProtocol, Refusal{Reason: ReasonRateLimited, Message: "other", Numbers: Numbers{Limit: 60, HasLimit: true, RetryAfter: 60}}, 429,
		`{"error":"Rate limit exceeded","code":"RATE_LIMITED","retry_after":60}`},
	{"hiveprotocol other 429", HiveProtocol, Refusal{Reason: ReasonAuthAttemptsLimited, Numbers: Numbers{RetryAfter: 6}}, 429,
		`{"error":"Too many failed authentication attempts","code":"RATE_LIMITED","retry_after":6}`},
	{"hiveprotocol 413", HiveProtocol, Refusal{Reason: ReasonBodyTooLarge}, 413,
		`{"error":"Request Entity Too Large","code":"REQUEST_ENTITY_TOO_LARGE","message":"The request body is too large"}`},
	{"hiveprotocol 422", HiveProtocol, Refusal{Reason: ReasonFieldInvalid, Fields: []FieldError{{"command", []string{"no"}}}}, 422,
		`{"error":"Unprocessable Entity","code":"UNPROCESSABLE_ENTITY","message":"The given data was invalid.","details":{"errors":{"command":["no"]}}}`},

	{"hiveos 401", HiveOS, Refusal{Reason: ReasonAPIKeyRevoked, Message: "other"}, 401, `{"message":"Unauthenticated."}`},
	{"hiveos 403", HiveOS, Refusal{Reason: ReasonInsufficientScope, Message: "other", Required: []string{"a:b"}}, 403,
		`{"message":"This action is unauthorized.","code":403000}`},
	{"hiveos other 403", HiveOS, Refusal{Reason: ReasonAddressForbidden}, 403,
		`{"message":"This credential may not be used from this address","code":403000}`},
	{"hiveos second factor", HiveOS, Refusal{Reason: ReasonSecondFactorRequired, Message: "other"}, 403,
		`{"message":"Security code is required","code":403003}`},
	{"hiveos second factor wrong", HiveOS, Refusal{Reason: ReasonSecondFactorInvalid}, 403,
		`{"message":"Security code is required","code":403003}`},
	{"hiveos 429", HiveOS, Refusal{Reason: ReasonRateLimited, Message: "other", Numbers: Numbers{Limit: 60, HasLimit: true, RetryAfter: 60}}, 429,
		`{"message":"Too Many Attempts."}`},
	{"hiveos 404", HiveOS, Refusal{Reason: ReasonRouteNotFound}, 404, `{"message":"No such route"}`},
	{"hiveos 422", HiveOS, Refusal{Reason: ReasonFieldInvalid, Message: "other", Fields: []FieldError{
		{"command", []string{`stop is not a command; did you mean {"command":"miner","data":{"action":"stop"}}?`}}}}, 422,
		`{"message":"The given data was invalid.","errors":{"command":["stop is not a command; did you mean {\"command\":\"miner\",\"data\":{\"action\":\"stop\"}}?"]}}`},

	{"problem 401", Problem, Refusal{Reason: ReasonTokenExpired}, 401,
		`{"type":"urn:hivegate:reason:token_expired","title":"The token has expired","status":401,"detail":"the token has expired; refresh it and send the request again","reason":"token_expired"}`},
	{"problem 401 with a hint", Problem, Refusal{Reason: ReasonMalformedAuthorization, Message: "second", Hint: "first"}, 401,
		`{"type":"urn:hivegate:reason:malformed_authorization","title":"The Authorization header is malformed","status":401,"detail":"first","reason":"malformed_authorization"}`},
	{"problem 403", Problem, Refusal{Reason: ReasonInsufficientScope, Required: []string{"crews:write", "crews:run"}, Granted: []string{"crews:read"}}, 403,
		`{"type":"urn:hivegate:reason:insufficient_scope","title":"Insufficient permissions","status":403,"detail":"this request requires the scope crews:write","reason":"insufficient_scope","required_scopes":["crews:write","crews:run"],"granted_scopes":["crews:read"]}`},
	{"problem 429", Problem, Refusal{Reason: ReasonRateLimited, Policies: []string{"explorer", "ai"}, Numbers: Numbers{RetryAfter: 3}}, 429,
		`{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Request cannot be satisfied as assigned quota has been exceeded","status":429,"detail":"wait as long as Retry-After says","reason":"rate_limited","violated-policies":["explorer","ai"]}`},
	{"problem 429 with docs", Problem, Refusal{Reason: ReasonRateLimited, DocsURL: "https://x.example/e", Policies: []string{"ai"}}, 429,
		`{"type":"https://x.example/e#rate_limited","title":"Rate limit exceeded","status":429,"detail":"wait as long as Retry-After says","reason":"rate_limited","violated-policies":["ai"]}`},
	{"problem 422", Problem, Refusal{Reason: ReasonFieldInvalid, Fields: []FieldError{{"name", []string{"a", "b"}}, {"plan", nil}, {"name", []string{"c"}}}}, 422,
		`{"type":"urn:hivegate:reason:field_invalid","title":"The given data was invalid.","status":422,"detail":"correct the fields named in errors","reason":"field_invalid","errors":{"name":["a","b","c"],"plan":[]}}`},
	{"problem 405", Problem, Refusal{Reason: ReasonMethodNotAllowed, Allow: "GET, HEAD"}, 405,
		`{"type":"urn:hivegate:reason:method_not_allowed","title":"Method not allowed","status":405,"detail":"this path takes GET, HEAD","reason":"method_not_allowed"}`},
	{"a field error outside a 422 becomes the message", HiveOS,
		Refusal{Reason: ReasonBodyInvalid, Fields: []FieldError{{"name", []string{"must be text"}}}}, 400,
		`{"message":"name: must be text"}`},
	{"an unknown reason is internal", HiveOS, Refusal{Reason: "no_such_word"}, 500, `{"message":"Internal error"}`},
}

func TestBodiesAreExactlyAsPromised(t *testing.T) {
	for _, c := range exact {
		if got := string(c.dialect.Body(&c.refusal)); got != c.body {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.body)
		}
		if got := c.dialect.StatusOf(&c.refusal); got != c.status {
			t.Errorf("%s: status %d, want %d", c.name, got, c.status)
		}
	}
}

// statuses is the table that users were promised, written out once more.
var statuses = map[int]string{
	401: "missing_credentials malformed_authorization api_key_invalid api_key_expired api_key_revoked api_key_disabled " +
		"token_invalid token_expired signature_required signature_invalid second_factor_required second_factor_invalid",
	400: "multiple_credentials ambiguous_path body_invalid query_invalid",
	403: "insufficient_scope object_forbidden https_required cross_site browser_forbidden address_forbidden",
	404: "route_not_found not_found", 405: "method_not_allowed", 409: "conflict", 413: "body_too_large",
	415: "body_not_json", 422: "field_invalid", 425: "too_early",
	429: "rate_limited concurrency_limited auth_attempts_limited second_factor_locked",
	500: "internal", 502: "backend_error backend_unreachable backend_empty", 504: "backend_timeout",
	503: "keystore_unavailable limiter_unavailable issuer_unavailable overloaded",
}

func TestEveryReasonHasItsStatusInEveryDialect(t *testing.T) {
	want := map[Reason]int{}
	for status, words := range statuses {
		for _, w := range strings.Fields(words) {
			want[Reason(w)] = status
		}
	}
	all := Reasons()
	if len(all) != len(want) {
		t.Errorf("%d reasons, want %d", len(all), len(want))
	}
	for _, r := range all {
		if !r.Known() {
			t.Errorf("%s is listed but not known", r)
		}
		for d := range dialects {
			w := want[r]
			if d == HiveOS && strings.HasPrefix(string(r), "second_factor_") && r != ReasonSecondFactorLocked {
				w = 403
			}
			if got := d.Status(r); got != w {
				t.Errorf("%s in %s: status %d, want %d", r, d, got, w)
			}
		}
	}
	if Reason("no_such_word").Known() || Problem.Status("no_such_word") != 500 {
		t.Error("an unknown reason must be answered as a fault")
	}
}

func TestEveryReasonHasTextsThatCanStandInAHeader(t *testing.T) {
	word := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	seen := map[Reason]bool{}
	for i := range table {
		e := &table[i]
		if seen[e.reason] {
			t.Errorf("%s stands twice", e.reason)
		}
		seen[e.reason] = true
		if !word.MatchString(string(e.reason)) || e.message == "" || e.hint == "" {
			t.Errorf("%s: word, message or hint missing", e.reason)
		}
		if got := string(appendDescription(nil, e.hint)); got != e.hint {
			t.Errorf("%s: hint would be cut to %q", e.reason, got)
		}
		if challenged := e.status == 401 || e.reason == ReasonInsufficientScope; challenged != (e.oauth != "") {
			t.Errorf("%s: error code %q with status %d", e.reason, e.oauth, e.status)
		}
		if e.reason.Message() != e.message || e.reason.Hint() != e.hint {
			t.Errorf("%s: Message or Hint differ from the table", e.reason)
		}
	}
}

func TestBodiesRenderedAtStartEqualFreshOnes(t *testing.T) {
	for d := range dialects {
		for i := range table {
			for _, kind := range []Kind{KindNone, KindAPIKey, KindJWT} {
				// What a constant body may ignore must not change it.
				r := &Refusal{Reason: table[i].reason, Kind: kind, Realm: "r", Credential: true, Err: errors.New("cause")}
				if table[i].status == 401 && d != Problem {
					r.Message, r.Hint, r.DocsURL = "m", "h", "https://d.example"
				}
				if got, want := string(d.Body(r)), string(d.render(&table[i], r)); got != want {
					t.Errorf("%s %s:\n got %s\nwant %s", d, r.Reason, got, want)
				}
			}
		}
	}
}

func TestBodiesAreJSONWhateverTheTexts(t *testing.T) {
	nasty := "a\"b\\c\n\r\t\x00\x1f\x7f<&>\u2028\u2029é😀\xff\xc3"
	for d := range dialects {
		for _, reason := range Reasons() {
			r := &Refusal{Reason: reason, Message: nasty, Hint: nasty, Realm: nasty, DocsURL: nasty,
				Credential: true, Required: []string{nasty, nasty}, Granted: []string{nasty, ""},
				Fields: []FieldError{{nasty, []string{nasty}}, {nasty, []string{nasty}}}, Policies: []string{nasty}, Allow: "GET"}
			body := d.Body(r)
			dec := json.NewDecoder(strings.NewReader(string(body)))
			var v map[string]any
			if err := dec.Decode(&v); err != nil || dec.More() {
				t.Fatalf("%s %s: %v in %s", d, reason, err, body)
			}
			if strings.ContainsAny(string(body), "\n\r\t\x00") {
				t.Errorf("%s %s: control characters in %q", d, reason, body)
			}
		}
	}
}

func TestParseDialectReadsTheNamesAndNoOther(t *testing.T) {
	for d := range dialects {
		if got, err := ParseDialect(d.String()); err != nil || got != d {
			t.Errorf("%s: %v, %v", d, got, err)
		}
	}
	if d, err := ParseDialect(""); err != nil || d != Problem {
		t.Errorf("default: %v, %v", d, err)
	}
	for _, bad := range []string{"HornetHive", "json", " hiveos", "hiveos "} {
		if _, err := ParseDialect(bad); err == nil || !strings.Contains(err.Error(), "hornethive, hiveclaw") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if got := Dialect(200).String(); got != "problem" {
		t.Errorf("a dialect outside the list is %s", got)
	}
}

func TestCodesAreTheSnakeCaseOfTheStatusText(t *testing.T) {
	for status, want := range map[int]string{400: "bad_request", 404: "not_found", 405: "method_not_allowed",
		413: "request_entity_too_large", 418: "im_a_teapot", 422: "unprocessable_entity", 500: "internal_server_error",
		503: "service_unavailable", 504: "gateway_timeout", 207: "multi_status", 599: "status_599"} {
		if got := CodeFor(status); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}

func TestTheCauseIsForTheLogAndNeverInTheAnswer(t *testing.T) {
	cause := errors.New("dial tcp 10.0.0.9:5432: secret-dsn")
	for d := range dialects {
		for _, reason := range Reasons() {
			r := &Refusal{Reason: reason, Kind: KindAPIKey, Credential: true, Err: fmt.Errorf("look up key: %w", cause)}
			if !errors.Is(r, cause) || !strings.Contains(r.Error(), string(reason)) || !strings.Contains(r.Error(), "look up key") {
				t.Fatalf("%s: %v", reason, r)
			}
			w := httptest.NewRecorder()
			d.Write(w, "GET", r)
			if all := fmt.Sprint(w.Header()) + w.Body.String(); strings.Contains(all, "10.0.0.9") || strings.Contains(all, "secret-dsn") {
				t.Errorf("%s %s: the cause is in the answer: %s", d, reason, all)
			}
		}
	}
	if got := (&Refusal{Reason: ReasonInternal}).Error(); got != "refused: internal" {
		t.Error(got)
	}
}

// A credential cannot leak through a type that has no place for one: the answer
// depends on these members alone, and a new one must be thought about here.
func TestARefusalHasNoPlaceForACredential(t *testing.T) {
	want := []string{"Reason", "Status", "Kind", "Message", "Hint", "Realm", "DocsURL", "Credential bool", "Required", "Granted",
		"Fields", "Numbers", "Policies", "Allow", "Err"}
	typ := reflect.TypeFor[Refusal]()
	var got []string
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		if name == "Credential" {
			name += " " + typ.Field(i).Type.String()
		}
		got = append(got, name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("members %v, want %v", got, want)
	}
}

func FuzzStringIsWhatEncodingJSONReads(f *testing.F) {
	for _, s := range []string{"", "plain", "a\"\\\n\x00", "<&>", "\u2028", "\xff\xfe", "é\xc3", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := appendString([]byte{}, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if want := strings.ToValidUTF8(s, ""); !strings.Contains(s, "\uFFFD") && strings.ReplaceAll(back, "\uFFFD", "") != want {
			t.Fatalf("%q came back as %q", s, back)
		}
		var ref strings.Builder
		enc := json.NewEncoder(&ref)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(s); err != nil {
			t.Fatal(err)
		}
		var theirs string
		if err := json.Unmarshal([]byte(ref.String()), &theirs); err != nil || theirs != back {
			t.Fatalf("encoding/json has %q, we have %q (%v)", theirs, back, err)
		}
	})
}

func TestWriteAllocatesLittle(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit float64
		r     *Refusal
	}{
		// The header's values, and the challenge.
		{"401", 2, &Refusal{Reason: ReasonAPIKeyInvalid, Kind: KindAPIKey, Realm: "api.example.com", Credential: true}},
		// The header's values.
		{"404", 1, &Refusal{Reason: ReasonRouteNotFound}},
		// The header's values, the body, its length and Retry-After.
		{"429", 4, &Refusal{Reason: ReasonRateLimited, Numbers: Numbers{Limit: 60, Reset: 1640995200, HasLimit: true, RetryAfter: 100}}},
	} {
		w := &discard{h: make(http.Header, 16)}
		if got := testing.AllocsPerRun(200, func() { HornetHive.Write(w, "GET", c.r) }); got > c.limit {
			t.Errorf("%s: %v allocations, at most %v", c.name, got, c.limit)
		}
	}
}

// discard is a ResponseWriter that costs nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

func BenchmarkWrite(b *testing.B) {
	for _, c := range []struct {
		name string
		r    *Refusal
	}{
		{"401", &Refusal{Reason: ReasonAPIKeyInvalid, Kind: KindAPIKey, Realm: "api.example.com", Credential: true}},
		{"403", &Refusal{Reason: ReasonInsufficientScope, Realm: "api.example.com", Required: []string{"crews:write"}, Granted: []string{"crews:read", "outcomes:read"}}},
		{"429", &Refusal{Reason: ReasonRateLimited, Numbers: Numbers{Limit: 60, Reset: 1640995200, HasLimit: true, RetryAfter: 1}, Policies: []string{"explorer"}}},
	} {
		for d := range dialects {
			b.Run(c.name+"/"+d.String(), func(b *testing.B) {
				w := &discard{h: make(http.Header, 16)}
				b.ReportAllocs()
				for b.Loop() {
					d.Write(w, "GET", c.r)
				}
			})
		}
	}
}
