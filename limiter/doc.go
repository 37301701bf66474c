// Package limiter decides whether a request may go on now: token buckets and
// concurrency slots, all of them in one all-or-nothing decision.
//
// A [Limit] travels with each call and the limiter keeps only counters, so that
// a changed configuration needs no migration of state. Implementations are the
// in-memory one of this package and those of its subpackages; all of them pass
// the suite in limitertest.
//
// # The bucket
//
// There is one bucket for each (policy, subject). It holds at most Burst tokens,
// begins full, and is refilled evenly with N tokens in each Per, by the
// arithmetic of golang.org/x/time/rate in float64: after d, counted in whole
// microseconds, it has min(Burst, tokens + d.Seconds()*rate) tokens. A cost is
// there if the tokens suffice or what lacks is refilled in less than a
// nanosecond, which is rate.Limiter's own tolerance. Times are cut to whole
// microseconds, so that a store which counts in these comes to the same results.
//
//   - Time never runs back inside a bucket: a call with a time before the
//     bucket's last change is decided at the time of that change, and told waits
//     that count from its own. Only what changes a bucket is a change: a refusal
//     is none.
//   - A call with other figures than the bucket's last (a reload, or two plans
//     that share a class) settles it: refilled until then at the old rate, cut
//     to the new capacity, refilled from then on at the new rate. This holds for
//     refused requests and for Peek too, else a caller who is refused each time
//     would stay at the old rate.
//   - From the time on at which it is full under every limit that it was used
//     with, a bucket counts as new. That makes forgetting it invisible, and keeps
//     one who alternates between two limits from being made full by the smaller.
//   - A limit of 0 touches no bucket. It, and a cost above the capacity, are
//     refused with a wait of 24 h, which stands for never.
//
// State.Wait is tried out with the very arithmetic that will decide then, so a
// caller who waits that long, and alone uses the bucket, gets through. Demands
// on the same bucket in one request add up; they must carry the same figures.
//
// # Concurrency
//
// [Memory] divides subjects over up to 64 shards by a seeded hash, with a lock
// each. A decision locks the shards of all its subjects, in ascending order,
// looks at everything, and only then takes: what is refused has taken from
// nothing, and nobody sees half a decision. No lock is held while waiting for
// anything else. A decision allocates only for a bucket that it has to make.
//
// # Memory
//
// A bucket takes about 240 bytes, its share of the map and a subject of 20
// characters included. It is forgotten a second after it counts as new: by the
// sweeper, every 30 s by default, and a few at a time whenever a bucket is
// made. Maps are rebuilt when they have shrunk to a quarter, because Go's maps
// keep their memory otherwise. A million subjects seen once have so been given
// back within two windows of their limit, or a sweep, whichever is longer.
//
// The number of buckets is bounded by MemoryOptions.MaxBuckets, 2,000,000 by
// default (about 480 MB), in equal parts for the shards. A shard that is full
// forgets a bucket for each that it makes: of 16 chosen at random the one that
// is nearest to full. Its subject gets the tokens it had used back, as a rule
// one or two, while an exhausted bucket practically never goes: a flood of fresh
// subjects forgets its own. Nobody is refused because of the bound.
//
// Slots are counted by name and subject, and a counter goes with the last
// request that holds one, so they are bounded by the requests in flight.
//
// # Failure
//
// Memory is always there: Decide, Peek and Refund fail only for a demand without
// a Limit, and Peek for too little room. Counters are lost with the process.
package limiter
