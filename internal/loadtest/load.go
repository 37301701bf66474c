package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The cores: both servers of a comparison share one, so that they always meet the
// same machine; wrk and the backend share the other.
const (
	serverCore = 0
	clientCore = 1
)

// loadRounds is the default number of rounds; half of them with roles swapped.
const loadRounds = 26

func (o *options) loadRounds() int {
	switch {
	case o.rounds > 0:
		return o.rounds + o.rounds%2
	case o.quick:
		return 2
	}
	return loadRounds
}

func (o *options) turns() int {
	if o.quick {
		return 1
	}
	return 12
}

func (o *options) poolSize() int {
	if o.quick {
		return 6_000
	}
	return 40_000
}

func (o *options) selected() ([]pair, error) {
	all := pairs()
	if o.only == "" {
		return all, nil
	}
	re, err := regexp.Compile("(?i)" + o.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	all = slices.DeleteFunc(all, func(p pair) bool { return !re.MatchString(p.name) })
	if len(all) == 0 {
		return nil, fmt.Errorf("-only %q matches no comparison", o.only)
	}
	return all, nil
}

func loadLasts(o *options) time.Duration {
	chosen, _ := o.selected() // the error is told when it runs
	lasts := 60 * time.Second // building
	round := 1300 * time.Millisecond
	for _, p := range chosen {
		lasts += 2*(3*time.Second+warmRounds*round) + time.Duration(o.loadRounds())*round
		if p.throughput {
			lasts += time.Duration(2*o.turns()) * round
		}
		if p.fresh == "RS256" {
			lasts += time.Duration(o.poolSize()) * time.Millisecond
		}
	}
	return lasts
}

// outcome is what a comparison found. Times are CPU per request.
type outcome struct {
	pair
	ratio, low, high float64 // median and quartiles over the rounds
	base, cand       time.Duration
	requests         int     // of both, in all rounds
	through          float64 // ratio of throughputs; 0: not measured
	baseRate         float64
	dials            int // connections to the backend while it was measured
}

func runLoad(ctx context.Context, o *options) error {
	if err := needs("wrk", "taskset"); err != nil {
		return err
	}
	chosen, err := o.selected()
	if err != nil {
		return err
	}
	b, err := newBed(ctx, o, true)
	if err != nil {
		return err
	}
	defer b.close()
	l := &lab{bed: b}
	if l.backend, err = b.backend(clientCore); err != nil {
		return err
	}
	if l.mint, err = b.newMint(); err != nil {
		return err
	}
	var keys []string
	if l.database, keys, err = b.makeKeys(keyFile{name: "load.db", n: 100, digest: true}); err != nil {
		return err
	}
	if err := l.prepare(keys); err != nil {
		return err
	}
	var done []outcome
	for i := range chosen {
		res, err := l.compare(&chosen[i])
		if err != nil {
			return fmt.Errorf("%s: %w", chosen[i].name, err)
		}
		fmt.Println(res)
		done = append(done, res)
	}
	return reportLoad(o, done)
}

func (r outcome) String() string {
	s := fmt.Sprintf("%-48s CPU %6.2f / %6.2f µs = %.3f (%.3f to %.3f), %d requests, %d connections to the backend",
		r.name, micro(r.cand), micro(r.base), r.ratio, r.low, r.high, r.requests, r.dials)
	if r.through > 0 {
		s += fmt.Sprintf(", throughput %.3f of %.0f/s", r.through, r.baseRate)
	}
	return s
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// side is one of the two servers of a comparison.
type side struct {
	*server
	start   starter
	sent    string // file of credentials
	refused bool   // every request must be, else none
	each    []float64
	rates   []float64
	n       int
}

func (l *lab) compare(p *pair) (outcome, error) {
	base := &side{start: p.base, sent: l.files[p.sent]}
	cand := &side{start: p.cand, sent: l.files[p.sent], refused: p.refused}
	if p.candSent != "" {
		cand.sent = l.files[p.candSent]
	}
	res := outcome{pair: *p}
	var ratios []float64
	rounds := l.o.loadRounds() / 2
	for half := range 2 {
		order := []*side{base, cand}
		if half == 1 {
			slices.Reverse(order)
		}
		for _, s := range order {
			var err error
			if s.server, err = s.start(l, serverCore); err != nil {
				return res, err
			}
		}
		run := &matchup{lab: l, pair: p, base: base, cand: cand, order: order}
		if err := run.warm(); err != nil {
			return res, err
		}
		dials, err := l.accepted()
		if err != nil {
			return res, err
		}
		for range rounds {
			ratio, err := run.round()
			if err != nil {
				return res, err
			}
			ratios = append(ratios, ratio)
		}
		now, err := l.accepted()
		if err != nil {
			return res, err
		}
		res.dials += now - dials
		if most := 2*connections*(rounds+1) + 16; now-dials > most {
			return res, fmt.Errorf("%d connections to the backend in %d rounds: the pool of idle connections is too small", now-dials, rounds)
		}
		if half == 1 && p.throughput {
			if err := run.throughput(l.o.turns(), &res); err != nil {
				return res, err
			}
		}
		base.stop()
		cand.stop()
	}
	res.low, res.ratio, res.high = quartiles(ratios)
	_, b, _ := quartiles(base.each)
	_, c, _ := quartiles(cand.each)
	res.base, res.cand, res.requests = time.Duration(b), time.Duration(c), base.n+cand.n
	return res, nil
}

// accepted is how many connections the backend has taken.
func (l *lab) accepted() (int, error) {
	_, text, err := l.get("http://"+l.backend.addr+"/_accepted", "")
	if err != nil {
		return 0, fmt.Errorf("ask the backend: %w", err)
	}
	return strconv.Atoi(text)
}

// matchup is two running servers.
type matchup struct {
	*lab
	pair       *pair
	base, cand *side
	order      []*side // in which they are started and loaded
	leeway     int
	settled    bool
}

// warmRounds are not counted: connections are made, caches filled, and heaps grow
// to their size, which takes pages from the system that they then keep.
const warmRounds = 5

// warm sends what is not counted, and checks what is answered.
func (m *matchup) warm() error {
	for range warmRounds {
		if _, err := m.round(); err != nil {
			return err
		}
	}
	for _, s := range m.order {
		s.each = s.each[:len(s.each)-warmRounds]
	}
	m.settled = true
	return nil
}

// round loads both sides at once for a second, and returns the ratio of CPU per
// request.
func (m *matchup) round() (float64, error) {
	if m.pair.fresh != "" {
		if err := m.freshTokens(); err != nil {
			return 0, err
		}
	}
	before, err := m.spent()
	if err != nil {
		return 0, err
	}
	shots := make(map[*side]shot, 2)
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		problems error
	)
	for _, s := range m.order {
		wg.Go(func() {
			got, err := m.shoot(s)
			mu.Lock()
			defer mu.Unlock()
			shots[s] = got
			problems = errors.Join(problems, err)
		})
	}
	wg.Wait()
	if problems != nil {
		return 0, problems
	}
	if err := pause(m.ctx, 20*time.Millisecond); err != nil { // closing what wrk left
		return 0, err
	}
	after, err := m.spent()
	if err != nil {
		return 0, err
	}
	for _, s := range m.order {
		s.each = append(s.each, float64(after[s]-before[s])/float64(shots[s].requests))
		s.n += shots[s].requests
		_ = os.Truncate(s.log, 0) // a log of refusals grows by megabytes a second
	}
	if m.pair.fresh != "" {
		if err := m.checkFresh(shots[m.cand].requests); err != nil {
			return 0, err
		}
	}
	return m.cand.each[len(m.cand.each)-1] / m.base.each[len(m.base.each)-1], nil
}

func (m *matchup) spent() (map[*side]time.Duration, error) {
	out := make(map[*side]time.Duration, 2)
	for _, s := range m.order {
		if !m.settled { // a worker may start after its master listens
			s.pids = family(s.cmd.Process.Pid)
		}
		cpu, err := cpuOf(s.pids)
		if err != nil {
			return nil, err
		}
		out[s] = cpu
	}
	return out, nil
}

// shoot runs one wrk and judges its answers.
func (m *matchup) shoot(s *side) (shot, error) {
	got, err := m.wrk(m.ctx, clientCore, "http://"+s.addr+target, s.sent)
	switch {
	case err != nil:
		return got, err
	case got.broken > 0:
		return got, fmt.Errorf("%s: %d requests were not answered:\n%s", s.name, got.broken, s.tail())
	case s.refused && got.refused != got.requests:
		return got, fmt.Errorf("%s: %d of %d requests passed that must be refused", s.name, got.requests-got.refused, got.requests)
	case !s.refused && got.refused > 0:
		return got, fmt.Errorf("%s: %d of %d requests were refused:\n%s", s.name, got.refused, got.requests, s.tail())
	}
	return got, nil
}

// throughput loads one side after the other, in turns.
func (m *matchup) throughput(turns int, res *outcome) error {
	for range turns {
		for _, s := range m.order {
			got, err := m.shoot(s)
			if err != nil {
				return err
			}
			s.rates = append(s.rates, float64(got.requests)/got.took.Seconds())
		}
	}
	_, base, _ := quartiles(m.base.rates)
	_, cand, _ := quartiles(m.cand.rates)
	res.through, res.baseRate = cand/base, base
	return nil
}

// quartiles returns the lower one, the median and the upper one.
func quartiles(values []float64) (low, median, high float64) {
	v := slices.Clone(values)
	slices.Sort(v)
	at := func(q float64) float64 {
		pos := q * float64(len(v)-1)
		i := int(pos)
		if i+1 >= len(v) {
			return v[len(v)-1]
		}
		return v[i] + (v[i+1]-v[i])*(pos-float64(i))
	}
	if len(v) == 0 {
		return 0, 0, 0
	}
	return at(0.25), at(0.5), at(0.75)
}

// pool is tokens that are handed out once until the gate has forgotten them.
type pool struct {
	tokens []string
	next   int
	hits   float64 // of the gate's cache, when last asked
	used   string  // the gate that they were sent to
}

// perRound is more tokens than a gate takes in a round.
const perRound = 12_000

// freshTokens writes the tokens of the next round, and makes the gate forget all
// it knows when they are used up: with another leeway it is another issuer.
func (m *matchup) freshTokens() error {
	alg := m.pair.fresh
	f := m.fresh[alg]
	if f == nil {
		tokens, err := m.mint.tokens(m.ctx, alg, m.o.poolSize())
		if err != nil {
			return err
		}
		f = &pool{tokens: tokens}
		m.fresh[alg] = f
	}
	if f.used != m.cand.addr { // a new process knows none
		f.next, f.hits, f.used = 0, 0, m.cand.addr
	}
	want := min(perRound, len(f.tokens))
	if len(m.cand.each) > 0 { // half the core is its own; twice what the quickest round took, to be safe
		want = min(want, int(2*float64(time.Second)/(slices.Min(m.cand.each)+slices.Min(m.base.each))))
	}
	if f.next+want > len(f.tokens) {
		m.leeway++
		if err := m.load(m.cand.server, m.gateConfig(30+m.leeway).String()); err != nil {
			return err
		}
		f.next, f.hits = 0, 0
	}
	var b bytes.Buffer
	for _, t := range f.tokens[f.next : f.next+want] {
		b.WriteString(t + "\n")
	}
	f.next += want
	path, err := m.file("fresh.txt", b.String())
	m.base.sent, m.cand.sent = path, path
	return err
}

// checkFresh fails where tokens were remembered that should not have been.
func (m *matchup) checkFresh(requests int) error {
	hits, err := m.metric(m.cand.server, "hivegate_cache_total", `cache="tokens"`, `result="hit"`)
	if err != nil {
		return err
	}
	f := m.fresh[m.pair.fresh]
	if again := hits - f.hits; again > 0.01*float64(requests) {
		return fmt.Errorf("%.0f of %d tokens were remembered from before: the list is too short", again, requests)
	}
	f.hits = hits
	return nil
}

// load gives a running Caddy another configuration.
func (b *bed) load(s *server, caddyfile string) error {
	text := bytes.ReplaceAll([]byte(caddyfile), []byte("SITE"), []byte(":"+portOf(s.addr)))
	text = bytes.ReplaceAll(text, []byte("ADMIN"), []byte(s.admin))
	req, err := http.NewRequestWithContext(b.ctx, http.MethodPost, "http://"+s.admin+"/load", bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/caddyfile")
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("reload %s: %w", s.name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("reload %s: %s:\n%s", s.name, resp.Status, s.tail())
	}
	return nil
}
