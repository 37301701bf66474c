package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const goldenCut = "----------\n"

// TestAdaptGoldens adapts every file of testdata/adapt: a Caddyfile, a line of
// dashes, and the JSON or the error that it gives. Placeholders stay as they
// are, and every mistake names file and line.
func TestAdaptGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			caddyfile, want, _ := strings.Cut(string(raw), goldenCut)
			got := adaptText(caddyfile)
			if *update {
				if err := os.WriteFile(file, []byte(caddyfile+goldenCut+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			if strings.HasPrefix(filepath.Base(file), "bad_") {
				checkMistake(t, got)
			}
		})
	}
}

func adaptText(caddyfile string) string {
	// Routes imported from a file come with that file's name and line.
	out, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "testdata/adapt/Caddyfile"})
	if err != nil {
		// Imported files are named by their full path.
		dir, _ := filepath.Abs(".")
		return "error: " + strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "") + "\n"
	}
	var b bytes.Buffer
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			b.WriteString("warning: " + w.Message + "\n")
		}
	}
	if err := json.Indent(&b, out, "", "  "); err != nil {
		return "error: " + err.Error() + "\n"
	}
	b.WriteByte('\n')
	return b.String()
}

// checkMistake holds what every mistake promises: one line, with file and line.
func checkMistake(t *testing.T, got string) {
	t.Helper()
	if !strings.HasPrefix(got, "error: ") || strings.Count(got, "\n") != 1 {
		t.Errorf("a mistake must give one line: %q", got)
	}
	if !strings.Contains(got, "testdata/adapt/Caddyfile:") && !strings.Contains(got, "bad.routes:") {
		t.Errorf("the mistake names no file and line: %q", got)
	}
}
