package jwtauth

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Browser reports whether a request bears the marks of a browser: Origin,
// Sec-Fetch-Site, Sec-Fetch-Dest or Cookie, even if empty. Sec-Fetch-Mode alone
// is none: fetch of Node.js sends it.
func Browser(r *http.Request) bool {
	for _, name := range [...]string{"Origin", "Sec-Fetch-Site", "Sec-Fetch-Dest", "Cookie"} {
		if _, ok := r.Header[name]; ok {
			return true
		}
	}
	return false
}

// SameOrigin reports whether a browser says that a request comes from a page
// of the request's own origin; https tells whether the client is known to have
// used https. A request that says nothing does not.
//
// Sec-Fetch-Site, which the browser computes from the URL that it used itself,
// decides where it is there. Else Origin must name the request's host and port.
// Its scheme may be https where the request came in plainly (TLS may have ended
// in front), never http where it came by https.
func SameOrigin(r *http.Request, https bool) bool {
	if site, ok := r.Header["Sec-Fetch-Site"]; ok {
		return len(site) == 1 && site[0] == "same-origin"
	}
	origin := r.Header["Origin"]
	if len(origin) != 1 {
		return false
	}
	u, err := url.Parse(origin[0])
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" {
		return false
	}
	if u.Scheme != "https" && (u.Scheme != "http" || https || r.TLS != nil) {
		return false
	}
	return canonicalHost(u.Host, u.Scheme) == canonicalHost(r.Host, u.Scheme)
}

// canonicalHost is host and port in lower case, without the scheme's own port.
func canonicalHost(hostport, scheme string) string {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return strings.ToLower(hostport)
	}
	if scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return strings.ToLower(host)
	}
	return strings.ToLower(hostport)
}
