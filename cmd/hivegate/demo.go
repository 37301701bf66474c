package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate"
	"github.com/hivegate/hivegate/caddymodule"
)

func demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Runs Caddyfile.example with two small backends and prints requests to try",
		Long: `Runs Caddyfile.example as it stands, in front of a small farm backend and a
small command backend in this process. Keys live in a temporary database, one
fresh key per plan. It prints complete curl lines, and ends on Ctrl-C.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			listen, err := cmd.Flags().GetString("listen")
			if err != nil {
				return err
			}
			return runDemo(cmd.Context(), listen, cmd.OutOrStdout())
		},
	}
	cmd.Flags().String("listen", "localhost:8080", "Address of the gate; a free port is taken when it is in use")
	return cmd
}

// runDemo runs until the context ends or the process is asked to.
func runDemo(ctx context.Context, listen string, out io.Writer) (err error) {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "hivegate-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	farm, command, err := startBackends()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, farm.Close(), command.Close()) }()
	host, err := freeAddress(listen)
	if err != nil {
		return err
	}
	config, err := demoConfig(dir, host, farm.addr, command.addr)
	if err != nil {
		return err
	}
	keys, err := caddymodule.CreateKeys(ctx, config,
		caddymodule.KeyRequest{Name: "explorer demo", Owner: "anna", Plan: "explorer", Scopes: []string{"farms:read", "workers:read"}},
		caddymodule.KeyRequest{Name: "operator demo", Owner: "omar", Plan: "operator", Scopes: []string{"farms:*", "workers:*"}},
		caddymodule.KeyRequest{Name: "one farm only", Owner: "nina", Plan: "operator", Scopes: []string{"farms:read", "workers:command@farmId=1"}},
	)
	if err != nil {
		return err
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	printDemo(out, "http://"+host, keys)
	<-ctx.Done()
	fmt.Fprintln(out, "\nhivegate demo: stopped")
	return caddy.Stop()
}

// demoConfig adapts Caddyfile.example; only where things live is set, by the
// variables that the file itself reads.
func demoConfig(dir, host, farm, command string) ([]byte, error) {
	for name, value := range map[string]string{
		"HIVEGATE_SITE":    "http://" + host,
		"HIVEGATE_KEYS":    filepath.Join(dir, "keys.db"),
		"HIVEGATE_FARM":    farm,
		"HIVEGATE_COMMAND": command,
	} {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(hivegate.Caddyfile, map[string]any{"filename": "Caddyfile.example"})
	if err != nil {
		return nil, err
	}
	var cfg map[string]any
	if err := json.Unmarshal(adapted, &cfg); err != nil {
		return nil, err
	}
	// Only this machine reaches the demo.
	if err := listenOn(cfg, host); err != nil {
		return nil, err
	}
	// The demo leaves nothing behind and disturbs no server that runs here.
	cfg["admin"] = map[string]any{"disabled": true, "config": map[string]any{"persist": false}}
	cfg["storage"] = map[string]any{"module": "file_system", "root": filepath.Join(dir, "caddy")}
	cfg["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{"level": "WARN"}}}
	return json.Marshal(cfg)
}

// listenOn binds the gate to the loopback address where the site is localhost:
// Caddy takes the host of a site for a name, and listens everywhere.
func listenOn(cfg map[string]any, host string) error {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return err
	}
	if name == "localhost" {
		name = "127.0.0.1"
	}
	apps, _ := cfg["apps"].(map[string]any)
	app, _ := apps["http"].(map[string]any)
	servers, _ := app["servers"].(map[string]any)
	for _, srv := range servers {
		if srv, ok := srv.(map[string]any); ok {
			srv["listen"] = []string{net.JoinHostPort(name, port)}
		}
	}
	return nil
}

// freeAddress is the wanted address, or one with a free port on the same host.
func freeAddress(want string) (string, error) {
	host, _, err := net.SplitHostPort(want)
	if err != nil {
		return "", fmt.Errorf("--listen %q: write HOST:PORT", want)
	}
	ln, err := net.Listen("tcp", want)
	if err != nil {
		if ln, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			return "", err
		}
	}
	defer func() { _ = ln.Close() }() // the gate listens there next
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

// backend is a small HTTP server of the demo.
type backend struct {
	*http.Server
	addr string
}

func startBackends() (farm, command *backend, err error) {
	if farm, err = startBackend(http.StatusOK, map[string]any{"backend": "farm"}); err != nil {
		return nil, nil, err
	}
	if command, err = startBackend(http.StatusCreated, map[string]any{"backend": "command", "commands": []any{map[string]int{"id": 1}}}); err != nil {
		return nil, nil, errors.Join(err, farm.Close())
	}
	return farm, command, nil
}

// startBackend answers every request with what it received, so that the tour
// shows what a backend learns of its caller.
func startBackend(status int, answer map[string]any) (*backend, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := map[string]any{"method": r.Method, "path": r.URL.Path}
		for k, v := range answer {
			body[k] = v
		}
		for _, name := range []string{"X-Auth-Kind", "X-Auth-Id", "X-Auth-Owner", "X-Auth-Plan", "X-Auth-Scopes"} {
			if v := r.Header.Get(name); v != "" {
				body[name] = v
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // the client left
	})
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	return &backend{Server: srv, addr: ln.Addr().String()}, nil
}

// printDemo prints the keys and what to try, one complete curl line each.
func printDemo(w io.Writer, site string, keys []caddymodule.CreatedKey) {
	explorer, operator, narrowed := keys[0].Key, keys[1].Key, keys[2].Key
	bearer := func(key string) string { return " -H 'Authorization: Bearer " + key + "'" }
	command := " -H 'Content-Type: application/json' -d '{\"command\":\"reboot\"}'"
	fmt.Fprintf(w, "hivegate demo at %s; keys of this run (shown once, gone with the demo):\n", site)
	for i, what := range []string{
		"explorer  farms:read workers:read",
		"operator  farms:* workers:*",
		"operator  farms:read workers:command@farmId=1",
	} {
		fmt.Fprintf(w, "  %s  %s  %s\n", keys[i].Key, keys[i].ID, what)
	}
	for _, try := range [][2]string{
		{"200: the farms, for a key that may read them", "curl -i " + site + "/farms" + bearer(explorer)},
		{"201: a command reaches the command backend", "curl -i -X POST " + site + "/farms/1/workers/2/command" + bearer(operator) + command},
		{"401: no key", "curl -i " + site + "/farms"},
		{"401: the token without 'Bearer'", "curl -i " + site + "/farms -H 'Authorization: " + explorer + "'"},
		{"403: a scope is missing", "curl -i -X POST " + site + "/farms/1/workers/2/command" + bearer(explorer) + command},
		{"201: a key narrowed to farm 1, on farm 1", "curl -i -X POST " + site + "/farms/1/workers/2/command" + bearer(narrowed) + command},
		{"403: the same key on another farm", "curl -i -X POST " + site + "/farms/2/workers/2/command" + bearer(narrowed) + command},
		{"404: no such route", "curl -i " + site + "/nowhere" + bearer(explorer)},
		{"405: another method of a known path", "curl -i -X DELETE " + site + "/farms" + bearer(operator)},
		{"400: a path that two programs may read differently", "curl -i --path-as-is " + site + "/farms/../farms" + bearer(explorer)},
		{"429: 65 requests on a plan of 60 a minute", "curl -s -o /dev/null -w '%{http_code} ' '" + site + "/farms?n=[1-65]'" + bearer(explorer)},
	} {
		fmt.Fprintf(w, "\n# %s\n%s\n", try[0], try[1])
	}
	fmt.Fprintln(w, "\nCtrl-C ends the demo.")
}
