package keycli

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/keystore"
)

// What the report looks for.
const (
	day            = 24 * time.Hour
	unusedAfter    = 90 * day
	expiringWithin = 14 * day
	scopeAfter     = 30 * day
)

// keyReport is what is worth a look. Keys that are revoked or have expired are
// not in it.
type keyReport struct {
	NeverUsed []keystore.RecordView `json:"never_used"`
	// Unused keys were of use, but not in the last 90 days.
	Unused []keystore.RecordView `json:"unused_90d"`
	// Expiring keys end within 14 days.
	Expiring []keystore.RecordView `json:"expiring_14d"`
	// UnusedScopes are of keys that are at least 30 days old and were of use.
	UnusedScopes []scopeReport `json:"unused_scopes_30d"`
}

// scopeReport is a key with scopes that it had no use for.
type scopeReport struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Owner       string   `json:"owner"`
	Permissions []string `json:"permissions"` // those without use
}

func reportCommand(open Opener) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report [--json]",
		Short: "Lists keys that were never used, are unused or expiring, and unused scopes",
		Long: `Lists, of the keys that are neither revoked nor expired: those that were never
used, those unused for 90 days, those that expire within 14 days, and scopes that
a key which is older than 30 days and was used had no use for in 30 days.

Uses are written within a minute, those of scopes too. A scope counts as used
when a request needed it, whether it was held whole or for some objects; uses are
known since this version first ran.`,
		Args: cobra.NoArgs,
	}
	addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return with(cmd, open, false, (*session).report) }
	return cmd
}

func (s *session) report() error {
	r := keyReport{NeverUsed: []keystore.RecordView{}, Unused: []keystore.RecordView{}, Expiring: []keystore.RecordView{}, UnusedScopes: []scopeReport{}}
	uses, _ := s.Keeper.Store.(keystore.ScopeUses)
	err := s.pages(keystore.Query{Limit: 200, Now: s.now}, func(rec *keystore.Record) error {
		switch rec.StatusAt(s.now) {
		case keystore.StatusRevoked, keystore.StatusExpired:
			return nil
		}
		view := keystore.RecordJSON(rec, s.now)
		switch {
		case rec.LastUsedAt.IsZero():
			r.NeverUsed = append(r.NeverUsed, view)
		case s.now.Sub(rec.LastUsedAt) > unusedAfter:
			r.Unused = append(r.Unused, view)
		}
		if !rec.ExpiresAt.IsZero() && rec.ExpiresAt.Sub(s.now) <= expiringWithin {
			r.Expiring = append(r.Expiring, view)
		}
		if uses == nil || rec.LastUsedAt.IsZero() || s.now.Sub(rec.CreatedAt) < scopeAfter {
			return nil
		}
		last, err := uses.ScopeUses(s.ctx, rec.ID)
		if err != nil {
			return err
		}
		var idle []string
		for _, scope := range rec.Scopes {
			if at, ok := last[scope]; !ok || s.now.Sub(at) > scopeAfter {
				idle = append(idle, scope)
			}
		}
		if idle != nil {
			r.UnusedScopes = append(r.UnusedScopes, scopeReport{ID: view.ID, Name: rec.Name, Owner: rec.Owner, Permissions: idle})
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case s.asJSON:
		return s.printJSON(r)
	}
	return s.printReport(&r)
}

func (s *session) printReport(r *keyReport) error {
	table := tabwriter.NewWriter(s.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	section := func(title string, n int) { fmt.Fprintf(table, "%s: %d\n", title, n) }
	row := func(v *keystore.RecordView, what string) {
		owner := ""
		if v.Owner != nil {
			owner = *v.Owner
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", v.ID, cell(v.Name, 30), cell(owner, 24), what)
	}
	section("Never used", len(r.NeverUsed))
	for i := range r.NeverUsed {
		row(&r.NeverUsed[i], "made "+r.NeverUsed[i].CreatedAt)
	}
	section("Unused for 90 days", len(r.Unused))
	for i := range r.Unused {
		row(&r.Unused[i], "last used "+*r.Unused[i].LastUsedAt)
	}
	section("Expiring within 14 days", len(r.Expiring))
	for i := range r.Expiring {
		row(&r.Expiring[i], "expires "+*r.Expiring[i].ExpiresAt)
	}
	section("Scopes unused for 30 days", len(r.UnusedScopes))
	for _, k := range r.UnusedScopes {
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", k.ID, cell(k.Name, 30), cell(k.Owner, 24), strings.Join(k.Permissions, " "))
	}
	return table.Flush()
}
