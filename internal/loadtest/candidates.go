package main

import (
	"encoding/base64"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// starter starts a server pinned to a core.
type starter func(l *lab, core int) (*server, error)

// pair is one comparison. Both sides get the same requests unless sent differs.
type pair struct {
	name string
	// aim is the CPU ratio to reach; 0: none, it is shown for comparison.
	aim float64
	// throughput also measures requests a second, one side after the other.
	throughput bool
	base, cand starter
	// sent names the credentials: keys, basic, raw keys (no scheme), HS256 …
	sent string
	// candSent is what the candidate gets instead; empty: sent.
	candSent string
	// refused: the candidate refuses every request.
	refused bool
	// fresh names an algorithm: no token is sent twice.
	fresh string
}

// pairs are all comparisons, in the order of the table.
func pairs() []pair {
	return []pair{
		{name: "A/A: bare against itself", base: bare, cand: bare, sent: "keys"},
		{name: "full gate, API key", aim: 1.03, throughput: true, base: bare, cand: fullGate, sent: "keys"},
		{name: "full gate, API key / bare with its log format", base: bareWithFormat, cand: fullGate, sent: "keys"},
		{name: "full gate, API key, both with Go's own collector", aim: 1.03, throughput: true, base: ownGC(bare), cand: ownGC(fullGate), sent: "keys"},
		{name: "warm JWT HS256, both with Go's own collector", aim: 1.03, throughput: true, base: ownGC(bare), cand: ownGC(fullGate), sent: "HS256"},
		{name: "warm JWT HS256", aim: 1.03, throughput: true, base: bare, cand: fullGate, sent: "HS256"},
		{name: "warm JWT RS256", aim: 1.03, base: bare, cand: fullGate, sent: "RS256"},
		{name: "warm JWT ES256", aim: 1.03, base: bare, cand: fullGate, sent: "ES256"},
		{name: "first-seen JWT HS256", aim: 1.25, base: bare, cand: fullGate, fresh: "HS256"},
		{name: "first-seen JWT RS256", aim: 1.6, base: bare, cand: fullGate, fresh: "RS256"},
		{name: "first-seen JWT ES256", aim: 2.1, base: bare, cand: fullGate, fresh: "ES256"},
		{name: "Caddy basic_auth (hash cache on)", base: bare, cand: basicAuth, sent: "basic"},
		{name: "HAProxy, keys + limit + headers / bare HAProxy", base: haproxyBare, cand: haproxyFull, sent: "keys"},
		{name: "nginx, keys + limit + headers / bare nginx", base: nginxBare, cand: nginxFull, sent: "keys"},
		{name: "shipped gate / stock Caddy bare", aim: 1.00, throughput: true, base: stockBare, cand: fullGate, sent: "keys"},
		{name: "shipped gate / stock Caddy with the example's transport", base: stockTuned, cand: fullGate, sent: "keys"},
		{name: "shipped bare / stock Caddy with the example's transport", base: stockTuned, cand: bare, sent: "keys"},
		{name: "refused: malformed key / passed by the gate", aim: 0.5, base: fullGate, cand: fullGate, sent: "keys", candSent: "malformed", refused: true},
		{name: "refused: unknown key / passed by the gate", aim: 0.5, base: fullGate, cand: fullGate, sent: "keys", candSent: "unknown", refused: true},
		{name: "refused: malformed key / proxied by the bare proxy", aim: 0.5, base: bare, cand: fullGate, sent: "keys", candSent: "malformed", refused: true},
		{name: "refused: unknown key / proxied by the bare proxy", aim: 0.5, base: bare, cand: fullGate, sent: "keys", candSent: "unknown", refused: true},
	}
}

// lab is what all comparisons share.
type lab struct {
	*bed
	backend  *server
	database string // of the gates; two may run on it at once
	mint     *mint
	// files are credentials by name, one value of Authorization a line.
	files map[string]string
	// fresh are tokens that a gate has not seen.
	fresh map[string]*pool

	keysMap, scopesMap, nginxKeys, nginxScopes string
	basicHash                                  string
}

const basicPassword = "a password of the comparison"

func (l *lab) prepare(keys []string) error {
	l.files, l.fresh = map[string]string{}, map[string]*pool{}
	bearer := make([]string, len(keys))
	for i, k := range keys {
		bearer[i] = "Bearer " + k
	}
	var malformed, unknown []string
	for range 2000 {
		malformed = append(malformed, "Bearer "+malformedKey())
		unknown = append(unknown, "Bearer "+unknownKey())
	}
	lists := map[string][]string{
		"keys": bearer, "malformed": malformed, "unknown": unknown,
		"basic": {"Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+basicPassword))},
	}
	for _, alg := range []string{"HS256", "RS256", "ES256"} {
		var err error
		if lists[alg], err = l.mint.tokens(l.ctx, alg, 100); err != nil {
			return err
		}
	}
	for name, list := range lists {
		path, err := l.file(name+".txt", strings.Join(list, "\n")+"\n")
		if err != nil {
			return err
		}
		l.files[name] = path
	}
	if err := l.prepareMaps(bearer); err != nil {
		return err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(basicPassword), bcrypt.DefaultCost)
	l.basicHash = string(hash)
	if err != nil {
		return fmt.Errorf("hash: %w", err)
	}
	_, err = l.file("wrk.lua", wrkScript)
	return err
}

// prepareMaps writes what HAProxy and nginx know of keys.
func (l *lab) prepareMaps(bearer []string) (err error) {
	var keys, scopes, nginxKeys, nginxScopes strings.Builder
	for i, k := range bearer {
		owner := fmt.Sprintf("owner-%07d", i)
		fmt.Fprintf(&keys, "%s %s\n", strings.ReplaceAll(k, " ", "\\ "), owner)
		fmt.Fprintf(&scopes, "%s farms:read workers:read\n", owner)
		fmt.Fprintf(&nginxKeys, "%q %s;\n", k, owner)
		fmt.Fprintf(&nginxScopes, "%s %q;\n", owner, "farms:read workers:read")
	}
	for _, f := range []struct {
		to   *string
		name string
		text string
	}{{&l.keysMap, "keys.map", strings.ReplaceAll(keys.String(), "Bearer\\ ", "")}, {&l.scopesMap, "scopes.map", scopes.String()},
		{&l.nginxKeys, "keys.nginx", nginxKeys.String()}, {&l.nginxScopes, "scopes.nginx", nginxScopes.String()}} {
		if *f.to, err = l.file(f.name, f.text); err != nil {
			return err
		}
	}
	return nil
}

func bare(l *lab, core int) (*server, error) {
	return l.caddy("bare", l.hivegate, bareCaddy(l.backend.addr), core)
}

func bareWithFormat(l *lab, core int) (*server, error) {
	return l.caddy("bare-format", l.hivegate, bareFormat(l.backend.addr), core)
}

func stockBare(l *lab, core int) (*server, error) {
	return l.caddy("stock", l.stock, stockCaddy(l.backend.addr), core)
}

func stockTuned(l *lab, core int) (*server, error) {
	return l.caddy("stock-tuned", l.stock, bareCaddy(l.backend.addr), core)
}

func basicAuth(l *lab, core int) (*server, error) {
	return l.caddy("basic", l.hivegate, basicCaddy(l.backend.addr, l.basicHash), core)
}

func fullGate(l *lab, core int) (*server, error) {
	return l.caddy("gate", l.hivegate, l.gateConfig(0).String(), core)
}

// ownGC starts a server with Go's own settings of the collector instead of those that
// our main makes: as a Caddy runs that xcaddy built.
func ownGC(start starter) starter {
	return func(l *lab, core int) (*server, error) {
		l.variables = []string{"GOGC=100"}
		defer func() { l.variables = nil }()
		return start(l, core)
	}
}

func (l *lab) gateConfig(leeway int) gateConfig {
	return gateConfig{backend: l.backend.addr, keys: l.database, publicKeys: l.mint.files, leeway: leeway}
}

func haproxyBare(l *lab, core int) (*server, error) { return l.haproxy(core, false) }
func haproxyFull(l *lab, core int) (*server, error) { return l.haproxy(core, true) }
func nginxBare(l *lab, core int) (*server, error)   { return l.nginx(core, false) }
func nginxFull(l *lab, core int) (*server, error)   { return l.nginx(core, true) }

func (l *lab) haproxy(core int, full bool) (*server, error) {
	program, err := find("haproxy")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	path, err := l.file("haproxy-"+portOf(addr)+".cfg", haproxyConfig(addr, l.backend.addr, full, l.keysMap, l.scopesMap))
	if err != nil {
		return nil, err
	}
	return l.spawn("haproxy", addr, core, program, "-db", "-q", "-f", path)
}

func (l *lab) nginx(core int, full bool) (*server, error) {
	program, err := find("nginx")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	path, err := l.file("nginx-"+portOf(addr)+".conf", nginxConfig(l.dir, addr, l.backend.addr, full, l.nginxKeys, l.nginxScopes))
	if err != nil {
		return nil, err
	}
	return l.spawn("nginx", addr, core, program, "-c", path, "-p", l.dir)
}

// find looks in /usr/sbin too, where Debian keeps servers.
func find(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	if path, err := exec.LookPath("/usr/sbin/" + program); err == nil {
		return path, nil
	}
	return "", needs(program)
}
