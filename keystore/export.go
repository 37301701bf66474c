package keystore

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// RecordView is a record as users see it, in JSON: id, name, prefix, owner,
// permissions, plan, limits, status, created_at, expires_at, last_used_at,
// ip_allowlist. Nothing of a secret is in it.
type RecordView struct {
	ID          string   `json:"id"` // key_ and 12 characters
	Name        string   `json:"name"`
	Prefix      string   `json:"prefix"`
	Owner       *string  `json:"owner"`       // null: none
	Permissions []string `json:"permissions"` // never null
	Plan        *string  `json:"plan"`        // null: the default plan
	Limits      *Limits  `json:"limits"`      // null: the plan's
	Status      Status   `json:"status"`
	// Times are RFC 3339, UTC, with a fraction where there is one.
	CreatedAt  string  `json:"created_at"`
	ExpiresAt  *string `json:"expires_at"`   // null: never
	LastUsedAt *string `json:"last_used_at"` // null: never
	// IPAllowlist holds prefixes; null: any address.
	IPAllowlist []string `json:"ip_allowlist"`
	// OldSecret is there where one key is shown (see RecordDetail) while the
	// overlap of a rotation lasts.
	OldSecret *OldSecretView `json:"old_secret,omitempty"`
}

// OldSecretView says until when the secret before the last rotation works, and
// whether it is still in use.
type OldSecretView struct {
	ExpiresAt  string  `json:"expires_at"`
	LastUsedAt *string `json:"last_used_at"` // null: never
}

// KeyView is a record together with its key: the answer to Create and Rotate.
type KeyView struct {
	RecordView
	Key string `json:"key"`
}

// RecordJSON returns what users see of rec at now. It shares memory with rec.
func RecordJSON(rec *Record, now time.Time) RecordView {
	view := RecordView{
		ID: rec.ID.String(), Name: rec.Name, Prefix: rec.Prefix, Owner: orNull(rec.Owner),
		Permissions: rec.Scopes, Plan: orNull(rec.Plan), Limits: rec.Limits, Status: rec.StatusAt(now),
		CreatedAt: timeText(rec.CreatedAt), ExpiresAt: timeOrNull(rec.ExpiresAt), LastUsedAt: timeOrNull(rec.LastUsedAt),
	}
	if view.Permissions == nil {
		view.Permissions = []string{}
	}
	for _, prefix := range rec.IPAllowlist {
		view.IPAllowlist = append(view.IPAllowlist, prefix.String())
	}
	return view
}

// RecordDetail is RecordJSON with the old secret of a rotation, so that a person
// can see whether it is still in use.
func RecordDetail(rec *Record, now time.Time) RecordView {
	view := RecordJSON(rec, now)
	if len(rec.Secrets) > 1 && now.Before(rec.Secrets[1].NotAfter) && rec.RevokedAt.IsZero() {
		old := rec.Secrets[1]
		view.OldSecret = &OldSecretView{ExpiresAt: timeText(old.NotAfter), LastUsedAt: timeOrNull(old.LastUsedAt)}
	}
	return view
}

// exportPage is how many records Export reads at a time.
const exportPage = 200

// Export writes every key as one line of JSON (see RecordView), the newest
// first, revoked ones too. Nothing of a secret is in it, not even a hint.
func (k *Keeper) Export(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriter(w)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	query := Query{Limit: exportPage, Now: k.now()}
	for {
		page, err := k.Store.List(ctx, query)
		if err != nil {
			return fmt.Errorf("export keys: %w", err)
		}
		for _, rec := range page.Records {
			if err := lines.Encode(RecordJSON(rec, query.Now)); err != nil {
				return fmt.Errorf("export keys: %w", err)
			}
		}
		if page.Next == "" {
			break
		}
		query.Cursor = page.Next
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("export keys: %w", err)
	}
	return nil
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func timeOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := timeText(t)
	return &text
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
