package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// goMod is what `go mod edit -json` says of this checkout.
type goMod struct {
	Module  struct{ Path string }
	Require []struct{ Path, Version string }
}

func readGoMod(t *testing.T) goMod {
	t.Helper()
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod edit -json: %v", err)
	}
	var m goMod
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatalf("parse go.mod as JSON: %v", err)
	}
	return m
}

func readSpec(t *testing.T) *spec {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "xcaddy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := parse(text)
	if err != nil {
		t.Fatalf("xcaddy.toml: %v", err)
	}
	return s
}

func TestXcaddyTomlAgreesWithGoMod(t *testing.T) {
	mod, s := readGoMod(t), readSpec(t)
	if mod.Module.Path != ourModule {
		t.Errorf("go.mod is module %s, this command takes it for %s", mod.Module.Path, ourModule)
	}
	required := map[string]string{}
	for _, r := range mod.Require {
		required[r.Path] = r.Version
	}
	if got := required["github.com/caddyserver/caddy/v2"]; got != s.Caddy {
		t.Errorf("xcaddy.toml builds Caddy %s, go.mod tests against %s: write the same version into both", s.Caddy, got)
	}
	for _, m := range s.Modules {
		if m.ours() {
			continue
		}
		if got := required[m.Path]; got != m.Version {
			t.Errorf("xcaddy.toml builds %s %s, go.mod has %q", m.Path, m.Version, got)
		}
	}
}

func TestXcaddyTomlNamesPackagesThatExist(t *testing.T) {
	for _, m := range readSpec(t).Modules {
		if !m.ours() {
			continue
		}
		dir := filepath.Join(root, strings.TrimPrefix(m.Path, ourModule))
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("xcaddy.toml names %s, but %s holds no Go file", m.Path, dir)
		}
	}
}

func TestXcaddyTomlBuildsTheGateIn(t *testing.T) {
	for _, m := range readSpec(t).Modules {
		if m.Path == ourModule+"/caddymodule" {
			return
		}
	}
	t.Errorf("xcaddy.toml does not name %s/caddymodule", ourModule)
}

func TestCommandLineHasEveryFlag(t *testing.T) {
	s, err := parse([]byte(`
caddy = "v2.11.9"
output = "bin/caddy"
[[module]]
path = "github.com/hivegate/hivegate/caddymodule"
[[module]]
path = "example.com/other/module"
version = "v1.2.3"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := "xcaddy build v2.11.9 --output bin/caddy --with github.com/hivegate/hivegate/caddymodule" +
		" --with example.com/other/module@v1.2.3 --replace github.com/hivegate/hivegate=."
	if got := strings.Join(s.args(), " "); got != want {
		t.Errorf("command line\n got %s\nwant %s", got, want)
	}
}

func TestPrintOnlyRunsNothing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var out bytes.Buffer
	if err := run(&out, filepath.Join(root, "xcaddy.toml"), true); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "xcaddy build v") {
		t.Errorf("printed %q", out.String())
	}
}

func TestAbsentXcaddyIsAnErrorThatSaysHowToInstallIt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := run(&bytes.Buffer{}, filepath.Join(root, "xcaddy.toml"), false)
	if err == nil || !strings.Contains(err.Error(), "go install") {
		t.Errorf("got %v", err)
	}
}

func TestXcaddyRunsWithTheFlagsOfTheFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	script := "#!/bin/sh\nfor a in \"$@\"; do echo \"arg $a\"; done\n"
	if err := os.WriteFile(filepath.Join(dir, "xcaddy"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(&out, filepath.Join(root, "xcaddy.toml"), false); err != nil {
		t.Fatal(err)
	}
	for _, a := range readSpec(t).args()[1:] {
		if !strings.Contains(out.String(), "arg "+a+"\n") {
			t.Errorf("xcaddy was not given %q; it printed\n%s", a, out.String())
		}
	}
}

func TestMistakesInTheFileAreNamed(t *testing.T) {
	const head = "caddy = \"v2.11.9\"\noutput = \"bin/caddy\"\n"
	const ours = "[[module]]\npath = \"github.com/hivegate/hivegate/caddymodule\"\n"
	for name, c := range map[string]struct{ text, want string }{
		"misspelt member":      {head + "modul = 1\n" + ours, "line 3: no such member: modul"},
		"caddy without v":      {"caddy = \"2.11.9\"\noutput = \"x\"\n" + ours, `not "2.11.9"`},
		"no output":            {"caddy = \"v2.11.9\"\n" + ours, "output must be a path"},
		"output like a flag":   {"caddy = \"v2.11.9\"\noutput = \"--x\"\n" + ours, "output must be a path"},
		"no module":            {head, "no [[module]]"},
		"our module, version":  {head + ours + "version = \"v1.0.0\"\n", "leave its version out"},
		"other, no version":    {head + "[[module]]\npath = \"example.com/a/b\"\n", "needs a version"},
		"path like a flag":     {head + "[[module]]\npath = \"--with\"\n", "import path"},
		"not TOML":             {"caddy", "parse"},
		"wrong type of member": {"caddy = 2\n", "parse"},
	} {
		if _, err := parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}
