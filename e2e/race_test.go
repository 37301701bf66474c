//go:build race

package e2e

// raceEnabled: the tests run with the race detector, and with HIVEGATE_RACE set
// (make race) the binary does, too, which takes twice as long.
const raceEnabled = true

// dear is a cost of hashing that takes tens of milliseconds: the detector makes
// bcrypt about ten times as slow.
const dear = "bcrypt_cost 7\n"
