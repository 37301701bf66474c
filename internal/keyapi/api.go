package keyapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hivegate/hivegate/internal/bodyrule"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

// Op is one call of the API.
type Op uint8

// The calls.
const (
	Verify Op = iota
	Describe
	List
	Create
	Get
	Patch
	Delete
	Rotate
)

// Need is what a call needs of its caller.
type Need uint8

// The needs: any credential, the configured read, the configured write.
const (
	NeedCredential Need = iota
	NeedRead
	NeedWrite
)

// Route is one call as a route line has it.
type Route struct {
	Op     Op
	Method string
	Path   string // after the base; {id} is the key's
	Need   Need
}

// Routes are all calls.
var Routes = []Route{
	{Verify, http.MethodGet, "/auth/verify", NeedCredential},
	{Describe, http.MethodGet, "/openapi.json", NeedCredential},
	{List, http.MethodGet, "/api-keys", NeedRead},
	{Create, http.MethodPost, "/api-keys", NeedWrite},
	{Get, http.MethodGet, "/api-keys/{id}", NeedRead},
	{Patch, http.MethodPatch, "/api-keys/{id}", NeedWrite},
	{Delete, http.MethodDelete, "/api-keys/{id}", NeedWrite},
	{Rotate, http.MethodPost, "/api-keys/{id}/rotate", NeedWrite},
}

// Options of an API.
type Options struct {
	// Base is what stands before the paths, without a '/' at its end.
	Base   string
	Rights Rights
	// Presets are named sets of scopes.
	Presets map[string][]string
	// Dialect is that of the refusals, for the description.
	Dialect refusal.Dialect
	// Open returns the keeper of the keystore, which the API does not change.
	Open func(context.Context) (*keystore.Keeper, error)
	// Audit is told of every change; may be nil.
	Audit func(by keystore.Change, before, after *keystore.Record)
	// Hashing bounds the hashes of new secrets at once. Default: 1.
	Hashing int
}

// API answers the calls. It is safe for concurrent use.
type API struct {
	o       Options
	hashing chan struct{} // one place for each hash at work
	queue   chan struct{} // one for each that waits or works
	doc     []byte
	purge   purger
}

// hashQueue is how many creates and rotates may wait for their hash.
const hashQueue = 64

// New returns an API.
func New(o Options) (*API, error) {
	if o.Hashing <= 0 {
		o.Hashing = 1
	}
	a := &API{o: o, hashing: make(chan struct{}, o.Hashing), queue: make(chan struct{}, hashQueue)}
	doc, err := describe(&a.o)
	if err != nil {
		return nil, fmt.Errorf("make the description of the keys API: %w", err)
	}
	a.doc = doc
	return a, nil
}

// call is one call at work.
type call struct {
	*API
	w      http.ResponseWriter
	r      *http.Request
	c      *Caller
	id     keystore.ID
	keeper keystore.Keeper // judges for this caller
}

// Serve answers one call. id is the {id} of its path. A refusal is the caller's
// to write; then nothing was written.
func (a *API) Serve(w http.ResponseWriter, r *http.Request, op Op, id string, c *Caller) *refusal.Refusal {
	x := &call{API: a, w: w, r: r, c: c}
	switch op {
	case Verify:
		return x.verify()
	case Describe:
		return x.answer(http.StatusOK, a.doc)
	}
	if op >= Get {
		var err error
		if x.id, err = keystore.ParseID(id); err != nil {
			return &refusal.Refusal{Reason: refusal.ReasonNotFound}
		}
	}
	keeper, err := a.o.Open(r.Context())
	if err != nil {
		return unavailable(err)
	}
	x.keeper = *keeper
	x.keeper.Audit = a.o.Audit
	x.keeper.Judge = func(action string, before, after *keystore.Record) error {
		if ref := a.o.Rights.Judge(c, action, before, after); ref != nil {
			return ref
		}
		return nil
	}
	switch op {
	case List:
		return x.list()
	case Create:
		return x.create()
	case Get:
		return x.get()
	case Patch:
		return x.patchKey()
	case Delete:
		return x.revoke()
	case Rotate:
		return x.rotate()
	}
	return &refusal.Refusal{Reason: refusal.ReasonInternal, Err: fmt.Errorf("no such call: %d", op)}
}

// verification is the answer to verify.
type verification struct {
	Valid       bool     `json:"valid"`
	KeyID       string   `json:"key_id,omitempty"` // absent for a token
	Permissions []string `json:"permissions"`
	RateLimit   *Limit   `json:"rate_limit"` // null: no limit applies
}

func (x *call) verify() *refusal.Refusal {
	v := verification{Valid: true, Permissions: x.c.Scopes, RateLimit: x.c.Limit}
	if v.Permissions == nil {
		v.Permissions = []string{}
	}
	if x.c.Key != (keystore.ID{}) {
		v.KeyID = x.c.Key.String()
	}
	return x.answerJSON(http.StatusOK, v)
}

func (x *call) create() *refusal.Refusal {
	raw, ref := x.body()
	if ref != nil {
		return ref
	}
	n, ref := x.newKey(raw, x.c)
	if ref != nil {
		return ref
	}
	return x.idempotent("create", raw, func(id keystore.ID) *refusal.Refusal {
		n.ID = id
		return x.hashed(func() error {
			rec, key, err := x.keeper.Create(x.r.Context(), x.by(), n)
			if err != nil {
				return err
			}
			return asError(x.key(http.StatusCreated, rec, key))
		})
	})
}

func (x *call) rotate() *refusal.Refusal {
	var raw []byte
	if x.hasBody() {
		var ref *refusal.Refusal
		if raw, ref = x.body(); ref != nil {
			return ref
		}
	}
	span, ref := overlap(raw)
	if ref != nil {
		return ref
	}
	return x.idempotent("rotate", raw, func(keystore.ID) *refusal.Refusal {
		return x.hashed(func() error {
			rec, key, err := x.keeper.Rotate(x.r.Context(), x.by(), x.id, span)
			if err != nil {
				return err
			}
			return asError(x.key(http.StatusOK, rec, key))
		})
	})
}

func (x *call) get() *refusal.Refusal {
	rec, err := x.keeper.Store.Get(x.r.Context(), x.id)
	if err != nil {
		return refusalOf(err)
	}
	if !x.c.sees(rec) {
		return &refusal.Refusal{Reason: refusal.ReasonNotFound}
	}
	return x.answerJSON(http.StatusOK, keystore.RecordDetail(rec, x.now()))
}

func (x *call) patchKey() *refusal.Refusal {
	raw, ref := x.body()
	if ref != nil {
		return ref
	}
	p, ref := x.patch(raw)
	if ref != nil {
		return ref
	}
	var rec *keystore.Record
	var err error
	switch {
	case onlyDisabled(&p) && *p.Disabled:
		rec, err = x.keeper.Disable(x.r.Context(), x.by(), x.id)
	case onlyDisabled(&p):
		rec, err = x.keeper.Enable(x.r.Context(), x.by(), x.id)
	default:
		rec, err = x.keeper.Update(x.r.Context(), x.by(), x.id, p)
	}
	if err != nil {
		return refusalOf(err)
	}
	return x.record(rec)
}

// onlyDisabled reports a patch that has a name of its own in the audit trail.
func onlyDisabled(p *keystore.Patch) bool {
	return p.Disabled != nil && p.Name == nil && p.Scopes == nil && p.Plan == nil && p.ExpiresAt == nil && p.IPAllowlist == nil && p.Limits == nil
}

func (x *call) revoke() *refusal.Refusal {
	if _, err := x.keeper.Revoke(x.r.Context(), x.by(), x.id); err != nil {
		return refusalOf(err)
	}
	x.w.Header().Set("Cache-Control", "no-store")
	x.w.WriteHeader(http.StatusNoContent)
	return nil
}

// by is who makes the change.
func (x *call) by() keystore.Change {
	return keystore.Change{Actor: x.c.ID, Address: x.c.Address}
}

// hasBody reports whether there is anything to read. A length that is not known
// says nothing: HTTP/2 and chunked clients end an empty body without one. Nor
// does a Content-Type: many clients send theirs with every POST.
func (x *call) hasBody() bool {
	if x.r.ContentLength >= 0 {
		return x.r.ContentLength > 0
	}
	var first [1]byte
	n, err := io.ReadFull(x.r.Body, first[:])
	if errors.Is(err, io.EOF) {
		return false
	}
	x.r.Body = &rest{io.MultiReader(bytes.NewReader(first[:n]), x.r.Body), x.r.Body}
	return true
}

// rest is a body that was begun to be read.
type rest struct {
	io.Reader
	io.Closer
}

// body reads the request's JSON.
func (x *call) body() ([]byte, *refusal.Refusal) {
	raw, ref := new(bodyrule.Set).Read(x.r.Body, x.r.Header, x.r.ContentLength)
	if ref != nil {
		field := "body"
		if ref.Reason == refusal.ReasonBodyNotJSON {
			field = "Content-Type"
			if strings.Contains(ref.Hint, "Content-Encoding") {
				field = "Content-Encoding"
			}
		}
		ref.Fields = []refusal.FieldError{{Field: field, Messages: []string{ref.Hint}}}
		return nil, ref
	}
	return raw, nil
}

// hashed runs fn, which makes the hash of a new secret, beside few others: the
// cores belong to requests.
func (x *call) hashed(fn func() error) *refusal.Refusal {
	select {
	case x.queue <- struct{}{}:
	default:
		return &refusal.Refusal{Reason: refusal.ReasonOverloaded, Credential: true}
	}
	defer func() { <-x.queue }()
	select {
	case x.hashing <- struct{}{}:
	case <-x.r.Context().Done():
		return unavailable(x.r.Context().Err())
	}
	defer func() { <-x.hashing }()
	return refusalOf(fn())
}

func (x *call) record(rec *keystore.Record) *refusal.Refusal {
	return x.answerJSON(http.StatusOK, keystore.RecordJSON(rec, x.now()))
}

// key answers with a new key, the only time that it is shown.
func (x *call) key(status int, rec *keystore.Record, key string) *refusal.Refusal {
	x.w.Header().Set("Location", x.location(rec.ID))
	return x.answerJSON(status, keystore.KeyView{RecordView: keystore.RecordJSON(rec, x.now()), Key: key})
}

func (x *call) location(id keystore.ID) string { return x.o.Base + "/api-keys/" + id.String() }

func (x *call) now() time.Time {
	if x.keeper.Now != nil {
		return x.keeper.Now()
	}
	return time.Now()
}

func (x *call) answerJSON(status int, v any) *refusal.Refusal {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return &refusal.Refusal{Reason: refusal.ReasonInternal, Err: fmt.Errorf("encode the answer: %w", err)}
	}
	return x.answer(status, bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func (x *call) answer(status int, body []byte) *refusal.Refusal {
	h := x.w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		_, _ = x.w.Write(body) // the client is gone: nothing is left to tell it
	}
	return nil
}

// refusalOf says what became of a change; nil for no error.
func refusalOf(err error) *refusal.Refusal {
	var ref *refusal.Refusal
	var field *keystore.FieldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ref):
		return ref
	case errors.As(err, &field):
		return fieldRefusal(field)
	case errors.Is(err, keystore.ErrNotFound):
		return &refusal.Refusal{Reason: refusal.ReasonNotFound}
	case errors.Is(err, keystore.ErrRevoked), errors.Is(err, keystore.ErrExists):
		return &refusal.Refusal{Reason: refusal.ReasonConflict}
	case errors.Is(err, keystore.ErrCursor):
		return badQuery("cursor", "is not one that a page of this list gave out")
	}
	return unavailable(err)
}

// asError keeps a nil refusal from becoming an error that is not nil.
func asError(ref *refusal.Refusal) error {
	if ref == nil {
		return nil
	}
	return ref
}

func unavailable(err error) *refusal.Refusal {
	return &refusal.Refusal{Reason: refusal.ReasonKeystoreUnavailable, Credential: true, Err: err}
}
