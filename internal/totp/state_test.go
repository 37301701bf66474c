package totp

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newState() *State {
	s := &State{Version: "1", Sealed: []byte("sealed"), Confirmed: true, LastStep: 1000, EnrolledAt: epoch}
	for i := range byte(recoveryCodes) {
		s.Recovery = append(s.Recovery, Recovery{Digest: []byte{i}})
	}
	return s
}

var (
	wrong    = guess{recovery: -1}
	right    = func(steps ...int64) guess { return guess{steps: steps, recovery: -1} }
	recovery = func(i int) guess { return guess{recovery: i} }
)

// try applies a guess as Factors does.
func try(s **State, now time.Time, g guess) Outcome {
	out, next := (*s).step(now, g)
	if next != nil {
		*s = next
	}
	return out
}

func TestFiveWrongCodesInFiveMinutesLockForFiveMinutes(t *testing.T) {
	s := newState()
	for i := range MaxFailures {
		if out := try(&s, epoch.Add(time.Duration(i)*time.Minute), wrong); out.Result != Invalid {
			t.Fatalf("wrong code %d: %+v", i+1, out)
		}
	}
	fifth := epoch.Add(4 * time.Minute)
	for _, c := range []struct {
		after time.Duration
		wait  time.Duration
	}{{0, LockTime}, {time.Second, LockTime - time.Second}, {LockTime - time.Microsecond, time.Microsecond}} {
		for _, g := range []guess{wrong, right(1001), recovery(0)} {
			if out := try(&s, fifth.Add(c.after), g); out.Result != Locked || out.RetryAfter != c.wait {
				t.Errorf("%v into the lock: %+v", c.after, out)
			}
		}
	}
	if out := try(&s, fifth.Add(LockTime), right(1001)); out.Result != OK {
		t.Errorf("after the lock: %+v", out)
	}
}

func TestALockIsNeverExtendedByAttempts(t *testing.T) {
	s := newState()
	for range MaxFailures {
		try(&s, epoch, wrong)
	}
	for i := range 300 {
		now := epoch.Add(time.Duration(i) * time.Second)
		if out, next := s.step(now, wrong); out.Result != Locked || next != nil || out.RetryAfter != LockTime-time.Duration(i)*time.Second {
			t.Fatalf("attempt at %v: %+v, changes %v", now, out, next != nil)
		}
	}
	// And afterwards there are five guesses again.
	for i := range MaxFailures {
		if out := try(&s, epoch.Add(LockTime), wrong); out.Result != Invalid {
			t.Fatalf("guess %d after the lock: %+v", i+1, out)
		}
	}
	if out := try(&s, epoch.Add(LockTime), wrong); out.Result != Locked {
		t.Errorf("the sixth guess after the lock: %+v", out)
	}
}

func TestWrongCodesFurtherApartDoNotLock(t *testing.T) {
	s := newState()
	for i := range 100 { // four in any five minutes
		if out := try(&s, epoch.Add(time.Duration(i)*75*time.Second), wrong); out.Result != Invalid {
			t.Fatalf("wrong code %d: %+v", i+1, out)
		}
	}
	if len(s.Failures) >= MaxFailures {
		t.Errorf("%d failures are kept", len(s.Failures))
	}
}

func TestARightCodeDoesNotClearTheCount(t *testing.T) {
	s := newState()
	for i := range MaxFailures {
		try(&s, epoch, wrong)
		if i == MaxFailures-2 {
			if out := try(&s, epoch, right(1001)); out.Result != OK {
				t.Fatal(out)
			}
		}
	}
	if out := try(&s, epoch, right(1002)); out.Result != Locked {
		t.Errorf("after five wrong codes and a right one between: %+v", out)
	}
}

func TestAStepAtOrBeforeTheLastIsAReplayAndNotCounted(t *testing.T) {
	s := newState()
	for range 20 {
		for _, step := range []int64{1000, 999, 1} {
			if out, next := s.step(epoch, right(step)); out.Result != Invalid || next != nil {
				t.Fatalf("step %d: %+v, changes %v", step, out, next != nil)
			}
		}
	}
	if out := try(&s, epoch, right(999, 1000, 1001)); out.Result != OK || s.LastStep != 1001 {
		t.Errorf("a code of an old and a new step: %+v, last %d", out, s.LastStep)
	}
	if out := try(&s, epoch, right(1002, 1003)); out.Result != OK || s.LastStep != 1002 {
		t.Errorf("a code of two new steps uses the first up: %+v, last %d", out, s.LastStep)
	}
}

func TestARecoveryCodeIsGoodOnceAndItsReplayNotCounted(t *testing.T) {
	s := newState()
	for i := range recoveryCodes {
		out := try(&s, epoch, recovery(i))
		if out.Result != OK || out.Method != MethodRecovery || out.RecoveryLeft != recoveryCodes-1-i {
			t.Errorf("code %d: %+v", i, out)
		}
		for range 10 {
			if out, next := s.step(epoch, recovery(i)); out.Result != Invalid || next != nil {
				t.Errorf("code %d again: %+v, changes %v", i, out, next != nil)
			}
		}
	}
}

func TestAClockThatIsBehindDoesNotShortenTheLock(t *testing.T) {
	s := newState()
	for range MaxFailures - 1 {
		try(&s, epoch.Add(10*time.Second), wrong)
	}
	try(&s, epoch, wrong)
	if want := epoch.Add(10*time.Second + LockTime); !s.LockedUntil.Equal(want) {
		t.Errorf("locked until %v, want %v", s.LockedUntil, want)
	}
}

func TestStepLeavesTheOldStateAlone(t *testing.T) {
	s := newState()
	s.Failures = append(make([]time.Time, 0, 10), epoch.Add(-time.Hour), epoch)
	before := s.Clone()
	for _, g := range []guess{wrong, right(1001), recovery(2)} {
		_, next := s.step(epoch.Add(time.Second), g)
		if next.Version == s.Version || next.Version == "" {
			t.Errorf("%+v: the version stays %q", g, next.Version)
		}
		next.Recovery[0].Digest[0]++
		next.Recovery[0].UsedAt = epoch
		next.Sealed[0]++
		if !reflect.DeepEqual(s, before) {
			t.Errorf("%+v changed the old state", g)
		}
	}
}

// Whatever the sequence of times and guesses: no more than five wrong ones are
// judged in any five minutes, no step and no recovery code passes twice, and
// what is kept stays small.
func TestGuessesAndReplaysAreBoundedInEverySequence(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s, now := newState(), epoch
		var judged []time.Time
		usedStep, usedCode := map[int64]bool{}, map[int]bool{}
		for range 400 {
			now = now.Add(time.Duration(rnd.IntN(4)) * time.Duration(rnd.IntN(int(40*time.Second))))
			var g guess
			switch n := rnd.IntN(10); {
			case n < 6:
				g = wrong
			case n < 8:
				g = right(s.LastStep + int64(rnd.IntN(3)) - 1)
			default:
				g = recovery(rnd.IntN(recoveryCodes))
			}
			last := s.LastStep
			out := try(&s, now, g)
			switch {
			case out.Result == Invalid && len(g.steps) == 0 && g.recovery < 0:
				judged = append(judged, now)
			case out.Result == OK && len(g.steps) > 0:
				if usedStep[s.LastStep] || s.LastStep <= last {
					t.Fatalf("seed %d: step %d passes after %d", seed, s.LastStep, last)
				}
				usedStep[s.LastStep] = true
			case out.Result == OK:
				if usedCode[g.recovery] {
					t.Fatalf("seed %d: recovery code %d passes twice", seed, g.recovery)
				}
				usedCode[g.recovery] = true
			case out.Result == Locked && (out.RetryAfter <= 0 || out.RetryAfter > LockTime):
				t.Fatalf("seed %d: locked for %v", seed, out.RetryAfter)
			}
			if len(s.Failures) >= MaxFailures || len(s.Recovery) != recoveryCodes {
				t.Fatalf("seed %d: the state grows: %+v", seed, s)
			}
		}
		for i := range judged {
			if n := len(judged); i+MaxFailures < n && judged[i+MaxFailures].Sub(judged[i]) < FailureWindow-time.Microsecond {
				t.Fatalf("seed %d: six guesses from %v to %v", seed, judged[i], judged[i+MaxFailures])
			}
		}
		if len(judged) < MaxFailures {
			t.Fatalf("seed %d: the sequence proves nothing", seed)
		}
	}
}

func TestAStateSurvivesJSON(t *testing.T) {
	s := newState()
	for _, g := range []guess{wrong, right(1001), recovery(3), wrong} {
		try(&s, epoch.Add(123456789*time.Nanosecond), g)
	}
	for range 2 {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back State
		if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(&back, s) {
			t.Errorf("%s comes back as %+v, %v", b, back, err)
		}
		for range MaxFailures { // and a locked one
			try(&s, epoch.Add(time.Second), wrong)
		}
	}
}

func TestFindRecoveryFindsUsedOnesToo(t *testing.T) {
	s := newState()
	s.Recovery[7].UsedAt = epoch
	var got []int
	for i := range byte(recoveryCodes + 1) {
		got = append(got, s.findRecovery([]byte{i}))
	}
	if !slices.Equal(got, []int{0, 1, 2, 3, 4, 5, 6, 7, -1}) {
		t.Errorf("found %v", got)
	}
}
