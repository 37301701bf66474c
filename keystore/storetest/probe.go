package storetest

import (
	"testing"

	"github.com/hivegate/hivegate/keystore"
)

var probeTests = []singleTest{
	{"a probe knows keys, revoked ones too, and nobody else", func(t *testing.T, s keystore.Store) {
		p, ok := s.(keystore.Prober)
		if !ok {
			return // Get does
		}
		batch, probe := p.Prober()
		if batch == 0 {
			return
		}
		create(t, s, newRecord(1), newRecord(3), newRecord(5))
		update(t, s, newID(3), func(rec *keystore.Record) { rec.RevokedAt = epoch })
		for n := 1; n <= batch; n++ {
			// From one id to as many as are allowed; some are asked for twice.
			ids := make([]keystore.ID, n)
			for i := range ids {
				ids[i] = newID((i + n) % 7)
			}
			known := make([]bool, n)
			if err := probe(t.Context(), ids, known); err != nil {
				t.Fatalf("%d ids: %v", n, err)
			}
			for i := range ids {
				if want := (i+n)%7%2 == 1; known[i] != want {
					t.Errorf("%d ids: %s known is %v, want %v", n, ids[i][:], known[i], want)
				}
			}
		}
	}},
}
