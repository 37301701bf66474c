package caddymodule

import (
	"slices"

	"github.com/hivegate/hivegate/internal/policy"
)

// keys_api BASE { read R…; write R…; any_owner SCOPE }
func readKeysAPI(b *block, g *Gate) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("keys_api BASE { read R…; write R…; any_owner SCOPE }")
	}
	g.KeysAPI = &KeysAPI{Base: words[0]}
	b.places["keys_api"] = b.start
	return readBlock(b, "keys_api", keysAPIOptions, g.KeysAPI)
}

var keysAPIOptions = map[string]option[*KeysAPI]{
	"read":      {once: true, read: readKeysNeed(func(k *KeysAPI) **KeysNeed { return &k.Read })},
	"write":     {once: true, read: readKeysNeed(func(k *KeysAPI) **KeysNeed { return &k.Write })},
	"any_owner": {once: true, read: readAnyOwner},
}

// read R… [2fa] and write R… [2fa]
func readKeysNeed(field func(*KeysAPI) **KeysNeed) func(*block, *KeysAPI) error {
	return func(b *block, k *KeysAPI) error {
		words := b.words()
		secondFactor := slices.Contains(words, "2fa")
		words = slices.DeleteFunc(words, func(w string) bool { return w == "2fa" })
		if len(words) == 0 {
			return b.usage(b.name + " SCOPE… [2fa]' or '" + b.name + " authenticated")
		}
		need, err := policy.ParseRequirement(words)
		if err != nil {
			return errAtf(b.start, "keys_api: %s: %w", b.name, err)
		}
		if need.Public {
			return errAtf(b.start, "keys_api: %s: keys are managed by somebody, so 'public' cannot stand here; name scopes", b.name)
		}
		b.places["keys_api/"+b.name] = b.start
		*field(k) = &KeysNeed{Authenticated: need.Authenticated, Scopes: need.Scopes, SecondFactor: secondFactor}
		return b.noBlock()
	}
}

// any_owner SCOPE
func readAnyOwner(b *block, k *KeysAPI) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("any_owner SCOPE")
	}
	b.places["keys_api/any_owner"] = b.start
	k.AnyOwner = words[0]
	return b.noBlock()
}
