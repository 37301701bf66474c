package caddymodule

import (
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/hivegate/hivegate/limiter"
	"github.com/hivegate/hivegate/limiter/redisstore"
)

func init() { caddy.RegisterModule(new(Redis)) }

// Redis keeps counters in Redis (6.2 or later) or Valkey, shared by all nodes
// that name the same server and key prefix. Redis being away never fails a load.
type Redis struct {
	// `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `redis+sentinel://HOST,…/MASTER[/DB]`,
	// `redis+cluster://HOST,…` or `redis+unix:///PATH`; `rediss` in the place of
	// `redis` for TLS. Options after `?`: `prefix=` of all keys (default
	// `hivegate:`), `timeout=` of one decision (default `200ms`, 10ms to 2s), `db=`,
	// `ca=` (a PEM file), `server_name=`, `sentinel_user=`, `sentinel_password=`.
	// Placeholders such as `{env.REDIS_URL}` are expanded. Required. Misuse: two
	// fleets with one prefix share their counters; a password in clear text ends
	// up in every copy of the configuration.
	URL string `json:"url"`
	// `strict`: one atomic decision in Redis for each request. `lease`: tokens are
	// taken in small batches, which costs less and lets slightly less through.
	// Default: `strict`.
	Mode string `json:"mode,omitempty"`
	// What becomes of requests while Redis is away: `local` (this node limits
	// alone, so that a fleet of n lets up to n times as much through), `deny` (503)
	// or `allow`. A route's `on_failure` overrides it. Default: `local`. Misuse:
	// with `allow` nobody is limited while Redis is away.
	OnFailure string `json:"on_failure,omitempty"`

	address   *redisstore.Address
	onFailure limiter.OnFailure
}

// CaddyModule returns the Caddy module information.
func (*Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "hivegate.limiters.redis", New: func() caddy.Module { return new(Redis) }}
}

// Provision reads the URL. It opens nothing.
func (r *Redis) Provision(ctx caddy.Context) error {
	if r.URL == "" {
		return fmt.Errorf("limiter redis: the URL is missing: write limiter redis redis://HOST:6379")
	}
	text, err := expand("limiter redis", r.URL)
	if err != nil {
		return err
	}
	if r.address, err = redisstore.ParseURL(text); err != nil {
		return fmt.Errorf("limiter redis: %w", err)
	}
	if r.onFailure, err = limiter.ParseOnFailure(r.OnFailure); err != nil {
		return fmt.Errorf("limiter redis: %w", err)
	}
	if err := oneOf("limiter", "limiter redis: mode", cmpDefault(r.Mode, "strict"), "strict", "lease"); err != nil {
		return err
	}
	if a := r.address; a.Password != "" && strings.Contains(r.URL, a.Password) || a.SentinelPassword != "" && strings.Contains(r.URL, a.SentinelPassword) {
		contextLogger(ctx).Warn("the password of limiter redis stands in clear text in the configuration; use {env.NAME} or {file./path}")
	}
	return nil
}

// Opener implements LimiterGuest.
func (r *Redis) Opener() func() (limiter.Limiter, error) {
	opts := redisstore.Options{Address: r.address, Lease: r.Mode == "lease", OnFailure: r.onFailure, Log: processLogger}
	return func() (limiter.Limiter, error) { return redisstore.New(opts), nil }
}

// poolSecret implements secretLimiter: placeholders of the same name may stand for
// another server than before.
func (r *Redis) poolSecret() string { return fmt.Sprintf("%+v", *r.address) }

// secretLimiter is a guest whose expanded configuration says more than its JSON.
type secretLimiter interface{ poolSecret() string }

// limiterPoolKey identifies the guest's limiter in the pool.
func limiterPoolKey(guest LimiterGuest) (string, error) {
	if g, ok := guest.(secretLimiter); ok {
		return poolKey(guest, g.poolSecret())
	}
	return poolKey(guest)
}

// starter is a limiter that connects to something.
type starter interface{ Start() }

// upper is a limiter that may be away.
type upper interface{ Up() bool }

var (
	_ LimiterGuest      = (*Redis)(nil)
	_ caddy.Provisioner = (*Redis)(nil)
	_ secretLimiter     = (*Redis)(nil)
	_ starter           = (*redisstore.Store)(nil)
	_ upper             = (*redisstore.Store)(nil)
)
