package sqlstore

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

var (
	_ keystore.AuditTrail = (*Store)(nil)
	_ keystore.ScopeUses  = (*Store)(nil)
)

const (
	auditColumns = `n, at, seq, key_id, action, actor, address, before_state, after_state, keyed, hash`
	auditCount   = 11
	auditPage    = 1000
	maxProblems  = 20
)

// SetAuditKey implements keystore.AuditTrail. The key of the trail is made from
// the data key, so that a hash of the trail is of no use against digests.
func (s *Store) SetAuditKey(dataKey []byte) {
	if len(dataKey) == 0 {
		return
	}
	mac := hmac.New(sha256.New, dataKey)
	mac.Write([]byte("hivegate audit trail"))
	key := mac.Sum(nil)
	s.auditKey.Store(&key)
}

// auditRow is one row. Its JSON is what the hash covers; the columns hold the
// same values.
type auditRow struct {
	N       int64  `json:"n"`
	At      int64  `json:"at"`
	Seq     int64  `json:"seq"`
	KeyID   string `json:"key_id"`
	Action  string `json:"action"`
	Actor   string `json:"actor"`
	Address string `json:"address"`
	Before  string `json:"before"`
	After   string `json:"after"`

	keyed bool
	hash  []byte
}

// auditHead is the end of the trail.
type auditHead struct {
	n, base int64
	hash    []byte
	keyed   bool
	mac     []byte
}

// digest returns the hash of parts, each with its length before it: an HMAC
// where there is a key.
func auditDigest(key []byte, parts ...[]byte) []byte {
	h := sha256.New()
	if key != nil {
		h = hmac.New(sha256.New, key)
	}
	for _, p := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		h.Write(length[:])
		h.Write(p)
	}
	return h.Sum(nil)
}

func (r *auditRow) digest(key, before []byte) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode audit row: %w", err)
	}
	return auditDigest(key, []byte("row"), before, body), nil
}

func (h *auditHead) digest(key []byte) []byte {
	var n, base [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(h.n))
	binary.BigEndian.PutUint64(base[:], uint64(h.base))
	return auditDigest(key, []byte("head"), n[:], base[:], h.hash)
}

// auditing appends to the trail within one transaction. Change numbers are
// given out one writer at a time (see nextSeq), and so are rows.
type auditing struct {
	s    *Store
	tx   *sql.Tx
	by   keystore.Change
	key  []byte
	head auditHead
	rows *rowWriter
}

// audit begins to append up to n changes; end must follow, and then close.
func (s *Store) audit(ctx context.Context, tx *sql.Tx, by keystore.Change, n int) (*auditing, error) {
	a := &auditing{s: s, tx: tx, by: by}
	if key := s.auditKey.Load(); key != nil {
		a.key = *key
	}
	err := tx.QueryRowContext(ctx, `SELECT n, hash, base FROM audit_head WHERE one = 1`).Scan(&a.head.n, &a.head.hash, &a.head.base)
	if err != nil {
		return nil, fmt.Errorf("read the end of the audit trail: %w", err)
	}
	a.rows, err = s.writeRows(ctx, tx, `audit`, auditColumns, auditCount, n)
	return a, err
}

// add appends one change; before is nil for a new key.
func (a *auditing) add(ctx context.Context, before, after *keystore.Record, seq int64) error {
	at := a.by.At
	if at.IsZero() {
		at = a.s.Wall(time.Now())
	}
	row := auditRow{
		N: a.head.n + 1, At: at.UnixMicro(), Seq: seq, KeyID: after.ID.String(),
		Action: a.by.Action, Actor: a.by.Actor, Address: a.by.Address, keyed: a.key != nil,
	}
	for _, side := range []struct {
		rec  *keystore.Record
		into *string
	}{{before, &row.Before}, {after, &row.After}} {
		if side.rec == nil {
			continue
		}
		text, err := json.Marshal(keystore.AuditOf(side.rec))
		if err != nil {
			return fmt.Errorf("encode audit row: %w", err)
		}
		*side.into = string(text)
	}
	hash, err := row.digest(a.key, a.head.hash)
	if err != nil {
		return err
	}
	err = a.rows.add(ctx, func(args []any) ([]any, error) {
		return append(args, row.N, row.At, row.Seq, row.KeyID, row.Action, row.Actor, row.Address, row.Before, row.After, row.keyed, hash), nil
	})
	if err != nil {
		return fmt.Errorf("write audit row: %w", err)
	}
	a.head.n, a.head.hash = row.N, hash
	return nil
}

// end stores where the trail ends now.
func (a *auditing) end(ctx context.Context) error {
	if err := a.rows.flush(ctx); err != nil {
		return fmt.Errorf("write audit row: %w", err)
	}
	_, err := a.tx.ExecContext(ctx, a.s.dialect.sql(`UPDATE audit_head SET n = ?, hash = ?, keyed = ?, mac = ? WHERE one = 1`),
		a.head.n, a.head.hash, a.key != nil, a.head.digest(a.key))
	if err != nil {
		return fmt.Errorf("write the end of the audit trail: %w", err)
	}
	return nil
}

// auditOne appends one change.
func (s *Store) auditOne(ctx context.Context, tx *sql.Tx, by keystore.Change, before, after *keystore.Record, seq int64) error {
	a, err := s.audit(ctx, tx, by, 1)
	if err != nil {
		return err
	}
	defer a.rows.close()
	if err := a.add(ctx, before, after, seq); err != nil {
		return err
	}
	return a.end(ctx)
}

// auditNew appends the creation of records with the change numbers from first
// on.
func (s *Store) auditNew(ctx context.Context, tx *sql.Tx, by keystore.Change, recs []*keystore.Record, first int64) error {
	a, err := s.audit(ctx, tx, by, len(recs))
	if err != nil {
		return err
	}
	defer a.rows.close()
	quiet := context.WithoutCancel(ctx) // see insert
	for i, rec := range recs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.add(quiet, nil, rec, first+int64(i)); err != nil {
			return err
		}
	}
	return a.end(ctx)
}

// Audit implements keystore.AuditTrail.
func (s *Store) Audit(ctx context.Context, since time.Time, fn func(keystore.AuditEntry) error) error {
	from := int64(-1 << 62)
	if !since.IsZero() {
		from = since.UnixMicro()
	}
	for after := int64(0); ; {
		var rows []auditRow
		err := s.read(ctx, "read the audit trail", func() (err error) {
			rows, err = s.auditRows(ctx, s.reader, `n > ? AND at >= ?`, after, from)
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		for i := range rows {
			r := &rows[i]
			e := keystore.AuditEntry{
				N: r.N, At: time.UnixMicro(r.At).UTC(), Action: r.Action, KeyID: r.KeyID, Actor: r.Actor, Address: r.Address, Seq: r.Seq,
				Before: jsonOrNull(r.Before), After: jsonOrNull(r.After), Hash: hex.EncodeToString(r.hash),
			}
			if err := fn(e); err != nil {
				return err
			}
		}
		after = rows[len(rows)-1].N
	}
}

func jsonOrNull(s string) json.RawMessage {
	if s == "" || !json.Valid([]byte(s)) {
		return json.RawMessage("null")
	}
	return json.RawMessage(s)
}

// auditRows reads one page of rows, in order.
func (s *Store) auditRows(ctx context.Context, db rower, where string, args ...any) (list []auditRow, err error) {
	rows, err := db.QueryContext(ctx, s.dialect.sql(`SELECT `+auditColumns+` FROM audit WHERE `+where+` ORDER BY n LIMIT ?`), append(args, auditPage)...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r auditRow
		if err := rows.Scan(&r.N, &r.At, &r.Seq, &r.KeyID, &r.Action, &r.Actor, &r.Address, &r.Before, &r.After, &r.keyed, &r.hash); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// VerifyAudit implements keystore.AuditTrail. It reads everything in one
// snapshot, so that changes may go on.
func (s *Store) VerifyAudit(ctx context.Context) (report keystore.AuditReport, err error) {
	err = s.read(ctx, "check the audit trail", func() error {
		opts := &sql.TxOptions{ReadOnly: true}
		if s.dialect.name != "sqlite" { // there every transaction is a snapshot
			opts.Isolation = sql.LevelRepeatableRead
		}
		tx, err := s.reader.BeginTx(ctx, opts)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // it was only read
		v := auditCheck{s: s, report: keystore.AuditReport{Problems: []string{}}}
		if key := s.auditKey.Load(); key != nil {
			v.key = *key
		}
		err = v.run(ctx, tx)
		report = v.report
		return err
	})
	return report, err
}

// auditCheck is one check at work.
type auditCheck struct {
	s      *Store
	key    []byte
	hash   []byte // of the row before
	n      int64
	keyed  bool
	report keystore.AuditReport
}

func (v *auditCheck) problem(format string, args ...any) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, fmt.Sprintf(format, args...))
	}
}

func (v *auditCheck) run(ctx context.Context, tx *sql.Tx) error {
	for after := int64(-1 << 62); ; {
		rows, err := v.s.auditRows(ctx, tx, `n > ?`, after)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		for i := range rows {
			if err := v.row(&rows[i]); err != nil {
				return err
			}
		}
		after = rows[len(rows)-1].N
	}
	v.report.Head = hex.EncodeToString(v.hash)
	if err := v.head(ctx, tx); err != nil {
		return err
	}
	return v.keys(ctx, tx)
}

func (v *auditCheck) row(r *auditRow) error {
	v.report.Entries++
	switch {
	case r.N != v.n+1:
		v.problem("rows %d to %d are missing", v.n+1, r.N-1)
	case v.keyed && !r.keyed:
		v.problem("row %d is not under the data key, though rows before it are", r.N)
	}
	v.n = r.N
	key := v.key
	if !r.keyed {
		key = nil
	}
	v.keyed = v.keyed || r.keyed
	want, err := r.digest(key, v.hash)
	if err != nil {
		return err
	}
	switch {
	case r.keyed && v.key == nil:
		v.problem("row %d is under a data key, which this configuration has not", r.N)
	case subtle.ConstantTimeCompare(want, r.hash) != 1:
		v.problem("row %d (%s of %s) was changed, or what stood before it was", r.N, r.Action, r.KeyID)
	}
	v.hash = r.hash
	return nil
}

// head compares the end of the rows with the end that was noted.
func (v *auditCheck) head(ctx context.Context, tx *sql.Tx) error {
	var h auditHead
	err := tx.QueryRowContext(ctx, `SELECT n, hash, base, keyed, mac FROM audit_head WHERE one = 1`).Scan(&h.n, &h.hash, &h.base, &h.keyed, &h.mac)
	if err != nil {
		return err
	}
	v.report.Keyed = h.keyed
	key := v.key
	if !h.keyed {
		key = nil
	}
	switch {
	case h.n > v.n:
		v.problem("rows %d to %d, the last ones, are missing", v.n+1, h.n)
	case h.n < v.n:
		v.problem("rows %d to %d are behind the noted end of the trail", h.n+1, v.n)
	case !bytes.Equal(h.hash, v.hash):
		v.problem("the last row is not the one that was noted as the end of the trail")
	}
	if h.n == 0 && len(h.mac) == 0 && v.n == 0 {
		return nil // nothing was ever changed
	}
	switch {
	case h.keyed && v.key == nil:
		v.problem("the end of the trail is under a data key, which this configuration has not")
	case v.keyed && !h.keyed:
		v.problem("the end of the trail is not under the data key, though rows are")
	case subtle.ConstantTimeCompare(h.digest(key), h.mac) != 1:
		v.problem("the noted end of the trail was changed")
	}
	return nil
}

// keys finds keys whose last change is not in the trail.
func (v *auditCheck) keys(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, v.s.dialect.sql(
		`SELECT k.id, k.seq FROM keys k WHERE k.seq > (SELECT base FROM audit_head WHERE one = 1)
		AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.seq = k.seq AND a.key_id = 'key_' || k.id) ORDER BY k.seq LIMIT ?`), maxProblems)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		var seq int64
		if err := rows.Scan(&id, &seq); err != nil {
			return err
		}
		v.problem("the last change of key_%s (number %d) is not in the trail", id, seq)
	}
	return rows.Err()
}

// ScopeUses implements keystore.ScopeUses.
func (s *Store) ScopeUses(ctx context.Context, id keystore.ID) (uses map[string]time.Time, err error) {
	err = s.read(ctx, "read the uses of scopes", func() error {
		uses = make(map[string]time.Time) // as many as the key ever held
		rows, err := s.reader.QueryContext(ctx, s.dialect.sql(`SELECT scope, last_used_at FROM scope_uses WHERE key_id = ?`), string(id[:]))
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var scope string
			var at int64
			if err := rows.Scan(&scope, &at); err != nil {
				return err
			}
			uses[scope] = time.UnixMicro(at).UTC()
		}
		return rows.Err()
	})
	return uses, err
}

// touchScopes stores the last use of scopes, forward only.
func (s *Store) touchScopes(ctx context.Context, tx *sql.Tx, use *keystore.Use) error {
	for _, scope := range use.Scopes {
		_, err := tx.ExecContext(ctx, s.dialect.sql(
			`INSERT INTO scope_uses (key_id, scope, last_used_at) VALUES (?, ?, ?)
			ON CONFLICT (key_id, scope) DO UPDATE SET last_used_at = excluded.last_used_at
			WHERE scope_uses.last_used_at < excluded.last_used_at`), string(use.ID[:]), scope, use.At.UnixMicro())
		if err != nil {
			return err
		}
	}
	return nil
}
