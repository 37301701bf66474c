// Package openapi turns a description of an API into a route file: OpenAPI 3.0
// to 3.2 or Swagger 2, in JSON or YAML.
//
// A description is a stranger's file. It is bounded in size, nothing that it
// refers to outside of itself is read, and nothing of it reaches the route file
// but through one of two gates: a pattern and a scope are taken only when
// internal/policy takes them, and all other text goes through [comment].
//
// No operation is lost in silence. What cannot be a route line stands in the
// file as a comment with the reason, and is a warning besides; the gate answers
// 404 or 405 there, or what another line says, until somebody writes the line.
//
// # Paths
//
// The path of the first server (Swagger: basePath) precedes each path. A
// parameter whose name is no identifier, or which Caddy would rewrite, gets
// another name. A segment that holds more than one parameter, as in
// {x}.{y} or {name}.json, becomes one parameter as a whole: it then covers more
// than the description says, which is a warning.
//
// # Requirements
//
// security: [] is public, and so is security: [{}]. With ScopeSecurity scopes
// are those of the description: alternatives become a|b, several of one
// alternative are all needed. Alternatives without a scope beside ones with a
// scope are left out, since what they allow cannot be told from the
// description. Where there is no scope at all, any valid credential will do.
// With ScopeTag and ScopeMethod the scope is made of the operation's first tag,
// or one fixed resource, and read or write.
//
// # Operations without a line
//
// A path of such an operation may be matched by another line. That line is made
// as strict as both together, with a note; where it cannot be told what the
// operation requires, the line is left out too. The same holds for a line that
// covers more than is described: it takes over what the more general lines
// require. Paths without parameters are their own, since OpenAPI matches them
// before patterns.
package openapi
