package caddymodule

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/hivegate/hivegate/limiter"
)

func init() { caddy.RegisterModule(new(Memory)) }

// Memory keeps counters in this process. They survive a reload, not a restart.
type Memory struct{}

// CaddyModule returns the Caddy module information.
func (*Memory) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "hivegate.limiters.memory", New: func() caddy.Module { return new(Memory) }}
}

// Opener implements LimiterGuest.
func (*Memory) Opener() func() (limiter.Limiter, error) {
	return func() (limiter.Limiter, error) { return limiter.NewMemory(limiter.MemoryOptions{}), nil }
}

var _ LimiterGuest = (*Memory)(nil)
