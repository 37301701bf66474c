package storetest

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/hivegate/hivegate/keystore"
)

var dataKeyTests = []singleTest{
	{"there is no data key until one is put", func(t *testing.T, s keystore.Store) {
		if got, err := s.DataKey(t.Context()); got != nil || err != nil {
			t.Errorf("DataKey: %q, %v, want nil", got, err)
		}
	}},
	{"PutDataKey compares and sets, and returns what is stored", func(t *testing.T, s keystore.Store) {
		one, two := []byte{0, 1, 0xff}, []byte("two")
		for _, step := range []struct {
			what             string
			old, sealed, now []byte
		}{
			{"replacing what is not there", two, one, nil},
			{"the first", nil, one, one},
			{"a second first", nil, two, one},
			{"the wrong old", two, two, one},
			{"the right old", one, two, two},
			{"the old one again", one, one, two},
		} {
			got, err := s.PutDataKey(t.Context(), step.old, step.sealed)
			if err != nil || !bytes.Equal(got, step.now) {
				t.Errorf("%s: %q, %v, want %q", step.what, got, err, step.now)
			}
			if got, err := s.DataKey(t.Context()); err != nil || !bytes.Equal(got, step.now) {
				t.Errorf("%s: DataKey is %q, %v, want %q", step.what, got, err, step.now)
			}
		}
	}},
	{"an empty data key is refused", func(t *testing.T, s keystore.Store) {
		for _, sealed := range [][]byte{nil, {}} {
			if _, err := s.PutDataKey(t.Context(), nil, sealed); err == nil {
				t.Errorf("%#v was stored", sealed)
			}
		}
	}},
	{"putting a data key is no change of a key", func(t *testing.T, s keystore.Store) {
		before := seq(t, s)
		if _, err := s.PutDataKey(t.Context(), nil, []byte("one")); err != nil {
			t.Fatal(err)
		}
		if after := seq(t, s); after != before {
			t.Errorf("the change number went from %d to %d", before, after)
		}
	}},
	{"of parallel first data keys one wins, and all learn which", func(t *testing.T, s keystore.Store) {
		raceDataKey(t, s, s)
	}},
}

// raceDataKey puts a different first data key from many sides at once.
func raceDataKey(t *testing.T, a, b keystore.Store) {
	const n = 10
	var got [n][]byte
	var winners atomic.Int32
	parallel(n, func(i int) {
		mine := fmt.Appendf(nil, "data key %d", i)
		stored, err := []keystore.Store{a, b}[i%2].PutDataKey(t.Context(), nil, mine)
		if err != nil {
			t.Errorf("PutDataKey: %v", err)
		}
		if bytes.Equal(stored, mine) {
			winners.Add(1)
		}
		got[i] = stored
	})
	if winners.Load() != 1 {
		t.Errorf("%d winners, want 1", winners.Load())
	}
	for i := range got {
		if !bytes.Equal(got[i], got[0]) {
			t.Errorf("%q and %q were both said to be stored", got[0], got[i])
		}
	}
}
