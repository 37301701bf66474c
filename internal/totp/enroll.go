package totp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
)

// issuer is the name under which authenticator apps show an account.
const issuer = "hivegate"

// secretBytes is the length of a secret: that of SHA-1's result (RFC 4226
// section 4, R6, recommends 160 bits).
const secretBytes = 20

// ErrConfirmed says that the subject has a factor that is in force.
var ErrConfirmed = errors.New("a confirmed second factor is in force: remove it first")

// Enrolment is a new factor, the only time its secrets are shown.
type Enrolment struct {
	Subject string
	// Secret is base32 without padding.
	Secret string
	// URI is what authenticator apps scan: otpauth://totp/hivegate:SUBJECT?…
	URI string
	// RecoveryCodes are eight of the form xxxxx-xxxxx-xxxxx, each good once.
	RecoveryCodes []string
}

// Status is what may be shown of a factor.
type Status struct {
	Subject   string
	Confirmed bool
	// RecoveryLeft is how many recovery codes are unused.
	RecoveryLeft int
	// LockedUntil is zero unless the factor is locked now.
	LockedUntil time.Time
	EnrolledAt  time.Time
	ConfirmedAt time.Time // zero: not confirmed
	// LastUsedAt is the beginning of the last accepted step; zero: none.
	LastUsedAt time.Time
}

// Enroll makes a factor for a subject. It counts once [Factors.Confirm] has seen
// a code. One that was never confirmed is replaced; where one is in force,
// ErrConfirmed.
func (f *Factors) Enroll(ctx context.Context, now time.Time, subject string) (*Enrolment, error) {
	if err := CheckSubject(subject); err != nil {
		return nil, err
	}
	e, s, err := f.newFactor(now, subject)
	if err != nil {
		return nil, fmt.Errorf("enroll second factor: %w", err)
	}
	for range maxTries {
		version := ""
		switch old, err := f.store.Load(ctx, subject); {
		case errors.Is(err, ErrNotEnrolled):
		case err != nil:
			return nil, fmt.Errorf("load second factor: %w", err)
		case old.Confirmed:
			return nil, ErrConfirmed
		default:
			version = old.Version
		}
		done, err := f.store.Swap(ctx, subject, version, s)
		if err != nil {
			return nil, fmt.Errorf("store second factor: %w", err)
		}
		if done {
			return e, nil
		}
	}
	return nil, fmt.Errorf("store second factor: it was changed %d times meanwhile", maxTries)
}

func (f *Factors) newFactor(now time.Time, subject string) (*Enrolment, *State, error) {
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer: issuer, AccountName: subject, Period: period, SecretSize: secretBytes,
		Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1, Rand: rand.Reader,
	})
	if err != nil {
		return nil, nil, err
	}
	e := &Enrolment{Subject: subject, Secret: key.Secret(), URI: key.URL()}
	s := &State{Version: rand.Text(), EnrolledAt: now.UTC().Truncate(time.Microsecond)}
	if s.Sealed, err = f.sealer.Seal([]byte(e.Secret), sealedFor(subject)); err != nil {
		return nil, nil, fmt.Errorf("seal secret: %w", err)
	}
	for range recoveryCodes {
		code := newRecovery()
		e.RecoveryCodes = append(e.RecoveryCodes, code)
		s.Recovery = append(s.Recovery, Recovery{Digest: recoveryDigest(f.dataKey, subject, code)})
	}
	return e, s, nil
}

// Confirm puts a factor in force, when code is right: six digits, which are used
// up. Wrong codes are counted and lock as in [Factors.Verify]; recovery codes
// are Invalid here. Errors: ErrNotEnrolled, ErrConfirmed.
func (f *Factors) Confirm(ctx context.Context, now time.Time, subject, code string) (Outcome, error) {
	if err := CheckSubject(subject); err != nil {
		return Outcome{}, err
	}
	_, shape := shapeOf([]string{code})
	return f.decide(ctx, subject, func(s *State) (Outcome, *State, error) {
		switch {
		case s.Confirmed:
			return Outcome{}, nil, ErrConfirmed
		case shape != shapeDigits:
			return Outcome{Result: Invalid}, nil, nil
		}
		out, next, err := f.judge(now, subject, s, code, shape)
		if err == nil && out.Result == OK {
			next.Confirmed, next.ConfirmedAt = true, now.UTC().Truncate(time.Microsecond)
		}
		return out, next, err
	})
}

// Status returns what may be shown of a subject's factor, or ErrNotEnrolled.
func (f *Factors) Status(ctx context.Context, now time.Time, subject string) (*Status, error) {
	s, err := f.store.Load(ctx, subject)
	if err != nil {
		return nil, fmt.Errorf("load second factor: %w", err)
	}
	st := &Status{
		Subject: subject, Confirmed: s.Confirmed, RecoveryLeft: s.recoveryLeft(),
		EnrolledAt: s.EnrolledAt, ConfirmedAt: s.ConfirmedAt,
	}
	if s.locked(now) > 0 {
		st.LockedUntil = s.LockedUntil
	}
	if s.LastStep > 0 {
		st.LastUsedAt = time.Unix(s.LastStep*period, 0).UTC()
	}
	return st, nil
}

// Remove removes a subject's factor, with its lock; routes that ask for one then
// refuse the subject. ErrNotEnrolled where there is none.
func (f *Factors) Remove(ctx context.Context, subject string) error {
	_, err := f.change(ctx, subject, func(*State) (*State, error) { return nil, nil })
	return err
}

// Reseal seals a subject's secret under the current master key, and reports
// whether it had to. ErrNotEnrolled where there is no factor.
func (f *Factors) Reseal(ctx context.Context, subject string) (bool, error) {
	return f.change(ctx, subject, func(s *State) (*State, error) {
		fresh, changed, err := f.sealer.Reseal(s.Sealed, sealedFor(subject))
		if err != nil {
			return nil, fmt.Errorf("reseal second factor of %s: %w", subject, err)
		}
		if !changed {
			return s, nil
		}
		next := s.next()
		next.Sealed = fresh
		return next, nil
	})
}

// ResealAll reseals the secrets of all subjects. It goes on after one that does
// not open, and returns how many it changed with all errors.
func (f *Factors) ResealAll(ctx context.Context) (changed int, err error) {
	const page = 100
	var failed []error
	for after := ""; ; {
		subjects, err := f.store.Subjects(ctx, after, page)
		if err != nil {
			return changed, errors.Join(append(failed, fmt.Errorf("list second factors: %w", err))...)
		}
		if len(subjects) == 0 {
			return changed, errors.Join(failed...)
		}
		for _, subject := range subjects {
			did, err := f.Reseal(ctx, subject)
			if did {
				changed++
			}
			// One that was removed meanwhile needs nothing.
			if err != nil && !errors.Is(err, ErrNotEnrolled) {
				failed = append(failed, err)
			}
		}
		after = subjects[len(subjects)-1]
	}
}

// change replaces a state by what fn makes of it: the same to leave it, nil to
// remove it. It reports whether anything changed.
func (f *Factors) change(ctx context.Context, subject string, fn func(*State) (*State, error)) (bool, error) {
	for range maxTries {
		s, err := f.store.Load(ctx, subject)
		if err != nil {
			return false, fmt.Errorf("load second factor: %w", err)
		}
		next, err := fn(s)
		if err != nil || next == s {
			return false, err
		}
		done, err := f.store.Swap(ctx, subject, s.Version, next)
		if err != nil {
			return false, fmt.Errorf("store second factor: %w", err)
		}
		if done {
			return true, nil
		}
	}
	return false, fmt.Errorf("store second factor: it was changed %d times meanwhile", maxTries)
}
