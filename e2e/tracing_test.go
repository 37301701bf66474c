package e2e

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector receives spans as OTLP over HTTP does (OTLP 1.x, section "OTLP/HTTP").
type collector struct {
	url string

	mu    sync.Mutex // guards spans and raw
	spans []span
	raw   strings.Builder // all that came, as text
}

// span is one span with its instrumentation scope.
type span struct {
	*tracepb.Span
	scope string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req collectorpb.ExportTraceServiceRequest
	if err == nil && r.URL.Path == "/v1/traces" {
		err = proto.Unmarshal(body, &req)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprintf("%s: %v", r.URL.Path, err), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.WriteString(req.String())
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				c.spans = append(c.spans, span{s, ss.GetScope().GetName()})
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// of returns the spans of one trace.
func (c *collector) of(trace string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []span
	for _, s := range c.spans {
		if hex.EncodeToString(s.GetTraceId()) == trace {
			out = append(out, s)
		}
	}
	return out
}

func (s span) attributes() map[string]string {
	out := map[string]string{}
	for _, kv := range s.GetAttributes() {
		switch v := kv.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			out[kv.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			out[kv.GetKey()] = fmt.Sprint(v.IntValue)
		default:
			out[kv.GetKey()] = fmt.Sprint(kv.GetValue())
		}
	}
	return out
}

// traced sends its spans at once.
func traced(c config, to *collector) config {
	c.before = "tracing {\n\t\tspan site\n\t}\n" + c.before
	c.env = append(c.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+to.url, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_TRACES_SAMPLER=parentbased_always_on")
	return c
}

// Every decision is a span named hivegate below the span of Caddy's tracing
// directive, in the trace of the caller; the backend goes on in the same trace.
func TestTheGatesSpanJoinsCaddysTrace(t *testing.T) {
	to := newCollector(t)
	g := start(t, traced(farms, to))
	k := g.create(t, "--scope", "farms:read", "--plan", "tiny")
	for i, c := range []struct {
		name, method, target string
		changes              []change
		status               int
		want                 map[string]string // of the gate's span
	}{
		{"allowed", "GET", "/farms/7", []change{key(k.Key)}, 200, map[string]string{
			"hivegate.outcome": "allowed", "hivegate.kind": "api_key", "hivegate.plan": "tiny", "hivegate.route": "GET,PATCH /farms/{farmId}"}},
		{"public", "GET", "/healthz", nil, 200, map[string]string{
			"hivegate.outcome": "allowed", "hivegate.kind": "anonymous", "hivegate.plan": "", "hivegate.route": "GET /healthz"}},
		{"refused", "POST", "/crews", []change{key(k.Key)}, 403, map[string]string{
			"hivegate.outcome": "insufficient_scope", "hivegate.kind": "api_key", "hivegate.plan": "tiny", "http.response.status_code": "403"}},
		{"unknown", "GET", "/farms", nil, 401, map[string]string{
			"hivegate.outcome": "missing_credentials", "hivegate.kind": "anonymous", "http.response.status_code": "401"}},
		{"raw path", "GET", "/farms//" + k.Key, nil, 400, map[string]string{
			"hivegate.outcome": "ambiguous_path", "hivegate.route": "", "http.response.status_code": "400"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			trace := fmt.Sprintf("4bf92f3577b34da6a3ce929d0e0e47%02d", i)
			const caller = "00f067aa0ba902b7"
			a := g.do(t, c.method, c.target, append(c.changes, header("Traceparent", "00-"+trace+"-"+caller+"-01"))...)
			if a.status != c.status {
				t.Fatalf("status %d, want %d: %s", a.status, c.status, a.body)
			}
			var gate, site *span
			eventually(t, 10*time.Second, "both spans have arrived", func() bool {
				for _, s := range to.of(trace) {
					switch s.GetName() {
					case "hivegate":
						gate = &s
					case "site":
						site = &s
					}
				}
				return gate != nil && site != nil
			})
			if got := hex.EncodeToString(site.GetParentSpanId()); got != caller {
				t.Errorf("the parent of Caddy's span is %q, want the caller's %q", got, caller)
			}
			if got, want := hex.EncodeToString(gate.GetParentSpanId()), hex.EncodeToString(site.GetSpanId()); got != want {
				t.Errorf("the parent of the gate's span is %q, want Caddy's %q", got, want)
			}
			if gate.scope != "github.com/hivegate/hivegate" {
				t.Errorf("instrumentation scope %q", gate.scope)
			}
			if gate.GetStartTimeUnixNano() < site.GetStartTimeUnixNano() || gate.GetEndTimeUnixNano() > site.GetEndTimeUnixNano() ||
				gate.GetEndTimeUnixNano() <= gate.GetStartTimeUnixNano() {
				t.Errorf("the gate's span, %d to %d, is not inside Caddy's, %d to %d",
					gate.GetStartTimeUnixNano(), gate.GetEndTimeUnixNano(), site.GetStartTimeUnixNano(), site.GetEndTimeUnixNano())
			}
			got := gate.attributes()
			c.want["hivegate.request_id"] = a.header.Get("X-Request-Id")
			for name, want := range c.want {
				if v, there := got[name]; !there || v != want {
					t.Errorf("%s = %q (there: %t), want %q", name, v, there, want)
				}
			}
			if v, there := got["http.response.status_code"]; there && c.status == 200 {
				t.Errorf("the answer is the backend's, and the gate's span says %s", v)
			}
			if n := named(to.of(trace), "hivegate"); n != 1 {
				t.Errorf("%d spans of the gate for one request", n)
			}
			for _, s := range to.of(trace) {
				if s.scope == "github.com/hivegate/hivegate" {
					mustHoldNoSecret(t, "a span of the gate", s.String())
					if strings.Contains(s.String(), k.ID) || strings.Contains(s.String(), "127.0.0.1") {
						t.Errorf("the gate's span holds an id or an address: %s", s.String())
					}
				}
			}
			if c.status == 200 {
				if parent := g.farm.got(t).header.Get("Traceparent"); !strings.Contains(parent, trace) {
					t.Errorf("the backend was sent the traceparent %q, want the trace %s", parent, trace)
				}
			}
		})
	}
}

// A refusal that is the server's own fault marks the span as failed; what a
// caller did wrong does not.
func TestOnlyFaultsOfTheServerFailTheSpan(t *testing.T) {
	to := newCollector(t)
	g := start(t, traced(farms, to))
	k := g.createScoped(t, "farms:read")
	g.breakStore(t)
	var status int
	trace := func(n int) string { return fmt.Sprintf("4bf92f3577b34da6a3ce929d0e0f%04d", n) }
	n := 0
	eventually(t, 20*time.Second, "the broken keystore is a refusal", func() bool {
		n++
		a := g.get(t, "/farms", key(k.Key), header("Traceparent", "00-"+trace(n)+"-00f067aa0ba902b7-01"))
		status = a.status
		return status == 503
	})
	n++
	g.get(t, "/farms", header("Traceparent", "00-"+trace(n)+"-00f067aa0ba902b7-01")).refused(t, 401, "missing_credentials")
	for i, want := range map[int]tracepb.Status_StatusCode{n - 1: tracepb.Status_STATUS_CODE_ERROR, n: tracepb.Status_STATUS_CODE_UNSET} {
		eventually(t, 10*time.Second, "the span has arrived", func() bool { return named(to.of(trace(i)), "hivegate") == 1 })
		for _, s := range to.of(trace(i)) {
			if s.GetName() == "hivegate" && s.GetStatus().GetCode() != want {
				t.Errorf("status of the span is %s, want %s: %s", s.GetStatus(), want, s.String())
			}
		}
	}
}

func named(spans []span, name string) int {
	n := 0
	for _, s := range spans {
		if s.GetName() == name {
			n++
		}
	}
	return n
}
