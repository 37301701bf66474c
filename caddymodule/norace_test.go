//go:build !race

package caddymodule

// dropped: see race_test.go.
const dropped = 0
