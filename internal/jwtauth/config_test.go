package jwtauth

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestEachMistakeOfAConfigIsOneClearSentence(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no name", func(c *Config) { c.Name = "" }, "the name must be"},
		{"name with a colon", func(c *Config) { c.Name = "a:b" }, "the name must be"},
		{"name too long", func(c *Config) { c.Name = strings.Repeat("a", 65) }, "the name must be"},
		{"no iss", func(c *Config) { c.Iss = nil }, "iss is missing"},
		{"empty iss", func(c *Config) { c.Iss = []string{""} }, "iss must be a text"},
		{"empty aud", func(c *Config) { c.Aud = []string{""} }, "aud must be a text"},
		{"no algorithms", func(c *Config) { c.Algorithms = nil }, "algorithms is missing"},
		{"none", func(c *Config) { c.Algorithms = append(c.Algorithms, "none") }, "never allowed"},
		{"None", func(c *Config) { c.Algorithms = append(c.Algorithms, "None") }, "never allowed"},
		{"misspelt algorithm", func(c *Config) { c.Algorithms = append(c.Algorithms, "es256") }, `"es256" is not one of ES256`},
		{"encryption algorithm", func(c *Config) { c.Algorithms = append(c.Algorithms, "RSA-OAEP") }, "is not one of"},
		{"HS without secret", func(c *Config) { c.HMACSecret = "" }, "hmac_secret is missing"},
		{"secret without HS", func(c *Config) { c.Algorithms = []string{"ES256"} }, "allows no HS256"},
		{"ES without keys", func(c *Config) { c.JWKS = nil }, "jwks and public_key are missing"},
		{"keys without ES", func(c *Config) { c.Algorithms = []string{"HS256"} }, "allows no public-key algorithm"},
		{"jwks ftp", func(c *Config) { c.JWKS = []string{"ftp://x/y"} }, `scheme "ftp" is not supported`},
		{"jwks without host", func(c *Config) { c.JWKS = []string{"https:///y"} }, "no host"},
		{"jwks with a password", func(c *Config) { c.JWKS = []string{"https://u:p4ssw0rd@x/y"} }, "user name or password"},
		{"jwks with a fragment", func(c *Config) { c.JWKS = []string{"https://x/y#z"} }, "fragment"},
		{"jwks empty", func(c *Config) { c.JWKS = []string{""} }, "https URL or the path"},
		{"jwks unparsable", func(c *Config) { c.JWKS = []string{"https://p4ssw0rd\x7f@x"} }, "cannot be parsed"},
		{"public_key a URL", func(c *Config) { c.PublicKeys = []string{"https://x/y.pem"} }, "path of a PEM file"},
		{"leeway negative", func(c *Config) { c.Leeway = duration(-1) }, "leeway must lie"},
		{"leeway of an hour", func(c *Config) { c.Leeway = duration(time.Hour) }, "leeway must lie"},
		{"scopes from user_metadata", func(c *Config) { c.ScopesClaim = "user_metadata.scopes" }, "users can write"},
		{"role from user_metadata", func(c *Config) { c.RoleClaim = "user_metadata.role" }, "users can write"},
		{"owner from user_metadata", func(c *Config) { c.OwnerClaim = "User_Metadata.org" }, "users can write"},
		{"plan from user_metadata", func(c *Config) { c.PlanClaim = "session.user_metadata.plan" }, "users can write"},
		{"template from user_metadata", func(c *Config) { c.Roles["r"] = []string{"a:b@x={user_metadata.team}"} }, "users can write"},
		{"claim with an empty part", func(c *Config) { c.PlanClaim = "app_metadata..plan" }, "empty part"},
		{"scope in upper case", func(c *Config) { c.Roles["r"] = []string{"Crews:Read"} }, "is not a scope"},
		{"scope without action", func(c *Config) { c.Roles["r"] = []string{"crews"} }, "is not a scope"},
		{"scope that is a template", func(c *Config) { c.Roles["r"] = []string{"{role}:read"} }, "is not a scope"},
		{"narrowing without value", func(c *Config) { c.Roles["r"] = []string{"crews:read@userId"} }, "parameter=value"},
		{"narrowing with an empty value", func(c *Config) { c.Roles["r"] = []string{"crews:read@userId="} }, "narrowing value"},
		{"template with a prefix", func(c *Config) { c.Roles["r"] = []string{"crews:read@userId=x{sub}"} }, "one whole {claim}"},
		{"two templates in one value", func(c *Config) { c.Roles["r"] = []string{"crews:read@userId={a}{b}"} }, "braces"},
		{"parameter with a dash", func(c *Config) { c.Roles["r"] = []string{"crews:read@user-id=1"} }, "parameter=value"},
		{"roles without role_claim", func(c *Config) { c.RoleClaim = "" }, "role_claim is missing"},
		{"server_only without role_claim", func(c *Config) { c.RoleClaim, c.Roles, c.ServerOnly = "", nil, []string{"r"} }, "role_claim is missing"},
		{"static_key without role line", func(c *Config) { c.StaticKeys = []StaticKey{{"p4ssw0rd-key", "nobody"}} }, `"nobody", which has no role line`},
		{"static_key twice", func(c *Config) {
			c.StaticKeys = []StaticKey{{"p4ssw0rd-key", "r"}, {"p4ssw0rd-key", "r"}}
		}, "twice"},
		{"static_key too short", func(c *Config) { c.StaticKeys = []StaticKey{{"p4ss", "r"}} }, "static_key must be"},
		{"static_key with a space", func(c *Config) { c.StaticKeys = []StaticKey{{"p4ssw0rd key", "r"}} }, "static_key must be"},
		{"static_key like a JWT", func(c *Config) { c.StaticKeys = []StaticKey{{"p4ssw0rd.a.b", "r"}} }, "static_key must be"},
		{"plan with a control character", func(c *Config) { c.Plan = "a\nb" }, "plan must not"},
	} {
		cfg := Config{
			Name: "x", Iss: []string{"i"}, HMACSecret: testSecret, Algorithms: []string{"HS256", "ES256"}, JWKS: []string{"k.json"},
			RoleClaim: "role", Roles: map[string][]string{"r": {"crews:read"}},
		}
		if err := cfg.Validate(); err != nil {
			t.Fatalf("the sound one: %v", err)
		}
		tc.change(&cfg)
		err := cfg.Validate()
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
			continue
		}
		if strings.Contains(err.Error(), "p4ss") || strings.Contains(err.Error(), testSecret) {
			t.Errorf("%s: the error tells a secret: %v", tc.name, err)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one sentence: %v", tc.name, err)
		}
		if _, err := NewIssuer(cfg, Options{}); err == nil {
			t.Errorf("%s: an issuer is made of it", tc.name)
		}
	}
}

func TestWarningsTellOfWhatIsRarelyMeant(t *testing.T) {
	cfg := Config{Name: "x", Iss: []string{"i"}, Aud: []string{"a"}, HMACSecret: "short-secret", Algorithms: []string{"HS256", "ES256"}, JWKS: []string{"http://kong:8000/jwks"}}
	got := strings.Join(cfg.Warnings(), "\n")
	if !strings.Contains(got, "shorter than 32 bytes") || !strings.Contains(got, "plain http") || strings.Contains(got, "short-secret") || strings.Contains(got, "no aud") {
		t.Errorf("%s", got)
	}
	cfg = Config{Name: "x", Iss: []string{"i"}, HMACSecret: testSecret, JWKS: []string{"http://127.0.0.1:1/jwks", "http://[::1]/jwks", "http://localhost/jwks", "https://x/jwks"}}
	if w := cfg.Warnings(); len(w) != 1 || !strings.Contains(w[0], "no aud") {
		t.Errorf("%v", w)
	}
}

func TestMakingAnIssuerOpensNothing(t *testing.T) {
	cfg := Config{
		Name: "x", Iss: []string{"i"}, Algorithms: []string{"ES256"},
		JWKS: []string{"/does/not/exist.json", "http://127.0.0.1:1/jwks"}, PublicKeys: []string{"/does/not/exist.pem"},
	}
	if _, err := NewIssuer(cfg, Options{}); err != nil {
		t.Error(err)
	}
}

func TestConfigReadsItsJSON(t *testing.T) {
	var cfg Config
	err := json.Unmarshal([]byte(`{"name":"x","iss":["i"],"algorithms":["HS256"],"hmac_secret":"s","leeway":"1m30s",
		"static_keys":[{"value":"v","role":"r"}],"roles":{"r":["a:b"]},"allow_missing_iss":true}`), &cfg)
	if err != nil || cfg.leeway() != 90*time.Second || cfg.StaticKeys[0].Role != "r" || !cfg.AllowMissingIss {
		t.Errorf("%+v, %v", cfg, err)
	}
	for text, want := range map[string]time.Duration{`{}`: 30 * time.Second, `{"leeway":0}`: 0, `{"leeway":5000000000}`: 5 * time.Second} {
		var c Config
		if err := json.Unmarshal([]byte(text), &c); err != nil || c.leeway() != want {
			t.Errorf("%s: %v, %v", text, c.leeway(), err)
		}
	}
	for _, text := range []string{`{"leeway":"5"}`, `{"leeway":true}`, `{"leeway":1.5}`} {
		if err := json.Unmarshal([]byte(text), &cfg); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}
