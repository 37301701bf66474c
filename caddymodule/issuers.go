package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/hivegate/hivegate/internal/jwtauth"
)

// tokenPool holds the issuers of JWTs with the tokens that they verified. A
// configuration with other settings, or with other keys in the same files, gets
// another set, which knows no token yet.
var tokenPool = caddy.NewUsagePool()

// tokenBackend is a set of issuers in the pool.
type tokenBackend struct {
	set      *jwtauth.Set
	starting sync.Mutex
	started  atomic.Bool
}

// ready starts the issuers on first use: files are read, fetching begins in the
// background. An issuer on the network being away is no error.
func (b *tokenBackend) ready(ctx context.Context) (*jwtauth.Set, error) {
	if b.started.Load() {
		return b.set, nil
	}
	b.starting.Lock()
	defer b.starting.Unlock()
	if b.started.Load() {
		return b.set, nil
	}
	for _, i := range b.set.Issuers() {
		// The issuers outlive the request or configuration that starts them.
		if err := i.Start(context.WithoutCancel(ctx)); err != nil {
			return nil, fmt.Errorf("start issuer %s: %w", i.Name(), err)
		}
	}
	b.started.Store(true)
	return b.set, nil
}

// Destruct ends the fetching.
func (b *tokenBackend) Destruct() error {
	var errs []error
	for _, i := range b.set.Issuers() {
		errs = append(errs, i.Close())
	}
	b.set.Close()
	return errors.Join(errs...)
}

// compileIssuers checks the issuers as far as that goes without their secrets:
// placeholders stand for whatever they will be.
func compileIssuers(a *App, s *settings) *configError {
	seen := make(map[string]bool)
	for i := range a.Issuers {
		cfg := &a.Issuers[i]
		path := "issuers/" + strconv.Itoa(i)
		if seen[cfg.Name] {
			return mistake(path, "issuer %q is given twice", cfg.Name)
		}
		seen[cfg.Name] = true
		plain := withoutPlaceholders(cfg)
		if err := plain.Validate(); err != nil {
			return &configError{Path: path, Msg: strings.ReplaceAll(err.Error(), "\n", "; ")}
		}
		for role, scopes := range cfg.Roles {
			for _, scope := range scopes {
				base, _, _ := strings.Cut(scope, "@")
				if err := s.universe.Known(base); err != nil {
					return mistake(path+"/roles/"+role, "issuer %s: role %s: %v", cfg.Name, role, err)
				}
			}
		}
		if cfg.Plan != "" && s.planByName[cfg.Plan] == nil {
			return mistake(path+"/plan", "issuer %s: %s", cfg.Name, s.unknown("plan", cfg.Plan))
		}
		s.issuers = append(s.issuers, cfg.Name)
	}
	return nil
}

// expandable returns the texts of an issuer in which placeholders are expanded,
// with the option that each belongs to.
func expandable(cfg *jwtauth.Config) (fields []*string, options []string) {
	add := func(option string, texts ...*string) {
		for _, t := range texts {
			fields, options = append(fields, t), append(options, "issuer "+cfg.Name+": "+option)
		}
	}
	for i := range cfg.Iss {
		add("iss", &cfg.Iss[i])
	}
	for i := range cfg.Aud {
		add("aud", &cfg.Aud[i])
	}
	for i := range cfg.JWKS {
		add("jwks", &cfg.JWKS[i])
	}
	for i := range cfg.PublicKeys {
		add("public_key", &cfg.PublicKeys[i])
	}
	for i := range cfg.StaticKeys {
		add("static_key", &cfg.StaticKeys[i].Value)
	}
	add("hmac_secret", &cfg.HMACSecret)
	return fields, options
}

// copyIssuer copies what expanding changes.
func copyIssuer(cfg *jwtauth.Config) jwtauth.Config {
	c := *cfg
	c.Iss = append([]string(nil), cfg.Iss...)
	c.Aud = append([]string(nil), cfg.Aud...)
	c.JWKS = append([]string(nil), cfg.JWKS...)
	c.PublicKeys = append([]string(nil), cfg.PublicKeys...)
	c.StaticKeys = append([]jwtauth.StaticKey(nil), cfg.StaticKeys...)
	return c
}

// hasPlaceholder reports whether a text holds something to be expanded.
func hasPlaceholder(text string) bool {
	return strings.Contains(text, "{env.") || strings.Contains(text, "{file.")
}

// withoutPlaceholders replaces what cannot be known yet by something that any
// check lets pass.
func withoutPlaceholders(cfg *jwtauth.Config) jwtauth.Config {
	c := copyIssuer(cfg)
	fields, options := expandable(&c)
	for i, f := range fields {
		if !hasPlaceholder(*f) {
			continue
		}
		if strings.HasSuffix(options[i], "public_key") {
			*f = "placeholder.pem"
			continue
		}
		*f = "https://placeholder-" + strconv.Itoa(i) + ".invalid/value"
	}
	return c
}

// tokens takes the issuers from the pool; nil where none is configured.
func (a *App) tokens(log *zap.Logger) (_ *tokenBackend, key string, _ error) {
	if len(a.Issuers) == 0 {
		return nil, "", nil
	}
	issuers := make([]jwtauth.Config, 0, len(a.Issuers))
	for i := range a.Issuers {
		cfg := copyIssuer(&a.Issuers[i])
		inClear := secretsInClear(&cfg)
		fields, options := expandable(&cfg)
		for j, f := range fields {
			text, err := expand(options[j], *f)
			if err != nil {
				return nil, "", err
			}
			*f = text
		}
		if err := cfg.Validate(); err != nil {
			return nil, "", errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		for _, option := range inClear {
			log.Warn(option+" stands in clear text in the configuration; use {env.NAME} or {file./path}", zap.String("issuer", cfg.Name))
		}
		for _, w := range cfg.Warnings() {
			log.Warn(w)
		}
		issuers = append(issuers, cfg)
	}
	raw, err := json.Marshal(issuers)
	if err != nil {
		return nil, "", fmt.Errorf("encode the issuers: %w", err)
	}
	for i := range issuers {
		// A key that was taken out of its file must not outlive the next load.
		files := issuers[i].FilesDigest()
		raw = append(raw, files[:]...)
	}
	sum := sha256.Sum256(raw)
	key = "issuers:" + hex.EncodeToString(sum[:])
	b, _, err := tokenPool.LoadOrNew(key, func() (caddy.Destructor, error) { return newTokenBackend(issuers) })
	if err != nil {
		return nil, "", err
	}
	backend, ok := b.(*tokenBackend)
	if !ok {
		return nil, "", fmt.Errorf("the pool holds %T under %s", b, key)
	}
	return backend, key, nil
}

// secretsInClear returns the options that hold a secret as it is. A static key of
// a server's role is one; that of any other is published with every page.
func secretsInClear(cfg *jwtauth.Config) (options []string) {
	if cfg.HMACSecret != "" && !hasPlaceholder(cfg.HMACSecret) {
		options = append(options, "hmac_secret")
	}
	for _, k := range cfg.StaticKeys {
		if slices.Contains(cfg.ServerOnly, k.Role) && !hasPlaceholder(k.Value) {
			options = append(options, "static_key of role "+k.Role)
		}
	}
	return options
}

func newTokenBackend(configs []jwtauth.Config) (*tokenBackend, error) {
	issuers := make([]*jwtauth.Issuer, 0, len(configs))
	for _, cfg := range configs {
		i, err := jwtauth.NewIssuer(cfg, jwtauth.Options{Log: processLogger})
		if err != nil {
			return nil, err
		}
		issuers = append(issuers, i)
	}
	set, err := jwtauth.NewSet(issuers, 0)
	if err != nil {
		return nil, err
	}
	return &tokenBackend{set: set}, nil
}

// checkIssuers says which names of a gate's accept lines do not exist.
func (s *settings) checkIssuers(names []string) *configError {
	for i, name := range names {
		known := false
		for _, n := range s.issuers {
			known = known || n == name
		}
		if !known {
			return mistake("accept/issuers/"+strconv.Itoa(i), "accept issuer: %s", unknownName("issuer", name, s.issuers))
		}
	}
	return nil
}
