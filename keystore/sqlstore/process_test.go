package sqlstore_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// A test that needs a second process starts the test binary again with childEnv
// set to what it shall do and childPath to the keystore.
const (
	childEnv  = "HIVEGATE_SQLSTORE_CHILD"
	childPath = "HIVEGATE_SQLSTORE_PATH"
)

func TestMain(m *testing.M) {
	switch what := os.Getenv(childEnv); what {
	case "":
		code := m.Run()
		closeServers()
		os.Exit(code)
	case "update", "create", "open":
		if err := child(what, os.Getenv(childPath)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "unknown child", what)
		os.Exit(2)
	}
}

const (
	childUpdates = 150
	childScope   = "child:%d"
)

// child is what the second process does.
func child(what, path string) error {
	ctx := context.Background()
	s, err := sqlstore.OpenSQLite(ctx, path, sqlstore.Options{Create: what == "create"})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	switch what {
	case "open":
		return nil
	case "create": // for ever: each id is printed once its Create has returned
		for {
			rec := records(1)[0]
			rec.Hint = ""
			if err := s.Create(ctx, keystore.Change{}, rec); err != nil {
				return err
			}
			if _, err := fmt.Println(rec.ID); err != nil {
				return err
			}
			_, err := s.Update(ctx, keystore.Change{}, rec.ID, func(rec *keystore.Record) error {
				rec.Name = "rotated"
				rec.Secrets = append([]keystore.Secret{{Hash: []byte("new")}}, rec.Secrets...)
				return nil
			})
			if err != nil {
				return err
			}
			if _, err := fmt.Println("rotated", rec.ID); err != nil {
				return err
			}
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent says go by closing it
	return updates(ctx, s, childScope)
}

// updates appends childUpdates scopes to the only key, and creates as many keys.
func updates(ctx context.Context, s keystore.Store, scope string) error {
	page, err := s.List(ctx, keystore.Query{Owner: "shared", OwnerSet: true})
	if err != nil {
		return err
	}
	for i := range childUpdates {
		_, err := s.Update(ctx, keystore.Change{}, page.Records[0].ID, func(rec *keystore.Record) error {
			rec.Scopes = append(rec.Scopes, fmt.Sprintf(scope, i))
			return nil
		})
		if err != nil {
			return fmt.Errorf("update %d: %w", i, err)
		}
		rec := records(1)[0]
		rec.Hint = ""
		if err := s.Create(ctx, keystore.Change{}, rec); err != nil {
			return fmt.Errorf("create %d: %w", i, err)
		}
	}
	return nil
}

// command is the test binary as a child process.
func command(t *testing.T, what, path string) *osexec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := osexec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+what, childPath+"="+path)
	return cmd
}

func TestTwoProcessesLoseNoUpdateAndNeitherMeetsALock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	s := open(t, path, sqlstore.Options{Create: true})
	rec := records(1)[0]
	rec.Owner, rec.Scopes = "shared", nil
	if err := s.Create(t.Context(), keystore.Change{}, rec); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, "update", path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the child said %q, %v: %s", line, err, stderr.String())
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := updates(t.Context(), s, "parent:%d"); err != nil {
		t.Errorf("this process: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the other process: %v: %s", err, stderr.String())
	}
	got, err := s.Get(t.Context(), rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, scope := range got.Scopes {
		count[scope]++
	}
	for i := range childUpdates {
		for _, format := range []string{childScope, "parent:%d"} {
			if scope := fmt.Sprintf(format, i); count[scope] != 1 {
				t.Errorf("the update %s is there %d times", scope, count[scope])
			}
		}
	}
	const changes = 1 + 4*childUpdates
	if n, err := s.Seq(t.Context()); n != changes || err != nil {
		t.Errorf("the change number is %d, %v, want %d", n, err, changes)
	}
	if changed, err := s.ChangedSince(t.Context(), 0, 0); len(changed) != 1+2*childUpdates || err != nil {
		t.Errorf("%d keys changed, %v, want %d", len(changed), err, 1+2*childUpdates)
	}
}

func TestWhatWasToldToBeStoredOutlivesAKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	told := make(map[keystore.ID]bool) // true: the rotation was told too
	for round := range 8 {
		cmd := command(t, "create", path)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		for n := 0; lines.Scan(); n++ {
			text, rotated := strings.CutPrefix(lines.Text(), "rotated ")
			id, err := keystore.ParseID(text)
			if err != nil {
				t.Fatalf("the child said %q", lines.Text())
			}
			told[id] = rotated
			if n == 7+11*round { // then go on reading what it still said
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}
	if len(told) < 100 {
		t.Fatalf("only %d keys were made", len(told))
	}
	s := open(t, path, sqlstore.Options{})
	for id, rotated := range told {
		rec, err := s.Get(t.Context(), id)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if n := len(rec.Secrets); n == 0 || rotated && n != 2 || (rec.Name == "rotated") != (n == 2) {
			t.Errorf("%s (rotated: %v): %q with %d secrets", id, rotated, rec.Name, n)
		}
	}
	integrity(t, path)
}

// integrity lets SQLite check the whole file.
func integrity(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var result string
	if err := db.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&result); err != nil || result != "ok" {
		t.Errorf("integrity_check: %q, %v", result, err)
	}
	var orphans int
	err = db.QueryRowContext(t.Context(), `SELECT count(*) FROM pragma_foreign_key_check`).Scan(&orphans)
	if err != nil || orphans != 0 {
		t.Errorf("foreign_key_check: %d, %v", orphans, err)
	}
}
