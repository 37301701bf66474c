package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the driver that damages and reads raw databases
)

// damageDocs makes every sealed document unreadable, as a bad disk would.
func (g *gate) damageDocs(t testing.TB) {
	t.Helper()
	db, err := sql.Open("sqlite", g.database()+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(context.Background(), `UPDATE docs SET data = x'00'`); err != nil {
		t.Fatal(err)
	}
}

// The master keys of these tests. They are in the book: no output may hold them.
const (
	masterOne   = "1111111111111111111111111111111111111111111111111111111111111a1b"
	masterTwo   = "2222222222222222222222222222222222222222222222222222222222222a2b"
	masterThree = "3333333333333333333333333333333333333333333333333333333333333a3b"
)

// sealing is a gate with a master key, a factor and signing secrets.
func sealing(master string) config {
	return config{
		env:    []string{"MASTER_ONE=" + masterOne, "MASTER_TWO=" + masterTwo, "MASTER_THREE=" + masterThree},
		global: cheap + "master_key " + master + "\n",
		gate:   "routes {\nPOST /guarded farms:read 2fa\nPOST /signed farms:read signed\nGET /plain farms:read\n}",
	}
}

func TestFactorACopyOfTheDatabaseRevealsNoSecret(t *testing.T) {
	g := start(t, sealing("{env.MASTER_ONE}"))
	k := g.createOwned(t, "acme", "farms:read")
	f := g.enroll(t, "--owner", "acme")
	secrets := map[string]string{
		"the TOTP secret":      f.secret,
		"the API key":          k.Key,
		"the key's signing":    g.signingSecret(t, "apikey", "signing-secret", k.ID, "--rotate"),
		"the owner's signing":  g.signingSecret(t, "signing-secret", "rotate", "--owner", "acme"),
		"the master key":       masterOne,
		"a recovery code":      f.recovery[0],
		"another one":          f.recovery[7],
		"one without its dash": strings.ReplaceAll(f.recovery[3], "-", ""),
	}
	// The log of writes holds what the main file does not yet.
	files := 0
	for _, name := range []string{"", "-wal", "-shm"} {
		raw, err := os.ReadFile(g.database() + name)
		if err != nil {
			t.Fatal(err)
		}
		files += len(raw)
		if name == "" && !bytes.Contains(raw, []byte("SQLite format 3")) {
			t.Fatal("that is no database")
		}
		for what, secret := range secrets {
			for form, text := range secretForms(secret) {
				if bytes.Contains(raw, text) {
					t.Errorf("keys.db%s holds %s as %s", name, what, form)
				}
			}
		}
	}
	raw, err := os.ReadFile(g.database() + "-wal")
	if err != nil || !bytes.Contains(raw, []byte("owner:acme")) {
		t.Errorf("the log of writes does not even name the owner: %v: nothing was searched", err)
	}
	t.Logf("searched %d bytes of database for %d secrets in %d forms", files, len(secrets), len(secretForms(f.secret)))
	g.stop(t)

	// The copy with another key, or with none, opens nothing.
	for what, c := range map[string]struct{ master, want string }{
		"another key": {"master_key {env.MASTER_TWO}", "sealed under another master_key"},
		"no key":      {"", "is missing"},
	} {
		other := sealing("")
		other.global = cheap + c.master
		stolen := prepare(t, other)
		if err := os.MkdirAll(filepath.Dir(stolen.database()), 0o700); err != nil {
			t.Fatal(err)
		}
		copyFile(t, g.database(), stolen.database())
		for _, args := range [][]string{
			{"totp", "status", "--owner", "acme"}, {"signing-secret", "show", "--owner", "acme"}, {"reseal"},
			{"run", "--config", stolen.caddyfile()},
		} {
			got := stolen.hivegate(t, args...)
			if got.code != 1 || !strings.Contains(got.stderr, c.want) || got.stdout != "" {
				t.Errorf("%s: %v ended with %d, %q, want 1 and %q", what, args, got.code, got.stderr, c.want)
			}
		}
	}
}

// secretForms are the forms in which a secret could lie somewhere.
func secretForms(secret string) map[string][]byte {
	out := map[string][]byte{
		"text":       []byte(secret),
		"lower case": []byte(strings.ToLower(secret)),
		"upper case": []byte(strings.ToUpper(secret)),
		"hex":        []byte(hex.EncodeToString([]byte(secret))),
		// Without the ends, which depend on what stands around it.
		"base64":     []byte(base64.RawStdEncoding.EncodeToString([]byte(secret)))[:len(secret)],
		"url base64": []byte(base64.RawURLEncoding.EncodeToString([]byte(secret)))[:len(secret)],
		"first half": []byte(secret[:len(secret)/2]),
		"last half":  []byte(secret[len(secret)/2:]),
	}
	if raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(secret)); err == nil {
		out["bytes of its base32"] = raw
	}
	if raw, err := hex.DecodeString(secret); err == nil {
		out["bytes of its hex"] = raw
	}
	return out
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFactorMasterKeyRotation(t *testing.T) {
	for _, m := range []string{masterOne, masterTwo, masterThree} {
		book.add("a master key", m)
	}
	g := start(t, sealing("{env.MASTER_ONE}"))
	k := g.createOwned(t, "acme", "farms:read")
	f := g.enroll(t, "--owner", "acme")
	own := g.signingSecret(t, "apikey", "signing-secret", k.ID, "--rotate")
	owner := g.signingSecret(t, "signing-secret", "rotate", "--owner", "acme")
	next := 0
	works := func(when string) {
		t.Helper()
		for what, a := range map[string]*answer{
			"the key":            g.get(t, "/plain", key(k.Key)),
			"the factor":         g.do(t, "POST", "/guarded", key(k.Key), withCode(f.recovery[next])),
			"the key's secret":   g.do(t, "POST", "/signed", key(k.Key), content(jsonType, "{}"), signature(sign(own, "{}"))),
			"the owner's secret": g.do(t, "POST", "/signed", key(k.Key), content(jsonType, "{}"), signature(sign(owner, "{}"))),
		} {
			if got := outcomeOf(a, nil); got != "passed" {
				t.Errorf("%s: %s: %s", when, what, got)
			}
		}
		next++
	}
	works("before")
	hashes := g.metric(t, "hivegate_hash_total")

	if err := g.reload(t, sealing("{env.MASTER_TWO} {env.MASTER_ONE}")); err != nil {
		t.Fatal(err)
	}
	works("with NEW and OLD")
	c := g.hivegate(t, "reseal", "--json").ok(t)
	if want := `{"data_key":true,"second_factors":1,"signing_secrets":2}`; strings.TrimSpace(c.stdout) != want {
		t.Errorf("reseal printed %s, want %s", c.stdout, want)
	}
	works("resealed")
	c = g.hivegate(t, "reseal", "--json").ok(t)
	if want := `{"data_key":false,"second_factors":0,"signing_secrets":0}`; strings.TrimSpace(c.stdout) != want {
		t.Errorf("reseal again printed %s, want %s", c.stdout, want)
	}
	if err := g.reload(t, sealing("{env.MASTER_TWO}")); err != nil {
		t.Fatalf("OLD cannot go: %v", err)
	}
	works("without OLD")
	g.write(t, sealing("{env.MASTER_ONE}"))
	if c := g.hivegate(t, "totp", "status", "--owner", "acme"); c.code != 1 || !strings.Contains(c.stderr, "sealed under another master_key") {
		t.Errorf("with OLD alone: exit code %d, %s", c.code, c.stderr)
	}
	g.write(t, sealing("{env.MASTER_TWO}"))
	g.stop(t)
	g.run(t)
	works("after a restart")
	if n := g.metric(t, "hivegate_hash_total"); n > 0 || hashes > 0 {
		t.Errorf("%v and %v hashes were computed: the data key changed", hashes, n)
	}
	// What is made now is under NEW alone.
	late := g.enroll(t, "--key", g.createScoped(t, "farms:read").ID)
	if late.secret == "" {
		t.Error("nothing was enrolled")
	}
	c = g.hivegate(t, "reseal", "--json").ok(t)
	if !strings.Contains(c.stdout, `"data_key":false,"second_factors":0`) {
		t.Errorf("reseal printed %s", c.stdout)
	}
}

func TestFactorsAndSignaturesWithoutAMasterKeyAreALoadError(t *testing.T) {
	for what, c := range map[string]struct{ gate, wrong string }{
		"2fa":                       {"routes {\nPOST /a farms:read 2fa\n}", "2fa"},
		"2fa of a rule":             {"routes {\nPOST /a farms:read {\njson command exec require 2fa\n}\n}", "POST /a"},
		"signed":                    {"routes {\nPOST /a farms:read signed\n}", "signed"},
		"signed, codes not checked": {"second_factor present\nroutes {\nPOST /a farms:read signed\n}", "signed"},
		"signed of a rule":          {"routes {\nPOST /a farms:read {\njson command exec require signed\n}\n}", "POST /a"},
		"codes not checked":         {"second_factor present\nroutes {\nPOST /a farms:read 2fa\n}", ""},
		"rules alone":               {"routes {\nPOST /a farms:read {\njson command oneof exec\n}\n}", ""},
	} {
		t.Run(what, func(t *testing.T) {
			g := prepare(t, config{global: cheap + "master_key none\n", gate: c.gate})
			got := g.hivegate(t, "validate", "--config", g.caddyfile())
			switch {
			case c.wrong == "" && got.code != 0:
				t.Errorf("validate ended with %d: %s", got.code, got.stderr)
			case c.wrong == "":
			case got.code != 1 || !strings.Contains(got.stderr, "master_key none") || !strings.Contains(got.stderr, "Caddyfile:"):
				t.Errorf("validate ended with %d: %s", got.code, got.stderr)
			}
		})
	}
	g := prepare(t, config{global: cheap + "master_key none\n", gate: "routes {\nGET /a farms:read\n}"})
	g.createOwned(t, "acme", "farms:read")
	for _, args := range [][]string{{"totp", "enroll"}, {"totp", "status"}, {"totp", "confirm", "--code", "123456"}, {"totp", "remove"}, {"signing-secret", "rotate"}, {"signing-secret", "show"}} {
		got := g.hivegate(t, append(args, "--owner", "acme")...)
		if got.code != 1 || !strings.Contains(got.stderr, "master_key none") {
			t.Errorf("%v ended with %d: %s", args, got.code, got.stderr)
		}
	}
	if got := g.hivegate(t, "reseal"); got.code != 1 || !strings.Contains(got.stderr, "master_key none") {
		t.Errorf("reseal ended with %d: %s", got.code, got.stderr)
	}
}
