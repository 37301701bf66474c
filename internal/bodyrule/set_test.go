package bodyrule

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hivegate/hivegate/internal/refusal"
)

// hiveCommands are the 16 commands of the Hive OS API.
const hiveCommands = "reboot shutdown upgrade miner teleconsole hssh exec amd_download amd_upload " +
	"nvidia_download nvidia_upload asic_upgrade octofan_recalibrate benchmark_stop donnager_relay_switch pool_test"

func hiveSet(t testing.TB, field string) *Set {
	return compile(t,
		field+" oneof "+hiveCommands,
		field+" exec shutdown hssh teleconsole require workers:admin 2fa",
		field+" exec amd_upload require workers:flash signed")
}

// verdict is what Evaluate says, as one text: the numbers of the rules that
// apply, or the reason and the texts about fields.
func verdict(s *Set, body string) string {
	m, no := s.Evaluate([]byte(body))
	if no == nil {
		var applied []int
		for i := range m.Rules() {
			applied = append(applied, i)
		}
		return fmt.Sprint(applied)
	}
	words := []string{string(no.Reason)}
	for _, f := range no.Fields {
		words = append(words, f.Field+": "+strings.Join(f.Messages, " / "))
	}
	return strings.Join(words, "; ")
}

func TestRulesApplyByTheExactText(t *testing.T) {
	s := hiveSet(t, "command")
	for body, want := range map[string]string{
		`{"command":"reboot"}`:                                  "[]",
		`{"command":"reboot","data":null}`:                      "[]",
		`{"command":"miner","data":{"action":"stop"}}`:          "[]",
		`{"command":"exec","data":{"cmd":"miner stop"}}`:        "[1 2]",
		`{"data":{"cmd":"x"},"command":"exec"}`:                 "[1 2]",
		` { "command" : "shutdown" } `:                          "[1]",
		"\t\r\n{\"command\":\"amd_upload\"}\n":                  "[2]",
		`{"\u0063ommand":"\u0065xec"}`:                          "[1 2]",
		`{"comm\u0061nd":"e\u0078ec","x":{"command":"reboot"}}`: "[1 2]",
		`{"command":"reboot","x":[{"command":"exec"}],"x":1}`:   "[]",
	} {
		if got := verdict(s, body); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	m, _ := s.Evaluate([]byte(`{"command":"exec"}`))
	if !m.SecondFactor() || !m.Signed() || m.Applies(0) || !m.Applies(1) || m.Applies(-1) || m.Applies(64) {
		t.Errorf("exec: %+v", m)
	}
	m, _ = s.Evaluate([]byte(`{"command":"shutdown"}`))
	if !m.SecondFactor() || m.Signed() {
		t.Errorf("shutdown: %+v", m)
	}
	if none := (Match{}); none.SecondFactor() || none.Signed() || none.Applies(0) {
		t.Error("the zero Match applies")
	}
}

func TestDotsReachInside(t *testing.T) {
	s := hiveSet(t, "data.command")
	for body, want := range map[string]string{
		`{"worker_ids":[1,2],"data":{"command":"exec","data":{"cmd":"x"}}}`: "[1 2]",
		`{"data":{"command":"reboot","data":null},"command":"exec"}`:        "[]",
		`{"data":null}`:                     "field_invalid; data.command: command is missing: it must be one of " + strings.Join(strings.Fields(hiveCommands), ", "),
		`{"data":[]}`:                       "field_invalid; data: data must be an object",
		`{"data":"{\"command\":\"exec\"}"}`: "field_invalid; data: data must be an object",
		`{"data":{"command":"stop"}}`: `field_invalid; data.command: stop is not a command; did you mean ` +
			`{"data":{"command":"miner","data":{"action":"stop"}}}?`,
	} {
		if got := verdict(s, body); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestAFieldThatIsNotTextNeverSlipsPastARule(t *testing.T) {
	for _, field := range []string{"command", "data.command"} {
		s := compile(t, field+" exec require workers:admin 2fa")
		wrap := func(v string) string {
			if field == "command" {
				return `{"command":` + v + `}`
			}
			return `{"data":{"command":` + v + `}}`
		}
		for _, v := range []string{"5", "true", "false", `["exec"]`, `{"exec":1}`, "-1.5e3", "[]", "{}"} {
			if got, want := verdict(s, wrap(v)), "field_invalid; "+field+": command must be text"; got != want {
				t.Errorf("%s: %s, want %s", wrap(v), got, want)
			}
		}
		for _, body := range []string{wrap("null"), "{}", wrap(`"reboot"`), wrap(`"Exec"`), wrap(`"exec "`), wrap(`""`)} {
			if got := verdict(s, body); got != "[]" {
				t.Errorf("%s: %s, want no rule", body, got)
			}
		}
	}
	s := compile(t, "data.command exec require workers:admin 2fa")
	closed := compile(t, "data.command oneof exec")
	for _, v := range []string{"5", `"exec"`, "true", "[]", `[{"command":"exec"}]`} {
		body := `{"data":` + v + `}`
		if got := verdict(s, body); got != "[]" {
			t.Errorf("%s: %s: where there is no object there is no field", body, got)
		}
		if got, want := verdict(closed, body), "field_invalid; data: data must be an object"; got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}

func TestOneOfNamesTheNearestValidForm(t *testing.T) {
	s := hiveSet(t, "command")
	all := strings.Join(strings.Fields(hiveCommands), ", ")
	for body, want := range map[string]string{
		`{"command":"stop"}`:     `stop is not a command; did you mean {"command":"miner","data":{"action":"stop"}}?`,
		`{"command":"Restart"}`:  `Restart is not a command; did you mean {"command":"miner","data":{"action":"restart"}}?`,
		`{"command":"start"}`:    `start is not a command; did you mean {"command":"miner","data":{"action":"start"}}?`,
		`{"command":"tunning"}`:  `tunning is not a command; did you mean {"command":"miner","data":{"action":"tuning"}}?`,
		`{"command":"rebot"}`:    `rebot is not a command; did you mean {"command":"reboot"}?`,
		`{"command":"EXEC"}`:     `EXEC is not a command; did you mean {"command":"exec"}?`,
		`{"command":"zebra"}`:    `zebra is not a command: it must be one of ` + all,
		`{"command":""}`:         `"" is not a command: it must be one of ` + all,
		`{"command":"a b"}`:      `"a b" is not a command: it must be one of ` + all,
		`{"command":"a\u001bb"}`: `"a\u001bb" is not a command: it must be one of ` + all,
		`{"command":7}`:          `command must be text: it must be one of ` + all,
		`{"command":null}`:       `command is missing: it must be one of ` + all,
		`{}`:                     `command is missing: it must be one of ` + all,
	} {
		if got := verdict(s, body); got != "field_invalid; command: "+want {
			t.Errorf("%s:\n got %s\nwant field_invalid; command: %s", body, got, want)
		}
	}
	for _, text := range []string{strings.Repeat("ü", 1000), strings.Repeat("a", 25), "hive_sk_" + strings.Repeat("aB", 24), "123456"} {
		got := verdict(s, `{"command":"`+text+`"}`)
		if strings.Contains(got, text[:6]) || !strings.Contains(got, "the value is not a command: it must be one of "+all) {
			t.Errorf("%s: what may be a key or a code, or is long, is echoed: %s", text, got)
		}
	}
}

func TestAKnownFormIsNamedOnlyWhereItIsAllowed(t *testing.T) {
	for line, want := range map[string]string{
		"command oneof reboot exec": "stop is not a command: it must be one of reboot, exec",
		"action oneof miner exec":   "stop is not an action: it must be one of miner, exec",
		"command oneof stopp":       `stop is not a command; did you mean {"command":"stopp"}?`,
		"command oneof miner":       `stop is not a command; did you mean {"command":"miner","data":{"action":"stop"}}?`,
		"a.b.command oneof miner":   `stop is not a command; did you mean {"a":{"b":{"command":"miner","data":{"action":"stop"}}}}?`,
		"command oneof exec":        "stop is not a command: it must be exec",
	} {
		s := compile(t, line)
		field := strings.Fields(line)[0]
		body := "{" + wrap(field, `"stop"`) + "}"
		if got := verdict(s, body); got != "field_invalid; "+field+": "+want {
			t.Errorf("%s on %s:\n got %s\nwant %s", body, line, got, want)
		}
	}
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("value-number-%02d", i))
	}
	if got := verdict(compile(t, "x oneof "+strings.Join(many, " ")), `{"x":"q"}`); !strings.HasSuffix(got, "value-number-23 …") {
		t.Errorf("a long list is not cut: %s", got)
	}
}

func TestEveryWrongFieldIsNamedAtOnce(t *testing.T) {
	s := compile(t, "command oneof a b", "mode oneof fast", "data.kind oneof k", "data.sort oneof s")
	got := verdict(s, `{"command":"c","data":3}`)
	want := "field_invalid; data: data must be an object; command: c is not a command; did you mean {\"command\":\"a\"}?; mode: mode is missing: it must be fast"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// ambiguous are bodies that two parsers may read differently, by what is wrong
// with them. All are for the fields command and data.command.
var ambiguous = map[string][]string{
	"is empty":              {"", " ", "\n\t"},
	"not a JSON object":     {"[]", `"exec"`, `[{"command":"exec"}]`},
	"is not valid JSON":     {"null", "exec", "5", "{", `{"command"`, `{"command":`, `{"command":}`, `{"command":"exec"`, `{"command":"exec",}`, `{,}`, `{"a":1 "b":2}`, `{'command':'exec'}`, `{command:"exec"}`, `{"a":NaN}`, `{"a":01}`, `{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1e}`, `{"a":0x1}`, `{"a":tru}`, `{"a":[1,]}`, `{"a":[1 2]}`, `{"a":"\x41"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, "{\"a\":\"\n\"}", "{\"a\":\"\x00\"}", `{"a":"\`, `{"a":1}/**/`[:6] + "//", "{\"a\":1,\v\"b\":2}", `{"command":nul}`, `{"data":nil}`, "// x\n{}"},
	"something follows":     {`{}{}`, `{"command":"reboot"}{"command":"exec"}`, `{"command":"reboot"} x`, `{"command":"reboot"},`, "{\"command\":\"reboot\"}\x00", `{"command":"reboot"}]`},
	"byte order mark":       {"\uFEFF{}", "\uFEFF{\"command\":\"exec\"}"},
	"is not valid UTF-8":    {"{\"command\":\"exec\xff\"}", "{\"a\":\"\xc0\xaf\"}", "{\"a\":\"\xed\xa0\x80\"}", "\xff\xfe{\x00}\x00", "{\"a\":\"\xf4\x90\x80\x80\"}", `{"a":"\ud800"}`, `{"a":"\udc00"}`, `{"a":"\ud800\ud800"}`, `{"a":"\ud800x"}`, `{"a":"\ud83d\u0041"}`, `{"command":"exec\ud800"}`, `{"\ud800":1}`, `{"a":"\ud800\u"}`},
	"names command twice":   {`{"command":"reboot","command":"exec"}`, `{"command":"exec","command":"exec"}`, `{"command":"reboot","comm\u0061nd":"exec"}`, `{"command":null,"x":{},"command":"exec"}`},
	"names data twice":      {`{"data":{"command":"reboot"},"data":{"command":"exec"}}`, `{"data":null,"data":null}`, `{"data":{},"\u0064ata":{}}`},
	"data.command twice":    {`{"data":{"command":"reboot","command":"exec"}}`, `{"data":{"command":"reboot","\u0063ommand":"exec"}}`},
	"command in another sp": {`{"Command":"exec"}`, `{"command":"reboot","Command":"exec"}`, `{"COMMAND":"exec","command":"reboot"}`, `{"com_mand":"exec"}`, `{"-command":"exec"}`, `{"ｃommand":"exec"}`, `{"\u0043ommand":"exec"}`},
	"data in another spel":  {`{"Data":{"command":"exec"}}`, `{"data":{"command":"reboot"},"DATA":{"command":"exec"}}`},
	"data.command in anoth": {`{"data":{"Command":"exec"}}`, `{"data":{"command":"reboot","commanD":"exec"}}`},
	"as one name":           {`{"data.command":"exec"}`, `{"Data.Command":"exec","data":{"command":"reboot"}}`},
	"__proto__":             {`{"__proto__":{"command":"exec"}}`, `{"data":{"__proto__":{"command":"exec"}}}`, `{"\u005f_proto__":1}`},
	"U+0000":                {`{"command\u0000":"exec"}`, `{"command":"exec\u0000"}`, `{"data":{"command\u0000x":"exec"}}`, `{"data":{"command":"\u0000"}}`},
	"nested more than":      {`{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + "}", strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65), `{"a":` + strings.Repeat("[", 60000), strings.Repeat(`{"data":`, 8000)},
}

func TestWhatTwoParsersCouldReadDifferentlyIsRefused(t *testing.T) {
	s := compile(t, "command exec require workers:admin", "data.command exec require workers:admin")
	for why, bodies := range ambiguous {
		for _, body := range bodies {
			_, no := s.Evaluate([]byte(body))
			if no == nil || no.Reason != refusal.ReasonBodyInvalid || !strings.Contains(no.Message, why) {
				t.Errorf("%.80q: %+v, want body_invalid with %q", body, no, why)
			}
		}
	}
}

func TestNamesThatSomeBackendFoldsToTheFieldAreRefused(t *testing.T) {
	s := compile(t, "disk exec require a:b") // has letters with uncommon cases
	for _, name := range []string{"DISK", "diſk", "dis\u212a", "d\u0131sk", "d\u0130sk", "DİSK", "ｄｉｓｋ", "d-i_sk"} {
		if got := verdict(s, `{"`+name+`":"exec"}`); got != "body_invalid" {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, name := range []string{"disks", "dis", "disc", "dïsk", "дisk", "", "_", "disk.x", "x.disk"} {
		if got := verdict(s, `{"`+name+`":"exec"}`); got != "[]" {
			t.Errorf("%s: %s, want no rule", name, got)
		}
	}
}

func TestBodiesAreNotRefusedForWhatNoRuleLooksAt(t *testing.T) {
	s := compile(t, "data.command exec require a:b")
	for _, body := range []string{
		`{"x":1,"x":2,"X":3}`, `{"data":{"x":1,"x":2}}`, `{"other":{"command":1,"command":2,"__proto__":3}}`,
		`{"command":"exec"}`, `{"a":"\ud83d\ude00 \u0000 \" \\ \/ \b\f\n\r\t"}`, `{"a":"😀","ü":-0.5e-7,"b":[true,false,null,[],{}]}`,
		strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64),
	} {
		if got := verdict(s, body); got != "[]" {
			t.Errorf("%.80s: %s", body, got)
		}
	}
}

func TestManyRulesKeepTheirNumbers(t *testing.T) {
	var lines []string
	for i := range 64 {
		lines = append(lines, fmt.Sprintf("f%d v%d require a:b", i%32, i))
	}
	s := compile(t, lines...)
	for i := range 64 {
		if got, want := verdict(s, fmt.Sprintf(`{"f%d":"v%d"}`, i%32, i)), fmt.Sprintf("[%d]", i); got != want {
			t.Errorf("rule %d: %s", i, got)
		}
	}
	if !slices.EqualFunc(s.Rules(), lines, func(r Rule, line string) bool { return r.String() == line }) {
		t.Error("Rules are not the rules")
	}
}

func BenchmarkEvaluate(b *testing.B) {
	s := hiveSet(b, "command")
	body := []byte(`{"command":"exec","data":{"cmd":"` + strings.Repeat("x", 400) + `"}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if m, no := s.Evaluate(body); no != nil || !m.SecondFactor() {
			b.Fatal(no)
		}
	}
}
