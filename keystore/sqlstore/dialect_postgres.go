package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed migrations/postgres/*.sql
var postgresMigrations embed.FS

const (
	// channel is where changes are announced. It says that there are some, not
	// which: another keystore in the same database wakes for nothing at times.
	channel = "hivegate"
	// migrationLock is the advisory lock that one migration holds at a time.
	migrationLock = 0x68697665_67617465 // "hivegate"
	// postgresBatch times the columns of a table stays below 65,536, the most
	// arguments that a statement may have.
	postgresBatch = 500
	// defaultSchema keeps the tables apart from those of other programs.
	defaultSchema = "hivegate"
)

// Error codes of PostgreSQL (its manual, appendix A).
const (
	codeUniqueViolation      = "23505"
	codeSerialization        = "40001"
	codeDeadlock             = "40P01"
	codeLockNotAvailable     = "55P03"
	codeInsufficientRights   = "42501"
	codeUndefinedTable       = "42P01"
	codeUndefinedFunction    = "42883"
	codeNotSupported         = "0A000"
	codeReadOnly             = "25006"
	codeQueryCanceled        = "57014"
	codeAdminShutdown        = "57P01"
	codeCrashShutdown        = "57P02"
	codeTooManyConnections   = "53300"
	codeUndefinedDatabase    = "3D000"
	codeWrongPassword        = "28P01"
	codeWrongAuthentication  = "28000"
	codeIdleInTransaction    = "25P03"
	classOperatorIntervene   = "57P"
	classConnectionException = "08"
)

// postgresDialect is for a schema of the database that location names.
func postgresDialect(schema, location string) *dialect {
	migrations, err := fs.Sub(postgresMigrations, "migrations/postgres")
	if err != nil {
		panic(err) // a constant path
	}
	return &dialect{
		name:       "postgres",
		migrations: migrations,
		bind:       numbered,
		hasSchema:  `SELECT count(to_regclass('hivegate_schema'))`,
		contains:   func(column string) string { return `strpos(` + column + `, ?) > 0` },
		// One statement, and so one round trip, raises the number and announces
		// it; the announcement goes out with the commit.
		raise: `WITH c AS (UPDATE counter SET seq = seq + ? WHERE "only" = 1 RETURNING seq)
			SELECT c.seq FROM c, LATERAL pg_notify('` + channel + `', '')`,
		lockKey: `SELECT 1 FROM keys WHERE id = ? FOR UPDATE`,
		clock:   `CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)`,
		lock:    func(ctx context.Context, tx *sql.Tx) error { return lockMigration(ctx, tx, schema) },
		busy: func(err error) bool {
			switch postgresCode(err) {
			case codeSerialization, codeDeadlock, codeLockNotAvailable:
				return true
			}
			return false
		},
		duplicate: func(err error) bool { return postgresCode(err) == codeUniqueViolation },
		batch:     postgresBatch,
		lost:      postgresLost,
		explain:   func(err error) error { return explainPostgres(schema, location, err) },
	}
}

// lockMigration keeps other migrations out until the transaction ends, and makes
// the schema where it is missing. It waits for as long as another one takes.
func lockMigration(ctx context.Context, tx *sql.Tx, schema string) error {
	for _, setting := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		if _, err := tx.ExecContext(ctx, `SET LOCAL `+setting+` = 0`); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		return err
	}
	var missing bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regnamespace($1) IS NULL`, pgx.Identifier{schema}.Sanitize()).Scan(&missing); err != nil || !missing {
		return err
	}
	// CREATE SCHEMA IF NOT EXISTS would ask for the right to make one even where
	// it is there.
	_, err := tx.ExecContext(ctx, `CREATE SCHEMA `+pgx.Identifier{schema}.Sanitize())
	return err
}

// numbered writes $1, $2 … for the question marks of a query. The queries of this
// package hold none in texts.
func numbered(query string) string {
	if !strings.Contains(query, "?") {
		return query
	}
	var b strings.Builder
	n := 0
	for i := range len(query) {
		if query[i] != '?' {
			b.WriteByte(query[i])
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}

func postgresCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// postgresLost reports an error of the connection, not of the statement.
func postgresLost(err error) bool {
	switch postgresCode(err) {
	case codeAdminShutdown, codeCrashShutdown, codeIdleInTransaction:
		return true
	case "":
	default:
		return false
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return false // a new one would meet the same
	}
	var op net.Error
	if errors.As(err, &op) && op.Timeout() {
		return false
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		op != nil || pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed")
}

// explainPostgres says what to do about the errors that an operator can mend.
func explainPostgres(schema, location string, err error) error {
	switch code := postgresCode(err); {
	case code == codeInsufficientRights:
		return fmt.Errorf("the database user lacks rights on the schema %s: run \"hivegate migrate\" as its owner, and grant as docs/operations.md shows: %w", schema, err)
	case code == codeUndefinedTable:
		return fmt.Errorf("the schema %s has not all tables of a keystore; run \"hivegate migrate\": %w", schema, err)
	case code == codeReadOnly:
		return fmt.Errorf("%s is a standby and takes no changes; name the primary: %w", location, err)
	case code == codeTooManyConnections:
		return fmt.Errorf("%s has no connection left; raise max_connections, or lower pool_max_conns in the DSN: %w", location, err)
	case code == codeUndefinedDatabase:
		return fmt.Errorf("make the database first (createdb): %w", err)
	case code == codeWrongPassword || code == codeWrongAuthentication:
		return fmt.Errorf("look at user and password of the DSN, and at pg_hba.conf: %w", err)
	case code == codeQueryCanceled:
		return fmt.Errorf("%s did not answer in time: %w", location, err)
	case strings.HasPrefix(code, classOperatorIntervene) || strings.HasPrefix(code, classConnectionException):
		return fmt.Errorf("%s is going down or coming up: %w", location, err)
	}
	return err
}
