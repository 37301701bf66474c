package keystore

import (
	"context"
	"time"
)

// Node is a process that answers from its memory of a store.
type Node struct {
	// ID is unlike that of any other process, ever.
	ID string
	// Name says to people which one it is: host and process id.
	Name string
	// Seq is the change number up to which it has applied all changes, the end
	// of open streams included.
	Seq int64
	// MaxStaleness is how long it trusts its memory without word from the store.
	MaxStaleness time.Duration
	// Silent is how long it has said nothing, by the store's clock.
	Silent time.Duration
}

// NodeStore is a Store that knows which processes answer from memory, so that
// whoever made a change can wait until it holds everywhere. Stores that implement
// it pass storetest.RunNodes.
type NodeStore interface {
	// Beat stores what n says of itself; n.Silent is 0 from then on. Nodes that
	// have been silent for too long (see Nodes) are forgotten.
	Beat(ctx context.Context, n Node) error
	// Leave forgets a node: it answers nothing any more.
	Leave(ctx context.Context, id string) error
	// Nodes returns, by name, those that may still answer from memory. One that
	// was killed, or is cut off, is among them until it has been silent for its
	// MaxStaleness and NodeGrace: only then is it certain that it trusts nothing.
	Nodes(ctx context.Context) ([]Node, error)
}

const (
	// NodeGrace is added to a node's MaxStaleness: it may have heard from the
	// store since it last wrote.
	NodeGrace = beatEvery + 20*time.Second
	// beatEvery is how often a node says that it is there when nothing changes.
	beatEvery = 10 * time.Second
	// beatTimeout is for one such write.
	beatTimeout = 5 * time.Second
	// beatRetry is the pause after one that failed.
	beatRetry = 500 * time.Millisecond
)

// nodes is what a Verifier tells other processes of itself.
type nodes struct {
	store NodeStore // nil: nobody is told
	self  Node      // without Seq
	// due holds one value when there is something new to say.
	due chan struct{}
}

func (v *Verifier) initNodes() {
	v.nodes.due = make(chan struct{}, 1)
	store, ok := v.o.Store.(NodeStore)
	if !ok || v.o.NodeID == "" {
		return
	}
	v.nodes.store = store
	v.nodes.self = Node{ID: v.o.NodeID, Name: v.o.NodeName, MaxStaleness: max(v.o.MaxStaleness, v.o.Poll+time.Second)}
}

// confirmApplied has the store told that all changes up to seq hold here.
func (v *Verifier) confirmApplied(seq int64) {
	if v.applied.Swap(seq) == seq {
		return
	}
	select {
	case v.nodes.due <- struct{}{}:
	default:
	}
}

// beatNow tells the store how far this process is.
func (v *Verifier) beatNow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	n := v.nodes.self
	n.Seq = v.applied.Load()
	return v.nodes.store.Beat(ctx, n)
}

// beat tells the store whenever changes were applied, and every beatEvery
// otherwise, until Close.
func (v *Verifier) beat() {
	timer := time.NewTimer(beatEvery)
	defer timer.Stop()
	for {
		select {
		case <-v.ctx.Done():
			return
		case <-timer.C:
		case <-v.nodes.due:
		}
		wait := beatEvery
		// A store that fails is reported by the feed.
		if err := v.beatNow(v.ctx); err != nil {
			wait = beatRetry
		}
		timer.Reset(wait)
	}
}

// leave takes this process from the list.
func (v *Verifier) leave(ctx context.Context) error {
	if v.nodes.store == nil {
		return nil
	}
	return v.nodes.store.Leave(ctx, v.nodes.self.ID)
}
