package keyapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hivegate/hivegate/internal/policy"
	"github.com/hivegate/hivegate/internal/refusal"
)

// member is one member of an object, its value still in JSON.
type member struct {
	name  string
	value json.RawMessage
}

// object reads one JSON object strictly: valid UTF-8, each member once, only the
// known names in exactly this case, nothing after it. at is put before the name
// of a member in a refusal ("limits."). Every refusal names the member.
//
// A value is at most 64 KiB deep in the worst case: encoding/json ends nesting at
// 10,000, long before the stack does.
func object(raw []byte, at string, known ...string) ([]member, *refusal.Refusal) {
	if !utf8.Valid(raw) {
		return nil, invalid(where(at), "is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, invalid(where(at), "must be one JSON object")
	}
	var members []member
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, invalid(where(at), "is not valid JSON")
		}
		if ref := checkMember(name, at, members, known); ref != nil {
			return nil, ref
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, invalid(at+name, "is not valid JSON")
		}
		members = append(members, member{name, value})
	}
	if _, err := dec.Token(); err != nil {
		return nil, invalid(where(at), "is not valid JSON: the object does not end")
	}
	if len(bytes.Trim(raw[dec.InputOffset():], " \t\r\n")) > 0 {
		return nil, invalid(where(at), "goes on after the object: send nothing behind it")
	}
	return members, nil
}

func checkMember(name, at string, before []member, known []string) *refusal.Refusal {
	if slices.ContainsFunc(before, func(m member) bool { return m.name == name }) {
		return invalid(at+name, "is given twice")
	}
	if slices.Contains(known, name) {
		return nil
	}
	if !showable(name) {
		return invalid(where(at), "has an unknown member; there are: "+strings.Join(known, ", "))
	}
	if near := policy.Nearest(name, known); near != "" {
		return invalid(at+name, "is unknown; did you mean "+near+"?")
	}
	return invalid(at+name, "is unknown; there are: "+strings.Join(known, ", "))
}

// showable reports whether a name from outside may stand in an answer: a word,
// and too short to be a key that was pasted into the wrong place.
func showable(name string) bool {
	if len(name) == 0 || len(name) > 32 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// where names an object in a refusal.
func where(at string) string {
	if at == "" {
		return "body"
	}
	return strings.TrimSuffix(at, ".")
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

// text reads a string. A lone surrogate is no character, and would be stored as
// another one than was sent.
func text(name string, raw json.RawMessage) (string, *refusal.Refusal) {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", invalid(name, "must be a string")
	}
	if strings.ContainsRune(*s, utf8.RuneError) && !bytes.ContainsRune(raw, utf8.RuneError) &&
		!bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`)) {
		return "", invalid(name, "holds half a surrogate pair, which is no character")
	}
	return *s, nil
}

// texts reads a list of strings.
func texts(name string, raw json.RawMessage) ([]string, *refusal.Refusal) {
	var values []json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil || values == nil {
		return nil, invalid(name, "must be a list of strings")
	}
	list := make([]string, 0, min(len(values), 256))
	for i, v := range values {
		s, ref := text(fmt.Sprintf("%s[%d]", name, i), v)
		if ref != nil {
			return nil, ref
		}
		list = append(list, s)
	}
	return list, nil
}

func boolean(name string, raw json.RawMessage) (bool, *refusal.Refusal) {
	var b *bool
	if err := json.Unmarshal(raw, &b); err != nil || b == nil {
		return false, invalid(name, "must be true or false")
	}
	return *b, nil
}

// invalid refuses what is no JSON of the right shape: 400.
func invalid(field, why string) *refusal.Refusal {
	return &refusal.Refusal{Reason: refusal.ReasonBodyInvalid, Fields: []refusal.FieldError{{Field: field, Messages: []string{why}}},
		Hint: field + " " + why}
}

// wrong refuses a value: 422.
func wrong(field, why string) *refusal.Refusal {
	return &refusal.Refusal{Reason: refusal.ReasonFieldInvalid, Fields: []refusal.FieldError{{Field: field, Messages: []string{why}}},
		Hint: field + ": " + why}
}
