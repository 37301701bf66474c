//go:build clients

package e2e

import (
	"strings"
	"testing"
	"time"
)

// supabaseError is an error as supabase-js hands it to an application.
type supabaseError struct {
	Class      string `json:"class"` // its constructor, as exported
	Name       string `json:"name"`
	Message    string `json:"message"`
	Status     int    `json:"status"` // of a FunctionsHttpError: its context's
	Code       string `json:"code"`
	RetryAfter string `json:"retryAfter"` // of a FunctionsHttpError: its context's
	Body       plain  `json:"body"`
}

// plain is a body in the dialect, and what supabase-js gives without throwing.
type plain struct {
	Error, Code, Message string
	RetryAfter           int `json:"retry_after"`
}

// supabaseCall is what one call came to.
type supabaseCall struct {
	Data   any            `json:"data"`
	Status int            `json:"status"`
	Passed int            `json:"passed"` // calls that succeeded before this one
	Error  *supabaseError `json:"error"`
}

// supabaseRows is a select: its error is a plain object, and a class with throwOnError.
type supabaseRows struct {
	Data   []map[string]any `json:"data"`
	Status int              `json:"status"`
	Passed int              `json:"passed"`
	Error  *plain           `json:"error"`
	Thrown *supabaseError   `json:"thrown"`
}

var (
	unauthorizedBody = plain{"Invalid authentication credentials", "UNAUTHORIZED", "JWT expired or invalid", 0}
	forbiddenBody    = plain{"Access denied", "FORBIDDEN", "User does not have permission to access this resource", 0}
)

func TestClientsSupabaseJSSeesItsOwnErrors(t *testing.T) {
	p := startProject(t)
	var got struct {
		SignIn struct {
			User  string
			Error *supabaseError
		}
		Rows, SignedOutRows, ExpiredRows, WrongKey, LimitedRows       supabaseRows
		Function, SignedOutFunction, ExpiredFunction, LimitedFunction supabaseCall
		ExpiredUser, AdminOfUser, WrongKeySignIn, LimitedSignIn       supabaseCall
		ExpiredSession                                                struct {
			Refreshed bool
			Error     *supabaseError
		}
	}
	script(t, "supabase.mjs", map[string]any{
		"url": "http://" + p.sites[0], "key": p.keys["publishable key"], "expired": p.user("user@example.com", -time.Hour), "most": 150,
	}, &got)
	t.Log(version(t, "@supabase/supabase-js"))

	// What is allowed: sign in, select, invoke, and renew a session that has expired.
	if got.SignIn.User != userID || got.SignIn.Error != nil {
		t.Errorf("sign in: %+v", got.SignIn)
	}
	if r := got.Rows; r.Status != 200 || len(r.Data) != 1 || r.Data[0]["table"] != "agents" || r.Error != nil || r.Thrown != nil {
		t.Errorf("select: %+v", r)
	}
	if d, _ := got.Function.Data.(map[string]any); d["reply"] != "hello" || got.Function.Error != nil {
		t.Errorf("invoke: %+v", got.Function)
	}
	if !got.ExpiredSession.Refreshed || got.ExpiredSession.Error != nil {
		t.Errorf("an expired session: %+v", got.ExpiredSession)
	}

	for what, c := range map[string]struct {
		got    supabaseRows
		status int
		want   plain
	}{
		"rows for nobody":               {got.SignedOutRows, 403, forbiddenBody},
		"rows for who has expired":      {got.ExpiredRows, 401, unauthorizedBody},
		"rows for a wrong key":          {got.WrongKey, 401, unauthorizedBody},
		"rows faster than 100 a minute": {got.LimitedRows, 429, plain{"Rate limit exceeded", "RATE_LIMITED", "", 1}},
	} {
		if c.got.Status != c.status || c.got.Error == nil || *c.got.Error != c.want || c.got.Data != nil {
			t.Errorf("%s: %d %+v, want %d %+v", what, c.got.Status, c.got.Error, c.status, c.want)
		}
		// PostgrestError has code and message of the body, and no status.
		if e := c.got.Thrown; e == nil || e.Class != "PostgrestError" || e.Code != c.want.Code || e.Message != c.want.Message {
			t.Errorf("%s: threw %+v, want a PostgrestError with %+v", what, e, c.want)
		}
	}
	for what, c := range map[string]struct {
		got        supabaseCall
		status     int
		retryAfter string
		want       plain
	}{
		"function for nobody":              {got.SignedOutFunction, 403, "", forbiddenBody},
		"function for who has expired":     {got.ExpiredFunction, 401, "", unauthorizedBody},
		"function faster than 30 a minute": {got.LimitedFunction, 429, "2", plain{"Rate limit exceeded", "RATE_LIMITED", "", 2}},
	} {
		e := c.got.Error
		if e == nil || e.Class != "FunctionsHttpError" || e.Name != "FunctionsHttpError" || e.Status != c.status || e.Body != c.want || e.RetryAfter != c.retryAfter {
			t.Errorf("%s: %+v, want a FunctionsHttpError with %d, Retry-After %q and %+v", what, e, c.status, c.retryAfter, c.want)
		}
	}
	for what, c := range map[string]struct {
		got           supabaseCall
		status        int
		code, message string
	}{
		"user of an expired token":            {got.ExpiredUser, 401, "UNAUTHORIZED", unauthorizedBody.Message},
		"sign in with a wrong key":            {got.WrongKeySignIn, 401, "UNAUTHORIZED", unauthorizedBody.Message},
		"the admin API for a user":            {got.AdminOfUser, 403, "FORBIDDEN", forbiddenBody.Message},
		"sign in more than 10 times a minute": {got.LimitedSignIn, 429, "RATE_LIMITED", "Rate limit exceeded"},
	} {
		e := c.got.Error
		if e == nil || e.Class != "AuthApiError" || e.Name != "AuthApiError" || e.Status != c.status || e.Code != c.code || e.Message != c.message {
			t.Errorf("%s: %+v, want an AuthApiError with %d %s %q", what, e, c.status, c.code, c.message)
		}
	}

	// The limits are the gate's, and were met where the example has them.
	if f, r, s := got.LimitedFunction.Passed, got.LimitedRows.Passed, got.LimitedSignIn.Passed; f < 29 || f > 35 || r < 95 || r > 130 || s < 4 || s > 9 {
		t.Errorf("%d invocations, %d selects, %d sign-ins passed before the limit", f, r, s)
	}
	for _, reason := range []string{"insufficient_scope", "token_expired", "api_key_invalid", "rate_limited"} {
		if n := len(p.awaitLines(t, 2, map[string]string{"logger": "http.handlers.hivegate", "reason": reason})); n < 2 {
			t.Errorf("the gate logged %d refusals as %s", n, reason)
		}
	}
	if n := p.metric(t, "hivegate_limited_total"); n < 4 {
		t.Errorf("the gate counts %v refusals by limits, want 4", n)
	}
	if !strings.HasPrefix(p.lastHeader("X-Auth-Kind"), "jwt") {
		t.Errorf("the backend was told %q", p.lastHeader("X-Auth-Kind"))
	}
}
