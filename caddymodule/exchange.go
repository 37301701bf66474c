package caddymodule

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/hivegate/hivegate/internal/bodyrule"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/limiter"
)

// gateVar marks, in Caddy's table of request variables, that a gate was met.
const gateVar = "hivegate"

var (
	errSecondGate = errors.New("the request met a second hivegate handler; gate each request once")
	errClosed     = errors.New("this configuration is closed")
)

// exchange is one request on its way through the gate. It lives as long as the
// request and its access log, so it is not reused, and holds what may be asked of
// then: the answer's headers and what the placeholders say. All else is in scratch.
// 504 bytes, for a size class of 512 (see the test): memory that no cache has yet is
// what a request's own memory costs.
type exchange struct {
	responder
	*scratch // until ServeHTTP returns

	g         *Gate
	r         *http.Request
	route     *compiledRoute
	principal *principal // nil: anonymous, or not yet known
	refused   *refusal.Refusal
}

// scratch is the memory of one decision, and of the request until its answer is
// finished. It is reused: nothing that outlives ServeHTTP may look at it.
type scratch struct {
	rt   *runtime
	now  time.Time
	path string // escaped, as routes match it

	clientIP     string
	trusted      bool
	loginHeaders bool
	forwarded    bool // some proxy forwards for somebody else
	limited      bool // dec describes limits that applied
	holding      bool // slots were taken and must be given back
	keysAPI      bool // the path is one of the keys API's
	joined       bool // node is among the key's open requests
	kind         refusal.Kind
	failedID     string // the key whose secret was not right
	guard        attempts

	entry   *keystore.Entry
	secret  int
	hash    []byte // of that secret; the record's own bytes
	subject string
	factor  string // how a second factor was proven; empty: none was
	// address is whose bucket the client's address uses; empty: not yet asked for.
	address string
	match   policy.Match
	req     limiter.Request
	dec     limiter.Decision
	// handled is what the keys API took: no part of the decision.
	handled time.Duration

	node   keystore.StreamNode
	conn   *connection        // the request ends with its connection
	cancel context.CancelFunc // it has a context of its own to be ended by
	// What else the request ends with; see endsWith.
	companions []companion
	tokenEnds  *time.Timer
	// ruled are the rules that the body met: they are asked again with the route.
	ruled bodyrule.Match
}

var scratches = sync.Pool{New: func() any {
	return &scratch{
		req: limiter.Request{Demands: make([]limiter.Demand, 0, 8), Holds: make([]limiter.Hold, 0, 4)},
		dec: limiter.Decision{States: make([]limiter.State, 0, 8)},
	}
}}

func takeScratch() *scratch {
	return scratches.Get().(*scratch) //nolint:errcheck // the pool holds nothing else
}

func (s *scratch) reset() {
	s.req.Demands = s.req.Demands[:0]
	s.req.Holds = s.req.Holds[:0]
	s.req.OnFailure = limiter.FailDefault
	s.dec = limiter.Decision{States: s.dec.States[:0]}
}

// free gives the scratch back without what it pointed to, and without anything that
// the next request could take for its own.
func (s *scratch) free() {
	clear(s.req.Demands)
	clear(s.req.Holds)
	clear(s.dec.States)
	*s = scratch{
		req: limiter.Request{Demands: s.req.Demands[:0], Holds: s.req.Holds[:0]},
		dec: limiter.Decision{States: s.dec.States[:0]},
	}
	scratches.Put(s)
}

func (s *scratch) demand(l *limiter.Limit, subject string, cost int) {
	s.demandAt(nil, l, subject, cost)
}

// demandAt is demand where somebody keeps the bucket's place.
func (s *scratch) demandAt(p *limiter.Place, l *limiter.Limit, subject string, cost int) {
	s.req.Demands = append(s.req.Demands, limiter.Demand{Limit: l, Subject: subject, Cost: cost, Place: p})
}

// leave gives back what the request held: its slots, its place among the key's
// open requests, its reference on the backends and its scratch.
func (x *exchange) leave() {
	if x.joined {
		x.entry.Leave(&x.node)
	}
	if x.cancel != nil {
		x.leaveEndings()
		x.cancel()
	}
	x.releaseSlots()
	x.rt.life.leave()
	s := x.scratch
	x.scratch = nil // it is another request's from here on
	s.free()
}

func (x *exchange) releaseSlots() {
	if x.holding {
		x.holding = false
		x.rt.limits.Release(&x.scratch.req, &x.scratch.dec)
	}
}

// forward hands the request on. The slots are held until the answer is
// finished, the client is gone, or the upgraded connection ends: that is when
// the next handler returns.
func (x *exchange) forward(next caddyhttp.Handler) error {
	x.rt.metrics.passed(x)
	r, others := x.r, x.endsWith()
	if x.entry == nil && !others {
		return x.answered(x.carryOn(next, r))
	}
	// The request must end when its key does. Plain cancellation is what
	// reverse_proxy takes for a client that left, so it neither retries nor
	// answers.
	if !others {
		x.conn = x.connectionOf()
	}
	if x.conn == nil {
		ctx, cancel := context.WithCancel(r.Context())
		x.cancel, r = cancel, r.WithContext(ctx)
	}
	if x.entry != nil {
		x.node.Stream, x.joined = x, true
		x.entry.Join(&x.node)
		x.used()
	}
	if others {
		x.joinEndings()
	}
	return x.answered(x.carryOn(next, r))
}

// answered puts the gate's headers where no handler has written an answer: what
// the server or the routes for errors write then carries them too.
func (x *exchange) answered(err error) error {
	if !x.done {
		x.finish()
	}
	x.responder.dropTrailers()
	return err
}

// Allowed implements keystore.Stream: whether the request may stay open now
// that its key's record has changed, or has come of age.
func (x *exchange) Allowed(rec *keystore.Record, now time.Time) bool {
	if rec.StatusAt(now) != keystore.StatusActive {
		return false
	}
	if !secretHolds(rec, x.hash, now) {
		return false // rotated, and the overlap has ended
	}
	if len(rec.IPAllowlist) > 0 && !rec.AllowsAddr(x.addr()) {
		return false
	}
	if x.route == nil {
		return true
	}
	// The match belongs to the request's own goroutine, so the route is looked up
	// anew. The rest of the scratch does not change while the request is joined.
	var m policy.Match
	x.g.c.table.Match(x.method(), x.path, &m)
	if m.Found != policy.Matched {
		return false
	}
	grants := x.rt.universe.CompileLenient(rec.Scopes)
	if m.Route.Check(grants, &m).Kind != policy.VerdictOK {
		return false
	}
	for i := range x.ruled.Rules() {
		if x.route.needs[i].Check(grants, &m).Kind != policy.VerdictOK {
			return false
		}
	}
	return true
}

// Cut implements keystore.Stream. The keystore calls it while the request is
// joined, so its writer is still in use.
func (x *exchange) Cut() {
	if x.conn != nil {
		x.conn.end()
		return
	}
	x.cancel()
	// Go's HTTP/2 transport does not look at the context while it waits for more
	// of the request's body, as it does in every gRPC call that streams both ways:
	// hence an end to the body as well. Over HTTP/1 the deadline would be the
	// connection's, and reach requests that come after this one.
	if x.r.ProtoMajor > 1 {
		_ = http.NewResponseController(x).SetReadDeadline(time.Unix(1, 0))
	}
}

// placeholder answers for this request's placeholders.
func (x *exchange) placeholder(name string) (any, bool) {
	const auth, gate = "http.auth.user.", "http.hivegate."
	switch {
	case len(name) > len(gate) && name[:len(gate)] == gate:
		switch name[len(gate):] {
		case "route":
			return x.routeLabel(), true
		case "reason":
			return x.reason(), true
		}
	case len(name) > len(auth) && name[:len(auth)] == auth:
		return x.userPlaceholder(name[len(auth):])
	}
	return nil, false
}

func (x *exchange) userPlaceholder(field string) (any, bool) {
	p := x.principal
	if p == nil {
		// A refused caller is nobody, an anonymous one has a kind alone.
		p = &nobody
		if x.refused == nil {
			p = &anonymous
		}
	}
	switch field {
	case "id":
		return p.id, true
	case "key_id":
		if p.kind != kindAPIKey {
			return "", true // a sub or a role is no key's id
		}
		return p.id, true
	case "kind":
		return p.kind, true
	case "owner":
		return p.owner, true
	case "plan":
		return p.planName(), true
	case "scopes":
		return p.scopesText, true
	}
	return nil, false
}

// Principals of whom nothing else is known.
var nobody, anonymous = principal{}, principal{kind: kindAnonymous}

func (x *exchange) routeLabel() string {
	if x.route == nil {
		return ""
	}
	return x.route.label
}

func (x *exchange) reason() string {
	if x.refused == nil {
		if e := x.responder.envelope; e != nil && e.ref != nil {
			return string(e.ref.Reason)
		}
		if x.shadow != nil && x.shadow.ref != nil {
			return string(x.shadow.ref.Reason)
		}
		return ""
	}
	return string(x.refused.Reason)
}

// addr is the client's address, parsed where it is needed: most requests of
// keys do without.
func (x *exchange) addr() netip.Addr { return addressOf(x.clientIP) }

// addressSubject is whose bucket the client's address uses.
func (x *exchange) addressSubject() string {
	if x.scratch.address == "" {
		x.scratch.address = addressSubject(x.addr())
	}
	return x.scratch.address
}

// cleanTrailers removes forbidden names from the trailers: the announced ones
// now, and what the body brings when it ends.
func (x *exchange) cleanTrailers() {
	r := x.r
	if r.Trailer == nil && r.ContentLength >= 0 {
		return
	}
	x.dropTrailers()
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &trailerBody{ReadCloser: r.Body, x: x}
	}
}

func (x *exchange) dropTrailers() {
	for name := range x.r.Trailer {
		if x.g.c.cleaner.Forbidden(name, false) || x.g.c.credentialHeader(name) {
			delete(x.r.Trailer, name)
		}
	}
}

// credentialHeader reports whether a name is one that credentials are looked for
// under: behind a body they have no business.
func (c *compiledGate) credentialHeader(name string) bool {
	name = http.CanonicalHeaderKey(name)
	if name == "Authorization" || name == "Cookie" || name == "Proxy-Authorization" {
		return true
	}
	for i := range c.headers {
		if c.headers[i].name == name {
			return true
		}
	}
	return false
}

// trailerBody removes forbidden trailers as soon as the body has ended, which
// is when net/http fills them in and before anybody can forward them.
type trailerBody struct {
	io.ReadCloser
	x *exchange
}

func (b *trailerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.x.dropTrailers()
	}
	return n, err
}

func peerIsLoopback(remoteAddr string) bool {
	host, _, err := net.SplitHostPort(remoteAddr)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// newRequestID makes an identifier of 128 random bits in hex. It is no secret:
// the runtime's generator is seeded from the system and good enough.
func (a *arena) newRequestID() string {
	var id [16]byte
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // an identifier, no secret
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // the same
	return a.keep(hex.AppendEncode(a.room(), id[:]))
}
