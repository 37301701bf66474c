package keystore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// AuditView is what the audit trail keeps of a record: all that may be changed,
// and nothing of a secret. A secret is told from another by a fingerprint of
// its hash.
type AuditView struct {
	Name        string        `json:"name"`
	Prefix      string        `json:"prefix"`
	Owner       string        `json:"owner,omitempty"`
	Permissions []string      `json:"permissions"`
	Plan        string        `json:"plan,omitempty"`
	Limits      *Limits       `json:"limits,omitempty"`
	Disabled    bool          `json:"disabled,omitempty"`
	CreatedAt   time.Time     `json:"created_at"`
	ExpiresAt   *time.Time    `json:"expires_at,omitempty"`
	RevokedAt   *time.Time    `json:"revoked_at,omitempty"`
	IPAllowlist []string      `json:"ip_allowlist,omitempty"`
	Imported    bool          `json:"imported,omitempty"`
	Secrets     []AuditSecret `json:"secrets"`
}

// AuditSecret is what the audit trail keeps of a secret.
type AuditSecret struct {
	Fingerprint string     `json:"fingerprint"` // 8 bytes of the SHA-256 of its hash, in hex
	NotAfter    *time.Time `json:"not_after,omitempty"`
	Digest      bool       `json:"digest,omitempty"` // a stored digest is kept
}

// AuditOf returns what the audit trail keeps of rec. It shares memory with rec.
func AuditOf(rec *Record) AuditView {
	v := AuditView{
		Name: rec.Name, Prefix: rec.Prefix, Owner: rec.Owner, Permissions: rec.Scopes, Plan: rec.Plan, Limits: rec.Limits,
		Disabled: rec.Disabled, CreatedAt: rec.CreatedAt.UTC(), ExpiresAt: instant(rec.ExpiresAt), RevokedAt: instant(rec.RevokedAt),
		Imported: rec.Hint != "", Secrets: make([]AuditSecret, 0, len(rec.Secrets)),
	}
	if v.Permissions == nil {
		v.Permissions = []string{}
	}
	for _, p := range rec.IPAllowlist {
		v.IPAllowlist = append(v.IPAllowlist, p.String())
	}
	for i := range rec.Secrets {
		s := &rec.Secrets[i]
		sum := sha256.Sum256(s.Hash)
		v.Secrets = append(v.Secrets, AuditSecret{Fingerprint: hex.EncodeToString(sum[:8]), NotAfter: instant(s.NotAfter), Digest: len(s.Digest) > 0})
	}
	return v
}

// instant returns t in UTC, nil for the zero time.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// AuditEntry is one row of the audit trail.
type AuditEntry struct {
	N       int64     `json:"n"` // from 1, without gaps
	At      time.Time `json:"at"`
	Action  string    `json:"action"`
	KeyID   string    `json:"key_id"`
	Actor   string    `json:"actor"`   // "command", or the id of the principal
	Address string    `json:"address"` // empty for commands
	Seq     int64     `json:"seq"`     // change number of the change
	// Before and After are AuditViews; Before is null for a new key.
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
	Hash   string          `json:"hash"` // in hex
}

// AuditReport is what a check of the audit trail found.
type AuditReport struct {
	Entries int64  `json:"entries"`
	Head    string `json:"head"` // hash of the last row, in hex
	// Keyed: the trail ends under the data key, so that nobody without it can
	// write one that passes.
	Keyed bool `json:"keyed"`
	// Problems are sentences, the first 20; none: the trail is whole.
	Problems []string `json:"problems"`
}

// AuditTrail is a Store that keeps an audit trail: every change writes its row
// in the same transaction. Rows are chained: each hash covers the row and the
// hash before it, under a key that is made from the data key where there is
// one.
//
// What VerifyAudit finds: rows that were changed, removed, put in or put in
// another order; a tail that was cut off, since the end of the trail is kept
// beside it under the same key; and keys whose last change is not in the trail.
// What it cannot find: a whole database that was put back to an earlier state of
// itself. For that, compare the head with one that was kept elsewhere: the audit
// lines of the log have the change numbers.
type AuditTrail interface {
	// SetAuditKey is called once, before the first change, with the data key.
	SetAuditKey(dataKey []byte)
	// Audit calls fn with the rows since a time, the oldest first. An error of
	// fn ends it and is returned.
	Audit(ctx context.Context, since time.Time, fn func(AuditEntry) error) error
	VerifyAudit(ctx context.Context) (AuditReport, error)
}

// ScopeUses is a Store that keeps when each scope of a key was last of use.
type ScopeUses interface {
	// ScopeUses returns the last use of the scopes of a key that were of use.
	ScopeUses(ctx context.Context, id ID) (map[string]time.Time, error)
}
