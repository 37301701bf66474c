package keyapi_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hivegate/hivegate/internal/keyapi"
	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

// For random grants G of a caller and requests R: what may be handed on opens no
// route, on no object, that the caller does not open.
func TestWhatMayBeHandedOnOpensNothingThatTheCallerDoesNot(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 55))
	u, err := policy.NewUniverse(nil, [][2]string{{"b:z", "b:x"}})
	if err != nil {
		t.Fatal(err)
	}
	scopes := []string{"a:x", "a:y", "a:*", "b:x", "b:y", "b:z", "b:*", "*"}
	var lines []policy.Line
	for i, s := range scopes {
		for j, path := range []string{"", "/{farm}", "/{farm}/{worker}"} {
			lines = append(lines, policy.Line{Methods: []string{"GET"}, Pattern: fmt.Sprintf("/r%d%s", 10*i+j, path), Require: policy.Requirement{Scopes: [][]string{{s}}}})
		}
	}
	lines = append(lines, policy.Line{Methods: []string{"GET"}, Pattern: "/both/{farm}", Require: policy.Requirement{Scopes: [][]string{{"a:x"}, {"b:x", "b:y"}}}})
	table, err := policy.Compile(u, lines)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for i := range scopes {
		paths = append(paths, fmt.Sprintf("/r%d", 10*i))
		for _, farm := range []string{"1", "2", "3"} {
			paths = append(paths, fmt.Sprintf("/r%d/%s", 10*i+1, farm), "/both/"+farm)
			for _, worker := range []string{"1", "2"} {
				paths = append(paths, fmt.Sprintf("/r%d/%s/%s", 10*i+2, farm, worker))
			}
		}
	}
	random := func() []string {
		var out []string
		for range rnd.IntN(4) {
			s := scopes[rnd.IntN(len(scopes))]
			switch rnd.IntN(4) {
			case 0:
				s += fmt.Sprintf("@farm=%d", 1+rnd.IntN(3))
			case 1:
				s += fmt.Sprintf("@farm=%d,%d", 1+rnd.IntN(3), 1+rnd.IntN(3))
			case 2:
				s += fmt.Sprintf("@worker=%d", 1+rnd.IntN(2))
			}
			out = append(out, s)
		}
		return out
	}
	opens := func(held []string, path string) bool {
		var m policy.Match
		table.Match("GET", path, &m)
		return m.Found == policy.Matched && m.Route.Check(u.CompileLenient(held), &m).Kind == policy.VerdictOK
	}
	rights := keyapi.Rights{Universe: u, AnyOwner: "a:x"}
	allowed, refused := 0, 0
	for range 20_000 {
		c := &keyapi.Caller{Subject: "owner:o", Owner: "o", Scopes: random(), AnyOwner: rnd.IntN(2) == 0}
		before := &keystore.Record{Owner: "o", Scopes: random(), Disabled: rnd.IntN(2) == 0}
		after := before.Clone()
		action := []string{"create", "update", "rotate", "enable"}[rnd.IntN(4)]
		switch action {
		case "create":
			before, after = nil, &keystore.Record{Owner: "o", Scopes: random()}
		case "update":
			after.Scopes = random()
		case "enable":
			after.Disabled = false
		}
		if rights.Judge(c, action, before, after) != nil {
			refused++
			continue
		}
		allowed++
		for _, rec := range []*keystore.Record{before, after} {
			if rec == nil {
				continue
			}
			for _, path := range paths {
				if opens(rec.Scopes, path) && !opens(c.Scopes, path) {
					t.Fatalf("%s: %v may hand on %v, which opens %s", action, c.Scopes, rec.Scopes, path)
				}
			}
		}
	}
	if allowed < 1000 || refused < 1000 {
		t.Errorf("%d allowed, %d refused: too few to mean anything", allowed, refused)
	}
}

// Whatever the caller holds: another owner's key does not exist for it.
func TestAnotherOwnersKeyDoesNotExistWhateverTheCallerHolds(t *testing.T) {
	u, err := policy.NewUniverse(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	rights := keyapi.Rights{Universe: u}
	for _, subject := range []string{"", "owner:acme", "key:key_AAAAAAAAAAAA", "jwt:i:u"} {
		c := &keyapi.Caller{Subject: subject, Scopes: []string{"*"}}
		for _, rec := range []*keystore.Record{{Owner: "rival"}, {ID: keystore.NewID()}, {Owner: "key:key_BBBBBBBBBBBB"}, {Owner: "jwt:i:other"}} {
			for _, action := range []string{"update", "rotate", "enable", "disable", "revoke"} {
				ref := rights.Judge(c, action, rec, rec)
				if ref == nil || ref.Reason != refusal.ReasonNotFound {
					t.Errorf("%q may %s a key of %q: %v", subject, action, rec.Subject(), ref)
				}
			}
		}
	}
}
