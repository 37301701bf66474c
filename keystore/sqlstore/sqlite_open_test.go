package sqlstore_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

func TestAMissingFileIsMadeOnlyOnDemand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "folder", "keys.db")
	_, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "apikey create") {
		t.Errorf("error %v, want fs.ErrNotExist that names the path and the command", err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening made the folder: %v", err)
	}
	open(t, path, sqlstore.Options{Create: true})
	open(t, path, sqlstore.Options{}) // now it is there
}

func TestOnlyTheOwnerMayReadTheFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hivegate")
	s := open(t, filepath.Join(dir, "keys.db"), sqlstore.Options{Create: true})
	if err := s.Create(t.Context(), keystore.Change{}, records(1)...); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 3 { // keys.db, -wal, -shm
		t.Errorf("files: %v", entries)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o, want 600", entry.Name(), mode)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v, want 700", info.Mode(), err)
	}
}

func TestAPathMayHoldAnyCharacter(t *testing.T) {
	for _, name := range []string{"a b.db", "50%.db", "a?b=c.db", "a#b.db", "é🐝.db", "'quoted'.db", "a%20b.db", "a&b;c.db"} {
		path := filepath.Join(t.TempDir(), name)
		s := open(t, path, sqlstore.Options{Create: true})
		rec := records(1)[0]
		if err := s.Create(t.Context(), keystore.Change{}, rec); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		if _, err := open(t, path, sqlstore.Options{}).Get(t.Context(), rec.ID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAForeignFileIsRefusedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.db")
	exec(t, foreign, `CREATE TABLE users (id INTEGER); INSERT INTO users VALUES (1)`)
	text := filepath.Join(dir, "text.db")
	write(t, text, []byte(strings.Repeat("these are not the keys you are looking for\n", 200)))
	short := filepath.Join(dir, "short.db")
	write(t, short, []byte("hello"))
	for _, path := range []string{foreign, text, short} {
		before := read(t, path)
		for _, create := range []bool{false, true} {
			_, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{Create: create})
			if !errors.Is(err, sqlstore.ErrForeign) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: error %v, want ErrForeign with the path", filepath.Base(path), err)
			}
		}
		if !bytes.Equal(read(t, path), before) {
			t.Errorf("%s was changed", filepath.Base(path))
		}
	}
}

func TestAnEmptyFileBecomesAKeystoreOnlyOnDemand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	write(t, path, nil)
	if _, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{}); !errors.Is(err, sqlstore.ErrForeign) {
		t.Errorf("error %v, want ErrForeign", err)
	}
	open(t, path, sqlstore.Options{Create: true})
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir:                           "folder",
		os.DevNull:                    "regular file",
		filepath.Join(dir, "f", "db"): "not a directory",
	} {
		if want == "not a directory" {
			write(t, filepath.Join(dir, "f"), nil)
		}
		_, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{Create: true})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want one with %q and the path", path, err, want)
		}
	}
}

func TestAKeystoreOfANewerHivegateIsRefusedAndLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	if err := open(t, path, sqlstore.Options{Create: true}).Close(); err != nil {
		t.Fatal(err)
	}
	exec(t, path, `INSERT INTO hivegate_schema (version) VALUES (999)`)
	before := read(t, path)
	_, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{Create: true})
	if !errors.Is(err, sqlstore.ErrNewer) || !strings.Contains(err.Error(), "made by a newer hivegate") || !strings.Contains(err.Error(), "999") {
		t.Errorf("error %v, want ErrNewer with the version", err)
	}
	if !bytes.Equal(read(t, path), before) {
		t.Error("the file was changed")
	}
}

func TestADamagedFileSaysWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	s := open(t, path, sqlstore.Options{Create: true})
	recs := records(2000)
	if err := s.Create(t.Context(), keystore.Change{}, recs...); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data := read(t, path)
	for i := 64 * 1024; i < len(data); i++ {
		data[i] = 0x5a
	}
	write(t, path, data)
	s = open(t, path, sqlstore.Options{}) // opening scans nothing
	var failed int
	for _, rec := range recs {
		_, err := s.Get(t.Context(), rec.ID)
		switch {
		case err == nil:
		case errors.Is(err, keystore.ErrNotFound):
			t.Fatalf("%s: a damaged file must not pass for a missing key", rec.ID)
		case !strings.Contains(err.Error(), "damaged; restore a backup"):
			t.Fatalf("%s: error %v", rec.ID, err)
		default:
			failed++
		}
	}
	if failed == 0 {
		t.Error("no damage was found")
	}
}

func TestManyOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := sqlstore.OpenSQLite(t.Context(), path, sqlstore.Options{Create: true})
			if err != nil {
				t.Errorf("open %d: %v", i, err)
				return
			}
			if err := s.Create(t.Context(), keystore.Change{}, records(2)...); err != nil {
				t.Errorf("create %d: %v", i, err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	page, err := open(t, path, sqlstore.Options{}).List(t.Context(), keystore.Query{})
	if err != nil || len(page.Records) != 16 {
		t.Errorf("%d records, %v, want 16", len(page.Records), err)
	}
}

func TestPingFindsAFileThatIsGoneOrReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	s := open(t, path, sqlstore.Options{Create: true})
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v, want fs.ErrNotExist", err)
	}
	write(t, path, []byte("another"))
	if err := s.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("replaced: %v", err)
	}
}

// exec runs statements on the file through a connection of its own.
func exec(t *testing.T, path, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), statements); err != nil {
		t.Fatal(fmt.Errorf("exec %s: %w", statements, err))
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
