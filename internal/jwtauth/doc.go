// Package jwtauth decides whether a JWT stands for somebody: it knows the
// issuers, their keys, and what their claims mean here.
//
// # The way of one token
//
//  1. [Set.Verify] looks the token up in the cache of verified tokens, by a
//     keyed SHA-256 of the whole token. A hit costs no signature check; it is
//     still held against the clock, against the issuer's current keys and
//     against the issuers that the site takes.
//  2. Otherwise the compact form is taken apart strictly (RFC 7515 section
//     7.1): three parts, base64url without padding, line ends or stray bits,
//     JSON without duplicate members, names compared by exact case. Header
//     members that would change what is verified (crit, b64) or bring a key
//     along (jwk, jku, x5u, x5c) refuse the token.
//  3. The issuer is chosen by iss, and only then a key: the algorithm must be
//     one that the issuer's settings allow, and the key must be of that
//     algorithm's type and curve, and allowed for it by its JWK's alg, use and
//     key_ops. HMAC is checked against hmac_secret alone. The signature check
//     itself is golang-jwt's.
//  4. golang-jwt's validator judges exp, nbf, iat and aud on claims that were
//     read by this package, typed: a claim of the wrong type refuses the token.
//  5. The claims become a [Principal]; nothing is ever read from user_metadata,
//     which users write themselves.
//
// # Keys over HTTP
//
// A JWK set is fetched in the background from [Issuer.Start] on, and again
// before its Cache-Control lifetime (held between 1 and 10 minutes) is over.
// An unknown kid asks for one more fetch, at most once in 30 s per URL whatever
// the load; everybody who waits shares it. Through an outage the last keys are
// kept for [StaleLimit]. Answers over 1 MiB, slower than 5 s, redirected to
// another host or not a JWK set are refused as a whole and change nothing. A
// token whose keys are not there is refused as issuer_unavailable, never as
// invalid: its caller should come again, not log in again.
//
// github.com/lestrrat-go/jwx/v3/jwk reads the keys: it is maintained, parses
// one key at a time (so that a key type of tomorrow does not sink the set), and
// checks what it parsed (points on their curve, lengths, RSA sizes). Its own
// fetching, caching and JWT parts are not used.
//
// # Failure
//
// A refusal is a value ([Denied]) made once, so that a flood of garbage
// allocates little. Neither refusals nor log lines hold any part of a token.
package jwtauth
