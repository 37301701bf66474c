package refusal

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sample is a refusal with everything in it that its reason may have.
func sample(reason Reason) *Refusal {
	r := &Refusal{Reason: reason, Kind: KindAPIKey, Realm: "api.example.com", Credential: true, Err: fmt.Errorf("a cause")}
	switch reason {
	case ReasonMissingCredentials:
		r.Kind, r.Credential = KindNone, false
	case ReasonMalformedAuthorization:
		r.Kind, r.Hint = KindNone, "Authorization must be 'Bearer <token>'; the token was sent without the scheme"
	case ReasonTokenInvalid, ReasonTokenExpired:
		r.Kind = KindJWT
	case ReasonInsufficientScope:
		r.Required, r.Granted = []string{"crews:write"}, []string{"crews:read", "workers:command@farmId=42,43"}
	case ReasonMethodNotAllowed:
		r.Allow = "GET, HEAD, POST"
	case ReasonFieldInvalid:
		r.Fields = []FieldError{{Field: "command", Messages: []string{`stop is not a command; did you mean {"command":"miner","data":{"action":"stop"}}?`}}}
	case ReasonRateLimited:
		r.Numbers = Numbers{Limit: 60, Reset: 1640995200, HasLimit: true, RetryAfter: 12}
		r.Policies = []string{"explorer", "ai"}
	case ReasonConcurrencyLimited:
		r.Numbers = Numbers{RetryAfter: 1}
		r.Policies = []string{"outcomes"}
	case ReasonAuthAttemptsLimited:
		r.Numbers = Numbers{Limit: 10, Reset: 1640995200, HasLimit: true, RetryAfter: 6}
		r.Policies = []string{"auth_failures"}
	case ReasonSecondFactorLocked:
		r.Numbers = Numbers{RetryAfter: 300}
	}
	return r
}

// wire is the answer as it goes out: status line, headers sorted, body.
func wire(d Dialect, method string, r *Refusal) []byte {
	w := httptest.NewRecorder()
	d.Write(w, method, r)
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\n", w.Code, http.StatusText(w.Code))
	var lines []string
	for name, values := range w.Header() {
		for _, v := range values {
			lines = append(lines, name+": "+v)
		}
	}
	slices.Sort(lines)
	for _, l := range lines {
		fmt.Fprintln(&b, l)
	}
	b.WriteByte('\n')
	b.Write(w.Body.Bytes())
	b.WriteByte('\n')
	return b.Bytes()
}

func TestEveryReasonInEveryDialectIsAsInItsGoldenFile(t *testing.T) {
	wanted := map[string]bool{}
	for d := range dialects {
		dir := filepath.Join("testdata", "golden", d.String())
		for _, reason := range Reasons() {
			path := filepath.Join(dir, string(reason)+".http")
			wanted[path] = true
			got := wire(d, "GET", sample(reason))
			if *update {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v (run with -update to make it)", err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s:\n got %s\nwant %s", path, got, want)
			}
		}
	}
	found, err := filepath.Glob(filepath.Join("testdata", "golden", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if !wanted[path] {
			t.Errorf("%s belongs to no reason", path)
		}
	}
}

func TestEveryRefusalHasTheHeadersOfARefusal(t *testing.T) {
	for d := range dialects {
		for _, reason := range Reasons() {
			w := httptest.NewRecorder()
			w.Header().Set("X-Request-Id", "set earlier")
			w.Header().Set("X-Ratelimit-Limit", "60")
			r := sample(reason)
			d.Write(w, "POST", r)
			h, name := w.Header(), d.String()+" "+string(reason)
			if w.Code != d.Status(reason) || !bytes.Equal(w.Body.Bytes(), d.Body(r)) || w.Body.Len() == 0 {
				t.Errorf("%s: status %d, body %s", name, w.Code, w.Body)
			}
			for header, want := range map[string]string{
				"Content-Type": d.ContentType(), "Cache-Control": "no-store", "X-Hivegate-Reason": string(reason),
				"Content-Length": strconv.Itoa(w.Body.Len()), "X-Request-Id": "set earlier", "X-Ratelimit-Limit": "60",
			} {
				if got := h.Values(header); len(got) != 1 || got[0] != want {
					t.Errorf("%s: %s is %q, want %q", name, header, got, want)
				}
			}
			if !strings.HasSuffix(d.ContentType(), "; charset=utf-8") {
				t.Errorf("%s: no charset", name)
			}
			for header, want := range map[string]bool{
				"Www-Authenticate": w.Code == 401 || reason == ReasonInsufficientScope,
				"Retry-After":      w.Code == 429 || w.Code == 503,
				"Allow":            w.Code == 405,
			} {
				if got := len(h.Values(header)); (got == 1) != want {
					t.Errorf("%s: %d times %s", name, got, header)
				}
			}
			if after := h.Get("Retry-After"); after != "" {
				if n, err := strconv.Atoi(after); err != nil || n != max(1, r.Numbers.RetryAfter) {
					t.Errorf("%s: Retry-After %q", name, after)
				}
			}
		}
	}
}

func TestHeadHasTheHeadersButNoBody(t *testing.T) {
	for d := range dialects {
		for _, reason := range Reasons() {
			get, head := string(wire(d, "GET", sample(reason))), string(wire(d, "HEAD", sample(reason)))
			headers, body, _ := strings.Cut(get, "\n\n")
			if want := headers + "\n\n\n"; head != want || body == "\n" {
				t.Errorf("%s %s: HEAD is %q", d, reason, head)
			}
		}
	}
}

func TestRetryAfterIsNeverBelowOneAndTheBodyAgrees(t *testing.T) {
	for _, n := range []int{-5, 0, 1, 86400} {
		r := &Refusal{Reason: ReasonRateLimited, Numbers: Numbers{RetryAfter: n}}
		w := httptest.NewRecorder()
		HiveProtocol.Write(w, "GET", r)
		want := strconv.Itoa(max(1, n))
		if w.Header().Get("Retry-After") != want || !strings.HasSuffix(w.Body.String(), `"retry_after":`+want+"}") {
			t.Errorf("%d: %q, %s", n, w.Header().Get("Retry-After"), w.Body)
		}
	}
}

func TestChallenges(t *testing.T) {
	const realm = `Bearer realm="api.example.com"`
	for _, c := range []struct {
		name string
		r    Refusal
		want string
	}{
		{"no credential: realm alone", Refusal{Reason: ReasonMissingCredentials, Hint: "x"}, realm},
		{"login headers", Refusal{Reason: ReasonMissingCredentials, Credential: true, Hint: "send login data in the POST body, or use only the token"},
			realm + `, error="invalid_request", error_description="send login data in the POST body, or use only the token"`},
		{"bare token", Refusal{Reason: ReasonMalformedAuthorization, Hint: "Authorization must be 'Bearer <token>'; the token was sent without the scheme"},
			realm + `, error="invalid_request", error_description="Authorization must be 'Bearer <token>'; the token was sent without the scheme"`},
		{"key, nothing but the reason", Refusal{Reason: ReasonAPIKeyRevoked},
			realm + `, error="invalid_token", error_description="the API key was revoked for good; create a new one"`},
		{"second factor", Refusal{Reason: ReasonSecondFactorRequired},
			realm + `, error="insufficient_user_authentication", error_description="this request needs the current six-digit code in the X-Security-Code header"`},
		{"scope", Refusal{Reason: ReasonInsufficientScope, Required: []string{"crews:write", "crews:run"}},
			realm + `, error="insufficient_scope", error_description="this request requires the scope crews:write", scope="crews:write crews:run"`},
		{"docs", Refusal{Reason: ReasonTokenExpired, Hint: "refresh it", DocsURL: "https://docs.example/errors"},
			realm + `, error="invalid_token", error_description="refresh it; see https://docs.example/errors#token_expired"`},
	} {
		c.r.Realm = "api.example.com"
		w := httptest.NewRecorder()
		HornetHive.Write(w, "GET", &c.r)
		if got := w.Header().Get("WWW-Authenticate"); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestHiveOSSecondFactorIsA403WithoutChallenge(t *testing.T) {
	for _, reason := range []Reason{ReasonSecondFactorRequired, ReasonSecondFactorInvalid} {
		w := httptest.NewRecorder()
		HiveOS.Write(w, "DELETE", sample(reason))
		if w.Code != 403 || len(w.Header().Values("WWW-Authenticate")) != 0 {
			t.Errorf("%s: %d %v", reason, w.Code, w.Header())
		}
	}
}

// FuzzChallenge: whatever the texts, the header stays one line of printable ASCII
// whose quoted strings close where they should.
func FuzzChallenge(f *testing.F) {
	f.Add("realm", "hint", "a:b", "https://x.example")
	f.Add(`a"b\`, `", error="invalid_token`, "a\r\nSet-Cookie: x", "é\x00\"")
	f.Fuzz(func(t *testing.T, realm, hint, scope, docs string) {
		for _, reason := range []Reason{ReasonTokenInvalid, ReasonInsufficientScope} {
			r := &Refusal{Reason: reason, Realm: realm, Hint: hint, Required: []string{scope, scope}, DocsURL: docs}
			rest := string(appendChallenge(nil, &table[reason.place()], r))
			names := []string{"Bearer realm", ", error", ", error_description"}
			if reason == ReasonInsufficientScope {
				names = append(names, ", scope")
			}
			for _, name := range names {
				var ok bool
				if rest, ok = strings.CutPrefix(rest, name+`="`); !ok {
					t.Fatalf("%s is not where it should be in %q", name, rest)
				}
				end := 0
				for end < len(rest) && rest[end] != '"' {
					if rest[end] < ' ' || rest[end] > '~' {
						t.Fatalf("byte %#x in %s", rest[end], name)
					}
					if rest[end] == '\\' {
						if name != "Bearer realm" {
							t.Fatalf("a backslash in %s", name)
						}
						end++
					}
					end++
				}
				if end >= len(rest) {
					t.Fatalf("%s is not closed", name)
				}
				rest = rest[end+1:]
			}
			if rest != "" {
				t.Fatalf("left over: %q", rest)
			}
		}
	})
}

// Later handlers may rewrite values in place: no answer may see another's.
func TestAnswersShareNoHeaderValues(t *testing.T) {
	first := httptest.NewRecorder()
	HiveOS.Write(first, "GET", sample(ReasonTokenExpired))
	for _, values := range first.Header() {
		for i := range values {
			values[i] = "rewritten"
		}
		_ = append(values, "appended")
	}
	second := wire(HiveOS, "GET", sample(ReasonTokenExpired))
	if bytes.Contains(second, []byte("rewritten")) || bytes.Contains(second, []byte("appended")) {
		t.Errorf("shared values: %s", second)
	}
	for name, values := range first.Header() {
		if len(values) != 1 || values[0] != "rewritten" {
			t.Errorf("%s: appending to one header changed another: %q", name, values)
		}
	}
}
