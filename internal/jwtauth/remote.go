package jwtauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// StaleLimit is how long the keys of the last good answer are relied on while
// their URL gives none: through an outage of the issuer, but not for ever,
// because a key that was withdrawn meanwhile is not known to be.
const StaleLimit = 24 * time.Hour

const (
	fetchTimeout    = 5 * time.Second
	refetchInterval = 30 * time.Second // between fetches for an unknown kid
	minLifetime     = time.Minute      // of a JWK set, whatever Cache-Control says
	maxLifetime     = 10 * time.Minute // and where it says nothing
	minBackoff      = time.Second
	maxBackoff      = 30 * time.Second
	complainEvery   = 5 * time.Minute // log lines while a URL stays down
	maxWaiting      = 1024            // requests that wait for one fetch
)

// remote is one JWK set over HTTP. A loop fetches it ahead of its end; requests
// may ask for one fetch more. There is never more than one fetch at a time.
type remote struct {
	url     string
	client  *http.Client
	opts    *Options
	issuer  string
	changed func() // called, without mu, when keys were replaced

	// freshUntil is when the keys stop being relied on, in Unix nanoseconds;
	// 0 until a first answer. Written by the fetch, read by every request.
	freshUntil atomic.Int64
	// first is closed when the first attempt has ended, well or not.
	first   chan struct{}
	waiting atomic.Int32
	// moved tells the loop that a fetch happened which it did not start.
	moved chan struct{}
	wg    sync.WaitGroup

	mu       sync.Mutex      // guards all below
	ctx      context.Context // nil before start
	inflight chan struct{}   // closed when the running fetch ends; nil: none runs
	asked    time.Time       // when an unknown kid last made a fetch
	keys     []*verifyKey
	refused  int
	next     time.Duration // until the next fetch
	status   SourceStatus
	told     time.Time // when a failure was last logged
}

func newRemote(rawURL, issuer string, opts *Options, changed func()) *remote {
	return &remote{
		url: rawURL, issuer: issuer, opts: opts, changed: changed,
		client: newClient(opts.HTTPClient),
		first:  make(chan struct{}),
		moved:  make(chan struct{}, 1),
		status: SourceStatus{Source: publicURL(rawURL), Remote: true},
	}
}

// start begins to fetch, until ctx is done.
func (r *remote) start(ctx context.Context) {
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		r.loop(ctx)
	}()
}

// wait waits, once the context of start is done, until nothing runs any more.
func (r *remote) wait() {
	r.mu.Lock()   // whoever begins a fetch from here on sees that ctx is done
	r.mu.Unlock() //nolint:staticcheck // an empty critical section is the point
	r.wg.Wait()
}

// loop fetches at once and then whenever the last answer is about to end.
func (r *remote) loop(ctx context.Context) {
	for {
		if done := r.begin(func() bool { return true }); done != nil {
			<-done
		}
		select { // that was our own fetch
		case <-r.moved:
		default:
		}
		for due := false; !due; {
			timer, stop := r.opts.After(r.delay())
			select {
			case <-ctx.Done():
				stop()
				return
			case <-timer:
				due = true
			case <-r.moved:
				stop()
			}
		}
	}
}

func (r *remote) delay() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// begin joins the running fetch, or starts one if may (called under mu) agrees.
// The channel is closed when the fetch has ended; nil means that there is none.
func (r *remote) begin(may func() bool) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inflight != nil {
		return r.inflight
	}
	if r.ctx == nil || r.ctx.Err() != nil || !may() {
		return nil
	}
	ctx, done := r.ctx, make(chan struct{})
	r.inflight = done
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		r.fetch(ctx)
		r.mu.Lock()
		r.inflight = nil
		r.mu.Unlock()
		select { // before done: the loop takes back the signal of its own fetch
		case r.moved <- struct{}{}:
		default:
		}
		close(done)
	}()
	return done
}

// fresh reports whether there are keys that may be relied on at now.
func (r *remote) fresh(now time.Time) bool { return now.UnixNano() < r.freshUntil.Load() }

// failing reports whether the last fetch failed.
func (r *remote) failing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.LastError != ""
}

// awaitFirst waits until the first attempt has ended. It reports whether it
// had to wait for it, and got it.
func (r *remote) awaitFirst(ctx context.Context) bool {
	r.mu.Lock()
	started := r.ctx != nil
	r.mu.Unlock()
	select {
	case <-r.first:
		return false
	default:
		return started && r.await(ctx, r.first)
	}
}

// refetch has the set fetched because of an unknown kid, at most once in 30 s,
// or joins the fetch that is running. It reports whether one ended meanwhile.
func (r *remote) refetch(ctx context.Context, now time.Time) bool {
	done := r.begin(func() bool {
		// A clock that was set back must not keep us from asking.
		if d := now.Sub(r.asked); !r.asked.IsZero() && d >= 0 && d < refetchInterval {
			return false
		}
		r.asked = now
		return true
	})
	return done != nil && r.await(ctx, done)
}

// await waits for done, with at most 1024 others: past that a caller is told
// at once to come again, so that a slow issuer cannot pile requests up.
func (r *remote) await(ctx context.Context, done <-chan struct{}) bool {
	defer r.waiting.Add(-1)
	if r.waiting.Add(1) > maxWaiting {
		return false
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// fetch makes one attempt and takes over what it brought.
func (r *remote) fetch(ctx context.Context) {
	var keys []*verifyKey
	var refused []error
	doc, life, err := r.get(ctx)
	if err == nil {
		keys, refused, err = parseJWKS(doc)
	}
	now := r.opts.Now()
	if err != nil {
		r.failed(ctx, now, err)
	} else {
		r.succeeded(now, keys, refused, life)
	}
	select {
	case <-r.first:
	default:
		close(r.first)
	}
}

// failed keeps what there is and plans the next attempt.
func (r *remote) failed(ctx context.Context, now time.Time, err error) {
	if ctx.Err() != nil { // being closed is no failure of the issuer
		return
	}
	r.mu.Lock()
	s := &r.status
	s.LastAttempt, s.LastError = now, err.Error()
	s.Failures++
	s.failuresInRow++
	r.next = min(minBackoff<<min(s.failuresInRow-1, 10), maxBackoff)
	tell := s.failuresInRow == 1 || now.Sub(r.told) >= complainEvery
	if tell {
		r.told = now
	}
	kept, since := len(r.keys), s.LastSuccess
	r.mu.Unlock()
	if tell {
		r.opts.Log().Warn("cannot fetch the issuer's keys",
			slog.String("issuer", r.issuer), slog.String("url", publicURL(r.url)),
			slog.Int("keys_kept", kept), slog.Time("kept_since", since), slog.Any("error", err))
	}
}

// succeeded takes over new keys, where they differ, and plans the next fetch
// for the last fifth of their lifetime.
func (r *remote) succeeded(now time.Time, keys []*verifyKey, refused []error, life time.Duration) {
	for _, k := range keys {
		k.src = r
	}
	r.mu.Lock()
	s := &r.status
	recovered := s.failuresInRow > 0
	changed := s.LastSuccess.IsZero() || !sameKeys(r.keys, keys)
	tellRefused := len(refused) > 0 && (changed || r.refused != len(refused))
	s.LastAttempt, s.LastSuccess, s.LastError = now, now, ""
	s.failuresInRow = 0
	s.Keys = len(keys)
	s.Fetches++
	r.refused = len(refused)
	r.next = life - life/5
	if changed {
		r.keys = keys
	}
	r.mu.Unlock()
	r.freshUntil.Store(now.Add(StaleLimit).UnixNano())
	if changed {
		r.changed()
	}
	log := r.opts.Log().With(slog.String("issuer", r.issuer), slog.String("url", publicURL(r.url)))
	if tellRefused {
		log.Warn("some of the issuer's keys are not used", slog.Any("reasons", errorTexts(refused)))
	}
	if changed || recovered {
		log.Info("the issuer's keys were fetched", slog.Int("keys", len(keys)), slog.Bool("changed", changed))
	}
}

// snapshot returns the state for metrics and health.
func (r *remote) snapshot(now time.Time) SourceStatus {
	r.mu.Lock()
	s := r.status
	r.mu.Unlock()
	s.Usable = r.fresh(now)
	return s
}

func (r *remote) current() []*verifyKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys
}

// sameKeys compares without regard to order.
func sameKeys(a, b []*verifyKey) bool {
	if len(a) != len(b) {
		return false
	}
	return slices.Equal(keyIDs(a), keyIDs(b))
}

func keyIDs(keys []*verifyKey) []string {
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = string(k.id[:])
	}
	slices.Sort(ids)
	return ids
}

func errorTexts(errs []error) []string {
	out := make([]string, len(errs))
	for i, err := range errs {
		out[i] = err.Error()
	}
	return out
}

// publicURL is a URL as it may be logged: without the query, which may hold a
// key.
func publicURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(unparsable URL)"
	}
	return u.Scheme + "://" + u.Host + u.EscapedPath()
}

// withoutURL takes the URL out of an error of net/http, for the same reason.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
