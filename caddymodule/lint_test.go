package caddymodule

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// lintClean is a configuration without a finding. Each test of a kind of finding
// changes one thing in it.
const lintClean = `{
	admin localhost:2019
	log {
		format filter {
			request>headers delete
			wrap json
		}
	}
	servers {
		trusted_proxies static 192.0.2.0/24
		trusted_proxies_strict
	}
	hivegate {
		keystore sqlite KEYS
		master_key {env.LINT_MASTER}
		scopes farms:read farms:write keys:manage
		preset all farms:* keys:manage
		class commands 30/m
		plan small {
			requests 60/m
			class commands 20/m
			concurrent commands 3
		}
		default_plan small
		anonymous 60/m
	}
}
https://api.example.com {
	log {
		output stderr
		format filter {
			request>headers delete
			wrap json
		}
	}
	hivegate {
		signature {
			timestamp required
		}
		routes {
			GET /status public
			GET /farms farms:read
			POST /farms farms:write signed class=commands
		}
		keys_api /v1 {
			read keys:manage
			write keys:manage
		}
	}
	reverse_proxy 127.0.0.1:9001 {
		transport http {
			response_header_timeout 60s
		}
	}
}
`

type lintOutput struct {
	Findings []finding `json:"findings"`
	Keystore string    `json:"keystore"`
	LeftOut  string    `json:"keystore_left_out"`
	Keys     int       `json:"keys"`
}

// lintText runs the command on a Caddyfile, in both forms.
func lintText(t *testing.T, text string, args ...string) (out lintOutput, file string) {
	t.Helper()
	t.Setenv("LINT_MASTER", strings.Repeat("5a", 31)+"01")
	dir := t.TempDir()
	if !strings.Contains(text, "KEYS") {
		t.Fatal("the configuration names no keystore: it would be that of this machine's user")
	}
	file = filepath.Join(dir, "Caddyfile")
	text = strings.ReplaceAll(text, "KEYS", filepath.Join(dir, "keys.db"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return lintFile(t, file, args...), file
}

func lintFile(t *testing.T, file string, args ...string) (out lintOutput) {
	t.Helper()
	args = append([]string{"lint", "--config", file, "--adapter", "caddyfile"}, args...)
	stdout, stderr, err := commandLine(t, append(args, "--json")...)
	if json.Unmarshal([]byte(stdout), &out) != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	if (err != nil) != (len(out.Findings) > 0) {
		t.Errorf("%d findings, and the command ends with %v", len(out.Findings), err)
	}
	// The lines for people say the same.
	lines, _, _ := commandLine(t, args...)
	if n := strings.Count(lines, "\n"); n != len(out.Findings) {
		t.Errorf("%d lines for %d findings:\n%s", n, len(out.Findings), lines)
	}
	for i := range out.Findings {
		if f := &out.Findings[i]; !strings.Contains(lines, f.String()+"\n") || f.Fix == "" {
			t.Errorf("the lines lack %q:\n%s", f, lines)
		}
	}
	return out
}

func TestLintOfACleanConfiguration(t *testing.T) {
	out, _ := lintText(t, lintClean)
	if len(out.Findings) > 0 {
		t.Errorf("findings in a clean configuration: %v", out.Findings)
	}
	if !strings.Contains(out.LeftOut, "no such file") {
		t.Errorf("the keystore is left out because %q", out.LeftOut)
	}
}

// lintCases has for each kind of finding a change of the clean configuration that
// makes it, and the text of the line where it must be told; empty: no line.
var lintCases = []struct{ id, old, with, line string }{
	{"route-unreachable", "preset all farms:* keys:manage", "preset all farms:read keys:manage", "POST /farms farms:write"},
	{"route-unreachable", "preset all farms:* keys:manage", "preset all farms:* keys:manage\n\t\tpreset one farms:read\n\t\talias farms:x farms:read\n\t\tscopes a:b", ""},
	{"route-unreachable", "preset all farms:* keys:manage", "preset all farms:*", "read keys:manage"},
	{"route-unreachable", "preset all farms:* keys:manage", "preset all farms:*", "write keys:manage"},
	{"scope-unused", "keys:manage\n\t\tpreset", "keys:manage reports:read\n\t\tpreset", "reports:read"},
	{"preset-unused", "class commands 30/m\n", "class commands 30/m\n\t\tscopes reports:read\n\t\tpreset reporter reports:read\n", "preset reporter"},
	{"class-unused", "class commands 30/m\n", "class commands 30/m\n\t\tclass idle 30/m\n", "class idle"},
	{"class-empty", "class commands 30/m\n", "class commands 30/m\n\t\tclass idle\n", "class idle"},
	{"plan-above-class", "class commands 20/m", "class commands 40/m", "class commands 40/m"},
	{"plan-above-class", "class commands 20/m", "class commands 20/m burst 100", "burst 100"},
	{"no-plan", "\t\tplan small {\n\t\t\trequests 60/m\n\t\t\tclass commands 20/m\n\t\t\tconcurrent commands 3\n\t\t}\n\t\tdefault_plan small\n", "", "hivegate {"},
	{"public-unlimited", "\t\tanonymous 60/m\n", "", "GET /status public"},
	{"unmatched-open", "routes {", "unmatched authenticated\n\t\troutes {", "unmatched authenticated"},
	{"shadow-on", "routes {", "shadow header\n\t\troutes {", "shadow"},
	{"signed-replay", "timestamp required", "max_body 1MiB", "signed"},
	{"backend-timeout", "response_header_timeout 60s", "compression off", "reverse_proxy 127.0.0.1:9001"},
	{"plain-http", "https://api.example.com", "http://api.example.com", "hivegate {"},
	{"plain-http", "https://api.example.com", ":8080", "hivegate {"},
	{"plain-http", "https://api.example.com", "http://api.example.com:8080", "hivegate {"},
	{"proxies-not-strict", "\t\ttrusted_proxies_strict\n", "", "trusted_proxies static"},
	{"admin-open", "admin localhost:2019", "admin :2019", "admin :2019"},
	{"admin-open", "admin localhost:2019", "admin 0.0.0.0:2019", "admin 0.0.0.0:2019"},
	{"secret-in-clear", "{env.LINT_MASTER}", strings.Repeat("5a", 31) + "01", "master_key"},
	{"secret-in-clear", "anonymous 60/m", "anonymous 60/m\n\t\tlimiter redis redis://:hunter2@127.0.0.1:6379", "limiter redis"},
	{"secret-in-clear", "anonymous 60/m", "anonymous 60/m\n\t\tissuer a {\n\t\t\tiss https://a\n\t\t\talgorithms HS256\n\t\t\thmac_secret 0123456789abcdef0123456789abcdef\n\t\t}", "hmac_secret"},
	{"log-credentials", "log {\n\t\tformat filter {\n\t\t\trequest>headers delete", "log {\n\t\tformat filter {\n\t\t\trequest>remote_ip delete", "log {"},
	{"log-credentials", "output stderr\n\t\tformat filter {\n\t\t\trequest>headers delete", "output stderr\n\t\tformat filter {\n\t\t\trequest>remote_ip delete", "https://api.example.com"},
}

// Each kind is found where it is, and not where it is not.
func TestLintFindsWhatItSays(t *testing.T) {
	tested := make(map[string]bool)
	for i, c := range lintCases {
		t.Run(strconv.Itoa(i)+" "+c.id, func(t *testing.T) {
			tested[c.id] = true
			changed := strings.Replace(lintClean, c.old, c.with, 1)
			if changed == lintClean {
				t.Fatalf("%q is not in the configuration", c.old)
			}
			out, file := lintText(t, changed)
			if i == 1 { // a preset more opens what another does not
				for _, f := range out.Findings {
					if f.ID == c.id {
						t.Errorf("%v", f)
					}
				}
				return
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(string(text), "\n")
			for _, f := range out.Findings {
				if f.ID == c.id && f.Line > 0 && strings.Contains(lines[f.Line-1], c.line) {
					// What is meant can be said in the line above, or left out by its id.
					lines[f.Line-1] = "# lint-ignore: other " + c.id + "\n" + lines[f.Line-1]
					if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
						t.Fatal(err)
					}
					if n := count(lintFile(t, file), c.id); n != count(out, c.id)-1 {
						t.Errorf("%d findings with a comment, %d without", n, count(out, c.id))
					}
					if out, _ := lintText(t, changed, "--ignore", c.id); count(out, c.id) != 0 {
						t.Errorf("--ignore %s: %v", c.id, out.Findings)
					}
					return
				}
			}
			t.Errorf("not found in the line with %q: %v", c.line, out.Findings)
		})
	}
	for _, check := range lintChecks {
		if !tested[check.id] && !strings.HasPrefix(check.id, "key-") {
			t.Errorf("there is no test of %s", check.id)
		}
	}
}

func count(out lintOutput, id string) (n int) {
	for _, f := range out.Findings {
		if f.ID == id {
			n++
		}
	}
	return n
}

// Whoever may send what a JSON rule asks more for must be able to call the route.
func TestLintReadsWhatJSONRequires(t *testing.T) {
	text := strings.Replace(lintClean, "signed class=commands", "signed class=commands {\n\t\t\t\tjson owner other require keys:manage\n\t\t\t}", 1)
	if out, _ := lintText(t, text); len(out.Findings) > 0 {
		t.Errorf("findings in a clean configuration: %v", out.Findings)
	}
	text = strings.Replace(text, "preset all farms:* keys:manage", "preset all farms:*\n\t\tpreset manager keys:manage", 1)
	out, file := lintText(t, text)
	lines, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Findings) != 1 || out.Findings[0].ID != "route-unreachable" ||
		!strings.Contains(strings.Split(string(lines), "\n")[out.Findings[0].Line-1], "json owner") {
		t.Errorf("findings: %v", out.Findings)
	}
}

// A gate and a backend in a route of Caddy with a name are those of the sites that
// invoke it.
func TestLintFollowsNamedRoutes(t *testing.T) {
	global, site, _ := strings.Cut(lintClean, "\nhttps://api.example.com {\n")
	log, gate, _ := strings.Cut(site, "\thivegate {")
	// Of a named route that needs no matcher anywhere, Caddy's adapter (2.11) keeps
	// the first handler alone.
	text := global + "\n&(gate) {\n\trespond /gone 410\n\thivegate {" + gate + "https://api.example.com {\n" + log + "\tinvoke gate\n}\n"
	if out, _ := lintText(t, text); len(out.Findings) > 0 {
		t.Errorf("findings in a clean configuration: %v", out.Findings)
	}
	text = strings.Replace(text, "https://api.example.com", "http://api.example.com", 1)
	text = strings.Replace(text, "response_header_timeout 60s", "compression off", 1)
	text = strings.Replace(text, "farms:write signed", "farms:gone signed", 1)
	text = strings.Replace(text, "scopes farms:read", "scopes farms:gone farms:read", 1)
	text = strings.Replace(text, "preset all farms:*", "preset all farms:read farms:write", 1)
	out, _ := lintText(t, text)
	for _, id := range []string{"plain-http", "backend-timeout", "route-unreachable"} {
		if count(out, id) != 1 {
			t.Errorf("%d findings of %s: %v", count(out, id), id, out.Findings)
		}
	}
}

// Caddy takes the address of its admin endpoint from the environment where the
// configuration has none.
func TestLintReadsTheAdminAddressOfTheEnvironment(t *testing.T) {
	without := strings.Replace(lintClean, "\tadmin localhost:2019\n", "", 1)
	for _, c := range []struct {
		text, env string
		want      int
	}{
		{without, "0.0.0.0:2019", 1}, {without, ":2019", 1}, {without, "", 0}, {without, "localhost:2020", 0},
		{without, "unix//run/admin.sock", 0}, {lintClean, "0.0.0.0:2019", 0},
		{strings.Replace(lintClean, "admin localhost:2019", "admin off", 1), "0.0.0.0:2019", 0},
	} {
		t.Setenv("CADDY_ADMIN", c.env)
		out, _ := lintText(t, c.text)
		if n := count(out, "admin-open"); n != c.want || len(out.Findings) != n {
			t.Errorf("CADDY_ADMIN=%q: %v", c.env, out.Findings)
		}
	}
}

// Keys are looked at where there are some, and the keystore stays as it is.
func TestLintLooksAtKeys(t *testing.T) {
	text := strings.Replace(lintClean, "keys:manage\n\t\tpreset", "keys:manage reports:read\n\t\tpreset", 1)
	_, file := lintText(t, text)
	create := func(args ...string) string {
		stdout, stderr, err := commandLine(t, append([]string{"apikey", "create", "--config", file, "--json"}, args...)...)
		var made struct {
			ID string `json:"id"`
		}
		if err != nil || json.Unmarshal([]byte(stdout), &made) != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
		return made.ID
	}
	create("--name", "good", "--scope", "farms:read", "--requests", "30/m")
	lost := create("--name", "lost", "--scope", "reports:read")
	gone := create("--name", "gone", "--scope", "reports:read")
	large := create("--name", "large", "--scope", "farms:read", "--requests", "600/m", "--concurrent", "commands=9")
	if _, stderr, err := commandLine(t, "apikey", "revoke", gone, "--config", file); err != nil {
		t.Fatal(stderr)
	}
	before := files(t, filepath.Dir(file))
	out := lintFile(t, file)
	if out.Keys != 3 || out.LeftOut != "" {
		t.Errorf("%d keys, left out because %q", out.Keys, out.LeftOut)
	}
	if count(out, "key-unused") != 1 || count(out, "key-above-plan") != 2 {
		t.Errorf("findings: %v", out.Findings)
	}
	for _, f := range out.Findings {
		if f.ID == "key-unused" && !strings.Contains(f.Message, lost) || f.ID == "key-above-plan" && !strings.Contains(f.Message, large) {
			t.Errorf("another key is named: %v", f)
		}
	}
	if after := files(t, filepath.Dir(file)); after != before {
		t.Errorf("files before:\n%s\nafter:\n%s", before, after)
	}
}

// files lists a folder with sizes.
func files(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(e.Name() + " " + strconv.FormatInt(info.Size(), 10) + "\n")
	}
	return b.String()
}

func TestLintSaysWhatIsWrongWithItsCall(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte("http://localhost {\n\trespond hello\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--ignore", "scope-unsed", "--config", file}, `did you mean "scope-unused"?`},
		{[]string{"--config", file + "x"}, "no such file"},
		{[]string{"--config", file}, "no site of this configuration has a gate"},
		{[]string{"word"}, "unknown command"},
	} {
		out, errs, err := commandLine(t, append([]string{"lint"}, c.args...)...)
		if err == nil || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("%v: %v, %q, standard output %q", c.args, err, errs, out)
		}
	}
}

// What is shipped is clean, or says in a comment what is meant.
func TestLintOfTheShippedConfigurations(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	for name, value := range map[string]string{
		"SUPABASE_URL": "https://abc.supabase.co", "SUPABASE_JWT_SECRET": strings.Repeat("s", 32), "HIVECLAW_SESSION_SECRET": strings.Repeat("h", 32),
		"SUPABASE_PUBLISHABLE_KEY": "sb_publishable_abcdefghijklmnop", "SUPABASE_SECRET_KEY": "sb_secret_abcdefghijklmnopqrs", "HIVEOS_TOKEN": "t",
	} {
		t.Setenv(name, value)
	}
	shipped, err := filepath.Glob("../examples/*.Caddyfile")
	if err != nil || len(shipped) < 4 {
		t.Fatalf("%v %v", shipped, err)
	}
	t.Setenv("HIVEGATE_MASTER_KEY", strings.Repeat("5a", 31)+"01")
	t.Setenv("HIVEGATE_DATABASE", "postgres://gate:secret@db/hivegate?sslmode=verify-full")
	manifest, err := os.ReadFile("../packaging/kubernetes/sidecar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(manifest), "\n  Caddyfile: |\n")
	text, _, ends := strings.Cut(text, "\n---\n")
	if !ok || !ends {
		t.Fatal("the manifest has no Caddyfile")
	}
	sidecar := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(sidecar, []byte(strings.ReplaceAll(text+"\n", "\n    ", "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range append(shipped, "../Caddyfile.example", "../packaging/docker/Caddyfile", "../examples/fleet/Caddyfile", sidecar) {
		if out := lintFile(t, file); len(out.Findings) > 0 {
			t.Errorf("%s: %v", file, out.Findings)
		}
	}
}
