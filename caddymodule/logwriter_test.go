package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// sheet is an output that notes each write.
type sheet struct {
	mu     sync.Mutex
	writes []string
	fail   error
	closed bool
}

func (s *sheet) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	s.writes = append(s.writes, string(p))
	return len(p), nil
}

func (s *sheet) Close() error { s.closed = true; return nil }

func (s *sheet) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.writes, "|")
}

// gathered is a gatherer whose clock and timer the test turns.
type gathered struct {
	*gatherer
	*sheet
	t    *testing.T
	time time.Time
	tick func()
}

func newGathered(t *testing.T) *gathered {
	g := &gathered{sheet: &sheet{}, t: t, time: time.Unix(1, 0)}
	g.gatherer = &gatherer{out: g.sheet, now: func() time.Time { return g.time }, after: func(d time.Duration, f func()) {
		if g.tick != nil || d != gatherFor {
			t.Errorf("a second timer, or one of %v", d)
		}
		g.tick = f
	}}
	return g
}

func (g *gathered) line(s string) {
	g.t.Helper()
	if n, err := g.gatherer.Write([]byte(s)); n != len(s) || err != nil {
		g.t.Errorf("%q: %d, %v", s, n, err)
	}
}

// pass lets the timer come.
func (g *gathered) pass() {
	g.t.Helper()
	g.time = g.time.Add(gatherFor)
	if g.tick == nil {
		g.t.Fatal("no timer is set")
	}
	f := g.tick
	g.tick = nil
	f()
}

func (g *gathered) want(want string) {
	g.t.Helper()
	if got := g.sheet.String(); got != want {
		g.t.Errorf("written: %q, want %q", got, want)
	}
}

func TestALineIsWrittenAtOnceUnlessOthersWereJustNow(t *testing.T) {
	g := newGathered(t)
	g.line("a")
	g.want("a")
	g.line("b")
	g.line("c")
	g.want("a")
	g.pass()
	g.want("a|bc")
	if g.tick != nil {
		t.Error("a timer runs although nothing waits")
	}
	g.time = g.time.Add(gatherFor - 1)
	g.line("d")
	g.want("a|bc")
	g.pass()
	g.want("a|bc|d")
	g.time = g.time.Add(gatherFor)
	g.line("e")
	g.want("a|bc|d|e")
}

func TestLinesThatComeWhileOthersAreWrittenWaitForTheNextTime(t *testing.T) {
	g := newGathered(t)
	g.line("a")
	g.line("b")
	g.gatherer.out = writeFunc(func(p []byte) (int, error) {
		g.gatherer.out = g.sheet
		g.time = g.time.Add(time.Second) // a slow disk
		g.line("c")                      // by somebody else, meanwhile
		return g.sheet.Write(p)
	})
	g.pass()
	g.want("a|b")
	g.pass()
	g.want("a|b|c")
}

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }
func (f writeFunc) Close() error                { return nil }

func TestNoMoreWaitsThanTheBound(t *testing.T) {
	g := newGathered(t)
	g.line("a")
	half := strings.Repeat("x", gatherMost/2)
	g.line(half)
	g.line(half)
	g.want("a")
	g.line("b")
	g.want("a|" + half + half)
	g.pass()
	g.want("a|" + half + half + "|b")
}

func TestWhatWaitsIsWrittenWhenTheLogOrTheProcessEnds(t *testing.T) {
	g := newGathered(t)
	g.line("a")
	g.line("b")
	gatherers.add(g.gatherer)
	gatherers.exit()
	g.want("a|b")
	g.line("c") // "shutdown complete"
	g.want("a|b|c")
	if err := g.gatherer.Close(); err != nil || !g.closed {
		t.Errorf("close: %v, closed %v", err, g.closed)
	}
	g = newGathered(t)
	g.line("a")
	g.line("b")
	if err := g.gatherer.Close(); err != nil || !g.closed {
		t.Errorf("close: %v, closed %v", err, g.closed)
	}
	g.want("a|b")
}

func TestAnErrorOfLinesThatWaitedIsTold(t *testing.T) {
	full := errors.New("no space left")
	g := newGathered(t)
	g.line("a")
	g.line("b")
	g.fail = full
	g.pass()
	g.fail = nil
	if _, err := g.gatherer.Write([]byte("c")); !errors.Is(err, full) {
		t.Errorf("the next line: %v", err)
	}
	g.line("d")
	g.pass()
	g.want("a|cd")
	g.fail = full
	g.line("e")
	if err := g.gatherer.Close(); !errors.Is(err, full) || !g.closed {
		t.Errorf("close: %v, closed %v", err, g.closed)
	}
}

func TestALineThatComesAtTheEndStaysBehindThoseBeingWritten(t *testing.T) {
	g := newGathered(t)
	g.line("a")
	g.line("b")
	writing, write := make(chan struct{}), make(chan struct{})
	g.gatherer.out = writeFunc(func(p []byte) (int, error) {
		close(writing)
		<-write
		g.gatherer.out = g.sheet
		return g.sheet.Write(p)
	})
	ended, written := make(chan struct{}), make(chan struct{})
	go func() { g.end(); close(ended) }()
	<-writing
	go func() { g.line("c"); close(written) }()
	select {
	case <-written:
		t.Error("c was written before b")
	case <-time.After(20 * time.Millisecond):
	}
	close(write)
	<-ended
	<-written
	g.want("a|b|c")
}

// TestLinesStayWholeAndInOrder writes from several goroutines, with the real timer.
func TestLinesStayWholeAndInOrder(t *testing.T) {
	out := &sheet{}
	g := &gatherer{out: out, now: time.Now, after: func(d time.Duration, f func()) { time.AfterFunc(d/100, f) }}
	const writers, each = 4, 5000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := fmt.Fprintf(g, "%d %d %s\n", w, i, strings.Repeat("y", i%97)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	var next [writers]int
	for line := range strings.Lines(strings.Join(out.writes, "")) {
		var w, i int
		var rest string
		if _, err := fmt.Sscan(line, &w, &i, &rest); err != nil && i%97 > 0 {
			t.Fatalf("%q: %v", line, err)
		}
		if i != next[w] || len(rest) != i%97 {
			t.Fatalf("%q comes where line %d of %d should", line, next[w], w)
		}
		next[w]++
	}
	for w, n := range next {
		if n != each {
			t.Errorf("%d lines of %d", n, w)
		}
	}
	if n := len(out.writes); n >= writers*each/2 {
		t.Errorf("%d writes for %d lines", n, writers*each)
	}
}

func TestLogOutputHivegateInTheCaddyfile(t *testing.T) {
	adapt := func(output string) (json.RawMessage, error) {
		text := "{\n\tlog {\n\t\toutput " + output + "\n\t}\n}\n:8080\n"
		config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
		if err != nil {
			return nil, err
		}
		var c struct {
			Logging struct {
				Logs map[string]struct{ Writer json.RawMessage }
			}
		}
		err = json.Unmarshal(config, &c)
		return c.Logging.Logs["default"].Writer, err
	}
	for output, want := range map[string]string{
		"hivegate":                  `{"output":"hivegate"}`,
		"hivegate stdout":           `{"output":"hivegate","writer":{"output":"stdout"}}`,
		"hivegate stderr":           `{"output":"hivegate","writer":{"output":"stderr"}}`,
		"hivegate file /x/gate.log": `{"output":"hivegate","writer":{"filename":"/x/gate.log","output":"file"}}`,
		"hivegate file /x/gate.log {\n roll_keep 3\n}": `{"output":"hivegate","writer":{"filename":"/x/gate.log","output":"file","roll_keep":3}}`,
	} {
		if got, err := adapt(output); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v, want %s", output, got, err, want)
		}
	}
	for _, output := range []string{"hivegate hivegate", "hivegate nowhere", "hivegate file", "hivegate stderr x", "hivegate stdout {\n a\n}"} {
		if got, err := adapt(output); err == nil {
			t.Errorf("%s: taken as %s", output, got)
		}
	}
}

func TestLogOutputHivegateWritesToItsOutput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gate.log")
	raw := caddyconfig.JSON(map[string]string{"output": "file", "filename": file}, nil)
	w := &LogWriter{WriterRaw: raw}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	if err := w.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.String(), file) || !strings.Contains(w.WriterKey(), file) || !strings.HasPrefix(w.WriterKey(), "hivegate:") {
		t.Errorf("it calls itself %q and %q", w.String(), w.WriterKey())
	}
	out, err := w.OpenWriter()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		fmt.Fprintf(out, "%d\n", i)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || bytes.Count(got, []byte("\n")) != 100 || !bytes.HasPrefix(got, []byte("0\n1\n")) {
		t.Errorf("%v, %.40q", err, got)
	}
	bad := &LogWriter{WriterRaw: json.RawMessage(`{"output":"nowhere"}`)}
	if err := bad.Provision(ctx); err == nil {
		t.Error("an unknown output is taken")
	}
	for _, address := range []string{"udp/127.0.0.1:514", "udp4/127.0.0.1:514", "unixgram//run/log"} {
		bad := &LogWriter{WriterRaw: caddyconfig.JSON(map[string]string{"output": "net", "address": address}, nil)}
		if err := bad.Provision(ctx); err == nil || !strings.Contains(err.Error(), "output net "+address) {
			t.Errorf("%s: %v", address, err)
		}
	}
	stream := &LogWriter{WriterRaw: caddyconfig.JSON(map[string]string{"output": "net", "address": "tcp/127.0.0.1:514"}, nil)}
	if err := stream.Provision(ctx); err != nil {
		t.Error(err)
	}
	if err := new(LogWriter).UnmarshalCaddyfile(caddyfile.NewTestDispenser("hivegate nowhere")); err == nil {
		t.Error("an unknown output is taken")
	}
}
