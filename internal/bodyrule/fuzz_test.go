package bodyrule

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/valyala/fastjson"
)

// backend is how a Go backend declares the bodies: encoding/json matches these
// names without case, and takes the last of several.
type backend struct {
	Command string `json:"command"`
	Data    *struct {
		Command string `json:"command"`
	} `json:"data"`
}

// anyCommand lets every text through, so that the gate's reading is compared on
// all of them.
func anyCommand(t testing.TB) *Set {
	return compile(t, "command exec require a:b", "data.command exec require a:b")
}

// FuzzGateAndBackendsReadTheSameCommand holds the gate against encoding/json
// (into a struct, without case, the last wins; into a map, exactly) and fastjson
// (exactly, the first wins): of a body that the gate lets through all read the
// same command.
func FuzzGateAndBackendsReadTheSameCommand(f *testing.F) {
	for _, bodies := range ambiguous {
		for _, body := range bodies {
			f.Add([]byte(body))
		}
	}
	for _, body := range []string{
		`{"command":"exec"}`, `{"data":{"command":"exec"}}`, `{"\u0063ommand":"\u0065xec\ud83d\ude00"}`, `{"command":null,"data":null}`,
		`{"command":"a\"\\\/\b\f\n\r\t","data":{"data":{"command":1}}}`, `{"d\u0061ta":{"x":[{"command":"exec"}]}}`, `{"Kommand":1,"ſ":2}`,
	} {
		f.Add([]byte(body))
	}
	open := anyCommand(f)
	closed := compile(f, "command oneof exec reboot", "data.command exec require a:b")
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, no := closed.Evaluate(body); no == nil {
			if got := inGo(t, body); !slices.Contains([]string{"exec", "reboot"}, got.Command) {
				t.Errorf("%q: oneof let %q through", body, got.Command)
			}
		}
		m, no := open.Evaluate(body)
		if no != nil {
			return
		}
		w, err := open.walk(body)
		if err != nil {
			t.Fatalf("%q: Evaluate and walk disagree: %v", body, err)
		}
		gate := [2]string{w.found[0].text, w.found[1].text}
		if m.Applies(0) != (gate[0] == "exec") || m.Applies(1) != (gate[1] == "exec") {
			t.Errorf("%q: the gate reads %q and applies %v", body, gate, m)
		}
		got := inGo(t, body)
		inside := ""
		if got.Data != nil {
			inside = got.Data.Command
		}
		if read := [2]string{got.Command, inside}; read != gate {
			t.Errorf("%q: the gate reads %q, encoding/json %q", body, gate, read)
		}
		if read := inMap(t, body); read != gate {
			t.Errorf("%q: the gate reads %q, encoding/json into a map %q", body, gate, read)
		}
		if read := inFastjson(t, body); read != gate {
			t.Errorf("%q: the gate reads %q, fastjson %q", body, gate, read)
		}
	})
}

func inGo(t *testing.T, body []byte) (b backend) {
	if err := json.Unmarshal(body, &b); err != nil {
		t.Fatalf("%q: the gate lets through what encoding/json refuses: %v", body, err)
	}
	return b
}

func inMap(t *testing.T, body []byte) (read [2]string) {
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatalf("%q: encoding/json: %v", body, err)
	}
	read[0], _ = m["command"].(string)
	if data, ok := m["data"].(map[string]any); ok {
		read[1], _ = data["command"].(string)
	}
	return read
}

func inFastjson(t *testing.T, body []byte) [2]string {
	v, err := fastjson.ParseBytes(body)
	if err != nil {
		t.Fatalf("%q: the gate lets through what fastjson refuses: %v", body, err)
	}
	return [2]string{string(v.GetStringBytes("command")), string(v.GetStringBytes("data", "command"))}
}
