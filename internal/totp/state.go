package totp

import (
	"crypto/rand"
	"crypto/subtle"
	"slices"
	"time"
)

// The figures of the lock.
const (
	// MaxFailures wrong codes within FailureWindow lock a factor.
	MaxFailures = 5
	// FailureWindow is how long a wrong code counts.
	FailureWindow = 5 * time.Minute
	// LockTime is how long a lock lasts.
	LockTime = 5 * time.Minute
)

// State is all that is kept of a subject's second factor. Times are in UTC and
// whole microseconds.
type State struct {
	// Version is a random text that is new with every change. Stores compare it,
	// and never make it: a version is never used twice, not even by a subject
	// that was removed and enrolled again.
	Version string `json:"version"`
	// Sealed is the secret (base32 text), sealed for this subject.
	Sealed []byte `json:"sealed"`
	// Confirmed says that a code has been seen: only then does the factor count.
	Confirmed bool `json:"confirmed"`
	// LastStep is the last accepted step (Unix seconds / 30); 0: none.
	LastStep int64 `json:"last_step"`
	// Recovery has the eight recovery codes, used ones too.
	Recovery []Recovery `json:"recovery"`
	// Failures are the times of wrong codes, at most four: with the fifth they
	// become a lock. Those older than FailureWindow go with the next failure.
	Failures []time.Time `json:"failures,omitempty"`
	// LockedUntil is when the last lock ends; zero: there was none.
	LockedUntil time.Time `json:"locked_until,omitzero"`
	EnrolledAt  time.Time `json:"enrolled_at"`
	// ConfirmedAt is zero until a code was seen.
	ConfirmedAt time.Time `json:"confirmed_at,omitzero"`
}

// Recovery is what is kept of one recovery code.
type Recovery struct {
	// Digest is HMAC-SHA256 under the data key, 32 bytes.
	Digest []byte `json:"digest"`
	// UsedAt is when it was used; zero: not yet.
	UsedAt time.Time `json:"used_at,omitzero"`
}

// Clone returns a copy that shares nothing with s.
func (s *State) Clone() *State {
	c := *s
	c.Sealed = slices.Clone(s.Sealed)
	c.Failures = slices.Clone(s.Failures)
	c.Recovery = slices.Clone(s.Recovery)
	for i := range c.Recovery {
		c.Recovery[i].Digest = slices.Clone(c.Recovery[i].Digest)
	}
	return &c
}

// guess is a code of exact shape, held against the secrets of a state.
type guess struct {
	// steps are those whose code it is, ascending; empty for a recovery code.
	steps []int64
	// recovery is the recovery code that it is; -1: none.
	recovery int
}

// locked returns how long the factor is still locked; 0: it is not.
func (s *State) locked(now time.Time) time.Duration { return max(0, s.LockedUntil.Sub(now)) }

// step decides about a guess and returns the state after it, nil where nothing
// changes. It is the whole algorithm, and does no I/O. s is not changed.
func (s *State) step(now time.Time, g guess) (Outcome, *State) {
	now = now.UTC().Truncate(time.Microsecond)
	if wait := s.locked(now); wait > 0 {
		return Outcome{Result: Locked, RetryAfter: wait}, nil
	}
	if len(g.steps) > 0 {
		for _, step := range g.steps {
			if step > s.LastStep {
				next := s.next()
				next.LastStep = step
				return Outcome{Result: OK, Method: MethodTOTP, RecoveryLeft: s.recoveryLeft()}, next
			}
		}
		return Outcome{Result: Invalid}, nil // a replay
	}
	if g.recovery >= 0 {
		if !s.Recovery[g.recovery].UsedAt.IsZero() {
			return Outcome{Result: Invalid}, nil // a replay
		}
		next := s.next()
		next.Recovery[g.recovery].UsedAt = now
		return Outcome{Result: OK, Method: MethodRecovery, RecoveryLeft: next.recoveryLeft()}, next
	}
	return Outcome{Result: Invalid}, s.fail(now)
}

// fail returns the state after a wrong code.
func (s *State) fail(now time.Time) *State {
	next := s.next()
	// One of another node may be a little in the future: it counts.
	next.Failures = slices.DeleteFunc(next.Failures, func(t time.Time) bool { return now.Sub(t) >= FailureWindow })
	next.Failures = append(next.Failures, now)
	if len(next.Failures) >= MaxFailures {
		// From the latest of them, so that a clock which is behind does not
		// shorten the lock.
		next.LockedUntil = slices.MaxFunc(next.Failures, time.Time.Compare).Add(LockTime)
		next.Failures = nil
	}
	return next
}

// next returns a copy with a version of its own.
func (s *State) next() *State {
	c := s.Clone()
	c.Version = rand.Text()
	return c
}

func (s *State) recoveryLeft() int {
	n := 0
	for i := range s.Recovery {
		if s.Recovery[i].UsedAt.IsZero() {
			n++
		}
	}
	return n
}

// findRecovery returns which recovery code has this digest, -1 for none. It
// compares with all of them, used ones too, in a time that does not depend on
// which it is.
func (s *State) findRecovery(digest []byte) int {
	at := -1
	for i := range s.Recovery {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(s.Recovery[i].Digest, digest), i, at)
	}
	return at
}
