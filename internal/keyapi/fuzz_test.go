package keyapi

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

// What is accepted is one JSON object as every other reader sees it: valid, each
// member once, and only known ones. What is refused names something.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{`{}`, `{"name":"x","permissions":["a:b"]}`, `{"name":"x","name":"y"}`, `{"n\u0061me":1}`, `{"limits":{"requests":"1/m"}}`,
		`{"name":`, `[]`, "\ufeff{}", `{} {}`, `{"name":"\ud800"}`, "{\"name\":\"\xff\"}", `{"a":1,}`, strings.Repeat("[", 100)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		members, ref := object(raw, "", createMembers...)
		if ref != nil {
			if len(ref.Fields) != 1 || ref.Fields[0].Field == "" || !utf8.ValidString(ref.Fields[0].Field) || ref.Reason != refusal.ReasonBodyInvalid {
				t.Fatalf("refused without naming anything: %+v", ref)
			}
			return
		}
		var other map[string]json.RawMessage
		if err := json.Unmarshal(raw, &other); err != nil || !utf8.Valid(raw) {
			t.Fatalf("accepted %q, which others do not: %v", raw, err)
		}
		if len(other) != len(members) {
			t.Fatalf("%d members, others see %d", len(members), len(other))
		}
		for _, m := range members {
			if string(other[m.name]) != string(m.value) {
				t.Fatalf("%s is %s, others see %s", m.name, m.value, other[m.name])
			}
		}
	})
}

// No body makes the readers panic or take what the keeper could not judge.
func FuzzBodies(f *testing.F) {
	for _, seed := range []string{`{"name":"x","preset":"p"}`, `{"disabled":true,"expires_at":"2027-01-01T00:00:00Z"}`, `{"overlap":"24h"}`,
		`{"name":"x","permissions":[],"ip_allowlist":["::1","10.0.0.0/8"],"limits":{"requests":"1/m","concurrent":{"a":1}}}`} {
		f.Add([]byte(seed))
	}
	a := &API{o: Options{Presets: map[string][]string{"p": {"a:b"}}}}
	c := &Caller{Owner: "acme", Subject: "owner:acme", IPAllowlist: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if n, ref := a.newKey(raw, c); ref == nil {
			if n.Owner != "acme" && keystore.ValidOwner(n.Owner) != nil {
				t.Fatalf("owner %q", n.Owner)
			}
			if !n.ExpiresAt.IsZero() && n.ExpiresAt.UTC().Year() < 1 || !utf8.ValidString(n.Name) {
				t.Fatalf("%+v", n)
			}
		}
		_, _ = a.patch(raw)
		_, _ = overlap(raw)
	})
}

func FuzzListQuery(f *testing.F) {
	for _, seed := range []string{"", "limit=5&cursor=abc&status=active&owner=acme&q=x", "limit=0", "q=%ff", "a=b", "limit=1&limit=2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, ref := listQuery(raw)
		if ref != nil {
			return
		}
		if q.Limit < 0 || q.Limit > maxPage || !utf8.ValidString(q.Q+q.Owner+q.Cursor) || strings.ContainsAny(q.Q+q.Owner, "\x00\n") {
			t.Fatalf("%q gives %+v", raw, q)
		}
	})
}
