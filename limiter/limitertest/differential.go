package limitertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hivegate/hivegate/limiter"
)

// Differential makes steps random calls, the same of a and of b on one clock,
// and fails the test at the first answer in which they differ: outcomes, waits
// and states must be equal to the microsecond. Both must be without state. What
// it does is fixed by seed.
//
// The clock goes on by anything from nanoseconds to hours, stands still, and
// sometimes runs back a little. Limits change as by a reload, two limits share
// a bucket, and buckets are demanded twice.
func Differential(t *testing.T, a, b limiter.Limiter, seed uint64, steps int) {
	t.Helper()
	d := &differential{t: t, a: a, b: b, rnd: rand.New(rand.NewPCG(seed, 6)), now: Epoch, ctx: context.Background(),
		places: map[[2]string]*limiter.Place{}}
	d.limits = d.newLimits()
	for d.step = range steps {
		d.tick()
		switch n := d.rnd.IntN(100); {
		case n < 70:
			d.decide()
		case n < 80:
			d.release()
		case n < 90:
			d.peek()
		case n < 96:
			d.refund()
		default:
			d.limits = d.newLimits()
		}
		if t.Failed() {
			t.Fatalf("differs in step %d of seed %d, at %v after the start", d.step, seed, d.now.Sub(Epoch))
		}
	}
	for len(d.held) > 0 {
		d.release()
	}
	if steps > 1000 && (d.outcomes[limiter.Allowed] == 0 || d.outcomes[limiter.RateLimited] == 0 || d.outcomes[limiter.ConcurrencyLimited] == 0) {
		t.Fatalf("seed %d shows too little: %d allowed, %d rate limited, %d without slot", seed,
			d.outcomes[limiter.Allowed], d.outcomes[limiter.RateLimited], d.outcomes[limiter.ConcurrencyLimited])
	}
}

type differential struct {
	t        *testing.T
	a, b     limiter.Limiter
	rnd      *rand.Rand
	ctx      context.Context
	now      time.Time
	step     int
	limits   []*limiter.Limit
	places   map[[2]string]*limiter.Place
	held     []inFlight
	outcomes [3]int
}

// inFlight is an allowed request of which slots are held.
type inFlight struct {
	req  limiter.Request
	a, b limiter.Decision
}

func (d *differential) tick() {
	switch n := d.rnd.IntN(100); {
	case n < 30: // a burst: no time passes
	case n < 40:
		d.now = d.now.Add(time.Duration(d.rnd.Int64N(2000))) // below and about a microsecond
	case n < 70:
		d.now = d.now.Add(time.Duration(d.rnd.Int64N(int64(50 * time.Millisecond))))
	case n < 90:
		d.now = d.now.Add(time.Duration(d.rnd.Int64N(int64(5 * time.Second))))
	case n < 94:
		d.now = d.now.Add(-time.Duration(d.rnd.Int64N(int64(200 * time.Millisecond))))
	case n < 99:
		d.now = d.now.Add(time.Duration(d.rnd.Int64N(int64(2 * time.Minute))))
	default:
		d.now = d.now.Add(time.Duration(d.rnd.Int64N(int64(5 * time.Hour))))
	}
}

// newLimits are the limits of a configuration: few names, so that the figures
// of a name change from one to the next, and one name twice.
func (d *differential) newLimits() []*limiter.Limit {
	pers := []time.Duration{time.Second, 10 * time.Second, time.Minute, 7 * time.Minute, time.Hour, 24 * time.Hour, 1234567 * time.Microsecond}
	var limits []*limiter.Limit
	for _, name := range []string{"explorer", "operator", "ai", "commands", "ai", "key"} {
		n, per, burst := 1+d.rnd.IntN(120), pers[d.rnd.IntN(len(pers))], 0
		switch d.rnd.IntN(12) {
		case 0:
			n = 0
		case 1, 2, 3:
			burst = 1 + d.rnd.IntN(50)
		case 4:
			n, per = 1_000_000, time.Second
		}
		l, err := limiter.NewLimit(name, n, per, burst)
		if err != nil {
			d.t.Fatal(err)
		}
		limits = append(limits, l)
	}
	return limits
}

func (d *differential) subject() string {
	return fmt.Sprintf("owner:%d", d.rnd.IntN(6))
}

func (d *differential) demands() []limiter.Demand {
	var demands []limiter.Demand
	subject := d.subject()
	for range d.rnd.IntN(4) {
		if d.rnd.IntN(4) == 0 {
			subject = d.subject()
		}
		dem := limiter.Demand{Limit: d.limits[d.rnd.IntN(len(d.limits))], Subject: subject, Cost: 1}
		if d.rnd.IntN(5) == 0 {
			dem.Cost = d.rnd.IntN(20)
		}
		if d.clashes(demands, dem) {
			continue
		}
		if d.step%3 > 0 { // as callers do who come again, and not all do
			dem.Place = d.place(dem.Limit.Policy, dem.Subject)
		}
		demands = append(demands, dem)
	}
	return demands
}

func (d *differential) place(policy, subject string) *limiter.Place {
	key := [2]string{policy, subject}
	if d.places[key] == nil {
		d.places[key] = new(limiter.Place)
	}
	return d.places[key]
}

// clashes reports whether dem is on a bucket that demands has with other
// figures: what holds then is not agreed on, and no caller does it.
func (d *differential) clashes(demands []limiter.Demand, dem limiter.Demand) bool {
	for _, o := range demands {
		if o.Limit != dem.Limit && o.Limit.Policy == dem.Limit.Policy && o.Subject == dem.Subject {
			return true
		}
	}
	return false
}

func (d *differential) decide() {
	req := limiter.Request{Demands: d.demands()}
	for range d.rnd.IntN(3) {
		req.Holds = append(req.Holds, limiter.Hold{
			Name: []string{"outcomes", "operator"}[d.rnd.IntN(2)], Subject: d.subject(), Max: 1 + d.rnd.IntN(4),
		})
	}
	f := inFlight{req: req}
	errA := d.a.Decide(d.ctx, d.now, &req, &f.a)
	errB := d.b.Decide(d.ctx, d.now, &req, &f.b)
	if d.errors("decide", errA, errB) {
		return
	}
	d.outcomes[f.a.Outcome]++
	if f.a.Outcome != f.b.Outcome || f.a.RetryAfter != f.b.RetryAfter {
		d.t.Errorf("decide %s\n a: outcome %d, retry after %v, %+v\n b: outcome %d, retry after %v, %+v", show(req.Demands),
			f.a.Outcome, f.a.RetryAfter, f.a.States, f.b.Outcome, f.b.RetryAfter, f.b.States)
	}
	d.states("decide", req.Demands, f.a.States, f.b.States)
	if f.a.Outcome == limiter.Allowed && len(req.Holds) > 0 {
		d.held = append(d.held, f)
	}
}

func (d *differential) release() {
	if len(d.held) == 0 {
		return
	}
	i := d.rnd.IntN(len(d.held))
	f := d.held[i]
	d.a.Release(&f.req, &f.a)
	d.b.Release(&f.req, &f.b)
	d.held = append(d.held[:i], d.held[i+1:]...)
}

func (d *differential) peek() {
	demands := d.demands()
	a, b := make([]limiter.State, len(demands)), make([]limiter.State, len(demands))
	errA := d.a.Peek(d.ctx, d.now, demands, a)
	errB := d.b.Peek(d.ctx, d.now, demands, b)
	if !d.errors("peek", errA, errB) {
		d.states("peek", demands, a, b)
	}
}

func (d *differential) refund() {
	demands := d.demands()
	errA := d.a.Refund(d.ctx, d.now, demands)
	errB := d.b.Refund(d.ctx, d.now, demands)
	d.errors("refund", errA, errB)
}

func (d *differential) errors(call string, a, b error) bool {
	if a != nil || b != nil {
		d.t.Errorf("%s: a: %v, b: %v", call, a, b)
	}
	return a != nil || b != nil
}

func (d *differential) states(call string, demands []limiter.Demand, a, b []limiter.State) {
	if len(a) != len(demands) || len(b) != len(demands) {
		d.t.Errorf("%s: %d demands, %d and %d states", call, len(demands), len(a), len(b))
		return
	}
	for i := range a {
		if a[i] != b[i] {
			d.t.Errorf("%s %s, state %d\n a: %+v\n b: %+v", call, show(demands), i, a[i], b[i])
		}
	}
}

func show(demands []limiter.Demand) (s string) {
	for _, d := range demands {
		s += fmt.Sprintf("[%s=%s burst %d, %s, cost %d]", d.Limit.Policy, limiter.FormatRate(d.Limit.N, d.Limit.Per), d.Limit.Burst, d.Subject, d.Cost)
	}
	return s
}
