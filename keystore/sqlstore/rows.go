package sqlstore

import (
	"context"
	"database/sql"
	"strings"
)

// rowWriter inserts rows into one table within a transaction, as many in one
// statement as the dialect says: across a network the round trips are what an
// import takes. Rows are stored by flush at the latest.
type rowWriter struct {
	tx    *sql.Tx
	into  string // INSERT INTO … VALUES
	tuple string // (?, ?)
	width int
	batch int
	s     *Store

	full *sql.Stmt // for a whole batch
	args []any     // of rows not stored yet
}

// writeRows begins to insert up to n rows; close must follow.
func (s *Store) writeRows(ctx context.Context, tx *sql.Tx, table, columns string, width, n int) (*rowWriter, error) {
	w := &rowWriter{
		s: s, tx: tx, width: width, batch: max(1, s.dialect.batch),
		into: `INSERT INTO ` + table + ` (` + columns + `) VALUES `, tuple: `(` + marks(width) + `)`,
	}
	if n < w.batch {
		return w, nil // no batch will be full
	}
	var err error
	w.full, err = tx.PrepareContext(ctx, w.query(w.batch))
	return w, err
}

func (w *rowWriter) query(rows int) string {
	return w.s.dialect.sql(w.into + strings.Repeat(w.tuple+`, `, rows-1) + w.tuple)
}

// add appends one row through fn, which appends its values.
func (w *rowWriter) add(ctx context.Context, fn func(args []any) ([]any, error)) error {
	args, err := fn(w.args)
	if err != nil {
		return err
	}
	if w.args = args; len(w.args) < w.batch*w.width || w.full == nil {
		return nil
	}
	_, err = w.full.ExecContext(ctx, w.args...)
	w.args = w.args[:0]
	return err
}

// flush stores what is left.
func (w *rowWriter) flush(ctx context.Context) error {
	if len(w.args) == 0 {
		return nil
	}
	_, err := w.tx.ExecContext(ctx, w.query(len(w.args)/w.width), w.args...)
	w.args = w.args[:0]
	return err
}

func (w *rowWriter) close() {
	if w.full != nil {
		_ = w.full.Close() // the transaction's end says what went wrong
	}
}
