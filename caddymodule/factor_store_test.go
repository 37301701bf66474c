//go:build unix

package caddymodule

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/hivegate/hivegate/internal/testservers"
	"github.com/hivegate/hivegate/internal/totp"
	"github.com/hivegate/hivegate/internal/totp/totptest"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// opened closes a store when the test ends.
func opened(t *testing.T) func(*sqlstore.Store, error) factorStore {
	return func(s *sqlstore.Store, err error) factorStore {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return factorStore{keystore.DocStore(s)}
	}
}

func TestSecondFactorsInPostgresPassConformance(t *testing.T) {
	p, err := testservers.StartPostgres()
	if errors.Is(err, testservers.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	var n atomic.Int64
	schema := func() string { return fmt.Sprintf("%s&search_path=factors%d", p.DSN("postgres", "postgres"), n.Add(1)) }
	t.Run("one handle", func(t *testing.T) {
		totptest.Run(t, func(t *testing.T) totp.Store {
			return opened(t)(sqlstore.OpenPostgres(t.Context(), schema(), sqlstore.Options{Create: true}))
		})
	})
	t.Run("two nodes", func(t *testing.T) {
		totptest.RunShared(t, func(t *testing.T) (a, b totp.Store) {
			dsn := schema()
			return opened(t)(sqlstore.OpenPostgres(t.Context(), dsn, sqlstore.Options{Create: true})),
				opened(t)(sqlstore.OpenPostgres(t.Context(), dsn, sqlstore.Options{}))
		})
	})
}
