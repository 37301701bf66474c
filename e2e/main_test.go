package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// program is the path of the program under test, tool that of the same program
// for its commands. Where the tests run with the race detector, program has it
// and tool has not: a command starts, does one thing and ends, and with the
// detector most of that would be starting.
var program, tool string

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
	if tool = os.Getenv("HIVEGATE_BIN"); tool == "" {
		tool, err = build(filepath.Join(dir, "hivegate"))
	} else {
		tool, err = filepath.Abs(tool)
	}
	if program = tool; err == nil && raceEnabled && os.Getenv("HIVEGATE_RACE") != "" && os.Getenv("HIVEGATE_BIN") == "" {
		program, err = build(filepath.Join(dir, "hivegate-race"), "-race")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "get the program to test:", err)
		return 1
	}
	defer closeSharedPostgres()
	return m.Run()
}

// build builds cmd/hivegate and returns the path that it was given.
func build(path string, flags ...string) (string, error) {
	return buildPackage("../cmd/hivegate", path, flags...)
}

// buildPackage builds a program and returns the path that it was given.
func buildPackage(pkg, path string, flags ...string) (string, error) {
	cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), pkg)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return path, cmd.Run()
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
