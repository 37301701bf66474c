package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// stream sends requests at a constant rate, whether answers come or not (an open
// loop): request i is due at i/rate. Each connection sends every conns-th of them.
// The latency of a request that had to wait for the answer before it counts from
// when it was due, so a server that stalls is charged for all who would have come
// meanwhile (no coordinated omission). That of a request whose connection was free
// counts from its sending: how late this program's own timer fires is not the
// server's doing.
type stream struct {
	addr  string
	conns int
	rate  float64 // a second
	// until is when no more requests are sent, though some be due; 0: all are sent.
	until time.Duration
	// request is the bytes of request i, and what is told to done.
	request func(i int) []byte
	// done is told each answer, by one goroutine per connection.
	done func(i int, a reply)
}

// reply is one answer. status 0: none came.
type reply struct {
	status     int
	retryAfter bool // it has a Retry-After of at least 1
	due        time.Duration
	latency    time.Duration
}

// run sends n requests and returns when all have been answered or given up.
func (s *stream) run(ctx context.Context, begin time.Time, n int) {
	var wg sync.WaitGroup
	for c := range min(s.conns, n) {
		wg.Go(func() { s.one(ctx, begin, c, n) })
	}
	wg.Wait()
}

// answerTimeout is when an answer counts as lost.
const answerTimeout = 20 * time.Second

func (s *stream) one(ctx context.Context, begin time.Time, first, n int) {
	var l line
	defer l.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := first; i < n; i += s.conns {
		due := time.Duration(float64(i) / s.rate * float64(time.Second))
		from := begin.Add(due)
		if wait := time.Until(from); wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			from = time.Now()
		}
		if s.until > 0 && time.Since(begin) > s.until {
			return
		}
		a := reply{due: due}
		if err := l.ask(s.addr, s.request(i), &a); err != nil {
			a.status = 0
			l.close()
		}
		a.latency = time.Since(from)
		s.done(i, a)
		if ctx.Err() != nil {
			return
		}
	}
}

// line is one connection of HTTP/1.1, as little of it as is needed: net/http's
// client would cost more than the server that is measured.
type line struct {
	conn net.Conn
	in   *bufio.Reader
}

func (l *line) close() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

func (l *line) ask(addr string, request []byte, a *reply) (err error) {
	if l.conn == nil {
		if l.conn, err = net.DialTimeout("tcp", addr, answerTimeout); err != nil {
			l.conn = nil
			return err
		}
		l.in = bufio.NewReaderSize(l.conn, 4096)
	}
	if err := l.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := l.conn.Write(request); err != nil {
		return err
	}
	return l.read(a)
}

// read reads one answer with a Content-Length.
func (l *line) read(a *reply) error {
	first, err := l.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(first) < 13 {
		return errors.New("no status line")
	}
	if a.status, err = strconv.Atoi(string(first[9:12])); err != nil {
		return err
	}
	length, closes := 0, false
	for {
		h, err := l.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(h) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(h, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		case bytes.EqualFold(name, []byte("Retry-After")):
			n, err := strconv.Atoi(string(value))
			a.retryAfter = err == nil && n >= 1
		case bytes.EqualFold(name, []byte("Connection")):
			closes = bytes.EqualFold(value, []byte("close"))
		}
	}
	if _, err := io.CopyN(io.Discard, l.in, int64(length)); err != nil {
		return err
	}
	if closes {
		l.close()
	}
	return nil
}

// requestFor is a GET of the usual target. from is what X-Forwarded-For says;
// empty: nothing.
func requestFor(path, key, from string) []byte {
	if from != "" {
		from = "X-Forwarded-For: " + from + "\r\n"
	}
	return []byte("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load/1.0\r\nAccept: application/json\r\n" +
		"Authorization: Bearer " + key + "\r\n" + from + "\r\n")
}

// record keeps replies in the order of their requests.
type record struct {
	mu      sync.Mutex // guards replies
	replies []reply
}

func (r *record) add(_ int, a reply) {
	r.mu.Lock()
	r.replies = append(r.replies, a)
	r.mu.Unlock()
}

// summary is what became of the requests that were due within a stretch of time.
type summary struct {
	n, ok, lost   int
	byStatus      map[int]int
	noRetryAfter  int // 429 and 503 without a Retry-After
	p50, p99, max time.Duration
}

// sum adds up the replies due from one time to another; ok alone picks 200s for the
// latencies.
func (r *record) sum(from, to time.Duration, only int) summary {
	s := summary{byStatus: map[int]int{}}
	var all []time.Duration
	for _, a := range r.replies {
		if a.due < from || a.due >= to {
			continue
		}
		s.n++
		s.byStatus[a.status]++
		switch {
		case a.status == 0:
			s.lost++
		case a.status == 200:
			s.ok++
		case (a.status == 429 || a.status == 503) && !a.retryAfter:
			s.noRetryAfter++
		}
		if only == 0 || a.status == only {
			all = append(all, a.latency)
		}
	}
	s.p50, s.p99, s.max = quantile(all, 0.5), quantile(all, 0.99), quantile(all, 1)
	return s
}

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	v := slices.Clone(all)
	slices.Sort(v)
	return v[min(len(v)-1, int(math.Ceil(q*float64(len(v))))-1)]
}

func (s summary) String() string {
	return fmt.Sprintf("%d requests, %v, p50 %.2f ms, p99 %.2f ms, max %.2f ms", s.n, s.byStatus, ms(s.p50), ms(s.p99), ms(s.max))
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// perSecond is a quantile of the latencies of 200s for each second of a run.
func (r *record) perSecond(seconds int, q float64) []float64 {
	each := make([][]time.Duration, seconds)
	for _, a := range r.replies {
		if i := int(a.due / time.Second); i < seconds && a.status == 200 {
			each[i] = append(each[i], a.latency)
		}
	}
	out := make([]float64, seconds)
	for i := range each {
		if out[i] = ms(quantile(each[i], q)); len(each[i]) == 0 {
			out[i] = math.NaN()
		}
	}
	return out
}

// plot draws the latencies of one stream over time.
func (r *record) plot(title string, seconds int, spans []span) string {
	return timePlot(title, []series{
		{"p50 of each second", "#4a7ebb", r.perSecond(seconds, 0.5)},
		{"p99", "#e69138", r.perSecond(seconds, 0.99)},
		{"maximum", "#c0504d", r.perSecond(seconds, 1)},
	}, spans)
}
