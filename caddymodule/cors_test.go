package caddymodule

import (
	"net/http"
	"strings"
	"testing"
)

// A backend cannot make the gate work through a list without end.
func TestWhatABackendExposesIsBounded(t *testing.T) {
	const own = "X-Request-Id"
	got := joinExposed(own, []string{"Content-Range, x-request-id,, bad name", strings.Repeat("a", 5000) + ", Later"})
	if got != own+", Content-Range" {
		t.Errorf("got %q", got)
	}
	var many strings.Builder
	for i := range 100_000 {
		many.WriteString("h")
		many.WriteString(strings.Repeat("x", i%40))
		many.WriteString(string(rune('a' + i%26)))
		many.WriteByte(',')
	}
	if got := joinExposed(own, []string{many.String()}); len(got) > maxExposed {
		t.Errorf("%d bytes", len(got))
	}
}

func TestOriginsAreWrittenAsBrowsersSendThem(t *testing.T) {
	for origin, fine := range map[string]bool{
		"https://app.example.com": true, "http://localhost:3000": true, "http://127.0.0.1:8080": true, "http://[::1]": true,
		"http://[2001:db8::1]:8080": true, "chrome-extension://abcdefgh": true, "capacitor://localhost": true, "https://xn--bcher-kva.example": true,
		"https://app.example.com:8443": true, "http://app.example.com:443": true,
		"": false, "null": false, "*": false, "https:": false, "https://": false, "//app.example.com": false, "app.example.com:443": false,
		"https://app.example.com/": false, "https://app.example.com?x": false, "https://app.example.com#x": false, "https://app.example.com\\": false,
		"https://app.example.com:": false, "https://app.example.com:0": false, "https://app.example.com:080": false, "https://app.example.com:65536": false,
		"https://app.example.com:443": false, "http://app.example.com:80": false, "https://App.example.com": false, "HTTPS://app.example.com": false,
		"https://a b": false, "https://a,b": false, "https://a%2eb": false, "https://*.example.com": false, "https://[::1": false, "http://[::0001]": false,
		"http://[fe80::1%25eth0]": false, "1https://a": false, "file://host": false, "https://user@app.example.com": false, "https://a\r\nX: y": false,
	} {
		if why := badOrigin(origin); (why == "") != fine {
			t.Errorf("%q: %q", origin, why)
		}
	}
}

func TestVaryIsAddedOnceAndReplacesNothing(t *testing.T) {
	for before, want := range map[string]string{
		"": "Origin", "Accept-Encoding": "Accept-Encoding|Origin", "accept, ORIGIN": "accept, ORIGIN", "*": "*", "Original": "Original|Origin",
	} {
		h := http.Header{}
		if before != "" {
			h["Vary"] = []string{before}
		}
		addVary(h, headerOrigin)
		addVary(h, headerOrigin)
		if got := strings.Join(h["Vary"], "|"); got != want {
			t.Errorf("%q became %q, want %q", before, got, want)
		}
	}
}
