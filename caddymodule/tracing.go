package caddymodule

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/hivegate/hivegate/internal/refusal"
)

// tracerName is the instrumentation scope of the gate's spans.
const tracerName = "github.com/hivegate/hivegate"

// trace reports the decision as a span of its own, named `hivegate`, below the
// one that Caddy's `tracing` directive has opened. ref is nil where the request
// goes on.
//
// The span is made when the decision has been taken, with the time at which the
// request arrived as its beginning: nothing inside a decision is traced any
// finer, and so a site without `tracing` pays for one look into the context.
// The next handlers are no part of it; they go on under Caddy's span.
//
// Spans leave for collectors that other people read. They hold words of the
// configuration and the request id, under which the log has the rest: no key,
// no key id, owner or subject, no address, no raw path, no text of a cause.
func (x *exchange) trace(ref *refusal.Refusal) {
	ctx := x.r.Context()
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return
	}
	kind, plan := x.caller()
	outcome := x.outcome(ref)
	attrs := append(make([]attribute.KeyValue, 0, 6),
		attribute.String("hivegate.outcome", outcome),
		attribute.String("hivegate.kind", kind),
		attribute.String("hivegate.plan", plan),
		attribute.String("hivegate.route", x.routeLabel()),
		attribute.String("hivegate.request_id", x.requestID),
	)
	status := 0
	if ref != nil && x.refused != nil {
		status = x.g.c.dialect.Status(ref.Reason)
		attrs = append(attrs, attribute.Int("http.response.status_code", status))
	}
	_, span := parent.TracerProvider().Tracer(tracerName).Start(ctx, "hivegate",
		trace.WithTimestamp(x.now), trace.WithAttributes(attrs...))
	if status >= http.StatusInternalServerError {
		// What a caller did wrong is no fault of the server
		// (OpenTelemetry semantic conventions, HTTP spans).
		span.SetStatus(codes.Error, outcome)
	}
	span.End()
}
