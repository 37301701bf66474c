package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func (h *hiveOS) bareToken(t *testing.T) {
	a := h.call(t, "GET /api/v2/farms", header("Authorization", h.operator.Key))
	a.refused(t, 401, "malformed_authorization")
	a.isBody(t, `{"message":"Unauthenticated."}`)
	if hint := a.challengeHint(); hint != "Authorization must be 'Bearer <token>'; the token was sent without the scheme" {
		t.Errorf("hint %q", hint)
	}
	if a := h.call(t, "GET /api/v2/farms?token="+h.operator.Key); a.status != 401 || a.reason() != "missing_credentials" {
		t.Errorf("in the query string: %d %q", a.status, a.reason())
	}
}

func (h *hiveOS) pageOfTheBackend(t *testing.T) {
	h.farm.handle("/api/v2/farms/403", htmlPage(403))
	a := h.as(t, "GET /api/v2/farms/403")
	a.refused(t, 403, "backend_error")
	if m := a.member(t, "message"); m == "" || strings.Contains(string(a.body), "<") {
		t.Errorf("body %s", a.body)
	}
}

func (h *hiveOS) credentialKinds(t *testing.T) {
	sessionToken := tokenKeys()["HS256"].token(fmt.Sprintf(`{"iss":"https://hiveos.farm","iat":1700000000,"exp":%d,"sub":"7"}`, in(time.Hour)))
	for what, c := range map[string]struct {
		change change
		reason string
	}{
		"a key that is none":         {key("hive_sk_nobodys"), "api_key_invalid"},
		"the token of a web session": {key(sessionToken), "token_invalid"},
		"sign-in data as headers":    {header("Login", "user"), "missing_credentials"},
		"another scheme":             {header("Authorization", "Basic dXNlcjpwYXNz"), "malformed_authorization"},
	} {
		if a := h.call(t, "GET /api/v2/farms", c.change); a.status != 401 || a.reason() != c.reason || a.challengeHint() == "" {
			t.Errorf("%s: %d %q, hint %q", what, a.status, a.reason(), a.challengeHint())
		}
	}
	// Sign-in data at the one route for them, a key at the others.
	h.signIn(t, `{"login":"user","password":"secret"}`).passed(t)
	h.as(t, "GET /api/v2/farms").passed(t)
}

func (h *hiveOS) attributable(t *testing.T) {
	h.farm.handle("/api/v2/farms/7", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Hivegate-Reason", "a lie")
		w.WriteHeader(500)
		_, _ = w.Write([]byte(`{"message":"Server Error"}`))
	})
	h.as(t, "GET /api/v2/farms").passed(t)
	a := h.as(t, "GET /api/v2/farms/7")
	if a.status != 500 || a.reason() != "" || a.header.Get("X-Request-Id") == "" || string(a.body) != `{"message":"Server Error"}` {
		t.Errorf("the backend's failure: %d %q %v", a.status, a.body, a.header)
	}
	h.farm.handle("/api/v2/farms/6", broken(""))
	a = h.as(t, "GET /api/v2/farms/6")
	a.refused(t, 502, "backend_unreachable")
	a.isBody(t, `{"message":"The backend could not be reached"}`)
	narrow := h.createScoped(t, "farms:read")
	a = h.call(t, "GET /api/v2/farms/7/workers", key(narrow.Key))
	a.refused(t, 403, "insufficient_scope")
	if hint := a.challengeHint(); !strings.Contains(hint, "workers:read") {
		t.Errorf("the gate's refusal does not name the scope: %q", hint)
	}
}

func (h *hiveOS) emptyAnswer(t *testing.T) {
	empty := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
		}
	}
	h.farm.handle("/api/v2/farms/0", empty(200))
	h.farm.handle("/api/v2/auth/check", empty(204))
	counted := func() float64 { return h.metric(t, "hivegate_backend_errors_total", `reason="backend_empty"`) }
	before := counted()
	a := h.as(t, "GET /api/v2/farms/0")
	a.refused(t, 502, "backend_empty")
	a.isBody(t, `{"message":"The backend sent an empty body"}`)
	if n := counted() - before; n != 1 {
		t.Errorf("counted %g times", n)
	}
	if a := h.as(t, "HEAD /api/v2/farms/0"); a.status != 200 || a.reason() != "" {
		t.Errorf("HEAD: %d %q", a.status, a.reason())
	}
	k := h.createScoped(t, "auth:read")
	if a := h.call(t, "GET /api/v2/auth/check", key(k.Key)); a.status != 204 || a.reason() != "" {
		t.Errorf("a token that is checked: %d %q", a.status, a.reason())
	}
}

func (h *hiveOS) loginHeaders(t *testing.T) {
	const password = "password-sent-as-a-header-77"
	book.add("a password in a header", password)
	sent := []change{header("Login", "user@example.com"), header("Password", password), spelt("twofa_code", "123456"), header("Remember", "1")}
	a := h.call(t, "GET /api/v2/farms", sent...)
	a.refused(t, 401, "missing_credentials")
	if hint := a.challengeHint(); hint != "send login data in the POST body, or use only the token" {
		t.Errorf("hint %q", hint)
	}
	h.as(t, "GET /api/v2/farms", sent...).passed(t)
	for _, name := range []string{"Login", "Password", "Twofa_code", "Twofa-Code", "Remember"} {
		if v := h.farm.got(t).header.Values(name); v != nil {
			t.Errorf("the backend got %s: %q", name, v)
		}
	}
	line := map[string]string{"logger": "http.log.access"}
	eventually(t, 5*time.Second, "the requests are logged", func() bool { return len(h.logLines(t, line)) > 0 })
	mustHoldNoSecret(t, "log of the gate", h.log.String()) // and once more at the end
}

func (h *hiveOS) gluedToken(t *testing.T) {
	a := h.call(t, "GET /api/v2/farms", header("Authorization", "Bearer"+h.operator.Key))
	a.refused(t, 401, "malformed_authorization")
	a.isBody(t, `{"message":"Unauthenticated."}`)
	if hint := a.challengeHint(); !strings.Contains(hint, "a space is missing after Bearer") {
		t.Errorf("hint %q", hint)
	}
}

func (h *hiveOS) wrongMethod(t *testing.T) {
	a := h.call(t, "GET /api/v2/auth/login")
	a.refused(t, 405, "method_not_allowed")
	if allow := a.header.Get("Allow"); allow != "POST" {
		t.Errorf("Allow %q, want POST", allow)
	}
	a = h.as(t, "DELETE "+oneWorker)
	a.refused(t, 405, "method_not_allowed")
	if allow := a.header.Get("Allow"); allow != "POST" {
		t.Errorf("Allow %q, want POST", allow)
	}
}

func (h *hiveOS) unauthenticated(t *testing.T) {
	for _, call := range []string{"GET /api/v2/farms", "POST " + oneWorker, "DELETE /api/v2/account", "GET /api/v2/nothing"} {
		a := h.call(t, call)
		a.refused(t, 401, "missing_credentials")
		a.isBody(t, `{"message":"Unauthenticated."}`)
	}
}

func (h *hiveOS) validation(t *testing.T) {
	// The backend's own passes as it is.
	const body = `{"message":"The given data was invalid.","errors":{"login":["The login field is required."],"password":["The password field is required."]}}`
	h.farm.handle("/api/v2/auth/login", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(422)
		_, _ = w.Write([]byte(body))
	})
	defer h.farm.handle("/api/v2/auth/login", nil)
	if a := h.signIn(t, `{}`); a.status != 422 || string(a.body) != body || a.reason() != "" {
		t.Errorf("the backend's: %d %q %s", a.status, a.reason(), a.body)
	}
	// The gate's has the same shape.
	a := h.as(t, "POST "+oneWorker, jsonBody(`{"data":null}`))
	a.refused(t, 422, "field_invalid")
	errs, _ := a.asJSON(t)["errors"].(map[string]any)
	if texts, _ := errs["command"].([]any); a.member(t, "message") != "The given data was invalid." || len(texts) != 1 {
		t.Errorf("the gate's: %s", a.body)
	}
}

func (h *hiveOS) everyRefusalHasAMessage(t *testing.T) {
	for reason, c := range map[string]struct {
		status  int
		call    string
		changes []change
	}{
		"missing_credentials":     {401, "GET /api/v2/farms", nil},
		"ambiguous_path":          {400, "GET /api/v2/farms//1", []change{key(h.operator.Key)}},
		"multiple_credentials":    {400, "GET /api/v2/farms", []change{key(h.operator.Key), key(h.operator.Key)}},
		"insufficient_scope":      {403, "GET /api/v2/farms/1/wallets", []change{key(h.operator.Key)}},
		"route_not_found":         {404, "GET /api/v2/nothing", []change{key(h.operator.Key)}},
		"method_not_allowed":      {405, "DELETE /api/v2/auth/login", nil},
		"body_too_large":          {413, "POST " + oneWorker, []change{key(h.operator.Key), jsonBody(`{"command":"` + strings.Repeat("x", 70_000) + `"}`)}},
		"body_not_json":           {415, "POST " + oneWorker, []change{key(h.operator.Key), content("text/plain", "{}")}},
		"body_invalid":            {400, "POST " + oneWorker, []change{key(h.operator.Key), jsonBody(`{"command":`)}},
		"field_invalid":           {422, "POST " + oneWorker, []change{key(h.operator.Key), jsonBody(`{}`)}},
		"second_factor_required":  {403, "DELETE /api/v2/account", []change{key(h.operator.Key)}},
		"malformed_authorization": {401, "GET /api/v2/farms", []change{header("Authorization", "Bearer")}},
	} {
		a := h.call(t, c.call, c.changes...)
		a.refused(t, c.status, reason)
		if m, _ := a.asJSON(t)["message"].(string); m == "" {
			t.Errorf("%s: no message in %s", reason, a.body)
		}
	}
	a := h.as(t, "GET /api/v2/farms")
	if a.status != 200 || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("success: %d %s", a.status, a.header.Get("Content-Type"))
	}
	last := h.createScoped(t, "hive:read") // 429, of the plan standard
	for range 200 {
		if a = h.call(t, "GET /api/v2/hive/mining_calculator", key(last.Key)); a.status == 429 {
			break
		}
	}
	a.refused(t, 429, "rate_limited")
	a.isBody(t, `{"message":"Too Many Attempts."}`)
}
