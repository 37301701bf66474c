package refusal

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/errors.md is where docs_url leads: each reason is a heading, of which GitHub
// makes the anchor #reason.
func TestEveryReasonIsExplained(t *testing.T) {
	raw, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := make(map[Reason]string)
	var order []Reason
	parts := strings.Split(string(raw), "\n## ")
	for _, part := range parts[1:] {
		name, text, _ := strings.Cut(part, "\n")
		if _, twice := explained[Reason(name)]; twice {
			t.Errorf("%s is explained twice: its anchor would be another", name)
		}
		explained[Reason(name)] = text
		order = append(order, Reason(name))
	}
	if want := Reasons(); !slices.Equal(order, want) {
		t.Errorf("docs/errors.md explains\n%v\nthe reasons are\n%v", order, want)
	}
	for _, r := range Reasons() {
		text := explained[r]
		status := fmt.Sprintf("Status %d", Problem.Status(r))
		for d := range dialects {
			if s := d.Status(r); s != Problem.Status(r) {
				status += fmt.Sprintf("; %d in `%s`", s, d)
			}
		}
		if !strings.Contains(text, "\n"+status+". ") {
			t.Errorf("%s: want %q in\n%s", r, status, text)
		}
		for _, who := range []string{"\n- Caller: ", "\n- Operator: "} {
			if _, advice, _ := strings.Cut(text, who); len(advice) < 5 {
				t.Errorf("%s: there is no %q", r, who)
			}
		}
	}
}

// The anchor that GitHub makes of a heading is the heading: lower-case letters,
// digits and underscores stay.
func TestReasonsAreTheirOwnAnchors(t *testing.T) {
	for _, r := range Reasons() {
		if !regexp.MustCompile(`^[a-z][a-z0-9_]*$`).MatchString(string(r)) {
			t.Errorf("%q is no anchor", r)
		}
		ref := &Refusal{Reason: r, DocsURL: "https://example.com/docs/errors.md"}
		want := `"type":"https://example.com/docs/errors.md#` + string(r) + `"`
		if body := string(Problem.Body(ref)); !strings.Contains(body, want) {
			t.Errorf("%s: %s lacks %s", r, body, want)
		}
		if Problem.Status(r) == http.StatusUnauthorized {
			e := &table[r.place()]
			ref.Credential = true
			if got := string(appendChallenge(nil, e, ref)); !strings.Contains(got, "; see https://example.com/docs/errors.md#"+string(r)) {
				t.Errorf("%s: %s", r, got)
			}
		}
	}
}
