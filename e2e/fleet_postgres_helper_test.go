package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hivegate/hivegate/internal/testservers"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// sharedPostgres is the one PostgreSQL of this package's tests that do it no harm.
var sharedPostgres struct {
	once sync.Once
	p    *testservers.Postgres
	err  error
	n    atomic.Int64
}

func closeSharedPostgres() {
	if p := sharedPostgres.p; p != nil {
		if err := p.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close PostgreSQL:", err)
		}
	}
}

// needServer fails or skips a test whose server could not be started: it may be
// missing on a developer's machine, but not in CI.
func needServer(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, testservers.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ownPostgres starts a PostgreSQL that the test may kill.
func ownPostgres(t testing.TB) *testservers.Postgres {
	t.Helper()
	p, err := testservers.StartPostgres()
	needServer(t, err)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func anyPostgres(t testing.TB) *testservers.Postgres {
	t.Helper()
	sharedPostgres.once.Do(func() { sharedPostgres.p, sharedPostgres.err = testservers.StartPostgres() })
	needServer(t, sharedPostgres.err)
	return sharedPostgres.p
}

// pgFleet is some gates on one PostgreSQL.
type pgFleet struct {
	pg    *testservers.Postgres
	gates []*gate
	// links are the gates' ways to the database, one each.
	links []*link
	// desk is a gate that does not run: commands on it reach the database
	// whatever happens to the links.
	desk *gate
	// store is the test's own way to the database.
	store *sqlstore.Store
	// what the gates are given: the DSN of the schema by address, the master key
	dsn    func(addr, schema string) string
	schema string
	master string
}

// pgConfig is a gate on the PostgreSQL that FLEET_DSN names.
func pgConfig(c config, staleness, dsn, master string) config {
	c.global += "\nkeystore postgres {env.FLEET_DSN} {\n\t\t\tmax_staleness " + staleness + "\n\t\t}\n\t\tmaster_key {env.FLEET_MASTER}\n"
	c.env = append([]string{"FLEET_DSN=" + dsn, "FLEET_MASTER=" + master}, c.env...)
	return c
}

// startFleet starts n gates on a schema of their own. Each reaches the database
// through a link.
func startFleet(t testing.TB, pg *testservers.Postgres, n int, c config, staleness string) *pgFleet {
	t.Helper()
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	master := hex.EncodeToString(raw[:])
	book.add("the master key of a fleet", master)
	password := rand.Text()
	book.add("a database password", password)
	schema := fmt.Sprintf("fleet%d", sharedPostgres.n.Add(1))
	dsn := func(addr, schema string) string {
		return "postgres://postgres:" + password + "@" + addr + "/postgres?sslmode=disable&search_path=" + schema
	}
	f := &pgFleet{pg: pg, dsn: dsn, schema: schema, master: master}
	direct := pgConfig(c, staleness, dsn(pg.Addr(), schema), master)
	f.desk = prepare(t, direct)
	f.desk.hivegate(t, "migrate", "--config", f.desk.caddyfile()).ok(t)
	for range n {
		l := newLink(t, pg.Addr())
		f.links = append(f.links, l)
		f.gates = append(f.gates, start(t, pgConfig(c, staleness, dsn(l.addr, schema), master)))
	}
	var err error
	f.store, err = sqlstore.OpenPostgres(context.Background(), dsn(pg.Addr(), schema), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.store.Close() })
	return f
}

// revoke ends a key from this process and returns when the database has it.
func (f *pgFleet) revoke(t testing.TB, id string) {
	t.Helper()
	if err := f.tryRevoke(id); err != nil {
		t.Fatal(err)
	}
}

func (f *pgFleet) tryRevoke(id string) error {
	kid, err := keystore.ParseID(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	now := time.Now()
	by := keystore.Change{Action: "revoke", Actor: "command", At: now}
	_, err = f.store.Update(ctx, by, kid, func(r *keystore.Record) error { r.RevokedAt = now; return nil })
	return err
}

// warm lets every gate meet a key.
func (f *pgFleet) warm(t testing.TB, k created) {
	t.Helper()
	for _, g := range f.gates {
		g.get(t, "/farms", key(k.Key)).passed(t)
	}
}

// refusedEverywhere waits until no gate lets the key pass, and returns how long
// that took from begin.
func (f *pgFleet) refusedEverywhere(t testing.TB, k created, begin time.Time, within time.Duration) time.Duration {
	t.Helper()
	var wg sync.WaitGroup
	var slowest atomic.Int64
	for i, g := range f.gates {
		wg.Go(func() {
			for {
				a, err := g.try(g.sites[0], "GET", "/farms", key(k.Key))
				took := time.Since(begin)
				switch {
				case err != nil && took <= within && (unheard(err) || errors.Is(err, io.ErrUnexpectedEOF)):
					// The revocation ended the request that was under way: the next one
					// must be refused.
				case err != nil:
					t.Errorf("gate %d: %v", i, err)
					return
				case a.status == http.StatusUnauthorized:
					for {
						if old := slowest.Load(); old >= int64(took) || slowest.CompareAndSwap(old, int64(took)) {
							return
						}
					}
				case took > within:
					t.Errorf("gate %d still lets the key pass after %s: %d %s", i, took, a.status, a.reason())
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Duration(slowest.Load())
}

// traffic is steady valid traffic on all gates. Every answer other than the backend's
// is counted, by what it was.
type traffic struct {
	stop chan struct{}
	wg   sync.WaitGroup
	n    atomic.Int64

	mu    sync.Mutex // guards wrong and slow
	wrong map[string]int
	slow  time.Duration
}

// startTraffic sends requests with these keys, every so often by each of two clients
// a gate, until ends is called.
func (f *pgFleet) startTraffic(every time.Duration, keys ...created) *traffic {
	l := &traffic{stop: make(chan struct{}), wrong: map[string]int{}}
	for i, g := range f.gates {
		for w := range 2 {
			l.wg.Go(func() {
				tick := time.NewTicker(every)
				defer tick.Stop()
				for n := i + w; ; n++ {
					select {
					case <-l.stop:
						return
					case <-tick.C:
					}
					begin := time.Now()
					a, err := g.try(g.sites[0], "GET", "/farms", key(keys[n%len(keys)].Key))
					l.note(a, err, time.Since(begin))
				}
			})
		}
	}
	return l
}

func (l *traffic) note(a *answer, err error, took time.Duration) {
	l.n.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow = max(l.slow, took)
	switch {
	case err != nil:
		l.wrong["error: "+err.Error()]++
	case a.status != http.StatusOK || a.reason() != "":
		l.wrong[fmt.Sprintf("%d %s", a.status, a.reason())]++
	}
}

// end stops the traffic and returns how much there was, what was wrong, and how
// long the slowest answer took.
func (l *traffic) end() (n int64, wrong map[string]int, slowest time.Duration) {
	close(l.stop)
	l.wg.Wait()
	return l.n.Load(), l.wrong, l.slow
}

// flawless ends the traffic and fails the test when any answer was wrong.
func (l *traffic) flawless(t testing.TB, what string) {
	t.Helper()
	n, wrong, slowest := l.end()
	bad := 0
	for _, c := range wrong {
		bad += c
	}
	t.Logf("%s: %d valid requests, %d wrong answers, slowest %s", what, n, bad, slowest.Round(time.Millisecond))
	if n == 0 || bad > 0 {
		t.Errorf("%s: of %d valid requests wrong: %v", what, n, wrong)
	}
}

// fleetSize is how long or often the tests of fleets run: short in `make test`,
// full in `make faults` and `make revocations`.
func fleetSize[T any](short, full T) T {
	if strings.Contains(os.Getenv("HIVEGATE_FLEET"), "full") {
		return full
	}
	return short
}
