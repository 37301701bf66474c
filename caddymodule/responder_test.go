package caddymodule

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func newTestResponder(w http.ResponseWriter) *responder {
	r := &responder{requestID: "ours", values: [valueCount]string{valueLimit: "60", valueRemaining: "59", valueReset: "1", valuePolicy: "p", valueStates: "i"}}
	r.ResponseWriter = w
	return r
}

func TestOurHeadersReplaceTheBackends(t *testing.T) {
	rec := httptest.NewRecorder()
	w := newTestResponder(rec)
	h := w.Header()
	for name, values := range map[string][]string{
		"X-Request-Id": {"theirs"}, "X-Ratelimit-Limit": {"60", "1"}, "Ratelimit": {"theirs"},
		"X-Hivegate-Reason": {"forged"}, "X-Other": {"kept"}, "Retry-After": {"7"},
	} {
		h[name] = values
	}
	w.WriteHeader(http.StatusTeapot)
	for name, want := range map[string]string{
		"X-Request-Id": "ours", "X-Ratelimit-Limit": "60", "X-Ratelimit-Remaining": "59", "X-Ratelimit-Reset": "1",
		"Ratelimit": "i", "Ratelimit-Policy": "p", "X-Hivegate-Reason": "", "X-Other": "kept", "Retry-After": "7",
	} {
		if got := strings.Join(rec.Header()[name], ","); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestWithoutLimitsTheBackendsLimitHeadersPass(t *testing.T) {
	rec := httptest.NewRecorder()
	w := newTestResponder(rec)
	w.values = [valueCount]string{}
	w.Header().Set("X-Ratelimit-Limit", "7")
	_, _ = io.WriteString(w, "x")
	if got := rec.Header().Get("X-Ratelimit-Limit"); got != "7" {
		t.Errorf("X-Ratelimit-Limit = %q", got)
	}
}

func TestInterimAnswersAreNotTheEnd(t *testing.T) {
	w := newTestResponder(&interim{ResponseRecorder: httptest.NewRecorder()})
	w.WriteHeader(http.StatusEarlyHints)
	if w.done {
		t.Fatal("103 was taken for the answer")
	}
	w.Header().Set("X-Request-Id", "theirs")
	w.WriteHeader(http.StatusSwitchingProtocols)
	if !w.done || w.Header().Get("X-Request-Id") != "ours" {
		t.Errorf("101 is the last that is written; X-Request-Id = %q", w.Header().Get("X-Request-Id"))
	}
}

type interim struct{ *httptest.ResponseRecorder }

func (interim) WriteHeader(int) {}

func TestFlushingReadingFromAndHijackingReachTheConnection(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := newTestResponder(rw)
		switch r.URL.Path {
		case "/flush":
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		case "/from":
			if _, err := w.ReadFrom(strings.NewReader("body")); err != nil {
				t.Error(err)
			}
		case "/hijack":
			conn, buf, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = buf.WriteString("HTTP/1.1 299 Ours\r\nContent-Length: 0\r\n\r\n")
			_ = buf.Flush()
		}
	}))
	defer srv.Close()
	for _, path := range []string{"/flush", "/from"} {
		res, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Header.Get("X-Request-Id") != "ours" {
			t.Errorf("%s: X-Request-Id = %q", path, res.Header.Get("X-Request-Id"))
		}
	}
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /hijack HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "299") {
		t.Errorf("hijacked: %q, %v", line, err)
	}
}
