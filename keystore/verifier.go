package keystore

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Verifier decides whether a credential is a key that may be used now. It holds
// records in memory, follows the store's changes, and hashes only what nothing
// else could decide. It is safe for concurrent use. See the package comment for
// how it decides.
type Verifier struct {
	o       Options
	key     processKey
	now     func() time.Time
	compare func(hash, password []byte) error
	clock   Clock // of the store; nil: this machine's

	table    *table
	unknown  *brief[ID]
	failures *brief[attemptKey]
	verified *verifiedCache
	hints    hintIndex
	flights  flights
	pool     hashPool
	streams  streams
	uses     uses
	backfill backfill
	probes   probes
	nodes    nodes

	loads    singleflight.Group
	loadSem  chan struct{}
	readers  chan func()   // what a waiting reader takes
	loadWait time.Duration // for one read, waiting included
	waiting  atomic.Int64  // loads begun and not ended

	// confirmed is when the store last said that memory is up to date, nil:
	// never; written by the feed alone. A Time rather than a number, for its
	// monotonic part: setting the clock does not make memory younger.
	confirmed atomic.Pointer[time.Time]
	// epoch rises when everything in memory has to be read again; records that
	// were read before epoch restarted belong to another store.
	epoch     atomic.Uint64
	restarted atomic.Uint64
	storeUp   atomic.Bool
	// seq is the change number up to which changes are applied, and seqKnown
	// whether there is one; used by the feed alone.
	seq      int64
	seqKnown bool
	history  string        // of the store's changes, where it tells; of the feed alone
	applied  atomic.Int64  // seq, for others to read
	woken    chan struct{} // holds one value when the store said that it changed
	rereads  rereads
	onLag    atomic.Pointer[func(time.Duration)]

	hashOK, hashWrong, hashOverloaded atomic.Uint64
	verifiedHits, verifiedMisses      atomic.Uint64

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	mu     sync.Mutex // guards started and closed
	state  struct{ started, closed bool }
	told   storeWord // what the log last said of the store; of the feed alone
	// clockWrong is what the log last said of this machine's clock; of the feed alone.
	clockWrong bool
	wg         sync.WaitGroup
}

// Outcome is how a verification ended.
type Outcome uint8

// The outcomes. The zero Outcome is none of them.
const (
	_ Outcome = iota
	// Valid: the secret matched and the key may be used.
	Valid
	// Malformed: not the shape of any key that could exist here.
	Malformed
	// Unknown: the shape of a key, but there is none.
	Unknown
	// WrongSecret: a known id, or hint, with another secret.
	WrongSecret
	// AttemptsExceeded: as WrongSecret as far as anybody may learn; the
	// caller's address has spent its attempts on this id and nothing was hashed.
	AttemptsExceeded
	// Revoked, Disabled and Expired: the secret matched, the key may not be used.
	Revoked
	Disabled
	Expired
	// Overloaded: the secret would have to be hashed, and too many wait for that.
	Overloaded
	// Unavailable: the store could not be asked, or the caller went away.
	Unavailable
)

var outcomeNames = [...]string{"none", "valid", "malformed", "unknown", "wrong_secret", "attempts_exceeded",
	"revoked", "disabled", "expired", "overloaded", "unavailable"}

// String returns the outcome's name in lower case.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "none"
}

// Result is what Verify found.
type Result struct {
	Outcome Outcome
	// Entry is the record in memory; only where the secret matched (Valid,
	// Revoked, Disabled, Expired).
	Entry *Entry
	// Secret is the index of the secret that matched.
	Secret int
	// ID is the key concerned, where a record is; else zero.
	ID ID
	// Err is the cause of Unavailable.
	Err error
}

// Guard is the budget of wrong secrets of one caller's address. Verify uses it
// only until it returns. A nil Guard has no bound.
type Guard interface {
	// Spend takes one attempt on id; false means that the budget is spent.
	Spend(id ID) bool
	// Refund gives an attempt back: the secret was right, or nothing was compared.
	Refund(id ID)
}

// Options of a Verifier. Zero values mean the defaults.
type Options struct {
	Store Store // required
	// Crypto makes the stored digest. Default: none is made or compared.
	Crypto *Crypto
	// Records is how many records stay in memory, about 1 KB each. Default:
	// 100,000. Past it, records are dropped: first those without recent use,
	// last those that have open streams or a verification that only memory
	// holds. A dropped record costs one read of the store at its next use, and,
	// where it has no stored digest and the verified-key cache has lost it too,
	// one more hash.
	Records int
	// Verified is how many verified keys are remembered beyond their records,
	// about 150 bytes each. Default: 1,000,000.
	Verified int64
	// MaxStaleness is how long memory is trusted without word from the store.
	// Default: 60s. Negative: not at all, as soon as the store fails.
	MaxStaleness time.Duration
	// HashSlots is how many hashes run at once. Default: max(1, GOMAXPROCS−1).
	HashSlots int
	// Queue is how many more may wait. Default: 64.
	Queue int
	// Poll is the interval at which the store is asked for changes, and so the
	// greatest part of the time a change needs to arrive. Default: 200ms, and
	// 250ms for a store that is a [Waker].
	Poll time.Duration
	// PollTimeout is how long one answer to that may take. A slow store still
	// keeps memory fresh, if it answers at all. Default: 2s.
	PollTimeout time.Duration
	// NodeID and NodeName are told to a [NodeStore]. Default: nothing is told.
	NodeID, NodeName string
	// FlushEvery is the interval at which last uses are written. Default: 15s.
	FlushEvery time.Duration
	// Now is the clock of background work. Default: time.Now.
	Now func() time.Time
	// Compare compares a bcrypt hash with a key. Default:
	// what bcrypt.CompareHashAndPassword does.
	Compare func(hash, password []byte) error
	// Log returns the logger of the moment; nil, or returning nil: none.
	Log func() *slog.Logger
}

// Bounds that are not worth an option.
const (
	loadSlots   = 8                // reads of the store at once
	loadQueue   = 1024             // reads begun and waiting
	loadTimeout = 2 * time.Second  // for one read, waiting included
	hashWait    = 3 * time.Second  // for one hash, the hash itself excluded
	unknownFor  = time.Second      // an id that does not exist
	failureFor  = 10 * time.Second // a wrong secret
	// unknownSize and failureSize are entries: 1.5 MB and 1 MB.
	unknownSize = 1 << 16
	failureSize = 1 << 14
)

// NewVerifier returns a Verifier on a store. It does no I/O: Start does.
func NewVerifier(o Options) (*Verifier, error) {
	if o.Store == nil {
		return nil, errors.New("make verifier: no store is given")
	}
	o = o.withDefaults()
	verified, err := newVerifiedCache(o.Verified)
	if err != nil {
		return nil, err
	}
	v := &Verifier{
		o: o, now: o.Now, compare: o.Compare,
		table:    newTable(o.Records),
		unknown:  newBrief[ID](unknownSize),
		failures: newBrief[attemptKey](failureSize),
		verified: verified,
		loadSem:  make(chan struct{}, loadSlots),
		readers:  make(chan func()),
	}
	v.clock, _ = o.Store.(Clock)
	if p, ok := o.Store.(Prober); ok {
		v.probes.batch, v.probes.ask = p.Prober()
	}
	rand.Read(v.key[:])
	v.flights.m = make(map[attemptKey]*flight)
	v.hints.m = make(map[hintKey]*hintSet)
	v.loadWait = loadTimeout
	v.pool.slots, v.pool.limit, v.pool.wait = o.HashSlots, o.Queue, hashWait
	v.uses.limit = 2 * o.Records
	v.streams.init()
	v.table.precious = v.precious
	v.woken = make(chan struct{}, 1)
	v.initNodes()
	v.ctx, v.cancel = context.WithCancel(context.Background())
	return v, nil
}

func (o Options) withDefaults() Options {
	if o.Crypto == nil {
		o.Crypto = NewCrypto(nil)
	}
	if o.Records <= 0 {
		o.Records = 100_000
	}
	if o.Verified <= 0 {
		o.Verified = 1_000_000
	}
	switch {
	case o.MaxStaleness == 0:
		o.MaxStaleness = time.Minute
	case o.MaxStaleness < 0:
		o.MaxStaleness = 0
	}
	if o.HashSlots <= 0 {
		o.HashSlots = max(1, runtime.GOMAXPROCS(0)-1)
	}
	if o.Queue <= 0 {
		o.Queue = 64
	}
	if o.Poll <= 0 {
		o.Poll = plainPoll
		if _, ok := o.Store.(Waker); ok {
			o.Poll = wakePoll
		}
	}
	if o.PollTimeout <= 0 {
		o.PollTimeout = feedTimeout
	}
	if o.FlushEvery <= 0 {
		o.FlushEvery = 15 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Compare == nil {
		o.Compare = compareBcrypt
	}
	return o
}

// Verify judges a credential at now. formats are the native forms accepted here.
// A key that is already verified costs one look-up, one SHA-256 and no
// allocation; everything else is described in the package comment. Of ctx only
// the end counts: it stops this caller's waiting, never another's.
func (v *Verifier) Verify(ctx context.Context, now time.Time, formats []Format, credential string, g Guard) Result {
	if e, i := v.warm(now, formats, credential); e != nil {
		return e.judge(i, now)
	}
	id, native := Parse(formats, credential)
	if !native {
		return v.verifyForeign(ctx, now, credential, g)
	}
	e, err := v.entryOf(ctx, id, now)
	if err != nil {
		return loadFailed(id, err)
	}
	d := v.key.of(credential)
	if i := e.match(&d, now); i >= 0 {
		return e.judge(i, now)
	}
	a := attempt{ctx: ctx, now: now, credential: credential, digest: d, guard: g}
	out, i := v.attempt(&a, e)
	if out == WrongSecret {
		if newer := v.reread(ctx, e, now); newer != nil {
			e = newer
			out, i = v.attempt(&a, e)
		}
	}
	if out == Valid {
		a.refund()
		return e.judge(i, now)
	}
	return a.failed(out, id)
}

// warm finds a credential that is already known to be the key of a record in
// memory. Alphabet and checksum are not asked: what equals a verified key has
// them.
func (v *Verifier) warm(now time.Time, formats []Format, credential string) (*Entry, int) {
	for i := range formats {
		f := &formats[i]
		if !f.shaped(credential) {
			continue
		}
		c := v.table.get(f.idIn(credential))
		if c == nil {
			continue
		}
		e := c.entry.Load()
		if !v.current(e, now) {
			continue
		}
		d := v.key.of(credential)
		if secret := e.match(&d, now); secret >= 0 {
			c.touch()
			v.table.hit(&c.id)
			return e, secret
		}
	}
	return nil, -1
}

// Lookup returns a record in memory, read from the store where it must be, or
// ErrNotFound.
func (v *Verifier) Lookup(ctx context.Context, id ID) (*Entry, error) {
	return v.entryOf(ctx, id, v.now())
}

// entryOf returns a record in memory, read from the store where it must be.
func (v *Verifier) entryOf(ctx context.Context, id ID, now time.Time) (*Entry, error) {
	if e := v.held(id, now); e != nil {
		return e, nil
	}
	return v.load(ctx, id, now)
}

// held returns a record that is in memory and may be trusted, else nil.
func (v *Verifier) held(id ID, now time.Time) *Entry {
	c := v.table.get(id)
	if c == nil {
		return nil
	}
	e := c.entry.Load()
	if !v.current(e, now) {
		return nil
	}
	c.touch()
	v.table.hit(&c.id)
	return e
}

// current reports whether a record in memory may decide at now.
func (v *Verifier) current(e *Entry, now time.Time) bool {
	return e.epoch.Load() == v.epoch.Load() && v.trusted(now)
}

// trusted reports whether what is in memory may decide at now.
func (v *Verifier) trusted(now time.Time) bool {
	at := v.confirmed.Load()
	if at == nil {
		return false
	}
	if v.o.MaxStaleness == 0 {
		// A poll that hangs is a store that fails.
		return v.storeUp.Load() && now.Sub(*at) <= v.o.Poll+time.Second
	}
	return now.Sub(*at) <= v.o.MaxStaleness
}

// judge is the result for a secret that matched.
func (e *Entry) judge(secret int, now time.Time) Result {
	r := Result{Entry: e, Secret: secret, ID: e.core.id}
	switch e.rec.StatusAt(e.v.Wall(now)) {
	case StatusActive:
		r.Outcome = Valid
	case StatusDisabled:
		r.Outcome = Disabled
	case StatusExpired:
		r.Outcome = Expired
	default:
		r.Outcome = Revoked
	}
	return r
}

func loadFailed(id ID, err error) Result {
	if errors.Is(err, ErrNotFound) {
		return Result{Outcome: Unknown}
	}
	return Result{Outcome: Unavailable, ID: id, Err: err}
}

func (v *Verifier) log() *slog.Logger {
	if v.o.Log != nil {
		if l := v.o.Log(); l != nil {
			return l
		}
	}
	return slog.New(slog.DiscardHandler)
}
