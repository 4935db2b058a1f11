package raftnode

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// TestNewPeerTakesNothingBeforeItIsOne plays leaders that are deposed before they have
// committed what they tell a node that is new.
func TestNewPeerTakesNothingBeforeItIsOne(t *testing.T) {
	t.Parallel()
	for name, compacted := range map[string]bool{"entries": false, "a snapshot": true} {
		story(t, name, 3, 3, func(t *testing.T, f *fleet) {
			node, leader := emptied(t, f)
			if compacted {
				f.service(leader)
				if err := leader.Snapshot(); err != nil {
					t.Fatal(err)
				}
			}
			other := f.follower()
			f.isolate(other)
			f.start(node)
			added := leader.raft.AddNonvoter(raft.ServerID(node.id), raft.ServerAddress(node.id), 0, 0)
			f.until("the leader has stopped", func() bool { return leader.raft.State() != raft.Leader })
			if err := added.Error(); err == nil {
				t.Error("it could commit")
			}
			if last := node.raft.LastIndex(); last != 0 {
				t.Errorf("the node has taken entries up to %d", last)
			}
			f.heal(other)
			f.until("it has joined", func() bool {
				now := f.leader()
				return now != nil && knows(now, node.id) && node.index() >= now.index()
			})
		})
	}
}

func TestCommittedPeer(t *testing.T) {
	t.Parallel()
	story(t, "who may take the log", 3, 3, func(t *testing.T, f *fleet) {
		leader, other := f.leader(), f.follower()
		known := fsm.Node{ID: other.id, Raft: other.id, API: "http://" + other.id, Format: fsm.Format, Directory: fsm.Directory{ID: "own"}}
		f.propose(leader, fsm.RegisterNode{Node: known})
		for _, test := range []struct {
			name string
			q    peerQuestion
			want error
		}{
			{"a peer of the beginning", peerQuestion{Node: other.id}, nil},
			{"a stranger", peerQuestion{Node: "z"}, fsm.ErrConflict},
			{"a peer with another directory", peerQuestion{Node: other.id, Directory: "other"}, fsm.ErrConflict},
		} {
			if err := leader.committedPeer(t.Context(), test.q); test.want == nil && err != nil || !errors.Is(err, test.want) {
				t.Errorf("%s: %v, want %v", test.name, err, test.want)
			}
		}
	})
	story(t, "nobody can commit it", 3, 3, func(t *testing.T, f *fleet) {
		node, leader := emptied(t, f)
		f.start(node)
		f.until("it has joined", func() bool { return node.raft.LastIndex() > 0 })
		if err := leader.committedPeer(t.Context(), peerQuestion{Node: node.id}); err != nil {
			t.Error(err)
		}
		f.unplug(leader)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := leader.committedPeer(ctx, peerQuestion{Node: node.id}); !errors.Is(err, fsm.ErrNotLeader) {
			t.Errorf("by a leader that is cut off: %v, want %v", err, fsm.ErrNotLeader)
		}
	})
}

// emptied takes a node out of the deployment, and its disk away.
func emptied(t *testing.T, f *fleet) (node, leader *fleetNode) {
	t.Helper()
	leader, node = f.leader(), f.follower()
	f.kill(node)
	<-time.After(2 * fleetLease().Grace)
	if err := leader.RemovePeer(t.Context(), node.id); err != nil {
		t.Fatal(err)
	}
	node.store, node.snaps = raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	return node, leader
}
