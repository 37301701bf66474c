// Package redisstore keeps the counters of a fleet of gates in Redis (6.2 or later)
// or Valkey: alone, with sentinels, or as a cluster.
//
// # The arithmetic
//
// One Lua script (decide.lua) makes a whole decision: buckets and slots, all or
// nothing. It does what limiter.Memory does, operation by operation, on whole
// microseconds in doubles, which go over the wire with 17 digits; what callers are
// told (whole tokens, waits) is computed from the script's reply by the limiter
// package itself ([limiter.Snapshot]). A differential test drives both with the same
// calls on one clock. In production the clock is the server's, so the clocks of the
// nodes do not matter, and inside a bucket time never runs back.
//
// # Keys
//
// <prefix>{<subject>}b:<policy> is a bucket, a text of some 80 bytes;
// <prefix>{<subject>}s:<name> is a slot counter, a sorted set of leases by the time
// they run out. Long or odd subjects stand there as their SHA-256. All keys expire by
// themselves: a bucket a second after it counts as new. Losing a bucket early makes a
// quota anew, so the server should not evict.
//
// In a cluster the part in braces puts all of a subject's keys in one place, so that
// one script reaches them. A decision over several subjects (a limit per address
// beside one per owner) is made one subject after the other there, and given back
// when a later one refuses: never more is let through than the limits say, but for a
// moment tokens may be missing of a request that is then refused.
//
// # Strict and lease
//
// In strict mode each request is one round trip. All requests share one connection,
// whose commands the client pipelines.
//
// In lease mode a node also takes tokens in batches: as many as it was lately asked
// for in a second, at most a tenth of the capacity and an eighth of what is there. It
// decides on them alone while they last; the next batch is asked for in the
// background before they are spent. What nobody asks for within half a second goes
// back, and so does everything when it is too little for a request, which the server
// then decides: near the limit lease is strict. Requests that take slots are always
// strict.
//
// Tokens that are lent count against the capacity until the node has reported them
// spent or brought them back, or until the generation (3 s) after the one they were
// lent in has ended; a node spends them for less than that. With R tokens in the
// server, U lent and unspent, and T those of one bucket that had seen the same
// requests, R + U ≤ T always holds: a refill is cut off at the capacity less what is
// lent, spending lowers both sides, and what comes back too late is dropped. So no
// fleet lets through what one bucket would not; a property test holds that. What a
// dead node held is lost to the callers and refilled.
//
// What a node shows in lease mode is what it last heard, less what it has spent
// itself, refilled; it hears of the others with each batch. More than it has shown
// before, beyond refill, it shows once in a window.
//
// # Slots
//
// A slot is a lease of 24 s that its node renews every 4 s. A killed node's slots so
// come back within 24 s, and a live request keeps its own while the server stands
// still for up to 20 s. What a restarted server has lost the node tells it again.
//
// # Failure
//
// A call that fails or takes longer than the address's timeout (200 ms) makes the
// node decide alone at once, this request included, in the way that on_failure says;
// later requests do not wait. For that the node mirrors, in a limiter.Memory, every
// bucket it hears of: alone it goes on where the server stopped, and not with full
// buckets. It counts its own slots.
//
// A background loop tries the server every 100 ms. When it can be written to, it is
// first told what the node holds: its slots, what it let through alone, every bucket
// that is not full in the mirror, and what it was lent and has not spent. Of what both know, the lower figure is
// taken, less what was let through alone, down to a debt of a twentieth of the
// capacity. So a server that comes back empty, or an older copy that takes its place,
// makes nobody's quota anew. Only then the server decides again.
//
// Of a call that was given up nobody knows whether it was carried out. If it was,
// its tokens are missing twice, never given twice, and a batch that it was lent with
// them; its slots are freed.
//
// # Concurrency
//
// Everything here is safe for concurrent use. The tender (link.go) alone connects;
// requests use the connection through one atomic pointer, which is nil while the
// server is away.
package redisstore
