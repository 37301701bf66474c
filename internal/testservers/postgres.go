//go:build unix

package testservers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNotInstalled is wrapped by the error for a server that the machine lacks. Its
// text says what to install.
var ErrNotInstalled = errors.New("not installed")

// Postgres is a running PostgreSQL with the superuser "postgres", who needs no
// password.
type Postgres struct {
	Port int

	bin, dir string
	as       *syscall.Credential // nil: as the caller
	log      *os.File
	cmd      *exec.Cmd
}

// startTimeout is for a server to come up, recovery after a kill included.
const startTimeout = 60 * time.Second

// StartPostgres makes a new database cluster and starts it.
func StartPostgres() (*Postgres, error) {
	return startPostgres(func(p *Postgres) error {
		_, err := p.run("initdb", "-D", p.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
		return err
	})
}

// StartStandby copies the running server at primary (its address, or that of a way to
// it) and starts the copy as a hot standby of it, until Promote.
func StartStandby(primary string) (*Postgres, error) {
	host, port, err := net.SplitHostPort(primary)
	if err != nil {
		return nil, err
	}
	return startPostgres(func(p *Postgres) error {
		_, err := p.run("pg_basebackup", "-h", host, "-p", port, "-U", "postgres", "-D", p.data(), "-R", "-X", "stream", "-c", "fast", "--no-sync")
		return err
	})
}

// Promote makes a primary of a standby, and returns when it takes changes.
func (p *Postgres) Promote() error {
	if out, err := p.SQL("postgres", `SELECT pg_promote(true, 60)`); err != nil || out != "t" {
		return fmt.Errorf("promote the standby: %w (%s)", err, out)
	}
	return nil
}

// startPostgres starts a server on the data that fill provides.
func startPostgres(fill func(*Postgres) error) (_ *Postgres, err error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	p := &Postgres{bin: bin}
	if p.dir, err = os.MkdirTemp("", "hivegate-postgres-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if os.Getuid() == 0 { // the server refuses to run as root
		if p.as, err = unprivileged(); err != nil {
			return nil, err
		}
		if err := os.Chown(p.dir, int(p.as.Uid), int(p.as.Gid)); err != nil {
			return nil, err
		}
	}
	if err := fill(p); err != nil {
		return nil, err
	}
	if p.log, err = os.Create(filepath.Join(p.dir, "log")); err != nil {
		return nil, err
	}
	if p.Port, err = freePort(); err != nil {
		return nil, err
	}
	return p, p.Start()
}

// Start starts the server again after Kill or Stop, and returns when it takes
// connections.
func (p *Postgres) Start() error {
	deadline := time.Now().Add(startTimeout)
	for {
		p.cmd = exec.Command(filepath.Join(p.bin, "postgres"), "-D", p.data(), //nolint:gosec // the machine's own PostgreSQL
			"-p", strconv.Itoa(p.Port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
			"-c", "fsync=off", "-c", "max_connections=200", "-c", "log_min_messages=warning")
		p.cmd.Dir = p.dir
		p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Setpgid: true}
		if err := p.cmd.Start(); err != nil {
			return fmt.Errorf("start PostgreSQL: %w", err)
		}
		ended := make(chan struct{})
		go func(cmd *exec.Cmd) {
			_ = cmd.Wait() // how it ended is in its log
			close(ended)
		}(p.cmd)
		if p.awaitReady(ended, deadline) {
			return nil
		}
		// After a kill its last processes may still hold the shared memory.
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(p.log.Name())
			return fmt.Errorf("PostgreSQL did not come up: %s", text)
		}
	}
}

func (p *Postgres) awaitReady(ended <-chan struct{}, deadline time.Time) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		select {
		case <-ended:
			return false
		case <-tick.C:
		}
		if _, err := p.run("pg_isready", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(p.Port)); err == nil {
			return true
		}
	}
	return false
}

// Addr is where it listens.
func (p *Postgres) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port)) }

// DSN names a database on it.
func (p *Postgres) DSN(user, database string) string {
	return "postgres://" + user + "@" + p.Addr() + "/" + database + "?sslmode=disable"
}

// SQL runs statements as the superuser and returns what they print.
func (p *Postgres) SQL(database, statements string) (string, error) {
	out, err := p.run("psql", "-h", "127.0.0.1", "-p", strconv.Itoa(p.Port), "-U", "postgres", "-d", database,
		"-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statements)
	return strings.TrimSpace(out), err
}

// Script runs a script of psql as the superuser, with variables NAME=VALUE.
func (p *Postgres) Script(database, script string, variables ...string) (string, error) {
	args := []string{"-h", "127.0.0.1", "-p", strconv.Itoa(p.Port), "-U", "postgres", "-d", database, "-X", "-q", "-v", "ON_ERROR_STOP=1"}
	for _, v := range variables {
		args = append(args, "-v", v)
	}
	return p.runIn(script, "psql", append(args, "-f", "-")...)
}

// Kill ends all its processes as a power cut would.
func (p *Postgres) Kill() error {
	err := p.signal(syscall.SIGKILL)
	p.awaitEnd()
	return err
}

// Pause stops all its processes, Resume lets them go on.
func (p *Postgres) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Postgres) Resume() error { return p.signal(syscall.SIGCONT) }

// Close ends the server and removes its folder.
func (p *Postgres) Close() error {
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.signal(syscall.SIGCONT)
		_ = p.signal(syscall.SIGKILL) // nothing in it is worth a checkpoint
		p.awaitEnd()
	}
	if p.log != nil {
		_ = p.log.Close()
	}
	return os.RemoveAll(p.dir)
}

func (p *Postgres) awaitEnd() {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if syscall.Kill(p.cmd.Process.Pid, 0) != nil {
			return
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // another process: there is nothing to wait on
	}
}

// signal reaches the server and its children, which lead sessions of their own.
func (p *Postgres) signal(sig syscall.Signal) error {
	pid := p.cmd.Process.Pid
	children := childrenOf(pid)
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal PostgreSQL: %w", err)
	}
	for _, child := range children {
		if err := syscall.Kill(child, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal PostgreSQL: %w", err)
		}
	}
	return nil
}

// childrenOf reads /proc; without one there are none to find, and the children
// end by themselves when they miss their parent.
func childrenOf(parent int) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		_, rest, _ := bytes.Cut(raw, []byte(") "))
		fields := strings.Fields(string(rest))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

// run runs one of PostgreSQL's own programs.
func (p *Postgres) run(name string, args ...string) (string, error) {
	return p.runIn("", name, args...)
}

func (p *Postgres) runIn(stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...) //nolint:gosec // the machine's own PostgreSQL
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "PGCONNECT_TIMEOUT=5", "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// postgresBin finds the newest server: Debian keeps it off the PATH.
func postgresBin() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	sort.Slice(found, func(i, j int) bool { return debianVersion(found[i]) < debianVersion(found[j]) })
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	return "", fmt.Errorf("PostgreSQL 15 or later is %w: run internal/testservers/install.sh as root (Debian, Ubuntu), or install the server with initdb on the PATH", ErrNotInstalled)
}

func debianVersion(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// unprivileged is who the server runs as where the tests run as root.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("there is neither a user postgres nor nobody to run PostgreSQL as")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("not a TCP address")
	}
	return addr.Port, nil
}
