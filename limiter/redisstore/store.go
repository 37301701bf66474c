package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/hivegate/hivegate/limiter"
)

// Options are the settings of [New]. Only Address is required.
type Options struct {
	Address *Address
	// Lease lets this node take tokens in batches instead of asking the server
	// for each request.
	Lease bool
	// OnFailure is what becomes of requests that do not say it themselves while
	// the server is away. Default: limiter.FailLocal.
	OnFailure limiter.OnFailure
	// Log is asked for a logger whenever there is something to say: a limiter
	// outlasts configurations. Default: slog.Default.
	Log func() *slog.Logger
	// HandClock decides by the times that calls are told instead of by the
	// server's clock. It is for tests that compare limiters on one clock; the
	// nodes of a fleet would each have a time of their own.
	HandClock bool
}

// Store is the [limiter.Limiter] of a fleet. Make one with [New].
type Store struct {
	opts Options
	addr *Address
	held *held
	// mirror is what this node knows of the buckets it has to do with. It is what
	// the node decides by when it is alone.
	mirror *limiter.Memory
	debts  debts
	ghosts ghosts
	leases *leases
	alone  atomic.Uint64 // decisions since the server went away

	once  sync.Once
	ctx   context.Context // ends with Close
	end   context.CancelFunc
	stop  <-chan struct{}
	kick  chan struct{}
	ended sync.WaitGroup
	link  link
	fast  atomic.Pointer[usableClient] // nil unless the link is up
}

var (
	_ limiter.Limiter = (*Store)(nil)

	errStates = errors.New("limiter: peek: there are fewer states than demands")
)

// New makes a limiter. Nothing is opened: the first call, or [Store.Start], does.
func New(opts Options) *Store {
	if opts.OnFailure == limiter.FailDefault {
		opts.OnFailure = limiter.FailLocal
	}
	if opts.Log == nil {
		opts.Log = slog.Default
	}
	s := &Store{
		opts: opts, addr: opts.Address,
		held:   newHeld(strings.ToLower(rand.Text()[:13])),
		mirror: limiter.NewMemory(limiter.MemoryOptions{}),
		kick:   make(chan struct{}, 1),
		link:   link{tried: make(chan struct{})},
	}
	s.leases = newLeases(s)
	s.ctx, s.end = context.WithCancel(context.Background())
	s.stop = s.ctx.Done()
	return s
}

// Start connects in the background, so that the first request finds a connection.
func (s *Store) Start() { s.start() }

// Up reports whether the server decided the last request.
func (s *Store) Up() bool { return s.fast.Load() != nil }

// Decide implements [limiter.Limiter]. It does not end with ctx: what was sent
// may have been decided.
func (s *Store) Decide(_ context.Context, now time.Time, req *limiter.Request, dec *limiter.Decision) error {
	w := takeWork()
	defer w.free()
	var err error
	if w.totals, w.places, err = limiter.Totals(w.totals[:0], w.places[:0], req.Demands); err != nil {
		return err
	}
	*dec = limiter.Decision{States: sized(dec.States, len(req.Demands))}
	w.slots = slotTotals(w.slots[:0], req.Holds)
	if len(w.totals)+len(w.slots) == 0 {
		return nil
	}
	client := s.usable()
	if client == nil {
		return s.decideAlone(now, req, dec, w)
	}
	if s.opts.Lease && len(w.slots) == 0 && s.leases.decide(now, req, dec, w) {
		return nil
	}
	err = s.decideThere(client, now, req, dec, w)
	if err == nil {
		return nil
	}
	s.lost(err, w.tag())
	return s.decideAlone(now, req, dec, w)
}

// decideThere lets the server decide.
func (s *Store) decideThere(c rueidis.Client, now time.Time, req *limiter.Request, dec *limiter.Decision, w *work) error {
	op := opDecide
	for i := range w.totals {
		if w.totals[i].Limit.Closed() {
			op = opPeek // lets nothing through, so nothing is taken
		}
	}
	id := ""
	if len(w.slots) > 0 {
		id = s.held.id()
	}
	a := ask{op: op, buckets: w.open(), slots: w.slots, id: id}
	if op == opPeek {
		a.slots = nil
	}
	if s.opts.Lease && op == opDecide {
		s.leases.words(now, &a)
	}
	outcome, err := s.ask(c, &a, now, w)
	if err != nil {
		if id != "" && op == opDecide {
			s.ghosts.add(id, w.slots)
		}
		return err
	}
	if s.opts.Lease && op == opDecide {
		s.leases.got(now, &a, w.replies)
	}
	s.remember(now, a.buckets, w.replies, op == opDecide && outcome == outAllowed)
	s.tell(now, dec, outcome, op, req, w)
	if dec.Outcome == limiter.Allowed && id != "" {
		s.held.take(id, w.slots)
		dec.Lease = id
	}
	return nil
}

// tell fills the decision from the server's replies.
func (s *Store) tell(now time.Time, dec *limiter.Decision, outcome int, op string, req *limiter.Request, w *work) {
	took := op == opDecide && outcome == outAllowed
	var longest time.Duration
	next := 0
	for i := range w.totals {
		t := &w.totals[i]
		cost := t.Cost
		if took {
			cost = 0
		}
		var st limiter.State
		if t.Limit.Closed() {
			st = limiter.Snapshot{}.State(t.Limit, cost)
		} else {
			snap := w.replies[next].Snapshot
			if s.opts.Lease && op == opPeek {
				snap.Tokens += float64(s.leases.has(now, t.Limit.Policy, t.Subject))
			}
			st = snap.State(t.Limit, cost)
			next++
		}
		longest = max(longest, st.Wait)
		w.states = append(w.states, st)
	}
	for i := range req.Demands {
		dec.States[i] = w.states[w.places[i]]
		dec.States[i].Limit = req.Demands[i].Limit
	}
	switch {
	case took:
		dec.Outcome = limiter.Allowed
		if s.opts.Lease {
			// As the decisions on leased tokens show it.
			_ = s.mirror.Peek(context.Background(), now, req.Demands, dec.States) // fails for a bad call alone
			for i := range dec.States {
				dec.States[i].Wait = 0
			}
		}
	case outcome == outNoSlot:
		dec.Outcome, dec.RetryAfter = limiter.ConcurrencyLimited, limiter.SlotWait
	default:
		// The server judged by the same arithmetic, so a wait is there.
		dec.Outcome, dec.RetryAfter = limiter.RateLimited, max(longest, time.Microsecond)
		if outcome == outNeither {
			dec.RetryAfter = max(longest, limiter.SlotWait)
		}
	}
}

// Release implements [limiter.Limiter]. A slot that the server cannot be told of
// is not kept alive any more, and free there after slotLife.
func (s *Store) Release(_ *limiter.Request, dec *limiter.Decision) {
	if dec == nil || dec.Outcome != limiter.Allowed || dec.Lease == "" {
		return
	}
	slots := s.held.release(dec.Lease)
	if len(slots) == 0 {
		return
	}
	c := s.fast.Load()
	if c == nil {
		s.ghosts.add(dec.Lease, slots)
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.addr.Timeout)
	defer cancel()
	if err := s.drop(ctx, c.Client, dec.Lease, slots); err != nil {
		s.ghosts.add(dec.Lease, slots)
		s.lost(err, tag(slots[0].subject))
	}
}

// Peek implements [limiter.Limiter]. While the server is away it shows what this
// node knows.
func (s *Store) Peek(ctx context.Context, now time.Time, demands []limiter.Demand, states []limiter.State) error {
	w := takeWork()
	defer w.free()
	var err error
	if w.totals, w.places, err = limiter.Totals(w.totals[:0], w.places[:0], demands); err != nil {
		return err
	}
	if len(states) < len(demands) {
		return errStates
	}
	if len(demands) == 0 {
		return nil
	}
	if c := s.usable(); c != nil {
		req := limiter.Request{Demands: demands}
		dec := limiter.Decision{States: states[:len(demands)]}
		a := ask{op: opPeek, buckets: w.open()}
		if _, err = s.ask(c, &a, now, w); err == nil {
			s.tell(now, &dec, outAllowed, opPeek, &req, w)
			return nil
		}
		s.lost(err, w.tag())
	}
	return s.mirror.Peek(ctx, now, demands, states)
}

// Refund implements [limiter.Limiter].
func (s *Store) Refund(ctx context.Context, now time.Time, demands []limiter.Demand) error {
	w := takeWork()
	defer w.free()
	var err error
	if w.totals, w.places, err = limiter.Totals(w.totals[:0], w.places[:0], demands); err != nil {
		return err
	}
	if len(demands) == 0 {
		return nil
	}
	if c := s.usable(); c != nil {
		a := ask{op: opRefund, buckets: w.open()}
		if _, err = s.ask(c, &a, now, w); err == nil {
			s.remember(now, a.buckets, w.replies, false)
			return nil
		}
		s.lost(err, w.tag())
	}
	s.debts.add(w.totals, -1)
	return s.mirror.Refund(ctx, now, demands)
}

// Ping implements [limiter.Limiter]: it asks the server.
func (s *Store) Ping(ctx context.Context) error {
	c := s.usable()
	if c == nil {
		return fmt.Errorf("%w: %w", limiter.ErrUnavailable, s.cause())
	}
	if err := c.Do(ctx, c.B().Ping().Build()).Error(); err != nil {
		if ctx.Err() == nil {
			s.lost(err, "")
		}
		return fmt.Errorf("%w: %w", limiter.ErrUnavailable, err)
	}
	return nil
}

// Close implements [limiter.Limiter]. Tokens that were leased and not spent go
// back; slots that are still held run out.
func (s *Store) Close() error {
	s.once.Do(func() {}) // what was never used opens nothing, now least of all
	s.leases.close()
	s.end()
	s.ended.Wait()
	s.fast.Store(nil)
	if s.link.client != nil {
		s.link.client.Close()
	}
	return s.mirror.Close()
}

// ask calls the script, once for each part of the cluster that has to do with it.
func (s *Store) ask(c rueidis.Client, a *ask, now time.Time, w *work) (outcome int, err error) {
	if len(a.buckets)+len(a.slots) == 0 {
		return outAllowed, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.addr.Timeout)
	defer cancel()
	if s.addr.Cluster && !a.oneTag() {
		return s.askParts(ctx, c, a, now, w)
	}
	outcome, w.replies, err = s.exec(ctx, c, a, now, w.replies[:0])
	return outcome, err
}

func (s *Store) exec(ctx context.Context, c rueidis.Client, a *ask, now time.Time, replies []reply) (int, []reply, error) {
	keys, args := s.args(a, now)
	text, err := decideScript.Exec(ctx, c, keys, args).ToString()
	if err != nil {
		return 0, replies, err
	}
	return parse(text, len(a.buckets), replies)
}

// remember lets the mirror know what the server has said; took: of a decision
// that the mirror has not seen.
func (s *Store) remember(now time.Time, buckets []limiter.Total, replies []reply, took bool) {
	for i := range buckets {
		b := &buckets[i]
		tokens := replies[i].TokensAt(b.Limit, 0)
		if s.opts.Lease {
			tokens = s.steady(now, b, tokens+float64(s.leases.has(now, b.Limit.Policy, b.Subject)), took)
		}
		s.mirror.Set(now, b.Limit, b.Subject, tokens)
	}
}

// steady keeps what callers are told from jumping up when other nodes bring back
// what they were lent: more than is known here, refill counted, is shown once in
// a window.
func (s *Store) steady(now time.Time, b *limiter.Total, tokens float64, took bool) float64 {
	known, ok := s.mirror.Tokens(now, b.Limit, b.Subject)
	if took {
		known -= float64(b.Cost)
	}
	if !ok || known < 0 || tokens <= known+1 || s.leases.mayRaise(now, b) {
		return tokens
	}
	return known
}

func (s *Store) log() *slog.Logger { return s.opts.Log() }

// work is the memory of one decision; it is reused.
type work struct {
	totals  []limiter.Total
	opened  []limiter.Total
	places  []int
	slots   []slotTotal
	replies []reply
	states  []limiter.State
	taken   []*lease
}

var works = sync.Pool{New: func() any { return new(work) }}

func takeWork() *work {
	return works.Get().(*work) //nolint:errcheck // the pool holds nothing else
}

func (w *work) free() {
	clear(w.totals)
	clear(w.opened)
	clear(w.slots)
	clear(w.states)
	clear(w.taken)
	w.totals, w.opened, w.places, w.slots = w.totals[:0], w.opened[:0], w.places[:0], w.slots[:0]
	w.replies, w.states, w.taken = w.replies[:0], w.states[:0], w.taken[:0]
	works.Put(w)
}

// open are the totals that have a bucket.
func (w *work) open() []limiter.Total {
	w.opened = w.opened[:0]
	for i := range w.totals {
		if !w.totals[i].Limit.Closed() {
			w.opened = append(w.opened, w.totals[i])
		}
	}
	return w.opened
}

// tag is the hash tag of what was asked for, for the tender to try again.
func (w *work) tag() string {
	switch {
	case len(w.totals) > 0:
		return tag(w.totals[0].Subject)
	case len(w.slots) > 0:
		return tag(w.slots[0].subject)
	}
	return ""
}

// sized returns states with length n, on the same array where it is big enough.
func sized(states []limiter.State, n int) []limiter.State {
	if cap(states) < n {
		return make([]limiter.State, n)
	}
	return states[:n]
}
