package keystore

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// ID is the public part of a key: 12 base62 characters. Users see it as
// "key_" and these.
type ID [12]byte

// Record is one key as it is kept. A Record handed out by a [Store] or an
// [Entry] is never changed: change a copy.
type Record struct {
	ID     ID
	Name   string
	Prefix string // what may be shown: the key's prefix and first 4 characters
	Owner  string // account; may be empty
	// Scopes as they were granted, in that order (unresolved aliases).
	Scopes []string
	Plan   string
	// Limits overrides the plan for this key; nil when it does not.
	Limits *Limits
	// Disabled is reversible, RevokedAt is not.
	Disabled   bool
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero: never
	RevokedAt  time.Time // zero: not revoked
	LastUsedAt time.Time // zero: never
	LastAddr   string    // address of the last use
	LastRoute  string    // route of the last use
	// IPAllowlist holds the prefixes that the key may be used from; empty: any.
	IPAllowlist []netip.Prefix
	// Secrets: the current one first; a second one lives until the overlap of
	// a rotation ends.
	Secrets []Secret
	// Hint is the first 6 to 20 characters of an imported key, else empty.
	Hint string
	// Seq is the store's change number of the last change to this record.
	Seq int64
}

// Secret is what is kept of a key's secret.
type Secret struct {
	Hash []byte // bcrypt
	// Digest is HMAC-SHA256(data key, whole key); nil where not kept.
	Digest []byte
	// NotAfter ends an overlap; zero: no end.
	NotAfter time.Time
	// LastUsedAt is kept for the old secret of an overlap.
	LastUsedAt time.Time
	// Random says of an imported secret that it was not chosen by a person
	// (import --random): its Digest may be stored once a credential has matched
	// the hash, for only then is the key known.
	Random bool
}

// Limits is a key's own override of its plan.
type Limits struct {
	// Requests is a rate such as "5000/m"; empty: the plan's.
	Requests string `json:"requests,omitempty"`
	// Concurrent maps a class to its slots.
	Concurrent map[string]int `json:"concurrent,omitempty"`
}

// Status is a record's state at a time.
type Status string

// The states of a key.
const (
	StatusActive   Status = "active"
	StatusDisabled Status = "disabled"
	StatusExpired  Status = "expired"
	StatusRevoked  Status = "revoked"
)

// Errors of a store.
var (
	ErrNotFound = errors.New("no such key")
	ErrExists   = errors.New("a key with this id exists")
	ErrRevoked  = errors.New("the key is revoked")
	ErrHintFull = errors.New("16 imported keys share this hint already")
	// ErrCursor: a Query.Cursor that no page gave out.
	ErrCursor = errors.New("not a cursor of this list")
)

// Query selects records for List, newest first.
type Query struct {
	Limit  int // 1 to 200; 0: 50
	Cursor string
	Status Status
	// Owner filters on the exact owner when OwnerSet.
	Owner    string
	OwnerSet bool
	// Self, where it is not zero, is listed beside the records of Owner: the key
	// of a caller that is its own owner.
	Self ID
	Q    string // part of the name, or the beginning of the prefix
	Now  time.Time
}

// Page is one answer of List.
type Page struct {
	Records []*Record
	Next    string // empty on the last page
}

// Use is one last use, as written in batches.
type Use struct {
	ID     ID
	Secret int // index into Record.Secrets
	At     time.Time
	Addr   string
	Route  string
	// Scopes are the key's scopes that were of use since the write before.
	Scopes []string
}

// Change is who changed a key, for the audit trail.
type Change struct {
	Action  string // create, import, update, rotate, revoke, disable, enable, signing-secret
	Actor   string // "command", or the id of the principal
	Address string
	At      time.Time
}

// Store keeps records. Implementations pass storetest. Every mutation raises
// the store's change number, by which other processes learn of it.
type Store interface {
	// Get returns the record, a revoked one too, or ErrNotFound.
	Get(ctx context.Context, id ID) (*Record, error)
	// Create stores new records, all or none, and sets the Seq of each; times
	// are kept in microseconds. ErrExists, ErrHintFull.
	Create(ctx context.Context, by Change, recs ...*Record) error
	// Update reads the record, hands a copy to fn and stores what fn made of
	// it, in one transaction. An error of fn is returned as it is and changes
	// nothing. fn may run more than once; it cannot change ID, CreatedAt, Seq
	// and the last use, nor undo a revocation (ErrRevoked).
	Update(ctx context.Context, by Change, id ID, fn func(*Record) error) (*Record, error)
	List(ctx context.Context, q Query) (*Page, error)
	// ByHint returns the unrevoked imported records with exactly this hint.
	ByHint(ctx context.Context, hint string) ([]*Record, error)
	// Hints calls fn with every hint in use.
	Hints(ctx context.Context, fn func(hint string)) error
	// Touch stores last uses, forward only; it raises no change number.
	Touch(ctx context.Context, uses []Use) error
	// Seq returns the current change number.
	Seq(ctx context.Context) (int64, error)
	// ChangedSince returns the records changed after seq, oldest change
	// first, at most limit of them.
	ChangedSince(ctx context.Context, seq int64, limit int) ([]*Record, error)
	// DataKey returns the sealed data key, nil where there is none.
	DataKey(ctx context.Context) ([]byte, error)
	// PutDataKey stores a sealed data key if the stored one still equals old
	// (nil: none), and returns what is stored afterwards.
	PutDataKey(ctx context.Context, old, sealed []byte) ([]byte, error)
	Ping(ctx context.Context) error
	Close() error
}
