// Command loadtest measures the built binary from outside: what a request costs
// beside other gates and proxies, what a flood of bad keys does to good callers,
// what a restart does, and what memory holds. The Makefile has its commands:
// `make load`, `make flood`, `make cold`, `make memory`.
//
// It runs on Linux alone, for it reads /proc, and sends to 127.0.0.1 alone. Every
// command prints its longest duration first, and ends by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// options are the flags that all commands share.
type options struct {
	quick  bool   // a short form, to see that it works
	out    string // where tables and plots go; empty: standard output alone
	binary string // hivegate; empty: it is built
	stock  string // Caddy's own main; empty: it is built
	only   string // regular expression of the names that are run
	rounds int    // of one second
	keys   int    // how many keys `cold` sends
	cost   int    // the bcrypt cost of `cold` without a master key
}

// command is one scenario: its longest duration, and what runs it.
type command struct {
	name, about string
	lasts       func(o *options) time.Duration
	run         func(ctx context.Context, o *options) error
}

func commands() []command {
	return []command{
		{"load", "CPU per request and throughput beside bare Caddy, basic_auth, HAProxy, nginx", loadLasts, runLoad},
		{"flood", "5,000 bad keys a second beside 200 good requests a second", floodLasts, runFlood},
		{"cold", "100,000 keys at 500 a second after a restart", coldLasts, runCold},
		{"memory", "a million keys, a million owners, 10,000 connections, 1,000 streams", memoryLasts, runMemory},
	}
}

func main() {
	if err := start(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "loadtest:", err)
		os.Exit(1)
	}
}

func start(args []string) error {
	if len(args) > 0 && args[0] == "backend" {
		return serveBackend(args[1:])
	}
	if len(args) > 0 && args[0] == "flooder" {
		return serveFlooder(args[1:])
	}
	o := &options{}
	flags := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "a short form: shows that it works, and no figure worth keeping")
	flags.StringVar(&o.out, "out", "", "folder for tables (.md) and plots (.svg)")
	flags.StringVar(&o.binary, "bin", "", "the hivegate binary; default: built from this module")
	flags.StringVar(&o.stock, "caddy", "", "a stock Caddy; default: built from this module's version")
	flags.StringVar(&o.only, "only", "", "run what this regular expression matches")
	flags.IntVar(&o.rounds, "rounds", 0, "rounds of one second per comparison (load; default 26)")
	flags.IntVar(&o.keys, "keys", 0, "distinct keys (cold; default 100000)")
	flags.IntVar(&o.cost, "cost", 8, "bcrypt cost of the keys without a stored digest (cold)")
	usage := func() {
		fmt.Fprintln(os.Stderr, "usage: loadtest COMMAND [flags]")
		for _, c := range commands() {
			fmt.Fprintf(os.Stderr, "  %-8s%s\n", c.name, c.about)
		}
		flags.PrintDefaults()
	}
	flags.Usage = usage
	if len(args) == 0 {
		usage()
		return errors.New("no command")
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return runCommand(&c, o)
	}
	usage()
	return fmt.Errorf("unknown command %q", args[0])
}

func runCommand(c *command, o *options) error {
	if runtime.GOOS != "linux" {
		return errors.New("needs Linux: it reads /proc and pins processes to cores")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	lasts := c.lasts(o)
	fmt.Printf("%s: at most %s on an idle machine, and ended after twice that\n", c.name, lasts.Round(time.Second))
	ctx, cancel := context.WithTimeout(ctx, 2*lasts)
	defer cancel()
	raiseFileLimit()
	begin := time.Now()
	if err := c.run(ctx, o); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	fmt.Printf("%s: took %s\n", c.name, time.Since(begin).Round(time.Second))
	return nil
}

// raiseFileLimit lets this process and its children open 65,536 files where the
// system allows it.
func raiseFileLimit() {
	want := uint64(65536)
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: want, Max: want}) == nil {
		return
	}
	var have syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &have) == nil {
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: have.Max, Max: have.Max})
	}
}

// write puts a table or plot into the folder of -out.
func (o *options) write(name, text string) error {
	if o.out == "" {
		return nil
	}
	if o.quick { // never in the place of kept figures
		o.out = filepath.Join(os.TempDir(), "hivegate-quick")
	}
	if err := os.MkdirAll(o.out, 0o750); err != nil {
		return fmt.Errorf("make the folder for results: %w", err)
	}
	path := filepath.Join(o.out, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	fmt.Println("wrote", path)
	return nil
}

// needs says in one line what to install.
func needs(programs ...string) error {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%s is not installed: run internal/loadtest/install.sh as root (Debian, Ubuntu), or install wrk, haproxy, nginx and util-linux", p)
		}
	}
	return nil
}
