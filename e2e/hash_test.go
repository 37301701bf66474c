package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// burst sends n requests at once, each on its own goroutine, and returns how
// many got which status.
func (g *gate) burst(t testing.TB, n int, target string, which func(i int) string) map[int]int {
	t.Helper()
	var (
		mu   sync.Mutex
		got  = map[int]int{}
		wg   sync.WaitGroup
		gun  = make(chan struct{})
		errs = map[string]int{}
	)
	for i := range n {
		wg.Add(1)
		k := which(i)
		go func() {
			defer wg.Done()
			<-gun
			a, err := g.try(g.sites[0], "GET", target, key(k))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs[err.Error()]++
				return
			}
			got[a.status]++
		}()
	}
	close(gun)
	wg.Wait()
	for e, n := range errs {
		t.Errorf("%d times: %s", n, e)
	}
	return got
}

const oneRoute = "routes {\n\t\t\tGET /farms farms:read\n\t\t}"

func TestAThousandConcurrentUsesOfANewKeyHashOnce(t *testing.T) {
	for name, c := range map[string]struct {
		global string
		hashes float64
	}{
		"without a master key": {"master_key none\n", 1},
		"with a master key":    {"", 0},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, config{global: dear + c.global, gate: oneRoute})
			k := g.createScoped(t, "farms:read")
			before := g.hashes(t)
			got := g.burst(t, 1000, "/farms", func(int) string { return k.Key })
			hashes := g.hashes(t) - before
			t.Logf("1,000 concurrent requests: %v, %g bcrypt comparisons", got, hashes)
			if got[200] != 1000 || hashes != c.hashes {
				t.Errorf("want 1,000 times 200 and %g comparisons", c.hashes)
			}
			// And never again.
			if got := g.burst(t, 200, "/farms", func(int) string { return k.Key }); got[200] != 200 {
				t.Errorf("later: %v", got)
			}
			if again := g.hashes(t) - before; again != c.hashes {
				t.Errorf("%g comparisons after more requests, want %g still", again, c.hashes)
			}
		})
	}
}

// The verified cache drops and refuses entries as it likes; no valid key may be
// hashed twice for that while its record is in memory.
func TestNoValidKeyIsHashedTwiceWhenTheCacheIsTooSmall(t *testing.T) {
	g := prepare(t, config{global: "master_key none\n" + cheap, gate: oneRoute})
	const n = 40
	keys := g.importKeys(t, n)
	g.run(t)
	g.setApp(t, "verified_cache", "4")
	for range 5 {
		got := g.burst(t, 5*n, "/farms", func(i int) string { return keys[i%n] })
		if got[200] != 5*n {
			t.Fatalf("%v, want %d times 200", got, 5*n)
		}
	}
	hashes := g.hashes(t)
	t.Logf("%d keys, %d requests, a cache for 4 keys: %g bcrypt comparisons", n, 25*n, hashes)
	if hashes != n {
		t.Errorf("want %d, one a key", n)
	}
}

// With the stored digest a restart costs no hash either.
func TestARestartHashesNothingWithAMasterKey(t *testing.T) {
	g := start(t, config{gate: oneRoute})
	var keys []string
	for range 3 {
		keys = append(keys, g.createScoped(t, "farms:read").Key)
	}
	g.stop(t)
	g.run(t)
	for _, k := range keys {
		g.get(t, "/farms", key(k)).passed(t)
		if h := g.hashes(t); h != 0 {
			t.Errorf("%g comparisons after the restart, want none", h)
		}
	}
}

func TestWithoutAMasterKeyNothingButBcryptIsStored(t *testing.T) {
	g := start(t, config{global: "master_key none\n" + cheap, gate: oneRoute})
	k := g.createScoped(t, "farms:read")
	g.get(t, "/farms", key(k.Key)).passed(t)
	g.stop(t)
	for _, f := range g.dataFiles(t) {
		if strings.HasSuffix(f, ".key") {
			t.Errorf("a key file was made: %s", f)
		}
	}
	if out := g.hivegate(t, "apikey", "show", k.ID, "--json").ok(t); strings.Contains(out.stdout, "digest") || strings.Contains(out.stdout, "$2") {
		t.Errorf("show prints what is stored of the secret: %s", out.stdout)
	}
}

func TestTheMasterKeyFileIsPrivateAndItsPathIsLogged(t *testing.T) {
	g := start(t, config{global: cheap, gate: oneRoute})
	// The site may answer before the keystore is open; a command must not be
	// first to make the key.
	eventually(t, 10*time.Second, "the server logs the key file's path", func() bool {
		return strings.Contains(g.log.String(), "keys.db.key")
	})
	k := g.createScoped(t, "farms:read")
	g.get(t, "/farms", key(k.Key)).passed(t)
	found := ""
	for _, f := range g.dataFiles(t) {
		info, err := os.Stat(f)
		if err != nil {
			continue // SQLite's own files come and go
		}
		if perm := info.Mode().Perm(); perm&0o077 != 0 {
			t.Errorf("%s has mode %o", f, perm)
		}
		if text, err := os.ReadFile(f); err == nil && strings.HasSuffix(f, ".key") {
			found = f
			if s := strings.TrimSpace(string(text)); len(s) >= 16 {
				book.add("the master key", s)
			}
		}
	}
	if found == "" {
		t.Fatalf("no key file beside the database: %v", g.dataFiles(t))
	}
	if !strings.Contains(g.log.String(), found) {
		t.Errorf("the log does not name %s", found)
	}
	// The plaintext of the key is in no file.
	for _, f := range g.dataFiles(t) {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), k.Key[8+12:]) {
			t.Errorf("%s holds the key's secret", f)
		}
	}
}

func (g *gate) dataFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(g.database()), "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// importKeys makes keys much faster than one command each: their hashes are
// imported at once. They are chosen by this test, so they get no digest.
func (g *gate) importKeys(t testing.TB, n int) []string {
	t.Helper()
	var keys []string
	var lines strings.Builder
	for i := range n {
		secret := fmt.Sprintf("%05d-imported-%05d-secret", i, i)
		book.add("an imported secret", secret)
		keys = append(keys, secret)
		lines.WriteString(importLine(t, secret, `"permissions":["farms:read"]`))
	}
	g.importLines(t, lines.String())
	return keys
}
