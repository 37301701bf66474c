//go:build clients

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// curled is what curl's --write-out tells of one answer, with the body.
type curled struct {
	status                    int
	version, reason, remained string
	body                      string
}

// runCurl calls Debian's curl.
func runCurl(t testing.TB, args ...string) curled {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const tell = `%{stderr}%{http_code} %{http_version} %header{x-ratelimit-remaining}. %header{x-hivegate-reason}.`
	cmd := exec.CommandContext(ctx, "curl", append([]string{"--silent", "--noproxy", "*", "--write-out", tell}, args...)...)
	cmd.Env = append(cleanEnv(), "HOME="+t.TempDir())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("curl: %v\n%s", err, stderr.String())
	}
	mustHoldNoSecret(t, "what curl got", stdout.String())
	c := curled{body: stdout.String()}
	if _, err := fmt.Sscanf(stderr.String(), "%d %s %s %s", &c.status, &c.version, &c.remained, &c.reason); err != nil {
		t.Fatalf("curl told %q: %v", stderr.String(), err)
	}
	c.remained, c.reason = strings.TrimSuffix(c.remained, "."), strings.TrimSuffix(c.reason, ".")
	return c
}

func TestClientsCurlSpeaksHTTP2(t *testing.T) {
	secure, _ := tlsSite(t)
	_, port, err := net.SplitHostPort(secure.sites[1])
	if err != nil {
		t.Fatal(err)
	}
	c := farms
	c.options = "servers {\n\t\tprotocols h1 h2c\n\t}"
	plain := start(t, c)
	for what, c := range map[string]struct {
		g    *gate
		base string
		args []string
	}{
		"over TLS": {secure, "https://localhost:" + port, []string{
			"--http2", "--cacert", filepath.Join(secure.dir, "data", "caddy", "pki", "authorities", "local", "root.crt"), "--resolve", "localhost:" + port + ":127.0.0.1",
		}},
		"with prior knowledge": {plain, "http://" + plain.sites[0], []string{"--http2-prior-knowledge"}},
	} {
		t.Run(what, func(t *testing.T) {
			k := c.g.create(t, "--scope", "farms:read", "--requests", "2/h")
			get := func(path string, more ...string) curled {
				return runCurl(t, append(append(c.args, more...), c.base+path)...)
			}
			auth := []string{"-H", "Authorization: Bearer " + k.Key}
			for i, w := range []struct {
				path             string
				auth             []string
				status           int
				reason, remained string
			}{
				{"/farms", nil, 401, "missing_credentials", ""},
				{"/farms", auth, 200, "", "1"},
				{"/crews", append([]string{"-d", "x=y"}, auth...), 403, "insufficient_scope", "0"},
				{"/farms", auth, 429, "rate_limited", "0"},
			} {
				got := get(w.path, w.auth...)
				if got.version != "2" || got.status != w.status || got.reason != w.reason || got.remained != w.remained && w.status != 401 {
					t.Errorf("call %d: %+v, want %+v over HTTP/2", i, got, w)
				}
				if w.status == 200 && !strings.Contains(got.body, `"backend":"farm"`) {
					t.Errorf("the body is %s", got.body)
				}
			}
		})
	}
	// A server that does not take part in the upgrade answers over HTTP/1.1.
	k := plain.createScoped(t, "farms:read")
	if got := runCurl(t, "--http2", "-H", "Authorization: Bearer "+k.Key, "http://"+plain.sites[0]+"/farms"); got.status != 200 {
		t.Errorf("asking for an upgrade to h2c: %+v", got)
	}
}
