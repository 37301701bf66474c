//go:build unix

package testservers

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Redis is a running redis-server that keeps nothing on disk.
type Redis struct {
	Port int

	program, dir string
	args         []string
	log          *os.File
	cmd          *exec.Cmd
	ended        chan struct{}
}

// StartRedis starts a redis-server with further arguments, such as
// "--requirepass", "secret".
func StartRedis(args ...string) (_ *Redis, err error) {
	r := &Redis{args: args}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if r.program, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("redis-server 6.2 or later is %w: run internal/testservers/install.sh as root (Debian, Ubuntu), or install it on the PATH", ErrNotInstalled)
	}
	if r.dir, err = os.MkdirTemp("", "hivegate-redis-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.log, err = os.Create(filepath.Join(r.dir, "log")); err != nil {
		return nil, err
	}
	if r.Port, err = freePort(); err != nil {
		return nil, err
	}
	return r, r.Start()
}

// Start starts the server again after Kill, empty and on the same port, and
// returns when it takes connections.
func (r *Redis) Start() error {
	args := append([]string{"--port", strconv.Itoa(r.Port), "--bind", "127.0.0.1", "--dir", r.dir,
		"--save", "", "--appendonly", "no", "--protected-mode", "no"}, r.args...)
	if len(r.args) > 0 && r.args[0] == "--sentinel" { // its own configuration says the rest
		args = r.args[1:]
	}
	deadline := time.Now().Add(startTimeout)
	for {
		r.cmd = exec.Command(r.program, args...) //nolint:gosec // the machine's own Redis
		r.cmd.Dir = r.dir
		r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
		r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := r.cmd.Start(); err != nil {
			return fmt.Errorf("start Redis: %w", err)
		}
		r.ended = make(chan struct{})
		go func(cmd *exec.Cmd, ended chan struct{}) {
			_ = cmd.Wait() // how it ended is in its log
			close(ended)
		}(r.cmd, r.ended)
		if r.awaitReady(deadline) {
			return nil
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(r.log.Name())
			return fmt.Errorf("redis-server did not come up: %s", text)
		}
	}
}

func (r *Redis) awaitReady(deadline time.Time) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		select {
		case <-r.ended:
			return false
		case <-tick.C:
		}
		conn, err := net.DialTimeout("tcp", r.Addr(), time.Second)
		if err != nil {
			if r.listensElsewhere() {
				return true // TLS alone
			}
			continue
		}
		_ = conn.Close()
		return true
	}
	return false
}

// listensElsewhere: with "--port 0" among the arguments another port is meant.
func (r *Redis) listensElsewhere() bool {
	for i := range r.args {
		if r.args[i] == "--tls-port" {
			conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", r.args[i+1]), time.Second)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		}
	}
	return false
}

// Addr is where it listens.
func (r *Redis) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Port)) }

// URL names it.
func (r *Redis) URL() string { return "redis://" + r.Addr() }

// Pid is the process that runs.
func (r *Redis) Pid() int { return r.cmd.Process.Pid }

// Dir is its folder.
func (r *Redis) Dir() string { return r.dir }

// Do sends one command over a connection of its own and returns the raw reply:
// of a bulk text the text, of an array its texts joined with spaces.
func (r *Redis) Do(words ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", r.Addr(), 2*time.Second)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := io.WriteString(conn, b.String()); err != nil {
		return "", err
	}
	return readReply(bufio.NewReader(conn))
}

func readReply(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", errors.New("an empty reply")
	}
	switch line[0] {
	case '-':
		return "", errors.New(line[1:])
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return "", err
		}
		text := make([]byte, n+2)
		_, err = io.ReadFull(in, text)
		return string(text[:n]), err
	case '*':
		n, err := strconv.Atoi(line[1:])
		if err != nil {
			return "", err
		}
		var all []string
		for range n {
			one, err := readReply(in)
			if err != nil {
				return "", err
			}
			all = append(all, one)
		}
		return strings.Join(all, " "), nil
	}
	return line[1:], nil
}

// Kill ends it as a power cut would: what it knew is gone.
func (r *Redis) Kill() error {
	err := r.signal(syscall.SIGKILL)
	<-r.ended
	return err
}

// Pause stops it, Resume lets it go on.
func (r *Redis) Pause() error { return r.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (r *Redis) Resume() error { return r.signal(syscall.SIGCONT) }

// Close ends the server and removes its folder.
func (r *Redis) Close() error {
	if r.cmd != nil && r.cmd.Process != nil {
		_ = r.signal(syscall.SIGKILL)
		<-r.ended
	}
	if r.log != nil {
		_ = r.log.Close()
	}
	return os.RemoveAll(r.dir)
}

func (r *Redis) signal(sig syscall.Signal) error {
	if err := r.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal redis-server: %w", err)
	}
	return nil
}

// StartSentinel starts a sentinel that watches a master under a name, and takes it
// for lost after half a second.
func StartSentinel(name, master string) (*Redis, error) {
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hivegate-sentinel-")
	if err != nil {
		return nil, err
	}
	r := &Redis{dir: dir}
	for _, program := range []string{"redis-server", "valkey-server"} {
		if r.program, err = exec.LookPath(program); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("redis-server is %w", ErrNotInstalled)
	}
	if r.Port, err = freePort(); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\nprotected-mode no\ndir %s\nsentinel monitor %s %s %s 1\n"+
		"sentinel down-after-milliseconds %s 500\nsentinel failover-timeout %s 5000\n", r.Port, dir, name, host, port, name, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if r.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	r.args = []string{"--sentinel", file, "--sentinel"}
	return r, r.Start()
}
