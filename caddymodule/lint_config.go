package caddymodule

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sort"
	"strings"
)

// lintConfig is what lint reads of Caddy's own configuration.
type lintConfig struct {
	Admin *struct {
		Disabled bool   `json:"disabled"`
		Listen   string `json:"listen"`
	} `json:"admin"`
	Logging struct {
		Logs map[string]*lintLog `json:"logs"`
	} `json:"logging"`
	Apps struct {
		HTTP struct {
			HTTPPort int                    `json:"http_port"`
			Servers  map[string]*lintServer `json:"servers"`
		} `json:"http"`
	} `json:"apps"`
}

type lintLog struct {
	Encoder struct {
		Format string                     `json:"format"`
		Fields map[string]json.RawMessage `json:"fields"`
	} `json:"encoder"`
	Include []string `json:"include"`
}

// hidesHeaders reports whether a log leaves request headers out as a whole.
func (l *lintLog) hidesHeaders() bool {
	var field struct {
		Filter string `json:"filter"`
	}
	if l != nil && l.Encoder.Format == "hivegate" {
		return true
	}
	if l == nil || l.Encoder.Format != "filter" || json.Unmarshal(l.Encoder.Fields["request>headers"], &field) != nil {
		return false
	}
	return field.Filter == "delete"
}

type lintServer struct {
	siteServer
	TLS           []json.RawMessage `json:"tls_connection_policies"`
	AutomaticHTTP *struct {
		Disabled bool     `json:"disable"`
		Skip     []string `json:"skip"`
	} `json:"automatic_https"`
	TrustedProxies       json.RawMessage `json:"trusted_proxies"`
	TrustedProxiesStrict int             `json:"trusted_proxies_strict"`
	Logs                 *struct {
		DefaultName string                     `json:"default_logger_name"`
		Names       map[string]json.RawMessage `json:"logger_names"`
		SkipHosts   []string                   `json:"skip_hosts"`
	} `json:"logs"`
}

// logNames are the access logs of a server. An empty list: the default log.
func (s *lintServer) logNames() (names []string) {
	if s.Logs.DefaultName != "" {
		names = append(names, s.Logs.DefaultName)
	}
	for _, raw := range s.Logs.Names {
		var list []string
		var one string
		if json.Unmarshal(raw, &list) == nil {
			names = append(names, list...)
		} else if json.Unmarshal(raw, &one) == nil {
			names = append(names, one)
		}
	}
	sort.Strings(names)
	return slices.Compact(names)
}

// plain reports whether requests for the hosts come to this server without TLS
// from somewhere else than this machine.
func (s *lintServer) plain(hosts []string, httpPort int) bool {
	if httpPort == 0 {
		httpPort = 80
	}
	local := func(h string) bool {
		return h == "localhost" || strings.HasSuffix(h, ".localhost") || net.ParseIP(strings.Trim(h, "[]")).IsLoopback()
	}
	if len(hosts) > 0 && !slices.ContainsFunc(hosts, func(h string) bool { return !local(h) }) {
		return false
	}
	onlyHTTP, near := true, true
	for _, l := range s.Listen {
		l = strings.TrimPrefix(l, "tcp/")
		if strings.HasPrefix(l, "unix/") {
			continue
		}
		host, port, err := net.SplitHostPort(l)
		if err != nil {
			continue
		}
		near = near && local(host)
		onlyHTTP = onlyHTTP && port == fmt.Sprint(httpPort)
	}
	switch {
	case near && len(s.Listen) > 0, len(s.TLS) > 0:
		return false
	case onlyHTTP && len(s.Listen) > 0, len(hosts) == 0:
		return true
	case s.AutomaticHTTP != nil:
		return s.AutomaticHTTP.Disabled || !slices.ContainsFunc(hosts, func(h string) bool { return !slices.Contains(s.AutomaticHTTP.Skip, h) })
	}
	return false
}

// lintGate is one gate and where it serves.
type lintGate struct {
	*Gate
	hosts  []string
	server *lintServer
	at     placed
}

// lintProxy is one reverse_proxy that a gate stands before.
type lintProxy struct {
	Transport struct {
		Protocol              string `json:"protocol"`
		ResponseHeaderTimeout any    `json:"response_header_timeout"`
		ReadTimeout           any    `json:"read_timeout"`
	} `json:"transport"`
	Upstreams []struct {
		Dial string `json:"dial"`
	} `json:"upstreams"`
}
