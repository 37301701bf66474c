package caddymodule

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestTheLastUserReleasesAndNobodyComesAfter(t *testing.T) {
	var released atomic.Int64
	l := newLifetime(func() { released.Add(1) })
	if !l.join() {
		t.Fatal("a request could not join a living configuration")
	}
	l.leave() // the configuration
	if released.Load() != 0 {
		t.Fatal("released while a request runs")
	}
	if !l.join() {
		t.Fatal("a request could not join beside another")
	}
	l.leave()
	l.leave()
	if released.Load() != 1 {
		t.Fatalf("released %d times", released.Load())
	}
	if l.join() {
		t.Error("a request joined what was released")
	}
}

func TestSimultaneousUsersReleaseOnce(t *testing.T) {
	for range 200 {
		var released atomic.Int64
		l := newLifetime(func() { released.Add(1) })
		var wg sync.WaitGroup
		for range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if l.join() {
					l.leave()
				}
			}()
		}
		l.leave()
		wg.Wait()
		if released.Load() != 1 {
			t.Fatalf("released %d times", released.Load())
		}
	}
}

// references counts who holds anything in a pool.
func references(p *caddy.UsagePool) (n int) {
	p.Range(func(key, _ any) bool {
		r, _ := p.References(key)
		n += r
		return true
	})
	return n
}

func TestAFailedProvisionTakesNothingFromThePools(t *testing.T) {
	keys, limits, tokens := references(keyPool), references(limiterPool), references(tokenPool)
	for _, raw := range []string{
		`{"keystore":{"backend":"sqlite","path":"{env.HIVEGATE_NO_SUCH_VARIABLE}"}}`,
		`{"master_key":["{env.HIVEGATE_NO_SUCH_VARIABLE}"]}`,
		`{"master_key":["short"]}`,
		`{"limiter":{"backend":"nothing"}}`,
		`{"issuers":[{"name":"x","iss":["x"],"algorithms":["HS256"],"hmac_secret":"{env.HIVEGATE_NO_SUCH_VARIABLE}"}]}`,
		`{"default_plan":"gone"}`,
	} {
		cfg := &commandConfig{apps: map[string]json.RawMessage{"hivegate": json.RawMessage(raw)}}
		if _, _, err := cfg.app(); err == nil {
			t.Errorf("%s was provisioned", raw)
		}
	}
	if k, l, i := references(keyPool), references(limiterPool), references(tokenPool); k != keys || l != limits || i != tokens {
		t.Errorf("references: keys %d→%d, limiters %d→%d, issuers %d→%d", keys, k, limits, l, tokens, i)
	}
}

func TestProvisionAndCleanupLeaveThePoolsAsTheyWere(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	before := references(keyPool) + references(limiterPool)
	cfg := &commandConfig{apps: map[string]json.RawMessage{"hivegate": json.RawMessage(`{}`)}}
	_, cancel1, err := cfg.app()
	if err != nil {
		t.Fatal(err)
	}
	_, cancel2, err := cfg.app()
	if err != nil {
		t.Fatal(err)
	}
	if got := references(keyPool) + references(limiterPool); got != before+4 {
		t.Errorf("two configurations hold %d references, want %d", got-before, 4)
	}
	cancel1()
	cancel2()
	if got := references(keyPool) + references(limiterPool); got != before {
		t.Errorf("%d references are left", got-before)
	}
}
