package sqlstore

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

// keyColumns are written by keyValues in this order; the ones up to
// ip_allowlist, hint and seq are read by scanRows.
const (
	keyColumns = `id, name, name_fold, prefix, owner, scopes, plan, limits, disabled, created_at, expires_at,
		revoked_at, last_used_at, last_addr, last_route, ip_allowlist, hint, seq`
	keyColumnCount = 18

	secretColumns     = `key_id, pos, hash, digest, random, not_after, last_used_at` //nolint:gosec // names of columns
	secretColumnCount = 7
)

// selectRecords returns a query for whole records. from names the rows of keys
// (aliased k) and their order, which is repeated for the joined rows: one row
// per secret, the rows of one record together.
func selectRecords(from, order string) string {
	return `SELECT k.id, k.name, k.prefix, k.owner, k.scopes, k.plan, k.limits, k.disabled, k.created_at, k.expires_at,
			k.revoked_at, k.last_used_at, k.last_addr, k.last_route, k.ip_allowlist, k.hint, k.seq,
			s.hash, s.digest, s.random, s.not_after, s.last_used_at
		FROM ` + from + ` LEFT JOIN secrets s ON s.key_id = k.id
		ORDER BY ` + order + `, s.pos`
}

// scanRows reads the rows of a selectRecords query and closes them.
func scanRows(rows *sql.Rows) (list []*keystore.Record, err error) {
	defer func() {
		if closeErr := rows.Close(); err == nil {
			err = closeErr
		}
	}()
	for rows.Next() {
		var (
			rec                        keystore.Record
			id, scopes                 string
			limits, allowlist          sql.NullString
			created                    int64
			expires, revoked, used     sql.NullInt64
			hash, digest               []byte
			random                     sql.NullBool
			secretNotAfter, secretUsed sql.NullInt64
		)
		err := rows.Scan(&id, &rec.Name, &rec.Prefix, &rec.Owner, &scopes, &rec.Plan, &limits, &rec.Disabled, &created, &expires,
			&revoked, &used, &rec.LastAddr, &rec.LastRoute, &allowlist, &rec.Hint, &rec.Seq,
			&hash, &digest, &random, &secretNotAfter, &secretUsed)
		if err != nil {
			return nil, err
		}
		if len(id) != len(rec.ID) {
			return nil, fmt.Errorf("the id %q is not %d characters", id, len(rec.ID))
		}
		copy(rec.ID[:], id)
		current := &rec
		if n := len(list); n > 0 && list[n-1].ID == rec.ID {
			current = list[n-1]
		} else {
			rec.CreatedAt = time.UnixMicro(created).UTC()
			rec.ExpiresAt, rec.RevokedAt, rec.LastUsedAt = fromMicros(expires), fromMicros(revoked), fromMicros(used)
			if err := decodeJSON(&rec, scopes, limits, allowlist); err != nil {
				return nil, fmt.Errorf("key %s: %w", id, err)
			}
			list = append(list, current)
		}
		if hash != nil {
			current.Secrets = append(current.Secrets, keystore.Secret{
				Hash: hash, Digest: digest, Random: random.Bool,
				NotAfter: fromMicros(secretNotAfter), LastUsedAt: fromMicros(secretUsed),
			})
		}
	}
	return list, rows.Err()
}

func decodeJSON(rec *keystore.Record, scopes string, limits, allowlist sql.NullString) error {
	if err := json.Unmarshal([]byte(scopes), &rec.Scopes); err != nil {
		return fmt.Errorf("decode scopes: %w", err)
	}
	if limits.Valid {
		rec.Limits = new(keystore.Limits)
		if err := json.Unmarshal([]byte(limits.String), rec.Limits); err != nil {
			return fmt.Errorf("decode limits: %w", err)
		}
	}
	if allowlist.Valid {
		if err := json.Unmarshal([]byte(allowlist.String), &rec.IPAllowlist); err != nil {
			return fmt.Errorf("decode allowlist: %w", err)
		}
	}
	return nil
}

// keyValues appends the values of keyColumns.
func keyValues(args []any, rec *keystore.Record, seq int64) ([]any, error) {
	scopes, err := json.Marshal(append([]string{}, rec.Scopes...)) // never null
	if err != nil {
		return nil, fmt.Errorf("encode scopes: %w", err)
	}
	var limits, allowlist sql.NullString
	if rec.Limits != nil {
		text, err := json.Marshal(rec.Limits)
		if err != nil {
			return nil, fmt.Errorf("encode limits: %w", err)
		}
		limits = sql.NullString{String: string(text), Valid: true}
	}
	if len(rec.IPAllowlist) > 0 {
		text, err := json.Marshal(rec.IPAllowlist)
		if err != nil {
			return nil, fmt.Errorf("encode allowlist: %w", err)
		}
		allowlist = sql.NullString{String: string(text), Valid: true}
	}
	return append(args, string(rec.ID[:]), rec.Name, strings.ToLower(rec.Name), rec.Prefix, rec.Owner, string(scopes), rec.Plan,
		limits, rec.Disabled, rec.CreatedAt.UnixMicro(), toMicros(rec.ExpiresAt),
		toMicros(rec.RevokedAt), toMicros(rec.LastUsedAt), rec.LastAddr, rec.LastRoute, allowlist, rec.Hint, seq), nil
}

// secretValues appends the values of secretColumns.
func secretValues(args []any, id keystore.ID, pos int, secret *keystore.Secret) []any {
	var digest any // NULL, not an empty value
	if len(secret.Digest) > 0 {
		digest = secret.Digest
	}
	return append(args, string(id[:]), pos, secret.Hash, digest, secret.Random,
		toMicros(secret.NotAfter), toMicros(secret.LastUsedAt))
}

// sameSecret reports whether two secrets are stored alike.
func sameSecret(a, b *keystore.Secret) bool {
	return slices.Equal(a.Hash, b.Hash) && slices.Equal(a.Digest, b.Digest) && a.Random == b.Random &&
		toMicros(a.NotAfter) == toMicros(b.NotAfter) && toMicros(a.LastUsedAt) == toMicros(b.LastUsedAt)
}

// toMicros returns t in microseconds since the epoch, NULL for the zero time.
func toMicros(t time.Time) sql.NullInt64 {
	if t.IsZero() {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: t.UnixMicro(), Valid: true}
}

func fromMicros(v sql.NullInt64) time.Time {
	if !v.Valid {
		return time.Time{}
	}
	return time.UnixMicro(v.Int64).UTC()
}
