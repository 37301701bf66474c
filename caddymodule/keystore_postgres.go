package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

func init() { caddy.RegisterModule(new(Postgres)) }

// Postgres keeps keys in PostgreSQL (15 or later), shared by a fleet of gates.
// Each gate answers from its memory, learns of changes within a second, and goes
// on for a while when the database is away. It needs `master_key` given, the same
// for all gates.
type Postgres struct {
	// Where the database is: a URL such as
	// `postgres://gate@db.internal:5432/hivegate?sslmode=verify-full`, or words
	// such as `host=db.internal user=gate dbname=hivegate`. Placeholders are
	// expanded; a password belongs into one ({env.NAME}, {file./path}) or into
	// PGPASSFILE. `search_path` names the schema (default: `hivegate`),
	// `pool_max_conns` bounds the connections of one gate (default: 20, at
	// least 13). Required. Misuse: without `sslmode=verify-full`, whoever stands
	// between gate and database can grant keys.
	DSN string `json:"dsn"`
	// How long a gate that does not reach the database trusts what it remembers.
	// Until then keys in memory work, and a revocation made elsewhere does not
	// arrive. `0`: not at all. Unit: duration, at most 24h. Default: `60s`.
	MaxStale *caddy.Duration `json:"max_staleness,omitempty"`

	dsn      string
	location string
}

const (
	defaultStaleness = time.Minute
	maxStaleness     = 24 * time.Hour
)

// CaddyModule returns the Caddy module information.
func (*Postgres) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "hivegate.keystores.postgres", New: func() caddy.Module { return new(Postgres) }}
}

// Provision expands and reads the DSN. It connects to nothing.
func (p *Postgres) Provision(ctx caddy.Context) error {
	if p.DSN == "" {
		return errors.New("keystore postgres: the DSN is missing")
	}
	dsn, err := expand("keystore postgres", p.DSN)
	if err != nil {
		return err
	}
	info, err := sqlstore.ParsePostgres(dsn)
	if err != nil {
		return fmt.Errorf("keystore postgres: %w", err)
	}
	if d := p.staleness(); d < 0 || d > maxStaleness {
		return fmt.Errorf("keystore postgres: max_staleness %s: must be 0 to %s", d, maxStaleness)
	}
	log := contextLogger(ctx)
	if info.Password && !strings.Contains(p.DSN, "{") {
		log.Warn("the password of keystore postgres stands in clear text in the configuration; use {env.NAME} or {file./path}")
	}
	if info.Plain {
		log.Warn("keystore postgres is reached without verified TLS: whoever stands in between can read and grant keys; add sslmode=verify-full",
			zap.String("location", info.Location))
	}
	p.dsn, p.location = dsn, info.Location
	return nil
}

func (p *Postgres) staleness() time.Duration {
	if p.MaxStale == nil {
		return defaultStaleness
	}
	return time.Duration(*p.MaxStale)
}

// Location implements KeystoreGuest.
func (p *Postgres) Location() string { return p.location }

// KeyFile implements KeystoreGuest: a file on one node would not do for the others.
func (p *Postgres) KeyFile() string { return "" }

// MaxStaleness implements KeystoreGuest.
func (p *Postgres) MaxStaleness() time.Duration {
	if d := p.staleness(); d > 0 {
		return d
	}
	return -1 // what a Verifier takes for "not at all"
}

// MustOpen implements KeystoreGuest: the network heals.
func (p *Postgres) MustOpen() bool { return false }

// Opener implements KeystoreGuest.
func (p *Postgres) Opener() func(context.Context, bool) (keystore.Store, error) {
	dsn := p.dsn
	return func(ctx context.Context, create bool) (keystore.Store, error) {
		return sqlstore.OpenPostgres(ctx, dsn, sqlstore.Options{Create: create})
	}
}

// poolSecret tells two databases apart that differ in what Location leaves out.
func (p *Postgres) poolSecret() string { return p.dsn }

// pollTimeout lets a slow database keep memory fresh.
func (p *Postgres) pollTimeout() time.Duration { return 25 * time.Second }

// migratesMissing says that `migrate` may make the keystore.
func (p *Postgres) migratesMissing() bool { return true }

var (
	_ KeystoreGuest     = (*Postgres)(nil)
	_ caddy.Provisioner = (*Postgres)(nil)
)
