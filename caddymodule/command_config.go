package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/limiter"
)

// commandConfig is a configuration as a command sees it: read, never run.
type commandConfig struct {
	apps map[string]json.RawMessage
	// raw is the whole as JSON, path the file that it came from, adapted whether
	// that is a Caddyfile.
	raw     []byte
	path    string
	adapted bool
	// countsNothing leaves the limiter out, so that no command asks for a shared
	// one's server.
	countsNothing bool
}

// loadCommandConfig reads and adapts the configuration that the flags name.
func loadCommandConfig(cmd *cobra.Command) (*commandConfig, error) {
	envFiles, err := cmd.Flags().GetStringSlice("envfile")
	if err != nil {
		return nil, err
	}
	for _, file := range envFiles {
		if err := loadEnvFile(file); err != nil {
			return nil, fmt.Errorf("read environment file: %w", err)
		}
	}
	path, err := configPath(cmd)
	if err != nil {
		return nil, err
	}
	adapter, err := cmd.Flags().GetString("adapter")
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	text := raw
	if raw, err = adapt(raw, path, adapter); err != nil {
		return nil, err
	}
	var cfg struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return nil, fmt.Errorf("read configuration %s: %w (a Caddyfile of another name needs --adapter caddyfile)", path, err)
	}
	return &commandConfig{apps: cfg.Apps, raw: raw, path: path, adapted: !bytes.Equal(raw, text), countsNothing: true}, nil
}

// adapt turns the file into JSON, choosing the adapter as Caddy does.
func adapt(raw []byte, path, adapter string) ([]byte, error) {
	base := strings.ToLower(filepath.Base(path))
	if adapter == "" && filepath.Ext(base) != ".json" &&
		(strings.HasPrefix(base, "caddyfile") || strings.HasSuffix(base, ".caddyfile")) {
		adapter = "caddyfile"
	}
	if adapter == "" {
		return raw, nil
	}
	a := caddyconfig.GetAdapter(adapter)
	if a == nil {
		return nil, fmt.Errorf("unknown config adapter %q", adapter)
	}
	out, _, err := a.Adapt(raw, map[string]any{"filename": path})
	if err != nil {
		return nil, fmt.Errorf("adapt configuration: %w", err)
	}
	return out, nil
}

// app provisions the hivegate app alone, on a bare context: an app module can
// only be loaded by a running configuration. cancel gives back what it took.
func (c *commandConfig) app() (*App, context.CancelFunc, error) {
	app := new(App)
	if raw, ok := c.apps["hivegate"]; ok {
		if err := caddy.StrictUnmarshalJSON(raw, app); err != nil {
			return nil, nil, fmt.Errorf("read the hivegate options: %w", err)
		}
	}
	if c.countsNothing {
		app.LimiterRaw = nil
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.WithValue(context.Background(), commandKey{}, true)})
	closeApp := func() {
		// The last reference closes what was opened, which nothing was.
		_ = app.Cleanup()
		cancel()
	}
	if err := app.Provision(ctx); err != nil {
		closeApp()
		return nil, nil, fmt.Errorf("load the hivegate options: %w", err)
	}
	return app, closeApp, nil
}

// commandKey marks the context of a command.
type commandKey struct{}

// contextLogger is Caddy's logger of ctx. Without a running configuration that is
// one for developers, which adds its caller and a stack trace to each warning;
// in a command a warning is one line.
func contextLogger(ctx caddy.Context) *zap.Logger {
	log := ctx.Logger()
	if command, _ := ctx.Value(commandKey{}).(bool); command {
		return log.WithOptions(zap.WithCaller(false), zap.AddStacktrace(zap.FatalLevel+1))
	}
	return log
}

// commandApp reads the configuration that the flags name and provisions its app.
func commandApp(cmd *cobra.Command) (*commandConfig, *App, context.CancelFunc, error) {
	cfg, err := loadCommandConfig(cmd)
	if err != nil {
		return nil, nil, nil, err
	}
	app, cancel, err := cfg.app()
	return cfg, app, cancel, err
}

// keeper is what manages the keys of this configuration.
func (rt *runtime) keeper(store keystore.Store, crypto *keystore.Crypto) *keystore.Keeper {
	return &keystore.Keeper{
		Store: store, Crypto: crypto, Formats: rt.formats, Cost: rt.cost,
		Now:        func() time.Time { return keystore.Wall(store, time.Now()) },
		CheckScope: rt.checkScope,
		CheckPlan: func(name string) error {
			if rt.planByName[name] == nil {
				return errors.New(rt.unknown("plan", name))
			}
			return nil
		},
		CheckClass: func(name string) error {
			if rt.classByName[name] == nil {
				return errors.New(rt.unknown("class", name))
			}
			return nil
		},
		CheckRequests: func(rate string) error {
			spec, err := limiter.ParseSpec(strings.Fields(rate))
			if err != nil {
				return err
			}
			_, err = limiter.NewLimit(policyKey, spec.N, spec.Per, spec.Burst)
			return err
		},
	}
}

// loadEnvFile sets the variables of a file of KEY=VALUE lines that are not set
// yet, by the rules of `caddy run --envfile`: '#' begins a comment, values may
// be quoted, nothing is expanded.
func loadEnvFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimPrefix(key, "export ")
		if !ok || key == "" || strings.ContainsAny(key, " \t") || strings.HasPrefix(value, " ") || strings.HasPrefix(value, "\t") {
			return fmt.Errorf("%s:%d: write KEY=VALUE without spaces around '='", path, n)
		}
		if before, _, comment := strings.Cut(value, "#"); comment {
			value = strings.TrimRight(before, " \t")
		}
		if q := value; len(q) > 0 && (q[0] == '"' || q[0] == '\'') {
			for !strings.HasSuffix(value[1:], value[:1]) && lines.Scan() {
				n++
				value += "\n" + lines.Text()
			}
			value = strings.TrimSuffix(value[1:], value[:1])
		}
		if _, set := os.LookupEnv(key); !set {
			if err := os.Setenv(key, value); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}
