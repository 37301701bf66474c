package e2e

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// factor is a confirmed second factor, as `totp enroll` printed it.
type factor struct {
	secret   string // base32
	recovery []string
	step     int64 // the one that confirm used up
}

// enrolled is what `totp enroll --json` prints.
type enrolled struct {
	Owner     string   `json:"owner"`
	Secret    string   `json:"secret"`
	URI       string   `json:"otpauth_uri"`
	Recovery  []string `json:"recovery_codes"`
	Confirmed bool     `json:"confirmed"`
}

// enrollOnly makes a second factor that is not confirmed. Its secrets are in
// the book from then on.
func (g *gate) enrollOnly(t testing.TB, who ...string) enrolled {
	t.Helper()
	var e enrolled
	printed := g.hivegate(t, append([]string{"totp", "enroll", "--json"}, who...)...).ok(t)
	if err := json.Unmarshal([]byte(printed.stdout), &e); err != nil {
		t.Fatalf("totp enroll: %v", err)
	}
	book.add("the second factor of "+e.Owner, e.Secret)
	for _, code := range e.Recovery {
		book.add("a recovery code of "+e.Owner, code)
	}
	return e
}

// enroll makes and confirms a second factor. Whoever is meant is named as in
// the command: "--owner", "acme".
func (g *gate) enroll(t testing.TB, who ...string) *factor {
	t.Helper()
	e := g.enrollOnly(t, who...)
	f := &factor{secret: e.Secret, recovery: e.Recovery, step: time.Now().Unix() / 30}
	g.hivegate(t, append([]string{"totp", "confirm", "--code", codeOf(t, f.secret, f.step)}, who...)...).ok(t)
	return f
}

// next is a code that is good now and was not used: that of the step after the
// confirmed one. It passes for 30 to 90 seconds from the confirmation.
func (f *factor) next(t testing.TB) string { return codeOf(t, f.secret, f.step+1) }

// wrong are n codes of exact shape that are wrong in this quarter of an hour.
func (f *factor) wrong(t testing.TB, n int) []string {
	t.Helper()
	right := map[string]bool{}
	for step := f.step - 30; step <= f.step+30; step++ {
		right[codeOf(t, f.secret, step)] = true
	}
	var out []string
	for i := 0; len(out) < n; i++ {
		if code := fmt.Sprintf("%06d", i*7919%1_000_000); !right[code] {
			out = append(out, code)
		}
	}
	return out
}

// codeOf is the code of a step, by RFC 6238 (SHA-1, six digits), written here
// again so that the gate is not measured with its own rule.
func codeOf(t testing.TB, secret string, step int64) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatalf("the secret is no base32: %v", err)
	}
	mac := hmac.New(sha1.New, key)
	_ = binary.Write(mac, binary.BigEndian, step)
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}

// foreignCode makes codes with oathtool, a client that shares no code with the
// gate. Where it is not installed it says so and uses the generator above.
func foreignCode(t *testing.T) func(secret string, step int64) string {
	t.Helper()
	if !foreignProgram(t, "oathtool") {
		return func(secret string, step int64) string { return codeOf(t, secret, step) }
	}
	return func(secret string, step int64) string {
		out, err := exec.Command("oathtool", "--totp", "--base32", "--now", fmt.Sprintf("@%d", step*30), secret).Output()
		if err != nil {
			t.Fatalf("oathtool: %v", err)
		}
		return strings.TrimSpace(string(out))
	}
}

var installing sync.Mutex

// foreignProgram looks for a program; in CI, as root on Debian, it installs the
// package of that name where it is missing.
func foreignProgram(t *testing.T, name string) bool {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	if _, err := exec.LookPath(name); err == nil {
		return true
	}
	if os.Getenv("CI") == "true" && os.Getuid() == 0 {
		for _, args := range [][]string{{"update", "-q"}, {"install", "-y", "-q", "--no-install-recommends", name}} {
			cmd := exec.Command("apt-get", args...)
			cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("apt-get %v: %v\n%s", args, err, out)
			}
		}
		return true
	}
	t.Logf("%s is not installed (apt-get install %s): a built-in generator stands in for it", name, name)
	return false
}

// withCode sends a security code.
func withCode(c string) change { return header("X-Security-Code", c) }

// allAtOnce runs fn(0) to fn(n-1) at the same time and counts what they return.
func allAtOnce(n int, fn func(i int) string) map[string]int {
	got := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			s := fn(i)
			mu.Lock()
			defer mu.Unlock()
			got[s]++
		})
	}
	close(begin)
	wg.Wait()
	return got
}

// outcomeOf is an answer in one word: "passed", or the reason of the refusal.
func outcomeOf(a *answer, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case a.status == 200 && a.reason() == "":
		return "passed"
	case a.reason() == "":
		return fmt.Sprint(a.status)
	}
	return a.reason()
}

// wantCounts compares what allAtOnce counted.
func wantCounts(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	t.Logf("%s: %v", what, got)
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// factorSecret is the HMAC secret of factorIssuer.
const factorSecret = "e2e-second-factor-hmac-secret-of-64-bytes-0123456789abcdefghijkl"

// factorIssuer is an issuer whose tokens factorToken makes.
const factorIssuer = `issuer main {
	iss https://issuer.test
	hmac_secret {env.FACTOR_SECRET}
	algorithms HS256
	scopes_claim scope
	owner_claim account
}
`

// factorToken makes a token of the issuer "main" with further claims.
func factorToken(t testing.TB, claims map[string]any) string {
	t.Helper()
	all := jwt.MapClaims{"iss": "https://issuer.test", "exp": time.Now().Add(time.Hour).Unix(), "scope": "farms:read"}
	maps.Copy(all, claims)
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, all).SignedString([]byte(factorSecret))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// challengeHint is the error_description of a refusal.
func (a *answer) challengeHint() string {
	_, rest, _ := strings.Cut(a.header.Get("Www-Authenticate"), `error_description="`)
	out, _, _ := strings.Cut(rest, `"`)
	return out
}

// secondNode starts a second gate process on the keystore of the first.
func secondNode(t testing.TB, g *gate, c config) *gate {
	t.Helper()
	c.global += "\nkeystore sqlite " + g.database() + "\n"
	return start(t, c)
}

// createOwned is createScoped for an owner.
func (g *gate) createOwned(t testing.TB, owner string, scopes ...string) created {
	t.Helper()
	args := []string{"--owner", owner}
	for _, s := range scopes {
		args = append(args, "--scope", s)
	}
	return g.create(t, args...)
}

// hangUp closes the connections that nobody uses: of many that were opened at
// once, some never carried a request, and a gate that ends waits for those.
func (g *gate) hangUp() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.clients {
		c.CloseIdleConnections()
	}
}
