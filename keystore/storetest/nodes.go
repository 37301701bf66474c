package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

// RunNodes checks a keystore.NodeStore. open returns two handles on one fresh
// database.
func RunNodes(t *testing.T, open func(t *testing.T) (a, b keystore.NodeStore)) {
	t.Helper()
	node := func(id string, seq int64) keystore.Node {
		return keystore.Node{ID: id, Name: "host pid " + id, Seq: seq, MaxStaleness: time.Minute}
	}
	beat := func(t *testing.T, s keystore.NodeStore, n keystore.Node) {
		t.Helper()
		if err := s.Beat(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	want := func(t *testing.T, s keystore.NodeStore, want ...keystore.Node) {
		t.Helper()
		got, err := s.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i].Silent < 0 || got[i].Silent > time.Minute {
				t.Errorf("%s is silent for %s", got[i].Name, got[i].Silent)
			}
			got[i].Silent = 0
		}
		if !slices.Equal(got, want) {
			t.Errorf("nodes are %+v, want %+v", got, want)
		}
	}
	t.Run("each handle sees the nodes of both, and how far they are", func(t *testing.T) {
		a, b := open(t)
		want(t, a)
		beat(t, a, node("1", 7))
		beat(t, b, node("2", 3))
		want(t, a, node("1", 7), node("2", 3))
		beat(t, b, node("2", 8))
		want(t, b, node("1", 7), node("2", 8))
		for range 2 {
			if err := b.Leave(t.Context(), "1"); err != nil {
				t.Fatal(err)
			}
		}
		want(t, a, node("2", 8))
	})
	t.Run("nodes of one name are two nodes", func(t *testing.T) {
		a, _ := open(t)
		x, y := node("x", 1), node("y", 2)
		y.Name = x.Name
		beat(t, a, x)
		beat(t, a, y)
		want(t, a, x, y)
	})
	t.Run("nodes that beat at the same time lose nothing", func(t *testing.T) {
		a, b := open(t)
		parallel(8, func(i int) {
			s := []keystore.NodeStore{a, b}[i%2]
			for seq := range int64(10) {
				if err := s.Beat(t.Context(), node(string(rune('a'+i)), seq)); err != nil {
					t.Error(err)
				}
			}
		})
		all := make([]keystore.Node, 8)
		for i := range all {
			all[i] = node(string(rune('a'+i)), 9)
		}
		want(t, b, all...)
	})
}
