package sqlstore_test

import (
	"path/filepath"
	"testing"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
	"github.com/hivegate/hivegate/keystore/storetest"
)

func TestSQLiteKeepsDocuments(t *testing.T) {
	storetest.RunDocs(t, func(t *testing.T) keystore.DocStore {
		t.Helper()
		s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keys.db"), sqlstore.Options{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}

func TestSQLiteKnowsItsNodes(t *testing.T) {
	storetest.RunNodes(t, func(t *testing.T) (a, b keystore.NodeStore) {
		path := filepath.Join(t.TempDir(), "keys.db")
		return open(t, path, sqlstore.Options{Create: true}), open(t, path, sqlstore.Options{})
	})
}
