package main

import (
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

const (
	// gcRoom is how much garbage may pile up between two collections, in bytes.
	// A proxy's live heap is a few megabytes and each request leaves some ten
	// kilobytes behind: at Go's default, which is as much garbage as live heap,
	// it collects dozens of times a second under load. Twice the room saves no
	// more, takes its memory, and takes longer to be had from the system, a page
	// fault for each 4 KiB.
	gcRoom = 64 << 20
	// gcLeast is Go's default: large heaps are collected as ever.
	gcLeast = 100
	// gcMost keeps a heap that has just become small from looking cheap.
	gcMost = 1600
	// gcGuess is what the live heap is taken for until it is looked at: more than
	// it is, as a rule, so that it is not let grow beyond the room meanwhile.
	gcGuess = 16 << 20
	// gcLook is the time between two looks at the heap, and gcSoon that until the
	// first, when the configuration has been loaded.
	gcLook = 5 * time.Second
	gcSoon = time.Second
)

// gcPercent is the garbage collector's percentage for so many live bytes: room
// for gcRoom of garbage, or for an eighth of the memory limit or a sixteenth of
// the machine's memory, where these are known and that is less (0 and
// math.MaxInt64: not known).
func gcPercent(live, limit, machine int64) int {
	room := int64(gcRoom)
	if limit > 0 && limit < math.MaxInt64 {
		room = min(room, limit/8)
	}
	if machine > 0 {
		room = min(room, machine/16)
	}
	return int(min(max(room*100/max(live, 1<<20), gcLeast), gcMost))
}

// tuneGC suits the garbage collector to a proxy, unless GOGC says something
// else. GOMEMLIMIT, or the limit of the container, holds in any case.
func tuneGC() {
	if os.Getenv("GOGC") != "" {
		return
	}
	machine := machineMemory("/proc/meminfo")
	percent := gcPercent(gcGuess, debug.SetMemoryLimit(-1), machine)
	debug.SetGCPercent(percent)
	go func() {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for wait := gcSoon; ; wait = gcLook {
			<-time.After(wait)
			metrics.Read(live)
			if live[0].Value.Kind() != metrics.KindUint64 {
				return
			}
			if live[0].Value.Uint64() == 0 {
				continue // nothing was collected yet
			}
			// A change stops the world for a moment: small ones are not worth it.
			n := gcPercent(int64(min(live[0].Value.Uint64(), math.MaxInt64/200)), debug.SetMemoryLimit(-1), machine)
			if n < percent*3/4 || n > percent*4/3 {
				percent = n
				debug.SetGCPercent(percent)
			}
		}
	}()
}

// machineMemory is the machine's memory in bytes, as Linux tells it in path; 0
// where it cannot be read.
func machineMemory(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil || n < 0 || n > math.MaxInt64/1024 {
				return 0
			}
			return n * 1024
		}
	}
	return 0
}
