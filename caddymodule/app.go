package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/hivegate/hivegate/internal/sealed"
	"github.com/hivegate/hivegate/limiter"
)

func init() { caddy.RegisterModule(new(App)) }

// runtime is what a provisioned App works with.
type runtime struct {
	*settings
	log     *zap.Logger
	metrics *metrics
	keys    *keyBackend
	limits  limiter.Limiter
	life    *lifetime
	guest   KeystoreGuest
	tokens  *tokenBackend // nil: no issuer is configured
	started bool          // requests may have come
	shared  sharedGrants
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "hivegate", New: func() caddy.Module { return new(App) }}
}

// Provision compiles the configuration and takes the backends from the pools.
// It opens nothing. What it took it gives back when it fails.
func (a *App) Provision(ctx caddy.Context) error {
	set, mistake := compileApp(a)
	if mistake != nil {
		return mistake
	}
	rt := &runtime{settings: set, log: contextLogger(ctx), shared: sharedGrants{seed: maphash.MakeSeed()}}
	spec, guest, key, err := a.keystoreSpec(ctx, rt.log)
	if err != nil {
		return err
	}
	limiterGuest, err := a.limiterGuest(ctx)
	if err != nil {
		return err
	}
	limiterKey, err := limiterPoolKey(limiterGuest)
	if err != nil {
		return err
	}
	keys, _, err := keyPool.LoadOrNew(key, func() (caddy.Destructor, error) { return newKeyBackend(spec), nil })
	if err != nil {
		return err
	}
	open := limiterGuest.Opener()
	limits, _, err := limiterPool.LoadOrNew(limiterKey, func() (caddy.Destructor, error) {
		l, err := open()
		if err != nil {
			return nil, err
		}
		return &limiterBackend{limiter: l}, nil
	})
	if err != nil {
		_, closeErr := keyPool.Delete(key)
		return errors.Join(fmt.Errorf("make the limiter: %w", err), closeErr)
	}
	tokens, tokensKey, err := a.tokens(rt.log)
	if err != nil {
		_, err1 := keyPool.Delete(key)
		_, err2 := limiterPool.Delete(limiterKey)
		return errors.Join(err, err1, err2)
	}
	rt.tokens = tokens
	rt.guest = guest
	rt.keys, _ = keys.(*keyBackend) // the pools hold nothing else
	if l, ok := limits.(*limiterBackend); ok {
		rt.limits = l.limiter
	}
	rt.life = newLifetime(func() {
		_, err1 := keyPool.Delete(key)
		_, err2 := limiterPool.Delete(limiterKey)
		var err3 error
		if tokens != nil {
			_, err3 = tokenPool.Delete(tokensKey)
		}
		if err := errors.Join(err1, err2, err3); err != nil {
			caddy.Log().Named("hivegate").Error("close the backends", zap.Error(err))
		}
	})
	a.runtime = rt
	if rt.metrics, err = newMetrics(ctx.GetMetricsRegistry(), rt); err != nil {
		return fmt.Errorf("register metrics: %w", err) // Cleanup gives the backends back
	}
	return nil
}

// keystoreSpec loads the keystore's guest and expands the master key.
func (a *App) keystoreSpec(ctx caddy.Context, log *zap.Logger) (*keyBackendSpec, KeystoreGuest, string, error) {
	if a.KeystoreRaw == nil {
		a.KeystoreRaw = json.RawMessage(`{"backend":"sqlite"}`)
	}
	mod, err := ctx.LoadModule(a, "KeystoreRaw")
	if err != nil {
		return nil, nil, "", fmt.Errorf("load the keystore: %w", err)
	}
	guest, ok := mod.(KeystoreGuest)
	if !ok {
		return nil, nil, "", fmt.Errorf("load the keystore: %T is no keystore", mod)
	}
	master := make([]string, 0, len(a.MasterKey))
	for _, text := range a.MasterKey {
		if text == "none" && len(a.MasterKey) > 1 {
			return nil, nil, "", errors.New("master_key: 'none' stands alone")
		}
		expanded, err := expand("master_key", text)
		if err != nil {
			return nil, nil, "", err
		}
		if expanded != "none" {
			if _, err := sealed.ParseKey(expanded); err != nil {
				return nil, nil, "", fmt.Errorf("master_key: %w", err)
			}
			if key, err := sealed.ParseKey(expanded); err == nil && sealed.Weak(&key) {
				log.Warn("master_key is one byte repeated, which anybody would guess; make one with 'openssl rand -base64 32'")
			}
			if !strings.Contains(text, "{") {
				log.Warn("master_key stands in clear text in the configuration; use {env.NAME} or {file./path}")
			}
		}
		master = append(master, expanded)
	}
	if len(master) == 0 && guest.KeyFile() == "" {
		return nil, nil, "", errors.New("master_key is missing: this keystore needs it given, or 'master_key none'")
	}
	if a.RecordCache < 0 || a.VerifiedCache < 0 {
		return nil, nil, "", errors.New("record_cache and verified_cache: must not be negative")
	}
	spec := &keyBackendSpec{
		open: guest.Opener(), location: guest.Location(), keyFile: guest.KeyFile(), master: master,
		maxStaleness: guest.MaxStaleness(), records: a.RecordCache, verified: a.VerifiedCache,
		remote: !guest.MustOpen(),
	}
	var secret string
	if g, ok := guest.(remoteGuest); ok {
		spec.pollTimeout, secret = g.pollTimeout(), g.poolSecret()
	}
	key, err := poolKey(guest, guest.Location(), secret, master, a.RecordCache, a.VerifiedCache)
	if err != nil {
		return nil, nil, "", err
	}
	return spec, guest, key, nil
}

func (a *App) limiterGuest(ctx caddy.Context) (LimiterGuest, error) {
	if a.LimiterRaw == nil {
		a.LimiterRaw = json.RawMessage(`{"backend":"memory"}`)
	}
	mod, err := ctx.LoadModule(a, "LimiterRaw")
	if err != nil {
		return nil, fmt.Errorf("load the limiter: %w", err)
	}
	guest, ok := mod.(LimiterGuest)
	if !ok {
		return nil, fmt.Errorf("load the limiter: %T is no limiter", mod)
	}
	return guest, nil
}

// Start opens the stores. An embedded keystore that cannot be opened fails the
// load; one on the network is tried again with each request.
func (a *App) Start() error {
	rt := a.runtime
	rt.started = true
	if l, ok := rt.limits.(starter); ok {
		l.Start() // it connects by itself, and the load does not wait for it
	}
	if _, err := rt.keys.opened(context.Background()); err != nil {
		if rt.guest.MustOpen() {
			return err
		}
		rt.log.Error("the keystore is away; keys are refused with 503 until it is back", zap.Error(err))
	}
	if rt.tokens != nil {
		if _, err := rt.tokens.ready(context.Background()); err != nil {
			return err
		}
	}
	rt.log.Info("keystore", zap.String("location", rt.guest.Location()))
	return nil
}

// Stop ends nothing: requests in flight still use the stores.
func (a *App) Stop() error { return nil }

// Cleanup gives the configuration's reference on the backends back.
func (a *App) Cleanup() error {
	if a.runtime == nil {
		return nil // Provision failed before it took anything
	}
	rt := a.runtime
	a.runtime = nil
	if rt.started {
		lingering.add(rt.life)
	} else {
		rt.life.leave()
	}
	if caddy.Exiting() {
		lingering.end() // no request will come; what is buffered must be written
	}
	return nil
}

// lateRequests is how long a replaced configuration keeps its backends. Caddy
// does not wait until the old server has shut down, and net/http gives
// connections that were accepted but had sent nothing another five seconds: what
// they then send still reaches the old handlers.
const lateRequests = 15 * time.Second

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
