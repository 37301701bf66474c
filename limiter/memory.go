package limiter

import (
	"context"
	"errors"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of [MemoryOptions].
const (
	DefaultMaxBuckets = 2_000_000
	DefaultSweepEvery = 30 * time.Second
)

// MemoryOptions are the settings of [NewMemory]. The zero value is good.
type MemoryOptions struct {
	// MaxBuckets bounds the number of buckets, and with it memory: see the
	// package comment for what happens there. Default: DefaultMaxBuckets.
	MaxBuckets int
	// Now is the clock of the sweeper, and gives the moment that times are
	// counted from; decisions are told the time. Default: time.Now.
	Now func() time.Time
	// SweepEvery is the time between two sweeps. Below 0 nothing is swept but
	// by Sweep. Default: DefaultSweepEvery.
	SweepEvery time.Duration
}

// Memory is the [Limiter] of one process. Make one with [NewMemory].
type Memory struct {
	// id tells this Memory from all others of the process: see place.
	id  uint64
	now func() time.Time
	// base is what bucket times count from: a whole microsecond of the wall
	// clock, with its monotonic reading.
	base   time.Time
	seed   maphash.Seed
	shards []shard

	// sweeping is held by the one Sweep that runs.
	sweeping sync.Mutex
	stop     chan struct{}
	stopOnce sync.Once
	stopped  sync.WaitGroup
}

var _ Limiter = (*Memory)(nil)

var (
	errNoLimit = errors.New("limiter: a demand has no limit")
	errStates  = errors.New("limiter: peek: there are fewer states than demands")
)

// memories is how many were made, and the id of the last.
var memories atomic.Uint64

// NewMemory makes a limiter and starts its sweeper, which Close ends.
func NewMemory(opts MemoryOptions) *Memory {
	if opts.MaxBuckets <= 0 {
		opts.MaxBuckets = DefaultMaxBuckets
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.SweepEvery == 0 {
		opts.SweepEvery = DefaultSweepEvery
	}
	base := opts.Now()
	m := &Memory{
		id:  memories.Add(1),
		now: opts.Now,
		// Not Truncate, which would drop the monotonic reading.
		base:   base.Add(-time.Duration(base.Nanosecond() % int(time.Microsecond))),
		seed:   maphash.MakeSeed(),
		shards: makeShards(opts.MaxBuckets),
		stop:   make(chan struct{}),
	}
	if opts.SweepEvery > 0 {
		m.stopped.Go(func() { m.sweepAll(opts.SweepEvery) })
	}
	return m
}

// Decide implements [Limiter]. It allocates only to remember a bucket it has
// not seen before, and fails only for a demand without a Limit.
func (m *Memory) Decide(_ context.Context, now time.Time, req *Request, dec *Decision) error {
	if err := checkDemands(req.Demands); err != nil {
		return err
	}
	*dec = Decision{States: sized(dec.States, len(req.Demands))}
	clock := m.clock(now)

	locked := m.lock(req.Demands, req.Holds)
	defer m.unlock(locked)

	var room [4]view
	views, wait := m.look(room[:0], clock, locked, req.Demands)
	free := m.slotsFree(locked, req.Holds)
	switch {
	case wait > 0:
		dec.Outcome, dec.RetryAfter = RateLimited, wait
		if !free {
			dec.RetryAfter = max(wait, slotWait)
		}
	case !free:
		dec.Outcome, dec.RetryAfter = ConcurrencyLimited, slotWait
	default:
		take(views, req.Demands)
		m.takeSlots(locked, req.Holds)
	}
	fillStates(dec.States, views, dec.Outcome == Allowed, clock, req.Demands)
	return nil
}

// Release implements [Limiter]. Slots are counted by name and subject alone,
// so it gives back what Decide took whatever Max has become meanwhile.
func (m *Memory) Release(req *Request, dec *Decision) {
	if dec != nil && dec.Outcome != Allowed {
		return // took none
	}
	for i := range req.Holds {
		h := &req.Holds[i]
		s := &m.shards[m.index(h.Subject)]
		s.mu.Lock()
		s.releaseSlot(slotKey{h.Name, h.Subject})
		s.mu.Unlock()
	}
}

// Peek implements [Limiter]. It fails for a demand without a Limit, and for
// fewer states than demands.
func (m *Memory) Peek(_ context.Context, now time.Time, demands []Demand, states []State) error {
	if err := checkDemands(demands); err != nil {
		return err
	}
	if len(states) < len(demands) {
		return errStates
	}
	clock := m.clock(now)
	locked := m.lock(demands, nil)
	defer m.unlock(locked)
	var room [4]view
	views, _ := m.look(room[:0], clock, locked, demands)
	fillStates(states[:len(demands)], views, false, clock, demands)
	return nil
}

// Refund implements [Limiter]. A bucket that is not there is full, and stays so.
func (m *Memory) Refund(_ context.Context, now time.Time, demands []Demand) error {
	if err := checkDemands(demands); err != nil {
		return err
	}
	clock := m.clock(now)
	locked := m.lock(demands, nil)
	defer m.unlock(locked)
	var room [4]view
	views, _ := m.look(room[:0], clock, locked, demands)
	for i := range views {
		if v := &views[i]; v.b != nil && v.first == i {
			v.b.give(v.at, v.cost)
		}
	}
	return nil
}

// Ping implements [Limiter]: memory is always there.
func (m *Memory) Ping(context.Context) error { return nil }

// Close implements [Limiter]: it ends the sweeper and waits for it. A second
// call does nothing.
func (m *Memory) Close() error {
	m.stopOnce.Do(func() { close(m.stop) })
	m.stopped.Wait()
	return nil
}

// view is what a decision finds for one demand.
type view struct {
	s *shard
	// b is nil where there is no bucket, which means a full one, and for a
	// closed limit, which needs none.
	b *bucket
	// at is the bucket's time: that of the decision, or that of the bucket's
	// last change where this is later.
	at instant
	// tokens are there at that time, and after take what is left.
	tokens float64
	// full is the time from there until the bucket is full, set by take.
	full time.Duration
	// wait is the time from now until cost tokens are there.
	wait time.Duration
	// first is the index of the first demand on the same bucket. It speaks for
	// the others, and cost is what all of them ask for.
	first int
	cost  int
}

// look appends a view for each demand to views, and says how long until all of
// them could be met: 0 where they can be now. The shards are locked.
func (m *Memory) look(views []view, now instant, locked uint64, demands []Demand) ([]view, time.Duration) {
	var longest time.Duration
	for i := range demands {
		d := &demands[i]
		first, cost := merge(demands, i)
		if first < i {
			views = append(views, views[first])
			continue
		}
		views = append(views, view{s: m.shardOf(locked, d.Subject), at: now, first: i, cost: cost})
		v := &views[i]
		if d.Limit.closed() {
			v.wait = never
		} else {
			m.lookAt(v, now, d)
		}
		longest = max(longest, v.wait)
	}
	return views, longest
}

// lookAt fills tokens and wait for a limit that can let something through.
func (m *Memory) lookAt(v *view, now instant, d *Demand) {
	if v.cost > d.Limit.Burst {
		v.wait = never
	}
	v.b = m.find(v.s, d)
	if v.b == nil {
		v.tokens = float64(d.Limit.Burst)
		return
	}
	v.at = m.inside(v.b, now)
	if v.b.limit != d.Limit {
		switch {
		case v.b.limit.sameFigures(d.Limit):
			v.b.limit = d.Limit // lets the old configuration's go
		case v.at.us >= v.b.idleAt:
			v.s.forget(bucketKey{d.Limit.Policy, d.Subject}, v.b)
			v.b, v.at, v.tokens = nil, now, float64(d.Limit.Burst)
			return
		default:
			v.b.settle(v.at, d.Limit)
		}
	}
	v.tokens = v.b.tokensAt(v.at.us)
	if v.wait == 0 && !enough(v.tokens, v.cost, d.Limit.Burst, d.Limit.rate()) {
		v.wait = min(v.b.waitFor(v.at.us, v.cost)+v.at.since(now), maxDuration)
	}
}

// place is what a Place remembers: the bucket, and its shard in which Memory. A
// number stands for that: who holds a place long after a limiter was replaced must
// not keep all of it in memory.
type place struct {
	memory uint64
	shard  int
	b      *bucket
}

// at returns what p knows of m's, else nil.
func (p *Place) at(m *Memory) *place {
	if p == nil {
		return nil
	}
	if f := p.found.Load(); f != nil && f.memory == m.id {
		return f
	}
	return nil
}

// find is the bucket of a demand, or nil. Its shard, which is locked, is s.
func (m *Memory) find(s *shard, d *Demand) *bucket {
	if f := d.Place.at(m); f != nil && f.b.limit != nil {
		return f.b
	}
	b := s.buckets[bucketKey{d.Limit.Policy, d.Subject}]
	if b != nil && d.Place != nil {
		d.Place.found.Store(&place{memory: m.id, shard: m.index(d.Subject), b: b})
	}
	return b
}

// take takes what all the views found to be there: first from the buckets that
// are there, because making one may forget another that is idle.
func take(views []view, demands []Demand) {
	missing := false
	for i := range views {
		if v := &views[i]; v.b != nil && v.first == i {
			v.take()
		} else if v.b == nil {
			missing = true
		}
	}
	if !missing {
		return
	}
	for i := range views {
		if v := &views[i]; v.b == nil && v.first == i {
			v.b = v.s.insert(v.at, &demands[i])
			v.take()
		}
	}
}

func (v *view) take() {
	v.tokens -= float64(v.cost)
	v.full = v.b.take(v.at, v.cost, v.tokens)
}

// fillStates tells what the views hold; took says that take has been there.
func fillStates(states []State, views []view, took bool, now instant, demands []Demand) {
	for i := range states {
		l, v, st := demands[i].Limit, &views[views[i].first], &states[i]
		st.Limit, st.Wait = l, v.wait
		switch {
		case l.closed():
			st.Remaining, st.Full = 0, never
		case v.b == nil:
			st.Remaining, st.Full = l.Burst, 0
		default:
			// What the bucket is set to; a bucket made since may have pushed it out.
			set := demands[views[i].first].Limit
			if !took {
				v.full = fullIn(v.tokens, set.Burst, set.rate())
			}
			st.Remaining = wholeTokens(v.tokens, set.Burst, set.rate())
			st.Full = v.full
			if st.Full > 0 {
				st.Full = min(st.Full+v.at.since(now), maxDuration)
			}
		}
	}
}

// inside is now as b may be told it: time never runs back inside a bucket.
func (m *Memory) inside(b *bucket, now instant) instant {
	if b.at > now.us {
		return m.instant(b.at)
	}
	return now
}

// merge finds the first demand on the bucket of demands[i] (i itself, as a
// rule), and what all demands from there on ask of it.
func merge(demands []Demand, i int) (first, cost int) {
	d := &demands[i]
	for first = range i {
		if sameBucket(d, &demands[first]) {
			return first, 0
		}
	}
	cost = d.cost()
	for j := i + 1; j < len(demands); j++ {
		if sameBucket(d, &demands[j]) {
			cost += demands[j].cost()
		}
	}
	return i, cost
}

func sameBucket(a, b *Demand) bool {
	return a.Limit.Policy == b.Limit.Policy && a.Subject == b.Subject
}

// cost is Cost within bounds: less than 1 is taken for 1, so that nobody gains
// tokens, and more than any capacity for just more, so that sums do not overflow.
func (d *Demand) cost() int {
	return min(max(d.Cost, 1), MaxN+1)
}

func checkDemands(demands []Demand) error {
	for i := range demands {
		if demands[i].Limit == nil {
			return errNoLimit
		}
	}
	return nil
}

// sized returns states with length n, on the same array where it is big enough.
func sized(states []State, n int) []State {
	if cap(states) < n {
		return make([]State, n)
	}
	return states[:n]
}

// clock is t in whole microseconds, rounded down: what a store that counts the
// wall clock's microseconds would compute, as base is one of them.
func (m *Memory) clock(t time.Time) instant {
	d := t.Sub(m.base)
	us := int64(d / time.Microsecond)
	if d%time.Microsecond < 0 {
		us--
	}
	return m.instant(us)
}

func (m *Memory) instant(us int64) instant {
	return instant{us: us, t: m.base.Add(time.Duration(us) * time.Microsecond)}
}

// lock locks the shards of all that a decision is about, each once and in
// ascending order, so that two decisions never wait for each other. It returns
// the set of them.
func (m *Memory) lock(demands []Demand, holds []Hold) uint64 {
	var set uint64
	last, known := "", false
	for i := range demands {
		if f := demands[i].Place.at(m); f != nil {
			set |= 1 << f.shard
			continue
		}
		if s := demands[i].Subject; !known || s != last {
			set |= 1 << m.index(s)
			last, known = s, true
		}
	}
	for i := range holds {
		if s := holds[i].Subject; !known || s != last {
			set |= 1 << m.index(s)
			last, known = s, true
		}
	}
	for rest := set; rest != 0; rest &= rest - 1 {
		m.shards[bits.TrailingZeros64(rest)].mu.Lock()
	}
	return set
}

func (m *Memory) unlock(set uint64) {
	for ; set != 0; set &= set - 1 {
		m.shards[bits.TrailingZeros64(set)].mu.Unlock()
	}
}

// index is the number of the shard that keeps all of a subject.
func (m *Memory) index(subject string) int {
	return int(maphash.String(m.seed, subject) & uint64(len(m.shards)-1))
}

// shardOf is the shard of a subject, which is among the locked ones: if only
// one is locked, as a rule, nothing need be hashed.
func (m *Memory) shardOf(locked uint64, subject string) *shard {
	if locked&(locked-1) == 0 {
		return &m.shards[bits.TrailingZeros64(locked)]
	}
	return &m.shards[m.index(subject)]
}
