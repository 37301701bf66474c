package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// oddClock is the environment variable that says how many seconds the clock of the
// program that buildOdd makes is ahead.
const oddClock = "ODD_CLOCK"

const oddClockSource = `package time

import "syscall"

var oddClock = readOddClock()

func readOddClock() (n int64) {
	s, _ := syscall.Getenv("` + oddClock + `")
	sign := int64(1)
	if s != "" && s[0] == '-' {
		sign, s = -1, s[1:]
	}
	for i := 0; i < len(s); i++ {
		n = n*10 + int64(s[i]-'0')
	}
	return sign * n
}
`

var odd struct {
	once sync.Once
	path string
	err  error
}

// buildOdd builds the program with a time.Now that is wrong by as much as the
// environment says. A static Go binary asks the kernel itself, so nothing outside of
// it can do that to one process alone. Where nothing of it is cached the whole
// program is compiled anew: some minutes.
func buildOdd(t *testing.T) string {
	t.Helper()
	odd.once.Do(func() { odd.path, odd.err = makeOdd(t) })
	if odd.err != nil {
		t.Fatal(odd.err)
	}
	return odd.path
}

func makeOdd(t *testing.T) (string, error) {
	begin := time.Now()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("ask for GOROOT: %w", err)
	}
	folder := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(folder, "time.go"))
	if err != nil {
		return "", fmt.Errorf("read Go's package time: %w", err)
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), now) != 1 {
		return "", fmt.Errorf("time.Now of %s is not the function that this test knows how to change", folder)
	}
	dir := filepath.Dir(program)
	overlay := map[string]string{}
	for name, text := range map[string]string{
		"time.go": strings.Replace(string(source), now, now+"\tsec += oddClock\n", 1),
		"odd.go":  oddClockSource,
	} {
		path := filepath.Join(dir, "odd-"+name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay[filepath.Join(folder, name)] = path
	}
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		return "", err
	}
	path, err := build(filepath.Join(dir, "hivegate-odd"), "-overlay", file)
	if err != nil {
		return "", fmt.Errorf("build the program with a wrong clock: %w", err)
	}
	t.Logf("the program with a wrong clock was built in %s", time.Since(begin).Round(time.Second))
	return path, nil
}
