package policy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// net/http.ServeMux is the second opinion on which pattern is more specific and
// which two contradict each other. The grammars differ in two points: a trailing
// slash is {$} there, and {x...} also matches nothing there.

func muxPattern(pattern string) string {
	if strings.HasSuffix(pattern, "/") {
		return pattern + "{$}"
	}
	return pattern
}

// muxConflict says whether ServeMux refuses two patterns together.
func muxConflict(a, b string) (conflict bool) {
	defer func() { conflict = recover() != nil }()
	mux := http.NewServeMux()
	mux.Handle(a, http.NotFoundHandler())
	mux.Handle(b, http.NotFoundHandler())
	return false
}

// emptyRest says whether a path that both patterns match for ServeMux, but not
// here, is about: one ends in a slash where the rest of the other begins.
func emptyRest(a, b string) bool {
	for range 2 {
		if before, _, found := strings.Cut(a, "{r"); found && strings.HasSuffix(b, "/") && strings.Count(b, "/") == strings.Count(before, "/") {
			return true
		}
		a, b = b, a
	}
	return false
}

func randomPattern(r *rand.Rand) string {
	var p strings.Builder
	n := 1 + r.IntN(4)
	for i := range n {
		p.WriteByte('/')
		switch k := r.IntN(8); {
		case i == n-1 && k < 2:
			fmt.Fprintf(&p, "{r%d...}", i)
		case i == n-1 && k < 3:
		case k < 5:
			fmt.Fprintf(&p, "{p%d}", i)
		default:
			p.WriteByte("ab"[r.IntN(2)])
		}
	}
	return p.String()
}

func TestConflictsAreThoseOfServeMux(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	seen := map[bool]int{}
	for range 8000 {
		a, b := randomPattern(r), randomPattern(r)
		_, err := Compile(universe(t, nil), parseLines(t, "POST "+a+" public", "POST "+b+" public"))
		want := muxConflict(muxPattern(a), muxPattern(b))
		if emptyRest(a, b) {
			want = false
		}
		if (err != nil) != want {
			t.Fatalf("%s, %s: conflict %v (%v), ServeMux says %v", a, b, err != nil, err, want)
		}
		seen[want]++
	}
	if seen[true] < 500 || seen[false] < 500 {
		t.Errorf("conflicts seen: %v", seen)
	}
}

func TestServeMuxMethodsConflictOnlyWhereOursDo(t *testing.T) {
	// For ServeMux more methods on a more specific path are a conflict; here the
	// path alone decides. All other conflicts are the same.
	methods := []string{"GET", "HEAD", "POST", "*"}
	for _, p := range [][2]string{{"/a/{x}/c", "/a/b/{y}"}, {"/a", "/a"}, {"/a/{x}", "/a/b"}} {
		for _, m1 := range methods {
			for _, m2 := range methods {
				_, err := Compile(universe(t, nil), parseLines(t, m1+" "+p[0]+" public", m2+" "+p[1]+" public"))
				want := muxConflict(strings.TrimPrefix(m1+" "+p[0], "* "), strings.TrimPrefix(m2+" "+p[1], "* "))
				if p[1] == "/a/b" {
					want = false
				}
				if (err != nil) != want {
					t.Errorf("%s %s, %s %s: %v, ServeMux says %v", m1, p[0], m2, p[1], err, want)
				}
			}
		}
	}
}

type muxRoute int

func (muxRoute) ServeHTTP(http.ResponseWriter, *http.Request) {}

// muxFor builds a ServeMux with the routes that a method can match, each path
// once. {x...} becomes the two patterns that together match one segment or more.
func muxFor(tab *Table, method string) *http.ServeMux {
	mux := http.NewServeMux()
	taken := map[string]bool{}
	add := func(pattern string, r *Route) {
		if shape := shapeOf(pattern); !taken[shape] {
			taken[shape] = true
			mux.Handle(pattern, muxRoute(r.Index))
		}
	}
	var rests []*Route
	for _, kind := range []string{method, "GET", "*"} {
		for _, r := range tab.Routes() {
			if !slices.Contains(r.Methods, kind) || kind == "GET" && method != "GET" && method != "HEAD" {
				continue
			}
			if strings.HasSuffix(r.Pattern, "...}") {
				rests = append(rests, r)
			} else {
				add(muxPattern(r.Pattern), r)
			}
		}
	}
	for _, r := range rests {
		one := strings.TrimSuffix(r.Pattern, "...}") + "}"
		add(one, r)
		add(one+"/{more...}", r)
	}
	return mux
}

func shapeOf(pattern string) string {
	var out []string
	for _, s := range strings.Split(pattern, "/") {
		if strings.HasPrefix(s, "{") && s != "{$}" {
			s = "{" + strings.Repeat(".", strings.Count(s, "."))
		}
		out = append(out, s)
	}
	return strings.Join(out, "/")
}

func TestPrecedenceIsThatOfServeMux(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	methods := []string{"GET", "GET", "HEAD", "POST", "*"}
	compared, matched := 0, 0
	for range 1200 {
		tab := randomTable(t, r, methods)
		method := methods[r.IntN(4)]
		mux := muxFor(tab, method)
		for range 20 {
			path := randomPath(r)
			decoded, err := url.PathUnescape(path)
			if err != nil {
				t.Fatal(err)
			}
			w, ok := newWalk(method, path)
			if !ok {
				t.Fatal(path)
			}
			// The rule about trailing slashes is not ServeMux's.
			got := tab.root.find(&w, 1)
			h, _ := mux.Handler(&http.Request{Method: method, Host: "h", URL: &url.URL{Path: decoded, RawPath: path}})
			want, ours := h.(muxRoute)
			if !ours && strings.Contains(fmt.Sprintf("%T", h), "redirect") {
				continue // it would redirect to the path with a slash
			}
			compared++
			if ours {
				matched++
			}
			if (got != nil) != ours || ours && got.Index != int(want) {
				t.Fatalf("%s %s: %v, ServeMux says %v, of %s", method, path, got, h, names(tab))
			}
		}
	}
	if compared < 15000 || matched < 4000 {
		t.Errorf("compared %d, of which %d match", compared, matched)
	}
}
