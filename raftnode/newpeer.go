package raftnode

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// peerQuestion is a node with an empty log that asks whether it is a peer for good.
type peerQuestion struct {
	Node      string `cbor:"1,keyasint"`
	Directory string `cbor:"2,keyasint,omitempty"` // the id of its data directory
}

// isPeer asks a leader that sends this node its first entries whether it is
// committed that the node is a peer. Raft sends them as soon as the leader has added
// the node to its own log, and goes on for a moment after it was removed. If that
// leader is deposed first, the node would have a log and be no peer: like one that
// was removed, which nobody may take back with what it has. Until the answer is yes,
// the leader is refused and comes again.
func (n *Node) isPeer(ctx context.Context, leader string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := ask[struct{}](ctx, n, leader, methodPeer, peerQuestion{Node: n.cfg.ID, Directory: n.cfg.directory.ID})
	return err
}

// committedPeer refuses a node that may not be a peer of the deployment: what is in
// the configuration of this term, and then in the log before an entry that is
// committed in this term, is committed itself.
func (n *Node) committedPeer(ctx context.Context, q peerQuestion) error {
	term := n.raft.CurrentTerm()
	servers, err := n.servers()
	if err != nil {
		return err
	}
	var known fsm.Node
	n.View(func(s *fsm.State) { known, _ = s.Node(q.Node) })
	isPeer := slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == q.Node })
	if !isPeer || otherDirectory(known.Directory.ID, q.Directory) {
		return &fsm.Refusal{
			Code: fsm.ErrConflict, Field: "node", Value: q.Node,
			Message: fmt.Sprintf("node %q, with this data directory, is no peer of the deployment", q.Node),
		}
	}
	if n.startedWith(servers) {
		return nil
	}
	return n.commitsIn(ctx, term)
}

// startedWith reports whether these are the servers that the deployment was started
// with. That needs no majority, which could not be had before they have a log.
func (n *Node) startedWith(servers []raft.Server) bool {
	var first raft.Log
	err := n.cfg.Storage.Logs.GetLog(1, &first)
	return err == nil && first.Type == raft.LogConfiguration && slices.Equal(raft.DecodeConfiguration(first.Data).Servers, servers)
}
