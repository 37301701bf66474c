package caddymodule

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// noted is where the parts of the Caddyfile stand that was adapted last, for
// `lint`. It is empty unless that command asks for it: a server adapts
// configurations too, and keeps nothing of them here.
var noted notes

type notes struct {
	mu    sync.Mutex // guards the rest
	on    bool
	whole placed
	gates map[string][]placed // by the gate's JSON; several may be alike
}

// placed is one hivegate block.
type placed struct {
	places places
	start  caddyfile.Token
}

// begin forgets what was noted and starts noting.
func (n *notes) begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.on, n.whole, n.gates = true, placed{}, make(map[string][]placed)
}

// end stops noting.
func (n *notes) end() (whole placed, gates map[string][]placed) {
	n.mu.Lock()
	defer n.mu.Unlock()
	whole, gates = n.whole, n.gates
	n.on, n.whole, n.gates = false, placed{}, nil
	return whole, gates
}

func (n *notes) app(p places, start caddyfile.Token) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.on {
		n.whole = placed{p, start}
	}
}

func (n *notes) gate(g *Gate, p places, start caddyfile.Token) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.on {
		key := gateKey(g)
		n.gates[key] = append(n.gates[key], placed{p, start})
	}
}

// gateKey is a gate's JSON, by which it is found again in the adapted whole.
func gateKey(g *Gate) string {
	text, err := json.Marshal(g)
	if err != nil {
		return ""
	}
	return string(text)
}

// at is where a part stands: itself, or the nearest part around it.
func (p placed) at(path string) place {
	for path != "" {
		if t, ok := p.places[path]; ok {
			return place{t.File, t.Line}
		}
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			break
		}
		path = path[:i]
	}
	return place{p.start.File, p.start.Line}
}

// place is a line of a file; the zero value is not known.
type place struct {
	file string
	line int
}

// source is the Caddyfile as tokens, for what Caddy's own directives say. Empty
// for a JSON configuration.
type source struct {
	blocks []caddyfile.ServerBlock
}

func readSource(path string, raw []byte) source {
	blocks, err := caddyfile.Parse(path, raw)
	if err != nil {
		return source{} // it was adapted before, so this cannot be; lines are missing then
	}
	return source{blocks}
}

// find returns the place of the first line that begins with word, in the global
// block or outside of it, and of which with is part of another word on it. An
// empty with is part of any.
func (s source) find(global bool, word, with string) place {
	for i, b := range s.blocks {
		if (i == 0 && len(b.Keys) == 0) != global {
			continue
		}
		for _, segment := range b.Segments {
			for j, t := range segment {
				if t.Text != word || j > 0 && segment[j-1].Line == t.Line && segment[j-1].File == t.File {
					continue
				}
				for k := j; k < len(segment); k++ {
					if strings.Contains(segment[k].Text, with) && (k > j || with == "") {
						return place{t.File, t.Line}
					}
				}
			}
		}
	}
	return place{}
}

// site returns the place of the site whose addresses include one with this host.
func (s source) site(hosts []string) place {
	for _, b := range s.blocks {
		if b.IsNamedRoute {
			continue
		}
		for _, k := range b.Keys {
			if len(hosts) == 0 || slices.ContainsFunc(hosts, func(h string) bool { return strings.Contains(k.Text, h) }) {
				return place{k.File, k.Line}
			}
		}
	}
	return place{}
}

// ignoring reads the comments `# lint-ignore: ID …`, which stand in the line of a
// finding or in the one above it.
type ignoring map[string][]string // lines of a file

func (g ignoring) covers(f *finding) bool {
	if f.Line == 0 {
		return false
	}
	lines, read := g[f.File]
	if !read {
		text, err := os.ReadFile(f.File)
		if err == nil {
			lines = strings.Split(string(text), "\n")
		}
		g[f.File] = lines
	}
	for _, n := range []int{f.Line - 1, f.Line - 2} {
		if n < 0 || n >= len(lines) {
			continue
		}
		if n == f.Line-2 && !strings.HasPrefix(strings.TrimSpace(lines[n]), "#") {
			continue // the line above is about itself
		}
		if _, ids, ok := strings.Cut(lines[n], "# lint-ignore:"); ok && slices.Contains(strings.Fields(ids), f.ID) {
			return true
		}
	}
	return false
}
