package keyapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hivegate/hivegate/internal/refusal"
	"github.com/hivegate/hivegate/keystore"
)

const (
	idempotencyHeader = "Idempotency-Key"
	idempotencyKind   = "idempotency"
	maxIdempotencyKey = 255 // bytes
	// rememberFor is how long a retry is known as one.
	rememberFor = 10 * time.Minute
	// abandonedAfter is when a call that neither ended nor failed is taken for
	// one whose process died.
	abandonedAfter = 30 * time.Second
	// forgetTimeout bounds the removal of a claim that came to nothing.
	forgetTimeout = 2 * time.Second
)

// claim is what is kept of a call with an Idempotency-Key. There is no secret
// in it: a new key is shown once, and to a retry not at all.
type claim struct {
	ID   string    `json:"id"`   // of the key that is made or rotated
	Body string    `json:"body"` // SHA-256 of the body, in hex
	At   time.Time `json:"at"`
	// Replaces is the SHA-256 of the hash that a rotation is to replace.
	Replaces string `json:"replaces,omitempty"`
	Done     bool   `json:"done,omitempty"`
}

// idempotent runs do, which makes or rotates a key, at most once for one
// Idempotency-Key of one caller within ten minutes. A retry is a conflict that
// names the key: the secret is not kept, so it cannot be shown again. Whoever
// never saw it rotates that key, or deletes it.
//
// The claim is stored before the key, and names the id that the key will have.
// So after a crash between the two the retry makes the key under the same id,
// and after a crash behind both it finds that there is one.
func (x *call) idempotent(what string, body []byte, do func(keystore.ID) *refusal.Refusal) *refusal.Refusal {
	values := x.r.Header[idempotencyHeader]
	if len(values) == 0 {
		return do(keystore.ID{})
	}
	if len(values) > 1 || !validIdempotencyKey(values[0]) {
		return wrong(idempotencyHeader, "must be given once, as 1 to 255 visible ASCII characters")
	}
	docs, ok := x.keeper.Store.(keystore.DocStore)
	if !ok {
		return unavailable(errors.New("the keystore keeps no documents, and so no Idempotency-Key"))
	}
	x.purge.maybe(docs, x.now())
	name := x.claimName(what, values[0])
	mine, version, ref := x.claim(docs, what, name, hexSum(body))
	if ref != nil {
		return ref
	}
	id, err := keystore.ParseID(mine.ID)
	if err != nil {
		return unavailable(fmt.Errorf("read idempotency key: %w", err))
	}
	ref = do(id)
	// Also when the client has gone: the claim must tell what became of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), forgetTimeout)
	defer cancel()
	switch {
	case ref == nil:
		mine.Done = true
		// Where this fails the retry finds out by looking at the key.
		_, _ = swapClaim(ctx, docs, name, version, mine)
	case ref.Reason != refusal.ReasonKeystoreUnavailable:
		// Refused: nothing was made, and a corrected retry may use the same key.
		_, _ = docs.SwapDoc(ctx, idempotencyKind, name, version, nil)
	}
	return ref
}

// claim stores what the caller is about to do, or finds that it was done.
func (x *call) claim(docs keystore.DocStore, what, name, body string) (claim, string, *refusal.Refusal) {
	ctx, now := x.r.Context(), x.now().UTC()
	fresh := claim{ID: x.id.String(), Body: body, At: now}
	if what == "create" {
		fresh.ID = keystore.NewID().String()
	} else {
		rec, err := x.keeper.Store.Get(ctx, x.id)
		if err != nil {
			return claim{}, "", refusalOf(err)
		}
		if !x.c.sees(rec) {
			return claim{}, "", &refusal.Refusal{Reason: refusal.ReasonNotFound}
		}
		fresh.Replaces = currentSecret(rec)
	}
	for range 8 { // others claim the same name at the same time: one of us wins
		doc, err := docs.LoadDoc(ctx, idempotencyKind, name)
		old := claim{}
		switch {
		case errors.Is(err, keystore.ErrNotFound):
		case err != nil:
			return claim{}, "", unavailable(err)
		default:
			if err := json.Unmarshal(doc.Data, &old); err != nil {
				return claim{}, "", unavailable(fmt.Errorf("read idempotency key: %w", err))
			}
		}
		next := fresh
		if doc.Version != "" && now.Sub(old.At) < rememberFor {
			var ref *refusal.Refusal
			if next, ref = x.again(what, old, fresh); ref != nil {
				return claim{}, "", ref
			}
		}
		version := doc.Version
		stored, err := swapClaim(ctx, docs, name, version, next)
		if err != nil {
			return claim{}, "", unavailable(err)
		}
		if stored != "" {
			return next, stored, nil
		}
	}
	return claim{}, "", x.conflict("", "the first request with this Idempotency-Key is still at work; try again in a moment")
}

// again says what becomes of a retry: a claim to go on with, or a refusal.
func (x *call) again(what string, old, fresh claim) (claim, *refusal.Refusal) {
	if old.Body != fresh.Body {
		return claim{}, x.conflict(old.ID, "this Idempotency-Key was used with another body; use a new one for another request")
	}
	done := "this Idempotency-Key made "
	if what == "rotate" {
		done = "this Idempotency-Key rotated "
	}
	done += old.ID + " already; its secret was shown once and is not kept: rotate the key to get another"
	if old.Done {
		return claim{}, x.conflict(old.ID, done)
	}
	switch happened, err := x.happened(what, old); {
	case err != nil:
		return claim{}, unavailable(err)
	case happened:
		return claim{}, x.conflict(old.ID, done)
	case fresh.At.Sub(old.At) < abandonedAfter:
		return claim{}, x.conflict(old.ID, "the first request with this Idempotency-Key is still at work; try again in a moment")
	}
	old.At, old.Replaces = fresh.At, fresh.Replaces // its process died before it did anything
	return old, nil
}

// happened looks whether a claim that does not say so was carried out.
func (x *call) happened(what string, old claim) (bool, error) {
	id, err := keystore.ParseID(old.ID)
	if err != nil {
		return false, err
	}
	rec, err := x.keeper.Store.Get(x.r.Context(), id)
	switch {
	case errors.Is(err, keystore.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return what == "create" || currentSecret(rec) != old.Replaces, nil
}

func (x *call) conflict(id, why string) *refusal.Refusal {
	if id != "" {
		x.w.Header().Set("Location", x.o.Base+"/api-keys/"+id)
	}
	return &refusal.Refusal{Reason: refusal.ReasonConflict, Message: why, Hint: why}
}

// claimName tells the claims of all callers apart without keeping what the
// client sent.
func (x *call) claimName(what, key string) string {
	h := sha256.New()
	for _, part := range []string{x.c.ID, x.c.Subject, what, x.id.String(), key} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// swapClaim returns the version that was stored, "" where another one was first.
func swapClaim(ctx context.Context, docs keystore.DocStore, name, old string, c claim) (string, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	next := &keystore.Doc{Version: rand.Text(), Data: data}
	done, err := docs.SwapDoc(ctx, idempotencyKind, name, old, next)
	if err != nil || !done {
		return "", err
	}
	return next.Version, nil
}

func validIdempotencyKey(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxIdempotencyKey
}

// currentSecret stands for the current secret of a record.
func currentSecret(rec *keystore.Record) string {
	if len(rec.Secrets) == 0 {
		return ""
	}
	return hexSum(rec.Secrets[0].Hash)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// purger removes claims that are over, at most once a minute.
type purger struct {
	mu   sync.Mutex // guards last
	last time.Time
}

const (
	purgeEvery = time.Minute
	purgePage  = 200
	purgeMost  = 2000 // claims looked at in one go
)

// maybe starts a purge where one is due.
func (p *purger) maybe(docs keystore.DocStore, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.last) < purgeEvery {
		return
	}
	p.last = now
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		// What fails is tried again with a later purge.
		_ = purgeClaims(ctx, docs, now)
	}()
}

// purgeClaims removes the claims that are over.
func purgeClaims(ctx context.Context, docs keystore.DocStore, now time.Time) error {
	after := ""
	for range purgeMost / purgePage {
		names, err := docs.DocNames(ctx, idempotencyKind, after, purgePage)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			doc, err := docs.LoadDoc(ctx, idempotencyKind, name)
			if errors.Is(err, keystore.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			var c claim
			if json.Unmarshal(doc.Data, &c) == nil && now.Sub(c.At) < rememberFor {
				continue
			}
			if _, err := docs.SwapDoc(ctx, idempotencyKind, name, doc.Version, nil); err != nil {
				return err
			}
		}
		after = names[len(names)-1]
	}
	return nil
}
