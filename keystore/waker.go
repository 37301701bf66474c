package keystore

import (
	"context"
	"time"
)

// Waker is a Store that can say that something changed, sooner than a poll would
// find out. It is a hint and no more: the poll goes on beside it.
type Waker interface {
	// Watch calls wake soon after each change, whoever made it, and after each
	// time that the connection was made anew, until ctx ends. A call may come
	// for nothing; one that is lost costs the time until the next poll.
	Watch(ctx context.Context, wake func())
}

// Lineage is a Store that can tell one history of changes from another: a
// database that was restored, or a standby that took over and lacks the last
// changes, may give out the same change numbers again.
type Lineage interface {
	// SeqIn is Seq with a name of the history; empty: not known.
	SeqIn(ctx context.Context) (seq int64, history string, err error)
}

const (
	// wakePoll is the default of Options.Poll for a store that wakes: a change
	// that it did not report still arrives within a second.
	wakePoll = 250 * time.Millisecond
	// plainPoll is the default for others.
	plainPoll = 200 * time.Millisecond
)

// watch lets the store wake the feed until Close.
func (v *Verifier) watch(w Waker) {
	w.Watch(v.ctx, func() {
		select {
		case v.woken <- struct{}{}:
		default:
		}
	})
}
