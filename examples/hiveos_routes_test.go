// Package examples holds the tests of the example configurations; the
// configurations themselves stand beside it.
package examples

import (
	"bytes"
	"encoding/csv"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write hiveos.routes again from the lists of operations and commands")

const (
	operationsFile = "../e2e/testdata/hiveos-routes.csv"
	commandsFile   = "../e2e/testdata/hiveos-commands.csv"
	routesFile     = "hiveos.routes"
	caddyfile      = "hiveos.Caddyfile"
	base           = "/api/v2"
)

// operation is one row of the list of Hive OS operations.
type operation struct {
	method, path, auth, group string
}

// public says whether the operation is open to callers without a credential.
// One row is listed as "public?": its description inherits the bearer scheme,
// but it mails a code to somebody who cannot sign in yet.
func (o operation) public() bool { return strings.HasPrefix(o.auth, "public") }

// asksForCode says whether the API wants X-Security-Code besides the token.
func (o operation) asksForCode() bool { return o.auth == "bearer+code" }

// twoInOne matches a segment that holds two parameters; hivegate's patterns
// have one parameter a segment, which then stands for both.
var twoInOne = regexp.MustCompile(`\{x\}\.\{y\}`)

func (o operation) pattern() string {
	return base + twoInOne.ReplaceAllString(o.path, "{cell}")
}

// exception gives some operations another scope than their group's.
type exception struct {
	method string // empty: any
	path   *regexp.Regexp
	scope  string // what stands there as the requirement
	class  string
	code   bool   // the gate asks for a security code, although the API does not
	field  string // where the body names the command
}

// exceptions to "resource of the group, read for GET, write for the rest". The
// first that matches counts.
var exceptions = []exception{
	{method: "POST", path: regexp.MustCompile(`^/farms/\{farmId\}/workers/\{workerId\}/command$`), scope: "workers:command", class: "commands", field: "command"},
	{method: "POST", path: regexp.MustCompile(`^/farms/\{farmId\}/workers/command$`), scope: "workers:command", class: "commands", field: "data.command"},
	// The same as the commands of these names, in a form of their own.
	{method: "POST", path: regexp.MustCompile(`^/farms/\{farmId\}/workers/command/(amd|nvidia)_upload$`), scope: "workers:command workers:admin", class: "commands", code: true},
	// Who may see and change who gets in. Reading is in it where what is read is a secret.
	{path: regexp.MustCompile(`^/account/(password|access|twofa)(/secret)?$`), scope: "account:security"},
	{method: "GET", path: regexp.MustCompile(`^/account/tokens/\{tokenId\}$`), scope: "account:security"},
	{method: "POST", path: regexp.MustCompile(`^/account/tokens$`), scope: "account:security"},
	{method: "PATCH", path: regexp.MustCompile(`^/account/tokens/`), scope: "account:security"},
	{method: "DELETE", path: regexp.MustCompile(`^/account/tokens/`), scope: "account:security"},
	{method: "DELETE", path: regexp.MustCompile(`^/account$`), scope: "account:security"},
	// Money.
	{method: "POST", path: regexp.MustCompile(`^/account/send_money$`), scope: "account:pay"},
	{method: "PUT", path: regexp.MustCompile(`^/account/referral/payout_addresses$`), scope: "account:pay"},
	{method: "POST", path: regexp.MustCompile(`^/account/referral/payout_to_account$`), scope: "account:pay"},
	{method: "POST", path: regexp.MustCompile(`^/farms/\{farmId\}/(send_money|deposit)$`), scope: "farms:pay"},
	{method: "DELETE", path: regexp.MustCompile(`^/farms/\{farmId\}/payer$`), scope: "farms:pay"},
	// What cannot be had back.
	{method: "POST", path: regexp.MustCompile(`^/farms/(\{farmId\}/transfer|incoming/(confirm|reject))$`), scope: "farms:transfer"},
	{method: "DELETE", path: regexp.MustCompile(`^/farms/\{farmId\}/transfer$`), scope: "farms:transfer"},
	{method: "POST", path: regexp.MustCompile(`^/farms/\{farmId\}/workers/(\{workerId\}/)?transfer$`), scope: "workers:transfer"},
	{method: "DELETE", path: regexp.MustCompile(`^/farms(/\{farmId\})?$`), scope: "farms:delete"},
	// Asks for an estimate and changes nothing.
	{method: "POST", path: regexp.MustCompile(`^/hive/mining_calculator$`), scope: "hive:read"},
	{method: "GET", path: regexp.MustCompile(`^/search$`), scope: "search:read"},
}

// resources names the groups whose word is no good resource.
var resources = map[string]string{"farm groups": "farm_groups", "async": "async_requests"}

// dangerous are the commands that run anything, open a way in, switch a rig off
// or move firmware: they take a second factor and workers:admin.
var dangerous = regexp.MustCompile(`^(exec|shutdown|hssh|teleconsole|(amd|nvidia)_(down|up)load|asic_upgrade)$`)

// requirement is what stands after the pattern.
func (o operation) requirement() exception {
	if o.public() {
		// Guessing at sign-in, registration and reset costs the address.
		if o.group == "auth" || o.group == "account" {
			return exception{scope: "public", class: "auth"}
		}
		return exception{scope: "public"}
	}
	for _, e := range exceptions {
		if (e.method == "" || e.method == o.method) && e.path.MatchString(o.path) {
			e.code = e.code || o.asksForCode()
			return e
		}
	}
	resource := o.group
	if r, ok := resources[resource]; ok {
		resource = r
	}
	right := ":write"
	if o.method == http.MethodGet {
		right = ":read"
	}
	return exception{scope: resource + right, code: o.asksForCode()}
}

// readCommands reads the names of the worker commands, each once.
func readCommands(t *testing.T) (names []string) {
	t.Helper()
	f, err := os.Open(commandsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatalf("read %s: %v", commandsFile, err)
	}
	for _, r := range rows[1:] {
		if !slices.Contains(names, r[0]) {
			names = append(names, r[0])
		}
	}
	return names
}

func readOperations(t *testing.T) []operation {
	t.Helper()
	f, err := os.Open(operationsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatalf("read %s: %v", operationsFile, err)
	}
	var out []operation
	for _, r := range rows[1:] {
		out = append(out, operation{method: r[0], path: r[1], auth: r[3], group: r[6]})
	}
	return out
}

// render writes the route file: one line an operation, with a block of rules
// where the body names a command, and a comment a group.
func render(ops []operation, commands []string) []byte {
	var groups []string
	width := 0
	for _, o := range ops {
		if !slices.Contains(groups, o.group) {
			groups = append(groups, o.group)
		}
		width = max(width, len(o.pattern()))
	}
	slices.Sort(groups)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# The %d operations of the Hive OS API v2, one a line.\n", len(ops))
	b.WriteString("# Made by `make routes` from the lists in e2e/testdata (hiveos-routes.csv and\n# hiveos-commands.csv): change those, not this file.\n")
	for _, g := range groups {
		fmt.Fprintf(&b, "\n# %s\n", g)
		for _, o := range ops {
			if o.group != g {
				continue
			}
			req := o.requirement()
			fmt.Fprintf(&b, "%-6s %-*s %s", o.method, width, o.pattern(), req.scope)
			if req.code {
				b.WriteString(" 2fa")
			}
			if req.class != "" {
				fmt.Fprintf(&b, " class=%s", req.class)
			}
			if req.field != "" {
				b.WriteString(rules(req.field, commands))
			}
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// rules is the block about the command in a body: only known ones pass, and the
// dangerous ones take more.
func rules(field string, commands []string) string {
	ask := slices.DeleteFunc(slices.Clone(commands), func(name string) bool { return !dangerous.MatchString(name) })
	return fmt.Sprintf(" {\n\tjson %s oneof %s\n\tjson %s %s require workers:admin 2fa\n}",
		field, strings.Join(commands, " "), field, strings.Join(ask, " "))
}

func TestHiveOSRoutesAreMadeFromTheListOfOperations(t *testing.T) {
	want := render(readOperations(t), readCommands(t))
	if *update {
		if err := os.WriteFile(routesFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(routesFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what `make routes` writes", routesFile)
	}
}

// line is one route line of the file.
type line struct {
	method, pattern string
	scopes          []string
	code            bool
	rules           []string // of its block, without the word json
}

func readLines(t *testing.T) []line {
	t.Helper()
	text, err := os.ReadFile(routesFile)
	if err != nil {
		t.Fatal(err)
	}
	var out []line
	for _, l := range strings.Split(string(text), "\n") {
		f := strings.Fields(l)
		switch {
		case len(f) == 0 || f[0] == "#" || f[0] == "}":
			continue
		case len(f) < 3:
			t.Fatalf("not a route line: %q", l)
		case f[0] == "json":
			last := &out[len(out)-1]
			last.rules = append(last.rules, strings.Join(f[1:], " "))
			continue
		}
		r := line{method: f[0], pattern: f[1]}
		for _, w := range f[2:] {
			switch {
			case w == "2fa":
				r.code = true
			case w != "{" && !strings.HasPrefix(w, "class="):
				r.scopes = append(r.scopes, w)
			}
		}
		out = append(out, r)
	}
	return out
}

func TestHiveOSRoutesCoverEveryOperationOnce(t *testing.T) {
	ops, lines := readOperations(t), readLines(t)
	if len(ops) != 292 || len(lines) != 292 {
		t.Fatalf("%d operations, %d lines, want 292 of each", len(ops), len(lines))
	}
	have := map[string]line{}
	for _, l := range lines {
		have[l.method+" "+l.pattern] = l
	}
	public, codes := 0, 0
	for _, o := range ops {
		l, ok := have[o.method+" "+o.pattern()]
		if !ok {
			t.Errorf("no line for %s %s", o.method, o.path)
			continue
		}
		if (l.scopes[0] == "public") != o.public() {
			t.Errorf("%s %s is %s, the list says %s", l.method, l.pattern, l.scopes, o.auth)
		}
		// Of the API's own accord no worker command asks for a code.
		if firmware := strings.HasSuffix(l.pattern, "_upload"); l.code != (o.asksForCode() || firmware) {
			t.Errorf("%s %s: marked 2fa: %t, the list says %s", l.method, l.pattern, l.code, o.auth)
		}
		if o.public() {
			public++
		}
		if o.asksForCode() {
			codes++
		}
	}
	if public != 29 || codes != 13 {
		t.Errorf("%d public and %d code-protected operations, want 29 and 13", public, codes)
	}
}

// The two forms of a worker command: to one worker, and to many.
func TestHiveOSCommandsAreExactlyTheKnownOnes(t *testing.T) {
	commands := readCommands(t)
	if len(commands) != 16 {
		t.Fatalf("%d commands, want 16", len(commands))
	}
	want := map[string]string{
		base + "/farms/{farmId}/workers/{workerId}/command": "command",
		base + "/farms/{farmId}/workers/command":            "data.command",
	}
	for _, l := range readLines(t) {
		field, ok := want[l.pattern]
		if !ok {
			if len(l.rules) > 0 {
				t.Errorf("%s %s has rules: %q", l.method, l.pattern, l.rules)
			}
			continue
		}
		delete(want, l.pattern)
		rules := []string{
			field + " oneof " + strings.Join(commands, " "),
			field + " shutdown teleconsole hssh exec amd_download amd_upload nvidia_download nvidia_upload asic_upgrade require workers:admin 2fa",
		}
		if !slices.Equal(l.rules, rules) {
			t.Errorf("%s %s has the rules\n%q, want\n%q", l.method, l.pattern, l.rules, rules)
		}
	}
	if len(want) > 0 {
		t.Errorf("no line for %v", want)
	}
}

// Lines of which neither is the more specific would be refused at load.
// net/http's own multiplexer judges methods and paths by the same rules.
func TestHiveOSRoutesHaveNoConflict(t *testing.T) {
	mux := http.NewServeMux()
	for _, l := range readLines(t) {
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%s %s: %v", l.method, l.pattern, r)
				}
			}()
			mux.Handle(l.method+" "+l.pattern, http.NotFoundHandler())
		}()
	}
}

// Caddy replaces these words in a Caddyfile before hivegate sees them.
func TestHiveOSRoutesUseNoNameThatCaddyRewrites(t *testing.T) {
	rewritten := []string{
		"host", "hostport", "port", "method", "uri", "path", "dir", "file", "query", "remote", "remote_host",
		"remote_port", "scheme", "uuid", "client_ip", "upstream_hostport",
		"orig_method", "orig_uri", "orig_path", "orig_dir", "orig_file", "orig_query",
	}
	name := regexp.MustCompile(`\{([^}]*)\}`)
	for _, l := range readLines(t) {
		for _, m := range name.FindAllStringSubmatch(l.pattern, -1) {
			if slices.Contains(rewritten, m[1]) || strings.HasPrefix(m[1], "tls_") {
				t.Errorf("%s: Caddy rewrites {%s}", l.pattern, m[1])
			}
		}
	}
}

// The Caddyfile closes the list of scopes, so a scope that is missing there
// would be a load error, and one too many a right that opens nothing.
func TestHiveOSCaddyfileListsExactlyTheScopesInUse(t *testing.T) {
	text, err := os.ReadFile(caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, l := range strings.Split(string(text), "\n") {
		if f := strings.Fields(l); len(f) > 1 && f[0] == "scopes" {
			listed = append(listed, f[1:]...)
		}
	}
	var used []string
	for _, l := range readLines(t) {
		for _, scope := range l.scopes {
			if scope != "public" && !slices.Contains(used, scope) {
				used = append(used, scope)
			}
		}
	}
	slices.Sort(listed)
	slices.Sort(used)
	if !slices.Equal(listed, used) {
		t.Errorf("scopes of the Caddyfile and of the routes differ:\n%v\n%v", listed, used)
	}
}
