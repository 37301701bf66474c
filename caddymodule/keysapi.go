package caddymodule

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/hivegate/hivegate/internal/keyapi"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

// KeysAPI mounts the management of keys, and verify, under a path of the site.
// Its calls pass through the gate like every other: the same credentials,
// limits and refusals.
type KeysAPI struct {
	// The path that the calls stand under, such as `/v1`. No route line may name
	// one of them; lines with parameters that match them too are not asked.
	Base string `json:"base"`
	// What reading keys needs. Required.
	Read *KeysNeed `json:"read"`
	// What making, changing, rotating and revoking keys needs. Required. Misuse:
	// with `authenticated` whoever steals a key can make others that outlast its
	// revocation.
	Write *KeysNeed `json:"write"`
	// The scope whose holders manage the keys of all owners, and set limits.
	// Default: none, everybody keeps to their own.
	AnyOwner string `json:"any_owner,omitempty"`
}

// KeysNeed is what a call of the keys API needs.
type KeysNeed struct {
	// Every valid credential may call. Default: `false`.
	Authenticated bool `json:"authenticated,omitempty"`
	// The scopes that are needed: one of each inner list. Default: none; then
	// authenticated must be set.
	Scopes [][]string `json:"scopes,omitempty"`
	// Ask for a second factor. The gate checks the code itself, also where
	// second_factor is `present`: there is no backend that could. Default:
	// `false`.
	SecondFactor bool `json:"second_factor,omitempty"`
}

// compiledKeys is the compiled form of a KeysAPI.
type compiledKeys struct {
	api      *keyapi.API
	table    *policy.Table
	routes   []compiledRoute // as keyapi.Routes
	anyOwner *policy.Need    // nil: nobody crosses owners
}

// compileKeysAPI follows compileRoutes, whose table it checks for its own paths.
func compileKeysAPI(g *Gate, s *settings, c *compiledGate) *configError {
	k := g.KeysAPI
	if k == nil {
		return nil
	}
	base := strings.TrimSuffix(k.Base, "/")
	if !strings.HasPrefix(k.Base, "/") || policy.CheckPath(base+"/api-keys", policy.PathAllow{}) != nil || strings.ContainsAny(k.Base, "{}%*") {
		return mistake("keys_api", "keys_api %q: write a plain path that begins with '/', such as /v1", k.Base)
	}
	for _, need := range []struct {
		path, name string
		need       *KeysNeed
	}{{"keys_api/read", "read", k.Read}, {"keys_api/write", "write", k.Write}} {
		if err := checkKeysNeed(need.path, need.name, need.need, s); err != nil {
			return err
		}
	}
	out := &compiledKeys{}
	if k.AnyOwner != "" {
		scopes := [][]string{{k.AnyOwner}}
		if err := s.knownScopes(scopes); err != nil {
			return wrapMistake("keys_api/any_owner", "keys_api: any_owner", err)
		}
		var err error
		if out.anyOwner, err = s.universe.Need(policy.Requirement{Scopes: scopes}); err != nil {
			return wrapMistake("keys_api/any_owner", "keys_api: any_owner", err)
		}
	}
	if err := out.compileRoutes(base, k, s); err != nil {
		return err
	}
	if err := out.checkLines(base, c); err != nil {
		return err
	}
	c.keys = out
	return nil
}

func checkKeysNeed(path, name string, need *KeysNeed, s *settings) *configError {
	if need == nil || !need.Authenticated && len(need.Scopes) == 0 {
		return mistake(path, "keys_api: '%s' is missing: name the scopes that it needs, as in '%s keys:%s'", name, name, name)
	}
	if err := s.knownScopes(need.Scopes); err != nil {
		return wrapMistake(path, "keys_api: "+name, err)
	}
	if need.SecondFactor && s.noMaster {
		return mistake(path, "keys_api: %s: second factors are sealed with a master key, and this configuration says 'master_key none'", name)
	}
	return nil
}

func (out *compiledKeys) compileRoutes(base string, k *KeysAPI, s *settings) *configError {
	lines := make([]policy.Line, 0, len(keyapi.Routes))
	for _, r := range keyapi.Routes {
		need := &KeysNeed{Authenticated: true}
		switch r.Need {
		case keyapi.NeedRead:
			need = k.Read
		case keyapi.NeedWrite:
			need = k.Write
		}
		lines = append(lines, policy.Line{
			Methods: []string{r.Method}, Pattern: base + r.Path, SecondFactor: need.SecondFactor,
			Require: policy.Requirement{Authenticated: need.Authenticated, Scopes: need.Scopes},
		})
		out.routes = append(out.routes, compiledRoute{
			label: r.Method + " " + base + r.Path, cost: 1, scopes: s.needed.numbers(s.universe, need.Scopes),
			protected: need.SecondFactor, secondFactor: need.SecondFactor, asksCode: need.SecondFactor,
		})
	}
	table, err := policy.Compile(s.universe, lines)
	if err != nil {
		return wrapMistake("keys_api", "keys_api", err)
	}
	out.table = table
	return nil
}

// checkLines refuses route lines that name a path of the API: they would never
// be asked.
func (out *compiledKeys) checkLines(base string, c *compiledGate) *configError {
	taken := func(line *policy.Route) *configError {
		return mistake("routes/"+strconv.Itoa(line.Index), "route %s: this path belongs to keys_api; leave the line out, or choose another base for keys_api", line.Name)
	}
	for _, r := range keyapi.Routes {
		if line, ok := c.table.HasExact(base + r.Path); ok {
			return taken(line)
		}
	}
	for _, line := range c.table.Routes() {
		if len(line.Params) > 0 {
			continue // a wildcard line, which keys_api goes before
		}
		var m policy.Match
		if out.table.Match("GET", line.Pattern, &m); m.Found != policy.NotFound {
			return taken(line)
		}
	}
	return nil
}

// connect gives the API what it needs of the running app.
func (out *compiledKeys) connect(g *Gate) (err error) {
	rt := g.rt
	rights := keyapi.Rights{Universe: rt.universe, AnyOwner: g.KeysAPI.AnyOwner}
	if rt.defaultPlan != nil {
		rights.DefaultPlan = rt.defaultPlan.name
	}
	log := rt.log.Named("audit")
	out.api, err = keyapi.New(keyapi.Options{
		Base: strings.TrimSuffix(g.KeysAPI.Base, "/"), Rights: rights, Presets: rt.presets, Dialect: g.c.dialect,
		Open: func(ctx context.Context) (*keystore.Keeper, error) {
			keys, err := rt.keys.opened(ctx)
			if err != nil {
				return nil, err
			}
			keeper := rt.keeper(keys.store, keys.crypto)
			keeper.Notify = keys.verifier.Apply // holds from the next request on
			return keeper, nil
		},
		Audit: func(by keystore.Change, before, after *keystore.Record) { logChange(log, by, before, after) },
	})
	return err
}

// logChange writes the audit line of one change. There is no secret in it.
func logChange(log *zap.Logger, by keystore.Change, before, after *keystore.Record) {
	fields := []zap.Field{
		zap.String("action", by.Action), zap.String("key_id", after.ID.String()),
		zap.String("actor", by.Actor), zap.String("address", by.Address), zap.Int64("seq", after.Seq),
	}
	for _, side := range []struct {
		name string
		rec  *keystore.Record
	}{{"before", before}, {"after", after}} {
		if side.rec == nil {
			continue
		}
		text, err := json.Marshal(keystore.AuditOf(side.rec))
		if err != nil {
			continue
		}
		fields = append(fields, zap.Any(side.name, json.RawMessage(text)))
	}
	log.Info("key changed", fields...)
}

// lookUpKeys finds the calls of the keys API. Its paths go before the route
// table's, whatever their method.
func (x *exchange) lookUpKeys() bool {
	keys, m := x.g.c.keys, &x.scratch.match
	if keys == nil {
		return false
	}
	keys.table.Match(x.method(), x.path, m)
	if m.Found == policy.NotFound && !m.Slash {
		return false
	}
	x.keysAPI = true
	if m.Found == policy.Matched {
		x.route = &keys.routes[m.Route.Index]
	}
	return true
}

// serveKeys answers a call of the keys API.
func (x *exchange) serveKeys() error {
	keys, r := x.g.c.keys, &keyapi.Routes[x.scratch.match.Route.Index]
	id, _ := x.scratch.match.Param("id")
	caller := x.keysCaller()
	if x.entry != nil {
		x.used()
	}
	x.companionsUsed()
	x.limitHeaders(nil)
	started := time.Now()
	ref := keys.api.Serve(x, x.r, r.Op, id, caller)
	x.handled = time.Since(started)
	if ref != nil {
		ref.Kind = x.kind
		if ref.Reason == refusal.ReasonKeystoreUnavailable && x.r.Context().Err() != nil {
			ref.Err = x.r.Context().Err() // the client went away: no fault of the store
		}
		return x.refuse(ref)
	}
	x.rt.metrics.passed(x)
	x.logRoute()
	return nil
}

// keysCaller is the principal as the keys API sees it.
func (x *exchange) keysCaller() *keyapi.Caller {
	p := x.principal
	c := &keyapi.Caller{ID: p.id, Owner: p.owner, Subject: p.subject, Scopes: p.scopes, Plan: p.planName(), Address: x.clientIP}
	if x.entry != nil {
		rec := x.entry.Record()
		c.Key, c.ExpiresAt, c.IPAllowlist = rec.ID, rec.ExpiresAt, rec.IPAllowlist
	}
	if need := x.g.c.keys.anyOwner; need != nil {
		c.AnyOwner = need.Check(p.grants, nil).Kind == policy.VerdictOK
	}
	if states := x.scratch.dec.States; x.limited && len(states) > 0 {
		s := tightest(states)
		c.Limit = &keyapi.Limit{Limit: s.Limit.Capacity(), Remaining: s.Remaining, Reset: resetAt(x.wall(), s.Full)}
	}
	return c
}
