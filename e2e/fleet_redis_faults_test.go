package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// redisFault is something that befalls the Redis of a fleet. It returns when it is
// over; wait lets time pass under load.
type redisFault struct {
	name string
	// away: the gates must notice, and notice that it is over.
	away bool
	do   func(t *testing.T, f *redisFleet, wait func(time.Duration))
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// redisFaults are all of them; long is how long each lasts, pause how long the server
// stands still.
func redisFaults(long, pause time.Duration) []redisFault {
	cut := func(mode linkMode, delay time.Duration) func(*testing.T, *redisFleet, func(time.Duration)) {
		return func(_ *testing.T, f *redisFleet, wait func(time.Duration)) {
			for _, l := range f.links {
				l.set(mode, delay)
			}
			wait(long)
			for _, l := range f.links {
				l.set(linkGood, 0)
				// What was dropped on a connection leaves it of no use.
				l.lead(f.redis.Addr())
			}
		}
	}
	return []redisFault{
		{"kill -9 and started again", true, func(t *testing.T, f *redisFleet, wait func(time.Duration)) {
			noError(t, f.redis.Kill())
			wait(long)
			noError(t, f.redis.Start())
		}},
		{"kill -9 and started again at once", false, func(t *testing.T, f *redisFleet, _ func(time.Duration)) {
			noError(t, f.redis.Kill())
			noError(t, f.redis.Start())
		}},
		{"SIGSTOP", true, func(t *testing.T, f *redisFleet, wait func(time.Duration)) {
			noError(t, f.redis.Pause())
			wait(pause)
			noError(t, f.redis.Resume())
		}},
		{"network drops everything", true, cut(linkDrop, 0)},
		{"network delays by a second", true, cut(linkSlow, time.Second)},
		{"network resets connections", true, cut(linkReset, 0)},
		{"network of one gate cut", false, func(_ *testing.T, f *redisFleet, wait func(time.Duration)) {
			f.links[1].set(linkReset, 0)
			wait(long)
			f.links[1].set(linkGood, 0)
		}},
		{"network that flaps", false, func(_ *testing.T, f *redisFleet, wait func(time.Duration)) {
			for i := range 8 {
				f.links[i%3].lead(f.redis.Addr())
				wait(long / 8)
			}
		}},
		{"failover to an empty Redis", false, func(t *testing.T, f *redisFleet, wait func(time.Duration)) {
			empty := ownRedis(t)
			for _, l := range f.links {
				l.lead(empty.Addr())
			}
			wait(long)
			for _, l := range f.links {
				l.lead(f.redis.Addr())
			}
		}},
	}
}

// TestFleetFaultsOfRedisHarmNoValidCaller: under steady load no valid caller gets a
// wrong answer, whatever befalls Redis, and none whose quota is spent gets a new
// one; afterwards the fleet shares its counters again.
func TestFleetFaultsOfRedisHarmNoValidCaller(t *testing.T) {
	long, pause, modes := 600*time.Millisecond, 600*time.Millisecond, []string{"strict"}
	if full("HIVEGATE_FAULTS") {
		long, pause, modes = 4*time.Second, 10*time.Second, []string{"strict", "lease"}
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			r := ownRedis(t)
			f := startRedisFleet(t, r, 3, "mode "+mode, `
				plan p {
					requests 6000/m
				}
				plan spent {
					requests 3/d
				}
				plan streams {
					requests unlimited
					concurrent slots 3
				}
				default_plan p
			`)
			f.upEverywhere(t, 10*time.Second, 1)
			valid := f.owners(t, 5)
			spent := f.gates[0].create(t, "--scope", "farms:read", "--owner", "spent", "--plan", "spent")
			holder := f.gates[0].create(t, "--scope", "farms:read", "--owner", "holder", "--plan", "streams")
			for range 3 {
				f.gates[0].get(t, "/farms", key(spent.Key)).passed(t)
			}
			for _, g := range f.gates { // all know it
				g.get(t, "/farms", key(spent.Key)).refused(t, 429, "rate_limited")
			}
			streams := holdOneEach(t, f, holder)
			for _, fault := range redisFaults(long, pause) {
				t.Run(fault.name, func(t *testing.T) {
					valid := f.startTraffic(10*time.Millisecond, "/farms", valid...)
					again := f.startSpent(20*time.Millisecond, spent)
					<-time.After(long / 4)
					fault.do(t, f, func(d time.Duration) {
						if fault.away {
							f.upEverywhere(t, 5*time.Second, 0)
						}
						<-time.After(d)
					})
					over := time.Now()
					f.upEverywhere(t, 10*time.Second, 1)
					back := time.Since(over)
					<-time.After(long / 4)
					valid.flawless(t, fault.name)
					n, renewed := again.end()
					t.Logf("%s: %d requests of a spent quota, %d let through; back after %s", fault.name, n, renewed, back.Round(time.Millisecond))
					if renewed > 0 {
						t.Errorf("%d requests of a spent quota were let through", renewed)
					}
					if ended := streams.ended.Load(); ended > 0 {
						t.Errorf("%d streams were cut", ended)
					}
					// The slots of all three are known again.
					for i, g := range f.gates {
						if a := g.get(t, "/hold", key(holder.Key)); a.status != 429 {
							t.Errorf("gate %d: a fourth of three slots: %d", i, a.status)
						}
					}
				})
			}
			for _, g := range f.gates {
				if v := g.get(t, "/farms", key(valid[0].Key)).header.Get("X-Ratelimit-Remaining"); v == "" || v == "0" {
					t.Errorf("remaining %q of a caller who used little", v)
				}
			}
		})
	}
}

// streams are open requests.
type streams struct {
	ended   atomic.Int64
	release chan struct{}
	once    sync.Once
}

// holdOneEach opens a stream on each gate until the test ends.
func holdOneEach(t *testing.T, f *redisFleet, k created) *streams {
	t.Helper()
	s := &streams{release: make(chan struct{})}
	for _, g := range f.gates {
		g.farm.handle("/hold", func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			select {
			case <-s.release:
			case <-r.Context().Done():
				s.ended.Add(1)
			}
		})
		before := g.farm.hits.Load()
		go func() { _, _ = g.stream("/hold", k.Key) }()
		eventually(t, 5*time.Second, "the stream is with the backend", func() bool { return g.farm.hits.Load() > before })
	}
	t.Cleanup(func() { s.once.Do(func() { close(s.release) }) })
	return s
}

// stream sends a request that may last as long as it likes.
func (g *gate) stream(path, k string) (*answer, error) {
	r, err := http.NewRequest(http.MethodGet, "http://"+g.sites[0]+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+k)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return nil, err
	}
	return read(resp)
}

// spentLoad is requests of a caller whose quota is spent.
type spentLoad struct {
	stop    chan struct{}
	wg      sync.WaitGroup
	n, bad  atomic.Int64
	answers sync.Map
}

func (f *redisFleet) startSpent(every time.Duration, k created) *spentLoad {
	l := &spentLoad{stop: make(chan struct{})}
	for _, g := range f.gates {
		l.wg.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-tick.C:
				}
				a, err := g.try(g.sites[0], "GET", "/farms", key(k.Key))
				l.n.Add(1)
				if err != nil || a.status != http.StatusTooManyRequests {
					l.bad.Add(1)
					l.answers.Store(fmt.Sprint(a, err), true)
				}
			}
		})
	}
	return l
}

func (l *spentLoad) end() (n, bad int64) {
	close(l.stop)
	l.wg.Wait()
	return l.n.Load(), l.bad.Load()
}
