package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	floodRate  = 5000 // bad keys a second
	guessRate  = 50   // wrong secrets a second, without stored digests
	goodRate   = 200  // warm requests a second beside them
	floodConns = 64
	guessConns = 256 // each guess may wait three seconds for its hash
	goodConns  = 20
	addresses  = 10_000
)

// wave is one stretch of a flood.
type wave struct {
	name      string
	kind      string // malformed, unknown, wrong, good; empty: calm
	rate      float64
	addresses int
	aim       float64 // of the p99 against the calm value; 0: none
	elsewhere bool    // to another process: what the machine alone makes of the load
}

// flood is one gate and the waves that it meets.
type flood struct {
	name, title string
	noMaster    bool
	waves       []wave
}

func floods() []flood {
	var withMaster []wave
	withMaster = append(withMaster, wave{name: "calm"},
		wave{name: fmt.Sprintf("%d to another process", floodRate), kind: "good", rate: floodRate, addresses: 1, elsewhere: true},
		wave{name: fmt.Sprintf("%d good", floodRate/2), kind: "good", rate: floodRate / 2, addresses: addresses})
	for _, n := range []int{1, addresses} {
		for _, kind := range []string{"malformed", "unknown", "wrong"} {
			withMaster = append(withMaster, wave{name: fmt.Sprintf("%s, %d addr.", kind, n), kind: kind, rate: floodRate, addresses: n, aim: 1.5})
		}
	}
	withMaster = append(withMaster, wave{name: "calm again"})
	return []flood{
		{name: "flood", title: "200 good requests a second beside 5,000 bad keys a second (shaded), with a master key", waves: withMaster},
		{name: "flood-none", title: "200 good requests a second beside 50 wrong secrets a second (shaded), master_key none", noMaster: true, waves: []wave{
			{name: "calm"},
			{name: "wrong, 1 addr.", kind: "wrong", rate: guessRate, addresses: 1, aim: 3},
			{name: fmt.Sprintf("wrong, %d addr.", addresses), kind: "wrong", rate: guessRate, addresses: addresses, aim: 3},
			{name: "calm again"},
		}},
	}
}

func (o *options) waveLasts() time.Duration {
	if o.quick {
		return 2 * time.Second
	}
	return 15 * time.Second
}

// waveGap lies between two waves, and is in neither's figures: what waits for a hash
// at the end of one has its answer before the next.
const waveGap = 4 * time.Second

func floodLasts(o *options) time.Duration {
	lasts := 60 * time.Second
	for _, f := range floods() {
		lasts += 10*time.Second + time.Duration(len(f.waves))*(o.waveLasts()+waveGap)
	}
	return lasts
}

func runFlood(ctx context.Context, o *options) error {
	if err := needs("chrt"); err != nil {
		return err
	}
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
	fmt.Fprintf(&table, "<!-- written by `make flood` -->\n%s. %s for each line.\n\n", machine(), o.waveLasts())
	table.WriteString("| | bad keys/s | their answers | good: p50, ms | p99, ms | max, ms | p99 / calm | at most | not 200 |\n|---|---:|---|---:|---:|---:|---:|---:|---:|\n")
	var failed error
	for _, f := range floods() {
		if o.only != "" && o.only != f.name {
			continue
		}
		failed = errors.Join(failed, b.flood(&f, backend, &table))
	}
	fmt.Println(table.String())
	return errors.Join(failed, o.write("flood.md", table.String()))
}

// floodGate starts a gate that trusts X-Forwarded-For of this machine.
func (b *bed) floodGate(name, backend, database string, noMaster bool, cost int) (*server, error) {
	c := gateConfig{backend: backend, keys: database, cost: cost,
		servers: "\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t\ttrusted_proxies_strict\n\t}\n"}
	if noMaster {
		c.master = "master_key none"
	}
	return b.caddy(name, b.hivegate, c.String(), -1)
}

func (b *bed) flood(f *flood, backend *server, table *strings.Builder) error {
	const warm, attacked = 20, 100
	database, keys, err := b.makeKeys(keyFile{name: f.name + ".db", n: warm + attacked, digest: !f.noMaster, cost: 10})
	if err != nil {
		return err
	}
	gate, err := b.floodGate(f.name, backend.addr, database, f.noMaster, 10)
	if err != nil {
		return err
	}
	defer gate.stop()
	elsewhere, err := b.backend(-1)
	if err != nil {
		return err
	}
	defer elsewhere.stop()
	for _, k := range keys[:warm] { // warm callers are known before anything begins
		if status, _, err := b.get("http://"+gate.addr+target, "Bearer "+k); err != nil || status != 200 {
			return fmt.Errorf("warm up: %d %w\n%s", status, err, gate.tail())
		}
	}
	requests := make([][]byte, warm)
	for i := range requests {
		requests[i] = requestFor(target, keys[i], "")
	}
	good := &record{}
	s := &stream{addr: gate.addr, conns: goodConns, rate: goodRate, done: good.add,
		request: func(i int) []byte { return requests[i%warm] }}
	each := b.o.waveLasts()
	step := each + waveGap
	total := time.Duration(len(f.waves)) * step
	begin := time.Now().Add(50 * time.Millisecond)
	var wg sync.WaitGroup
	wg.Go(func() { s.run(b.ctx, begin, int(total.Seconds()*goodRate)) })
	answers := make([]string, len(f.waves))
	var problems error
	for i, w := range f.waves {
		if err := pause(b.ctx, time.Until(begin.Add(time.Duration(i)*step+waveGap))); err != nil {
			problems = err
			break
		}
		if w.kind == "" {
			continue
		}
		to := gate.addr
		if w.elsewhere {
			to = elsewhere.addr
		}
		// The warm callers' own ids are among those that are guessed at.
		if answers[i], err = b.bad(to, w, each, keys); err != nil {
			problems = errors.Join(problems, err)
		}
	}
	wg.Wait()
	if problems != nil {
		return problems
	}
	return b.reportFlood(f, good, answers, each, table)
}

func (b *bed) reportFlood(f *flood, good *record, answers []string, each time.Duration, table *strings.Builder) error {
	var (
		spans  []span
		failed error
		calm   time.Duration
	)
	for i, w := range f.waves {
		from := time.Duration(i)*(each+waveGap) + waveGap
		got := good.sum(from, from+each, 0)
		if i == 0 {
			calm = got.p99
		}
		ratio, aim := float64(got.p99)/float64(calm), ""
		if w.aim > 0 {
			aim = fmt.Sprint(w.aim)
		}
		name := w.name
		if f.noMaster {
			name += ", master_key none"
		}
		fmt.Fprintf(table, "| %s | %.0f | %s | %.2f | %.2f | %.2f | %.2f | %s | %d |\n", name, w.rate, answers[i], ms(got.p50), ms(got.p99), ms(got.max), ratio, aim, got.n-got.ok)
		if got.ok != got.n {
			failed = errors.Join(failed, fmt.Errorf("%s: good requests were not all served: %v", name, got.byStatus))
		}
		spans = append(spans, span{w.name, from.Seconds(), (from + each).Seconds(), w.kind != "" && w.kind != "good"})
	}
	seconds := int((time.Duration(len(f.waves)) * (each + waveGap)).Seconds())
	return errors.Join(failed, b.o.write(f.name+".svg", good.plot(f.title, seconds, spans)))
}

// flooding is what the flooder is told, as JSON on its standard input.
type flooding struct {
	Addr, Kind string
	Rate       float64
	Seconds    float64
	Addresses  int
	Keys       []string
}

// bad floods a gate from a process of its own, and says what it was answered.
func (b *bed) bad(addr string, w wave, lasts time.Duration, keys []string) (string, error) {
	text, err := json.Marshal(flooding{addr, w.kind, w.rate, lasts.Seconds(), w.addresses, keys})
	if err != nil {
		return "", err
	}
	// It stands for machines elsewhere: nobody here waits for a core that it has.
	cmd := exec.CommandContext(b.ctx, "chrt", "--idle", "0", b.self, "flooder") //nolint:gosec // this program itself
	cmd.Stdin = strings.NewReader(string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("flood: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// serveFlooder sends one wave and prints its answers.
func serveFlooder([]string) error {
	var f flooding
	if err := json.NewDecoder(os.Stdin).Decode(&f); err != nil {
		return fmt.Errorf("read what to send: %w", err)
	}
	from := func() string { return "203.0.113.9" }
	if f.Addresses > 1 {
		from = func() string {
			n := rand.IntN(f.Addresses) //nolint:gosec // an address is no secret
			return fmt.Sprintf("10.%d.%d.%d", n/250/250, n/250%250, n%250+1)
		}
	}
	key := map[string]func(i int) string{
		"malformed": func(int) string { return malformedKey() },
		"unknown":   func(int) string { return unknownKey() },
		"wrong":     func(i int) string { return wrongOf(f.Keys[i%len(f.Keys)]) },
		"good":      func(i int) string { return f.Keys[i%len(f.Keys)] },
	}[f.Kind]
	var mu sync.Mutex // guards counts
	counts := map[int]int{}
	conns := floodConns
	if f.Rate <= guessRate {
		conns = guessConns
	}
	lasts := time.Duration(f.Seconds * float64(time.Second))
	s := &stream{addr: f.Addr, conns: conns, rate: f.Rate, until: lasts,
		request: func(i int) []byte { return requestFor(target, key(i), from()) },
		done: func(_ int, a reply) {
			mu.Lock()
			counts[a.status]++
			mu.Unlock()
		}}
	ctx, cancel := context.WithTimeout(context.Background(), lasts*3/2+answerTimeout)
	defer cancel()
	begin := time.Now()
	s.run(ctx, begin, int(f.Rate*f.Seconds))
	n := 0
	for status := range counts {
		n += counts[status]
		if status < 400 && f.Kind != "good" {
			return fmt.Errorf("%d bad keys were answered %d", counts[status], status)
		}
	}
	fmt.Printf("%s at %.0f/s\n", strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(counts), "map["), "]"), float64(n)/f.Seconds)
	return nil
}
