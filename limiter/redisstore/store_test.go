package redisstore_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/hivegate/hivegate/internal/testservers"
	"github.com/hivegate/hivegate/limiter"
	"github.com/hivegate/hivegate/limiter/limitertest"
	"github.com/hivegate/hivegate/limiter/redisstore"
)

// server is one redis-server for all tests that do not harm it; a Store has it to
// itself after flush.
var server *testservers.Redis

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	server, err = testservers.StartRedis()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, testservers.ErrNotInstalled) && os.Getenv("CI") == "" {
			return 0
		}
		return 1
	}
	defer func() { _ = server.Close() }()
	return m.Run()
}

// startServer starts a redis-server that the test may harm.
func startServer(t *testing.T, args ...string) *testservers.Redis {
	t.Helper()
	r, err := testservers.StartRedis(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func flush(t *testing.T) {
	t.Helper()
	if _, err := server.Do("FLUSHALL"); err != nil {
		t.Fatal(err)
	}
}

// open makes a Store at url; change may alter its options.
func open(t *testing.T, url string, change func(*redisstore.Options)) *redisstore.Store {
	t.Helper()
	addr, err := redisstore.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	opts := redisstore.Options{Address: addr, Log: func() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }}
	if testing.Verbose() {
		opts.Log = slog.Default
	}
	if change != nil {
		change(&opts)
	}
	s := redisstore.New(opts)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// slow is a URL with a timeout that a busy machine keeps.
func slow(r *testservers.Redis) string { return r.URL() + "?timeout=2s" }

func handClock(o *redisstore.Options) { o.HandClock = true }

func newMemory(t *testing.T) *limiter.Memory {
	t.Helper()
	m := limiter.NewMemory(limiter.MemoryOptions{SweepEvery: -1, Now: func() time.Time { return limitertest.Epoch }})
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func TestRedisConforms(t *testing.T) {
	limitertest.Run(t, func(t *testing.T) limiter.Limiter {
		flush(t)
		return open(t, slow(server), handClock)
	})
}

func TestRedisDecidesAsMemoryDoes(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			flush(t)
			limitertest.Differential(t, newMemory(t), open(t, slow(server), handClock), seed, 4000)
		})
	}
}
