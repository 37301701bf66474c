package totp_test

import (
	"bytes"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp"

	"github.com/hivegate/hivegate/internal/sealed"
	"github.com/hivegate/hivegate/internal/totp"
	"github.com/hivegate/hivegate/internal/totp/totptest"
)

func TestAnEnrolmentIsReplacedUntilItIsConfirmed(t *testing.T) {
	f := newFactors(t, totptest.NewMemory())
	first, err := f.Enroll(t.Context(), epoch, subject)
	if err != nil {
		t.Fatal(err)
	}
	second := enroll(t, f, subject)
	if first.Secret == second.Secret {
		t.Error("two enrolments share a secret")
	}
	if _, err := f.Enroll(t.Context(), epoch, subject); !errors.Is(err, totp.ErrConfirmed) {
		t.Errorf("enroll over a factor in force: %v", err)
	}
	now := epoch.Add(time.Minute)
	want(t, "the replaced secret", verify(t, f, now, subject, code(t, first.Secret, now)), totp.Invalid)
	want(t, "the secret in force", verify(t, f, now, subject, code(t, second.Secret, now)), totp.OK)
	if err := f.Remove(t.Context(), subject); err != nil {
		t.Fatal(err)
	}
	want(t, "removed", verify(t, f, now, subject, code(t, second.Secret, now)), totp.Required)
	if err := f.Remove(t.Context(), subject); !errors.Is(err, totp.ErrNotEnrolled) {
		t.Errorf("remove again: %v", err)
	}
	if _, err := f.Status(t.Context(), now, subject); !errors.Is(err, totp.ErrNotEnrolled) {
		t.Errorf("status of a removed factor: %v", err)
	}
}

func TestAnEnrolmentSaysWhatAuthenticatorsNeed(t *testing.T) {
	f := newFactors(t, totptest.NewMemory())
	for _, subject := range []string{"owner:acme", "jwt:supabase:7b/x?y#z", "owner:ü & b"} {
		e, err := f.Enroll(t.Context(), epoch, subject)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Secret)
		if err != nil || len(raw) != 20 {
			t.Errorf("secret %q: %d bytes, %v", e.Secret, len(raw), err)
		}
		u, err := url.Parse(e.URI)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/hivegate:"+subject || u.Fragment != "" ||
			q.Get("secret") != e.Secret || q.Get("issuer") != "hivegate" || q.Get("digits") != "6" || q.Get("period") != "30" || q.Get("algorithm") != "SHA1" {
			t.Errorf("URI %s", e.URI)
		}
		key, err := otp.NewKeyFromURL(e.URI)
		if err != nil || key.AccountName() != subject || key.Issuer() != "hivegate" || key.Secret() != e.Secret {
			t.Errorf("URI %s is read as %v, %v", e.URI, key, err)
		}
		if len(e.RecoveryCodes) != 8 || e.Subject != subject {
			t.Errorf("%+v", e)
		}
	}
}

func TestAtRestNothingOfASecretIsReadable(t *testing.T) {
	store := totptest.NewMemory()
	f := newFactors(t, store)
	e := enroll(t, f, subject)
	s, err := store.Load(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(e.Secret)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Recovery {
		kept = append(kept, r.Digest...)
	}
	kept = append(kept, s.Sealed...)
	for _, secret := range append([]string{e.Secret, string(raw)}, e.RecoveryCodes...) {
		if bytes.Contains(kept, []byte(secret)) {
			t.Errorf("%q is kept in clear", secret)
		}
	}
	// Without the master key it does not open, and that is an error, not a pass.
	stranger, err := totp.New(store, newRing(100), dataKey)
	if err != nil {
		t.Fatal(err)
	}
	out, err := stranger.Verify(t.Context(), epoch.Add(time.Minute), subject, []string{"123456"})
	if !errors.Is(err, sealed.ErrOtherKey) || out.Result == totp.OK {
		t.Errorf("without the master key: %+v, %v", out, err)
	}
}

func TestASecretThatIsCopiedToAnotherRecordDoesNotOpen(t *testing.T) {
	store := totptest.NewMemory()
	f := newFactors(t, store)
	e := enroll(t, f, "owner:mallory")
	s, err := store.Load(t.Context(), "owner:mallory")
	if err != nil {
		t.Fatal(err)
	}
	if done, err := store.Swap(t.Context(), subject, "", s); err != nil || !done {
		t.Fatal(done, err)
	}
	now := epoch.Add(time.Minute)
	out, err := f.Verify(t.Context(), now, subject, []string{code(t, e.Secret, now)})
	if !errors.Is(err, sealed.ErrDamaged) || out.Result == totp.OK {
		t.Errorf("%+v, %v", out, err)
	}
	want(t, "a copied recovery code", verify(t, f, now, subject, e.RecoveryCodes[0]), totp.Invalid)
}

func TestResealingLetsTheOldMasterKeyGo(t *testing.T) {
	store := totptest.NewMemory()
	secrets := map[string]string{}
	for i := range 250 { // more than two pages
		s := fmt.Sprintf("owner:%03d", i)
		secrets[s] = enroll(t, newFactors(t, store), s).Secret
	}
	both := newRing(50)
	both.Old = [][32]byte{ring.Primary}
	f, err := totp.New(store, both, dataKey)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.ResealAll(t.Context()); err != nil || n != 250 {
		t.Fatalf("resealed %d, %v", n, err)
	}
	if n, err := f.ResealAll(t.Context()); err != nil || n != 0 {
		t.Fatalf("resealed %d again, %v", n, err)
	}
	alone, err := totp.New(store, newRing(50), dataKey)
	if err != nil {
		t.Fatal(err)
	}
	now := epoch.Add(time.Minute)
	for s, secret := range secrets {
		want(t, s, verify(t, alone, now, s, code(t, secret, now)), totp.OK)
	}
	if n, err := newFactors(t, store).ResealAll(t.Context()); n != 0 || !errors.Is(err, sealed.ErrOtherKey) {
		t.Errorf("with the old key alone: %d, %v", n, err)
	}
}

func TestAQRCodeIsDrawnWholeAndSquare(t *testing.T) {
	var a, b bytes.Buffer
	if err := totp.QR(&a, "otpauth://totp/hivegate:owner:a?secret=AAAA"); err != nil {
		t.Fatal(err)
	}
	if err := totp.QR(&b, "otpauth://totp/hivegate:owner:b?secret=AAAA"); err != nil {
		t.Fatal(err)
	}
	if a.String() == b.String() {
		t.Error("two URIs have one drawing")
	}
	lines := strings.Split(strings.TrimRight(a.String(), "\n"), "\n")
	width := len([]rune(lines[0]))
	for i, line := range lines {
		if len([]rune(line)) != width || strings.Trim(line, "█▀▄ ") != "" {
			t.Errorf("line %d is %q", i, line)
		}
	}
	if n := len(lines) * 2; n < width || n > width+2 {
		t.Errorf("%d columns by %d half rows", width, n)
	}
	if err := totp.QR(&a, strings.Repeat("x", 3000)); err == nil {
		t.Error("a text that does not fit is drawn")
	}
	if err := totp.QR(failing{}, "otpauth://totp/x"); !errors.Is(err, errFull) {
		t.Errorf("a writer that fails: %v", err)
	}
	if err := totp.QR(&a, strings.Repeat("x", 2900)); err != nil {
		t.Errorf("the longest text: %v", err)
	}
}

var errFull = errors.New("disk full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }
