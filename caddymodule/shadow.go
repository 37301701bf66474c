package caddymodule

import (
	"bytes"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/internal/totp"
)

// shadowPrefix begins the outcome of what would have been refused.
const shadowPrefix = "shadow_"

// shadowState is what a site in shadow mode keeps of one request.
type shadowState struct {
	// ref is why the request would have been refused; nil: it would not.
	ref *refusal.Refusal
	// shown is the value of X-Hivegate-Shadow; empty: none.
	shown string
	body  *recordedBody
}

// refuseTransport refuses for what step 2 found about the connection. On a site
// in shadow mode the request goes on to the other checks, since its path has to
// be judged whatever becomes of it.
func (x *exchange) refuseTransport(ref *refusal.Refusal) *refusal.Refusal {
	if !x.g.c.shadow {
		return ref
	}
	if x.shadow == nil {
		x.shadow = new(shadowState)
	}
	if x.shadow.ref == nil {
		x.shadow.ref = ref
	}
	return nil
}

// shadowed returns what step 2 found on a site in shadow mode.
func (x *exchange) shadowed() *refusal.Refusal {
	if x.shadow == nil {
		return nil
	}
	return x.shadow.ref
}

// deny refuses, or, on a site in shadow mode, says what it would have refused
// and lets the request go on as nobody's. The keys API refuses always: behind it
// is the gate itself.
func (x *exchange) deny(ref *refusal.Refusal, next caddyhttp.Handler) error {
	if !x.g.c.shadow || x.keysAPI {
		return x.refuse(ref)
	}
	if x.shadow == nil {
		x.shadow = new(shadowState)
	}
	x.shadow.ref = ref
	if x.g.c.shadowHeader {
		x.shadow.shown = string(ref.Reason)
	}
	x.limitHeaders(ref)
	x.releaseSlots()
	x.rt.metrics.refusedWith(x, ref)
	x.logRoute()
	x.writeRefusal("would refuse", x.g.c.dialect.Status(ref.Reason), ref)
	if extra, ok := x.r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok && x.g.logging {
		extra.Add(zap.String("hivegate_shadow", string(ref.Reason)))
	}
	x.becomeAnonymous()
	return x.answered(x.carryOn(next, x.r))
}

// becomeAnonymous takes from the request what it would have been refused with:
// its caller, and the keys that it carries, as on public routes. Its body is as
// it came.
func (x *exchange) becomeAnonymous() {
	x.principal, x.entry, x.factor = nil, nil, ""
	x.dropKeysOnPublic()
	if x.route != nil && x.route.asksCode && !x.g.c.codePresent {
		delete(x.r.Header, totp.Header)
	}
	x.put(x.r.Header, "X-Request-Id", valueOnwardID, x.requestID)
	x.put(x.r.Header, x.g.c.identity.kind, valueKind, kindAnonymous)
	if b := x.shadow.body; b != nil && x.r.Body == io.ReadCloser(b) {
		x.r.Body = b.rewound()
	}
}

// recordBody lets a body that rules or signatures read be sent on whole when
// they refuse it. They read no more than their own bounds, and put another body in
// its place when they do not.
func (x *exchange) recordBody() {
	route := x.route
	if route == nil || x.keysAPI || route.rules == nil && !route.signed || x.r.Body == nil || x.r.Body == http.NoBody {
		return
	}
	b := &recordedBody{ReadCloser: x.r.Body}
	x.shadow = &shadowState{body: b}
	x.r.Body = b
}

// recordedBody remembers what was read of a body.
type recordedBody struct {
	io.ReadCloser
	read bytes.Buffer
}

func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Write(p[:n])
	return n, err
}

// rewound is the whole body: what was read, and the rest.
func (b *recordedBody) rewound() io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(&b.read, b.ReadCloser), b.ReadCloser}
}

// outcome is how a decision is counted: by its reason, and with a prefix where
// nothing was refused.
func (x *exchange) outcome(ref *refusal.Refusal) string {
	if ref == nil {
		return outcomeAllowed
	}
	if x.shadow != nil && x.shadow.ref == ref && x.refused == nil {
		return shadowPrefix + string(ref.Reason)
	}
	return string(ref.Reason)
}
