package keycli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hivegate/hivegate/keystore"
)

const (
	// confirmWithin is how long a gate may take to confirm a change. One that
	// reaches the keystore does so within a second.
	confirmWithin = 10 * time.Second
	// confirmLook is how often the keystore is asked who has confirmed.
	confirmLook = 20 * time.Millisecond
)

// awaitGates returns when every gate that may answer from memory has confirmed the
// change number seq. Its error names those that have not: they are killed, or cut
// off from the keystore.
func (s *session) awaitGates(seq int64) error {
	store, ok := s.Keeper.Store.(keystore.NodeStore)
	if !ok {
		return errors.New("this keystore does not know its gates; they refuse the key within a second")
	}
	ctx, cancel := context.WithTimeout(s.ctx, confirmWithin)
	defer cancel()
	tick := time.NewTicker(confirmLook)
	defer tick.Stop()
	var late []keystore.Node
	for {
		nodes, err := store.Nodes(ctx)
		switch {
		case err == nil:
			if late = behind(nodes, seq); len(late) == 0 {
				return s.confirmed(nodes)
			}
		case ctx.Err() == nil:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if s.ctx.Err() != nil {
				return s.ctx.Err()
			}
			return unconfirmed(late)
		}
	}
}

func (s *session) confirmed(nodes []keystore.Node) error {
	switch len(nodes) {
	case 0:
		return s.say("No gate is running on this keystore.")
	case 1:
		return s.say("The gate has confirmed: " + nodes[0].Name + ".")
	}
	return s.say(fmt.Sprintf("All %d gates have confirmed.", len(nodes)))
}

// behind returns the nodes that have not applied seq.
func behind(nodes []keystore.Node, seq int64) (late []keystore.Node) {
	for _, n := range nodes {
		if n.Seq < seq {
			late = append(late, n)
		}
	}
	return late
}

// unconfirmed names gates, and says of each how long it may still let the key pass.
func unconfirmed(late []keystore.Node) error {
	if len(late) == 0 {
		return errors.New("the keystore did not say which gates have confirmed")
	}
	names := make([]string, len(late))
	for i, n := range late {
		left := max(0, n.MaxStaleness+keystore.NodeGrace-n.Silent).Round(time.Second)
		names[i] = fmt.Sprintf("%s (silent for %s; where it still runs, it trusts its memory for %s more at most)",
			n.Name, n.Silent.Round(time.Second), left)
	}
	return fmt.Errorf("not confirmed by %s", strings.Join(names, ", by "))
}
