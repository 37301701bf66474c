package keystore

import (
	"sync"
	"sync/atomic"
	"time"
)

// flights lets one request hash for all that present the same credential at the
// same time. The one that hashes (the leader) is one of them, in its own
// goroutine; when it may not hash, or its client goes away before it could, the
// next takes over, so that nobody's budget or connection decides for another.
//
// It has one member for each credential being hashed or waiting for that, and so
// not more than there are requests.
type flights struct {
	mu sync.Mutex // guards m and the waiters of its members
	m  map[attemptKey]*flight
}

type flight struct {
	key     attemptKey
	waiters []*follower
	// arrival is the place in the queue that was given to the first leader; 0:
	// none yet. Of the leader alone.
	arrival uint64
	// hashing is set while the leader computes: then the answer is certain to
	// come, and waiting has no other end. Written by the leader.
	hashing atomic.Bool
}

// follower waits for the leader. The buffer takes the one signal it is sent.
type follower struct{ signal chan signal }

type signal uint8

const (
	signalRight signal = iota
	signalWrong
	signalOverloaded
	signalLead // it is your turn to lead
)

// join makes the caller the leader (no follower is returned) or a follower.
func (fs *flights) join(k attemptKey) (*flight, *follower) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.m[k]
	if f == nil {
		f = &flight{key: k}
		fs.m[k] = f
		return f, nil
	}
	w := &follower{signal: make(chan signal, 1)}
	f.waiters = append(f.waiters, w)
	return f, w
}

// resolve ends a flight with one answer for all.
func (fs *flights) resolve(f *flight, s signal) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.m, f.key)
	for _, w := range f.waiters {
		w.signal <- s
	}
	f.waiters = nil
}

// abdicate makes the next follower the leader, or ends a flight without any.
func (fs *flights) abdicate(f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(f.waiters) == 0 {
		delete(fs.m, f.key)
		return
	}
	f.waiters[0].signal <- signalLead
	f.waiters[0] = nil
	f.waiters = f.waiters[1:]
}

// leave takes a follower out. A signal that it had been sent meanwhile is
// returned.
func (fs *flights) leave(f *flight, w *follower) (signal, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for i := range f.waiters {
		if f.waiters[i] == w {
			f.waiters = append(f.waiters[:i], f.waiters[i+1:]...)
			return 0, false
		}
	}
	return <-w.signal, true
}

// settle decides one credential against one bcrypt hash by hashing, or by
// waiting for the request that does.
func (v *Verifier) settle(a *attempt, e *Entry, s *secretState, i int) Outcome {
	f, w := v.flights.join(attemptKey{a.digest, s.fp})
	if w == nil {
		return v.lead(a, e, s, i, f)
	}
	sig, out := v.await(a, f, w)
	if out != 0 {
		return out
	}
	switch sig {
	case signalRight:
		// The leader may have held another copy of what is known of the hash.
		d := a.digest
		s.verified.CompareAndSwap(nil, &d)
		return Valid
	case signalWrong:
		return WrongSecret
	case signalLead:
		return v.lead(a, e, s, i, f)
	}
	v.overloaded()
	return Overloaded
}

// await waits for the leader's signal. Where it gives up it returns how that
// ends instead.
func (v *Verifier) await(a *attempt, f *flight, w *follower) (signal, Outcome) {
	limit := time.NewTimer(v.pool.wait)
	defer limit.Stop()
	for {
		select {
		case sig := <-w.signal:
			return sig, 0
		case <-a.ctx.Done():
			if late, ok := v.flights.leave(f, w); ok && late == signalLead {
				v.flights.abdicate(f)
			}
			a.err = a.ctx.Err()
			return 0, Unavailable
		case <-limit.C:
			if f.hashing.Load() {
				limit.Reset(v.pool.wait)
				continue
			}
			late, ok := v.flights.leave(f, w)
			if !ok {
				v.overloaded()
				return 0, Overloaded
			}
			return late, 0
		}
	}
}

// lead hashes for everybody in the flight.
func (v *Verifier) lead(a *attempt, e *Entry, s *secretState, i int, f *flight) Outcome {
	ended := false
	defer func() {
		if !ended { // only a panic in Compare or Guard leads here
			v.flights.abdicate(f)
		}
	}()
	end := func(sig signal) { ended = true; v.flights.resolve(f, sig) }
	yield := func() { ended = true; v.flights.abdicate(f) }

	// The answer may have come between the first look and the flight.
	switch v.known(a, e, i) {
	case right:
		end(signalRight)
		return Valid
	case wrong:
		end(signalWrong)
		return WrongSecret
	}
	id := e.core.id
	if !a.spend(id) {
		yield()
		return AttemptsExceeded
	}
	switch v.pool.acquire(a.ctx, id, e.core.recentFailures(a.now), &f.arrival) {
	case slotDropped:
		end(signalOverloaded)
		v.overloaded()
		return Overloaded
	case slotTimeout:
		yield()
		v.overloaded()
		return Overloaded
	case slotGone:
		yield()
		a.err = a.ctx.Err()
		return Unavailable
	}
	f.hashing.Store(true)
	defer f.hashing.Store(false)
	if !v.hash(e.rec.Secrets[i].Hash, a.credential, id) {
		v.failures.put(f.key, a.now, failureFor)
		e.core.failed(a.now)
		v.pool.penalise(id)
		v.hashWrong.Add(1)
		end(signalWrong)
		return WrongSecret
	}
	// Remembered before the flight ends: whoever comes later finds it.
	d := a.digest
	s.verified.CompareAndSwap(nil, &d)
	v.verified.put(verifiedKey{digest: d, id: id, fp: s.fp})
	v.hashOK.Add(1)
	v.found(e, i, a.credential)
	end(signalRight)
	return Valid
}

// hash compares, and gives the slot back.
func (v *Verifier) hash(hash []byte, credential string, id ID) bool {
	defer v.pool.release(id)
	password := []byte(credential)
	defer clear(password)
	return v.compare(hash, password) == nil
}

func (v *Verifier) overloaded() { v.hashOverloaded.Add(1) }
