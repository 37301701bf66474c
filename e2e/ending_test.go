package e2e

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

var endings = config{
	env: []string{"FACTOR_SECRET=" + factorSecret},
	global: cheap + factorIssuer + `
		scopes farms:read workers:command keys:manage
	`,
	gate: `
		credentials {
			bearer
			header apikey required
		}
		routes {
			GET /any/{rest...} farms:read
			POST /any/{rest...} farms:read {
				json command exec require workers:command
			}
		}
		keys_api /v1 {
			read keys:manage
			write keys:manage
		}
	`,
}

// openStream sends a request to an endless answer and reads its first byte.
func openStream(t *testing.T, g *gate, method string, changes ...change) io.ReadCloser {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+g.sites[0]+"/any/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		c(r)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the stream got %d %s", resp.StatusCode, resp.Header.Get("X-Hivegate-Reason"))
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		t.Fatalf("first byte: %v", err)
	}
	return resp.Body
}

// mustEnd waits for the end of a stream, not before and not after.
func mustEnd(t *testing.T, what string, ended <-chan struct{}, after, before time.Time) {
	t.Helper()
	select {
	case <-ended:
		if time.Now().Before(after) {
			t.Errorf("%s ended %s too early", what, time.Until(after))
		}
	case <-time.After(time.Until(before)):
		t.Errorf("%s is open still", what)
	}
}

func stillOpen(t *testing.T, what string, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-ended:
		t.Errorf("%s ended", what)
	default:
	}
}

// A tunnel or an event stream ends with the token that opened it, leeway included; an
// ordinary answer that was begun may come to its end.
func TestStreamsOfATokenEndWithIt(t *testing.T) {
	c := endings
	c.gate = "routes {\n GET /any/{rest...} farms:read\n }\n"
	g := start(t, c)
	streaming(t, g)
	const leeway = 30 * time.Second
	end := time.Now().Add(4 * time.Second).Truncate(time.Second)
	token := factorToken(t, map[string]any{"exp": end.Add(-leeway).Unix()})
	lasting := factorToken(t, nil)
	socket, events := openSocket(t, g, token), openStream(t, g, "GET", key(token), header("Accept", "text/event-stream"))
	defer func() { _ = socket.Close() }()
	plain := ends(openStream(t, g, "GET", key(token)))
	longer := ends(openStream(t, g, "GET", key(lasting), header("Accept", "text/event-stream")))
	socketEnds, eventsEnd := ends(socket), ends(events)
	mustEnd(t, "the socket", socketEnds, end, end.Add(time.Second))
	mustEnd(t, "the event stream", eventsEnd, end, end.Add(time.Second))
	stillOpen(t, "an answer that was begun", plain)
	stillOpen(t, "the event stream of another token", longer)
	g.get(t, "/any/x", key(token)).refused(t, 401, "token_expired")
}

// A key that has to come beside a token ends what they opened together.
func TestStreamsEndWithTheKeyOfARequiredHeader(t *testing.T) {
	g := start(t, endings)
	streaming(t, g)
	token := factorToken(t, nil)
	one, other := g.createScoped(t, "farms:read"), g.createScoped(t, "farms:read")
	cut := ends(openStream(t, g, "GET", key(token), header("apikey", one.Key)))
	kept := ends(openStream(t, g, "GET", key(token), header("apikey", other.Key)))
	g.hivegate(t, "apikey", "revoke", one.ID).ok(t)
	now := time.Now()
	mustEnd(t, "the stream of the revoked key", cut, now.Add(-time.Minute), now.Add(1200*time.Millisecond))
	stillOpen(t, "the stream of another key", kept)
}

// What a rule asked for because of the body must stay true as well.
func TestStreamsEndWhenTheyLoseWhatARuleAsked(t *testing.T) {
	c := endings
	c.gate = "\n" + `
		routes {
			POST /any/{rest...} farms:read {
				json command exec require workers:command
			}
		}
		keys_api /v1 {
			read keys:manage
			write keys:manage
			any_owner keys:manage
		}
	`
	g := start(t, c)
	streaming(t, g)
	root := g.createScoped(t, "keys:manage", "farms:read", "workers:command")
	k := g.createScoped(t, "farms:read", "workers:command")
	cut := ends(openStream(t, g, "POST", key(k.Key), jsonBody(`{"command":"exec"}`)))
	kept := ends(openStream(t, g, "POST", key(k.Key), jsonBody(`{"command":"look"}`)))
	a, err := g.try(g.sites[0], "PATCH", "/v1/api-keys/"+k.ID, key(root.Key), jsonBody(`{"permissions":["farms:read"]}`))
	if err != nil || a.status != 200 {
		t.Fatal(err, a)
	}
	now := time.Now()
	mustEnd(t, "the stream that the rule let in", cut, now.Add(-time.Minute), now.Add(time.Second))
	stillOpen(t, "the stream that met no rule", kept)
}

// Over HTTP/1 the connection ends with the request. Neither bytes that a client has
// sent ahead, which keep the server from noticing that it is gone, nor a client that
// reads nothing, nor a backend that says nothing keeps the stream of a revoked key.
func TestAStreamOfARevokedKeyEndsAtBothEnds(t *testing.T) {
	g := start(t, config{gate: `
		routes {
			GET /any/{rest...} farms:read
		}
	`, global: cheap})
	began, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	serve := func(path string, say func(http.ResponseWriter, *http.Request)) {
		g.farm.handle(path, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			began <- struct{}{}
			say(w, r)
			gone <- struct{}{}
		})
	}
	serve("/any/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	serve("/any/much", func(w http.ResponseWriter, r *http.Request) {
		for part := make([]byte, 1<<16); r.Context().Err() == nil; {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	})
	for _, c := range []struct{ name, path, ahead string }{
		{"a silent backend", "/any/silent", ""},
		{"a silent backend, and a client that sent more", "/any/silent", "GET /any/silent HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"a client that does not read", "/any/much", ""},
		{"a client that does not read, and sent more", "/any/much", "GET"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := g.createScoped(t, "farms:read")
			conn, err := net.Dial("tcp", g.sites[0])
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, "GET "+c.path+" HTTP/1.1\r\nHost: "+g.sites[0]+"\r\nAuthorization: Bearer "+k.Key+"\r\n\r\n"+c.ahead); err != nil {
				t.Fatal(err)
			}
			<-began
			g.hivegate(t, "apikey", "revoke", k.ID).ok(t)
			now := time.Now()
			mustEnd(t, "what the backend serves", gone, now.Add(-time.Minute), now.Add(1200*time.Millisecond))
			mustEnd(t, "the client's connection", ends(conn), now.Add(-time.Minute), now.Add(2*time.Second))
		})
	}
}
