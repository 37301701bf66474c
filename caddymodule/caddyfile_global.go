package caddymodule

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// globalOptions reads the global block, one function per option.
var globalOptions = map[string]option[*App]{
	"keystore":      {once: true, read: readKeystore},
	"limiter":       {once: true, read: readLimiter},
	"master_key":    {once: true, read: readMasterKey},
	"key_format":    {read: readKeyFormat},
	"bcrypt_cost":   {once: true, read: readBcryptCost},
	"auth_failures": {once: true, read: readAuthFailures},
	"scopes":        {read: readScopes},
	"alias":         {read: readAlias},
	"preset":        {read: readPreset},
	"class":         {read: readClass},
	"plan":          {read: readPlan},
	"default_plan":  {once: true, read: readDefaultPlan},
	"anonymous":     {once: true, read: readAnonymous},
	"issuer":        {read: readIssuer},
}

// encodeApp is the app's JSON form.
func encodeApp(a *App) json.RawMessage { return caddyconfig.JSON(a, nil) }

// decodeApp reads the app back from the global option's value; without one the
// defaults hold.
func decodeApp(value any) (*App, error) {
	app := new(App)
	opt, ok := value.(httpcaddyfile.App)
	if !ok {
		return app, nil
	}
	if err := json.Unmarshal(opt.Value, app); err != nil {
		return nil, fmt.Errorf("read the global hivegate options: %w", err)
	}
	return app, nil
}

// master_key KEY [OLD…] | none
func readMasterKey(b *block, a *App) error {
	a.MasterKey = b.words()
	if len(a.MasterKey) == 0 {
		return b.usage("master_key KEY [OLD…]' or 'master_key none")
	}
	b.places["master_key"] = b.start
	for _, text := range a.MasterKey {
		if text == "none" && len(a.MasterKey) > 1 {
			return errAtf(b.start, "master_key: 'none' stands alone")
		}
	}
	return b.noBlock()
}

// key_format PREFIX LENGTH
func readKeyFormat(b *block, a *App) error {
	words := b.words()
	if len(words) != 2 {
		return b.usage("key_format PREFIX LENGTH")
	}
	n, err := strconv.Atoi(words[1])
	if err != nil {
		return errAtf(b.start, "key_format: length %q is not a whole number; write 'key_format PREFIX LENGTH'", words[1])
	}
	if n == 0 {
		return errAtf(b.start, "key_format: length 0: must be 40 to 72 less the prefix")
	}
	b.places["key_formats/"+strconv.Itoa(len(a.KeyFormats))] = b.start
	a.KeyFormats = append(a.KeyFormats, KeyFormat{Prefix: words[0], Length: n})
	return b.noBlock()
}

// bcrypt_cost N
func readBcryptCost(b *block, a *App) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("bcrypt_cost N")
	}
	n, err := strconv.Atoi(words[0])
	if err != nil || n < 4 || n > 14 {
		return errAtf(b.start, "bcrypt_cost %s: must be 4 to 14", words[0])
	}
	a.BcryptCost = n
	return b.noBlock()
}

// auth_failures RATE
func readAuthFailures(b *block, a *App) error {
	a.AuthFailures = strings.Join(b.words(), " ")
	if a.AuthFailures == "" {
		return b.usage("auth_failures 10/m")
	}
	b.places["auth_failures"] = b.start
	return b.noBlock()
}

// anonymous RATE
func readAnonymous(b *block, a *App) error {
	a.Anonymous = strings.Join(b.words(), " ")
	if a.Anonymous == "" {
		return b.usage("anonymous 60/m")
	}
	b.places["anonymous"] = b.start
	return b.noBlock()
}

// scopes SCOPE…
func readScopes(b *block, a *App) error {
	words := b.words()
	if len(words) == 0 {
		return b.usage("scopes SCOPE…")
	}
	for range words {
		b.places["scopes/"+strconv.Itoa(len(a.Scopes))] = b.start
		a.Scopes = append(a.Scopes, words[0])
		words = words[1:]
	}
	return b.noBlock()
}

// alias A B
func readAlias(b *block, a *App) error {
	words := b.words()
	if len(words) != 2 {
		return b.usage("alias A B")
	}
	b.places["aliases/"+strconv.Itoa(len(a.Aliases))] = b.start
	a.Aliases = append(a.Aliases, Alias{Name: words[0], Of: words[1]})
	return b.noBlock()
}

// preset NAME SCOPE…
func readPreset(b *block, a *App) error {
	words := b.words()
	if len(words) < 2 {
		return b.usage("preset NAME SCOPE…")
	}
	b.places["presets/"+strconv.Itoa(len(a.Presets))] = b.start
	a.Presets = append(a.Presets, Preset{Name: words[0], Scopes: words[1:]})
	return b.noBlock()
}

// class NAME [RATE] [per owner|key|ip]
func readClass(b *block, a *App) error {
	words := b.words()
	if len(words) == 0 {
		return b.usage("class NAME [RATE] [per owner|key|ip]")
	}
	b.places["classes/"+strconv.Itoa(len(a.Classes))] = b.start
	a.Classes = append(a.Classes, Class{Name: words[0], Rate: strings.Join(words[1:], " ")})
	return b.noBlock()
}

// default_plan NAME
func readDefaultPlan(b *block, a *App) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("default_plan NAME")
	}
	b.places["default_plan"] = b.start
	a.DefaultPlan = words[0]
	return b.noBlock()
}

// plan NAME { requests RATE…; class NAME RATE; concurrent [CLASS] N }
func readPlan(b *block, a *App) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("plan NAME { … }")
	}
	p := planBlock{plan: &Plan{Name: words[0]}, path: "plans/" + strconv.Itoa(len(a.Plans))}
	b.places[p.path] = b.start
	if err := readBlock(b, "plan "+words[0], planOptions, p); err != nil {
		return err
	}
	a.Plans = append(a.Plans, *p.plan)
	return nil
}

// planBlock is a plan being read, and its path for mistakes.
type planBlock struct {
	plan *Plan
	path string
}

var planOptions = map[string]option[planBlock]{
	"requests":   {read: readRequests},
	"class":      {read: readPlanClass},
	"concurrent": {read: readConcurrent},
}

// requests RATE [burst N] [per owner|key|ip] | unlimited
func readRequests(b *block, p planBlock) error {
	words := b.words()
	if len(words) == 0 {
		return b.usage("requests 60/m [burst N] [per owner|key|ip]")
	}
	b.places[p.path+"/requests/"+strconv.Itoa(len(p.plan.Requests))] = b.start
	p.plan.Requests = append(p.plan.Requests, strings.Join(words, " "))
	return b.noBlock()
}

// class NAME RATE
func readPlanClass(b *block, p planBlock) error {
	words := b.words()
	if len(words) < 2 {
		return b.usage("class NAME RATE")
	}
	b.places[p.path+"/classes/"+strconv.Itoa(len(p.plan.Classes))] = b.start
	p.plan.Classes = append(p.plan.Classes, Class{Name: words[0], Rate: strings.Join(words[1:], " ")})
	return b.noBlock()
}

// concurrent [CLASS] N
func readConcurrent(b *block, p planBlock) error {
	words := b.words()
	var c Concurrent
	switch len(words) {
	case 1:
	case 2:
		c.Class = words[0]
	default:
		return b.usage("concurrent [CLASS] N")
	}
	n, err := strconv.Atoi(words[len(words)-1])
	if err != nil {
		return errAtf(b.start, "concurrent: %q is not a whole number; write 'concurrent [CLASS] N'", words[len(words)-1])
	}
	c.Max = n
	b.places[p.path+"/concurrent/"+strconv.Itoa(len(p.plan.Concurrent))] = b.start
	p.plan.Concurrent = append(p.plan.Concurrent, c)
	return b.noBlock()
}
