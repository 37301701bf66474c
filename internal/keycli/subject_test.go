package keycli_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/hotp"
	"github.com/spf13/cobra"

	"github.com/hivegate/hivegate/internal/keycli"
	"github.com/hivegate/hivegate/internal/sealed"
	"github.com/hivegate/hivegate/internal/totp"
	"github.com/hivegate/hivegate/internal/totp/totptest"
	"github.com/hivegate/hivegate/keystore"
)

// subjects is a shell with a master key: second factors and signing secrets are
// kept in memory, between commands too.
type subjects struct {
	*shell
	store    *totptest.Memory
	signing  signings
	resealed keycli.Resealed
	broken   error
	noMaster bool
}

// signings is a keycli.SigningSecrets in memory.
type signings map[string]string

func (s signings) Secret(_ context.Context, name string) (string, error) {
	if secret, ok := s[name]; ok {
		return secret, nil
	}
	return "", keystore.ErrNotFound
}

func (s signings) Rotate(_ context.Context, name string, _ time.Time) (string, error) {
	s[name] = fmt.Sprintf("hgs_%x", sha256.Sum256(fmt.Append(nil, name, s[name])))
	return s[name], nil
}

func newSubjects(t *testing.T) *subjects {
	sh := &subjects{shell: newShell(t), store: totptest.NewMemory(), signing: signings{}}
	sh.shell.create("--name", "first", "--scope", "crews:read") // makes the keystore
	return sh
}

func (sh *subjects) open(cmd *cobra.Command, mayCreate bool) (*keycli.Env, error) {
	env, err := sh.shell.open(cmd, mayCreate)
	if err != nil || sh.noMaster {
		return env, err
	}
	ring := &sealed.Ring{Primary: sha256.Sum256([]byte("master"))}
	if env.Factors, err = totp.New(sh.store, ring, bytes.Repeat([]byte{7}, 32)); err != nil {
		return nil, err
	}
	env.Signing = sh.signing
	env.Reseal = func(context.Context) (keycli.Resealed, error) { return sh.resealed, sh.broken }
	return env, nil
}

// run runs one command line of the whole tree.
func (sh *subjects) run(args ...string) (stdout, stderr string, err error) {
	sh.t.Helper()
	root := &cobra.Command{Use: "hivegate", SilenceUsage: true}
	root.AddCommand(keycli.Commands(sh.open)...)
	root.AddCommand(keycli.SubjectCommands(sh.open)...)
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(args)
	err = root.ExecuteContext(context.Background())
	return out.String(), errs.String(), err
}

func (sh *subjects) ok(line string) string {
	sh.t.Helper()
	stdout, stderr, err := sh.run(strings.Fields(line)...)
	if err != nil {
		sh.t.Fatalf("%s: %v", line, err)
	}
	if want := "keystore: " + sh.path + "\n"; stderr != want {
		sh.t.Errorf("%s: standard error is %q, want %q", line, stderr, want)
	}
	return stdout
}

func (sh *subjects) fails(code int, want, line string) {
	sh.t.Helper()
	stdout, stderr, err := sh.run(strings.Fields(line)...)
	if got := keycli.ExitCode(err); got != code || !strings.Contains(stderr, want) {
		sh.t.Errorf("%s: exit code %d, %q, want %d with %q", line, got, stderr, code, want)
	}
	if stdout != "" {
		sh.t.Errorf("%s: standard output is %q", line, stdout)
	}
}

// owned makes a key and returns its id.
func (sh *subjects) owned(owner string) string {
	sh.t.Helper()
	args := []string{"--name", "k", "--scope", "crews:read"}
	if owner != "" {
		args = append(args, "--owner", owner)
	}
	id, _ := sh.create(args...)
	return id
}

// enrollment is what `totp enroll --json` prints, and no member beyond it.
type enrollment struct {
	Owner     string   `json:"owner"`
	Secret    string   `json:"secret"`
	URI       string   `json:"otpauth_uri"`
	Recovery  []string `json:"recovery_codes"`
	Confirmed bool     `json:"confirmed"`
}

func (sh *subjects) enroll(who string) (e enrollment) {
	sh.t.Helper()
	sh.decode(sh.ok("totp enroll --json "+who), &e)
	return e
}

// code is what an authenticator app shows, some steps from now.
func (sh *subjects) code(secret string, steps int) string {
	sh.t.Helper()
	code, err := hotp.GenerateCode(secret, uint64(sh.clock.Unix()/30+int64(steps)))
	if err != nil {
		sh.t.Fatal(err)
	}
	return code
}

// state is what `totp status --json` prints.
type state struct {
	Owner        string     `json:"owner"`
	Enrolled     bool       `json:"enrolled"`
	Confirmed    bool       `json:"confirmed"`
	RecoveryLeft int        `json:"recovery_codes_left"`
	LockedUntil  *time.Time `json:"locked_until"`
	LastUsedAt   *time.Time `json:"last_used_at"`
}

func (sh *subjects) status(who string) (s state) {
	sh.t.Helper()
	sh.decode(sh.ok("totp status --json "+who), &s)
	return s
}

var (
	base32Secret = regexp.MustCompile(`^[A-Z2-7]{32}$`)
	recoveryCode = regexp.MustCompile(`^[a-z2-7]{5}-[a-z2-7]{5}-[a-z2-7]{5}$`)
)

func TestEnrollJSONHasExactlyTheDocumentedMembers(t *testing.T) {
	sh := newSubjects(t)
	text := sh.ok("totp enroll --json --owner acme")
	var e enrollment
	sh.decode(text, &e)
	at := -1
	for _, member := range []string{"owner", "secret", "otpauth_uri", "recovery_codes", "confirmed"} {
		next := strings.Index(text, `"`+member+`":`)
		if next <= at {
			t.Errorf("%s is missing or out of order in %s", member, text)
		}
		at = next
	}
	if e.Owner != "acme" || !base32Secret.MatchString(e.Secret) || len(e.Recovery) != 8 || e.Confirmed {
		t.Errorf("enrolled %+v", e)
	}
	for i, c := range e.Recovery {
		if !recoveryCode.MatchString(c) || strings.Contains(strings.Join(e.Recovery[i+1:], " "), c) {
			t.Errorf("recovery code %q", c)
		}
	}
	u, err := url.Parse(e.URI)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/hivegate:owner:acme" {
		t.Fatalf("URI %s: %v", e.URI, err)
	}
	for name, want := range map[string]string{"secret": e.Secret, "issuer": "hivegate", "algorithm": "SHA1", "digits": "6", "period": "30"} {
		if got := u.Query().Get(name); got != want {
			t.Errorf("%s of the URI is %q, want %q", name, got, want)
		}
	}
	if s := sh.status("--owner acme"); s != (state{Owner: "acme", Enrolled: true, RecoveryLeft: 8}) {
		t.Errorf("status %+v", s)
	}
}

func TestEnrollDrawsAQRCodeForPeople(t *testing.T) {
	sh := newSubjects(t)
	text := sh.ok("totp enroll --owner acme")
	var width, rows int
	for _, l := range strings.Split(text, "\n") {
		if strings.ContainsAny(l, "█▀▄") {
			rows++
			if n := len([]rune(l)); width == 0 {
				width = n
			} else if n != width {
				t.Errorf("row %d is %d wide, the first %d", rows, n, width)
			}
		}
	}
	// Half blocks: two modules a row. A URI of this length needs version 6 or
	// more, which has 41 modules and a quiet zone.
	if rows < 21 || width < 41 {
		t.Errorf("the QR code has %d rows of %d", rows, width)
	}
	secret := regexp.MustCompile(`(?m)^secret +([A-Z2-7]{32})$`).FindStringSubmatch(text)
	if secret == nil || !strings.Contains(text, "otpauth://totp/hivegate:owner:acme?") || !strings.Contains(text, "only this once") {
		t.Fatalf("printed\n%s", text)
	}
	if n := len(regexp.MustCompile(`[a-z2-7]{5}-[a-z2-7]{5}-[a-z2-7]{5}`).FindAllString(text, -1)); n != 8 {
		t.Errorf("%d recovery codes, want 8", n)
	}
	said := sh.ok("totp confirm --owner acme --code " + sh.code(secret[1], 0))
	if said != "The second factor of acme is in force; 8 recovery codes are left.\n" {
		t.Errorf("confirm says %q", said)
	}
}

func TestConfirmUsesItsCodeUpAndCountsWrongOnes(t *testing.T) {
	sh := newSubjects(t)
	sh.fails(1, "acme has no second factor: make one with 'totp enroll'", "totp confirm --owner acme --code 123456")
	e := sh.enroll("--owner acme")
	wrong := "000000"
	for i := 1; wrong == sh.code(e.Secret, -1) || wrong == sh.code(e.Secret, 0) || wrong == sh.code(e.Secret, 1); i++ {
		wrong = fmt.Sprintf("%06d", i)
	}
	for _, malformed := range []string{"12345", "1234567", "abcdef", e.Recovery[0], "+12345"} {
		sh.fails(1, "the code is wrong", "totp confirm --owner acme --code "+malformed)
	}
	for range 4 {
		sh.fails(1, "the code is wrong", "totp confirm --owner acme --code "+wrong)
	}
	sh.clock = sh.clock.Add(time.Minute)
	var confirmed state
	sh.decode(sh.ok("totp confirm --json --owner acme --code "+sh.code(e.Secret, 0)), &confirmed)
	if !confirmed.Confirmed || confirmed.LastUsedAt == nil || confirmed.LastUsedAt.Unix() != sh.clock.Unix()/30*30 {
		t.Errorf("confirmed: %+v", confirmed)
	}
	sh.fails(1, "a confirmed second factor is in force: remove it first", "totp confirm --owner acme --code "+sh.code(e.Secret, 1))
	sh.fails(1, "a confirmed second factor is in force: remove it first", "totp enroll --owner acme")

	// Five wrong codes lock here as they do at the gate.
	other := sh.enroll("--owner other")
	for range 5 {
		sh.fails(1, "the code is wrong", "totp confirm --owner other --code "+"00000"+lastDigit(sh, other.Secret))
	}
	sh.fails(1, "too many wrong codes: try again in 5m0s", "totp confirm --owner other --code "+sh.code(other.Secret, 0))
	if s := sh.status("--owner other"); s.LockedUntil == nil || !s.LockedUntil.Equal(sh.clock.Add(5*time.Minute)) || s.Confirmed {
		t.Errorf("status %+v", s)
	}
	sh.clock = sh.clock.Add(5 * time.Minute)
	sh.ok("totp confirm --owner other --code " + sh.code(other.Secret, 0))
}

// lastDigit completes "00000" to a code that is wrong now.
func lastDigit(sh *subjects, secret string) string {
	for d := range 10 {
		c := fmt.Sprintf("00000%d", d)
		if c != sh.code(secret, -1) && c != sh.code(secret, 0) && c != sh.code(secret, 1) {
			return c[5:]
		}
	}
	return "0"
}

func TestEnrollingAgainBeforeConfirmingReplacesTheSecret(t *testing.T) {
	sh := newSubjects(t)
	first, second := sh.enroll("--owner acme"), sh.enroll("--owner acme")
	if first.Secret == second.Secret {
		t.Fatal("the same secret twice")
	}
	sh.fails(1, "the code is wrong", "totp confirm --owner acme --code "+sh.code(first.Secret, 0))
	sh.ok("totp confirm --owner acme --code " + sh.code(second.Secret, 0))
}

func TestWhoseFactorItIs(t *testing.T) {
	sh := newSubjects(t)
	alone, a, b := sh.owned(""), sh.owned("acme"), sh.owned("acme")
	e := sh.enroll("--key " + a)
	if e.Owner != "acme" {
		t.Errorf("the factor of a key with owner is that of %q", e.Owner)
	}
	sh.ok("totp confirm --owner acme --code " + sh.code(e.Secret, 0))
	if s := sh.status("--key " + b); !s.Confirmed || s.Owner != "acme" {
		t.Errorf("another key of the owner: %+v", s)
	}
	if s := sh.status("--key " + alone); s != (state{Owner: "key:" + alone}) {
		t.Errorf("a key without owner: %+v", s)
	}
	if e := sh.enroll("--key " + alone); e.Owner != "key:"+alone || !strings.Contains(e.URI, alone) {
		t.Errorf("a key without owner: %+v", e)
	}
	if e := sh.enroll("--issuer supabase --sub 1b4e28ba-2fa1-11d2-883f-0016d3cca427"); e.Owner != "jwt:supabase:1b4e28ba-2fa1-11d2-883f-0016d3cca427" {
		t.Errorf("the subject of a token: %+v", e)
	}
	if s := sh.status("--issuer supabase --sub other"); s.Enrolled {
		t.Errorf("another subject: %+v", s)
	}
	for line, want := range map[string]string{
		"":                                 "say whose: --owner O, --key ID, or --issuer NAME --sub SUB",
		"--owner acme --key " + a:          "exclude each other",
		"--owner acme --sub x":             "exclude each other",
		"--issuer supabase":                "--issuer and --sub go together",
		"--sub x":                          "--issuer and --sub go together",
		"--key nonsense":                   "--key: ",
		"--owner key:" + a:                 "--owner: ",
		"--owner owner:acme":               "--owner: ",
		"--owner jwt:supabase:x":           "--owner: ",
		"--owner acme extra":               `"extra"`,
		"--owner acme --unknown":           "--unknown",
		"--issuer supabase --sub \x01ctrl": "cannot have a second factor",
	} {
		for _, command := range []string{"totp status", "totp enroll", "totp remove", "totp confirm --code 123456", "signing-secret show", "signing-secret rotate"} {
			sh.fails(2, want, command+" "+line)
		}
	}
	sh.fails(2, "--code is missing", "totp confirm --owner acme")
	for _, command := range []string{"totp status", "signing-secret rotate"} {
		sh.fails(1, "there is no key key_AAAABBBBCCCC in "+sh.path, command+" --key key_AAAABBBBCCCC")
	}
}

func TestRemoveEndsAFactorForEverybody(t *testing.T) {
	sh := newSubjects(t)
	sh.fails(1, "acme has no second factor", "totp remove --owner acme")
	sh.enroll("--owner acme")
	if said := sh.ok("totp status --owner acme"); said != "acme has a second factor that does not count yet: confirm it with 'totp confirm'.\n" {
		t.Errorf("status says %q", said)
	}
	if said := sh.ok("totp remove --owner acme"); said != "acme has no second factor.\n" {
		t.Errorf("remove says %q", said)
	}
	sh.enroll("--owner acme")
	var s state
	sh.decode(sh.ok("totp remove --json --owner acme"), &s)
	if s != (state{Owner: "acme"}) {
		t.Errorf("removed: %+v", s)
	}
}

// signing is what the signing-secret commands print with --json.
type signing struct {
	ID     string `json:"id"`
	Secret string `json:"signing_secret"`
}

func TestSigningSecretsOfKeysAndSubjects(t *testing.T) {
	sh := newSubjects(t)
	id := sh.owned("acme")
	sh.fails(1, id+" has no signing secret: make one with rotate", "apikey signing-secret "+id)
	read := func(line string) (s signing) {
		t.Helper()
		sh.decode(sh.ok(line+" --json"), &s)
		return s
	}
	own := read("apikey signing-secret " + id + " --rotate")
	if own.ID != id || own.Secret == "" || sh.signing["key:"+id] != own.Secret {
		t.Errorf("made %+v, kept %v", own, sh.signing)
	}
	for _, line := range []string{"apikey signing-secret " + id, "signing-secret show --key " + id} {
		if again := read(line); again != own {
			t.Errorf("%s: %+v", line, again)
		}
	}
	if text := sh.ok("apikey signing-secret " + id); text != own.Secret+"\n" {
		t.Errorf("for people: %q", text)
	}
	// A key's own secret is not its owner's.
	sh.fails(1, "acme has no signing secret", "signing-secret show --owner acme")
	owner := read("signing-secret rotate --owner acme")
	if owner.ID != "acme" || owner.Secret == own.Secret || sh.signing["owner:acme"] != owner.Secret {
		t.Errorf("the owner's: %+v", owner)
	}
	user := read("signing-secret rotate --issuer supabase --sub u1")
	if user.ID != "jwt:supabase:u1" || sh.signing["jwt:supabase:u1"] != user.Secret {
		t.Errorf("the user's: %+v", user)
	}
	if fresh := read("signing-secret rotate --key " + id); fresh.ID != id || fresh.Secret == own.Secret {
		t.Errorf("rotated: %+v", fresh)
	}
	if again := read("signing-secret show --owner acme"); again != owner {
		t.Errorf("another's was rotated with it: %+v", again)
	}
	sh.fails(1, "there is no key key_AAAABBBBCCCC", "apikey signing-secret key_AAAABBBBCCCC --rotate")
	if len(sh.signing) != 3 {
		t.Errorf("%d secrets are kept, want 3", len(sh.signing))
	}
}

func TestANewSigningSecretOfAKeyIsInTheAuditTrail(t *testing.T) {
	sh := newSubjects(t)
	id := sh.owned("acme")
	secrets := sh.ok("apikey signing-secret "+id+" --rotate") + sh.ok("signing-secret rotate --key "+id)
	sh.ok("apikey signing-secret " + id) // shows, and changes nothing
	sh.ok("signing-secret rotate --owner acme")
	var all struct{ Data []keystore.AuditEntry }
	stdout, _, _ := sh.auditCmd("--json")
	sh.decode(stdout, &all)
	var actions []string
	for _, e := range all.Data {
		if e.KeyID == id {
			actions = append(actions, e.Action)
		}
	}
	if got := strings.Join(actions, " "); got != "create signing-secret signing-secret" {
		t.Errorf("the trail of the key: %s", got)
	}
	for secret := range strings.Lines(secrets) {
		if strings.Contains(stdout, strings.TrimSpace(secret)) {
			t.Error("the trail holds a signing secret")
		}
	}
	if _, stderr, code := sh.auditCmd("verify"); code != 0 {
		t.Errorf("audit verify: %d %s", code, stderr)
	}
}

func TestCreateWithSigningPrintsBothSecretsOnce(t *testing.T) {
	sh := newSubjects(t)
	var made struct {
		keystore.KeyView
		Secret string `json:"signing_secret"`
	}
	sh.decode(sh.ok("apikey create --json --name ci --owner acme --scope crews:read --signing"), &made)
	if made.Key == "" || made.Secret == "" || sh.signing["key:"+made.ID] != made.Secret {
		t.Errorf("created %+v", made.ID)
	}
	text := sh.ok("apikey create --name ci --scope crews:read --signing")
	id := someID.FindString(text)
	if !strings.Contains(text, sh.signing["key:"+id]) || id == "" {
		t.Errorf("for people:\n%s", text)
	}
}

func TestResealSaysWhatItChanged(t *testing.T) {
	sh := newSubjects(t)
	if text := sh.ok("reseal --json"); text != `{"data_key":false,"second_factors":0,"signing_secrets":0}`+"\n" {
		t.Errorf("nothing to do: %s", text)
	}
	sh.resealed = keycli.Resealed{DataKey: true, Factors: 3, Signing: 2}
	if text := sh.ok("reseal --json"); text != `{"data_key":true,"second_factors":3,"signing_secrets":2}`+"\n" {
		t.Errorf("done: %s", text)
	}
	if text := sh.ok("reseal"); text != "The data key is sealed under the current master key; resealed 3 second factors and 2 signing secrets.\n" {
		t.Errorf("for people: %s", text)
	}
	sh.broken = errors.New("reseal signing secret of owner:b: it does not open")
	sh.fails(1, "owner:b", "reseal")
	sh.fails(2, "unknown command", "reseal now")
	sh.fails(2, "--force", "reseal --force")
}

func TestWithoutAMasterKeyNothingIsMade(t *testing.T) {
	sh := newSubjects(t)
	sh.noMaster = true
	id := sh.owned("acme")
	before := len(sh.records())
	for _, line := range []string{
		"totp enroll --owner acme", "totp confirm --owner acme --code 123456", "totp status --owner acme", "totp remove --owner acme",
		"signing-secret show --owner acme", "signing-secret rotate --key " + id, "apikey signing-secret " + id, "apikey signing-secret --rotate " + id,
		"apikey create --name x --scope crews:read --signing", "reseal",
	} {
		sh.fails(1, "master_key none", line)
	}
	if n := len(sh.records()); n != before {
		t.Errorf("a key was made without the signing secret that was asked for: %d keys, %d before", n, before)
	}
}
