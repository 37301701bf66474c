package caddymodule

import (
	"io"
	"net/http"
	"strings"
	"unsafe"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// responder is the ResponseWriter that the next handlers see. reverse_proxy
// adds a backend's headers to those that are there, so ours are put in place
// when the final status is written: then they replace the backend's.
type responder struct {
	caddyhttp.ResponseWriterWrapper

	requestID string
	text      arena
	// values backs the header slices of this answer and of the request's
	// identity headers, so that they cost one allocation together. The slices
	// are per request because later handlers may change them in place.
	values [valueCount]string
	cors   *corsAnswer // nil: the site has no cors
	// envelope watches the backend's errors; nil: they pass.
	envelope *envelope
	shadow   *shadowState // nil: nothing would have been refused
	// headers is how many there were when the answer's head was written.
	headers int32
	done    bool
	// refusing: what is being written is a refusal by a second gate, whose
	// headers are ours too.
	refusing bool
}

// Places in values: first the headers of the answer, then those of the request.
// Limit headers that are empty are not set.
const (
	valueID = iota
	valueLimit
	valueRemaining
	valueReset
	valuePolicy
	valueStates

	valueOnwardID
	valueKind
	valueWho
	valueOwner
	valueScopes
	valuePlan
	valueIssuer
	valueFactor
	valueCount
)

// arena holds the texts that one answer's headers are made of: they live as long
// as its exchange does, so they need no memory of their own. Bytes that a string
// was made of are never written again.
type arena struct {
	buf  [160]byte
	used int
}

// room is an empty slice to append a text to, for keep.
func (a *arena) room() []byte { return a.buf[a.used:a.used:len(a.buf)] }

// keep is the string of what was appended to room, which has memory of its own
// where the arena was too small.
func (a *arena) keep(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > len(a.buf)-a.used || &b[0] != &a.buf[a.used] {
		return string(b)
	}
	a.used += len(b)
	return unsafe.String(&b[0], len(b)) //nolint:gosec // nobody writes these bytes again
}

// install puts the gate's own headers in place.
func (w *responder) install(h http.Header) {
	w.put(h, "X-Request-Id", valueID, w.requestID)
	w.show(h, "X-Ratelimit-Limit", valueLimit)
	w.show(h, "X-Ratelimit-Remaining", valueRemaining)
	w.show(h, "X-Ratelimit-Reset", valueReset)
	w.show(h, "Ratelimit-Policy", valuePolicy)
	w.show(h, "Ratelimit", valueStates)
	if w.cors != nil {
		w.cors.install(h)
	}
	if w.shadow != nil && w.shadow.shown != "" {
		h["X-Hivegate-Shadow"] = []string{w.shadow.shown}
	}
}

func (w *responder) put(h http.Header, name string, i int, value string) {
	if value != "" {
		w.values[i] = value
		h[name] = w.values[i : i+1 : i+1]
	}
}

// show is put for a value that is in its place already.
func (w *responder) show(h http.Header, name string, i int) {
	if w.values[i] != "" {
		h[name] = w.values[i : i+1 : i+1]
	}
}

// Header implements http.ResponseWriter.
func (w *responder) Header() http.Header {
	if w.envelope != nil && w.envelope.trash != nil {
		return w.envelope.trash
	}
	return w.ResponseWriter.Header()
}

// WriteHeader implements http.ResponseWriter.
func (w *responder) WriteHeader(status int) {
	// 1xx answers are interim, save for 101, after which there is no other.
	if final := status >= 200 || status == http.StatusSwitchingProtocols; final {
		if w.envelope != nil && w.envelope.header(status) {
			return
		}
		if !w.done {
			w.finish()
		}
	}
	if status < 200 {
		dropOwn(w.ResponseWriter.Header()) // an interim answer of the backend's
	}
	w.ResponseWriter.WriteHeader(status)
}

// ownHeader begins the headers that only a gate may set.
const ownHeader = "X-Hivegate-"

// dropOwn removes them from what a backend sent, trailers included.
func dropOwn(h http.Header) {
	for name := range h {
		bare := strings.TrimPrefix(name, http.TrailerPrefix)
		if len(bare) >= len(ownHeader) && strings.EqualFold(bare[:len(ownHeader)], ownHeader) {
			delete(h, name)
		}
	}
	if len(h["Trailer"]) == 0 {
		return
	}
	var kept []string
	for _, line := range h["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.TrimSpace(name)
			if name != "" && (len(name) < len(ownHeader) || !strings.EqualFold(name[:len(ownHeader)], ownHeader)) {
				kept = append(kept, name)
			}
		}
	}
	if delete(h, "Trailer"); kept != nil {
		h["Trailer"] = kept
	}
}

// finish replaces headers of ours that a backend sent and removes those that
// only a gate may set.
func (w *responder) finish() {
	w.done = true
	h := w.ResponseWriter.Header()
	if !w.refusing {
		dropOwn(h)
	}
	w.install(h)
	w.headers = int32(len(h))
}

// dropTrailers removes from the trailers what only a gate may set. A backend's
// trailers are in the headers' map by now.
func (w *responder) dropTrailers() {
	if h := w.ResponseWriter.Header(); len(h) != int(w.headers) && !w.refusing {
		dropOwn(h)
	}
}

// Write implements http.ResponseWriter.
func (w *responder) Write(p []byte) (int, error) {
	if w.envelope != nil {
		if n, kept, err := w.envelope.body(p); kept {
			return n, err
		}
	}
	if !w.done {
		w.finish()
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (w *responder) ReadFrom(r io.Reader) (int64, error) {
	if w.envelope != nil && w.envelope.state != envelopePassing {
		return io.Copy(struct{ io.Writer }{w}, r) // by Write
	}
	if !w.done {
		w.finish()
	}
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError implements what http.ResponseController looks for.
func (w *responder) FlushError() error {
	if w.envelope != nil && w.envelope.held() {
		return nil // the answer's first byte flushes
	}
	if !w.done {
		w.finish()
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}
