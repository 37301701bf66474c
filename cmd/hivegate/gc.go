package main

import (
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcRoom is how much garbage may pile up between two collections, in bytes.
	// A proxy's live heap is a few megabytes and each request leaves some ten
	// kilobytes behind: at Go's default, which is as much garbage as live heap,
	// it collects hundreds of times a second under load.
	gcRoom = 64 << 20
	// gcLeast is Go's default: large heaps are collected as ever.
	gcLeast = 100
	// gcMost keeps a heap that has just become small from looking cheap.
	gcMost = 1600
	// gcLook is the time between two looks at the heap.
	gcLook = 5 * time.Second
)

// gcPercent is the garbage collector's percentage for so many live bytes: room
// for gcRoom of garbage, or for an eighth of the memory limit where there is one
// (0 and math.MaxInt64: there is none).
func gcPercent(live, limit int64) int {
	room := int64(gcRoom)
	if limit > 0 && limit < math.MaxInt64 {
		room = min(room, limit/8)
	}
	return int(min(max(room*100/max(live, 1<<20), gcLeast), gcMost))
}

// tuneGC suits the garbage collector to a proxy, unless GOGC says something
// else. GOMEMLIMIT, or the limit of the container, holds in any case.
func tuneGC() {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent := gcPercent(4<<20, 0)
	debug.SetGCPercent(percent)
	go func() {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for range time.Tick(gcLook) {
			metrics.Read(live)
			if live[0].Value.Kind() != metrics.KindUint64 {
				return
			}
			// A change stops the world for a moment: small ones are not worth it.
			n := gcPercent(int64(min(live[0].Value.Uint64(), math.MaxInt64/200)), debug.SetMemoryLimit(-1))
			if n < percent*3/4 || n > percent*4/3 {
				percent = n
				debug.SetGCPercent(percent)
			}
		}
	}()
}
