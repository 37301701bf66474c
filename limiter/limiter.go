package limiter

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Limit is one policy: a token bucket's figures. It is immutable once made
// (see [NewLimit]) and may be shared by any number of goroutines.
type Limit struct {
	// Policy names the limit to callers (RateLimit-Policy) and is, with the
	// subject, the identity of the bucket: one bucket per (policy, subject).
	Policy string
	// N tokens are refilled, evenly, in each Per. 0 refuses everything.
	N   int
	Per time.Duration
	// Burst is the bucket's capacity in tokens; never negative.
	Burst int

	// refill is what rate returns, where NewLimit made the limit.
	refill rate.Limit
}

// Demand asks one bucket for Cost tokens (at least 1).
type Demand struct {
	Limit   *Limit
	Subject string
	Cost    int
	// Place is where the bucket was found before, nil where nobody keeps that. It
	// must never be used with another policy or subject.
	Place *Place
}

// Place remembers where a [Memory] keeps one bucket, so that who asks for it again
// and again need not look it up. It decides nothing: what it says is checked, and
// other limiters leave it alone. The zero value is an empty one; it must not be
// copied, and may be shared by any number of goroutines.
type Place struct {
	found atomic.Pointer[place]
}

// Hold asks for one concurrency slot out of Max.
type Hold struct {
	// Name is the class whose requests are counted, or the plan's name with
	// All set for "every request in flight".
	Name    string
	Subject string
	Max     int
}

// Request is everything that one decision is about.
type Request struct {
	Demands []Demand
	Holds   []Hold
	// OnFailure says what becomes of the request while shared counters are away.
	OnFailure OnFailure
}

// State is what the caller is told about one bucket after the decision.
type State struct {
	Limit *Limit
	// Remaining is the number of whole tokens left, this request counted.
	Remaining int
	// Full is the time until the bucket is full again.
	Full time.Duration
	// Wait is the time until the demanded cost is there; 0 where it was.
	Wait time.Duration
}

// Outcome says how a decision ended.
type Outcome uint8

// The outcomes of a decision.
const (
	Allowed Outcome = iota
	// RateLimited: at least one bucket lacked tokens. Nothing was taken.
	RateLimited
	// ConcurrencyLimited: at least one slot was not free. Nothing was taken.
	ConcurrencyLimited
)

// Decision is the answer to a [Request]. The caller owns it and may reuse it:
// States is overwritten (its backing array is kept).
type Decision struct {
	Outcome Outcome
	// States has one element per demand, in the same order.
	States []State
	// RetryAfter is, for a refusal, the time after which a caller who alone
	// uses these buckets is let through (1 s for slots, 24 h for a limit of 0).
	RetryAfter time.Duration
	// Lease identifies the slots taken, for limiters that need it.
	Lease string
	// Degraded is set when a shared limiter was away and this node decided alone.
	Degraded bool
}

// Limiter keeps the counters. Implementations are safe for concurrent use.
type Limiter interface {
	// Decide takes everything that req asks for or nothing at all. An error
	// means that no decision could be made (the store is away), never a refusal.
	Decide(ctx context.Context, now time.Time, req *Request, dec *Decision) error
	// Release gives the slots of an allowed decision back. It must be called
	// exactly once for every allowed decision whose request had Holds.
	Release(req *Request, dec *Decision)
	// Peek fills states with what the buckets hold and takes nothing.
	Peek(ctx context.Context, now time.Time, demands []Demand, states []State) error
	// Refund returns cost tokens that an allowed decision took, never above
	// the bucket's capacity.
	Refund(ctx context.Context, now time.Time, demands []Demand) error
	// Ping reports whether counters can be reached.
	Ping(ctx context.Context) error
	// Close ends background work. No call may follow.
	Close() error
}
