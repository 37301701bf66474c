// Package keyapi manages keys over HTTP: verify, list, create, read, change,
// revoke, rotate, and a description of all that in OpenAPI.
//
// It stands behind the gate, which has found out who is calling, has checked
// the scopes that a call needs and has counted it. What remains is decided here:
//
//   - what the request says. Bodies are read strictly (see object): a member
//     that is unknown, given twice, in another case or of another type is
//     refused, so that nobody makes a key without the expiry they meant.
//   - whose keys a caller sees, and how much it may hand on. That is one
//     function, [Rights.Judge]. It runs inside the store's transaction, on the
//     record that is changed.
//   - retries with an Idempotency-Key (see idempotent).
//
// A refusal is a [refusal.Refusal] for the caller to render, so that it has the
// dialect and the headers of every other one.
package keyapi
