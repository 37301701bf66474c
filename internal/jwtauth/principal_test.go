package jwtauth

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// principalOf verifies a token and returns whom it stands for.
func principalOf(t *testing.T, s *Set, token string) *Principal {
	t.Helper()
	p, d := s.Verify(context.Background(), t0, token, nil)
	if d != nil {
		t.Fatalf("refused: %v", d)
	}
	return p
}

func TestScopesAreThoseOfClaimAndRoleUnited(t *testing.T) {
	cfg := mainConfig(t)
	cfg.Roles["team"] = []string{"teams:read@teamId={app_metadata.team}", "teams:list@teamId=1,{sub}", "teams:*@a=b"}
	s := newSet(t, startIssuer(t, cfg, Options{}))
	es := testKeys()["ES256"]
	for _, tc := range []struct {
		name    string
		changes map[string]any
		want    string
	}{
		{"role alone", nil, "crews:read crews:write@userId=user-1"},
		{"claim first, each once", map[string]any{"scope": "crews:read agents:ask agents:ask"}, "crews:read agents:ask crews:write@userId=user-1"},
		{"claim as list", map[string]any{"scope": []string{"agents:ask"}}, "agents:ask crews:read crews:write@userId=user-1"},
		{"no role", map[string]any{"role": nil, "scope": "agents:ask"}, "agents:ask"},
		{"unknown role", map[string]any{"role": "admin"}, ""},
		{"role in another case", map[string]any{"role": "Service_Role"}, ""},
		{"service role", map[string]any{"role": "service_role"}, "*"},
		{"wildcards of the claim", map[string]any{"role": nil, "scope": "* crews:* *:read crews:read"}, "crews:read"},
		{"narrowed ones of the claim", map[string]any{"role": nil, "scope": "crews:write@userId=1 @ a@b"}, ""},
		{"OpenID's scopes", map[string]any{"role": nil, "scope": "openid email profile crews:read"}, "crews:read"},
		{"several spaces", map[string]any{"role": nil, "scope": "  crews:read  agents:ask "}, "crews:read agents:ask"},
		{"no-break space", map[string]any{"role": nil, "scope": "crews:read\u00a0admin:write"}, ""},
		{"tab", map[string]any{"role": nil, "scope": "crews:read\tadmin:write"}, ""},
		{"line end", map[string]any{"role": nil, "scope": "crews:read\nadmin:write"}, ""},
		{"ideographic space", map[string]any{"role": nil, "scope": "crews:read\u3000admin:write"}, ""},
		{"comma", map[string]any{"role": nil, "scope": "crews:read,admin:write"}, ""},
		{"space inside an element", map[string]any{"role": nil, "scope": []string{"crews:read admin:write"}}, ""},
		{"upper case", map[string]any{"role": nil, "scope": "Crews:Read"}, ""},
		{"three parts", map[string]any{"role": nil, "scope": "a:b:c"}, ""},
		{"look-alikes", map[string]any{"role": nil, "scope": "\uff41:read crews\uff1aread"}, ""},
		{"templates of the claim", map[string]any{"role": nil, "scope": "crews:read@userId={sub} {sub}"}, ""},
		{"no sub for the template", map[string]any{"sub": nil}, "crews:read"},
		{"sub with a comma", map[string]any{"sub": "1,2"}, "crews:read"},
		{"sub with a star", map[string]any{"sub": "*"}, "crews:read"},
		{"sub with a space", map[string]any{"sub": "user 1"}, "crews:read"},
		{"sub with an @", map[string]any{"sub": "a@b"}, "crews:read"},
		{"sub with braces", map[string]any{"sub": "{sub}"}, "crews:read"},
		{"sub of 128", map[string]any{"sub": strings.Repeat("a", 128)}, "crews:read crews:write@userId=" + strings.Repeat("a", 128)},
		{"sub of 129", map[string]any{"sub": strings.Repeat("a", 129)}, "crews:read"},
		{"sub with a letter outside ASCII", map[string]any{"sub": "jürgen"}, "crews:read"},
		{"nested claim", map[string]any{"role": "team", "app_metadata": raw(`{"team":"t7"}`)}, "teams:read@teamId=t7 teams:list@teamId=1,user-1 teams:*@a=b"},
		{"nested claim a number", map[string]any{"role": "team", "app_metadata": raw(`{"team":7}`)}, "teams:list@teamId=1,user-1 teams:*@a=b"},
		{"nested claim missing", map[string]any{"role": "team"}, "teams:list@teamId=1,user-1 teams:*@a=b"},
		{"user_metadata", map[string]any{"role": nil, "user_metadata": raw(`{"role":"service_role","scope":"admin:write","plan":"x"}`)}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := principalOf(t, s, es.token(good(tc.changes)))
			if p.ScopesText != tc.want || strings.Join(p.Scopes, " ") != tc.want {
				t.Errorf("got %q, want %q", p.ScopesText, tc.want)
			}
		})
	}
}

func TestPrincipalHoldsWhatTheClaimsSay(t *testing.T) {
	s := newSet(t, startIssuer(t, mainConfig(t), Options{}))
	es := testKeys()["ES256"]
	type want struct{ subject, owner, role, plan, aal, key, id string }
	for _, tc := range []struct {
		changes map[string]any
		want    want
	}{
		{nil, want{"user-1", "", "authenticated", "explorer", "", "jwt:main:user-1", "user-1"}},
		{map[string]any{"aal": "aal2", "app_metadata": raw(`{"plan":"swarm","org":"acme"}`)},
			want{"user-1", "acme", "authenticated", "swarm", "aal2", "owner:acme", "user-1"}},
		{map[string]any{"sub": nil}, want{"", "", "authenticated", "explorer", "", "", "authenticated"}},
		{map[string]any{"sub": ""}, want{"", "", "authenticated", "explorer", "", "", "authenticated"}},
		{map[string]any{"sub": nil, "app_metadata": raw(`{"org":"acme"}`)},
			want{"", "acme", "authenticated", "explorer", "", "owner:acme", "authenticated"}},
		{map[string]any{"app_metadata": raw(`{"org":"","plan":""}`)},
			want{"user-1", "", "authenticated", "explorer", "", "jwt:main:user-1", "user-1"}},
		{map[string]any{"app_metadata": raw(`{}`)}, want{"user-1", "", "authenticated", "explorer", "", "jwt:main:user-1", "user-1"}},
	} {
		p := principalOf(t, s, es.token(good(tc.changes)))
		got := want{p.Subject, p.Owner, p.Role, p.Plan, p.AAL, p.SubjectKey, p.ID()}
		if got != tc.want || p.Issuer != "main" || p.Static || p.ServerOnly {
			t.Errorf("%v: %+v", tc.changes, p)
		}
		if p.Expires.Unix() != t0.Unix()+3600 {
			t.Errorf("expires %v", p.Expires)
		}
	}
	if p := principalOf(t, s, es.token(good(map[string]any{"role": "service_role"}))); !p.ServerOnly {
		t.Error("service_role is not marked as for servers only")
	}
}

func TestClaimNamesWithSchemesAreOneName(t *testing.T) {
	cfg := mainConfig(t)
	cfg.RoleClaim = "https://example.com/role"
	s := newSet(t, startIssuer(t, cfg, Options{}))
	p := principalOf(t, s, testKeys()["ES256"].token(good(map[string]any{"role": nil, "https://example.com/role": "service_role"})))
	if p.Role != "service_role" {
		t.Errorf("role %q", p.Role)
	}
}

func TestAttachedValueStaysWithThePrincipal(t *testing.T) {
	s := newSet(t, startIssuer(t, mainConfig(t), Options{}))
	tok := testKeys()["ES256"].token(good(nil))
	p := principalOf(t, s, tok)
	if p.Attached() != nil {
		t.Error("something is attached from the start")
	}
	compiled := &struct{ n int }{7}
	p.Attach(compiled)
	if again := principalOf(t, s, tok); again != p || again.Attached() != any(compiled) {
		t.Error("the second request does not meet what the first attached")
	}
}

func TestStaticKeysStandForTheirRole(t *testing.T) {
	cfg := mainConfig(t)
	cfg.StaticKeys = append(cfg.StaticKeys, StaticKey{"sb_secret_0123456789", "service_role"})
	s := newSet(t, startIssuer(t, cfg, Options{}))
	p, ok := s.StaticKey("sb_publishable_abcdefgh")
	if !ok || !p.Static || p.Role != "authenticated" || p.Issuer != "main" || p.ServerOnly || p.SubjectKey != "" || p.Subject != "" || p.ID() != "authenticated" {
		t.Errorf("%+v", p)
	}
	// There is no sub, so that the scope narrowed to it is dropped.
	if !slices.Equal(p.Scopes, []string{"crews:read"}) || p.Plan != "explorer" {
		t.Errorf("%+v", p)
	}
	if p, ok := s.StaticKey("sb_secret_0123456789"); !ok || !p.ServerOnly || p.ScopesText != "*" {
		t.Errorf("%+v", p)
	}
	for _, v := range []string{"", "sb_publishable_abcdefg", "sb_publishable_abcdefgh ", "SB_PUBLISHABLE_ABCDEFGH", strings.Repeat("x", 20000)} {
		if _, ok := s.StaticKey(v); ok {
			t.Errorf("%q is accepted", v)
		}
	}
}

// Supabase's legacy keys: HS256, iss "supabase", neither sub nor aud.
func TestSupabaseLegacyKeysAreTakenByAnIssuerOfTheirOwn(t *testing.T) {
	legacy := Config{
		Name: "legacy", Iss: []string{"supabase"}, HMACSecret: testSecret, Algorithms: []string{"HS256"}, RoleClaim: "role",
		Roles: map[string][]string{"anon": {"crews:read"}, "service_role": {"*"}}, ServerOnly: []string{"service_role"},
	}
	s := newSet(t, startIssuer(t, mainConfig(t), Options{}), startIssuer(t, legacy, Options{}))
	hs := testKeys()["HS256"]
	p := principalOf(t, s, hs.compact(`{"alg":"HS256","typ":"JWT"}`, `{"iss":"supabase","ref":"abc","role":"anon","iat":1641769200,"exp":1999535600}`))
	if p.Issuer != "legacy" || p.Role != "anon" || p.ID() != "anon" || p.SubjectKey != "" || p.ScopesText != "crews:read" {
		t.Errorf("%+v", p)
	}
	if p := principalOf(t, s, hs.token(`{"iss":"supabase","role":"service_role","exp":1999535600}`)); !p.ServerOnly {
		t.Errorf("%+v", p)
	}
}

func TestTokensWithoutIssNeedAnIssuerThatSaysSo(t *testing.T) {
	hs := testKeys()["HS256"]
	tok := hs.token(good(map[string]any{"iss": nil}))
	cfg := Config{Name: "a", Iss: []string{"x"}, HMACSecret: testSecret, Algorithms: []string{"HS256"}}
	if _, d := newSet(t, startIssuer(t, cfg, Options{})).Verify(context.Background(), t0, tok, nil); d == nil || d.Reason != TokenInvalid {
		t.Errorf("%v", d)
	}
	cfg.AllowMissingIss = true
	s := newSet(t, startIssuer(t, cfg, Options{}))
	if p := principalOf(t, s, tok); p.SubjectKey != "jwt:a:user-1" {
		t.Errorf("%+v", p)
	}
	for _, iss := range []string{"", "y"} { // an empty iss is not a missing one
		if _, d := s.Verify(context.Background(), t0, hs.token(good(map[string]any{"iss": iss})), nil); d == nil {
			t.Errorf("iss %q is accepted", iss)
		}
	}
}

func TestIssuersThatShareAnIssAreAskedInTurn(t *testing.T) {
	a := Config{Name: "a", Iss: []string{"supabase"}, HMACSecret: strings.Repeat("a", 32), Algorithms: []string{"HS256"}}
	b := a
	b.Name, b.HMACSecret = "b", strings.Repeat("b", 32)
	s := newSet(t, startIssuer(t, a, Options{}), startIssuer(t, b, Options{}))
	claims := good(map[string]any{"iss": "supabase"})
	for _, tc := range []struct{ secret, want string }{{a.HMACSecret, "a"}, {b.HMACSecret, "b"}} {
		tok := signer{alg: "HS256", priv: []byte(tc.secret)}.token(claims)
		if p := principalOf(t, s, tok); p.Issuer != tc.want {
			t.Errorf("issuer %q, want %q", p.Issuer, tc.want)
		}
		// A site that takes the other issuer alone does not take it, warm or not.
		for range 2 {
			_, d := s.Verify(context.Background(), t0, tok, func(name string) bool { return name != tc.want })
			if d == nil || d.Reason != TokenInvalid {
				t.Errorf("taken by the other issuer: %v", d)
			}
		}
	}
	expired := signer{alg: "HS256", priv: []byte(a.HMACSecret)}.token(good(map[string]any{"iss": "supabase", "exp": t0.Unix() - 100}))
	if _, d := s.Verify(context.Background(), t0, expired, nil); d == nil || d.Reason != TokenExpired {
		t.Errorf("the issuer that knows its signature decides: %v", d)
	}
}

func TestSitesTakeTheIssuersTheyName(t *testing.T) {
	s := newSet(t, startIssuer(t, mainConfig(t), Options{}))
	tok := testKeys()["ES256"].token(good(nil))
	none := func(string) bool { return false }
	for _, warm := range []bool{false, true} {
		if warm {
			principalOf(t, s, tok)
		}
		if _, d := s.Verify(context.Background(), t0, tok, none); d == nil || d.Reason != TokenInvalid || d.Count {
			t.Errorf("warm %v: %v", warm, d)
		}
	}
}

func TestSetRefusesIssuersThatCannotStandTogether(t *testing.T) {
	one := func(name, static string) *Issuer {
		i, err := NewIssuer(Config{
			Name: name, Iss: []string{"x"}, HMACSecret: testSecret, Algorithms: []string{"HS256"},
			Roles: map[string][]string{"r": nil}, StaticKeys: []StaticKey{{static, "r"}},
		}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	if _, err := NewSet([]*Issuer{one("a", "static-key-1"), one("a", "static-key-2")}, -1); err == nil || !strings.Contains(err.Error(), "two issuers") {
		t.Errorf("%v", err)
	}
	_, err := NewSet([]*Issuer{one("a", "static-key-1"), one("b", "static-key-1")}, -1)
	if err == nil || strings.Contains(err.Error(), "static-key-1") {
		t.Errorf("%v", err)
	}
}

func TestCachedTokenIsNotAcceptedPastItsEnd(t *testing.T) {
	s := newSet(t, startIssuer(t, mainConfig(t), Options{}))
	tok := testKeys()["ES256"].token(good(nil))
	principalOf(t, s, tok)
	s.cache.tokens.Wait()
	for _, tc := range []struct {
		after time.Duration
		want  Reason
	}{{3600 * time.Second, ""}, {3629 * time.Second, ""}, {3630*time.Second - 1, ""}, {3630 * time.Second, TokenExpired}, {24 * time.Hour, TokenExpired}} {
		_, d := s.Verify(context.Background(), t0.Add(tc.after), tok, nil)
		if got := reasonOf(d); got != tc.want {
			t.Errorf("after %v: %q, want %q", tc.after, got, tc.want)
		}
	}
}

func reasonOf(d *Denied) Reason {
	if d == nil {
		return ""
	}
	return d.Reason
}

func TestWarmTokenCostsNoSignatureCheckAndNoAllocation(t *testing.T) {
	s := newSet(t, startIssuer(t, mainConfig(t), Options{}))
	tok := testKeys()["RS256"].token(good(nil))
	p := principalOf(t, s, tok)
	allowed := func(name string) bool { return name == "main" }
	ctx := context.Background()
	n := testing.AllocsPerRun(1000, func() {
		if again, d := s.Verify(ctx, t0, tok, allowed); d != nil || again != p {
			t.Fatal("another principal: the token was verified again")
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
	if hits, misses := s.CacheStats(); misses != 1 || hits < 1000 {
		t.Errorf("%d hits, %d misses", hits, misses)
	}
}

func TestStaticKeyLookUpDoesNotAllocate(t *testing.T) {
	s := newSet(t, startIssuer(t, mainConfig(t), Options{}))
	if n := testing.AllocsPerRun(1000, func() { s.StaticKey("sb_publishable_abcdefgh") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestVerifyingWorksWithoutACacheAndAfterClose(t *testing.T) {
	i := startIssuer(t, mainConfig(t), Options{})
	s, err := NewSet([]*Issuer{i}, -1)
	if err != nil {
		t.Fatal(err)
	}
	tok := testKeys()["ES256"].token(good(nil))
	if first := principalOf(t, s, tok); first == principalOf(t, s, tok) {
		t.Error("remembered without a cache")
	}
	s.Close()
	principalOf(t, s, tok)
	with := newSet(t, i)
	principalOf(t, with, tok)
	with.Close()
	principalOf(t, with, tok)
}

func TestCacheStaysWithinItsBound(t *testing.T) {
	i := startIssuer(t, mainConfig(t), Options{})
	s, err := NewSet([]*Issuer{i}, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	hs := testKeys()["HS256"]
	for n := range 3000 {
		principalOf(t, s, hs.token(good(map[string]any{"jti": n})))
		if n%100 == 0 {
			s.cache.tokens.Wait()
		}
	}
	s.cache.tokens.Wait()
	kept := 0
	s.cache.tokens.IterValues(func(*entry) bool { kept++; return false })
	if kept > 100 || kept == 0 {
		t.Errorf("%d entries kept", kept)
	}
}

func TestDigestsDifferBetweenSets(t *testing.T) {
	a, b := newSet(t), newSet(t)
	sum := a.digest.of("x.y.z")
	if again := a.digest.of("x.y.z"); again != sum {
		t.Error("one credential has two digests")
	}
	if sum == b.digest.of("x.y.z") || sum == a.digest.of("x.y.zz") {
		t.Error("digests are not keyed, or not of the whole credential")
	}
}
