package e2e

import (
	"fmt"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shown is a command of a document with what the document shows of its output.
type shown struct {
	command string
	output  []string
}

// consoles are the commands in a document's console blocks, in their order.
func consoles(t *testing.T, text string) (out []shown) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(text, -1) {
		for _, line := range strings.Split(strings.TrimSpace(m[1]), "\n") {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				out = append(out, shown{command: command})
			} else if len(out) > 0 && line != "" && line != "…" {
				last := &out[len(out)-1]
				last.output = append(last.output, line)
			}
		}
	}
	if len(out) == 0 {
		t.Fatal("no console blocks")
	}
	return out
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// changing are the parts of an output that differ from run to run.
var changing = []*regexp.Regexp{
	regexp.MustCompile(`key_[0-9A-Za-z]{12}`),
	regexp.MustCompile(`hive_sk_[0-9A-Za-z]+…?`),
	regexp.MustCompile(`\b[0-9a-f]{32}\b`),                      // X-Request-Id
	regexp.MustCompile(`\b1[0-9]{9}\b`),                         // X-Ratelimit-Reset
	regexp.MustCompile(`("explorer";r=)[0-9]+;t=[0-9]+`),        // how many went before
	regexp.MustCompile(`(X-Ratelimit-Remaining: )[0-9]+`),       // the same
	regexp.MustCompile(`\b(localhost|127\.0\.0\.1):[0-9]{4,5}`), // where it listens
}

func steady(line string) string {
	for _, re := range changing {
		line = re.ReplaceAllString(line, "~")
	}
	return strings.TrimRight(line, " ")
}

// Every command of the first five minutes, as README has it, with the keys of
// this run: what README shows is what comes.
func TestReadmesFiveMinutesAreAsShown(t *testing.T) {
	commands := consoles(t, readme(t))
	if commands[0].command != "go run ./cmd/hivegate demo" {
		t.Fatalf("the first command is %q", commands[0].command)
	}
	dir := t.TempDir()
	_, port, _ := strings.Cut(freePorts(t, 1)[0], ":")
	cmd := exec.Command(program, "demo", "--listen", "localhost:"+port)
	cmd.Dir = dir
	cmd.Env = append(cleanEnv(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "TMPDIR="+dir)
	out := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
	})
	eventually(t, 30*time.Second, "the demo has printed its lines", func() bool { return strings.Contains(out.String(), "Ctrl-C") })

	keyRE := regexp.MustCompile(`(?m)^  (hive_sk_\w+)  key_`)
	keys := keyRE.FindAllStringSubmatch(out.String(), -1)
	abbreviated := regexp.MustCompile(`(?m)^  (hive_sk_\w{4}…)  key_`).FindAllStringSubmatch(readme(t), -1)
	if len(keys) != 3 || len(abbreviated) != 3 {
		t.Fatalf("%d keys from the demo, %d in README, want 3", len(keys), len(abbreviated))
	}
	var as []string
	for i := range keys {
		book.addKey("a key of the demo", keys[i][1])
		as = append(as, abbreviated[i][1], keys[i][1])
	}
	as = append(as, "localhost:8080", "localhost:"+port)
	fill := strings.NewReplacer(as...)

	t.Run("demo", func(t *testing.T) {
		var printed []string
		for _, l := range strings.Split(out.String(), "\n") {
			printed = append(printed, steady(l))
		}
		for _, want := range commands[0].output {
			if !slices.Contains(printed, steady(want)) {
				t.Errorf("the demo does not print %q", want)
			}
		}
	})
	asked := 0
	for _, c := range commands[1:] {
		if !strings.HasPrefix(c.command, "curl ") {
			continue
		}
		asked++
		t.Run(c.command, func(t *testing.T) {
			a := parseCurl(t, fill.Replace(c.command)).ask(t)
			got := []string{fmt.Sprintf("HTTP/1.1 %d", a.status)}
			for name, values := range a.header {
				for _, v := range values {
					got = append(got, steady(textproto.CanonicalMIMEHeaderKey(name)+": "+v))
				}
			}
			got = append(got, steady(strings.TrimSpace(string(a.body))))
			for i, want := range c.output {
				if i == 0 {
					want, _, _ = strings.Cut(want+" ", " ")
					want += " " + strings.Fields(c.output[0])[1]
				}
				if !slices.Contains(got, steady(want)) {
					t.Errorf("README shows\n\t%s\nand the answer has no such line:\n\t%s", steady(want), strings.Join(got, "\n\t"))
				}
			}
		})
	}
	if asked < 4 {
		t.Errorf("README shows %d requests", asked)
	}
}

// The commands that put a gate in front of one's own backend, and the question
// why a request is refused.
func TestReadmesOwnBackendIsAsShown(t *testing.T) {
	text := readme(t)
	_, rest, _ := strings.Cut(text, "## In front of your own backend\n\n```sh\n")
	block, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("no commands in front of one's own backend")
	}
	example, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	g := prepare(t, config{caddyfile: "unused"})
	if err := os.Remove(g.caddyfile()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, "Caddyfile.example"), example, 0o600); err != nil {
		t.Fatal(err)
	}
	// Its site and backends come from the environment; nothing else is changed.
	g.env = append(g.env, "HIVEGATE_SITE=http://"+g.sites[0], "HIVEGATE_FARM="+g.farm.addr, "HIVEGATE_COMMAND="+g.command.addr)

	ran := []string{}
	for _, line := range strings.Split(strings.TrimSpace(block), "\n") {
		command, _, _ := strings.Cut(line, "#")
		words := shellWord.FindAllString(command, -1)
		for i := range words {
			words[i] = strings.Trim(words[i], "'")
		}
		ran = append(ran, words[0]+" "+words[1])
		switch ran[len(ran)-1] {
		case "go install": // needs the module to be published
		case "cp Caddyfile.example":
			if err := os.Rename(filepath.Join(g.dir, words[1]), filepath.Join(g.dir, words[2])); err != nil {
				t.Fatal(err)
			}
		case "hivegate validate":
			g.hivegate(t, words[1:]...).ok(t)
		case "hivegate apikey":
			made := g.hivegate(t, append(words[1:], "--json")...).ok(t)
			k := parseCreated(t, made)
			defer func() { g.get(t, "/farms", key(k.Key)).passed(t) }() // by then it runs
		case "hivegate run":
			g.run(t)
		default:
			t.Errorf("this test does not know %q", line)
		}
	}
	if want := []string{"go install", "cp Caddyfile.example", "hivegate validate", "hivegate apikey", "hivegate run"}; !slices.Equal(ran, want) {
		t.Errorf("README has %q, want %q", ran, want)
	}

	asked := false
	for _, c := range consoles(t, text) {
		args, ok := strings.CutPrefix(c.command, "hivegate explain ")
		if !ok {
			continue
		}
		asked = true
		k := g.create(t, "--owner", "anna", "--plan", "explorer", "--scope", "farms:read", "--scope", "workers:read")
		id := regexp.MustCompile(`key_[0-9A-Za-z]{12}`).FindString(args)
		words := strings.Fields(strings.Replace(args, id, k.ID, 1))
		// What it prints beside the answer is on standard error; a denial is no failure.
		got := strings.Split(strings.TrimSpace(g.hivegate(t, append([]string{"explain"}, words...)...).ok(t).stdout), "\n")
		if !slices.Equal(got, c.output) {
			t.Errorf("explain says\n%s\nREADME shows\n%s", strings.Join(got, "\n"), strings.Join(c.output, "\n"))
		}
	}
	if !asked {
		t.Error("README does not show explain")
	}
}
