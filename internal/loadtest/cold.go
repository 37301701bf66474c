package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
)

const (
	coldRate = 500 // distinct keys a second, none of them seen since the start
	// coldConns is enough that callers who wait for a hash keep no other from
	// arriving: what takes longer than four seconds does.
	coldConns = 2000
	// coldNoneKeys arrive where nothing but bcrypt is stored: each has a hash of
	// its own, which takes this program as long to make as the gate to check.
	coldNoneKeys = 10_000
)

func (o *options) coldKeys() (withMaster, none int) {
	switch {
	case o.keys > 0:
		return o.keys, min(o.keys, coldNoneKeys)
	case o.quick:
		return 2000, 500
	}
	return 100_000, coldNoneKeys
}

// hashTime is about what one bcrypt hash of a cost takes a core.
func hashTime(cost int) time.Duration {
	return time.Duration(math.Exp2(float64(cost-10)) * float64(60*time.Millisecond))
}

func coldLasts(o *options) time.Duration {
	withMaster, none := o.coldKeys()
	return 100*time.Second + time.Duration(withMaster+none)*time.Second/coldRate +
		time.Duration(withMaster)*200*time.Microsecond + time.Duration(none)*hashTime(o.cost)
}

// coldStart is one gate that has just started, and the keys that arrive.
type coldStart struct {
	name, title string
	keys        int
	noMaster    bool
}

func runCold(ctx context.Context, o *options) error {
	b, err := newBed(ctx, o, false)
	if err != nil {
		return err
	}
	defer b.close()
	backend, err := b.backend(-1)
	if err != nil {
		return err
	}
	withMaster, none := o.coldKeys()
	var table strings.Builder
	fmt.Fprintf(&table, "<!-- written by `make cold` -->\n%s.\n\n", machine())
	table.WriteString("| | keys | served | 503 with Retry-After | other | p50, ms | p99, ms | max, ms | hashes | refused a hash | warm: p99 calm, ms | p99 meanwhile, ms | not 200 |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	var failed error
	for _, c := range []coldStart{
		{"cold", "distinct keys at 500 a second after a restart, with a master key", withMaster, false},
		{"cold-none", "warm keys beside distinct ones at 500 a second after a restart, master_key none", none, true},
	} {
		if o.only == "" || o.only == c.name {
			failed = errors.Join(failed, b.cold(&c, backend, &table))
		}
	}
	fmt.Println(table.String())
	return errors.Join(failed, o.write("cold.md", table.String()))
}

func (b *bed) cold(c *coldStart, backend *server, table *strings.Builder) error {
	const warm = 20
	database, keys, err := b.makeKeys(keyFile{name: c.name + ".db", n: warm + c.keys, digest: !c.noMaster, cost: b.o.cost})
	if err != nil {
		return err
	}
	gate, err := b.floodGate(c.name, backend.addr, database, c.noMaster, b.o.cost)
	if err != nil {
		return err
	}
	defer gate.stop()
	for _, k := range keys[:warm] {
		if status, _, err := b.get("http://"+gate.addr+target, "Bearer "+k); err != nil || status != 200 {
			return fmt.Errorf("warm up: %d %w\n%s", status, err, gate.tail())
		}
	}
	calm := 10 * time.Second
	if b.o.quick {
		calm = 2 * time.Second
	}
	arrival := time.Duration(float64(c.keys) / coldRate * float64(time.Second))
	good, cold := &record{}, &record{}
	var inflight []float64
	begin := time.Now().Add(50 * time.Millisecond)
	watch, stop := context.WithCancel(b.ctx)
	defer stop()
	var wg, watching sync.WaitGroup
	wg.Go(func() {
		s := &stream{addr: gate.addr, conns: goodConns, rate: goodRate, done: good.add,
			request: func(i int) []byte { return requestFor(target, keys[i%warm], "") }}
		s.run(b.ctx, begin, int((calm+arrival).Seconds()*goodRate))
	})
	wg.Go(func() {
		// Each from an address of its own, as after a restart.
		s := &stream{addr: gate.addr, conns: coldConns, rate: coldRate, done: cold.add,
			request: func(i int) []byte {
				return requestFor(target, keys[warm+i], fmt.Sprintf("10.%d.%d.%d", i/250/250, i/250%250, i%250+1))
			}}
		if pause(b.ctx, time.Until(begin.Add(calm))) == nil {
			s.run(b.ctx, begin.Add(calm), c.keys)
		}
	})
	watching.Go(func() {
		for pause(watch, time.Second) == nil {
			if n, err := b.metric(gate, "hivegate_hash_inflight"); err == nil {
				inflight = append(inflight, n)
			}
		}
	})
	wg.Wait()
	stop()
	watching.Wait()
	if err := b.ctx.Err(); err != nil {
		return err
	}
	return b.reportCold(c, gate, good, cold, calm, arrival, inflight, table)
}

func (b *bed) reportCold(c *coldStart, gate *server, good, cold *record, calm, arrival time.Duration, inflight []float64, table *strings.Builder) error {
	hashed, err := b.hashes(gate, "ok", "wrong")
	if err != nil {
		return err
	}
	overloaded, err := b.hashes(gate, "overloaded")
	if err != nil {
		return err
	}
	got := cold.sum(0, math.MaxInt64, 200)
	before, meanwhile := good.sum(0, calm, 0), good.sum(calm, calm+arrival, 0)
	notServed := before.n - before.ok + meanwhile.n - meanwhile.ok
	told := got.byStatus[503]
	fmt.Fprintf(table, "| %s | %d | %d | %d | %d | %.2f | %.2f | %.2f | %.0f | %.0f | %.2f | %.2f | %d |\n", strings.ReplaceAll(c.name, "cold-none", "master_key none"),
		got.n, got.ok, told-got.noRetryAfter, got.n-got.ok-told+got.noRetryAfter, ms(got.p50), ms(got.p99), ms(got.max), hashed, overloaded, ms(before.p99), ms(meanwhile.p99), notServed)
	most := 0.0
	for _, n := range inflight {
		most = max(most, n)
	}
	fmt.Printf("%s: at most %.0f hashes at once, as hivegate_hash_inflight said each second\n", c.name, most)
	var failed error
	if notServed > 0 {
		failed = fmt.Errorf("%s: %d requests of warm callers were not served", c.name, notServed)
	}
	if got.noRetryAfter > 0 || got.n != got.ok+told {
		failed = errors.Join(failed, fmt.Errorf("%s: answers other than 200 and 503 with Retry-After: %v, %d of them without", c.name, got.byStatus, got.noRetryAfter))
	}
	if !c.noMaster && (hashed > 0 || got.ok != got.n) {
		failed = errors.Join(failed, fmt.Errorf("%s: %.0f hashes, %d of %d keys served", c.name, hashed, got.ok, got.n))
	}
	if c.noMaster && (told == 0 || overloaded == 0) {
		failed = errors.Join(failed, fmt.Errorf("%s: the gate was never overloaded: raise -cost", c.name))
	}
	shown, seconds, spans := cold, int(arrival.Seconds()), []span{{"distinct keys", 0, arrival.Seconds(), true}}
	if c.noMaster {
		shown, seconds = good, int((calm + arrival).Seconds())
		spans = []span{{"warm keys alone", 0, calm.Seconds(), false}, {"and distinct keys", calm.Seconds(), (calm + arrival).Seconds(), true}}
	}
	return errors.Join(failed, b.o.write(c.name+".svg", shown.plot(c.title, seconds, spans)))
}

func (b *bed) hashes(s *server, results ...string) (sum float64, _ error) {
	for _, r := range results {
		n, err := b.metric(s, "hivegate_hash_total", fmt.Sprintf("result=%q", r))
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
