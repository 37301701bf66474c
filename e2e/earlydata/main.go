// Command earlydata asks a server over HTTP/3 twice in a row, the second time
// in TLS early data, as often as it is told, and prints what came back.
//
// It is a program of its own because quic-go's client races with itself when a
// stream is opened before the handshake is done, which ends any test that runs
// with the race detector; so it is built without.
//
// Arguments: the server's address, its certificate authority's file, the
// number of times. The API key comes on standard input. Each answer in early
// data is one line of JSON on standard output.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "earlydata:", err)
		os.Exit(1)
	}
}

// Answer is one line of the output.
type Answer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// ticketCache tells when a session ticket has come.
type ticketCache struct {
	tls.ClientSessionCache
	came chan struct{}
}

func (c *ticketCache) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, s)
	if s != nil {
		select {
		case c.came <- struct{}{}:
		default:
		}
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: earlydata ADDRESS CA-FILE TIMES")
	}
	times, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(args[1]) //nolint:gosec // the test names the file
	if err != nil {
		return err
	}
	key, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(args[0])
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	cache := &ticketCache{ClientSessionCache: tls.NewLRUClientSessionCache(4), came: make(chan struct{}, 1)}
	conf := &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS13, ClientSessionCache: cache}
	ask := func(method string) (*Answer, error) {
		return one(args[0], "https://localhost:"+port+"/farms", method, strings.TrimSpace(string(key)), conf)
	}
	for range times {
		if a, err := ask(http.MethodGet); err != nil || a.Status != http.StatusOK {
			return fmt.Errorf("full handshake: answer %+v, error %w", a, err)
		}
		select {
		case <-cache.came:
		case <-time.After(10 * time.Second):
			return errors.New("no session ticket came")
		}
		a, err := ask(http3.MethodGet0RTT)
		if err != nil {
			return fmt.Errorf("early data: %w", err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
			return err
		}
	}
	return nil
}

// one sends one request over a connection of its own.
func one(addr, url, method, key string, conf *tls.Config) (*Answer, error) {
	tr := &http3.Transport{
		TLSClientConfig: conf.Clone(),
		Dial: func(ctx context.Context, _ string, conf *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, addr, conf, qc)
		},
	}
	defer func() { _ = tr.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, nil) //nolint:gosec // the test names the server
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, err
}
