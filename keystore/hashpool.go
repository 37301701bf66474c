package keystore

import (
	"context"
	"sync"
	"time"
)

// hashPool bounds hashing: slots at once, limit waiting. Those waiting are
// ordered by how much their id is under attack (wrong secrets of late, and
// others of the same id already waiting or hashing), least first, then by
// arrival: a key whose id nobody attacks goes past all those that somebody
// guesses at. When the queue is full the last of that order is dropped.
type hashPool struct {
	slots, limit int
	wait         time.Duration // the longest that one waits

	mu       sync.Mutex // guards all below
	running  []ID       // at most slots
	queue    []*hashJob // at most limit, in no order: it is short
	arrivals uint64
}

type hashJob struct {
	id      ID
	rank    uint32 // 0 is best
	arrival uint64
	granted chan bool // takes one: true with a slot, false when dropped
}

func (j *hashJob) before(k *hashJob) bool {
	if j.rank != k.rank {
		return j.rank < k.rank
	}
	return j.arrival < k.arrival
}

type slot uint8

const (
	slotGranted slot = iota
	slotDropped      // the queue was full of better ones
	slotTimeout      // it has waited too long
	slotGone         // ctx has ended
)

// acquire waits for a slot, which release must give back. failures is what is
// known of attacks on id. arrival keeps the place of one who comes again.
func (p *hashPool) acquire(ctx context.Context, id ID, failures uint32, arrival *uint64) slot {
	if ctx.Err() != nil {
		return slotGone
	}
	p.mu.Lock()
	if len(p.running) < p.slots {
		p.running = append(p.running, id)
		p.mu.Unlock()
		return slotGranted
	}
	if *arrival == 0 {
		p.arrivals++
		*arrival = p.arrivals
	}
	j := &hashJob{id: id, rank: failures + p.same(id), arrival: *arrival, granted: make(chan bool, 1)}
	if !p.enqueue(j) {
		p.mu.Unlock()
		return slotDropped
	}
	p.mu.Unlock()

	limit := time.NewTimer(p.wait)
	defer limit.Stop()
	why := slotTimeout
	select {
	case ok := <-j.granted:
		return grantedOr(ok)
	case <-ctx.Done():
		why = slotGone
	case <-limit.C:
	}
	if p.withdraw(j) {
		return why
	}
	// Decided meanwhile.
	ok := <-j.granted
	if ok && why == slotGone {
		p.release(id)
		return slotGone
	}
	return grantedOr(ok)
}

// release gives a slot back, to the best of those waiting.
func (p *hashPool) release(id ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.running {
		if p.running[i] == id {
			p.running[i] = p.running[len(p.running)-1]
			p.running = p.running[:len(p.running)-1]
			break
		}
	}
	best := -1
	for i, j := range p.queue {
		if best < 0 || j.before(p.queue[best]) {
			best = i
		}
	}
	if best >= 0 {
		j := p.take(best)
		p.running = append(p.running, j.id)
		j.granted <- true
	}
}

// penalise puts those waiting for the same id further back, after a wrong secret.
func (p *hashPool) penalise(id ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, j := range p.queue {
		if j.id == id {
			j.rank++
		}
	}
}

func (p *hashPool) load() (running, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.running), len(p.queue)
}

// enqueue adds j, or drops the worst if that is another; under mu.
func (p *hashPool) enqueue(j *hashJob) bool {
	if len(p.queue) >= p.limit {
		worst := 0
		for i, q := range p.queue {
			if p.queue[worst].before(q) {
				worst = i
			}
		}
		if !j.before(p.queue[worst]) {
			return false
		}
		p.take(worst).granted <- false
	}
	p.queue = append(p.queue, j)
	return true
}

// take removes one from the queue; under mu.
func (p *hashPool) take(i int) *hashJob {
	j, last := p.queue[i], len(p.queue)-1
	p.queue[i] = p.queue[last]
	p.queue[last] = nil
	p.queue = p.queue[:last]
	return j
}

func (p *hashPool) withdraw(j *hashJob) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.queue {
		if p.queue[i] == j {
			p.take(i)
			return true
		}
	}
	return false
}

// same counts those of an id that wait or hash; under mu.
func (p *hashPool) same(id ID) (n uint32) {
	for i := range p.running {
		if p.running[i] == id {
			n++
		}
	}
	for _, j := range p.queue {
		if j.id == id {
			n++
		}
	}
	return n
}

func grantedOr(ok bool) slot {
	if ok {
		return slotGranted
	}
	return slotDropped
}
