package caddymodule

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

const keystoreUsage = "keystore sqlite [PATH]' or 'keystore postgres DSN { max_staleness 60s }"

// keystore sqlite [PATH]
// keystore postgres DSN { max_staleness 60s }
func readKeystore(b *block, a *App) error {
	words := b.words()
	if len(words) == 0 {
		return b.usage(keystoreUsage)
	}
	b.places["keystore"] = b.start
	switch words[0] {
	case "sqlite":
		// An empty path is most often a variable that is not set: the default
		// would be another keystore than the one that was meant.
		if len(words) > 2 || len(words) == 2 && words[1] == "" {
			return b.usage("keystore sqlite [PATH]")
		}
		guest := new(SQLite)
		if len(words) == 2 {
			guest.Path = words[1]
		}
		a.KeystoreRaw = caddyconfig.JSONModuleObject(guest, "backend", "sqlite", nil)
		return b.noBlock()
	case "postgres":
		return readPostgres(b, a, words[1:])
	}
	return errAtf(b.start, "keystore: %s", unknownName("keystore", words[0], []string{"sqlite", "postgres"}))
}

var postgresOptions = map[string]option[*Postgres]{
	"max_staleness": {once: true, read: readMaxStaleness},
}

func readPostgres(b *block, a *App, words []string) error {
	if len(words) != 1 {
		return b.usage("keystore postgres DSN { max_staleness 60s }")
	}
	guest := &Postgres{DSN: words[0]}
	if err := readBlock(b, "keystore postgres", postgresOptions, guest); err != nil {
		return err
	}
	a.KeystoreRaw = caddyconfig.JSONModuleObject(guest, "backend", "postgres", nil)
	b.places[keystoreNeedsMaster] = b.start
	return nil
}

// max_staleness DURATION
func readMaxStaleness(b *block, guest *Postgres) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("max_staleness 60s")
	}
	d, err := caddy.ParseDuration(words[0])
	if n, numErr := strconv.Atoi(words[0]); numErr == nil && n == 0 {
		d, err = 0, nil
	}
	if err != nil {
		return errAtf(b.start, "max_staleness: %q is not a duration; write '60s', or '0' to trust nothing while the database is away", words[0])
	}
	if d < 0 || d > maxStaleness {
		return errAtf(b.start, "max_staleness %s: must be 0 to 24h", words[0])
	}
	value := caddy.Duration(d)
	guest.MaxStale = &value
	return b.noBlock()
}

// keystoreNeedsMaster is the place of a keystore that needs a master key given.
const keystoreNeedsMaster = "keystore/master_key"

// checkKeystore judges the global block as a whole.
func checkKeystore(b *block, a *App) error {
	if at, shared := b.places[keystoreNeedsMaster]; shared && len(a.MasterKey) == 0 {
		return errAtf(at, "keystore postgres: master_key is missing: all nodes need the same; make one with 'openssl rand -base64 32' and give it as 'master_key {env.NAME}', or write 'master_key none'")
	}
	return nil
}
