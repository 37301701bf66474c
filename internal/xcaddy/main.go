// Command xcaddy builds Caddy with the modules that xcaddy.toml names, by
// turning that file into a command line of the real xcaddy, which reads no
// configuration of its own. It prints the command line and then runs it; with
// -print it only prints.
//
// It is run from the root of the checkout: go run ./internal/xcaddy
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// ourModule is the Go module of this checkout. Its packages are built from the
// working tree, so they carry no version.
const ourModule = "github.com/hivegate/hivegate"

// spec is the content of xcaddy.toml.
type spec struct {
	// Caddy is the version of Caddy, with its leading v.
	Caddy string `toml:"caddy"`
	// Output is the path of the binary.
	Output string `toml:"output"`
	// Modules are the packages to build in.
	Modules []module `toml:"module"`
}

// module is one package to build in.
type module struct {
	Path string `toml:"path"`
	// Version is empty for packages of this checkout, and only for them.
	Version string `toml:"version"`
}

func main() {
	file := flag.String("file", "xcaddy.toml", "the file that states versions and modules")
	printOnly := flag.Bool("print", false, "print the command line and stop")
	flag.Parse()
	if err := run(os.Stdout, *file, *printOnly); err != nil {
		fmt.Fprintln(os.Stderr, "xcaddy:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, file string, printOnly bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the build's statement: %w", err)
	}
	s, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	args := s.args()
	if _, err := fmt.Fprintln(out, strings.Join(args, " ")); err != nil {
		return fmt.Errorf("print the command line: %w", err)
	}
	if printOnly {
		return nil
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return errors.New("xcaddy is not installed; go install github.com/caddyserver/xcaddy/cmd/xcaddy@latest, then run this again")
	}
	cmd := exec.Command(path, args[1:]...) //nolint:gosec // the arguments are those of xcaddy.toml, checked by parse
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run xcaddy: %w", err)
	}
	return nil
}

var (
	versionRE = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)
	pathRE    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*\.[a-z]+(/[A-Za-z0-9._~-]+)+$`)
)

// parse reads xcaddy.toml. An unknown member is an error, so that a misspelt
// one is not silently ignored.
func parse(text []byte) (*spec, error) {
	var s spec
	dec := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) && len(strict.Errors) > 0 {
			row, _ := strict.Errors[0].Position()
			return nil, fmt.Errorf("line %d: no such member: %s", row, strings.Join(strict.Errors[0].Key(), "."))
		}
		return nil, fmt.Errorf("parse: %w", err)
	}
	if !versionRE.MatchString(s.Caddy) {
		return nil, fmt.Errorf("caddy must be a version such as v2.11.9, not %q", s.Caddy)
	}
	if s.Output == "" || strings.HasPrefix(s.Output, "-") {
		return nil, fmt.Errorf("output must be a path, not %q", s.Output)
	}
	if len(s.Modules) == 0 {
		return nil, errors.New("no [[module]] is named: the build would be plain Caddy")
	}
	for _, m := range s.Modules {
		switch {
		case !pathRE.MatchString(m.Path):
			return nil, fmt.Errorf("module path must be an import path, not %q", m.Path)
		case m.ours() && m.Version != "":
			return nil, fmt.Errorf("module %s is built from this checkout: leave its version out", m.Path)
		case !m.ours() && !versionRE.MatchString(m.Version):
			return nil, fmt.Errorf("module %s needs a version such as v1.2.3, not %q", m.Path, m.Version)
		}
	}
	return &s, nil
}

// ours says whether the module is a package of this checkout.
func (m module) ours() bool {
	return m.Path == ourModule || strings.HasPrefix(m.Path, ourModule+"/")
}

// args is the command line, beginning with the program's name. Packages of this
// checkout get a --with without a version, and one --replace puts the working
// tree in the place of their module.
func (s *spec) args() []string {
	args := []string{"xcaddy", "build", s.Caddy, "--output", s.Output}
	replace := false
	for _, m := range s.Modules {
		if m.ours() {
			replace = true
			args = append(args, "--with", m.Path)
			continue
		}
		args = append(args, "--with", m.Path+"@"+m.Version)
	}
	if replace {
		args = append(args, "--replace", ourModule+"=.")
	}
	return args
}
