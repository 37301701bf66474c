package policy

import (
	"math/rand/v2"
	"testing"
)

func TestRelationOfPatternsIsThatOfThePathsTheyMatch(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	// Every path over these segments that is long enough to tell patterns of up
	// to four segments apart.
	var paths []string
	var grow func(path string, depth int)
	grow = func(path string, depth int) {
		if depth > 0 {
			paths = append(paths, path)
		}
		if depth == 5 {
			return
		}
		for _, s := range []string{"/a", "/b", "/c"} {
			grow(path+s, depth+1)
		}
		if depth < 5 {
			paths = append(paths, path+"/")
		}
	}
	grow("", 0)
	var seen [5]int
	for range 1500 {
		a, b := randomPattern(r), randomPattern(r)
		var both, onlyA, onlyB bool
		for _, p := range paths {
			inA, inB := slowMatches(a, p), slowMatches(b, p)
			both, onlyA, onlyB = both || inA && inB, onlyA || inA && !inB, onlyB || inB && !inA
		}
		want := overlapping
		switch {
		case !both:
			want = disjoint
		case !onlyA && !onlyB:
			want = equivalent
		case !onlyA:
			want = moreSpecific
		case !onlyB:
			want = moreGeneral
		}
		p, err := parsePattern(a, PathAllow{})
		if err != nil {
			t.Fatal(err)
		}
		q, err := parsePattern(b, PathAllow{})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.compare(q); got != want {
			t.Fatalf("%s, %s: %v, want %v", a, b, got, want)
		}
		if want != disjoint {
			if path := p.common(q); !slowMatches(a, path) || !slowMatches(b, path) {
				t.Fatalf("%s, %s: not both match %s", a, b, path)
			}
		}
		seen[want]++
	}
	for k, n := range seen {
		if n < 20 {
			t.Errorf("relation %d was met %d times", k, n)
		}
	}
}
