package refusal

import (
	"net/http"
	"strconv"
)

// Write answers the request with r: its headers, status and body (none for
// HEAD, whose Content-Length is that of a GET). Headers that were set before and
// that are not the refusal's own stay. A failure to write means that the client
// is gone, and is not reported.
func (d Dialect) Write(w http.ResponseWriter, method string, r *Refusal) {
	d = d.known()
	i := r.Reason.place()
	e := r.entry(i)
	status := d.status(e)
	body, length := d.body(i, r)

	// One backing array for all values of this answer. Prepared slices shared
	// between answers would be cheaper, but later handlers (Caddy's header
	// replacements) write into the values in place.
	values := headerValues{h: w.Header(), free: make([]string, 6)}
	values.set("Content-Type", d.ContentType())
	values.set("Content-Length", length)
	values.set("Cache-Control", "no-store")
	values.set("X-Hivegate-Reason", string(e.reason))
	switch {
	case e.backend():
		// Challenge, Allow and Retry-After are the backend's own, where it sent
		// them. A 401 needs a challenge (RFC 9110 section 15.5.2).
		if status == http.StatusUnauthorized && len(values.h["Www-Authenticate"]) == 0 {
			values.set("Www-Authenticate", `Bearer realm="`+string(appendQuoted(nil, r.Realm))+`"`)
		}
	case status == http.StatusUnauthorized, e.reason == ReasonInsufficientScope:
		var buf [512]byte
		values.set("Www-Authenticate", string(appendChallenge(buf[:0], e, r)))
	case status == http.StatusMethodNotAllowed:
		// RFC 9110 section 15.5.6 asks for the header even when nothing is allowed.
		values.set("Allow", r.Allow)
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		values.set("Retry-After", strconv.Itoa(r.retryAfter()))
	}
	w.WriteHeader(status)
	if method != http.MethodHead {
		_, _ = w.Write(body) // the client is gone: nothing is left to tell it
	}
}

// headerValues sets headers out of one array. Names are canonical already.
type headerValues struct {
	h    http.Header
	free []string
}

func (v *headerValues) set(name, value string) {
	v.free[0] = value
	v.h[name] = v.free[:1:1]
	v.free = v.free[1:]
}
