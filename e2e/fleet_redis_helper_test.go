package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hivegate/hivegate/internal/testservers"
)

// ownRedis starts a Redis that the test may kill.
func ownRedis(t testing.TB, args ...string) *testservers.Redis {
	t.Helper()
	r, err := testservers.StartRedis(args...)
	needServer(t, err)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// redisFleet is some gates on one Redis, each through a link of its own. Keys are
// in one SQLite file, so that nothing but Redis can fail.
type redisFleet struct {
	redis *testservers.Redis
	gates []*gate
	links []*link
}

const fleetGate = `
	health /healthz ready /readyz
	routes {
		GET /farms farms:read
		GET /hold farms:read class=slots
		GET /deny farms:read on_failure=deny
		GET /allow farms:read on_failure=allow
	}
`

// startRedisFleet starts n gates. limiter stands in the block of the limiter, with
// "memory" it is that instead. After "direct" there are no links, after "patient" the
// gates wait for Redis longer than they would for a caller's sake. global stands in the
// global block.
func startRedisFleet(t testing.TB, r *testservers.Redis, n int, limiter, global string) *redisFleet {
	t.Helper()
	f := &redisFleet{redis: r}
	keys := t.TempDir() + "/keys.db"
	for range n {
		c := config{gate: fleetGate, global: cheap + "keystore sqlite " + keys + "\nclass slots\n" + global}
		limiter, query, direct := limiter, "", false
		if rest, ok := strings.CutPrefix(limiter, "direct "); ok {
			limiter, direct = rest, true
		}
		if rest, ok := strings.CutPrefix(limiter, "patient "); ok {
			limiter, query = rest, "?timeout=2s"
		}
		if limiter == "memory" {
			c.global += "\nlimiter memory\n"
		} else {
			addr := r.Addr()
			if !direct {
				l := newLink(t, addr)
				f.links, addr = append(f.links, l), l.addr
			}
			c.global += "\nlimiter redis {env.FLEET_REDIS} {\n" + limiter + "\n}\n"
			c.env = []string{"FLEET_REDIS=redis://" + addr + query}
		}
		g := start(t, c)
		g.farm.handle("/farms", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
		f.gates = append(f.gates, g)
	}
	return f
}

// upEverywhere waits until all gates say that the limiter is there, or is not.
func (f *redisFleet) upEverywhere(t testing.TB, within time.Duration, want float64) {
	t.Helper()
	for _, g := range f.gates {
		eventually(t, within, fmt.Sprintf("hivegate_store_up of the limiter is %g", want), func() bool {
			return g.metric(t, "hivegate_store_up", `store="limiter"`) == want
		})
	}
}

// owners makes n keys, each of an owner of its own.
func (f *redisFleet) owners(t testing.TB, n int, args ...string) []created {
	t.Helper()
	keys := make([]created, n)
	for i := range keys {
		keys[i] = f.gates[0].create(t, append([]string{"--scope", "farms:read", "--owner", fmt.Sprintf("owner-%d", i)}, args...)...)
	}
	return keys
}

// startTraffic sends valid requests to all gates; as pgFleet's.
func (f *redisFleet) startTraffic(every time.Duration, path string, keys ...created) *traffic {
	return startTrafficOn(f.gates, every, path, keys...)
}

func startTrafficOn(gates []*gate, every time.Duration, path string, keys ...created) *traffic {
	l := &traffic{stop: make(chan struct{}), wrong: map[string]int{}}
	for i, g := range gates {
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
					a, err := g.try(g.sites[0], "GET", path, key(keys[n%len(keys)].Key))
					l.note(a, err, time.Since(begin))
				}
			})
		}
	}
	return l
}

// count is what became of one owner's requests.
type count struct {
	passed, limited, wrong atomic.Int64

	mu          sync.Mutex // guards what follows
	first, last time.Time  // first sent, last sent
	firstAnswer time.Time
	lastAnswer  time.Time
}

// ask sends one request and counts it.
func (c *count) ask(g *gate, path, k string) {
	begin := time.Now()
	c.mu.Lock()
	if c.first.IsZero() {
		c.first = begin
	}
	if begin.After(c.last) {
		c.last = begin
	}
	c.mu.Unlock()
	a, err := g.try(g.sites[0], "GET", path, key(k))
	end := time.Now()
	c.mu.Lock()
	if c.firstAnswer.IsZero() {
		c.firstAnswer = end
	}
	if end.After(c.lastAnswer) {
		c.lastAnswer = end
	}
	c.mu.Unlock()
	switch {
	case err == nil && a.status == 200:
		c.passed.Add(1)
	case err == nil && a.status == 429:
		c.limited.Add(1)
	default:
		c.wrong.Add(1)
	}
}

// cpuOf is the CPU time that a gate's process has used.
func (g *gate) cpuOf(t testing.TB) time.Duration {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return cpuOfStat(t, string(raw))
}

// cpuOfStat reads utime and stime, in hundredths of a second on Linux.
func cpuOfStat(t testing.TB, stat string) time.Duration {
	t.Helper()
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		t.Fatalf("stat %q", stat)
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		t.Fatalf("stat %q", stat)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
