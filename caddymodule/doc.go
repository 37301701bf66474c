// Package caddymodule puts hivegate into Caddy: it translates between Caddy's
// configuration, requests and life cycle and the packages that decide.
//
// # Modules
//
//	hivegate                     app: keystore, limiter, plans, classes, scopes
//	http.handlers.hivegate       the gate, a middleware in front of reverse_proxy
//	hivegate.keystores.sqlite    keys in an embedded SQLite database
//	hivegate.keystores.postgres  keys in PostgreSQL, shared by a fleet
//	hivegate.limiters.memory     counters in this process
//	hivegate.limiters.redis      counters in Redis, shared by a fleet
//
// # Life cycle
//
// Provision compiles the configuration and opens nothing, so that `caddy
// validate` leaves no trace. Stores are opened by Start, or by the first
// request where the HTTP app was started before ours. They live in pools that
// outlast one configuration: a reload finds the counters, the records and the
// verified keys where it left them. A pooled object holds no logger, context
// or metric of one configuration. Every request holds a reference on the
// stores it began with; a configuration gives its own back in Cleanup, and the
// last reference closes them.
//
// # The path of one request
//
// See [Gate.ServeHTTP]: clean-up, transport and path, route, credential,
// verification, scopes, one limit decision, refusals of the routing kind,
// identity headers, the next handler.
package caddymodule
