package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hivegate/hivegate/keystore"
)

// maxSharedHint is how many unrevoked records may share a hint: each of them is
// a bcrypt comparison for a credential that begins with it.
const maxSharedHint = 16

// maxSecrets is the current secret and the old one of an overlap.
const maxSecrets = 2

// Create stores new records, all or none: keystore.ErrExists when an id is
// taken, keystore.ErrHintFull when more than 16 would share a hint. On success
// each record's Seq is set; nothing else of it is changed.
func (s *Store) Create(ctx context.Context, by keystore.Change, recs ...*keystore.Record) error {
	if len(recs) == 0 {
		return nil
	}
	for _, rec := range recs {
		if err := checkSecrets(rec); err != nil {
			return fmt.Errorf("create keys: %w", err)
		}
	}
	var last int64
	err := s.write(ctx, "create keys", func(tx *sql.Tx) (err error) {
		last, err = s.nextSeq(ctx, tx, len(recs))
		if err != nil {
			return err
		}
		if err := s.insert(ctx, tx, recs, last-int64(len(recs))+1); err != nil {
			return err
		}
		if err := s.checkHints(ctx, tx, recs...); err != nil {
			return err
		}
		return s.auditNew(ctx, tx, by, recs, last-int64(len(recs))+1)
	})
	if err != nil {
		return err
	}
	for i, rec := range recs {
		rec.Seq = last - int64(len(recs)) + 1 + int64(i)
	}
	return nil
}

// Update reads the record, hands a copy to fn and stores what fn made of it, in
// one transaction; it returns what is stored. An error of fn is returned as it
// is and changes nothing. fn may be called again when the database was busy.
//
// Some members are not fn's to change, and keep their values: ID, CreatedAt,
// Seq, and the last use, which belongs to Touch. A revocation stays: clearing
// RevokedAt is keystore.ErrRevoked.
func (s *Store) Update(ctx context.Context, by keystore.Change, id keystore.ID, fn func(*keystore.Record) error) (*keystore.Record, error) {
	var stored *keystore.Record
	err := s.write(ctx, "change key", func(tx *sql.Tx) error {
		seq, err := s.nextSeq(ctx, tx, 1)
		if err != nil {
			return err
		}
		if s.dialect.lockKey != "" {
			if _, err := tx.ExecContext(ctx, s.dialect.sql(s.dialect.lockKey), string(id[:])); err != nil {
				return err
			}
		}
		rows, err := tx.QueryContext(ctx, s.dialect.sql(getQuery), string(id[:]))
		if err != nil {
			return err
		}
		before, err := one(rows)
		if err != nil {
			return err
		}
		after := before.Clone()
		if err := fn(after); err != nil {
			return &callerError{err}
		}
		if err := keep(before, after); err != nil {
			return err
		}
		after.Seq = seq
		if err := s.replace(ctx, tx, before, after); err != nil {
			return err
		}
		if after.Hint != before.Hint {
			if err := s.checkHints(ctx, tx, after); err != nil {
				return err
			}
		}
		if err := s.auditOne(ctx, tx, by, before, after, seq); err != nil {
			return err
		}
		// As stored, and nothing of it shared with what fn may have kept.
		rows, err = tx.QueryContext(ctx, s.dialect.sql(getQuery), string(id[:]))
		if err != nil {
			return err
		}
		stored, err = one(rows)
		return err
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// Touch stores last uses, forward only; it raises no change number. Unknown ids
// are passed over. For the old secret of an overlap its own last use is stored
// beside the record's.
func (s *Store) Touch(ctx context.Context, uses []keystore.Use) error {
	if len(uses) == 0 {
		return nil
	}
	// In one order: of two processes that store the uses of the same keys, each
	// would else wait for a row that the other holds.
	uses = slices.SortedFunc(slices.Values(uses), func(a, b keystore.Use) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return s.write(ctx, "store last uses", func(tx *sql.Tx) error {
		key, err := tx.PrepareContext(ctx, s.dialect.sql(
			`UPDATE keys SET last_used_at = ?, last_addr = ?, last_route = ?
			WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)`))
		if err != nil {
			return err
		}
		defer func() { _ = key.Close() }()
		for i := range uses {
			use := &uses[i]
			at, id := use.At.UnixMicro(), string(use.ID[:])
			if _, err := key.ExecContext(ctx, at, use.Addr, use.Route, id, at); err != nil {
				return err
			}
			if err := s.touchScopes(ctx, tx, use); err != nil {
				return err
			}
			if use.Secret == 0 {
				continue
			}
			_, err := tx.ExecContext(ctx, s.dialect.sql(
				`UPDATE secrets SET last_used_at = ?
				WHERE key_id = ? AND pos = ? AND (last_used_at IS NULL OR last_used_at < ?)`), at, id, use.Secret, at)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// insert stores new records with the change numbers from first on.
func (s *Store) insert(ctx context.Context, tx *sql.Tx, recs []*keystore.Record, first int64) error {
	keys, err := s.writeRows(ctx, tx, `keys`, keyColumns, keyColumnCount, len(recs))
	if err != nil {
		return err
	}
	defer keys.close()
	secrets, err := s.writeRows(ctx, tx, `secrets`, secretColumns, secretColumnCount, len(recs))
	if err != nil {
		return err
	}
	defer secrets.close()
	// Watching a context costs the driver a goroutine per statement, a tenth of
	// an import: look at it between the records instead.
	quiet := context.WithoutCancel(ctx)
	for i, rec := range recs {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := keys.add(quiet, func(args []any) ([]any, error) {
			args, err := keyValues(args, rec, first+int64(i))
			if err != nil {
				return nil, &callerError{fmt.Errorf("create keys: %w", err)}
			}
			return args, nil
		})
		if err != nil {
			return s.taken(err, recs[:i+1])
		}
	}
	if err := keys.flush(quiet); err != nil {
		return s.taken(err, recs)
	}
	for _, rec := range recs { // after all keys, which they refer to
		if err := ctx.Err(); err != nil {
			return err
		}
		for pos := range rec.Secrets {
			err := secrets.add(quiet, func(args []any) ([]any, error) {
				return secretValues(args, rec.ID, pos, &rec.Secrets[pos]), nil
			})
			if err != nil {
				return err
			}
		}
	}
	return secrets.flush(quiet)
}

// taken makes keystore.ErrExists of a violated primary key. It names the id where
// only the last of recs can have been the one.
func (s *Store) taken(err error, recs []*keystore.Record) error {
	if !s.dialect.duplicate(err) {
		return err
	}
	if s.dialect.batch > 1 && len(recs) > 1 {
		return &callerError{fmt.Errorf("one of the new keys: %w", keystore.ErrExists)}
	}
	return &callerError{fmt.Errorf("key_%s: %w", recs[len(recs)-1].ID[:], keystore.ErrExists)}
}

// replace stores after in the place of before.
func (s *Store) replace(ctx context.Context, tx *sql.Tx, before, after *keystore.Record) error {
	args, err := keyValues(nil, after, after.Seq)
	if err != nil {
		return &callerError{fmt.Errorf("change key: %w", err)}
	}
	args = append(args, string(after.ID[:]))
	update := `UPDATE keys SET (` + keyColumns + `) = (` + marks(keyColumnCount) + `) WHERE id = ?`
	if _, err := tx.ExecContext(ctx, s.dialect.sql(update), args...); err != nil {
		return err
	}
	same := len(before.Secrets) == len(after.Secrets)
	for i := 0; same && i < len(after.Secrets); i++ {
		same = sameSecret(&before.Secrets[i], &after.Secrets[i])
	}
	if same {
		return nil
	}
	if _, err := tx.ExecContext(ctx, s.dialect.sql(`DELETE FROM secrets WHERE key_id = ?`), string(after.ID[:])); err != nil {
		return err
	}
	for pos := range after.Secrets {
		_, err := tx.ExecContext(ctx, s.dialect.sql(`INSERT INTO secrets (`+secretColumns+`) VALUES (`+marks(secretColumnCount)+`)`),
			secretValues(nil, after.ID, pos, &after.Secrets[pos])...)
		if err != nil {
			return err
		}
	}
	return nil
}

// checkHints refuses a hint that too many unrevoked records share, the ones
// just stored included. The counter's lock makes the count exact.
func (s *Store) checkHints(ctx context.Context, tx *sql.Tx, recs ...*keystore.Record) error {
	seen := make(map[string]bool) // bounded by recs
	for _, rec := range recs {
		if rec.Hint != "" {
			seen[rec.Hint] = true
		}
	}
	for hints := range slices.Chunk(slices.Sorted(maps.Keys(seen)), max(1, s.dialect.batch)) {
		args := make([]any, 0, len(hints)+1)
		for _, hint := range hints {
			args = append(args, hint)
		}
		var full string
		err := tx.QueryRowContext(ctx, s.dialect.sql(
			`SELECT hint FROM keys WHERE hint IN (`+marks(len(hints))+`) AND hint <> '' AND revoked_at IS NULL
			GROUP BY hint HAVING count(*) > ? LIMIT 1`), append(args, maxSharedHint)...).Scan(&full)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		default:
			return &callerError{keystore.ErrHintFull}
		}
	}
	return nil
}

// keep puts back what a change may not touch, and refuses what would undo a
// revocation.
func keep(before, after *keystore.Record) error {
	if !before.RevokedAt.IsZero() && after.RevokedAt.IsZero() {
		return &callerError{keystore.ErrRevoked}
	}
	if err := checkSecrets(after); err != nil {
		return &callerError{fmt.Errorf("change key: %w", err)}
	}
	after.ID, after.CreatedAt, after.Seq = before.ID, before.CreatedAt, before.Seq
	after.LastUsedAt, after.LastAddr, after.LastRoute = before.LastUsedAt, before.LastAddr, before.LastRoute
	return nil
}

func checkSecrets(rec *keystore.Record) error {
	if len(rec.Secrets) > maxSecrets {
		return fmt.Errorf("a key has at most %d secrets, this one %d", maxSecrets, len(rec.Secrets))
	}
	for _, secret := range rec.Secrets {
		if len(secret.Hash) == 0 {
			return errors.New("a secret without a hash")
		}
	}
	return nil
}
