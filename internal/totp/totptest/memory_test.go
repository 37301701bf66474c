package totptest

import (
	"testing"

	"github.com/hivegate/hivegate/internal/totp"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) totp.Store { return NewMemory() })
}
