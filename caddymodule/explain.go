package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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
		Use:   "explain --method METHOD --path PATH [--key-id key_…] [--host HOST[:PORT]]",
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
	cmd.Flags().String("host", "", "Host of the request, with its port where needed (HOST:PORT), where several sites have a gate")
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
	gate, err := cfg.gate(host, method, path, cmd.ErrOrStderr())
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

// explain decides as ServeHTTP does, but for the limits, which it lists.
func (g *Gate) explain(method, path string, rec *keystore.Record, now time.Time) *explanation {
	out := &explanation{Requires: []string{}, Held: []string{}, Limits: []explainedLimit{}}
	s := takeScratch()
	defer s.free()
	x := &exchange{g: g, scratch: s}
	x.rt, x.now = g.rt, now
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
