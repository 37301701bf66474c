package caddymodule

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/hivegate/hivegate/internal/jwtauth"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/limiter"
)

// Kinds of principals, as the identity headers and metrics name them.
const (
	kindAPIKey    = "api_key"
	kindJWT       = "jwt"
	kindAnonymous = "anonymous"
)

// principal is who a credential stands for, compiled against one settings. It
// is plain data, made once per record and settings, and shared by requests.
type principal struct {
	set        *settings
	kind       string
	id         string
	owner      string
	subject    string // whose buckets: owner:<owner>, else key:<id>
	keySubject string // whose are those "per key": key:<id>, jwt:<issuer>:<sub>
	scopes     []string
	scopesText string
	grants     *policy.Grants
	plan       *plan     // nil: no plans exist
	issuer     string    // of a JWT or static key
	aal        string    // of a JWT: aal2 says that a second factor was used
	until      time.Time // of a JWT: from then on it is refused
	// The key's own limits; nil and 0 where the plan's hold.
	requests   *limiter.Limit
	concurrent []int // by class index
	uses       scopeUses
	// Where its buckets are, so that they need not be looked up: first that of its
	// own limit, then those of the plan's, then the classes'.
	places []limiter.Place
}

// Which of places a limit has.
const placeOwn = 0

func placeOfRequests(i int) int { return 1 + i }

func (p *principal) placeOfClass(c *class) int { return placeOfRequests(p.requestLimits()) + c.index }

func (p *principal) requestLimits() int {
	if p.plan == nil {
		return 0
	}
	return len(p.plan.requests)
}

// makePlaces makes room for them, once the plan is known. Without a subject of its
// own the principal counts under its client's address, which has no place.
func (p *principal) makePlaces(classes int) {
	if p.subject != "" {
		p.places = make([]limiter.Place, placeOfRequests(p.requestLimits())+classes)
	}
}

// place is where the bucket is of a limit that counts by owner or key; else nil.
func (p *principal) place(i int, by per) *limiter.Place {
	if by == perIP || p.places == nil {
		return nil
	}
	return &p.places[i]
}

// planName is the plan's name for headers, logs and metrics; empty without one.
func (p *principal) planName() string {
	if p.plan == nil {
		return ""
	}
	return p.plan.name
}

// principalOf returns the compiled principal of a record, compiling it when the
// record, the settings or the universe of scopes has changed since.
func (rt *runtime) principalOf(e *keystore.Entry) *principal {
	if p, ok := e.Attached().(*principal); ok && p.set == rt.settings && !p.grants.Stale(rt.universe) {
		return p
	}
	p := rt.compilePrincipal(e.Record())
	e.Attach(p)
	return p
}

func (rt *runtime) compilePrincipal(rec *keystore.Record) *principal {
	id := rec.ID.String()
	p := &principal{
		set: rt.settings, kind: kindAPIKey, id: id, owner: rec.Owner,
		subject: rec.Subject(), keySubject: "key:" + id,
		scopes: rec.Scopes, scopesText: strings.Join(rec.Scopes, " "),
		// A stored scope that cannot be read grants nothing.
		grants: rt.universe.CompileLenient(rec.Scopes),
	}
	p.plan = rt.planByName[rec.Plan]
	if p.plan == nil {
		p.plan = rt.defaultPlan
		if rec.Plan != "" {
			rt.log.Warn("key names a plan that is gone; the default plan holds",
				zap.String("key_id", id), zap.String("plan", rec.Plan))
		}
	}
	if rec.Limits != nil {
		rt.compileOwnLimits(p, rec.Limits)
	}
	p.makePlaces(len(rt.classes))
	p.uses.init(rt.settings)
	return p
}

func (rt *runtime) compileOwnLimits(p *principal, own *keystore.Limits) {
	if own.Requests != "" {
		b, err := parseBound(policyKey, own.Requests)
		if err != nil {
			rt.log.Warn("key has a limit that cannot be read; the plan's holds",
				zap.String("key_id", p.id), zap.Error(err))
		} else {
			p.requests = b.limit
		}
	}
	for name, n := range own.Concurrent {
		c := rt.classByName[name]
		if c == nil || n < 1 {
			rt.log.Warn("key has a concurrency limit for a class that is gone; it does not hold",
				zap.String("key_id", p.id), zap.String("class", name))
			continue
		}
		if p.concurrent == nil {
			p.concurrent = make([]int, len(rt.classes))
		}
		p.concurrent[c.index] = n
	}
}

// tokenPrincipal returns the compiled principal of a JWT or static key, which is
// remembered as long as the token is.
func (rt *runtime) tokenPrincipal(t *jwtauth.Principal) *principal {
	if p, ok := t.Attached().(*principal); ok && p.set == rt.settings && !p.grants.Stale(rt.universe) {
		return p
	}
	p := &principal{
		set: rt.settings, kind: kindJWT, id: t.ID(), owner: t.Owner, issuer: t.Issuer, aal: t.AAL, until: t.Until,
		// Without a subject of its own it counts under the client's address.
		subject: t.SubjectKey, keySubject: t.SubjectKey,
		scopes: t.Scopes, scopesText: t.ScopesText,
		grants: rt.grantsOf(t),
	}
	if t.Owner != "" && t.Subject != "" {
		// As the keys of one owner: what is per key is not shared by its users.
		p.keySubject = "jwt:" + t.Issuer + ":" + t.Subject
	}
	p.plan = rt.planByName[t.Plan]
	if p.plan == nil {
		p.plan = rt.defaultPlan
		if t.Plan != "" {
			rt.log.Warn("token names a plan that does not exist; the default plan holds",
				zap.String("issuer", t.Issuer), zap.String("plan", t.Plan))
		}
	}
	p.makePlaces(len(rt.classes))
	t.Attach(p)
	return p
}

// sharedGrants are what tokens of one role hold alike: compiled once, and in memory
// once. Each has the place that its text hashes to, and the newest stays.
type sharedGrants struct {
	seed maphash.Seed
	at   [64]atomic.Pointer[sharedGrant]
}

type sharedGrant struct {
	text   string
	grants *policy.Grants
}

// sharedText bounds the texts that are kept, in bytes.
const sharedText = 4096

// grantsOf compiles a token's scopes. Its text stands for them: no scope of a token
// has a space in it.
func (rt *runtime) grantsOf(t *jwtauth.Principal) *policy.Grants {
	slot := &rt.shared.at[maphash.String(rt.shared.seed, t.ScopesText)%uint64(len(rt.shared.at))]
	if s := slot.Load(); s != nil && s.text == t.ScopesText && !s.grants.Stale(rt.universe) {
		return s.grants
	}
	g := rt.universe.CompileLenient(t.Scopes)
	if len(t.ScopesText) <= sharedText {
		slot.Store(&sharedGrant{t.ScopesText, g})
	}
	return g
}

// addressOf parses the client's address as Caddy determined it. The zero Addr
// stands for a peer without one (a Unix socket).
func addressOf(clientIP string) netip.Addr {
	a, err := netip.ParseAddr(clientIP)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// addressSubject is whose bucket an address uses. IPv6 counts by /64, since a
// single customer commands at least that many addresses.
func addressSubject(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "ip:local"
	case a.Is6():
		p, err := a.Prefix(64)
		if err != nil {
			return "ip:local"
		}
		return "ip:" + p.Addr().String() + "/64"
	}
	return "ip:" + a.String()
}
