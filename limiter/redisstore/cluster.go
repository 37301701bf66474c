package redisstore

import (
	"context"
	"time"

	"github.com/redis/rueidis"

	"github.com/hivegate/hivegate/limiter"
)

// oneTag reports whether all keys lie in one place of a cluster.
func (a *ask) oneTag() bool {
	first, known := "", false
	same := func(subject string) bool {
		if !known {
			first, known = subject, true
		}
		return subject == first
	}
	for i := range a.buckets {
		if !same(a.buckets[i].Subject) {
			return false
		}
	}
	for i := range a.slots {
		if !same(a.slots[i].subject) {
			return false
		}
	}
	return true
}

// part is what a decision asks of one subject.
type part struct {
	ask
	places  []int // of its buckets in the whole
	replies []reply
	outcome int
}

func (a *ask) parts() []*part {
	var parts []*part
	of := func(subject string) *part {
		for _, p := range parts {
			if len(p.buckets) > 0 && p.buckets[0].Subject == subject || len(p.slots) > 0 && p.slots[0].subject == subject {
				return p
			}
		}
		p := &part{ask: ask{op: a.op, id: a.id}}
		parts = append(parts, p)
		return p
	}
	for i := range a.buckets {
		p := of(a.buckets[i].Subject)
		p.buckets = append(p.buckets, a.buckets[i])
		p.places = append(p.places, i)
		if a.words != nil {
			p.words = append(p.words, a.words[i])
		}
	}
	for i := range a.slots {
		p := of(a.slots[i].subject)
		p.slots = append(p.slots, a.slots[i])
	}
	return parts
}

// askParts makes a decision whose subjects lie in different places of a cluster,
// where no script reaches both: one after the other, and when one refuses, the
// ones before are given back. So never more is let through than the limits say,
// but for a moment tokens may be missing of a request that is then refused.
func (s *Store) askParts(ctx context.Context, c rueidis.Client, a *ask, now time.Time, w *work) (outcome int, err error) {
	parts := a.parts()
	refusedAt := -1
	for i, p := range parts {
		if refusedAt >= 0 {
			p.op, p.slots = opPeek, nil
		}
		if p.outcome, p.replies, err = s.exec(ctx, c, &p.ask, now, nil); err != nil {
			return 0, err
		}
		if refusedAt < 0 && p.outcome != outAllowed {
			refusedAt, outcome = i, p.outcome
		}
	}
	if refusedAt > 0 && a.op == opDecide {
		if err := s.takeBack(ctx, c, a.id, parts[:refusedAt], now); err != nil {
			return 0, err
		}
	}
	w.replies = append(w.replies[:0], make([]reply, len(a.buckets))...)
	for _, p := range parts {
		for j, place := range p.places {
			w.replies[place] = p.replies[j]
		}
	}
	// What a later part lacks counts too: the longest wait is told.
	if outcome == outNoSlot && lacks(a.buckets, w.replies) {
		outcome = outNeither
	}
	return outcome, nil
}

// takeBack undoes parts that were decided before another refused.
func (s *Store) takeBack(ctx context.Context, c rueidis.Client, id string, parts []*part, now time.Time) error {
	for _, p := range parts {
		if len(p.slots) > 0 {
			if err := s.drop(ctx, c, id, p.slots); err != nil {
				return err
			}
		}
		if len(p.buckets) == 0 {
			continue
		}
		p.op, p.slots = opRefund, nil
		lent := p.replies
		var err error
		if _, p.replies, err = s.exec(ctx, c, &p.ask, now, nil); err != nil {
			return err
		}
		for i := range lent { // these stay with the node
			p.replies[i].lent, p.replies[i].gen = lent[i].lent, lent[i].gen
		}
	}
	return nil
}

func lacks(buckets []limiter.Total, replies []reply) bool {
	for i := range buckets {
		if replies[i].State(buckets[i].Limit, buckets[i].Cost).Wait > 0 {
			return true
		}
	}
	return false
}
