package jwtauth

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// DefaultLeeway is how far clocks may differ where an issuer does not say.
const DefaultLeeway = 30 * time.Second

const (
	maxLeeway      = 10 * time.Minute
	minHMACSecret  = 32 // bytes; RFC 7518 section 3.2 for HS256
	maxStaticKey   = 512
	minStaticKey   = 8
	maxIssuerName  = 64
	maxClaimPath   = 256
	userMetadata   = "user_metadata"
	rawUserMetaKey = "raw_user_meta_data"
)

// Config is one issuer of JWTs: which tokens are its own, which keys they are
// verified with, and what their claims mean here. Placeholders are expanded by
// whoever reads the configuration, before [Config.Validate].
type Config struct {
	// Name is the issuer's name: in accept lines, in logs and in the subject
	// of its tokens ("jwt:<name>:<sub>"). Letters, digits, ".", "_" and "-",
	// at most 64 of them. Changing it gives every caller new buckets and
	// second factors. Required.
	Name string `json:"name,omitempty"`

	// Iss are the values of the iss claim that make a token this issuer's,
	// compared exactly; usually one. Two issuers may share a value: then each
	// whose settings allow it is asked in turn. Default: none, which needs
	// allow_missing_iss.
	Iss []string `json:"iss,omitempty"`

	// Aud are the audiences of which a token must name at least one. Default:
	// none, and the aud claim is not judged: a token that the same issuer made
	// for another service is then taken here too.
	Aud []string `json:"aud,omitempty"`

	// JWKS are the places of JWK sets: http(s) URLs, fetched in the background
	// and kept fresh, or files, read when the configuration is loaded. Private
	// and symmetric keys in them are refused. Default: none.
	JWKS []string `json:"jwks,omitempty"`

	// PublicKeys are PEM files with public keys or certificates (whose dates
	// are not judged), read when the configuration is loaded. Default: none.
	PublicKeys []string `json:"public_keys,omitempty"`

	// HMACSecret is the shared secret, taken as the bytes of this text. HS256,
	// HS384 and HS512 are verified with this and nothing else; it verifies
	// nothing else. Everybody who knows it can make tokens; under 32 bytes it
	// can be guessed, and loading warns. Default: none.
	HMACSecret string `json:"hmac_secret,omitempty"`

	// Algorithms are the signature algorithms that are allowed, of HS256,
	// HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384,
	// ES512, EdDSA and Ed25519. A token only picks one of them. Name no more
	// than are in use: a check with ES384 or ES512 costs ten times and more one
	// with ES256, and a stranger may ask for it with every request. Required.
	Algorithms []string `json:"algorithms,omitempty"`

	// Leeway is how far this clock and the issuer's may differ when exp, nbf
	// and iat are judged; 0 to 10 minutes. A token lives that much longer than
	// its exp. Default: 30s.
	Leeway *Duration `json:"leeway,omitempty"`

	// AllowMissingIss takes tokens without an iss claim for this issuer's as
	// well. Default: false.
	AllowMissingIss bool `json:"allow_missing_iss,omitempty"`

	// ScopesClaim is the claim that holds scopes: a text split at single
	// spaces, or a list of texts. Dots reach inside ("app_metadata.scopes"),
	// except in a name with "://", which is one name. Only plain
	// "resource:action" values count: wildcards and narrowed ones are ignored.
	// Default: none.
	ScopesClaim string `json:"scopes_claim,omitempty"`

	// RoleClaim is the claim that holds the role, a text. Default: none.
	RoleClaim string `json:"role_claim,omitempty"`

	// Roles maps a role to its scopes. Wildcards and narrowing may stand here,
	// and a narrowing value may be "{claim}": the text of that claim, one
	// literal value; where it is missing, not a text, or not a narrowing value
	// the scope is dropped. They are united with the scopes of the claim.
	// Default: none.
	Roles map[string][]string `json:"roles,omitempty"`

	// OwnerClaim is the claim that names the account, a text, to which limits
	// and second factors then belong. Default: none, and each sub is on its
	// own.
	OwnerClaim string `json:"owner_claim,omitempty"`

	// PlanClaim is the claim that names the plan, a text. Default: none.
	PlanClaim string `json:"plan_claim,omitempty"`

	// Plan is the plan of tokens that name none. Default: the app's default
	// plan.
	Plan string `json:"plan,omitempty"`

	// ServerOnly are roles that are refused when they come from a browser.
	// Default: none.
	ServerOnly []string `json:"server_only,omitempty"`

	// StaticKeys are opaque keys that stand for a role, such as Supabase's
	// publishable keys. Default: none.
	StaticKeys []StaticKey `json:"static_keys,omitempty"`
}

// StaticKey is an opaque credential that stands for a role.
type StaticKey struct {
	// Value is the credential as sent: 8 to 512 printable ASCII characters
	// without spaces, and not of three dot-separated parts. Required.
	Value string `json:"value,omitempty"`
	// Role is one of the issuer's roles. Required.
	Role string `json:"role,omitempty"`
}

// Validate finds every mistake that can be found without opening anything, and
// returns them joined, one sentence each.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("issuer %q: "+format, append([]any{c.Name}, args...)...))
	}
	if !validIssuerName(c.Name) {
		bad("the name must be 1 to %d letters, digits, '.', '_' or '-'", maxIssuerName)
	}
	if len(c.Iss) == 0 && !c.AllowMissingIss {
		bad("iss is missing: name the iss claim of its tokens, or say allow_missing_iss")
	}
	for _, v := range c.Iss {
		if v == "" || hasControl(v) {
			bad("iss must be a text without control characters")
		}
	}
	for _, v := range c.Aud {
		if v == "" || hasControl(v) {
			bad("aud must be a text without control characters")
		}
	}
	if c.Leeway != nil && (*c.Leeway < 0 || time.Duration(*c.Leeway) > maxLeeway) {
		bad("leeway must lie between 0s and %s", maxLeeway)
	}
	c.validateKeys(bad)
	c.validateClaims(bad)
	c.validateRoles(bad)
	return errors.Join(errs...)
}

// Warnings tells what is allowed but rarely meant, a sentence each.
func (c *Config) Warnings() []string {
	var out []string
	warn := func(format string, args ...any) {
		out = append(out, fmt.Sprintf("issuer %q: "+format, append([]any{c.Name}, args...)...))
	}
	if c.HMACSecret != "" && len(c.HMACSecret) < minHMACSecret {
		warn("hmac_secret is shorter than %d bytes: who holds one token can guess it and make others", minHMACSecret)
	}
	for _, place := range c.JWKS {
		if u, err := url.Parse(place); err == nil && u.Scheme == "http" && !isLoopbackHost(u.Hostname()) {
			warn("its keys are fetched over plain http from %q: who stands between can make tokens; use https", u.Host)
		}
	}
	if len(c.Aud) == 0 && len(c.Iss) > 0 && len(c.JWKS) > 0 {
		warn("no aud is checked: tokens that it makes for other services are taken too")
	}
	return out
}

// leeway returns the leeway in force.
func (c *Config) leeway() time.Duration {
	if c.Leeway == nil {
		return DefaultLeeway
	}
	return time.Duration(*c.Leeway)
}

type complain func(format string, args ...any)

// validateKeys checks algorithms and where their keys come from.
func (c *Config) validateKeys(bad complain) {
	if len(c.Algorithms) == 0 {
		bad("algorithms is missing: name those that its tokens are signed with, such as ES256")
	}
	var symmetric, asymmetric bool
	for _, name := range c.Algorithms {
		alg := algorithms[name]
		switch {
		case alg == nil && strings.EqualFold(name, "none"):
			bad("algorithm none means no signature and is never allowed")
		case alg == nil:
			bad("algorithm %q is not one of %s", name, strings.Join(algorithmNames(), ", "))
		case alg.family == familyHMAC:
			symmetric = true
		default:
			asymmetric = true
		}
	}
	if symmetric && c.HMACSecret == "" {
		bad("an HS algorithm is allowed, but hmac_secret is missing")
	}
	if c.HMACSecret != "" && !symmetric && len(c.Algorithms) > 0 {
		bad("hmac_secret is given, but algorithms allows no HS256, HS384 or HS512")
	}
	public := len(c.JWKS)+len(c.PublicKeys) > 0
	if asymmetric && !public {
		bad("a public-key algorithm is allowed, but jwks and public_key are missing")
	}
	if public && !asymmetric && len(c.Algorithms) > 0 {
		bad("jwks or public_key is given, but algorithms allows no public-key algorithm")
	}
	for _, place := range c.JWKS {
		if err := validPlace(place); err != nil {
			bad("jwks: %w", err)
		}
	}
	for _, file := range c.PublicKeys {
		if file == "" || strings.Contains(file, "://") {
			bad("public_key must be the path of a PEM file")
		}
	}
}

// validateClaims checks the names of claims: their form, and that no right
// comes from what users write themselves.
func (c *Config) validateClaims(bad complain) {
	for _, opt := range []struct{ option, claim string }{
		{"scopes_claim", c.ScopesClaim}, {"role_claim", c.RoleClaim},
		{"owner_claim", c.OwnerClaim}, {"plan_claim", c.PlanClaim},
	} {
		if opt.claim == "" {
			continue
		}
		if _, err := parsePath(opt.claim); err != nil {
			bad("%s: %w", opt.option, err)
		}
	}
	if hasControl(c.Plan) {
		bad("plan must not hold control characters")
	}
}

// validateRoles checks roles, their scopes, and what refers to roles.
func (c *Config) validateRoles(bad complain) {
	names := make([]string, 0, len(c.Roles))
	for name := range c.Roles {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !validText(name) {
			bad("a role must be 1 to %d bytes without control characters", maxText)
		}
		for _, s := range c.Roles[name] {
			if _, err := parseScopeTemplate(s); err != nil {
				bad("role %q: %w", name, err)
			}
		}
	}
	if len(c.Roles) > 0 && c.RoleClaim == "" && len(c.StaticKeys) == 0 {
		bad("roles are given, but role_claim is missing: name the claim that holds the role")
	}
	for _, name := range c.ServerOnly {
		if !validText(name) {
			bad("server_only must name roles")
		}
	}
	if len(c.ServerOnly) > 0 && c.RoleClaim == "" && len(c.StaticKeys) == 0 {
		bad("server_only is given, but role_claim is missing: no token would have a role")
	}
	seen := map[string]bool{}
	for _, k := range c.StaticKeys {
		switch {
		case !validStaticKey(k.Value):
			bad("static_key must be %d to %d printable ASCII characters without spaces, and not of three dot-separated parts",
				minStaticKey, maxStaticKey)
		case seen[k.Value]:
			bad("the same static_key stands twice")
		}
		seen[k.Value] = true
		if _, ok := c.Roles[k.Role]; !ok {
			bad("static_key names role %q, which has no role line", k.Role)
		}
	}
}

// validPlace checks where a JWK set is: a URL or a file's path.
func validPlace(place string) error {
	if place == "" {
		return errors.New("it must be an https URL or the path of a file")
	}
	if !strings.Contains(place, "://") {
		return nil
	}
	u, err := url.Parse(place)
	if err != nil {
		// The parser's own words may quote a secret of the URL.
		return errors.New("the URL cannot be parsed")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("scheme %q is not supported: use https, or a path without a scheme for a file", u.Scheme)
	case u.Hostname() == "":
		return errors.New("the URL has no host")
	case u.User != nil:
		return errors.New("the URL holds a user name or password: a JWK set is public, leave it out")
	case u.Fragment != "":
		return errors.New("the URL has a fragment (#…), which is never sent: leave it out")
	}
	return nil
}

func isURL(place string) bool { return strings.Contains(place, "://") }

func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func validIssuerName(s string) bool {
	if s == "" || len(s) > maxIssuerName {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '.' && s[i] != '_' && s[i] != '-' {
			return false
		}
	}
	return true
}

func validStaticKey(s string) bool {
	if len(s) < minStaticKey || len(s) > maxStaticKey || Shaped(s) {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func isAlnum(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}
