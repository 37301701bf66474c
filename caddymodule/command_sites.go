package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/hivegate/hivegate/internal/keycli"
)

// gateAt is a gate in the configuration and what leads to it.
type gateAt struct {
	hosts  []string
	listen []string // of its server
	trail  []siteStep
	raw    json.RawMessage
}

func (g gateAt) gate() (*Gate, error) {
	gate := new(Gate)
	if err := json.Unmarshal(g.raw, gate); err != nil {
		return nil, fmt.Errorf("read the gate: %w", err)
	}
	return gate, nil
}

// name says which site the gate is of, as --host takes it.
func (g gateAt) name() string {
	host := "" // any
	if len(g.hosts) > 0 {
		host = g.hosts[0]
	}
	for _, l := range g.listen {
		if addr, err := caddy.ParseNetworkAddress(l); err == nil && !addr.IsUnixNetwork() {
			return net.JoinHostPort(host, strconv.FormatUint(uint64(addr.StartPort), 10))
		}
	}
	return host
}

// serves reports whether requests for host and port come to the gate. Empty ones
// are any.
func (g gateAt) serves(host, port string) bool {
	if host != "" && !servesHost(g.hosts, host) {
		return false
	}
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && slices.ContainsFunc(g.listen, func(l string) bool {
		addr, err := caddy.ParseNetworkAddress(l)
		return err == nil && !addr.IsUnixNetwork() && uint(n) >= addr.StartPort && uint(n) <= addr.EndPort
	})
}

// siteStep is a route on the way to a gate.
type siteStep struct {
	list, at string // place of the list of routes and of the route in it
	group    string // of routes of the list of which one at most is taken; empty: none
	terminal bool   // no later route of the list is taken
	matches  []map[string]json.RawMessage
	// rewritten says that the path may be another by then.
	rewritten bool
}

// How surely a request takes a route.
const (
	takesNot = iota
	mayTake
	takes
)

func (s *siteStep) fits(method, path string) int {
	if len(s.matches) == 0 {
		return takes
	}
	best := takesNot
	for _, set := range s.matches {
		all := takes
		for name, raw := range set {
			all = min(all, s.fit(name, raw, method, path))
		}
		best = max(best, all)
	}
	return best
}

// fit judges one matcher. Hosts were compared before; what depends on more than
// method and path is not known.
func (s *siteStep) fit(name string, raw json.RawMessage, method, path string) int {
	switch name {
	case "host":
		return takes
	case "method":
		var methods []string
		if json.Unmarshal(raw, &methods) != nil {
			return mayTake
		}
		if slices.Contains(methods, method) {
			return takes
		}
		return takesNot
	case "path":
		var m caddyhttp.MatchPath
		r, err := http.NewRequest(method, "http://site"+path, nil)
		if err != nil || s.rewritten || json.Unmarshal(raw, &m) != nil || strings.Contains(strings.Join(m, ""), "{") {
			return mayTake
		}
		r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
		if err := m.Provision(caddy.Context{}); err != nil {
			return mayTake
		}
		if ok, err := m.MatchWithError(r); err != nil {
			return mayTake
		} else if ok {
			return takes
		}
		return takesNot
	}
	return mayTake
}

// taking leaves the gates that a request may come to, in the order in which it
// meets them.
func taking(gates []gateAt, method, path string) (out []gateAt) {
	// Of each group, and of each list that ends with it, the route that is taken
	// for sure.
	group, last := make(map[string]string), make(map[string]string)
	for _, g := range gates {
		fit := takes
		for i := range g.trail {
			step := &g.trail[i]
			if at := group[step.group]; at != "" && at != step.at {
				fit = takesNot
			}
			if at := last[step.list]; at != "" && at != step.at {
				fit = takesNot
			}
			if fit = min(fit, step.fits(method, path)); fit != takes {
				continue
			}
			if step.group != "" {
				group[step.group] = step.at
			}
			if step.terminal {
				last[step.list] = step.at
			}
		}
		if fit != takesNot {
			out = append(out, g)
		}
	}
	return out
}

// gate finds the gate that a request comes to. host may have a port; without
// one the configuration may have only a single gate.
func (c *commandConfig) gate(host, method, path string, warn io.Writer) (*Gate, error) {
	found, err := c.gates()
	if err != nil {
		return nil, err
	}
	name, port := splitSite(host)
	fit := slices.DeleteFunc(slices.Clone(found), func(g gateAt) bool { return !g.serves(name, port) })
	if named := func(g gateAt) bool { return len(g.hosts) > 0 }; name != "" && port == "" && slices.ContainsFunc(fit, named) {
		// A site of any host, on whatever port, is hardly meant.
		fit = slices.DeleteFunc(fit, func(g gateAt) bool { return !named(g) })
	}
	var names []string
	for _, g := range found {
		if n := g.name(); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	switch {
	case len(found) == 0:
		return nil, errNoGate
	case len(fit) == 0:
		return nil, fmt.Errorf("no site for host %q has a gate (there are %s)", host, strings.Join(names, " "))
	case len(fit) > 1 && host == "" && len(names) > 1:
		return nil, keycli.UsageError(fmt.Sprintf("there are %d gates; name one site with --host (%s)", len(found), strings.Join(names, " ")))
	}
	if len(fit) == 1 {
		return fit[0].gate()
	}
	all := len(fit)
	if some := taking(fit, method, path); len(some) > 0 {
		fit = some
	}
	at := fit[0].name()
	switch {
	case len(fit) == 1:
		fmt.Fprintf(warn, "%d gates serve this host; explained is the one on %s that %s goes to\n", all, at, path)
	case slices.ContainsFunc(fit, func(g gateAt) bool { return g.name() != at }):
		fmt.Fprintf(warn, "%d gates may get this request; explained is the first, on %s; name another with its port in --host\n", len(fit), at)
	default:
		fmt.Fprintf(warn, "%d gates on %s may get this request; the first is explained\n", len(fit), at)
	}
	return fit[0].gate()
}

var errNoGate = errors.New("no site of this configuration has a gate")

// splitSite takes HOST, HOST:PORT, :PORT or an IPv6 address, with or without
// brackets, apart.
func splitSite(s string) (host, port string) {
	if host, port, err := net.SplitHostPort(s); err == nil {
		return host, port
	}
	return strings.Trim(s, "[]"), ""
}

// gates are all gates of the configuration, by server and then in the order in
// which a request meets them.
func (c *commandConfig) gates() (found []gateAt, err error) {
	var app struct {
		Servers map[string]*siteServer `json:"servers"`
	}
	if raw, ok := c.apps["http"]; ok {
		if err := json.Unmarshal(raw, &app); err != nil {
			return nil, fmt.Errorf("read the http app: %w", err)
		}
	}
	names := make([]string, 0, len(app.Servers))
	for name := range app.Servers {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if server := app.Servers[name]; server != nil {
			found = append(found, server.walk(name).gates...)
		}
	}
	return found, nil
}

// siteServer is what leads to the gates of a server.
type siteServer struct {
	Listen []string        `json:"listen"`
	Routes json.RawMessage `json:"routes"`
	// Named are the routes that handlers `invoke` by their names.
	Named map[string]json.RawMessage `json:"named_routes"`
}

// siteWalk collects the gates of a server, and the proxies behind them.
type siteWalk struct {
	server    *siteServer
	invoked   []string // the named routes around, the innermost last
	rewritten bool
	gates     []gateAt
	proxies   []lintProxy
}

// walk walks the server's routes; name is the server's.
func (s *siteServer) walk(name string) *siteWalk {
	w := &siteWalk{server: s}
	w.routes(s.Routes, gateAt{listen: s.Listen}, name, false)
	return w
}

// siteRoute is a route of Caddy.
type siteRoute struct {
	Group    string                       `json:"group"`
	Match    []map[string]json.RawMessage `json:"match"`
	Handle   []json.RawMessage            `json:"handle"`
	Terminal bool                         `json:"terminal"`
}

// routes walks a list of routes in order. way is what led there, at its place,
// and gated says whether a gate was met on the way; the answer whether one was
// met by its end.
func (w *siteWalk) routes(raw json.RawMessage, way gateAt, at string, gated bool) bool {
	var list []siteRoute
	if raw == nil || json.Unmarshal(raw, &list) != nil {
		return gated
	}
	rewritten := w.rewritten
	for i := range list {
		route, inner := &list[i], way
		for _, m := range route.Match {
			var hosts []string
			if json.Unmarshal(m["host"], &hosts) == nil && len(hosts) > 0 {
				inner.hosts = hosts
			}
		}
		place := at + "/" + strconv.Itoa(i)
		step := siteStep{list: at, at: place, group: route.Group, terminal: route.Terminal, matches: route.Match, rewritten: w.rewritten}
		if step.group != "" {
			step.group = at + " " + step.group
		}
		inner.trail = append(slices.Clip(way.trail), step)
		inside := gated
		for j, raw := range route.Handle {
			inside = w.handler(raw, inner, place+"/"+strconv.Itoa(j), inside)
		}
		if len(route.Match) == 0 || slices.Equal(inner.hosts, way.hosts) {
			gated = inside // another host's gate stands before nothing else
		}
	}
	w.rewritten = rewritten
	return gated
}

func (w *siteWalk) handler(raw json.RawMessage, way gateAt, at string, gated bool) bool {
	var h struct {
		Handler string          `json:"handler"`
		Routes  json.RawMessage `json:"routes"`
		Name    string          `json:"name"`
	}
	if json.Unmarshal(raw, &h) != nil {
		return gated
	}
	switch h.Handler {
	case "hivegate":
		way.raw = withoutHandler(raw)
		w.gates = append(w.gates, way)
		return true
	case "reverse_proxy":
		var p lintProxy
		if gated && json.Unmarshal(raw, &p) == nil {
			w.proxies = append(w.proxies, p)
		}
		return gated
	case "rewrite":
		w.rewritten = true
		return gated
	case "invoke":
		route, ok := w.server.Named[h.Name]
		if !ok || slices.Contains(w.invoked, h.Name) {
			return gated // Caddy answers 500, or never
		}
		w.invoked = append(w.invoked, h.Name)
		gated = w.routes(slices.Concat([]byte{'['}, route, []byte{']'}), way, at, gated)
		w.invoked = w.invoked[:len(w.invoked)-1]
		return gated
	}
	return w.routes(h.Routes, way, at, gated)
}

// withoutHandler drops the module's name, which is no field of the gate.
func withoutHandler(raw json.RawMessage) json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return raw
	}
	delete(m, "handler")
	out, err := json.Marshal(m)
	if err != nil {
		return raw
	}
	return out
}

func servesHost(hosts []string, host string) bool {
	if len(hosts) == 0 {
		return true
	}
	for _, h := range hosts {
		if strings.EqualFold(h, host) {
			return true
		}
		if suffix, ok := strings.CutPrefix(h, "*"); ok && strings.HasSuffix(strings.ToLower(host), strings.ToLower(suffix)) {
			return true
		}
	}
	return false
}
