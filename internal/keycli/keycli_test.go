package keycli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"

	"github.com/hivegate/hivegate/internal/keycli"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

var update = flag.Bool("update", false, "write the golden files")

// shell runs commands on one keystore file, each on a newly opened store, as
// separate processes would.
type shell struct {
	t      *testing.T
	path   string
	clock  time.Time
	stdin  string
	opened int // how many times the keystore was opened
}

func newShell(t *testing.T) *shell {
	return &shell{t: t, path: filepath.Join(t.TempDir(), "keys.db"), clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

func (sh *shell) open(cmd *cobra.Command, mayCreate bool) (*keycli.Env, error) {
	sh.opened++
	store, err := sqlstore.OpenSQLite(cmd.Context(), sh.path, sqlstore.Options{Create: mayCreate})
	if err != nil {
		return nil, err
	}
	known := func(what string, names ...string) func(string) error {
		return func(name string) error {
			if !slices.Contains(names, name) {
				return fmt.Errorf("unknown %s %q; did you mean %q?", what, name, names[0])
			}
			return nil
		}
	}
	return &keycli.Env{
		Issuers: []string{"supabase", "main"},
		Keeper: &keystore.Keeper{
			Store: store, Crypto: keystore.NewCrypto([]byte(strings.Repeat("k", 32))), Cost: bcrypt.MinCost,
			Now:           func() time.Time { return sh.clock },
			CheckScope:    known("scope", "crews:read", "crews:write", "workers:command@farmId=42,43"),
			CheckPlan:     known("plan", "operator", "explorer"),
			CheckClass:    known("class", "outcomes", "ai"),
			CheckRequests: known("rate", "5000/m"),
		},
		Presets: map[string][]string{"read_only": {"crews:read"}, "all": {"crews:read", "crews:write"}},
		Path:    sh.path,
		Close:   store.Close,
	}, nil
}

// run runs one command line and returns what it printed and its error.
func (sh *shell) run(args ...string) (stdout, stderr string, err error) {
	sh.t.Helper()
	root := &cobra.Command{Use: "hivegate", SilenceUsage: true}
	root.AddCommand(keycli.Commands(sh.open)...)
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetIn(strings.NewReader(sh.stdin))
	root.SetArgs(append([]string{"apikey"}, args...))
	err = root.ExecuteContext(context.Background())
	return out.String(), errs.String(), err
}

// ok runs a command that must succeed and returns its standard output.
func (sh *shell) ok(args ...string) string {
	sh.t.Helper()
	stdout, stderr, err := sh.run(args...)
	if err != nil {
		sh.t.Fatalf("apikey %q: %v", args, err)
	}
	if want := "keystore: " + sh.path + "\n"; !strings.HasPrefix(stderr, want) {
		sh.t.Errorf("apikey %q: standard error is %q, want it to begin with %q", args, stderr, want)
	}
	return stdout
}

// fails runs a command that must fail with code and say want.
func (sh *shell) fails(code int, want string, args ...string) {
	sh.t.Helper()
	stdout, stderr, err := sh.run(args...)
	if got := keycli.ExitCode(err); got != code || !strings.Contains(stderr, want) {
		sh.t.Errorf("apikey %q: exit code %d, %q, want %d with %q", args, got, stderr, code, want)
	}
	if stdout != "" {
		sh.t.Errorf("apikey %q: standard output is %q", args, stdout)
	}
}

// create makes a key and returns its id and the key.
func (sh *shell) create(args ...string) (id, key string) {
	sh.t.Helper()
	var view keystore.KeyView
	sh.decode(sh.ok(append([]string{"create", "--json"}, args...)...), &view)
	return view.ID, view.Key
}

// decode reads exactly one JSON object.
func (sh *shell) decode(text string, into any) {
	sh.t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		sh.t.Fatalf("%v: %s", err, text)
	}
	if rest := text[dec.InputOffset():]; rest != "\n" || !strings.HasPrefix(text, "{") {
		sh.t.Errorf("more than one object: %q", text)
	}
}

// records reads all keys behind the commands' back.
func (sh *shell) records() []*keystore.Record {
	sh.t.Helper()
	store, err := sqlstore.OpenSQLite(sh.t.Context(), sh.path, sqlstore.Options{})
	if err != nil {
		sh.t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	page, err := store.List(sh.t.Context(), keystore.Query{Limit: 200})
	if err != nil {
		sh.t.Fatal(err)
	}
	return page.Records
}

var (
	someKey = regexp.MustCompile(`hive_sk_[0-9A-Za-z]{48}`)
	someID  = regexp.MustCompile(`key_[0-9A-Za-z]{12}`)
	prefix  = regexp.MustCompile(`hive_sk_[0-9A-Za-z]{4}\b`)
)

// golden compares with a file of testdata, in which what is random is replaced.
func golden(t *testing.T, name, got string) {
	t.Helper()
	got = someKey.ReplaceAllString(got, "hive_sk_"+strings.Repeat("K", 48))
	got = someID.ReplaceAllString(got, "key_IIIIIIIIIIII")
	got = prefix.ReplaceAllString(got, "hive_sk_PPPP")
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%swant\n%s", file, got, want)
	}
}

func TestJSONIsOneObjectAndNothingElse(t *testing.T) {
	sh := newShell(t)
	full := []string{
		"create", "--name", "ci <1>", "--owner", "acme", "--scope", "crews:read", "--scope", "workers:command@farmId=42,43", "--plan", "operator",
		"--expires", "90d", "--requests", "5000/m", "--concurrent", "outcomes=50", "--concurrent", "ai=2", "--allow-ip", "192.0.2.7", "--allow-ip", "2001:db8::/32", "--json",
	}
	var made keystore.KeyView
	text := sh.ok(full...)
	golden(t, "create", text)
	sh.decode(text, &made)
	sh.clock = sh.clock.Add(time.Minute)
	small := sh.ok("create", "--name", "small", "--preset", "read_only", "--json")
	golden(t, "create-small", small)
	golden(t, "list", sh.ok("list", "--json"))
	golden(t, "list-none", sh.ok("list", "--json", "--q", "nothing"))
	golden(t, "show", sh.ok("show", made.ID, "--json"))
	rotated := sh.ok("rotate", made.ID, "--json")
	golden(t, "rotate", rotated)
	golden(t, "disable", sh.ok("disable", made.ID, "--json"))
	golden(t, "enable", sh.ok("enable", made.ID, "--json"))
	golden(t, "revoke", sh.ok("revoke", made.ID, "--wait", "--json"))
	sh.stdin = "legacy_01:" + hash(1) + "\nlegacy_02:" + hash(2) + "\n"
	golden(t, "import", sh.ok("import", "-", "--json"))
	for _, text := range []string{small, rotated} {
		sh.decode(text, new(keystore.KeyView))
	}
	sh.decode(sh.ok("show", made.ID, "--json"), new(keystore.RecordView))
	sh.decode(sh.ok("list", "--json"), &struct {
		Data []keystore.RecordView `json:"data"`
	}{})
}

func TestPeopleReadTablesAndSentences(t *testing.T) {
	sh := newShell(t)
	made := sh.ok("create", "--name", "ci", "--owner", "acme", "--scope", "crews:read", "--scope", "crews:write", "--plan", "operator", "--expires", "2026-12-31T23:00:00+01:00", "--requests", "5000/m", "--concurrent", "outcomes=50", "--allow-ip", "192.0.2.0/24")
	golden(t, "people-create", made)
	id := someID.FindString(made)
	sh.clock = sh.clock.Add(time.Second)
	sh.ok("create", "--name", "Zoë’s very long name for a key that \u202edeploys", "--preset", "all")
	golden(t, "people-list", sh.ok("list"))
	golden(t, "people-rotate", sh.ok("rotate", id, "--overlap", "1d12h"))
	golden(t, "people-show", sh.ok("show", id))
	golden(t, "people-rotate-now", sh.ok("rotate", id, "--overlap", "0s"))
	golden(t, "people-disable", sh.ok("disable", id))
	golden(t, "people-enable", sh.ok("enable", id))
	golden(t, "people-revoke", sh.ok("revoke", id, "--wait"))
	golden(t, "people-show-revoked", sh.ok("show", id))
}

func TestTheKeyIsShownOnceAndNoSecretElsewhere(t *testing.T) {
	sh := newShell(t)
	text := sh.ok("create", "--name", "ci", "--scope", "crews:read")
	if n := len(someKey.FindAllString(text, -1)); n != 1 {
		t.Fatalf("the key is shown %d times", n)
	}
	id, key := someID.FindString(text), someKey.FindString(text)
	text = sh.ok("rotate", id)
	second := someKey.FindString(text)
	var all strings.Builder
	for _, args := range [][]string{{"list"}, {"list", "--json"}, {"show", id}, {"show", id, "--json"}, {"export"}, {"disable", id}, {"enable", id, "--json"}, {"revoke", id}, {"revoke", id, "--json"}} {
		stdout, stderr, err := sh.run(args...)
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(stdout + stderr)
	}
	for _, secret := range []string{key, second, key[20:], second[20:], "$2a$"} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("a secret is shown in %s", all.String())
		}
	}
}

func TestScopesAreNeverSplitAtCommas(t *testing.T) {
	sh := newShell(t)
	sh.create("--name", "ci", "--scope", "workers:command@farmId=42,43", "--scope", "crews:read")
	if got, want := sh.records()[0].Scopes, []string{"workers:command@farmId=42,43", "crews:read"}; !slices.Equal(got, want) {
		t.Errorf("scopes %q, want %q", got, want)
	}
}

func TestWrongUsageExitsWith2AndTouchesNoKeystore(t *testing.T) {
	sh := newShell(t)
	ci := []string{"create", "--name", "ci", "--scope", "crews:read"}
	for _, c := range []struct {
		want string
		args []string
	}{
		{`unknown command "crate"; did you mean "create"?`, []string{"crate"}},
		{"unknown command", []string{"zzzzzzzz"}},
		{"unknown flag: --nmae", []string{"create", "--nmae", "ci"}},
		{"--name is missing", []string{"create", "--scope", "crews:read"}},
		{"--name is missing", []string{"create", "--name", "", "--scope", "crews:read"}},
		{"--scope or --preset is missing", []string{"create", "--name", "ci"}},
		{"exclude each other", append(ci, "--preset", "read_only")},
		{"unknown command", append(ci, "extra")},
		{"--expires is empty", append(ci, "--expires", "")},
		{"--plan is empty", append(ci, "--plan=")},
		{"--owner is empty", append(ci, "--owner=")},
		{"--requests is empty", append(ci, "--requests=")},
		{"--expires: \"soon\" is neither", append(ci, "--expires", "soon")},
		{"--expires: \"2027-01-31\" is neither", append(ci, "--expires", "2027-01-31")},
		{"--expires: 0d is not in the future", append(ci, "--expires", "0d")},
		{"--owner: ", append(ci, "--owner", "owner:x")},
		{"--concurrent: \"outcomes\" is not CLASS=N", append(ci, "--concurrent", "outcomes")},
		{"--concurrent: \"outcomes=many\" is not", append(ci, "--concurrent", "outcomes=many")},
		{"--concurrent: the class \"ai\" is given twice", append(ci, "--concurrent", "ai=1", "--concurrent", "ai=2")},
		{"--allow-ip: \"home\" is neither", append(ci, "--allow-ip", "home")},
		{"--status: \"gone\"", []string{"list", "--status", "gone"}},
		{"accepts 1 arg(s)", []string{"show"}},
		{"accepts 1 arg(s)", []string{"revoke", "a", "b"}},
		{"not a key id", []string{"revoke", "abcdefghijkl"}},
		{"not a key id", []string{"show", "key_../../etc/"}},
		{"--overlap: \"a day\" is not a span", []string{"rotate", "key_abcdefghijkl", "--overlap", "a day"}},
		{"--overlap: \"-1h\" is not a span", []string{"rotate", "key_abcdefghijkl", "--overlap=-1h"}},
		{"--format: \"csv\"", []string{"import", "-", "--format", "csv"}},
		{"--hint is empty", []string{"import", "-", "--hint="}},
	} {
		sh.fails(2, c.want, c.args...)
	}
	if sh.opened != 0 {
		t.Errorf("the keystore was opened %d times", sh.opened)
	}
	if _, err := os.Stat(sh.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a keystore was made: %v", err)
	}
}

func TestAKeyThatIsTypedInsteadOfItsIdIsNotRepeated(t *testing.T) {
	sh := newShell(t)
	_, key := sh.create("--name", "ci", "--scope", "crews:read")
	_, stderr, err := sh.run("revoke", key)
	if keycli.ExitCode(err) != 2 || strings.Contains(stderr, key[12:]) {
		t.Errorf("%v, %q", err, stderr)
	}
}

func TestUnknownNamesAreErrorsThatNameTheNearest(t *testing.T) {
	sh := newShell(t)
	sh.create("--name", "first", "--scope", "crews:read")
	ci := []string{"create", "--name", "ci", "--scope", "crews:read"}
	for _, c := range []struct {
		want string
		args []string
	}{
		{`--scope: unknown scope "crews:raed"; did you mean "crews:read"?`, []string{"create", "--name", "ci", "--scope", "crews:raed"}},
		{`--plan: unknown plan "operater"; did you mean "operator"?`, append(ci, "--plan", "operater")},
		{`--preset: unknown preset "readonly"; did you mean "read_only"?`, []string{"create", "--name", "ci", "--preset", "readonly"}},
		{`--preset: unknown preset "zzzzzzzzz"; there are all, read_only`, []string{"create", "--name", "ci", "--preset", "zzzzzzzzz"}},
		{`--requests: unknown rate "60"`, append(ci, "--requests", "60")},
		{`--concurrent: unknown class "outcome"; did you mean "outcomes"?`, append(ci, "--concurrent", "outcome=1")},
		{`--concurrent: "ai" has 0 slots`, append(ci, "--concurrent", "ai=0")},
		{"--name: the name holds a control character", []string{"create", "--name", "a\tb", "--scope", "crews:read"}},
		{"--expires: 2026-03-01T12:00:00Z is not in the future", append(ci, "--expires", "2026-03-01T12:00:00Z")},
		{"--overlap: must be between", []string{"rotate", sh.records()[0].ID.String(), "--overlap", "2y"}},
	} {
		sh.fails(2, c.want, c.args...)
	}
	if n := len(sh.records()); n != 1 {
		t.Errorf("%d keys, want 1", n)
	}
}

func TestOnlyCreateAndImportMakeAMissingKeystore(t *testing.T) {
	sh := newShell(t)
	for _, args := range [][]string{
		{"list"}, {"list", "--json"}, {"show", "key_abcdefghijkl"}, {"revoke", "key_abcdefghijkl"}, {"disable", "key_abcdefghijkl"},
		{"enable", "key_abcdefghijkl"}, {"rotate", "key_abcdefghijkl"}, {"export"},
	} {
		sh.fails(1, "there is no such file", args...)
	}
	sh.fails(1, "missing.jsonl", "import", filepath.Join(t.TempDir(), "missing.jsonl"))
	if _, err := os.Stat(sh.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a keystore was made: %v", err)
	}
	sh.create("--name", "ci", "--scope", "crews:read")
	other := newShell(t)
	other.stdin = "legacy_01:" + hash(1)
	other.ok("import", "-")
}

func TestAnUnknownOrRevokedKeyExitsWith1(t *testing.T) {
	sh := newShell(t)
	id, _ := sh.create("--name", "ci", "--scope", "crews:read")
	for _, command := range []string{"show", "revoke", "disable", "enable", "rotate"} {
		sh.fails(1, "there is no key key_abcdefghijkl in "+sh.path, command, "key_abcdefghijkl")
	}
	sh.ok("revoke", id)
	sh.ok("revoke", id) // again: nothing to do
	for _, command := range []string{"disable", "enable", "rotate"} {
		sh.fails(1, id+" is revoked, which is for ever", command, id)
	}
}

func TestChangesAreStored(t *testing.T) {
	sh := newShell(t)
	id, key := sh.create("--name", "ci", "--scope", "crews:read")
	check := func(want keystore.Status) *keystore.Record {
		t.Helper()
		rec := sh.records()[0]
		if got := rec.StatusAt(sh.clock); got != want {
			t.Errorf("status %s, want %s", got, want)
		}
		return rec
	}
	sh.ok("disable", id)
	check(keystore.StatusDisabled)
	sh.ok("enable", id)
	check(keystore.StatusActive)
	sh.ok("rotate", id)
	rec := check(keystore.StatusActive)
	if len(rec.Secrets) != 2 || rec.Secrets[1].NotAfter != sh.clock.Add(24*time.Hour) {
		t.Errorf("after a rotation: %d secrets, the old one ends %v", len(rec.Secrets), rec.Secrets[len(rec.Secrets)-1].NotAfter)
	}
	if bcrypt.CompareHashAndPassword(rec.Secrets[1].Hash, []byte(key)) != nil {
		t.Error("the old secret is not the first key's")
	}
	sh.ok("rotate", id, "--overlap", "0s")
	if rec := check(keystore.StatusActive); len(rec.Secrets) != 1 {
		t.Errorf("without overlap: %d secrets", len(rec.Secrets))
	}
	sh.ok("revoke", id)
	check(keystore.StatusRevoked)
}

func TestListsFilterAndGoBeyondAPage(t *testing.T) {
	sh := newShell(t)
	var file strings.Builder
	for i := range 450 {
		fmt.Fprintf(&file, `{"hash":%q,"hint":"legacy_%03d","name":"key %d","owner":"owner%d"}`+"\n", hash(i), i, i, i%3)
	}
	sh.stdin = file.String()
	if got := sh.ok("import", "-"); got != "Imported 450 keys.\n" {
		t.Errorf("import said %q", got)
	}
	count := func(args ...string) int {
		t.Helper()
		var got struct {
			Data []keystore.RecordView `json:"data"`
		}
		sh.decode(sh.ok(append([]string{"list", "--json"}, args...)...), &got)
		return len(got.Data)
	}
	for _, c := range []struct {
		want int
		args []string
	}{
		{450, nil},
		{150, []string{"--owner", "owner1"}},
		{0, []string{"--owner", ""}},
		{450, []string{"--status", "active"}},
		{0, []string{"--status", "revoked"}},
		{111, []string{"--q", "KEY 1"}},
		{39, []string{"--q", "key 1", "--owner", "owner1"}},
	} {
		if got := count(c.args...); got != c.want {
			t.Errorf("list %q: %d keys, want %d", c.args, got, c.want)
		}
	}
	if n := strings.Count(sh.ok("list"), "\n"); n != 451 {
		t.Errorf("the table has %d lines, want 451", n)
	}
	if n := strings.Count(sh.ok("export"), "\n"); n != 450 {
		t.Errorf("the export has %d lines, want 450", n)
	}
}

func TestAnImportNamesWrongLinesAndStoresNothing(t *testing.T) {
	sh := newShell(t)
	file := filepath.Join(t.TempDir(), "keys.jsonl")
	text := fmt.Sprintf("{\"hash\":%q,\"hint\":\"legacy_01\",\"name\":\"a\"}\n{\"hash\":\"x\",\"hint\":\"legacy_01\",\"name\":\"b\"}\n{}\n", hash(1))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sh.fails(1, "line 2: hash: ", "import", file)
	sh.fails(1, "line 3: hash: is missing", "import", file, "--json")
	if n := len(sh.records()); n != 0 {
		t.Errorf("%d keys were stored", n)
	}
	if err := os.WriteFile(file, []byte("bob:"+hash(1)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh.ok("import", file, "--format", "htpasswd", "--hint", "legacy_", "--random")
	rec := sh.records()[0]
	if rec.Name != "bob" || rec.Hint != "legacy_" || !rec.Secrets[0].Random || rec.Secrets[0].Digest != nil {
		t.Errorf("stored %+v", rec)
	}
}

func TestErrorsOfOpeningAndClosingAreReported(t *testing.T) {
	mine := errors.New("mine")
	for name, open := range map[string]keycli.Opener{
		"open": func(*cobra.Command, bool) (*keycli.Env, error) { return nil, mine },
		"close": func(cmd *cobra.Command, mayCreate bool) (*keycli.Env, error) {
			env, err := newShell(t).open(cmd, true)
			if err == nil {
				inner := env.Close
				env.Close = func() error { return errors.Join(inner(), mine) }
			}
			return env, err
		},
	} {
		root := keycli.Commands(open)[0]
		root.SetOut(new(bytes.Buffer))
		root.SetErr(new(bytes.Buffer))
		root.SetArgs([]string{"list"})
		if err := root.ExecuteContext(t.Context()); !errors.Is(err, mine) || keycli.ExitCode(err) != 1 {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	sh := newShell(t)
	for _, args := range [][]string{nil, {"create", "--help"}, {"list", "--help"}, {"show", "-h"}, {"revoke", "-h"}, {"disable", "-h"}, {"enable", "-h"}, {"rotate", "-h"}, {"import", "-h"}, {"export", "-h"}} {
		stdout, _, err := sh.run(args...)
		if err != nil || !strings.Contains(stdout, "Usage:") {
			t.Errorf("%q: %v, %q", args, err, stdout)
		}
	}
	if sh.opened != 0 {
		t.Error("help opened the keystore")
	}
}

// hash is a well-formed bcrypt hash, another for each n.
func hash(n int) string {
	return fmt.Sprintf("$2y$10$abcdefghijklmnopqrstuuGyT0jv8tQq8m2kq1y0h2p2%09d", n)
}
