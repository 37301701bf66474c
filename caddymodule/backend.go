package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"

	"github.com/hivegate/hivegate/internal/sealed"
	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/limiter"
)

// KeystoreGuest is a module of the namespace hivegate.keystores. After
// Provision it is plain data: opening happens later, and what is opened
// outlasts the configuration.
type KeystoreGuest interface {
	caddy.Module
	// Location names the store to people: a path, or an address without secrets.
	Location() string
	// KeyFile is where a master key may be made when none is configured;
	// empty: it must be configured.
	KeyFile() string
	// Opener returns the function that opens the store. It may keep nothing
	// of this configuration but plain values. With create unset a missing
	// database is an error.
	Opener() func(ctx context.Context, create bool) (keystore.Store, error)
	// MaxStaleness bounds how long a record in memory is trusted while the
	// store cannot be reached.
	MaxStaleness() time.Duration
	// MustOpen reports whether a store that cannot be opened fails the load.
	MustOpen() bool
}

// LimiterGuest is a module of the namespace hivegate.limiters.
type LimiterGuest interface {
	caddy.Module
	// Opener returns the function that makes the limiter.
	Opener() func() (limiter.Limiter, error)
}

// pools holds what outlasts one configuration, by [poolKey].
var (
	keyPool     = caddy.NewUsagePool()
	limiterPool = caddy.NewUsagePool()
)

// poolKey identifies a backend: the guest's ID and the SHA-256 of its canonical
// configuration with expanded secrets. The secrets themselves are not kept.
func poolKey(guest caddy.Module, extra ...any) (string, error) {
	raw, err := json.Marshal(append([]any{guest}, extra...))
	if err != nil {
		return "", fmt.Errorf("encode the configuration of %s: %w", guest.CaddyModule().ID, err)
	}
	sum := sha256.Sum256(raw)
	return string(guest.CaddyModule().ID) + ":" + hex.EncodeToString(sum[:]), nil
}

// processLogger logs through whatever configuration is current, which is what
// a backend that outlasts configurations needs.
func processLogger() *slog.Logger {
	return slog.New(zapslog.NewHandler(caddy.Log().Named("hivegate").Core(),
		zapslog.WithName("hivegate"), zapslog.AddStacktraceAt(slog.Level(zapcore.FatalLevel)+100)))
}

// keyBackend is an opened keystore with its verifier. It is pooled.
type keyBackend struct {
	spec keyBackendSpec

	lag     prometheus.Histogram
	opening opening
	ready   atomic.Pointer[openedKeys]
}

func newKeyBackend(spec *keyBackendSpec) *keyBackend {
	return &keyBackend{spec: *spec, lag: newLagHistogram()}
}

// keyBackendSpec is everything that opening needs, as plain values.
type keyBackendSpec struct {
	open         func(ctx context.Context, create bool) (keystore.Store, error)
	location     string
	keyFile      string
	master       []string
	maxStaleness time.Duration
	pollTimeout  time.Duration
	records      int
	verified     int64
	remote       bool // it may be away, and come back
}

type openedKeys struct {
	store    keystore.Store
	crypto   *keystore.Crypto
	verifier *keystore.Verifier
	vault    *vault // nil: there is no master key
}

// keyTimeout is for reading or making the data key.
const keyTimeout = 10 * time.Second

// openStore opens the store, its data key and what the master key seals.
func (s *keyBackendSpec) openStore(ctx context.Context, create bool) (keystore.Store, *keystore.Crypto, *vault, error) {
	store, err := s.open(ctx, create)
	if err != nil {
		return nil, nil, nil, err // it names the store
	}
	if s.remote { // a connection that hangs must not hang this for ever
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, keyTimeout)
		defer cancel()
	}
	fail := func(err error) (keystore.Store, *keystore.Crypto, *vault, error) {
		return nil, nil, nil, errors.Join(err, store.Close())
	}
	ring, err := s.ring(ctx, store)
	if err != nil {
		return fail(err)
	}
	if ring == nil {
		return store, keystore.NewCrypto(nil), nil, nil
	}
	dataKey, err := sealed.LoadDataKey(ctx, store, *ring)
	if err != nil {
		return fail(fmt.Errorf("open the data key of %s: %w", s.location, err))
	}
	if trail, ok := store.(keystore.AuditTrail); ok {
		trail.SetAuditKey(dataKey)
	}
	v, err := newVault(store, ring, dataKey)
	if err != nil {
		return fail(err)
	}
	return store, keystore.NewCrypto(dataKey), v, nil
}

// ring is the configured master keys, or the one in the key file beside the
// database, which is made when neither exists. nil without an error: the
// configuration says none.
func (s *keyBackendSpec) ring(ctx context.Context, store keystore.Store) (*sealed.Ring, error) {
	if len(s.master) == 1 && s.master[0] == "none" {
		return nil, nil
	}
	var keys [][32]byte
	for _, text := range s.master {
		key, err := sealed.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("master_key: %w", err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		key, err := s.keyFromFile(ctx, store)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return &sealed.Ring{Primary: keys[0], Old: keys[1:]}, nil
}

// limiterBackend is a limiter in the pool.
type limiterBackend struct{ limiter limiter.Limiter }

// Destruct ends the limiter when the last reference on it is given back.
func (b *limiterBackend) Destruct() error { return b.limiter.Close() }

// lifetime counts who uses a configuration's backends: the configuration
// itself and its requests. The last one to leave releases them.
type lifetime struct {
	refs    atomic.Int64
	release func()
}

func newLifetime(release func()) *lifetime {
	l := &lifetime{release: release}
	l.refs.Store(1)
	return l
}

// join adds a user, unless everybody has left already.
func (l *lifetime) join() bool {
	for {
		n := l.refs.Load()
		if n <= 0 {
			return false
		}
		if l.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (l *lifetime) leave() {
	if l.refs.Add(-1) == 0 {
		l.release()
	}
}

// lingerers are replaced configurations that still hold their backends for
// late requests. There are as many as there were reloads in lateRequests.
type lingerers struct {
	mu   sync.Mutex // guards held
	held map[*lifetime]*time.Timer
}

var lingering = lingerers{held: make(map[*lifetime]*time.Timer)}

// add lets l leave after lateRequests.
func (s *lingerers) add(l *lifetime) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[l] = time.AfterFunc(lateRequests, func() {
		s.mu.Lock()
		_, mine := s.held[l]
		delete(s.held, l)
		s.mu.Unlock()
		if mine {
			l.leave()
		}
	})
}

// end lets all of them leave now.
func (s *lingerers) end() {
	s.mu.Lock()
	held := s.held
	s.held = make(map[*lifetime]*time.Timer)
	s.mu.Unlock()
	for l, timer := range held {
		timer.Stop()
		l.leave()
	}
}

// expand replaces placeholders such as {env.NAME} and {file./path}. A missing
// value is an error that names the option, never an empty secret.
func expand(option, text string) (string, error) {
	if !strings.Contains(text, "{") {
		return text, nil
	}
	out, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	out = strings.TrimSpace(out)
	switch {
	case err != nil && !hasPlaceholder(err.Error()):
		return "", fmt.Errorf("%s: %w: write {env.NAME} or {file./path}; there is no request yet when this is read", option, err)
	case err != nil && strings.Contains(err.Error(), "{file."):
		return "", fmt.Errorf("%s: %w: the file is empty, or cannot be read", option, err)
	case err != nil:
		return "", fmt.Errorf("%s: %w: set it in the environment of the server", option, err)
	case out == "":
		return "", fmt.Errorf("%s: %s holds nothing but blanks", option, text)
	}
	return out, nil
}
