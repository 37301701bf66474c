package keystore

import (
	"crypto/sha256"
	"encoding/hex"
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
