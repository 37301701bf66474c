package caddymodule

import (
	"context"
	"net"
)

// connection is the client's end of an HTTP/1 connection, which carries one
// request at a time: ending it ends that request. So a request needs no context of
// its own to be ended with its key, which would cost it five allocations.
//
// It is the connection's context as well, and knows itself in it: idle connections
// are many, and each pays for what is kept of it.
type connection struct {
	context.Context
	conn net.Conn
	// cancel ends the contexts of the connection and of its request.
	cancel context.CancelFunc
}

type connectionKey struct{}

// withConnection is a server's ConnContext: it notes the connection. A server may
// have several gates; the first one's note serves all.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	if ctx.Value(connectionKey{}) != nil {
		return ctx
	}
	// net/http's parent context is never cancelled, so nothing is left behind in it
	// when the connection ends without us.
	ctx, cancel := context.WithCancel(ctx)
	return &connection{Context: ctx, conn: conn, cancel: cancel}
}

// Value implements context.Context.
func (c *connection) Value(key any) any {
	if key == (connectionKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// connectionOf is the connection that a request of HTTP/1 came by; nil where a
// connection is shared, or is not known.
func (x *exchange) connectionOf() *connection {
	if x.r.ProtoMajor != 1 {
		return nil
	}
	c, _ := x.r.Context().Value(connectionKey{}).(*connection)
	return c
}

// end ends the request and its connection. The backend is left although the client
// may have sent more meanwhile, which keeps net/http from noticing that it is gone;
// and a client that does not read is left too, which a context alone does not do.
func (c *connection) end() {
	c.cancel()
	conn := c.conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn() // TLS would wait for the peer to take its farewell
	}
	_ = conn.Close() // it may be closed already
}
