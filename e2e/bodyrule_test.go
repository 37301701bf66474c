package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const commandRules = `routes {
	POST /command farms:read {
		json command oneof reboot shutdown miner exec
		json command exec require workers:admin
	}
	POST /many farms:read {
		json data.command oneof reboot shutdown miner exec
		json data.command exec require workers:admin
	}
	POST /farms/{farmId}/command farms:read {
		json command exec require workers:admin
	}
	POST /free public {
		json kind oneof a b
	}
}`

// ruledSites is a site for each dialect, with the same rules.
func ruledSites() config {
	c := config{global: cheap, gate: "dialect " + dialects[0] + "\n" + commandRules}
	for i, d := range dialects[1:] {
		c.more += fmt.Sprintf("http://SITE%d {\nhivegate {\ndialect %s\n%s\n}\nreverse_proxy FARM\n}\n", i+1, d, commandRules)
	}
	return c
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBodyruleBodiesThatTwoParsersMightReadApartAreRefusedInEveryDialect(t *testing.T) {
	g := start(t, ruledSites())
	k := g.createScoped(t, "farms:read", "workers:admin")
	typed := func(value string) change {
		return func(r *http.Request) { r.Header.Set("Content-Type", value) }
	}
	cases := map[string]struct {
		path, body string
		change     change
		status     int
		reason     string
	}{
		"BOM":                        {"/command", "\ufeff" + `{"command":"reboot"}`, nil, 400, "body_invalid"},
		"twice":                      {"/command", `{"command":"reboot","command":"exec"}`, nil, 400, "body_invalid"},
		"twice, once escaped":        {"/command", `{"command":"reboot","\u0063ommand":"exec"}`, nil, 400, "body_invalid"},
		"twice, once in capitals":    {"/command", `{"command":"reboot","Command":"exec"}`, nil, 400, "body_invalid"},
		"in capitals alone":          {"/command", `{"COMMAND":"exec"}`, nil, 400, "body_invalid"},
		"twice on the way":           {"/many", `{"data":{"command":"reboot"},"data":{"command":"exec"}}`, nil, 400, "body_invalid"},
		"dotted beside nested":       {"/many", `{"data":{"command":"reboot"},"data.command":"exec"}`, nil, 400, "body_invalid"},
		"trailing object":            {"/command", `{"command":"reboot"}{"command":"exec"}`, nil, 400, "body_invalid"},
		"trailing comma":             {"/command", `{"command":"reboot",}`, nil, 400, "body_invalid"},
		"trailing text":              {"/command", `{"command":"reboot"} x`, nil, 400, "body_invalid"},
		"trailing NUL":               {"/command", `{"command":"reboot"}` + "\x00", nil, 400, "body_invalid"},
		"invalid UTF-8 in the value": {"/command", "{\"command\":\"reboot\xff\"}", nil, 400, "body_invalid"},
		"invalid UTF-8 elsewhere":    {"/command", "{\"command\":\"reboot\",\"x\":\"\xc0\xaf\"}", nil, 400, "body_invalid"},
		"half a surrogate":           {"/command", `{"command":"reboot","x":"\ud800"}`, nil, 400, "body_invalid"},
		"a comment":                  {"/command", `{"command":"reboot"/*,"command":"exec"*/}`, nil, 400, "body_invalid"},
		"single quotes":              {"/command", `{'command':'reboot'}`, nil, 400, "body_invalid"},
		"an array":                   {"/command", `[{"command":"reboot"}]`, nil, 400, "body_invalid"},
		"a text":                     {"/command", `"reboot"`, nil, 400, "body_invalid"},
		"null":                       {"/command", `null`, nil, 400, "body_invalid"},
		"empty":                      {"/command", ``, nil, 400, "body_invalid"},
		"UTF-16":                     {"/command", "\xff\xfe{\x00}\x00", nil, 400, "body_invalid"},
		"deep":                       {"/command", `{"command":"reboot","x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, nil, 400, "body_invalid"},
		"gzip":                       {"/command", gzipped(t, `{"command":"reboot"}`), header("Content-Encoding", "gzip"), 415, "body_not_json"},
		"said to be gzip":            {"/command", `{"command":"reboot"}`, header("Content-Encoding", "gzip"), 415, "body_not_json"},
		"identity":                   {"/command", `{"command":"reboot"}`, header("Content-Encoding", "identity"), 415, "body_not_json"},
		// Caddy itself drops names with underscores, so this is no JSON at all.
		"gzip, spelt otherwise":       {"/command", gzipped(t, `{"command":"reboot"}`), spelt("Content_Encoding", "gzip"), 400, "body_invalid"},
		"form":                        {"/command", `command=exec`, typed("application/x-www-form-urlencoded"), 415, "body_not_json"},
		"text":                        {"/command", `{"command":"reboot"}`, typed("text/plain"), 415, "body_not_json"},
		"problem":                     {"/command", `{"command":"reboot"}`, typed("application/problem+json"), 415, "body_not_json"},
		"UTF-16 by charset":           {"/command", `{"command":"reboot"}`, typed("application/json; charset=utf-16"), 415, "body_not_json"},
		"two content types":           {"/command", `{"command":"reboot"}`, header("Content-Type", "application/json"), 415, "body_not_json"},
		"no content type":             {"/command", `{"command":"reboot"}`, func(r *http.Request) { r.Header.Del("Content-Type") }, 415, "body_not_json"},
		"a number":                    {"/command", `{"command":1}`, nil, 422, "field_invalid"},
		"an array of one":             {"/command", `{"command":["exec"]}`, nil, 422, "field_invalid"},
		"absent":                      {"/command", `{}`, nil, 422, "field_invalid"},
		"null value":                  {"/command", `{"command":null}`, nil, 422, "field_invalid"},
		"capitals":                    {"/command", `{"command":"EXEC"}`, nil, 422, "field_invalid"},
		"with a space":                {"/command", `{"command":"exec "}`, nil, 422, "field_invalid"},
		"with NUL":                    {"/command", `{"command":"exec\u0000"}`, nil, 400, "body_invalid"},
		"data is text":                {"/many", `{"data":"exec"}`, nil, 422, "field_invalid"},
		"data is a list":              {"/many", `{"data":[{"command":"exec"}]}`, nil, 422, "field_invalid"},
		"one byte over the bound":     {"/command", padded(64<<10 + 1), nil, 413, "body_too_large"},
		"over the bound, chunked":     {"/command", padded(64<<10 + 1), chunkedBody, 413, "body_too_large"},
		"twice, chunked":              {"/command", `{"command":"reboot","command":"exec"}`, chunkedBody, 400, "body_invalid"},
		"public, but another value":   {"/free", `{"kind":"c"}`, nil, 422, "field_invalid"},
		"public, and no object":       {"/free", `[]`, nil, 400, "body_invalid"},
		"not one of the known":        {"/command", `{"command":"format"}`, nil, 422, "field_invalid"},
		"of the wrong kind, open set": {"/farms/1/command", `{"command":["exec"]}`, nil, 422, "field_invalid"},
	}
	hits, sent := g.farm.hits.Load(), 0
	for what, c := range cases {
		for i, dialect := range dialects {
			changes := []change{key(k.Key), content(jsonType, c.body)}
			if c.change != nil {
				changes = append(changes, c.change)
			}
			sent++
			a := g.doAt(t, g.sites[i], "POST", c.path, changes...)
			if a.status != c.status || a.reason() != c.reason {
				t.Errorf("%s, %s: %d %q, want %d %s", what, dialect, a.status, a.reason(), c.status, c.reason)
				continue
			}
			a.refused(t, c.status, c.reason)
			if c.reason == "field_invalid" && !bytes.Contains(a.body, []byte(`"errors"`)) && dialect != "hiveprotocol" && dialect != "hiveclaw" {
				t.Errorf("%s, %s: no field errors in %s", what, dialect, a.body)
			}
		}
	}
	if n := g.farm.hits.Load() - hits; n != 0 {
		t.Errorf("%d of %d bodies reached the backend", n, sent)
	}
	t.Logf("%d bodies in %d dialects: none reached the backend", len(cases), len(dialects))
}

// padded is a good body of n bytes.
func padded(n int) string {
	const head, tail = `{"command":"reboot","x":"`, `"}`
	return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
}

func TestBodyruleBodiesGoOnByteForByteWithTheirLength(t *testing.T) {
	g := start(t, ruledSites())
	plain, admin := g.createScoped(t, "farms:read"), g.createScoped(t, "farms:read", "workers:admin")
	for what, c := range map[string]struct {
		path, body string
		who        created
	}{
		"plain":                   {"/command", `{"command":"reboot"}`, plain},
		"odd white space":         {"/command", "\r\n{ \"x\" : 1.0e+2 ,\t\"command\"\n:\"reboot\" }\n ", plain},
		"escapes stay escapes":    {"/command", `{"\u0063ommand":"r\u0065boot","ü":"\ud83d\udc1d"}`, plain},
		"big numbers stay":        {"/command", `{"command":"reboot","n":123456789012345678901234567890.10}`, plain},
		"data null":               {"/command", `{"command":"reboot","data":null}`, plain},
		"twice off the way":       {"/command", `{"command":"reboot","data":{"a":1,"a":2}}`, plain},
		"many":                    {"/many", `{"worker_ids":[1,2],"data":{"command":"reboot","data":null}}`, plain},
		"with the right":          {"/command", `{"command":"exec","data":{"cmd":"id"}}`, admin},
		"as large as may be":      {"/command", padded(64 << 10), plain},
		"open set, absent":        {"/farms/1/command", `{}`, plain},
		"open set, null":          {"/farms/1/command", `{"command":null}`, plain},
		"open set, another value": {"/farms/1/command", `{"command":"EXEC"}`, plain},
	} {
		for how, form := range map[string]change{"with its length": func(*http.Request) {}, "chunked": chunkedBody} {
			g.do(t, "POST", c.path, key(c.who.Key), content(jsonType, c.body), form).passed(t)
			got := g.farm.got(t)
			if string(got.body) != c.body {
				t.Errorf("%s %s: the backend got %d bytes %.80q, want %.80q", what, how, len(got.body), got.body, c.body)
			}
			if n := got.header.Get("Content-Length"); n != fmt.Sprint(len(c.body)) {
				t.Errorf("%s %s: Content-Length is %q, want %d", what, how, n, len(c.body))
			}
		}
	}
	g.do(t, "POST", "/command", key(plain.Key), content(`application/json; charset="UTF-8"`, `{"command":"reboot"}`)).passed(t)
	g.do(t, "POST", "/free", content(jsonType, `{"kind":"b"}`)).passed(t)
	a := g.do(t, "POST", "/command", key(plain.Key), content(jsonType, `{"command":"exec"}`))
	a.refused(t, 403, "insufficient_scope")
	if want := `{"error":{"code":"forbidden","message":"Insufficient permissions","details":{"required_permission":"workers:admin","provided_permissions":["farms:read"]}}}`; strings.TrimSpace(string(a.body)) != want {
		t.Errorf("body %s, want %s", a.body, want)
	}
	// A right for one farm opens the command on that farm.
	narrow := g.createScoped(t, "farms:read", "workers:admin@farmId=42")
	g.do(t, "POST", "/farms/42/command", key(narrow.Key), content(jsonType, `{"command":"exec"}`)).passed(t)
	g.do(t, "POST", "/farms/43/command", key(narrow.Key), content(jsonType, `{"command":"exec"}`)).refused(t, 403, "object_forbidden")
	g.do(t, "POST", "/command", key(narrow.Key), content(jsonType, `{"command":"exec"}`)).refused(t, 403, "object_forbidden")

	// A client that announces trailers, or waits for 100 Continue, is served too.
	g.raw(t, "POST /command HTTP/1.1\nHost: SITE0\nAuthorization: Bearer "+plain.Key+
		"\nContent-Type: application/json\nTransfer-Encoding: chunked\nTrailer: X-Late\nConnection: close\n", "14\r\n{\"command\":\"reboot\"}\r\n0\r\nX-Late: 1\r\n\r\n").passed(t)
	if got := g.farm.got(t); got.header.Get("Content-Length") != "20" || len(got.trailer) != 0 {
		t.Errorf("the backend got length %q and trailers %v", got.header.Get("Content-Length"), got.trailer)
	}
}

// The shipped example, with its two kinds of second factors.
func TestBodyruleHiveOSCommands(t *testing.T) {
	g := start(t, example(t, "hiveos.Caddyfile"))
	operator := g.create(t, "--owner", "olga", "--preset", "operator")
	technician := g.create(t, "--owner", "tim", "--preset", "technician")
	f := g.enroll(t, "--owner", "tim")
	const one, many = "/api/v2/farms/1/workers/2/command", "/api/v2/farms/1/workers/command"
	wrapped := func(command string) string { return `{"worker_ids":[1,2],"data":` + command + `}` }
	post := func(path string, who created, body string, changes ...change) *answer {
		return g.do(t, "POST", path, append([]change{key(who.Key), content(jsonType, body)}, changes...)...)
	}

	// What would have helped, in the API's own shape.
	for _, c := range []struct{ path, body, want string }{
		{one, `{"command":"stop"}`, `{"message":"The given data was invalid.","errors":{"command":["stop is not a command; did you mean {\"command\":\"miner\",\"data\":{\"action\":\"stop\"}}?"]}}`},
		{many, wrapped(`{"command":"stop"}`), `{"message":"The given data was invalid.","errors":{"data.command":["stop is not a command; did you mean {\"data\":{\"command\":\"miner\",\"data\":{\"action\":\"stop\"}}}?"]}}`},
	} {
		a := post(c.path, operator, c.body)
		a.refused(t, 422, "field_invalid")
		if got := strings.TrimSpace(string(a.body)); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.body, got, c.want)
		}
	}
	post(many, operator, `{"worker_ids":[1],"data":null}`).refused(t, 422, "field_invalid")
	post(many, operator, `{"worker_ids":[1],"command":"reboot"}`).refused(t, 422, "field_invalid")
	post(one, operator, wrapped(`{"command":"reboot"}`)).refused(t, 422, "field_invalid")

	// Of the 16 commands 7 are free to operators.
	dangerous := strings.Fields("shutdown teleconsole hssh exec amd_download amd_upload nvidia_download nvidia_upload asic_upgrade")
	free := strings.Fields("reboot upgrade miner octofan_recalibrate benchmark_stop donnager_relay_switch pool_test")
	for i, name := range free {
		body := fmt.Sprintf(`{"command":%q%s}`, name, []string{"", `,"data":null`, `,"data":{}`}[i%3])
		post(one, operator, body).passed(t)
		if got := g.command.got(t); string(got.body) != body {
			t.Errorf("the command backend got %q, want %q", got.body, body)
		}
		post(many, technician, wrapped(body)).passed(t)
	}
	codes := f.recovery
	for i, name := range dangerous {
		body := fmt.Sprintf(`{"command":%q,"data":null}`, name)
		post(one, operator, body, withCode("123456")).refused(t, 403, "insufficient_scope")
		path := one
		if i%2 == 1 {
			path, body = many, wrapped(body)
		}
		a := post(path, technician, body)
		a.refused(t, 403, "second_factor_required")
		if got := strings.TrimSpace(string(a.body)); got != `{"message":"Security code is required","code":403003}` {
			t.Errorf("%s without a code: %s", name, got)
		}
		code := f.next(t)
		if i > 0 {
			code, codes = codes[0], codes[1:]
		}
		post(path, technician, body, withCode(code)).passed(t)
		if got := g.command.got(t); string(got.body) != body || got.header.Values("X-Security-Code") != nil {
			t.Errorf("%s: the command backend got %q and the code %q", name, got.body, got.header.Values("X-Security-Code"))
		}
	}
	for _, family := range []string{"amd", "nvidia"} {
		path := many + "/" + family + "_upload"
		post(path, operator, "{}", withCode("123456")).refused(t, 403, "insufficient_scope")
		post(path, technician, "{}").refused(t, 403, "second_factor_required")
	}
	// Commands are limited as a class, each key by itself.
	limited := 0
	for range 31 {
		if a := post(one, operator, `{"command":"reboot"}`); a.status == 429 {
			limited++
		}
	}
	if limited == 0 {
		t.Error("31 further commands of one key within its minute, and none was limited")
	}
}

func TestBodyruleHiveOSChecksItsOwnCodesOnThirteenOperations(t *testing.T) {
	c := example(t, "hiveos.Caddyfile")
	c.caddyfile = strings.Replace(c.caddyfile, "requests 300/m burst 100", "requests unlimited", 1)
	present := start(t, c)
	// The other mode: a backend that checks nothing, and a gate that does.
	if strings.Count(c.caddyfile, "import gate present") != 1 {
		t.Fatal("the example does not hand the code on where Hive OS checks it")
	}
	c.caddyfile = strings.Replace(c.caddyfile, "import gate present", "import gate verify", 1)
	verify := start(t, c)
	scopes := []string{"--scope", "account:write", "--scope", "account:security", "--scope", "account:pay", "--scope", "farms:pay"}
	k := present.create(t, scopes...)
	v := verify.create(t, append(scopes, "--owner", "vera")...)
	codes := verify.enroll(t, "--owner", "vera").recovery
	asked := 0
	for _, op := range hiveosOperations(t) {
		if op.auth != "bearer+code" {
			continue
		}
		asked++
		for _, g := range []*gate{present, verify} {
			who := k
			if g == verify {
				who = v
			}
			a := g.do(t, op.method, op.path, key(who.Key))
			if a.status != 403 || strings.TrimSpace(string(a.body)) != `{"message":"Security code is required","code":403003}` {
				t.Errorf("%s %s without a code: %d %s", op.method, op.path, a.status, a.body)
			}
		}
		present.do(t, op.method, op.path, key(k.Key), withCode("12345")).refused(t, 403, "second_factor_invalid")
		present.do(t, op.method, op.path, key(k.Key), withCode("000000")).passed(t)
		if got := present.farm.got(t); got.target != op.path || got.header.Get("X-Security-Code") != "000000" {
			t.Errorf("%s %s: the backend got the code %q", op.method, op.path, got.header.Get("X-Security-Code"))
		}
		if asked <= len(codes) {
			verify.do(t, op.method, op.path, key(v.Key), withCode(codes[asked-1])).passed(t)
			if got := verify.farm.got(t).header.Values("X-Security-Code"); got != nil {
				t.Errorf("%s %s: the code was passed on: %q", op.method, op.path, got)
			}
		}
	}
	if asked != 13 {
		t.Errorf("%d operations ask for a code, want 13", asked)
	}
	// Sign-in carries a code too, and nobody looks at it here.
	login := present.do(t, "POST", "/api/v2/auth/login", content(jsonType, `{"login":"a","password":"b"}`), withCode("123456"))
	login.passed(t)
	if got := present.farm.got(t).header.Get("X-Security-Code"); got != "123456" {
		t.Errorf("login: the backend got the code %q", got)
	}
	// A path that only looks like one of the thirteen is gated all the same.
	for _, path := range []string{"/api/v2/ACCOUNT/send_money", "/api/v2/accounts", "/api/v2/farms/1/send_money/", "/api/v2/account/../farms/1/workers/2/command"} {
		a := present.do(t, "POST", path, key(k.Key), withCode("000000"))
		if a.status != 404 && a.status != 400 {
			t.Errorf("%s: %d %q", path, a.status, a.reason())
		}
	}
	var shape map[string]any
	if err := json.Unmarshal(present.do(t, "DELETE", "/api/v2/account", withCode("000000")).body, &shape); err != nil || shape["message"] != "Unauthenticated." {
		t.Errorf("without a key: %v, %v", shape, err)
	}
}
