package e2e

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hivegate/hivegate/internal/testservers"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// failover is three gates whose DSN names a primary and its standby.
type failover struct {
	*pgFleet
	primary, standby *testservers.Postgres
	// copied is the standby's way to the primary.
	copied *link
}

func startFailover(t *testing.T) *failover {
	t.Helper()
	f := &failover{pgFleet: startFleet(t, ownPostgres(t), 0, farms, "60s")}
	f.primary = f.pg
	f.copied = newLink(t, f.primary.Addr())
	standby, err := testservers.StartStandby(f.copied.addr)
	needServer(t, err)
	f.standby = standby
	t.Cleanup(func() {
		if err := standby.Close(); err != nil {
			t.Error(err)
		}
	})
	config := func(hosts string) config { return pgConfig(farms, "60s", f.dsn(hosts, f.schema), f.master) }
	for range 3 {
		// The standby's name comes first: a gate must not take it for the primary.
		standby, primary := newLink(t, f.standby.Addr()), newLink(t, f.primary.Addr())
		f.links = append(f.links, standby, primary)
		f.gates = append(f.gates, start(t, config(standby.addr+","+primary.addr)))
	}
	both := f.primary.Addr() + "," + f.standby.Addr()
	f.desk = prepare(t, config(both))
	if f.store, err = sqlstore.OpenPostgres(context.Background(), f.dsn(both, f.schema), sqlstore.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.store.Close() })
	return f
}

// do runs a statement on one of the servers.
func (f *failover) do(t *testing.T, p *testservers.Postgres, sql string) string {
	t.Helper()
	out, err := p.SQL("postgres", sql)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// listening waits until all gates listen for changes on a server.
func (f *failover) listening(t *testing.T, p *testservers.Postgres, within time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	eventually(t, within, "three gates listen", func() bool {
		out, err := p.SQL("postgres", `SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'`)
		return err == nil && out == "3"
	})
	return time.Since(begin)
}

// TestFleetPostgresFailover: the primary is killed, its standby promoted. Nobody with a
// known key notices, whatever was revoked stays so, and afterwards changes arrive as
// before, by notification.
func TestFleetPostgresFailover(t *testing.T) {
	f := startFailover(t)
	// A change that was confirmed must be on the standby: operations.md asks for this.
	f.do(t, f.primary, `ALTER SYSTEM SET synchronous_standby_names = '*'`)
	f.do(t, f.primary, `SELECT pg_reload_conf()`)
	eventually(t, 20*time.Second, "the standby is synchronous", func() bool {
		return f.do(t, f.primary, `SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`) == "1"
	})
	f.listening(t, f.primary, 10*time.Second)
	known := []created{f.desk.createScoped(t, "farms:read"), f.desk.createScoped(t, "farms:read")}
	unknown := []created{f.desk.createScoped(t, "farms:read"), f.desk.createScoped(t, "farms:read"), f.desk.createScoped(t, "farms:read")}
	gone := f.desk.createScoped(t, "farms:read")
	later := f.desk.createScoped(t, "farms:read")
	for _, k := range append(known, gone, later) {
		f.warm(t, k)
	}
	streaming(t, f.gates[0])
	stream := openEvents(t, f.gates[0], later.Key)
	defer func() { _ = stream.Close() }()
	cut := ends(stream)
	f.revoke(t, gone.ID)
	f.refusedEverywhere(t, gone, time.Now(), time.Second)

	l := f.startTraffic(10*time.Millisecond, known...)
	stays := refusals(f.gates, gone)
	if err := f.primary.Kill(); err != nil {
		t.Fatal(err)
	}
	f.unknown(t, f.gates[0], unknown[0])
	<-time.After(fleetSize(time.Second, 10*time.Second))
	if err := f.standby.Promote(); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	for i, g := range f.gates {
		eventually(t, 10*time.Second, "an unknown key is let in", func() bool { return g.get(t, "/farms", key(unknown[i].Key)).status == http.StatusOK })
	}
	t.Logf("unknown keys are let in %s after the promotion, the gates listen after %s", time.Since(promoted).Round(time.Millisecond),
		f.listening(t, f.standby, 15*time.Second).Round(time.Millisecond))
	select {
	case <-cut:
		t.Error("the stream of a key that is good was cut")
	default:
	}
	f.revoke(t, later.ID)
	begin := time.Now()
	f.refusedEverywhere(t, later, begin, time.Second)
	select {
	case <-cut:
	case <-time.After(2 * time.Second):
		t.Error("the stream of a revoked key is open still")
	}
	var took []time.Duration
	for range fleetSize(5, 50) {
		k := f.desk.createScoped(t, "farms:read")
		f.warm(t, k)
		f.revoke(t, k.ID)
		took = append(took, f.refusedEverywhere(t, k, time.Now(), time.Second))
	}
	slices.Sort(took)
	t.Logf("%d revocations on the new primary: p50 %s, maximum %s", len(took), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	k := f.desk.createScoped(t, "farms:read")
	if out := f.desk.hivegate(t, "apikey", "revoke", k.ID, "--wait").ok(t); !strings.Contains(out.stdout, "All 3 gates") {
		t.Errorf("revoke --wait on the new primary: %q", out.stdout)
	}
	n, passed := stays.end()
	t.Logf("%d requests with a key revoked before the failover, %d let through", n, passed)
	if passed > 0 {
		t.Errorf("%d requests with a revoked key were let through", passed)
	}
	l.flawless(t, "failover of PostgreSQL")
}

// TestFleetPostgresFailoverThatLosesChanges: a standby that lacked the last changes
// gives out their numbers again, for others. All gates agree with it within a second
// or two, and what is revoked on it holds.
func TestFleetPostgresFailoverThatLosesChanges(t *testing.T) {
	f := startFailover(t)
	steady, lost, other := f.desk.createScoped(t, "farms:read"), f.desk.createScoped(t, "farms:read"), f.desk.createScoped(t, "farms:read")
	for _, k := range []created{steady, lost, other} {
		f.warm(t, k)
	}
	eventually(t, 10*time.Second, "the standby has everything", func() bool {
		return f.do(t, f.primary, `SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()`) == "1"
	})
	l := f.startTraffic(10*time.Millisecond, steady)
	f.copied.set(linkDrop, 0)
	f.revoke(t, lost.ID)
	f.refusedEverywhere(t, lost, time.Now(), time.Second)
	if err := f.primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := f.standby.Promote(); err != nil {
		t.Fatal(err)
	}
	f.revoke(t, other.ID) // gets the number that the lost change had
	begin := time.Now()
	t.Logf("what was revoked on the new primary holds after %s", f.refusedEverywhere(t, other, begin, 3*time.Second).Round(time.Millisecond))
	for _, g := range f.gates {
		eventually(t, 3*time.Second, "the new primary's word counts", func() bool { return g.get(t, "/farms", key(lost.Key)).status == http.StatusOK })
	}
	l.flawless(t, "failover that loses changes")
}

// refusals asks all gates with a revoked key until end.
func refusals(gates []*gate, k created) *spentLoad {
	l := &spentLoad{stop: make(chan struct{})}
	for _, g := range gates {
		l.wg.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-tick.C:
				}
				a, err := g.try(g.sites[0], "GET", "/farms", key(k.Key))
				l.n.Add(1)
				if err != nil || a.status == http.StatusOK {
					l.bad.Add(1)
				}
			}
		})
	}
	return l
}
