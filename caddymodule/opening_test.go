package caddymodule

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

func sqliteOpener(t *testing.T) func(context.Context, bool) (keystore.Store, error) {
	path := filepath.Join(t.TempDir(), "keys.db")
	return func(ctx context.Context, create bool) (keystore.Store, error) {
		return sqlstore.OpenSQLite(ctx, path, sqlstore.Options{Create: create})
	}
}

func TestAKeystoreThatIsAwayIsTriedByOneAtATime(t *testing.T) {
	away := errors.New("away")
	var tries, now, most atomic.Int64
	b := newKeyBackend(&keyBackendSpec{remote: true, open: func(context.Context, bool) (keystore.Store, error) {
		tries.Add(1)
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		return nil, away
	}})
	var wg sync.WaitGroup
	begin := time.Now()
	for range 500 {
		wg.Go(func() {
			if _, err := b.opened(t.Context()); !errors.Is(err, away) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if max := 1 + int64(time.Since(begin)/openAgain); tries.Load() > max || most.Load() != 1 {
		t.Errorf("%d tries for 500 requests, %d at once; want %d, 1", tries.Load(), most.Load(), max)
	}
	if err := b.Destruct(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.opened(t.Context()); err == nil {
		t.Error("opened after its end")
	}
}

func TestAKeystoreThatHangsHoldsNoRequestForLongAndIsThereInTheEnd(t *testing.T) {
	answer := make(chan struct{})
	open := sqliteOpener(t)
	b := newKeyBackend(&keyBackendSpec{remote: true, master: []string{"none"}, open: func(ctx context.Context, create bool) (keystore.Store, error) {
		<-answer
		return open(ctx, create)
	}})
	begin := time.Now()
	if _, err := b.opened(t.Context()); !errors.Is(err, errOpening) || time.Since(begin) > openWait+time.Second {
		t.Errorf("got %v after %s", err, time.Since(begin))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.opened(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left: %v", err)
	}
	close(answer)
	o, err := b.opened(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.opened(t.Context()); err != nil || again != o {
		t.Errorf("it was opened twice: %v", err)
	}
	if err := b.Destruct(); err != nil {
		t.Error(err)
	}
}

func TestWhoReleasesAKeystoreWhileItOpensEndsTheAttempt(t *testing.T) {
	begun := make(chan struct{})
	b := newKeyBackend(&keyBackendSpec{remote: true, open: func(ctx context.Context, _ bool) (keystore.Store, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	failed := make(chan error, 1)
	go func() {
		_, err := b.opened(t.Context())
		failed <- err
	}()
	<-begun
	if err := b.Destruct(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the request got %v", err)
	}
}
