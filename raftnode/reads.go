package raftnode

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Linearize returns once the state here has everything that was committed
// anywhere before the call, so that a [Node.View] after it is linearizable. It
// rides out elections until ctx ends, and then answers [fsm.ErrNoLeader].
func (n *Node) Linearize(ctx context.Context) error {
	return n.persist(ctx, func() error {
		read, err := askLeader[indexAnswer](ctx, n, methodRead, struct{}{})
		if err != nil {
			return err
		}
		return n.Wait(ctx, read.Index)
	})
}

// readIndex is the leader's answer to a linearizable read.
func (n *Node) readIndex(ctx context.Context) (uint64, error) {
	r, err := n.leading()
	if err != nil {
		return 0, err
	}
	return n.provenIndex(ctx, r)
}

// lastCommand returns an index such that no command up to commit has a greater
// one. Only commands reach the state, so an index of another kind of entry would
// be waited for in vain.
func (n *Node) lastCommand(commit uint64) (uint64, error) {
	applied := n.index()
	for i := commit; i > applied; i-- {
		var entry raft.Log
		err := n.cfg.Storage.Logs.GetLog(i, &entry)
		if errors.Is(err, raft.ErrLogNotFound) {
			break // it is in a snapshot, and so is all before it: it was applied here
		}
		if err != nil {
			return 0, fmt.Errorf("read entry %d: %w", i, err)
		}
		if entry.Type == raft.LogCommand {
			return i, nil
		}
	}
	return n.index(), nil
}
