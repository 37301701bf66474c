package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/hivegate/hivegate/internal/bodyrule"
	"github.com/hivegate/hivegate/internal/credential"
	"github.com/hivegate/hivegate/internal/jwtauth"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/internal/signature"
	"github.com/hivegate/hivegate/internal/totp"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/limiter"
)

func init() { caddy.RegisterModule(new(Gate)) }

// Gate checks each request before it reaches the next handler: who is calling,
// may they do this, may they do it now. It refuses in the dialect that the
// API's clients read.
//
// It sets these placeholders: `{http.auth.user.id}`, `{http.auth.user.owner}`,
// `{http.auth.user.kind}`, `{http.auth.user.plan}`, `{http.auth.user.scopes}`,
// `{http.auth.user.key_id}`, `{http.hivegate.route}`, `{http.hivegate.reason}`.
type Gate struct {
	// The JSON shape of refusals: `hornethive`, `hiveclaw`, `hiveprotocol`,
	// `hiveos` or `problem` (RFC 9457). Default: `problem`.
	Dialect string `json:"dialect,omitempty"`
	// The realm of WWW-Authenticate; placeholders are expanded once, at load.
	// Default: the host of the request.
	Realm string `json:"realm,omitempty"`
	// Which credentials this site takes. Default: all.
	Accept *Accept `json:"accept,omitempty"`
	// Where credentials are looked for. Default: Authorization alone.
	Credentials *Credentials `json:"credentials,omitempty"`
	// The route table. Default: empty, which refuses every request.
	Routes []Route `json:"routes,omitempty"`
	// What becomes of authenticated requests to unknown paths: `deny` (404) or
	// `authenticated` (they pass). Default: `deny`.
	Unmatched string `json:"unmatched,omitempty"`
	// The management of keys over HTTP. Default: none.
	KeysAPI *KeysAPI `json:"keys_api,omitempty"`
	// How second factors are judged: `verify` (the gate checks the code) or
	// `present` (six digits must be there, the backend checks them). Default:
	// `verify`.
	SecondFactor string `json:"second_factor,omitempty"`
	// Count a JWT whose aal is aal2 as a second factor. Default: `false`.
	AcceptAAL2 bool `json:"accept_aal2,omitempty"`
	// How signed requests are verified.
	Signature *Signature `json:"signature,omitempty"`
	// What the next handlers see of the caller.
	Forward *Forward `json:"forward,omitempty"`
	// Which limit headers answers carry: any of `x` (X-RateLimit-*) and `ietf`
	// (RateLimit, RateLimit-Policy), or `off`. Default: both.
	RateLimitHeaders []string `json:"ratelimit_headers,omitempty"`
	// Refuse plain HTTP: `on`, or `strict`, which does not exempt loopback
	// peers. Default: off. Misuse: without it a key sent in clear text works,
	// and nobody notices.
	RequireHTTPS string `json:"require_https,omitempty"`
	// Further request headers to remove, in any spelling. Default: none.
	Strip []string `json:"strip,omitempty"`
	// Which pages of other origins may read this site's answers. Default: none;
	// preflights pass to public routes only.
	CORS *CORS `json:"cors,omitempty"`
	// What becomes of errors of the backend that the site's clients cannot read:
	// `envelope` puts HTML and empty refusals (status 400 and above) into the
	// dialect under the backend's own status, answers an empty 200 to a GET that
	// claims to be JSON with 502, and renders the errors 413, 502, 503 and 504 of
	// later handlers; `pass` leaves all as it is. Nothing is buffered; an answer of
	// unknown length that may turn out empty is held until its first byte.
	// Default: `pass`.
	BackendErrors string `json:"backend_errors,omitempty"`
	// Decide, log and count, but refuse nothing: `on`, or `header`, which also says
	// on the answer why it would have been refused (X-Hivegate-Shadow). What would
	// have been refused goes on as anonymous. The keys API, ambiguous paths and a
	// second gate refuse as ever. Default: off. Misuse: a site in shadow mode is
	// open to everybody.
	Shadow string `json:"shadow,omitempty"`
	// What the path check lets pass: any of `percent`, `semicolon` and
	// `encoded_slash`. Default: none. Misuse: gate and backend may read such a
	// path differently.
	AllowInPath []string `json:"allow_in_path,omitempty"`
	// The path that answers whether the gate is alive. Default: none.
	Health string `json:"health,omitempty"`
	// The path that answers whether its stores are reachable. Default: none.
	Ready string `json:"ready,omitempty"`
	// Where refusals are explained; `#<reason>` is appended. Default: none.
	DocsURL string `json:"docs_url,omitempty"`

	rt      *runtime
	log     *zap.Logger
	c       *compiledGate
	server  *caddyhttp.Server
	logging bool // this server keeps access logs
}

// compiledGate is the compiled form of a Gate: plain data that never changes.
type compiledGate struct {
	dialect       refusal.Dialect
	realm         string
	table         *policy.Table
	routes        []compiledRoute // by policy.Route.Index
	allow         policy.PathAllow
	formats       []keystore.Format // accepted here
	prefixes      []string          // only credentials that begin so; nil: any
	takesKeys     bool
	issuers       func(name string) bool // nil: all
	takesTokens   bool
	bearer        bool
	headers       []headerSource
	needsHeader   bool
	missingHint   string // for a caller without a credential; empty where bearers are taken
	cookies       []jwtauth.CookiePattern
	cleaner       *credential.Cleaner
	openUnmatched bool
	headersX      bool
	headersIETF   bool
	httpsOn       bool
	httpsStrict   bool
	codePresent   bool // the backend checks the code
	acceptAAL2    bool
	signature     *signature.Verifier
	forwardKeys   bool // API keys go on
	forwardTokens bool // JWTs and static keys go on
	identity      identityNames
	keys          *compiledKeys // nil: no keys_api
	cors          *compiledCORS // nil: off
	envelope      bool          // errors of the backend are put in the dialect
	shadow        bool          // nothing is refused
	shadowHeader  bool          // the answer says what would have been
}

// compiledRoute is what the gate needs of a route beside the policy's part.
type compiledRoute struct {
	label   string // "GET,POST /farms/{farmId}": for logs and placeholders
	classes []*class
	cost    int
	// onFailure is for when shared counters are away.
	onFailure limiter.OnFailure

	protected    bool // any of the following is set
	secondFactor bool
	signed       bool
	asksCode     bool // some request on this route needs a second factor
	asksSign     bool
	rules        *bodyrule.Set
	needs        []*policy.Need // by rule; nil for oneof rules
	scopes       []uint16       // that the route requires, by number
	ruleScopes   [][]uint16     // and its rules

	// policies keeps RateLimit-Policy, by plan index + 1.
	policies []atomic.Pointer[policyText]
}

// identityNames are the canonical names of the identity headers.
type identityNames struct {
	kind, id, owner, scopes, plan, issuer, factor string
}

// CaddyModule returns the Caddy module information.
func (*Gate) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.hivegate", New: func() caddy.Module { return new(Gate) }}
}

// Provision compiles the gate against the app. It opens nothing.
func (g *Gate) Provision(ctx caddy.Context) error {
	app, err := ctx.App("hivegate")
	if err != nil {
		return err
	}
	own, ok := app.(*App)
	if !ok {
		return fmt.Errorf("the app hivegate is %T", app)
	}
	g.rt = own.runtime
	g.log = ctx.Logger()
	compiled, mistake := compileGate(g, g.rt.settings)
	if mistake != nil {
		return mistake
	}
	if compiled.realm, err = expand("realm", g.Realm); err != nil {
		return err
	}
	g.c = compiled
	if g.c.keys != nil {
		if err := g.c.keys.connect(g); err != nil {
			return err
		}
	}
	if srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && srv != nil {
		g.server = srv
		g.logging = srv.Logs != nil
		srv.RegisterConnContext(connContext())
	}
	g.warn()
	return nil
}

// compileGate turns a gate's configuration into its compiled form, or says what
// is wrong with it and where.
func compileGate(g *Gate, s *settings) (*compiledGate, *configError) {
	c := &compiledGate{headersX: true, headersIETF: true, formats: s.formats}
	for _, step := range []func(*Gate, *settings, *compiledGate) *configError{
		compileWords, compileAccept, compileCredentials, compileForward, compileSignature, compileRoutes, compileProtection, compileKeysAPI, compileHealth, compileCORS,
	} {
		if err := step(g, s, c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// oneOf checks a word against the ones that are known.
func oneOf(path, option, word string, known ...string) *configError {
	if slices.Contains(known, word) {
		return nil
	}
	if near := policy.Nearest(word, known); near != "" {
		return mistake(path, "%s: unknown word %q; did you mean %q?", option, word, near)
	}
	return mistake(path, "%s: unknown word %q; use one of: %s", option, word, strings.Join(known, ", "))
}

func compileWords(g *Gate, _ *settings, c *compiledGate) *configError {
	dialect, err := refusal.ParseDialect(cmpDefault(g.Dialect, "problem"))
	if err != nil {
		return wrapMistake("dialect", "dialect", err)
	}
	c.dialect = dialect
	if e := oneOf("unmatched", "unmatched", cmpDefault(g.Unmatched, "deny"), "deny", "authenticated"); e != nil {
		return e
	}
	c.openUnmatched = g.Unmatched == "authenticated"
	if e := oneOf("require_https", "require_https", cmpDefault(g.RequireHTTPS, "off"), "on", "strict", "off"); e != nil {
		return e
	}
	c.httpsStrict = g.RequireHTTPS == "strict"
	c.httpsOn = c.httpsStrict || g.RequireHTTPS == "on"
	if e := oneOf("backend_errors", "backend_errors", cmpDefault(g.BackendErrors, "pass"), "envelope", "pass"); e != nil {
		return e
	}
	c.envelope = g.BackendErrors == "envelope"
	if e := oneOf("shadow", "shadow", cmpDefault(g.Shadow, "off"), "on", "header", "off"); e != nil {
		return e
	}
	c.shadowHeader = g.Shadow == "header"
	c.shadow = c.shadowHeader || g.Shadow == "on"
	if len(g.RateLimitHeaders) > 0 {
		c.headersX, c.headersIETF = false, false
	}
	for i, word := range g.RateLimitHeaders {
		path := "ratelimit_headers/" + strconv.Itoa(i)
		if e := oneOf(path, "ratelimit_headers", word, "x", "ietf", "off"); e != nil {
			return e
		}
		if word == "off" && len(g.RateLimitHeaders) > 1 {
			return mistake(path, "ratelimit_headers: 'off' stands alone")
		}
		c.headersX = c.headersX || word == "x"
		c.headersIETF = c.headersIETF || word == "ietf"
	}
	for i, word := range g.AllowInPath {
		if e := oneOf("allow_in_path/"+strconv.Itoa(i), "allow_in_path", word, "percent", "semicolon", "encoded_slash"); e != nil {
			return e
		}
		c.allow.Percent = c.allow.Percent || word == "percent"
		c.allow.Semicolon = c.allow.Semicolon || word == "semicolon"
		c.allow.EncodedSlash = c.allow.EncodedSlash || word == "encoded_slash"
	}
	if g.DocsURL != "" && !strings.HasPrefix(g.DocsURL, "https://") && !strings.HasPrefix(g.DocsURL, "http://") {
		return mistake("docs_url", "docs_url %q: must begin with https:// or http://", g.DocsURL)
	}
	if strings.ContainsAny(g.DocsURL, " \"\\#\r\n\t") {
		return mistake("docs_url", "docs_url %q: must hold no space, quote, backslash or '#'", g.DocsURL)
	}
	return nil
}

func compileAccept(g *Gate, s *settings, c *compiledGate) *configError {
	c.takesKeys, c.takesTokens = true, len(s.issuers) > 0
	if g.Accept == nil {
		return nil
	}
	c.takesKeys, c.takesTokens = g.Accept.Keys, len(g.Accept.Issuers) > 0
	if !c.takesKeys && !c.takesTokens {
		return mistake("accept", "accept: this site would take no credential at all; name 'keys' or 'issuer NAME'")
	}
	if err := s.checkIssuers(g.Accept.Issuers); err != nil {
		return err
	}
	names := g.Accept.Issuers
	c.issuers = func(name string) bool { return slices.Contains(names, name) }
	if len(g.Accept.Prefixes) == 0 {
		return nil
	}
	if !c.takesKeys {
		return mistake("accept", "accept: prefixes are named, but keys are not taken")
	}
	c.formats = nil
	for i, prefix := range g.Accept.Prefixes {
		found := false
		for _, f := range s.formats {
			if f.Prefix == prefix {
				c.formats = append(c.formats, f)
				found = true
			}
		}
		if !found {
			return mistake("accept/"+strconv.Itoa(i), "accept keys: %s", unknownName("key prefix", prefix, s.prefixes))
		}
	}
	c.prefixes = g.Accept.Prefixes
	return nil
}

// headerSource is a compiled HeaderCredential.
type headerSource struct {
	name     string // canonical
	shown    string // as configured, for hints
	required bool
}

func compileCredentials(g *Gate, _ *settings, c *compiledGate) *configError {
	c.bearer = g.Credentials == nil || g.Credentials.Bearer
	if g.Credentials == nil {
		return nil
	}
	for i, h := range g.Credentials.Headers {
		path := "credentials/headers/" + strconv.Itoa(i)
		if err := credential.CheckName(h.Name); err != nil {
			return wrapMistake(path, "credentials: header", err)
		}
		name := http.CanonicalHeaderKey(h.Name)
		switch name {
		case "Authorization", "Cookie":
			return mistake(path, "credentials: header %s has a source of its own: write '%s'", h.Name, map[string]string{"Authorization": "bearer", "Cookie": "cookie NAME"}[name])
		}
		for _, other := range c.headers {
			if other.name == name {
				return mistake(path, "credentials: header %s is given twice", h.Name)
			}
		}
		c.headers = append(c.headers, headerSource{name: name, shown: h.Name, required: h.Required})
		c.needsHeader = c.needsHeader || h.Required
	}
	for i, name := range g.Credentials.Cookies {
		p, err := jwtauth.ParseCookiePattern(name)
		if err != nil {
			return wrapMistake("credentials/cookies/"+strconv.Itoa(i), "credentials: cookie", err)
		}
		c.cookies = append(c.cookies, p)
	}
	switch {
	case c.bearer:
	case len(c.headers) > 0:
		c.missingHint = "send a credential in the header " + c.headers[0].shown + "; Authorization is not looked at here"
	case len(c.cookies) > 0:
		c.missingHint = "sign in, so that the session cookie is sent; Authorization is not looked at here"
	default:
		return mistake("credentials", "credentials: no source is named; write 'bearer'")
	}
	return nil
}

func compileForward(g *Gate, _ *settings, c *compiledGate) *configError {
	prefix, credentials := "X-Auth-", "none"
	if g.Forward != nil {
		prefix = cmpDefault(g.Forward.Prefix, prefix)
		credentials = cmpDefault(g.Forward.Credentials, credentials)
	}
	if err := credential.CheckPrefix(prefix); err != nil {
		return wrapMistake("forward/prefix", "forward prefix", err)
	}
	if !strings.HasSuffix(prefix, "-") {
		return mistake("forward/prefix", "forward prefix %q: must end in '-', as in X-Auth-", prefix)
	}
	if e := oneOf("forward/credentials", "forward credentials", credentials, "none", "jwt", "all"); e != nil {
		return e
	}
	c.forwardKeys = credentials == "all"
	c.forwardTokens = credentials != "none"
	for i, name := range g.Strip {
		path := "strip/" + strconv.Itoa(i)
		if err := credential.CheckName(name); err != nil {
			return wrapMistake(path, "strip", err)
		}
		if strings.EqualFold(name, "Authorization") {
			return mistake(path, "strip Authorization: nobody could pass; what goes on is set with 'forward { credentials … }'")
		}
	}
	c.cleaner = credential.NewCleaner(prefix, g.Strip)
	c.identity = newIdentityNames(prefix)
	return c.sourcesReachable(g, prefix)
}

// sourcesReachable refuses a configuration that removes a header, or all cookies,
// before a credential is looked for there: nobody could ever pass.
func (c *compiledGate) sourcesReachable(g *Gate, prefix string) *configError {
	for i, h := range c.headers {
		if !c.cleaner.Forbidden(h.name, false) {
			continue
		}
		if at := strippedAt(g, h.name); at >= 0 {
			return mistake("strip/"+strconv.Itoa(at), "strip %s: credentials are looked for in this header; what goes on is set with 'forward { credentials … }'", g.Strip[at])
		}
		path := "credentials/headers/" + strconv.Itoa(i)
		if strings.HasPrefix(spelling(h.name), spelling(prefix)) {
			return mistake(path, "credentials: header %s begins like the identity headers, which are removed from every request: choose another prefix for those, as in 'forward { prefix X-Gate- }'", h.shown)
		}
		return mistake(path, "credentials: header %s is removed from every request before credentials are looked for: choose another name", h.shown)
	}
	if at := strippedAt(g, "Cookie"); at >= 0 && len(c.cookies) > 0 {
		return mistake("strip/"+strconv.Itoa(at), "strip %s: credentials are looked for in cookies; what goes on is set with 'forward { credentials … }'", g.Strip[at])
	}
	return nil
}

// strippedAt returns which name of strip removes a header, -1 if none does.
func strippedAt(g *Gate, header string) int {
	return slices.IndexFunc(g.Strip, func(name string) bool { return spelling(name) == spelling(header) })
}

// spelling is what all spellings of a header's name have in common.
func spelling(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(name))
}

func compileRoutes(g *Gate, s *settings, c *compiledGate) *configError {
	lines := make([]policy.Line, 0, len(g.Routes))
	for i := range g.Routes {
		line, compiled, err := compileRoute(&g.Routes[i], "routes/"+strconv.Itoa(i), s)
		if err != nil {
			return err
		}
		lines = append(lines, line)
		c.routes = append(c.routes, compiled)
	}
	table, err := policy.CompileWith(s.universe, lines, c.allow)
	if err != nil {
		var lineErr *policy.LineError
		if errors.As(err, &lineErr) {
			return &configError{Path: "routes/" + strconv.Itoa(lineErr.Index), Msg: lineErr.Error()}
		}
		return wrapMistake("routes", "routes", err)
	}
	c.table = table
	return nil
}

func compileSignature(g *Gate, _ *settings, c *compiledGate) *configError {
	if e := oneOf("second_factor", "second_factor", cmpDefault(g.SecondFactor, "verify"), "verify", "present"); e != nil {
		return e
	}
	c.codePresent, c.acceptAAL2 = g.SecondFactor == "present", g.AcceptAAL2
	var o signature.Options
	if g.Signature != nil {
		o = signature.Options{Header: g.Signature.Header, MaxBody: g.Signature.MaxBody, TimestampRequired: g.Signature.TimestampRequired}
	}
	v, err := signature.New(o)
	if err != nil {
		return &configError{Path: "signature", Msg: err.Error()}
	}
	c.signature = v
	return nil
}

// compileProtection checks what second factors and signatures need.
func compileProtection(g *Gate, s *settings, c *compiledGate) *configError {
	for i := range c.routes {
		r := &c.routes[i]
		path := "routes/" + strconv.Itoa(i)
		if r.asksCode {
			if e := c.mustReach(g, totp.Header, r.label); e != nil {
				return e
			}
		}
		if r.asksSign {
			for _, name := range []string{c.signature.HeaderName(), signature.TimestampHeader} {
				if e := c.mustReach(g, name, r.label); e != nil {
					return e
				}
			}
		}
		if g.Routes[i].Public && (r.asksCode || r.asksSign) {
			return mistake(path, "route %s: a public route has no caller whose second factor or signature could be asked for", r.label)
		}
		if s.noMaster && (r.asksSign || r.asksCode && !c.codePresent) {
			return mistake(path, "route %s: second factors and signing secrets are sealed with a master key, and this configuration says 'master_key none'", r.label)
		}
	}
	return nil
}

// mustReach refuses a configuration that removes a header before a route looks
// for it: nobody could ever pass.
func (c *compiledGate) mustReach(g *Gate, header, label string) *configError {
	if !c.cleaner.Forbidden(header, false) {
		return nil
	}
	if at := strippedAt(g, header); at >= 0 {
		return mistake("strip/"+strconv.Itoa(at), "strip %s: route %s asks for this header, and the gate removes it by itself where it should", g.Strip[at], label)
	}
	return mistake("signature", "route %s asks for the header %s, which is removed from every request: choose another name", label, header)
}

// compileRules compiles the JSON rules of a route.
func compileRules(r *Route, path, label string, s *settings, out *compiledRoute) *configError {
	if len(r.JSON) == 0 {
		return nil
	}
	set, err := bodyrule.Compile(r.JSON)
	if err != nil {
		return wrapMistake(path, "route "+label, err)
	}
	out.rules = set
	out.needs = make([]*policy.Need, len(r.JSON))
	out.ruleScopes = make([][]uint16, len(r.JSON))
	for i := range r.JSON {
		rule := &r.JSON[i]
		at := path + "/json/" + strconv.Itoa(i)
		if rule.OneOf {
			continue
		}
		if r.Public {
			return mistake(at, "route %s: json %s: a public route has no caller of whom something could be required", label, rule.Field)
		}
		if err := s.knownScopes(rule.Require.Scopes); err != nil {
			return wrapMistake(at, "route "+label+": json "+rule.Field, err)
		}
		if out.needs[i], err = s.universe.Need(rule.Require); err != nil {
			return wrapMistake(at, "route "+label+": json "+rule.Field, err)
		}
		out.ruleScopes[i] = s.needed.numbers(s.universe, rule.Require.Scopes)
	}
	return nil
}

// knownScopes checks the scopes that are required somewhere.
func (s *settings) knownScopes(groups [][]string) error {
	for _, alternatives := range groups {
		for _, scope := range alternatives {
			if err := policy.ParseScope(scope); err != nil {
				return err
			}
			if err := s.universe.Known(scope); err != nil {
				return err
			}
		}
	}
	return nil
}

func compileRoute(r *Route, path string, s *settings) (policy.Line, compiledRoute, *configError) {
	fail := func(err *configError) (policy.Line, compiledRoute, *configError) {
		return policy.Line{}, compiledRoute{}, err
	}
	label := strings.Join(r.Methods, ",") + " " + r.Path
	out := compiledRoute{label: label, cost: r.Cost, policies: make([]atomic.Pointer[policyText], len(s.plans)+1), scopes: s.needed.numbers(s.universe, r.Scopes)}
	if out.cost == 0 {
		out.cost = 1
	}
	if err := s.knownScopes(r.Scopes); err != nil {
		return fail(wrapMistake(path, "route "+label, err))
	}
	if err := compileRules(r, path, label, s, &out); err != nil {
		return fail(err)
	}
	out.secondFactor, out.signed = r.SecondFactor, r.Signed
	out.asksCode = r.SecondFactor || out.rules != nil && out.rules.CanAskSecondFactor()
	out.asksSign = r.Signed || out.rules != nil && out.rules.CanAskSignature()
	out.protected = out.asksCode || out.asksSign || out.rules != nil
	var err error
	if out.onFailure, err = limiter.ParseOnFailure(r.OnFailure); err != nil {
		return fail(wrapMistake(path, "route "+label, err))
	}
	for _, name := range r.Classes {
		k := s.classByName[name]
		if k == nil {
			return fail(mistake(path, "route %s: class=: %s", label, s.unknown("class", name)))
		}
		if slices.Contains(out.classes, k) {
			return fail(mistake(path, "route %s: class=: %q is given twice", label, name))
		}
		out.classes = append(out.classes, k)
	}
	if err := s.checkCost(path, out.cost, r.Public, out.classes); err != nil {
		err.Msg = "route " + label + ": " + err.Msg
		return fail(err)
	}
	return policy.Line{
		Methods: r.Methods, Pattern: r.Path,
		Require:      policy.Requirement{Public: r.Public, Authenticated: r.Authenticated, Scopes: r.Scopes},
		SecondFactor: r.SecondFactor, Signed: r.Signed,
		Classes: r.Classes, Cost: out.cost, File: r.file, LineNo: r.line,
	}, out, nil
}

func compileHealth(g *Gate, _ *settings, c *compiledGate) *configError {
	for _, own := range []struct{ option, path string }{{"health", g.Health}, {"ready", g.Ready}} {
		if own.path == "" {
			continue
		}
		if !strings.HasPrefix(own.path, "/") || policy.CheckPath(own.path, policy.PathAllow{}) != nil {
			return mistake(own.option, "%s %q: must be a plain path that begins with '/'", own.option, own.path)
		}
		if line, taken := c.table.HasExact(own.path); taken {
			return mistake(own.option, "%s %s: a route line names this path too (%s)", own.option, own.path, c.routes[line.Index].label)
		}
		var m policy.Match
		if c.keys != nil {
			c.keys.table.Match(http.MethodGet, own.path, &m)
		}
		if m.Found != policy.NotFound {
			return mistake(own.option, "%s %s: this path belongs to keys_api", own.option, own.path)
		}
	}
	if g.Health != "" && g.Health == g.Ready {
		return mistake("ready", "ready %s: is the health path already", g.Ready)
	}
	return nil
}

// warn says, once per load, what is legal but unwise about this site.
func (g *Gate) warn() {
	if g.c.shadow {
		g.log.Warn("shadow is set: this site decides, logs and counts, and refuses nobody; take the line out when the log shows what you expect")
	}
	if g.server == nil {
		return
	}
	if trustsProxies(g.server) && g.server.TrustedProxiesStrict == 0 {
		g.log.Warn("trusted_proxies is set without trusted_proxies_strict: a client can choose the address it is counted under by sending X-Forwarded-For; add trusted_proxies_strict")
	}
	if !g.c.httpsOn || len(g.server.TLSConnPolicies) == 0 {
		return
	}
	if auto := g.server.AutoHTTPS; auto == nil || (!auto.Disabled && !auto.DisableRedir) {
		g.log.Warn("require_https is set, but Caddy redirects plain HTTP of this site before the gate sees it: clients that follow would send their key in clear text again and again without noticing; add 'auto_https disable_redirects' and an http:// site with the gate")
	}
}

// trustsProxies reports whether trusted_proxies is configured. Caddy clears the
// raw setting once it is loaded and does not export what it loaded, so its
// presence is read by reflection; where the field is gone, nothing is warned of.
func trustsProxies(s *caddyhttp.Server) bool {
	f := reflect.ValueOf(s).Elem().FieldByName("trustedProxies")
	return f.IsValid() && f.Kind() == reflect.Interface && !f.IsNil()
}

func cmpDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// Validate implements caddy.Validator.
func (g *Gate) Validate() error {
	if g.c == nil {
		return fmt.Errorf("hivegate: not provisioned")
	}
	return nil
}

var (
	_ caddy.Provisioner           = (*Gate)(nil)
	_ caddy.Validator             = (*Gate)(nil)
	_ caddyhttp.MiddlewareHandler = (*Gate)(nil)
)
