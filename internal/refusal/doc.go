// Package refusal is how hivegate says no: one error type ([Refusal]), one table
// from reason to status, and one renderer per dialect ([Dialect]).
//
// # What a dialect is
//
// A dialect is the JSON shape in which one API family reports errors. The
// shapes, member by member and in this order:
//
//	hornethive    {"error":{"code","message","details":{"reason",…}}}
//	hiveclaw      {"success":false,"error":{"code","message"}}
//	hiveprotocol  {"error","code","message"}; 429: {"error","code","retry_after"}
//	hiveos        {"message"}; 403: {"message","code"}
//	problem       RFC 9457: {"type","title","status","detail","reason"}
//
// Codes follow the status, not the reason: snake_case of Go's
// [http.StatusText] in hornethive, UPPER_SNAKE in hiveclaw and hiveprotocol
// ([CodeFor]). Two exceptions: a 429 is "rate_limit_exceeded" in hornethive and
// "RATE_LIMITED" in the other two.
//
// # Which text is said
//
// Some texts belong to a dialect and never change, whatever Message says:
//
//   - every 401 of hornethive ("Invalid API key"; "Invalid token" for a JWT and
//     for the token_… reasons), hiveclaw, hiveprotocol and hiveos;
//   - insufficient_scope in these four;
//   - rate_limited in hornethive, hiveclaw, hiveprotocol and hiveos;
//   - both second_factor_ reasons (one text for both) and field_invalid in hiveos.
//
// Everywhere else Refusal.Message is said, and where that is empty the reason's
// own. hiveprotocol puts it into "message", in a 429 (which has none) into
// "error". problem keeps "title" fixed per type, as RFC 9457 section 3.1.3 asks,
// and puts Hint, else Message, else the reason's own hint into "detail".
//
// # Field errors
//
// A 422 always has them, as an object from field to list of texts. Their place
// is "errors" at top level in hiveos and problem, and "details":{"errors":…}
// beside "code" and "message" in the other three (in hornethive after "reason").
// Other statuses have no place for them; there the first one becomes the message
// when the refusal has no message of its own, so that the field is still named.
//
// # Errors of the backend
//
// backend_error stands for an answer of the backend that the dialect's clients
// could not read. Its status is the backend's (Refusal.Status) and its codes follow
// that; the texts that say what the gate found are not used, and neither are field
// errors. A 429 has retry_after where the backend sent Retry-After. Allow, Retry-After
// and WWW-Authenticate stay as the backend sent them; a 401 without a challenge gets a
// bare one.
//
// # Numbers
//
// 429 bodies carry the figures that exist: limit, remaining and reset stand or
// fall together (Numbers.HasLimit). Retry-After is on every 429 and 503, at least
// 1 and 1 where the caller gave none; retry_after in a body always equals it.
// problem says which policies were violated instead (violated-policies of
// draft-ietf-httpapi-ratelimit-headers-10), and leaves the member out where
// none is named.
//
// # The challenge
//
// WWW-Authenticate (RFC 6750 section 3, RFC 9470 section 3) stands on every 401
// and on insufficient_scope. error and error_description are left out only where
// no credential was sent: for missing_credentials without Refusal.Credential. A
// caller that sent login data as headers is to be told, so Credential is set for
// it. hiveos answers the second factor with 403, which has no challenge.
//
// # Secrets
//
// A Refusal has no member for a credential, and nothing of a request is copied
// into an answer but what its maker put into Message, Hint, Required, Granted,
// Fields, Policies and Allow. Err goes to the log, never into an answer.
//
// # Cost
//
// Refusals must be cheaper than proxied requests. Bodies that depend on the
// reason alone are rendered once, at program start; among them every 401 of all
// dialects but problem. The header values of one answer share one allocation;
// they are not shared between answers, because later handlers may rewrite a
// header's values in place.
package refusal
