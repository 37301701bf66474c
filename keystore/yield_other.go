//go:build !linux

package keystore

// yieldProcessor would let other threads have this core.
func yieldProcessor() {}
