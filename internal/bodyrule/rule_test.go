package bodyrule

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/hivegate/hivegate/internal/policy"
)

func parse(t testing.TB, line string) Rule {
	t.Helper()
	r, err := ParseRule(strings.Fields(line))
	if err != nil {
		t.Fatalf("ParseRule(%q): %v", line, err)
	}
	return r
}

func compile(t testing.TB, lines ...string) *Set {
	t.Helper()
	var rules []Rule
	for _, line := range lines {
		rules = append(rules, parse(t, line))
	}
	s, err := Compile(rules)
	if err != nil {
		t.Fatalf("Compile(%q): %v", lines, err)
	}
	return s
}

func TestRulesAreReadAsTheyAreWritten(t *testing.T) {
	for line, want := range map[string]Rule{
		"command oneof reboot exec": {Field: "command", Values: []string{"reboot", "exec"}, OneOf: true},
		"command exec hssh require workers:admin 2fa": {Field: "command", Values: []string{"exec", "hssh"},
			Require: policy.Requirement{Scopes: [][]string{{"workers:admin"}}}, SecondFactor: true},
		"data.command exec require a:b c:d|e:f signed 2fa": {Field: "data.command", Values: []string{"exec"},
			Require: policy.Requirement{Scopes: [][]string{{"a:b"}, {"c:d", "e:f"}}}, SecondFactor: true, Signed: true},
		"command exec require 2fa": {Field: "command", Values: []string{"exec"},
			Require: policy.Requirement{Authenticated: true}, SecondFactor: true},
		"command exec require authenticated signed": {Field: "command", Values: []string{"exec"},
			Require: policy.Requirement{Authenticated: true}, Signed: true},
		"command oneof 2fa signed": {Field: "command", Values: []string{"2fa", "signed"}, OneOf: true},
	} {
		got := parse(t, line)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q is read as %+v, want %+v", line, got, want)
		}
		if again := parse(t, got.String()); !reflect.DeepEqual(again, got) {
			t.Errorf("%q written as %q is read as %+v", line, got, again)
		}
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var back Rule
		if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, got) {
			t.Errorf("%q as JSON is %s, and back %+v (%v)", line, b, back, err)
		}
	}
}

func TestMistakesInRulesAreNamed(t *testing.T) {
	for line, want := range map[string]string{
		"":                                          "too short",
		"command":                                   "too short",
		"command exec":                              "says nothing of its values",
		"command oneof":                             "no value is named",
		"command require workers:admin":             "no value is named",
		"command oneof exec require workers:x":      "two lines",
		"command exec require":                      "a requirement is missing",
		"command exec require public":               "public requires nothing",
		"command exec require 2fa 2fa":              "2fa stands there twice",
		"command exec require signed signed a:b":    "signed stands there twice",
		"command exec require workers":              "is not a scope",
		"command exec exec require a:b":             "stands there twice",
		".command oneof x":                          "is not a field",
		"data..command oneof x":                     "is not a field",
		"data[0] oneof x":                           "is not a field",
		"dätä oneof x":                              "is not a field",
		"_-_ oneof x":                               "is not a field",
		"data.0 oneof x":                            "element of an array",
		"__proto__.x oneof y":                       "refused in every body",
		"a.b.c.d.e.f.g.h.i oneof x":                 "levels deep",
		strings.Repeat("a", 65) + " oneof x":        "is not a field",
		"command oneof " + strings.Repeat("v", 129): "is not a value",
		"command oneof a\x00b":                      "is not a value",
		"command oneof a\xff":                       "is not a value",
	} {
		_, err := ParseRule(strings.Fields(line))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

func TestRulesThatContradictEachOtherAreRefused(t *testing.T) {
	for want, lines := range map[string][]string{
		"oneof stands there twice":         {"command oneof a", "command oneof b"},
		"did you mean exec?":               {"command oneof exec reboot", "command exce require a:b"},
		"but oneof does not allow it":      {"command zebra require a:b", "command oneof exec reboot"},
		"cannot be text and have the":      {"data oneof a", "data.command oneof b"},
		"cannot be text and have members":  {"data.command oneof b", "data oneof a"},
		"differ by spelling alone":         {"command oneof b", "Command oneof a"},
		"fields user_id and userId differ": {"user_id oneof b", "userId oneof a"},
		"0 json rules":                     {},
	} {
		var rules []Rule
		for _, line := range lines {
			rules = append(rules, parse(t, line))
		}
		if _, err := Compile(rules); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", lines, err, want)
		}
	}
	if _, err := Compile(make([]Rule, 65)); err == nil {
		t.Error("65 rules on one route")
	}
	if _, err := Compile([]Rule{{Field: "command", Values: []string{"a"}, OneOf: true, Signed: true}}); err == nil {
		t.Error("oneof with signed")
	}
	if _, err := Compile([]Rule{{Field: "command", Values: []string{"a"}}}); err == nil {
		t.Error("a rule that requires nothing")
	}
}

func TestASetSaysWhatItCanAskFor(t *testing.T) {
	for line, want := range map[string][2]bool{
		"command oneof a":              {false, false},
		"command a require x:y":        {false, false},
		"command a require x:y 2fa":    {true, false},
		"command a require x:y signed": {false, true},
	} {
		s := compile(t, line)
		if got := [2]bool{s.CanAskSecondFactor(), s.CanAskSignature()}; got != want {
			t.Errorf("%q can ask for (2fa, signed) %v, want %v", line, got, want)
		}
	}
}
