package totp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp"
	pquerna "github.com/pquerna/otp/totp"

	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/internal/sealed"
	"github.com/hivegate/hivegate/internal/totp"
	"github.com/hivegate/hivegate/internal/totp/totptest"
)

const subject = "owner:acme"

var (
	epoch   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ring    = newRing(1)
	dataKey = bytes.Repeat([]byte{9}, 32)
)

func newRing(n byte) sealed.Ring {
	var r sealed.Ring
	for i := range r.Primary {
		r.Primary[i] = n + byte(i)
	}
	return r
}

// counting counts the calls of a store, and fails where told to.
type counting struct {
	totp.Store
	loads, swaps atomic.Int64
	err          error
}

func (c *counting) Load(ctx context.Context, subject string) (*totp.State, error) {
	c.loads.Add(1)
	if c.err != nil {
		return nil, c.err
	}
	return c.Store.Load(ctx, subject)
}

func (c *counting) Swap(ctx context.Context, subject, old string, next *totp.State) (bool, error) {
	c.swaps.Add(1)
	return c.Store.Swap(ctx, subject, old, next)
}

func newFactors(t testing.TB, store totp.Store) *totp.Factors {
	t.Helper()
	f, err := totp.New(store, ring, dataKey)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func enroll(t testing.TB, f *totp.Factors, subject string) *totp.Enrolment {
	t.Helper()
	e, err := f.Enroll(t.Context(), epoch, subject)
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.Confirm(t.Context(), epoch, subject, code(t, e.Secret, epoch))
	if err != nil || out.Result != totp.OK {
		t.Fatalf("Confirm: %+v, %v", out, err)
	}
	return e
}

func code(t testing.TB, secret string, now time.Time) string {
	t.Helper()
	c, err := pquerna.GenerateCodeCustom(secret, now, pquerna.ValidateOpts{Period: 30, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wrong is a code that is wrong at now.
func wrong(t testing.TB, secret string, now time.Time) string {
	t.Helper()
	right := ""
	for step := -3; step <= 3; step++ {
		right += code(t, secret, now.Add(time.Duration(step)*30*time.Second)) + " "
	}
	for i := 0; ; i++ {
		if c := fmt.Sprintf("%06d", i); !strings.Contains(right, c) {
			return c
		}
	}
}

func verify(t testing.TB, f *totp.Factors, now time.Time, subject string, values ...string) totp.Outcome {
	t.Helper()
	out, err := f.Verify(t.Context(), now, subject, values)
	if err != nil {
		t.Fatalf("Verify(%q): %v", values, err)
	}
	return out
}

func want(t testing.TB, what string, out totp.Outcome, result totp.Result) {
	t.Helper()
	if out.Result != result {
		t.Errorf("%s: %+v, want result %d", what, out, result)
	}
}

func TestOnlyAConfirmedFactorCounts(t *testing.T) {
	f := newFactors(t, totptest.NewMemory())
	want(t, "no factor", verify(t, f, epoch, subject, "123456"), totp.Required)
	e, err := f.Enroll(t.Context(), epoch, subject)
	if err != nil {
		t.Fatal(err)
	}
	c := code(t, e.Secret, epoch)
	for _, value := range []string{c, e.RecoveryCodes[0]} {
		if out := verify(t, f, epoch, subject, value); out.Result != totp.Required || !out.NotEnrolled {
			t.Errorf("before confirm: %+v", out)
		}
	}
	for _, value := range []string{e.RecoveryCodes[0], "12345", "", wrong(t, e.Secret, epoch)} {
		out, err := f.Confirm(t.Context(), epoch, subject, value)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "confirm with "+value, out, totp.Invalid)
	}
	out, err := f.Confirm(t.Context(), epoch, subject, c)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "confirm", out, totp.OK)
	want(t, "the code that confirm saw", verify(t, f, epoch, subject, c), totp.Invalid)
	next := epoch.Add(30 * time.Second)
	if out := verify(t, f, next, subject, code(t, e.Secret, next)); out.Result != totp.OK || out.Method != totp.MethodTOTP || out.RecoveryLeft != 8 {
		t.Errorf("the next code: %+v", out)
	}
	if _, err := f.Confirm(t.Context(), next, subject, c); !errors.Is(err, totp.ErrConfirmed) {
		t.Errorf("confirm again: %v", err)
	}
	if _, err := f.Confirm(t.Context(), next, "owner:other", c); !errors.Is(err, totp.ErrNotEnrolled) {
		t.Errorf("confirm of nobody: %v", err)
	}
}

func TestACodeIsGoodOnceAcrossRestarts(t *testing.T) {
	store := totptest.NewMemory()
	e := enroll(t, newFactors(t, store), subject)
	now := epoch.Add(time.Minute)
	c := code(t, e.Secret, now)
	want(t, "first", verify(t, newFactors(t, store), now, subject, c), totp.OK)
	for range 10 {
		want(t, "again", verify(t, newFactors(t, store), now, subject, c), totp.Invalid)
	}
	// The code of an earlier step is still within the skew, but no longer good.
	want(t, "an earlier step", verify(t, newFactors(t, store), now, subject, code(t, e.Secret, now.Add(-30*time.Second))), totp.Invalid)
	want(t, "a later step", verify(t, newFactors(t, store), now, subject, code(t, e.Secret, now.Add(30*time.Second))), totp.OK)
	st, err := newFactors(t, store).Status(t.Context(), now, subject)
	if err != nil || !st.LockedUntil.IsZero() || !st.LastUsedAt.Equal(now.Add(30*time.Second)) {
		t.Errorf("replays lock, or the last step is lost: %+v, %v", st, err)
	}
}

func TestMalformedCodesTouchNothing(t *testing.T) {
	store := &counting{Store: totptest.NewMemory()}
	f := newFactors(t, store)
	e := enroll(t, f, subject)
	before, err := store.Load(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	store.loads.Store(0)
	store.swaps.Store(0)
	now := epoch.Add(time.Minute)
	c := code(t, e.Secret, now)
	r := e.RecoveryCodes[0]
	for _, values := range [][]string{
		{""}, {c[:5]}, {c + "0"}, {"00" + c}, {" " + c}, {c + " "}, {c[:3] + " " + c[3:]}, {"+" + c[:5]}, {"+" + c}, {"-" + c[1:]},
		{"١٢٣٤٥٦"}, {arabic(c)}, {"abcdef"}, {c, c}, {c, ""}, {c + "," + c}, {c + "\n"}, {"0" + c}, {strings.ReplaceAll(r, "-", "")}, {r + "-"}, {" " + r}, {r, c},
	} {
		for range 6 {
			want(t, fmt.Sprintf("%q", values), verify(t, f, now, subject, values...), totp.Invalid)
		}
	}
	want(t, "no header", verify(t, f, now, subject), totp.Required)
	if store.loads.Load() != 0 || store.swaps.Load() != 0 {
		t.Errorf("malformed codes cost %d loads and %d swaps", store.loads.Load(), store.swaps.Load())
	}
	after, err := store.Store.Load(t.Context(), subject)
	if err != nil || after.Version != before.Version {
		t.Errorf("the state changed: %+v, %v", after, err)
	}
	want(t, "the right code", verify(t, f, now, subject, c), totp.OK)
}

// arabic writes a code in Arabic-Indic digits.
func arabic(code string) string {
	var b strings.Builder
	for _, c := range code {
		b.WriteRune('٠' + c - '0')
	}
	return b.String()
}

func TestALockOfOneSubjectNeverTouchesAnother(t *testing.T) {
	f := newFactors(t, totptest.NewMemory())
	a, b := enroll(t, f, subject), enroll(t, f, "owner:other")
	now := epoch.Add(time.Minute)
	for range 5 {
		want(t, "wrong", verify(t, f, now, subject, wrong(t, a.Secret, now)), totp.Invalid)
	}
	want(t, "locked, right", verify(t, f, now, subject, code(t, a.Secret, now)), totp.Locked)
	want(t, "locked, recovery", verify(t, f, now, subject, a.RecoveryCodes[0]), totp.Locked)
	want(t, "other", verify(t, f, now, "owner:other", code(t, b.Secret, now)), totp.OK)
	later := now.Add(totp.LockTime)
	want(t, "after the lock", verify(t, f, later, subject, code(t, a.Secret, later)), totp.OK)
}

func TestWrongRecoveryCodesCountAsAttempts(t *testing.T) {
	f := newFactors(t, totptest.NewMemory())
	e := enroll(t, f, subject)
	for range 5 {
		want(t, "wrong", verify(t, f, epoch, subject, "aaaaa-aaaaa-aaaaa"), totp.Invalid)
	}
	want(t, "locked", verify(t, f, epoch, subject, e.RecoveryCodes[0]), totp.Locked)
}

func TestRecoveryCodesPassOnceInEitherCase(t *testing.T) {
	f := newFactors(t, totptest.NewMemory())
	e := enroll(t, f, subject)
	other := enroll(t, f, "owner:other")
	for i, c := range e.RecoveryCodes {
		if i%2 == 0 {
			c = strings.ToUpper(c)
		}
		out := verify(t, f, epoch, subject, c)
		if out.Result != totp.OK || out.Method != totp.MethodRecovery || out.RecoveryLeft != 7-i {
			t.Errorf("code %d: %+v", i, out)
		}
		want(t, "again", verify(t, f, epoch, subject, e.RecoveryCodes[i]), totp.Invalid)
	}
	want(t, "another's", verify(t, f, epoch, subject, other.RecoveryCodes[0]), totp.Invalid)
	st, err := f.Status(t.Context(), epoch, subject)
	if err != nil || st.RecoveryLeft != 0 || !st.LockedUntil.IsZero() {
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestSubjectsWithoutAFactorOfTheirOwnNeverPass(t *testing.T) {
	store := &counting{Store: totptest.NewMemory()}
	f := newFactors(t, store)
	for _, s := range []string{"", "192.0.2.1", "2001:db8::/64", "owner:", "key:", "jwt:", "Owner:a", "owner:a\x00b", "owner:\xff"} {
		out := verify(t, f, epoch, s, "123456")
		if out.Result != totp.Required || !out.NotEnrolled {
			t.Errorf("%q: %+v", s, out)
		}
		if _, err := f.Enroll(t.Context(), epoch, s); err == nil {
			t.Errorf("%q is enrolled", s)
		}
		if _, err := f.Confirm(t.Context(), epoch, s, "123456"); err == nil {
			t.Errorf("%q is confirmed", s)
		}
	}
	if store.loads.Load() != 0 {
		t.Error("a look-up for a subject that cannot have a factor")
	}
	for _, s := range []string{"owner:a", "key:aB3", "jwt:supabase:7b", "owner:a b/ü"} {
		enroll(t, f, s)
	}
}

func TestAStoreThatIsAwayIsAnErrorAndNoPass(t *testing.T) {
	store := &counting{Store: totptest.NewMemory()}
	f := newFactors(t, store)
	e := enroll(t, f, subject)
	store.err = errors.New("connection refused")
	now := epoch.Add(time.Minute)
	for _, c := range []string{code(t, e.Secret, now), e.RecoveryCodes[0]} {
		out, err := f.Verify(t.Context(), now, subject, []string{c})
		if !errors.Is(err, store.err) || out.Result == totp.OK || out.Refusal() == nil {
			t.Errorf("%+v, %v", out, err)
		}
	}
	store.err = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out, err := f.Verify(ctx, now, subject, []string{code(t, e.Secret, now)}); !errors.Is(err, context.Canceled) || out.Result == totp.OK {
		t.Errorf("a caller that is gone: %+v, %v", out, err)
	}
	want(t, "afterwards", verify(t, f, now, subject, code(t, e.Secret, now)), totp.OK)
}

// stubborn never lets a swap pass: as if somebody were always faster.
type stubborn struct{ totp.Store }

func (stubborn) Swap(context.Context, string, string, *totp.State) (bool, error) { return false, nil }

func TestADecisionThatCannotBeStoredIsNoPass(t *testing.T) {
	store := totptest.NewMemory()
	e := enroll(t, newFactors(t, store), subject)
	f := newFactors(t, stubborn{store})
	now := epoch.Add(time.Minute)
	if out, err := f.Verify(t.Context(), now, subject, []string{code(t, e.Secret, now)}); err == nil || out.Result == totp.OK {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := f.Enroll(t.Context(), now, "owner:new"); err == nil {
		t.Error("an enrolment that was not stored is shown")
	}
	if err := f.Remove(t.Context(), subject); err == nil {
		t.Error("a removal that was not stored is reported as done")
	}
}

func TestOutcomesAreAnsweredAsTheyAre(t *testing.T) {
	for _, c := range []struct {
		out    totp.Outcome
		reason refusal.Reason
		retry  int
	}{
		{totp.Outcome{}, refusal.ReasonSecondFactorRequired, 0},
		{totp.Outcome{Result: totp.Required, NotEnrolled: true}, refusal.ReasonSecondFactorRequired, 0},
		{totp.Outcome{Result: totp.Invalid}, refusal.ReasonSecondFactorInvalid, 0},
		{totp.Outcome{Result: totp.Locked, RetryAfter: 5 * time.Minute}, refusal.ReasonSecondFactorLocked, 300},
		{totp.Outcome{Result: totp.Locked, RetryAfter: 299*time.Second + 1}, refusal.ReasonSecondFactorLocked, 300},
		{totp.Outcome{Result: totp.Locked, RetryAfter: time.Microsecond}, refusal.ReasonSecondFactorLocked, 1},
	} {
		r := c.out.Refusal()
		if r == nil || r.Reason != c.reason || r.Numbers.RetryAfter != c.retry {
			t.Errorf("%+v: %+v", c.out, r)
			continue
		}
		if c.out.NotEnrolled != strings.Contains(r.Hint, "totp enroll") {
			t.Errorf("%+v: hint %q", c.out, r.Hint)
		}
	}
	if r := (totp.Outcome{Result: totp.OK}).Refusal(); r != nil {
		t.Errorf("OK: %+v", r)
	}
}

func TestTheDataKeyMustBeWhole(t *testing.T) {
	for _, key := range [][]byte{nil, {}, make([]byte, 31)} {
		if _, err := totp.New(totptest.NewMemory(), ring, key); err == nil {
			t.Errorf("a data key of %d bytes is accepted", len(key))
		}
	}
}

func BenchmarkVerifyWrongCode(b *testing.B) {
	f := newFactors(b, totptest.NewMemory())
	e := enroll(b, f, subject)
	bad := []string{wrong(b, e.Secret, epoch)}
	now := epoch
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(10 * time.Minute) // never locked
		if _, err := f.Verify(b.Context(), now, subject, bad); err != nil {
			b.Fatal(err)
		}
	}
}
