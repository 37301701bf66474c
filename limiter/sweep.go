package limiter

import "time"

// Sweep forgets every bucket that is idle at now: full again, and for a second
// longer. It changes no decision, because a bucket that is not there counts as
// full. Sweeping goes on by itself; tests and benchmarks call it.
func (m *Memory) Sweep(now time.Time) {
	m.sweeping.Lock()
	defer m.sweeping.Unlock()
	at := m.clock(now)
	for i := range m.shards {
		m.shards[i].sweep(at)
	}
}

// Len is the number of buckets in memory.
func (m *Memory) Len() int {
	n := 0
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		n += len(s.buckets)
		s.mu.Unlock()
	}
	return n
}

// Slots is the number of counters with requests in flight.
func (m *Memory) Slots() int {
	n := 0
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		n += len(s.slots)
		s.mu.Unlock()
	}
	return n
}

// sweepAll is the sweeper: it ends with Close.
func (m *Memory) sweepAll(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
			m.Sweep(m.now())
		}
	}
}
