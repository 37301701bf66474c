// Package totptest is the conformance suite of totp.Store: what every
// implementation guarantees, as tests. [Run] exercises one handle, [RunShared]
// two handles on one database, as two nodes have. [Memory] is a store to test
// with.
//
// The suite never sleeps. Times are fixed, so a failure repeats.
package totptest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hivegate/hivegate/internal/totp"
)

// Run tests one handle. open is called once per test; it returns a new, empty
// store and sees to its closing (t.Cleanup).
func Run(t *testing.T, open func(t *testing.T) totp.Store) {
	for _, test := range singleTests {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
	// What holds of two handles holds of one that is used twice.
	for _, test := range sharedTests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			test.run(t, s, s)
		})
	}
}

// RunShared tests two handles on one database. open is called once per test.
func RunShared(t *testing.T, open func(t *testing.T) (a, b totp.Store)) {
	for _, test := range sharedTests {
		t.Run(test.name, func(t *testing.T) {
			a, b := open(t)
			test.run(t, a, b)
		})
	}
}

type singleTest struct {
	name string // the guarantee
	run  func(t *testing.T, s totp.Store)
}

type sharedTest struct {
	name string
	run  func(t *testing.T, a, b totp.Store)
}

// epoch is the suite's time of day.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

const subject = "owner:acme"

// fullState has every member set.
func fullState(version string) *totp.State {
	s := &totp.State{
		Version: version, Sealed: []byte("hgs1.\x00\xff sealed"), Confirmed: true, LastStep: 59_000_001,
		Failures:    []time.Time{epoch.Add(-3 * time.Minute), epoch.Add(-time.Microsecond), epoch, epoch.Add(time.Second)},
		LockedUntil: epoch.Add(5 * time.Minute), EnrolledAt: epoch.Add(-time.Hour), ConfirmedAt: epoch.Add(-time.Minute),
	}
	for i := range byte(8) {
		digest := sha256.Sum256([]byte{i})
		s.Recovery = append(s.Recovery, totp.Recovery{Digest: digest[:]})
	}
	s.Recovery[3].UsedAt = epoch.Add(-time.Second)
	return s
}

func load(t *testing.T, s totp.Store, subject string) *totp.State {
	t.Helper()
	got, err := s.Load(t.Context(), subject)
	if err != nil {
		t.Fatalf("Load(%q): %v", subject, err)
	}
	return got
}

func swap(t *testing.T, s totp.Store, subject, old string, next *totp.State, want bool) {
	t.Helper()
	if done, err := s.Swap(t.Context(), subject, old, next); err != nil || done != want {
		t.Fatalf("Swap(%q, %q): %v, %v; want %v", subject, old, done, err, want)
	}
}

func wantState(t *testing.T, got, want *totp.State) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("state is\n%+v, want\n%+v", got, want)
	}
}

func wantNone(t *testing.T, s totp.Store, subject string) {
	t.Helper()
	if got, err := s.Load(t.Context(), subject); !errors.Is(err, totp.ErrNotEnrolled) || got != nil {
		t.Errorf("Load(%q): %+v, %v; want ErrNotEnrolled", subject, got, err)
	}
}

var singleTests = []singleTest{
	{"a state comes back as it was stored, every member", func(t *testing.T, s totp.Store) {
		swap(t, s, subject, "", fullState("1"), true)
		wantState(t, load(t, s, subject), fullState("1"))
		small := &totp.State{Version: "2", Sealed: []byte{0}, Recovery: []totp.Recovery{{Digest: []byte{1}}}, EnrolledAt: epoch}
		swap(t, s, subject, "1", small, true)
		wantState(t, load(t, s, subject), small)
	}},
	{"an unknown subject is ErrNotEnrolled", func(t *testing.T, s totp.Store) {
		wantNone(t, s, subject)
		swap(t, s, subject, "1", fullState("2"), false)
		wantNone(t, s, subject)
		swap(t, s, subject, "1", nil, false)
		swap(t, s, subject, "", nil, false)
	}},
	{"subjects are compared byte for byte", func(t *testing.T, s totp.Store) {
		subjects := []string{
			"owner:acme", "owner:Acme", "owner:acme ", "owner: acme", "owner:acmé", "owner:acme\u0301", "owner:%", "owner:_cme", "owner:'; --",
			"key:acme", "jwt:a:b", "jwt:a:b:c", "owner:" + strings.Repeat("x", 500), "owner:\U0001F41D",
		}
		for i, subject := range subjects {
			swap(t, s, subject, "", fullState(fmt.Sprint("v", i)), true)
		}
		for i, subject := range subjects {
			if got := load(t, s, subject).Version; got != fmt.Sprint("v", i) {
				t.Errorf("%q has version %s", subject, got)
			}
		}
		swap(t, s, "owner:%", "v6", nil, true)
		wantNone(t, s, "owner:%")
		if got := load(t, s, "owner:acme").Version; got != "v0" {
			t.Errorf("removing another subject left version %s", got)
		}
	}},
	{"what is handed over is the store's own", func(t *testing.T, s totp.Store) {
		given := fullState("1")
		swap(t, s, subject, "", given, true)
		scribble(given)
		got := load(t, s, subject)
		wantState(t, got, fullState("1"))
		scribble(got)
		wantState(t, load(t, s, subject), fullState("1"))
	}},
	{"subjects are listed in order, page by page", func(t *testing.T, s totp.Store) {
		var want []string
		for i := range 25 {
			subject := fmt.Sprintf("owner:%c%02d", "aBüz"[i%4], i)
			want = append(want, subject)
			swap(t, s, subject, "", fullState("1"), true)
		}
		slices.Sort(want)
		var got []string
		for after := ""; ; {
			page, err := s.Subjects(t.Context(), after, 7)
			if err != nil || len(page) > 7 {
				t.Fatalf("Subjects: %d, %v", len(page), err)
			}
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
			after = page[len(page)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
	}},
}

// scribble overwrites all that a state refers to.
func scribble(s *totp.State) {
	copy(s.Sealed, "overwritten")
	s.Recovery[0].Digest[0] ^= 1
	s.Recovery[0].UsedAt = epoch
	s.Failures[0] = time.Time{}
	s.Version = "overwritten"
}

var sharedTests = []sharedTest{
	{"a state is replaced only where its version is the stored one", func(t *testing.T, a, b totp.Store) {
		swap(t, a, subject, "", fullState("1"), true)
		swap(t, b, subject, "", fullState("x"), false)
		swap(t, b, subject, "0", fullState("x"), false)
		wantState(t, load(t, b, subject), fullState("1"))
		swap(t, b, subject, "1", fullState("2"), true)
		swap(t, a, subject, "1", fullState("x"), false)
		swap(t, a, subject, "1", nil, false)
		wantState(t, load(t, a, subject), fullState("2"))
	}},
	{"a removed state stays away, and its version is worth nothing", func(t *testing.T, a, b totp.Store) {
		swap(t, a, subject, "", fullState("1"), true)
		swap(t, b, subject, "1", nil, true)
		wantNone(t, a, subject)
		swap(t, a, subject, "1", fullState("x"), false)
		swap(t, a, subject, "", fullState("2"), true)
		swap(t, b, subject, "1", fullState("x"), false)
		wantState(t, load(t, b, subject), fullState("2"))
	}},
	{"of simultaneous swaps with one version exactly one wins", func(t *testing.T, a, b totp.Store) {
		const rounds, writers = 8, 12
		version := ""
		for round := range rounds {
			var wins []string
			var mu sync.Mutex
			parallel(writers, func(w int) {
				next := fullState(fmt.Sprintf("r%dw%d", round, w))
				done, err := []totp.Store{a, b}[w%2].Swap(t.Context(), subject, version, next)
				if err != nil {
					t.Errorf("Swap: %v", err)
				}
				if done {
					mu.Lock()
					wins = append(wins, next.Version)
					mu.Unlock()
				}
			})
			if len(wins) != 1 {
				t.Fatalf("round %d: %d writers won", round, len(wins))
			}
			if version = load(t, b, subject).Version; version != wins[0] {
				t.Fatalf("round %d: %s is stored, %s won", round, version, wins[0])
			}
		}
	}},
	{"of 100 simultaneous requests with one code exactly one passes", func(t *testing.T, a, b totp.Store) {
		race(t, a, b, func(e *totp.Enrolment) string { return codeAt(t, e.Secret, epoch.Add(time.Minute)) })
	}},
	{"of 100 simultaneous requests with one recovery code exactly one passes", func(t *testing.T, a, b totp.Store) {
		race(t, a, b, func(e *totp.Enrolment) string { return e.RecoveryCodes[5] })
	}},
	{"of 100 simultaneous guesses five count, then all meet the lock", func(t *testing.T, a, b totp.Store) {
		fa, fb, e := enrolled(t, a, b)
		now := epoch.Add(time.Minute)
		wrong := wrongCode(t, e.Secret, now)
		got := verifyAll(t, fa, fb, now, func(int) string { return wrong })
		if got[totp.Invalid] != totp.MaxFailures || got[totp.Locked] != 100-totp.MaxFailures {
			t.Errorf("outcomes %v", got)
		}
		for _, f := range []*totp.Factors{fa, fb} {
			out, err := f.Verify(t.Context(), now, subject, []string{codeAt(t, e.Secret, now)})
			if err != nil || out.Result != totp.Locked || out.RetryAfter != totp.LockTime {
				t.Errorf("a right code while locked: %+v, %v", out, err)
			}
		}
	}},
	{"guesses that are mixed with right codes are no more than five", func(t *testing.T, a, b totp.Store) {
		fa, fb, e := enrolled(t, a, b)
		now := epoch.Add(time.Minute)
		wrong := wrongCode(t, e.Secret, now)
		right := codeAt(t, e.Secret, now)
		passed := 0
		var mu sync.Mutex
		invalid := 0
		parallel(100, func(i int) {
			f := []*totp.Factors{fa, fb}[i%2]
			code := wrong
			if i%10 == 0 {
				code = right
			}
			out, err := f.Verify(t.Context(), now, subject, []string{code})
			if err != nil {
				t.Errorf("Verify: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case out.Result == totp.OK:
				passed++
			case out.Result == totp.Invalid && code == wrong:
				invalid++
			}
		})
		if passed > 1 || invalid != totp.MaxFailures {
			t.Errorf("%d passed and %d guesses were judged", passed, invalid)
		}
	}},
}

// race sends one code 100 times at once, through both handles.
func race(t *testing.T, a, b totp.Store, code func(*totp.Enrolment) string) {
	fa, fb, e := enrolled(t, a, b)
	c := code(e)
	got := verifyAll(t, fa, fb, epoch.Add(time.Minute), func(int) string { return c })
	if got[totp.OK] != 1 || got[totp.Invalid] != 99 {
		t.Errorf("outcomes %v, want one OK and 99 Invalid", got)
	}
	st, err := fb.Status(t.Context(), epoch.Add(time.Minute), subject)
	if err != nil || !st.LockedUntil.IsZero() {
		t.Errorf("afterwards: %+v, %v", st, err)
	}
}

func verifyAll(t *testing.T, a, b *totp.Factors, now time.Time, code func(i int) string) map[totp.Result]int {
	t.Helper()
	got := map[totp.Result]int{}
	var mu sync.Mutex
	parallel(100, func(i int) {
		out, err := []*totp.Factors{a, b}[i%2].Verify(t.Context(), now, subject, []string{code(i)})
		if err != nil {
			t.Errorf("Verify: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		got[out.Result]++
	})
	return got
}

// enrolled returns the factors of two handles, with one that is confirmed at
// epoch.
func enrolled(t *testing.T, a, b totp.Store) (fa, fb *totp.Factors, e *totp.Enrolment) {
	t.Helper()
	fa, fb = factors(t, a), factors(t, b)
	e, err := fa.Enroll(t.Context(), epoch, subject)
	if err != nil {
		t.Fatalf("Enroll: %v", err)
	}
	out, err := fb.Confirm(t.Context(), epoch, subject, codeAt(t, e.Secret, epoch))
	if err != nil || out.Result != totp.OK {
		t.Fatalf("Confirm: %+v, %v", out, err)
	}
	return fa, fb, e
}

func factors(t *testing.T, s totp.Store) *totp.Factors {
	t.Helper()
	f, err := totp.New(s, plainSealer{}, bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// parallel runs fn(0) to fn(n-1) at once and waits for all.
func parallel(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	wg.Wait()
}
