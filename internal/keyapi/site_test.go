package keyapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/crypto/bcrypt"

	"github.com/hivegate/hivegate/internal/keyapi"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const base = "/v1"

// site is the API as a gate mounts it: what stands before it, the credentials
// and the limits, is a caller handed over with each request.
type site struct {
	t       testing.TB
	store   *sqlstore.Store
	keeper  *keystore.Keeper
	api     *keyapi.API
	rights  keyapi.Rights
	table   *policy.Table
	dialect refusal.Dialect
	spec    *spec

	mu      sync.Mutex // guards what follows
	clock   time.Time
	audited []string
}

func newSite(t testing.TB, dialect refusal.Dialect) *site {
	t.Helper()
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keys.db"), sqlstore.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return newSiteOn(t, store, dialect)
}

func newSiteOn(t testing.TB, store *sqlstore.Store, dialect refusal.Dialect) *site {
	t.Helper()
	u, err := policy.NewUniverse([]string{"keys:read", "keys:manage", "farms:read", "farms:write", "workers:command", "admin:write"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, store: store, dialect: dialect, clock: epoch}
	known := func(what string, names ...string) func(string) error {
		return func(name string) error {
			if !slices.Contains(names, name) {
				return errors.New("unknown " + what)
			}
			return nil
		}
	}
	s.keeper = &keystore.Keeper{
		Store: store, Crypto: keystore.NewCrypto([]byte(strings.Repeat("k", 32))), Cost: bcrypt.MinCost, Now: s.now,
		CheckScope: u.Known, CheckPlan: known("plan", "explorer", "operator", "swarm"),
		CheckRequests: func(rate string) error {
			if !strings.HasSuffix(rate, "/m") {
				return errors.New("write a rate such as 60/m")
			}
			return nil
		},
		CheckClass: known("class", "outcomes"),
	}
	s.rights = keyapi.Rights{Universe: u, AnyOwner: "admin:write", DefaultPlan: "explorer"}
	s.api, err = keyapi.New(keyapi.Options{
		Base: base, Rights: s.rights, Dialect: dialect,
		Presets: map[string][]string{"read_only": {"farms:read"}, "everything": {"*"}},
		Open:    func(context.Context) (*keystore.Keeper, error) { return s.keeper, nil },
		Audit: func(by keystore.Change, before, after *keystore.Record) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.audited = append(s.audited, fmt.Sprintf("%s %s by %s from %s, new %t", by.Action, after.ID, by.Actor, by.Address, before == nil))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var lines []policy.Line
	for _, r := range keyapi.Routes {
		lines = append(lines, policy.Line{Methods: []string{r.Method}, Pattern: base + r.Path, Require: policy.Requirement{Authenticated: true}})
	}
	if s.table, err = policy.Compile(u, lines); err != nil {
		t.Fatal(err)
	}
	s.spec = newSpec(t, s)
	return s
}

func (s *site) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

func (s *site) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(d)
}

// admin crosses owners and holds everything.
func admin() *keyapi.Caller {
	return &keyapi.Caller{ID: "root", Owner: "ops", Subject: "owner:ops", Scopes: []string{"*"}, AnyOwner: true, Address: "192.0.2.1"}
}

// ofOwner is a key of an account, which need not exist in the store.
func ofOwner(owner string, scopes ...string) *keyapi.Caller {
	return &keyapi.Caller{ID: "key_CallerCaller", Owner: owner, Subject: "owner:" + owner, Scopes: scopes, Plan: "operator", Address: "192.0.2.2"}
}

// reply is one answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r *reply) json(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(r.body, &m); err != nil {
		t.Fatalf("no JSON object: %v\n%s", err, r.body)
	}
	return m
}

func (r *reply) reason() string { return r.header.Get("X-Hivegate-Reason") }

func (r *reply) want(t testing.TB, status int, reason string) *reply {
	t.Helper()
	if r.status != status || r.reason() != reason {
		t.Fatalf("got %d %q, want %d %q\n%s", r.status, r.reason(), status, reason, r.body)
	}
	return r
}

// do sends a request with a JSON body ("" for none), and holds the answer
// against the description.
func (s *site) do(c *keyapi.Caller, method, path, body string, change ...func(*http.Request)) *reply {
	s.t.Helper()
	r := httptest.NewRequest(method, base+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, c := range change {
		c(r)
	}
	return s.send(c, r)
}

func (s *site) send(c *keyapi.Caller, r *http.Request) *reply {
	s.t.Helper()
	w := httptest.NewRecorder()
	w.Header().Set("X-Request-Id", "1")
	var m policy.Match
	s.table.Match(r.Method, r.URL.EscapedPath(), &m)
	var ref *refusal.Refusal
	if m.Found == policy.Matched {
		id, _ := m.Param("id")
		ref = s.api.Serve(w, r, keyapi.Routes[m.Route.Index].Op, id, c)
	} else {
		ref = &refusal.Refusal{Reason: refusal.ReasonRouteNotFound}
	}
	if ref != nil {
		if w.Body.Len() > 0 {
			s.t.Errorf("%s %s: refused after writing %q", r.Method, r.URL, w.Body)
		}
		s.dialect.Write(w, r.Method, ref)
	}
	out := &reply{w.Code, w.Header(), w.Body.Bytes()}
	if out.header.Get("Cache-Control") != "no-store" {
		s.t.Errorf("%s %s: Cache-Control %q", r.Method, r.URL, out.header.Get("Cache-Control"))
	}
	if m.Found == policy.Matched && r.Method != http.MethodHead {
		s.spec.check(s.t, keyapi.Routes[m.Route.Index], out)
	}
	return out
}

// made is a key that the API made.
type made struct {
	ID, Key string
}

// make makes a key through the API.
func (s *site) make(c *keyapi.Caller, body string) made {
	s.t.Helper()
	m := s.do(c, "POST", "/api-keys", body).want(s.t, 201, "").json(s.t)
	return made{m["id"].(string), m["key"].(string)}
}

func (s *site) record(id string) *keystore.Record {
	s.t.Helper()
	parsed, err := keystore.ParseID(id)
	if err != nil {
		s.t.Fatal(err)
	}
	rec, err := s.store.Get(s.t.Context(), parsed)
	if err != nil {
		s.t.Fatal(err)
	}
	return rec
}

// caller is the caller that a stored key is.
func (s *site) caller(id string) *keyapi.Caller {
	rec := s.record(id)
	plan := rec.Plan
	if plan == "" {
		plan = "explorer"
	}
	return &keyapi.Caller{
		ID: rec.ID.String(), Key: rec.ID, Owner: rec.Owner, Subject: rec.Subject(), Scopes: rec.Scopes, Plan: plan,
		ExpiresAt: rec.ExpiresAt, IPAllowlist: rec.IPAllowlist, Address: "192.0.2.3",
	}
}

// snapshot is everything that the store holds of keys.
func (s *site) snapshot() string {
	s.t.Helper()
	var b bytes.Buffer
	if err := s.keeper.Export(s.t.Context(), &b); err != nil {
		s.t.Fatal(err)
	}
	seq, err := s.store.Seq(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return b.String() + strconv.FormatInt(seq, 10)
}

// spec holds answers against the description that the API itself serves.
type spec struct {
	doc     map[string]any
	schemas map[string]*jsonschema.Schema // by JSON pointer
	c       *jsonschema.Compiler
	mu      sync.Mutex // guards schemas
}

func newSpec(t testing.TB, s *site) *spec {
	t.Helper()
	w := httptest.NewRecorder()
	if ref := s.api.Serve(w, httptest.NewRequest("GET", base+"/openapi.json", nil), keyapi.Describe, "", admin()); ref != nil {
		t.Fatal(ref)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("spec.json", doc); err != nil {
		t.Fatal(err)
	}
	return &spec{doc: doc.(map[string]any), schemas: map[string]*jsonschema.Schema{}, c: c}
}

// at walks members, following a $ref at each step.
func (sp *spec) at(path ...string) (any, string) {
	var node any = sp.doc
	pointer := "#"
	for _, p := range path {
		object, ok := node.(map[string]any)
		if !ok {
			return nil, ""
		}
		node, ok = object[p]
		if !ok {
			return nil, ""
		}
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(p)
		if next, ok := node.(map[string]any); ok {
			if ref, ok := next["$ref"].(string); ok {
				node, pointer = sp.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			}
		}
	}
	return node, pointer
}

func (sp *spec) check(t testing.TB, r keyapi.Route, got *reply) {
	t.Helper()
	what := fmt.Sprintf("%s %s -> %d", r.Method, r.Path, got.status)
	answer, pointer := sp.at("paths", r.Path, strings.ToLower(r.Method), "responses", strconv.Itoa(got.status))
	if answer == nil {
		t.Errorf("%s: the description does not know this answer\n%s", what, got.body)
		return
	}
	if headers, ok := answer.(map[string]any)["headers"].(map[string]any); ok {
		for name := range headers {
			if got.header.Get(name) == "" {
				t.Errorf("%s: the header %s is missing", what, name)
			}
		}
	}
	content, _ := answer.(map[string]any)["content"].(map[string]any)
	if content == nil {
		if len(got.body) > 0 {
			t.Errorf("%s: a body that the description does not have: %s", what, got.body)
		}
		return
	}
	mediaType, _, err := mime.ParseMediaType(got.header.Get("Content-Type"))
	if err != nil || content[mediaType] == nil {
		t.Errorf("%s: Content-Type %q is not in the description", what, got.header.Get("Content-Type"))
		return
	}
	pointer += "/content/" + strings.ReplaceAll(mediaType, "/", "~1") + "/schema"
	body, err := jsonschema.UnmarshalJSON(bytes.NewReader(got.body))
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if err := sp.schema(t, pointer).Validate(body); err != nil {
		t.Errorf("%s: not as described: %v\n%s", what, err, got.body)
	}
}

func (sp *spec) schema(t testing.TB, pointer string) *jsonschema.Schema {
	t.Helper()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if s := sp.schemas[pointer]; s != nil {
		return s
	}
	s, err := sp.c.Compile("spec.json" + pointer)
	if err != nil {
		t.Fatal(err)
	}
	sp.schemas[pointer] = s
	return s
}
