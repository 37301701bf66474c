package totp

import (
	"context"
	"errors"
)

// ErrNotEnrolled says that the subject has no second factor.
var ErrNotEnrolled = errors.New("no second factor is enrolled")

// Store keeps the states of second factors, by subject. Implementations pass
// totptest. Subjects are compared byte for byte. A State that is handed out or
// taken is the other side's own: nothing is shared.
type Store interface {
	// Load returns the state of a subject, or ErrNotEnrolled.
	Load(ctx context.Context, subject string) (*State, error)
	// Swap replaces the state of a subject if the stored one still has the
	// version old, atomically over all that share the store. An empty old asks
	// that there be none yet; a nil next removes it. It reports whether it did.
	Swap(ctx context.Context, subject, old string, next *State) (bool, error)
	// Subjects returns subjects in ascending order of their bytes, those after
	// the given one (empty: from the first), at most limit of them.
	Subjects(ctx context.Context, after string, limit int) ([]string, error)
}
