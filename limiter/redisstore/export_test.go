package redisstore

import "time"

// Local is how many requests were decided on leased tokens.
func (s *Store) Local() int { return int(s.leases.decided.Load()) }

// Tidy brings back what nobody spends, as it goes on by itself where time does.
func (s *Store) Tidy(now time.Time) {
	if c := s.fast.Load(); c != nil {
		_ = s.leases.bringBack(c.Client, now, backUnused)
	}
}

// Mirrored is how many buckets this node knows.
func (s *Store) Mirrored() int { return s.mirror.Len() }
