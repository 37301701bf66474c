package keyconvert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/oasdiff/yaml"
)

// Kong reads a declarative configuration (`deck gateway dump`, `kong config
// db_export`), in YAML or JSON: consumers with keyauth_credentials and acls, in
// them or beside them.
func Kong(data []byte) ([]Entry, []Problem, error) {
	var doc struct {
		Consumers []kongConsumer `json:"consumers"`
		Keys      []kongKey      `json:"keyauth_credentials"`
		ACLs      []kongACL      `json:"acls"`
	}
	if err := decode(data, &doc); err != nil {
		return nil, nil, err
	}
	var r kongReader
	byName := make(map[string]*kongConsumer)
	for i := range doc.Consumers {
		c := &doc.Consumers[i]
		for _, name := range []string{c.ID, c.Username, c.CustomID} {
			if name != "" && byName[name] == nil {
				byName[name] = c
			}
		}
	}
	for i, a := range doc.ACLs {
		if c := byName[a.Consumer.name()]; c != nil {
			c.ACLs = append(c.ACLs, a)
		} else {
			r.problems = append(r.problems, Problem{fmt.Sprintf("acls[%d]", i), "its consumer is not in the file"})
		}
	}
	for i := range doc.Consumers {
		for j := range doc.Consumers[i].Keys {
			r.add(fmt.Sprintf("consumers[%d].keyauth_credentials[%d]", i, j), &doc.Consumers[i], &doc.Consumers[i].Keys[j])
		}
	}
	for i := range doc.Keys {
		where := fmt.Sprintf("keyauth_credentials[%d]", i)
		if c := byName[doc.Keys[i].Consumer.name()]; c != nil {
			r.add(where, c, &doc.Keys[i])
		} else {
			r.problems = append(r.problems, Problem{where, "its consumer is not in the file"})
		}
	}
	if len(r.entries)+len(r.problems) == 0 {
		return nil, nil, errors.New("the file has no keyauth_credentials")
	}
	return r.entries, r.problems, nil
}

type kongConsumer struct {
	ID       string    `json:"id"`
	Username string    `json:"username"`
	CustomID string    `json:"custom_id"`
	Keys     []kongKey `json:"keyauth_credentials"`
	ACLs     []kongACL `json:"acls"`
}

type kongACL struct {
	Group    string  `json:"group"`
	Consumer kongRef `json:"consumer"`
}

type kongKey struct {
	Key       string      `json:"key"`
	TTL       json.Number `json:"ttl"`
	CreatedAt json.Number `json:"created_at"`
	Consumer  kongRef     `json:"consumer"`
}

// kongRef names a consumer: a text, or an object with its id or username.
type kongRef struct{ raw json.RawMessage }

// UnmarshalJSON keeps the value.
func (r *kongRef) UnmarshalJSON(text []byte) error {
	r.raw = bytes.Clone(text)
	return nil
}

func (r kongRef) name() string {
	var text string
	if json.Unmarshal(r.raw, &text) == nil {
		return text
	}
	var c kongConsumer
	if json.Unmarshal(r.raw, &c) != nil {
		return ""
	}
	for _, name := range []string{c.ID, c.Username, c.CustomID} {
		if name != "" {
			return name
		}
	}
	return ""
}

type kongReader struct {
	entries  []Entry
	problems []Problem
}

func (r *kongReader) add(where string, c *kongConsumer, k *kongKey) {
	problem := func(msg string) { r.problems = append(r.problems, Problem{where, msg}) }
	switch {
	case k.Key == "":
		problem("the key is missing; export with its value")
		return
	case strings.HasPrefix(k.Key, "{vault://") || strings.Contains(k.Key, "${{"):
		problem("the key is a reference; export with its value")
		return
	}
	e := Entry{Where: where, Key: k.Key, Name: c.Username, Owner: c.CustomID}
	if e.Name == "" {
		e.Name = c.CustomID
	}
	if e.Owner == "" {
		e.Owner = c.Username
	}
	for _, a := range c.ACLs {
		e.Groups = append(e.Groups, a.Group)
	}
	if ttl, err := k.TTL.Int64(); err == nil && ttl > 0 {
		created, err := k.CreatedAt.Int64()
		if err != nil || created <= 0 {
			problem("it has a ttl and no created_at, so its end is not known; make a new key")
			return
		}
		e.ExpiresAt = time.Unix(created+ttl, 0)
	}
	r.entries = append(r.entries, e)
}

var lineRE = regexp.MustCompile(`line (\d+)`)

// decode reads YAML or JSON. Its errors say where, and nothing of the text: it
// holds keys.
func decode(data []byte, into any) error {
	text := bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff")))
	if len(text) > 0 && text[0] != '{' && text[0] != '[' {
		converted, err := yaml.YAMLToJSON(text)
		if err != nil {
			if m := lineRE.FindStringSubmatch(err.Error()); m != nil {
				return fmt.Errorf("line %s: not valid YAML", m[1])
			}
			return errors.New("not valid YAML")
		}
		text = converted
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	err := dec.Decode(into)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil && dec.More():
		return errors.New("something follows the one JSON value")
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Errorf("%s: is not what it should be there", wrong.Field)
	}
	return fmt.Errorf("line %d: not the JSON that was expected", 1+bytes.Count(text[:min(int(dec.InputOffset()), len(text))], []byte("\n")))
}
