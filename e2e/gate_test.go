package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// config is what one gate runs with. The zero value is a gate with a SQLite
// keystore, cheap hashes and no routes.
type config struct {
	// options are further global options of Caddy.
	options string
	// global stands in the global hivegate block.
	global string
	// gate stands in the directive.
	gate string
	// before and after stand around the directive; after is, when empty, the
	// proxy to the farm backend.
	before, after string
	// more are further sites.
	more string
	// caddyfile replaces all of the above. In it and in them SITE0 to SITE9,
	// ADMIN, FARM, COMMAND and DIR stand for addresses and the gate's folder.
	caddyfile string
	// files are written beside the Caddyfile.
	files map[string]string
	// env is added to the environment, of the commands too; the words above stand
	// for the same in it.
	env []string
	// program is another binary for the gate and its commands, where it is set.
	program string
}

// cheap is for tests that are not about hashing.
const cheap = "bcrypt_cost 4\n"

func (c config) render() string {
	if c.caddyfile != "" {
		return c.caddyfile
	}
	after := c.after
	if after == "" {
		after = "reverse_proxy FARM"
	}
	return fmt.Sprintf(`{
	admin ADMIN
	persist_config off
	default_bind 127.0.0.1
	skip_install_trust
	%s
	hivegate {
		%s
	}
}
http://SITE0 {
	%s
	hivegate {
		%s
	}
	%s
}
%s
`, c.options, c.global, c.before, c.gate, after, c.more)
}

// gate is one running hivegate, with its two backends.
type gate struct {
	dir           string
	sites         []string // host:port each
	admin         string   // host:port
	farm, command *backend

	env     []string
	program string // empty: the one under test
	log     *syncBuffer
	cmd     *exec.Cmd
	// ended is closed when the process has ended; err is set before.
	ended chan struct{}
	err   error

	// reloaded is set before the first reload.
	reloaded atomic.Bool

	mu      sync.Mutex // guards clients
	clients map[string]*http.Client
}

// start runs a gate until the test ends, and searches then all that it printed.
func start(t testing.TB, c config) *gate {
	t.Helper()
	g := prepare(t, c)
	g.run(t)
	return g
}

// prepare writes the Caddyfile and everything around it, but starts nothing.
func prepare(t testing.TB, c config) *gate {
	t.Helper()
	g := &gate{
		dir:     t.TempDir(),
		farm:    newBackend(t, "farm"),
		command: newBackend(t, "command"),
		log:     &syncBuffer{},
		program: c.program,
		clients: map[string]*http.Client{},
	}
	ports := freePorts(t, 11)
	g.admin, g.sites = ports[0], ports[1:]
	for _, d := range []string{"home", "data", "config"} {
		if err := os.Mkdir(filepath.Join(g.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	g.env = append(cleanEnv(),
		"HOME="+filepath.Join(g.dir, "home"),
		"XDG_DATA_HOME="+filepath.Join(g.dir, "data"),
		"XDG_CONFIG_HOME="+filepath.Join(g.dir, "config"),
	)
	g.write(t, c)
	t.Cleanup(func() {
		for _, c := range g.clients {
			c.CloseIdleConnections()
		}
	})
	return g
}

// cleanEnv is the environment without what would change the gate.
func cleanEnv() []string {
	var out []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case name == "HOME", strings.HasPrefix(name, "XDG_"), strings.HasPrefix(name, "HIVEGATE_"):
		case strings.HasSuffix(strings.ToLower(name), "_proxy"):
		default:
			out = append(out, e)
		}
	}
	return out
}

// write puts a configuration in the place of the gate's own.
func (g *gate) write(t testing.TB, c config) {
	t.Helper()
	for _, e := range c.env {
		g.env = append(g.env, g.fill(e))
	}
	for name, text := range c.files {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(g.caddyfile(), []byte(g.fill(c.render())), 0o600); err != nil {
		t.Fatal(err)
	}
}

var placeholderRE = regexp.MustCompile(`\b(SITE[0-9]|ADMIN|FARM|COMMAND|DIR)\b`)

func (g *gate) fill(text string) string {
	return placeholderRE.ReplaceAllStringFunc(text, func(w string) string {
		switch w {
		case "ADMIN":
			return g.admin
		case "FARM":
			return g.farm.addr
		case "COMMAND":
			return g.command.addr
		case "DIR":
			return g.dir
		}
		return g.sites[w[4]-'0']
	})
}

func (g *gate) caddyfile() string { return filepath.Join(g.dir, "Caddyfile") }

// database is where the default keystore lies.
func (g *gate) database() string {
	return filepath.Join(g.dir, "data", "caddy", "hivegate", "keys.db")
}

// run starts the prepared gate and waits until its first site takes connections.
func (g *gate) run(t testing.TB) {
	t.Helper()
	g.cmd = exec.Command(cmp.Or(g.program, program), "run", "--config", g.caddyfile())
	g.cmd.Dir, g.cmd.Env = g.dir, g.env
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatalf("start the gate: %v", err)
	}
	ended := make(chan struct{})
	g.ended = ended
	go func() {
		g.err = g.cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() { g.stop(t) })
	eventually(t, 30*time.Second, "the gate listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("the gate ended at once: %v\n%s", g.err, g.tail())
		default:
		}
		conn, err := net.DialTimeout("tcp", g.sites[0], time.Second)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
}

// stop ends the gate as an operator would, and judges what it printed. Further
// calls do nothing.
func (g *gate) stop(t testing.TB) {
	t.Helper()
	if g.cmd == nil {
		return
	}
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	select {
	case <-g.ended:
		var exit *exec.ExitError
		if errors.As(g.err, &exit) {
			t.Errorf("the gate ended with %v\n%s", g.err, g.tail())
		}
	case <-late.C:
		_ = g.cmd.Process.Signal(syscall.SIGQUIT) // prints all goroutines
		<-g.ended
		t.Errorf("the gate did not end within 20 s of SIGTERM\n%s", g.tail())
	}
	g.cmd = nil
	g.judgeLog(t)
}

// kill ends the gate as a power cut would.
func (g *gate) kill(t testing.TB) {
	t.Helper()
	_ = g.cmd.Process.Kill()
	<-g.ended
	g.cmd = nil
	g.judgeLog(t)
}

func (g *gate) judgeLog(t testing.TB) {
	t.Helper()
	text := g.log.String()
	mustHoldNoSecret(t, "log of the gate", text)
	for _, bad := range []string{"WARNING: DATA RACE", "panic:", "goroutine 1 ["} {
		if i := strings.Index(text, bad); i >= 0 {
			t.Errorf("log of the gate: %s", text[i:min(len(text), i+4000)])
		}
	}
}

// tail is the end of what the gate printed.
func (g *gate) tail() string {
	text := g.log.String()
	return text[max(0, len(text)-4000):]
}

// reload hands the gate another configuration through its admin endpoint.
func (g *gate) reload(t testing.TB, c config) error {
	t.Helper()
	g.write(t, c)
	return g.load(g.fill(c.render()))
}

// load posts a Caddyfile to the admin endpoint.
func (g *gate) load(caddyfile string) error {
	g.reloaded.Store(true)
	a, err := g.atAdmin(http.MethodPost, "/load", "text/caddyfile", caddyfile)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return fmt.Errorf("load: %d %s", a.status, a.body)
	}
	return nil
}

// setApp sets a member of the running app's JSON configuration, for what has no
// Caddyfile form.
func (g *gate) setApp(t testing.TB, name, value string) {
	t.Helper()
	g.reloaded.Store(true)
	a, err := g.atAdmin(http.MethodPut, "/config/apps/hivegate/"+name, "application/json", value)
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("set %s: %v %v", name, err, a)
	}
}

var adminClient = newClient()

// atAdmin asks the admin endpoint.
func (g *gate) atAdmin(method, path, contentType, body string) (*answer, error) {
	return again(4, func() (*http.Response, error) {
		req, err := http.NewRequest(method, "http://"+g.admin+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		req.Header.Set("Cache-Control", "must-revalidate") // load it even when it is the same
		return adminClient.Do(req)
	})
}

// fromAdmin reads a path of the admin endpoint, and searches it.
func (g *gate) fromAdmin(t testing.TB, path string) string {
	t.Helper()
	a, err := g.atAdmin(http.MethodGet, path, "", "")
	if err != nil {
		t.Fatalf("admin endpoint: %v\n%s", err, g.tail())
	}
	if a.status != http.StatusOK {
		t.Fatalf("admin endpoint %s: %v", path, a)
	}
	mustHoldNoSecret(t, "admin endpoint "+path, string(a.body))
	return string(a.body)
}

// metric adds up the series of a metric whose labels include those given, each
// written as name="value".
func (g *gate) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	sum := 0.0
line:
	for _, l := range strings.Split(g.fromAdmin(t, "/metrics"), "\n") {
		if !strings.HasPrefix(l, name+"{") && !strings.HasPrefix(l, name+" ") {
			continue
		}
		for _, want := range labels {
			if !strings.Contains(l, want) {
				continue line
			}
		}
		v, err := strconv.ParseFloat(l[strings.LastIndexByte(l, ' ')+1:], 64)
		if err != nil {
			t.Fatalf("metric %q: %v", l, err)
		}
		sum += v
	}
	return sum
}

// hashes is how many bcrypt comparisons there have been; the metric also counts
// requests that were refused one.
func (g *gate) hashes(t testing.TB) float64 {
	t.Helper()
	return g.metric(t, "hivegate_hash_total", `result="ok"`) + g.metric(t, "hivegate_hash_total", `result="wrong"`)
}

// openFiles counts the gate's file descriptors.
func (g *gate) openFiles(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// cli is how a command ended.
type cli struct {
	stdout, stderr string
	code           int
}

// hivegate runs a command of the binary on the gate's configuration.
func (g *gate) hivegate(t testing.TB, args ...string) cli {
	t.Helper()
	return g.hivegateIn(t, "", args...)
}

// hivegateIn is hivegate with text on its standard input.
func (g *gate) hivegateIn(t testing.TB, stdin string, args ...string) cli {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, cmp.Or(g.program, tool), args...)
	cmd.Dir = g.dir
	cmd.Env = g.env
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %v: %v", args, err)
	}
	mustHoldNoSecret(t, fmt.Sprintf("standard error of %v", args), stderr.String())
	return cli{stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

// ok fails the test when the command did not end well.
func (c cli) ok(t testing.TB) cli {
	t.Helper()
	if c.code != 0 {
		t.Fatalf("exit code %d\n%s", c.code, c.stderr)
	}
	return c
}

// created is what the create and rotate commands print.
type created struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Prefix      string    `json:"prefix"`
	Owner       string    `json:"owner"`
	Permissions []string  `json:"permissions"`
	Plan        string    `json:"plan"`
	Status      string    `json:"status"`
	CreatedAt   time.Time `json:"created_at"`
	Key         string    `json:"key"`
}

// create makes a key by the command. Its key is in the book from then on.
func (g *gate) create(t testing.TB, args ...string) created {
	t.Helper()
	args = append([]string{"apikey", "create", "--json", "--name", "e2e"}, args...)
	return parseCreated(t, g.hivegate(t, args...).ok(t))
}

// createScoped is create with these scopes.
func (g *gate) createScoped(t testing.TB, scopes ...string) created {
	t.Helper()
	var args []string
	for _, s := range scopes {
		args = append(args, "--scope", s)
	}
	return g.create(t, args...)
}

func parseCreated(t testing.TB, c cli) created {
	t.Helper()
	var k created
	dec := json.NewDecoder(strings.NewReader(c.stdout))
	if err := dec.Decode(&k); err != nil {
		t.Fatalf("standard output is no JSON object: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Fatal("standard output holds more than the one object")
	}
	if k.ID == "" || len(k.Key) < 40 {
		t.Fatalf("created without id or key: %+v", k)
	}
	book.addKey("the key "+k.ID, k.Key)
	return k
}

// freePorts finds addresses that nobody listens on. They are held until all are
// found, so they differ.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	addrs := map[string]bool{}
	var held []net.Listener
	for len(addrs) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
		addrs[l.Addr().String()] = true
	}
	for _, l := range held {
		_ = l.Close()
	}
	var out []string
	for a := range maps.Keys(addrs) {
		out = append(out, a)
	}
	return out
}

// syncBuffer is a buffer that one goroutine writes and another reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
