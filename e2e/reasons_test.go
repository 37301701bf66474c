package e2e

import (
	"database/sql"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

// farms is the configuration of most tests: farms and their workers, a plan
// that limits nothing and a tiny one.
var farms = config{
	global: cheap + `
		scopes farms:read farms:write crews:read crews:write workers:command
		class commands 5/m per key
		class slots
		plan roomy {
			requests unlimited
		}
		plan tiny {
			requests 3/m
			concurrent slots 1
		}
		default_plan roomy
	`,
	gate: `
		routes {
			GET /healthz public
			POST /login public
			GET /farms farms:read
			GET,PATCH /farms/{farmId} farms:read
			DELETE /farms/{farmId} farms:write
			POST /farms/{farmId}/workers/{workerId}/command workers:command class=commands
			GET /crews crews:read
			POST /crews crews:write
			GET /either crews:write|farms:read
			GET /both farms:read farms:write
			GET /me authenticated
			GET /hold farms:read class=slots
			* /any/{rest...} farms:read
		}
	`,
}

// with returns the configuration with more lines in the directive.
func (c config) with(gate string) config {
	c.gate += "\n" + gate
	return c
}

// reasons of this configuration's features that must be refused on the built
// binary; each subtest of TestEveryReason ticks its own off.
var reasons = []string{
	"missing_credentials", "malformed_authorization", "api_key_invalid", "api_key_expired",
	"api_key_revoked", "api_key_disabled", "token_invalid", "multiple_credentials", "ambiguous_path",
	"insufficient_scope", "object_forbidden", "https_required", "address_forbidden", "route_not_found",
	"method_not_allowed", "too_early", "rate_limited", "concurrency_limited", "auth_attempts_limited",
	"internal", "keystore_unavailable", "overloaded",
}

func TestEveryReasonIsRefusedAsDocumented(t *testing.T) {
	c := farms
	c.more = `
		http://SITE1 {
			hivegate {
				require_https strict
				routes {
					GET /farms farms:read
				}
			}
			reverse_proxy FARM
		}
		http://SITE2 {
			route {
				hivegate {
					routes {
						GET /farms farms:read
					}
				}
				hivegate {
					routes {
						GET /farms farms:read
					}
				}
				reverse_proxy FARM
			}
		}
	`
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	all := g.createScoped(t, "*")
	done := map[string]bool{}
	reason := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			before := g.farm.hits.Load()
			f(t)
			if n := g.farm.hits.Load() - before; n != 0 && name != "concurrency_limited" && name != "rate_limited" {
				t.Errorf("%d refused requests reached the backend", n)
			}
		})
		done[name] = true
	}

	reason("missing_credentials", func(t *testing.T) {
		a := g.get(t, "/farms")
		a.refused(t, 401, "missing_credentials")
		if ch := a.header.Get("Www-Authenticate"); strings.Contains(ch, "error=") {
			t.Errorf("no credential was sent, so there is no error to name: %s", ch)
		}
		if p := a.asJSON(t); p["type"] != "urn:hivegate:reason:missing_credentials" || p["status"] != 401.0 || p["reason"] != "missing_credentials" {
			t.Errorf("problem details %v", p)
		}
	})
	reason("malformed_authorization", func(t *testing.T) {
		for value, hint := range map[string]string{
			k.Key:                    "Authorization must be 'Bearer <token>'; the token was sent without the scheme",
			"Bearer" + k.Key:         "a space is missing after Bearer",
			"Bearer  " + k.Key:       "",
			"Bearer\t" + k.Key:       "",
			"Basic dXNlcjpwYXNz":     "",
			"Token " + k.Key:         "",
			"Bearer":                 "",
			"Bearer " + k.Key + " x": "",
			// No character of a token (RFC 6750, section 2.1).
			"Bearer hive_sk_\xc3\xa9": "",
		} {
			a := g.get(t, "/farms", header("Authorization", value))
			a.refused(t, 401, "malformed_authorization")
			if ch := a.header.Get("Www-Authenticate"); !strings.Contains(ch, hint) || !strings.Contains(ch, "error_description=") {
				t.Errorf("challenge %q lacks the hint %q", ch, hint)
			}
		}
	})
	reason("api_key_invalid", func(t *testing.T) {
		unknown, _ := keystore.DefaultFormat().Generate()
		last := "0"
		if strings.HasSuffix(k.Key, "0") {
			last = "1"
		}
		for name, value := range map[string]string{
			"unknown id":        unknown,
			"wrong secret":      keystore.DefaultFormat().Regenerate(idOf(t, k)),
			"wrong checksum":    k.Key[:len(k.Key)-1] + last,
			"too short":         k.Key[:len(k.Key)-1],
			"too long":          k.Key + strings.Repeat("a", 40),
			"other prefix":      "hive_xx_" + k.Key[8:],
			"upper case prefix": "HIVE_SK_" + k.Key[8:],
		} {
			a := g.get(t, "/farms", key(value))
			if a.status != 401 || a.reason() != "api_key_invalid" {
				t.Errorf("%s: %d %s", name, a.status, a.reason())
			}
			a.refused(t, 401, "api_key_invalid")
		}
	})
	reason("api_key_expired", func(t *testing.T) {
		e := g.create(t, "--scope", "farms:read", "--expires", time.Now().Add(2*time.Second).UTC().Format(time.RFC3339))
		eventually(t, 10*time.Second, "the key expires", func() bool { return g.get(t, "/me", key(e.Key)).status == 401 })
		g.get(t, "/farms", key(e.Key)).refused(t, 401, "api_key_expired")
		g.get(t, "/farms", key(wrong(t, e))).refused(t, 401, "api_key_invalid")
		g.farm.hits.Store(0)
	})
	reason("api_key_revoked", func(t *testing.T) {
		e := g.createScoped(t, "farms:read")
		g.hivegate(t, "apikey", "revoke", e.ID, "--wait").ok(t)
		g.get(t, "/farms", key(e.Key)).refused(t, 401, "api_key_revoked")
		g.get(t, "/farms", key(wrong(t, e))).refused(t, 401, "api_key_invalid")
	})
	reason("api_key_disabled", func(t *testing.T) {
		e := g.createScoped(t, "farms:read")
		g.hivegate(t, "apikey", "disable", e.ID).ok(t)
		eventually(t, 2*time.Second, "the key is disabled", func() bool {
			a, err := g.try(g.sites[0], "GET", "/none", key(e.Key))
			if err != nil && unheard(err) {
				return false // it was under way when the key was disabled, and ended with it
			}
			return err == nil && a.status == 401
		})
		g.get(t, "/farms", key(e.Key)).refused(t, 401, "api_key_disabled")
		g.get(t, "/farms", key(wrong(t, e))).refused(t, 401, "api_key_invalid")
	})
	reason("token_invalid", func(t *testing.T) {
		for _, token := range []string{"a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "..", k.Key + ".a.b"} {
			g.get(t, "/farms", key(token), from("127.0.0.3")).refused(t, 401, "token_invalid")
		}
	})
	reason("multiple_credentials", func(t *testing.T) {
		g.get(t, "/farms", key(k.Key), key(k.Key)).refused(t, 400, "multiple_credentials")
		g.get(t, "/farms", key(k.Key), header("Authorization", "")).refused(t, 400, "multiple_credentials")
	})
	reason("ambiguous_path", func(t *testing.T) { ambiguous(t, g, all.Key) })
	reason("insufficient_scope", func(t *testing.T) {
		a := g.do(t, "POST", "/crews", key(k.Key))
		a.refused(t, 403, "insufficient_scope")
		if ch := a.header.Get("Www-Authenticate"); !strings.Contains(ch, `error="insufficient_scope"`) {
			t.Errorf("challenge %q", ch)
		}
		p := a.asJSON(t)
		if fmt.Sprint(p["required_scopes"]) != "[crews:write]" || fmt.Sprint(p["granted_scopes"]) != "[farms:read]" {
			t.Errorf("problem details %v", p)
		}
		g.get(t, "/both", key(k.Key)).refused(t, 403, "insufficient_scope")
	})
	reason("object_forbidden", func(t *testing.T) {
		n := g.createScoped(t, "farms:read@farmId=42,43")
		g.get(t, "/farms/44", key(n.Key)).refused(t, 403, "object_forbidden")
		g.get(t, "/farms", key(n.Key)).refused(t, 403, "object_forbidden")
		g.get(t, "/farms/%34%34", key(n.Key)).refused(t, 403, "object_forbidden")
		g.get(t, "/crews", key(n.Key)).refused(t, 403, "insufficient_scope")
	})
	reason("https_required", func(t *testing.T) {
		g.doAt(t, g.sites[1], "GET", "/farms", key(k.Key)).refused(t, 403, "https_required")
		// Nobody but a trusted proxy may say that it was HTTPS.
		g.doAt(t, g.sites[1], "GET", "/farms", key(k.Key), header("X-Forwarded-Proto", "https")).refused(t, 403, "https_required")
	})
	reason("address_forbidden", func(t *testing.T) {
		e := g.createScoped(t, "farms:read")
		g.change(t, e.ID, func(r *keystore.Record) error {
			r.IPAllowlist = []netip.Prefix{netip.MustParsePrefix("127.0.0.8/32")}
			return nil
		})
		eventually(t, 2*time.Second, "the allowlist holds", func() bool { return g.get(t, "/none", key(e.Key)).status == 403 })
		g.get(t, "/farms", key(e.Key)).refused(t, 403, "address_forbidden")
		if a := g.get(t, "/none", key(e.Key), from("127.0.0.8")); a.status != 404 {
			t.Errorf("from the listed address: %d %s", a.status, a.reason())
		}
	})
	reason("route_not_found", func(t *testing.T) {
		for _, target := range []string{"/none", "/Farms", "/farms/", "/farms/1/workers", "/"} {
			g.get(t, target, key(all.Key)).refused(t, 404, "route_not_found")
			g.get(t, target).refused(t, 401, "missing_credentials")
		}
	})
	reason("method_not_allowed", func(t *testing.T) {
		a := g.do(t, "DELETE", "/farms", key(all.Key))
		a.refused(t, 405, "method_not_allowed")
		if allow := a.header.Get("Allow"); allow != "GET, HEAD" {
			t.Errorf("Allow %q, want GET, HEAD", allow)
		}
		g.do(t, "DELETE", "/farms").refused(t, 401, "missing_credentials")
		// A path of public lines alone has nothing to hide.
		a = g.get(t, "/login")
		a.refused(t, 405, "method_not_allowed")
		if allow := a.header.Get("Allow"); allow != "POST" {
			t.Errorf("Allow %q, want POST", allow)
		}
		g.do(t, "TRACE", "/any/x", key(all.Key)).refused(t, 405, "method_not_allowed")
	})
	reason("too_early", func(t *testing.T) {
		g.get(t, "/farms", key(k.Key), header("Early-Data", "1")).refused(t, 425, "too_early")
	})
	reason("rate_limited", func(t *testing.T) {
		e := g.create(t, "--scope", "farms:read", "--plan", "tiny")
		for range 3 {
			g.get(t, "/farms", key(e.Key)).passed(t)
		}
		a := g.get(t, "/farms", key(e.Key))
		a.refused(t, 429, "rate_limited")
		p := a.asJSON(t)
		if p["type"] != "https://iana.org/assignments/http-problem-types#quota-exceeded" || p["violated-policies"] == nil {
			t.Errorf("problem details %v", p)
		}
	})
	reason("concurrency_limited", func(t *testing.T) { concurrency(t, g) })
	reason("auth_attempts_limited", func(t *testing.T) {
		const addr = "127.0.0.4"
		for range 10 {
			g.get(t, "/farms", key(wrong(t, k)), from(addr)).refused(t, 401, "api_key_invalid")
		}
		g.get(t, "/farms", key(wrong(t, k)), from(addr)).refused(t, 429, "auth_attempts_limited")
	})
	reason("internal", func(t *testing.T) {
		g.doAt(t, g.sites[2], "GET", "/farms", key(k.Key)).refused(t, 500, "internal")
		eventually(t, 5*time.Second, "a second gate is logged", func() bool {
			return len(g.logLines(t, map[string]string{"logger": "http.handlers.hivegate", "reason": "internal", "error": "the request met a second"})) == 1
		})
	})
	t.Run("overloaded", func(t *testing.T) { overloaded(t) })
	done["overloaded"] = true
	// The last, for it breaks the store.
	reason("keystore_unavailable", func(t *testing.T) {
		fresh := g.createScoped(t, "farms:read")
		g.breakStore(t)
		g.get(t, "/farms", key(fresh.Key)).refused(t, 503, "keystore_unavailable")
	})

	for _, r := range reasons {
		if !done[r] {
			t.Errorf("%s has no test", r)
		}
	}
	if len(done) != len(reasons) {
		t.Errorf("%d reasons tested, %d listed", len(done), len(reasons))
	}
}

// ambiguous sends every kind of path that a backend might read differently.
func ambiguous(t *testing.T, g *gate, k string) {
	t.Helper()
	for _, target := range []string{
		"//farms", "/farms//1", "/any//x", "/any/./x", "/any/../farms", "/any/%2e%2e/farms", "/any/.%2E/farms",
		"/any/%2e/x", "/any/x%2fy", "/any/x%2Fy", "/any/x%5cy", "/any/x%00", "/any/x%25y", "/any/x%0ay", "/any/x%7f",
		`/any/x\y`, "/any/x;a=b", "/any/%c0%af", "/any/%ff", "/any/x%3b", "/any/%ef%bc%8f", "/any/%ef%bc%8e%ef%bc%8e/x",
		"/any/%ef%bc%bc", "/any/..", "/any/.", "/farms?_method=DELETE", "/farms?a=b&_method=POST", "/farms?%5fmethod=PUT",
		"ftp://SITE0/farms", "http://user@SITE0/farms", "http:///farms",
	} {
		for _, cred := range []string{"", "Authorization: Bearer " + k + "\n"} {
			a := g.raw(t, "GET "+target+" HTTP/1.1\nHost: SITE0\n"+cred+"Connection: close\n", "")
			if target == "http:///farms" && a.reason() == "" && a.status == 400 {
				continue // net/http itself may refuse it, before any handler
			}
			if a.status != 400 || a.reason() != "ambiguous_path" {
				t.Errorf("%s: got %d %q, want 400 ambiguous_path", target, a.status, a.reason())
			}
		}
	}
	// Net/http refuses these itself, before any handler.
	for _, target := range []string{"/any/%zz", "/any/%2", "/any/%"} {
		a := g.raw(t, "GET "+target+" HTTP/1.1\nHost: SITE0\nConnection: close\n", "")
		if a.status != 400 {
			t.Errorf("%s: got %d, want 400", target, a.status)
		}
	}
}

// concurrency holds the only slot of a key with one request, and asks for another.
func concurrency(t *testing.T, g *gate) {
	t.Helper()
	e := g.create(t, "--scope", "farms:read", "--plan", "tiny")
	inside, letGo := g.farm.hold("/hold")
	first := make(chan int, 1)
	hold := func() {
		a, err := g.try(g.sites[0], "GET", "/hold", key(e.Key))
		if err != nil {
			first <- 0
			return
		}
		first <- a.status
	}
	go hold()
	<-inside
	a := g.get(t, "/hold", key(e.Key))
	a.refused(t, 429, "concurrency_limited")
	if r := a.header.Get("Retry-After"); r != "1" {
		t.Errorf("Retry-After %q, want 1", r)
	}
	letGo <- struct{}{}
	if s := <-first; s != 200 {
		t.Errorf("the request that held the slot got %d", s)
	}
	// The slot is free again, and the refused request took no token.
	go hold()
	<-inside
	letGo <- struct{}{}
	if s := <-first; s != 200 {
		t.Errorf("after the slot was given back: %d", s)
	}
}

// overloaded asks for more bcrypt at once than the queue holds.
func overloaded(t *testing.T) {
	t.Helper()
	g := start(t, config{
		global: "master_key none\nauth_failures 100000/m\n" + dear,
		gate:   "routes {\n\t\t\tGET /farms farms:read\n\t\t}",
	})
	k := g.createScoped(t, "farms:read")
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]*answer{}
	for range 300 {
		wg.Add(1)
		w := wrong(t, k)
		go func() {
			defer wg.Done()
			a, err := g.try(g.sites[0], "GET", "/farms", key(w))
			if err != nil {
				return
			}
			mu.Lock()
			got[a.reason()] = a
			mu.Unlock()
		}()
	}
	wg.Wait()
	if got["overloaded"] == nil {
		t.Fatalf("300 wrong secrets at once were all hashed: %v", slices.Collect(keysOf(got)))
	}
	got["overloaded"].search(t, "overloaded")
	got["overloaded"].refused(t, 503, "overloaded")
	if got["api_key_invalid"] == nil {
		t.Error("none of the wrong secrets was hashed")
	}
	// When the queue is empty again, so is the excuse.
	g.get(t, "/farms", key(k.Key)).passed(t)
}

func keysOf(m map[string]*answer) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// idOf is the id of a created key as the keystore has it.
func idOf(t testing.TB, k created) keystore.ID {
	t.Helper()
	id, err := keystore.ParseID(k.ID)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// wrong is a well-formed key with the id of k and another secret, each time
// another one.
func wrong(t testing.TB, k created) string {
	t.Helper()
	return keystore.DefaultFormat().Regenerate(idOf(t, k))
}

// breakStore renames every table of the keystore under the running gate.
func (g *gate) breakStore(t testing.TB) {
	t.Helper()
	db, err := sql.Open("sqlite", g.database()+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tables := tablesOf(t, db)
	for _, name := range tables {
		if _, err := db.Exec(fmt.Sprintf(`ALTER TABLE %q RENAME TO %q`, name, "gone_"+name)); err != nil {
			t.Fatal(err)
		}
	}
}

func tablesOf(t testing.TB, db *sql.DB) []string {
	t.Helper()
	rows, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if err := rows.Err(); err != nil || len(tables) == 0 {
		t.Fatalf("no tables in the keystore: %v", err)
	}
	return tables
}
