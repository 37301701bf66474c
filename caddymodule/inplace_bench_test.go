package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // a whole Caddy

	"github.com/hivegate/hivegate/keystore"
)

// BenchmarkInPlace is the gate where it works: between Caddy's server and its
// reverse_proxy, over loopback, beside a bare reverse_proxy of the same process.
// An operation is a turn of a hundred requests at each. Shown are the quickest tenth
// of the turns, which neighbours disturb least, by request and with client and
// backend in it; the ratio of the middle half; and how much more the gate allocates.
// Run it with -cpu 1, so that no time goes into waking other threads.
func BenchmarkInPlace(b *testing.B) {
	p := newInPlace(b)
	for _, c := range []struct{ name, credential string }{{"key", p.key}, {"jwt", p.token}} {
		b.Run(c.name, func(b *testing.B) {
			sides := [2]*inPlaceConn{p.dial(b, p.bare, c.credential), p.dial(b, p.gated, c.credential)}
			for b.Loop() {
				for _, s := range sides {
					s.turn(b)
				}
			}
			bare, gate := sides[0], sides[1]
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(bare.quick(), "bare-ns")
			b.ReportMetric(gate.quick()-bare.quick(), "more-ns")
			b.ReportMetric(gate.usual()/bare.usual(), "ratio")
			b.ReportMetric(gate.bytes-bare.bytes, "more-B")
			b.ReportMetric(gate.objects-bare.objects, "more-allocs")
		})
	}
}

// BenchmarkInPlaceRefused is what a refusal costs beside requests that pass: those of
// the bare proxy, and those of the gate. Its log line is written to a file.
func BenchmarkInPlaceRefused(b *testing.B) {
	p := newInPlace(b)
	unknown, _ := keystore.DefaultFormat().Generate()
	for _, c := range []struct {
		name, credential string
	}{{"malformed", "hive_sk_" + strings.Repeat("0", 48)}, {"unknown", unknown}} {
		b.Run(c.name, func(b *testing.B) {
			bare, passed, refused := p.dial(b, p.bare, p.key), p.dial(b, p.gated, p.key), p.dial(b, p.gated, c.credential)
			for b.Loop() {
				bare.turn(b)
				passed.turn(b)
				refused.turn(b)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(refused.quick(), "refused-ns")
			b.ReportMetric(refused.usual()/bare.usual(), "of-bare")
			b.ReportMetric(refused.usual()/passed.usual(), "of-passed")
			b.ReportMetric(refused.bytes, "B")
			b.ReportMetric(refused.objects, "allocs")
		})
	}
}

// inPlace is a Caddy with two sites in front of one backend.
type inPlace struct{ bare, gated, key, token string }

func newInPlace(b *testing.B) *inPlace {
	b.Helper()
	backend := inPlaceBackend(b)
	b.Setenv("HIVEGATE_TEST_DB", b.TempDir()+"/keys.db")
	b.Setenv("HIVEGATE_TEST_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	b.Setenv("HIVEGATE_TEST_SECRET", jwtBenchSecret)
	p := &inPlace{bare: freeAddress(b), gated: freeAddress(b), token: signBench(b)}
	var routes strings.Builder
	for i := range 300 {
		fmt.Fprintf(&routes, "\t\t\tGET,POST /r%d/{farmId}/things/{thingId} a:write\n", i)
	}
	proxy := "\treverse_proxy " + backend + " {\n\t\ttransport http {\n\t\t\tcompression off\n\t\t}\n\t}\n}\n"
	text := "{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n\tlog {\n\t\tformat hivegate\n\t\toutput file " + b.TempDir() + "/log\n\t}\n" +
		"\thivegate {\n\t\tkeystore sqlite {$HIVEGATE_TEST_DB}\n" + benchGlobal + benchIssuer + `
	}
}
http://:` + portOf(p.bare) + " {\n" + proxy +
		"http://:" + portOf(p.gated) + " {\n\thivegate {\n\t\troutes {\n" + routes.String() +
		"\t\t\tGET /farms/{farmId}/workers/{workerId} a:read class=ai\n\t\t}\n\t}\n" + proxy
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		b.Fatal(err)
	}
	keys, err := CreateKeys(context.Background(), config, KeyRequest{Name: "bench", Owner: "o", Plan: "p", Scopes: []string{"a:read", "b:read"}})
	if err != nil {
		b.Fatal(err)
	}
	p.key = keys[0].Key
	var cfg json.RawMessage = config
	if err := caddy.Load(cfg, true); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = caddy.Stop() })
	return p
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

func freeAddress(b *testing.B) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

// inPlaceBackend answers each request with the same small object.
func inPlaceBackend(b *testing.B) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = ln.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 01 Mar 2026 12:00:00 GMT\r\nContent-Length: 11\r\n\r\n{\"id\":4200}")
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				in := make([]byte, 4096)
				n := 0
				for {
					m, err := conn.Read(in[n:])
					if err != nil {
						return
					}
					if n += m; bytes.HasSuffix(in[:n], []byte("\r\n\r\n")) {
						n = 0
						if _, err := conn.Write(answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// inPlaceConn sends one request again and again.
type inPlaceConn struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	// status begins each answer, to the class, and end ends it.
	status string
	end    []byte
	buf    [4096]byte

	took           []float64 // nanoseconds a request, by turn
	bytes, objects float64   // a request, in the last turn
}

const inPlaceTurn = 100

func (c *inPlaceConn) turn(b *testing.B) {
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	begin := time.Now()
	for range inPlaceTurn {
		c.ask(b)
	}
	c.took = append(c.took, float64(time.Since(begin).Nanoseconds())/inPlaceTurn)
	goruntime.ReadMemStats(&after)
	c.bytes, c.objects = float64((after.TotalAlloc-before.TotalAlloc)/inPlaceTurn), float64((after.Mallocs-before.Mallocs)/inPlaceTurn)
}

func (c *inPlaceConn) quick() float64 {
	slices.Sort(c.took)
	return c.took[len(c.took)/10]
}

func (c *inPlaceConn) usual() float64 {
	slices.Sort(c.took)
	sum, n := 0.0, 0.0
	for _, t := range c.took[len(c.took)/4 : len(c.took)-len(c.took)/4] {
		sum, n = sum+t, n+1
	}
	return sum / n
}

func (p *inPlace) dial(b *testing.B, addr, credential string) *inPlaceConn {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	c := &inPlaceConn{conn: conn, in: bufio.NewReader(conn), request: []byte("GET /farms/7/workers/42 HTTP/1.1\r\nHost: " + addr +
		"\r\nAuthorization: Bearer " + credential + "\r\nAccept: application/json\r\nUser-Agent: bench/1.0\r\n\r\n")}
	c.learn(b)
	for range 200 {
		c.ask(b)
	}
	return c
}

// learn asks, and notes how the answer begins and ends: in a brace.
func (c *inPlaceConn) learn(b *testing.B) {
	b.Helper()
	if _, err := c.conn.Write(c.request); err != nil {
		b.Fatal(err)
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil || res.StatusCode >= http.StatusInternalServerError {
		b.Fatal(res, err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || len(body) == 0 {
		b.Fatal(err)
	}
	_ = res.Body.Close()
	// Refused is refused: an address that sends unknown keys is in two ways.
	c.end, c.status = body[len(body)-1:], fmt.Sprintf("HTTP/1.1 %d", res.StatusCode/100)
}

// ask reads the answer as cheaply as can be: each ends as the first did.
func (c *inPlaceConn) ask(b *testing.B) {
	if _, err := c.conn.Write(c.request); err != nil {
		b.Fatal(err)
	}
	n := 0
	for !bytes.HasSuffix(c.buf[:n], c.end) {
		m, err := c.conn.Read(c.buf[n:])
		if err != nil {
			b.Fatal(err)
		}
		n += m
	}
	if string(c.buf[:min(n, len(c.status))]) != c.status {
		b.Fatalf("%s", c.buf[:n])
	}
}
