package totptest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
)

// codeAt is the code of a secret at a time, as an authenticator app shows it.
func codeAt(t *testing.T, secret string, now time.Time) string {
	t.Helper()
	code, err := totp.GenerateCodeCustom(secret, now, totp.ValidateOpts{Period: 30, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// wrongCode is a code that is wrong within an hour of now.
func wrongCode(t *testing.T, secret string, now time.Time) string {
	t.Helper()
	right := map[string]bool{}
	for step := -120; step <= 120; step++ {
		right[codeAt(t, secret, now.Add(time.Duration(step)*30*time.Second))] = true
	}
	for i := 0; ; i++ {
		if code := fmt.Sprintf("%06d", i); !right[code] {
			return code
		}
	}
}

// plainSealer binds to the additional data and hides nothing: the suite is about
// stores.
type plainSealer struct{}

func (plainSealer) Seal(plain, ad []byte) ([]byte, error) {
	return bytes.Join([][]byte{ad, plain}, []byte{0xff}), nil
}

func (plainSealer) Open(sealed, ad []byte) ([]byte, error) {
	plain, ok := bytes.CutPrefix(sealed, append(bytes.Clone(ad), 0xff))
	if !ok {
		return nil, errors.New("sealed for another record")
	}
	return plain, nil
}

func (plainSealer) Reseal(sealed, _ []byte) ([]byte, bool, error) { return sealed, false, nil }
