package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Line is one line of a route table, as it was written.
type Line struct {
	// Methods are upper-case method names, or "*" alone for all. HEAD follows
	// GET; TRACE and CONNECT are not allowed.
	Methods []string `json:"methods"`
	// Pattern is a path: literal segments, {name} for one segment, {name...} at
	// the end for one or more.
	Pattern string `json:"pattern"`
	// Require says what a request must bring.
	Require Requirement `json:"require"`
	// SecondFactor asks for a second factor. Default: false.
	SecondFactor bool `json:"second_factor,omitempty"`
	// Signed asks for a signature of the request. Default: false.
	Signed bool `json:"signed,omitempty"`
	// Classes are the named limits that hold on top of the plan's.
	Classes []string `json:"classes,omitempty"`
	// Cost is what a request takes from each bucket. Default: 1 (0 means 1).
	Cost int `json:"cost,omitempty"`
	// OnFailure says what happens while the limiter is away, if not what the
	// limiter says itself.
	OnFailure string `json:"on_failure,omitempty"`
	// File and LineNo say where the line stands; zero when that is not known.
	File   string `json:"-"`
	LineNo int    `json:"-"`
}

// String returns methods and pattern: "GET,POST /farms/{farmId}".
func (l *Line) String() string {
	return strings.Join(l.Methods, ",") + " " + l.Pattern
}

// Route is a compiled line. It is immutable.
type Route struct {
	Line         // Cost is at least 1
	Index int    // of the line in the table
	Name  string // methods and pattern, as Line.String
	// Params are the names of the parameters, in order.
	Params []string

	pattern       pattern
	paramSegments []int    // index of the segment of each parameter
	paramIDs      []uint32 // number of each parameter in the universe
	need          *Need
}

// Check says whether the grants of a principal meet what the route requires, for
// the object that m is about. See [Need.Check].
func (r *Route) Check(g *Grants, m *Match) Verdict {
	return r.need.Check(g, m)
}

// LineError is what [Compile] returns about one line.
type LineError struct {
	Index int // of the line
	Msg   string
}

// Error returns Msg. It does not say where the line itself stands.
func (e *LineError) Error() string { return e.Msg }

// Table is a compiled route table. It is immutable.
type Table struct {
	root   node
	routes []*Route
}

// Compile makes a table of lines whose patterns hold only what paths may hold
// anywhere. See [CompileWith].
func Compile(u *Universe, lines []Line) (*Table, error) {
	return CompileWith(u, lines, PathAllow{})
}

// CompileWith makes a table of lines, for a site that allows more in its paths.
// The scopes that the lines require and the names of their parameters are
// entered into the universe: grants compiled before are stale. The error is a
// [*LineError] about the first line that is wrong in itself, or that is a
// duplicate of, or overlaps with, one before it without either being more
// specific.
func CompileWith(u *Universe, lines []Line, allow PathAllow) (*Table, error) {
	t := &Table{routes: make([]*Route, 0, len(lines))}
	for i := range lines {
		r, err := compileLine(u, lines[i], allow)
		if err != nil {
			return nil, &LineError{i, err.Error()}
		}
		r.Index = i
		if err := t.conflict(r); err != nil {
			return nil, &LineError{i, err.Error()}
		}
		t.root.insert(r, r.pattern)
		t.routes = append(t.routes, r)
	}
	return t, nil
}

// Routes returns the compiled lines, by index. The caller must not change them.
func (t *Table) Routes() []*Route { return t.routes }

// HasExact returns the first line whose pattern means exactly this path: the
// same segments, where a parameter ({id}) equals a parameter of any name. It is
// how paths that are served elsewhere are kept out of a table.
func (t *Table) HasExact(path string) (line *Route, ok bool) {
	p, err := parsePattern(path, PathAllow{Percent: true, Semicolon: true, EncodedSlash: true})
	if err != nil {
		return nil, false
	}
	n := &t.root
	for _, s := range p {
		if n = n.child(s); n == nil {
			return nil, false
		}
	}
	n.routes.each(func(r *Route) {
		if line == nil || r.Index < line.Index {
			line = r
		}
	})
	return line, line != nil
}

func compileLine(u *Universe, l Line, allow PathAllow) (*Route, error) {
	if err := checkMethods(l.Methods); err != nil {
		return nil, err
	}
	p, err := parsePattern(l.Pattern, allow)
	if err != nil {
		return nil, fmt.Errorf("pattern %s: %w", quote(l.Pattern), err)
	}
	if l.Require.Public && (l.SecondFactor || l.Signed) {
		return nil, fmt.Errorf("%s is public: a second factor and a signature are those of a caller; require authenticated or a scope", l.String())
	}
	if l.Cost < 0 {
		return nil, errors.New("a cost must be at least 1")
	}
	l.Cost = max(l.Cost, 1)
	need, err := u.Need(l.Require)
	if err != nil {
		return nil, err
	}
	r := &Route{Line: l, Name: l.String(), pattern: p, need: need}
	r.Params, r.paramSegments = p.params()
	for _, name := range r.Params {
		r.paramIDs = append(r.paramIDs, u.internParam(name))
	}
	return r, nil
}

// conflict compares a line with those before it that match some path of its own,
// and reports the first that it is at odds with.
func (t *Table) conflict(r *Route) error {
	var first *Route
	t.root.overlapping(r.pattern, func(other *Route) {
		if (first == nil || other.Index < first.Index) && r.conflictWith(other) != nil {
			first = other
		}
	})
	if first == nil {
		return nil
	}
	return r.conflictWith(first)
}

// conflictWith explains the conflict of two lines, nil where there is none.
func (r *Route) conflictWith(other *Route) error {
	switch r.pattern.compare(other.pattern) {
	case equivalent:
		for _, m := range r.Methods {
			for _, o := range other.Methods {
				if m == o {
					return fmt.Errorf("%s conflicts with %s: both name %s on the same path; leave one of them out",
						r.Name, other.place(r.File), m)
				}
			}
		}
	case overlapping:
		if shareMethod(r.Methods, other.Methods) {
			return fmt.Errorf("%s conflicts with %s: both match paths like %s and neither is more specific; make one of them so, or give them different methods",
				r.Name, other.place(r.File), r.pattern.common(other.pattern))
		}
	}
	return nil
}

// place names the line in an error about a line of the given file.
func (r *Route) place(file string) string {
	switch {
	case r.LineNo == 0:
		return fmt.Sprintf("route %d: %s", r.Index+1, r.Name)
	case r.File == file || r.File == "":
		return fmt.Sprintf("line %d: %s", r.LineNo, r.Name)
	}
	return fmt.Sprintf("%s:%d: %s", r.File, r.LineNo, r.Name)
}
