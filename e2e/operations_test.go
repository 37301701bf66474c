package e2e

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A copy made while the gate serves and changes keys opens with the master key,
// holds all that was answered before, and nobody else may read it.
func TestABackupOfARunningGateRestoresItsKeys(t *testing.T) {
	g := start(t, farms)
	kept, revoked := g.createScoped(t, "farms:read"), g.createScoped(t, "farms:read")
	g.get(t, "/farms", key(kept.Key)).passed(t)
	g.hivegate(t, "apikey", "revoke", revoked.ID).ok(t)

	copied := filepath.Join(g.dir, "copy.db")
	g.hivegate(t, "backup", copied).ok(t)
	if st, err := os.Stat(copied); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the copy: %v %v", st, err)
	}
	later := g.createScoped(t, "farms:read") // after the backup
	g.get(t, "/farms", key(later.Key)).passed(t)
	if out := g.hivegate(t, "backup", copied); out.code != 1 || !strings.Contains(out.stderr, "copy.db") {
		t.Errorf("a second backup into the same file ended with %d: %s", out.code, out.stderr)
	}
	text, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []created{kept, revoked} {
		if strings.Contains(string(text), k.Key) || strings.Contains(string(text), k.Key[len(k.Key)-36:]) {
			t.Error("the copy holds a key")
		}
	}
	g.stop(t)

	// The loss, and the restore as docs/operations.md has it.
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(g.database() + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(g.database(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	g.hivegate(t, "audit", "verify").ok(t)
	g.run(t)
	g.get(t, "/farms", key(kept.Key)).passed(t)
	g.get(t, "/farms", key(revoked.Key)).refused(t, 401, "api_key_revoked")
	g.get(t, "/farms", key(later.Key)).refused(t, 401, "api_key_invalid")
	if n := g.hashes(t); n != 0 {
		t.Errorf("%g hashes after the restore: the stored digests were lost", n)
	}
	made := g.createScoped(t, "farms:read")
	g.get(t, "/farms", key(made.Key)).passed(t)
	g.stop(t)

	// Without its master key the copy is worth nothing.
	if err := os.Rename(g.database()+".key", g.database()+".away"); err != nil {
		t.Fatal(err)
	}
	if out := g.hivegate(t, "apikey", "list"); out.code != 1 || !strings.Contains(out.stderr, "keys.db.key") {
		t.Errorf("opened without its key file: %d %s", out.code, out.stderr)
	}
}

// Caddy's generators know our commands.
func TestCompletionsAndManualPagesHaveOurCommands(t *testing.T) {
	g := prepare(t, farms)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out := g.hivegate(t, "completion", shell).ok(t); !strings.Contains(out.stdout, "hivegate") || strings.Contains(out.stdout, "caddy_") {
			t.Errorf("the completion of %s is not of hivegate", shell)
		}
	}
	// The scripts ask the program itself for what may follow.
	asked := g.hivegate(t, "__complete", "apikey", "").ok(t).stdout
	for _, want := range []string{"create", "list", "revoke", "rotate", "import"} {
		if !strings.Contains(asked, want+"\t") {
			t.Errorf("completing 'apikey' does not offer %s:\n%s", want, asked)
		}
	}
	g.hivegate(t, "manpage", "--directory", "man").ok(t)
	for page, want := range map[string]string{
		"hivegate.8": "hivegate", "hivegate-apikey-create.8": `\-\-scope`, "hivegate-totp-enroll.8": "--owner", "hivegate-explain.8": "--path",
		"hivegate-backup.8": "restore", "hivegate-reseal.8": "master", "hivegate-run.8": "--config",
	} {
		text, err := os.ReadFile(filepath.Join(g.dir, "man", page))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(strings.ReplaceAll(string(text), `\-`, "-"), strings.ReplaceAll(want, `\-`, "-")) {
			t.Errorf("%s does not hold %q", page, want)
		}
	}
}

func TestVersionSaysWhatTheBuildIs(t *testing.T) {
	g := prepare(t, farms)
	want := regexp.MustCompile(`^hivegate \S+ \(.*go1\.\S+\); Caddy v2\.\d+\.\d+ h1:\S+\n$`)
	for _, args := range [][]string{{"version"}, {"hivegate", "version"}} {
		if out := g.hivegate(t, args...).ok(t).stdout; !want.MatchString(out) {
			t.Errorf("%v: %q", args, out)
		}
	}
}

// The Caddyfiles in packaging load with nothing but what their environment gives.
func TestPackagedCaddyfilesLoad(t *testing.T) {
	manifest, err := os.ReadFile("../packaging/kubernetes/sidecar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, inside, ok := strings.Cut(string(manifest), "  Caddyfile: |\n")
	inside, _, ok2 := strings.Cut(inside, "\n---\n")
	if !ok || !ok2 {
		t.Fatal("the manifest has no Caddyfile")
	}
	single, err := os.ReadFile("../packaging/docker/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"kubernetes": regexp.MustCompile(`(?m)^    `).ReplaceAllString(inside, "") + "\n",
		"docker":     string(single),
	} {
		secret := strings.Repeat("5e", 16) + strings.Repeat("a7", 16)
		g := prepare(t, config{caddyfile: strings.ReplaceAll(text, "admin localhost:2019", "admin ADMIN"), env: []string{
			"HIVEGATE_MASTER_KEY=" + secret, "HIVEGATE_DATABASE=postgres://gate@db.internal/hivegate?sslmode=verify-full", "HIVEGATE_REDIS=rediss://redis:6379",
		}})
		out := g.hivegate(t, "validate", "--config", g.caddyfile()).ok(t)
		if strings.Contains(out.stderr, `"level":"warn","ts"`) && strings.Contains(out.stderr, "hivegate") && strings.Contains(out.stderr, "clear text") {
			t.Errorf("%s: %s", name, out.stderr)
		}
		if fmtd := g.hivegate(t, "fmt", "--diff", g.caddyfile()); strings.Contains(fmtd.stdout, "\n- ") {
			t.Errorf("%s is not formatted:\n%s", name, fmtd.stdout)
		}
	}
}

// The unit is Type=notify: the program tells systemd when it serves, and reloading
// is a command that it has.
func TestTheProgramTellsSystemdThatItServes(t *testing.T) {
	g := prepare(t, farms)
	path := filepath.Join(g.dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	g.env = append(g.env, "NOTIFY_SOCKET="+path)
	g.run(t)
	told := func(want string) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("systemd was not told %s: %v", want, err)
			}
			if strings.Contains(string(buf[:n]), want) {
				return
			}
		}
	}
	told("READY=1")
	g.hivegate(t, "reload", "--config", g.caddyfile(), "--force").ok(t)
	told("RELOADING=1")
	told("READY=1")
}
