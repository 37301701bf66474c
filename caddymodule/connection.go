package caddymodule

import (
	"context"
	"net"
	"reflect"
	"sync/atomic"
)

// connection is the client's end of an HTTP/1 connection, which carries one
// request at a time: ending it ends that request. So a request needs no context of
// its own to be ended with its key, which would cost it five allocations.
//
// It is part of the connection's context, and knows itself in it. Idle connections
// are many and each pays for what is kept of it, so it is as small as it can be.
type connection struct {
	*origin
	tcp *net.TCPConn // what origin does not have
	// cancel ends the contexts of the connection and of its request.
	cancel context.CancelFunc
}

// origin is what a connection was opened with: the server's context, which is one
// for all its connections, and the connection itself where that is not TCP's.
type origin struct {
	context.Context
	conn net.Conn
}

type connectionKey struct{}

// connContext returns a server's ConnContext, which notes the connection. A server
// may have several gates; the first one's note serves all.
func connContext() func(context.Context, net.Conn) context.Context {
	var last atomic.Pointer[origin]
	return func(ctx context.Context, conn net.Conn) context.Context {
		if ctx.Value(connectionKey{}) != nil {
			return ctx
		}
		c := &connection{}
		if c.tcp, _ = conn.(*net.TCPConn); c.tcp == nil {
			c.origin = &origin{ctx, conn}
		} else if c.origin = last.Load(); c.origin == nil || !same(c.origin.Context, ctx) {
			c.origin = &origin{Context: ctx}
			last.Store(c.origin)
		}
		// net/http's parent context is never cancelled, so nothing is left behind in
		// it when the connection ends without us.
		ctx, c.cancel = context.WithCancel(c)
		return ctx
	}
}

// same reports whether two contexts are one. Only pointers are compared: what else
// there may be need not be comparable.
func same(a, b context.Context) bool {
	return reflect.TypeOf(b).Kind() == reflect.Pointer && a == b
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
	if c.tcp != nil {
		conn = c.tcp
	}
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn() // TLS would wait for the peer to take its farewell
	}
	_ = conn.Close() // it may be closed already
}
