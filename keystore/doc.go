// Package keystore says what an API key is, and decides whether one that was
// presented may be used now.
//
// # A key
//
// A key is a prefix and a body of base62: 12 characters of public id, a secret,
// and a checksum of 6 ([Format]). Shape and checksum are judged before anything
// is looked up or hashed. At rest there is a [Record] with a bcrypt hash of the
// whole key and, under a data key, an HMAC of it ([Crypto]). Keys imported from
// elsewhere have no such shape: they are found by their first characters, the
// hint. A [Store] keeps records; its implementations are in subpackages.
//
// # Deciding
//
// A [Verifier] holds records in memory and asks, for a key of native shape, in
// this order:
//
//  1. The record by id: in memory, else read from the store (one read for all
//     who ask at once, eight reads at a time, two seconds at most). That there is
//     none is remembered for a second.
//  2. The secret. SHA-256 over a random key of this process and the credential is
//     compared with what the record's hash is known to belong to; this is the
//     warm path, without allocation or lock. It is tried in memory before the
//     checksum is: what equals a verified key to the last bit is one, and
//     whatever does not is judged from the beginning.
//  3. What settles it without hashing: a bcrypt hash whose one key is known is
//     wrong for any other; the stored digest decides right and wrong; the
//     verified-key cache (ristretto) remembers keys beyond their records' stay in
//     memory; credentials found wrong are remembered for ten seconds, apart.
//  4. bcrypt. All who present the same credential share one comparison. It is
//     charged to the budget of the caller's address ([Guard]) before, and given
//     back if the secret was right. Few comparisons run at once, a short queue
//     waits, ordered so that ids under attack wait behind those that nobody
//     attacks; past it the answer is [Overloaded].
//  5. The state of the current record, only now: who does not know the secret
//     does not learn whether the key was revoked.
//
// # What is remembered where
//
// That a key was verified is kept with its record. While the record is in
// memory, the key is never hashed again, whatever ristretto dropped, refused or
// had not yet admitted: it is a second memory, for records that had to leave.
// With a stored digest the key is never hashed at all. The plaintext is kept
// nowhere, and whole digests are compared, in constant time. Revocation is in no
// cache: every decision reads the current record.
//
// Ids that are not in memory are asked for together where the store is a [Prober]:
// those of strangers then cost a part of a query each, and only keys are read.
//
// Bounds: Options.Records records (when full, a clock chooses which to drop);
// Options.Verified digests; 65,536 unknown ids and 16,384 wrong credentials in
// fixed arrays, where a new one takes the place of one about to end; hints as
// many as the store has; one entry for each request under way in everything
// else.
//
// # Changes
//
// A change made by this process holds at once ([Verifier.Apply]). Changes of
// others are found by polling the store's change number, every 200 ms by
// default; a store that is a [Waker] wakes the poll, which then runs every 250 ms
// by itself. What was applied is told to a [NodeStore]. A record that is being read
// from the store while its change arrives takes the change. Without word from the store for longer than
// Options.MaxStaleness nothing in memory is trusted: each key is read again, or
// gets [Unavailable]. When the store is back everything is read again at its
// next use. A store whose change number went backwards is another one, restored
// from a copy: all that came from it is dropped; so is what came from another
// history, where the store tells ([Lineage]).
//
// Open requests join their record ([Entry.Join]) and are cut when a change or
// the clock ends their right; only records that have such requests are looked at
// for that, four times a second.
//
// # Concurrency
//
// Reading records takes no lock: an [Entry] is one version of a record and never
// changes, and a change puts another in its place. What is known of a bcrypt
// hash is shared by all versions that hold it. Hashing is done by the goroutine
// of one of those who wait for it, never under a lock.
package keystore
