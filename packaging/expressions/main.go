// Command expressions writes the expressions of a Grafana dashboard as recording
// rules, so that `promtool check rules` judges them:
//
//	go run ./packaging/expressions dashboard.json
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: expressions DASHBOARD.json")
		os.Exit(2)
	}
	text, err := os.ReadFile(os.Args[1]) //nolint:gosec // the caller names its own file
	if err == nil {
		err = rules(os.Stdout, text)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "expressions: %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// rules writes one recording rule per expression. What Grafana fills in is
// replaced by something of the same kind.
func rules(w io.Writer, dashboard []byte) error {
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(dashboard, &d); err != nil {
		return err
	}
	fill := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*")
	var b strings.Builder
	b.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	n := 0
	for _, p := range d.Panels {
		for _, t := range p.Targets {
			expr, err := json.Marshal(fill.Replace(t.Expr)) // JSON text is YAML text
			if err != nil {
				return err
			}
			if strings.Contains(string(expr), "$") {
				return fmt.Errorf("panel %q: a variable that nothing replaces in %s", p.Title, expr)
			}
			fmt.Fprintf(&b, "      - record: panel:%d\n        expr: %s\n", n, expr)
			n++
		}
	}
	if n == 0 {
		return fmt.Errorf("no expressions")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
