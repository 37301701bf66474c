package credential

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// spellings are the ways in which a client may write a name that some backend
// reads as this one.
func spellings(name string) []string {
	all := []string{
		name, strings.ToLower(name), strings.ToUpper(name), http.CanonicalHeaderKey(name),
		strings.ReplaceAll(name, "-", "_"), strings.ToUpper(strings.ReplaceAll(name, "-", "_")),
		strings.ReplaceAll(name, "-", "."), strings.Replace(name, "-", "_", 1), strings.Replace(name, "-", ".", 1),
		strings.ReplaceAll(name, "-", "~"), strings.ReplaceAll(name, "_", "-"), strings.ReplaceAll(name, "_", "."),
	}
	for i := range all { // as net/http would put them into the map
		all = append(all, http.CanonicalHeaderKey(all[i]))
	}
	return all
}

var always = []string{
	"X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-Method", "X-Forwarded-Method",
	"X-Original-URL", "X-Original-URI", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Forwarded-Path", "X-Request-URI",
	"login", "password", "twofa_code", "remember", "X-Request-Id", "Proxy-Connection",
	"X-Auth-Kind", "X-Auth-Id", "X-Auth-Owner", "X-Auth-Scopes", "X-Auth-Plan", "X-Auth-Issuer", "X-Auth-Second-Factor",
	"X-Auth-", "X-Auth-Anything-Else", "X-Hivegate-Reason", "X-Hivegate-Shadow",
}

var unlessTrusted = []string{"X-Forwarded-Prefix", "X-Real-Ip", "Forwarded"}

// ordinary are headers that must survive, some of them only just.
var ordinary = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Content-Type", "Cookie", "Host",
	"If-None-Match", "Origin", "Referer", "User-Agent", "Upgrade", "Te", "X-Forwarded-For", "X-Forwarded-Host",
	"X-Forwarded-Proto", "X-Security-Code", "X-Request-Signature", "X-Request-Timestamp", "X-Async-Request", "X-Client-Info",
	"Apikey", "X-Authx", "X-Auth", "Xauth-Id", "X-Authorization", "X-Request-Idx", "X-Hivegate", "Logins", "Passwords",
	"Forwarded-For", "X-Real-Ipx", "Twofa", "Remember-Me", "P", "X", "-", "_",
}

func TestCleanRemovesEveryForbiddenNameInEverySpelling(t *testing.T) {
	c := NewCleaner("", []string{"X-Internal-Debug"})
	for _, trusted := range []bool{false, true} {
		names := append(slices.Clone(always), "X-Internal-Debug")
		if !trusted {
			names = append(names, unlessTrusted...)
		}
		for _, name := range names {
			for _, s := range spellings(name) {
				h := http.Header{s: {"1", "2"}, "Accept": {"*/*"}}
				c.Clean(h, trusted)
				if len(h) != 1 || h["Accept"] == nil {
					t.Errorf("%s from a trusted proxy %v: left %v", s, trusted, h)
				}
				if !c.Forbidden(s, trusted) {
					t.Errorf("%s is not forbidden in trailers", s)
				}
			}
		}
	}
}

func TestCleanLeavesOrdinaryHeadersAsTheyAre(t *testing.T) {
	c := NewCleaner("X-Auth-", nil)
	for _, trusted := range []bool{false, true} {
		h := http.Header{}
		for _, name := range ordinary {
			h[name] = []string{"1", "2"}
			if c.Forbidden(name, trusted) {
				t.Errorf("%s is forbidden", name)
			}
		}
		before := h.Clone()
		if c.Clean(h, trusted) {
			t.Error("login headers reported")
		}
		if !maps.EqualFunc(h, before, slices.Equal) {
			t.Errorf("left %v\nof %v", h, before)
		}
	}
	if c.Forbidden("", false) {
		t.Error("the empty name is forbidden")
	}
}

func TestOnlyATrustedProxysProperSpellingIsKept(t *testing.T) {
	c := NewCleaner("", nil)
	for _, name := range unlessTrusted {
		for _, s := range spellings(name) {
			h := http.Header{s: {"1"}}
			c.Clean(h, true)
			if kept := len(h) == 1; kept != (s == name) {
				t.Errorf("%s kept: %v", s, kept)
			}
		}
	}
	c = NewCleaner("", []string{"x_real_ip"})
	if h := (http.Header{"X-Real-Ip": {"1"}}); c.Clean(h, true) || len(h) != 0 {
		t.Errorf("what the operator strips goes from trusted proxies too: %v", h)
	}
}

func TestIdentityPrefixIsTheOneConfigured(t *testing.T) {
	c := NewCleaner("Remote_User", nil)
	h := http.Header{"Remote-User": {"1"}, "REMOTE.USER.ID": {"1"}, "Remote-Username": {"1"}, "X-Auth-Id": {"1"}, "Remote": {"1"}}
	c.Clean(h, false)
	if got := slices.Sorted(maps.Keys(h)); !slices.Equal(got, []string{"Remote", "X-Auth-Id"}) {
		t.Errorf("left %v", got)
	}
}

func TestLoginHeadersAreReported(t *testing.T) {
	c := NewCleaner("", nil)
	for name, want := range map[string]bool{"Login": true, "PASSWORD": true, "password": true, "Twofa_code": false, "Remember": false, "Accept": false} {
		if got := c.Clean(http.Header{name: {"x"}}, false); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !NewCleaner("", []string{"Login"}).Clean(http.Header{"Login": {"x"}}, false) {
		t.Error("a login header that is also stripped is not reported")
	}
}

func TestConnectionKeepsOnlyTheNamesThatAreSafe(t *testing.T) {
	for _, c := range []struct{ sent, want []string }{
		{[]string{"close"}, []string{"close"}},
		{[]string{"Keep-Alive"}, []string{"Keep-Alive"}},
		{[]string{"Upgrade, HTTP2-Settings"}, []string{"Upgrade, HTTP2-Settings"}},
		{[]string{"keep-alive, TE ,, close"}, []string{"keep-alive, TE ,, close"}},
		{[]string{"close", "te"}, []string{"close", "te"}},
		{[]string{"X-Auth-Id"}, nil},
		{[]string{"close, X-Auth-Id"}, []string{"close"}},
		{[]string{"X-Auth-Id,keep-alive,\tX-Auth-Scopes , Upgrade"}, []string{"keep-alive, Upgrade"}},
		{[]string{"keep-alive", "Authorization", "upgrade"}, []string{"keep-alive, upgrade"}},
		{[]string{"X-Auth-Id", "X-Auth-Scopes"}, nil},
		{[]string{""}, nil},
		{[]string{" , ,"}, nil},
		{[]string{}, nil},
		{[]string{"\"close\""}, nil},
		{[]string{"clo\u017fe"}, nil},
		{[]string{"\u212aeep-alive, close"}, []string{"close"}},
		{[]string{"close;x"}, nil},
		{[]string{"close x-auth-id"}, nil},
		{[]string{"keep_alive, http2.settings, close"}, []string{"close"}},
	} {
		sent := slices.Clone(c.sent)
		h := http.Header{"Connection": c.sent, "Accept": {"*/*"}}
		NewCleaner("", nil).Clean(h, true)
		got, there := h["Connection"]
		if there != (c.want != nil) || !slices.Equal(got, c.want) {
			t.Errorf("%q became %q, want %q", sent, got, c.want)
		}
		if !slices.Equal(c.sent, sent) {
			t.Errorf("%q was changed in place to %q", sent, c.sent)
		}
	}
}

func TestCheckPrefixRefusesWhatWouldRemoveNeededHeaders(t *testing.T) {
	for _, good := range []string{"X-Auth-", "x_auth_", "Remote-User", "X-Consumer-", "X-Forwarded-User"} {
		if err := CheckPrefix(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "X-", "x", "Auth", "Authorization", "X_Forwarded_", "Content-", "Sec-", "X Auth", "X-Auth:", "X-Aüth-", "C"} {
		if err := CheckPrefix(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
	for _, bad := range []string{"", "A B", "A\r\n", "é", "a(b"} {
		if err := CheckName(bad); err == nil {
			t.Errorf("name %q passed", bad)
		}
	}
	if err := CheckName("x_internal.Debug~1"); err != nil {
		t.Error(err)
	}
}

// reference decides by the rule as it is told, with no regard to cost.
func reference(name string, trusted bool) bool {
	var b strings.Builder
	for _, c := range []byte(name) { // by bytes: strings.ToLower knows Unicode
		switch {
		case c >= 'A' && c <= 'Z':
			b.WriteByte(c - 'A' + 'a')
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteByte(c)
		default:
			b.WriteByte('-')
		}
	}
	n := b.String()
	if trusted && slices.Contains(unlessTrusted, name) {
		return false
	}
	if strings.HasPrefix(n, "x-auth-") || strings.HasPrefix(n, "x-hivegate-") {
		return true
	}
	for _, f := range append(slices.Clone(always), unlessTrusted...) {
		if n == strings.ToLower(strings.ReplaceAll(f, "_", "-")) {
			return true
		}
	}
	return n == "x-internal-debug"
}

func FuzzClean(f *testing.F) {
	for _, name := range slices.Concat(always, unlessTrusted, ordinary) {
		f.Add(name, name+"_", "close, "+name, false)
		f.Add(strings.ReplaceAll(name, "-", "_"), strings.ToUpper(name), name, true)
	}
	f.Add(strings.Repeat("x-auth-", 20), strings.Repeat("p", 200), ",,", false)
	c := NewCleaner("", []string{"X-Internal-Debug"})
	f.Fuzz(func(t *testing.T, a, b, connection string, trusted bool) {
		h := http.Header{"Accept": {"*/*"}}
		for _, name := range []string{a, b, http.CanonicalHeaderKey(a)} {
			if name != "Connection" {
				h[name] = []string{"v"}
			}
		}
		want := http.Header{}
		for name, v := range h {
			if !reference(name, trusted) {
				want[name] = v
			}
			if c.Forbidden(name, trusted) != reference(name, trusted) {
				t.Fatalf("%q: forbidden is %v", name, c.Forbidden(name, trusted))
			}
		}
		h["Connection"] = []string{connection, connection}
		c.Clean(h, trusted)
		for _, v := range h["Connection"] {
			for _, name := range strings.Split(v, ",") {
				name = strings.Trim(name, " \t")
				switch strings.ToLower(name) {
				case "", "close", "keep-alive", "upgrade", "te", "http2-settings":
				default:
					t.Fatalf("Connection %q still names %q", connection, name)
				}
			}
		}
		delete(h, "Connection")
		if !maps.EqualFunc(h, want, slices.Equal) {
			t.Fatalf("left %v, want %v", h, want)
		}
	})
}

// typical is what a browser's fetch sends through Caddy.
func typical() http.Header {
	h := http.Header{}
	for name, v := range map[string]string{
		"Accept": "*/*", "Accept-Encoding": "gzip, br", "Accept-Language": "en", "Authorization": "Bearer " + someKey,
		"Cache-Control": "no-cache", "Connection": "keep-alive", "Content-Type": "application/json", "Content-Length": "42",
		"Origin": "https://app.example.com", "Referer": "https://app.example.com/", "User-Agent": "Mozilla/5.0", "X-Forwarded-For": "192.0.2.1",
	} {
		h.Set(name, v)
	}
	return h
}

func TestCleanAllocatesNothing(t *testing.T) {
	c := NewCleaner("", []string{"X-Internal-Debug"})
	h := typical()
	if n := testing.AllocsPerRun(100, func() { c.Clean(h, false) }); n != 0 || len(h) != 12 {
		t.Errorf("%v allocations, %d headers left", n, len(h))
	}
	values := []string{"1"}
	if n := testing.AllocsPerRun(100, func() {
		h["X_auth_id"], h["Login"], h["X-Request-Id"] = values, values, values
		c.Clean(h, false)
	}); n != 0 || len(h) != 12 {
		t.Errorf("with headers to remove: %v allocations, %d headers left", n, len(h))
	}
	if n := testing.AllocsPerRun(100, func() { c.Forbidden("X_Auth.Id", false) }); n != 0 {
		t.Errorf("Forbidden: %v allocations", n)
	}
}

func BenchmarkClean(b *testing.B) {
	c, h := NewCleaner("", nil), typical()
	b.ReportAllocs()
	for b.Loop() {
		c.Clean(h, false)
	}
}
