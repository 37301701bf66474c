package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/internal/bodyrule"
	"github.com/hivegate/hivegate/internal/keycli"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

// explanation is the answer of `explain`.
type explanation struct {
	Route    string           `json:"route"`
	Requires []string         `json:"requires"`
	Held     []string         `json:"held"`
	Limits   []explainedLimit `json:"limits"`
	Verdict  string           `json:"verdict"` // allow or deny
	Status   int              `json:"status"`
	Reason   string           `json:"reason"` // empty when allowed

	rules []bodyrule.Rule // what the body may change, for people
}

// explainedLimit is one limit that the request would meet.
type explainedLimit struct {
	Policy string `json:"policy"`
	// Limit is the bucket's capacity, or the number of slots.
	Limit int `json:"limit"`
	// Window is the seconds in which an empty bucket fills; 0 for slots.
	Window int `json:"window,omitempty"`
	// Cost is what this request takes.
	Cost int `json:"cost"`
	// Subject is whose bucket it is.
	Subject string `json:"subject"`
	// Concurrent is set for slots.
	Concurrent bool `json:"concurrent,omitempty"`
}

func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain --method METHOD --path PATH [--key-id key_…] [--host HOST]",
		Short: "Says what the gate would decide about a request, and why",
		Long: `Says what the gate would decide about a request, and why: the route that
matches, what it requires, what the key holds, the limits that would apply, and
the verdict. Nothing is sent and no limit is touched. Without --key-id the
caller has no credential.`,
		Args: cobra.NoArgs,
		RunE: runExplain,
	}
	cmd.Flags().String("method", "GET", "Method of the request")
	cmd.Flags().String("path", "", "Path of the request (required)")
	cmd.Flags().String("key-id", "", "Id of the key that calls")
	cmd.Flags().String("host", "", "Host of the request, where several sites have a gate")
	cmd.Flags().Bool("json", false, "Print one JSON object")
	return cmd
}

func runExplain(cmd *cobra.Command, _ []string) error {
	flags := cmd.Flags()
	method, _ := flags.GetString("method")
	path, _ := flags.GetString("path")
	keyID, _ := flags.GetString("key-id")
	host, _ := flags.GetString("host")
	asJSON, _ := flags.GetBool("json")
	if path == "" {
		return keycli.UsageError("--path is missing")
	}
	cfg, app, cancel, err := commandApp(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	gate, err := cfg.gate(host, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	compiled, mistake := compileGate(gate, app.runtime.settings)
	if mistake != nil {
		return mistake
	}
	gate.c, gate.rt = compiled, app.runtime
	rec, now, err := explainedKey(cmd, app.runtime, keyID)
	if err != nil {
		return err
	}
	out := gate.explain(method, path, rec, now)
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
	}
	out.print(cmd.OutOrStdout())
	return nil
}

// explainedKey reads the record of the key that calls, nil without one, and what
// time it is where that lies.
func explainedKey(cmd *cobra.Command, rt *runtime, keyID string) (_ *keystore.Record, now time.Time, err error) {
	now = time.Now()
	if keyID == "" {
		return nil, now, nil
	}
	id, err := keystore.ParseID(keyID)
	if err != nil {
		return nil, now, keycli.UsageError("--key-id: " + err.Error())
	}
	store, err := rt.keys.spec.open(cmd.Context(), false)
	if err != nil {
		return nil, now, err // it names the store
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	fmt.Fprintln(cmd.ErrOrStderr(), "keystore: "+rt.guest.Location())
	rec, err := store.Get(cmd.Context(), id)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, now, fmt.Errorf("there is no key %s in %s", keyID, rt.guest.Location())
	}
	return rec, keystore.Wall(store, now), err
}

// gate finds the gate of the site that serves host; without one the
// configuration may have only a single gate.
func (c *commandConfig) gate(host string, warn io.Writer) (*Gate, error) {
	host = strings.Trim(host, "[]") // as in a URL
	var http struct {
		Servers map[string]struct {
			Routes json.RawMessage `json:"routes"`
		} `json:"servers"`
	}
	if raw, ok := c.apps["http"]; ok {
		if err := json.Unmarshal(raw, &http); err != nil {
			return nil, fmt.Errorf("read the http app: %w", err)
		}
	}
	names := make([]string, 0, len(http.Servers))
	for name := range http.Servers {
		names = append(names, name)
	}
	sort.Strings(names)
	var found []gateAt
	for _, name := range names {
		found = findGates(found, http.Servers[name].Routes, nil)
	}
	if host != "" {
		found = slices.DeleteFunc(found, func(g gateAt) bool { return !servesHost(g.hosts, host) })
	}
	switch len(found) {
	case 0:
		if host != "" {
			return nil, fmt.Errorf("no site for host %q has a gate", host)
		}
		return nil, errors.New("no site of this configuration has a gate")
	case 1:
		return found[0].gate()
	}
	if host != "" {
		fmt.Fprintf(warn, "%d gates serve this host; the first is explained, whatever paths it is for\n", len(found))
		return found[0].gate()
	}
	var hosts []string
	for _, g := range found {
		if h := strings.Join(g.hosts, ","); !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	return nil, keycli.UsageError(fmt.Sprintf("there are %d gates; name one site with --host (%s)", len(found), strings.Join(hosts, " ")))
}

// gateAt is a gate in the configuration and the hosts that reach it.
type gateAt struct {
	hosts []string
	raw   json.RawMessage
}

func (g gateAt) gate() (*Gate, error) {
	gate := new(Gate)
	if err := json.Unmarshal(g.raw, gate); err != nil {
		return nil, fmt.Errorf("read the gate: %w", err)
	}
	return gate, nil
}

// findGates walks routes, their subroutes included, in the order in which a
// request meets them.
func findGates(found []gateAt, routes json.RawMessage, hosts []string) []gateAt {
	var list []struct {
		Match []struct {
			Host []string `json:"host"`
		} `json:"match"`
		Handle []json.RawMessage `json:"handle"`
	}
	if routes == nil || json.Unmarshal(routes, &list) != nil {
		return found
	}
	for _, route := range list {
		at := hosts
		for _, m := range route.Match {
			if len(m.Host) > 0 {
				at = m.Host
			}
		}
		for _, raw := range route.Handle {
			var h struct {
				Handler string          `json:"handler"`
				Routes  json.RawMessage `json:"routes"`
			}
			if json.Unmarshal(raw, &h) != nil {
				continue
			}
			if h.Handler == "hivegate" {
				found = append(found, gateAt{hosts: at, raw: withoutHandler(raw)})
			}
			found = findGates(found, h.Routes, at)
		}
	}
	return found
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

// explain decides as ServeHTTP does, but for the limits, which it lists.
func (g *Gate) explain(method, path string, rec *keystore.Record, now time.Time) *explanation {
	out := &explanation{Requires: []string{}, Held: []string{}, Limits: []explainedLimit{}}
	s := takeScratch()
	defer s.free()
	x := &exchange{g: g, rt: g.rt, scratch: s, now: now}
	x.r = &http.Request{Method: method, Header: make(http.Header)}
	x.path, _, _ = strings.Cut(path, "?")
	if rec != nil {
		x.principal = g.rt.compilePrincipal(rec)
		x.subject = x.principal.subject
		out.Held = append(out.Held, rec.Scopes...)
	}
	if err := policy.CheckTarget(path, g.c.allow); err != nil {
		return out.deny(g, refusal.ReasonAmbiguousPath)
	}
	if g.isOwn(x.path) {
		return out.own(g, method, x.path)
	}
	public, ref := x.lookUp()
	if x.route != nil {
		out.Route = x.route.label
		out.Requires = requirementWords(&s.match.Route.Require)
		if x.route.secondFactor {
			out.Requires = append(out.Requires, "2fa")
		}
		if x.route.signed {
			out.Requires = append(out.Requires, "signed")
		}
		if x.route.rules != nil {
			out.rules = x.route.rules.Rules()
		}
	}
	if ref != nil {
		return out.deny(g, ref.Reason)
	}
	if public {
		x.principal = nil
	} else if reason := explainCredential(rec, now); reason != "" {
		return out.deny(g, reason)
	}
	verdict := x.evaluate()
	s.reset()
	if x.principal == nil {
		x.demandAnonymous()
	} else {
		x.demandPlan(verdict == nil)
	}
	out.limits(s)
	if verdict != nil {
		return out.deny(g, verdict.Reason)
	}
	out.Verdict, out.Status = "allow", http.StatusOK
	return out
}

// explainCredential is what verification would say of the key itself.
func explainCredential(rec *keystore.Record, now time.Time) refusal.Reason {
	if rec == nil {
		return refusal.ReasonMissingCredentials
	}
	switch rec.StatusAt(now) {
	case keystore.StatusRevoked:
		return refusal.ReasonAPIKeyRevoked
	case keystore.StatusDisabled:
		return refusal.ReasonAPIKeyDisabled
	case keystore.StatusExpired:
		return refusal.ReasonAPIKeyExpired
	}
	return ""
}

func (e *explanation) deny(g *Gate, reason refusal.Reason) *explanation {
	e.Verdict, e.Reason, e.Status = "deny", string(reason), g.c.dialect.Status(reason)
	return e
}

// own explains the health and ready paths, which the gate answers itself, to
// anybody. That a store is away makes the ready path's answer 503; explain asks
// no store.
func (e *explanation) own(g *Gate, method, path string) *explanation {
	e.Route, e.Requires = "GET,HEAD "+path, []string{"public"}
	if !g.answersProbe(method, path) {
		return e.deny(g, refusal.ReasonMethodNotAllowed)
	}
	e.Verdict, e.Status = "allow", http.StatusOK
	return e
}

func (e *explanation) limits(s *scratch) {
	for _, d := range s.req.Demands {
		e.Limits = append(e.Limits, explainedLimit{Policy: d.Limit.Policy, Limit: d.Limit.Capacity(),
			Window: wholeSeconds(d.Limit.Window()), Cost: d.Cost, Subject: d.Subject})
	}
	for _, h := range s.req.Holds {
		e.Limits = append(e.Limits, explainedLimit{Policy: h.Name, Limit: h.Max, Cost: 1, Subject: h.Subject, Concurrent: true})
	}
}

func requirementWords(r *policy.Requirement) []string {
	switch {
	case r.Public:
		return []string{"public"}
	case r.Authenticated:
		return []string{"authenticated"}
	}
	words := make([]string, 0, len(r.Scopes))
	for _, alternatives := range r.Scopes {
		words = append(words, strings.Join(alternatives, "|"))
	}
	return words
}

// print writes the explanation for people.
func (e *explanation) print(w io.Writer) {
	list := func(words []string) string {
		if len(words) == 0 {
			return "-"
		}
		return strings.Join(words, " ")
	}
	route := e.Route
	if route == "" {
		route = "-"
	}
	fmt.Fprintf(w, "route     %s\nrequires  %s\nheld      %s\n", route, list(e.Requires), list(e.Held))
	for i, l := range e.Limits {
		head := "          "
		if i == 0 {
			head = "limits    "
		}
		if l.Concurrent {
			fmt.Fprintf(w, "%s%s: %d at once, for %s\n", head, l.Policy, l.Limit, l.Subject)
			continue
		}
		fmt.Fprintf(w, "%s%s: %d in %d s, this request takes %d, for %s\n", head, l.Policy, l.Limit, l.Window, l.Cost, l.Subject)
	}
	if len(e.Limits) == 0 {
		fmt.Fprintln(w, "limits    -")
	}
	for i := range e.rules {
		fmt.Fprintf(w, "body      json %s\n", e.rules[i])
	}
	if e.Verdict == "allow" {
		fmt.Fprintf(w, "verdict   allow\n")
		return
	}
	fmt.Fprintf(w, "verdict   deny: %d %s\n", e.Status, e.Reason)
}
