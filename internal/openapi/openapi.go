package openapi

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hivegate/hivegate/internal/policy"
)

// MaxSize bounds a description. The largest public ones have some 12 MiB.
const MaxSize = 32 << 20

// maxOperations bounds what one route file may hold.
const maxOperations = 20_000

// ScopeFrom says where the scopes of the lines come from.
type ScopeFrom string

// Where scopes come from.
const (
	ScopeSecurity ScopeFrom = "security" // the scopes of the description
	ScopeTag      ScopeFrom = "tag"      // <first tag>:read or :write
	ScopeMethod   ScopeFrom = "method"   // <resource>:read or :write
)

// Options say how a description is read.
type Options struct {
	// ScopeFrom is where scopes come from. Default: ScopeSecurity.
	ScopeFrom ScopeFrom
	// Resource is that of the scopes of ScopeMethod. Default: api.
	Resource string
	// Prefix precedes all paths, instead of what the servers say. Default: nil,
	// the path of the first server.
	Prefix *string
	// Reserved says which names of parameters Caddy would rewrite. Default: none.
	Reserved func(name string) bool
}

// Result is a route file and what there is to say about it.
type Result struct {
	// File can be imported into `routes { … }`.
	File []byte
	// Lines counts the route lines, Skipped the operations without one.
	Lines, Skipped int
	// Scopes are those that the lines require, sorted.
	Scopes []string
	// Warnings are one line of plain text each.
	Warnings []string
}

// Routes makes a route file of a description. The error is one of the
// description as a whole: too large, neither JSON nor YAML, of an unknown
// version, or without a path.
func Routes(data []byte, opts Options) (_ *Result, err error) {
	// The parser is made for well-meant descriptions.
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("read the description: the parser cannot cope with it")
		}
	}()
	c, err := converted(data, opts)
	if err != nil {
		return nil, err
	}
	return c.result(), nil
}

// converted returns the operations of a description, with their lines settled.
func converted(data []byte, opts Options) (*converter, error) {
	if opts.ScopeFrom == "" {
		opts.ScopeFrom = ScopeSecurity
	}
	if opts.Resource == "" {
		opts.Resource = "api"
	}
	if opts.Reserved == nil {
		opts.Reserved = func(string) bool { return false }
	}
	if err := policy.ParseScope(opts.Resource + ":read"); err != nil || opts.Resource == "*" {
		return nil, fmt.Errorf("the resource %.60q: use a-z, 0-9, '.', '_' and '-'", opts.Resource)
	}
	doc, err := load(data)
	if err != nil {
		return nil, err
	}
	c := &converter{opts: opts, doc: doc, prefixes: make(map[string]int)}
	c.names = scopeNames(doc, c.warn)
	if err := c.read(); err != nil {
		return nil, err
	}
	for {
		c.settle()
		if !c.tighten() {
			return c, nil
		}
	}
}

// operation is one operation of the description on its way to a line.
type operation struct {
	group   string // first tag
	path    string // as described, with its prefix
	method  string
	summary string
	pattern string
	need    policy.Requirement
	notes   []string // what the line's reader should know
	skip    string   // why there is no line

	wants   policy.Requirement // what it is described to require
	unknown bool               // that cannot be told
	nowhere bool               // its path cannot be told
	wide    bool               // its pattern covers more than its path
	counted bool               // skipped, and other lines are as strict
	form    *shape             // see shape
}

func (o *operation) String() string { return o.method + " " + o.path }

// converter works on one description.
type converter struct {
	opts     Options
	doc      *document
	names    map[string]scopeName
	ops      []*operation
	warnings []string
	prefixes map[string]int // path of servers to the operations under it
	// noScope and undeclared count operations that any credential may use.
	noScope, undeclared int
}

func (c *converter) warn(format string, args ...any) {
	c.warnings = append(c.warnings, comment(fmt.Sprintf(format, args...), 400))
}

// methodOrder is that of the lines of one path.
var methodOrder = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// read makes an operation of everything that is described.
func (c *converter) read() error {
	paths := make([]string, 0, len(c.doc.items))
	for path := range c.doc.items {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	for _, path := range paths {
		item := c.doc.items[path]
		if item.why != "" {
			o := &operation{path: path, method: "*", skip: item.why, unknown: true}
			if prefix, err := c.prefix(&openapi3.PathItem{}, &openapi3.Operation{}); err == nil {
				o.form = shapeOf(prefix + "/" + strings.TrimLeft(path, "/"))
			} else {
				o.nowhere = true
			}
			c.ops = append(c.ops, o)
			continue
		}
		ops := item.item.Operations()
		methods := make([]string, 0, len(ops))
		for m := range ops {
			methods = append(methods, m)
		}
		sort.Slice(methods, func(i, j int) bool {
			a, b := slices.Index(methodOrder, methods[i]), slices.Index(methodOrder, methods[j])
			if a != b && a >= 0 && b >= 0 {
				return a < b
			}
			return (a >= 0) != (b >= 0) && a >= 0 || a < 0 && b < 0 && methods[i] < methods[j]
		})
		for _, m := range methods {
			if len(c.ops) == maxOperations {
				return fmt.Errorf("the description has more than %d operations", maxOperations)
			}
			c.add(path, m, item.item, ops[m])
		}
	}
	if len(c.ops) == 0 {
		return errors.New("the description has no operation under 'paths'")
	}
	return nil
}

// add makes one operation.
func (c *converter) add(path, method string, item *openapi3.PathItem, op *openapi3.Operation) {
	o := &operation{path: path, method: strings.ToUpper(method), summary: op.Summary}
	if o.summary == "" {
		o.summary = op.OperationID
	}
	c.ops = append(c.ops, o)
	if len(op.Tags) > 0 {
		o.group = op.Tags[0]
	}
	if o.group == "" {
		o.group = firstWord(path)
	}
	prefix, err := c.prefix(item, op)
	switch {
	case err != nil:
		o.skip, o.nowhere = err.Error(), true
	case !strings.HasPrefix(path, "/"):
		o.skip, o.form = "the path does not begin with '/'", shapeOf(prefix+"/"+path)
	default:
		o.path = prefix + path
		p := makePattern(o.path, c.opts.Reserved)
		o.pattern, o.notes, o.skip, o.wide = p.text, p.notes, p.why, p.wide
	}
	// Of one that has no line too: other lines may have to ask for it.
	c.require(o, op)
	o.wants = o.need
}

// routeNumber is a line's place in the table, which says nothing in the file.
var routeNumber = regexp.MustCompile(`route [0-9]+: `)

// settle finds the lines that policy refuses, each alone and all together, and
// takes them out. Of lines that cannot stand together the first stays.
func (c *converter) settle() {
	universe := func() *policy.Universe {
		u, err := policy.NewUniverse(nil, nil)
		if err != nil {
			panic(err) // no list, no alias: nothing can be wrong
		}
		return u
	}
	for {
		var lines []policy.Line
		var of []*operation
		for _, o := range c.ops {
			if o.skip == "" {
				lines = append(lines, policy.Line{Methods: []string{o.method}, Pattern: o.pattern, Require: o.need})
				of = append(of, o)
			}
		}
		_, err := policy.Compile(universe(), lines)
		if err == nil {
			return
		}
		var bad *policy.LineError
		if !errors.As(err, &bad) {
			panic(err)
		}
		of[bad.Index].skip = routeNumber.ReplaceAllString(bad.Msg, "")
	}
}

// result renders the file and sums up.
func (c *converter) result() *Result {
	r := &Result{}
	scopes := make(map[string]bool)
	for _, o := range c.ops {
		if o.skip != "" {
			r.Skipped++
			c.warn("%s has no line: %s", o, o.skip)
			continue
		}
		r.Lines++
		for _, n := range o.notes {
			c.warn("%s: %s", o, n)
		}
		for _, group := range o.need.Scopes {
			for _, s := range group {
				scopes[s] = true
			}
		}
	}
	for s := range scopes {
		r.Scopes = append(r.Scopes, s)
	}
	sort.Strings(r.Scopes)
	if c.undeclared > 0 {
		c.warn("%d operations say nothing about security: their lines ask for any valid credential; write public where that is meant", c.undeclared)
	}
	if c.noScope > 0 {
		c.warn("%d operations want a credential and name no scope: their lines ask for any valid one; --scope-from tag gives each a scope", c.noScope)
	}
	if len(c.prefixes) > 1 {
		c.warn("operations lie under %d different prefixes; --prefix sets one for all", len(c.prefixes))
	}
	r.File = c.render(r)
	r.Warnings = c.warnings
	return r
}
