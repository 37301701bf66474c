package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// bodies that clients of the five families parse: exact, but for numbers.
var bodies = map[string]map[int]string{
	"hornethive": {
		401: `{"error":{"code":"unauthorized","message":"Invalid API key","details":{"reason":"api_key_invalid"}}}`,
		403: `{"error":{"code":"forbidden","message":"Insufficient permissions","details":{"required_permission":"crews:write","provided_permissions":["crews:read"]}}}`,
		429: `{"error":{"code":"rate_limit_exceeded","message":"Rate limit exceeded","details":{"reason":"rate_limited","limit":2,"remaining":0,"reset":N,"retry_after":N}}}`,
		404: `{"error":{"code":"not_found","message":"TEXT","details":{"reason":"route_not_found"}}}`,
	},
	"hiveclaw": {
		401: `{"success":false,"error":{"code":"UNAUTHORIZED","message":"Invalid or missing API key"}}`,
		403: `{"success":false,"error":{"code":"FORBIDDEN","message":"API key missing required scope: crews:write"}}`,
		429: `{"success":false,"error":{"code":"RATE_LIMITED","message":"Rate limit exceeded"}}`,
		404: `{"success":false,"error":{"code":"NOT_FOUND","message":"TEXT"}}`,
	},
	"hiveprotocol": {
		401: `{"error":"Invalid authentication credentials","code":"UNAUTHORIZED","message":"TEXT"}`,
		403: `{"error":"Access denied","code":"FORBIDDEN","message":"User does not have permission to access this resource"}`,
		429: `{"error":"Rate limit exceeded","code":"RATE_LIMITED","retry_after":N}`,
		404: `{"error":"TEXT","code":"NOT_FOUND","message":"TEXT"}`,
	},
	"hiveos": {
		401: `{"message":"Unauthenticated."}`,
		403: `{"message":"This action is unauthorized.","code":403000}`,
		429: `{"message":"Too Many Attempts."}`,
		404: `{"message":"TEXT"}`,
	},
	"problem": {
		401: `{"type":"urn:hivegate:reason:api_key_invalid","title":"TEXT","status":401,"detail":"TEXT","reason":"api_key_invalid"}`,
		403: `{"type":"urn:hivegate:reason:insufficient_scope","title":"TEXT","status":403,"detail":"TEXT","reason":"insufficient_scope","required_scopes":["crews:write"],"granted_scopes":["crews:read"]}`,
		429: `{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"TEXT","status":429,"detail":"TEXT","reason":"rate_limited","violated-policies":["pair"]}`,
		404: `{"type":"urn:hivegate:reason:route_not_found","title":"TEXT","status":404,"detail":"TEXT","reason":"route_not_found"}`,
	},
}

var dialects = []string{"hornethive", "hiveclaw", "hiveprotocol", "hiveos", "problem"}

func TestEveryDialectRefusesInItsOwnWords(t *testing.T) {
	c := config{global: cheap + "plan pair {\n\t\t\trequests 2/m\n\t\t}\n\t\tplan roomy {\n\t\t\trequests unlimited\n\t\t}\n\t\tdefault_plan roomy\n"}
	site := func(dialect string) string {
		return "dialect " + dialect + "\n\t\trealm hive\n\t\troutes {\n\t\t\tGET /crews crews:read\n\t\t\tPOST /crews crews:write\n\t\t}"
	}
	c.gate = site(dialects[0])
	for i, d := range dialects[1:] {
		c.more += fmt.Sprintf("http://SITE%d {\n\thivegate {\n\t\t%s\n\t}\n\treverse_proxy FARM\n}\n", i+1, site(d))
	}
	g := start(t, c)
	k := g.createScoped(t, "crews:read")
	for i, d := range dialects {
		t.Run(d, func(t *testing.T) {
			at := g.sites[i]
			pair := g.create(t, "--scope", "crews:read", "--plan", "pair")
			for range 2 {
				g.doAt(t, at, "GET", "/crews", key(pair.Key)).passed(t)
			}
			for status, a := range map[int]*answer{
				401: g.doAt(t, at, "GET", "/crews", key(k.Key+"x")),
				403: g.doAt(t, at, "POST", "/crews", key(k.Key)),
				429: g.doAt(t, at, "GET", "/crews", key(pair.Key)),
				404: g.doAt(t, at, "GET", "/none", key(k.Key)),
			} {
				a.refused(t, status, map[int]string{401: "api_key_invalid", 403: "insufficient_scope", 429: "rate_limited", 404: "route_not_found"}[status])
				re := regexp.QuoteMeta(bodies[d][status])
				re = strings.ReplaceAll(re, ":N", ":[0-9]+")
				re = "^" + strings.ReplaceAll(re, `"TEXT"`, `"(?:[^"\\]|\\.)+"`) + `\n?$`
				if !regexp.MustCompile(re).Match(a.body) {
					t.Errorf("%d\n got %s\nwant %s", status, a.body, bodies[d][status])
				}
				want := "application/json; charset=utf-8"
				if d == "problem" {
					want = "application/problem+json; charset=utf-8"
				}
				if ct := a.header.Get("Content-Type"); ct != want {
					t.Errorf("%d: Content-Type %q, want %q", status, ct, want)
				}
			}
			head := g.doAt(t, at, http.MethodHead, "/crews")
			if head.status != 401 || len(head.body) != 0 || head.reason() != "missing_credentials" {
				t.Errorf("HEAD: %d %q with a body of %d bytes", head.status, head.reason(), len(head.body))
			}
			// HEAD follows GET.
			if a := g.doAt(t, at, http.MethodHead, "/crews", key(k.Key)); a.status != 200 {
				t.Errorf("HEAD of a route for GET: %d %s", a.status, a.reason())
			}
		})
	}
}

func TestDocsURLIsWhereTheReasonIsExplained(t *testing.T) {
	g := start(t, farms.with("docs_url https://example.com/errors"))
	a := g.get(t, "/farms", key("nonsense"))
	a.refused(t, 401, "api_key_invalid")
	if p := a.asJSON(t); p["type"] != "https://example.com/errors#api_key_invalid" {
		t.Errorf("type %v", p["type"])
	}
	if ch := a.header.Get("Www-Authenticate"); !strings.Contains(ch, "; see https://example.com/errors#api_key_invalid\"") {
		t.Errorf("challenge %q", ch)
	}
}

// What users stumble on most gets the hint that would have saved them.
func TestLoginDataInHeadersGetsAHint(t *testing.T) {
	g := start(t, farms)
	for _, h := range []string{"login", "password"} {
		a := g.get(t, "/farms", spelt(h, "somebody"))
		a.refused(t, 401, "missing_credentials")
		if ch, body := a.header.Get("Www-Authenticate"), string(a.body); !strings.Contains(ch+body, "send login data in the POST body, or use only the token") {
			t.Errorf("no hint in %q or %s", ch, body)
		}
	}
}
