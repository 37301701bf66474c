package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/hivegate/hivegate/limiter"
)

const (
	// maxDebts bounds the buckets of which is kept what this node decided alone.
	// Past it decisions go on, and the server is not told of them: a bucket's
	// mirror still bounds what it may hold afterwards.
	maxDebts = 200_000
	// mergeBatch is how many calls go to the server together.
	mergeBatch = 500
	// maxGhosts bounds the leases that the server should forget; past it they
	// run out by themselves.
	maxGhosts = 10_000
	// ghostsHaunt is how long: a call that was given up may still be carried out.
	ghostsHaunt = 10 * time.Second
)

// decideAlone decides without the server, in the way that the request, or else
// the configuration, says.
func (s *Store) decideAlone(now time.Time, req *limiter.Request, dec *limiter.Decision, w *work) error {
	how := req.OnFailure
	if how == limiter.FailDefault {
		how = s.opts.OnFailure
	}
	if how == limiter.FailDeny {
		return fmt.Errorf("%w: %w", limiter.ErrUnavailable, s.cause())
	}
	s.alone.Add(1)
	ctx := context.Background()
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	free := how == limiter.FailAllow || s.held.freeLocked(w.slots)
	allowed := false
	var err error
	switch {
	case how == limiter.FailAllow:
		err = s.mirror.Peek(ctx, now, req.Demands, dec.States)
		for i := range dec.States {
			dec.States[i].Wait = 0
		}
		allowed = true
	case free:
		if err = s.mirror.Decide(ctx, now, &limiter.Request{Demands: req.Demands}, dec); err == nil {
			allowed = dec.Outcome == limiter.Allowed
		}
	default:
		err = s.mirror.Peek(ctx, now, req.Demands, dec.States)
		var longest time.Duration
		for i := range dec.States {
			longest = max(longest, dec.States[i].Wait)
		}
		dec.Outcome, dec.RetryAfter = limiter.ConcurrencyLimited, limiter.SlotWait
		if longest > 0 {
			dec.Outcome, dec.RetryAfter = limiter.RateLimited, max(longest, limiter.SlotWait)
		}
	}
	dec.Degraded = true
	if err != nil || !allowed {
		return err
	}
	if how == limiter.FailLocal {
		s.debts.add(w.totals, 1)
	}
	if len(w.slots) > 0 {
		s.held.last++
		dec.Lease = s.held.node + "-" + strconv.FormatUint(s.held.last, 36)
		s.held.takeLocked(dec.Lease, w.slots)
	}
	return nil
}

// debts is what this node gave out alone, by bucket: the server is told when it
// is back.
type debts struct {
	mu   sync.Mutex // guards owed
	owed map[bucketName]debt
}

type bucketName struct{ policy, subject string }

type debt struct {
	limit *limiter.Limit
	n     int
}

func (d *debts) add(totals []limiter.Total, sign int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owed == nil {
		d.owed = make(map[bucketName]debt)
	}
	for i := range totals {
		t := &totals[i]
		if t.Limit.Closed() {
			continue
		}
		name := bucketName{t.Limit.Policy, t.Subject}
		have, known := d.owed[name]
		if !known {
			if len(d.owed) >= maxDebts {
				continue
			}
			name.subject = string(append([]byte(nil), name.subject...)) // lest a request's header stays with it
		}
		d.owed[name] = debt{t.Limit, have.n + sign*t.Cost}
	}
}

// take empties the debts.
func (d *debts) take() map[bucketName]debt {
	d.mu.Lock()
	defer d.mu.Unlock()
	owed := d.owed
	d.owed = nil
	return owed
}

// putBack adds what could not be told.
func (d *debts) putBack(owed map[bucketName]debt) {
	for name, o := range owed {
		d.add([]limiter.Total{{Limit: o.limit, Subject: name.subject, Cost: o.n}}, 1)
	}
}

// merge tells the server what this node has given out alone. With all it also
// tells it of every bucket that is not full here: a server that has lost its
// state, or an older copy that has taken its place, must not make anybody's quota
// anew. Where both know a bucket, the one with less is believed.
func (s *Store) merge(ctx context.Context, c rueidis.Client, all bool) error {
	owed := s.debts.take()
	if len(owed) == 0 && !all {
		return nil
	}
	now := time.Now()
	m := merging{s: s, ctx: ctx, c: c, now: now}
	seen := make(map[bucketName]bool, len(owed))
	if all || len(owed) > 0 {
		s.mirror.Each(now, func(l *limiter.Limit, subject string, tokens float64) {
			name := bucketName{l.Policy, subject}
			o, owes := owed[name]
			if owes || all {
				seen[name] = true
				m.add(l, subject, o.n, tokens)
			}
		})
	}
	for name, o := range owed {
		if !seen[name] {
			m.add(o.limit, name.subject, o.n, float64(o.limit.Burst))
		}
	}
	if err := m.flush(); err != nil {
		s.debts.putBack(owed)
		return err
	}
	return nil
}

// merging sends merges in batches.
type merging struct {
	s     *Store
	ctx   context.Context
	c     rueidis.Client
	now   time.Time
	execs []rueidis.LuaExec
	err   error
}

func (m *merging) add(l *limiter.Limit, subject string, debt int, tokens float64) {
	if m.err != nil {
		return
	}
	keys, args := m.s.args(&ask{
		op: opMerge, buckets: []limiter.Total{{Limit: l, Subject: subject, Cost: debt}},
		words: []string{strconv.FormatFloat(tokens, 'g', -1, 64)},
	}, m.now)
	m.execs = append(m.execs, rueidis.LuaExec{Keys: keys, Args: args})
	if len(m.execs) >= mergeBatch {
		m.err = m.flush()
	}
}

func (m *merging) flush() error {
	if m.err != nil || len(m.execs) == 0 {
		return m.err
	}
	for _, r := range decideScript.ExecMulti(m.ctx, m.c, m.execs...) {
		if err := r.Error(); err != nil {
			return err
		}
	}
	m.execs = m.execs[:0]
	return nil
}

// ghosts are leases of slots that no request holds, but the server may: their
// call was given up, or their release could not be told.
type ghosts struct {
	mu   sync.Mutex // guards list
	list []ghost
}

type ghost struct {
	id    string
	slots []slotTotal
	since time.Time
}

func (g *ghosts) add(id string, slots []slotTotal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.list) < maxGhosts {
		g.list = append(g.list, ghost{id, append([]slotTotal(nil), slots...), time.Now()})
	}
}

// dropGhosts frees the slots of ghosts, again and again until no call of theirs
// can be on its way any more.
func (s *Store) dropGhosts(ctx context.Context, c rueidis.Client) error {
	s.ghosts.mu.Lock()
	list := append([]ghost(nil), s.ghosts.list...)
	s.ghosts.mu.Unlock()
	for i := range list {
		if err := s.drop(ctx, c, list[i].id, list[i].slots); err != nil {
			return err
		}
	}
	s.ghosts.mu.Lock()
	defer s.ghosts.mu.Unlock()
	keep := s.ghosts.list[:0]
	for i := range s.ghosts.list {
		if time.Since(s.ghosts.list[i].since) < ghostsHaunt {
			keep = append(keep, s.ghosts.list[i])
		}
	}
	clear(s.ghosts.list[len(keep):])
	s.ghosts.list = keep
	return nil
}
