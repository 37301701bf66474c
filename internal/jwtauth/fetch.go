package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const maxRedirects = 3

// newClient makes the client of one JWK set from the transport of base (nil:
// net/http's defaults, the proxy of the environment included). Connections are
// not kept: minutes lie between two fetches.
func newClient(base *http.Client) *http.Client {
	c := &http.Client{CheckRedirect: sameHostOnly}
	if base != nil && base.Transport != nil {
		c.Transport = base.Transport
		return c
	}
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		t.DisableKeepAlives = true
		t.MaxResponseHeaderBytes = 64 << 10
		c.Transport = t
	}
	return c
}

// sameHostOnly follows redirects on the same host, never from https to http:
// who answers for another host does not speak for this issuer.
func sameHostOnly(req *http.Request, via []*http.Request) error {
	from := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case !strings.EqualFold(req.URL.Host, from.Host):
		return errors.New("it redirects to another host, which is refused: name the final URL")
	case from.Scheme == "https" && req.URL.Scheme != "https":
		return errors.New("it redirects from https to plain http, which is refused")
	}
	return nil
}

// get fetches the document and tells for how long it may be kept.
func (r *remote) get(ctx context.Context) ([]byte, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("make request: %w", withoutURL(err))
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", "hivegate")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, 0, r.explain(ctx, withoutURL(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("it answered status %d", resp.StatusCode)
	}
	doc, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKSBytes+1))
	if err != nil {
		return nil, 0, r.explain(ctx, withoutURL(err))
	}
	if len(doc) > maxJWKSBytes {
		return nil, 0, errors.New("its answer is larger than 1 MiB")
	}
	return doc, lifetime(resp.Header), nil
}

// explain says in words that the time was over.
func (r *remote) explain(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("it did not answer within %s: %w", r.opts.timeout, err)
	}
	return fmt.Errorf("fetch: %w", err)
}

// lifetime reads how long an answer may be kept from Cache-Control and Age
// (RFC 9111 sections 4.2.1 and 5.1), held between 1 and 10 minutes.
func lifetime(h http.Header) time.Duration {
	life := maxLifetime
	for _, line := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(line, ",") {
			name, arg, _ := strings.Cut(strings.TrimSpace(directive), "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "no-store", "no-cache":
				return minLifetime
			case "max-age":
				n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(arg), `"`), 10, 31)
				if err != nil {
					return minLifetime // RFC 9111 section 4.2.1: invalid is stale
				}
				life = min(life, time.Duration(n)*time.Second)
			}
		}
	}
	if age, err := strconv.ParseUint(h.Get("Age"), 10, 31); err == nil {
		life -= time.Duration(age) * time.Second
	}
	return min(max(life, minLifetime), maxLifetime)
}
