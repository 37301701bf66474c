package bodyrule

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
)

// Replay makes raw the request's body again, after it was read: the same bytes,
// with their length as Content-Length, whether it was chunked or not. Trailers
// are dropped: what came after a chunked body has no place behind one of known
// length. The first body is closed with the new one. GetBody is set, so that a
// transport may send the request again on a fresh connection.
func Replay(r *http.Request, raw []byte) {
	first := r.Body
	if first == nil {
		first = http.NoBody
	}
	r.Body = &replayed{Reader: bytes.NewReader(raw), first: first}
	if len(raw) == 0 {
		// A transport takes NoBody alone for a body of no bytes; another reader
		// with length 0 counts as a body of unknown length.
		r.Body = http.NoBody
	}
	r.GetBody = func() (io.ReadCloser, error) {
		if len(raw) == 0 {
			return http.NoBody, nil
		}
		return io.NopCloser(bytes.NewReader(raw)), nil
	}
	r.ContentLength = int64(len(raw))
	r.TransferEncoding = nil
	r.Trailer = nil
	r.Header.Del("Trailer")
	r.Header.Del("Transfer-Encoding")
	// Handlers that speak other protocols (FastCGI) read the header, not the
	// field.
	r.Header.Set("Content-Length", strconv.Itoa(len(raw)))
}

// replayed is a body that was read and is to be read again.
type replayed struct {
	*bytes.Reader
	first io.Closer
}

// Close closes the body that was read first.
func (b *replayed) Close() error { return b.first.Close() }
