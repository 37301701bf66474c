package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// sites is main with a directive for each further site.
func sites(global, first string, more ...string) config {
	c := mainConfig(global, farmRoutes+first)
	for i, m := range more {
		c.more += fmt.Sprintf("http://SITE%d {\n\thivegate {\n\t\t%s\n\t\t%s\n\t}\n\treverse_proxy FARM\n}\n", i+1, farmRoutes, m)
	}
	return c
}

// expectation is one request and its answer.
type expectation struct {
	name    string
	site    int
	method  string
	changes []change
	status  int
	reason  string
}

func (g *gate) expect(t *testing.T, rows []expectation) {
	t.Helper()
	for _, r := range rows {
		method := r.method
		if method == "" {
			method = "GET"
		}
		a, err := g.try(g.sites[r.site], method, "/farms", r.changes...)
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		if a.status != r.status || a.reason() != r.reason {
			t.Errorf("%s: %d %q, want %d %q; %s", r.name, a.status, a.reason(), r.status, r.reason, a.header.Get("Www-Authenticate"))
		}
	}
}

// userToken and serviceToken are of main's two roles.
func userToken() string { return tokenKeys()["ES256"].token(claims(nil)) }
func serviceToken() string {
	return tokenKeys()["ES256"].token(claims(map[string]any{"role": "service_role", "sub": nil}))
}

func TestServerOnlyRolesAreRefusedFromBrowsersAlone(t *testing.T) {
	optional := "credentials {\n\t\t\tbearer\n\t\t\theader apikey\n\t\t}\n"
	required := "credentials {\n\t\t\tbearer\n\t\t\theader apikey required\n\t\t}\n"
	both := "credentials {\n\t\t\tbearer\n\t\t\theader apikey required\n\t\t\theader X-Token\n\t\t}\n"
	g := start(t, sites("", "", optional, required, both))
	var rows []expectation
	for marker, value := range map[string]string{
		"Origin": "https://app.example.com", "Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "empty", "Cookie": "theme=dark",
	} {
		for what, credential := range map[string]string{"service token": serviceToken(), "secret static key": staticSecret} {
			rows = append(rows,
				expectation{what + " with " + marker, 0, "GET", []change{bearer(credential), header(marker, value)}, 403, "browser_forbidden"},
				expectation{what + " as apikey with " + marker, 1, "GET", []change{header("Apikey", credential), header(marker, value)}, 403, "browser_forbidden"},
				expectation{what + " as optional apikey beside a user's token with " + marker, 1, "GET", []change{bearer(userToken()), header("Apikey", credential), header(marker, value)}, 403, "browser_forbidden"},
				expectation{what + " as required apikey beside a user's token with " + marker, 2, "GET", []change{bearer(userToken()), header("Apikey", credential), header(marker, value)}, 403, "browser_forbidden"},
				expectation{what + " in an optional header beside a required one with " + marker, 3, "GET", []change{bearer(userToken()), header("Apikey", publishable), header("X-Token", credential), header(marker, value)}, 403, "browser_forbidden"})
		}
		rows = append(rows,
			expectation{"user token with " + marker, 0, "GET", []change{bearer(userToken()), header(marker, value)}, 200, ""},
			expectation{"publishable key with " + marker, 0, "GET", []change{bearer(publishable), header(marker, value)}, 200, ""})
	}
	for what, credential := range map[string]string{"service token": serviceToken(), "secret static key": staticSecret} {
		rows = append(rows,
			expectation{what, 0, "GET", []change{bearer(credential)}, 200, ""},
			expectation{what + " from fetch of Node", 0, "GET", []change{bearer(credential), header("Sec-Fetch-Mode", "cors")}, 200, ""},
			expectation{what + " with a browser's User-Agent alone", 0, "GET", []change{bearer(credential), header("User-Agent", "Mozilla/5.0")}, 200, ""})
	}
	g.expect(t, rows)
	a, err := g.try(g.sites[0], "GET", "/farms", bearer(serviceToken()), header("Origin", "https://x.example"))
	if err != nil {
		t.Fatal(err)
	}
	a.refused(t, 403, "browser_forbidden")
}

func TestStaticKeysStandForTheirRole(t *testing.T) {
	g := start(t, mainConfig("", farmRoutes))
	g.expect(t, []expectation{
		{"publishable", 0, "GET", []change{bearer(publishable)}, 200, ""},
		{"publishable may not write", 0, "DELETE", []change{bearer(publishable)}, 403, "insufficient_scope"},
		{"secret", 0, "DELETE", []change{bearer(staticSecret)}, 200, ""},
		{"one character less", 0, "GET", []change{bearer(publishable[:len(publishable)-1])}, 401, "api_key_invalid"},
		{"one character more", 0, "GET", []change{bearer(publishable + "0")}, 401, "api_key_invalid"},
		{"in another case", 0, "GET", []change{bearer(strings.ToUpper(publishable))}, 401, "api_key_invalid"},
	})
	if h := g.farm.got(t).header; h.Get("X-Auth-Kind") != "jwt" || h.Get("X-Auth-Id") != "service_role" || h.Get("X-Auth-Issuer") != "main" || h.Get("X-Auth-Scopes") != "*" {
		t.Errorf("the backend was told %v", h)
	}
}

func TestASiteTakesWhatItsAcceptLineNames(t *testing.T) {
	second := `issuer second {
			iss second
			jwks DIR/second.json
			algorithms ES256
			role_claim role
			role authenticated farms:read
		}
		`
	c := sites(second, "", "accept keys", "accept issuer main", "accept issuer second", "accept keys\n\t\taccept issuer second")
	c.files["second.json"] = jwkSet(tokenKeys()["ES256"].jwk(nil))
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	other := tokenKeys()["ES256"].token(with("iss", "second"))
	for i, takes := range []struct{ key, main, second, static bool }{
		{true, true, true, true}, {true, false, false, false}, {false, true, false, true}, {false, false, true, false}, {true, false, true, false},
	} {
		for what, c := range map[string]struct {
			credential string
			taken      bool
			reason     string
		}{
			"API key": {k.Key, takes.key, "api_key_invalid"}, "token of main": {userToken(), takes.main, "token_invalid"},
			"token of second": {other, takes.second, "token_invalid"}, "static key of main": {publishable, takes.static, "api_key_invalid"},
		} {
			e := expectation{fmt.Sprintf("site %d, %s", i, what), i, "GET", []change{bearer(c.credential)}, 200, ""}
			if !c.taken {
				e.status, e.reason = 401, c.reason
			}
			g.expect(t, []expectation{e, e}) // remembered or not
		}
	}
}

func TestTheAPIKeyHeaderStandsAloneOrBesideAuthorization(t *testing.T) {
	optional := "credentials {\n\t\t\tbearer\n\t\t\theader apikey\n\t\t}\n"
	required := "credentials {\n\t\t\tbearer\n\t\t\theader apikey required\n\t\t}\n"
	alone := "credentials {\n\t\t\theader X-Api-Key\n\t\t}\n"
	g := start(t, sites("", optional, required, alone))
	k := g.createScoped(t, "farms:read")
	poor := g.createScoped(t, "crews:read")
	apikey := func(v string) change { return header("Apikey", v) }
	expired := tokenKeys()["ES256"].token(with("exp", in(-time.Hour)))
	g.expect(t, []expectation{
		{"optional, alone", 0, "", []change{apikey(k.Key)}, 200, ""},
		{"optional, a JWT alone", 0, "", []change{apikey(userToken())}, 200, ""},
		{"optional, a static key alone", 0, "", []change{apikey(publishable)}, 200, ""},
		{"optional, wrong alone", 0, "", []change{apikey(wrong(t, k))}, 401, "api_key_invalid"},
		{"optional, empty", 0, "", []change{apikey("")}, 401, "missing_credentials"},
		{"optional, wrong beside a right Bearer is not judged", 0, "", []change{bearer(k.Key), apikey(wrong(t, k))}, 200, ""},
		{"optional, right beside a wrong Bearer", 0, "", []change{bearer(wrong(t, k)), apikey(k.Key)}, 401, "api_key_invalid"},
		{"optional, right beside a malformed Authorization", 0, "", []change{header("Authorization", "Basic x"), apikey(k.Key)}, 401, "malformed_authorization"},
		{"optional, Bearer names the principal", 0, "", []change{bearer(poor.Key), apikey(k.Key)}, 403, "insufficient_scope"},
		{"optional, twice", 0, "", []change{apikey(k.Key), apikey(k.Key)}, 400, "multiple_credentials"},
		{"required, alone", 1, "", []change{apikey(k.Key)}, 200, ""},
		{"required, beside Bearer", 1, "", []change{bearer(userToken()), apikey(k.Key)}, 200, ""},
		{"required, missing beside Bearer", 1, "", []change{bearer(userToken())}, 401, "missing_credentials"},
		{"required, missing", 1, "", nil, 401, "missing_credentials"},
		{"required, wrong beside a right Bearer", 1, "", []change{bearer(userToken()), apikey(wrong(t, k))}, 401, "api_key_invalid"},
		{"required, expired token beside a right Bearer", 1, "", []change{bearer(userToken()), apikey(expired)}, 401, "token_expired"},
		{"required, right beside an expired Bearer", 1, "", []change{bearer(expired), apikey(k.Key)}, 401, "token_expired"},
		{"required, Bearer names the principal", 1, "", []change{bearer(poor.Key), apikey(k.Key)}, 403, "insufficient_scope"},
		{"required, twice", 1, "", []change{bearer(userToken()), apikey(k.Key), apikey(k.Key)}, 400, "multiple_credentials"},
		{"header alone, another name", 2, "", []change{header("X-Api-Key", k.Key)}, 200, ""},
		{"header alone: Bearer is no source", 2, "", []change{bearer(k.Key)}, 401, "missing_credentials"},
	})
	// Who sent nothing gets a bare challenge, and anybody is told what is taken here.
	for name, c := range map[string]struct {
		site    int
		changes []change
		hint    string
		bare    bool
	}{
		"required, nothing sent":      {1, nil, "apikey", true},
		"required, missing":           {1, []change{bearer(userToken())}, "apikey", false},
		"header alone, nothing sent":  {2, nil, "X-Api-Key", true},
		"header alone, Bearer sent":   {2, []change{bearer(k.Key)}, "X-Api-Key", false},
		"optional, nothing sent":      {0, nil, "Authorization: Bearer", true},
		"optional, the header empty":  {0, []change{apikey("")}, "Authorization: Bearer", true},
		"header alone, login headers": {2, []change{header("Login", "x")}, "login data", false},
	} {
		a, err := g.try(g.sites[c.site], "GET", "/farms", c.changes...)
		if err != nil {
			t.Fatal(err)
		}
		a.refused(t, 401, "missing_credentials")
		if challenge := a.header.Get("Www-Authenticate"); strings.Contains(challenge, "error") == c.bare {
			t.Errorf("%s: challenge %s", name, challenge)
		}
		if detail, _ := a.asJSON(t)["detail"].(string); !strings.Contains(detail, c.hint) {
			t.Errorf("%s: %q does not name %s", name, detail, c.hint)
		}
	}
}

// Who puts a credential into the query string sent one, and is told where it belongs.
func TestCredentialsInTheQueryAreNamedInTheChallenge(t *testing.T) {
	g := start(t, mainConfig("", farmRoutes))
	k := g.createScoped(t, "farms:read")
	for query, told := range map[string]bool{
		"token=" + userToken(): true, "a=1&access_token=" + userToken() + "&b=2": true, "apikey=" + k.Key: true,
		"": false, "token=eyJ": false, "token=a.b.c": false, "next=eyJ&v=1.2.3": false,
		strings.Repeat("=eyJ", 5_000): false, // asked once, however many there are
	} {
		a := g.get(t, "/farms?"+query)
		a.refused(t, 401, "missing_credentials")
		challenge := a.header.Get("Www-Authenticate")
		if got := strings.Contains(challenge, `error="invalid_request", error_description="credentials in the query string are not accepted`); got != told || !told && strings.Contains(challenge, "error") {
			t.Errorf("?%s: WWW-Authenticate %q", query, challenge)
		}
	}
}

// A key that has to come beside a token is in use, though it names nobody.
func TestTheKeyOfARequiredHeaderIsUsed(t *testing.T) {
	g := start(t, sites("", "credentials {\n\t\t\tbearer\n\t\t\theader apikey required\n\t\t}\n"))
	used, refused := g.createScoped(t, "crews:read"), g.createScoped(t, "crews:read")
	g.get(t, "/farms", bearer(userToken()), header("Apikey", used.Key)).passed(t)
	g.get(t, "/admin", bearer(userToken()), header("Apikey", refused.Key)).refused(t, 403, "insufficient_scope")
	g.stop(t) // what is noted is written then
	shown := func(id string) any { return g.hivegate(t, "apikey", "show", id, "--json").object(t)["last_used_at"] }
	if at, _ := shown(used.ID).(string); at == "" {
		t.Error("the key's use is not kept")
	}
	if at := shown(refused.ID); at != nil {
		t.Errorf("last_used_at %v of a key that opened nothing", at)
	}
}

// sessionCookie is a session as @supabase/ssr writes it.
func sessionCookie(token string) string {
	text, err := json.Marshal(map[string]any{"access_token": token, "refresh_token": "r", "token_type": "bearer"})
	if err != nil {
		panic(err)
	}
	return "base64-" + base64.RawURLEncoding.EncodeToString(text)
}

func TestSessionCookiesAreReadAndBoundToTheSite(t *testing.T) {
	g := start(t, sites("", "credentials {\n\t\t\tbearer\n\t\t\tcookie sb-*-auth-token\n\t\t}\n"))
	const name = "sb-127-auth-token"
	good, poor := sessionCookie(userToken()), sessionCookie(tokenKeys()["ES256"].token(with("role", "nobody")))
	cookie := func(v string) change { return header("Cookie", v) }
	half := len(good) / 2
	plain := `{"access_token":"` + userToken() + `"}`
	origin := func(v string) change { return header("Origin", v) }
	site := func(v string) change { return header("Sec-Fetch-Site", v) }
	own := origin("http://" + g.sites[0])
	upgrade := func(r *http.Request) {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
	}
	g.expect(t, []expectation{
		{"whole", 0, "GET", []change{cookie(name + "=" + good)}, 200, ""},
		{"HEAD", 0, "HEAD", []change{cookie(name + "=" + good)}, 200, ""},
		{"of another host's label", 0, "GET", []change{cookie("sb-abc_D-9-auth-token=" + good)}, 200, ""},
		{"of another name", 0, "GET", []change{cookie("xsb-127-auth-token=" + good)}, 401, "missing_credentials"},
		{"in chunks", 0, "GET", []change{cookie(name + ".0=" + good[:half] + "; " + name + ".1=" + good[half:])}, 200, ""},
		{"in chunks, the wrong way round", 0, "GET", []change{cookie(name + ".1=" + good[half:] + "; x=y; " + name + ".0=" + good[:half])}, 200, ""},
		{"in chunks, without the first", 0, "GET", []change{cookie(name + ".1=" + good[half:])}, 401, "token_invalid"},
		{"in chunks, without the last", 0, "GET", []change{cookie(name + ".0=" + good[:half])}, 401, "token_invalid"},
		{"whole wins over chunks", 0, "GET", []change{cookie(name + "=" + good + "; " + name + ".0=" + poor)}, 200, ""},
		{"whole wins over chunks, to its harm", 0, "GET", []change{cookie(name + "=" + poor + "; " + name + ".0=" + good)}, 403, "insufficient_scope"},
		{"without base64-", 0, "GET", []change{cookie(name + "=" + url.QueryEscape(plain))}, 200, ""},
		{"two of one name that differ", 0, "GET", []change{cookie(name + "=" + good + "; " + name + "=" + poor)}, 400, "multiple_credentials"},
		{"two names that match", 0, "GET", []change{cookie(name + "=" + good + "; sb-evil-auth-token=" + poor)}, 400, "multiple_credentials"},
		{"garbage", 0, "GET", []change{cookie(name + "=base64-!!!")}, 401, "token_invalid"},
		{"the bare token", 0, "GET", []change{cookie(name + "=" + userToken())}, 200, ""},
		{"a bare token to change something, from another page", 0, "POST", []change{cookie(name + "=" + userToken()), origin("https://evil.example")}, 403, "cross_site"},
		{"half a bare token", 0, "GET", []change{cookie(name + "=" + userToken()[:len(userToken())/2])}, 401, "api_key_invalid"},
		{"a word", 0, "GET", []change{cookie(name + "=yes")}, 401, "token_invalid"},
		{"expired", 0, "GET", []change{cookie(name + "=" + sessionCookie(tokenKeys()["ES256"].token(with("exp", in(-time.Hour)))))}, 401, "token_expired"},
		{"a server's role", 0, "GET", []change{cookie(name + "=" + sessionCookie(serviceToken()))}, 403, "browser_forbidden"},
		{"beside Authorization it is ignored", 0, "GET", []change{cookie(name + "=" + poor), bearer(userToken())}, 200, ""},
		{"beside a wrong Authorization too", 0, "GET", []change{cookie(name + "=" + good), bearer(tokenKeys()["ES256"].token(with("exp", in(-time.Hour))))}, 401, "token_expired"},
		{"beside Authorization no origin is asked for", 0, "POST", []change{cookie(name + "=" + good), bearer(userToken()), origin("https://evil.example")}, 200, ""},
		{"GET from another page", 0, "GET", []change{cookie(name + "=" + good), origin("https://evil.example"), site("cross-site")}, 200, ""},
		{"POST without an origin", 0, "POST", []change{cookie(name + "=" + good)}, 403, "cross_site"},
		{"POST from its own page", 0, "POST", []change{cookie(name + "=" + good), own}, 200, ""},
		{"POST from its own page over TLS in front", 0, "POST", []change{cookie(name + "=" + good), origin("https://" + g.sites[0])}, 200, ""},
		{"POST from another page", 0, "POST", []change{cookie(name + "=" + good), origin("https://evil.example")}, 403, "cross_site"},
		{"POST from another port", 0, "POST", []change{cookie(name + "=" + good), origin("http://127.0.0.1:1")}, 403, "cross_site"},
		{"POST from a name that begins alike", 0, "POST", []change{cookie(name + "=" + good), origin("http://" + g.sites[0] + ".evil.example")}, 403, "cross_site"},
		{"POST from null", 0, "POST", []change{cookie(name + "=" + good), origin("null")}, 403, "cross_site"},
		{"POST with two origins", 0, "POST", []change{cookie(name + "=" + good), own, origin("https://evil.example")}, 403, "cross_site"},
		{"POST, same-origin by Sec-Fetch-Site", 0, "POST", []change{cookie(name + "=" + good), site("same-origin")}, 200, ""},
		{"POST, same-site is not same-origin", 0, "POST", []change{cookie(name + "=" + good), site("same-site"), own}, 403, "cross_site"},
		{"POST, none", 0, "POST", []change{cookie(name + "=" + good), site("none")}, 403, "cross_site"},
		{"DELETE from another page", 0, "DELETE", []change{cookie(name + "=" + good), site("cross-site")}, 403, "cross_site"},
		{"upgrade without an origin", 0, "GET", []change{cookie(name + "=" + good), upgrade}, 403, "cross_site"},
		{"upgrade from another page", 0, "GET", []change{cookie(name + "=" + good), upgrade, origin("https://evil.example")}, 403, "cross_site"},
		{"upgrade from its own page", 0, "GET", []change{cookie(name + "=" + good), upgrade, own}, 200, ""},
	})
}

func TestCredentialsGoOnAsConfigured(t *testing.T) {
	creds := "credentials {\n\t\t\tbearer\n\t\t\theader apikey\n\t\t\tcookie sb-*-auth-token\n\t\t}\n"
	forward := func(what string) string { return creds + "forward {\n\t\t\tcredentials " + what + "\n\t\t}\n" }
	g := start(t, sites("", creds, forward("none"), forward("jwt"), forward("all")))
	k := g.createScoped(t, "farms:read")
	session := "sb-127-auth-token=" + sessionCookie(userToken())
	for site, goes := range []struct{ key, token bool }{{false, false}, {false, false}, {false, true}, {true, true}} {
		send := func(what string, changes ...change) http.Header {
			t.Helper()
			a, err := g.try(g.sites[site], "GET", "/farms", changes...)
			if err != nil || a.status != 200 {
				t.Fatalf("site %d, %s: %v %+v", site, what, err, a)
			}
			return g.farm.got(t).header
		}
		check := func(what, name string, h http.Header, want bool) {
			t.Helper()
			if got := h.Get(name) != ""; got != want {
				t.Errorf("site %d, %s: %s reached the backend: %v, want %v", site, what, name, got, want)
			}
		}
		check("API key", "Authorization", send("API key", bearer(k.Key)), goes.key)
		check("API key as apikey", "Apikey", send("apikey", header("Apikey", k.Key)), goes.key)
		check("JWT", "Authorization", send("JWT", bearer(userToken())), goes.token)
		check("JWT as apikey", "Apikey", send("JWT as apikey", header("Apikey", userToken())), goes.token)
		check("static key", "Authorization", send("static key", bearer(publishable)), goes.token)
		h := send("JWT and API key", bearer(userToken()), header("Apikey", k.Key))
		check("JWT beside an API key", "Authorization", h, goes.token)
		check("API key beside a JWT", "Apikey", h, goes.key)
		h = send("cookie", header("Cookie", "theme=dark; "+session+"; sb-127-auth-token.7=x; lang=de"))
		want := "theme=dark; lang=de"
		if goes.token {
			want = "theme=dark; " + session + "; sb-127-auth-token.7=x; lang=de"
		}
		if h.Get("Cookie") != want {
			t.Errorf("site %d: the backend was sent the cookies %q, want %q", site, h.Get("Cookie"), want)
		}
		h = send("session cookie beside Authorization", bearer(userToken()), header("Cookie", session))
		check("cookie beside a JWT", "Cookie", h, goes.token)
		for what, cookie := range map[string]string{"API key in a cookie": k.Key, "API key in a session": sessionCookie(k.Key)} {
			cookie = "sb-127-auth-token=" + cookie
			check(what, "Cookie", send(what, header("Cookie", cookie)), goes.key)
			check(what+" beside a JWT", "Cookie", send(what, bearer(userToken()), header("Cookie", cookie)), goes.key)
		}
		half := len(k.Key) / 2
		for what, cookies := range map[string]string{
			"API key as cookie":           "sb-127-auth-token=" + k.Key,
			"API key as quoted cookie":    "sb-127-auth-token=\"" + k.Key + "\"",
			"API key in a cookie's parts": "sb-127-auth-token.0=" + k.Key[:half] + "; sb-127-auth-token.1=" + k.Key[half:],
		} {
			h = send(what, header("Cookie", "theme=dark; "+cookies))
			want := "theme=dark"
			if goes.key {
				want += "; " + cookies
			}
			if h.Get("Cookie") != want {
				t.Errorf("site %d, %s: the backend was sent the cookies %q, want %q", site, what, h.Get("Cookie"), want)
			}
		}
		h = send("two API keys as cookies beside a JWT", bearer(userToken()), header("Cookie", "sb-1-auth-token="+k.Key+"; sb-2-auth-token="+k.Key))
		check("API key as a cookie beside a JWT", "Cookie", h, goes.key)
	}
	// On a public route nothing is judged; keys are removed all the same.
	a, err := g.try(g.sites[1], "GET", "/healthz", bearer(k.Key), header("Apikey", k.Key))
	if err != nil || a.status != 200 {
		t.Fatal(err, a)
	}
	if h := g.farm.got(t).header; h.Get("Authorization")+h.Get("Apikey") != "" {
		t.Error("a key reached the backend over a public route")
	}
}
