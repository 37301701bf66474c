package e2e

import (
	"crypto/rand"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

func TestFleetPostgresConfigurationIsJudgedWithoutTheDatabase(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	var connections atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = conn.Close()
		}
	}()
	password := rand.Text()
	book.add("a database password", password)
	dsn := "postgres://gate:" + password + "@" + listener.Addr().String() + "/keys?sslmode=disable"
	validate := func(global string, env ...string) cli {
		g := prepare(t, config{global: global, gate: oneRoute, env: env})
		return g.hivegate(t, "validate", "--config", g.caddyfile())
	}

	out := validate("keystore postgres {env.DSN}\nmaster_key none", "DSN="+dsn).ok(t)
	if strings.Contains(out.stderr, "clear text") || strings.Contains(out.stderr, "verified TLS") {
		t.Errorf("warned without a reason:\n%s", out.stderr)
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("validate made %d connections", n)
	}
	out = validate("keystore postgres " + dsn + "\nmaster_key none").ok(t)
	if !strings.Contains(out.stderr, "clear text") {
		t.Errorf("a password in clear text is not warned about:\n%s", out.stderr)
	}
	out = validate("keystore postgres {env.DSN}\nmaster_key none", "DSN=postgres://gate@db.internal/keys").ok(t)
	if !strings.Contains(out.stderr, "sslmode=verify-full") {
		t.Errorf("a connection that anybody could read is not warned about:\n%s", out.stderr)
	}
	for name, c := range map[string]struct{ global, env, says string }{
		"a missing value":  {global: "keystore postgres {env.HIVEGATE_E2E_MISSING}\nmaster_key none", says: "keystore postgres: "},
		"no DSN":           {global: "keystore postgres {env.DSN}\nmaster_key none", env: "DSN=mysql://gate:" + password + "@db/keys", says: "not a DSN of PostgreSQL"},
		"a wrong port":     {global: "keystore postgres {env.DSN}\nmaster_key none", env: "DSN=postgres://gate:" + password + "@db:x/keys", says: "not a DSN of PostgreSQL"},
		"no master key":    {global: "keystore postgres {env.DSN}", env: "DSN=" + dsn, says: "master_key is missing"},
		"too few sessions": {global: "keystore postgres {env.DSN}\nmaster_key none", env: "DSN=" + dsn + "&pool_max_conns=2", says: "pool_max_conns"},
	} {
		if out := validate(c.global, c.env); out.code == 0 || !strings.Contains(out.stderr, c.says) {
			t.Errorf("%s: exit code %d, want %q:\n%s", name, out.code, c.says, out.stderr)
		}
	}
}

func TestFleetPostgresMigrateSaysWhatItDid(t *testing.T) {
	f := startFleet(t, anyPostgres(t), 0, farms, "60s") // migrates
	again := f.desk.hivegate(t, "migrate", "--config", f.desk.caddyfile()).ok(t)
	if !strings.Contains(again.stdout, "nothing was to do") || !strings.Contains(again.stderr, "keystore: postgres://postgres@"+f.pg.Addr()+"/postgres") {
		t.Errorf("a second time: %q, %q", again.stdout, again.stderr)
	}
	other := prepare(t, pgConfig(farms, "60s", f.dsn(f.pg.Addr(), f.schema+"_new"), f.master))
	if out := other.hivegate(t, "apikey", "list"); out.code != 1 || !strings.Contains(out.stderr, "hivegate migrate") {
		t.Errorf("a list of what is not there ended with %d: %s", out.code, out.stderr)
	}
	if out := other.hivegate(t, "migrate").ok(t); !strings.Contains(out.stdout, "was made") {
		t.Errorf("the first time: %q", out.stdout)
	}
	other.hivegate(t, "apikey", "list").ok(t)

	lite := prepare(t, farms)
	if out := lite.hivegate(t, "migrate"); out.code != 1 {
		t.Errorf("without a file it ended with %d: %s", out.code, out.stderr)
	}
	lite.createScoped(t, "farms:read")
	if out := lite.hivegate(t, "migrate").ok(t); !strings.Contains(out.stdout, "nothing was to do") {
		t.Errorf("on SQLite: %q", out.stdout)
	}
}
