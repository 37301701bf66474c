//go:build !race

package e2e

// raceEnabled: the tests run with the race detector, and so does the binary.
const raceEnabled = false

// dear is a cost of hashing that takes tens of milliseconds: the default.
const dear = "bcrypt_cost 10\n"
