package keyapi_test

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

func TestARetriedCreateMakesNoSecondKey(t *testing.T) {
	s := newSite(t, refusal.Problem)
	const body = `{"name":"ci","permissions":[]}`
	first := s.do(admin(), "POST", "/api-keys", body, idempotencyKey("once")).want(t, 201, "")
	id := first.json(t)["id"].(string)
	again := s.do(admin(), "POST", "/api-keys", body, idempotencyKey("once")).want(t, 409, "conflict")
	if again.header.Get("Location") != base+"/api-keys/"+id || !strings.Contains(string(again.body), id) {
		t.Errorf("the conflict does not name %s: %s", id, again.body)
	}
	if strings.Contains(string(again.body), first.json(t)["key"].(string)[20:]) {
		t.Error("the key is shown again")
	}
	s.do(admin(), "POST", "/api-keys", `{"name":"other","permissions":[]}`, idempotencyKey("once")).want(t, 409, "conflict")
	if n := len(s.listed(admin(), "")); n != 1 {
		t.Errorf("%d keys, want 1", n)
	}
	// Another caller's retry is no retry, nor is one after ten minutes.
	s.do(ofOwner("acme"), "POST", "/api-keys", body, idempotencyKey("once")).want(t, 201, "")
	s.pass(10 * time.Minute)
	s.do(admin(), "POST", "/api-keys", body, idempotencyKey("once")).want(t, 201, "")
}

func TestARefusedCreateMayBeCorrectedUnderTheSameIdempotencyKey(t *testing.T) {
	s := newSite(t, refusal.Problem)
	s.do(admin(), "POST", "/api-keys", `{"name":"ci","permissions":["nope:nope"]}`, idempotencyKey("k")).want(t, 422, "field_invalid")
	s.do(admin(), "POST", "/api-keys", `{"name":"ci","permissions":[]}`, idempotencyKey("k")).want(t, 201, "")
}

func TestARetriedRotationRotatesOnce(t *testing.T) {
	s := newSite(t, refusal.Problem)
	k := s.make(admin(), `{"name":"ci","permissions":[]}`)
	s.do(admin(), "POST", "/api-keys/"+k.ID+"/rotate", "", idempotencyKey("r")).want(t, 200, "")
	secret := string(s.record(k.ID).Secrets[0].Hash)
	got := s.do(admin(), "POST", "/api-keys/"+k.ID+"/rotate", "", idempotencyKey("r")).want(t, 409, "conflict")
	if got.header.Get("Location") != base+"/api-keys/"+k.ID || string(s.record(k.ID).Secrets[0].Hash) != secret {
		t.Error("rotated twice, or the conflict names no key")
	}
}

func TestTwentyRetriesAtOnceMakeOneKey(t *testing.T) {
	s := newSite(t, refusal.Problem)
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 20 {
		wg.Go(func() {
			got := s.do(admin(), "POST", "/api-keys", `{"name":"ci","permissions":[]}`, idempotencyKey("storm"))
			mu.Lock()
			defer mu.Unlock()
			statuses[got.status]++
		})
	}
	wg.Wait()
	if statuses[201] != 1 || statuses[409] != 19 || len(s.listed(admin(), "")) != 1 {
		t.Errorf("statuses %v, %d keys", statuses, len(s.listed(admin(), "")))
	}
}

// A process may die after it claimed an Idempotency-Key and before, or after, it
// made the key.
func TestARetryAfterACrashMakesTheKeyOrFindsIt(t *testing.T) {
	s := newSite(t, refusal.Problem)
	const body = `{"name":"ci","permissions":[]}`
	s.do(admin(), "POST", "/api-keys", body, idempotencyKey("dies")).want(t, 201, "")
	names, err := s.store.DocNames(t.Context(), "idempotency", "", 10)
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	rewind := func(id string) {
		doc, err := s.store.LoadDoc(t.Context(), "idempotency", names[0])
		if err != nil {
			t.Fatal(err)
		}
		var claim map[string]any
		if err := json.Unmarshal(doc.Data, &claim); err != nil {
			t.Fatal(err)
		}
		delete(claim, "done")
		if id != "" {
			claim["id"] = id
		}
		data, err := json.Marshal(claim)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := s.store.SwapDoc(t.Context(), "idempotency", names[0], doc.Version, &keystore.Doc{Version: rand.Text(), Data: data}); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	rewind("") // the key was made, the claim does not say so
	s.do(admin(), "POST", "/api-keys", body, idempotencyKey("dies")).want(t, 409, "conflict")
	lost := keystore.NewID().String()
	rewind(lost) // claimed, not made; perhaps still at work
	s.do(admin(), "POST", "/api-keys", body, idempotencyKey("dies")).want(t, 409, "conflict")
	s.pass(time.Minute)
	got := s.do(admin(), "POST", "/api-keys", body, idempotencyKey("dies")).want(t, 201, "")
	if id := got.json(t)["id"]; id != lost {
		t.Errorf("made as %v, want the id that was claimed, %s", id, lost)
	}
}
