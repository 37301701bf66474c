package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// curl is a complete curl line, as far as the demo prints them.
type curl struct {
	method, url, body string
	header            http.Header
	asIs              bool // --path-as-is
	times             int  // of a [1-N] in the URL
}

var shellWord = regexp.MustCompile(`'[^']*'|[^\s']+`)

func parseCurl(t *testing.T, line string) curl {
	t.Helper()
	c := curl{method: "GET", header: http.Header{}, times: 1}
	words := shellWord.FindAllString(line, -1)
	for i := range words {
		words[i] = strings.Trim(words[i], "'")
	}
	for i := 1; i < len(words); i++ {
		switch w := words[i]; w {
		case "-i", "-s":
		case "--path-as-is":
			c.asIs = true
		case "-X", "-H", "-d", "-o", "-w":
			i++
			switch w {
			case "-X":
				c.method = words[i]
			case "-H":
				name, value, ok := strings.Cut(words[i], ": ")
				if !ok {
					t.Fatalf("not a header: %q", words[i])
				}
				c.header.Add(name, value)
			case "-d":
				c.body = words[i]
			}
		default:
			if !strings.HasPrefix(w, "http://") {
				t.Fatalf("%q in %q: this test does not know what curl makes of it", w, line)
			}
			c.url = w
		}
	}
	if at := strings.Index(c.url, "[1-"); at >= 0 {
		if _, err := fmt.Sscanf(c.url[at:], "[1-%d]", &c.times); err != nil {
			t.Fatalf("%q: %v", c.url, err)
		}
		c.url = c.url[:at] + "1"
	}
	return c
}

// send does what curl would, once, and returns the status.
func (c curl) send(t *testing.T) int {
	t.Helper()
	return c.ask(t).status
}

// ask does what curl would, once.
func (c curl) ask(t *testing.T) *answer {
	t.Helper()
	u, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	target := u.RequestURI()
	if c.asIs {
		target = strings.TrimPrefix(c.url, "http://"+u.Host)
	}
	conn, err := net.DialTimeout("tcp", u.Host, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	var head strings.Builder
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n", c.method, target, u.Host, len(c.body))
	if err := c.header.Write(&head); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, head.String()+"\r\n"+c.body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: c.method})
	if err != nil {
		t.Fatalf("%s %s: %v", c.method, target, err)
	}
	a, err := read(resp)
	if err != nil {
		t.Fatal(err)
	}
	a.search(t, "a line of the demo")
	return a
}

func TestTheDemoDoesWhatItPrintsAndEndsCleanly(t *testing.T) {
	home, tmp := t.TempDir(), t.TempDir()
	addr := freePorts(t, 1)[0]
	cmd := exec.Command(program, "demo", "--listen", addr)
	cmd.Dir = home
	cmd.Env = append(cleanEnv(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home, "TMPDIR="+tmp)
	stdout, stderr := &syncBuffer{}, &syncBuffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	eventually(t, 30*time.Second, "the demo has printed its lines", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the demo ended at once: %v\n%s", err, stderr)
		default:
		}
		return strings.Contains(stdout.String(), "Ctrl-C")
	})

	// Each line stands under a comment that says what it shows.
	lineRE := regexp.MustCompile(`(?m)^# ([0-9]{3}): (.*)\n(curl .*)$`)
	lines := lineRE.FindAllStringSubmatch(stdout.String(), -1)
	if n := strings.Count(stdout.String(), "\ncurl "); n != len(lines) || n == 0 {
		t.Fatalf("%d curl lines, %d of them under a status", n, len(lines))
	}
	shown := map[string]int{}
	for _, l := range lines {
		c := parseCurl(t, l[3])
		status := 0
		for range c.times {
			if status = c.send(t); fmt.Sprint(status) == l[1] {
				break
			}
		}
		if fmt.Sprint(status) != l[1] {
			t.Errorf("%s (%s) answers %d\n%s", l[1], l[2], status, stderr)
		}
		shown[l[1]]++
	}
	for status, n := range map[string]int{"200": 1, "400": 1, "401": 2, "403": 2, "404": 1, "405": 1, "429": 1} {
		if shown[status] < n {
			t.Errorf("the demo shows %d times a %s, want %d", shown[status], status, n)
		}
	}

	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("after Ctrl-C: %v\n%s", err, stderr)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the demo did not end within 20 s of Ctrl-C\n%s", stderr)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	mustHoldNoSecret(t, "the demo's log", stderr.String())
}
