package caddymodule

import (
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/hivegate/hivegate/internal/bodyrule"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/limiter"
)

// gateOptions reads the directive's block, one function per subdirective.
var gateOptions = map[string]option[*Gate]{
	"dialect":           {once: true, read: oneWord("dialect NAME", func(g *Gate) *string { return &g.Dialect })},
	"realm":             {once: true, read: readRealm},
	"accept":            {read: readAccept},
	"credentials":       {once: true, read: readCredentials},
	"routes":            {read: readRoutes},
	"unmatched":         {once: true, read: oneWord("unmatched deny|authenticated", func(g *Gate) *string { return &g.Unmatched })},
	"forward":           {once: true, read: readForward},
	"ratelimit_headers": {once: true, read: readRateLimitHeaders},
	"require_https":     {once: true, read: readRequireHTTPS},
	"strip":             {read: readStrip},
	"allow_in_path":     {once: true, read: readAllowInPath},
	"health":            {once: true, read: readHealth},
	"second_factor":     {once: true, read: oneWord("second_factor verify|present", func(g *Gate) *string { return &g.SecondFactor })},
	"accept_aal2":       {once: true, read: readAcceptAAL2},
	"signature":         {once: true, read: readSignature},
	"keys_api":          {once: true, read: readKeysAPI},
	"cors":              {once: true, read: readCORS},
	"backend_errors":    {once: true, read: oneWord("backend_errors envelope|pass", func(g *Gate) *string { return &g.BackendErrors })},
	"shadow":            {once: true, read: readShadow},
	"docs_url":          {once: true, read: oneWord("docs_url URL", func(g *Gate) *string { return &g.DocsURL })},
}

// oneWord reads a subdirective that takes exactly one word.
func oneWord(usage string, field func(*Gate) *string) func(*block, *Gate) error {
	return func(b *block, g *Gate) error {
		words := b.words()
		if len(words) != 1 {
			return b.usage(usage)
		}
		b.places[b.name] = b.start
		*field(g) = words[0]
		return b.noBlock()
	}
}

// realm TEXT
func readRealm(b *block, g *Gate) error {
	g.Realm = strings.Join(b.words(), " ")
	if g.Realm == "" {
		return b.usage("realm TEXT")
	}
	b.places["realm"] = b.start
	return b.noBlock()
}

// accept keys [PREFIX…] | accept issuer NAME…
func readAccept(b *block, g *Gate) error {
	words := b.words()
	if len(words) == 0 {
		return b.usage("accept keys [PREFIX…]' or 'accept issuer NAME…")
	}
	if g.Accept == nil {
		g.Accept = new(Accept)
		b.places["accept"] = b.start
	}
	switch words[0] {
	case "keys":
		if g.Accept.Keys {
			return errAtf(b.start, "accept keys is given twice; name all prefixes in one line")
		}
		g.Accept.Keys = true
		for i, prefix := range words[1:] {
			b.places["accept/"+strconv.Itoa(i)] = b.start
			g.Accept.Prefixes = append(g.Accept.Prefixes, prefix)
		}
	case "issuer":
		if len(words) == 1 {
			return b.usage("accept issuer NAME…")
		}
		for _, name := range words[1:] {
			b.places["accept/issuers/"+strconv.Itoa(len(g.Accept.Issuers))] = b.start
			g.Accept.Issuers = append(g.Accept.Issuers, name)
		}
	default:
		return errAtf(b.start, "accept: %s", unknownName("word", words[0], []string{"keys", "issuer"}))
	}
	return b.noBlock()
}

// credentials { bearer; header NAME [required]; cookie NAME }
func readCredentials(b *block, g *Gate) error {
	if len(b.words()) > 0 {
		return b.usage("credentials { bearer; header NAME [required]; cookie NAME }")
	}
	g.Credentials = new(Credentials)
	b.places["credentials"] = b.start
	return readBlock(b, "credentials", credentialOptions, g.Credentials)
}

var credentialOptions = map[string]option[*Credentials]{
	"bearer": {once: true, read: readBearer},
	"header": {read: readHeaderCredential},
	"cookie": {read: readCookieCredential},
}

// bearer
func readBearer(b *block, c *Credentials) error {
	if len(b.words()) > 0 {
		return b.usage("bearer")
	}
	c.Bearer = true
	return b.noBlock()
}

// header NAME [required]
func readHeaderCredential(b *block, c *Credentials) error {
	words := b.words()
	if len(words) == 0 || len(words) > 2 || len(words) == 2 && words[1] != "required" {
		return b.usage("header NAME [required]")
	}
	b.places["credentials/headers/"+strconv.Itoa(len(c.Headers))] = b.start
	c.Headers = append(c.Headers, HeaderCredential{Name: words[0], Required: len(words) == 2})
	return b.noBlock()
}

// cookie NAME
func readCookieCredential(b *block, c *Credentials) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("cookie NAME")
	}
	b.places["credentials/cookies/"+strconv.Itoa(len(c.Cookies))] = b.start
	c.Cookies = append(c.Cookies, words[0])
	return b.noBlock()
}

// routes { … }
func readRoutes(b *block, g *Gate) error {
	if len(b.words()) > 0 {
		return b.usage("routes { … }")
	}
	for nesting := b.Nesting(); b.NextBlock(nesting); {
		line := &block{Dispenser: b.Dispenser, places: b.places, name: "route", start: b.Token()}
		route, err := readRoute(line)
		if err != nil {
			return err
		}
		path := "routes/" + strconv.Itoa(len(g.Routes))
		b.places[path] = line.start
		for i, token := range route.rules {
			b.places[path+"/json/"+strconv.Itoa(i)] = token
		}
		g.Routes = append(g.Routes, *route)
	}
	return nil
}

// METHODS PATTERN REQUIREMENT… [2fa] [signed] [class=A,B] [cost=N] [on_failure=local|deny|allow]
func readRoute(b *block) (*Route, error) {
	const usage = "METHODS PATTERN REQUIREMENT… [2fa] [signed] [class=A,B] [cost=N] [on_failure=local|deny|allow]"
	words := append([]string{b.Val()}, b.words()...)
	if len(words) < 3 {
		return nil, b.usage(usage)
	}
	r := &Route{Methods: strings.Split(words[0], ","), Path: words[1], file: b.start.File, line: b.start.Line}
	if name := rewrittenName(r.Path); name != "" {
		return nil, errAtf(b.start, "route: Caddy itself rewrites {%s} in a Caddyfile; choose another name for this parameter, such as {%sName}", name, name)
	}
	var requirement []string
	seen := make(map[string]bool)
	for _, w := range words[2:] {
		key, value, isOption := strings.Cut(w, "=")
		if isOption || w == "2fa" || w == "signed" {
			if seen[key] {
				return nil, errAtf(b.start, "route: '%s' is given twice", key)
			}
			seen[key] = true
			if err := readRouteOption(b, r, key, value); err != nil {
				return nil, err
			}
			continue
		}
		requirement = append(requirement, w)
	}
	need, err := policy.ParseRequirement(requirement)
	if err != nil {
		return nil, errAtf(b.start, "route %s %s: %w", words[0], r.Path, err)
	}
	r.Public, r.Authenticated, r.Scopes = need.Public, need.Authenticated, need.Scopes
	for nesting := b.Nesting(); b.NextBlock(nesting); {
		token := b.Token()
		if token.Text != "json" {
			return nil, errAtf(token, "route: %s", unknownName("rule", token.Text, []string{"json"}))
		}
		rule, err := bodyrule.ParseRule(b.words())
		if err != nil {
			return nil, errAtf(token, "route %s %s: %w", words[0], r.Path, err)
		}
		r.JSON, r.rules = append(r.JSON, rule), append(r.rules, token)
	}
	return r, nil
}

func readRouteOption(b *block, r *Route, key, value string) error {
	switch key {
	case "class":
		r.Classes = strings.Split(value, ",")
		return nil
	case "cost":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return errAtf(b.start, "route: cost=%s: must be a whole number of at least 1", value)
		}
		r.Cost = n
		return nil
	case "2fa", "signed":
		if value != "" {
			return errAtf(b.start, "route: '%s' takes no value", key)
		}
		r.SecondFactor, r.Signed = r.SecondFactor || key == "2fa", r.Signed || key == "signed"
		return nil
	case "on_failure":
		if how, err := limiter.ParseOnFailure(value); err != nil || how == limiter.FailDefault {
			return errAtf(b.start, "route: on_failure=%s: write local, deny or allow", value)
		}
		r.OnFailure = value
		return nil
	}
	return errAtf(b.start, "route: %s", unknownName("option", key, []string{"class", "cost", "2fa", "signed", "on_failure"}))
}

// rewrittenName returns the parameter that Caddy took for a placeholder of its
// own: {path} reaches us as {http.request.uri.path}.
func rewrittenName(pattern string) string {
	for short, long := range caddyShorthands {
		if strings.Contains(pattern, long) {
			return short
		}
	}
	if i := strings.Index(pattern, "{http."); i >= 0 {
		name := pattern[i+1:]
		if j := strings.IndexByte(name, '}'); j >= 0 {
			name = name[:j]
		}
		return name[strings.LastIndexByte(name, '.')+1:]
	}
	return ""
}

// caddyShorthands are the placeholders that Caddy rewrites in a Caddyfile and
// that are valid parameter names.
var caddyShorthands = map[string]string{
	"host": "{http.request.host}", "hostport": "{http.request.hostport}", "port": "{http.request.port}",
	"orig_method": "{http.request.orig_method}", "orig_uri": "{http.request.orig_uri}",
	"orig_path": "{http.request.orig_uri.path}", "orig_dir": "{http.request.orig_uri.path.dir}",
	"orig_file": "{http.request.orig_uri.path.file}", "orig_query": "{http.request.orig_uri.query}",
	"method": "{http.request.method}", "uri": "{http.request.uri}", "path": "{http.request.uri.path}",
	"dir": "{http.request.uri.path.dir}", "file": "{http.request.uri.path.file}", "query": "{http.request.uri.query}",
	"remote": "{http.request.remote}", "remote_host": "{http.request.remote.host}", "remote_port": "{http.request.remote.port}",
	"scheme": "{http.request.scheme}", "uuid": "{http.request.uuid}",
	"tls_cipher": "{http.request.tls.cipher_suite}", "tls_version": "{http.request.tls.version}",
	"upstream_hostport": "{http.reverse_proxy.upstream.hostport}", "client_ip": "{http.vars.client_ip}",
}

// accept_aal2
func readAcceptAAL2(b *block, g *Gate) error {
	if len(b.words()) > 0 {
		return b.usage("accept_aal2")
	}
	g.AcceptAAL2 = true
	return b.noBlock()
}

// signature [HEADER] { max_body 1MiB; timestamp required }
func readSignature(b *block, g *Gate) error {
	words := b.words()
	if len(words) > 1 {
		return b.usage("signature [HEADER] { max_body 1MiB; timestamp required }")
	}
	g.Signature = new(Signature)
	if len(words) == 1 {
		g.Signature.Header = words[0]
	}
	b.places["signature"] = b.start
	return readBlock(b, "signature", signatureOptions, g.Signature)
}

var signatureOptions = map[string]option[*Signature]{
	"max_body":  {once: true, read: readMaxBody},
	"timestamp": {once: true, read: readTimestamp},
}

// max_body SIZE
func readMaxBody(b *block, s *Signature) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("max_body 1MiB")
	}
	n, err := humanize.ParseBytes(words[0])
	if err != nil || n == 0 || n > 1<<30 {
		return errAtf(b.start, "max_body %q: write a size such as 64KiB or 1MiB, at most 1GiB", words[0])
	}
	s.MaxBody = int64(n)
	return b.noBlock()
}

// timestamp required
func readTimestamp(b *block, s *Signature) error {
	words := b.words()
	if len(words) != 1 || words[0] != "required" {
		return b.usage("timestamp required")
	}
	s.TimestampRequired = true
	return b.noBlock()
}

// forward { prefix X-Auth-; credentials none|jwt|all }
func readForward(b *block, g *Gate) error {
	if len(b.words()) > 0 {
		return b.usage("forward { prefix X-Auth-; credentials none|jwt|all }")
	}
	g.Forward = new(Forward)
	return readBlock(b, "forward", forwardOptions, g.Forward)
}

var forwardOptions = map[string]option[*Forward]{
	"prefix":      {once: true, read: forwardWord("prefix X-Auth-", func(f *Forward) *string { return &f.Prefix })},
	"credentials": {once: true, read: forwardWord("credentials none|jwt|all", func(f *Forward) *string { return &f.Credentials })},
}

func forwardWord(usage string, field func(*Forward) *string) func(*block, *Forward) error {
	return func(b *block, f *Forward) error {
		words := b.words()
		if len(words) != 1 || words[0] == "" {
			return b.usage(usage)
		}
		b.places["forward/"+b.name] = b.start
		*field(f) = words[0]
		return b.noBlock()
	}
}

// ratelimit_headers x ietf|off
func readRateLimitHeaders(b *block, g *Gate) error {
	g.RateLimitHeaders = b.words()
	if len(g.RateLimitHeaders) == 0 {
		return b.usage("ratelimit_headers x ietf' or 'ratelimit_headers off")
	}
	b.places["ratelimit_headers"] = b.start
	return b.noBlock()
}

// require_https [strict]
func readRequireHTTPS(b *block, g *Gate) error {
	words := b.words()
	switch {
	case len(words) == 0:
		g.RequireHTTPS = "on"
	case len(words) == 1 && words[0] == "strict":
		g.RequireHTTPS = "strict"
	default:
		return b.usage("require_https [strict]")
	}
	return b.noBlock()
}

// strip NAME…
func readStrip(b *block, g *Gate) error {
	words := b.words()
	if len(words) == 0 {
		return b.usage("strip NAME…")
	}
	for _, name := range words {
		b.places["strip/"+strconv.Itoa(len(g.Strip))] = b.start
		g.Strip = append(g.Strip, name)
	}
	return b.noBlock()
}

// allow_in_path percent|semicolon|encoded_slash …
func readAllowInPath(b *block, g *Gate) error {
	g.AllowInPath = b.words()
	if len(g.AllowInPath) == 0 {
		return b.usage("allow_in_path percent|semicolon|encoded_slash …")
	}
	b.places["allow_in_path"] = b.start
	return b.noBlock()
}

// health PATH [ready PATH]
func readHealth(b *block, g *Gate) error {
	words := b.words()
	switch {
	case len(words) == 1:
	case len(words) == 3 && words[1] == "ready":
		g.Ready = words[2]
	default:
		return b.usage("health PATH [ready PATH]")
	}
	g.Health = words[0]
	b.places["health"], b.places["ready"] = b.start, b.start
	return b.noBlock()
}
