package caddymodule

import (
	"strconv"
	"time"

	"github.com/hivegate/hivegate/internal/jwtauth"
)

// issuer NAME { … }
func readIssuer(b *block, a *App) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("issuer NAME { … }")
	}
	cfg := &jwtauth.Config{Name: words[0]}
	path := "issuers/" + strconv.Itoa(len(a.Issuers))
	b.places[path] = b.start
	if err := readBlock(b, "issuer "+words[0], issuerOptions, issuerBlock{cfg: cfg, path: path}); err != nil {
		return err
	}
	a.Issuers = append(a.Issuers, *cfg)
	return nil
}

// issuerBlock is an issuer being read, and its path for mistakes.
type issuerBlock struct {
	cfg  *jwtauth.Config
	path string
}

var issuerOptions = map[string]option[issuerBlock]{
	"iss":               {read: issuerList("iss VALUE…", func(c *jwtauth.Config) *[]string { return &c.Iss })},
	"aud":               {read: issuerList("aud VALUE…", func(c *jwtauth.Config) *[]string { return &c.Aud })},
	"jwks":              {read: issuerList("jwks URL|FILE", func(c *jwtauth.Config) *[]string { return &c.JWKS })},
	"public_key":        {read: issuerList("public_key FILE", func(c *jwtauth.Config) *[]string { return &c.PublicKeys })},
	"algorithms":        {once: true, read: issuerList("algorithms ALG…", func(c *jwtauth.Config) *[]string { return &c.Algorithms })},
	"server_only":       {read: issuerList("server_only ROLE…", func(c *jwtauth.Config) *[]string { return &c.ServerOnly })},
	"hmac_secret":       {once: true, read: issuerWord("hmac_secret SECRET", func(c *jwtauth.Config) *string { return &c.HMACSecret })},
	"scopes_claim":      {once: true, read: issuerWord("scopes_claim CLAIM", func(c *jwtauth.Config) *string { return &c.ScopesClaim })},
	"role_claim":        {once: true, read: issuerWord("role_claim CLAIM", func(c *jwtauth.Config) *string { return &c.RoleClaim })},
	"owner_claim":       {once: true, read: issuerWord("owner_claim CLAIM", func(c *jwtauth.Config) *string { return &c.OwnerClaim })},
	"plan_claim":        {once: true, read: issuerWord("plan_claim CLAIM", func(c *jwtauth.Config) *string { return &c.PlanClaim })},
	"plan":              {once: true, read: issuerWord("plan NAME", func(c *jwtauth.Config) *string { return &c.Plan })},
	"allow_missing_iss": {once: true, read: readAllowMissingIss},
	"leeway":            {once: true, read: readLeeway},
	"role":              {read: readRole},
	"static_key":        {read: readStaticKey},
}

func issuerList(usage string, field func(*jwtauth.Config) *[]string) func(*block, issuerBlock) error {
	return func(b *block, i issuerBlock) error {
		words := b.words()
		if len(words) == 0 {
			return b.usage(usage)
		}
		*field(i.cfg) = append(*field(i.cfg), words...)
		return b.noBlock()
	}
}

func issuerWord(usage string, field func(*jwtauth.Config) *string) func(*block, issuerBlock) error {
	return func(b *block, i issuerBlock) error {
		words := b.words()
		if len(words) != 1 || words[0] == "" {
			return b.usage(usage)
		}
		b.places[i.path+"/"+b.name] = b.start
		*field(i.cfg) = words[0]
		return b.noBlock()
	}
}

// allow_missing_iss
func readAllowMissingIss(b *block, i issuerBlock) error {
	if len(b.words()) > 0 {
		return b.usage("allow_missing_iss")
	}
	i.cfg.AllowMissingIss = true
	return b.noBlock()
}

// leeway DURATION
func readLeeway(b *block, i issuerBlock) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("leeway 30s")
	}
	d, err := time.ParseDuration(words[0])
	if err != nil {
		return errAtf(b.start, "leeway %q: write a duration such as 30s", words[0])
	}
	leeway := jwtauth.Duration(d)
	i.cfg.Leeway = &leeway
	return b.noBlock()
}

// role VALUE SCOPE…
func readRole(b *block, i issuerBlock) error {
	words := b.words()
	if len(words) < 2 {
		return b.usage("role VALUE SCOPE…")
	}
	if _, twice := i.cfg.Roles[words[0]]; twice {
		return errAtf(b.start, "issuer %s: role %q is given twice", i.cfg.Name, words[0])
	}
	if i.cfg.Roles == nil {
		i.cfg.Roles = make(map[string][]string)
	}
	b.places[i.path+"/roles/"+words[0]] = b.start
	i.cfg.Roles[words[0]] = words[1:]
	return b.noBlock()
}

// static_key VALUE role ROLE
func readStaticKey(b *block, i issuerBlock) error {
	words := b.words()
	if len(words) != 3 || words[1] != "role" {
		return b.usage("static_key VALUE role ROLE")
	}
	i.cfg.StaticKeys = append(i.cfg.StaticKeys, jwtauth.StaticKey{Value: words[0], Role: words[2]})
	return b.noBlock()
}
