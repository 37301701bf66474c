package keycli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/keystore"
)

// errNoTrail is said of stores without an audit trail.
var errNoTrail = errors.New("this keystore keeps no audit trail")

// AuditCommand returns "audit" with "audit verify", made anew with each call.
func AuditCommand(open Opener) *cobra.Command {
	var sinceText string
	cmd := &cobra.Command{
		Use:   "audit [--since 24h] [--json]",
		Short: "Shows who changed which key, and checks the trail of that",
		Long: `Shows every change of a key, the oldest first: when, by whom and from where, and
with --json what the key was before and after. No secret is in it. --since takes
a span, or a time such as 2027-01-31T00:00:00Z; without it all changes are shown.`,
		Args: usageArgs(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&sinceText, "since", "", "Only changes of this span, such as 24h or 30d, or since a time")
	addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, err := parseSince(sinceText, time.Now()); err != nil {
			return UsageError("--since: " + err.Error())
		}
		return with(cmd, open, false, func(s *session) error {
			trail, ok := s.Keeper.Store.(keystore.AuditTrail)
			if !ok {
				return errNoTrail
			}
			since, err := parseSince(sinceText, s.now)
			if err != nil {
				return UsageError("--since: " + err.Error())
			}
			if s.asJSON {
				return s.auditJSON(trail, since)
			}
			return s.auditTable(trail, since)
		})
	}
	verify := &cobra.Command{
		Use:   "verify [--json]",
		Short: "Checks that no row of the audit trail was changed or removed",
		Long: `Checks the hashes of the audit trail, that none of its rows is missing (the last
ones too), and that the last change of every key is in it. It ends with exit code
1 when something is wrong.

Where there is a master key, nobody without it can write rows that pass. What no
check within the database can find is a whole database that was put back to an
earlier state of itself: for that, keep the printed head elsewhere.`,
		Args: usageArgs(cobra.NoArgs), SilenceUsage: true,
	}
	addJSON(verify)
	verify.RunE = func(cmd *cobra.Command, _ []string) error {
		return with(cmd, open, false, (*session).auditVerify)
	}
	cmd.SilenceUsage = true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return UsageError(err.Error()) })
	cmd.AddCommand(verify)
	return cmd
}

// parseSince reads a span before now or a time; empty: the beginning.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := keystore.ParseTime(text); err == nil {
		return at, nil
	}
	span, err := parseSpan(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a span such as 24h or 30d nor a time with its zone such as 2027-01-31T00:00:00Z", text)
	}
	return now.Add(-span), nil
}

// auditJSON prints {"data":[…]} without holding all rows.
func (s *session) auditJSON(trail keystore.AuditTrail, since time.Time) error {
	out := s.cmd.OutOrStdout()
	before := `{"data":[`
	err := trail.Audit(s.ctx, since, func(e keystore.AuditEntry) error {
		text, err := marshal(e)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s%s", before, strings.TrimSuffix(string(text), "\n"))
		before = ","
		return err
	})
	if err != nil {
		return err
	}
	if before != "," {
		if _, err := io.WriteString(out, before); err != nil {
			return err
		}
	}
	_, err = io.WriteString(out, "]}\n")
	return err
}

func (s *session) auditTable(trail keystore.AuditTrail, since time.Time) error {
	table := tabwriter.NewWriter(s.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "N\tAT\tACTION\tKEY\tNAME\tACTOR\tADDRESS")
	err := trail.Audit(s.ctx, since, func(e keystore.AuditEntry) error {
		var after keystore.AuditView
		if err := json.Unmarshal(e.After, &after); err != nil {
			after.Name = ""
		}
		_, err := fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.N, humanTime(e.At), printable(e.Action), printable(e.KeyID),
			cell(after.Name, 30), cell(e.Actor, 40), cell(e.Address, 40))
		return err
	})
	if err != nil {
		return err
	}
	return table.Flush()
}

func (s *session) auditVerify() error {
	trail, ok := s.Keeper.Store.(keystore.AuditTrail)
	if !ok {
		return errNoTrail
	}
	report, err := trail.VerifyAudit(s.ctx)
	if err != nil {
		return err
	}
	if s.asJSON {
		if err := s.printJSON(report); err != nil {
			return err
		}
	}
	if len(report.Problems) > 0 {
		return errors.New("the audit trail is not whole:\n" + strings.Join(report.Problems, "\n"))
	}
	if s.asJSON {
		return nil
	}
	how := "not under a data key: whoever can write the database can write it anew"
	if report.Keyed {
		how = "under the data key"
	}
	return s.say(fmt.Sprintf("The audit trail is whole: %d rows, %s. Head: %s", report.Entries, how, dash(report.Head)))
}
