package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// importLine is one line of an import file for a secret, with more members.
func importLine(t testing.TB, secret, members string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"hash":%q,"hint":%q,"name":"imported",%s}`+"\n", hash, secret[:12], members)
}

func (g *gate) importLines(t testing.TB, lines string, args ...string) cli {
	t.Helper()
	file := filepath.Join(g.dir, "import.jsonl")
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	return g.hivegate(t, append([]string{"apikey", "import", file}, args...)...).ok(t)
}

func (g *gate) importKey(t testing.TB, secret, members string) {
	t.Helper()
	g.importLines(t, importLine(t, secret, members))
}

func TestImportedHashesLetTheirKeysIn(t *testing.T) {
	g := start(t, farms)
	for _, variant := range []string{"$2a$", "$2b$", "$2y$"} {
		secret := "legacy" + strings.Trim(variant, "$") + "-correct-horse"
		book.add("a legacy secret", secret)
		line := strings.Replace(importLine(t, secret, `"owner":"acme","permissions":["farms:read"]`), "$2a$", variant, 1)
		g.importLines(t, line)
		eventually(t, 2*time.Second, "the imported key is known", func() bool { return g.get(t, "/farms", key(secret)).status == 200 })
		g.get(t, "/farms", key(secret+"x")).refused(t, 401, "api_key_invalid")
		g.get(t, "/crews", key(secret)).refused(t, 403, "insufficient_scope")
		if o := g.farm.got(t).header.Get("X-Auth-Owner"); o != "acme" {
			t.Errorf("owner %q", o)
		}
	}
}

func TestHtpasswdFilesAreImported(t *testing.T) {
	g := start(t, farms)
	secret := "htpass-battery-staple"
	book.add("a legacy secret", secret)
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(g.dir, "htpasswd")
	text := "# made long ago\nci-user:" + strings.Replace(string(hash), "$2a$", "$2y$", 1) + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.hivegate(t, "apikey", "import", file, "--format", "htpasswd", "--hint", secret[:10]).ok(t)
	eventually(t, 2*time.Second, "the imported key is known", func() bool { return g.get(t, "/me", key(secret)).status == 200 })
	// It came without scopes, so it may do nothing that needs one.
	g.get(t, "/farms", key(secret)).refused(t, 403, "insufficient_scope")
}

func TestABadImportChangesNothingAndNamesItsLine(t *testing.T) {
	g := start(t, farms)
	good := importLine(t, "some-good-secret-here", `"permissions":["farms:read"]`)
	for name, bad := range map[string]string{
		"no hash":        `{"hint":"abcdefgh","name":"x","permissions":["farms:read"]}`,
		"not bcrypt":     `{"hash":"5f4dcc3b5aa765d61d8327deb882cf99","hint":"abcdefgh","name":"x","permissions":["farms:read"]}`,
		"cost too high":  `{"hash":"$2a$15$` + strings.Repeat("a", 53) + `","hint":"abcdefgh","name":"x","permissions":["farms:read"]}`,
		"hint too short": strings.Replace(good, `"hint":"some-good-se"`, `"hint":"some"`, 1),
		"unknown scope":  importLine(t, "another-good-secret", `"permissions":["farms:reed"]`),
		"unknown member": importLine(t, "another-good-secret", `"permissions":["farms:read"],"admin":true`),
		"unknown plan":   importLine(t, "another-good-secret", `"permissions":["farms:read"],"plan":"gigantic"`),
		"not JSON":       "{",
	} {
		file := filepath.Join(g.dir, "bad.jsonl")
		if err := os.WriteFile(file, []byte(good+strings.TrimSuffix(bad, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c := g.hivegate(t, "apikey", "import", file)
		if c.code != 1 || !strings.Contains(c.stderr, "2") {
			t.Errorf("%s: exit code %d, %q; want 1 and the line", name, c.code, c.stderr)
		}
	}
	var list struct {
		Data []created `json:"data"`
	}
	out := g.hivegate(t, "apikey", "list", "--json").ok(t)
	if err := json.Unmarshal([]byte(out.stdout), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Data) != 0 {
		t.Errorf("%d keys were imported from files with a mistake", len(list.Data))
	}
}
