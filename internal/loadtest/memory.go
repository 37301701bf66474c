package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hivegate/hivegate/limiter"
)

// sizes are how much of everything `memory` makes.
type sizes struct {
	keys, owners, idle, streams int
	warm                        time.Duration
}

func (o *options) sizes() sizes {
	if o.quick {
		return sizes{keys: 20_000, owners: 100_000, idle: 500, streams: 100, warm: 2 * time.Second}
	}
	return sizes{keys: 1_000_000, owners: 1_000_000, idle: 10_000, streams: 1000, warm: 20 * time.Second}
}

func memoryLasts(o *options) time.Duration {
	s := o.sizes()
	return 150*time.Second + time.Duration(s.keys)*150*time.Microsecond + 4*s.warm
}

func runMemory(ctx context.Context, o *options) error {
	b, err := newBed(ctx, o, false)
	if err != nil {
		return err
	}
	defer b.close()
	backend, err := b.backend(-1)
	if err != nil {
		return err
	}
	var table strings.Builder
	fmt.Fprintf(&table, "<!-- written by `make memory` -->\n%s.\n\n", machine())
	var failed error
	for _, part := range []struct {
		name string
		run  func(backend *server, table *strings.Builder) error
	}{{"keys", b.manyKeys}, {"owners", b.manyOwners}, {"connections", b.manyConnections}} {
		if o.only == "" || o.only == part.name {
			if err := part.run(backend, &table); err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", part.name, err))
			}
		}
	}
	fmt.Println(table.String())
	return errors.Join(failed, o.write("memory.md", table.String()))
}

// manyKeys: from start to the first answer, resident memory, and warm latency, with
// a hundred keys and with a million.
func (b *bed) manyKeys(backend *server, table *strings.Builder) error {
	size := b.o.sizes()
	table.WriteString("| keys in SQLite | file, MiB | start to first answer, s | resident then, MiB | after 20,000 other keys, MiB | warm: p50, ms | p99, ms |\n|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, n := range []int{100, size.keys} {
		database, keys, err := b.makeKeys(keyFile{name: fmt.Sprintf("keys-%d.db", n), n: n, digest: true, owners: 100_000, keep: 20_100})
		if err != nil {
			return err
		}
		begin := time.Now()
		gate, err := b.floodGate("keys", backend.addr, database, false, 10)
		if err != nil {
			return err
		}
		if err := b.firstAnswer(gate, keys[0]); err != nil {
			return err
		}
		first := time.Since(begin)
		rss, err := rssOf(gate.pids[0])
		if err != nil {
			return err
		}
		for _, k := range keys[:min(100, len(keys))] {
			if err := b.firstAnswer(gate, k); err != nil {
				return err
			}
		}
		warm := b.warmLatency(gate, keys[:min(100, len(keys))], size.warm)
		if warm.ok != warm.n {
			return fmt.Errorf("warm requests were not all served: %v", warm.byStatus)
		}
		full := &record{}
		others := keys[min(100, len(keys)):]
		s := &stream{addr: gate.addr, conns: 16, rate: 4000, done: full.add, request: func(i int) []byte { return requestFor(target, others[i], "") }}
		s.run(b.ctx, time.Now(), len(others))
		if got := full.sum(0, math.MaxInt64, 0); got.ok != got.n {
			return fmt.Errorf("not all keys were served: %v", got.byStatus)
		}
		later, err := rssOf(gate.pids[0])
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "| %d | %.0f | %.2f | %.0f | %.0f | %.2f | %.2f |\n", n, fileMiB(database), first.Seconds(), mib(rss), mib(later), ms(warm.p50), ms(warm.p99))
		gate.stop()
	}
	table.WriteString("\n")
	return nil
}

func (b *bed) firstAnswer(gate *server, key string) error {
	status, body, err := b.get("http://"+gate.addr+target, "Bearer "+key)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("a valid key: %d %s %w\n%s", status, body, err, gate.tail())
	}
	return nil
}

func (b *bed) warmLatency(gate *server, keys []string, lasts time.Duration) summary {
	good := &record{}
	s := &stream{addr: gate.addr, conns: goodConns, rate: goodRate, done: good.add,
		request: func(i int) []byte { return requestFor(target, keys[i%len(keys)], "") }}
	s.run(b.ctx, time.Now(), int(lasts.Seconds()*goodRate))
	return good.sum(0, math.MaxInt64, 0)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// manyOwners measures the memory limiter in this process: a bucket for each of a
// million owners that are seen once, and what is left two windows later.
func (b *bed) manyOwners(_ *server, table *strings.Builder) error {
	n := b.o.sizes().owners
	window := time.Minute
	limit, err := limiter.NewLimit("plan", 60, window, 60)
	if err != nil {
		return err
	}
	begin := heap()
	l := limiter.NewMemory(limiter.MemoryOptions{SweepEvery: -1, MaxBuckets: 2 * n})
	now := time.Now()
	var decision limiter.Decision
	took := time.Now()
	for i := range n {
		// The names are the callers': a bucket keeps what it needs of them.
		req := limiter.Request{Demands: []limiter.Demand{{Limit: limit, Subject: fmt.Sprintf("owner:acct-%07d", i), Cost: 1}}}
		if err := l.Decide(b.ctx, now, &req, &decision); err != nil {
			return err
		}
	}
	spent := time.Since(took)
	full := heap()
	for _, after := range []time.Duration{window, 2 * window} {
		l.Sweep(now.Add(after))
	}
	left := heap()
	fmt.Fprintf(table, "| owners seen once | ns each, name included | bytes each | bytes each after two windows |\n|---:|---:|---:|---:|\n| %d | %d | %.0f | %.1f |\n\n", n, spent.Nanoseconds()/int64(n),
		float64(full-begin)/float64(n), float64(left-begin)/float64(n))
	runtime.KeepAlive(l)
	return l.Close()
}

// heap is what lives on this process's heap.
func heap() int64 {
	runtime.GC()
	runtime.GC() // finalizers of the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// held is a Caddy's memory: its heap and stacks after a collection, which is exact,
// and what is resident, which depends on when it last collected.
type held struct{ live, resident int64 }

var memStat = regexp.MustCompile(`(?m)^# (HeapAlloc|StackInuse) = (\d+)`)

func (b *bed) held(s *server) (h held, err error) {
	for range 2 { // what the first one frees with finalizers
		_, text, err := b.get("http://"+s.admin+"/debug/pprof/heap?gc=1&debug=1", "")
		if err != nil {
			return h, fmt.Errorf("read the heap of %s: %w", s.name, err)
		}
		h.live = 0
		for _, m := range regexpPairs(text) {
			h.live += m
		}
	}
	if h.live == 0 {
		return h, fmt.Errorf("%s tells nothing of its heap", s.name)
	}
	h.resident, err = rssOf(s.pids[0])
	return h, err
}

func regexpPairs(text string) (out []int64) {
	for _, m := range memStat.FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseInt(m[2], 10, 64)
		if err == nil {
			out = append(out, n)
		}
	}
	return out
}

// manyConnections: memory of idle connections and of open streams, behind bare
// Caddy and behind the gate, in the same binary.
func (b *bed) manyConnections(backend *server, table *strings.Builder) error {
	size := b.o.sizes()
	database, keys, err := b.makeKeys(keyFile{name: "connections.db", n: 100, digest: true})
	if err != nil {
		return err
	}
	table.WriteString("| | each, KiB: bare | gate | ratio | resident, KiB: bare | gate |\n|---|---:|---:|---:|---:|---:|\n")
	for _, what := range []struct {
		name, path string
		n          int
	}{{"idle connections", target, size.idle}, {"open streams", "/stream", size.streams}} {
		var each [2]struct{ live, resident float64 }
		for i, text := range []string{bareCaddy(backend.addr), gateConfig{backend: backend.addr, keys: database}.String()} {
			s, err := b.caddy("connections", b.hivegate, text, -1)
			if err != nil {
				return err
			}
			// Pools are made and each key has been called.
			if err := b.open(s, what.path, keys, len(keys), func() error { return nil }); err != nil {
				return err
			}
			before, err := b.held(s)
			if err != nil {
				return err
			}
			if err := b.open(s, what.path, keys, what.n, func() error {
				after, err := b.held(s)
				each[i].live = float64(after.live-before.live) / float64(what.n) / 1024
				each[i].resident = float64(after.resident-before.resident) / float64(what.n) / 1024
				return err
			}); err != nil {
				return err
			}
			s.stop()
		}
		fmt.Fprintf(table, "| %d %s | %.2f | %.2f | %.3f | %.2f | %.2f |\n", what.n, what.name, each[0].live, each[1].live, each[1].live/each[0].live, each[0].resident, each[1].resident)
	}
	table.WriteString("\n")
	return nil
}

// open opens n connections, each with one request, and calls then while all of them
// are open.
func (b *bed) open(s *server, path string, keys []string, n int, then func() error) error {
	lines := make([]line, n)
	defer func() {
		for i := range lines {
			lines[i].close()
		}
	}()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed error
	)
	const workers = 16
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && b.ctx.Err() == nil; i += workers {
				var a reply
				err := lines[i].ask(s.addr, requestFor(path, keys[i%len(keys)], ""), &a)
				if err == nil && a.status != 200 {
					err = fmt.Errorf("connection %d: %d", i, a.status)
				}
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	return then()
}
