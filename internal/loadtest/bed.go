package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// bed is a folder and the processes of one run. close ends and removes them.
type bed struct {
	dir  string
	ctx  context.Context
	o    *options
	self string // this program, for its own child processes

	hivegate, stock string   // binaries
	variables       []string // of the servers that are started, beside the usual
	running         []*server
}

// server is a process of the bed that listens.
type server struct {
	name, addr string
	admin      string // Caddy's admin endpoint; empty for others
	log        string // file of standard output and error
	cmd        *exec.Cmd
	ended      chan struct{} // closed when the process has ended
	pids       []int         // itself and its children, known once it listens
}

// newBed makes the folder and builds the binaries that are not given.
func newBed(ctx context.Context, o *options, withStock bool) (*bed, error) {
	dir, err := os.MkdirTemp("", "hivegate-load-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	b := &bed{dir: dir, ctx: ctx, o: o, hivegate: o.binary, stock: o.stock}
	if b.self, err = os.Executable(); err != nil {
		return nil, errors.Join(fmt.Errorf("find this program: %w", err), os.RemoveAll(dir))
	}
	if b.hivegate == "" {
		b.hivegate = filepath.Join(dir, "hivegate")
		err = b.build(b.hivegate, "github.com/hivegate/hivegate/cmd/hivegate")
	}
	if err == nil && b.stock == "" && withStock {
		b.stock = filepath.Join(dir, "caddy")
		err = b.build(b.stock, "github.com/caddyserver/caddy/v2/cmd/caddy")
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return b, nil
}

// build is a plain `go build` of a main package of this module or one it requires.
func (b *bed) build(path, pkg string) error {
	fmt.Println("building", pkg)
	cmd := exec.CommandContext(b.ctx, "go", "build", "-o", path, pkg) //nolint:gosec // both are constants of this program
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, bytes.TrimSpace(out))
	}
	return nil
}

func (b *bed) close() {
	for _, s := range b.running {
		s.stop()
	}
	_ = os.RemoveAll(b.dir)
}

// file writes a file into the folder and returns its path.
func (b *bed) file(name, text string) (string, error) {
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, nil
}

// env is the environment of servers: without what would change them.
func (b *bed) env(more ...string) []string {
	var out []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if name == "HOME" || strings.HasPrefix(name, "XDG_") || strings.HasPrefix(name, "HIVEGATE_") || strings.HasSuffix(strings.ToLower(name), "_proxy") {
			continue
		}
		out = append(out, e)
	}
	out = append(out, "HOME="+b.dir, "XDG_DATA_HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir, "LOADTEST_MASTER="+masterKey, "LOADTEST_SECRET="+hmacSecret)
	return append(out, more...)
}

// spawn starts a process and waits until it takes connections at addr. core is
// the processor that it is pinned to; -1: all.
func (b *bed) spawn(name, addr string, core int, args ...string) (*server, error) {
	if core >= 0 {
		args = append([]string{"taskset", "-c", fmt.Sprint(core)}, args...)
	}
	s := &server{name: name, addr: addr, log: filepath.Join(b.dir, fmt.Sprintf("%s-%d.log", name, len(b.running))), ended: make(chan struct{})}
	// Appending, so that the file can be emptied while it is written to.
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer func() { _ = log.Close() }()
	s.cmd = exec.Command(args[0], args[1:]...) //nolint:gosec // the programs that this one compares
	s.cmd.Dir, s.cmd.Env = b.dir, b.env(b.variables...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is in its log
		close(s.ended)
	}()
	b.running = append(b.running, s)
	if err := s.await(b.ctx); err != nil {
		return nil, err
	}
	s.pids = family(s.cmd.Process.Pid)
	return s, nil
}

func (s *server) await(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(60 * time.Second)
	for {
		conn, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.ended:
			return fmt.Errorf("%s ended at once:\n%s", s.name, s.tail())
		case <-late:
			return fmt.Errorf("%s does not listen:\n%s", s.name, s.tail())
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// tail is the end of what a server printed.
func (s *server) tail() string {
	raw, _ := os.ReadFile(s.log)
	return string(raw[max(0, len(raw)-2000):])
}

// stop ends the process and waits for it.
func (s *server) stop() {
	select {
	case <-s.ended:
		return
	default:
	}
	pid := s.cmd.Process.Pid
	_ = syscall.Kill(-pid, syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(500 * time.Millisecond): // Caddy waits for connections; nothing here is worth that
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		<-s.ended
	}
}

// freeAddr finds a loopback address that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// backend starts the small backend.
func (b *bed) backend(core int) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return b.spawn("backend", addr, core, b.self, "backend", addr)
}

// caddy runs a Caddyfile with a binary; SITE and ADMIN stand in it for addresses.
func (b *bed) caddy(name, binary, caddyfile string, core int) (*server, error) {
	site, err := freeAddr()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddr()
	if err != nil {
		return nil, err
	}
	text := strings.NewReplacer("SITE", ":"+portOf(site), "ADMIN", admin).Replace(caddyfile)
	path, err := b.file(name+"-"+portOf(site)+".Caddyfile", text)
	if err != nil {
		return nil, err
	}
	s, err := b.spawn(name, site, core, binary, "run", "--adapter", "caddyfile", "--config", path)
	if err != nil {
		return nil, err
	}
	s.admin = admin
	return s, nil
}

var client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4, DisableCompression: true}}

// get asks once. authorization may be empty.
func (b *bed) get(url, authorization string) (status int, body string, _ error) {
	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

// metric adds up the series of a metric of a Caddy whose labels include those given.
func (b *bed) metric(s *server, name string, labels ...string) (float64, error) {
	status, text, err := b.get("http://"+s.admin+"/metrics", "")
	if err != nil || status != http.StatusOK {
		return 0, fmt.Errorf("read metrics of %s: %d %w", s.name, status, err)
	}
	sum := 0.0
line:
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(line, l) {
				continue line
			}
		}
		var v float64
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v); err != nil {
			return 0, fmt.Errorf("read metric %s: %w", name, err)
		}
		sum += v
	}
	return sum, nil
}

// pause waits, unless the run is ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
