// Package policy decides, without I/O, which route a request is for, what that
// route requires, and whether the scopes of a principal suffice. It also judges
// whether a path can be read in only one way.
//
// # Scopes
//
// A [Universe] holds what one configuration says about scopes: the optional
// closed list, the aliases, and every scope and parameter name that its routes
// use, each under a small number. [Universe.Compile] turns the scopes of a
// principal into [Grants]: one bit per required scope for those held whole, and
// a sorted list for those narrowed to objects. A check is then a few bit tests
// and, for narrowed scopes, a binary search: it does not grow with the number of
// scopes held, and allocates nothing.
//
// Grants know the universe and the state of it that they were compiled for.
// Against the routes of another universe they hold nothing; when routes were
// added since, [Grants.Stale] says so and the caller compiles again.
//
// # Routes
//
// [Compile] puts the lines of a route table into a trie of path segments. It
// refuses two lines that share a method and whose paths overlap without one
// being more specific. That makes the order of lines irrelevant and the lookup
// a plain walk: at each segment the literal is tried before the parameter, the
// parameter before the rest. The first hit is the most specific line.
//
// # Paths
//
// The walk is right only when the backend reads the path as the gate does.
// [CheckTarget] and [CheckPath] refuse what two parsers could read differently;
// call them before [Table.Match].
//
// Everything here is safe for concurrent use once built, except a [Match],
// which belongs to one request.
package policy
