package caddymodule

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/hivegate/hivegate/internal/refusal"
)

// refuse answers in the site's dialect. Everything the request held is given
// back before the answer is written.
func (x *exchange) refuse(ref *refusal.Refusal) error {
	x.refused = ref
	ref.Realm = x.realm()
	ref.DocsURL = x.g.DocsURL
	x.limitHeaders(ref)
	x.releaseSlots()
	x.rt.metrics.refusedWith(x, ref)
	x.logRefusal(ref)
	h := x.responder.ResponseWriter.Header()
	h["X-Request-Id"] = []string{x.requestID}
	x.responder.install(h)
	x.drain()
	x.g.c.dialect.Write(x.responder.ResponseWriter, x.r.Method, ref)
	return nil
}

// What is read of a body that nobody wants, and for how long.
const (
	drainMost = 16 << 10
	drainFor  = 100 * time.Millisecond
)

// drain takes in a small body over HTTP/2 before it is refused. Else the server resets
// the stream behind its answer (RFC 9113 section 8.1), and clients that still send then
// lose the answer: curl 7.88, as Debian 12 has it, one in twenty. Over HTTP/1 net/http
// does as much by itself.
func (x *exchange) drain() {
	r := x.r
	if r.ProtoMajor != 2 || r.ContentLength <= 0 || r.ContentLength > drainMost || len(r.Header["Expect"]) > 0 {
		return
	}
	rc := http.NewResponseController(x.responder.ResponseWriter)
	if rc.SetReadDeadline(time.Now().Add(drainFor)) != nil {
		return // it cannot be kept short
	}
	_, _ = io.CopyN(io.Discard, r.Body, drainMost) // an end that comes early is one
	_ = rc.SetReadDeadline(time.Time{})
}

// realm is the configured realm, or the request's host where that is harmless.
func (x *exchange) realm() string {
	if x.g.c.realm != "" {
		return x.g.c.realm
	}
	host := x.r.Host
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	if host == "" || len(host) > 255 {
		return "hivegate"
	}
	for i := 0; i < len(host); i++ {
		c := host[i]
		if c != '.' && c != '-' && c != ':' && c != '[' && c != ']' && c != '_' &&
			(c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return "hivegate"
		}
	}
	return host
}

// logRefusal writes the one line of a refusal. It names the key's public id and
// the cause, never what was presented.
func (x *exchange) logRefusal(ref *refusal.Refusal) {
	x.logRoute()
	x.writeRefusal("refused", x.g.c.dialect.Status(ref.Reason), ref)
}

func (x *exchange) writeRefusal(what string, status int, ref *refusal.Refusal) {
	level := zapcore.InfoLevel
	if status >= http.StatusInternalServerError {
		level = zapcore.ErrorLevel
	}
	entry := x.g.log.Check(level, what)
	if entry == nil {
		return
	}
	id := x.failedID
	if x.principal != nil {
		id = x.principal.id
	}
	fields := []zap.Field{
		zap.String("reason", string(ref.Reason)),
		zap.Int("status", status),
		zap.String("route", x.routeLabel()),
		zap.String("key_id", id),
		zap.String("address", x.clientIP),
		zap.String("request_id", x.requestID),
	}
	if ref.Err != nil {
		fields = append(fields, zap.Error(ref.Err))
	}
	entry.Write(fields...)
}

// logRoute adds the route, and the reason of a refusal, to the access log.
func (x *exchange) logRoute() {
	if !x.g.logging {
		return
	}
	extra, ok := x.r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if !ok {
		return
	}
	if x.route != nil {
		extra.Add(zap.String("hivegate_route", x.route.label))
	}
	if x.refused != nil {
		extra.Add(zap.String("hivegate_reason", string(x.refused.Reason)))
	}
}
