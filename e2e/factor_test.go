package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// guarded is a gate with routes that ask for second factors in every way.
func guarded(gate string) config {
	return config{
		env: []string{"FACTOR_SECRET=" + factorSecret},
		global: cheap + factorIssuer + `
			class rare 1/h per key
			class single
			plan standard {
				requests unlimited
				concurrent single 1
			}
			default_plan standard
		`,
		gate: gate + `
			routes {
				GET /open public
				GET /plain farms:read
				POST /plain farms:read
				POST /guarded farms:read 2fa
				POST /admin farms:admin 2fa
				POST /rare farms:read 2fa class=rare
				POST /single farms:read 2fa class=single
				GET /single farms:read class=single
				POST /signed farms:read 2fa signed
				POST /command farms:read {
					json command oneof reboot exec
					json command exec require workers:admin 2fa
				}
			}
		`,
	}
}

const jsonType = "application/json"

func TestFactorCodesOfAForeignGeneratorPassOnceAcrossRestarts(t *testing.T) {
	generate := foreignCode(t)
	g := start(t, guarded(""))
	k := g.createOwned(t, "acme", "farms:read")
	f := g.enroll(t, "--owner", "acme")
	for step := f.step - 2; step <= f.step+2; step++ {
		if ours, theirs := codeOf(t, f.secret, step), generate(f.secret, step); ours != theirs {
			t.Fatalf("step %d: the generators disagree", step)
		}
	}
	use := func(code string) *answer { return g.do(t, "POST", "/guarded", key(k.Key), withCode(code)) }

	// The code that confirmed the factor is used up.
	use(generate(f.secret, f.step)).refused(t, 401, "second_factor_invalid")
	right := generate(f.secret, f.step+1)
	use(right).passed(t)
	if got := g.farm.got(t).header; got.Get("X-Auth-Second-Factor") != "totp" || got.Values("X-Security-Code") != nil {
		t.Errorf("the backend was told %q, and given the code: %q", got.Get("X-Auth-Second-Factor"), got.Values("X-Security-Code"))
	}
	use(right).refused(t, 401, "second_factor_invalid")
	// A step before the last accepted one is gone with it.
	use(generate(f.secret, f.step)).refused(t, 401, "second_factor_invalid")

	use(f.recovery[0]).passed(t)
	if got := g.farm.got(t).header.Get("X-Auth-Second-Factor"); got != "recovery" {
		t.Errorf("the backend was told %q, want recovery", got)
	}
	use(f.recovery[0]).refused(t, 401, "second_factor_invalid")
	use(strings.ToUpper(f.recovery[1])).passed(t)

	g.stop(t)
	g.run(t)
	for what, code := range map[string]string{"code": right, "recovery code": f.recovery[0], "recovery code in capitals": f.recovery[1]} {
		if a := use(code); a.reason() != "second_factor_invalid" {
			t.Errorf("after a restart the used %s: %d %q", what, a.status, a.reason())
		}
	}
	g.kill(t)
	g.run(t)
	use(right).refused(t, 401, "second_factor_invalid")
	use(f.recovery[7]).passed(t)
}

func TestFactorOf100SimultaneousRequestsWithOneCodeExactlyOnePasses(t *testing.T) {
	c := guarded("")
	a := start(t, c)
	k := a.createOwned(t, "acme", "farms:read")
	b := secondNode(t, a, c)
	nodes := []*gate{a, b}
	shoot := func(t *testing.T, code string, node func(i int) *gate) {
		hits := a.farm.hits.Load() + b.farm.hits.Load()
		begin := time.Now()
		got := allAtOnce(100, func(i int) string {
			n := node(i)
			return outcomeOf(n.try(n.sites[0], "POST", "/guarded", key(k.Key), withCode(code)))
		})
		a.hangUp()
		b.hangUp()
		wantCounts(t, fmt.Sprintf("100 requests in %s", time.Since(begin).Round(time.Millisecond)), got,
			map[string]int{"passed": 1, "second_factor_invalid": 99})
		if n := a.farm.hits.Load() + b.farm.hits.Load() - hits; n != 1 {
			t.Errorf("%d requests reached a backend, want 1", n)
		}
	}
	f := a.enroll(t, "--owner", "acme")
	t.Run("code, two processes", func(t *testing.T) { shoot(t, f.next(t), func(i int) *gate { return nodes[i%2] }) })
	t.Run("recovery code, one node", func(t *testing.T) { shoot(t, f.recovery[0], func(int) *gate { return a }) })
	t.Run("recovery code, two processes", func(t *testing.T) { shoot(t, f.recovery[1], func(i int) *gate { return nodes[i%2] }) })
	a.hivegate(t, "totp", "remove", "--owner", "acme").ok(t)
	again := a.enroll(t, "--owner", "acme")
	t.Run("code, one node", func(t *testing.T) { shoot(t, again.next(t), func(int) *gate { return b }) })
}

func TestFactorGuessesAreFiveWhateverTheKeyAddressAndNode(t *testing.T) {
	c := guarded("")
	a := start(t, c)
	b := secondNode(t, a, c)
	nodes := []*gate{a, b}
	credentials := []change{key(factorToken(t, map[string]any{"sub": "u1", "account": "acme"}))}
	for range 3 {
		credentials = append(credentials, key(a.createOwned(t, "acme", "farms:read").Key))
	}
	other, alone := a.createOwned(t, "umbrella", "farms:read"), a.createScoped(t, "farms:read")
	otherFactor, aloneFactor := a.enroll(t, "--owner", "umbrella"), a.enroll(t, "--key", alone.ID)
	f := a.enroll(t, "--owner", "acme")
	wrong := f.wrong(t, 60)
	got := allAtOnce(len(wrong), func(i int) string {
		n := nodes[i%2]
		return outcomeOf(n.try(n.sites[0], "POST", "/guarded", credentials[i/2%4], withCode(wrong[i]), from(fmt.Sprintf("127.0.0.%d", 1+i%7))))
	})
	a.hangUp()
	b.hangUp()
	wantCounts(t, "60 guesses, 4 credentials, 7 addresses, 2 processes", got, map[string]int{"second_factor_invalid": 5, "second_factor_locked": 55})

	for i, n := range nodes {
		locked := n.do(t, "POST", "/guarded", credentials[i+1], withCode(f.next(t)))
		locked.refused(t, 429, "second_factor_locked")
		if wait, err := strconv.Atoi(locked.header.Get("Retry-After")); err != nil || wait < 240 || wait > 300 {
			t.Errorf("Retry-After is %q, want almost five minutes", locked.header.Get("Retry-After"))
		}
	}
	// A recovery code is a guess like any other, and a lock is one of the factor.
	a.do(t, "POST", "/guarded", credentials[0], withCode(f.recovery[0])).refused(t, 429, "second_factor_locked")
	// Nor does it end with the process.
	b.stop(t)
	b.run(t)
	b.do(t, "POST", "/guarded", credentials[1], withCode(f.recovery[0])).refused(t, 429, "second_factor_locked")
	if c := a.hivegate(t, "totp", "status", "--owner", "acme").ok(t); !strings.Contains(c.stdout, "locked until") {
		t.Errorf("totp status says %q", c.stdout)
	}

	// Everybody else goes on, and so does what needs no code.
	a.do(t, "POST", "/guarded", key(other.Key), withCode(otherFactor.recovery[0])).passed(t)
	b.do(t, "POST", "/guarded", key(alone.Key), withCode(aloneFactor.recovery[0])).passed(t)
	a.get(t, "/plain", credentials[1]).passed(t)
}

func TestFactorNobodyWithoutAKeyOfTheOwnerCausesItsLock(t *testing.T) {
	g := start(t, guarded(""))
	victim := g.createOwned(t, "acme", "farms:read")
	stranger, alone := g.createOwned(t, "umbrella", "farms:read"), g.createScoped(t, "farms:read")
	f := g.enroll(t, "--owner", "acme")
	g.enrollOnly(t, "--owner", "umbrella") // never confirmed: it does not count
	forged := victim.Key[:len(victim.Key)-8] + "AAAAAAAA"
	strangers := map[string][]change{
		"nobody":                              {},
		"the id of a key with another secret": {key(forged)},
		"a key of another owner":              {key(stranger.Key)},
		"a key without owner":                 {key(alone.Key)},
		"a user whose id is the owner's name": {key(factorToken(t, map[string]any{"sub": "acme"}))},
		"a forged token of the owner":         {key(factorToken(t, map[string]any{"sub": "u", "account": "acme"}) + "x")},
		"identity headers":                    {key(stranger.Key), header("X-Auth-Owner", "acme"), header("X_Auth_Owner", "acme")},
	}
	for who, changes := range strangers {
		for i, code := range f.wrong(t, 8) {
			a := g.do(t, "POST", "/guarded", append(changes, withCode(code), from(fmt.Sprintf("127.0.0.%d", 10+i)))...)
			if a.status == 200 || a.reason() == "second_factor_invalid" || a.reason() == "second_factor_locked" {
				t.Fatalf("%s: %d %q: a code was judged", who, a.status, a.reason())
			}
		}
	}
	g.do(t, "POST", "/guarded", key(victim.Key), withCode(f.next(t))).passed(t)
}

func TestFactorMalformedCodesAreRefusedAndCountForNothing(t *testing.T) {
	g := start(t, guarded(""))
	k := g.createOwned(t, "acme", "farms:read")
	f := g.enroll(t, "--owner", "acme")
	right := f.next(t)
	// Four wrong codes: one more that counted would lock.
	for _, wrong := range f.wrong(t, 4) {
		g.do(t, "POST", "/guarded", key(k.Key), withCode(wrong)).refused(t, 401, "second_factor_invalid")
	}
	arabic := strings.NewReplacer("0", "٠", "1", "١", "2", "٢", "3", "٣", "4", "٤", "5", "٥", "6", "٦", "7", "٧", "8", "٨", "9", "٩").Replace(right)
	fullWidth := strings.NewReplacer("0", "０", "1", "１", "2", "２", "3", "３", "4", "４", "5", "５", "6", "６", "7", "７", "8", "８", "9", "９").Replace(right)
	for what, values := range map[string][]string{
		"five digits":                {right[:5]},
		"seven digits":               {right + "0"},
		"seven digits, zero first":   {"0" + right},
		"eight digits":               {"00" + right},
		"a space inside":             {right[:3] + " " + right[3:]},
		"a dash inside":              {right[:3] + "-" + right[3:]},
		"a no-break space before":    {"\u00a0" + right},
		"a no-break space after":     {right + "\u00a0"},
		"Arabic digits":              {arabic},
		"full-width digits":          {fullWidth},
		"a plus sign":                {"+" + right[1:]},
		"a minus sign":               {"-" + right[1:]},
		"a plus sign before":         {"+" + right},
		"hexadecimal":                {"0x" + right[2:]},
		"letters":                    {"abcdef"},
		"letter O for zero":          {"O" + right[1:]},
		"empty":                      {""},
		"a list in one header":       {right + ", " + right},
		"quoted":                     {`"` + right + `"`},
		"twice":                      {right, right},
		"twice, once wrong":          {f.wrong(t, 1)[0], right},
		"twice, once empty":          {"", right},
		"a recovery code too short":  {f.recovery[0][:16]},
		"a recovery code undashed":   {strings.ReplaceAll(f.recovery[0], "-", "")},
		"a recovery code and a code": {f.recovery[0], right},
	} {
		a := g.do(t, "POST", "/guarded", key(k.Key), func(r *http.Request) { r.Header["X-Security-Code"] = values })
		if a.status != 401 || a.reason() != "second_factor_invalid" {
			t.Errorf("%s: %d %q", what, a.status, a.reason())
		}
	}
	// A name that merely looks alike is no code at all.
	for _, name := range []string{"X_Security_Code", "X.Security.Code", "X-Security_Code"} {
		g.do(t, "POST", "/guarded", key(k.Key), spelt(name, right)).refused(t, 401, "second_factor_required")
	}
	g.do(t, "POST", "/guarded", key(k.Key)).refused(t, 401, "second_factor_required")
	g.do(t, "POST", "/guarded", key(k.Key), withCode(right)).passed(t)
	// And the fifth wrong one locks.
	g.do(t, "POST", "/guarded", key(k.Key), withCode(f.wrong(t, 1)[0])).refused(t, 401, "second_factor_invalid")
	g.do(t, "POST", "/guarded", key(k.Key), withCode(f.recovery[0])).refused(t, 429, "second_factor_locked")
}

func TestFactorARefusedRequestBurnsNoCode(t *testing.T) {
	g := start(t, guarded(""))
	k := g.createOwned(t, "acme", "farms:read")
	secret := g.signingSecret(t, "apikey", "signing-secret", k.ID, "--rotate")
	f := g.enroll(t, "--owner", "acme")
	send := func(path, body string, changes ...change) *answer {
		return g.do(t, "POST", path, append([]change{key(k.Key), withCode(f.recovery[0]), content(jsonType, body)}, changes...)...)
	}
	send("/rare", "", withCode("")).refused(t, 401, "second_factor_invalid") // takes the hour's one request
	release := g.holdSlot(t, k)
	for what, c := range map[string]struct {
		a      *answer
		status int
		reason string
	}{
		"no credential":            {g.do(t, "POST", "/guarded", withCode(f.recovery[0])), 401, "missing_credentials"},
		"ambiguous path":           {send("/guarded//", ""), 400, "ambiguous_path"},
		"no such route":            {send("/none", ""), 404, "route_not_found"},
		"method":                   {g.do(t, "PUT", "/guarded", key(k.Key), withCode(f.recovery[0])), 405, "method_not_allowed"},
		"scope of the route":       {send("/admin", ""), 403, "insufficient_scope"},
		"rate":                     {send("/rare", ""), 429, "rate_limited"},
		"slots":                    {send("/single", ""), 429, "concurrency_limited"},
		"scope of the command":     {send("/command", `{"command":"exec"}`), 403, "insufficient_scope"},
		"unknown command":          {send("/command", `{"command":"stop"}`), 422, "field_invalid"},
		"no JSON":                  {send("/command", `{"command"`), 400, "body_invalid"},
		"another content type":     {send("/command", `{"command":"exec"}`, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }), 415, "body_not_json"},
		"too large":                {send("/command", `{"command":"exec","x":"`+strings.Repeat("x", 64<<10)+`"}`), 413, "body_too_large"},
		"no signature":             {send("/signed", "{}"), 401, "signature_required"},
		"a signature of something": {send("/signed", "{}", header("X-Request-Signature", sign(secret, "[]"))), 401, "signature_invalid"},
	} {
		if c.a.status != c.status || c.a.reason() != c.reason {
			t.Errorf("%s: %d %q, want %d %s", what, c.a.status, c.a.reason(), c.status, c.reason)
		}
	}
	release()
	// All of them carried the same code, and it is still good, once.
	send("/signed", "{}", header("X-Request-Signature", sign(secret, "{}"))).passed(t)
	if got := g.farm.got(t); string(got.body) != "{}" || got.header.Get("X-Auth-Second-Factor") != "recovery" {
		t.Errorf("the backend got %q, factor %q", got.body, got.header.Get("X-Auth-Second-Factor"))
	}
	send("/guarded", "").refused(t, 401, "second_factor_invalid")
}

// holdSlot takes the caller's only slot of the class single until it is
// released.
func (g *gate) holdSlot(t *testing.T, k created) (release func()) {
	t.Helper()
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	g.farm.handle("/single", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			close(entered)
			<-leave
		}
		w.WriteHeader(http.StatusOK)
	})
	go func() {
		defer close(left)
		_, _ = g.try(g.sites[0], "GET", "/single", key(k.Key))
	}()
	select {
	case <-entered:
	case <-time.After(20 * time.Second):
		t.Fatal("the request that holds the slot did not reach the backend")
	}
	return func() {
		close(leave)
		<-left
	}
}

func TestFactorRefusalsGiveTheirSlotBackAtOnce(t *testing.T) {
	g := start(t, guarded(""))
	k := g.createOwned(t, "acme", "farms:read")
	f := g.enroll(t, "--owner", "acme")
	for range 4 {
		g.do(t, "POST", "/single", key(k.Key)).refused(t, 401, "second_factor_required")
		g.do(t, "POST", "/single", key(k.Key), withCode("12345")).refused(t, 401, "second_factor_invalid")
	}
	// At once: not when a client that dawdles over its body has sent the rest.
	refusals := func() int { return strings.Count(g.log.String(), `"reason":"second_factor_required"`) }
	before := refusals()
	conn, err := net.Dial("tcp", g.sites[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "POST /single HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 8\r\n\r\nhalf", g.sites[0], k.Key)
	eventually(t, 20*time.Second, "the unfinished request is judged", func() bool { return refusals() > before })
	g.do(t, "POST", "/single", key(k.Key), withCode(f.next(t))).passed(t)
	_, _ = fmt.Fprint(conn, "half")
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := resp.Header.Get("X-Hivegate-Reason"); got != "second_factor_required" {
		t.Errorf("the dawdling request got %d %q", resp.StatusCode, got)
	}
}

func TestFactorHeaderIsRemovedExactlyWhereTheGateMayAskForIt(t *testing.T) {
	c := guarded("")
	c.more = "http://SITE1 {\nhivegate {\nsecond_factor present\nroutes {\nPOST /guarded farms:read 2fa\nPOST /plain farms:read\n}\n}\nreverse_proxy FARM\n}"
	g := start(t, c)
	k := g.createOwned(t, "acme", "farms:read", "workers:admin")
	f := g.enroll(t, "--owner", "acme")
	at := func(site int, method, path string, changes ...change) []string {
		t.Helper()
		a := g.doAt(t, g.sites[site], method, path, append([]change{key(k.Key)}, changes...)...)
		a.passed(t)
		return g.farm.got(t).header.Values("X-Security-Code")
	}
	for what, c := range map[string]struct {
		got  []string
		want string
	}{
		"asked for":                 {at(0, "POST", "/guarded", withCode(f.recovery[0])), "[]"},
		"asked for by a rule":       {at(0, "POST", "/command", content(jsonType, `{"command":"exec"}`), withCode(f.recovery[1])), "[]"},
		"not asked for, could be":   {at(0, "POST", "/command", content(jsonType, `{"command":"reboot"}`), withCode("123456")), "[]"},
		"could be, malformed":       {at(0, "POST", "/command", content(jsonType, `{"command":"reboot"}`), withCode("x"), withCode("y")), "[]"},
		"never asked for":           {at(0, "GET", "/plain", withCode("654321")), "[654321]"},
		"never asked for, any text": {at(0, "POST", "/plain", withCode("x"), withCode("y")), "[x y]"},
		"public":                    {at(0, "GET", "/open", withCode("654321")), "[654321]"},
		"present":                   {at(1, "POST", "/guarded", withCode("000000")), "[000000]"},
		"present, not asked for":    {at(1, "POST", "/plain", withCode("any")), "[any]"},
	} {
		if got := fmt.Sprint(c.got); got != c.want {
			t.Errorf("%s: the backend got %s, want %s", what, got, c.want)
		}
	}
	// None of the codes that were not asked for was judged: the count is empty.
	for _, wrong := range f.wrong(t, 4) {
		g.do(t, "POST", "/guarded", key(k.Key), withCode(wrong)).refused(t, 401, "second_factor_invalid")
	}
	g.do(t, "POST", "/guarded", key(k.Key), withCode(f.recovery[2])).passed(t)

	// present: exactly six digits, which the backend judges.
	present := func(changes ...change) *answer {
		return g.doAt(t, g.sites[1], "POST", "/guarded", append([]change{key(k.Key)}, changes...)...)
	}
	present().refused(t, 401, "second_factor_required")
	for _, bad := range []string{"12345", "1234567", "12 456", "abcdef", "", f.recovery[3]} {
		present(withCode(bad)).refused(t, 401, "second_factor_invalid")
	}
	present(withCode("123456"), withCode("123456")).refused(t, 401, "second_factor_invalid")
	for range 7 { // no count, no lock, no replay
		present(withCode("000000")).passed(t)
	}
	if got := g.farm.got(t).header; got.Get("X-Auth-Second-Factor") != "" {
		t.Errorf("the gate vouched for a code it did not judge: %q", got.Get("X-Auth-Second-Factor"))
	}
}

func TestFactorAAL2CountsWhereItIsAcceptedAndNothingElseDoes(t *testing.T) {
	c := guarded("accept_aal2\n")
	c.more = "http://SITE1 {\nhivegate {\nroutes {\nPOST /guarded farms:read 2fa\n}\n}\nreverse_proxy FARM\n}"
	g := start(t, c)
	use := func(site int, claims map[string]any, changes ...change) *answer {
		claims["sub"] = "user-1"
		return g.doAt(t, g.sites[site], "POST", "/guarded", append([]change{key(factorToken(t, claims))}, changes...)...)
	}
	use(0, map[string]any{"aal": "aal2"}).passed(t)
	if got := g.farm.got(t).header.Get("X-Auth-Second-Factor"); got != "aal2" {
		t.Errorf("the backend was told %q, want aal2", got)
	}
	use(0, map[string]any{"aal": "aal2"}, withCode("no code")).passed(t)
	if got := g.farm.got(t).header.Values("X-Security-Code"); got != nil {
		t.Errorf("the header was passed on: %q", got)
	}
	for what, aal := range map[string]any{"aal1": "aal1", "aal3": "aal3", "capitals": "AAL2", "a space": "aal2 ", "empty": ""} {
		a := use(0, map[string]any{"aal": aal}, withCode("123456"))
		if a.status != 401 || a.reason() != "second_factor_required" || !strings.Contains(a.challengeHint(), "totp enroll") {
			t.Errorf("%s: %d %q, hint %q", what, a.status, a.reason(), a.challengeHint())
		}
	}
	// What is no text is no level, and a token that says so is not sound.
	for what, aal := range map[string]any{"a list": []string{"aal2"}, "a number": 2, "null": nil, "true": true} {
		if a := use(0, map[string]any{"aal": aal}); a.status != 401 || a.reason() != "token_invalid" {
			t.Errorf("%s: %d %q", what, a.status, a.reason())
		}
	}
	use(0, map[string]any{}).refused(t, 401, "second_factor_required")
	// Where the site does not accept it, it is worth nothing.
	use(1, map[string]any{"aal": "aal2"}).refused(t, 401, "second_factor_required")
	// An API key's owner cannot have it by a header.
	k := g.createOwned(t, "acme", "farms:read")
	g.do(t, "POST", "/guarded", key(k.Key), header("X-Auth-Second-Factor", "aal2"), header("aal", "aal2")).refused(t, 401, "second_factor_required")

	// A user without aal2 can have a factor here, by issuer and subject.
	f := g.enroll(t, "--issuer", "main", "--sub", "user-1")
	use(1, map[string]any{"aal": "aal1"}, withCode(f.next(t))).passed(t)
	if got := g.farm.got(t).header.Get("X-Auth-Second-Factor"); got != "totp" {
		t.Errorf("the backend was told %q, want totp", got)
	}
	g.doAt(t, g.sites[1], "POST", "/guarded", key(factorToken(t, map[string]any{"sub": "user-2"})), withCode(f.recovery[0])).refused(t, 401, "second_factor_required")
	// A token with an account belongs to that owner, not to its sub.
	use(1, map[string]any{"account": "acme"}, withCode(f.recovery[0])).refused(t, 401, "second_factor_required")
}

func TestFactorASubjectWithoutOneIsToldWhatToDo(t *testing.T) {
	g := start(t, guarded(""))
	k := g.createOwned(t, "acme", "farms:read")
	ask := func() *answer { return g.do(t, "POST", "/guarded", key(k.Key), withCode("123456")) }
	a := ask()
	a.refused(t, 401, "second_factor_required")
	if !strings.Contains(a.challengeHint(), "hivegate totp enroll") {
		t.Errorf("the hint is %q", a.challengeHint())
	}
	// Enrolled is not confirmed.
	e := g.enrollOnly(t, "--owner", "acme")
	for _, c := range []string{codeOf(t, e.Secret, time.Now().Unix()/30), e.Recovery[0]} {
		g.do(t, "POST", "/guarded", key(k.Key), withCode(c)).refused(t, 401, "second_factor_required")
	}
	step := time.Now().Unix() / 30
	g.hivegate(t, "totp", "confirm", "--owner", "acme", "--code", codeOf(t, e.Secret, step)).ok(t)
	g.do(t, "POST", "/guarded", key(k.Key), withCode(codeOf(t, e.Secret, step+1))).passed(t)
	// Removing it while the server runs holds from the next request on.
	g.hivegate(t, "totp", "remove", "--owner", "acme").ok(t)
	ask().refused(t, 401, "second_factor_required")
	g.do(t, "POST", "/guarded", key(k.Key), withCode(e.Recovery[0])).refused(t, 401, "second_factor_required")
}

// Second factors live in the keystore: while it cannot be asked nobody passes.
func TestFactorWithoutItsStoreIsARefusal(t *testing.T) {
	g := start(t, guarded(""))
	k := g.createOwned(t, "acme", "farms:read")
	f := g.enroll(t, "--owner", "acme")
	g.damageDocs(t)
	a := g.do(t, "POST", "/guarded", key(k.Key), withCode(f.next(t)))
	a.refused(t, 503, "keystore_unavailable")
	g.get(t, "/plain", key(k.Key)).passed(t)
}
