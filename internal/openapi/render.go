package openapi

import (
	"bytes"
	"fmt"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// comment makes one harmless line of any text, for a comment or a message: no
// line breaks or other control characters, nothing that changes how text is
// displayed, no reference to the environment (Caddy replaces those in comments
// too), and at most size characters.
func comment(text string, size int) string {
	var b strings.Builder
	n, space := 0, false
	for _, r := range text {
		if r == utf8.RuneError || unicode.IsControl(r) || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			space = n > 0
			continue
		}
		if n >= size {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			n, space = n+1, false
		}
		b.WriteRune(r)
		n++
	}
	// Caddy would put the value of a variable here, line breaks included.
	return strings.ReplaceAll(b.String(), "{$", "{ $")
}

// render writes the file: a head, then the lines by group, path and method.
func (c *converter) render(r *Result) []byte {
	var b bytes.Buffer
	title := c.doc.title
	if title == "" {
		title = "an API without a title"
	}
	fmt.Fprintf(&b, "# Routes of %s.\n", comment(title, 100))
	fmt.Fprintf(&b, "# Made by `hivegate routes from-openapi` from %s: %d lines", comment(c.doc.version, 20), r.Lines)
	if r.Skipped > 0 {
		fmt.Fprintf(&b, ", %d operations without one (search for SKIPPED)", r.Skipped)
	}
	b.WriteString(".\n# Use it in a site: hivegate { routes { import THIS_FILE } }\n")
	c.renderScopes(&b, r)
	groups := make(map[string][]*operation)
	width := 0
	for _, o := range c.ops {
		groups[o.group] = append(groups[o.group], o)
		if o.skip == "" && len(o.pattern) <= 80 {
			width = max(width, len(o.pattern))
		}
	}
	names := make([]string, 0, len(groups))
	for g := range groups {
		names = append(names, g)
	}
	sort.Strings(names)
	for _, g := range names {
		fmt.Fprintf(&b, "\n# %s\n", strings.ToUpper(comment(g, 60)))
		for _, o := range groups[g] {
			o.render(&b, width)
		}
	}
	return b.Bytes()
}

func (c *converter) renderScopes(b *bytes.Buffer, r *Result) {
	if len(r.Scopes) == 0 {
		return
	}
	b.WriteString("#\n# For the global block:\n")
	line := "# scopes"
	for _, s := range r.Scopes {
		if len(line)+len(s) > 100 {
			b.WriteString(line + "\n")
			line = "# scopes"
		}
		line += " " + s
	}
	b.WriteString(line + "\n")
	if c.opts.ScopeFrom != ScopeSecurity {
		return
	}
	var changed []string
	for was, n := range c.names {
		if n.why == "" && n.name != was {
			changed = append(changed, fmt.Sprintf("# %s: %s in the description\n", n.name, comment(was, 100)))
		}
	}
	sort.Strings(changed)
	if len(changed) > 0 {
		b.WriteString("#\n# Scopes that are written differently here:\n" + strings.Join(changed, ""))
	}
}

func (o *operation) render(b *bytes.Buffer, width int) {
	if o.skip != "" {
		fmt.Fprintf(b, "# SKIPPED %s: %s\n", comment(o.String(), 200), comment(o.skip, 300))
		return
	}
	if text := comment(o.summary, 100); text != "" {
		fmt.Fprintf(b, "# %s\n", text)
	}
	for _, n := range o.notes {
		fmt.Fprintf(b, "# NOTE %s\n", comment(n, 300))
	}
	fmt.Fprintf(b, "%-7s %-*s %s\n", o.method, width, o.pattern, o.need)
}
