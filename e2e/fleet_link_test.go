package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// link is a way over the network that can be made bad: a proxy between a gate and
// a server.
type link struct {
	addr string

	mu     sync.Mutex // guards what follows
	target string
	mode   linkMode
	delay  time.Duration
	conns  map[net.Conn]struct{}
	// changed is closed, and made anew, when the mode changes.
	changed chan struct{}
}

type linkMode uint8

const (
	linkGood  linkMode = iota
	linkDrop           // what is sent goes nowhere, and nobody is told
	linkSlow           // every answer comes late
	linkReset          // connections are torn down, and no new one is taken
)

// newLink is a good link to target until it is set otherwise.
func newLink(t testing.TB, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{addr: listener.Addr().String(), target: target, conns: map[net.Conn]struct{}{}, changed: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { l.serve(conn, &wg) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.set(linkReset, 0)
		wg.Wait()
	})
	return l
}

// set makes the link good or bad, for connections that are open too.
func (l *link) set(mode linkMode, delay time.Duration) {
	l.mu.Lock()
	l.mode, l.delay = mode, delay
	close(l.changed)
	l.changed = make(chan struct{})
	var cut []net.Conn
	if mode == linkReset {
		for c := range l.conns {
			cut = append(cut, c)
		}
	}
	l.mu.Unlock()
	for _, c := range cut {
		reset(c)
	}
}

// lead makes the link one to another server: open connections are torn down.
func (l *link) lead(target string) {
	l.mu.Lock()
	l.target = target
	cut := make([]net.Conn, 0, len(l.conns))
	for c := range l.conns {
		cut = append(cut, c)
	}
	l.mu.Unlock()
	for _, c := range cut {
		reset(c)
	}
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// state returns the mode, the delay, and what tells that they changed.
func (l *link) state() (linkMode, time.Duration, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mode, l.delay, l.changed
}

// hold remembers a connection, or reports that the link takes none.
func (l *link) hold(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mode == linkReset {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *link) forget(c net.Conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	_ = c.Close()
}

func (l *link) serve(in net.Conn, wg *sync.WaitGroup) {
	if !l.hold(in) {
		reset(in)
		return
	}
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	out, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil || !l.hold(out) {
		if out != nil {
			reset(out)
		}
		reset(in)
		l.forget(in)
		return
	}
	done := func() { l.forget(in); l.forget(out) }
	wg.Go(func() { defer done(); l.copy(out, in) })
	defer done()
	l.copy(in, out)
}

// copy carries bytes one way, as the mode says. What was dropped stays dropped:
// the connection is of no use any more, and nobody is told.
func (l *link) copy(to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	dropped := false
	for {
		n, err := from.Read(buf)
		if n > 0 {
			mode, delay, changed := l.state()
			switch mode {
			case linkDrop:
				dropped = true
			case linkSlow:
				timer := time.NewTimer(delay / 2) // and as much on the way back
				select {
				case <-timer.C:
				case <-changed:
				}
				timer.Stop()
			}
			if !dropped {
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
		}
		if err != nil {
			return
		}
	}
}
