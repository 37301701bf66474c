package e2e

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// remoteMain is main with its keys at a URL.
func remoteMain(url, gate string) config {
	c := mainConfig("", gate)
	c.global = strings.Replace(c.global, "jwks DIR/jwks.json", "jwks "+url, 1)
	return c
}

// 200 requests a second, half of them with tokens never seen before, while the
// issuer goes from key A to A+B to B.
func TestKeyRotationUnderLoadRefusesNoValidToken(t *testing.T) {
	const (
		perSecond = 200
		// Past the 30 s in which one fetch for an unknown kid is allowed, and
		// before the set of max-age 600 is fetched by itself.
		duration = 36 * time.Second
	)
	t.Parallel()
	a, b, stranger := es256("A"), es256("B"), es256("nobodys")
	keys := newKeyServer(t, jwkSet(a.jwk(nil)))
	c := remoteMain(keys.url, farmRoutes)
	c.global += "auth_failures 1000000/m\n"
	g := start(t, c)

	var current, second atomic.Pointer[tokenKey] // both sign; the same outside the overlap
	current.Store(&a)
	second.Store(&a)
	type failure struct {
		at     time.Duration
		reason string
		kid    string
	}
	var (
		mu       sync.Mutex // guards failures
		failures []failure
		passed   atomic.Int64
		bad      atomic.Int64
		wg       sync.WaitGroup
		began    = time.Now()
		work     = make(chan int, perSecond)
	)
	for range 32 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var old string
			var oldKey *tokenKey
			for n := range work {
				k := current.Load()
				if n%2 == 0 {
					k = second.Load()
				}
				token := old
				if n%4 < 2 || oldKey != k { // else a token that is remembered
					token = k.token(with("sub", fmt.Sprintf("user-%d", n)))
					old, oldKey = token, k
				}
				ans, err := g.try(g.sites[0], "GET", "/farms", bearer(token))
				if err == nil && ans.status == 200 {
					passed.Add(1)
					continue
				}
				reason := fmt.Sprint(err)
				if err == nil {
					reason = ans.reason()
				}
				mu.Lock()
				failures = append(failures, failure{time.Since(began), reason, k.kid})
				mu.Unlock()
			}
		}()
	}
	// A stranger's kid with every tenth request asks for a fetch each time.
	strangers := make(chan struct{}, perSecond)
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range strangers {
				if ans, err := g.try(g.sites[0], "GET", "/farms", bearer(stranger.token(claims(nil)))); err == nil && ans.reason() == "token_invalid" {
					bad.Add(1)
				}
			}
		}()
	}

	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	sent := 0
	for step := 0; ; {
		now := <-tick.C
		switch at := now.Sub(began); {
		case step == 0 && at > 3*time.Second: // A -> A+B; B signs from now on, too
			keys.publish(jwkSet(a.jwk(nil), b.jwk(nil)))
			second.Store(&b)
			step++
		case step == 1 && at > 6*time.Second: // A signs no more
			current.Store(&b)
			step++
		case step == 2 && at > 8*time.Second: // A+B -> B
			keys.publish(jwkSet(b.jwk(nil)))
			step++
		}
		if now.Sub(began) > duration {
			break
		}
		for due := int(now.Sub(began) * perSecond / time.Second); sent < due; sent++ {
			work <- sent
			if step == 3 && sent%10 == 0 {
				strangers <- struct{}{}
			}
		}
	}
	close(work)
	close(strangers)
	wg.Wait()

	want := int(duration.Seconds()) * perSecond * 99 / 100
	if raceEnabled {
		want /= 4 // the binary is that much slower with the detector
	}
	if sent < want || int(passed.Load())+len(failures) != sent {
		t.Errorf("%d requests were sent and %d judged, want %d", sent, int(passed.Load())+len(failures), want)
	}
	if len(failures) > 0 {
		t.Errorf("%d of %d requests with a valid token were refused, the first %+v", len(failures), sent, failures[0])
	}
	// One at start, one for B, and after 30 s one for the stranger.
	if n := keys.fetches.Load(); n != 3 {
		t.Errorf("the keys were fetched %d times, want 3: at start, for the new kid, and 30 s later for a stranger's", n)
	}
	if bad.Load() == 0 {
		t.Error("no stranger's token was judged")
	}
	// The fetch for the stranger brought the set without A.
	g.get(t, "/farms", bearer(b.token(claims(nil)))).passed(t)
	g.get(t, "/farms", bearer(a.token(claims(nil)))).refused(t, 401, "token_invalid")
	t.Logf("%d requests in %s, %d passed, %d of strangers refused, %d fetches of the keys",
		sent, time.Since(began).Round(time.Second), passed.Load(), bad.Load(), keys.fetches.Load())
}
