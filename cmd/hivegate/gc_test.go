package main

import (
	"math"
	"testing"
)

func TestGarbageMayPileUpToARoomThatTheLimitBounds(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		live, limit int64
		want        int
	}{
		{0, 0, 1600},
		{4 * mib, 0, 1600},
		{8 * mib, math.MaxInt64, 800},
		{16 * mib, 0, 400},
		{64 * mib, 0, 100},
		{math.MaxInt64 / 200, 0, 100}, // as Go would
		{8 * mib, 128 * mib, 200},     // an eighth of the limit
		{8 * mib, 16 * mib, 100},
		{8 * mib, 4096 * mib, 800},
	} {
		if got := gcPercent(c.live, c.limit); got != c.want {
			t.Errorf("%d live, limit %d: %d %%, want %d", c.live, c.limit, got, c.want)
		}
	}
}
