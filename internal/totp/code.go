package totp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
)

const (
	digits = 6
	// period is the length of a step in seconds (RFC 6238 section 4.1).
	period = 30
	// skew is how many steps before and after the current one are taken (RFC
	// 6238 section 5.2 advises one).
	skew = 1

	// recoveryCodes are made per factor, of recoveryParts groups of
	// recoveryPart characters of base32: 75 bits.
	recoveryCodes = 8
	recoveryParts = 3
	recoveryPart  = 5
	recoveryLen   = recoveryParts*recoveryPart + recoveryParts - 1
)

// shape is what a header value looks like.
type shape uint8

const (
	shapeNone      shape = iota // no header
	shapeMalformed              // anything that is no code, or several values
	shapeDigits                 // six ASCII digits
	shapeRecovery               // xxxxx-xxxxx-xxxxx
)

// shapeOf judges the values of the header, without changing them: no trimming,
// no other digits than ASCII's.
func shapeOf(values []string) (string, shape) {
	switch {
	case len(values) == 0:
		return "", shapeNone
	case len(values) > 1:
		return "", shapeMalformed
	case isDigits(values[0]):
		return values[0], shapeDigits
	case isRecovery(values[0]):
		return values[0], shapeRecovery
	}
	return "", shapeMalformed
}

func isDigits(s string) bool {
	if len(s) != digits {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func isRecovery(s string) bool {
	if len(s) != recoveryLen {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i%(recoveryPart+1) == recoveryPart {
			if c != '-' {
				return false
			}
			continue
		}
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// newRecovery makes a recovery code.
func newRecovery() string {
	s := strings.ToLower(rand.Text())
	parts := make([]string, recoveryParts)
	for i := range parts {
		parts[i] = s[i*recoveryPart : (i+1)*recoveryPart]
	}
	return strings.Join(parts, "-")
}

// recoveryDigest is what is kept of a recovery code: HMAC-SHA256 under the data
// key over a label, the subject and the code in lower case. No API key, whose
// HMAC is made under the same key, holds a NUL.
func recoveryDigest(dataKey []byte, subject, code string) []byte {
	mac := hmac.New(sha256.New, dataKey)
	for _, part := range []string{"totp recovery", subject, strings.ToLower(code)} {
		mac.Write([]byte(part))
		mac.Write([]byte{0})
	}
	return mac.Sum(nil)
}

// stepAt is the step of a time (RFC 6238 section 4.2: T).
func stepAt(now time.Time) int64 {
	step := now.Unix() / period
	if now.Unix()%period < 0 {
		step--
	}
	return step
}

// matching returns the steps around now whose code is code, ascending. All of
// them are compared, each in constant time. code must have its exact shape.
func matching(secret, code string, now time.Time) ([]int64, error) {
	current := stepAt(now)
	var steps []int64
	for step := max(0, current-skew); step <= current+skew; step++ {
		want, err := hotp.GenerateCodeCustom(secret, uint64(step), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return nil, fmt.Errorf("make code: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			steps = append(steps, step)
		}
	}
	return steps, nil
}
