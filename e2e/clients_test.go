//go:build clients

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// What `make clients` and `make browser` run: clients that others wrote, with
// their own defaults, in front of the shipped configurations. e2e/clients holds
// their scripts, and install.sh there installs them. Nothing is left out here: a
// client that is missing fails its test.

// debianPython is the interpreter that Debian's python3-… packages are for; the
// first one in PATH may be another.
const debianPython = "/usr/bin/python3"

// needPackages fails the test unless the packages are installed that the lock
// file names.
func needPackages(t testing.TB) {
	t.Helper()
	lock, err := os.ReadFile("clients/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if installed, err := os.ReadFile("clients/node_modules/.installed"); err != nil || !bytes.Equal(installed, lock) {
		t.Fatalf("what e2e/clients/package-lock.json names is not installed (make clients and make browser do that): %v", err)
	}
}

// script runs a script of e2e/clients with one argument, as JSON, and reads the
// JSON that it prints.
func script(t testing.TB, name string, arg, out any) {
	t.Helper()
	program := "node"
	if filepath.Ext(name) == ".py" {
		program = debianPython
	} else {
		needPackages(t)
	}
	text, err := json.Marshal(arg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, name, string(text))
	cmd.Dir, cmd.Env = "clients", append(cleanEnv(), "HOME="+t.TempDir())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, stdout.String(), stderr.String())
	}
	if err := json.Unmarshal(stdout.Bytes(), out); err != nil {
		t.Fatalf("%s printed: %v\n%s", name, err, stdout.String())
	}
}

// version is the version of an installed package of npm.
func version(t testing.TB, name string) string {
	t.Helper()
	needPackages(t)
	text, err := os.ReadFile(filepath.Join("clients/node_modules", name, "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	var p struct{ Version string }
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return name + " " + p.Version
}

// caller is somebody who calls one path of a system, by its headers.
type caller struct {
	url     string
	headers map[string]string
}

// system is a shipped configuration at work, and how one calls it.
type system struct {
	*gate
	// newCaller makes a caller whose limits nobody else uses.
	newCaller func(t *testing.T) caller
}

// systems starts the shipped configurations as they stand.
var systems = map[string]func(t *testing.T) system{
	// A limit of the key's own, of one request in two seconds: longer than what
	// any of the clients would wait by itself.
	"hornethive": func(t *testing.T) system {
		return keySystem(start(t, example(t, "hornethive.Caddyfile")), "/v1/crews", "--scope", "crews:read", "--requests", "1/2s")
	},
	// The others with the limits that they come with.
	"hiveclaw": func(t *testing.T) system {
		c := example(t, "hiveclaw.Caddyfile")
		c.env = append(c.env, "HIVECLAW_SESSION_SECRET="+hmacSecret)
		return keySystem(start(t, c), "/api/v1/mcp/projects", "--scope", "projects:read")
	},
	"hiveos": func(t *testing.T) system {
		return keySystem(start(t, example(t, "hiveos.Caddyfile")), "/api/v2/farms", "--scope", "farms:read")
	},
	"hive-protocol": func(t *testing.T) system {
		p := startProject(t)
		// The gate fetches keys from the backend, too: only then is counted.
		eventually(t, 10*time.Second, "the gate has fetched the project's keys", func() bool {
			a, err := p.try(p.sites[0], "GET", "/rest/v1/agents", header("Apikey", p.keys["publishable key"]), bearer(p.user("first@example.com", time.Hour)))
			return err == nil && a.status == 200
		})
		return system{p.gate, func(t *testing.T) caller {
			token := tokenKeys()["ES256"].token(claims(map[string]any{"iss": p.iss, "sub": "user of " + t.Name()}))
			return caller{"http://" + p.sites[0] + "/rest/v1/agents", map[string]string{
				"Authorization": "Bearer " + token, "Apikey": p.keys["publishable key"],
			}}
		}}
	},
}

func keySystem(g *gate, path string, args ...string) system {
	return system{g, func(t *testing.T) caller {
		t.Helper()
		return caller{"http://" + g.sites[0] + path, map[string]string{"Authorization": "Bearer " + g.create(t, args...).Key}}
	}}
}
