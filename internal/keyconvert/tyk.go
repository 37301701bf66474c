package keyconvert

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Tyk reads keys with their sessions, in JSON: a list, or an object with the list
// `keys`, of {"key": …, "data": SESSION} or {"key": …, SESSION…}; or an object from
// keys to sessions. An installation that hashes its keys has none to give: such
// entries hold `key_hash`.
func Tyk(data []byte) ([]Entry, []Problem, error) {
	var whole json.RawMessage
	if err := decode(data, &whole); err != nil {
		return nil, nil, err
	}
	var list []json.RawMessage
	var object map[string]json.RawMessage
	where := func(i int) string { return fmt.Sprintf("[%d]", i) }
	var r tykReader
	switch {
	case json.Unmarshal(whole, &list) == nil:
	case json.Unmarshal(whole, &object) != nil:
		return nil, nil, errors.New("neither a list nor an object")
	case object["keys"] != nil:
		if json.Unmarshal(object["keys"], &list) != nil {
			return nil, nil, errors.New("keys: is not a list")
		}
		where = func(i int) string { return fmt.Sprintf("keys[%d]", i) }
	default:
		// The names are the keys: an entry is named by its place in their order.
		for i, key := range slices.Sorted(maps.Keys(object)) {
			r.add(fmt.Sprintf("entry %d in the order of the keys", i+1), key, object[key])
		}
	}
	for i, raw := range list {
		r.add(where(i), "", raw)
	}
	if len(r.entries)+len(r.problems) == 0 {
		return nil, nil, errors.New("the file has no key")
	}
	return r.entries, r.problems, nil
}

type tykSession struct {
	Key           string          `json:"key"`
	KeyID         string          `json:"key_id"`
	KeyHash       string          `json:"key_hash"`
	Data          json.RawMessage `json:"data"`
	Alias         string          `json:"alias"`
	Expires       json.Number     `json:"expires"`
	Inactive      bool            `json:"is_inactive"`
	Policies      []string        `json:"apply_policies"`
	Policy        string          `json:"apply_policy_id"`
	Tags          []string        `json:"tags"`
	HMAC          bool            `json:"hmac_enabled"`
	Rate          float64         `json:"rate"`
	Per           float64         `json:"per"`
	Quota         float64         `json:"quota_max"`
	BasicAuthData struct {
		Password string `json:"password"`
	} `json:"basic_auth_data"`
}

type tykReader struct {
	entries  []Entry
	problems []Problem
}

func (r *tykReader) add(where, key string, raw json.RawMessage) {
	problem := func(msg string) { r.problems = append(r.problems, Problem{where, msg}) }
	var s tykSession
	if json.Unmarshal(raw, &s) != nil {
		problem("is not a session of Tyk")
		return
	}
	if s.Data != nil && json.Unmarshal(s.Data, &s) != nil {
		problem("data: is not a session of Tyk")
		return
	}
	for _, k := range []string{s.Key, s.KeyID} {
		if key == "" {
			key = k
		}
	}
	switch {
	case key == "" && s.KeyHash != "":
		problem("Tyk kept a hash of this key only, which no other gate can use: make a new key with 'apikey create' and give it to " + orThat(s.Alias))
		return
	case key == "":
		problem("the key is missing")
		return
	case s.Inactive:
		problem("it is inactive there, and would be active here; make a new key when it is needed")
		return
	case s.HMAC:
		problem("it signs requests (hmac_enabled); make a new key and a signing secret")
		return
	case s.BasicAuthData.Password != "":
		problem("it belongs to basic authentication; make a new key")
		return
	}
	e := Entry{Where: where, Key: key, Name: s.Alias, Groups: append(slices.Clone(s.Policies), s.Tags...)}
	if s.Policy != "" && !slices.Contains(e.Groups, s.Policy) {
		e.Groups = append(e.Groups, s.Policy)
	}
	if e.Name == "" {
		e.Name = "tyk " + where
	}
	if at, err := s.Expires.Int64(); err == nil && at > 0 {
		e.ExpiresAt = time.Unix(at, 0)
	}
	if s.Rate > 0 && s.Per > 0 {
		e.Notes = append(e.Notes, fmt.Sprintf("its rate there is %g in %g s; a plan says it here (--plan)", s.Rate, s.Per))
	}
	if s.Quota > 0 {
		e.Notes = append(e.Notes, fmt.Sprintf("its quota there is %g; a plan says it here (--plan)", s.Quota))
	}
	r.entries = append(r.entries, e)
}

func orThat(name string) string {
	if name == "" {
		return "whoever has it"
	}
	return fmt.Sprintf("%q", name)
}
