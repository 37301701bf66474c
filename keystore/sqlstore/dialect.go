package sqlstore

import (
	"context"
	"database/sql"
	"io/fs"
	"strings"
)

// dialect is what the queries of this package leave to the database. They are
// written with ? for arguments, booleans as booleans, and times as whole
// microseconds.
type dialect struct {
	// name of the dialect, also the folder of its migrations.
	name string
	// migrations holds files named NNNN_what.sql, without gaps from 0001.
	migrations fs.FS
	// bind rewrites ? into what the driver wants; nil leaves them.
	bind func(query string) string
	// contains renders the condition "column contains the argument".
	contains func(column string) string
	// hasSchema counts the tables named hivegate_schema: 0 or 1.
	hasSchema string
	// lock runs first inside the migrating transaction and keeps a second
	// process out of it; nil where the transaction itself does.
	lock func(ctx context.Context, tx *sql.Tx) error
	// busy reports whether the same transaction may succeed when repeated.
	busy func(err error) bool
	// duplicate reports a violated primary key or unique index.
	duplicate func(err error) bool
	// batch is how many rows one statement inserts; 0: one.
	batch int
	// raise adds its argument to the change number and returns the new one; it
	// tells other processes where the database can.
	raise string
	// lockKey keeps others from changing the row of a key until the transaction
	// ends: last uses are stored without raising the change number. Empty: the
	// transaction itself does.
	lockKey string
	// clock is an expression for the database's time, in microseconds.
	clock string
	// lost reports a connection that ended under a statement; what only reads
	// may then be asked again on another one. nil: there is no connection.
	lost func(err error) bool
	// explain turns a driver's error into one that says what to do. It wraps
	// err, or returns it as it is.
	explain func(err error) error
}

// sql renders a query for this dialect.
func (d *dialect) sql(query string) string {
	if d.bind == nil {
		return query
	}
	return d.bind(query)
}

// marks returns n argument marks, separated by commas.
func marks(n int) string {
	if n == 0 {
		return ""
	}
	return strings.Repeat("?, ", n-1) + "?"
}
