package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed migrations/sqlite/*.sql
var sqliteMigrations embed.FS

// Options of a store. The zero value is good.
type Options struct {
	// Create makes the file, and its folder, when it is missing.
	Create bool
	// Inspect is for looking: nothing is written, and so a database whose schema
	// is not this hivegate's is an error. SQLite only.
	Inspect bool
	// MaxWait is how long a call waits for a database that other processes
	// keep busy; what SQLite itself waits, 5 s at a time, is part of it.
	// Default: 30 s, which a large import may take.
	MaxWait time.Duration
	// Readers is the number of reading connections. Default: 4.
	Readers int

	// busyTimeout is SQLite's own waiting, in milliseconds; tests shorten it.
	busyTimeout int
}

// ErrForeign is wrapped by the error for a file that is not a keystore.
var ErrForeign = errors.New("not a hivegate keystore")

// sqliteBusyTimeout is how long SQLite itself waits for a lock, in
// milliseconds.
const sqliteBusyTimeout = 5000

// openMu keeps two openings of one process apart: POSIX drops all locks that a
// process has on a file when it closes any descriptor of it, so the descriptor
// that makes a file must be closed before SQLite opens it.
var openMu sync.Mutex

// OpenSQLite opens the keystore in the file path. Without opts.Create a missing
// file is an error that wraps fs.ErrNotExist; a file that is something else is
// ErrForeign, one of a newer hivegate ErrNewer. The schema is brought up to
// date.
func OpenSQLite(ctx context.Context, path string, opts Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open keystore: %w", err)
	}
	s, err := openSQLite(ctx, path, opts)
	if err != nil {
		return nil, fmt.Errorf("open keystore %s: %w", path, err)
	}
	return s, nil
}

func openSQLite(ctx context.Context, path string, opts Options) (*Store, error) {
	if opts.MaxWait <= 0 {
		opts.MaxWait = 30 * time.Second
	}
	if opts.Readers <= 0 {
		opts.Readers = 4
	}
	if opts.busyTimeout <= 0 {
		opts.busyTimeout = sqliteBusyTimeout
	}
	openMu.Lock()
	defer openMu.Unlock()
	if err := ensureFile(path, opts.Create); err != nil {
		return nil, err
	}
	opened, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	// The writer's cache of at most 32 MiB is for imports: what does not fit is
	// written to the log more than once.
	writer, err := connectSQLite(path, 1, opts.busyTimeout, "_txlock=immediate&_pragma=cache_size(-32768)")
	if err != nil {
		return nil, err
	}
	reader, err := connectSQLite(path, opts.Readers, opts.busyTimeout, "_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	s := &Store{
		dialect: sqliteDialect(path), writer: writer, reader: reader, feed: reader, small: writer, maxWait: opts.MaxWait,
		check: func() error { return sameFile(path, opened) },
	}
	if err := s.prepareSQLite(ctx, opts); err != nil {
		_ = s.Close() // the first error is the one that says what is wrong
		return nil, err
	}
	return s, nil
}

// prepareSQLite checks that the file is a keystore or empty, and only then sets
// what belongs to the file, migrates, and prepares the query of the hot path.
func (s *Store) prepareSQLite(ctx context.Context, opts Options) error {
	if err := s.inspectSQLite(ctx, opts.Create); err != nil {
		return err
	}
	if opts.Inspect {
		return s.prepareInspection(ctx)
	}
	err := s.retry(ctx, "switch to WAL mode", func() error {
		var mode string
		if err := s.writer.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode); err != nil {
			return err
		}
		if mode != "wal" {
			return fmt.Errorf("SQLite stayed in journal mode %q; is the file on a network file system?", mode)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	return s.prepareGet(ctx)
}

// prepareInspection accepts a database as it is, or not at all.
func (s *Store) prepareInspection(ctx context.Context) error {
	list, err := loadMigrations(s.dialect.migrations)
	if err != nil {
		return err
	}
	current, err := s.schemaVersion(ctx)
	switch {
	case err != nil:
		return err
	case current > len(list):
		return newerError(current, len(list))
	case current < len(list):
		return fmt.Errorf("its schema is version %d, not %d; \"hivegate migrate\" brings it up to date", current, len(list))
	}
	s.schema = Schema{From: current, To: current}
	return s.prepareGet(ctx)
}

func (s *Store) prepareGet(ctx context.Context) error {
	s.known = make([]*sql.Stmt, bits.Len(maxProbe))
	return s.retry(ctx, "read the schema", func() (err error) {
		if s.get, err = s.reader.PrepareContext(ctx, s.dialect.sql(getQuery)); err != nil {
			return err
		}
		for i := range s.known {
			if s.known[i] != nil {
				continue // by a try before
			}
			s.known[i], err = s.reader.PrepareContext(ctx, knownQuery(1<<i)) //nolint:sqlclosecheck // Close does
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// inspectSQLite refuses a file of something else, without changing it.
func (s *Store) inspectSQLite(ctx context.Context, create bool) error {
	const query = `SELECT count(*) FILTER (WHERE name = 'hivegate_schema'), count(*) FROM sqlite_master`
	var ours, all int
	err := s.read(ctx, "look into the file", func() error {
		return s.reader.QueryRowContext(ctx, query).Scan(&ours, &all)
	})
	switch {
	case err != nil:
		return err
	case ours == 0 && all > 0:
		return fmt.Errorf("%w: it is the SQLite database of something else; name another file with \"keystore sqlite PATH\"", ErrForeign)
	case all == 0 && !create:
		return fmt.Errorf("%w: the file is empty; \"hivegate apikey create\" makes a keystore of it", ErrForeign)
	}
	return nil
}

// ensureFile makes the file where it may, and else says why it cannot be used.
func ensureFile(path string, create bool) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("it is a folder; name the file, such as %s", filepath.Join(path, "keys.db"))
	case err == nil && !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case !create:
		return fmt.Errorf("there is no such file; \"hivegate apikey create\" makes it, or name another with \"keystore sqlite PATH\": %w", fs.ErrNotExist)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make its folder: %w", err)
	}
	// O_EXCL: another process may have made it meanwhile, which is as good.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return fmt.Errorf("make the file (its folder must be writable for the user that runs hivegate): %w", err)
	}
	return file.Close()
}

func connectSQLite(path string, connections, busyTimeout int, option string) (*sql.DB, error) {
	// mode=rw: SQLite never makes the file, ensureFile does, with the right mode.
	dsn := fmt.Sprintf("file:%s?mode=rw&_error_rc=1&_defensive=1&_dqs=0"+
		"&_pragma=busy_timeout(%d)&_pragma=foreign_keys(1)&_pragma=synchronous(FULL)&_pragma=trusted_schema(0)&%s",
		(&url.URL{Path: path}).EscapedPath(), busyTimeout, option)
	connector, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// sameFile reports a file that was removed or replaced while it is open: what
// is written to it then would be lost, and changes by others would not be seen.
func sameFile(path string, opened fs.FileInfo) error {
	now, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("the keystore file is gone while it is open: %w", err)
	}
	if !os.SameFile(opened, now) {
		return fmt.Errorf("the keystore file %s was replaced while it is open; restart hivegate", path)
	}
	return nil
}

func sqliteDialect(path string) *dialect {
	migrations, err := fs.Sub(sqliteMigrations, "migrations/sqlite")
	if err != nil {
		panic(err) // a constant path
	}
	return &dialect{
		name:       "sqlite",
		migrations: migrations,
		hasSchema:  `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'hivegate_schema'`,
		raise:      `UPDATE counter SET seq = seq + ? WHERE "only" = 1 RETURNING seq`,
		clock:      `CAST(unixepoch('subsec') * 1000000 AS INTEGER)`,
		contains:   func(column string) string { return `instr(` + column + `, ?) > 0` },
		busy: func(err error) bool {
			code := sqliteCode(err) & 0xff
			return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
		},
		duplicate: func(err error) bool {
			code := sqliteCode(err)
			return code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY || code == sqlite3.SQLITE_CONSTRAINT_UNIQUE
		},
		explain: func(err error) error { return explainSQLite(path, err) },
	}
}

// sqliteCode returns the extended result code in err, or 0.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// explainSQLite says what to do about the errors that an operator can mend.
func explainSQLite(path string, err error) error {
	code := sqliteCode(err)
	folder := filepath.Dir(path)
	switch code & 0xff {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: it is not a SQLite database (or is damaged); name another file, or restore a backup: %w", ErrForeign, err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("the file is damaged; restore a backup (the .recover command of the sqlite3 shell may save what is readable): %w", err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return fmt.Errorf("the file and its folder %s must be readable and writable for the user that runs hivegate (SQLite keeps -wal and -shm files beside it): %w", folder, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("the disk is full; make room in %s: %w", folder, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("another process has kept the file for too long; end it, or try again: %w", err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("reading or writing failed; look at the disk under %s: %w", folder, err)
	}
	return err
}
