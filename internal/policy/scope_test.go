package policy

import (
	"reflect"
	"strings"
	"testing"
)

func TestScopeGrammarIsExact(t *testing.T) {
	for _, s := range []string{"*", "farms:read", "farms:*", "a.b_c-9:x.y_z-0", "-:-", "9:9"} {
		if err := ParseScope(s); err != nil {
			t.Errorf("ParseScope(%q) = %v", s, err)
		}
	}
	for _, s := range []string{
		"", ":", "a:", ":b", "a", "**", "*:*", "*:read", "a:b:c", "a:b*", "a:**", "A:b", "a:B", "a b:c", "a:b c",
		"a:b\n", "a:b\x00", "é:b", "a：b", "a:b@p=1", "a:b@", "@p=1", "a/b:c", "a|b", "a:b|c:d", "public",
	} {
		if err := ParseScope(s); err == nil {
			t.Errorf("ParseScope(%q) passed", s)
		}
	}
}

func TestScopeErrorsSayWhatToWrite(t *testing.T) {
	for s, want := range map[string]string{
		"Farms:Read":      "write farms:read",
		"farms:read@id=1": "leave out '@'",
		"farms":           "resource:action",
	} {
		if err := ParseScope(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseScope(%q) = %v, want mention of %q", s, err, want)
		}
	}
	if err := ParseScope(strings.Repeat("x", 1<<20)); len(err.Error()) > 400 {
		t.Errorf("the error repeats %d bytes of its input", len(err.Error()))
	}
}

func TestGrantGrammarIsExact(t *testing.T) {
	long := strings.Repeat("v", 128)
	for s, want := range map[string]Grant{
		"*":                             {Scope: "*"},
		"farms:read":                    {Scope: "farms:read"},
		"workers:command@farmId=42,43":  {"workers:command", "farmId", []string{"42", "43"}},
		"*@farmId=1":                    {"*", "farmId", []string{"1"}},
		"farms:*@_=a.b_c~d:e-F":         {"farms:*", "_", []string{"a.b_c~d:e-F"}},
		"farms:read@id=" + long:         {"farms:read", "id", []string{long}},
		"farms:read@ångström=1":         {"farms:read", "ångström", []string{"1"}},
		"swarms:write@userId=a-b:c~1.2": {"swarms:write", "userId", []string{"a-b:c~1.2"}},
	} {
		g, err := ParseGrant(s)
		if err != nil || !reflect.DeepEqual(g, want) {
			t.Errorf("ParseGrant(%q) = %+v, %v", s, g, err)
		}
		if g.String() != s {
			t.Errorf("ParseGrant(%q).String() = %q", s, g.String())
		}
	}
	for _, s := range []string{
		"", "@", "@p=1", "a:b@", "a:b@p", "a:b@p=", "a:b@=1", "a:b@p=,", "a:b@p=1,", "a:b@p=,1", "a:b@p=1,,2",
		"a:b@p=1@q=2", "a:b@p=1 ", "a:b@p= 1", "a:b@1p=1", "a:b@p-q=1", "a:b@p=*", "a:b@p=%31", "a:b@p=1/2",
		"a:b@p=é", "a:b@p=\x00", "a:b@{p}=1", "a:b@p=" + long + "v", "a:b@\xff=1", "a:b@p\xff=1", "A:b@p=1", "a:b@p=1\n",
	} {
		if g, err := ParseGrant(s); err == nil {
			t.Errorf("ParseGrant(%q) = %+v", s, g)
		}
	}
}

func FuzzParseGrant(f *testing.F) {
	for _, s := range []string{"*", "farms:read", "farms:*", "workers:command@farmId=42,43", "a:b@p=", "*@x=~"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		g, err := ParseGrant(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x00\n\r") {
				t.Errorf("%q: the error holds control characters", s)
			}
			return
		}
		if g.String() != s {
			t.Errorf("%q reads as %q", s, g)
		}
		if ParseScope(g.Scope) != nil || !strings.HasPrefix(s, g.Scope) {
			t.Errorf("%q: scope %q", s, g.Scope)
		}
		if (g.Param == "") != (len(g.Values) == 0) || (g.Param == "") != (g.Scope == s) {
			t.Errorf("%q: half narrowed: %+v", s, g)
		}
		for _, v := range g.Values {
			if v == "" || len(v) > 128 || strings.Trim(v, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~:-") != "" {
				t.Errorf("%q: value %q", s, v)
			}
		}
		// What can be held can be compiled and covers itself.
		u, _ := NewUniverse(nil, nil)
		if missing, ok := u.Covers([]string{s}, []string{s}); !ok {
			t.Errorf("%q does not cover itself (%q)", s, missing)
		}
	})
}
