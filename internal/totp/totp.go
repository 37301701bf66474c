package totp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hivegate/hivegate/internal/refusal"
)

// Header is the request header that holds a code.
const Header = "X-Security-Code"

// maxTries bounds the compare-and-sets of one decision. Between two of them
// somebody else's must have passed, and those are few: see the package comment.
const maxTries = 64

// minDataKey is the length of a data key in bytes.
const minDataKey = 32

// Sealer seals secrets; a sealed.Ring is one.
type Sealer interface {
	// Seal seals plain for the record that ad names.
	Seal(plain, ad []byte) ([]byte, error)
	// Open opens what was sealed under the current or an old master key for the
	// same record.
	Open(sealed, ad []byte) ([]byte, error)
	// Reseal seals again, under the current master key, what an old one has
	// sealed, and reports whether it had to.
	Reseal(sealed, ad []byte) ([]byte, bool, error)
}

// Factors are the second factors of all subjects in a store. It is safe for
// concurrent use, and keeps nothing in memory.
type Factors struct {
	store   Store
	sealer  Sealer
	dataKey []byte
}

// New returns the factors in a store. dataKey (32 bytes) keys the digests of
// recovery codes.
func New(store Store, sealer Sealer, dataKey []byte) (*Factors, error) {
	if len(dataKey) < minDataKey {
		return nil, fmt.Errorf("second factors need a data key of %d bytes: give a master_key", minDataKey)
	}
	return &Factors{store: store, sealer: sealer, dataKey: bytes.Clone(dataKey)}, nil
}

// Result is how a code was judged.
type Result uint8

// The results. The zero value is a refusal.
const (
	// Required: no code was sent, or the subject has no confirmed factor.
	Required Result = iota
	// Invalid: malformed, wrong, too old, or used before.
	Invalid
	// Locked: too many wrong codes; this one was not judged.
	Locked
	// OK: the code was right, and is used up.
	OK
)

// The methods, as the header X-Auth-Second-Factor names them.
const (
	MethodTOTP     = "totp"
	MethodRecovery = "recovery"
)

// Outcome is the answer to a code.
type Outcome struct {
	Result Result
	// Method is how an OK was reached: MethodTOTP or MethodRecovery; empty from
	// [Present] and for refusals.
	Method string
	// RetryAfter is how long a Locked factor stays so.
	RetryAfter time.Duration
	// NotEnrolled says of Required that no code could help: the subject has no
	// confirmed factor.
	NotEnrolled bool
	// RecoveryLeft is how many recovery codes are left after an OK.
	RecoveryLeft int
}

// Refusal returns what to answer, nil for OK.
func (o Outcome) Refusal() *refusal.Refusal {
	switch o.Result {
	case OK:
		return nil
	case Locked:
		seconds := int((o.RetryAfter + time.Second - 1) / time.Second)
		return &refusal.Refusal{Reason: refusal.ReasonSecondFactorLocked, Numbers: refusal.Numbers{RetryAfter: max(1, seconds)}}
	case Invalid:
		return &refusal.Refusal{Reason: refusal.ReasonSecondFactorInvalid}
	}
	r := &refusal.Refusal{Reason: refusal.ReasonSecondFactorRequired}
	if o.NotEnrolled {
		r.Hint = "this caller has no second factor: have one set up with 'hivegate totp enroll' and 'hivegate totp confirm'"
	}
	return r
}

// Present judges a code for a backend that checks it itself: exactly one value
// of six ASCII digits is OK. Nothing is looked up, and nothing used up.
func Present(values []string) Outcome {
	switch _, shape := shapeOf(values); shape {
	case shapeDigits:
		return Outcome{Result: OK}
	case shapeNone:
		return Outcome{Result: Required}
	}
	return Outcome{Result: Invalid}
}

// Verify judges the values of the header [Header] (nil: it was not sent) for a
// subject. OK has used the code up. An error says that it could not be judged,
// and is a refusal too: the store is away, or the secret does not open.
func (f *Factors) Verify(ctx context.Context, now time.Time, subject string, values []string) (Outcome, error) {
	code, shape := shapeOf(values)
	switch {
	case shape == shapeNone:
		return Outcome{Result: Required}, nil
	case shape == shapeMalformed:
		return Outcome{Result: Invalid}, nil
	case !canHave(subject):
		return Outcome{Result: Required, NotEnrolled: true}, nil
	}
	out, err := f.decide(ctx, subject, func(s *State) (Outcome, *State, error) {
		if !s.Confirmed {
			return Outcome{Result: Required, NotEnrolled: true}, nil, nil
		}
		return f.judge(now, subject, s, code, shape)
	})
	if errors.Is(err, ErrNotEnrolled) {
		return Outcome{Result: Required, NotEnrolled: true}, nil
	}
	if err != nil {
		return Outcome{}, fmt.Errorf("verify security code: %w", err)
	}
	return out, nil
}

// judge holds a code against a state.
func (f *Factors) judge(now time.Time, subject string, s *State, code string, shape shape) (Outcome, *State, error) {
	g := guess{recovery: -1}
	// While it is locked a code is not even compared.
	if s.locked(now) == 0 {
		if shape == shapeRecovery {
			g.recovery = s.findRecovery(recoveryDigest(f.dataKey, subject, code))
		} else {
			secret, err := f.open(subject, s)
			if err != nil {
				return Outcome{}, nil, err
			}
			if g.steps, err = matching(secret, code, now); err != nil {
				return Outcome{}, nil, err
			}
		}
	}
	out, next := s.step(now, g)
	return out, next, nil
}

// decide loads a state, hands it to fn and stores what fn makes of it (nil:
// nothing to store), again until nobody was faster. The outcome counts only once
// it is stored.
func (f *Factors) decide(ctx context.Context, subject string, fn func(*State) (Outcome, *State, error)) (Outcome, error) {
	for range maxTries {
		s, err := f.store.Load(ctx, subject)
		if err != nil {
			return Outcome{}, fmt.Errorf("load second factor: %w", err)
		}
		out, next, err := fn(s)
		if err != nil || next == nil {
			return out, err
		}
		done, err := f.store.Swap(ctx, subject, s.Version, next)
		if err != nil {
			return Outcome{}, fmt.Errorf("store second factor: %w", err)
		}
		if done {
			return out, nil
		}
	}
	return Outcome{}, fmt.Errorf("store second factor: it was changed %d times meanwhile", maxTries)
}

// CheckSubject says whether a subject can have a second factor: an owner, a key
// or the subject of a JWT. Addresses cannot.
func CheckSubject(subject string) error {
	if !canHave(subject) {
		return fmt.Errorf("%q cannot have a second factor: write owner:…, key:… or jwt:<issuer>:<sub>, without control characters", subject)
	}
	return nil
}

func canHave(subject string) bool {
	if !utf8.ValidString(subject) || strings.IndexFunc(subject, unicode.IsControl) >= 0 {
		return false
	}
	kind, rest, _ := strings.Cut(subject, ":")
	return rest != "" && (kind == "owner" || kind == "key" || kind == "jwt")
}

// open returns the secret of a state, as base32 text.
func (f *Factors) open(subject string, s *State) (string, error) {
	plain, err := f.sealer.Open(s.Sealed, sealedFor(subject))
	if err != nil {
		return "", fmt.Errorf("open second factor: %w", err)
	}
	return string(plain), nil
}

// sealedFor is the additional data of a subject's sealed secret: it opens in no
// other record, and nothing else that is sealed opens here.
func sealedFor(subject string) []byte { return []byte("totp\x00" + subject) }
