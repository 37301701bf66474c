package keystore_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hivegate/hivegate/internal/testservers"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// BenchmarkImport reads, checks and stores 100,000 lines.
func BenchmarkImport(b *testing.B) {
	benchmarkImport(b, func(b *testing.B) keystore.Store {
		s, err := sqlstore.OpenSQLite(b.Context(), filepath.Join(b.TempDir(), "keys.db"), sqlstore.Options{Create: true})
		if err != nil {
			b.Fatal(err)
		}
		return s
	})
}

// BenchmarkImportOnPostgres is the same on a server of its own.
func BenchmarkImportOnPostgres(b *testing.B) {
	pg, err := testservers.StartPostgres()
	if errors.Is(err, testservers.ErrNotInstalled) {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = pg.Close() }()
	round := 0
	benchmarkImport(b, func(b *testing.B) keystore.Store {
		round++
		dsn := fmt.Sprintf("%s&search_path=import%d", pg.DSN("postgres", "postgres"), round)
		s, err := sqlstore.OpenPostgres(b.Context(), dsn, sqlstore.Options{Create: true})
		if err != nil {
			b.Fatal(err)
		}
		return s
	})
}

func benchmarkImport(b *testing.B, open func(*testing.B) keystore.Store) {
	const n = 100_000
	var file strings.Builder
	for i := range n {
		fmt.Fprintf(&file, `{"hash":%q,"hint":"legacy_%06d","name":"imported %d","owner":"owner%d","permissions":["farms:read","farms:write"],"plan":"operator"}`+"\n", hashOf(i), i/10, i, i%1000)
	}
	for b.Loop() {
		s := open(b)
		k := keystore.Keeper{Store: s}
		result, err := k.Import(b.Context(), byCommand, strings.NewReader(file.String()), keystore.ImportOptions{})
		if err != nil || result.Imported != n {
			b.Fatal(result, err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "keys/s")
}
