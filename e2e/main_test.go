package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// program is the path of the program under test.
var program string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hivegate-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a folder for the binary:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if program = os.Getenv("HIVEGATE_BIN"); program == "" {
		program = filepath.Join(dir, "hivegate")
		args := []string{"build", "-o", program}
		if raceEnabled {
			args = append(args, "-race")
		}
		cmd := exec.Command("go", append(args, "../cmd/hivegate")...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build cmd/hivegate:", err)
			return 1
		}
	} else if program, err = filepath.Abs(program); err != nil {
		fmt.Fprintln(os.Stderr, "HIVEGATE_BIN:", err)
		return 1
	}
	return m.Run()
}

// eventually calls ok until it is true, and fails the test when it is not so
// within the time given.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	if !reached(within, ok) {
		t.Fatalf("not within %s: %s", within, what)
	}
}

// reached calls ok every few milliseconds until it is true or the time is over.
func reached(within time.Duration, ok func() bool) bool {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok() {
			return true
		}
		select {
		case <-deadline.C:
			return ok()
		case <-tick.C:
		}
	}
}
