package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/hivegate/hivegate/keystore"
)

var _ keystore.DocStore = (*Store)(nil)

// LoadDoc implements keystore.DocStore.
func (s *Store) LoadDoc(ctx context.Context, kind, name string) (doc keystore.Doc, err error) {
	err = s.read(ctx, "read "+kind, func() error {
		err := s.reader.QueryRowContext(ctx, s.dialect.sql(
			`SELECT version, data FROM docs WHERE kind = ? AND name = ?`), kind, name).Scan(&doc.Version, &doc.Data)
		if errors.Is(err, sql.ErrNoRows) {
			return &callerError{keystore.ErrNotFound}
		}
		return err
	})
	if err != nil {
		return keystore.Doc{}, err
	}
	return doc, nil
}

// SwapDoc implements keystore.DocStore. One statement compares and sets, so two
// writers cannot both have seen the same version.
func (s *Store) SwapDoc(ctx context.Context, kind, name, old string, next *keystore.Doc) (done bool, err error) {
	if next != nil && next.Version == "" {
		return false, errors.New("store " + kind + ": the version is empty")
	}
	err = s.writeOn(ctx, s.small, "store "+kind, func(tx *sql.Tx) error {
		var res sql.Result
		var err error
		switch {
		case next == nil && old == "":
			done = false
			return nil
		case next == nil:
			res, err = tx.ExecContext(ctx, s.dialect.sql(
				`DELETE FROM docs WHERE kind = ? AND name = ? AND version = ?`), kind, name, old)
		case old == "":
			res, err = tx.ExecContext(ctx, s.dialect.sql(
				`INSERT INTO docs (kind, name, version, data) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`),
				kind, name, next.Version, notNil(next.Data))
		default:
			res, err = tx.ExecContext(ctx, s.dialect.sql(
				`UPDATE docs SET version = ?, data = ? WHERE kind = ? AND name = ? AND version = ?`),
				next.Version, notNil(next.Data), kind, name, old)
		}
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		done = n == 1
		return err
	})
	return done && err == nil, err
}

// DocNames implements keystore.DocStore.
func (s *Store) DocNames(ctx context.Context, kind, after string, limit int) (names []string, err error) {
	err = s.read(ctx, "list "+kind, func() error {
		names = names[:0]
		rows, err := s.reader.QueryContext(ctx, s.dialect.sql(
			`SELECT name FROM docs WHERE kind = ? AND name > ? ORDER BY name LIMIT ?`), kind, after, limit)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			names = append(names, name)
		}
		return rows.Err()
	})
	return names, err
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
