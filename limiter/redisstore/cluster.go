package redisstore

import (
	"context"
	"strings"
	"time"

	"github.com/redis/rueidis"
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
// where no script reaches both: it asks all of them, and only if none refuses takes
// from one after the other. Where one refuses after all, because others were faster,
// the ones before are given back. So never more is let through than the limits say,
// but for a moment tokens may be missing of a request that is then refused.
func (s *Store) askParts(ctx context.Context, c rueidis.Client, a *ask, now time.Time, w *work) (outcome int, err error) {
	parts := a.parts()
	if a.op == opDecide {
		if outcome, err = s.checkParts(ctx, c, parts, now); err != nil {
			return 0, err
		}
	}
	if a.op != opDecide || outcome == outAllowed {
		if outcome, err = s.takeParts(ctx, c, a, parts, now); err != nil {
			return 0, err
		}
	}
	w.replies = append(w.replies[:0], make([]reply, len(a.buckets))...)
	for _, p := range parts {
		for j, place := range p.places {
			w.replies[place] = p.replies[j]
		}
	}
	return outcome, nil
}

// checkParts asks all parts, and takes nothing.
func (s *Store) checkParts(ctx context.Context, c rueidis.Client, parts []*part, now time.Time) (outcome int, err error) {
	tokens, slots := false, false
	for _, p := range parts {
		check := p.ask
		check.op = opCheck
		if p.outcome, p.replies, err = s.exec(ctx, c, &check, now, nil); err != nil {
			return 0, err
		}
		for i, word := range p.words { // what it reports has arrived
			if want, _, ok := strings.Cut(word, " "); ok {
				p.words[i] = want + " 0 0 0 0 0 0"
			}
		}
		tokens = tokens || p.outcome == outNoTokens || p.outcome == outNeither
		slots = slots || p.outcome == outNoSlot || p.outcome == outNeither
	}
	switch {
	case tokens && slots:
		return outNeither, nil
	case tokens:
		return outNoTokens, nil
	case slots:
		return outNoSlot, nil
	}
	return outAllowed, nil
}

// takeParts takes from all parts, or from none.
func (s *Store) takeParts(ctx context.Context, c rueidis.Client, a *ask, parts []*part, now time.Time) (outcome int, err error) {
	for i, p := range parts {
		if outcome != outAllowed { // what the rest holds is told, too
			p.op, p.slots = opPeek, nil
		}
		if p.outcome, p.replies, err = s.exec(ctx, c, &p.ask, now, nil); err != nil {
			return 0, err
		}
		if outcome != outAllowed || p.outcome == outAllowed {
			continue
		}
		outcome = p.outcome
		if err := s.takeBack(ctx, c, a.id, parts[:i], now); err != nil {
			return 0, err
		}
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
