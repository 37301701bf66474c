//go:build unix

package sqlstore_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hivegate/hivegate/internal/testservers"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
	"github.com/hivegate/hivegate/keystore/storetest"
)

// server is the one PostgreSQL of this package's tests, closed by TestMain.
var server struct {
	once sync.Once
	p    *testservers.Postgres
	err  error
	n    atomic.Int64
}

func closeServers() {
	if server.p != nil {
		if err := server.p.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close PostgreSQL:", err)
		}
	}
}

// postgres returns the package's server. Where there is none the test cannot run:
// in CI that is a failure.
func postgres(t testing.TB) *testservers.Postgres {
	t.Helper()
	server.once.Do(func() { server.p, server.err = testservers.StartPostgres() })
	if errors.Is(server.err, testservers.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(server.err)
	}
	if server.err != nil {
		t.Fatal(server.err)
	}
	return server.p
}

// newDatabase returns the DSN of a schema that does not exist yet, and its name.
// Making a whole database would take most of the tests' time.
func newDatabase(t testing.TB) (dsn, schema string) {
	t.Helper()
	p := postgres(t)
	schema = fmt.Sprintf("test%d", server.n.Add(1))
	return p.DSN("postgres", "postgres") + "&search_path=" + schema, schema
}

func openPostgres(t testing.TB, dsn string, create bool) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.OpenPostgres(t.Context(), dsn, sqlstore.Options{Create: create})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestPostgresPassesConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) keystore.Store {
		dsn, _ := newDatabase(t)
		return openPostgres(t, dsn, true)
	})
}

func TestTwoPostgresHandlesOnOneDatabasePassConformance(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T) (a, b keystore.Store) {
		dsn, _ := newDatabase(t)
		return openPostgres(t, dsn, true), openPostgres(t, dsn, false)
	})
}

func TestPostgresKeepsDocuments(t *testing.T) {
	storetest.RunDocs(t, func(t *testing.T) keystore.DocStore {
		dsn, _ := newDatabase(t)
		return openPostgres(t, dsn, true)
	})
}

func TestPostgresKnowsItsNodes(t *testing.T) {
	storetest.RunNodes(t, func(t *testing.T) (a, b keystore.NodeStore) {
		dsn, _ := newDatabase(t)
		return openPostgres(t, dsn, true), openPostgres(t, dsn, false)
	})
}
