package sqlstore

import (
	"sync/atomic"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

var _ keystore.Clock = (*Store)(nil)

const (
	// clockTolerance is how far this machine's clock may be from the database's and
	// still counts.
	clockTolerance = time.Second
	// clockSlack is how far two measurements may be apart and still agree.
	clockSlack = 50 * time.Millisecond
)

// wallClock is the database's clock, as far as this machine's is wrong. The zero
// value is this machine's.
type wallClock struct {
	// at is nil while this machine's clock is right. Written by note.
	at atomic.Pointer[clockAnchor]
}

// clockAnchor is one moment by both clocks. here has a monotonic part, so that
// setting this machine's clock changes nothing.
type clockAnchor struct{ here, there time.Time }

func (a *clockAnchor) wall(local time.Time) time.Time { return a.there.Add(local.Sub(a.here)) }

// note learns from an answer: there is the database's time when it gave it, between
// sent and got by this machine's. A slow answer says little, and contradicts little.
func (c *wallClock) note(sent, got, there time.Time) {
	// Without the monotonic parts: the question is what the clock shows.
	if !there.Before(sent.Round(0).Add(-clockTolerance)) && !there.After(got.Round(0).Add(clockTolerance)) {
		c.at.Store(nil)
		return
	}
	if a := c.at.Load(); a != nil && !there.Before(a.wall(sent).Add(-clockSlack)) && !there.After(a.wall(got).Add(clockSlack)) {
		return // as it was known before, perhaps better
	}
	c.at.Store(&clockAnchor{here: sent.Add(got.Sub(sent) / 2), there: there})
}

// Wall implements keystore.Clock. A file is on this machine, whose clock is right.
func (s *Store) Wall(local time.Time) time.Time {
	if a := s.clock.at.Load(); a != nil {
		return a.wall(local)
	}
	return local
}
