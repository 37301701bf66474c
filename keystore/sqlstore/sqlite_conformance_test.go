package sqlstore_test

import (
	"path/filepath"
	"testing"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
	"github.com/hivegate/hivegate/keystore/storetest"
)

// open opens the keystore at path and closes it when the test ends.
func open(t testing.TB, path string, opts sqlstore.Options) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), path, opts)
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

func TestSQLitePassesConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) keystore.Store {
		return open(t, filepath.Join(t.TempDir(), "keys.db"), sqlstore.Options{Create: true})
	})
}

func TestTwoSQLiteHandlesOnOneFilePassConformance(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T) (a, b keystore.Store) {
		path := filepath.Join(t.TempDir(), "keys.db")
		return open(t, path, sqlstore.Options{Create: true}), open(t, path, sqlstore.Options{})
	})
}
