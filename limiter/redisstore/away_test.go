package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hivegate/hivegate/limiter"
	"github.com/hivegate/hivegate/limiter/redisstore"
)

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %v: %s", within, what)
		case <-tick.C:
		}
	}
}

func up(t *testing.T, nodes ...*redisstore.Store) {
	t.Helper()
	for _, s := range nodes {
		s.Start()
		eventually(t, 10*time.Second, "the server is known to be there", s.Up)
	}
}

func one(l *limiter.Limit, subject string) limiter.Demand {
	return limiter.Demand{Limit: l, Subject: subject, Cost: 1}
}

func decide(t *testing.T, s *redisstore.Store, req *limiter.Request) limiter.Decision {
	t.Helper()
	var dec limiter.Decision
	if err := s.Decide(context.Background(), time.Now(), req, &dec); err != nil {
		t.Fatal(err)
	}
	return dec
}

// within fails the test when f takes longer than the switch to a node's own
// counters may; the rest is what a busy machine adds.
func within(t *testing.T, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if d := time.Since(begin); d > 250*time.Millisecond+500*time.Millisecond {
		t.Errorf("took %v", d)
	} else if testing.Verbose() {
		t.Logf("took %v", d)
	}
}

func TestALostServerIsNoticedInTimeAndNothingFails(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T) (url string, lose func()){
		"killed": func(t *testing.T) (string, func()) {
			r := startServer(t)
			return r.URL(), func() { _ = r.Kill() }
		},
		"paused": func(t *testing.T) (string, func()) {
			r := startServer(t)
			t.Cleanup(func() { _ = r.Resume() })
			return r.URL(), func() { _ = r.Pause() }
		},
		"read only": func(t *testing.T) (string, func()) {
			r := startServer(t)
			return r.URL(), func() { _, _ = r.Do("REPLICAOF", "127.0.0.1", "1") }
		},
	} {
		for _, lease := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " lease ", lease), func(t *testing.T) {
				url, lose := lose(t)
				s := open(t, url, func(o *redisstore.Options) { o.Lease = lease })
				up(t, s)
				l := mustLimit(t, "plan", 10, time.Hour, 0)
				req := &limiter.Request{Demands: []limiter.Demand{one(l, "ada")}, Holds: []limiter.Hold{{Name: "all", Subject: "ada", Max: 6}}}
				for i := range 4 {
					if dec := decide(t, s, req); dec.Outcome != limiter.Allowed || dec.Degraded || dec.States[0].Remaining != 9-i {
						t.Fatalf("request %d: %+v", i, dec)
					}
				}
				lose()
				for i := range 2 { // slots that are held count on
					within(t, func() {
						if dec := decide(t, s, req); dec.Outcome != limiter.Allowed || !dec.Degraded || dec.States[0].Remaining != 5-i {
							t.Fatalf("request %d alone: %+v", i, dec)
						}
					})
				}
				if dec := decide(t, s, req); dec.Outcome != limiter.ConcurrencyLimited || !dec.Degraded || dec.RetryAfter != time.Second {
					t.Fatalf("a seventh of six slots: %+v", dec)
				}
				req.Holds = nil
				for range 4 {
					decide(t, s, req)
				}
				if dec := decide(t, s, req); dec.Outcome != limiter.RateLimited || dec.RetryAfter < 5*time.Minute {
					t.Fatalf("an eleventh of ten: %+v", dec)
				}
				if s.Up() || !errors.Is(s.Ping(context.Background()), limiter.ErrUnavailable) {
					t.Error("the server is still said to be there")
				}
				for how, want := range map[limiter.OnFailure]string{limiter.FailDeny: "error", limiter.FailAllow: "allowed", limiter.FailLocal: "refused"} {
					req.OnFailure = how
					var dec limiter.Decision
					err := s.Decide(context.Background(), time.Now(), req, &dec)
					got := "refused"
					switch {
					case err != nil && errors.Is(err, limiter.ErrUnavailable):
						got = "error"
					case err == nil && dec.Outcome == limiter.Allowed && dec.Degraded && dec.States[0].Wait == 0 && dec.RetryAfter == 0:
						got = "allowed"
					}
					if got != want {
						t.Errorf("on_failure %v: %s (%+v, %v)", how, got, dec, err)
					}
				}
				var st [1]limiter.State
				if err := s.Peek(context.Background(), time.Now(), req.Demands, st[:]); err != nil || st[0].Remaining != 0 {
					t.Errorf("peek: %+v %v", st, err)
				}
			})
		}
	}
}

// TestTheWayBackMakesNobodysQuotaAnew: the server comes back with what it knew, or
// with nothing.
func TestTheWayBackMakesNobodysQuotaAnew(t *testing.T) {
	for _, forgetful := range []bool{false, true} {
		for _, lease := range []bool{false, true} {
			t.Run(fmt.Sprint("forgetful ", forgetful, " lease ", lease), func(t *testing.T) {
				r := startServer(t)
				var nodes []*redisstore.Store
				for range 3 {
					nodes = append(nodes, open(t, r.URL(), func(o *redisstore.Options) { o.Lease = lease }))
				}
				up(t, nodes...)
				l := mustLimit(t, "plan", 100, 24*time.Hour, 0)
				ask := func(node int, subject string) limiter.Decision {
					return decide(t, nodes[node], &limiter.Request{Demands: []limiter.Demand{one(l, subject)}})
				}
				for i := range 30 {
					ask(i%3, "ada")
				}
				for range 100 {
					ask(0, "spent")
				}
				hold := &limiter.Request{Holds: []limiter.Hold{{Name: "all", Subject: "ada", Max: 2}}}
				held := []limiter.Decision{decide(t, nodes[0], hold), decide(t, nodes[1], hold)}
				if forgetful {
					_ = r.Kill()
				} else {
					_ = r.Pause()
				}
				for i := range 30 { // ten on each node alone
					if dec := ask(i%3, "ada"); dec.Outcome != limiter.Allowed {
						t.Fatalf("request %d alone: %+v", i, dec)
					}
				}
				for _, s := range nodes {
					if s.Up() {
						t.Fatal("the loss was not noticed")
					}
				}
				if forgetful {
					if err := r.Start(); err != nil {
						t.Fatal(err)
					}
				} else {
					_ = r.Resume()
				}
				up(t, nodes...)
				// 30 before and 30 alone, whoever let them through. A node knows of the others'
				// as of its own last request.
				eventually(t, 5*time.Second, "all is told", func() bool {
					var st [1]limiter.State
					if err := nodes[2].Peek(context.Background(), time.Now(), []limiter.Demand{one(l, "ada")}, st[:]); err != nil {
						t.Fatal(err)
					}
					return st[0].Remaining <= 45
				})
				// What was on its way when the server stopped it still carried out: a request
				// of each node, and in lease mode a batch of at most a tenth as well.
				least := 33
				if lease {
					least = 6
				}
				if dec := ask(2, "ada"); dec.Outcome != limiter.Allowed || dec.Degraded || dec.States[0].Remaining < least {
					t.Fatalf("afterwards: %+v, want about 39 left of 100", dec)
				}
				// Nobody asked for it during the loss.
				for i := range 3 {
					if dec := ask(i, "spent"); dec.Outcome != limiter.RateLimited {
						t.Fatalf("node %d: a spent quota was made anew: %+v", i, dec)
					}
				}
				// Slots are held as before, and released as before.
				if dec := decide(t, nodes[2], hold); dec.Outcome != limiter.ConcurrencyLimited {
					t.Fatalf("a third of two slots: %+v", dec)
				}
				nodes[0].Release(hold, &held[0])
				if dec := decide(t, nodes[2], hold); dec.Outcome != limiter.Allowed {
					t.Fatalf("a slot that was given back: %+v", dec)
				}
			})
		}
	}
}

// TestANodeWhoseClockIsAnHourOffCountsLikeTheOthers: the server's clock counts.
func TestANodeWhoseClockIsAnHourOffCountsLikeTheOthers(t *testing.T) {
	for _, lease := range []bool{false, true} {
		t.Run(fmt.Sprint("lease ", lease), func(t *testing.T) {
			r := startServer(t)
			var nodes []*redisstore.Store
			for range 3 {
				nodes = append(nodes, open(t, slow(r), func(o *redisstore.Options) { o.Lease = lease }))
			}
			up(t, nodes...)
			l := mustLimit(t, "plan", 300, 24*time.Hour, 0)
			offsets := []time.Duration{0, time.Hour, -time.Hour}
			passed := 0
			for i := range 900 {
				n := i % 3
				var dec limiter.Decision
				req := &limiter.Request{Demands: []limiter.Demand{one(l, "ada")}}
				if err := nodes[n].Decide(context.Background(), time.Now().Add(offsets[n]), req, &dec); err != nil {
					t.Fatal(err)
				}
				if dec.Outcome == limiter.Allowed {
					passed++
				} else if dec.RetryAfter > 10*time.Minute {
					t.Fatalf("node %d tells to wait %v for one of 300 a day", n, dec.RetryAfter)
				}
			}
			if passed > 300 || passed < 285 {
				t.Fatalf("%d of 300 were let through", passed)
			}
		})
	}
}

func TestKeysSayWhoseTheyAreAndExpireByThemselves(t *testing.T) {
	r := startServer(t)
	s := open(t, slow(r)+"&prefix=eu:", nil)
	up(t, s)
	long := strings.Repeat("x", 100_000)
	subjects := []string{"owner:acme", "jwt:supabase:auth0|7", "2001:db8::/64", "127.0.0.1 key_0123456789ab", long, "", "a}b{c", "}", "żółw", "~tilde"}
	for _, subject := range subjects {
		decide(t, s, &limiter.Request{
			Demands: []limiter.Demand{one(mustLimit(t, "plan", 60, time.Minute, 0), subject)},
			Holds:   []limiter.Hold{{Name: "all", Subject: subject, Max: 1}},
		})
	}
	all, err := r.Do("KEYS", "*")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(all, "eu:{owner:acme}b:plan") || !strings.Contains(all, "eu:{owner:acme}s:all") {
		t.Errorf("keys: %s", all)
	}
	count, _ := r.Do("DBSIZE")
	if n, _ := strconv.Atoi(count); n > 2*len(subjects)+1 || n < 2*len(subjects) {
		t.Errorf("%s keys for %d subjects, each with a bucket and a slot", count, len(subjects))
	}
	expiring, err := r.Do("EVAL", `local bad, longest = 0, 0
		for _, k in ipairs(redis.call('KEYS', '*')) do
			local ttl = redis.call('PTTL', k)
			if ttl < 0 or ttl > 62000 then bad = bad + 1 end
			if #k > longest then longest = #k end
		end
		return bad .. ' ' .. longest`, "0")
	if err != nil {
		t.Fatal(err)
	}
	bad, longest, _ := strings.Cut(expiring, " ")
	if n, _ := strconv.Atoi(longest); bad != "0" || n > 120 {
		t.Errorf("%s keys do not expire in time, the longest has %s bytes", bad, longest)
	}
}

func TestAServerThatHasForgottenTheScriptIsTaughtItAgain(t *testing.T) {
	r := startServer(t)
	s := open(t, slow(r), nil)
	up(t, s)
	l := mustLimit(t, "plan", 60, time.Minute, 0)
	for range 3 {
		if _, err := r.Do("SCRIPT", "FLUSH"); err != nil {
			t.Fatal(err)
		}
		if dec := decide(t, s, &limiter.Request{Demands: []limiter.Demand{one(l, "ada")}}); dec.Degraded {
			t.Fatal("the server was taken for away")
		}
	}
}

// TestALeasedTokenIsNotLostWithItsNode: a killed node's tokens are refilled, and a
// closed one's come back.
func TestAClosedNodeBringsItsTokensBack(t *testing.T) {
	r := startServer(t)
	addr, err := redisstore.ParseURL(slow(r))
	if err != nil {
		t.Fatal(err)
	}
	s := redisstore.New(redisstore.Options{Address: addr, Lease: true})
	up(t, s)
	l := mustLimit(t, "plan", 10_000, 24*time.Hour, 0)
	passed := 0
	for end := time.Now().Add(600 * time.Millisecond); time.Now().Before(end); {
		if decide(t, s, &limiter.Request{Demands: []limiter.Demand{one(l, "ada")}}).Outcome == limiter.Allowed {
			passed++
		}
	}
	if s.Local() == 0 {
		t.Fatal("nothing was decided on leased tokens")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := open(t, slow(r), nil)
	up(t, other)
	var st [1]limiter.State
	if err := other.Peek(context.Background(), time.Now(), []limiter.Demand{one(l, "ada")}, st[:]); err != nil {
		t.Fatal(err)
	}
	if got := st[0].Remaining; got != 10_000-passed {
		t.Fatalf("%d left after %d of 10,000, %d of them on leased tokens", got, passed, s.Local())
	}
}

// TestALimiterThatIsOnlyMadeConnectsToNothing: validating a configuration makes one
// and closes it.
func TestALimiterThatIsOnlyMadeConnectsToNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan struct{}, 1)
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_ = conn.Close()
			came <- struct{}{}
		}
		close(came)
	}()
	addr, err := redisstore.ParseURL("redis://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, lease := range []bool{false, true} {
		if err := redisstore.New(redisstore.Options{Address: addr, Lease: lease}).Close(); err != nil {
			t.Fatal(err)
		}
	}
	_ = listener.Close()
	if _, connected := <-came; connected {
		t.Fatal("it has connected")
	}
}
