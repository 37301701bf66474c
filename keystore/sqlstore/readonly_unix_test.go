//go:build unix

package sqlstore_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// TestAReadOnlyFolderSaysWhatToDo opens keystores as a user who may not write
// where they are. Root may write everywhere, so root lets a child process do it
// as nobody.
func TestAReadOnlyFolderSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "closed", "keys.db")
	if err := open(t, path, sqlstore.Options{Create: true}).Close(); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "closed", "other.db")
	for file, mode := range map[string]os.FileMode{path: 0o444, filepath.Dir(path): 0o555, dir: 0o755, filepath.Dir(dir): 0o755} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Dir(path), 0o755) })
	for _, file := range []string{path, missing} {
		what := "open"
		if file == missing {
			what = "create"
		}
		cmd := command(t, what, file)
		if os.Getuid() == 0 {
			cmd.Path = copySelf(t, cmd.Path)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			cmd.Dir = "/"
		}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "writable for the user that runs hivegate") || !strings.Contains(string(out), file) {
			t.Errorf("%s: %v, %q, want an error that names the file and what it needs", what, err, out)
		}
	}
}

// copySelf puts the test binary where any user may run it.
func copySelf(t *testing.T, self string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hivegate-sqlstore")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(filepath.Join(dir, "child"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if closeErr := to.Close(); err != nil || closeErr != nil {
		t.Fatal(err, closeErr)
	}
	return to.Name()
}
