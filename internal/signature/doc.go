// Package signature verifies signed requests: a header that holds the lower-case
// hex HMAC-SHA256 (RFC 2104) of what was sent, under a signing secret.
//
// # What is signed
//
// Without X-Request-Timestamp: the raw body, byte for byte. With it, the text
//
//	<timestamp>.<METHOD>.<request target>.<body>
//
// where the timestamp is the header's value (Unix seconds, decimal digits) and
// the target is what the client sent in its request line, query included. The
// key of the HMAC is the bytes of the secret's text, as it was shown.
//
//	openssl dgst -sha256 -hmac "$SECRET" body.json
//
// # Replay
//
// The form without a timestamp binds neither time, method nor target: whoever
// has seen such a request can send its body again, to any signed route that the
// same credential may use. The form with a timestamp binds all three, and is
// good from 5 minutes before to 5 minutes after the second it names; within
// these the same request may be sent again, since no list of used signatures is
// kept. Where once must mean once, use a second factor. "timestamp required"
// leaves only this form.
//
// The two forms share secrets, so neither may pass as the other. A body sent
// without a timestamp that begins like the signed text of the other form
// (10 digits, a dot, a method, a dot) is refused: else the text of a timestamped
// request, sent as a body, would outlive its 5 minutes. For the reverse nobody
// should be asked to sign a body that begins so. The dots do not mark where the
// target ends if it holds one itself: routes that are signed do best without
// dots in path and query.
//
// # Secrets
//
// A request may have several candidates: the key's own secret and the subject's.
// All of them are tried, and each comparison takes the same time whatever it
// finds. A caller without a secret cannot sign, and is refused.
package signature
