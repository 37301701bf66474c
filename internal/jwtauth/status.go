package jwtauth

import "time"

// Status is an issuer's state, for metrics and health.
type Status struct {
	Issuer string
	// Usable is set while every source of keys has some that may be relied on.
	Usable bool
	// Reachable is set while every source gave keys when it was last asked.
	// Through an outage an issuer is usable, but not reachable.
	Reachable bool
	Sources   []SourceStatus
}

// SourceStatus is the state of one place of keys.
type SourceStatus struct {
	// Source is the URL without its query, or the file.
	Source string
	Remote bool
	// Usable: there was an answer, at most [StaleLimit] ago.
	Usable bool
	Keys   int
	// LastAttempt, LastSuccess and LastError are of fetches; LastError is
	// empty when the last one went well. While it is not, the keys are those
	// of LastSuccess.
	LastAttempt, LastSuccess time.Time
	LastError                string
	// Fetches and Failures count since the start.
	Fetches, Failures uint64

	failuresInRow uint
}

// Status returns the issuer's state at now.
func (i *Issuer) Status(now time.Time) Status {
	i.mu.Lock()
	s := Status{Issuer: i.name, Usable: true, Sources: append([]SourceStatus(nil), i.sources...)}
	i.mu.Unlock()
	s.Reachable = true
	for _, r := range i.remotes {
		src := r.snapshot(now)
		s.Usable = s.Usable && src.Usable
		s.Reachable = s.Reachable && src.Usable && src.LastError == ""
		s.Sources = append(s.Sources, src)
	}
	return s
}
