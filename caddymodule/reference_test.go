package caddymodule

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hivegate/hivegate/internal/refusal"
)

// configTypes are those of other packages that stand in a configuration.
var configTypes = []string{"jwtauth.Config", "jwtauth.StaticKey", "bodyrule.Rule", "policy.Requirement"}

const referenceFile = "../docs/reference.md"

// TestReferenceIsUpToDate makes docs/reference.md of the doc comments of fields and
// parsers, the tables of options, the commands, metrics and reasons, and compares.
// `make reference` writes it.
func TestReferenceIsUpToDate(t *testing.T) {
	r := &reference{t: t, types: make(map[string]*goType), funcs: make(map[string]string)}
	for _, dir := range []string{".", "../internal/jwtauth", "../internal/bodyrule", "../internal/policy"} {
		r.read(dir)
	}
	want := r.write()
	if *update {
		if err := os.WriteFile(referenceFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/reference.md is stale: run `make reference`")
	}
}

// reference collects what the manual says. Everything that it needs and does not
// find fails the test: an option without a doc comment is one without a manual.
type reference struct {
	t       *testing.T
	types   map[string]*goType // of a package's last word and name: "caddymodule.Gate"
	order   []string
	funcs   map[string]string // doc comments
	sources strings.Builder   // of this package
	b       bytes.Buffer
}

type goType struct {
	doc    string
	fields []goField
}

type goField struct{ json, kind, doc string }

func (r *reference) read(dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		r.t.Fatal(err)
	}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			r.t.Fatal(err)
		}
		f, err := parser.ParseFile(set, name, text, parser.ParseComments)
		if err != nil {
			r.t.Fatal(err)
		}
		if dir == "." {
			r.sources.Write(text)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if dir == "." && d.Recv == nil {
					r.funcs[d.Name.Name] = d.Doc.Text()
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok && s.Name.IsExported() {
						doc := d.Doc.Text()
						if s.Doc != nil {
							doc = s.Doc.Text()
						}
						r.addType(f.Name.Name+"."+s.Name.Name, s, doc)
					}
				}
			}
		}
	}
}

// addType keeps structs that are JSON.
func (r *reference) addType(name string, s *ast.TypeSpec, doc string) {
	fields, ok := s.Type.(*ast.StructType)
	if pkg, _, _ := strings.Cut(name, "."); !ok || pkg != "caddymodule" && !slices.Contains(configTypes, name) {
		return
	}
	t := &goType{doc: doc}
	for _, f := range fields.Fields.List {
		if f.Tag == nil || len(f.Names) == 0 {
			continue
		}
		tag, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		if tag == "" || tag == "-" {
			continue
		}
		if f.Doc.Text() == "" {
			r.t.Errorf("%s.%s has no doc comment: it is the manual", name, f.Names[0].Name)
		}
		t.fields = append(t.fields, goField{tag, kindOf(f.Type), f.Doc.Text()})
	}
	if len(t.fields) > 0 {
		r.types[name] = t
		r.order = append(r.order, name)
	}
}

// kindOf names a type in the words of JSON.
func kindOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return kindOf(e.X)
	case *ast.ArrayType:
		return "list of " + kindOf(e.Elt)
	case *ast.MapType:
		return "object of " + kindOf(e.Value)
	case *ast.SelectorExpr:
		if e.Sel.Name == "Duration" {
			return "duration"
		}
		return kindOf(e.Sel)
	case *ast.Ident:
		switch e.Name {
		case "string", "Reason":
			return "text"
		case "bool":
			return "true or false"
		case "int", "int64":
			return "number"
		case "Duration":
			return "duration"
		case "RawMessage":
			return "module"
		}
		return "[" + e.Name + "](#" + strings.ToLower(e.Name) + ")"
	}
	return "value"
}

func (r *reference) printf(format string, args ...any) { fmt.Fprintf(&r.b, format, args...) }

// cell makes one line for a table of a doc comment.
func cell(doc string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(doc), " "), "|", `\|`)
}

func (r *reference) write() []byte {
	r.printf("# Reference\n\nMade by `make reference` of the source: change the doc comments there, not this file.\n\n" +
		"- [The global option](#the-global-option)\n- [The directive](#the-directive)\n- [JSON](#json)\n- [Commands](#commands)\n" +
		"- [Metrics](#metrics)\n- [Placeholders](#placeholders)\n- [Reasons](#reasons)\n\n")
	r.printf("## The global option\n\n%s\n\n", syntax(r.funcs["parseGlobal"]))
	appFields := map[string]string{"key_format": "key_formats", "alias": "aliases", "preset": "presets", "class": "classes", "plan": "plans", "issuer": "issuers"}
	options(r, globalOptions, "caddymodule.App", appFields)
	r.printf("### In `issuer`\n\n")
	options(r, issuerOptions, "jwtauth.Config", map[string]string{"public_key": "public_keys", "role": "roles", "static_key": "static_keys"})
	r.printf("## The directive\n\n%s\n\n", syntax(r.funcs["parseGate"]))
	options(r, gateOptions, "caddymodule.Gate", nil)
	r.printf("## JSON\n\nWhat the Caddyfile becomes, and what else can be said in JSON alone. `hivegate adapt` shows it.\n\n")
	for _, name := range r.order {
		r.jsonType(name)
	}
	r.commands()
	r.metrics()
	r.printf("## Placeholders\n\n")
	seen := make(map[string]bool)
	for _, p := range regexp.MustCompile("`(\\{http\\.[a-z_.]+\\})`").FindAllStringSubmatch(r.types["caddymodule.Gate"].doc, -1) {
		if !seen[p[1]] {
			seen[p[1]] = true
			r.printf("- `%s`\n", p[1])
		}
	}
	if len(seen) < 8 {
		r.t.Error("the comment of Gate names fewer placeholders than there are")
	}
	r.printf("\nOne without a value is empty. Access logs have `user_id`, `hivegate_route` and `hivegate_reason`.\n\n")
	r.printf("## Reasons\n\nWhat to do about each is in [errors.md](errors.md).\n\n| reason | status | message | hint |\n|---|---|---|---|\n")
	hiveos, err := refusal.ParseDialect("hiveos")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, reason := range refusal.Reasons() {
		status := fmt.Sprint(refusal.Problem.Status(reason))
		if s := hiveos.Status(reason); s != refusal.Problem.Status(reason) {
			status += fmt.Sprintf(" (%d in hiveos)", s)
		}
		r.printf("| [%[1]s](errors.md#%[1]s) | %s | %s | %s |\n", reason, status, cell(reason.Message()), cell(reason.Hint()))
	}
	return r.b.Bytes()
}

// options is the table of one block: its words, as the parser knows them, and the
// doc comment of the field that each sets.
func options[T any](r *reference, table map[string]option[T], of string, other map[string]string) {
	fields := make(map[string]string)
	if r.types[of] == nil {
		r.t.Fatalf("there is no type %s", of)
	}
	for _, f := range r.types[of].fields {
		fields[f.json] = f.doc
	}
	r.printf("| option | meaning |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(table)) {
		field := name
		if f, ok := other[name]; ok {
			field = f
		}
		if fields[field] == "" {
			r.t.Errorf("the option %s sets no field %s of %s that has a doc comment", name, field, of)
		}
		again := ""
		if !table[name].once {
			again = " May stand more than once."
		}
		r.printf("| `%s` | %s%s |\n", name, cell(fields[field]), again)
		if above := r.funcs["parseGate"] + r.funcs["parseGlobal"]; !regexp.MustCompile(`(?m)^\t+` + regexp.QuoteMeta(name) + `\b`).MatchString(above) {
			r.t.Errorf("the option %s is missing in the syntax that stands above its parser", name)
		}
	}
	r.printf("\n")
}

// syntax is what a parser's doc comment says after its first paragraph.
func syntax(doc string) string {
	_, rest, _ := strings.Cut(doc, "\n\n")
	return markdown(rest)
}

// markdown makes code blocks of what is indented in a doc comment.
func markdown(doc string) string {
	var out []string
	code := false
	for _, l := range strings.Split(strings.Trim(doc, "\n"), "\n") {
		if indented := strings.HasPrefix(l, "\t"); indented != code && l != "" {
			if code = indented; code {
				out = append(out, "```caddyfile")
			} else {
				out = append(out, "```", "")
			}
		}
		out = append(out, strings.TrimPrefix(l, "\t"))
	}
	if code {
		out = append(out, "```")
	}
	text := strings.Join(out, "\n")
	return strings.ReplaceAll(text, "\n\n```\n", "\n```\n")
}

func (r *reference) jsonType(name string) {
	_, short, _ := strings.Cut(name, ".")
	t := r.types[name]
	r.printf("### %s\n\n%s\n\n| member | value | meaning |\n|---|---|---|\n", short, strings.TrimSpace(t.doc))
	for _, f := range t.fields {
		r.printf("| `%s` | %s | %s |\n", f.json, f.kind, cell(f.doc))
	}
	r.printf("\n")
}

func (r *reference) commands() {
	r.printf("## Commands\n\nIn the `hivegate` binary as they stand here, in every build as `caddy hivegate …`. Besides there are Caddy's own.\n" +
		"Exit codes: 0 done, 1 failed (reason on standard error), 2 wrong usage.\n\n" +
		"Those that read a configuration take `--config` (default `./Caddyfile`, then `$HIVEGATE_CONFIG`), `--adapter` and `--envfile`.\n\n")
	tree := commandTree()
	slices.SortFunc(tree, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	for _, c := range tree {
		r.command("", c)
	}
}

func (r *reference) command(above string, c *cobra.Command) {
	path := strings.TrimSpace(above + " " + c.Name())
	if c.Short == "" {
		r.t.Errorf("the command %s has no short description", path)
	}
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	_, args, _ := strings.Cut(c.Use, " ")
	r.printf("### %s\n\n```text\nhivegate %s\n\n%s\n", path, strings.TrimSpace(path+" "+args), long)
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		switch f.Name {
		case "config", "adapter", "envfile", "help":
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		line := "--" + f.Name
		if kind != "" {
			line += " " + kind
		}
		if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "0" {
			usage += fmt.Sprintf(" (default %s)", d)
		}
		r.printf("\n  %-24s %s", line, usage)
	})
	r.printf("\n```\n\n")
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			r.command(path, sub)
		}
	}
}

var (
	metricRE = regexp.MustCompile(`Name:\s+"(hivegate_[a-z_]+)",\s*Help:\s+"([^"]+)"`)
	descRE   = regexp.MustCompile(`NewDesc\("(hivegate_[a-z_]+)",\s*"([^"]+)", (nil|\[\]string\{[^}]*\})`)
	labelsRE = regexp.MustCompile(`\}, \[\]string\{([^}]*)\}\)`)
)

func (r *reference) metrics() {
	r.printf("## Metrics\n\nOn Caddy's registry, at `/metrics` of the admin endpoint. No label holds a key, an address or a path.\n\n| metric | labels | meaning |\n|---|---|---|\n")
	source := r.sources.String()
	rows := make(map[string]string)
	for _, at := range metricRE.FindAllStringSubmatchIndex(source, -1) {
		labels := ""
		// The labels of a vector stand behind its options.
		if rest := source[at[1]:min(len(source), at[1]+200)]; labelsRE.MatchString(rest) && !strings.Contains(rest[:labelsRE.FindStringIndex(rest)[0]], "Name:") {
			labels = labelsRE.FindStringSubmatch(rest)[1]
		}
		rows[source[at[2]:at[3]]] = labels + "\x00" + source[at[4]:at[5]]
	}
	for _, m := range descRE.FindAllStringSubmatch(source, -1) {
		rows[m[1]] = strings.Trim(strings.TrimPrefix(m[3], "[]string"), "{}") + "\x00" + m[2]
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		labels, help, _ := strings.Cut(rows[name], "\x00")
		if labels == "nil" {
			labels = ""
		}
		r.printf("| `%s` | %s | %s |\n", name, strings.ReplaceAll(labels, `"`, ""), cell(help))
	}
	for _, n := range regexp.MustCompile(`"(hivegate_[a-z]+_[a-z_]+)"`).FindAllStringSubmatch(source, -1) {
		if rows[n[1]] == "" && !strings.HasPrefix(n[1], "hivegate_reason") && !strings.HasPrefix(n[1], "hivegate_route") {
			r.t.Errorf("the metric %s was not found with its help text", n[1])
		}
	}
	r.printf("\n")
}
