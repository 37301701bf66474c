package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

// Store is a keystore.Store on an SQL database. It is safe for concurrent use,
// and several processes may use one database at the same time.
type Store struct {
	dialect *dialect
	writer  *sql.DB // transactions that change something
	reader  *sql.DB
	maxWait time.Duration // for a database that others keep busy
	check   func() error  // part of Ping; may be nil

	// feed and small are connections of their own for the change numbers, and
	// for documents and heartbeats, so that neither waits behind look-ups and
	// imports. In SQLite they are reader and writer.
	feed, small *sql.DB

	get *sql.Stmt // the one query that requests wait for
	// known are those of Prober: one for 1 id, for 2, 4, 8 and 16; nil on PostgreSQL.
	known []*sql.Stmt
	// lookups bounds the reads of keys at once below the number of connections;
	// nil: no bound.
	lookups chan struct{}
	remote  *remote // nil: the database is in this process
	schema  Schema
	clock   wallClock

	auditKey atomic.Pointer[[]byte] // of the audit trail; nil: no data key

	closeOnce sync.Once
	closeErr  error
}

var _ keystore.Store = (*Store)(nil)

const dataKeyName = "data_key"

// "only" is a word of SQL in PostgreSQL.
const seqQuery = `SELECT seq FROM counter WHERE "only" = 1`

// Seq returns the current change number: one row by its primary key.
func (s *Store) Seq(ctx context.Context) (seq int64, err error) {
	err = s.read(ctx, "read the change number", func() error {
		return s.feed.QueryRowContext(ctx, seqQuery).Scan(&seq)
	})
	return seq, err
}

// DataKey returns the sealed data key, nil where there is none.
func (s *Store) DataKey(ctx context.Context) (sealed []byte, err error) {
	err = s.read(ctx, "read the data key", func() error {
		sealed, err = s.dataKey(ctx, s.reader)
		return err
	})
	return sealed, err
}

// PutDataKey stores sealed if the stored data key still equals old (nil: there
// is none), and returns what is stored afterwards. An empty sealed is an
// error: a data key is never taken away.
func (s *Store) PutDataKey(ctx context.Context, old, sealed []byte) (stored []byte, err error) {
	if len(sealed) == 0 {
		return nil, errors.New("store the data key: it is empty")
	}
	err = s.write(ctx, "store the data key", func(tx *sql.Tx) error {
		// The counter's row serializes writers; 0 raises nothing.
		if _, err := s.nextSeq(ctx, tx, 0); err != nil {
			return err
		}
		stored, err = s.dataKey(ctx, tx)
		if err != nil || !bytes.Equal(stored, old) {
			return err
		}
		stored = bytes.Clone(sealed)
		_, err = tx.ExecContext(ctx, s.dialect.sql(
			`INSERT INTO meta (name, value) VALUES (?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`), dataKeyName, sealed)
		return err
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// Ping reports whether the database answers and is still the one that was
// opened.
func (s *Store) Ping(ctx context.Context) error {
	if s.check != nil {
		if err := s.check(); err != nil {
			return err
		}
	}
	if s.remote != nil {
		return s.pingShared(ctx)
	}
	_, err := s.Seq(ctx)
	return err
}

// Close closes the database. Further calls return the same as the first.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		var errs []error
		for _, stmt := range append(s.known, s.get) {
			if stmt != nil {
				errs = append(errs, stmt.Close())
			}
		}
		// Readers first: the writer's connection, which may write, is the one
		// that folds the write-ahead log into the file and removes it.
		errs = append(errs, s.reader.Close())
		if s.feed != s.reader {
			errs = append(errs, s.feed.Close())
		}
		if s.small != s.writer {
			errs = append(errs, s.small.Close())
		}
		errs = append(errs, s.writer.Close())
		if err := errors.Join(errs...); err != nil {
			s.closeErr = fmt.Errorf("close keystore: %w", err)
		}
	})
	return s.closeErr
}

// rower is a *sql.DB or *sql.Tx.
type rower interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (s *Store) dataKey(ctx context.Context, db rower) ([]byte, error) {
	var value []byte
	err := db.QueryRowContext(ctx, s.dialect.sql(`SELECT value FROM meta WHERE name = ?`), dataKeyName).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return value, err
}

// nextSeq raises the change number by n and returns the highest one. It comes
// first in every writing transaction and serializes them (see the package's
// documentation).
func (s *Store) nextSeq(ctx context.Context, tx *sql.Tx, n int) (seq int64, err error) {
	err = tx.QueryRowContext(ctx, s.dialect.sql(s.dialect.raise), n).Scan(&seq)
	return seq, err
}

// callerError carries an error that is not the database's through a
// transaction, so that it comes out unchanged.
type callerError struct{ err error }

func (e *callerError) Error() string { return e.err.Error() }

// write runs fn in a writing transaction, again while the database is busy. fn
// may therefore run more than once; only its last run counts.
func (s *Store) write(ctx context.Context, what string, fn func(tx *sql.Tx) error) error {
	return s.writeOn(ctx, s.writer, what, fn)
}

func (s *Store) writeOn(ctx context.Context, db *sql.DB, what string, fn func(tx *sql.Tx) error) error {
	return s.retry(ctx, what, func() error {
		tx, err := db.BeginTx(ctx, nil)
		for range lostTries {
			if err == nil || s.dialect.lost == nil || !s.dialect.lost(err) || ctx.Err() != nil {
				break
			}
			tx, err = db.BeginTx(ctx, nil) // nothing was done on the one that ended
		}
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // nothing after a commit; also when fn panics
		if err := fn(tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// read runs fn, again while the database is busy, and on other connections
// where one has ended: after a restart of the database all that wait in the
// pool are dead.
func (s *Store) read(ctx context.Context, what string, fn func() error) error {
	return s.retry(ctx, what, func() error {
		err := fn()
		for range lostTries {
			if err == nil || s.dialect.lost == nil || !s.dialect.lost(err) || ctx.Err() != nil {
				break
			}
			err = fn()
		}
		return err
	})
}

// lostTries is how often a read whose connection ended is asked again.
const lostTries = 3

func (s *Store) retry(ctx context.Context, what string, fn func() error) error {
	started := time.Now()
	pause := time.Millisecond
	for {
		err := fn()
		var caller *callerError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &caller):
			return caller.err
		case ctx.Err() != nil:
			// The driver reports an interrupted statement in its own words.
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case !s.dialect.busy(err) || time.Since(started) > s.maxWait:
			return fmt.Errorf("%s: %w", what, s.dialect.explain(err))
		}
		// A random pause, so that two processes do not meet again and again.
		timer := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // a pause, no secret
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-timer.C:
		}
		pause = min(2*pause, 100*time.Millisecond)
	}
}
