package keyconvert

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/hivegate/hivegate/keystore"
)

// Tyk's keys begin with the organisation: the first 16 are converted, and every
// other one is named.
func TestOfKeysThatBeginAlikeTheFirst16AreConverted(t *testing.T) {
	var list []string
	key := func(org, i int) string { return fmt.Sprintf("5e9d9544a1dcd60001d0ed%02d%032d", org, i) }
	for i := range 20 {
		list = append(list, fmt.Sprintf(`{"key":%q,"data":{"alias":"one %d"}}`, key(20, i), i))
	}
	list = append(list, fmt.Sprintf(`{"key":%q,"data":{"alias":"alone"}}`, "6"+key(20, 0)[1:]))
	entries, problems, err := Tyk([]byte(`{"keys":[` + strings.Join(list, ",") + `]}`))
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	lines, problems, _ := Lines(entries, Options{Cost: bcrypt.MinCost})
	if len(lines) != 17 || len(problems) != 4 {
		t.Fatalf("%d lines and %d problems, want 17 and 4", len(lines), len(problems))
	}
	for i, l := range lines[:16] {
		if l.Name != fmt.Sprintf("one %d", i) || l.Hint != key(20, i)[:keystore.MaxHint] {
			t.Errorf("line %d is of %s, with the hint %s", i, l.Name, l.Hint)
		}
		if bcrypt.CompareHashAndPassword([]byte(l.Hash), []byte(key(20, i))) != nil {
			t.Errorf("line %d has the hash of another key", i)
		}
	}
	if l := lines[16]; l.Name != "alone" || len(l.Hint) != keystore.MinHint {
		t.Errorf("the key that stands alone is %s with the hint %s", l.Name, l.Hint)
	}
	for i, p := range problems {
		if p.Where != fmt.Sprintf("keys[%d]", 16+i) || !strings.Contains(p.Msg, "apikey create") || strings.Contains(p.Msg, key(20, 16+i)[:8]) {
			t.Errorf("problem %d: %s", i, p)
		}
	}
}
