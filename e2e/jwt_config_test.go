package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// issuerOf is an issuer block that is right but for what stands in it besides.
func issuerOf(lines ...string) string {
	return "issuer x {\n\t\t\t" + strings.Join(lines, "\n\t\t\t") + "\n\t\t}\n"
}

const (
	okIss  = "iss https://x.example"
	okKeys = "jwks https://x.example/jwks.json"
	okAlg  = "algorithms ES256"
)

func TestMistakesInIssuersAreFoundAtAdaptWithFileAndLine(t *testing.T) {
	t.Parallel()
	g := start(t, config{gate: farmRoutes})
	right := issuerOf(okIss, okKeys, okAlg)
	for name, c := range map[string]struct {
		mistake
		names string
	}{
		"no name":                   {mistake{global: "issuer {\n\t\t\t" + okIss + "\n\t\t}", at: "issuer"}, "issuer NAME"},
		"bad name":                  {mistake{global: strings.Replace(right, "issuer x", "issuer x:y", 1), at: "issuer"}, "x:y"},
		"misspelt option":           {mistake{global: issuerOf(okIss, okKeys, "algoritms ES256"), at: "algoritms"}, "algorithms"},
		"no iss":                    {mistake{global: issuerOf(okKeys, okAlg), at: "issuer"}, "allow_missing_iss"},
		"no algorithms":             {mistake{global: issuerOf(okIss, okKeys), at: "issuer"}, "algorithms is missing"},
		"algorithm none":            {mistake{global: issuerOf(okIss, okKeys, "algorithms ES256 none"), at: "issuer"}, "never allowed"},
		"unknown algorithm":         {mistake{global: issuerOf(okIss, okKeys, "algorithms ES257"), at: "issuer"}, "ES257"},
		"algorithms twice":          {mistake{global: issuerOf(okIss, okKeys, okAlg, "algorithms RS256"), at: "algorithms RS256"}, "twice"},
		"HS256 without secret":      {mistake{global: issuerOf(okIss, okKeys, "algorithms ES256 HS256"), at: "issuer"}, "hmac_secret"},
		"secret without HS256":      {mistake{global: issuerOf(okIss, okKeys, okAlg, "hmac_secret {env.X}"), at: "issuer"}, "HS256"},
		"ES256 without keys":        {mistake{global: issuerOf(okIss, okAlg), at: "issuer"}, "jwks"},
		"jwks over ftp":             {mistake{global: issuerOf(okIss, okAlg, "jwks ftp://x.example/k"), at: "issuer"}, "ftp"},
		"jwks with a password":      {mistake{global: issuerOf(okIss, okAlg, "jwks https://u:p4ssw0rd@x.example/k"), at: "issuer"}, "user name or password"},
		"public_key a URL":          {mistake{global: issuerOf(okIss, okAlg, "public_key https://x.example/k.pem"), at: "issuer"}, "PEM"},
		"leeway without a unit":     {mistake{global: issuerOf(okIss, okKeys, okAlg, "leeway 30"), at: "leeway"}, "30s"},
		"leeway of an hour":         {mistake{global: issuerOf(okIss, okKeys, okAlg, "leeway 1h"), at: "issuer"}, "leeway"},
		"role twice":                {mistake{global: issuerOf(okIss, okKeys, okAlg, "role_claim role", "role a a:read", "role a b:read"), at: "role a b:read"}, "twice"},
		"role without scope":        {mistake{global: issuerOf(okIss, okKeys, okAlg, "role_claim role", "role a"), at: "role a"}, "SCOPE"},
		"role with a bad scope":     {mistake{global: issuerOf(okIss, okKeys, okAlg, "role_claim role", "role a Bad"), at: "issuer"}, "Bad"},
		"role with unknown scope":   {mistake{global: "scopes a:read\n\t\t" + issuerOf(okIss, okKeys, okAlg, "role_claim role", "role a a:reed"), at: "role a a:reed"}, "a:reed"},
		"role without role_claim":   {mistake{global: issuerOf(okIss, okKeys, okAlg, "role a a:read"), at: "issuer"}, "role_claim"},
		"rights of user_metadata":   {mistake{global: issuerOf(okIss, okKeys, okAlg, "role_claim user_metadata.role"), at: "issuer"}, "app_metadata"},
		"unknown plan":              {mistake{global: issuerOf(okIss, okKeys, okAlg, "plan nowhere"), at: "plan nowhere"}, "nowhere"},
		"static key too short":      {mistake{global: issuerOf(okIss, okKeys, okAlg, "role_claim role", "role a a:read", "static_key abc role a"), at: "issuer"}, "static_key"},
		"static key of no role":     {mistake{global: issuerOf(okIss, okKeys, okAlg, "static_key {env.X} role a"), at: "issuer"}, "no role line"},
		"static key, wrong form":    {mistake{global: issuerOf(okIss, okKeys, okAlg, "static_key {env.X} a"), at: "static_key"}, "role ROLE"},
		"the same name twice":       {mistake{global: right + strings.Replace(right, "issuer x {", "issuer x { # again", 1), at: "issuer x { # again"}, "twice"},
		"accept of an unknown one":  {mistake{global: right, gate: "accept issuer y", at: "accept issuer"}, "unknown issuer"},
		"accept without a name":     {mistake{global: right, gate: "accept issuer", at: "accept issuer"}, "NAME"},
		"cookie pattern":            {mistake{global: right, gate: "credentials {\n\t\t\tcookie *\n\t\t}", at: "cookie *"}, "cookie"},
		"Authorization as a header": {mistake{global: right, gate: "credentials {\n\t\t\theader Authorization\n\t\t}", at: "header Authorization"}, "bearer"},
		"header twice":              {mistake{global: right, gate: "credentials {\n\t\t\theader apikey\n\t\t\theader ApiKey required\n\t\t}", at: "header ApiKey"}, "twice"},
		"header optional":           {mistake{global: right, gate: "credentials {\n\t\t\theader apikey optional\n\t\t}", at: "header apikey"}, "required"},
		"no source":                 {mistake{global: right, gate: "credentials {\n\t\t}", at: "credentials"}, "bearer"},
		"aud without a value":       {mistake{global: issuerOf(okIss, okKeys, okAlg, "aud"), at: "aud"}, "aud VALUE"},
	} {
		text := c.text()
		at := strings.Index(text, c.at)
		if at < 0 {
			t.Fatalf("%s: %q is not in the Caddyfile", name, c.at)
		}
		said := g.post(t, "/adapt", text)
		where := fmt.Sprintf("Caddyfile:%d", strings.Count(text[:at], "\n")+1)
		if !strings.Contains(said, where) || !strings.Contains(said, c.names) {
			t.Errorf("%s: want an error at %s that names %q:\n%s", name, where, c.names, said)
		}
		if strings.Contains(said, "p4ssw0rd") {
			t.Errorf("%s: a password of the configuration is in the message", name)
		}
	}
	// The command says the same.
	bad := prepare(t, config{global: issuerOf(okIss, okKeys, "algorithms none"), gate: farmRoutes})
	if out := bad.hivegate(t, "adapt", "--config", bad.caddyfile()); out.code == 0 || !strings.Contains(out.stderr, "Caddyfile:8") || !strings.Contains(out.stderr, "never allowed") {
		t.Errorf("adapt: exit code %d\n%s", out.code, out.stderr)
	}
}

// post sends a Caddyfile to the admin endpoint and returns what is wrong with
// it; the test fails when nothing is.
func (g *gate) post(t testing.TB, path, caddyfile string) string {
	t.Helper()
	a, err := g.atAdmin(http.MethodPost, path, "text/caddyfile", caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ Error string }
	if err := json.Unmarshal(a.body, &said); a.status == http.StatusOK || err != nil {
		t.Errorf("%d, want an error for\n%s", a.status, caddyfile)
	}
	mustHoldNoSecret(t, "answer of "+path, said.Error)
	return said.Error
}

// Placeholders stay as they are until the configuration is loaded; then each
// must have a value.
func TestMissingValuesOfIssuersFailValidateAndNameTheOption(t *testing.T) {
	t.Parallel()
	g := start(t, config{gate: farmRoutes})
	for option, lines := range map[string][]string{
		"iss":         {"iss {env.JWT_E2E_MISSING}/auth/v1", okKeys, okAlg},
		"jwks":        {okIss, "jwks {env.JWT_E2E_MISSING}/jwks.json", okAlg},
		"hmac_secret": {okIss, "hmac_secret {env.JWT_E2E_MISSING}", "algorithms HS256"},
		"public_key":  {okIss, "public_key {env.JWT_E2E_MISSING}", okAlg},
		"static_key":  {okIss, okKeys, okAlg, "role_claim role", "role a a:read", "static_key {env.JWT_E2E_MISSING} role a"},
	} {
		said := g.post(t, "/load", g.fill(config{global: issuerOf(lines...), gate: farmRoutes}.render()))
		if !strings.Contains(said, option) || !strings.Contains(said, "JWT_E2E_MISSING") {
			t.Errorf("a missing value for %s: %s", option, said)
		}
	}
	bad := prepare(t, config{global: issuerOf(okIss, "hmac_secret {env.JWT_E2E_MISSING}", "algorithms HS256"), gate: farmRoutes})
	if out := bad.hivegate(t, "adapt", "--config", bad.caddyfile()); out.code != 0 || !strings.Contains(out.stdout, "{env.JWT_E2E_MISSING}") {
		t.Errorf("adapt keeps placeholders as they are; exit code %d\n%s", out.code, out.stderr)
	}
	if out := bad.hivegate(t, "validate", "--config", bad.caddyfile()); out.code == 0 || !strings.Contains(out.stderr, "hmac_secret") || !strings.Contains(out.stderr, "JWT_E2E_MISSING") {
		t.Errorf("validate: exit code %d\n%s", out.code, out.stderr)
	}
}

// validate opens nothing, so an issuer that is away does not hinder it, and it
// reads no key file; run does.
func TestValidateFetchesNothingAndRunRefusesUnusableKeys(t *testing.T) {
	t.Parallel()
	keys := newKeyServer(t, jwkSet(es256("k").jwk(nil)))
	g := prepare(t, remoteMain(keys.url, farmRoutes))
	g.hivegate(t, "validate", "--config", g.caddyfile()).ok(t)
	if n := keys.fetches.Load(); n != 0 {
		t.Errorf("validate fetched the keys %d times", n)
	}
	weakPEM, err := os.ReadFile("testdata/jwt/rsa1024.pem")
	if err != nil {
		t.Fatal(err)
	}
	k := tokenKeys()
	weak, es := weakKey(t), k["ES256"]
	running := start(t, config{gate: farmRoutes})
	private := es.jwk(map[string]any{"d": b64u(make([]byte, 32))})
	for name, c := range map[string]struct {
		option, text, names string
	}{
		"RSA of 1024 bits, PEM":     {"public_key", string(weakPEM), "1024"},
		"RSA of 1024 bits, JWKS":    {"jwks", jwkSet(weak), "1024"},
		"a private key, JWKS":       {"jwks", jwkSet(private), "private key"},
		"a private key, PEM":        {"public_key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "public half"},
		"a symmetric key":           {"jwks", jwkSet(map[string]any{"kty": "oct", "k": b64u([]byte(hmacSecret))}), "symmetric"},
		"a point off its curve":     {"jwks", jwkSet(es.jwk(map[string]any{"x": es.jwk(nil)["y"]})), "curve"},
		"an encryption key":         {"jwks", jwkSet(es.jwk(map[string]any{"use": "enc"})), "use"},
		"key_ops without verify":    {"jwks", jwkSet(es.jwk(map[string]any{"key_ops": []string{"sign"}})), "key_ops"},
		"a key for no algorithm":    {"jwks", jwkSet(k["EdDSA"].jwk(nil)), "algorithms"},
		"not a key set":             {"jwks", "{}", "keys"},
		"keys twice":                {"jwks", `{"keys":[],"keys":[]}`, "twice"},
		"PEM without a public key":  {"public_key", "hello", "PEM"},
		"a file that is not there":  {"jwks", "", "no such file"},
		"PEM with something behind": {"public_key", k["RS256"].pemOf() + "secret-looking-text", "follows"},
	} {
		file := filepath.Join(running.dir, strings.ReplaceAll(name, " ", "-"))
		if c.text != "" {
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg := config{global: issuerOf(okIss, c.option+" "+file, "algorithms ES256 RS256"), gate: farmRoutes}
		said := running.post(t, "/load", running.fill(cfg.render()))
		if !strings.Contains(said, c.names) || !strings.Contains(said, file) {
			t.Errorf("%s: want an error that names %q and the file:\n%s", name, c.names, said)
		}
		if strings.Contains(said, "secret-looking-text") {
			t.Errorf("%s: the message holds what stands in the file", name)
		}
	}
	running.get(t, "/healthz").passed(t) // the old configuration goes on

	g = prepare(t, config{global: issuerOf(okIss, "public_key DIR/weak.pem", "algorithms RS256"), gate: farmRoutes, files: map[string]string{"weak.pem": string(weakPEM)}})
	g.hivegate(t, "validate", "--config", g.caddyfile()).ok(t)
	out := g.hivegate(t, "run", "--config", g.caddyfile())
	if out.code == 0 || !strings.Contains(out.stderr, "this one has 1024") || !strings.Contains(out.stderr, "weak.pem") {
		t.Errorf("run: exit code %d\n%s", out.code, out.stderr)
	}
}

// What is legal but unwise is said once per load.
func TestUnwiseIssuersAreWarnedAbout(t *testing.T) {
	g := prepare(t, config{global: issuerOf("iss x", "jwks http://issuer.example/jwks.json", "hmac_secret in-clear-text", "algorithms ES256 HS256"), gate: farmRoutes})
	out := g.hivegate(t, "validate", "--config", g.caddyfile()).ok(t)
	for _, want := range []string{"plain http", "shorter than 32 bytes", "no aud", "clear text"} {
		if !strings.Contains(out.stderr, want) {
			t.Errorf("no warning of %q:\n%s", want, out.stderr)
		}
	}
	if strings.Contains(out.stderr, "in-clear-text") {
		t.Error("the secret is in the log")
	}
}
