package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// full says whether a test runs in its long form (see the Makefile).
func full(name string) bool { return os.Getenv(name) == "full" }

// acked is what the clients of a gate were told before it died.
type acked struct {
	mu   sync.Mutex // guards keys
	keys []string
	ops  atomic.Int64
}

func (a *acked) add(key string) {
	a.mu.Lock()
	a.keys = append(a.keys, key)
	a.mu.Unlock()
	a.ops.Add(1)
}

// SIGKILL at random moments during creates and rotates: every key whose answer
// arrived works after the restart, and the store and its audit trail are whole.
func TestKeysWhoseAnswerArrivedSurviveSIGKILL(t *testing.T) {
	total, perRound := int64(120), 40
	if full("HIVEGATE_FAULTS") {
		total, perRound = 1000, 60
	}
	g := start(t, withKeysAPI)
	root := g.manager(t, "--owner", "acme")
	var told acked
	kills := 0
	for told.ops.Load() < total {
		begin := told.ops.Load()
		enough := begin + 1 + rand.Int64N(int64(perRound))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { g.churn(t, root.Key, &told) })
		}
		eventually(t, 30*time.Second, "the clients are at work", func() bool { return told.ops.Load() >= enough })
		g.kill(t) // whatever is under way ends here
		wg.Wait()
		kills++
		g.run(t)
	}
	for _, k := range told.keys {
		if a := g.get(t, "/v1/auth/verify", key(k)); a.status != 200 {
			t.Errorf("a key whose answer arrived: %d %s", a.status, a.body)
		}
	}
	if out := g.hivegate(t, "audit", "verify").ok(t); !strings.Contains(out.stdout, "whole") {
		t.Errorf("audit verify: %s", out.stdout)
	}
	t.Logf("%d creates and rotates were answered, %d SIGKILLs; every key works and the trail is whole", told.ops.Load(), kills)
}

// churn makes and rotates keys until the gate dies.
func (g *gate) churn(t *testing.T, with string, told *acked) {
	for {
		a, err := g.try(g.sites[0], "POST", "/v1/api-keys", key(with), jsonBody(`{"name":"churn","permissions":["farms:read"]}`))
		if err != nil {
			return
		}
		var made created
		if err := json.Unmarshal(a.body, &made); a.status != http.StatusCreated || err != nil {
			t.Errorf("create: %d %s", a.status, a.body)
			return
		}
		book.addKey("a churned key", made.Key)
		told.add(made.Key)
		a, err = g.try(g.sites[0], "POST", "/v1/api-keys/"+made.ID+"/rotate", key(with))
		if err != nil {
			return
		}
		if err := json.Unmarshal(a.body, &made); a.status != http.StatusOK || err != nil {
			t.Errorf("rotate: %d %s", a.status, a.body)
			return
		}
		book.addKey("a churned key", made.Key)
		told.add(made.Key)
	}
}

// The server and commands change keys at once: nothing is lost, and nobody is
// told that the database is locked.
func TestServerAndCommandsChangeKeysAtOnce(t *testing.T) {
	g := start(t, withKeysAPI)
	root := g.manager(t, "--owner", "acme")
	shared := g.makeOverHTTP(t, root.Key, `{"name":"shared","permissions":["farms:read"]}`)
	const commands = 12
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var made, renamed atomic.Int64
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a, err := g.try(g.sites[0], "POST", "/v1/api-keys", key(root.Key), jsonBody(`{"name":"by the server","permissions":[]}`))
				if err != nil || a.status != 201 {
					t.Errorf("create: %v %+v", err, a)
					return
				}
				made.Add(1)
				a, err = g.try(g.sites[0], "PATCH", "/v1/api-keys/"+shared.ID, key(root.Key), jsonBody(fmt.Sprintf(`{"name":"name %d"}`, renamed.Add(1))))
				if err != nil || a.status != 200 {
					t.Errorf("change: %v %+v", err, a)
					return
				}
			}
		})
	}
	var outputs []cli
	for i := range commands {
		switch i % 3 {
		case 0:
			outputs = append(outputs, g.hivegate(t, "apikey", "create", "--name", "by a command", "--owner", "acme", "--scope", "farms:read", "--json"))
		case 1:
			outputs = append(outputs, g.hivegate(t, "apikey", "rotate", shared.ID, "--json"))
		case 2:
			outputs = append(outputs, g.hivegate(t, "apikey", "disable", shared.ID), g.hivegate(t, "apikey", "enable", shared.ID))
		}
	}
	close(stop)
	wg.Wait()
	for _, out := range outputs {
		if out.code != 0 || strings.Contains(out.stderr, "locked") {
			t.Errorf("a command ended with %d: %s", out.code, out.stderr)
		}
	}
	if strings.Contains(g.log.String(), "locked") {
		t.Error("the server's log tells of a locked database")
	}
	counts := map[string]int64{}
	for cursor := ""; ; {
		m := g.get(t, "/v1/api-keys?limit=200&cursor="+cursor, key(root.Key)).asJSON(t)
		for _, rec := range m["data"].([]any) {
			counts[strings.SplitN(rec.(map[string]any)["name"].(string), " ", 2)[0]+"…"]++
			counts[rec.(map[string]any)["name"].(string)]++
		}
		if m["next_cursor"] == nil {
			break
		}
		cursor = m["next_cursor"].(string)
	}
	if counts["by the server"] != made.Load() || counts["by a command"] != commands/3 || counts["name…"] != 1 {
		t.Errorf("%d keys by the server and %d by commands, want %d and %d", counts["by the server"], counts["by a command"], made.Load(), commands/3)
	}
	var trail struct {
		Data []struct{ Action string }
	}
	if err := json.Unmarshal([]byte(g.hivegate(t, "audit", "--since", "1h", "--json").ok(t).stdout), &trail); err != nil {
		t.Fatal(err)
	}
	actions := map[string]int64{}
	for _, row := range trail.Data {
		actions[row.Action]++
	}
	if actions["update"] != renamed.Load() || actions["rotate"] != commands/3 || actions["disable"] != commands/3 || actions["enable"] != commands/3 {
		t.Errorf("the trail has %v, want %d updates and %d of the others", actions, renamed.Load(), commands/3)
	}
	g.hivegate(t, "audit", "verify").ok(t)
	t.Logf("%d keys by the server, %d changes by commands, %d changes of one key by the server", made.Load(), len(outputs), renamed.Load())
}

// From a revocation over HTTP to the refusal of the key, on one node under load:
// the request after the answer is refused, and a client that never stops asking
// is refused as soon.
func TestRevocationToRefusalUnderLoad(t *testing.T) {
	rounds := 40
	if full("HIVEGATE_REVOKE") {
		rounds = 1000
	}
	g := start(t, withKeysAPI)
	root := g.manager(t, "--owner", "acme")
	stop := make(chan struct{})
	var load sync.WaitGroup
	var served atomic.Int64
	defer func() { close(stop); load.Wait() }()
	for range 4 {
		k := g.makeOverHTTP(t, root.Key, `{"name":"load","permissions":["farms:read"]}`)
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if a, err := g.try(g.sites[0], "GET", "/farms", key(k.Key)); err != nil || a.status != 200 {
					t.Errorf("load: %v %+v", err, a)
					return
				}
				served.Add(1)
			}
		})
	}
	var fromSent, fromAnswer []time.Duration
	begin := time.Now()
	for range rounds {
		k := g.makeOverHTTP(t, root.Key, `{"name":"victim","permissions":["farms:read"]}`)
		g.get(t, "/farms", key(k.Key)).passed(t)
		refused := make(chan time.Time, 1)
		go func() { // a client that never stops asking
			for {
				a, err := g.try(g.sites[0], "GET", "/farms", key(k.Key))
				if err != nil || a.status != 200 {
					refused <- time.Now()
					return
				}
			}
		}()
		sent := time.Now()
		if a := g.do(t, "DELETE", "/v1/api-keys/"+k.ID, key(root.Key)); a.status != 204 {
			t.Fatalf("revoke: %d %s", a.status, a.body)
		}
		answered := time.Now()
		g.get(t, "/farms", key(k.Key)).refused(t, 401, "api_key_revoked")
		fromAnswer = append(fromAnswer, time.Since(answered))
		fromSent = append(fromSent, (<-refused).Sub(sent))
	}
	slices.Sort(fromSent)
	slices.Sort(fromAnswer)
	median := func(d []time.Duration) time.Duration { return d[len(d)/2].Round(10 * time.Microsecond) }
	longest := func(d []time.Duration) time.Duration { return d[len(d)-1].Round(10 * time.Microsecond) }
	if longest(fromSent) > time.Second {
		t.Errorf("a key was refused only %s after its revocation was sent", longest(fromSent))
	}
	t.Logf("%d revocations under %.0f requests/s: from sending the revocation to a refusal median %s, maximum %s; the next request after the answer was always refused (its own time: median %s, maximum %s)",
		rounds, float64(served.Load())/time.Since(begin).Seconds(), median(fromSent), longest(fromSent), median(fromAnswer), longest(fromAnswer))
}

// The report reads what the gate wrote: uses of keys and of their scopes.
func TestTheReportKnowsWhatWasUsed(t *testing.T) {
	g := start(t, withKeysAPI)
	g.create(t, "--scope", "farms:read", "--owner", "idle", "--plan", "big")
	k := g.create(t, "--scope", "farms:read", "--scope", "farms:write", "--owner", "busy", "--plan", "big", "--expires", "10d")
	g.get(t, "/farms", key(k.Key)).passed(t)
	g.stop(t) // last uses are written on a clean stop
	report := g.hivegate(t, "apikey", "report", "--json").object(t)
	ids := func(list string) (out []string) {
		for _, rec := range report[list].([]any) {
			out = append(out, rec.(map[string]any)["id"].(string))
		}
		return out
	}
	if never := ids("never_used"); len(never) != 1 || never[0] == k.ID {
		t.Errorf("never used: %v", never)
	}
	if soon := ids("expiring_14d"); !slices.Equal(soon, []string{k.ID}) {
		t.Errorf("expiring: %v", soon)
	}
	if out := g.hivegate(t, "apikey", "report").ok(t); !strings.Contains(out.stdout, "Never used: 1") {
		t.Errorf("for people:\n%s", out.stdout)
	}
}
