package signature

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hivegate/hivegate/internal/bodyrule"
	"github.com/hivegate/hivegate/internal/refusal"
)

// Defaults and bounds.
const (
	// DefaultHeader is the header that holds the signature.
	DefaultHeader = "X-Request-Signature"
	// TimestampHeader is the header that makes the signed text cover time,
	// method and target.
	TimestampHeader = "X-Request-Timestamp"
	// DefaultMaxBody is the longest body that is read to be verified, in bytes.
	DefaultMaxBody = 1 << 20
	// Window is how far a timestamp may be from now, in either direction.
	Window = 5 * time.Minute

	// maxMaxBody bounds Options.MaxBody: signed bodies are held in memory.
	maxMaxBody = 1 << 30
	// minSecret is the length in bytes below which a secret is not used.
	minSecret = 16
	// stampDigits is how many digits Unix seconds have, from 2001 to 2286.
	stampDigits = 10
)

// Options say how a site's signed routes are verified.
type Options struct {
	// Header holds the signature. Default: X-Request-Signature.
	Header string
	// MaxBody is the longest body in bytes, at most 1 GiB; a longer one is 413.
	// Default: 1 MiB.
	MaxBody int64
	// TimestampRequired refuses signatures over the body alone. Default: false.
	TimestampRequired bool
}

// Verifier verifies requests. It is immutable and safe for concurrent use.
type Verifier struct {
	header    string // canonical
	maxBody   int64
	timestamp bool
}

// New checks the options and fills in defaults.
func New(o Options) (*Verifier, error) {
	if o.Header == "" {
		o.Header = DefaultHeader
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	v := &Verifier{header: http.CanonicalHeaderKey(o.Header), maxBody: o.MaxBody, timestamp: o.TimestampRequired}
	if !isToken(o.Header) {
		return nil, fmt.Errorf("signature: %q is not the name of a header", o.Header)
	}
	switch v.header {
	case TimestampHeader, "Authorization", "Cookie", "Host", "Content-Length", "Content-Type", "Transfer-Encoding", "X-Security-Code":
		return nil, fmt.Errorf("signature: the header %s has another meaning: choose another name", v.header)
	}
	if o.MaxBody < 0 || o.MaxBody > maxMaxBody {
		return nil, errors.New("signature: max_body must be between 1 byte and 1 GiB")
	}
	return v, nil
}

// Request is what a signature is about.
type Request struct {
	// Method as it was sent.
	Method string
	// Target is the request target as the client sent it, before any rewrite:
	// path and query.
	Target string
	Header http.Header
	// Body is the whole raw body; see [Verifier.Read].
	Body []byte
}

// HeaderName returns the name of the header that holds the signature.
func (v *Verifier) HeaderName() string { return v.header }

// Read reads the body of a request whole, within the bound. It first looks at
// the headers, and refuses without reading what [Verifier.Verify] would refuse
// whatever the body: so nobody makes the gate hold a body by sending no
// signature. contentLength is -1 where unknown. Refusals: those of Verify, 413
// body_too_large and 400 body_invalid. A body that was read already (for a json
// rule) need not be read again: give it to Verify.
func (v *Verifier) Read(now time.Time, body io.Reader, h http.Header, contentLength int64) ([]byte, *refusal.Refusal) {
	if _, _, no := v.headers(now, h); no != nil {
		return nil, no
	}
	return bodyrule.ReadBody(body, contentLength, v.maxBody)
}

// Verify checks a request against all secrets: the key's and the subject's, in
// any order. It returns nil where one of them made the signature. Refusals:
// signature_required where there is no signature header; body_too_large where
// Body is longer than the bound; signature_invalid for everything else.
func (v *Verifier) Verify(now time.Time, r Request, secrets ...[]byte) *refusal.Refusal {
	sent, stamp, no := v.headers(now, r.Header)
	if no != nil {
		return no
	}
	if int64(len(r.Body)) > v.maxBody {
		_, no := bodyrule.ReadBody(nil, int64(len(r.Body)), v.maxBody)
		return no
	}
	if stamp == "" && looksStamped(r.Body) {
		return invalid("a body that begins like '<timestamp>.<METHOD>.' must be signed with " + TimestampHeader)
	}
	if len(secrets) == 0 {
		return invalid("this caller has no signing secret: make one with 'hivegate apikey signing-secret' or 'hivegate signing-secret'")
	}
	match := false
	for _, secret := range secrets {
		if len(secret) < minSecret {
			continue
		}
		// Every secret is tried, so that the time says nothing of which it was.
		match = hmac.Equal(sum(secret, stamp, r.Method, r.Target, r.Body), sent[:]) || match
	}
	if !match {
		return invalid("")
	}
	return nil
}

// Sign makes the header value for a request: what a client does. An empty
// timestamp signs the body alone.
func Sign(secret []byte, timestamp, method, target string, body []byte) string {
	return hex.EncodeToString(sum(secret, timestamp, method, target, body))
}

// NewSecret makes a signing secret: "hgs_" and 52 characters of base32, 260
// random bits. The HMAC's key is the bytes of this text.
func NewSecret() string { return "hgs_" + rand.Text() + rand.Text() }

// sum is the HMAC-SHA256 of what is signed.
func sum(secret []byte, timestamp, method, target string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	if timestamp != "" {
		mac.Write([]byte(timestamp + "." + method + "." + target + "."))
	}
	mac.Write(body)
	return mac.Sum(nil)
}

// headers judges what can be judged without the body: the signature, decoded,
// and the timestamp as it was sent, empty where there is none.
func (v *Verifier) headers(now time.Time, h http.Header) (sent [sha256.Size]byte, stamp string, no *refusal.Refusal) {
	values := h[v.header]
	if len(values) == 0 {
		return sent, "", &refusal.Refusal{Reason: refusal.ReasonSignatureRequired, Hint: v.requiredHint()}
	}
	if len(values) > 1 {
		return sent, "", invalid("send exactly one " + v.header)
	}
	if !decode(&sent, values[0]) {
		return sent, "", invalid(v.header + " must be 64 lower-case hex digits and nothing else")
	}
	stamps := h[TimestampHeader]
	switch {
	case len(stamps) == 0 && v.timestamp:
		return sent, "", invalid("this route requires " + TimestampHeader + ", with the signature over '<timestamp>.<METHOD>.<request target>.<body>'")
	case len(stamps) == 0:
		return sent, "", nil
	case len(stamps) > 1:
		return sent, "", invalid("send exactly one " + TimestampHeader)
	}
	seconds, ok := parseStamp(stamps[0])
	if !ok {
		return sent, "", invalid(TimestampHeader + " must be Unix seconds in decimal digits")
	}
	const window = int64(Window / time.Second)
	if d := now.Unix() - seconds; d > window || d < -window {
		return sent, "", invalid(TimestampHeader + " is more than 5 minutes from the server's time: check the clock, and sign each request anew")
	}
	return sent, stamps[0], nil
}

func (v *Verifier) requiredHint() string {
	if v.timestamp {
		return "this route requires " + v.header + ": the lower-case hex HMAC-SHA256 of '<timestamp>.<METHOD>.<request target>.<body>', with " + TimestampHeader
	}
	return "this route requires " + v.header + ": the lower-case hex HMAC-SHA256 of the raw body"
}

// invalid is a refusal with signature_invalid; an empty hint is the reason's own.
func invalid(hint string) *refusal.Refusal {
	return &refusal.Refusal{Reason: refusal.ReasonSignatureInvalid, Hint: hint}
}

// decode reads 64 lower-case hex digits.
func decode(dst *[sha256.Size]byte, s string) bool {
	if len(s) != hex.EncodedLen(sha256.Size) || strings.ContainsAny(s, "ABCDEF") {
		return false
	}
	_, err := hex.Decode(dst[:], []byte(s))
	return err == nil
}

// parseStamp reads Unix seconds: decimal digits without sign, space or leading
// zero, so that one second has one text.
func parseStamp(s string) (int64, bool) {
	if len(s) != stampDigits || s[0] == '0' {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// looksStamped reports whether a body begins like the signed text of a
// timestamped request: 10 digits, a dot, a method (RFC 9110 section 9.1: a
// token), a dot.
func looksStamped(body []byte) bool {
	if len(body) <= stampDigits || body[stampDigits] != '.' {
		return false
	}
	if _, ok := parseStamp(string(body[:stampDigits])); !ok {
		return false
	}
	rest := body[stampDigits+1:]
	for i, c := range rest {
		switch {
		case c == '.':
			return i > 0
		case !isTokenByte(c):
			return false
		}
	}
	return false
}

func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// isTokenByte reports whether c may be in a token (RFC 9110 section 5.6.2).
func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
