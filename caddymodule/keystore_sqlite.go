package caddymodule

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

func init() { caddy.RegisterModule(new(SQLite)) }

// SQLite keeps keys in an embedded SQLite database (WAL mode). Several
// processes of one machine may share it.
type SQLite struct {
	// The database file. A relative path is taken from
	// `<Caddy's data directory>/hivegate/`; placeholders are expanded.
	// Default: `keys.db`.
	Path string `json:"path,omitempty"`

	file string
}

// CaddyModule returns the Caddy module information.
func (*SQLite) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "hivegate.keystores.sqlite", New: func() caddy.Module { return new(SQLite) }}
}

// Provision resolves the path. It opens nothing.
func (s *SQLite) Provision(caddy.Context) error {
	path, err := expand("keystore sqlite", s.Path)
	if err != nil {
		return err
	}
	if path == "" {
		path = "keys.db"
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(caddy.AppDataDir(), "hivegate", path)
	}
	s.file = filepath.Clean(path)
	return nil
}

// Location implements KeystoreGuest.
func (s *SQLite) Location() string { return s.file }

// KeyFile implements KeystoreGuest.
func (s *SQLite) KeyFile() string { return s.file + ".key" }

// MaxStaleness implements KeystoreGuest.
func (s *SQLite) MaxStaleness() time.Duration { return time.Minute }

// MustOpen implements KeystoreGuest: a local file that cannot be opened will
// not heal by itself.
func (s *SQLite) MustOpen() bool { return true }

// Opener implements KeystoreGuest.
func (s *SQLite) Opener() func(context.Context, bool) (keystore.Store, error) {
	file := s.file
	return func(ctx context.Context, create bool) (keystore.Store, error) {
		if create {
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				return nil, err
			}
		}
		return sqlstore.OpenSQLite(ctx, file, sqlstore.Options{Create: create})
	}
}

// inspect opens an existing file for reading alone.
func (s *SQLite) inspect(ctx context.Context) (keystore.Store, error) {
	return sqlstore.OpenSQLite(ctx, s.file, sqlstore.Options{Inspect: true})
}

var (
	_ KeystoreGuest     = (*SQLite)(nil)
	_ caddy.Provisioner = (*SQLite)(nil)
)
