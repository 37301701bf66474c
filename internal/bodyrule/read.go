package bodyrule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/hivegate/hivegate/internal/refusal"
)

// MaxBody is the longest body that rules look at, in bytes.
const MaxBody = 64 << 10

// Read checks the headers that describe a body and reads it whole.
// contentLength is the request's: -1 where it is unknown. Refusals: 415
// body_not_json, 413 body_too_large, and 400 body_invalid where the body cannot
// be read to its end. Headers are judged first, so that a client which waits for
// 100 Continue sends nothing in vain.
func (s *Set) Read(body io.Reader, header http.Header, contentLength int64) ([]byte, *refusal.Refusal) {
	if why := checkHeader(header); why != "" {
		return nil, &refusal.Refusal{Reason: refusal.ReasonBodyNotJSON, Hint: why}
	}
	return ReadBody(body, contentLength, MaxBody)
}

// ReadBody reads a body of at most limit bytes whole. Refusals: 413
// body_too_large, before anything is read where contentLength says so, and 400
// body_invalid where the body cannot be read to its end.
func ReadBody(body io.Reader, contentLength, limit int64) ([]byte, *refusal.Refusal) {
	if contentLength > limit {
		return nil, tooLarge(limit)
	}
	if body == nil {
		return []byte{}, nil
	}
	raw, err := io.ReadAll(io.LimitReader(body, limit+1))
	var bound *http.MaxBytesError
	switch {
	case int64(len(raw)) > limit:
		return nil, tooLarge(limit)
	case errors.As(err, &bound):
		return nil, tooLarge(bound.Limit)
	case err != nil:
		return nil, &refusal.Refusal{
			Reason:  refusal.ReasonBodyInvalid,
			Message: "The request body ended too early",
			Hint:    "the connection gave less than the body that was announced; send the request again",
			Err:     fmt.Errorf("read body: %w", err),
		}
	}
	return raw, nil
}

func tooLarge(limit int64) *refusal.Refusal {
	size := fmt.Sprintf("%d bytes", limit)
	if limit > 0 && limit%1024 == 0 {
		size = fmt.Sprintf("%d KiB", limit/1024)
	}
	return &refusal.Refusal{
		Reason: refusal.ReasonBodyTooLarge,
		Hint:   "this route takes bodies of at most " + size,
	}
}

// checkHeader returns what keeps the body from being plain JSON; empty: nothing.
func checkHeader(h http.Header) string {
	const contentType, contentEncoding = "Content-Type", "Content-Encoding"
	for name := range h {
		switch {
		case name == contentType || len(name) != len(contentType) && len(name) != len(contentEncoding):
		case likeHeader(name, contentEncoding):
			return "send the body without Content-Encoding"
		case likeHeader(name, contentType):
			return "send Content-Type under its own name"
		}
	}
	switch types := h[contentType]; {
	case len(types) == 0:
		return "send 'Content-Type: application/json'"
	case len(types) > 1:
		return "send exactly one Content-Type"
	case !isJSON(types[0]):
		return "send 'Content-Type: application/json'; its one parameter may be charset=utf-8"
	}
	return ""
}

// likeHeader reports whether a backend may take a header for another: CGI makes
// one variable of '-', '_' and '.', in any case.
func likeHeader(name, other string) bool {
	if len(name) != len(other) {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if c == '_' || c == '.' {
			c = '-'
		}
		if c|0x20 != other[i]|0x20 { // '-' is not changed by it
			return false
		}
	}
	return true
}

// isJSON reports whether a Content-Type is application/json (RFC 8259 section
// 11), with charset=utf-8 at most once and no other parameter (RFC 9110 section
// 5.6.6).
func isJSON(contentType string) bool {
	media, params, _ := strings.Cut(contentType, ";")
	if !strings.EqualFold(trim(media), "application/json") {
		return false
	}
	charset := false
	for p := range strings.SplitSeq(params, ";") {
		p = trim(p)
		if p == "" {
			continue
		}
		name, value, _ := strings.Cut(p, "=")
		if charset || !strings.EqualFold(name, "charset") ||
			!strings.EqualFold(value, "utf-8") && !strings.EqualFold(value, `"utf-8"`) {
			return false
		}
		charset = true
	}
	return true
}

// trim removes optional white space (RFC 9110 section 5.6.3).
func trim(s string) string { return strings.Trim(s, " \t") }
