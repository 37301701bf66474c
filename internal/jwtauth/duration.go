package jwtauth

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Duration is a time.Duration which in JSON is either a whole number of
// nanoseconds or a text such as "30s", as everywhere in Caddy's configuration.
// It converts to and from caddy.Duration and time.Duration.
type Duration time.Duration

// UnmarshalJSON reads a number of nanoseconds or a Go duration ("1m30s").
func (d *Duration) UnmarshalJSON(b []byte) error {
	var ns int64
	if err := json.Unmarshal(b, &ns); err == nil {
		*d = Duration(ns)
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("read duration: want a text such as \"30s\" or nanoseconds")
	}
	v, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return fmt.Errorf("read duration: %w", err)
	}
	*d = Duration(v)
	return nil
}
