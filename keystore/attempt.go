package keystore

import (
	"context"
	"crypto/subtle"
	"time"
)

// attempt is one credential on its way past everything that is slower than
// memory. It belongs to one call of Verify, which alone uses the guard.
type attempt struct {
	ctx        context.Context
	now        time.Time
	credential string
	digest     digest
	guard      Guard
	// stored is the stored digest of the credential, once it was needed.
	stored   digest
	isStored bool
	// spent holds the ids whose budget this attempt has drawn on.
	spent []ID
	// err is why the caller waited no longer.
	err error
}

// spend takes one attempt on id, once.
func (a *attempt) spend(id ID) bool {
	if a.guard == nil {
		return true
	}
	for _, s := range a.spent {
		if s == id {
			return true
		}
	}
	if !a.guard.Spend(id) {
		return false
	}
	a.spent = append(a.spent, id)
	return true
}

// refund gives back all that was spent.
func (a *attempt) refund() {
	for _, id := range a.spent {
		a.guard.Refund(id)
	}
	a.spent = a.spent[:0]
}

// refundOne gives back what was spent on id.
func (a *attempt) refundOne(id ID) {
	for i, s := range a.spent {
		if s == id {
			a.guard.Refund(id)
			a.spent = append(a.spent[:i], a.spent[i+1:]...)
			return
		}
	}
}

// failed is the result of an attempt that no secret matched.
func (a *attempt) failed(out Outcome, id ID) Result {
	return Result{Outcome: out, ID: id, Err: a.err}
}

// attempt compares the credential with the secrets of one record that are usable
// now: by stored digest, by what memory knows of their hashes, and by hashing at
// last. It returns Valid and the secret's index, or WrongSecret,
// AttemptsExceeded, Overloaded or Unavailable. What was spent stays so except
// where nothing was compared.
func (v *Verifier) attempt(a *attempt, e *Entry) (Outcome, int) {
	if i, decided := v.recall(a, e); decided {
		if i >= 0 {
			return Valid, i
		}
		return v.wrong(a, e), -1
	}
	compared := false
	for i, s := range e.secrets {
		if !e.usable(i, a.now) {
			continue
		}
		// Asked again: another request may have settled it meanwhile.
		switch v.known(a, e, i) {
		case right:
			return Valid, i
		case wrong:
			continue
		}
		switch out := v.settle(a, e, s, i); out {
		case Valid:
			return Valid, i
		case WrongSecret:
			compared = true
		default:
			if !compared {
				a.refundOne(e.core.id)
			}
			return out, -1
		}
	}
	return v.wrong(a, e), -1
}

// recall decides without hashing, where that is possible: by a secret that
// matches, or by all of them being known not to.
func (v *Verifier) recall(a *attempt, e *Entry) (secret int, decided bool) {
	decided = true
	for i := range e.secrets {
		if !e.usable(i, a.now) {
			continue
		}
		switch v.known(a, e, i) {
		case right:
			return i, true
		case unsettled:
			decided = false
		}
	}
	if decided {
		return -1, true
	}
	// Only now, because a key with a stored digest never comes here.
	k, ok := v.verified.get(&a.digest)
	if !ok || k.id != e.core.id {
		v.verifiedMisses.Add(1)
		return -1, false
	}
	for i, s := range e.secrets {
		if s.fp == k.fp && e.usable(i, a.now) {
			v.verifiedHits.Add(1)
			s.verified.CompareAndSwap(nil, &k.digest)
			return i, true
		}
	}
	v.verifiedMisses.Add(1)
	return -1, false
}

// knowledge is what can be said of a credential and a hash without hashing.
type knowledge uint8

const (
	unsettled knowledge = iota
	right
	wrong
)

// known compares the credential with one secret by all that costs no hash.
func (v *Verifier) known(a *attempt, e *Entry, i int) knowledge {
	s := e.secrets[i]
	if p := s.verified.Load(); p != nil {
		// The hash belongs to one key of at most 72 bytes, and that key is
		// known: any other is wrong.
		if p.equal(&a.digest) {
			return right
		}
		return wrong
	}
	if stored := e.rec.Secrets[i].Digest; len(stored) != 0 && v.o.Crypto.HasDataKey() {
		if !a.isStored {
			a.stored, a.isStored = v.o.Crypto.digest(a.credential), true
		}
		if subtle.ConstantTimeCompare(stored, a.stored[:]) != 1 {
			return wrong
		}
		d := a.digest
		s.verified.CompareAndSwap(nil, &d)
		return right
	}
	if !s.sound || v.failures.has(attemptKey{a.digest, s.fp}, a.now) {
		return wrong
	}
	return unsettled
}

// wrong charges a wrong secret to the caller's budget.
func (v *Verifier) wrong(a *attempt, e *Entry) Outcome {
	if !a.spend(e.core.id) {
		return AttemptsExceeded
	}
	return WrongSecret
}
