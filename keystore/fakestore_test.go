package keystore

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

var errStoreAway = errors.New("the store is away")

// fakeStore is a Store in memory that can be away, slow, or watched.
type fakeStore struct {
	mu      sync.Mutex
	recs    map[ID]*Record
	seq     int64
	away    bool
	gets    int
	byHints int
	touches [][]Use
	dataKey []byte

	// batch makes it a Prober; probed are its questions, and onProbe runs within
	// one, after the answer is known, without the lock.
	batch   int
	probed  [][]ID
	onProbe func([]ID)

	// onGet runs within Get, after the record was read and before it is
	// returned, without the lock.
	onGet func(ID)
	// block makes Get wait until it is closed or its ctx ends.
	block chan struct{}
}

func newFakeStore(recs ...*Record) *fakeStore {
	s := &fakeStore{recs: make(map[ID]*Record)}
	for _, r := range recs {
		s.put(r)
	}
	return s
}

// put stores a record as a change and returns it as stored.
func (s *fakeStore) put(r *Record) *Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	c := r.Clone()
	c.Seq = s.seq
	s.recs[c.ID] = c
	return c
}

// change stores a changed copy of a record and returns it.
func (s *fakeStore) change(id ID, fn func(*Record)) *Record {
	s.mu.Lock()
	c := s.recs[id].Clone()
	s.mu.Unlock()
	fn(c)
	return s.put(c)
}

func (s *fakeStore) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *fakeStore) getCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets
}

func (s *fakeStore) Get(ctx context.Context, id ID) (*Record, error) {
	s.mu.Lock()
	s.gets++
	rec, away, block, onGet := s.recs[id], s.away, s.block, s.onGet
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if onGet != nil {
		onGet(id)
	}
	if away {
		return nil, errStoreAway
	}
	if rec == nil {
		return nil, ErrNotFound
	}
	return rec, nil
}

func (s *fakeStore) Prober() (int, func(context.Context, []ID, []bool) error) {
	return s.batch, func(_ context.Context, ids []ID, known []bool) error {
		s.mu.Lock()
		s.probed = append(s.probed, slices.Clone(ids))
		away, onProbe := s.away, s.onProbe
		for i, id := range ids {
			known[i] = s.recs[id] != nil
		}
		s.mu.Unlock()
		if onProbe != nil {
			onProbe(ids)
		}
		if away {
			return errStoreAway
		}
		return nil
	}
}

// probes returns what was asked so far.
func (s *fakeStore) probes() [][]ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.probed)
}

func (s *fakeStore) ByHint(_ context.Context, hint string) ([]*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byHints++
	if s.away {
		return nil, errStoreAway
	}
	var out []*Record
	for _, r := range s.recs {
		if r.Hint == hint && r.RevokedAt.IsZero() {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, bySeq)
	return out, nil
}

func (s *fakeStore) Hints(_ context.Context, fn func(string)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return errStoreAway
	}
	for r := range maps.Values(s.recs) {
		if r.Hint != "" {
			fn(r.Hint)
		}
	}
	return nil
}

func (s *fakeStore) Touch(_ context.Context, uses []Use) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return errStoreAway
	}
	s.touches = append(s.touches, slices.Clone(uses))
	return nil
}

// touched returns all uses written so far.
func (s *fakeStore) touched() (out []Use) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.touches {
		out = append(out, t...)
	}
	return out
}

func (s *fakeStore) Seq(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return 0, errStoreAway
	}
	return s.seq, nil
}

func (s *fakeStore) ChangedSince(_ context.Context, seq int64, limit int) ([]*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errStoreAway
	}
	var out []*Record
	for _, r := range s.recs {
		if r.Seq > seq {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, bySeq)
	return out[:min(limit, len(out))], nil
}

func bySeq(a, b *Record) int {
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), slices.Compare(a.ID[:], b.ID[:]))
}

func (*fakeStore) Create(context.Context, Change, ...*Record) error {
	panic("the verifier creates nothing")
}

func (*fakeStore) Update(context.Context, Change, ID, func(*Record) error) (*Record, error) {
	panic("the verifier updates nothing")
}

func (*fakeStore) List(context.Context, Query) (*Page, error) { panic("the verifier lists nothing") }

func (s *fakeStore) DataKey(context.Context) ([]byte, error) { return s.dataKey, nil }

func (s *fakeStore) PutDataKey(_ context.Context, _, sealed []byte) ([]byte, error) {
	return sealed, nil
}
func (*fakeStore) Ping(context.Context) error { return nil }
func (*fakeStore) Close() error               { return nil }

// fakeClock is a clock that moves when told.
type fakeClock struct {
	mu sync.Mutex
	t  time.Time
}

func newFakeClock() *fakeClock {
	return &fakeClock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *fakeClock) advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	return c.t
}

// counter counts comparisons. The hash of a key is fakeHash(key), so that a
// comparison costs nothing; gate, where set, makes each wait for a value.
type counter struct {
	mu      sync.Mutex
	n       int
	running int
	most    int
	order   []string // the passwords in the order they were compared

	entered chan string   // where set, told of each comparison that begins
	gate    chan struct{} // where set, each comparison takes one
}

func (c *counter) compare(hash, password []byte) error {
	key := string(password)
	c.mu.Lock()
	c.n++
	c.running++
	c.most = max(c.most, c.running)
	c.order = append(c.order, key)
	entered, gate := c.entered, c.gate
	c.mu.Unlock()
	if entered != nil {
		entered <- key
	}
	if gate != nil {
		<-gate
	}
	c.mu.Lock()
	c.running--
	c.mu.Unlock()
	if string(hash) != string(fakeHash(key)) {
		return bcrypt.ErrMismatchedHashAndPassword
	}
	return nil
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// fakeHash has the shape of a bcrypt hash.
func fakeHash(key string) []byte {
	k := processKey{1}
	d := k.of(key)
	out := []byte("$2b$10$")
	for i := range 53 {
		out = append(out, alphabet[(int(d[i%32])+i)%62])
	}
	return out
}

// budget is a Guard of so many attempts per id.
type budget struct {
	mu      sync.Mutex
	left    map[ID]int
	each    int
	spent   int // calls of Spend
	refunds int
}

func newBudget(each int) *budget { return &budget{left: make(map[ID]int), each: each} }

func (b *budget) Spend(id ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent++
	if _, ok := b.left[id]; !ok {
		b.left[id] = b.each
	}
	if b.left[id] == 0 {
		return false
	}
	b.left[id]--
	return true
}

func (b *budget) Refund(id ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refunds++
	b.left[id]++
}

func (b *budget) remaining(id ID) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n, ok := b.left[id]; ok {
		return n
	}
	return b.each
}

// fixture is a verifier with its store, clock and counter.
type fixture struct {
	*Verifier
	t     testing.TB
	store *fakeStore
	clock *fakeClock
	hash  *counter
}

var testFormats = []Format{DefaultFormat(), {Prefix: "hc_", Length: 48}}

// newFixture makes a verifier that polls, sweeps and flushes only when told:
// the feed has run once.
func newFixture(t testing.TB, o Options, recs ...*Record) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: newFakeClock(), hash: &counter{}}
	if o.Store == nil {
		o.Store = newFakeStore(recs...)
	}
	f.store = o.Store.(*fakeStore)
	if o.Compare == nil {
		o.Compare = f.hash.compare
	}
	if o.Now == nil {
		o.Now = f.clock.now
	}
	if o.Verified == 0 {
		o.Verified = 1000
	}
	v, err := NewVerifier(o)
	if err != nil {
		t.Fatal(err)
	}
	f.Verifier = v
	t.Cleanup(func() { v.Close() })
	f.pollNow()
	return f
}

// pollNow runs the feed once, as its goroutine would.
func (f *fixture) pollNow() {
	f.reportStore(f.poll(context.Background()))
}

func (f *fixture) verify(key string, g Guard) Result {
	return f.Verify(context.Background(), f.clock.now(), testFormats, key, g)
}

// want checks an outcome and returns the result.
func (f *fixture) want(key string, g Guard, want Outcome) Result {
	f.t.Helper()
	r := f.verify(key, g)
	if r.Outcome != want {
		f.t.Fatalf("outcome %v (%v), want %v", r.Outcome, r.Err, want)
	}
	return r
}

func (f *fixture) wantHashes(n int) {
	f.t.Helper()
	if got := f.hash.count(); got != n {
		f.t.Fatalf("%d comparisons, want %d", got, n)
	}
}

// newKey makes a key and its record, as it would be without a master key.
func newKey() (string, *Record) {
	key, id := DefaultFormat().Generate()
	return key, &Record{ID: id, Name: "test", Secrets: []Secret{{Hash: fakeHash(key)}}}
}

// wrongFor makes a key of native shape with the id of another.
func wrongFor(id ID) string { return DefaultFormat().Regenerate(id) }

// waitFor waits until cond holds.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited too long: %s", what)
		}
	}
}
