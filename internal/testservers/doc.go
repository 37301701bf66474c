// Package testservers starts throw-away servers for tests, from the programs that
// the machine has: each in a folder of its own, on a port of the loopback that was
// free, gone when it is closed. It is for tests alone.
//
// The tests need those programs: install.sh beside this file installs them on
// Debian and Ubuntu.
package testservers
