// Package totp is the second factor of a subject: codes by RFC 6238 (SHA-1,
// 6 digits, 30 s, one step to either side) and recovery codes, each good once.
//
// # What is judged, in this order
//
//  1. The shape of the header, before anything else sees it: exactly one value,
//     of six ASCII digits, or of a recovery code (xxxxx-xxxxx-xxxxx in base32,
//     either case). Any other value is second_factor_invalid, costs no look-up,
//     and counts for nothing. Libraries trim spaces around a code, and what they
//     take for equal a replay guard may take for different.
//  2. Whether the subject has a factor that `confirm` has seen a code for; else
//     second_factor_required, never a pass.
//  3. Whether the factor is locked: then second_factor_locked, whether the code
//     is right or wrong, so that a lock is no oracle.
//  4. The code. A right one of a step after the last accepted one passes, and
//     uses up its step and all before it.
//
// # What counts as an attempt
//
// A code of exact shape that is wrong: six digits that belong to none of the
// three steps, or a recovery code that is none of the eight. The fifth within
// five minutes is answered like the four before it, and locks the factor for
// five minutes from then. Attempts during a lock are not counted, so they never
// extend it, and a right code does not clear the count: whoever holds a key of
// the subject gets five guesses in five minutes, however busy its owner is.
//
// Not counted are malformed values, missing ones, and right codes that were used
// before. A replay is no guess: it shows a code that was seen, and gains nothing
// however often it is tried. A client that repeats its request does not lock
// its owner out.
//
// # Concurrency
//
// All that is kept of a factor is one [State]. The decision about a code is a
// pure step from a state to the next, and a [Store] only moves states, by
// compare-and-set. An answer is given once the step it rests on is stored;
// whoever loses the race loads the new state and decides again. So of any number
// of simultaneous requests with one code, on any number of nodes, exactly one
// passes, and of any number of simultaneous guesses five have an effect and an
// answer of their own, the rest meet the lock. The races are few: a state
// changes by a code that is used up, or by one of five failures.
//
// # Clocks
//
// Times come in as arguments. Nodes that share a store must agree to a few
// seconds; those on one database go by its clock (keystore.Clock). A clock that was far ahead when it accepted a code or noted a failure
// makes the factor refuse until that time has come (remove and enroll it again);
// a wrong clock never makes it accept more.
//
// # At rest
//
// The secret is sealed with the subject as additional data, so that it opens in
// no other record. Recovery codes are kept as HMAC-SHA256 under the data key:
// they are random (75 bits), and judging a guess costs one HMAC.
package totp
