package examples

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	requirementsFile = "../e2e/testdata/requirements.txt"
	systemsFile      = "../docs/systems.md"
)

// The table of docs/systems.md, the list of requirements and the tests say the
// same: each id has one row, each test that a row names exists, and each subtest
// that is named after a requirement stands in its row.
func TestEveryRequirementOfTheSystemsHasAVerdict(t *testing.T) {
	for _, drift := range judgeSystems(readText(t, requirementsFile), readText(t, systemsFile), namedTests(t, "../e2e")) {
		t.Error(drift)
	}
}

// That test is worth nothing if it lets things drift apart.
func TestDriftOfTheRequirementsIsFound(t *testing.T) {
	list, table, tests := readText(t, requirementsFile), readText(t, systemsFile), namedTests(t, "../e2e")
	row := regexp.MustCompile(`(?m)^\| S1-15 \|.*\n`).FindString(table)
	if row == "" {
		t.Fatal("no row of S1-15")
	}
	const shown = "TestSystemHornetHive"
	sub := slices.IndexFunc(tests[shown], func(name string) bool { return strings.HasPrefix(name, "S1-15 ") })
	if sub < 0 {
		t.Fatal("no subtest of S1-15")
	}
	with := func(change func(map[string][]string)) map[string][]string {
		m := maps.Clone(tests)
		m[shown] = slices.Clone(m[shown])
		change(m)
		return m
	}
	for what, c := range map[string]struct {
		list, table string
		tests       map[string][]string
	}{
		"a row is missing":                      {list, strings.Replace(table, row, "", 1), tests},
		"a row stands twice":                    {list, strings.Replace(table, row, row+row, 1), tests},
		"a row of no requirement":               {list, strings.Replace(table, row, row+strings.Replace(row, "S1-15", "S1-99", 1), 1), tests},
		"a requirement that is new":             {list + "S1-99 something\n", table, tests},
		"a requirement that is gone":            {regexp.MustCompile(`(?m)^S1-15 .*\n`).ReplaceAllString(list, ""), table, tests},
		"a requirement that says another thing": {strings.Replace(list, "\nS1-15 ", "\nS1-15 not ", 1), table, tests},
		"a verdict that is none":                {list, strings.Replace(table, row, strings.Replace(row, "| met |", "| done |", 1), 1), tests},
		"another verdict without a reason":      {list, strings.Replace(table, row, strings.Replace(row, "| met |", "| backend |", 1), 1), tests},
		"met, and no test named":                {list, strings.Replace(table, row, strings.ReplaceAll(row, "`"+shown, "`"), 1), tests},
		"a subtest was renamed":                 {list, table, with(func(m map[string][]string) { m[shown][sub] += " again" })},
		"a subtest was removed":                 {list, table, with(func(m map[string][]string) { m[shown] = slices.Delete(m[shown], sub, sub+1) })},
		"a subtest is new":                      {list, table, with(func(m map[string][]string) { m[shown] = append(m[shown], "S1-15 and more") })},
		"the test was renamed":                  {list, table, with(func(m map[string][]string) { m["TestOther"] = m[shown]; delete(m, shown) })},
		"the counts are old":                    {list, regexp.MustCompile(`[0-9]+ met`).ReplaceAllString(table, "7 met"), tests},
	} {
		if len(judgeSystems(c.list, c.table, c.tests)) == 0 {
			t.Errorf("%s: not found", what)
		}
	}
}

var (
	requirementRE = regexp.MustCompile(`^(S[0-3]-[0-9]+) (.+)$`)
	rowRE         = regexp.MustCompile(`^\| (S[0-3]-[0-9]+) \| (.+) \| (\S+) \| (.*) \|$`)
	testNameRE    = regexp.MustCompile("`(Test[^`]*)`")
	verdicts      = []string{"met", "client", "backend", "open"}
)

// judgeSystems says in what the three have drifted apart. The tests are given
// as the subtests of each test whose names are literals.
func judgeSystems(list, table string, tests map[string][]string) (drifts []string) {
	drift := func(format string, args ...any) { drifts = append(drifts, fmt.Sprintf(format, args...)) }
	says := map[string]string{}
	for _, l := range strings.Split(list, "\n") {
		if m := requirementRE.FindStringSubmatch(l); m != nil {
			if says[m[1]] != "" {
				drift("%s stands twice in the list", m[1])
			}
			says[m[1]] = m[2]
		} else if l != "" && !strings.HasPrefix(l, "#") {
			drift("no requirement: %q", l)
		}
	}
	rows, counts := map[string]string{}, map[string]int{}
	for _, l := range strings.Split(table, "\n") {
		m := rowRE.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		id, text, verdict, shown := m[1], m[2], m[3], m[4]
		if _, twice := rows[id]; twice {
			drift("%s has two rows", id)
		}
		rows[id] = shown
		counts[verdict]++
		if says[id] != text {
			drift("%s says %q in the table and %q in the list", id, text, says[id])
		}
		drifts = append(drifts, judgeRow(id, verdict, shown, tests)...)
	}
	for id := range says {
		if _, ok := rows[id]; !ok {
			drift("%s has no row", id)
		}
	}
	for test, subs := range tests {
		for _, sub := range subs {
			if m := requirementRE.FindStringSubmatch(sub); m != nil && !strings.Contains(rows[m[1]], "`"+test+"/"+sub+"`") {
				drift("%s/%s does not stand in the row of %s", test, sub, m[1])
			}
		}
	}
	summary := fmt.Sprintf("%d requirements: ", len(says))
	for _, v := range verdicts {
		if counts[v] > 0 {
			summary += fmt.Sprintf("%d %s, ", counts[v], v)
		}
	}
	if want := strings.TrimSuffix(summary, ", ") + "."; !strings.Contains(table, want) {
		drift("the table is not introduced by %q", want)
	}
	return drifts
}

// judgeRow says what is wrong with one row.
func judgeRow(id, verdict, shown string, tests map[string][]string) (drifts []string) {
	drift := func(format string, args ...any) { drifts = append(drifts, id+": "+fmt.Sprintf(format, args...)) }
	if !slices.Contains(verdicts, verdict) {
		drift("%q is no verdict: use one of %v", verdict, verdicts)
	}
	named := testNameRE.FindAllStringSubmatch(shown, -1)
	if verdict == "met" && len(named) == 0 {
		drift("met, and no test is named")
	}
	if reason := testNameRE.ReplaceAllString(shown, ""); verdict != "met" && len(strings.Trim(reason, "; ")) < 15 {
		drift("%s without a reason", verdict)
	}
	for _, n := range named {
		test, sub, has := strings.Cut(n[1], "/")
		subs, ok := tests[test]
		if !ok {
			drift("there is no test %s", test)
		} else if has && !slices.Contains(subs, sub) {
			drift("%s has no subtest %q", test, sub)
		}
	}
	return drifts
}

// namedTests reads the tests of a folder from their sources: the literal names
// of their subtests, by test.
func namedTests(t *testing.T, dir string) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	out := map[string][]string{}
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			// Helpers are kept as well: a subtest there that is named after a
			// requirement must stand in the table too.
			out[fn.Name.Name] = append(out[fn.Name.Name], subtests(fn)...)
		}
	}
	return out
}

// subtests are the literal names that a function gives to t.Run.
func subtests(fn *ast.FuncDecl) (names []string) {
	ast.Inspect(fn, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); !ok || sel.Sel.Name != "Run" {
			return true
		}
		if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if name, err := strconv.Unquote(lit.Value); err == nil {
				names = append(names, name)
			}
		}
		return true
	})
	return names
}

func readText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
