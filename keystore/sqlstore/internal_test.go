package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

func openTemp(t *testing.T, opts Options) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.db")
	opts.Create = true
	s, err := OpenSQLite(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

// lock takes the write lock of the file, as another process would, and returns
// what gives it back.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback() }
}

func TestAWriterWaitsForAnotherProcess(t *testing.T) {
	s, path := openTemp(t, Options{busyTimeout: 1})
	rec := &keystore.Record{ID: keystore.NewID(), Name: "a", CreatedAt: time.Unix(1, 0)}
	unlock := lock(t, path)
	met := 0
	isBusy := s.dialect.busy
	s.dialect.busy = func(err error) bool {
		if met++; met == 3 { // the lock was met three times: let go
			unlock()
		}
		return isBusy(err)
	}
	if err := s.Create(t.Context(), keystore.Change{}, rec); err != nil {
		t.Fatalf("after waiting: %v", err)
	}
	if met < 3 {
		t.Errorf("the lock was met %d times", met)
	}
	if _, err := s.Get(t.Context(), rec.ID); err != nil {
		t.Error(err)
	}
}

func TestReadersNeverWaitForAWriter(t *testing.T) {
	s, path := openTemp(t, Options{busyTimeout: 1})
	rec := &keystore.Record{ID: keystore.NewID(), Name: "a", CreatedAt: time.Unix(1, 0)}
	if err := s.Create(t.Context(), keystore.Change{}, rec); err != nil {
		t.Fatal(err)
	}
	defer lock(t, path)()
	s.dialect.busy = func(err error) bool { t.Errorf("a reader met %v", err); return false }
	if _, err := s.Get(t.Context(), rec.ID); err != nil {
		t.Error(err)
	}
	if _, err := s.List(t.Context(), keystore.Query{}); err != nil {
		t.Error(err)
	}
	if _, err := s.Seq(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAWriterGivesUpInTheEndAndSaysWhy(t *testing.T) {
	s, path := openTemp(t, Options{busyTimeout: 1, MaxWait: time.Millisecond})
	defer lock(t, path)()
	err := s.Create(t.Context(), keystore.Change{}, &keystore.Record{ID: keystore.NewID(), Name: "a"})
	if err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("error %v, want one that names the cause", err)
	}
}

func TestAWaitingWriterEndsWithItsContext(t *testing.T) {
	s, path := openTemp(t, Options{busyTimeout: 1})
	defer lock(t, path)()
	ctx, cancel := context.WithCancel(t.Context())
	isBusy := s.dialect.busy
	s.dialect.busy = func(err error) bool { cancel(); return isBusy(err) }
	err := s.Create(ctx, keystore.Change{}, &keystore.Record{ID: keystore.NewID(), Name: "a"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestAFailingMigrationLeavesTheOldSchema(t *testing.T) {
	s, _ := openTemp(t, Options{})
	now, err := loadMigrations(s.dialect.migrations)
	if err != nil {
		t.Fatal(err)
	}
	with := func(more ...string) fstest.MapFS {
		all := make(fstest.MapFS)
		for _, m := range now {
			all[m.name] = &fstest.MapFile{Data: []byte(m.sql)}
		}
		for i, text := range more {
			all[fmt.Sprintf("%04d_more.sql", len(now)+1+i)] = &fstest.MapFile{Data: []byte(text)}
		}
		return all
	}
	const good = `ALTER TABLE keys ADD COLUMN extra TEXT`
	s.dialect.migrations = with(good, `CREATE TABLE more (a TEXT); ALTER TABLE nothing ADD COLUMN extra TEXT`)
	bad := fmt.Sprintf("%04d_more.sql", len(now)+2)
	if err := s.migrate(t.Context()); err == nil || !strings.Contains(err.Error(), bad) {
		t.Fatalf("error %v, want one that names %s", err, bad)
	}
	if version, err := s.schemaVersion(t.Context()); version != len(now) || err != nil {
		t.Errorf("the schema is version %d, %v, want %d", version, err, len(now))
	}
	s.dialect.migrations = with(good)
	for range 2 { // the second time there is nothing to do
		if err := s.migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if version, err := s.schemaVersion(t.Context()); version != len(now)+1 || err != nil {
			t.Errorf("the schema is version %d, %v, want %d", version, err, len(now)+1)
		}
	}
}

func TestMigrationsAreNumberedWithoutGaps(t *testing.T) {
	for _, names := range [][]string{
		{"0002_b.sql"}, {"0001_a.sql", "0003_c.sql"}, {"0001_a.sql", "0001_b.sql"}, {"0001.sql"}, {"first_a.sql"},
	} {
		fsys := fstest.MapFS{}
		for _, name := range names {
			fsys[name] = &fstest.MapFile{Data: []byte("SELECT 1")}
		}
		if list, err := loadMigrations(fsys); err == nil {
			t.Errorf("%v was taken for %v", names, list)
		}
	}
}

// A million keys must not slow down what a server does at its start or for a
// request: each of these queries finds its rows by an index.
func TestNoQueryOfTheServerScansTheKeys(t *testing.T) {
	s, _ := openTemp(t, Options{})
	cursorText := cursor{created: 1, id: keystore.NewID()}.encode()
	list := func(q keystore.Query) string {
		where, _, err := s.filter(q)
		if err != nil {
			t.Fatal(err)
		}
		return listQuery(where)
	}
	for what, query := range map[string]string{
		"Get":          getQuery,
		"probe of 1":   knownQuery(1),
		"probe of 16":  knownQuery(16),
		"ByHint":       byHintQuery,
		"Hints":        hintsQuery,
		"ChangedSince": changedQuery,
		"List":         list(keystore.Query{}),
		"List cursor":  list(keystore.Query{Cursor: cursorText}),
		"List owner":   list(keystore.Query{OwnerSet: true, Cursor: cursorText}),
		"List revoked": list(keystore.Query{Status: keystore.StatusRevoked}),
		"List active":  list(keystore.Query{Status: keystore.StatusActive, Now: time.Unix(1, 0)}),
		"List expired": list(keystore.Query{Status: keystore.StatusExpired}),
		"List q":       list(keystore.Query{Q: "a"}),
	} {
		args := make([]any, strings.Count(query, "?"))
		for i := range args {
			args[i] = 1
		}
		rows, err := s.reader.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		func() {
			defer func() { _ = rows.Close() }()
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(detail, "SCAN keys") && !strings.Contains(detail, "INDEX") {
					t.Errorf("%s: %s", what, detail)
				}
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
		}()
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add(cursor{created: 1 << 50, id: keystore.NewID()}.encode())
	f.Add("AAZL9TXc1sBhQjAwMDAwMDAwMDM=")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := decodeCursor(text)
		switch {
		case err != nil && !errors.Is(err, keystore.ErrCursor):
			t.Errorf("error %v, want ErrCursor", err)
		case err == nil && c.encode() != text:
			t.Errorf("%q was read as %q", text, c.encode())
		}
	})
}
