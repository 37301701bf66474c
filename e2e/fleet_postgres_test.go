package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFleetPostgresARevocationReachesAllNodesWithinASecond(t *testing.T) {
	f := startFleet(t, anyPostgres(t), 3, farms, "60s")
	rounds := fleetSize(12, 200)
	keys := make([]created, rounds)
	for i := range keys {
		keys[i] = f.desk.createScoped(t, "farms:read")
	}
	steady := []created{f.desk.createScoped(t, "farms:read"), f.desk.createScoped(t, "farms:read")}
	l := f.startTraffic(fleetSize(20*time.Millisecond, 5*time.Millisecond), steady...)
	var took []time.Duration
	for _, k := range keys {
		f.warm(t, k)
		f.revoke(t, k.ID)
		took = append(took, f.refusedEverywhere(t, k, time.Now(), time.Second))
	}
	l.flawless(t, "beside the revocations")
	slices.Sort(took)
	t.Logf("%d revocations on 3 nodes: p50 %s, p99 %s, maximum %s", rounds, took[len(took)/2].Round(100*time.Microsecond),
		took[len(took)*99/100].Round(100*time.Microsecond), took[len(took)-1].Round(100*time.Microsecond))
	for i, g := range f.gates {
		if n := g.metric(t, "hivegate_revocation_lag_seconds_count"); n < float64(rounds) {
			t.Errorf("gate %d reports %v revocations, want %d", i, n, rounds)
		}
	}
}

func TestFleetPostgresOpenStreamsOnAllNodesEndWithinASecond(t *testing.T) {
	f := startFleet(t, anyPostgres(t), 3, farms, "60s")
	k := f.desk.createScoped(t, "farms:read")
	var ended []<-chan struct{}
	for _, g := range f.gates {
		streaming(t, g)
		for _, open := range []func(*testing.T, *gate, string) io.ReadCloser{openEvents, openSocket} {
			stream := open(t, g, k.Key)
			defer func() { _ = stream.Close() }()
			ended = append(ended, ends(stream))
		}
	}
	f.revoke(t, k.ID)
	begin := time.Now()
	late := time.After(1200 * time.Millisecond) // a second, and the way through the pipe
	for i, e := range ended {
		select {
		case <-e:
			t.Logf("stream %d ended after %s", i, time.Since(begin).Round(time.Millisecond))
		case <-late:
			t.Fatalf("stream %d is open still", i)
		}
	}
}

func TestFleetPostgresRevokeWaitReturnsWhenEveryNodeHasConfirmed(t *testing.T) {
	f := startFleet(t, anyPostgres(t), 3, farms, "60s")
	for range fleetSize(3, 30) {
		k := f.desk.createScoped(t, "farms:read")
		f.warm(t, k)
		begin := time.Now()
		out := f.desk.hivegate(t, "apikey", "revoke", k.ID, "--wait").ok(t)
		t.Logf("returned after %s: %s", time.Since(begin).Round(time.Millisecond), strings.TrimSpace(out.stdout))
		for _, g := range f.gates { // at once: nothing is waited for here
			g.get(t, "/farms", key(k.Key)).refused(t, 401, "api_key_revoked")
		}
		if !strings.Contains(out.stdout, "All 3 gates") {
			t.Errorf("it does not say who confirmed: %q", out.stdout)
		}
	}

	// One that ended is not waited for.
	f.gates[2].stop(t)
	k := f.desk.createScoped(t, "farms:read")
	if out := f.desk.hivegate(t, "apikey", "revoke", k.ID, "--wait").ok(t); !strings.Contains(out.stdout, "All 2 gates") {
		t.Errorf("after one gate ended: %q", out.stdout)
	}
	// One that is cut off still answers from memory: it is named.
	f.links[1].set(linkDrop, 0)
	k = f.desk.createScoped(t, "farms:read")
	out := f.desk.hivegate(t, "apikey", "revoke", k.ID, "--wait")
	pid := fmt.Sprintf("pid %d ", f.gates[1].cmd.Process.Pid)
	if out.code != 1 || !strings.Contains(out.stderr, pid) || strings.Contains(out.stderr, fmt.Sprintf("pid %d ", f.gates[0].cmd.Process.Pid)) {
		t.Errorf("exit code %d, want 1 and the name of %q alone: %s", out.code, pid, out.stderr)
	}
	f.links[1].set(linkGood, 0)
	eventually(t, 15*time.Second, "the gate hears of it", func() bool {
		return f.gates[1].get(t, "/farms", key(k.Key)).reason() == "api_key_revoked"
	})
}

func TestFleetPostgresOf100RequestsWithOneCodeOnTwoNodesExactlyOnePasses(t *testing.T) {
	f := startFleet(t, anyPostgres(t), 2, guarded(""), "60s")
	a, b := f.gates[0], f.gates[1]
	k := f.desk.createOwned(t, "acme", "farms:read")
	factor := f.desk.enroll(t, "--owner", "acme")
	for what, code := range map[string]string{"code": factor.next(t), "recovery code": factor.recovery[0]} {
		hits := a.farm.hits.Load() + b.farm.hits.Load()
		got := allAtOnce(100, func(i int) string {
			g := f.gates[i%2]
			return outcomeOf(g.try(g.sites[0], "POST", "/guarded", key(k.Key), withCode(code)))
		})
		a.hangUp()
		b.hangUp()
		wantCounts(t, what, got, map[string]int{"passed": 1, "second_factor_invalid": 99})
		if n := a.farm.hits.Load() + b.farm.hits.Load() - hits; n != 1 {
			t.Errorf("%s: %d requests reached a backend, want 1", what, n)
		}
	}
	wrong := factor.wrong(t, 40)
	got := allAtOnce(len(wrong), func(i int) string {
		g := f.gates[i%2]
		return outcomeOf(g.try(g.sites[0], "POST", "/guarded", key(k.Key), withCode(wrong[i])))
	})
	wantCounts(t, "40 guesses on two nodes", got, map[string]int{"second_factor_invalid": 5, "second_factor_locked": 35})
}

func TestFleetPostgresNodesThatStartAtOnceMakeOneKeystore(t *testing.T) {
	f := startFleet(t, anyPostgres(t), 0, farms, "60s")
	dsn := f.dsn(f.pg.Addr(), f.schema+"_together") // nobody has made this one
	var gates []*gate
	for range 3 {
		gates = append(gates, prepare(t, pgConfig(farms, "60s", dsn, f.master)))
	}
	allAtOnce(len(gates), func(i int) string { gates[i].run(t); return "" })
	k := gates[0].createScoped(t, "farms:read")
	for _, g := range gates {
		g.get(t, "/farms", key(k.Key)).passed(t)
	}
}

// The script of examples/fleet does what its compose file does, without containers.
func TestFleetExampleStartsTwoGatesOnOnePostgresAndOneRedis(t *testing.T) {
	anyPostgres(t) // installed, or the test cannot run
	if _, err := exec.LookPath("redis-server"); err != nil && os.Getenv("CI") == "" {
		t.Skip("redis-server is not installed: run internal/testservers/install.sh as root")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "../examples/fleet/fleet.sh", "--check")
	cmd.Env = append(cleanEnv(), "HIVEGATE="+program)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "both gates let the key pass, and refused it") {
		t.Errorf("%v\n%s", err, out)
	}
}
