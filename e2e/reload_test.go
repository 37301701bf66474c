package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is traffic that goes on until it is stopped.
type load struct {
	stop   chan struct{}
	once   sync.Once // closes stop
	wg     sync.WaitGroup
	sent   atomic.Int64
	failed atomic.Int64
	again  atomic.Int64 // sent again after an error of the connection
	mu     sync.Mutex   // guards why
	why    map[string]int
}

// underLoad keeps n clients busy, each sending its next request when the last
// was answered. ok judges an answer.
func (g *gate) underLoad(n int, request func(i int) (*answer, error), ok func(*answer) bool) *load {
	l := &load{stop: make(chan struct{}), why: map[string]int{}}
	for i := range n {
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				a, err := request(i)
				for tries := 0; err != nil && tries < 3; tries++ {
					l.again.Add(1)
					a, err = request(i)
				}
				l.sent.Add(1)
				if err == nil && ok(a) {
					continue
				}
				l.failed.Add(1)
				l.mu.Lock()
				if err != nil {
					l.why[err.Error()]++
				} else {
					l.why[fmt.Sprint(a.status, " ", a.reason())]++
				}
				l.mu.Unlock()
			}
		}()
	}
	return l
}

// end stops the load and fails the test for every request that failed.
func (l *load) end(t testing.TB) {
	t.Helper()
	l.halt()
	if l.failed.Load() > 0 {
		t.Errorf("%d of %d requests failed: %v", l.failed.Load(), l.sent.Load(), l.why)
	}
	if l.sent.Load() == 0 {
		t.Error("the load sent nothing")
	}
}

// halt stops the load. It may be called again.
func (l *load) halt() {
	l.once.Do(func() { close(l.stop) })
	l.wg.Wait()
}

func is200(a *answer) bool { return a.status == http.StatusOK }

// goroutines is the gate's own count, after a garbage collection that the heap
// profile forces.
func (g *gate) goroutines(t testing.TB) int {
	t.Helper()
	g.fromAdmin(t, "/debug/pprof/heap?gc=1&debug=1")
	first, _, _ := strings.Cut(g.fromAdmin(t, "/debug/pprof/goroutine?debug=1"), "\n")
	n, err := strconv.Atoi(first[strings.LastIndexByte(first, ' ')+1:])
	if err != nil {
		t.Fatalf("goroutine profile begins with %q", first)
	}
	return n
}

// Sixty reloads; with HIVEGATE_RELOADS=full (`make reloads`) one a second, else
// ten a second.
//
// A reload replaces Caddy's listening sockets. A connection that the kernel has
// put in line at the old one, or that has not sent its request yet, is closed
// with it, with any module and with none; so a client tries again after an error
// of the connection, as RFC 9110, section 9.2.2 has it for idempotent requests.
// An answer is judged as it is, always.
const reloads = 60

func reloadPace() time.Duration {
	if os.Getenv("HIVEGATE_RELOADS") == "full" {
		return time.Second
	}
	return 100 * time.Millisecond
}

// variants of a configuration, so that a reload is one.
func variant(c config, i int) config {
	c.gate += fmt.Sprintf("\n\t\trealm \"variant %d\"", i%7)
	return c
}

func TestSixtyReloadsUnderLoadLoseNothing(t *testing.T) {
	c := config{
		global: cheap + `
			class slots
			plan roomy {
				requests unlimited
			}
			plan counted {
				requests 1000000/d
			}
			plan narrow {
				requests unlimited
				concurrent slots 1
			}
			default_plan roomy
		`,
		gate: `
			routes {
				GET /farms farms:read
				GET /hold farms:read class=slots
			}
		`,
		// Each configuration has its own connections to the backend. Those that
		// were busy when it ended are closed when they have been idle for this
		// long (Caddy's default: two minutes).
		after: "reverse_proxy FARM {\n\t\ttransport http {\n\t\t\tkeepalive 1s\n\t\t}\n\t}",
	}
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	counted := g.create(t, "--scope", "farms:read", "--plan", "counted")
	narrow := g.create(t, "--scope", "farms:read", "--plan", "narrow")

	// One request stays open over all reloads and holds its key's only slot.
	inside, letGo := g.farm.hold("/hold")
	held := make(chan string, 1)
	go func() {
		r, err := http.NewRequest(http.MethodGet, "http://"+g.sites[0]+"/hold", nil)
		if err != nil {
			held <- err.Error()
			return
		}
		key(narrow.Key)(r)
		// A client of its own, which waits as long as it takes.
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			held <- err.Error()
			return
		}
		_ = resp.Body.Close()
		held <- fmt.Sprint(resp.StatusCode)
	}()
	<-inside

	// Some reloads before the count: pools and connections reach their size.
	for i := range 5 {
		if err := g.reload(t, variant(c, i)); err != nil {
			t.Fatal(err)
		}
	}
	remaining := func() int {
		a := g.get(t, "/farms", key(counted.Key))
		n, err := strconv.Atoi(a.header.Get("X-Ratelimit-Remaining"))
		if a.status != 200 || err != nil {
			t.Fatalf("%d %s, remaining %q", a.status, a.reason(), a.header.Get("X-Ratelimit-Remaining"))
		}
		return n
	}
	quiet := g.settled(t)
	files := g.openFiles(t)
	hashes := g.hashes(t)
	before, beginning := remaining(), time.Now()

	const counting = 2
	var countedRequests atomic.Int64
	l := g.underLoad(4+counting, func(i int) (*answer, error) {
		if i < counting {
			a, err := g.try(g.sites[0], "GET", "/farms", key(counted.Key))
			if err == nil {
				countedRequests.Add(1)
			}
			return a, err
		}
		return g.try(g.sites[0], "GET", "/farms", key(k.Key))
	}, is200)
	defer l.halt()
	for i := range reloads {
		<-time.After(reloadPace())
		if err := g.reload(t, variant(c, i)); err != nil {
			t.Fatalf("reload %d: %v", i, err)
		}
		if i%10 == 0 {
			a := g.get(t, "/hold", key(narrow.Key))
			a.refused(t, 429, "concurrency_limited") // the slot is taken still
		}
	}
	took := time.Since(beginning)
	l.end(t)

	// The bucket refills as it is used: 1,000,000 a day are 11.6 a second.
	after := remaining()
	spent := int(countedRequests.Load()) + 1
	refill := int(time.Since(beginning).Seconds()*1e6/86400) + 2
	unanswered := int(l.again.Load()) // may have been counted all the same
	if taken := before - after; taken > spent+unanswered || taken < spent-refill {
		t.Errorf("%d requests took %d tokens (refilled at most %d meanwhile): counters were lost", spent, taken, refill)
	}
	close(letGo)
	if s := <-held; s != "200" {
		t.Errorf("the request that was open over all reloads got %s", s)
	}
	eventually(t, 5*time.Second, "the slot is free again", func() bool {
		done := make(chan struct{})
		go func() {
			select {
			case <-inside:
			case <-done:
			}
		}()
		defer close(done)
		return g.get(t, "/hold", key(narrow.Key)).status == 200
	})
	var nowQuiet, nowFiles int
	if !reached(20*time.Second, func() bool {
		nowQuiet, nowFiles = g.settled(t), g.openFiles(t)
		return nowQuiet <= quiet+5 && nowFiles <= files+5
	}) {
		t.Errorf("before: %d goroutines and %d open files; after: %d and %d", quiet, files, nowQuiet, nowFiles)
	}
	if h := g.hashes(t); h != hashes {
		t.Errorf("%g bcrypt comparisons before, %g after: verified keys were lost", hashes, h)
	}
	t.Logf("%d reloads in %s, %d requests, %d failed, %d sent again; goroutines %d then %d, files %d then %d",
		reloads, took.Round(time.Millisecond), l.sent.Load(), l.failed.Load(), l.again.Load(), quiet, nowQuiet, files, nowFiles)
}

// settled waits until the number of goroutines stands still, and returns it.
func (g *gate) settled(t testing.TB) int {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	g.mu.Lock()
	for _, c := range g.clients {
		c.CloseIdleConnections()
	}
	g.mu.Unlock()
	last, same := 0, 0
	reached(10*time.Second, func() bool {
		n := g.goroutines(t)
		if n == last {
			same++
		} else {
			last, same = n, 0
		}
		return same >= 20
	})
	return last
}

// Verified keys survive too: else every reload would be a storm of hashes.
func TestAReloadHashesNothing(t *testing.T) {
	c := config{global: "master_key none\n" + cheap, gate: oneRoute}
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	g.get(t, "/farms", key(k.Key)).passed(t)
	for i := range 3 {
		if err := g.reload(t, variant(c, i)); err != nil {
			t.Fatal(err)
		}
		before := g.hashes(t)
		g.get(t, "/farms", key(k.Key)).passed(t)
		if n := g.hashes(t) - before; n != 0 {
			t.Errorf("%g comparisons after a reload, want none", n)
		}
	}
}

func TestARejectedReloadChangesNothing(t *testing.T) {
	c := farms
	g := start(t, c)
	k := g.create(t, "--scope", "farms:read", "--plan", "tiny")
	g.get(t, "/farms", key(k.Key)).passed(t)
	running := g.fromAdmin(t, "/config/")
	hashes := g.hashes(t)
	for name, bad := range map[string]string{
		"an unknown scope": strings.Replace(g.fill(c.render()), "GET /crews crews:read", "GET /crews crews:reed", 1),
		// Found only when the module is made, after its stores were taken.
		"a missing secret":   strings.Replace(g.fill(c.render()), cheap, cheap+"master_key {env.NOT_THERE}\n", 1),
		"an unreadable file": strings.Replace(g.fill(c.render()), cheap, cheap+"keystore sqlite "+g.dir+"\n", 1),
	} {
		if err := g.load(bad); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if now := g.fromAdmin(t, "/config/"); now != running {
		t.Error("the running configuration is another one")
	}
	a := g.get(t, "/farms", key(k.Key))
	a.passed(t)
	if r := a.header.Get("X-Ratelimit-Remaining"); r != "1" {
		t.Errorf("remaining %s of 3 after the second request: the counters were lost", r)
	}
	if h := g.hashes(t); h != hashes {
		t.Errorf("%g comparisons, %g before: verified keys were lost", h, hashes)
	}
}

// A request that began on the old configuration ends on it: its plan's bucket
// and its stores are there until it is done.
func TestRequestsInFlightFinishOnTheStoresTheyBeganWith(t *testing.T) {
	c := config{global: cheap, gate: oneRoute + "\n"}
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	inside, letGo := make(chan struct{}), make(chan struct{})
	g.farm.handle("/farms", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select {
		case inside <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		select {
		case <-letGo:
		case <-r.Context().Done():
			return
		}
		_, _ = io.WriteString(w, "the end")
	})
	got := make(chan string, 1)
	go func() {
		a, err := g.try(g.sites[0], "GET", "/farms", key(k.Key))
		if err != nil {
			got <- err.Error()
			return
		}
		got <- string(a.body)
	}()
	<-inside
	other := c
	other.global += "keystore sqlite other.db\n"
	if err := g.reload(t, other); err != nil {
		t.Fatal(err)
	}
	// The new configuration has another, empty keystore.
	g.get(t, "/farms", key(k.Key)).refused(t, 401, "api_key_invalid")
	close(letGo)
	if s := <-got; s != "the end" {
		t.Errorf("the request in flight got %q", s)
	}
	if err := g.reload(t, c); err != nil {
		t.Fatal(err)
	}
	go func() { <-inside }()
	if a := g.get(t, "/farms", key(k.Key)); a.status != 200 {
		t.Errorf("back on the first keystore: %d %s", a.status, a.reason())
	}
}

func TestTheReloadCommandReloads(t *testing.T) {
	c := config{global: cheap, gate: oneRoute}
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	c.gate = "routes {\n\t\t\tGET /other farms:read\n\t\t}"
	g.write(t, c)
	g.reloaded.Store(true)
	g.hivegate(t, "reload", "--config", g.caddyfile(), "--address", g.admin).ok(t)
	g.get(t, "/other", key(k.Key)).passed(t)
	g.get(t, "/farms", key(k.Key)).refused(t, 404, "route_not_found")
}

// What SIGKILL leaves behind is a keystore that works.
func TestAKilledServerLosesNoKey(t *testing.T) {
	g := start(t, farms)
	var keys []created
	l := g.underLoad(4, func(int) (*answer, error) { return g.try(g.sites[0], "GET", "/healthz") }, is200)
	for range 3 {
		keys = append(keys, g.createScoped(t, "farms:read"))
	}
	g.hivegate(t, "apikey", "revoke", keys[0].ID).ok(t)
	l.halt()
	g.kill(t)
	g.run(t)
	g.get(t, "/farms", key(keys[0].Key)).refused(t, 401, "api_key_revoked")
	for _, k := range keys[1:] {
		g.get(t, "/farms", key(k.Key)).passed(t)
	}
}
