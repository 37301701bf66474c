package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strconv"
	"strings"
)

// ErrNewer is wrapped by the error for a database whose schema this hivegate
// does not know yet.
var ErrNewer = errors.New("the keystore was made by a newer hivegate")

// migration is one step of the schema.
type migration struct {
	version int // from 1, without gaps
	name    string
	sql     string
}

// loadMigrations reads every NNNN_what.sql of fsys in order. A gap, a
// duplicate or another file name is an error: it would be found by the tests.
func loadMigrations(fsys fs.FS) ([]migration, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	sort.Strings(names)
	list := make([]migration, 0, len(names))
	for i, name := range names {
		number, _, found := strings.Cut(path.Base(name), "_")
		version, err := strconv.Atoi(number)
		if err != nil || !found || version != i+1 {
			return nil, fmt.Errorf("migration %s: want %04d_what.sql at this place", name, i+1)
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		list = append(list, migration{version: version, name: name, sql: string(text)})
	}
	return list, nil
}

// Schema is the version that a store's schema had when it was opened, and the
// one that it was brought to. From 0: it was made.
type Schema struct{ From, To int }

// Schema returns what opening the store did to its schema.
func (s *Store) Schema() Schema { return s.schema }

// migrate brings the schema to the newest version, in one transaction: of two
// processes that start at once one does the work and the other finds it done,
// and a process that dies on the way leaves the old schema.
func (s *Store) migrate(ctx context.Context) error {
	list, err := loadMigrations(s.dialect.migrations)
	if err != nil {
		return err
	}
	current, err := s.schemaVersion(ctx)
	switch {
	case err != nil:
		return err
	case current == len(list):
		s.schema = Schema{From: current, To: current}
		return nil // the usual case takes no lock
	case current > len(list):
		return newerError(current, len(list))
	}
	return s.write(ctx, "migrate the keystore", func(tx *sql.Tx) error {
		if s.dialect.lock != nil {
			if err := s.dialect.lock(ctx, tx); err != nil {
				return err
			}
		}
		const table = `CREATE TABLE IF NOT EXISTS hivegate_schema (version INTEGER NOT NULL PRIMARY KEY)`
		if _, err := tx.ExecContext(ctx, table); err != nil {
			return err
		}
		var version int
		err := tx.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM hivegate_schema`).Scan(&version)
		if err != nil {
			return err
		}
		if version > len(list) {
			return &callerError{newerError(version, len(list))}
		}
		s.schema = Schema{From: version, To: len(list)}
		for _, m := range list[version:] {
			if _, err := tx.ExecContext(ctx, m.sql); err != nil {
				return fmt.Errorf("migration %s: %w", m.name, err)
			}
			insert := s.dialect.sql(`INSERT INTO hivegate_schema (version) VALUES (?)`)
			if _, err := tx.ExecContext(ctx, insert, m.version); err != nil {
				return fmt.Errorf("migration %s: %w", m.name, err)
			}
		}
		return nil
	})
}

// schemaVersion returns the version of the schema, 0 where there is none yet.
func (s *Store) schemaVersion(ctx context.Context) (version int, err error) {
	err = s.read(ctx, "read the schema version", func() error {
		var tables int
		if err := s.reader.QueryRowContext(ctx, s.dialect.hasSchema).Scan(&tables); err != nil || tables == 0 {
			return err
		}
		return s.reader.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM hivegate_schema`).Scan(&version)
	})
	return version, err
}

func newerError(version, known int) error {
	return fmt.Errorf("%w: its schema is version %d, this one knows up to %d; use the newer hivegate, or restore the backup from before the upgrade",
		ErrNewer, version, known)
}
