package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
)

// The backend is a process of its own, so that its time is not counted as a
// gate's, and does as little as an HTTP/1.1 server can: it reads a request's head
// and answers the same 200 bytes of JSON. /stream begins an event stream and
// leaves it open; /_accepted tells how many connections there were.
const (
	backendBody   = `{"data":{"id":42,"name":"worker-42","farm_id":7,"status":"online","hashrate":97.4,"temperature":61,"fans":[68,70,71],"last_seen":"2026-03-01T12:00:00Z","version":"0.6-224"},"meta":{"cached":false}}`
	backendAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 01 Mar 2026 12:00:00 GMT\r\nContent-Length: "
	streamAnswer  = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" +
		"Transfer-Encoding: chunked\r\n\r\n12\r\ndata: 1234567890\n\n\r\n"
)

// serveBackend serves on the address that is its one argument until it is ended.
func serveBackend(args []string) error {
	if len(args) != 1 {
		return errors.New("backend ADDRESS")
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintln(os.Stderr, "backend on", args[0])
	var accepted atomic.Int64
	for {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		accepted.Add(1)
		go answer(conn, &accepted)
	}
}

func answer(conn net.Conn, accepted *atomic.Int64) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReaderSize(conn, 4096)
	ok := []byte(backendAnswer + strconv.Itoa(len(backendBody)) + "\r\n\r\n" + backendBody)
	for {
		first, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		out := ok
		switch {
		case bytes.HasPrefix(first, []byte("GET /stream ")):
			out = []byte(streamAnswer)
		case bytes.HasPrefix(first, []byte("GET /_accepted ")):
			n := strconv.FormatInt(accepted.Load(), 10)
			out = []byte(backendAnswer + strconv.Itoa(len(n)) + "\r\n\r\n" + n)
		}
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) <= 2 {
				break
			}
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}
