package jwtauth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what an [Issuer] needs from around it. Every field may be left
// out.
type Options struct {
	// HTTPClient lends its Transport to the fetching of JWK sets; redirects,
	// time and size are bounded here. Default: net/http's transport.
	HTTPClient *http.Client
	// Now is the clock of the background fetching. Default: time.Now.
	Now func() time.Time
	// After returns a channel that receives once after d, and a function that
	// gives it up. Default: a time.Timer.
	After func(d time.Duration) (<-chan time.Time, func())
	// Log returns the logger to use at that moment; it may change while an
	// issuer outlives the configuration that made it. Default: none.
	Log func() *slog.Logger

	timeout time.Duration // of one fetch; tests shorten it
}

func (o Options) withDefaults() *Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = func(d time.Duration) (<-chan time.Time, func()) {
			t := time.NewTimer(d)
			return t.C, func() { t.Stop() }
		}
	}
	log := o.Log
	o.Log = func() *slog.Logger {
		if log != nil {
			if l := log(); l != nil {
				return l
			}
		}
		return slog.New(slog.DiscardHandler)
	}
	if o.timeout == 0 {
		o.timeout = fetchTimeout
	}
	return &o
}

// Issuer verifies the tokens of one issuer. It is safe for concurrent use, and
// all of it but its keys is fixed when it is made.
type Issuer struct {
	name   string
	iss    []string
	aud    []string
	noIss  bool
	leeway time.Duration
	algs   []*algorithm
	rules  *rules
	places []string
	pems   []string
	opts   *Options
	judges sync.Pool // of *judge

	remotes []*remote
	// keys is what signatures are checked with now. Every change stores
	// another set. Written under mu.
	keys atomic.Pointer[keySet]

	mu      sync.Mutex // guards local, sources, cancel and started
	local   []*verifyKey
	sources []SourceStatus // of files
	cancel  context.CancelFunc
	started bool
}

// NewIssuer makes an issuer of a valid configuration. It opens nothing: files
// are read and URLs fetched from [Issuer.Start] on.
func NewIssuer(cfg Config, opts Options) (*Issuer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	rules, err := newRules(&cfg)
	if err != nil {
		return nil, fmt.Errorf("issuer %q: %w", cfg.Name, err)
	}
	i := &Issuer{
		name: cfg.Name, iss: slices.Clone(cfg.Iss), aud: slices.Clone(cfg.Aud),
		noIss: cfg.AllowMissingIss, leeway: cfg.leeway(), rules: rules,
		pems: slices.Clone(cfg.PublicKeys), opts: opts.withDefaults(),
	}
	i.judges.New = func() any { return newJudge(i.leeway, i.aud) }
	for _, name := range cfg.Algorithms {
		i.algs = append(i.algs, algorithms[name])
	}
	if cfg.HMACSecret != "" {
		i.local = append(i.local, &verifyKey{family: familyHMAC, key: []byte(cfg.HMACSecret)})
	}
	for _, place := range cfg.JWKS {
		if isURL(place) {
			i.remotes = append(i.remotes, newRemote(place, i.name, i.opts, i.rebuild))
		} else {
			i.places = append(i.places, place)
		}
	}
	i.rebuild()
	return i, nil
}

// Name returns the issuer's name.
func (i *Issuer) Name() string { return i.name }

// Start reads the key files, whose mistakes are errors, and begins to fetch
// the JWK sets, whose absence is none. It returns before anything is fetched.
// Fetching ends with [Issuer.Close], or when ctx is done: give it a context
// that lives as long as the issuer. A second Start does nothing.
func (i *Issuer) Start(ctx context.Context) error {
	i.mu.Lock()
	if i.started {
		i.mu.Unlock()
		return nil
	}
	keys, sources, err := i.readFiles()
	if err != nil {
		i.mu.Unlock()
		return fmt.Errorf("issuer %q: %w", i.name, err)
	}
	i.started = true
	i.local = append(i.local, keys...)
	i.sources = sources
	ctx, i.cancel = context.WithCancel(ctx)
	i.mu.Unlock()
	i.rebuild()
	for _, r := range i.remotes {
		r.start(ctx)
	}
	return nil
}

// Close ends the fetching and waits for it. Requests that are still running
// keep the keys there are.
func (i *Issuer) Close() error {
	i.mu.Lock()
	cancel := i.cancel
	i.started = true // a closed issuer is not started again
	i.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	for _, r := range i.remotes {
		r.wait()
	}
	return nil
}

// rebuild puts the keys of all sources together.
func (i *Issuer) rebuild() {
	i.mu.Lock()
	defer i.mu.Unlock()
	ks := &keySet{keys: slices.Clone(i.local)}
	for _, r := range i.remotes {
		ks.keys = append(ks.keys, r.current()...)
	}
	i.keys.Store(ks)
}

// readFiles reads PEM files and JWK set files. In a file of one's own a key
// that cannot be used is a mistake, and an error.
func (i *Issuer) readFiles() ([]*verifyKey, []SourceStatus, error) {
	var keys []*verifyKey
	var sources []SourceStatus
	add := func(option, file string, parse func([]byte) ([]*verifyKey, error)) error {
		data, err := readFile(file)
		if err != nil {
			return fmt.Errorf("read %s: %w", option, err)
		}
		found, err := parse(data)
		if err != nil {
			return fmt.Errorf("%s %s: %w", option, file, err)
		}
		for _, k := range found {
			if !slices.ContainsFunc(i.algs, func(a *algorithm) bool { return a.family == k.family }) {
				return fmt.Errorf("%s %s: a key is of a kind that none of the allowed algorithms uses; take it out, or name its algorithm in algorithms", option, file)
			}
		}
		keys = append(keys, found...)
		sources = append(sources, SourceStatus{Source: file, Keys: len(found), Usable: true})
		return nil
	}
	for _, file := range i.pems {
		if err := add("public_key", file, parsePEM); err != nil {
			return nil, nil, err
		}
	}
	for _, file := range i.places {
		if err := add("jwks", file, parseJWKSFile); err != nil {
			return nil, nil, err
		}
	}
	return keys, sources, nil
}

func parseJWKSFile(data []byte) ([]*verifyKey, error) {
	keys, refused, err := parseJWKS(data)
	return keys, errors.Join(append(refused, err)...)
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxJWKSBytes+1))
	if err == nil && len(data) > maxJWKSBytes {
		err = fmt.Errorf("%s is larger than 1 MiB", name)
	}
	return data, err
}

// FilesDigest is a digest of what the key files of a configuration hold now. A
// file that cannot be read counts as one that is not there: [Issuer.Start] says
// what is wrong with it.
func (c *Config) FilesDigest() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, place := range slices.Concat(c.PublicKeys, c.JWKS) {
		if isURL(place) {
			continue
		}
		data, err := readFile(place)
		file := sha256.Sum256(data)
		h.Write(fmt.Appendf(nil, "%q %t ", place, err == nil))
		h.Write(file[:])
	}
	h.Sum(sum[:0])
	return sum
}

// verify judges a token whose iss is this issuer's: key and signature, then
// times and audience, then what it means here.
func (i *Issuer) verify(ctx context.Context, now time.Time, t *token) (*entry, *Denied) {
	alg := algorithms[t.alg]
	if alg == nil || !slices.Contains(i.algs, alg) {
		return nil, denyAlg
	}
	key, keys, d := i.checkSignature(ctx, now, alg, t)
	if d != nil {
		return nil, d
	}
	if d := i.judge(now, &t.claims); d != nil {
		return nil, d
	}
	// One piece of memory for what is kept of a token.
	v := &struct {
		entry
		who Principal
	}{}
	if d := i.rules.principal(&v.who, &t.claims); d != nil {
		return nil, d
	}
	v.who.Until = t.claims.exp.Add(i.leeway)
	v.entry = entry{issuer: i, keys: keys, key: key, principal: &v.who, until: v.who.Until}
	return &v.entry, nil
}

func (i *Issuer) judge(now time.Time, c *claims) *Denied {
	j := i.judges.Get().(*judge) //nolint:errcheck // the pool holds nothing else
	defer i.judges.Put(j)
	j.now = now
	return j.judge(c)
}

// checkSignature finds the key that made the signature. Where it is not there
// the keys are awaited, or fetched once more, before the token is refused.
func (i *Issuer) checkSignature(ctx context.Context, now time.Time, alg *algorithm, t *token) (*verifyKey, *keySet, *Denied) {
	awaited, refetched := false, 0
	for {
		keys := i.keys.Load()
		key, exact := keys.find(now, alg, t)
		switch {
		case key != nil:
			return key, keys, nil
		case alg.family == familyHMAC || exact || len(i.remotes) == 0:
			return nil, nil, denySignature
		}
		if !awaited {
			awaited = true
			if i.awaitFirst(ctx) {
				continue
			}
		}
		// Twice, because the fetch that was joined first may have begun before
		// the key was published.
		if t.hasKid && refetched < 2 {
			refetched++
			if i.refetch(ctx, now) {
				continue
			}
		}
		return nil, nil, i.missing(now, t)
	}
}

// find tries the keys that fit. exact says that a key with the token's very kid
// is there, so that fetching again would not help.
func (s *keySet) find(now time.Time, alg *algorithm, t *token) (key *verifyKey, exact bool) {
	for _, k := range s.keys {
		if !k.usable(now) {
			continue
		}
		if t.hasKid && k.kid != "" && k.kid == t.kid {
			exact = true
		}
		if k.fits(alg, t) && k.verify(alg, t) {
			return k, true
		}
	}
	return nil, exact
}

// missing says what a token gets whose key is not there: where the keys could
// not be had, nobody knows whether it is good.
func (i *Issuer) missing(now time.Time, t *token) *Denied {
	for _, r := range i.remotes {
		if !r.fresh(now) || t.hasKid && (r.failing() || r.waiting.Load() >= maxWaiting) {
			return denyUnavailable
		}
	}
	if t.hasKid {
		return denyKey
	}
	return denySignature
}

func (i *Issuer) awaitFirst(ctx context.Context) bool {
	waited := false
	for _, r := range i.remotes {
		waited = r.awaitFirst(ctx) || waited
	}
	return waited
}

func (i *Issuer) refetch(ctx context.Context, now time.Time) bool {
	fetched := false
	for _, r := range i.remotes {
		fetched = r.refetch(ctx, now) || fetched
	}
	return fetched
}
