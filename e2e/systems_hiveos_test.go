package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hiveOS is examples/hiveos.Caddyfile as it stands, with the key of an operator
// who may do whatever takes no second factor of the gate.
type hiveOS struct {
	*gate
	operator created
}

// Every requirement of the Hive OS API that a gate can meet. docs/systems.md has
// the list.
func TestSystemHiveOS(t *testing.T) {
	book.add("the token of Hive OS", hiveOSToken)
	c := example(t, "hiveos.Caddyfile")
	c.env = append(c.env, "HIVEOS_TOKEN="+hiveOSToken)
	g := start(t, c)
	h := &hiveOS{g, g.create(t, "--owner", "olga", "--plan", "fleet", "--scope", "account:*", "--scope", "farms:*", "--scope", "workers:*")}
	t.Run("S0-1 X-Security-Code of six characters, at sign-in too", h.securityCode)
	t.Run("S0-2 sign-in is a POST of JSON with login and password", h.login)
	t.Run("S0-3 twofa_code and remember in the body reach the backend", h.loginFields)
	t.Run("S0-4 a token without Bearer gets JSON", h.bareToken)
	t.Run("S0-4 a page of the backend becomes JSON", h.pageOfTheBackend)
	t.Run("S0-5 errors tell sign-in data, keys and session tokens apart", h.credentialKinds)
	t.Run("S0-6 a failure says who refused", h.attributable)
	t.Run("S0-8 ordinary routes take a key without a second factor", h.noSecondFactor)
	t.Run("S0-9 Authorization: Bearer is the form", h.canonicalForm)
	t.Run("S0-10 Vary and Cache-Control are kept, names of machines are not", h.backendHeaders)
	t.Run("S0-10 an empty 200 that says it is JSON is 502 and counted", h.emptyAnswer)
	t.Run("S0-11 sign-in data in headers is removed, not logged, and answered with a hint", h.loginHeaders)
	t.Run("S0-12 a token glued to Bearer is 401 with a hint", h.gluedToken)
	t.Run("S0-13 a wrong method is 405 with Allow", h.wrongMethod)
	t.Run("S0-14 no credentials is 401 Unauthenticated", h.unauthenticated)
	t.Run("S0-15 farms tells whether a key works", h.probe)
	t.Run("S0-16 Accept application json passes through", h.accept)
	t.Run("S0-17 redirects of the backend pass and the gate makes none", h.redirects)
	t.Run("S0-18 an overclock profile is set by its id", h.overclock)
	t.Run("S0-19 422 has a message and errors by field", h.validation)
	t.Run("S0-20 a command to one worker goes to the command backend", h.command)
	t.Run("S0-21 the body is a command and its data", h.commandBody)
	t.Run("S0-22 every refusal is JSON with a message", h.everyRefusalHasAMessage)
	t.Run("S0-23 the statistics of a farm", h.stats)
	t.Run("S0-7 the last use of each key is known", h.lastUse) // ends the gate
}

// hiveOSToken is what the backend takes instead of the caller's key.
const hiveOSToken = "hive-os-personal-token-0123456789abcdef"

const (
	oneWorker   = "/api/v2/farms/1/workers/2/command"
	manyWorkers = "/api/v2/farms/1/workers/command"
)

// as sends a request with the operator's key.
func (h *hiveOS) as(t *testing.T, call string, changes ...change) *answer {
	t.Helper()
	return h.call(t, call, append(changes, key(h.operator.Key))...)
}

// call is do for a call written as "METHOD path". It searches refusals alone:
// the echo holds the token of the backend.
func (h *hiveOS) call(t *testing.T, call string, changes ...change) *answer {
	t.Helper()
	method, path, _ := strings.Cut(call, " ")
	a, err := h.try(h.sites[0], method, path, changes...)
	if err != nil {
		t.Fatal(err)
	}
	if a.reason() != "" {
		a.search(t, call)
	}
	return a
}

func (h *hiveOS) securityCode(t *testing.T) {
	for _, call := range []string{"PUT /api/v2/account/password", "POST /api/v2/farms/1/send_money"} {
		a := h.as(t, call)
		a.refused(t, 403, "second_factor_required")
		a.isBody(t, `{"message":"Security code is required","code":403003}`)
		for _, bad := range []string{"12345", "1234567", "12345x", ""} {
			if a := h.as(t, call, withCode(bad)); a.status != 403 || !strings.HasPrefix(a.reason(), "second_factor_") {
				t.Errorf("%s with %q: %d %q", call, bad, a.status, a.reason())
			}
		}
		// Hive OS knows the code of its own account and checks it.
		h.as(t, call, withCode("123456")).passed(t)
		if got := h.farm.got(t).header.Get("X-Security-Code"); got != "123456" {
			t.Errorf("%s: the backend got the code %q", call, got)
		}
	}
	h.call(t, "POST /api/v2/auth/login", jsonBody(`{"login":"a","password":"b"}`), withCode("654321")).passed(t)
	if got := h.farm.got(t).header.Get("X-Security-Code"); got != "654321" {
		t.Errorf("sign-in: the backend got the code %q", got)
	}
}

// signIn posts a body to the login operation; nobody is signed in yet.
func (h *hiveOS) signIn(t *testing.T, body string) *answer {
	t.Helper()
	return h.call(t, "POST /api/v2/auth/login", jsonBody(body))
}

func (h *hiveOS) login(t *testing.T) {
	const body = `{"login":"user","password":"secret of the user"}`
	h.signIn(t, body).passed(t)
	got := h.farm.got(t)
	if got.method != "POST" || string(got.body) != body || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("the backend got %s %q as %q", got.method, got.body, got.header.Get("Content-Type"))
	}
	if got.header.Get("Authorization") != "" || got.header.Get("X-Auth-Kind") != "anonymous" {
		t.Errorf("somebody who signs in is sent on as %v", got.header)
	}
}

func (h *hiveOS) loginFields(t *testing.T) {
	const body = `{"login":"user", "password":"secret", "twofa_code":"123456", "remember":true}`
	h.signIn(t, body).passed(t)
	if got := h.farm.got(t); string(got.body) != body {
		t.Errorf("the backend got %q", got.body)
	}
}

func (h *hiveOS) lastUse(t *testing.T) {
	k := h.createScoped(t, "farms:read")
	shown := func() map[string]any {
		var r map[string]any
		if err := json.Unmarshal([]byte(h.hivegate(t, "apikey", "show", k.ID, "--json").ok(t).stdout), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if used := shown()["last_used_at"]; used != nil {
		t.Errorf("never used, and last used %v", used)
	}
	h.call(t, "GET /api/v2/farms", key(k.Key)).passed(t)
	h.stop(t) // what is noted is written then, else within a minute
	used, err := time.Parse(time.RFC3339, fmt.Sprint(shown()["last_used_at"]))
	if err != nil || time.Since(used) > time.Minute || time.Since(used) < -time.Minute {
		t.Errorf("used just now, and last used %v: %v", used, err)
	}
}

func (h *hiveOS) noSecondFactor(t *testing.T) {
	for _, call := range []string{"GET /api/v2/farms", "GET /api/v2/farms/1/workers", "GET /api/v2/account", "PATCH /api/v2/farms/1", "GET /api/v2/farms/1/workers2"} {
		h.as(t, call).passed(t)
	}
	h.as(t, "POST "+oneWorker, jsonBody(`{"command":"reboot"}`)).passed(t)
}

func (h *hiveOS) canonicalForm(t *testing.T) {
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER "} {
		h.call(t, "GET /api/v2/farms", header("Authorization", scheme+h.operator.Key)).passed(t)
	}
	got := h.farm.got(t)
	if a := got.header.Get("Authorization"); a != "Bearer "+hiveOSToken || got.header.Get("X-Auth-Id") != h.operator.ID {
		t.Error("the backend did not get its own token in place of the caller's key")
	}
}

func (h *hiveOS) backendHeaders(t *testing.T) {
	h.farm.handle("/api/v2/farms/8", func(w http.ResponseWriter, _ *http.Request) {
		for name, v := range map[string]string{
			"Content-Type": "application/json", "Vary": "Authorization", "Cache-Control": "no-cache, private",
			"X-Backend": "web-3", "X-Router-Personality": "api",
		} {
			w.Header().Set(name, v)
		}
		_, _ = w.Write([]byte(`{"id":8}`))
	})
	a := h.as(t, "GET /api/v2/farms/8")
	if a.status != 200 || a.header.Get("Vary") != "Authorization" || a.header.Get("Cache-Control") != "no-cache, private" || string(a.body) != `{"id":8}` {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	for _, name := range []string{"X-Backend", "X-Router-Personality"} {
		if v := a.header.Get(name); v != "" {
			t.Errorf("%s: %s", name, v)
		}
	}
}

func (h *hiveOS) probe(t *testing.T) {
	k := h.createScoped(t, "farms:read")
	h.call(t, "GET /api/v2/farms", key(k.Key)).passed(t)
	h.hivegate(t, "apikey", "revoke", k.ID, "--wait").ok(t)
	h.call(t, "GET /api/v2/farms", key(k.Key)).refused(t, 401, "api_key_revoked")
}

func (h *hiveOS) accept(t *testing.T) {
	h.as(t, "GET /api/v2/farms", header("Accept", "application/json")).passed(t)
	if got := h.farm.got(t).header.Get("Accept"); got != "application/json" {
		t.Errorf("the backend got Accept %q", got)
	}
	for _, accept := range []string{"application/json", "text/html", "*/*"} {
		h.call(t, "GET /api/v2/farms", header("Accept", accept)).refused(t, 401, "missing_credentials") // JSON, whatever is asked for
	}
}

func (h *hiveOS) redirects(t *testing.T) {
	h.farm.handle("/api/v2/farms/9", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/api/v2/farms/10")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	a := h.as(t, "GET /api/v2/farms/9")
	if a.status != 307 || a.header.Get("Location") != "/api/v2/farms/10" {
		t.Errorf("the backend's redirect: %d %v", a.status, a.header)
	}
	h.as(t, "GET "+a.header.Get("Location")).passed(t)
	// A redirect of the gate could make a client send its key elsewhere, or in clear text.
	h.as(t, "GET /api/v2/farms/").refused(t, 404, "route_not_found")
	h.as(t, "GET /api/v2//farms").refused(t, 400, "ambiguous_path")
	h.as(t, "GET /api/v2/farms", header("X-Forwarded-Proto", "http")).refused(t, 403, "https_required")
}

func (h *hiveOS) overclock(t *testing.T) {
	const body = `{"oc_id":17}`
	h.as(t, "PATCH /api/v2/farms/1/workers/2", jsonBody(body)).passed(t)
	if got := h.farm.got(t); string(got.body) != body || got.method != "PATCH" {
		t.Errorf("the backend got %s %q", got.method, got.body)
	}
	reader := h.createScoped(t, "workers:read")
	h.call(t, "PATCH /api/v2/farms/1/workers/2", jsonBody(body), key(reader.Key)).refused(t, 403, "insufficient_scope")
}

func (h *hiveOS) command(t *testing.T) {
	farm := h.farm.hits.Load()
	h.as(t, "POST "+oneWorker, jsonBody(`{"command":"reboot"}`)).passed(t)
	if got := h.gate.command.got(t); got.target != oneWorker || h.farm.hits.Load() != farm {
		t.Errorf("it went to %s, or to the farm backend", got.target)
	}
	k := h.createScoped(t, "farms:*", "workers:read", "workers:write")
	h.call(t, "POST "+oneWorker, jsonBody(`{"command":"reboot"}`), key(k.Key)).refused(t, 403, "insufficient_scope")
}

func (h *hiveOS) commandBody(t *testing.T) {
	for path, body := range map[string]string{
		oneWorker:   `{"command":"miner", "data":{"action":"stop"}}`,
		manyWorkers: `{"worker_ids":[1,2], "data":{"command":"miner", "data":{"action":"stop"}}}`,
	} {
		h.as(t, "POST "+path, jsonBody(body)).passed(t)
		if got := h.gate.command.got(t); string(got.body) != body {
			t.Errorf("the backend got %q", got.body)
		}
	}
	a := h.as(t, "POST "+oneWorker, jsonBody(`{"command":"stop"}`))
	a.refused(t, 422, "field_invalid")
	a.isBody(t, `{"message":"The given data was invalid.","errors":{"command":["stop is not a command; did you mean {\"command\":\"miner\",\"data\":{\"action\":\"stop\"}}?"]}}`)
}

func (h *hiveOS) stats(t *testing.T) {
	k := h.createScoped(t, "farms:read")
	h.call(t, "GET /api/v2/farms/42/stats", key(k.Key)).passed(t)
	if got := h.farm.got(t); got.target != "/api/v2/farms/42/stats" {
		t.Errorf("the backend got %s", got.target)
	}
	h.call(t, "GET /api/v2/farms/42/stats", key(h.createScoped(t, "workers:read").Key)).refused(t, 403, "insufficient_scope")
}
