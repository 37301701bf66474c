package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/internal/keycli"
	"github.com/hivegate/hivegate/keystore"
)

// finding is one thing that lint has to say.
type finding struct {
	// ID is stable; comments and --ignore name it.
	ID string `json:"id"`
	// File and Line say where it stands; absent where that is not known.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Message is what was found, Fix what to do about it. One line each.
	Message string `json:"message"`
	Fix     string `json:"fix"`
}

func (f *finding) String() string {
	where := ""
	if f.Line > 0 {
		where = fmt.Sprintf("%s:%d: ", f.File, f.Line)
	}
	return fmt.Sprintf("%s%s: %s; %s", where, f.ID, f.Message, f.Fix)
}

// lintCheck is one kind of finding.
type lintCheck struct {
	id string
	// what is for the manual: when it is found.
	what  string
	judge func(*linter)
}

// lintChecks are all kinds, in the order in which they are told.
var lintChecks = []lintCheck{
	{"route-unreachable", "no preset, no role of an accepted issuer and no active key covers what a route, one of its JSON rules or keys_api requires", (*linter).routesUnreachable},
	{"scope-unused", "a scope of the closed list is required nowhere", (*linter).scopesUnused},
	{"preset-unused", "a preset opens no route that asks for a scope", (*linter).presetsUnused},
	{"key-unused", "an active key's scopes open no route that asks for a scope", (*linter).keysUnused},
	{"class-unused", "a class stands at no route", (*linter).classesUnused},
	{"class-empty", "a class limits nothing: neither it nor any plan has a figure for it", (*linter).classesEmpty},
	{"plan-above-class", "a plan's figure for a class is above the class's own", (*linter).plansAboveClass},
	{"key-above-plan", "a key's own limits are above those of its plan", (*linter).keysAbovePlan},
	{"no-plan", "there is no plan, so keys are not limited", (*linter).noPlan},
	{"public-unlimited", "a public route has no limit: neither anonymous nor a class with a rate", (*linter).publicUnlimited},
	{"unmatched-open", "unmatched authenticated lets every valid credential reach paths that are not in the table", (*linter).unmatchedOpen},
	{"shadow-on", "a site is in shadow mode, which refuses nothing", (*linter).shadowOn},
	{"signed-replay", "signed routes take a signature without a timestamp, which can be sent again", (*linter).signedReplay},
	{"backend-timeout", "a backend behind a gate may keep a request for ever: its proxy has no response_header_timeout", (*linter).backendTimeouts},
	{"plain-http", "a site serves keys over plain HTTP and does not ask for HTTPS", (*linter).plainHTTP},
	{"proxies-not-strict", "trusted_proxies without trusted_proxies_strict: clients can choose the address that they are counted by", (*linter).proxiesNotStrict},
	{"admin-open", "Caddy's admin endpoint, which can change everything, is open to the network", (*linter).adminOpen},
	{"secret-in-clear", "a secret stands in the configuration in clear text", (*linter).secretsInClear},
	{"log-credentials", "a log keeps request headers, and with them credentials that Caddy does not know to be such", (*linter).logCredentials},
}

// linter is one run.
type linter struct {
	cfg   lintConfig
	app   *App
	set   *settings
	gates []*lintGate
	// proxies are those behind a gate.
	proxies []lintProxy
	src     source
	whole   placed
	// dsn and url are those of keystore and limiter, as they are written.
	dsn, url string
	// keys are the active keys; nil where the keystore was left out.
	keys     []*keystore.Record
	id       string // of the check at work
	findings []finding
}

func (l *linter) found(at place, fix, format string, args ...any) {
	l.findings = append(l.findings, finding{
		ID: l.id, File: at.file, Line: at.line, Message: fmt.Sprintf(format, args...), Fix: fix,
	})
}

func lintCommand() *cobra.Command {
	var b strings.Builder
	for _, c := range lintChecks {
		fmt.Fprintf(&b, "  %-20s %s\n", c.id, c.what)
	}
	cmd := &cobra.Command{
		Use:   "lint [--ignore ID] [--json]",
		Short: "Finds what a configuration allows and its operator hardly wants",
		Long: `Finds what a configuration allows and its operator hardly wants. One finding a
line: where it stands, its id, what was found, what to do. The exit code is 0 when
there is none, 1 when there are some.

` + b.String() + `
Keys are looked at where the keystore is an SQLite file that exists; it is opened for
reading alone. Otherwise standard error says that it was left out.

What is meant can be said in the Caddyfile, in the line itself or above it:

  # lint-ignore: plan-above-class`,
		Args: cobra.NoArgs,
		RunE: runLint,
	}
	cmd.Flags().StringArray("ignore", nil, "Id of findings that are not told; repeats")
	cmd.Flags().Bool("json", false, "Print one JSON object")
	return cmd
}

// errFindings ends the command with 1; what was found has been printed.
var errFindings = errors.New("there are findings")

func runLint(cmd *cobra.Command, _ []string) error {
	ignored, _ := cmd.Flags().GetStringArray("ignore")
	asJSON, _ := cmd.Flags().GetBool("json")
	for _, id := range ignored {
		if !slices.ContainsFunc(lintChecks, func(c lintCheck) bool { return c.id == id }) {
			var ids []string
			for _, c := range lintChecks {
				ids = append(ids, c.id)
			}
			return keycli.UsageError("--ignore: " + unknownName("finding", id, ids))
		}
	}
	noted.begin()
	cfg, err := loadCommandConfig(cmd)
	whole, gates := noted.end()
	if err != nil {
		return err
	}
	app, cancel, err := cfg.app()
	if err != nil {
		return err
	}
	defer cancel()
	l := &linter{app: app, set: app.runtime.settings, whole: whole}
	if err := l.load(cfg, gates); err != nil {
		return err
	}
	location := app.runtime.guest.Location()
	why, err := l.readKeys(cmd.Context())
	if err != nil {
		return err
	}
	if why != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "keystore: %s is left out: %s\n", location, why)
	} else {
		fmt.Fprintf(cmd.ErrOrStderr(), "keystore: %s\n", location)
	}
	l.judge(ignored)
	return l.print(cmd, asJSON, location, why)
}

// load takes the configuration apart.
func (l *linter) load(cfg *commandConfig, gates map[string][]placed) error {
	if err := json.Unmarshal(cfg.raw, &l.cfg); err != nil {
		return fmt.Errorf("read configuration %s: %w", cfg.path, err)
	}
	var guests struct {
		Keystore Postgres `json:"keystore"`
		Limiter  Redis    `json:"limiter"`
	}
	if raw, ok := cfg.apps["hivegate"]; ok {
		if err := json.Unmarshal(raw, &guests); err != nil {
			return fmt.Errorf("read the hivegate options: %w", err)
		}
	}
	l.dsn, l.url = guests.Keystore.DSN, guests.Limiter.URL
	if text, err := os.ReadFile(cfg.path); err == nil && cfg.adapted {
		l.src = readSource(cfg.path, text)
	}
	names := make([]string, 0, len(l.cfg.Apps.HTTP.Servers))
	for name := range l.cfg.Apps.HTTP.Servers {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		server := l.cfg.Apps.HTTP.Servers[name]
		w := server.walk(name)
		l.proxies = append(l.proxies, w.proxies...)
		for _, found := range w.gates {
			g, err := found.gate()
			if err != nil {
				return err
			}
			compiled, mistake := compileGate(g, l.set)
			if mistake != nil {
				return mistake
			}
			g.c = compiled
			gate := &lintGate{Gate: g, hosts: found.hosts, server: server}
			key := gateKey(g)
			if at := gates[key]; len(at) > 0 {
				gate.at = at[0]
				if len(at) > 1 {
					gates[key] = at[1:]
				}
			}
			l.gates = append(l.gates, gate)
		}
	}
	if len(l.gates) == 0 {
		return errNoGate
	}
	return nil
}

// maxLintKeys bounds the keys that are looked at.
const maxLintKeys = 200_000

// readKeys reads the active keys, or says why not.
func (l *linter) readKeys(ctx context.Context) (why string, err error) {
	guest, ok := l.app.runtime.guest.(interface {
		inspect(context.Context) (keystore.Store, error)
	})
	if !ok {
		return "it is not an SQLite file", nil
	}
	if _, err := os.Stat(l.app.runtime.guest.Location()); errors.Is(err, fs.ErrNotExist) {
		return "there is no such file yet", nil
	}
	store, err := guest.inspect(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	query := keystore.Query{Limit: 200, Status: keystore.StatusActive, Now: time.Now()}
	for {
		page, err := store.List(ctx, query)
		if err != nil {
			return "", err
		}
		l.keys = append(l.keys, page.Records...)
		if page.Next == "" || len(l.keys) >= maxLintKeys {
			return "", nil
		}
		query.Cursor = page.Next
	}
}

// judge runs all checks, and leaves out what somebody has said to be meant.
func (l *linter) judge(ignored []string) {
	for _, c := range lintChecks {
		if !slices.Contains(ignored, c.id) {
			l.id = c.id
			c.judge(l)
		}
	}
	comments := make(ignoring)
	l.findings = slices.DeleteFunc(l.findings, func(f finding) bool { return comments.covers(&f) })
	// The same line of a snippet serves several sites; it is told once.
	seen := make(map[finding]bool, len(l.findings))
	l.findings = slices.DeleteFunc(l.findings, func(f finding) bool {
		twice := seen[f]
		seen[f] = true
		return twice
	})
	here, err := os.Getwd()
	if err != nil {
		return // then paths are shown as they are
	}
	for i := range l.findings {
		if rel, err := filepath.Rel(here, l.findings[i].File); err == nil && !strings.HasPrefix(rel, "..") && filepath.IsAbs(l.findings[i].File) {
			l.findings[i].File = rel
		}
	}
}

func (l *linter) print(cmd *cobra.Command, asJSON bool, location, leftOut string) error {
	if asJSON {
		out := struct {
			Findings []finding `json:"findings"`
			Keystore string    `json:"keystore"`
			// LeftOut is why the keys were not looked at; absent when they were.
			LeftOut string `json:"keystore_left_out,omitempty"`
			Keys    int    `json:"keys"` // how many active ones were looked at
		}{append([]finding{}, l.findings...), location, leftOut, len(l.keys)}
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(out); err != nil {
			return err
		}
	} else {
		printFindings(cmd.OutOrStdout(), l.findings)
	}
	if len(l.findings) > 0 {
		return fmt.Errorf("%w: %d", errFindings, len(l.findings))
	}
	return nil
}

func printFindings(w io.Writer, findings []finding) {
	for i := range findings {
		fmt.Fprintln(w, findings[i].String())
	}
}
