//go:build clients

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// streamBackend makes the backend echo over WebSocket below /v1/outcomes/7/socket, and
// send events below /v1/outcomes/7/events: three, then the end; a client that
// comes back with the id of the third gets the last one. No event is sent before
// the one before it was flushed for a while, so that buffering would show.
func streamBackend(g *gate) {
	g.farm.handle("/v1/outcomes/7/socket", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo.v1"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		conn.SetReadLimit(1 << 20)
		for {
			kind, data, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	})
	g.farm.handle("/v1/outcomes/7/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.Header.Get("Last-Event-Id") == "3" {
			_, _ = fmt.Fprint(w, "id: 4\nevent: last\ndata: the end\n\n")
			return
		}
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for i := 1; i <= 3; i++ {
			_, _ = fmt.Fprintf(w, "id: %d\nretry: 50\ndata: event %d\n\n", i, i)
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			<-tick.C
		}
	})
}

func TestClientsWebSocketAndServerSentEvents(t *testing.T) {
	g := start(t, example(t, "hornethive.Caddyfile"))
	streamBackend(g)
	k := g.createScoped(t, "outcomes:read")
	type talked struct {
		Got           []string
		Protocol      string
		Code, Status  int
		Reason, Error string
		Body          map[string]any
	}
	type listened struct {
		Got []struct {
			Data, ID string
			MS       float64
		}
		Opened, Code int
		Last, ID     string
		Message      string
	}
	var got struct {
		Talked, RefusedTalk     talked
		Listened, RefusedListen listened
	}
	script(t, "streams.mjs", map[string]any{
		"socket": "ws://" + g.sites[0] + "/v1/outcomes/7/socket", "events": "http://" + g.sites[0] + "/v1/outcomes/7/events",
		"headers": map[string]string{"Authorization": "Bearer " + k.Key}, "wrong": map[string]string{"Authorization": k.Key},
	}, &got)
	t.Logf("%s, %s", version(t, "ws"), version(t, "eventsource"))
	if want := (talked{Got: []string{"hello", "Büene ☃", "100000 bytes of 7"}, Protocol: "echo.v1", Code: 4000, Reason: "done"}); !reflect.DeepEqual(got.Talked, want) {
		t.Errorf("ws: %+v, want %+v", got.Talked, want)
	}
	if r := got.RefusedTalk; r.Status != 401 || r.Reason != "malformed_authorization" || r.Body["error"] == nil {
		t.Errorf("ws without Bearer: %+v, want 401 with its body", r)
	}
	l := got.Listened
	if len(l.Got) != 3 || l.Opened != 2 || l.Last != "the end" || l.ID != "4" {
		t.Fatalf("eventsource: %+v, want three events, a second connection, and the last one", l)
	}
	if l.Got[2].Data != "event 3" || l.Got[2].ID != "3" || l.Got[2].MS-l.Got[0].MS < 150 {
		t.Errorf("eventsource: %+v, want events one after the other", l.Got)
	}
	if r := got.RefusedListen; r.Code != 401 || r.Opened != 0 || len(r.Got) != 0 {
		t.Errorf("eventsource without Bearer: %+v, want that it gives up with code 401", r)
	}
	if n := len(g.awaitLines(t, 2, map[string]string{"logger": "http.handlers.hivegate", "reason": "malformed_authorization"})); n != 2 {
		t.Errorf("%d refusals logged, want one for each client", n)
	}
}

// The other side of a revocation: what a client sees of it, while it waits for a
// message.
func TestClientsWebSocketEndsWithItsKey(t *testing.T) {
	g := start(t, example(t, "hornethive.Caddyfile"))
	streamBackend(g)
	k := g.createScoped(t, "outcomes:read")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	dial := func() (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(ctx, "ws://"+g.sites[0]+"/v1/outcomes/7/socket", &websocket.DialOptions{
			HTTPHeader: http.Header{"Authorization": {"Bearer " + k.Key}}, Subprotocols: []string{"echo.v1"},
		})
	}
	conn, _, err := dial() //nolint:bodyclose // a 101 has none
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, data, err := conn.Read(ctx); err != nil || string(data) != "hello" || conn.Subprotocol() != "echo.v1" {
		t.Fatalf("echo: %q %v, protocol %q", data, err, conn.Subprotocol())
	}
	ended := make(chan error, 1)
	go func() {
		_, _, err := conn.Read(ctx)
		ended <- err
	}()
	g.hivegate(t, "apikey", "revoke", k.ID).ok(t)
	revoked := time.Now()
	if err := <-ended; err == nil || ctx.Err() != nil {
		t.Fatalf("reading after the revocation: %v", err)
	}
	if took := time.Since(revoked); took > time.Second {
		t.Errorf("the connection ended %s after the revocation", took)
	}
	_, resp, err := dial() //nolint:bodyclose // the library has closed it
	if err == nil || resp == nil || resp.StatusCode != 401 || resp.Header.Get("X-Hivegate-Reason") != "api_key_revoked" {
		t.Errorf("dialling again: %v %v, want 401 api_key_revoked", err, resp)
	}
}
