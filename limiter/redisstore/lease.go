package redisstore

import (
	"context"
	"hash/maphash"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/hivegate/hivegate/limiter"
)

const (
	// generation is the time in which lent tokens are counted together; the script
	// counts them against the capacity to the end of the next one.
	generation = 3 * time.Second
	// leaseLife is how long a node spends what it was lent, from before it asked:
	// shorter than a generation, lest a clock that is a little slow overspend.
	leaseLife = generation * 9 / 10
	// leaseAhead is the time for which a batch should last, and rateOver that over
	// which the rate is taken.
	leaseAhead = time.Second
	rateOver   = leaseAhead / 4
	// maxBatch is the most tokens of one batch.
	maxBatch = 2000
	// idleAfter is after how long without a request tokens go back.
	idleAfter = 500 * time.Millisecond
	// forgetAfter is after how long without a request a bucket's rate is forgotten.
	forgetAfter = 10 * time.Second
	// maxLeases bounds the buckets whose rate is watched. Those past it are decided
	// by the server, request by request.
	maxLeases = 200_000
	// leaseShards is a power of two, at most 64: a set of them is a uint64.
	leaseShards = 32
	// refillers ask for batches in the background.
	refillers = 4
)

// leases are the tokens that the server has lent to this node.
type leases struct {
	s      *Store
	seed   maphash.Seed
	shards [leaseShards]leaseShard
	asks   chan *lease
	stop   chan struct{} // closed by close
	ended  sync.WaitGroup
	// decided counts the decisions on leased tokens.
	decided atomic.Uint64
}

type leaseShard struct {
	mu    sync.Mutex // guards leases and what they point to
	all   map[bucketName]*lease
	epoch uint64 // raised when all tokens are forgotten
}

// lease is one bucket.
type lease struct {
	bucketName
	shard   *leaseShard
	limit   *limiter.Limit
	parcels []parcel // oldest first; a few
	asking  bool     // a batch is being asked for
	// stale: the server went away, and tokens wait for it to take them back. The
	// mirror counts them too, and is what this node spends from meanwhile.
	stale bool

	last  time.Time // of the last request
	since time.Time // since when count counts
	count int
	rate  float64 // tokens a second asked for lately
	// raised is when more was last shown to be there than was known here.
	raised time.Time
}

// parcel is what was lent at once.
type parcel struct {
	gen    int64
	tokens int // left
	used   int // spent, and not yet reported
	until  time.Time
}

func newLeases(s *Store) *leases {
	l := &leases{s: s, seed: maphash.MakeSeed(), asks: make(chan *lease, 1024), stop: make(chan struct{})}
	for i := range l.shards {
		l.shards[i].all = make(map[bucketName]*lease)
	}
	return l
}

func (ls *leases) index(subject string) int {
	return int(maphash.String(ls.seed, subject) & (leaseShards - 1))
}

// lock locks the shards of all buckets in ascending order.
func (ls *leases) lock(totals []limiter.Total) (set uint64) {
	for i := range totals {
		set |= 1 << ls.index(totals[i].Subject)
	}
	for rest := set; rest != 0; rest &= rest - 1 {
		ls.shards[bits.TrailingZeros64(rest)].mu.Lock()
	}
	return set
}

func (ls *leases) unlock(set uint64) {
	for ; set != 0; set &= set - 1 {
		ls.shards[bits.TrailingZeros64(set)].mu.Unlock()
	}
}

// decide lets a request through on tokens that this node holds of all its
// buckets. false: the server must decide.
func (ls *leases) decide(now time.Time, req *limiter.Request, dec *limiter.Decision, w *work) bool {
	w.taken = w.taken[:0]
	enough := true
	set := ls.lock(w.totals)
	for i := range w.totals {
		t := &w.totals[i]
		if t.Limit.Closed() {
			enough = false
			break
		}
		l := ls.watch(now, t)
		if l == nil || l.limit != t.Limit && !sameFigures(l.limit, t.Limit) || l.left(now) < t.Cost {
			enough = false
			continue // the others' rates count all the same
		}
		w.taken = append(w.taken, l)
	}
	if enough {
		for i, l := range w.taken {
			l.spend(now, w.totals[i].Cost)
		}
	}
	ls.unlock(set)
	if !enough {
		return false
	}
	// The mirror holds these tokens as well, and says what callers are told. If it
	// has fallen behind, the server is asked, and it is set anew.
	plain := limiter.Request{Demands: req.Demands}
	if err := ls.s.mirror.Decide(context.Background(), now, &plain, dec); err != nil || dec.Outcome != limiter.Allowed {
		ls.giveBack(now, w)
		*dec = limiter.Decision{States: dec.States}
		return false
	}
	ls.decided.Add(1)
	for _, l := range w.taken {
		ls.refillSoon(now, l)
	}
	return true
}

// watch counts a request for a bucket. nil: too many are watched. The shard is locked.
func (ls *leases) watch(now time.Time, t *limiter.Total) *lease {
	sh := &ls.shards[ls.index(t.Subject)]
	name := bucketName{t.Limit.Policy, t.Subject}
	l := sh.all[name]
	if l == nil {
		if len(sh.all) >= maxLeases/leaseShards {
			return nil
		}
		name.subject = strings.Clone(name.subject)
		l = &lease{bucketName: name, shard: sh, limit: t.Limit, last: now, since: now, raised: now}
		sh.all[name] = l
	}
	if now.Sub(l.last) > 4*rateOver { // it begins anew
		l.since, l.count, l.rate = now, 0, 0
	}
	l.last = now
	l.count += t.Cost
	if d := now.Sub(l.since); d >= rateOver || d < 0 {
		rate := float64(l.count) / max(d, rateOver).Seconds()
		if l.rate > 0 {
			rate = (rate + l.rate) / 2
		}
		l.rate, l.count, l.since = rate, 0, now
	}
	return l
}

func sameFigures(a, b *limiter.Limit) bool {
	return a.N == b.N && a.Per == b.Per && a.Burst == b.Burst
}

// left is how many tokens may be spent.
func (l *lease) left(now time.Time) (n int) {
	if l.stale {
		return 0
	}
	for i := range l.parcels {
		if p := &l.parcels[i]; now.Before(p.until) {
			n += p.tokens
		}
	}
	return n
}

// spend takes n tokens, which are there, from the oldest parcels.
func (l *lease) spend(now time.Time, n int) {
	for i := range l.parcels {
		p := &l.parcels[i]
		if !now.Before(p.until) {
			continue
		}
		k := min(p.tokens, n)
		p.tokens, p.used, n = p.tokens-k, p.used+k, n-k
	}
}

// giveBack undoes spend.
func (ls *leases) giveBack(now time.Time, w *work) {
	set := ls.lock(w.totals)
	defer ls.unlock(set)
	for i, l := range w.taken {
		n := w.totals[i].Cost
		for j := len(l.parcels) - 1; j >= 0 && n > 0; j-- {
			p := &l.parcels[j]
			k := min(p.used, n)
			p.tokens, p.used, n = p.tokens+k, p.used-k, n-k
		}
	}
}

// batch is how many tokens to ask for.
func (l *lease) batch() int {
	n := int(math.Ceil(l.rate * leaseAhead.Seconds()))
	n = min(n, l.limit.Burst/10, maxBatch)
	if n < 2 {
		return 0
	}
	return n
}

// refillSoon asks for a batch in the background when little of the last is left.
func (ls *leases) refillSoon(now time.Time, l *lease) {
	l.shard.mu.Lock()
	want := l.batch()
	ask := !l.asking && want > 0 && l.left(now) <= want/4
	if ask {
		l.asking = true
	}
	l.shard.mu.Unlock()
	if !ask {
		return
	}
	if ls.s.opts.HandClock {
		ls.refill(now, l)
		return
	}
	select {
	case ls.asks <- l:
	default: // they are busy: the next request asks again
		l.shard.mu.Lock()
		l.asking = false
		l.shard.mu.Unlock()
	}
}

// refillAll serves asks until the Store ends.
func (ls *leases) refillAll() {
	for {
		select {
		case <-ls.stop:
			return
		case l := <-ls.asks:
			ls.refill(time.Now(), l)
		}
	}
}

// refill reports on a bucket and asks for a batch; l.asking is set.
func (ls *leases) refill(now time.Time, l *lease) {
	l.shard.mu.Lock()
	want := l.batch()
	word, epoch := l.report(now, want, false)
	limit := l.limit
	l.shard.mu.Unlock()
	if c := ls.s.fast.Load(); c != nil {
		if err := ls.send(c.Client, now, l, limit, word, epoch); err != nil {
			ls.s.lost(err, tag(l.subject))
		}
		return
	}
	l.shard.mu.Lock()
	l.asking = false
	l.shard.mu.Unlock()
}

// send brings a report to the server, and what it lends back.
func (ls *leases) send(c rueidis.Client, now time.Time, l *lease, limit *limiter.Limit, word string, epoch uint64) error {
	s := ls.s
	w := takeWork()
	defer w.free()
	w.opened = append(w.opened[:0], limiter.Total{Limit: limit, Subject: l.subject})
	a := ask{op: opDecide, buckets: w.opened, words: []string{word}, epochs: []uint64{epoch}}
	if _, err := s.ask(c, &a, now, w); err != nil {
		return err
	}
	ls.got(now, &a, w.replies)
	return nil
}

// report is the script's third word: what is asked for, and of up to two parcels
// what became of them. Parcels older than the youngest are brought back with it, and
// with all the youngest too. The shard is locked.
func (l *lease) report(now time.Time, want int, all bool) (word string, epoch uint64) {
	b := make([]byte, 0, 64)
	b = strconv.AppendInt(b, int64(want), 10)
	told := 0
	keep := l.parcels[:0]
	for i := range l.parcels {
		p := l.parcels[i]
		back := 0
		if all || i < len(l.parcels)-1 || !now.Before(p.until) {
			back = p.tokens
		}
		if told < 2 && p.used+back > 0 {
			told++
			b = append(b, ' ')
			b = strconv.AppendInt(b, p.gen, 10)
			b = append(b, ' ')
			b = strconv.AppendInt(b, int64(p.used+back), 10)
			b = append(b, ' ')
			b = strconv.AppendInt(b, int64(back), 10)
			p.used, p.tokens = 0, p.tokens-back
		}
		if p.tokens+p.used > 0 {
			keep = append(keep, p)
		}
	}
	l.parcels = keep
	l.stale = l.stale && len(keep) > 0
	for ; told < 2; told++ {
		b = append(b, " 0 0 0"...)
	}
	return string(b), l.shard.epoch
}

// words are the reports on buckets that the server is about to decide on. All that
// this node holds goes back with them: it is not enough for this request, and may
// be so together with what is there.
func (ls *leases) words(now time.Time, a *ask) {
	for i := range a.buckets {
		t := &a.buckets[i]
		sh := &ls.shards[ls.index(t.Subject)]
		sh.mu.Lock()
		l := sh.all[bucketName{t.Limit.Policy, t.Subject}]
		word, epoch := "", sh.epoch
		switch {
		case l == nil:
		case !sameFigures(l.limit, t.Limit):
			word, epoch = l.report(now, 0, true)
			l.limit = t.Limit
		case l.asking:
			word, epoch = l.report(now, 0, true)
		default:
			word, epoch = l.report(now, l.batch(), true)
			l.asking = true
		}
		sh.mu.Unlock()
		a.words, a.epochs = append(a.words, word), append(a.epochs, epoch)
	}
}

// got takes what the server has lent.
func (ls *leases) got(now time.Time, a *ask, replies []reply) {
	for i := range a.buckets {
		t := &a.buckets[i]
		sh := &ls.shards[ls.index(t.Subject)]
		sh.mu.Lock()
		l := sh.all[bucketName{t.Limit.Policy, t.Subject}]
		if l != nil {
			l.asking = false
			if n := replies[i].lent; n > 0 && sh.epoch == a.epochs[i] {
				l.parcels = append(l.parcels, parcel{gen: replies[i].gen, tokens: n, until: now.Add(leaseLife)})
			}
		}
		sh.mu.Unlock()
	}
}

// has is how many tokens of a bucket this node holds.
func (ls *leases) has(now time.Time, policy, subject string) int {
	sh := &ls.shards[ls.index(subject)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if l := sh.all[bucketName{policy, subject}]; l != nil {
		return l.left(now)
	}
	return 0
}

// mayRaise reports whether more may be shown of a bucket than was known here:
// once in its window, so that what callers are told does not jump about.
func (ls *leases) mayRaise(now time.Time, t *limiter.Total) bool {
	sh := &ls.shards[ls.index(t.Subject)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	l := sh.all[bucketName{t.Limit.Policy, t.Subject}]
	if l == nil {
		return true
	}
	if now.Sub(l.raised) < t.Limit.Window() {
		return false
	}
	l.raised = now
	return true
}

// forget lets no more tokens be spent: the server that lent them is away.
func (ls *leases) forget() {
	for i := range ls.shards {
		sh := &ls.shards[i]
		sh.mu.Lock()
		sh.epoch++
		for _, l := range sh.all {
			l.stale, l.asking = len(l.parcels) > 0, false
		}
		sh.mu.Unlock()
	}
}

// Which leases bringBack reports on.
const (
	backUnused = iota // those that nobody asks for, or that are about to run out
	backStale         // those from before the server went away
	backAll
)

// bringBack returns tokens, and forgets the rates of buckets that are not used any more.
func (ls *leases) bringBack(c rueidis.Client, now time.Time, which int) error {
	type due struct {
		l     *lease
		limit *limiter.Limit
		word  string
		epoch uint64
	}
	var list []due
	for i := range ls.shards {
		sh := &ls.shards[i]
		sh.mu.Lock()
		for name, l := range sh.all {
			if len(l.parcels) == 0 {
				l.stale = false
				if now.Sub(l.last) > forgetAfter && !l.asking {
					delete(sh.all, name)
				}
				continue
			}
			late := !now.Add(leaseLife / 4).Before(l.parcels[0].until)
			if which == backAll || l.stale || which == backUnused && (now.Sub(l.last) > idleAfter || late && !l.asking) {
				word, epoch := l.report(now, 0, true)
				list = append(list, due{l, l.limit, word, epoch})
			}
		}
		sh.mu.Unlock()
	}
	for len(list) > 0 {
		n := min(len(list), mergeBatch)
		execs := make([]rueidis.LuaExec, n)
		asks := make([]ask, n)
		for i := range execs {
			d := &list[i]
			asks[i] = ask{op: opDecide, words: []string{d.word}, epochs: []uint64{d.epoch},
				buckets: []limiter.Total{{Limit: d.limit, Subject: d.l.subject}}}
			execs[i].Keys, execs[i].Args = ls.s.args(&asks[i], now)
		}
		// All at once: one after the other they would come too late on a busy node.
		ctx, cancel := context.WithTimeout(ls.s.ctx, reachTimeout)
		for i, r := range decideScript.ExecMulti(ctx, c, execs...) {
			text, err := r.ToString()
			if err == nil {
				var replies []reply
				if _, replies, err = parse(text, 1, nil); err == nil {
					ls.got(now, &asks[i], replies)
				}
			}
			if err != nil {
				cancel()
				return err
			}
		}
		cancel()
		list = list[n:]
	}
	return nil
}

// start begins to ask for batches in the background.
func (ls *leases) start() {
	for range refillers {
		ls.ended.Go(ls.refillAll)
	}
}

// close brings everything back.
func (ls *leases) close() {
	close(ls.stop)
	ls.ended.Wait() // what they were lent must be known
	if c := ls.s.fast.Load(); c != nil && ls.s.opts.Lease {
		_ = ls.bringBack(c.Client, time.Now(), backAll) // else it is refilled
	}
}
