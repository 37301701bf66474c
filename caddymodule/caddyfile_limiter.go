package caddymodule

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/hivegate/hivegate/limiter"
	"github.com/hivegate/hivegate/limiter/redisstore"
)

const limiterUsage = "limiter memory' or 'limiter redis URL { mode strict|lease; on_failure local|deny|allow }"

// limiter memory | limiter redis URL { mode strict|lease; on_failure local|deny|allow }
func readLimiter(b *block, a *App) error {
	words := b.words()
	if len(words) == 0 {
		return b.usage(limiterUsage)
	}
	b.places["limiter"] = b.start
	switch words[0] {
	case "memory":
		if len(words) > 1 {
			return b.usage(limiterUsage)
		}
		a.LimiterRaw = caddyconfig.JSONModuleObject(new(Memory), "backend", "memory", nil)
		return b.noBlock()
	case "redis":
		if len(words) != 2 || words[1] == "" {
			return b.usage(limiterUsage)
		}
		guest := &Redis{URL: words[1]}
		if !strings.Contains(guest.URL, "{") { // else it is known when the config is loaded
			if _, err := redisstore.ParseURL(guest.URL); err != nil {
				return errAtf(b.start, "limiter redis: %w", err)
			}
		}
		if err := readBlock(b, "limiter redis", redisOptions, guest); err != nil {
			return err
		}
		a.LimiterRaw = caddyconfig.JSONModuleObject(guest, "backend", "redis", nil)
		return nil
	}
	return errAtf(b.start, "limiter: %s", unknownName("limiter", words[0], []string{"memory", "redis"}))
}

var redisOptions = map[string]option[*Redis]{
	"mode":       {once: true, read: readRedisMode},
	"on_failure": {once: true, read: readRedisFailure},
}

// mode strict|lease
func readRedisMode(b *block, r *Redis) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("mode strict|lease")
	}
	if e := oneOf("", "mode", words[0], "strict", "lease"); e != nil {
		return errAtf(b.start, "limiter redis: %s", e.Msg)
	}
	r.Mode = words[0]
	return b.noBlock()
}

// on_failure local|deny|allow
func readRedisFailure(b *block, r *Redis) error {
	words := b.words()
	if len(words) != 1 || words[0] == "" {
		return b.usage("on_failure local|deny|allow")
	}
	if _, err := limiter.ParseOnFailure(words[0]); err != nil {
		return errAtf(b.start, "limiter redis: %w", err)
	}
	r.OnFailure = words[0]
	return b.noBlock()
}
