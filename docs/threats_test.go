// Package docs holds the documents, and the tests that hold them to the code.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testsOf are the names of all tests of the module.
func testsOf(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	funcRE := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range funcRE.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(names) < 100 {
		t.Fatalf("%d tests found: %v", len(names), err)
	}
	return names
}

// A document that names a test which is gone promises what nobody checks.
func TestEveryTestThatADocumentNamesExists(t *testing.T) {
	tests := testsOf(t)
	namedRE := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z0-9]\\w*)`")
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, "../README.md", "../CHANGELOG.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found := namedRE.FindAllSubmatch(text, -1)
		if name == "threats.md" && len(found) < 50 {
			t.Errorf("threats.md names %d tests", len(found))
		}
		for _, m := range found {
			if !tests[string(m[1])] {
				t.Errorf("%s names %s, and there is no such test", name, m[1])
			}
		}
	}
}

// Every row says what an attacker tries, what stops it, and which test shows it.
func TestEveryRowOfTheThreatsTableIsComplete(t *testing.T) {
	text, err := os.ReadFile("threats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n## Step by step\n")
	if !ok {
		t.Fatal("threats.md has no section \"Step by step\"")
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	rows := 0
	for _, line := range strings.Split(section, "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| step") {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 4 {
			t.Errorf("%d cells, want 4: %s", len(cells), line)
			continue
		}
		for _, c := range cells {
			if strings.TrimSpace(c) == "" {
				t.Errorf("an empty cell: %s", line)
			}
		}
		if !strings.Contains(cells[3], "`Test") && !strings.Contains(cells[3], "`Fuzz") {
			t.Errorf("no test named: %s", line)
		}
	}
	if rows < 20 {
		t.Errorf("%d rows", rows)
	}
}
