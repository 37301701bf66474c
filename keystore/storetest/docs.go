package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hivegate/hivegate/keystore"
)

// RunDocs checks a keystore.DocStore. open returns a fresh one.
func RunDocs(t *testing.T, open func(t *testing.T) keystore.DocStore) {
	t.Helper()
	ctx := context.Background()
	doc := func(version, data string) *keystore.Doc {
		return &keystore.Doc{Version: version, Data: []byte(data)}
	}
	swap := func(t *testing.T, s keystore.DocStore, name, old string, next *keystore.Doc, want bool) {
		t.Helper()
		done, err := s.SwapDoc(ctx, "totp", name, old, next)
		if err != nil || done != want {
			t.Fatalf("SwapDoc(%q, %q) = %v, %v; want %v", name, old, done, err, want)
		}
	}

	t.Run("a document is found by kind and name alone", func(t *testing.T) {
		s := open(t)
		if _, err := s.LoadDoc(ctx, "totp", "a"); !errors.Is(err, keystore.ErrNotFound) {
			t.Fatalf("LoadDoc of nothing: %v", err)
		}
		swap(t, s, "a", "", doc("1", "x\x00y"), true)
		got, err := s.LoadDoc(ctx, "totp", "a")
		if err != nil || got.Version != "1" || !bytes.Equal(got.Data, []byte("x\x00y")) {
			t.Fatalf("LoadDoc = %+v, %v", got, err)
		}
		for _, other := range [][2]string{{"signing", "a"}, {"totp", "A"}, {"totp", "a "}, {"totp", ""}} {
			if _, err := s.LoadDoc(ctx, other[0], other[1]); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("LoadDoc(%q, %q): %v", other[0], other[1], err)
			}
		}
	})
	t.Run("only the version that was read is replaced", func(t *testing.T) {
		s := open(t)
		swap(t, s, "a", "1", doc("2", "x"), false) // there is none
		swap(t, s, "a", "", doc("1", "x"), true)
		swap(t, s, "a", "", doc("2", "x"), false) // there is one
		swap(t, s, "a", "9", doc("2", "x"), false)
		swap(t, s, "a", "9", nil, false)
		swap(t, s, "a", "1", doc("2", ""), true)
		if got, err := s.LoadDoc(ctx, "totp", "a"); err != nil || got.Version != "2" || len(got.Data) != 0 {
			t.Fatalf("LoadDoc = %+v, %v", got, err)
		}
		swap(t, s, "a", "2", nil, true)
		swap(t, s, "a", "2", nil, false)
		swap(t, s, "a", "", nil, false)
	})
	t.Run("of simultaneous swaps one is done", func(t *testing.T) {
		s := open(t)
		swap(t, s, "a", "", doc("0", ""), true)
		var wg sync.WaitGroup
		var won atomic.Int64
		for i := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				done, err := s.SwapDoc(ctx, "totp", "a", "0", doc(fmt.Sprint("v", i), ""))
				if err != nil {
					t.Error(err)
				}
				if done {
					won.Add(1)
				}
			}()
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d swaps were done", won.Load())
		}
	})
	t.Run("names come in the order of their bytes, in pages", func(t *testing.T) {
		s := open(t)
		want := []string{"B", "a", "a:b", "z", "ä"}
		for _, name := range []string{"z", "ä", "a", "B", "a:b"} {
			swap(t, s, name, "", doc("1", ""), true)
		}
		var got []string
		for after := ""; ; {
			page, err := s.DocNames(ctx, "totp", after, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			got, after = append(got, page...), page[len(page)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("names = %q, want %q", got, want)
		}
		if names, err := s.DocNames(ctx, "signing", "", 10); err != nil || len(names) != 0 {
			t.Errorf("names of another kind = %q, %v", names, err)
		}
	})
}
