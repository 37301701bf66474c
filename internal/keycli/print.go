package keycli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hivegate/hivegate/keystore"
)

// say prints a sentence: the result for people, a remark beside JSON.
func (s *session) say(sentence string) error {
	out := s.cmd.OutOrStdout()
	if s.asJSON {
		out = s.cmd.ErrOrStderr()
	}
	_, err := fmt.Fprintln(out, sentence)
	return err
}

// printJSON prints one object.
func (s *session) printJSON(v any) error {
	text, err := marshal(v)
	if err != nil {
		return err
	}
	_, err = s.cmd.OutOrStdout().Write(text)
	return err
}

// marshal returns v as one line, with < and > as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return b.Bytes(), nil
}

// printKey prints a new key, the only time that it is shown.
func (s *session) printKey(rec *keystore.Record, key, what string) error {
	if s.asJSON {
		return s.printJSON(keystore.KeyView{RecordView: keystore.RecordJSON(rec, s.now), Key: key})
	}
	_, err := fmt.Fprintf(s.cmd.OutOrStdout(), "%s %s\nThis is the key. It is shown only this once, so keep it now:\n\n%s\n", title(rec), what, key)
	return err
}

// printKeyAndSigning prints a new key with a signing secret of its own.
func (s *session) printKeyAndSigning(rec *keystore.Record, key string) error {
	secret, err := s.Signing.Rotate(s.ctx, keySigner(rec.ID), s.now)
	if err != nil {
		// The key exists and is shown nowhere else: it is printed all the same.
		return errors.Join(s.printKey(rec, key, "is made."), fmt.Errorf("make signing secret: %w", err))
	}
	if s.asJSON {
		return s.printJSON(struct {
			keystore.KeyView
			Secret string `json:"signing_secret"`
		}{keystore.KeyView{RecordView: keystore.RecordJSON(rec, s.now), Key: key}, secret})
	}
	if err := s.printKey(rec, key, "is made."); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.cmd.OutOrStdout(), "%s\n%s\n", "\nThe secret that its requests are signed with:\n", secret)
	return err
}

// changed prints what became of a key.
func (s *session) changed(rec *keystore.Record, what string) error {
	if s.asJSON {
		return s.printJSON(keystore.RecordJSON(rec, s.now))
	}
	sentence := title(rec) + " " + what
	if status := rec.StatusAt(s.now); status == keystore.StatusExpired {
		sentence += ", but it has expired"
	}
	return s.say(sentence + ".")
}

// list prints every record that q selects, page by page.
func (s *session) list(q keystore.Query) error {
	out := s.cmd.OutOrStdout()
	if s.asJSON {
		return s.listJSON(out, q)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tOWNER\tPREFIX\tSTATUS\tPLAN\tSCOPES\tEXPIRES\tLAST USED")
	err := s.pages(q, func(rec *keystore.Record) error {
		_, err := fmt.Fprintln(table, strings.Join([]string{
			rec.ID.String(), cell(rec.Name, 30), cell(rec.Owner, 24), rec.Prefix, string(rec.StatusAt(s.now)), cell(rec.Plan, 20),
			cell(strings.Join(rec.Scopes, " "), 48), dash(humanTime(rec.ExpiresAt)), dash(humanTime(rec.LastUsedAt)),
		}, "\t"))
		return err
	})
	if err != nil {
		return err
	}
	return table.Flush()
}

// listJSON prints {"data":[…]} without holding all records.
func (s *session) listJSON(out io.Writer, q keystore.Query) error {
	before := `{"data":[`
	err := s.pages(q, func(rec *keystore.Record) error {
		text, err := marshal(keystore.RecordJSON(rec, s.now))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s%s", before, bytes.TrimSuffix(text, []byte("\n")))
		before = ","
		return err
	})
	if err != nil {
		return err
	}
	if before != "," { // no record
		if _, err := io.WriteString(out, before); err != nil {
			return err
		}
	}
	_, err = io.WriteString(out, "]}\n")
	return err
}

// pages calls fn for every record that q selects.
func (s *session) pages(q keystore.Query, fn func(*keystore.Record) error) error {
	for {
		page, err := s.Keeper.Store.List(s.ctx, q)
		if err != nil {
			return err
		}
		for _, rec := range page.Records {
			if err := fn(rec); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		q.Cursor = page.Next
	}
}

// printRecord prints one key for people.
func (s *session) printRecord(rec *keystore.Record) error {
	table := tabwriter.NewWriter(s.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, value)
		}
	}
	line("id", rec.ID.String())
	line("name", printable(rec.Name))
	line("prefix", rec.Prefix)
	line("owner", printable(rec.Owner))
	line("status", string(rec.StatusAt(s.now)))
	line("scopes", dash(strings.Join(rec.Scopes, " ")))
	line("plan", dash(rec.Plan))
	if rec.Limits != nil {
		line("requests", rec.Limits.Requests)
		for _, class := range slices.Sorted(maps.Keys(rec.Limits.Concurrent)) {
			line("concurrent", class+"="+strconv.Itoa(rec.Limits.Concurrent[class]))
		}
	}
	for _, prefix := range rec.IPAllowlist {
		line("allowed from", prefix.String())
	}
	line("created", humanTime(rec.CreatedAt))
	line("expires", dash(humanTime(rec.ExpiresAt)))
	line("revoked", humanTime(rec.RevokedAt))
	line("last used", dash(humanTime(rec.LastUsedAt)))
	line("  from", printable(rec.LastAddr))
	line("  route", printable(rec.LastRoute))
	if len(rec.Secrets) > 1 && s.now.Before(rec.Secrets[1].NotAfter) {
		old := rec.Secrets[1]
		used := "never used"
		if !old.LastUsedAt.IsZero() {
			used = "last used " + humanTime(old.LastUsedAt)
		}
		line("old secret", "works until "+humanTime(old.NotAfter)+", "+used)
	}
	return table.Flush()
}

// title names a key in a sentence.
func title(rec *keystore.Record) string {
	return fmt.Sprintf("%s (%s)", rec.ID, printable(rec.Name))
}

// humanTime is a time to the second, empty for none.
func humanTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// cell fits a text into a table of at most width characters.
func cell(s string, width int) string {
	s = printable(s)
	if utf8.RuneCountInString(s) > width {
		s = string([]rune(s)[:width-1]) + "…"
	}
	return dash(s)
}

// printable replaces what could move the cursor of a terminal or turn the
// direction of its text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && r != ' ' {
			return '�'
		}
		return r
	}, s)
}
