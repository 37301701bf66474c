//go:build unix

package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

var actor = keystore.Change{Action: "create", Actor: "command", At: time.Unix(1_700_000_000, 0)}

func newKey(name string) *keystore.Record {
	return &keystore.Record{ID: keystore.NewID(), Name: name, Scopes: []string{"a:read"}, CreatedAt: time.Unix(1_700_000_000, 0),
		Secrets: []keystore.Secret{{Hash: []byte("hash of " + name)}}}
}

func TestTenNodesThatStartAtOnceMakeOneSchema(t *testing.T) {
	dsn, _ := newDatabase(t)
	made := make(chan sqlstore.Schema, 10)
	var wg sync.WaitGroup
	for range cap(made) {
		wg.Go(func() {
			s, err := sqlstore.OpenPostgres(t.Context(), dsn, sqlstore.Options{Create: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = s.Close() }()
			if err := s.Create(t.Context(), actor, newKey("of one of ten")); err != nil {
				t.Error(err)
			}
			made <- s.Schema()
		})
	}
	wg.Wait()
	close(made)
	first := 0
	for s := range made {
		if s.From == 0 {
			first++
		}
		if s.To == 0 {
			t.Error("a node found no schema")
		}
	}
	if first != 1 {
		t.Errorf("%d nodes made the schema, want 1", first)
	}
	if n, err := openPostgres(t, dsn, false).Seq(t.Context()); n != 10 || err != nil {
		t.Errorf("the change number is %d, %v, want 10", n, err)
	}
}

// A gate whose user owns nothing works, changes no table, and takes back no row of
// the audit trail. The rights are those of examples/fleet/grants.sql.
func TestAServerNeedsNoRightToChangeTables(t *testing.T) {
	dsn, schema := newDatabase(t)
	p := postgres(t)
	role := "gate_" + schema
	if _, err := p.SQL("postgres", "CREATE ROLE "+role+" LOGIN"); err != nil {
		t.Fatal(err)
	}
	gate := strings.Replace(dsn, "postgres@", role+"@", 1)

	_, err := sqlstore.OpenPostgres(t.Context(), gate, sqlstore.Options{Create: true})
	if err == nil || !strings.Contains(err.Error(), "hivegate migrate") {
		t.Errorf("without a schema: %v; want what to do", err)
	}
	openPostgres(t, dsn, true) // what `hivegate migrate` does, as the owner
	_, err = sqlstore.OpenPostgres(t.Context(), gate, sqlstore.Options{})
	if err == nil || !strings.Contains(err.Error(), "lacks rights") {
		t.Errorf("without rights: %v; want what to do", err)
	}
	grants, err := os.ReadFile("../../examples/fleet/grants.sql")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := p.Script("postgres", string(grants), "gate="+role, "schema="+schema); err != nil {
		t.Fatal(err, out)
	}

	s := openPostgres(t, gate, false)
	if got := s.Schema(); got.From != got.To {
		t.Errorf("it migrated: %+v", got)
	}
	useEverything(t, s)
	owner := connect(t, gate)
	for _, statement := range []string{
		`CREATE TABLE x (y INTEGER)`, `DROP TABLE docs`, `ALTER TABLE keys ADD COLUMN x INTEGER`, `TRUNCATE keys`,
		`DELETE FROM audit`, `UPDATE audit SET actor = 'somebody else'`, `DELETE FROM keys`, `DELETE FROM hivegate_schema`,
	} {
		if _, err := owner.Exec(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v, want a refusal", statement, err)
		}
	}
}

// useEverything makes every kind of statement that a gate and its commands make.
func useEverything(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	ctx := t.Context()
	rec := newKey("used")
	rec.Hint = "legacy"
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("Create", s.Create(ctx, actor, rec))
	_, err := s.Update(ctx, actor, rec.ID, func(r *keystore.Record) error {
		r.Secrets = append([]keystore.Secret{{Hash: []byte("new")}}, r.Secrets...)
		return nil
	})
	check("Update", err)
	_, err = s.Get(ctx, rec.ID)
	check("Get", err)
	_, err = s.List(ctx, keystore.Query{Q: "use"})
	check("List", err)
	_, err = s.ByHint(ctx, "legacy")
	check("ByHint", err)
	check("Hints", s.Hints(ctx, func(string) {}))
	check("Touch", s.Touch(ctx, []keystore.Use{{ID: rec.ID, Secret: 1, At: time.Now(), Scopes: []string{"a:read"}}}))
	_, _, err = s.SeqIn(ctx)
	check("SeqIn", err)
	_, err = s.ChangedSince(ctx, 0, 0)
	check("ChangedSince", err)
	_, err = s.PutDataKey(ctx, nil, []byte("sealed"))
	check("PutDataKey", err)
	_, err = s.PutDataKey(ctx, []byte("sealed"), []byte("sealed anew"))
	check("PutDataKey again", err)
	for _, next := range []*keystore.Doc{{Version: "1"}, {Version: "2"}, nil} {
		old := map[bool]string{true: "1", false: ""}[next != nil && next.Version == "2"]
		if next == nil {
			old = "2"
		}
		done, err := s.SwapDoc(ctx, "totp", "a", old, next)
		if err != nil || !done {
			t.Errorf("SwapDoc to %v: %v, %v", next, done, err)
		}
	}
	check("Beat", s.Beat(ctx, keystore.Node{ID: "n"}))
	check("Leave", s.Leave(ctx, "n"))
	_, err = s.Nodes(ctx)
	check("Nodes", err)
	report, err := s.VerifyAudit(ctx)
	check("VerifyAudit", err)
	if len(report.Problems) > 0 || report.Entries != 2 {
		t.Errorf("audit trail: %+v", report)
	}
	_, err = s.ScopeUses(ctx, rec.ID)
	check("ScopeUses", err)
	check("Ping", s.Ping(ctx))
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// The snapshot of PostgreSQL would let a later number be seen before an earlier
// one: the row of the counter must not.
func TestAChangeNumberIsNeverSeenBeforeAnEarlierOne(t *testing.T) {
	dsn, _ := newDatabase(t)
	s := openPostgres(t, dsn, true)
	if err := s.Create(t.Context(), actor, newKey("first")); err != nil {
		t.Fatal(err)
	}
	// Another node has taken number 2 and not committed.
	other := connect(t, dsn)
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := newKey("held")
	if _, err := tx.Exec(t.Context(), `UPDATE counter SET seq = seq + 1`); err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(t.Context(), `INSERT INTO keys SELECT $1, name, name_fold, prefix, owner, scopes, plan, limits, disabled, created_at, expires_at,
		revoked_at, last_used_at, last_addr, last_route, ip_allowlist, hint, 2 FROM keys`, held.ID.String()[4:])
	if err != nil {
		t.Fatal(err)
	}
	third := make(chan error, 1)
	go func() { third <- s.Create(t.Context(), actor, newKey("third")) }()
	// The third waits for the second: wait until PostgreSQL says so.
	waitFor(t, func() bool {
		var n int
		err := connect(t, dsn).QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE counter%'`).Scan(&n)
		return err == nil && n > 0
	})
	if seq, err := s.Seq(t.Context()); seq != 1 || err != nil {
		t.Errorf("while the second is not committed the number is %d, %v, want 1", seq, err)
	}
	select {
	case err := <-third:
		t.Fatalf("the third did not wait: %v", err)
	default:
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-third; err != nil {
		t.Fatal(err)
	}
	recs, err := s.ChangedSince(t.Context(), 1, 0)
	if err != nil || len(recs) != 2 || recs[0].Seq != 2 || recs[1].Seq != 3 {
		t.Errorf("changes after 1: %d, %v; want 2 and 3", len(recs), err)
	}
}

// waitFor tries until ok, for ten seconds at most.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatal("it did not come about within ten seconds")
		case <-tick.C:
		}
	}
}

func TestAChangeWakesOtherNodesAndSoDoesANewConnection(t *testing.T) {
	dsn, schema := newDatabase(t)
	a, b := openPostgres(t, dsn+"&application_name=watch_"+schema, true), openPostgres(t, dsn, false)
	ctx, cancel := context.WithCancel(t.Context())
	woken := make(chan struct{}, 100)
	var wg sync.WaitGroup
	wg.Go(func() { a.Watch(ctx, func() { woken <- struct{}{} }) })
	defer wg.Wait()
	defer cancel()
	wake := func(what string) {
		t.Helper()
		select {
		case <-woken:
		case <-time.After(10 * time.Second):
			t.Fatalf("nobody was woken by %s", what)
		}
	}
	wake("the first connection")
	rec := newKey("watched")
	if err := b.Create(t.Context(), actor, rec); err != nil {
		t.Fatal(err)
	}
	wake("a new key")
	for len(woken) > 0 {
		<-woken
	}
	out, err := postgres(t).SQL("postgres", `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND application_name = 'watch_`+schema+`'`)
	if err != nil || out != "1" {
		t.Fatalf("ended %s connections, %v", out, err)
	}
	wake("the new connection")
	if _, err := b.Update(t.Context(), actor, rec.ID, func(r *keystore.Record) error { r.RevokedAt = time.Now(); return nil }); err != nil {
		t.Fatal(err)
	}
	wake("a revocation")
}

func TestReadsGoOnWhenConnectionsAreEnded(t *testing.T) {
	dsn, schema := newDatabase(t)
	s := openPostgres(t, dsn+"&application_name=ended_"+schema, true)
	rec := newKey("read")
	if err := s.Create(t.Context(), actor, rec); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := s.Get(t.Context(), rec.ID); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.SeqIn(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := postgres(t).SQL("postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ended_`+schema+`'`)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What waits for a row or a slow disk must not take the places of what does not.
func TestLookUpsLeaveConnectionsForOthers(t *testing.T) {
	dsn, _ := newDatabase(t)
	s := openPostgres(t, dsn, true)
	if err := s.Create(t.Context(), actor, newKey("locked away")); err != nil {
		t.Fatal(err)
	}
	tx, err := connect(t, dsn).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE keys IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, err := s.Get(ctx, keystore.NewID()); !errors.Is(err, context.Canceled) {
				t.Errorf("a look-up behind the lock ended with %v", err)
			}
		})
	}
	waitFor(t, func() bool {
		var n int
		err := connect(t, dsn).QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FROM keys WHERE id%'`).Scan(&n)
		return err == nil && n >= 5
	})
	soon, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	if _, _, err := s.SeqIn(soon); err != nil {
		t.Errorf("the change number: %v", err)
	}
	if done, err := s.SwapDoc(soon, "totp", "a", "", &keystore.Doc{Version: "1"}); err != nil || !done {
		t.Errorf("a second factor: %v, %v", done, err)
	}
	if _, err := s.LoadDoc(soon, "totp", "a"); err != nil {
		t.Errorf("a second factor: %v", err)
	}
	if err := s.Beat(soon, keystore.Node{ID: "n"}); err != nil {
		t.Errorf("a heartbeat: %v", err)
	}
	if err := s.Ping(soon); err != nil {
		t.Errorf("a health check: %v", err)
	}
	cancel()
	wg.Wait()
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTheAuditTrailOfTwoNodesIsOne(t *testing.T) {
	dsn, _ := newDatabase(t)
	nodes := []*sqlstore.Store{openPostgres(t, dsn, true), openPostgres(t, dsn, false)}
	for _, s := range nodes {
		s.SetAuditKey([]byte("the data key of both, 32 bytes.."))
	}
	rec := newKey("changed by both")
	if err := nodes[0].Create(t.Context(), actor, rec); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 10 {
				_, err := nodes[i%2].Update(t.Context(), actor, rec.ID, func(r *keystore.Record) error {
					r.Name = fmt.Sprint(i, n)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	report, err := nodes[1].VerifyAudit(t.Context())
	if err != nil || report.Entries != 81 || len(report.Problems) > 0 || !report.Keyed {
		t.Errorf("%+v, %v; want 81 rows without a problem", report, err)
	}
	entries := 0
	if err := nodes[0].Audit(t.Context(), time.Time{}, func(keystore.AuditEntry) error { entries++; return nil }); err != nil || entries != 81 {
		t.Errorf("%d rows, %v", entries, err)
	}
	if _, err := connect(t, dsn).Exec(t.Context(), `UPDATE audit SET actor = 'nobody' WHERE n = 40`); err != nil {
		t.Fatal(err)
	}
	if report, err = nodes[0].VerifyAudit(t.Context()); err != nil || len(report.Problems) == 0 {
		t.Errorf("a changed row was not found: %+v, %v", report, err)
	}
}

func TestADSNTellsItsLocationAndNeverItsPassword(t *testing.T) {
	t.Setenv("PGPASSWORD", "")
	for dsn, want := range map[string]sqlstore.PostgresDSN{
		"postgres://gate:s3cr%20et@db.internal/keys":                                  {Location: "postgres://gate@db.internal:5432/keys", Password: true, Plain: true},
		"postgres://gate@127.0.0.1:6432/keys?sslmode=disable":                         {Location: "postgres://gate@127.0.0.1:6432/keys"},
		"postgres://gate@a,b:1234/keys?sslmode=verify-full":                           {Location: "postgres://gate@a:5432,b:1234/keys"},
		"host=db.internal user=gate dbname=keys sslmode=require":                      {Location: "postgres://gate@db.internal:5432/keys", Plain: true},
		"host=/run/postgresql user=gate dbname=keys":                                  {Location: "postgres://gate@%2Frun%2Fpostgresql:5432/keys"},
		"host=db.internal user=gate dbname=keys password='it''s' sslmode=verify-full": {},
	} {
		got, err := sqlstore.ParsePostgres(dsn)
		if want == (sqlstore.PostgresDSN{}) {
			if err != nil && strings.Contains(err.Error(), "it") && strings.Contains(err.Error(), "''") {
				t.Errorf("%s: the error holds the password: %v", dsn, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", dsn, err)
			continue
		}
		got.Location, want.Location = strings.ReplaceAll(got.Location, "[/run/postgresql]", "/run/postgresql"), strings.ReplaceAll(want.Location, "%2F", "/")
		if got != want {
			t.Errorf("%s: %+v, want %+v", dsn, got, want)
		}
	}
	for _, dsn := range []string{"", " ", "postgres://u:secret-word@host:port/db", "mysql://u:secret-word@h/db", "host=a password=secret-word port=x",
		"postgres://u:secret-word@h/db?pool_max_conns=3", "postgres://u:secret-word@h/db?pool_max_conns=x", "postgres://u:secret-word@h/db?search_path=a,b"} {
		if _, err := sqlstore.ParsePostgres(dsn); err == nil || strings.Contains(err.Error(), "secret-word") {
			t.Errorf("%q: %v, want an error without the password", dsn, err)
		}
	}
}

func TestWhatIsNoKeystoreIsNotTakenForOne(t *testing.T) {
	dsn, _ := newDatabase(t)
	if _, err := sqlstore.OpenPostgres(t.Context(), dsn, sqlstore.Options{}); err == nil || !strings.Contains(err.Error(), "hivegate migrate") {
		t.Errorf("an empty database: %v, want what to do", err)
	}
	openPostgres(t, dsn, true)
	if _, err := connect(t, dsn).Exec(t.Context(), `INSERT INTO hivegate_schema VALUES (1000)`); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlstore.OpenPostgres(t.Context(), dsn, sqlstore.Options{Create: true}); !errors.Is(err, sqlstore.ErrNewer) {
		t.Errorf("a newer schema: %v", err)
	}
	closed := strings.Replace(dsn, postgres(t).Addr(), "127.0.0.1:1", 1)
	begin := time.Now()
	if _, err := sqlstore.OpenPostgres(t.Context(), closed, sqlstore.Options{}); err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("nobody listens: %v after %s", err, time.Since(begin))
	}
}
