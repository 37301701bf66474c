package keystore

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Keeper manages keys: it makes, changes and ends them, for the commands and
// for the HTTP API. It checks that values are well-formed and known; whether a
// caller may do what it asks for is the caller's matter.
//
// A plaintext key exists only as the result of Create and Rotate. What is
// stored of it is a bcrypt hash and, with a data key, its keyed digest.
//
// The fields are set once, before the first call. A Keeper is safe for
// concurrent use.
type Keeper struct {
	Store  Store
	Crypto *Crypto // nil: nothing but bcrypt is stored
	// Formats are the accepted key formats, the first one is for new keys.
	// Default: DefaultFormat alone.
	Formats []Format
	// Cost is bcrypt's, 4 to 14. Default: 10.
	Cost int
	// Now is the clock. Default: the store's, else time.Now.
	Now func() time.Time
	// Notify is called after each change with what is stored now, before the
	// changing call returns; it must not change the record. May be nil.
	Notify func(*Record)

	// Judge is asked, inside the transaction, whether this caller may make of
	// before (nil: a new key) what is in after. Its error is returned as it is
	// and changes nothing. It is asked before ErrRevoked and before anything is
	// hashed, and may be asked more than once. Default: every change is allowed.
	Judge func(action string, before, after *Record) error
	// Audit is called after each change with what was stored before (nil: a new
	// key) and is now; it must not change the records. May be nil.
	Audit func(by Change, before, after *Record)

	// The checks of the configuration, with an error that names the nearest
	// known value. Each may be nil: then every well-formed value is taken.
	CheckScope    func(scope string) error
	CheckPlan     func(plan string) error
	CheckRequests func(rate string) error // such as "5000/m"
	CheckClass    func(class string) error
}

// NewKey is what a new key shall be.
type NewKey struct {
	// ID is the id that the key shall have. Default: a new one.
	ID   ID
	Name string // required
	// Owner is an account, or the subject of a caller that has none (see
	// ValidStoredOwner). What a user typed must pass ValidOwner first.
	Owner       string
	Plan        string // empty: the default plan
	Scopes      []string
	ExpiresAt   time.Time // zero: never; else in the future
	IPAllowlist []netip.Prefix
	Limits      *Limits
}

// Patch is a change of a key; nil members stay as they are.
type Patch struct {
	Name        *string
	Scopes      *[]string
	Plan        *string         // empty: the default plan
	ExpiresAt   *time.Time      // the zero time: never
	IPAllowlist *[]netip.Prefix // empty: any address
	Limits      *Limits         // with nothing in it: the plan's
	Disabled    *bool
}

// FieldError is a value that cannot be taken.
type FieldError struct {
	// Field is the member of a record: name, permissions, plan, owner,
	// expires_at, ip_allowlist, limits; or overlap.
	Field string
	Msg   string // says what to do
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Msg }

// Bounds of what one key may hold. They keep a record small enough to be read
// and judged for every request.
const (
	MaxScopes      = 100
	MaxScopeBytes  = 1024
	MaxAllowlist   = 100
	MaxConcurrent  = 100 // classes with slots of their own
	MaxSlots       = 1_000_000
	MaxOverlap     = 366 * 24 * time.Hour
	maxPlanBytes   = 100
	defaultCost    = bcrypt.DefaultCost
	maxExpiresYear = 9999 // RFC 3339 has four digits
)

// Create makes a key and returns it with its record. The key is nowhere else:
// whoever loses it needs another. Errors: *FieldError, or the store's.
func (k *Keeper) Create(ctx context.Context, by Change, n NewKey) (*Record, string, error) {
	now := k.now()
	rec, err := k.newRecord(now, n)
	if err != nil {
		return nil, "", err
	}
	if err := k.judge("create", nil, rec); err != nil {
		return nil, "", err
	}
	format := k.format()
	id := n.ID
	if id == (ID{}) {
		id = NewID()
	}
	key := format.Regenerate(id)
	secret, err := k.secret(key)
	if err != nil {
		return nil, "", err
	}
	rec.ID, rec.Prefix, rec.Secrets = id, format.Display(id), []Secret{secret}
	by = k.change(by, "create", now)
	if err := k.Store.Create(ctx, by, rec); err != nil {
		return nil, "", fmt.Errorf("create key: %w", err)
	}
	k.notify(rec)
	k.audit(by, nil, rec)
	return rec, key, nil
}

// Rotate gives a key another secret and returns both: the id stays. The old
// secret lives until overlap ends, 0 ends it now; one that was still living
// from a rotation before ends now. Errors: ErrNotFound, ErrRevoked, *FieldError.
func (k *Keeper) Rotate(ctx context.Context, by Change, id ID, overlap time.Duration) (*Record, string, error) {
	if overlap < 0 || overlap > MaxOverlap {
		return nil, "", &FieldError{"overlap", fmt.Sprintf("must be between 0s and %d days", MaxOverlap/(24*time.Hour))}
	}
	// Looked up first: a hash is too dear for an id that is not there, and must
	// not be made inside the store's transaction.
	rec, err := k.Store.Get(ctx, id)
	if err != nil {
		return nil, "", fmt.Errorf("rotate key: %w", err)
	}
	if err := k.judge("rotate", rec, rec); err != nil {
		return nil, "", err
	}
	if !rec.RevokedAt.IsZero() {
		return nil, "", ErrRevoked
	}
	format := k.format()
	key := format.Regenerate(id)
	secret, err := k.secret(key)
	if err != nil {
		return nil, "", err
	}
	now := k.now()
	rec, err = k.update(ctx, by, "rotate", now, id, func(rec *Record) (bool, error) {
		if !rec.RevokedAt.IsZero() {
			return false, ErrRevoked
		}
		rotate(rec, secret, now, overlap)
		rec.Prefix = format.Display(id)
		return true, nil
	})
	if err != nil {
		return nil, "", err
	}
	return rec, key, nil
}

// Revoke ends a key for ever. A key that is revoked already stays as it is.
func (k *Keeper) Revoke(ctx context.Context, by Change, id ID) (*Record, error) {
	now := k.now()
	return k.update(ctx, by, "revoke", now, id, func(rec *Record) (bool, error) {
		if !rec.RevokedAt.IsZero() {
			return false, nil
		}
		rec.RevokedAt = now
		return true, nil
	})
}

// Disable makes a key unusable until it is enabled. Errors: ErrNotFound,
// ErrRevoked.
func (k *Keeper) Disable(ctx context.Context, by Change, id ID) (*Record, error) {
	disabled := true
	return k.patch(ctx, by, "disable", id, Patch{Disabled: &disabled})
}

// Enable undoes Disable.
func (k *Keeper) Enable(ctx context.Context, by Change, id ID) (*Record, error) {
	disabled := false
	return k.patch(ctx, by, "enable", id, Patch{Disabled: &disabled})
}

// Update changes a key, wholly or not at all. Values are judged before the key
// is looked at. Errors: *FieldError, ErrNotFound, ErrRevoked.
func (k *Keeper) Update(ctx context.Context, by Change, id ID, p Patch) (*Record, error) {
	return k.patch(ctx, by, "update", id, p)
}

// NewSigningSecret leaves a row in the audit trail for a signing secret that a
// key is about to get. The secret itself is kept apart from the record.
func (k *Keeper) NewSigningSecret(ctx context.Context, by Change, id ID) error {
	_, err := k.update(ctx, by, "signing-secret", k.now(), id, func(*Record) (bool, error) { return true, nil })
	return err
}

func (k *Keeper) patch(ctx context.Context, by Change, action string, id ID, p Patch) (*Record, error) {
	now := k.now()
	if err := k.checkPatch(&p, now); err != nil {
		return nil, err
	}
	return k.update(ctx, by, action, now, id, func(rec *Record) (bool, error) {
		if !rec.RevokedAt.IsZero() {
			return false, ErrRevoked
		}
		return p.apply(rec), nil
	})
}

// errSame leaves a transaction that turned out to change nothing.
var errSame = errors.New("nothing to change")

// update changes one record through fn, which says whether it changed anything:
// a change that is none raises no change number and leaves no audit row.
func (k *Keeper) update(ctx context.Context, by Change, action string, now time.Time, id ID, fn func(*Record) (bool, error)) (*Record, error) {
	var before, same *Record
	by = k.change(by, action, now)
	rec, err := k.Store.Update(ctx, by, id, func(rec *Record) error {
		before, same = rec.Clone(), nil
		changed, err := fn(rec)
		if err := k.judge(action, before, rec); err != nil {
			return err
		}
		if err != nil {
			return err
		}
		if !changed {
			same = rec
			return errSame
		}
		prune(rec, now)
		return nil
	})
	switch {
	case errors.Is(err, errSame):
		return same, nil
	case err != nil:
		return nil, fmt.Errorf("%s key: %w", action, err)
	}
	k.notify(rec)
	k.audit(by, before, rec)
	return rec, nil
}

func (k *Keeper) judge(action string, before, after *Record) error {
	if k.Judge == nil {
		return nil
	}
	return k.Judge(action, before, after)
}

func (k *Keeper) audit(by Change, before, after *Record) {
	if k.Audit != nil {
		k.Audit(by, before, after)
	}
}

// rotate puts a new secret before the current one.
func rotate(rec *Record, secret Secret, now time.Time, overlap time.Duration) {
	// The hint belongs to the secret that a key was imported with, the oldest.
	if overlap == 0 || len(rec.Secrets) > 1 {
		rec.Hint = ""
	}
	secrets := []Secret{secret}
	if overlap > 0 && len(rec.Secrets) > 0 {
		old := rec.Secrets[0]
		old.NotAfter = now.Add(overlap)
		if old.LastUsedAt.Before(rec.LastUsedAt) {
			old.LastUsedAt = rec.LastUsedAt
		}
		secrets = append(secrets, old)
	}
	rec.Secrets = secrets
}

// prune drops an old secret whose overlap has ended, and with it the hint.
func prune(rec *Record, now time.Time) {
	n := len(rec.Secrets)
	rec.Secrets = slices.DeleteFunc(rec.Secrets, func(s Secret) bool {
		return !s.NotAfter.IsZero() && !now.Before(s.NotAfter)
	})
	if len(rec.Secrets) < n {
		rec.Hint = ""
	}
}

// secret makes what is stored of a key.
func (k *Keeper) secret(key string) (Secret, error) {
	cost := k.Cost
	if cost == 0 {
		cost = defaultCost
	}
	if cost < bcrypt.MinCost || cost > MaxCost {
		return Secret{}, fmt.Errorf("hash key: bcrypt cost %d is not between %d and %d", cost, bcrypt.MinCost, MaxCost)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(key), cost)
	if err != nil {
		return Secret{}, fmt.Errorf("hash key: %w", err)
	}
	return Secret{Hash: hash, Digest: k.Crypto.StoredDigest(key)}, nil
}

// now is the clock in the store's resolution, so that a record is the same
// before and after it was stored.
func (k *Keeper) now() time.Time {
	if k.Now != nil {
		return k.Now().UTC().Truncate(time.Microsecond)
	}
	return Wall(k.Store, time.Now()).UTC().Truncate(time.Microsecond)
}

func (k *Keeper) format() Format {
	if len(k.Formats) > 0 {
		return k.Formats[0]
	}
	return DefaultFormat()
}

// accepted returns the formats that keys may have.
func (k *Keeper) accepted() []Format {
	if len(k.Formats) > 0 {
		return k.Formats
	}
	return []Format{DefaultFormat()}
}

func (k *Keeper) change(by Change, action string, now time.Time) Change {
	by.Action, by.At = action, now
	return by
}

func (k *Keeper) notify(rec *Record) {
	if k.Notify != nil {
		k.Notify(rec)
	}
}

// apply puts the patch's values into rec and reports whether that changed it.
func (p *Patch) apply(rec *Record) bool {
	before := rec.Clone()
	if p.Name != nil {
		rec.Name = *p.Name
	}
	if p.Scopes != nil {
		rec.Scopes = slices.Clone(*p.Scopes)
	}
	if p.Plan != nil {
		rec.Plan = *p.Plan
	}
	if p.ExpiresAt != nil {
		rec.ExpiresAt = *p.ExpiresAt
	}
	if p.IPAllowlist != nil {
		rec.IPAllowlist = slices.Clone(*p.IPAllowlist)
	}
	if p.Limits != nil {
		rec.Limits = p.Limits.clone()
	}
	if p.Disabled != nil {
		rec.Disabled = *p.Disabled
	}
	return rec.Name != before.Name || !slices.Equal(rec.Scopes, before.Scopes) || rec.Plan != before.Plan ||
		!rec.ExpiresAt.Equal(before.ExpiresAt) || !slices.Equal(rec.IPAllowlist, before.IPAllowlist) ||
		!rec.Limits.Equal(before.Limits) || rec.Disabled != before.Disabled
}

// plainWord reports a text without spaces and control characters: what may stand
// in a list separated by spaces.
func plainWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
