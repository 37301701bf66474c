package e2e

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

// unknown asks a gate with a key that it has not met, and checks what it may say
// while the database is away: 503 with Retry-After, soon.
func (f *pgFleet) unknown(t testing.TB, g *gate, k created) {
	t.Helper()
	begin := time.Now()
	a := g.get(t, "/farms", key(k.Key))
	took := time.Since(begin)
	a.refused(t, http.StatusServiceUnavailable, "keystore_unavailable")
	if took > 2500*time.Millisecond {
		t.Errorf("an unknown key waited %s, want 2 s at most", took)
	}
	if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
}

// pgFault is one way in which the database goes away.
type pgFault struct {
	begin, end func(t testing.TB, f *pgFleet)
	// answers: the database still answers look-ups, so nothing is refused.
	answers bool
}

func onLinks(mode linkMode, delay time.Duration) func(testing.TB, *pgFleet) {
	return func(_ testing.TB, f *pgFleet) {
		for _, l := range f.links {
			l.set(mode, delay)
		}
	}
}

func must(do func(*pgFleet) error) func(testing.TB, *pgFleet) {
	return func(t testing.TB, f *pgFleet) {
		t.Helper()
		if err := do(f); err != nil {
			t.Fatal(err)
		}
	}
}

var pgFaults = map[string]pgFault{
	"killed":                {begin: must(func(f *pgFleet) error { return f.pg.Kill() }), end: must(func(f *pgFleet) error { return f.pg.Start() })},
	"paused":                {begin: must(func(f *pgFleet) error { return f.pg.Pause() }), end: must(func(f *pgFleet) error { return f.pg.Resume() })},
	"network drops":         {begin: onLinks(linkDrop, 0), end: onLinks(linkGood, 0)},
	"network resets":        {begin: onLinks(linkReset, 0), end: onLinks(linkGood, 0)},
	"network is 5 s slow":   {begin: onLinks(linkSlow, 5*time.Second), end: onLinks(linkGood, 0)},
	"network is 0.2 s slow": {begin: onLinks(linkSlow, 200*time.Millisecond), end: onLinks(linkGood, 0), answers: true},
}

// Keys in memory go on without one wrong answer, unknown ones get 503, and when
// the database is back nobody has to restart anything.
func TestFleetPostgresFaultsNeitherRefuseAKnownKeyNorNeedARestart(t *testing.T) {
	f := startFleet(t, ownPostgres(t), 3, farms, "60s")
	known := []created{f.desk.createScoped(t, "farms:read"), f.desk.createScoped(t, "farms:read"), f.desk.createScoped(t, "farms:read")}
	for name, fault := range pgFaults {
		t.Run(name, func(t *testing.T) {
			doomed := f.desk.createScoped(t, "farms:read")
			for _, k := range append(known, doomed) {
				f.warm(t, k)
			}
			var fresh []created
			for range 2 * len(f.gates) {
				fresh = append(fresh, f.desk.createScoped(t, "farms:read"))
			}
			l := f.startTraffic(fleetSize(10*time.Millisecond, 5*time.Millisecond), known...)
			fault.begin(t, f)
			outage := time.NewTimer(fleetSize(3*time.Second, 6*time.Second))
			defer outage.Stop()
			var wg sync.WaitGroup
			for i, g := range f.gates {
				wg.Go(func() {
					if fault.answers {
						g.get(t, "/farms", key(fresh[i].Key)).passed(t)
						return
					}
					f.unknown(t, g, fresh[i])
				})
			}
			wg.Wait()
			<-outage.C
			fault.end(t, f)
			back := time.Now()
			for i, g := range f.gates {
				eventually(t, 3*time.Second, "a key that was unknown is let in", func() bool {
					return g.get(t, "/farms", key(fresh[len(f.gates)+i].Key)).status == http.StatusOK
				})
			}
			t.Logf("unknown keys let in %s after the end", time.Since(back).Round(time.Millisecond))
			f.revoke(t, doomed.ID)
			// The feeds may still be waiting for an answer that was lost.
			took := f.refusedEverywhere(t, doomed, time.Now(), 3*time.Second)
			t.Logf("a revocation holds everywhere after %s", took.Round(time.Millisecond))
			again := f.desk.createScoped(t, "farms:read")
			f.warm(t, again)
			f.revoke(t, again.ID)
			f.refusedEverywhere(t, again, time.Now(), time.Second)
			l.flawless(t, name)
		})
	}
}

// What others revoke while a gate is cut off holds there as soon as it is back.
func TestFleetPostgresARevocationDuringAnOutageArrivesAfterIt(t *testing.T) {
	f := startFleet(t, anyPostgres(t), 3, farms, "60s")
	for name, mode := range map[string]linkMode{"drops": linkDrop, "resets": linkReset} {
		k := f.desk.createScoped(t, "farms:read")
		f.warm(t, k)
		onLinks(mode, 0)(t, f)
		f.revoke(t, k.ID)
		for _, g := range f.gates {
			g.get(t, "/farms", key(k.Key)).passed(t) // from memory: nobody told it
		}
		onLinks(linkGood, 0)(t, f)
		took := f.refusedEverywhere(t, k, time.Now(), 3*time.Second)
		t.Logf("network %s: holds everywhere %s after the network is back", name, took.Round(time.Millisecond))
	}
}

func TestFleetPostgresALostNotificationConnectionDelaysNothing(t *testing.T) {
	f := startFleet(t, anyPostgres(t), 3, farms, "60s")
	const kill = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR wait_event = 'ClientRead' AND query = ''`
	steady := f.desk.createScoped(t, "farms:read")
	f.warm(t, steady)
	l := f.startTraffic(10*time.Millisecond, steady)
	var took []time.Duration
	killed := 0
	for range fleetSize(10, 100) {
		k := f.desk.createScoped(t, "farms:read")
		f.warm(t, k)
		out, err := f.pg.SQL("postgres", kill)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(out)
		if err != nil {
			t.Fatal(err)
		}
		killed += n
		f.revoke(t, k.ID)
		took = append(took, f.refusedEverywhere(t, k, time.Now(), time.Second))
	}
	l.flawless(t, "notification connections killed")
	slices.Sort(took)
	t.Logf("%d connections killed, %d revocations: p50 %s, maximum %s", killed, len(took),
		took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	if killed < len(took) {
		t.Errorf("only %d connections were killed", killed)
	}
}

func TestFleetPostgresMemoryIsTrustedForMaxStalenessAndNoLonger(t *testing.T) {
	pg := ownPostgres(t)
	for name, c := range map[string]struct {
		staleness   string
		least, most time.Duration // after the end of the database, until refused
	}{
		"2s": {staleness: "2s", least: 1500 * time.Millisecond, most: 2500 * time.Millisecond},
		"0":  {staleness: "0", most: 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFleet(t, pg, 2, farms, c.staleness)
			k := f.desk.createScoped(t, "farms:read")
			f.warm(t, k)
			streaming(t, f.gates[0])
			stream := openEvents(t, f.gates[0], k.Key)
			defer func() { _ = stream.Close() }()
			cut := ends(stream)
			if err := pg.Kill(); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			for _, g := range f.gates {
				for {
					a := g.get(t, "/farms", key(k.Key))
					took := time.Since(begin)
					if a.status == http.StatusOK {
						if took > c.most {
							t.Fatalf("still let in after %s", took)
						}
						continue
					}
					a.refused(t, http.StatusServiceUnavailable, "keystore_unavailable")
					if took < c.least {
						t.Errorf("refused after %s already", took)
					}
					t.Logf("refused %s after the database was killed", took.Round(time.Millisecond))
					break
				}
			}
			select {
			case <-cut:
				t.Logf("its stream ended after %s", time.Since(begin).Round(time.Millisecond))
			case <-time.After(3 * time.Second):
				t.Error("its stream is open still")
			}
			if err := pg.Start(); err != nil {
				t.Fatal(err)
			}
			back := time.Now()
			for _, g := range f.gates {
				eventually(t, 3*time.Second, "let in again", func() bool { return g.get(t, "/farms", key(k.Key)).status == http.StatusOK })
			}
			t.Logf("let in again after %s", time.Since(back).Round(time.Millisecond))
		})
	}
}

// A flood of unknown ids meets a slow database: those who are known notice
// nothing, and nobody waits long.
func TestFleetPostgresUnknownIDsOnASlowDatabaseSlowNobodyElse(t *testing.T) {
	f := startFleet(t, anyPostgres(t), 1, farms, "60s")
	g := f.gates[0]
	k := f.desk.createScoped(t, "farms:read")
	f.warm(t, k)
	onLinks(linkSlow, 5*time.Second)(t, f)
	stop := make(chan struct{})
	var flood sync.WaitGroup
	var mu sync.Mutex // guards got and slowest
	got, slowest := map[string]int{}, time.Duration(0)
	for w := range 40 {
		flood.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				unknown, _ := keystore.DefaultFormat().Generate()
				begin := time.Now()
				a, err := g.try(g.sites[0], "GET", "/farms", key(unknown), from("127.0.0."+strconv.Itoa(2+w)))
				mu.Lock()
				got[outcomeOf(a, err)]++
				slowest = max(slowest, time.Since(begin))
				mu.Unlock()
			}
		})
	}
	l := f.startTraffic(5*time.Millisecond, k)
	over := time.NewTimer(fleetSize(5*time.Second, 20*time.Second))
	<-over.C
	close(stop)
	flood.Wait()
	n, wrong, known := l.end()
	g.hangUp()
	t.Logf("flood: %v, slowest %s; known key: %d answers, wrong %v, slowest %s", got, slowest.Round(time.Millisecond), n, wrong, known.Round(time.Millisecond))
	if len(wrong) > 0 || known > time.Second {
		t.Errorf("a known key was refused or kept waiting: %v, %s", wrong, known)
	}
	if slowest > 3*time.Second {
		t.Errorf("an unknown key waited %s", slowest)
	}
	onLinks(linkGood, 0)(t, f)
	fresh := f.desk.createScoped(t, "farms:read")
	eventually(t, 3*time.Second, "a new key is let in", func() bool { return g.get(t, "/farms", key(fresh.Key)).status == http.StatusOK })
}

// A database that answers slowly still says that nothing has changed: memory stays
// fresh for longer than max_staleness.
func TestFleetPostgresASlowDatabaseKeepsMemoryFresh(t *testing.T) {
	staleness := fleetSize("4s", "12s")
	f := startFleet(t, anyPostgres(t), 3, farms, staleness)
	k := f.desk.createScoped(t, "farms:read")
	f.warm(t, k)
	l := f.startTraffic(10*time.Millisecond, k)
	delay := fleetSize(1500*time.Millisecond, 5*time.Second)
	onLinks(linkSlow, delay)(t, f)
	over := time.NewTimer(fleetSize(7*time.Second, 40*time.Second))
	<-over.C
	l.flawless(t, "answers "+delay.String()+" late, max_staleness "+staleness)
	f.revoke(t, k.ID)
	took := f.refusedEverywhere(t, k, time.Now(), 6*delay)
	t.Logf("a revocation holds everywhere after %s", took.Round(time.Millisecond))
	onLinks(linkGood, 0)(t, f)
}

// A gate that starts while the database is away serves as soon as it is there.
func TestFleetPostgresAGateThatStartsWithoutItsDatabaseNeedsNoRestart(t *testing.T) {
	f := startFleet(t, anyPostgres(t), 0, farms, "60s")
	l := newLink(t, f.pg.Addr())
	k := f.desk.createScoped(t, "farms:read")
	for name, mode := range map[string]linkMode{"resets": linkReset, "drops": linkDrop} {
		t.Run(name, func(t *testing.T) {
			l.set(mode, 0)
			g := start(t, pgConfig(farms.with("health /health ready /ready"), "60s", f.dsn(l.addr, f.schema), f.master))
			begin := time.Now()
			got := allAtOnce(100, func(int) string { return outcomeOf(g.try(g.sites[0], "GET", "/farms", key(k.Key))) })
			g.hangUp()
			wantCounts(t, "100 requests without a database", got, map[string]int{"keystore_unavailable": 100})
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("they took %s", took)
			}
			if a := g.get(t, "/ready"); a.status != http.StatusServiceUnavailable {
				t.Errorf("it says that it is ready: %s", a.body)
			}
			if a := g.get(t, "/health"); a.status != http.StatusOK {
				t.Errorf("it says that it is not alive: %s", a.body)
			}
			l.set(linkGood, 0)
			back := time.Now()
			eventually(t, 12*time.Second, "the key is let in", func() bool { return g.get(t, "/farms", key(k.Key)).status == http.StatusOK })
			t.Logf("let in %s after the network was there", time.Since(back).Round(time.Millisecond))
		})
	}
}
