package keyconvert

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// CaddyJSON reads the accounts of basic authentication from a configuration of
// Caddy in JSON. hints has what is known of the beginnings of passwords, by user;
// that of the empty user is for all.
func CaddyJSON(data []byte, hints map[string]string) ([]Entry, []Problem, error) {
	var whole any
	if err := decode(data, &whole); err != nil {
		return nil, nil, err
	}
	var r caddyReader
	r.walk("", whole)
	if len(r.accounts)+len(r.problems) == 0 {
		return nil, nil, errors.New("the file has no basic_auth account")
	}
	entries, problems := Accounts(r.accounts, hints)
	return entries, append(r.problems, problems...), nil
}

// Account is a user of basic authentication.
type Account struct{ Where, User, Hash string }

// Accounts makes entries of accounts. The password becomes the key, the user its
// name and owner. An account that stands at several places with the same hash is
// one.
func Accounts(accounts []Account, hints map[string]string) (entries []Entry, problems []Problem) {
	seen := make(map[string]bool)
	for _, a := range accounts {
		hash := a.Hash
		if raw, err := base64.StdEncoding.DecodeString(hash); err == nil && strings.HasPrefix(string(raw), "$2") {
			hash = string(raw) // as older versions of Caddy have it
		}
		switch {
		case seen[a.User+"\x00"+hash]:
			continue
		case strings.HasPrefix(hash, "$argon2"):
			problems = append(problems, Problem{a.Where, "an argon2 hash cannot be compared here; make a new key for " + orThat(a.User)})
			continue
		}
		seen[a.User+"\x00"+hash] = true
		hint, own := hints[a.User]
		if !own {
			hint = hints[""]
		}
		entries = append(entries, Entry{Where: a.Where, Hash: hash, Hint: hint, Name: a.User, Owner: a.User})
	}
	return entries, problems
}

type caddyReader struct {
	accounts []Account
	problems []Problem
}

// walk finds http_basic providers wherever they stand.
func (r *caddyReader) walk(path string, v any) {
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			r.walk(fmt.Sprintf("%s[%d]", path, i), item)
		}
	case map[string]any:
		if basic, ok := v["http_basic"].(map[string]any); ok {
			r.provider(path+".http_basic", basic)
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if name != "http_basic" {
				r.walk(strings.TrimPrefix(path+"."+name, "."), v[name])
			}
		}
	}
}

func (r *caddyReader) provider(path string, basic map[string]any) {
	var p struct {
		Accounts []struct {
			Username string `json:"username"`
			Password string `json:"password"`
		} `json:"accounts"`
	}
	text, err := json.Marshal(basic)
	if err != nil || json.Unmarshal(text, &p) != nil {
		r.problems = append(r.problems, Problem{path, "its accounts cannot be read"})
		return
	}
	for i, a := range p.Accounts {
		r.accounts = append(r.accounts, Account{fmt.Sprintf("%s.accounts[%d]", path, i), a.Username, a.Password})
	}
}
