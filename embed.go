// Package hivegate holds what the program ships with.
package hivegate

import _ "embed"

// Caddyfile is Caddyfile.example: the configuration that `hivegate demo` runs
// and that an operator begins with.
//
//go:embed Caddyfile.example
var Caddyfile []byte
