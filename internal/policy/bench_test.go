package policy

import (
	"fmt"
	"strings"
	"testing"
)

// benchTable has n lines: literal ones, ones with parameters, and ones with a
// rest, in families as an API has them.
func benchTable(b testing.TB, u *Universe, n int) *Table {
	var lines []string
	for i := 0; len(lines) < n; i++ {
		lines = append(lines,
			fmt.Sprintf("GET /r%d r%d:read", i, i),
			fmt.Sprintf("POST /r%d r%d:write", i, i),
			fmt.Sprintf("GET,PATCH /r%d/{id} r%d:read", i, i),
			fmt.Sprintf("DELETE /r%d/{id} r%d:write r%d:delete", i, i, i),
			fmt.Sprintf("POST /r%d/{id}/workers/{workerId}/command r%d:command|r%d:admin", i, i, i),
			fmt.Sprintf("GET /r%d/{id}/files/{rest...} r%d:read", i, i))
	}
	return table(b, u, lines[:n]...)
}

// benchPaths are looked up in turn, spread over the table.
func benchPaths(n int) [][2]string {
	families := max(1, n/6)
	var out [][2]string
	for i := range 64 {
		f := i * 7919 % families
		out = append(out, [2]string{"GET", fmt.Sprintf("/r%d", f)}, [2]string{"GET", fmt.Sprintf("/r%d/12345", f)},
			[2]string{"POST", fmt.Sprintf("/r%d/12345/workers/678/command", f)}, [2]string{"GET", fmt.Sprintf("/r%d/12345/files/a/b/c.txt", f)})
	}
	return out
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 300, 3000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			tab, paths := benchTable(b, universe(b, nil), n), benchPaths(n)
			b.ReportAllocs()
			var m Match
			for i := 0; b.Loop(); i++ {
				p := &paths[i&255]
				tab.Match(p[0], p[1], &m)
				if m.Found != Matched {
					b.Fatal(p)
				}
			}
		})
	}
}

func BenchmarkMatchRefusals(b *testing.B) {
	tab := benchTable(b, universe(b, nil), 300)
	for name, p := range map[string][2]string{
		"not_found": {"GET", "/nowhere/at/all"}, "method": {"PUT", "/r3/1"}, "escaped": {"GET", "/r3/caf%C3%A9"}, "slash": {"GET", "/r3/1/files/a/"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var m Match
			for b.Loop() {
				tab.Match(p[0], p[1], &m)
			}
		})
	}
}

func heldScopesText(n int, narrowed bool) []string {
	var out []string
	for i := range n {
		s := fmt.Sprintf("r%d:read", i)
		if narrowed {
			s += fmt.Sprintf("@id=%d,12345", i)
		}
		out = append(out, s)
	}
	return out
}

func BenchmarkCheck(b *testing.B) {
	u := universe(b, nil)
	tab := benchTable(b, u, 3000)
	for _, narrowed := range []bool{false, true} {
		for _, n := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("narrowed=%v/scopes=%d", narrowed, n), func(b *testing.B) {
				g := u.CompileLenient(heldScopesText(n, narrowed))
				var m Match
				tab.Match("GET", "/r0/12345", &m)
				b.ReportAllocs()
				for b.Loop() {
					if m.Route.Check(g, &m).Kind != VerdictOK {
						b.Fatal("refused")
					}
				}
			})
		}
	}
	b.Run("objects=1000", func(b *testing.B) {
		var ids []string
		for i := range 1000 {
			ids = append(ids, fmt.Sprint(i+12000))
		}
		g := u.CompileLenient([]string{"r0:read@id=" + strings.Join(ids, ",")})
		var m Match
		tab.Match("GET", "/r0/12345", &m)
		b.ReportAllocs()
		for b.Loop() {
			if m.Route.Check(g, &m).Kind != VerdictOK {
				b.Fatal("refused")
			}
		}
	})
}

func BenchmarkCompileGrants(b *testing.B) {
	u := universe(b, nil)
	benchTable(b, u, 300)
	for _, n := range []int{1, 10, 1000} {
		b.Run(fmt.Sprintf("scopes=%d", n), func(b *testing.B) {
			scopes := heldScopesText(n, false)
			b.ReportAllocs()
			for b.Loop() {
				u.CompileLenient(scopes)
			}
		})
	}
}

func BenchmarkCompileTable(b *testing.B) {
	for _, n := range []int{300, 3000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			for b.Loop() {
				benchTable(b, universe(b, nil), n)
			}
		})
	}
}

func BenchmarkCheckPath(b *testing.B) {
	for name, p := range map[string]string{
		"plain": "/farms/12345/workers/678/command", "escaped": "/farms/12345/files/a%20b", "unicode": "/farms/caf%C3%A9/files",
		"refused": "/farms/../admin", "long": "/" + strings.Repeat("abcdefgh/", 100),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = CheckPath(p, PathAllow{})
			}
		})
	}
}

func BenchmarkCheckTarget(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if CheckTarget("/farms/12345/workers?limit=50&cursor=abcdef&sort=name", PathAllow{}) != nil {
			b.Fatal("refused")
		}
	}
}

func TestTheHotPathDoesNotAllocate(t *testing.T) {
	u := universe(t, nil)
	tab := benchTable(t, u, 300)
	whole := u.CompileLenient(heldScopesText(1000, false))
	narrowed := u.CompileLenient(append(heldScopesText(1000, true), "*@workerId=678", "r1:*@id=9"))
	lacking := u.CompileLenient([]string{"x:y", "*@id=7"})
	var m Match
	lookup := func(method, path string) func() {
		return func() {
			tab.Match(method, path, &m)
			if m.Route != nil {
				m.Route.Check(whole, &m)
				m.Route.Check(narrowed, &m)
				m.Route.Check(lacking, &m)
				m.Route.Check(nil, &m)
				m.Param("id")
				m.Param("rest")
			}
			whole.Stale(u)
		}
	}
	for name, fn := range map[string]func(){
		"literal":      lookup("GET", "/r3"),
		"param":        lookup("GET", "/r3/12345"),
		"deep":         lookup("POST", "/r1/12345/workers/678/command"),
		"rest":         lookup("GET", "/r3/12345/files/a/b/c"),
		"slash":        lookup("GET", "/r3/12345/files/a/b/"),
		"hidden slash": lookup("GET", "/r3/"),
		"not found":    lookup("GET", "/nowhere"),
		"method":       lookup("PUT", "/r3/1"),
		"lower case":   lookup("get", "/r3/1"),
		"path":         func() { _ = CheckPath("/farms/12345/workers/678/command", PathAllow{}) },
		"bad path":     func() { _ = CheckPath("/farms/12345/../678/command", PathAllow{}) },
		"target":       func() { _ = CheckTarget("/farms/12345/workers?limit=50&_cursor=%20x", PathAllow{}) },
		"absolute":     func() { _ = CheckTarget("http://example.com:80/farms?a", PathAllow{}) },
		"override":     func() { _ = CheckTarget("/farms?%5fmethod=PUT", PathAllow{}) },
	} {
		if n := testing.AllocsPerRun(100, fn); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
