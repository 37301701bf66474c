package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hivegate/hivegate/keystore"
	"github.com/hivegate/hivegate/keystore/sqlstore"
)

// change changes a record in the store from this process, as another process
// on the same keystore would.
func (g *gate) change(t testing.TB, id string, fn func(*keystore.Record) error) {
	t.Helper()
	store, err := sqlstore.OpenSQLite(context.Background(), g.database(), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	kid, err := keystore.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	by := keystore.Change{Action: "update", Actor: "command", At: time.Now()}
	if _, err := store.Update(context.Background(), by, kid, fn); err != nil {
		t.Fatal(err)
	}
}

// within measures how long it takes until ok, from now on; more than a second
// is a failure.
func withinASecond(t *testing.T, what string, ok func() bool) {
	t.Helper()
	begin := time.Now()
	eventually(t, time.Second, what, ok)
	t.Logf("%s after %s", what, time.Since(begin).Round(time.Millisecond))
}

func TestChangesOfACachedKeyHoldWithinASecond(t *testing.T) {
	g := start(t, farms)
	use := func(k created) *answer { return g.get(t, "/farms", key(k.Key)) }
	warm := func(t *testing.T, scopes ...string) created {
		k := g.createScoped(t, scopes...)
		for range 3 {
			use(k).passed(t)
		}
		return k
	}
	t.Run("revoked", func(t *testing.T) {
		k := warm(t, "farms:read")
		g.hivegate(t, "apikey", "revoke", k.ID).ok(t)
		withinASecond(t, "refused", func() bool { return use(k).reason() == "api_key_revoked" })
		if a := use(k); a.reason() != "api_key_revoked" {
			t.Errorf("and then %d %s", a.status, a.reason())
		}
		if c := g.hivegate(t, "apikey", "enable", k.ID); c.code != 1 {
			t.Errorf("enabling a revoked key ended with %d: revocation is for ever", c.code)
		}
		use(k).refused(t, 401, "api_key_revoked")
	})
	t.Run("revoked, waited for", func(t *testing.T) {
		k := warm(t, "farms:read")
		g.hivegate(t, "apikey", "revoke", k.ID, "--wait").ok(t)
		use(k).refused(t, 401, "api_key_revoked")
	})
	t.Run("disabled and enabled", func(t *testing.T) {
		k := warm(t, "farms:read")
		g.hivegate(t, "apikey", "disable", k.ID).ok(t)
		withinASecond(t, "refused", func() bool { return use(k).reason() == "api_key_disabled" })
		g.hivegate(t, "apikey", "enable", k.ID).ok(t)
		withinASecond(t, "let in again", func() bool { return use(k).status == 200 })
	})
	t.Run("fewer scopes", func(t *testing.T) {
		k := warm(t, "farms:read", "crews:read")
		g.change(t, k.ID, func(r *keystore.Record) error { r.Scopes = []string{"crews:read"}; return nil })
		withinASecond(t, "refused", func() bool { return use(k).reason() == "insufficient_scope" })
		g.get(t, "/crews", key(k.Key)).passed(t)
	})
	t.Run("more scopes", func(t *testing.T) {
		k := warm(t, "farms:read")
		g.get(t, "/crews", key(k.Key)).refused(t, 403, "insufficient_scope")
		g.change(t, k.ID, func(r *keystore.Record) error { r.Scopes = append(r.Scopes, "crews:read"); return nil })
		withinASecond(t, "let in", func() bool { return g.get(t, "/crews", key(k.Key)).status == 200 })
	})
	t.Run("other plan", func(t *testing.T) {
		k := warm(t, "farms:read")
		g.change(t, k.ID, func(r *keystore.Record) error { r.Plan = "tiny"; return nil })
		withinASecond(t, "limited", func() bool { return use(k).header.Get("X-Ratelimit-Limit") == "3" })
	})
	t.Run("expired", func(t *testing.T) {
		k := warm(t, "farms:read")
		at := time.Now().Add(500 * time.Millisecond)
		g.change(t, k.ID, func(r *keystore.Record) error { r.ExpiresAt = at; return nil })
		eventually(t, 2*time.Second, "the key expires", func() bool { return use(k).reason() == "api_key_expired" })
		if time.Since(at) > time.Second {
			t.Errorf("refused %s after it had expired", time.Since(at))
		}
	})
	t.Run("rotated at once", func(t *testing.T) {
		k := warm(t, "farms:read")
		n := parseCreated(t, g.hivegate(t, "apikey", "rotate", k.ID, "--overlap", "0s", "--json").ok(t))
		if n.ID != k.ID || n.Key == k.Key {
			t.Fatalf("rotation made %s of %s, another key: %t", n.ID, k.ID, n.Key != k.Key)
		}
		withinASecond(t, "the old secret refused", func() bool { return use(k).status == 401 })
		withinASecond(t, "the new secret let in", func() bool { return use(n).status == 200 })
	})
	t.Run("rotated with overlap", func(t *testing.T) {
		k := warm(t, "farms:read")
		n := parseCreated(t, g.hivegate(t, "apikey", "rotate", k.ID, "--json").ok(t))
		withinASecond(t, "the new secret let in", func() bool { return use(n).status == 200 })
		use(k).passed(t)
		use(n).passed(t)
	})
	t.Run("made while the server runs", func(t *testing.T) {
		k := g.createScoped(t, "farms:read")
		use(k).passed(t)
	})
}

// A key that failed before it existed would otherwise stay refused.
func TestAKeyThatIsImportedAfterItFailedIsLetIn(t *testing.T) {
	g := start(t, farms)
	secret := "imported-secret-of-somebody"
	book.add("an imported secret", secret)
	g.get(t, "/farms", key(secret)).refused(t, 401, "api_key_invalid")
	g.importKey(t, secret, `"permissions":["farms:read"]`)
	withinASecond(t, "the imported key let in", func() bool { return g.get(t, "/farms", key(secret)).status == 200 })
}

func TestOpenStreamsOfARevokedKeyEndWithinASecond(t *testing.T) {
	g := start(t, farms)
	streaming(t, g)
	for name, open := range map[string]func(*testing.T, *gate, string) io.ReadCloser{
		"server-sent events": openEvents,
		"WebSocket":          openSocket,
	} {
		for how, end := range map[string]func(*testing.T, created){
			"revoked":  func(t *testing.T, k created) { g.hivegate(t, "apikey", "revoke", k.ID).ok(t) },
			"disabled": func(t *testing.T, k created) { g.hivegate(t, "apikey", "disable", k.ID).ok(t) },
			"without the scope": func(t *testing.T, k created) {
				g.change(t, k.ID, func(r *keystore.Record) error { r.Scopes = []string{"crews:read"}; return nil })
			},
			"expired": func(t *testing.T, k created) {
				g.change(t, k.ID, func(r *keystore.Record) error { r.ExpiresAt = time.Now(); return nil })
			},
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				k := g.createScoped(t, "farms:read")
				other := g.createScoped(t, "farms:read")
				stream, stays := open(t, g, k.Key), open(t, g, other.Key)
				ended := ends(stream)
				end(t, k)
				begin := time.Now()
				select {
				case <-ended:
					t.Logf("ended after %s", time.Since(begin).Round(time.Millisecond))
				case <-time.After(1200 * time.Millisecond): // a second, and the way through the pipe
					t.Error("the stream is open still")
				}
				// The neighbour's stream goes on.
				alive := make([]byte, 1)
				if _, err := io.ReadFull(stays, alive); err != nil {
					t.Errorf("another key's stream ended too: %v", err)
				}
				_ = stays.Close()
				_ = stream.Close()
			})
		}
	}
}

// ends reads to the end of a stream, and closes the channel there.
func ends(r io.Reader) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, r)
	}()
	return done
}

// streaming gives the farm backend an event stream and a WebSocket-like echo,
// both of which say something every few milliseconds.
func streaming(t testing.TB, g *gate) {
	t.Helper()
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	talk := func(ctx context.Context, say func(string) error) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
				if say("data: x\n\n") != nil {
					return
				}
			}
		}
	}
	g.farm.handle("/any/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		talk(r.Context(), func(s string) error {
			if _, err := io.WriteString(w, s); err != nil {
				return err
			}
			return rc.Flush()
		})
	})
	g.farm.handle("/any/socket", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, "hijack: "+err.Error(), http.StatusInternalServerError)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Hivegate-Spoof: 1\r\n\r\n", r.Header.Get("Upgrade"))
		if rw.Flush() != nil {
			return
		}
		ctx, gone := context.WithCancel(context.Background())
		go func() { // the gate closes its side when the tunnel ends
			_, _ = io.Copy(io.Discard, rw)
			gone()
		}()
		talk(ctx, func(s string) error {
			_, err := io.WriteString(conn, s)
			return err
		})
	})
}

// openEvents opens the event stream and reads its first byte.
func openEvents(t *testing.T, g *gate, k string) io.ReadCloser {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://"+g.sites[0]+"/any/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	key(k)(r)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the event stream got %d", resp.StatusCode)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		t.Fatalf("first event: %v", err)
	}
	return resp.Body
}

// openSocket upgrades a connection and reads the first byte that comes through.
func openSocket(t *testing.T, g *gate, k string) io.ReadCloser {
	t.Helper()
	conn, err := net.DialTimeout("tcp", g.sites[0], 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = fmt.Fprintf(conn, "GET /any/socket HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Connection: Upgrade, X-Auth-Id\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		g.sites[0], k)
	if err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // a 101 has none; the tunnel follows
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the upgrade got %d", resp.StatusCode)
	}
	for name := range resp.Header {
		if strings.HasPrefix(name, "X-Hivegate-") {
			t.Errorf("the backend's %s came through", name)
		}
	}
	if resp.Header.Get("X-Request-Id") == "" {
		t.Error("101 without X-Request-Id")
	}
	if _, err := br.ReadByte(); err != nil {
		t.Fatalf("first byte of the tunnel: %v", err)
	}
	return struct {
		io.Reader
		io.Closer
	}{br, conn}
}
