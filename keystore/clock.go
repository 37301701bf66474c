package keystore

import "time"

// Clock is a Store that knows what time it is: a database that several machines
// share, and whose clock counts for all of them. What a record says of its end then
// holds at one moment everywhere, though the clock of one machine be an hour off.
type Clock interface {
	// Wall returns the time that it is everywhere at local, a moment by this
	// process's clock. It is local itself unless the two are known to differ, and
	// else has no monotonic part: it is for comparing with what is stored, not
	// for measuring how long something took.
	Wall(local time.Time) time.Time
}

// Wall returns what time it is for the store at local, a moment by this process's
// clock.
func Wall(s Store, local time.Time) time.Time {
	if c, ok := s.(Clock); ok {
		return c.Wall(local)
	}
	return local
}

// Wall is the function of the same name, for the Verifier's store.
func (v *Verifier) Wall(local time.Time) time.Time {
	if v.clock == nil {
		return local
	}
	return v.clock.Wall(local)
}

// wallNow is the time to judge by in the background.
func (v *Verifier) wallNow() time.Time { return v.Wall(v.now()) }

// reportClock logs when the store's clock and this machine's begin to differ, or
// cease to. It belongs to the feed.
func (v *Verifier) reportClock() {
	local := v.now()
	ahead := local.Round(0).Sub(v.Wall(local).Round(0))
	switch wrong := ahead != 0; {
	case wrong && !v.clockWrong:
		v.log().Warn("the clocks of this machine and of the keystore's database differ: the database's counts for expiry, tokens and second factors",
			"machine_ahead_by", ahead.Round(time.Millisecond))
	case !wrong && v.clockWrong:
		v.log().Info("the clocks of this machine and of the keystore's database agree again")
	}
	v.clockWrong = ahead != 0
}
