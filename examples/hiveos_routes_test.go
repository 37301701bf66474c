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

var update = flag.Bool("update", false, "write hiveos.routes again from the list of operations")

const (
	operationsFile = "../e2e/testdata/hiveos-routes.csv"
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
	scope  string
	class  string
}

// exceptions to "resource of the group, read for GET, write for the rest". The
// first that matches counts.
var exceptions = []exception{
	{"POST", regexp.MustCompile(`^/farms/\{farmId\}/workers/(\{workerId\}/)?command(/|$)`), "workers:command", "commands"},
	// Who may see and change who gets in. Reading is in it where what is read is a secret.
	{"", regexp.MustCompile(`^/account/(password|access|twofa)(/secret)?$`), "account:security", ""},
	{"GET", regexp.MustCompile(`^/account/tokens/\{tokenId\}$`), "account:security", ""},
	{"POST", regexp.MustCompile(`^/account/tokens$`), "account:security", ""},
	{"PATCH", regexp.MustCompile(`^/account/tokens/`), "account:security", ""},
	{"DELETE", regexp.MustCompile(`^/account/tokens/`), "account:security", ""},
	{"DELETE", regexp.MustCompile(`^/account$`), "account:security", ""},
	// Money.
	{"POST", regexp.MustCompile(`^/account/send_money$`), "account:pay", ""},
	{"PUT", regexp.MustCompile(`^/account/referral/payout_addresses$`), "account:pay", ""},
	{"POST", regexp.MustCompile(`^/account/referral/payout_to_account$`), "account:pay", ""},
	{"POST", regexp.MustCompile(`^/farms/\{farmId\}/(send_money|deposit)$`), "farms:pay", ""},
	{"DELETE", regexp.MustCompile(`^/farms/\{farmId\}/payer$`), "farms:pay", ""},
	// What cannot be had back.
	{"POST", regexp.MustCompile(`^/farms/(\{farmId\}/transfer|incoming/(confirm|reject))$`), "farms:transfer", ""},
	{"DELETE", regexp.MustCompile(`^/farms/\{farmId\}/transfer$`), "farms:transfer", ""},
	{"POST", regexp.MustCompile(`^/farms/\{farmId\}/workers/(\{workerId\}/)?transfer$`), "workers:transfer", ""},
	{"DELETE", regexp.MustCompile(`^/farms(/\{farmId\})?$`), "farms:delete", ""},
	// Asks for an estimate and changes nothing.
	{"POST", regexp.MustCompile(`^/hive/mining_calculator$`), "hive:read", ""},
	{"GET", regexp.MustCompile(`^/search$`), "search:read", ""},
}

// resources names the groups whose word is no good resource.
var resources = map[string]string{"farm groups": "farm_groups", "async": "async_requests"}

// requirement is what stands after the pattern.
func (o operation) requirement() (req, class string) {
	if o.public() {
		// Guessing at sign-in, registration and reset costs the address.
		if o.group == "auth" || o.group == "account" {
			return "public", "auth"
		}
		return "public", ""
	}
	for _, e := range exceptions {
		if (e.method == "" || e.method == o.method) && e.path.MatchString(o.path) {
			return e.scope, e.class
		}
	}
	resource := o.group
	if r, ok := resources[resource]; ok {
		resource = r
	}
	if o.method == http.MethodGet {
		return resource + ":read", ""
	}
	return resource + ":write", ""
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

// render writes the route file: one line an operation, a comment a group.
func render(ops []operation) []byte {
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
	b.WriteString("# Made by `make routes` from e2e/testdata/hiveos-routes.csv: change that list, not this file.\n")
	for _, g := range groups {
		fmt.Fprintf(&b, "\n# %s\n", g)
		for _, o := range ops {
			if o.group != g {
				continue
			}
			if o.asksForCode() {
				b.WriteString("# asks for X-Security-Code\n")
			}
			req, class := o.requirement()
			fmt.Fprintf(&b, "%-6s %-*s %s", o.method, width, o.pattern(), req)
			if class != "" {
				fmt.Fprintf(&b, " class=%s", class)
			}
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func TestHiveOSRoutesAreMadeFromTheListOfOperations(t *testing.T) {
	want := render(readOperations(t))
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
	method, pattern, req string
	code                 bool
}

func readLines(t *testing.T) []line {
	t.Helper()
	text, err := os.ReadFile(routesFile)
	if err != nil {
		t.Fatal(err)
	}
	var out []line
	code := false
	for _, l := range strings.Split(string(text), "\n") {
		f := strings.Fields(l)
		if len(f) == 0 || f[0] == "#" {
			code = strings.HasPrefix(l, "# asks for X-Security-Code")
			continue
		}
		if len(f) < 3 {
			t.Fatalf("not a route line: %q", l)
		}
		out = append(out, line{method: f[0], pattern: f[1], req: f[2], code: code})
		code = false
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
		if (l.req == "public") != o.public() {
			t.Errorf("%s %s is %s, the list says %s", l.method, l.pattern, l.req, o.auth)
		}
		if l.code != o.asksForCode() {
			t.Errorf("%s %s: marked as asking for a code: %t, the list says %s", l.method, l.pattern, l.code, o.auth)
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
		if l.req != "public" && !slices.Contains(used, l.req) {
			used = append(used, l.req)
		}
	}
	slices.Sort(listed)
	slices.Sort(used)
	if !slices.Equal(listed, used) {
		t.Errorf("scopes of the Caddyfile and of the routes differ:\n%v\n%v", listed, used)
	}
}
