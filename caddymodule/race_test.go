//go:build race

package caddymodule

// dropped is what the race detector adds to the allocations of a request: it
// makes sync.Pool lose a quarter of what is put back, at random.
const dropped = 2
