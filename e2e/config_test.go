package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mistake is a Caddyfile with something wrong on the line that holds at.
type mistake struct {
	global, gate string
	more         string // after the global options
	at           string
}

// mistakes that users make, and what the message must name besides the line.
var mistakes = map[string]struct {
	mistake
	names string
}{
	"unknown plan":               {mistake{global: "plan a {\n\t\t\trequests 1/m\n\t\t}\n\t\tdefault_plan explorr", at: "default_plan"}, "explorr"},
	"unknown scope":              {mistake{global: "scopes farms:read", gate: "routes {\n\t\t\tGET /farms farms:reed\n\t\t}", at: "farms:reed"}, "farms:reed"},
	"conflicting patterns":       {mistake{gate: "routes {\n\t\t\tGET /a/{x}/c a:read\n\t\t\tGET /a/b/{y} a:read\n\t\t}", at: "/a/b/{y}"}, "/a/{x}/c"},
	"duplicate pattern":          {mistake{gate: "routes {\n\t\t\tGET /a/{x} a:read\n\t\t\tGET /a/{y} a:read\n\t\t}", at: "/a/{y}"}, "/a/{x}"},
	"misspelt subdirective":      {mistake{gate: "dialekt hiveos", at: "dialekt"}, "dialekt"},
	"misspelt global option":     {mistake{global: "default_plam x", at: "default_plam"}, "default_plam"},
	"rate without a unit":        {mistake{global: "class ai 60", at: "class ai"}, "60"},
	"negative burst":             {mistake{global: "class ai 60/m burst -1", at: "class ai"}, "-1"},
	"key prefix with a space":    {mistake{global: "key_format \"hive sk_\" 48", at: "key_format"}, "hive sk_"},
	"key too short":              {mistake{global: "key_format hive_sk_ 39", at: "key_format"}, "39"},
	"two default plans":          {mistake{global: "plan a {\n\t\t\trequests 1/m\n\t\t}\n\t\tdefault_plan a\n\t\tdefault_plan a # again", at: "# again"}, "default_plan"},
	"plan without a default":     {mistake{global: "plan lonely {\n\t\t\trequests 1/m\n\t\t}", at: "hivegate {"}, "default_plan"},
	"reserved parameter":         {mistake{gate: "routes {\n\t\t\tGET /files/{path} a:read\n\t\t}", at: "/files/"}, "path"},
	"reserved parameter, rest":   {mistake{gate: "routes {\n\t\t\tGET /files/{file} a:read\n\t\t}", at: "/files/"}, "file"},
	"end anchor":                 {mistake{gate: "routes {\n\t\t\tGET /a/{$} a:read\n\t\t}", at: "/a/{$}"}, "{$}"},
	"unknown class":              {mistake{gate: "routes {\n\t\t\tGET /a a:read class=nope\n\t\t}", at: "class=nope"}, "nope"},
	"unknown dialect":            {mistake{gate: "dialect hivos", at: "dialect"}, "hivos"},
	"cost above capacity":        {mistake{global: "class ai 3/m", gate: "routes {\n\t\t\tGET /a a:read class=ai cost=4\n\t\t}", at: "cost=4"}, "4"},
	"no requirement":             {mistake{gate: "routes {\n\t\t\tGET /a\n\t\t}", at: "GET /a"}, "REQUIREMENT"},
	"TRACE":                      {mistake{gate: "routes {\n\t\t\tTRACE /a public\n\t\t}", at: "TRACE"}, "TRACE"},
	"bad scope":                  {mistake{gate: "routes {\n\t\t\tGET /a Farms:Read\n\t\t}", at: "Farms:Read"}, "Farms:Read"},
	"class named like a plan":    {mistake{global: "class x 1/m\n\t\tplan x {\n\t\t\trequests 1/m\n\t\t}\n\t\tdefault_plan x", at: "plan x"}, "x"},
	"unknown forwarding":         {mistake{gate: "forward {\n\t\t\tcredentials some\n\t\t}", at: "credentials some"}, "some"},
	"unknown accepted prefix":    {mistake{gate: "accept keys hc_", at: "accept keys"}, "hc_"},
	"unknown unmatched":          {mistake{gate: "unmatched allow", at: "unmatched"}, "allow"},
	"alias of another resource":  {mistake{global: "alias agents:write crews:write", at: "alias"}, "agents"},
	"preset of unknown scope":    {mistake{global: "scopes a:read\n\t\tpreset p a:reed", at: "preset p"}, "a:reed"},
	"bcrypt cost out of bounds":  {mistake{global: "bcrypt_cost 15", at: "bcrypt_cost"}, "15"},
	"unknown word of a relation": {mistake{global: "class ai 1/m per user", at: "class ai"}, "user"},
	"never relaxed":              {mistake{gate: "allow_in_path backslash", at: "allow_in_path"}, "backslash"},
	"two global blocks":          {mistake{more: "hivegate {\n\t\tbcrypt_cost 5 # second\n\t}", at: "hivegate {\n\t\tbcrypt_cost 5 # second"}, "hivegate"},
}

func (m mistake) text() string {
	global := m.global
	if global == "" {
		global = "bcrypt_cost 4"
	}
	return fmt.Sprintf("{\n\thivegate {\n\t\t%s\n\t}\n\t%s\n}\nhttp://localhost:8080 {\n\thivegate {\n\t\t%s\n\t}\n\trespond ok\n}\n", global, m.more, m.gate)
}

func TestMistakesAreFoundAtAdaptWithFileAndLine(t *testing.T) {
	for name, c := range mistakes {
		t.Run(name, func(t *testing.T) {
			text := c.text()
			i := strings.Index(text, c.at)
			if i < 0 {
				t.Fatalf("%q is not in the Caddyfile", c.at)
			}
			g := prepare(t, config{caddyfile: text})
			out := g.hivegate(t, "adapt", "--config", g.caddyfile())
			where := fmt.Sprintf("Caddyfile:%d", strings.Count(text[:i], "\n")+1)
			if out.code == 0 || !strings.Contains(out.stderr, where) || !strings.Contains(out.stderr, c.names) {
				t.Errorf("exit code %d, want an error at %s that names %q:\n%s", out.code, where, c.names, out.stderr)
			}
			if n := strings.Count(strings.TrimSpace(lastError(out.stderr)), "\n"); n != 0 {
				t.Errorf("%d lines, want one clear line:\n%s", n+1, out.stderr)
			}
		})
	}
}

// lastError is what a command says after the log lines it may begin with.
func lastError(stderr string) string {
	if i := strings.LastIndex(stderr, "Error: "); i >= 0 {
		return stderr[i:]
	}
	return stderr
}

func TestMissingEnvironmentValuesFailValidateAndNameTheOption(t *testing.T) {
	for option, global := range map[string]string{
		"master_key": "master_key {env.HIVEGATE_E2E_MISSING}",
		"keystore":   "keystore sqlite {env.HIVEGATE_E2E_MISSING}",
	} {
		g := prepare(t, config{global: global, gate: oneRoute})
		if out := g.hivegate(t, "adapt", "--config", g.caddyfile()); out.code != 0 || !strings.Contains(out.stdout, "HIVEGATE_E2E_MISSING") {
			t.Errorf("%s: adapt keeps placeholders as they are; exit code %d\n%s", option, out.code, out.stderr)
		}
		for _, command := range []string{"validate", "run"} {
			out := g.hivegate(t, command, "--config", g.caddyfile())
			if out.code == 0 || !strings.Contains(out.stderr, option) || !strings.Contains(out.stderr, "HIVEGATE_E2E_MISSING") {
				t.Errorf("%s with a missing value for %s: exit code %d\n%s", command, option, out.code, out.stderr)
			}
		}
		g.env = append(g.env, "HIVEGATE_E2E_MISSING=")
		if out := g.hivegate(t, "validate", "--config", g.caddyfile()); out.code == 0 {
			t.Errorf("an empty value for %s is no value", option)
		}
	}
}

func TestValidateOpensNothing(t *testing.T) {
	g := prepare(t, farms)
	g.hivegate(t, "validate", "--config", g.caddyfile()).ok(t)
	var made []string
	err := filepath.WalkDir(filepath.Join(g.dir, "data"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, "hivegate") {
			made = append(made, path)
		}
		return err
	})
	if err != nil || len(made) > 0 {
		t.Errorf("validate made %v (%v)", made, err)
	}
}

func TestACaddyfileAndItsJSONFormAreTheSame(t *testing.T) {
	g := prepare(t, farms)
	json := g.hivegate(t, "adapt", "--config", g.caddyfile()).ok(t).stdout
	if err := os.WriteFile(filepath.Join(g.dir, "caddy.json"), []byte(json), 0o600); err != nil {
		t.Fatal(err)
	}
	g.hivegate(t, "validate", "--config", "caddy.json").ok(t)
	// Nothing was expanded or lost on the way: adapting the example is stable.
	if again := g.hivegate(t, "adapt", "--config", g.caddyfile()).ok(t).stdout; again != json {
		t.Error("adapting twice makes two different configurations")
	}
}

// A SQLite file that cannot be opened fails the load.
func TestAKeystoreThatCannotBeOpenedFailsTheStart(t *testing.T) {
	g := prepare(t, config{global: "keystore sqlite DIR/garbage.db\n", gate: oneRoute})
	if err := os.WriteFile(filepath.Join(g.dir, "garbage.db"), []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	out := g.hivegate(t, "run", "--config", g.caddyfile())
	if out.code == 0 || !strings.Contains(out.stderr, "garbage.db") {
		t.Errorf("exit code %d\n%s", out.code, out.stderr)
	}
}

func TestAClearTextSecretIsWarnedAbout(t *testing.T) {
	secret := "5c0e91d7a3b64f28c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f4a5b6c7d8"
	book.add("a master key in clear text", secret)
	g := prepare(t, config{global: "master_key " + secret, gate: oneRoute})
	out := g.hivegate(t, "validate", "--config", g.caddyfile()).ok(t)
	if !strings.Contains(strings.ToLower(out.stderr), "clear text") && !strings.Contains(strings.ToLower(out.stderr), "cleartext") {
		t.Errorf("no warning:\n%s", out.stderr)
	}
}
