package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

// remoteGuest is a keystore on the network.
type remoteGuest interface {
	poolSecret() string
	pollTimeout() time.Duration
}

const (
	// openWait is how long a request waits for a keystore on the network that is
	// being opened.
	openWait = 2 * time.Second
	// openAgain is how long a failure stands for all who ask: the keystore is
	// tried by one at a time, and not more often, however many requests come.
	openAgain = 500 * time.Millisecond
)

var (
	errOpening = errors.New("the keystore is being opened and does not answer yet")
	errEnded   = errors.New("the keystore is closed")
)

// opening is the state of a keystore that is not open yet.
type opening struct {
	mu     sync.Mutex // guards all below
	now    *attempt   // under way; nil: none
	failed error      // of the last attempt
	again  time.Time  // before it, failed stands
	closed bool
}

// attempt is one attempt to open a keystore. opened and err are set before done is
// closed.
type attempt struct {
	done   chan struct{}
	cancel context.CancelFunc
	opened *openedKeys
	err    error
}

// opened returns the open keystore, opening it on first use. All who ask at the
// same time share one attempt, which the end of one caller's ctx does not stop. A
// failure is not remembered for longer than openAgain.
func (b *keyBackend) opened(ctx context.Context) (*openedKeys, error) {
	if o := b.ready.Load(); o != nil {
		return o, nil
	}
	a, err := b.attempt()
	if err != nil {
		return nil, err
	}
	var late <-chan time.Time
	if b.spec.remote {
		timer := time.NewTimer(openWait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-a.done:
		return a.opened, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-late:
		return nil, errOpening
	}
}

// attempt returns the attempt under way, or begins one.
func (b *keyBackend) attempt() (*attempt, error) {
	s := &b.opening
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errEnded
	case s.now != nil:
		return s.now, nil
	case s.failed != nil && b.spec.remote && time.Now().Before(s.again):
		return nil, s.failed
	}
	// It outlives the request or configuration that begins it.
	ctx, cancel := context.WithCancel(context.Background())
	a := &attempt{done: make(chan struct{}), cancel: cancel}
	s.now = a
	go func() {
		defer cancel()
		a.opened, a.err = b.open(ctx)
		s.mu.Lock()
		s.now, s.failed, s.again = nil, a.err, time.Now().Add(openAgain)
		if a.err == nil {
			b.ready.Store(a.opened)
		}
		s.mu.Unlock()
		close(a.done)
	}()
	return a, nil
}

// open opens the store and starts its verifier.
func (b *keyBackend) open(ctx context.Context) (*openedKeys, error) {
	store, crypto, vault, err := b.spec.openStore(ctx, true)
	if err != nil {
		return nil, err
	}
	id, name := nodeName()
	verifier, err := keystore.NewVerifier(keystore.Options{
		Store: store, Crypto: crypto,
		Records: b.spec.records, Verified: b.spec.verified,
		MaxStaleness: b.spec.maxStaleness,
		PollTimeout:  b.spec.pollTimeout,
		NodeID:       id, NodeName: name,
		Log: processLogger,
	})
	if err == nil {
		verifier.OnRevocationLag(func(d time.Duration) { b.lag.Observe(d.Seconds()) })
		// A store that is away by now is no error.
		starting, cancel := context.WithTimeout(ctx, keyTimeout)
		defer cancel()
		err = verifier.Start(starting)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the keystore: %w", err), store.Close())
	}
	return &openedKeys{store: store, crypto: crypto, verifier: verifier, vault: vault}, nil
}

// nodeName is what this process is called among those that share a keystore.
func nodeName() (id, name string) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return rand.Text(), host + " pid " + strconv.Itoa(os.Getpid())
}

// Destruct closes the backend when the last reference on it is given back.
func (b *keyBackend) Destruct() error {
	s := &b.opening
	s.mu.Lock()
	s.closed = true
	a := s.now
	s.mu.Unlock()
	if a != nil {
		a.cancel()
		<-a.done
	}
	o := b.ready.Load()
	if o == nil {
		return nil
	}
	return errors.Join(o.verifier.Close(), o.store.Close())
}
