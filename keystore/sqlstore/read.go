package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hivegate/hivegate/keystore"
)

const (
	defaultPage = 50
	maxPage     = 200
	// maxChanges bounds one answer of ChangedSince, so that a caller that asks
	// for everything does not hold a million records.
	maxChanges = 10_000
)

// The queries that do not change. "hint <> ”" and "revoked_at IS NULL" are
// what lets the partial index be used.
var (
	getQuery     = selectRecords(`(SELECT * FROM keys WHERE id = ?) k`, `k.id`)
	byHintQuery  = selectRecords(`(SELECT * FROM keys WHERE hint = ? AND hint <> '' AND revoked_at IS NULL) k`, `k.created_at, k.id`)
	changedQuery = selectRecords(`(SELECT * FROM keys WHERE seq > ? ORDER BY seq LIMIT ?) k`, `k.seq`)
)

const hintsQuery = `SELECT DISTINCT hint FROM keys WHERE hint <> '' AND revoked_at IS NULL ORDER BY hint`

// Get returns the record, a revoked one too, or keystore.ErrNotFound.
func (s *Store) Get(ctx context.Context, id keystore.ID) (rec *keystore.Record, err error) {
	leave, err := s.enter(ctx, "read key")
	if err != nil {
		return nil, err
	}
	defer leave()
	err = s.read(ctx, "read key", func() error {
		ctx := ctx
		if s.remote == nil {
			if err := ctx.Err(); err != nil {
				return err
			}
			ctx = context.WithoutCancel(ctx) // see probe
		}
		rows, err := s.get.QueryContext(ctx, string(id[:]))
		if err != nil {
			return err
		}
		rec, err = one(rows)
		return err
	})
	return rec, err
}

// List returns one page, newest first. A cursor that is not of this list is
// keystore.ErrCursor.
func (s *Store) List(ctx context.Context, q keystore.Query) (*keystore.Page, error) {
	limit := q.Limit
	switch {
	case limit == 0:
		limit = defaultPage
	case limit < 0 || limit > maxPage:
		return nil, fmt.Errorf("list keys: limit %d is not between 1 and %d", q.Limit, maxPage)
	}
	where, args, err := s.filter(q)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	query := s.dialect.sql(listQuery(where))
	args = append(args, limit+1) // one more tells whether there is a next page

	var list []*keystore.Record
	err = s.read(ctx, "list keys", func() (err error) {
		list, err = s.query(ctx, s.reader, query, args...)
		return err
	})
	if err != nil {
		return nil, err
	}
	page := &keystore.Page{Records: list}
	if len(list) > limit {
		page.Records = list[:limit]
		last := page.Records[limit-1]
		page.Next = cursor{created: last.CreatedAt.UnixMicro(), id: last.ID}.encode()
	}
	return page, nil
}

// ByHint returns the unrevoked imported records with exactly this hint, the
// oldest first.
func (s *Store) ByHint(ctx context.Context, hint string) (list []*keystore.Record, err error) {
	if hint == "" {
		return nil, nil // keys made here have none
	}
	leave, err := s.enter(ctx, "read keys by hint")
	if err != nil {
		return nil, err
	}
	defer leave()
	err = s.read(ctx, "read keys by hint", func() (err error) {
		list, err = s.query(ctx, s.reader, s.dialect.sql(byHintQuery), hint)
		return err
	})
	return list, err
}

// Hints calls fn with every hint that an unrevoked record has, once each, in
// order.
func (s *Store) Hints(ctx context.Context, fn func(hint string)) error {
	var hints []string
	// Collected first: fn may take its time, or call the store.
	err := s.read(ctx, "read hints", func() error {
		hints = hints[:0]
		rows, err := s.reader.QueryContext(ctx, hintsQuery)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var hint string
			if err := rows.Scan(&hint); err != nil {
				return err
			}
			hints = append(hints, hint)
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	for _, hint := range hints {
		fn(hint)
	}
	return nil
}

// ChangedSince returns the records changed after seq, oldest change first, at
// most limit of them (at most 10,000; 0 asks for that).
func (s *Store) ChangedSince(ctx context.Context, seq int64, limit int) (list []*keystore.Record, err error) {
	if limit <= 0 || limit > maxChanges {
		limit = maxChanges
	}
	ask := func(ctx context.Context) (list []*keystore.Record, err error) {
		err = s.read(ctx, "read changes", func() (err error) {
			list, err = s.query(ctx, s.feed, s.dialect.sql(changedQuery), seq, limit)
			return err
		})
		return list, err
	}
	if s.remote != nil {
		list, _, err = hedged(ctx, ask)
		return list, err
	}
	return ask(ctx)
}

// enter waits for a place among the reads of keys. Such a read is what an unknown
// id costs, so anybody can cause it: the places are fewer than the connections,
// and what else is read never waits for them.
func (s *Store) enter(ctx context.Context, what string) (leave func(), err error) {
	if s.lookups == nil {
		return func() {}, nil
	}
	select {
	case s.lookups <- struct{}{}:
		return func() { <-s.lookups }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", what, ctx.Err())
	}
}

// listQuery lists under conditions, newest first; its last argument is the
// limit.
func listQuery(where []string) string {
	from := `(SELECT * FROM keys`
	if len(where) > 0 {
		from += ` WHERE ` + strings.Join(where, ` AND `)
	}
	return selectRecords(from+` ORDER BY created_at DESC, id DESC LIMIT ?) k`, `k.created_at DESC, k.id DESC`)
}

// filter renders a query's conditions.
func (s *Store) filter(q keystore.Query) (where []string, args []any, err error) {
	add := func(condition string, values ...any) {
		where = append(where, condition)
		args = append(args, values...)
	}
	if q.Cursor != "" {
		c, err := decodeCursor(q.Cursor)
		if err != nil {
			return nil, nil, err
		}
		add(`(created_at, id) < (?, ?)`, c.created, string(c.id[:]))
	}
	switch {
	case q.OwnerSet && q.Self != (keystore.ID{}):
		add(`(owner = ? OR id = ?)`, q.Owner, string(q.Self[:]))
	case q.OwnerSet:
		add(`owner = ?`, q.Owner)
	}
	// The same order of precedence as Record.StatusAt.
	now := q.Now.UnixMicro()
	if q.Now.IsZero() {
		now = s.Wall(time.Now()).UnixMicro()
	}
	switch q.Status {
	case "":
	case keystore.StatusRevoked:
		add(`revoked_at IS NOT NULL`)
	case keystore.StatusDisabled:
		add(`revoked_at IS NULL AND disabled`)
	case keystore.StatusExpired:
		add(`revoked_at IS NULL AND NOT disabled AND expires_at <= ?`, now)
	case keystore.StatusActive:
		add(`revoked_at IS NULL AND NOT disabled AND (expires_at IS NULL OR expires_at > ?)`, now)
	default:
		return nil, nil, fmt.Errorf("the status %q is none of active, disabled, expired, revoked", q.Status)
	}
	if q.Q != "" {
		add(`(`+s.dialect.contains(`name_fold`)+` OR substr(prefix, 1, ?) = ?)`,
			strings.ToLower(q.Q), utf8.RuneCountInString(q.Q), q.Q)
	}
	return where, args, nil
}

// query runs a selectRecords query.
func (s *Store) query(ctx context.Context, db rower, query string, args ...any) ([]*keystore.Record, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return scanRows(rows)
}

// one returns the only record of rows, or keystore.ErrNotFound.
func one(rows *sql.Rows) (*keystore.Record, error) {
	list, err := scanRows(rows)
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, &callerError{keystore.ErrNotFound}
	}
	return list[0], nil
}
