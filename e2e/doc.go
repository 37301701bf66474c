// Package e2e tests the built binary: real Caddyfiles, real processes, real
// connections, and backends that record what reaches them.
//
// TestMain builds cmd/hivegate once, and once more with the race detector when
// the tests run with it (HIVEGATE_BIN names a ready binary instead). Each gate has a folder of
// its own for data and home, and ephemeral ports on the loopback address.
//
// Every secret that a test uses is told to one book of secrets. All that a gate
// prints, all its metrics, and every answer that the helpers read are searched
// for all of them, whole and in part; so is everything for what merely looks
// like a key or a bcrypt hash.
package e2e
