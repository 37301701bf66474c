package limiter

import (
	"errors"
	"fmt"
)

// ErrUnavailable is what a decision fails with while shared counters are away
// and the request is to be denied then. The cause is wrapped beside it.
var ErrUnavailable = errors.New("the shared counters are away")

// OnFailure says what becomes of a request while shared counters are away. A
// limiter that is always there ignores it.
type OnFailure uint8

// What may become of a request while shared counters are away.
const (
	// FailDefault is what the limiter was configured with.
	FailDefault OnFailure = iota
	// FailLocal decides with this process's own counters alone.
	FailLocal
	// FailDeny fails with ErrUnavailable.
	FailDeny
	// FailAllow lets the request through.
	FailAllow
)

// ParseOnFailure reads local, deny or allow; an empty text is FailDefault. The
// error says what to write instead.
func ParseOnFailure(s string) (OnFailure, error) {
	switch s {
	case "":
		return FailDefault, nil
	case "local":
		return FailLocal, nil
	case "deny":
		return FailDeny, nil
	case "allow":
		return FailAllow, nil
	}
	return 0, fmt.Errorf("on_failure %s is unknown: write local, deny or allow", quote(s))
}

// String is the word that ParseOnFailure reads.
func (f OnFailure) String() string {
	switch f {
	case FailLocal:
		return "local"
	case FailDeny:
		return "deny"
	case FailAllow:
		return "allow"
	}
	return ""
}
