package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/hivegate/hivegate/internal/refusal"
)

// envelope watches the answer to one request on a site with `backend_errors
// envelope`. It decides when the final status is written, or, where the length
// of the body is not known by then, when its first byte comes or the handler
// returns. It keeps no body: an answer either passes as it comes, or is dropped
// as it comes.
type envelope struct {
	x     *exchange
	ctx   context.Context // of the request as the next handler sees it
	state envelopeState
	// status was written by the next handler.
	status int
	// dropped counts what was thrown away of a replaced body.
	dropped int
	// trash takes the headers that the next handler sets after its answer was
	// replaced, such as trailers.
	trash http.Header
	ref   *refusal.Refusal // what the answer was replaced with
}

type envelopeState uint8

const (
	envelopeWaiting  envelopeState = iota // for the final status
	envelopeHolding                       // the status: whether there is a body decides
	envelopePassing                       // the answer passes
	envelopeReplaced                      // the answer was replaced
)

// envelopeReasons are the reasons that answers are replaced for.
var envelopeReasons = [...]refusal.Reason{
	refusal.ReasonBackendError, refusal.ReasonBackendEmpty, refusal.ReasonBackendUnreachable,
	refusal.ReasonBackendTimeout, refusal.ReasonBodyTooLarge,
}

// maxDropped is how much is read of a body that is thrown away. Past it the
// backend's connection is given up.
const maxDropped = 256 << 10

var errDropped = errors.New("hivegate: the rest of this error page is not wanted")

// carryOn calls the next handler.
func (x *exchange) carryOn(next caddyhttp.Handler, r *http.Request) error {
	if !x.g.c.envelope {
		return next.ServeHTTP(x, r)
	}
	return x.carryOnWatched(next, r)
}

// carryOnWatched calls the next handler, and says in the site's dialect what it
// could not.
func (x *exchange) carryOnWatched(next caddyhttp.Handler, r *http.Request) (err error) {
	e := &envelope{x: x, ctx: r.Context()}
	x.responder.envelope = e
	defer func() {
		if p := recover(); p != nil {
			if !e.aborted(p) {
				panic(p)
			}
			err = nil
		}
	}()
	return e.ended(next.ServeHTTP(x, r))
}

// header takes the final status. It reports whether the envelope keeps it.
func (e *envelope) header(status int) (kept bool) {
	if e.state != envelopeWaiting {
		return e.state != envelopePassing
	}
	e.status = status
	switch e.judge(status) {
	case envelopeReplaced:
		e.replaceStatus()
		return true
	case envelopeHolding:
		e.state = envelopeHolding
		return true
	}
	e.state = envelopePassing
	return false
}

// judge says what becomes of an answer, as far as its head shows.
func (e *envelope) judge(status int) envelopeState {
	h, r := e.x.responder.ResponseWriter.Header(), e.x.r
	kind := mediaType(h)
	switch {
	case e.ctx.Err() != nil:
		// The client left, or the key was revoked: no error of the backend.
		return envelopePassing
	case status >= 400:
		if strings.HasPrefix(kind, "application/grpc") {
			return envelopePassing // its clients read trailers
		}
		if isHTML(kind) {
			return envelopeReplaced
		}
	case status == http.StatusOK && r.Method == http.MethodGet && isJSON(kind):
	default:
		return envelopePassing
	}
	length := h["Content-Length"]
	switch {
	case len(length) == 1 && length[0] == "0":
		return envelopeReplaced
	case r.Method == http.MethodHead:
		// There is never a body. What would have had one is left alone.
		if kind == "" && len(length) == 0 {
			return envelopeReplaced
		}
		return envelopePassing
	case len(length) == 0, kind == "" && len(h["Content-Encoding"]) == 0:
		return envelopeHolding
	}
	return envelopePassing
}

// body takes a part of the body. It reports whether the envelope has dealt with
// it.
func (e *envelope) body(p []byte) (n int, kept bool, err error) {
	if e.state == envelopeWaiting {
		e.header(http.StatusOK) // said by writing a body
	}
	if e.state == envelopeHolding {
		if len(p) == 0 {
			return 0, true, nil
		}
		h := e.x.responder.ResponseWriter.Header()
		unnamed := mediaType(h) == "" && len(h["Content-Encoding"]) == 0
		if e.status >= 400 && unnamed && isHTML(mediaTypeOf(http.DetectContentType(p))) {
			e.replaceStatus()
		} else {
			e.release()
		}
	}
	if e.state == envelopePassing {
		return 0, false, nil
	}
	if e.dropped += len(p); e.dropped > maxDropped {
		return 0, true, errDropped
	}
	return len(p), true, nil
}

// held reports whether a flush has to wait for the first byte.
func (e *envelope) held() bool {
	if e.state == envelopeWaiting {
		e.header(http.StatusOK)
	}
	return e.state == envelopeHolding
}

// release lets a held answer go.
func (e *envelope) release() {
	e.state = envelopePassing
	e.x.responder.finish()
	e.x.responder.ResponseWriter.WriteHeader(e.status)
}

// ended is called when the next handler has returned.
func (e *envelope) ended(err error) error {
	if err == nil {
		if e.state == envelopeHolding {
			e.replaceStatus() // there was no body
		}
		return nil
	}
	switch {
	case e.state == envelopeReplaced:
		return nil // the client has its answer
	case e.state == envelopePassing || e.x.responder.done:
		return err
	}
	var handler caddyhttp.HandlerError
	if !errors.As(err, &handler) {
		return err
	}
	ref := &refusal.Refusal{Err: err}
	switch handler.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		ref.Reason = refusal.ReasonBackendUnreachable
	case http.StatusGatewayTimeout:
		ref.Reason = refusal.ReasonBackendTimeout
	case http.StatusRequestEntityTooLarge:
		ref.Reason = refusal.ReasonBodyTooLarge
	default:
		return err
	}
	e.replace(ref)
	return nil
}

// aborted is called when the next handler has given up in the middle. It reports
// whether the client has a whole answer all the same.
func (e *envelope) aborted(panicked any) bool {
	if cause, ok := panicked.(error); !ok || !errors.Is(cause, http.ErrAbortHandler) {
		return false
	}
	switch {
	case e.state == envelopeReplaced:
		return true // what broke off was thrown away anyway
	case e.state == envelopeHolding && e.ctx.Err() == nil:
		e.replace(&refusal.Refusal{
			Reason: refusal.ReasonBackendUnreachable, Hint: "the backend's connection broke before its answer began",
			Err: errors.New("the backend's answer broke off before its first byte"),
		})
		return true
	}
	return false
}

// replaceStatus replaces the answer whose status was written.
func (e *envelope) replaceStatus() {
	if e.status < 400 {
		e.replace(&refusal.Refusal{Reason: refusal.ReasonBackendEmpty})
		return
	}
	says := "The backend answered " + strconv.Itoa(e.status)
	if text := http.StatusText(e.status); text != "" {
		says += " " + text
	}
	ref := &refusal.Refusal{Reason: refusal.ReasonBackendError, Status: e.status, Message: says}
	ref.Hint = "the gate let this request pass; the backend behind it answered " + says[len("The backend answered "):]
	h := e.x.responder.ResponseWriter.Header()
	if after := h["Retry-After"]; len(after) > 0 {
		n, err := strconv.Atoi(after[0])
		_, notDate := http.ParseTime(after[0])
		switch {
		case err == nil && n > 0 && len(after) == 1:
			ref.Numbers.RetryAfter = n
		case notDate != nil || len(after) > 1:
			delete(h, "Retry-After") // no client can obey it
		}
	}
	e.replace(ref)
}

// replace answers in the site's dialect instead. Headers of the backend that do
// not describe its body stay.
func (e *envelope) replace(ref *refusal.Refusal) {
	x := e.x
	e.state, e.ref, e.trash = envelopeReplaced, ref, make(http.Header)
	ref.Kind, ref.Realm, ref.DocsURL = x.kind, x.realm(), x.g.DocsURL
	x.responder.finish()
	h := x.responder.ResponseWriter.Header()
	dropBodyHeaders(h, ref.Status)
	x.rt.metrics.backendErrors.WithLabelValues(string(ref.Reason)).Inc()
	e.log(ref)
	x.g.c.dialect.Write(x.responder.ResponseWriter, x.r.Method, ref)
}

// log writes the line that says who refused.
func (e *envelope) log(ref *refusal.Refusal) {
	x := e.x
	x.writeRefusal("backend error", x.g.c.dialect.StatusOf(ref), ref)
	if extra, ok := x.r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok && x.g.logging {
		extra.Add(zap.String("hivegate_reason", string(ref.Reason)))
	}
}

// dropBodyHeaders removes what describes a body that is not sent (RFC 9110,
// section 8, and RFC 9530), and the trailers that would follow it.
func dropBodyHeaders(h http.Header, status int) {
	for _, line := range h["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			delete(h, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	for name := range h {
		switch {
		case strings.HasPrefix(name, "Content-Security-Policy"):
		case name == "Content-Range" && status == http.StatusRequestedRangeNotSatisfiable:
		case strings.HasPrefix(name, "Content-"):
			delete(h, name)
		}
	}
	for _, name := range [...]string{"Trailer", "Transfer-Encoding", "Etag", "Last-Modified", "Accept-Ranges", "Expires", "Age",
		"Pragma", "Digest", "Repr-Digest"} {
		delete(h, name)
	}
}

// mediaType is the lower-case media type of an answer, without parameters; empty
// where it names none.
func mediaType(h http.Header) string {
	values := h["Content-Type"]
	if len(values) == 0 {
		return ""
	}
	return mediaTypeOf(values[0])
}

func mediaTypeOf(value string) string {
	if i := strings.IndexByte(value, ';'); i >= 0 {
		value = value[:i]
	}
	return strings.ToLower(strings.TrimSpace(value))
}

func isHTML(kind string) bool { return kind == "text/html" || kind == "application/xhtml+xml" }

// isJSON reports whether a body of that type is one JSON text, which cannot be
// empty. Streams of JSON texts can.
func isJSON(kind string) bool {
	return kind == "application/json" || kind == "text/json" ||
		strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json") && kind != "application/stream+json"
}
