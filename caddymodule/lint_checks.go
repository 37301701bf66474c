package caddymodule

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/limiter"
)

// covers reports whether grants open a group of alternatives on a route with
// these parameters. A grant that is narrowed opens it for its own objects.
func (l *linter) covers(grants []string, group []string, pattern string) bool {
	var held []string
	for _, g := range grants {
		whole, narrowing, narrowed := strings.Cut(g, "@")
		param, _, _ := strings.Cut(narrowing, "=")
		if narrowed && !strings.Contains(pattern, "{"+param+"}") && !strings.Contains(pattern, "{"+param+"...}") {
			continue
		}
		held = append(held, whole)
	}
	return slices.ContainsFunc(group, func(scope string) bool {
		_, ok := l.set.universe.Covers(held, []string{scope})
		return ok
	})
}

// opens reports whether grants meet all that a route requires; a route without
// scopes is opened by anybody.
func (l *linter) opens(grants []string, r *Route) bool {
	return !slices.ContainsFunc(r.Scopes, func(group []string) bool { return !l.covers(grants, group, r.Path) })
}

// opensSome reports whether grants open any route that asks for a scope, or a
// call of the keys API.
func (l *linter) opensSome(grants []string) bool {
	for _, g := range l.gates {
		for i := range g.Routes {
			if len(g.Routes[i].Scopes) > 0 && l.opens(grants, &g.Routes[i]) {
				return true
			}
		}
		for _, need := range g.keysNeeds() {
			if len(need.Scopes) > 0 && l.opens(grants, &Route{Scopes: need.Scopes}) {
				return true
			}
		}
	}
	return false
}

func (g *lintGate) keysNeeds() (needs []*KeysNeed) {
	if g.KeysAPI == nil {
		return nil
	}
	for _, n := range []*KeysNeed{g.KeysAPI.Read, g.KeysAPI.Write} {
		if n != nil {
			needs = append(needs, n)
		}
	}
	return needs
}

// wanted is a requirement somewhere in a gate.
type wanted struct {
	path   string       // in the gate, for its line
	what   string       // that nobody can do
	groups [][][]string // the requirements that a caller has to meet all
	route  *Route       // an empty one: a call of the keys API
	first  bool         // a route itself: told once, with how many ask for the same
}

// wants are the requirements of a gate, routes first.
func (g *lintGate) wants() (list []wanted) {
	for i := range g.Routes {
		r := &g.Routes[i]
		path := "routes/" + strconv.Itoa(i)
		if len(r.Scopes) > 0 {
			list = append(list, wanted{path: path, what: "call " + label(r), groups: [][][]string{r.Scopes}, route: r, first: true})
		}
	}
	for i := range g.Routes {
		r := &g.Routes[i]
		for j := range r.JSON {
			if need := r.JSON[j].Require.Scopes; len(need) > 0 {
				list = append(list, wanted{path: fmt.Sprintf("routes/%d/json/%d", i, j),
					what: fmt.Sprintf("send the JSON that %s asks it for (%s)", label(r), &r.JSON[j]), groups: [][][]string{need, r.Scopes}, route: r})
			}
		}
	}
	if g.KeysAPI != nil {
		for _, n := range []struct {
			name string
			need *KeysNeed
		}{{"read", g.KeysAPI.Read}, {"write", g.KeysAPI.Write}} {
			if n.need != nil && len(n.need.Scopes) > 0 {
				list = append(list, wanted{path: "keys_api/" + n.name, what: n.name + " keys over the keys API", groups: [][][]string{n.need.Scopes}, route: &Route{}})
			}
		}
	}
	return list
}

// routesUnreachable tells each requirement of routes once, with the first of them.
func (l *linter) routesUnreachable() {
	for _, g := range l.gates {
		holders, open := l.holders(g)
		if open || len(holders) == 0 {
			continue // tokens bring scopes of their own, or there is nothing to compare with
		}
		met := func(route *Route, groups ...[][]string) bool {
			return slices.ContainsFunc(holders, func(grants []string) bool {
				return !slices.ContainsFunc(groups, func(need [][]string) bool {
					return !l.opens(grants, &Route{Path: route.Path, Scopes: need})
				})
			})
		}
		var told []wanted
		count := make(map[string]int)
		for _, w := range g.wants() {
			if met(w.route, w.groups...) || !w.first && len(w.route.Scopes) > 0 && !met(w.route, w.route.Scopes) {
				continue // or the route is told already
			}
			need := policy.Requirement{Scopes: w.groups[0]}.String()
			if w.first {
				if count[need]++; count[need] > 1 {
					continue
				}
			}
			told = append(told, w)
		}
		for _, w := range told {
			need, what := policy.Requirement{Scopes: w.groups[0]}.String(), w.what
			if n := count[need]; w.first && n > 1 {
				what += fmt.Sprintf(" and %d more", n-1)
			}
			l.found(g.at.at(w.path), "add the scope to a preset, or take the requirement out",
				"no preset, role or key covers %s, so nobody can %s", need, what)
		}
	}
}

// holders are the sets of scopes that callers of a site may have. open says that
// its tokens can bring any.
func (l *linter) holders(g *lintGate) (holders [][]string, open bool) {
	if g.c.takesKeys {
		for _, p := range l.app.Presets {
			holders = append(holders, p.Scopes)
		}
		for _, k := range l.keys {
			holders = append(holders, k.Scopes)
		}
	}
	if g.c.takesTokens {
		for i := range l.app.Issuers {
			issuer := &l.app.Issuers[i]
			if g.c.issuers != nil && !g.c.issuers(issuer.Name) {
				continue
			}
			open = open || issuer.ScopesClaim != ""
			for _, scopes := range issuer.Roles {
				holders = append(holders, scopes)
			}
		}
	}
	return holders, open
}

func label(r *Route) string { return strings.Join(r.Methods, ",") + " " + r.Path }

// requiredScopes are all scopes that something requires.
func (l *linter) requiredScopes() map[string]bool {
	required := make(map[string]bool)
	add := func(groups [][]string) {
		for _, group := range groups {
			for _, s := range group {
				required[l.set.universe.Canonical(s)] = true
			}
		}
	}
	for _, g := range l.gates {
		for i := range g.Routes {
			add(g.Routes[i].Scopes)
			for j := range g.Routes[i].JSON {
				add(g.Routes[i].JSON[j].Require.Scopes)
			}
		}
		for _, n := range g.keysNeeds() {
			add(n.Scopes)
		}
		if g.KeysAPI != nil && g.KeysAPI.AnyOwner != "" {
			add([][]string{{g.KeysAPI.AnyOwner}})
		}
	}
	return required
}

func (l *linter) scopesUnused() {
	required := l.requiredScopes()
	for i, s := range l.app.Scopes {
		if !required[l.set.universe.Canonical(s)] && !strings.Contains(s, "*") {
			l.found(l.whole.at("scopes/"+strconv.Itoa(i)), "take it out of the list, or write the route that needs it",
				"no route requires the scope %s", s)
		}
	}
}

func (l *linter) presetsUnused() {
	for i, p := range l.app.Presets {
		if !l.opensSome(p.Scopes) {
			l.found(l.whole.at("presets/"+strconv.Itoa(i)), "add the scopes of the routes that it is for",
				"keys of the preset %s can call no route that asks for a scope", p.Name)
		}
	}
}

func (l *linter) keysUnused() {
	for _, k := range l.keys {
		if len(k.Scopes) > 0 && !l.opensSome(k.Scopes) {
			l.found(place{}, "revoke it, or make one with scopes that routes ask for",
				"the key %s (%q) holds %s, which open no route", k.ID, k.Name, strings.Join(k.Scopes, " "))
		}
	}
}

func (l *linter) classesUnused() {
	used := make(map[string]bool)
	for _, g := range l.gates {
		for i := range g.Routes {
			for _, c := range g.Routes[i].Classes {
				used[c] = true
			}
		}
	}
	for i, c := range l.app.Classes {
		if !used[c.Name] {
			l.found(l.whole.at("classes/"+strconv.Itoa(i)), "write class="+c.Name+" at the routes that it is for, or take it out",
				"no route is of the class %s", c.Name)
		}
	}
}

func (l *linter) classesEmpty() {
	for i, c := range l.set.classes {
		limited := c.rate != nil
		for _, p := range l.set.plans {
			limited = limited || p.classes[c.index] != nil || p.concurrent[c.index] > 0
		}
		for _, k := range l.keys {
			limited = limited || k.Limits != nil && k.Limits.Concurrent[c.name] > 0
		}
		if !limited {
			l.found(l.whole.at("classes/"+strconv.Itoa(i)), "give it a rate, or a plan a figure or a number of slots for it",
				"the class %s limits nothing", c.name)
		}
	}
}

// above reports whether a allows more than b, in the long run or at once.
func above(a, b *limiter.Limit) bool {
	if a == nil || b == nil {
		return false
	}
	perSecond := func(l *limiter.Limit) float64 {
		if l.Window() <= 0 {
			return 0
		}
		return float64(l.Capacity()) / l.Window().Seconds()
	}
	return perSecond(a) > perSecond(b)*(1+1e-9) || a.Capacity() > b.Capacity()
}

func (l *linter) plansAboveClass() {
	for i := range l.app.Plans {
		p := l.set.planByName[l.app.Plans[i].Name]
		for j, pc := range l.app.Plans[i].Classes {
			c := l.set.classByName[pc.Name]
			if c.rate != nil && above(p.classes[c.index].limit, c.rate.limit) {
				l.found(l.whole.at(fmt.Sprintf("plans/%d/classes/%d", i, j)), "lower it, or say in a comment that it is meant",
					"plan %s allows %s of the class %s, the class itself %s", p.name, pc.Rate, pc.Name, l.app.Classes[c.index].Rate)
			}
		}
	}
}

func (l *linter) keysAbovePlan() {
	for _, k := range l.keys {
		p := l.set.defaultPlan
		if named := l.set.planByName[k.Plan]; named != nil {
			p = named
		}
		if k.Limits == nil || p == nil {
			continue
		}
		l.keyAbovePlan(k, p)
	}
}

func (l *linter) keyAbovePlan(k *keystore.Record, p *plan) {
	const fix = "see that it is meant ('apikey show'), or give the key a plan that fits"
	if own, err := parseBound(policyKey, k.Limits.Requests); k.Limits.Requests != "" && err == nil &&
		slices.ContainsFunc(p.requests, func(b bound) bool { return above(own.limit, b.limit) }) {
		l.found(place{}, fix, "the key %s (%q) has %s requests of its own, more than its plan %s", k.ID, k.Name, k.Limits.Requests, p.name)
	}
	for name, n := range k.Limits.Concurrent {
		if c := l.set.classByName[name]; c != nil && p.concurrent[c.index] > 0 && n > p.concurrent[c.index] {
			l.found(place{}, fix, "the key %s (%q) has %d slots of the class %s, its plan %s %d", k.ID, k.Name, n, name, p.name, p.concurrent[c.index])
		}
	}
}

func (l *linter) noPlan() {
	if len(l.app.Plans) == 0 {
		l.found(l.whole.at(""), "write a plan with a 'requests' line, and default_plan",
			"there is no plan: one key can take all that the backend has")
	}
}

func (l *linter) publicUnlimited() {
	if l.set.anonymous != nil {
		return
	}
	for _, g := range l.gates {
		for i := range g.Routes {
			r := &g.c.routes[i]
			if g.Routes[i].Public && !slices.ContainsFunc(r.classes, func(c *class) bool { return c.rate != nil }) {
				l.found(g.at.at("routes/"+strconv.Itoa(i)), "write 'anonymous 60/m' in the global block, or a class with a rate at the route",
					"anybody may call %s as often as they like", r.label)
			}
		}
	}
}

func (l *linter) unmatchedOpen() {
	for _, g := range l.gates {
		if g.c.openUnmatched {
			l.found(g.at.at("unmatched"), "write the routes, and 'unmatched deny'",
				"every valid credential reaches whatever is not in the table, whatever its scopes")
		}
	}
}

func (l *linter) shadowOn() {
	for _, g := range l.gates {
		if g.c.shadow {
			l.found(g.at.at("shadow"), "take 'shadow' out once the log shows what you expect", "this site refuses nobody: it is in shadow mode")
		}
	}
}

func (l *linter) signedReplay() {
	for _, g := range l.gates {
		if g.Signature != nil && g.Signature.TimestampRequired {
			continue
		}
		for i := range g.c.routes {
			if g.c.routes[i].asksSign {
				l.found(g.at.at("routes/"+strconv.Itoa(i)), "write 'signature { timestamp required }'",
					"a signed request to %s can be sent again for ever", g.c.routes[i].label)
			}
		}
	}
}

// noTimeout reports whether a duration of Caddy's JSON is left out or zero.
func noTimeout(v any) bool {
	switch v := v.(type) {
	case float64:
		return v <= 0
	case string:
		return v == "" || v == "0" || v == "0s"
	}
	return true
}

// backendTimeouts needs not look at dial_timeout: Caddy's default is 3 s, and 0
// means the default.
func (l *linter) backendTimeouts() {
	for i := range l.proxies {
		p := &l.proxies[i]
		to, at := "a backend", l.src.find(false, "reverse_proxy", "")
		if len(p.Upstreams) > 0 {
			to, at = p.Upstreams[0].Dial, l.src.find(false, "reverse_proxy", p.Upstreams[0].Dial)
		}
		switch t := &p.Transport; {
		case t.Protocol == "fastcgi":
			if noTimeout(t.ReadTimeout) {
				l.found(at, "write 'read_timeout 60s' in its transport", "%s may keep a request for ever: its transport has no read_timeout", to)
			}
		case noTimeout(t.ResponseHeaderTimeout):
			l.found(at, "write 'transport http { response_header_timeout 60s }' in it",
				"%s may keep a request, and its slot, for ever: its transport has no response_header_timeout", to)
		}
	}
}

func (l *linter) plainHTTP() {
	for _, g := range l.gates {
		if !g.c.httpsOn && g.server.plain(g.hosts, l.cfg.Apps.HTTP.HTTPPort) {
			name := strings.Join(g.hosts, ", ")
			if name == "" {
				name = strings.Join(g.server.Listen, ", ")
			}
			l.found(g.at.at(""), "write 'require_https', and trusted_proxies where TLS ends in front of Caddy; or serve HTTPS",
				"%s takes keys over plain HTTP", name)
		}
	}
}

func (l *linter) proxiesNotStrict() {
	for _, g := range l.gates {
		if len(g.server.TrustedProxies) > 0 && string(g.server.TrustedProxies) != "null" && g.server.TrustedProxiesStrict == 0 {
			l.found(l.src.find(true, "trusted_proxies", ""), "write 'trusted_proxies_strict' beside it",
				"trusted_proxies without trusted_proxies_strict: what a client writes into X-Forwarded-For counts as its address")
		}
	}
}

func (l *linter) adminOpen() {
	admin := l.cfg.Admin
	if admin != nil && admin.Disabled {
		return
	}
	// Without an option Caddy takes the variable, and without that localhost:2019.
	written, what := os.Getenv("CADDY_ADMIN"), "the admin endpoint listens on %s, as $CADDY_ADMIN says"
	if admin != nil && admin.Listen != "" {
		written, what = admin.Listen, "the admin endpoint listens on %s"
	}
	if written == "" {
		return
	}
	listen := written
	if _, rest, ok := strings.Cut(listen, "/"); ok {
		if strings.HasPrefix(listen, "unix") || strings.HasPrefix(listen, "fd") {
			return
		}
		listen = rest
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		host = listen
	}
	if host == "localhost" || net.ParseIP(host).IsLoopback() || strings.Contains(host, "{") {
		return
	}
	l.found(l.src.find(true, "admin", listen), "write 'admin localhost:2019', 'admin unix//run/hivegate/admin.sock' or 'admin off'",
		what+": whoever reaches it can replace this configuration", written)
}

func (l *linter) secretsInClear() {
	const fix = "write {env.NAME} or {file./path} instead"
	for _, key := range l.app.MasterKey {
		if key != "none" && !strings.Contains(key, "{") {
			l.found(l.whole.at("master_key"), fix, "master_key stands in clear text")
		}
	}
	for i := range l.app.Issuers {
		if s := l.app.Issuers[i].HMACSecret; s != "" && !strings.Contains(s, "{") {
			l.found(l.whole.at(fmt.Sprintf("issuers/%d/hmac_secret", i)), fix, "hmac_secret of issuer %s stands in clear text", l.app.Issuers[i].Name)
		}
	}
	for _, part := range []struct{ path, what, text string }{
		{"keystore", "the DSN of the keystore", l.dsn}, {"limiter", "the URL of the limiter", l.url},
	} {
		if hasPassword(part.text) {
			l.found(l.whole.at(part.path), fix, "%s holds a password in clear text", part.what)
		}
	}
}

// hasPassword reports whether a URL, or a DSN of words, holds a password as such.
func hasPassword(text string) bool {
	if u, err := url.Parse(text); err == nil && u.User != nil {
		password, set := u.User.Password()
		return set && password != "" && !strings.Contains(password, "{")
	}
	for _, word := range strings.Fields(text) {
		if value, ok := strings.CutPrefix(word, "password="); ok && value != "" && !strings.Contains(value, "{") {
			return true
		}
	}
	return false
}

// logCredentials judges the logs that requests to a gate end up in: the default
// log, where Caddy writes about requests that failed, and the access logs.
func (l *linter) logCredentials() {
	const fix = "write 'format hivegate' in it, as Caddyfile.example does"
	logs := l.cfg.Logging.Logs
	if !logs["default"].hidesHeaders() {
		at := l.src.find(true, "log", "")
		if at == (place{}) {
			at = l.whole.at("")
		}
		l.found(at, fix, "the default log keeps the request headers of requests that failed: keys sent as apikey, and security codes, are in it")
	}
	for _, g := range l.gates {
		if g.server.Logs == nil {
			continue
		}
		for _, name := range g.server.logNames() {
			for id, log := range logs {
				if slices.Contains(log.Include, "http.log.access."+name) && !log.hidesHeaders() {
					l.found(l.src.site(g.hosts), fix, "the access log %s of this site keeps request headers: keys sent as apikey, and security codes, are in it", id)
				}
			}
		}
	}
}
