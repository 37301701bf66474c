package limiter

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// TestTimesKeepTheirMonotonicReading: a clock that an administrator sets back
// or forth must refill nothing. String shows the reading.
func TestTimesKeepTheirMonotonicReading(t *testing.T) {
	m := NewMemory(MemoryOptions{SweepEvery: -1})
	defer m.Close()
	now := time.Now()
	at := m.clock(now)
	if !strings.Contains(m.base.String(), "m=") || !strings.Contains(at.t.String(), "m=") {
		t.Fatalf("base %v, instant %v: the monotonic reading is lost", m.base, at.t)
	}
	if d := now.Sub(at.t); d < 0 || d >= time.Microsecond {
		t.Fatalf("%v was cut off, want less than a microsecond", d)
	}
	// Without a monotonic reading, too, whole microseconds of the wall clock.
	for _, wall := range []time.Time{time.Unix(4_102_444_800, 1999), time.Unix(100, 999_999_999)} {
		if got := m.clock(wall).t; !got.Equal(wall.Truncate(time.Microsecond)) {
			t.Errorf("%v became %v", wall, got)
		}
	}
}

func TestABucketKeepsItsSizeClass(t *testing.T) {
	if n := unsafe.Sizeof(bucket{}); n > 112 {
		t.Errorf("a bucket takes %d bytes, and so the next size class: 112 is the last", n)
	}
}

// TestImports: the limiter decides, and knows nothing of HTTP, Caddy, logs,
// keys or drivers; those who use it do.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			foreign := strings.Contains(strings.Split(path, "/")[0], ".") && path != "golang.org/x/time/rate"
			if foreign || strings.HasPrefix(path, "net") || path == "log" || path == "os" || path == "database/sql" {
				t.Errorf("%s imports %s: the limiter may import only the standard library's parts without I/O, and x/time/rate", name, path)
			}
		}
	}
}
