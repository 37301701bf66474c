package caddymodule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/hivegate/hivegate/internal/jwtauth"
)

func TestAMissingValueIsAnErrorThatNamesTheOptionAndWhereToLook(t *testing.T) {
	t.Setenv("HIVEGATE_TEST_BLANK", " \t ")
	t.Setenv("HIVEGATE_TEST_SET", " value ")
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("of a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"{env.HIVEGATE_TEST_NONE}":          "environment",
		"x{env.HIVEGATE_TEST_NONE}":         "environment",
		"{env.HIVEGATE_TEST_BLANK}":         "blanks",
		"{file." + dir + "/none}":           "cannot be read",
		"{http.request.host}":               "no request yet",
		"a {env.HIVEGATE_TEST_SET}":         "",
		"{file." + file + "}":               "",
		"pla{in":                            "",
		"{env.HIVEGATE_TEST_BLANK}and more": "",
	} {
		got, err := expand("some option", text)
		if want == "" {
			if err != nil || got == "" || got != strings.TrimSpace(got) {
				t.Errorf("%q: %q, %v", text, got, err)
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), "some option: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want an error with %q", text, got, err, want)
		}
	}
}

func TestAnAudienceMayStandInTheEnvironment(t *testing.T) {
	a := &App{Issuers: []jwtauth.Config{{Name: "x", Iss: []string{"https://issuer.example"}, Aud: []string{"{env.HIVEGATE_TEST_AUD}"},
		HMACSecret: strings.Repeat("s", 32), Algorithms: []string{"HS256"}}}}
	if _, _, err := a.tokens(caddy.Log()); err == nil || !strings.Contains(err.Error(), "issuer x: aud: ") {
		t.Errorf("a missing audience: %v", err)
	}
	t.Setenv("HIVEGATE_TEST_AUD", "authenticated")
	b, key, err := a.tokens(caddy.Log())
	if err != nil {
		t.Fatal(err)
	}
	if b == nil || a.Issuers[0].Aud[0] != "{env.HIVEGATE_TEST_AUD}" {
		t.Errorf("expanding changed the configuration: %q", a.Issuers[0].Aud)
	}
	if _, err := tokenPool.Delete(key); err != nil {
		t.Error(err)
	}
}

func TestOnlyStaticKeysOfServersAreSecrets(t *testing.T) {
	cfg := &jwtauth.Config{ServerOnly: []string{"service_role"}, HMACSecret: "{env.SECRET}", StaticKeys: []jwtauth.StaticKey{
		{Value: "sb_publishable_0123456789", Role: "anon"}, {Value: "{env.SB_SECRET}", Role: "service_role"}}}
	if got := secretsInClear(cfg); got != nil {
		t.Errorf("none is: %q", got)
	}
	cfg.HMACSecret = "secret"
	cfg.StaticKeys[1].Value = "sb_secret_0123456789"
	if got := strings.Join(secretsInClear(cfg), ", "); got != "hmac_secret, static_key of role service_role" {
		t.Errorf("got %q", got)
	}
}
