package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestGarbageMayPileUpToARoomThatTheLimitBounds(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		live, limit, machine int64
		want                 int
	}{
		{0, 0, 0, 1600},
		{8 * mib, 0, 0, 800},
		{16 * mib, math.MaxInt64, 0, 400},
		{32 * mib, 0, 0, 200},
		{128 * mib, 0, 0, 100},
		{math.MaxInt64 / 200, 0, 0, 100}, // as Go would
		{8 * mib, 128 * mib, 0, 200},     // an eighth of the limit
		{8 * mib, 16 * mib, 0, 100},
		{16 * mib, 4096 * mib, 0, 400},
		{16 * mib, 0, 512 * mib, 200}, // a sixteenth of the machine
		{16 * mib, 0, 64 << 30, 400},
	} {
		if got := gcPercent(c.live, c.limit, c.machine); got != c.want {
			t.Errorf("%d live, limit %d, machine %d: %d %%, want %d", c.live, c.limit, c.machine, got, c.want)
		}
	}
}

func TestTheMachinesMemoryIsRead(t *testing.T) {
	for text, want := range map[string]int64{
		"MemTotal:       24637160 kB\nMemFree: 1 kB\n": 24637160 * 1024,
		"MemFree: 1 kB\n":   0,
		"MemTotal: a lot\n": 0,
		"MemTotal: -5 kB\n": 0,
	} {
		path := filepath.Join(t.TempDir(), "meminfo")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := machineMemory(path); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := machineMemory(filepath.Join(t.TempDir(), "none")); got != 0 {
		t.Errorf("without a file: %d", got)
	}
}
