package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// converted is an export of another gate, made here, with what must come of it.
type converted struct {
	from, file string
	text       string
	args       []string
	keys       map[string]int // an old key to the status of GET /farms with it
	refused    []string       // what standard error must say is not converted
}

// secretKeys makes keys that only this run has, and puts them into the book.
func oldKeys(t *testing.T, gate string, n int) []string {
	t.Helper()
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s%cQ7vXw%d%sZ", gate[:2], 'A'+rune(i), time.Now().UnixNano(), strings.Repeat("k", 8))
		book.add("a key of "+gate, keys[i])
	}
	return keys
}

func bcrypted(t *testing.T, secret string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func exports(t *testing.T) []converted {
	t.Helper()
	kong, tyk, nginx, caddy := oldKeys(t, "kong", 4), oldKeys(t, "tyk", 4), oldKeys(t, "nginx", 4), oldKeys(t, "caddy", 4)
	later, before := time.Now().Add(time.Hour).Unix(), time.Now().Add(-time.Hour).Unix()
	mapped := []string{"--map", "gold=farms:read"}
	return []converted{
		{from: "kong", file: "kong.yaml", args: mapped, text: fmt.Sprintf(`
_format_version: "3.0"
services: [{name: farms, url: "http://127.0.0.1:9001"}]
consumers:
- username: alice
  custom_id: acct-1
  keyauth_credentials:
  - key: %s
  - {key: %s, ttl: 3600, created_at: %d}
  - key: "{vault://env/alice}"
  acls: [{group: gold}]
- username: bob
  keyauth_credentials: [{key: %s}]
  acls: [{group: silver}]
keyauth_credentials:
- {key: %s, consumer: {username: alice}}
- {key: lost-its-consumer-once, consumer: nobody}
`, kong[0], kong[1], before-3600, kong[2], kong[3]),
			keys:    map[string]int{kong[0]: 200, kong[1]: 401, kong[2]: 403, kong[3]: 200},
			refused: []string{"consumers[0].keyauth_credentials[2]", "keyauth_credentials[1]"}},
		{from: "kong", file: "kong.json", text: strings.ReplaceAll(fmt.Sprintf(`{"consumers":[{"username":"carol","keyauth_credentials":[{"key":"%sJ"}],
			"acls":[{"group":"farms:read"}]}]}`, kong[0]), "\n", ""), keys: map[string]int{kong[0] + "J": 200}},
		{from: "tyk", file: "tyk.json", args: mapped, text: fmt.Sprintf(`{"keys":[
			{"key":%q,"data":{"alias":"alice","expires":0,"rate":10,"per":1,"apply_policies":["gold"]}},
			{"key_id":%q,"alias":"dated","expires":%d,"tags":["gold"]},
			{"key":%q,"data":{"alias":"gone","expires":%d,"tags":["gold"]}},
			{"key_hash":"a1b2c3d4e5f60718","data":{"alias":"hashed"}},
			{"key":%q,"data":{"alias":"asleep","is_inactive":true,"tags":["gold"]}}]}`, tyk[0], tyk[1], later, tyk[2], before, tyk[3]),
			keys:    map[string]int{tyk[0]: 200, tyk[1]: 200, tyk[2]: 401, tyk[3]: 401},
			refused: []string{"keys[3]: Tyk kept a hash of this key only", "keys[4]: it is inactive there"}},
		{from: "nginx", file: "nginx.conf", args: []string{"--scope", "farms:read"}, text: fmt.Sprintf(`# the clients
http {
	map $http_upgrade $connection_upgrade { default upgrade; '' close; }
	map $http_apikey $client {
		default "";
		"%s" alice; # a comment
		'%s' "bob the builder";
		~^test- tester;
		include more.map;
		%s "";
	}
	map $http_authorization $who {
		"Bearer %s" carol;
	}
}
`, nginx[0], nginx[1], nginx[2], nginx[3]),
			keys:    map[string]int{nginx[0]: 200, nginx[1]: 200, nginx[2]: 401, nginx[3]: 200},
			refused: []string{"line 8: a regular expression", "line 9: another file", "line 10: this key was refused", "'' close"[:0]}},
		{from: "caddy", file: "Old.caddyfile", text: fmt.Sprintf(`api.example.com {
	some_plugin with words
	handle /a/* {
		basic_auth {
			alice %s
			bob %s
		}
	}
	basicauth /b/* bcrypt "A realm" {
		alice %[1]s
		carol $argon2id$v=19$m=47104,t=1,p=1$P2nzckEdTZ3bxCiBCkRTyA$xQL3Z32eo5jKl7u5tcIsnEKObYiyNZQQf5/4sAau6Pg
	}
}
`, bcrypted(t, caddy[0]), bcrypted(t, caddy[1])),
			args:    []string{"--scope", "farms:read", "--hint", "alice=" + caddy[0][:10]},
			keys:    map[string]int{caddy[0]: 200, caddy[1]: 401},
			refused: []string{"line 6: of a hash the hint must be given", "line 11: an argon2 hash"}},
		{from: "caddy", file: "old.json", text: fmt.Sprintf(`{"apps":{"http":{"servers":{"s":{"routes":[{"handle":[{"handler":"authentication",
			"providers":{"http_basic":{"hash":{"algorithm":"bcrypt"},"accounts":[{"username":"dave","password":%q},{"username":"erin","password":%q}]}}}]}]}}}}}`,
			bcrypted(t, caddy[2]), bcrypted(t, caddy[3])),
			args: []string{"--scope", "farms:read", "--hint", "dave=" + caddy[2][:9], "--hint", "erin=" + caddy[3][:9]},
			keys: map[string]int{caddy[2]: 200, caddy[3]: 200}},
	}
}

// Clients keep the keys that they have: what another gate knew is converted,
// imported, and lets them in here.
func TestConvertedKeysLetTheirOwnersIn(t *testing.T) {
	g := start(t, farms)
	for _, c := range exports(t) {
		t.Run(c.from+" "+c.file, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(g.dir, c.file), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			out := g.hivegate(t, append([]string{"apikey", "convert", "--from", c.from, c.file}, c.args...)...)
			want := 0
			if len(c.refused) > 0 {
				want = 1
			}
			if out.code != want {
				t.Fatalf("exit code %d, want %d\n%s", out.code, want, out.stderr)
			}
			for _, r := range c.refused {
				if !strings.Contains(out.stderr, r) {
					t.Errorf("standard error does not say %q:\n%s", r, out.stderr)
				}
			}
			for k := range c.keys {
				if strings.Contains(out.stdout, k) || strings.Contains(out.stderr, k) {
					t.Error("a key is printed in plain text")
				}
			}
			if err := os.WriteFile(filepath.Join(g.dir, "keys.jsonl"), []byte(out.stdout), 0o600); err != nil {
				t.Fatal(err)
			}
			g.hivegate(t, "apikey", "import", "keys.jsonl").ok(t)
			for k, status := range c.keys {
				eventually(t, 3*time.Second, fmt.Sprintf("the old key of %s answers %d", k[:3], status), func() bool {
					return g.get(t, "/farms", key(k)).status == status
				})
			}
		})
	}
}

func TestConvertNamesWhatIsWrong(t *testing.T) {
	g := prepare(t, farms)
	bad := map[string]string{
		"kong": "consumers: [\n  a: b: c", "tyk": `{"keys": 3}`, "nginx": "map $http_apikey $c {\n  \"unfinished", "caddy": "a {\n",
	}
	for from, text := range bad {
		if err := os.WriteFile(filepath.Join(g.dir, "bad"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := g.hivegate(t, "apikey", "convert", "--from", from, "bad")
		if c.code != 1 || !strings.Contains(c.stderr, "bad:") || c.stdout != "" {
			t.Errorf("%s: exit code %d, %q, %q", from, c.code, c.stderr, c.stdout)
		}
	}
	for _, args := range [][]string{
		{"bad"}, {"--from", "apisix", "bad"}, {"--from", "kong", "--map", "gold", "bad"}, {"--from", "kong", "--scope", "Farms", "bad"},
		{"--from", "kong", "--cost", "20", "bad"}, {"--from", "kong", "--hint", "x", "bad"},
	} {
		if c := g.hivegate(t, append([]string{"apikey", "convert"}, args...)...); c.code != 2 {
			t.Errorf("%v: exit code %d, want 2: %s", args, c.code, c.stderr)
		}
	}
}
