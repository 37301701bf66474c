package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// signedSite has signed routes of all kinds.
func signedSite() config {
	return config{
		env:    []string{"FACTOR_SECRET=" + factorSecret},
		global: cheap + factorIssuer,
		gate: `routes {
			POST /signed farms:read signed
			GET /signed farms:read signed
			POST /signed/{rest...} farms:read signed
			POST /command farms:read {
				json command oneof reboot exec
				json command exec require farms:read signed
			}
		}`,
		more: `http://SITE1 {
			hivegate {
				signature X-Hmac {
					max_body 1KiB
					timestamp required
				}
				routes {
					POST /signed farms:read signed
				}
			}
			reverse_proxy FARM
		}
		http://SITE2 {
			handle_path /api/* {
				hivegate {
					routes {
						POST /signed farms:read signed
					}
				}
				reverse_proxy FARM
			}
		}`,
	}
}

// sign is the signature of a text, written here again.
func sign(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// opensslSign is sign by a program that shares no code with the gate.
func opensslSign(t *testing.T, secret, text string) string {
	t.Helper()
	if !foreignProgram(t, "openssl") {
		return sign(secret, text)
	}
	cmd := exec.Command("openssl", "dgst", "-sha256", "-hmac", secret)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl dgst: %v", err)
	}
	fields := strings.Fields(string(out)) // "SHA2-256(stdin)= 0123…"
	return fields[len(fields)-1]
}

// signingSecret runs a command that prints a signing secret.
func (g *gate) signingSecret(t testing.TB, args ...string) string {
	t.Helper()
	var printed struct {
		ID     string `json:"id"`
		Secret string `json:"signing_secret"`
	}
	if err := json.Unmarshal([]byte(g.hivegate(t, append(args, "--json")...).ok(t).stdout), &printed); err != nil {
		t.Fatal(err)
	}
	if printed.ID == "" || len(printed.Secret) < 40 {
		t.Fatalf("printed without id or secret: %q", printed.ID)
	}
	book.add("the signing secret of "+printed.ID, printed.Secret)
	return printed.Secret
}

func signature(s string) change { return header("X-Request-Signature", s) }

func TestSignatureOfOpenSSLPassesWithTheKeysAndTheSubjectsSecret(t *testing.T) {
	g := start(t, signedSite())
	made := g.hivegate(t, "apikey", "create", "--json", "--name", "signer", "--owner", "acme", "--scope", "farms:read", "--signing").ok(t)
	k := parseCreated(t, made)
	var withSecret struct {
		Secret string `json:"signing_secret"`
	}
	if err := json.Unmarshal([]byte(made.stdout), &withSecret); err != nil || withSecret.Secret == "" {
		t.Fatalf("create --signing printed no secret: %v", err)
	}
	book.add("the signing secret made with the key", withSecret.Secret)
	owner := g.signingSecret(t, "signing-secret", "rotate", "--owner", "acme")
	user := g.signingSecret(t, "signing-secret", "rotate", "--issuer", "main", "--sub", "user-1")
	token := key(factorToken(t, map[string]any{"sub": "user-1"}))
	ownedToken := key(factorToken(t, map[string]any{"sub": "user-1", "account": "acme"}))
	sibling := g.createOwned(t, "acme", "farms:read")
	const body = "{ \"amount\": 12,\n \"note\": \"größer\" }\x00\xff" // raw bytes: whatever they are
	for what, c := range map[string]struct {
		who    change
		secret string
		want   string
	}{
		"key, own secret":                     {key(k.Key), withSecret.Secret, "passed"},
		"key, owner's secret":                 {key(k.Key), owner, "passed"},
		"another key of the owner, owner's":   {key(sibling.Key), owner, "passed"},
		"another key of the owner, the first": {key(sibling.Key), withSecret.Secret, "signature_invalid"},
		"user, own secret":                    {token, user, "passed"},
		"user, another's secret":              {token, owner, "signature_invalid"},
		"user of the owner, owner's secret":   {ownedToken, owner, "passed"},
		"user of the owner, secret of sub":    {ownedToken, user, "signature_invalid"},
		"key, no secret at all":               {key(g.createScoped(t, "farms:read").Key), owner, "signature_invalid"},
	} {
		a := g.do(t, "POST", "/signed", c.who, content("application/octet-stream", body), signature(opensslSign(t, c.secret, body)))
		if got := outcomeOf(a, nil); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
		if c.want == "passed" && string(g.farm.got(t).body) != body {
			t.Errorf("%s: the backend got another body: %q", what, g.farm.got(t).body)
		}
	}
	// Shown again by the commands, until it is rotated: then at once worthless.
	if again := g.signingSecret(t, "apikey", "signing-secret", k.ID); again != withSecret.Secret {
		t.Error("apikey signing-secret shows another secret")
	}
	fresh := g.signingSecret(t, "apikey", "signing-secret", k.ID, "--rotate")
	post := func(secret string) *answer {
		return g.do(t, "POST", "/signed", key(k.Key), content(jsonType, "{}"), signature(sign(secret, "{}")))
	}
	post(withSecret.Secret).refused(t, 401, "signature_invalid")
	post(fresh).passed(t)
	post(owner).passed(t)
}

func TestSignatureIsOfExactlyTheseBytesInExactlyThisForm(t *testing.T) {
	g := start(t, signedSite())
	k := g.createOwned(t, "acme", "farms:read")
	secret := g.signingSecret(t, "apikey", "signing-secret", k.ID, "--rotate")
	send := func(body string, changes ...change) *answer {
		return g.do(t, "POST", "/signed", append([]change{key(k.Key), content(jsonType, body)}, changes...)...)
	}
	good := sign(secret, `{"a":1}`)
	for what, c := range map[string]struct {
		a    *answer
		want string
	}{
		"right":                      {send(`{"a":1}`, signature(good)), "passed"},
		"right, empty body":          {send("", signature(sign(secret, ""))), "passed"},
		"right, no body":             {g.do(t, "GET", "/signed", key(k.Key), signature(sign(secret, ""))), "passed"},
		"right, chunked":             {send(`{"a":1}`, chunkedBody, signature(good)), "passed"},
		"none":                       {send(`{"a":1}`), "signature_required"},
		"none, but a look-alike":     {send(`{"a":1}`, spelt("X_Request_Signature", good)), "signature_required"},
		"one byte changed":           {send(`{"a":2}`, signature(good)), "signature_invalid"},
		"one byte more":              {send(`{"a":1} `, signature(good)), "signature_invalid"},
		"upper case":                 {send(`{"a":1}`, signature(strings.ToUpper(good))), "signature_invalid"},
		"half":                       {send(`{"a":1}`, signature(good[:32])), "signature_invalid"},
		"with its algorithm":         {send(`{"a":1}`, signature("sha256="+good)), "signature_invalid"},
		"twice":                      {send(`{"a":1}`, signature(good), signature(good)), "signature_invalid"},
		"empty":                      {send(`{"a":1}`, signature("")), "signature_invalid"},
		"with the secret's own hash": {send(`{"a":1}`, signature(sign("", `{"a":1}`))), "signature_invalid"},
	} {
		if got := outcomeOf(c.a, nil); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
	// A rule that asks for one asks for it after the rule has read the body.
	exec := `{"command":"exec"}`
	post := func(body string, changes ...change) *answer {
		return g.do(t, "POST", "/command", append([]change{key(k.Key), content(jsonType, body)}, changes...)...)
	}
	post(exec).refused(t, 401, "signature_required")
	post(exec, signature(good)).refused(t, 401, "signature_invalid")
	post(exec, chunkedBody, signature(sign(secret, exec))).passed(t)
	if got := g.farm.got(t); string(got.body) != exec || got.header.Get("Content-Length") != fmt.Sprint(len(exec)) {
		t.Errorf("the backend got %q with length %q", got.body, got.header.Get("Content-Length"))
	}
	post(`{"command":"reboot"}`).passed(t)
}

// chunkedBody sends the body without its length.
func chunkedBody(r *http.Request) {
	r.ContentLength = -1
	r.Body = io.NopCloser(io.MultiReader(r.Body)) // not a type that has a length
}

func TestSignatureWithTimestampBindsTimeMethodAndTarget(t *testing.T) {
	g := start(t, signedSite())
	k := g.createOwned(t, "acme", "farms:read")
	secret := g.signingSecret(t, "apikey", "signing-secret", k.ID, "--rotate")
	type sent struct {
		method, target, body string
		shift                time.Duration
		signed               string // what is signed; empty: as it should be
		stamp                string // as sent; empty: the right one
		site                 int
	}
	send := func(s sent) *answer {
		stamp := strconv.FormatInt(time.Now().Add(s.shift).Unix(), 10)
		if s.stamp != "" {
			stamp = s.stamp
		}
		if s.method == "" {
			s.method = "POST"
		}
		if s.target == "" {
			s.target = "/signed?a=1&b=%20"
		}
		signedText := stamp + "." + s.method + "." + s.target + "." + s.body
		if s.signed != "" {
			signedText = strings.ReplaceAll(s.signed, "STAMP", stamp)
		}
		name := "X-Request-Signature"
		if s.site == 1 {
			name = "X-Hmac"
		}
		return g.doAt(t, g.sites[s.site], s.method, s.target, key(k.Key), content(jsonType, s.body),
			header("X-Request-Timestamp", stamp), header(name, opensslSign(t, secret, signedText)))
	}
	// Requests take a moment, so the edges have some seconds of slack.
	const slack = 20 * time.Second
	for what, c := range map[string]struct {
		sent
		want string
	}{
		"now":                          {sent{body: "{}"}, "passed"},
		"no body":                      {sent{method: "GET"}, "passed"},
		"almost five minutes ago":      {sent{shift: -5*time.Minute + slack}, "passed"},
		"almost five minutes ahead":    {sent{shift: 5 * time.Minute}, "passed"},
		"over five minutes ago":        {sent{shift: -5*time.Minute - time.Second}, "signature_invalid"},
		"over five minutes ahead":      {sent{shift: 5*time.Minute + slack}, "signature_invalid"},
		"signed for another second":    {sent{signed: "1.POST./signed?a=1&b=%20."}, "signature_invalid"},
		"signed for another method":    {sent{signed: "STAMP.PUT./signed?a=1&b=%20."}, "signature_invalid"},
		"signed for another target":    {sent{signed: "STAMP.POST./signed/x."}, "signature_invalid"},
		"signed for another query":     {sent{signed: "STAMP.POST./signed?a=2&b=%20."}, "signature_invalid"},
		"signed without the query":     {sent{signed: "STAMP.POST./signed."}, "signature_invalid"},
		"query decoded":                {sent{signed: "STAMP.POST./signed?a=1&b= ."}, "signature_invalid"},
		"signed for the body alone":    {sent{body: "{}", signed: "{}"}, "signature_invalid"},
		"timestamp with a sign":        {sent{stamp: "+" + fmt.Sprint(time.Now().Unix())}, "signature_invalid"},
		"timestamp in milliseconds":    {sent{stamp: fmt.Sprint(time.Now().UnixMilli())}, "signature_invalid"},
		"timestamp as a date":          {sent{stamp: time.Now().UTC().Format(time.RFC3339)}, "signature_invalid"},
		"where it is required":         {sent{site: 1, target: "/signed", body: "{}"}, "passed"},
		"before the rewrite":           {sent{site: 2, target: "/api/signed", body: "{}"}, "passed"},
		"as the gate sees the path":    {sent{site: 2, target: "/api/signed", body: "{}", signed: "STAMP.POST./signed.{}"}, "signature_invalid"},
		"with dots and escapes inside": {sent{target: "/signed/v1.2/a%20b?x=%2F.."}, "passed"},
	} {
		if got := outcomeOf(send(c.sent), nil); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
	required := func(changes ...change) *answer {
		return g.doAt(t, g.sites[1], "POST", "/signed", append([]change{key(k.Key), content(jsonType, "{}")}, changes...)...)
	}
	required(header("X-Hmac", sign(secret, "{}"))).refused(t, 401, "signature_invalid")
	required(signature(sign(secret, "{}"))).refused(t, 401, "signature_required")

	// A timestamped request's signed text, sent as a body without the timestamp,
	// would be good for ever.
	text := fmt.Sprintf("%d.POST./signed.{}", time.Now().Unix())
	g.do(t, "POST", "/signed", key(k.Key), content(jsonType, text), signature(sign(secret, text))).refused(t, 401, "signature_invalid")
	// Two timestamps are none.
	stamp := fmt.Sprint(time.Now().Unix())
	g.do(t, "POST", "/signed", key(k.Key), content(jsonType, "{}"), header("X-Request-Timestamp", stamp), header("X-Request-Timestamp", stamp),
		signature(sign(secret, stamp+".POST./signed.{}"))).refused(t, 401, "signature_invalid")
}

func TestSignatureBodiesAreBounded(t *testing.T) {
	g := start(t, signedSite())
	k := g.createOwned(t, "acme", "farms:read")
	secret := g.signingSecret(t, "apikey", "signing-secret", k.ID, "--rotate")
	for _, site := range []struct {
		at    int
		limit int
	}{{0, 1 << 20}, {1, 1 << 10}} {
		for _, size := range []int{site.limit, site.limit + 1} {
			body := strings.Repeat("x", size)
			stamp := fmt.Sprint(time.Now().Unix())
			signed := sign(secret, stamp+".POST./signed."+body)
			for how, form := range map[string]change{"with its length": func(*http.Request) {}, "chunked": chunkedBody} {
				want := "passed"
				if size > site.limit {
					want = "body_too_large"
				}
				a := g.doAt(t, g.sites[site.at], "POST", "/signed", key(k.Key), content("text/plain", body), form,
					header("X-Request-Timestamp", stamp), header("X-Request-Signature", signed), header("X-Hmac", signed))
				if got := outcomeOf(a, nil); got != want {
					t.Errorf("%d bytes %s: %s, want %s", size, how, got, want)
				}
				if want == "passed" && len(g.farm.got(t).body) != size {
					t.Errorf("the backend got %d bytes of %d", len(g.farm.got(t).body), size)
				}
				if want != "passed" && a.status != http.StatusRequestEntityTooLarge {
					t.Errorf("%d bytes %s: status %d", size, how, a.status)
				}
			}
		}
	}
}
