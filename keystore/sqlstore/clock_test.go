package sqlstore

import (
	"testing"
	"time"
)

func TestTheDatabasesClockCountsWhereThisMachinesIsWrong(t *testing.T) {
	base := time.Now() // with a monotonic part
	at := func(d time.Duration) time.Time { return base.Add(d) }
	truth := func(d time.Duration) time.Time { return base.Round(0).Add(d) } // by the database
	for name, c := range map[string]struct {
		off  time.Duration // of the database against this machine
		rtt  time.Duration
		want time.Duration
	}{
		"right":                         {0, time.Millisecond, 0},
		"half a second off":             {500 * time.Millisecond, time.Millisecond, 0},
		"an hour behind":                {time.Hour, time.Millisecond, time.Hour},
		"an hour ahead":                 {-time.Hour, time.Millisecond, -time.Hour},
		"two seconds, slow answer":      {2 * time.Second, 5 * time.Second, 0},
		"an hour, slow answer":          {time.Hour, 5 * time.Second, time.Hour},
		"an hour the other way, slowly": {-time.Hour, 5 * time.Second, -time.Hour},
	} {
		s := new(Store)
		s.clock.note(at(0), at(c.rtt), truth(c.rtt/2+c.off))
		local := at(10 * time.Second)
		if got := s.Wall(local).Sub(local.Round(0)); got != c.want {
			t.Errorf("%s: corrected by %s, want %s", name, got, c.want)
		}
	}
}

func TestASlowAnswerDoesNotSpoilWhatIsKnownOfTheClock(t *testing.T) {
	base := time.Now()
	s := new(Store)
	off := func(local time.Time) time.Duration { return s.Wall(local).Sub(local.Round(0)) }
	s.clock.note(base, base.Add(2*time.Millisecond), base.Round(0).Add(time.Hour+time.Millisecond))
	// Answered at once, but the answer took five seconds.
	s.clock.note(base.Add(time.Second), base.Add(6*time.Second), base.Round(0).Add(time.Hour+time.Second))
	if got := off(base.Add(7 * time.Second)); got != time.Hour {
		t.Errorf("an hour became %s", got)
	}
	// The database's clock is set right.
	s.clock.note(base.Add(8*time.Second), base.Add(8*time.Second), base.Round(0).Add(8*time.Second))
	if got := off(base.Add(9 * time.Second)); got != 0 {
		t.Errorf("agreeing clocks are %s apart", got)
	}
	// It is an hour off again, and then half an hour.
	for _, d := range []time.Duration{time.Hour, 30 * time.Minute} {
		s.clock.note(base.Add(10*time.Second), base.Add(10*time.Second), base.Round(0).Add(10*time.Second+d))
		if got := off(base.Add(11 * time.Second)); got != d {
			t.Errorf("%s became %s", d, got)
		}
	}
}

// Setting this machine's clock while nobody asks the database moves the time by
// nothing: the monotonic clock counts on.
func TestSettingTheMachinesClockDoesNotMoveTheWall(t *testing.T) {
	here := time.Now()
	s := new(Store)
	s.clock.note(here, here, here.Round(0).Add(time.Hour))
	before := s.Wall(here)
	if got := s.Wall(here.Add(time.Minute)).Sub(before); got != time.Minute {
		t.Errorf("a minute took %s", got)
	}
	if got := s.Wall(time.Now()).Sub(before); got < 0 || got > time.Minute {
		t.Errorf("since the anchor %s have passed", got)
	}
}
