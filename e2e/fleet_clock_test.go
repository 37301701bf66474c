package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// clockGate is a gate of whose answers many depend on what time it is.
var clockGate = config{
	env: []string{"FACTOR_SECRET=" + factorSecret},
	global: cheap + factorIssuer + `
		scopes farms:read keys:manage
		class slots
		plan roomy {
			requests 600000/m
		}
		plan tiny {
			requests 30/h
		}
		plan holder {
			requests unlimited
			concurrent slots 3
		}
		default_plan roomy
	`,
	gate: `
		routes {
			GET /farms farms:read
			GET /hold farms:read class=slots
			GET /any/events farms:read
			POST /guarded farms:read 2fa
		}
		keys_api /v1 {
			read keys:manage
			write keys:manage
			any_owner keys:manage
		}
	`,
}

// clockFleet is three gates on one PostgreSQL and one Redis; the clock of the last
// one is wrong.
type clockFleet struct {
	*pgFleet
	odd  *gate
	root created
}

func startClockFleet(t *testing.T, ahead time.Duration, mode string) *clockFleet {
	t.Helper()
	redis := ownRedis(t)
	c := clockGate
	c.global += "\nlimiter redis {env.FLEET_REDIS} {\n mode " + mode + "\n}\n"
	c.env = append([]string{"FLEET_REDIS=" + redis.URL() + "?timeout=2s"}, c.env...)
	f := startFleet(t, anyPostgres(t), 0, c, "60s")
	for i := range 3 {
		l := newLink(t, f.pg.Addr())
		own, staleness := c, "60s"
		if i == 2 {
			own.program, staleness = buildOdd(t), "3s"
			own.env = append([]string{oddClock + "=" + strconv.Itoa(int(ahead.Seconds()))}, c.env...)
		}
		f.links = append(f.links, l)
		f.gates = append(f.gates, start(t, pgConfig(own, staleness, f.dsn(l.addr, f.schema), f.master)))
	}
	all := &redisFleet{redis: redis, gates: f.gates}
	all.upEverywhere(t, 10*time.Second, 1)
	return &clockFleet{f, f.gates[2], f.desk.createOwned(t, "root", "keys:manage", "farms:read")}
}

// everywhere asks all gates with a key and wants one answer of them.
func (f *clockFleet) everywhere(t *testing.T, what, k string, status int, reason string) {
	t.Helper()
	for i, g := range f.gates {
		if a := g.get(t, "/farms", key(k)); a.status != status || a.reason() != reason {
			t.Errorf("%s: gate %d answers %d %s, want %d %s", what, i, a.status, a.reason(), status, reason)
		}
	}
}

// until asks all gates until the moment end, when they must stop to let the key pass:
// not earlier, and at most a second later.
func (f *clockFleet) until(t *testing.T, what, k string, end time.Time, reason string) {
	t.Helper()
	for i, g := range f.gates {
		for {
			asked := time.Now()
			a := g.get(t, "/farms", key(k))
			if a.status == http.StatusOK {
				if asked.After(end.Add(time.Second)) {
					t.Errorf("%s: gate %d lets it pass %s after its end", what, i, time.Since(end))
					break
				}
				continue
			}
			if a.reason() != reason || time.Now().Before(end) {
				t.Errorf("%s: gate %d answers %d %s, %s before its end", what, i, a.status, a.reason(), time.Until(end))
			}
			break
		}
	}
}

func (f *clockFleet) post(t *testing.T, g *gate, path, body string) *answer {
	t.Helper()
	changes := []change{key(f.root.Key)}
	if body != "" {
		changes = append(changes, jsonBody(body))
	}
	a, err := g.try(g.sites[0], "POST", path, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestFleetClockOfOneNodeAnHourOff: what the fleet answers does not depend on which
// node is asked, though the clock of one of them is an hour ahead, or behind. It needs
// a build of its own, so it is part of `make faults`; that the store corrects the
// clock is tested without one.
func TestFleetClockOfOneNodeAnHourOff(t *testing.T) {
	if !full("HIVEGATE_FAULTS") {
		t.Skip("part of make faults: it compiles the program with another time.Now")
	}
	for _, c := range []struct {
		name, mode string
		ahead      time.Duration
	}{{"an hour ahead, strict", "strict", time.Hour}, {"an hour behind, lease", "lease", -time.Hour}} {
		t.Run(c.name, func(t *testing.T) {
			f := startClockFleet(t, c.ahead, c.mode)
			token := factorToken(t, map[string]any{"exp": time.Now().Add(30 * time.Minute).Unix(), "nbf": time.Now().Unix(), "iat": time.Now().Unix()})
			soon := f.desk.create(t, "--scope", "farms:read", "--expires", time.Now().Add(40*time.Minute).UTC().Format(time.RFC3339))
			here := f.gates[0].makeOverHTTP(t, f.root.Key, `{"name":"made on a good node","permissions":["farms:read"]}`)
			there := f.odd.makeOverHTTP(t, f.root.Key, `{"name":"made on the odd node","permissions":["farms:read"]}`)
			holds := f.holdThree(t)
			l := f.startTraffic(10*time.Millisecond, soon, here, there, created{Key: token})
			for _, part := range []struct {
				name string
				do   func(*clockFleet, *testing.T)
			}{
				{"keys", (*clockFleet).keysWorkEverywhere}, {"expiry", (*clockFleet).keysEndAtOneTime}, {"tokens", (*clockFleet).tokensEndAtOneTime},
				{"rotation", (*clockFleet).overlapsEndAtOneTime}, {"revocation", (*clockFleet).revocationsHoldEverywhere},
				{"second factor", (*clockFleet).codesPassOnce}, {"lock", (*clockFleet).locksLastFiveMinutes},
				{"limits", (*clockFleet).limitsAreShared}, {"guesses", (*clockFleet).guessesAreShared},
			} {
				t.Run(part.name, func(t *testing.T) { part.do(f, t) })
			}
			<-time.After(26*time.Second - min(time.Since(holds.since), 25*time.Second)) // longer than a slot lives without a heartbeat
			for i, g := range f.gates {
				if a := g.get(t, "/hold", key(holds.key)); a.status != http.StatusTooManyRequests {
					t.Errorf("gate %d: a fourth of three slots: %d", i, a.status)
				}
			}
			if n := holds.ended.Load(); n > 0 {
				t.Errorf("%d streams were cut", n)
			}
			l.flawless(t, c.name)
			t.Run("staleness", func(t *testing.T) { f.staleAfterThreeSeconds(t, here) })
			const said = "the clocks of this machine and of the keystore's database differ"
			for i, g := range f.gates {
				if strings.Contains(g.log.String(), said) != (g == f.odd) {
					t.Errorf("gate %d: the log says that the clocks differ: %t", i, g != f.odd)
				}
			}
		})
	}
}

type heldSlots struct {
	*streams
	key   string
	since time.Time
}

func (f *clockFleet) holdThree(t *testing.T) heldSlots {
	t.Helper()
	k := f.desk.create(t, "--scope", "farms:read", "--plan", "holder", "--owner", "holder")
	return heldSlots{holdOneEach(t, &redisFleet{gates: f.gates}, k), k.Key, time.Now()}
}

func (f *clockFleet) keysWorkEverywhere(t *testing.T) {
	for i, g := range f.gates {
		k := g.makeOverHTTP(t, f.root.Key, `{"name":"new","permissions":["farms:read"]}`)
		f.everywhere(t, fmt.Sprintf("a key made on gate %d", i), k.Key, 200, "")
		if off := time.Since(k.CreatedAt); off < -2*time.Second || off > 5*time.Second {
			t.Errorf("a key made on gate %d was made %s ago", i, off)
		}
		f.everywhere(t, "a key made by a command there", g.createScoped(t, "farms:read").Key, 200, "")
	}
}

func (f *clockFleet) keysEndAtOneTime(t *testing.T) {
	for i, g := range f.gates {
		end := time.Now().Add(4 * time.Second).Truncate(time.Second)
		k := g.makeOverHTTP(t, f.root.Key, `{"name":"short","permissions":["farms:read"],"expires_at":"`+end.UTC().Format(time.RFC3339)+`"}`)
		f.everywhere(t, "a key that ends in some seconds", k.Key, 200, "")
		f.until(t, fmt.Sprintf("a key with expires_at, made on gate %d", i), k.Key, end, "api_key_expired")
	}
	for i, g := range f.gates {
		past := time.Now().Add(-10 * time.Second).UTC().Format(time.RFC3339)
		if a := f.post(t, g, "/v1/api-keys", `{"name":"past","permissions":["farms:read"],"expires_at":"`+past+`"}`); a.status != http.StatusUnprocessableEntity {
			t.Errorf("gate %d takes an end ten seconds ago: %d", i, a.status)
		}
	}
}

func (f *clockFleet) tokensEndAtOneTime(t *testing.T) {
	token := factorToken(t, map[string]any{"exp": time.Now().Add(-25 * time.Second).Unix()}) // within the leeway of 30 s
	f.everywhere(t, "a token that ended 25 s ago", token, 200, "")
	f.everywhere(t, "a token that ended 35 s ago", factorToken(t, map[string]any{"exp": time.Now().Add(-35 * time.Second).Unix()}), 401, "token_expired")
	f.everywhere(t, "a token that begins in ten minutes", factorToken(t, map[string]any{"nbf": time.Now().Add(10 * time.Minute).Unix()}), 401, "token_invalid")
}

func (f *clockFleet) overlapsEndAtOneTime(t *testing.T) {
	for i, g := range f.gates {
		k := g.makeOverHTTP(t, f.root.Key, `{"name":"turned","permissions":["farms:read"]}`)
		f.everywhere(t, "before its rotation", k.Key, 200, "")
		a := f.post(t, g, "/v1/api-keys/"+k.ID+"/rotate", `{"overlap":"3s"}`)
		end := time.Now().Add(3 * time.Second)
		second := a.member(t, "key")
		book.addKey("a rotated key", second)
		f.everywhere(t, "its new secret", second, 200, "")
		f.until(t, fmt.Sprintf("an old secret, rotated on gate %d", i), k.Key, end.Add(-200*time.Millisecond), "api_key_invalid")
		f.everywhere(t, "its new secret afterwards", second, 200, "")
	}
}

func (f *clockFleet) revocationsHoldEverywhere(t *testing.T) {
	for i, by := range f.gates {
		k := f.desk.createScoped(t, "farms:read")
		f.warm(t, k)
		streaming(t, f.gates[(i+1)%3])
		stream := openEvents(t, f.gates[(i+1)%3], k.Key)
		cut := ends(stream)
		a, err := by.try(by.sites[0], "DELETE", "/v1/api-keys/"+k.ID, key(f.root.Key))
		if err != nil || a.status != http.StatusNoContent {
			t.Fatal(err, a)
		}
		begin := time.Now()
		took := f.refusedEverywhere(t, k, begin, time.Second)
		select {
		case <-cut:
		case <-time.After(2 * time.Second):
			t.Errorf("revoked on gate %d: its stream is open still", i)
		}
		t.Logf("revoked on gate %d: refused everywhere after %s, stream cut after %s", i, took.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
		_ = stream.Close()
		k = f.desk.createScoped(t, "farms:read")
		f.warm(t, k)
		if out := by.hivegate(t, "apikey", "revoke", k.ID, "--wait").ok(t); !strings.Contains(out.stdout, "All 3 gates") {
			t.Errorf("revoke --wait beside gate %d: %q", i, out.stdout)
		}
		f.everywhere(t, "confirmed by all", k.Key, 401, "api_key_revoked")
	}
}

func (f *clockFleet) codesPassOnce(t *testing.T) {
	for i, g := range f.gates { // enrolled and first used on each
		owner := fmt.Sprintf("factor-%d", i)
		k := f.desk.createOwned(t, owner, "farms:read")
		factor := g.enroll(t, "--owner", owner)
		code := factor.next(t)
		if a, err := g.try(g.sites[0], "POST", "/guarded", key(k.Key), withCode(code)); err != nil || a.status != 200 {
			t.Errorf("gate %d refuses a good code: %v %v", i, err, a)
		}
		got := allAtOnce(30, func(n int) string {
			o := f.gates[n%3]
			return outcomeOf(o.try(o.sites[0], "POST", "/guarded", key(k.Key), withCode(code)))
		})
		wantCounts(t, "a code that was used", got, map[string]int{"second_factor_invalid": 30})
		got = allAtOnce(30, func(n int) string {
			o := f.gates[n%3]
			return outcomeOf(o.try(o.sites[0], "POST", "/guarded", key(k.Key), withCode(factor.recovery[0])))
		})
		wantCounts(t, "a recovery code", got, map[string]int{"passed": 1, "second_factor_invalid": 29})
		stale := codeOf(t, factor.secret, factor.step-120) // an hour ago
		if a, err := f.odd.try(f.odd.sites[0], "POST", "/guarded", key(k.Key), withCode(stale)); err != nil || a.reason() != "second_factor_invalid" {
			t.Errorf("the odd node takes a code of an hour ago: %v %v", err, a)
		}
	}
}

func (f *clockFleet) locksLastFiveMinutes(t *testing.T) {
	for i, g := range f.gates {
		owner := fmt.Sprintf("locked-%d", i)
		k := f.desk.createOwned(t, owner, "farms:read")
		factor := f.desk.enroll(t, "--owner", owner)
		for _, code := range factor.wrong(t, 5) { // all on one node
			if a, err := g.try(g.sites[0], "POST", "/guarded", key(k.Key), withCode(code)); err != nil || a.reason() != "second_factor_invalid" {
				t.Fatal(err, a)
			}
		}
		for j, o := range f.gates {
			a, err := o.try(o.sites[0], "POST", "/guarded", key(k.Key), withCode(factor.next(t)))
			if err != nil || a.reason() != "second_factor_locked" {
				t.Errorf("locked on gate %d, gate %d answers %v %v", i, j, err, a)
				continue
			}
			if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 280 || n > 301 {
				t.Errorf("locked on gate %d, gate %d says Retry-After %d", i, j, n)
			}
		}
	}
}

func (f *clockFleet) limitsAreShared(t *testing.T) {
	k := f.desk.create(t, "--scope", "farms:read", "--plan", "tiny", "--owner", "tiny")
	passed := 0
	for n := range 90 {
		g := f.gates[n%3]
		a := g.get(t, "/farms", key(k.Key))
		if a.status == 200 {
			passed++
		}
		reset, err := strconv.ParseInt(a.header.Get("X-Ratelimit-Reset"), 10, 64)
		if left := time.Until(time.Unix(reset, 0)); err != nil || left < 0 || left > time.Hour+5*time.Second {
			t.Errorf("gate %d says that the quota is back in %s (%v)", n%3, left, err)
		}
		if a.status == 429 {
			if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 1 || wait > 121 {
				t.Errorf("gate %d says Retry-After %d", n%3, wait)
			}
		}
	}
	if passed > 31 || passed < 30 { // one comes back every two minutes
		t.Errorf("%d of 30 an hour passed on three nodes", passed)
	}
}

func (f *clockFleet) guessesAreShared(t *testing.T) {
	k := f.desk.createScoped(t, "farms:read")
	got := map[string]int{}
	for n := range 30 {
		g := f.gates[n%3]
		got[outcomeOf(g.try(g.sites[0], "GET", "/farms", key(wrong(t, k)), from("127.0.0.77")))]++
	}
	if n := got["api_key_invalid"]; n < 10 || n > 12 || got["auth_attempts_limited"] != 30-n {
		t.Errorf("30 guesses on three nodes: %v, want 10 a minute", got)
	}
	f.everywhere(t, "its owner, from elsewhere", k.Key, 200, "")
}

// staleAfterThreeSeconds cuts the odd node off. Its max_staleness is measured, not
// read off a clock.
func (f *clockFleet) staleAfterThreeSeconds(t *testing.T, k created) {
	f.warm(t, k)
	f.links[2].set(linkReset, 0)
	cut := time.Now()
	for {
		a := f.odd.get(t, "/farms", key(k.Key))
		took := time.Since(cut)
		if a.status == 200 && took < 4*time.Second {
			continue
		}
		if a.reason() != "keystore_unavailable" || took < 2500*time.Millisecond {
			t.Errorf("cut off for %s, the odd node answers %d %s", took.Round(time.Millisecond), a.status, a.reason())
		}
		break
	}
	f.links[2].set(linkGood, 0)
	eventually(t, 5*time.Second, "the odd node lets it pass again", func() bool { return f.odd.get(t, "/farms", key(k.Key)).status == 200 })
	var trail struct {
		Data []struct {
			At time.Time `json:"at"`
		} `json:"data"`
	}
	out := f.odd.hivegate(t, "audit", "--since", "10m", "--json").ok(t)
	if err := json.Unmarshal([]byte(out.stdout), &trail); err != nil {
		t.Fatalf("audit: %v", err)
	}
	for i, row := range trail.Data {
		if off := time.Since(row.At); off < -2*time.Second || off > 10*time.Minute {
			t.Errorf("row %d of the audit trail is %s old", i, off)
		}
	}
	if len(trail.Data) == 0 {
		t.Error("the odd node finds no row of the last ten minutes in the audit trail")
	}
}
