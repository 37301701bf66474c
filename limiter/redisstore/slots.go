package redisstore

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/hivegate/hivegate/limiter"
)

const (
	// slotLife is how long a slot lives without a heartbeat: a killed node's
	// slots are back after that.
	slotLife = 24 * time.Second
	// beatEvery is the time between heartbeats. A server that stands still for
	// up to slotLife−beatEvery frees no slot of a live request.
	beatEvery = 4 * time.Second
	// beatBatch is the most leases of one slot in one call.
	beatBatch = 500
)

// slotName is one slot counter.
type slotName struct{ name, subject string }

// slotTotal is one slot counter that a request asks for: how many of it, and the
// highest count that leaves room.
type slotTotal struct {
	slotName
	count, room int
}

// slotTotals appends the counters of holds to totals, each once.
func slotTotals(totals []slotTotal, holds []limiter.Hold) []slotTotal {
next:
	for i := range holds {
		h := &holds[i]
		for j := range totals {
			if t := &totals[j]; t.name == h.Name && t.subject == h.Subject {
				t.count++
				t.room = min(t.room, h.Max-t.count)
				continue next
			}
		}
		totals = append(totals, slotTotal{slotName{strings.Clone(h.Name), strings.Clone(h.Subject)}, 1, h.Max - 1})
	}
	return totals
}

// held are the slots of this node's requests. They are counted here too, so that
// the node can decide alone, and tell a server what it has forgotten. There are
// as many as there are requests in flight.
type held struct {
	mu     sync.Mutex // guards what follows
	node   string     // begins every lease id, so that no two nodes share one
	last   uint64
	leases map[string][]slotTotal
	counts map[slotName]int
}

func newHeld(node string) *held {
	return &held{node: node, leases: map[string][]slotTotal{}, counts: map[slotName]int{}}
}

// id makes a lease id. Nothing is held under it yet.
func (h *held) id() string {
	h.mu.Lock()
	h.last++
	n := h.last
	h.mu.Unlock()
	return h.node + "-" + strconv.FormatUint(n, 36)
}

// take holds slots under id.
func (h *held) take(id string, slots []slotTotal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.takeLocked(id, slots)
}

func (h *held) takeLocked(id string, slots []slotTotal) {
	h.leases[id] = append([]slotTotal(nil), slots...)
	for i := range slots {
		h.counts[slots[i].slotName] += slots[i].count
	}
}

// free reports whether this node's own requests leave room. h.mu is held.
func (h *held) freeLocked(slots []slotTotal) bool {
	for i := range slots {
		if h.counts[slots[i].slotName] > slots[i].room {
			return false
		}
	}
	return true
}

// release forgets a lease and returns what it held; nil where it was unknown.
func (h *held) release(id string) []slotTotal {
	h.mu.Lock()
	defer h.mu.Unlock()
	slots := h.leases[id]
	delete(h.leases, id)
	for i := range slots {
		name := slots[i].slotName
		if h.counts[name] -= slots[i].count; h.counts[name] <= 0 {
			delete(h.counts, name)
		}
	}
	return slots
}

// members lists the leases by slot, as they stand in the server's sets.
func (h *held) members() map[slotName][]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.leases) == 0 {
		return nil
	}
	all := make(map[slotName][]string, len(h.counts))
	for id, slots := range h.leases {
		for i := range slots {
			for n := 1; n <= slots[i].count; n++ {
				all[slots[i].slotName] = append(all[slots[i].slotName], member(id, n))
			}
		}
	}
	return all
}

func member(id string, n int) string { return id + "#" + strconv.Itoa(n) }

// beat lets this node's leases live on.
func (s *Store) beat(ctx context.Context, c rueidis.Client) error {
	life := strconv.FormatInt(slotLife.Microseconds(), 10)
	var execs []rueidis.LuaExec
	flush := func() error {
		for _, r := range beatScript.ExecMulti(ctx, c, execs...) {
			if err := r.Error(); err != nil {
				return err
			}
		}
		execs = execs[:0]
		return nil
	}
	for slot, members := range s.held.members() {
		key := s.slotKey(slot.name, slot.subject)
		for len(members) > 0 {
			n := min(len(members), beatBatch)
			execs = append(execs, rueidis.LuaExec{Keys: []string{key}, Args: append([]string{life}, members[:n]...)})
			members = members[n:]
			if len(execs) == mergeBatch {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

// drop takes members out of the server's sets.
func (s *Store) drop(ctx context.Context, c rueidis.Client, id string, slots []slotTotal) error {
	cmds := make(rueidis.Commands, 0, len(slots))
	for i := range slots {
		members := make([]string, 0, slots[i].count)
		for n := 1; n <= slots[i].count; n++ {
			members = append(members, member(id, n))
		}
		cmds = append(cmds, c.B().Zrem().Key(s.slotKey(slots[i].name, slots[i].subject)).Member(members...).Build())
	}
	for _, r := range c.DoMulti(ctx, cmds...) {
		if err := r.Error(); err != nil {
			return err
		}
	}
	return nil
}
