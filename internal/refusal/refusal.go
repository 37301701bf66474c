package refusal

// Refusal is why one request was refused, with all that an answer may say about
// it. It never holds a credential, a secret or a code, not even in part.
type Refusal struct {
	// Reason decides the status. An unknown one is answered as internal.
	Reason Reason
	// Status is answered instead of the reason's own, in every dialect. It is for
	// backend_error, whose status is the backend's. Default: the reason's own.
	Status int
	// Kind is the kind of credential that was recognised.
	Kind Kind
	// Message replaces the reason's own text where the dialect has no fixed
	// one (see the package comment). Default: the reason's own.
	Message string
	// Hint is what would have saved the caller. It goes to error_description
	// and to problem's detail. Default: the reason's own.
	Hint string
	// Realm is the protection space named in challenges.
	Realm string
	// DocsURL, where set, is what problem's type and error_description point
	// to, with "#" and the reason appended.
	DocsURL string
	// Credential says that a credential (or login data) was sent. Only for
	// missing_credentials does it matter: without it the challenge has neither
	// error nor error_description. All other reasons imply one.
	Credential bool
	// Required holds the scopes that are required; the first is the one that
	// is named where only one is.
	Required []string
	// Granted holds the scopes that the credential has.
	Granted []string
	// Fields are the field errors of a 422.
	Fields []FieldError
	// Numbers are the figures of a 429, and Retry-After of a 429 or 503.
	Numbers Numbers
	// Policies names the limits that a 429 violated.
	Policies []string
	// Allow lists the methods for the Allow header of a 405, such as "GET, HEAD".
	Allow string
	// Err is the cause. It is logged and never sent.
	Err error
}

// Kind is a kind of credential.
type Kind uint8

// The kinds of credentials.
const (
	// KindNone: no credential, or one of no recognised kind.
	KindNone Kind = iota
	KindAPIKey
	KindJWT
)

// FieldError is what is wrong with one field of a request body.
type FieldError struct {
	Field    string
	Messages []string
}

// Numbers are the figures of a limit. The zero value says that there are none.
type Numbers struct {
	// Limit is the capacity, Remaining what is left of it, Reset the Unix
	// second at which it is full again. They are said only with HasLimit.
	Limit, Remaining int
	Reset            int64
	HasLimit         bool
	// RetryAfter is in seconds. Default: 1.
	RetryAfter int
}

// entry is the reason's line of the table, with the refusal's own status.
func (r *Refusal) entry(i int) *entry {
	if r.Status == 0 {
		return &table[i]
	}
	e := table[i]
	e.status = r.Status
	return &e
}

// backend reports whether the refusal is the backend's own, so that the texts
// that say what the gate found do not apply.
func (e *entry) backend() bool { return e.reason == ReasonBackendError }

// Error gives the reason and the cause, for logs.
func (r *Refusal) Error() string {
	if r.Err == nil {
		return "refused: " + string(r.Reason)
	}
	return "refused: " + string(r.Reason) + ": " + r.Err.Error()
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// message is what a body says where the dialect has no fixed text.
func (r *Refusal) message(e *entry) string {
	if s := r.given(e); s != "" {
		return s
	}
	return e.message
}

// detail is the longest advice there is: problem's detail.
func (r *Refusal) detail(e *entry) string {
	if r.Hint != "" {
		return r.Hint
	}
	if s := r.given(e); s != "" {
		return s
	}
	return r.ownHint(e)
}

// hint is what error_description says.
func (r *Refusal) hint(e *entry) string {
	if r.Hint != "" {
		return r.Hint
	}
	return r.ownHint(e)
}

// given is the text that the refusal itself brings; empty where it brings none.
func (r *Refusal) given(e *entry) string {
	if r.Message != "" {
		return r.Message
	}
	if e.reason != ReasonFieldInvalid && len(r.Fields) > 0 && len(r.Fields[0].Messages) > 0 {
		return r.Fields[0].Field + ": " + r.Fields[0].Messages[0]
	}
	return ""
}

// ownHint is the reason's hint, with what the refusal knows filled in.
func (r *Refusal) ownHint(e *entry) string {
	switch {
	case e.reason == ReasonInsufficientScope && len(r.Required) > 0:
		return "this request requires the scope " + r.Required[0]
	case e.reason == ReasonMethodNotAllowed && r.Allow != "":
		return "this path takes " + r.Allow
	}
	return e.hint
}

// docs is where the reason is explained; empty where nothing is configured.
func (r *Refusal) docs(e *entry) string {
	if r.DocsURL == "" {
		return ""
	}
	return r.DocsURL + "#" + string(e.reason)
}

// retryAfter is the figure of Retry-After and of bodies: at least 1.
func (r *Refusal) retryAfter() int { return max(1, r.Numbers.RetryAfter) }
