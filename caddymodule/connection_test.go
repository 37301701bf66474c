package caddymodule

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
)

// odd is a context that cannot be compared.
type odd struct {
	context.Context
	_ []int
}

func TestEachConnectionEndsAlone(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	overTCP := func() (client, server net.Conn) {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err = ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return client, server
	}
	type name struct{}
	base := context.WithValue(context.Background(), name{}, "server")
	for what, c := range map[string]struct {
		base context.Context
		open func() (client, server net.Conn)
	}{
		"TCP":                             {base, overTCP},
		"another kind":                    {base, net.Pipe},
		"TCP, context without comparison": {odd{Context: base}, overTCP},
	} {
		t.Run(what, func(t *testing.T) {
			note := connContext()
			var (
				clients [2]net.Conn
				ctx     [2]context.Context
				noted   [2]*connection
			)
			for i := range clients {
				client, server := c.open()
				defer func() { _, _ = client.Close(), server.Close() }()
				clients[i], ctx[i] = client, note(c.base, server)
				noted[i], _ = ctx[i].Value(connectionKey{}).(*connection)
				if ctx[i].Value(name{}) != "server" {
					t.Error("the server's values are gone")
				}
				if connContext()(ctx[i], server) != ctx[i] {
					t.Error("a second gate notes it again")
				}
			}
			// As net/http derives a request's.
			request, cancel := context.WithCancel(context.WithValue(ctx[0], http.LocalAddrContextKey, nil))
			defer cancel()
			noted[0].end()
			if !errors.Is(request.Err(), context.Canceled) {
				t.Errorf("the request's context: %v", request.Err())
			}
			if _, err := clients[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the client reads %v, want the end", err)
			}
			if ctx[1].Err() != nil {
				t.Error("the other connection's context ended too")
			}
			go func() { _, _ = clients[1].Write([]byte("x")) }()
			conn := noted[1].conn
			if noted[1].tcp != nil {
				conn = noted[1].tcp
			}
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Errorf("the other connection: %v", err)
			}
		})
	}
}
