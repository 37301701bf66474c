package caddymodule

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
)

// cors ORIGIN… { headers NAME…; max_age 10m }
func readCORS(b *block, g *Gate) error {
	words := b.words()
	if len(words) == 0 {
		return b.usage("cors ORIGIN… { headers NAME…; max_age 10m }")
	}
	g.CORS = &CORS{Origins: words}
	b.places["cors"] = b.start
	return readBlock(b, "cors", corsOptions, g.CORS)
}

var corsOptions = map[string]option[*CORS]{
	"headers": {read: readCORSHeaders},
	"max_age": {once: true, read: readCORSMaxAge},
}

// headers NAME…
func readCORSHeaders(b *block, c *CORS) error {
	words := b.words()
	if len(words) == 0 {
		return b.usage("headers NAME…")
	}
	for _, name := range words {
		b.places["cors/headers/"+strconv.Itoa(len(c.Headers))] = b.start
		c.Headers = append(c.Headers, name)
	}
	return b.noBlock()
}

// max_age DURATION
func readCORSMaxAge(b *block, c *CORS) error {
	words := b.words()
	if len(words) != 1 {
		return b.usage("max_age 10m")
	}
	d, err := caddy.ParseDuration(words[0])
	if err != nil || d <= 0 {
		return errAtf(b.start, "cors: max_age %q: write whole seconds from 1s to 24h, such as 10m", words[0])
	}
	b.places["cors/max_age"] = b.start
	c.MaxAge = caddy.Duration(d)
	return b.noBlock()
}

// shadow [header]
func readShadow(b *block, g *Gate) error {
	b.places["shadow"] = b.start
	words := b.words()
	switch {
	case len(words) == 0:
		g.Shadow = "on"
	case len(words) == 1 && words[0] == "header":
		g.Shadow = "header"
	default:
		return b.usage("shadow [header]")
	}
	return b.noBlock()
}
