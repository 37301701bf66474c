package keystore

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestStatusAt(t *testing.T) {
	for name, c := range map[string]struct {
		rec  Record
		want Status
	}{
		"plain":                   {Record{}, StatusActive},
		"expires later":           {Record{ExpiresAt: testTime.Add(1)}, StatusActive},
		"expires now":             {Record{ExpiresAt: testTime}, StatusExpired},
		"disabled":                {Record{Disabled: true}, StatusDisabled},
		"disabled and expired":    {Record{Disabled: true, ExpiresAt: testTime}, StatusDisabled},
		"revoked":                 {Record{RevokedAt: testTime.Add(-1)}, StatusRevoked},
		"revoked by a fast clock": {Record{RevokedAt: testTime.Add(time.Hour)}, StatusRevoked},
		"revoked above all":       {Record{RevokedAt: testTime, Disabled: true, ExpiresAt: testTime}, StatusRevoked},
	} {
		if got := c.rec.StatusAt(testTime); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestSubjectIsTheOwnersOrTheKeysAndInheritedOnesAreShared(t *testing.T) {
	id := ID([]byte("0123456789AB"))
	for owner, want := range map[string]string{
		"":                 "key:key_0123456789AB",
		"acme":             "owner:acme",
		"key:key_zzzzzzzz": "key:key_zzzzzzzz",
		"jwt:supabase:u1":  "jwt:supabase:u1",
		"keys":             "owner:keys",
	} {
		if got := (&Record{ID: id, Owner: owner}).Subject(); got != want {
			t.Errorf("%q: %s, want %s", owner, got, want)
		}
	}
	maker := &Record{ID: id}
	if made := (&Record{ID: NewID(), Owner: maker.Subject()}); made.Subject() != maker.Subject() {
		t.Error("a key made by a key without owner does not share its subject")
	}
}

func TestCloneSharesNothing(t *testing.T) {
	make := func() *Record {
		return &Record{
			Scopes: []string{"a:b"}, IPAllowlist: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			Limits:  &Limits{Requests: "1/s", Concurrent: map[string]int{"x": 1}},
			Secrets: []Secret{{Hash: []byte("hash"), Digest: []byte("digest")}},
		}
	}
	r := make()
	c := r.Clone()
	if !reflect.DeepEqual(r, c) {
		t.Fatal("the copy differs")
	}
	c.Scopes[0], c.IPAllowlist[0], c.Limits.Requests, c.Limits.Concurrent["x"] = "x:y", netip.Prefix{}, "2/s", 2
	c.Secrets[0].Hash[0], c.Secrets[0].Digest[0] = 'X', 'X'
	if !reflect.DeepEqual(r, make()) {
		t.Error("changing the copy changed the original")
	}
	if empty := (&Record{}).Clone(); !reflect.DeepEqual(empty, &Record{}) {
		t.Errorf("a copy of nothing has something: %+v", empty)
	}
}

func TestAllowsAddr(t *testing.T) {
	list := func(s ...string) (out []netip.Prefix) {
		for _, p := range s {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	for _, c := range []struct {
		list []netip.Prefix
		addr string
		want bool
	}{
		{nil, "192.0.2.1", true},
		{list("192.0.2.0/24"), "192.0.2.1", true},
		{list("192.0.2.0/24"), "::ffff:192.0.2.1", true},
		{list("::ffff:192.0.2.0/120"), "192.0.2.1", true},
		{list("192.0.2.0/24"), "192.0.3.1", false},
		{list("2001:db8::/32"), "2001:db8::1%eth0", true},
		{list("2001:db8::/32", "10.0.0.0/8"), "10.1.1.1", true},
		{list("::/0"), "10.1.1.1", false},
	} {
		if got := (&Record{IPAllowlist: c.list}).AllowsAddr(netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("%v allows %s: %v", c.list, c.addr, got)
		}
	}
	if (&Record{IPAllowlist: list("0.0.0.0/0", "::/0")}).AllowsAddr(netip.Addr{}) {
		t.Error("no address at all is allowed")
	}
	if !(&Record{}).AllowsAddr(netip.Addr{}) {
		t.Error("without a list an unknown address is refused")
	}
}

func TestNamesOwnersAndHintsAreChecked(t *testing.T) {
	valid := func(what string, check func(string) error, good, bad []string) {
		t.Helper()
		for _, s := range good {
			if err := check(s); err != nil {
				t.Errorf("%s %q: %v", what, s, err)
			}
		}
		for _, s := range bad {
			if check(s) == nil {
				t.Errorf("%s %q passes", what, s)
			}
		}
	}
	long := strings.Repeat("é", 100)
	valid("name", ValidName, []string{"ci", "Köln 1", long}, []string{"", long + "x", "a\nb", "a\x7f", "a\u0085", "\xff"})
	valid("owner", ValidOwner, []string{"", "acme", "ac:me", strings.Repeat("x", 255)},
		[]string{"owner:x", "key:x", "jwt:x", "key:", "a\x00", "\xff", strings.Repeat("x", 256)})
	valid("stored owner", ValidStoredOwner, []string{"", "acme", "key:key_0123456789AB", "jwt:i:" + strings.Repeat("x", 300)},
		[]string{"owner:x", "jwt:i:a\n", "jwt:\xff", "jwt:" + strings.Repeat("x", 600)})
	hint := func(s string) error { return ValidHint(s, testFormats) }
	valid("hint", hint, []string{"sk_liv", "sk_live_0123456789ab", "hive_sk_abcd", "hc_abcd"},
		[]string{"", "sk_li", strings.Repeat("x", 21), "hive_sk_abc", "hc_abc", "hive_s", "abc def", "abcdé12"})
}

func TestTimesAreOfRFC3339AndHaveTheirZone(t *testing.T) {
	for text, want := range map[string]time.Time{
		"2027-01-31T00:00:00Z":          time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC),
		"2027-01-31t00:00:00.5z":        time.Date(2027, 1, 31, 0, 0, 0, 5e8, time.UTC),
		"2027-01-31T00:00:00.25+01:30":  time.Date(2027, 1, 30, 22, 30, 0, 25e7, time.UTC),
		"2027-01-31T23:59:59.999-23:59": time.Date(2027, 2, 1, 23, 58, 59, 999e6, time.UTC),
	} {
		if got, err := ParseTime(text); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "2027-01-31", "2027-01-31T00:00:00", "2027-01-31 00:00:00Z", "2027-01-31T0:00:00Z", "2027-01-31T00:00:00,5Z",
		"2027-01-31T00:00:00+24:00", "2027-01-31T00:00:00+00:60", "2027-02-30T00:00:00Z", "2027-01-31T24:00:00Z", "2027-01-31T00:00:00Z ",
	} {
		if got, err := ParseTime(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestOnlySoundBcryptHashesAreTaken(t *testing.T) {
	const body = "CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
	for _, h := range []string{"$2a$05$" + body, "$2b$04$" + body, "$2y$14$" + body} {
		if err := ValidHash([]byte(h)); err != nil {
			t.Errorf("%s: %v", h, err)
		}
	}
	for _, h := range []string{"", "$2a$05$", "$2x$05$" + body, "$2$05$" + body + "x", "$2a$15$" + body, "$2a$31$" + body, "$2a$03$" + body,
		"$2a$+5$" + body, "$2a$05$" + body + "x", "$2a$05$" + body[1:], "$2a$05$" + body[:52] + "!", "$1a$05$" + body, "plaintext", "$2a$05$" + body[:52] + "\n"} {
		err := ValidHash([]byte(h))
		if err == nil {
			t.Errorf("%q passes", h)
		} else if strings.Contains(err.Error(), body[:20]) {
			t.Errorf("the error shows the hash: %v", err)
		}
	}
}
