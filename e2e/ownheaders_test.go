package e2e

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
)

// X-Hivegate-* is the gate's word: a backend cannot speak it, in headers,
// trailers or interim answers.
func TestNoTrailerOfABackendSpeaksForTheGate(t *testing.T) {
	g := start(t, farms)
	k := g.createScoped(t, "farms:read")
	g.farm.handle("/farms/1", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("X-Hivegate-Early", "evil")
		h.Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		h.Set("X-Hivegate-Reason", "evil")
		h.Set("Trailer", "X-Hivegate-Late, X-Sum")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "hello")
		h.Set("X-Hivegate-Late", "evil")
		h.Set("X-Sum", "5")
		h.Set(http.TrailerPrefix+"X-Hivegate-Unannounced", "evil")
		h.Set(http.TrailerPrefix+"X-Other", "6")
	})
	hints := 0
	a := g.get(t, "/farms/1", key(k.Key), func(r *http.Request) {
		*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
				hints++
				for name := range h {
					if strings.HasPrefix(name, "X-Hivegate-") {
						t.Errorf("interim answer with %s: %s", name, h[name])
					}
				}
				return nil
			},
		}))
	})
	if a.status != 200 || string(a.body) != "hello" || hints != 1 {
		t.Fatalf("answered %d %q after %d interim answers", a.status, a.body, hints)
	}
	for _, h := range []http.Header{a.header, a.trailer} {
		for name, values := range h {
			if strings.HasPrefix(name, "X-Hivegate-") || strings.Contains(strings.Join(values, ","), "Hivegate") {
				t.Errorf("%s: %s", name, values)
			}
		}
	}
	if a.trailer.Get("X-Sum") != "5" || a.trailer.Get("X-Other") != "6" {
		t.Errorf("other trailers were lost: %v", a.trailer)
	}
}

// A key is not the business of what lies behind a public route, whichever place
// it was sent in.
func TestKeysInCookiesEndAtPublicRoutes(t *testing.T) {
	c := farms
	c.gate = "credentials {\n\t\t\tbearer\n\t\t\tcookie sess\n\t\t}\n\t\troutes {\n\t\t\tGET /open/{rest...} public\n\t\t\tGET /farms farms:read\n\t\t}"
	g := start(t, c)
	k := g.createScoped(t, "farms:read")
	for sent, want := range map[string]string{
		"sess=" + k.Key + "; o=1": "o=1",
		"a=b; other=" + k.Key:     "a=b",
		`q="` + k.Key + `"; o=1`:  "o=1",
		"e=" + strings.ReplaceAll(k.Key, "hive_", "hive%5F") + "; o=1": "o=1",
		"sess=session; o=1": "sess=session; o=1",
	} {
		g.get(t, "/open/x", header("Cookie", sent)).passed(t)
		if got := strings.Join(g.farm.got(t).header["Cookie"], "; "); got != want {
			t.Errorf("the backend got the cookies %q, want %q", got, want)
		}
	}
	g.get(t, "/farms", header("Cookie", "sess="+k.Key)).passed(t)
	if got := g.farm.got(t).header["Cookie"]; got != nil {
		t.Errorf("the backend got the cookies %q", got)
	}
}
