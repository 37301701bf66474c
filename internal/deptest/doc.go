// Package deptest holds the rules of who may import whom. They are checked by
// its test, over the imports that `go list` reports, each with its reason.
//
// The rules:
//
//   - keystore and limiter are the domain: they import neither each other nor
//     Caddy, net/http, zap or a driver. A key names a plan; only the app in
//     caddymodule turns that name into a limit.
//   - drivers (SQL, Redis) live in the packages one level below them.
//   - internal packages import no Caddy, so that they can be tested and reused
//     without a server.
//   - caddymodule alone translates between Caddy and them; cmd puts Caddy's
//     commands, its standard modules and caddymodule together, runs the demo,
//     and decides nothing.
//   - nothing imports upward: no library package imports caddymodule or cmd.
//
// Tests may import what they need to test with, but for Caddy in the domain.
package deptest
