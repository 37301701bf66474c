package limiter_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hivegate/hivegate/limiter"
	"github.com/hivegate/hivegate/limiter/limitertest"
)

var epoch = limitertest.Epoch

func newMemory(tb testing.TB) *limiter.Memory {
	return openMemory(tb, limiter.MemoryOptions{SweepEvery: -1})
}

func openMemory(tb testing.TB, opts limiter.MemoryOptions) *limiter.Memory {
	tb.Helper()
	m := limiter.NewMemory(opts)
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	return m
}

func decide(tb testing.TB, l limiter.Limiter, now time.Time, demands ...limiter.Demand) limiter.Decision {
	tb.Helper()
	var dec limiter.Decision
	if err := l.Decide(context.Background(), now, &limiter.Request{Demands: demands}, &dec); err != nil {
		tb.Fatal(err)
	}
	return dec
}

func one(l *limiter.Limit, subject string) limiter.Demand {
	return limiter.Demand{Limit: l, Subject: subject, Cost: 1}
}

func remaining(tb testing.TB, l limiter.Limiter, now time.Time, d limiter.Demand) int {
	tb.Helper()
	var st [1]limiter.State
	if err := l.Peek(context.Background(), now, []limiter.Demand{d}, st[:]); err != nil {
		tb.Fatal(err)
	}
	return st[0].Remaining
}

func TestMemoryConforms(t *testing.T) {
	limitertest.Run(t, func(t *testing.T) limiter.Limiter {
		m := newMemory(t)
		t.Cleanup(func() {
			if t.Failed() {
				return
			}
			m.Sweep(epoch.AddDate(100, 0, 0))
			if n := m.Len(); n != 0 {
				t.Errorf("%d buckets are left after years", n)
			}
		})
		return m
	})
}

func TestMemoryConformsWhenItHasOneShardAndWhenItSweepsAllTheTime(t *testing.T) {
	limitertest.Run(t, func(t *testing.T) limiter.Limiter {
		return openMemory(t, limiter.MemoryOptions{MaxBuckets: 100, SweepEvery: time.Millisecond, Now: func() time.Time { return epoch }})
	})
}

func TestADemandWithoutALimitIsAnError(t *testing.T) {
	m, ctx := newMemory(t), context.Background()
	demands := []limiter.Demand{one(mustLimit(t, "plan", 1, time.Minute, 0), "ada"), {Subject: "ada", Cost: 1}}
	dec := limiter.Decision{}
	if m.Decide(ctx, epoch, &limiter.Request{Demands: demands}, &dec) == nil ||
		m.Peek(ctx, epoch, demands, make([]limiter.State, 2)) == nil || m.Refund(ctx, epoch, demands) == nil {
		t.Fatal("want errors")
	}
	if m.Len() != 0 {
		t.Fatal("the demand before it was taken")
	}
}

// TestALimitNobodyCheckedRefuses: figures that NewLimit refuses let nothing through.
func TestALimitNobodyCheckedRefuses(t *testing.T) {
	m := newMemory(t)
	for _, l := range []*limiter.Limit{{}, {N: 5, Burst: 5}, {N: 5, Per: -1, Burst: 5}, {N: -5, Per: time.Second, Burst: 5}, {N: 5, Per: time.Second, Burst: -1}} {
		if dec := decide(t, m, epoch, one(l, "ada")); dec.Outcome != limiter.RateLimited {
			t.Errorf("%+v: outcome %d", *l, dec.Outcome)
		}
	}
}

func TestExtremeFiguresNeitherOverflowNorHang(t *testing.T) {
	m := newMemory(t)
	for i, l := range []*limiter.Limit{
		mustLimit(t, "slow", 1, limiter.MaxPer, limiter.MaxN),
		mustLimit(t, "fast", limiter.MaxN, limiter.MinPer, 1),
		mustLimit(t, "wide", limiter.MaxN, limiter.MinPer, limiter.MaxN),
	} {
		all := limiter.Demand{Limit: l, Subject: "ada", Cost: l.Burst}
		for _, cost := range []int{l.Burst, 1, l.Burst, int(^uint(0) >> 1)} {
			all.Cost = cost
			for _, now := range []time.Time{epoch, epoch.Add(time.Microsecond), {}, epoch.AddDate(10_000, 0, 0)} {
				dec := decide(t, m, now, all, all)
				st := dec.States[0]
				if dec.RetryAfter < 0 || st.Wait < 0 || st.Full < 0 || st.Remaining < 0 || st.Remaining > l.Burst {
					t.Fatalf("limit %d, cost %d at %v: %+v", i, cost, now, dec)
				}
			}
		}
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	m, ctx := newMemory(t), context.Background()
	plan, class := mustLimit(t, "plan", 60, time.Minute, 1_000_000), mustLimit(t, "ai", 60, time.Minute, 1_000_000)
	zero := mustLimit(t, "zero", 1, time.Hour, 0)
	req := func(l *limiter.Limit, slots int) *limiter.Request {
		return &limiter.Request{
			Demands: []limiter.Demand{one(plan, "owner:ada"), one(l, "key:key_0123456789ab")},
			Holds:   []limiter.Hold{{Name: "outcomes", Subject: "owner:ada", Max: slots}},
		}
	}
	for name, r := range map[string]*limiter.Request{
		"allowed": req(class, 1), "rate limited": req(zero, 1), "without slot": req(class, 0),
	} {
		var dec limiter.Decision
		now := time.Now()
		if got := testing.AllocsPerRun(1000, func() {
			now = now.Add(time.Microsecond)
			if m.Decide(ctx, now, r, &dec) != nil {
				t.Error("decide has failed")
			}
			m.Release(r, &dec)
		}); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
	states := make([]limiter.State, 2)
	demands := req(class, 1).Demands
	if got := testing.AllocsPerRun(1000, func() {
		if m.Peek(ctx, epoch, demands, states) != nil || m.Refund(ctx, epoch, demands) != nil {
			t.Error("peek or refund has failed")
		}
	}); got != 0 {
		t.Errorf("peek and refund: %v allocations", got)
	}
}

// heap is the memory in use.
func heap() int64 {
	var ms runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&ms)
	return int64(ms.HeapAlloc)
}

// TestAMillionOwnersSeenOnceTakeLittleAndAreGivenBack holds the figures of the
// package comment.
func TestAMillionOwnersSeenOnceTakeLittleAndAreGivenBack(t *testing.T) {
	const n = 1_000_000
	m, ctx := newMemory(t), context.Background()
	l := mustLimit(t, "explorer", 60, time.Minute, 0)
	before := heap()
	var dec limiter.Decision
	req := &limiter.Request{Demands: make([]limiter.Demand, 1)}
	for i := range n {
		req.Demands[0] = one(l, fmt.Sprintf("owner:account-%07d", i))
		if err := m.Decide(ctx, epoch, req, &dec); err != nil {
			t.Fatal(err)
		}
	}
	each := (heap() - before) / n
	t.Logf("%d bytes for each of %d owners", each, m.Len())
	if m.Len() != n || each < 50 || each > 250 {
		t.Errorf("%d buckets of %d bytes each, want %d of at most 250", m.Len(), each, n)
	}
	if m.Sweep(epoch.Add(2 * l.Window())); m.Len() != 0 {
		t.Errorf("%d buckets are left after two windows", m.Len())
	}
	left := heap() - before
	t.Logf("%d bytes in use after the sweep", left)
	if left > 1<<20 {
		t.Errorf("%d bytes are in use after the sweep", left)
	}
	runtime.KeepAlive(m)
}

func TestASweepKeepsWhatIsInUse(t *testing.T) {
	m, l := newMemory(t), mustLimit(t, "explorer", 60, time.Minute, 0)
	for i := range 20_000 {
		n := 1
		if i%100 == 0 {
			n = 60
		}
		decide(t, m, epoch, limiter.Demand{Limit: l, Subject: fmt.Sprint(i), Cost: n})
	}
	if m.Sweep(epoch.Add(time.Second)); m.Len() != 20_000 {
		t.Fatalf("%d left: a bucket was forgotten as soon as it was full", m.Len())
	}
	if m.Sweep(epoch.Add(2 * time.Second)); m.Len() != 200 {
		t.Fatalf("%d left, want the 200 that are not full", m.Len())
	}
	for i := range 200 {
		if got := remaining(t, m, epoch.Add(2*time.Second), one(l, fmt.Sprint(i*100))); got != 2 {
			t.Fatalf("bucket %d has %d tokens after the sweep, want 2", i, got)
		}
	}
}

func TestAnInsertionTidiesUpWithoutTheSweeper(t *testing.T) {
	m, l := newMemory(t), mustLimit(t, "explorer", 60, time.Minute, 0)
	now, most := epoch, 0
	for i := range 200_000 {
		now = now.Add(time.Millisecond)
		decide(t, m, now, one(l, fmt.Sprint(i)))
		most = max(most, m.Len())
	}
	// A bucket is idle after 2 s, in which 2,000 come; all would be 200,000.
	if most > 20_000 {
		t.Fatalf("%d buckets at once", most)
	}
}

func TestAtItsBoundAnExhaustedBucketOutlivesAFloodOfFreshSubjects(t *testing.T) {
	const bound = 10_000
	m := openMemory(t, limiter.MemoryOptions{MaxBuckets: bound, SweepEvery: -1})
	l := mustLimit(t, "explorer", 60, time.Hour, 0)
	for i := range 500 {
		decide(t, m, epoch, limiter.Demand{Limit: l, Subject: fmt.Sprint("exhausted-", i), Cost: 60})
	}
	for i := range 20 * bound {
		decide(t, m, epoch, one(l, fmt.Sprint("fresh-", i)))
		if i%1000 == 0 && m.Len() > bound {
			t.Fatalf("%d buckets, the bound is %d", m.Len(), bound)
		}
	}
	if n := m.Len(); n > bound || n < bound*9/10 {
		t.Fatalf("%d buckets, the bound is %d", n, bound)
	}
	forgotten := 0
	for i := range 500 {
		if remaining(t, m, epoch, one(l, fmt.Sprint("exhausted-", i))) > 0 {
			forgotten++
		}
	}
	if forgotten > 5 {
		t.Fatalf("%d of 500 exhausted buckets were forgotten", forgotten)
	}
}

// A place says where a bucket is. One that is not there any more, or in another
// limiter, is not found by it.
func TestAPlaceFindsNoBucketThatWasForgotten(t *testing.T) {
	const bound = 300
	m, l := openMemory(t, limiter.MemoryOptions{MaxBuckets: bound, SweepEvery: -1}), mustLimit(t, "explorer", 60, time.Minute, 0)
	other := newMemory(t)
	known := limiter.Demand{Limit: l, Subject: "known", Cost: 1, Place: new(limiter.Place)}
	for want := 59; want > 49; want-- {
		if decide(t, m, epoch, known); remaining(t, m, epoch, known) != want {
			t.Fatalf("%d left, want %d", remaining(t, m, epoch, known), want)
		}
		if n := remaining(t, m, epoch, one(l, "known")); n != want {
			t.Fatalf("%d left without the place, want %d", n, want)
		}
	}
	if n := remaining(t, other, epoch, known); n != 60 {
		t.Fatalf("another limiter's bucket holds %d", n)
	}
	decide(t, other, epoch, known) // the place is the other's now, and the first's again
	if n := remaining(t, m, epoch, known); n != 50 {
		t.Fatalf("%d left after the place was another's, want 50", n)
	}
	// Idle, it is swept; it must be full then, by whatever way it is asked.
	later := epoch.Add(time.Hour)
	if m.Sweep(later); m.Len() != 0 {
		t.Fatalf("%d buckets left", m.Len())
	}
	decide(t, m, later, known)
	if n, plain := remaining(t, m, later, known), remaining(t, m, later, one(l, "known")); n != 59 || plain != 59 {
		t.Fatalf("%d left by the place, %d without it, want 59", n, plain)
	}
	// At the bound it is pushed out by others sooner or later, in the middle of
	// decisions on several buckets too.
	slow := mustLimit(t, "slow", 60, time.Hour, 0)
	known = limiter.Demand{Limit: slow, Subject: "known", Cost: 1, Place: new(limiter.Place)}
	pushed := 0
	for i := range 20 * bound {
		fresh := limiter.Demand{Limit: slow, Subject: fmt.Sprint(i), Cost: 50}
		if i%20 > 0 {
			decide(t, m, later, fresh) // less full than the known one, which so has to go
			continue
		}
		before := remaining(t, m, later, one(slow, "known"))
		dec := decide(t, m, later, known, fresh)
		if before == 60 {
			pushed++
		}
		if before > 0 && (dec.Outcome != limiter.Allowed || dec.States[0].Remaining != before-1) {
			t.Fatalf("%d: %+v, %d were left before", i, dec, before)
		}
	}
	if pushed < 2 {
		t.Fatal("the bucket was never pushed out, so this shows nothing")
	}
}

func TestATinyBoundIsKept(t *testing.T) {
	for _, bound := range []int{1, 2, 700, 1025} {
		m := openMemory(t, limiter.MemoryOptions{MaxBuckets: bound, SweepEvery: -1})
		l, other := mustLimit(t, "a", 60, time.Hour, 0), mustLimit(t, "b", 60, time.Hour, 0)
		for i := range 3000 {
			s := fmt.Sprint(i)
			if dec := decide(t, m, epoch, one(l, s), one(other, s), one(l, s)); dec.States[0].Remaining != 58 || dec.States[1].Remaining != 59 {
				t.Fatalf("bound %d: %+v", bound, dec.States)
			}
		}
		if m.Len() > bound {
			t.Fatalf("%d buckets, the bound is %d", m.Len(), bound)
		}
	}
}

func TestABucketDoesNotKeepTheRequestItsSubjectWasCutFrom(t *testing.T) {
	m, l := newMemory(t), mustLimit(t, "explorer", 60, time.Minute, 0)
	before := heap()
	for i := range 64 {
		header := fmt.Sprintf("owner:%014d", i) + strings.Repeat(" ", 1<<20)
		decide(t, m, epoch, one(l, header[:20]))
	}
	if m.Len() != 64 {
		t.Fatalf("%d buckets, want 64", m.Len())
	}
	if got := heap() - before; got > 8<<20 {
		t.Fatalf("%d MiB are in use for some small buckets", got>>20)
	}
	runtime.KeepAlive(m)
}

func TestSlotCountersGoWithTheLastRequest(t *testing.T) {
	m := newMemory(t)
	var held []*limiter.Request
	decs := make([]limiter.Decision, 5000)
	for i := range decs {
		r := &limiter.Request{Holds: []limiter.Hold{{Name: "all", Subject: fmt.Sprint(i / 2), Max: 2}}}
		if err := m.Decide(context.Background(), epoch, r, &decs[i]); err != nil || decs[i].Outcome != limiter.Allowed {
			t.Fatal(err, decs[i])
		}
		held = append(held, r)
	}
	if n := m.Slots(); n != 2500 {
		t.Fatalf("%d counters, want 2500", n)
	}
	for i, r := range held {
		m.Release(r, &decs[i])
	}
	for i, r := range held { // once too often must not count below 0
		m.Release(r, &decs[i])
	}
	if n := m.Slots(); n != 0 {
		t.Fatalf("%d counters are left", n)
	}
	var a, b limiter.Decision
	r := &limiter.Request{Holds: []limiter.Hold{{Name: "all", Subject: "0", Max: 1}}}
	if m.Decide(context.Background(), epoch, r, &a) != nil || m.Decide(context.Background(), epoch, r, &b) != nil ||
		a.Outcome != limiter.Allowed || b.Outcome != limiter.ConcurrencyLimited {
		t.Fatalf("outcomes %d and %d of one slot", a.Outcome, b.Outcome)
	}
}

// TestTheSweeperSweepsAndEndsWithClose watches the sweeper through its clock.
func TestTheSweeperSweepsAndEndsWithClose(t *testing.T) {
	asked := make(chan struct{})
	now := epoch.Add(time.Hour)
	first := true
	stop := make(chan struct{})
	m := limiter.NewMemory(limiter.MemoryOptions{SweepEvery: time.Millisecond, Now: func() time.Time {
		if first { // by NewMemory
			first = false
			return now
		}
		select {
		case asked <- struct{}{}:
		case <-stop:
		}
		return now
	}})
	decide(t, m, epoch, one(mustLimit(t, "plan", 60, time.Minute, 0), "ada"))
	for range 2 { // when it asks again, the first sweep is done
		select {
		case <-asked:
		case <-time.After(20 * time.Second):
			t.Fatal("no sweep in 20 s")
		}
	}
	if n := m.Len(); n != 0 {
		t.Fatalf("%d buckets are left", n)
	}
	close(stop)
	for range 2 {
		if err := m.Close(); err != nil { // returns when the sweeper has ended
			t.Fatal(err)
		}
	}
}

func TestDecisionsGoOnDuringASweep(t *testing.T) {
	m, l := newMemory(t), mustLimit(t, "explorer", 60, time.Minute, 0)
	for i := range 50_000 {
		decide(t, m, epoch, one(l, fmt.Sprint(i)))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 20 {
			m.Sweep(epoch.Add(time.Duration(i) * time.Second))
		}
	}()
	var req limiter.Request
	var dec limiter.Decision
	taken := 0
	for i := 0; ; i++ {
		req.Demands = append(req.Demands[:0], one(l, fmt.Sprint(i%60_000)), one(l, "ada"))
		if err := m.Decide(context.Background(), epoch, &req, &dec); err != nil {
			t.Fatal(err)
		}
		if dec.Outcome == limiter.Allowed {
			taken++
		}
		select {
		case <-done:
			if i >= 1000 && taken != 60 {
				t.Fatalf("%d were let through, want 60", taken)
			}
			if i >= 1000 {
				return
			}
		default:
		}
	}
}
