package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

// A flood of bad keys: malformed ones, unknown ids, and wrong secrets of ids
// that exist. HIVEGATE_FLOOD=full makes it 2,000 a second for 20 s, else
// it is a short one of a lower rate, for the race detector's sake. What is measured
// and kept is `make flood`.
type flood struct {
	rate  int // a second
	lasts time.Duration
}

func floodSize() flood {
	if os.Getenv("HIVEGATE_FLOOD") == "full" {
		return flood{rate: 2000, lasts: 20 * time.Second}
	}
	return flood{rate: 400, lasts: 3 * time.Second}
}

const flooder = "127.0.0.66"

func TestFloodOfBadKeysLeavesVerifiedCallersAlone(t *testing.T) {
	for _, c := range []struct{ name, global string }{
		{"with a master key", ""},
		{"without a master key", "master_key none\n"},
	} {
		t.Run(c.name, func(t *testing.T) { floodOnce(t, c.global, floodSize()) })
	}
}

func floodOnce(t *testing.T, global string, f flood) {
	t.Helper()
	// A real cost: what the flood tries to make the gate pay.
	g := start(t, config{global: dear + global, gate: oneRoute})
	verified := g.createScoped(t, "farms:read")
	var attacked []keystore.ID
	for range 3 {
		attacked = append(attacked, idOf(t, g.createScoped(t, "farms:read")))
	}
	g.get(t, "/farms", key(verified.Key)).passed(t)

	calm := g.latencies(t, verified.Key, f.lasts/2, nil)

	// What as many requests cost that carry no key at all: what a busy machine
	// and this process have to do with it.
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan int, 1)
	go func() {
		stopped <- g.pace(ctx, f.rate, func(int) { _, _ = g.try(g.sites[0], "GET", "/farms", from(flooder)) })
	}()
	control := g.latencies(t, verified.Key, f.lasts/2, nil)
	cancel()
	<-stopped

	before := g.hashes(t)
	ctx, cancel = context.WithCancel(context.Background())
	defer cancel()
	answers := map[string]int{}
	var mu sync.Mutex
	bad := func(i int) string {
		switch i % 4 {
		case 0: // malformed
			return fmt.Sprintf("hive_sk_%040d", i)
		case 1: // unknown ids
			k, _ := keystore.DefaultFormat().Generate()
			return k
		default: // wrong secrets of known ids
			return keystore.DefaultFormat().Regenerate(attacked[i%len(attacked)])
		}
	}
	begin := time.Now()
	sent := make(chan int, 1)
	go func() {
		sent <- g.pace(ctx, f.rate, func(i int) {
			a, err := g.try(g.sites[0], "GET", "/farms", key(bad(i)), from(flooder))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				answers["error"]++
				return
			}
			answers[fmt.Sprint(a.status, " ", a.reason())]++
			if a.status < 400 {
				t.Errorf("a bad key got %d", a.status)
			}
		})
	}()

	// While it goes on: the verified caller from elsewhere and from the flooding
	// address, and a key never seen before, from the flooding address.
	under := g.latencies(t, verified.Key, f.lasts/2, nil)
	fromThere := g.latencies(t, verified.Key, f.lasts/4, from(flooder))
	fresh := g.createScoped(t, "farms:read")
	firstUse := time.Now()
	a := g.get(t, "/farms", key(fresh.Key), from(flooder))
	if a.status == http.StatusServiceUnavailable && a.reason() == "overloaded" {
		// Without a stored digest a new key waits its turn with the others: it
		// may be told to come back, and is let in then.
		eventually(t, 5*time.Second, "a new key gets in", func() bool {
			return g.get(t, "/farms", key(fresh.Key), from(flooder)).status == 200
		})
	} else if a.status != 200 {
		t.Errorf("a valid key that was never seen, from the flooding address: %d %s", a.status, a.reason())
	}
	t.Logf("a new key from the flooding address was let in after %s", time.Since(firstUse).Round(time.Millisecond))
	if rest := f.lasts - time.Since(begin); rest > 0 {
		<-time.After(rest)
	}
	cancel()
	n := <-sent
	took := time.Since(begin)
	hashes := g.hashes(t) - before

	t.Logf("flood: %d bad keys in %s (%.0f a second): %v", n, took.Round(time.Millisecond), float64(n)/took.Seconds(), answers)
	t.Logf("bcrypt comparisons meanwhile: %g", hashes)
	t.Logf("verified key without the flood:                 %s", calm)
	t.Logf("verified key with as many requests without key: %s", control)
	t.Logf("verified key with the flood:                    %s", under)
	t.Logf("verified key with it, from the same address:    %s", fromThere)

	// Each pair of address and id has its budget of 10 a minute; then no hash
	// for it at all. A new key costs one more without a stored digest.
	budget := float64(len(attacked))*(10+10*took.Minutes()+1) + 1
	if hashes > budget {
		t.Errorf("%g comparisons, at most %g are within the budgets", hashes, budget)
	}
	for what, l := range map[string]latency{"from elsewhere": under, "from the same address": fromThere} {
		if l.failed > 0 {
			t.Errorf("%d of %d requests of a verified key %s failed", l.failed, l.n, what)
		}
	}
	if answers["429 auth_attempts_limited"] == 0 {
		t.Error("the flood was never limited")
	}
	// Bounded by what scheduling on a busy machine explains; waiting for hashes
	// would make it hundreds of milliseconds.
	if limit := max(20*calm.p50, 5*control.p50, 40*time.Millisecond); under.p50 > limit {
		t.Errorf("p50 of a verified key: %s with the flood, %s with as many requests without a key, %s alone", under.p50, control.p50, calm.p50)
	}
}

// pace calls send rate times a second, each on a goroutine, until the context
// ends; at most 256 at once. It returns how many it started.
func (g *gate) pace(ctx context.Context, rate int, send func(i int)) int {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 256)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begin, n := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			return n
		case <-tick.C:
		}
		for due := int(time.Since(begin).Seconds() * float64(rate)); n < due; n++ {
			i := n
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				wg.Wait()
				return n
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer func() { <-slots }()
				send(i)
			}()
		}
	}
}

// latency sums up some requests.
type latency struct {
	n, failed     int
	p50, p99, max time.Duration
}

func (l latency) String() string {
	return fmt.Sprintf("%6d requests, %d failed, p50 %-10s p99 %-10s max %s", l.n, l.failed,
		l.p50.Round(time.Microsecond), l.p99.Round(time.Microsecond), l.max.Round(time.Microsecond))
}

// latencies sends a request after the other, a hundred a second, for that long.
func (g *gate) latencies(t testing.TB, k string, lasts time.Duration, source change) latency {
	t.Helper()
	changes := []change{key(k)}
	if source != nil {
		changes = append(changes, source)
	}
	var (
		all    []time.Duration
		failed int
	)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(lasts); time.Now().Before(end); <-tick.C {
		begin := time.Now()
		a, err := g.try(g.sites[0], "GET", "/farms", changes...)
		all = append(all, time.Since(begin))
		if err != nil || a.status != 200 {
			failed++
		}
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(len(all)-1, int(q*float64(len(all))))] }
	return latency{n: len(all), failed: failed, p50: at(0.5), p99: at(0.99), max: all[len(all)-1]}
}

// One address and one id: past the budget the pair is refused without hashing,
// and nobody else is.
func TestGuessingAtOneKeyIsLimitedPerAddressAndID(t *testing.T) {
	for _, c := range []struct {
		name, global string
		digest       bool
	}{{"with a master key", cheap, true}, {"without a master key", cheap + "master_key none\n", false}} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, config{global: c.global, gate: oneRoute})
			k, other := g.createScoped(t, "farms:read"), g.createScoped(t, "farms:read")
			const attacker = "127.0.0.70"
			before := g.hashes(t)
			limited := 0
			for range 30 {
				a := g.get(t, "/farms", key(wrong(t, k)), from(attacker))
				if a.status == 429 {
					a.refused(t, 429, "auth_attempts_limited")
					limited++
				} else {
					a.refused(t, 401, "api_key_invalid")
				}
			}
			if limited != 20 {
				t.Errorf("%d of 30 guesses were limited, want 20", limited)
			}
			if hashes := g.hashes(t) - before; hashes > 10 || c.digest && hashes != 0 {
				t.Errorf("%g comparisons for 30 guesses", hashes)
			}
			// The right key: from elsewhere always, from there when nothing needs hashing.
			g.get(t, "/farms", key(other.Key), from(attacker)).passed(t)
			if c.digest {
				g.get(t, "/farms", key(k.Key), from(attacker)).passed(t)
			} else {
				g.get(t, "/farms", key(k.Key), from(attacker)).refused(t, 429, "auth_attempts_limited")
			}
			g.get(t, "/farms", key(k.Key)).passed(t)
			// Verified by now, so it passes from there as well.
			g.get(t, "/farms", key(k.Key), from(attacker)).passed(t)
		})
	}
}

func TestUnknownIDsAreCountedPerAddressAndHurtNobodyElse(t *testing.T) {
	g := start(t, config{global: cheap, gate: oneRoute})
	k := g.createScoped(t, "farms:read")
	const attacker = "127.0.0.71"
	unknown := func() string { u, _ := keystore.DefaultFormat().Generate(); return u }
	for i := range 10 {
		a := g.get(t, "/farms", key(unknown()), from(attacker))
		a.refused(t, 401, "api_key_invalid")
		if want := fmt.Sprint(9 - i); a.header.Get("X-Ratelimit-Remaining") != want || a.header.Get("X-Ratelimit-Limit") != "10" {
			t.Errorf("after %d failures: %s of %s left, want %s of 10", i+1, a.header.Get("X-Ratelimit-Remaining"), a.header.Get("X-Ratelimit-Limit"), want)
		}
	}
	a := g.get(t, "/farms", key(unknown()), from(attacker))
	a.refused(t, 429, "auth_attempts_limited")
	if r := a.header.Get("Retry-After"); r != "6" && r != "5" {
		t.Errorf("Retry-After %q of a bucket that refills one in 6 s", r)
	}
	g.get(t, "/farms", key(k.Key), from(attacker)).passed(t)
	g.get(t, "/farms", key(unknown())).refused(t, 401, "api_key_invalid")
	// Malformed and missing ones are not counted, nor are they refused for it.
	for range 15 {
		g.get(t, "/farms", key("hive_sk_short"), from("127.0.0.72")).refused(t, 401, "api_key_invalid")
		g.get(t, "/farms", from("127.0.0.72")).refused(t, 401, "missing_credentials")
	}
	g.get(t, "/farms", key(unknown()), from("127.0.0.72")).refused(t, 401, "api_key_invalid")
}
