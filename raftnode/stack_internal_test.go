package raftnode

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// stackNode is a Raft server on real files, real TCP and real gossip, without
// what lockstep replicates on top of it.
type stackNode struct {
	id     string
	raft   *raft.Raft
	gossip *gossip
	stop   func()
}

// nothing is a state machine without a state.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                 { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }
func (nothing) Restore(r io.ReadCloser) error       { return r.Close() }
func (nothing) Persist(sink raft.SnapshotSink) error {
	return sink.Close()
}
func (nothing) Release() {}

// startStack starts a node in dir that knows the address of one other.
func startStack(t *testing.T, dir, id string, expect int, seeds ...string) *stackNode {
	t.Helper()
	owner, err := openIdentity(dir, "east", id)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := openStores(storeConfig(dir, LogStoreBoltDB))
	if err != nil {
		t.Fatal(err)
	}
	transport, err := newTransport(t.Context(), TransportConfig{
		Bind: "127.0.0.1:0", Deployment: "east", Node: id, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	state, err := raft.HasExistingState(disk.Logs, disk.Stable, disk.Snapshots)
	if err != nil {
		t.Fatal(err)
	}
	node := &stackNode{id: id}
	node.raft, err = raft.NewRaft(raftConfig(id, DefaultTiming(), hclog.NewNullLogger()),
		nothing{}, disk.Logs, disk.Stable, disk.Snapshots, transport)
	if err != nil {
		t.Fatal(err)
	}
	var leave func()
	node.gossip, leave = startGossip(t, id, func(c *GossipConfig) {
		c.Seeds, c.Meta.Raft = seeds, string(transport.LocalAddr())
		c.Meta.Expect, c.Meta.HasState = expect, state
	})
	stopped := false
	node.stop = func() {
		if stopped {
			return
		}
		stopped = true
		leave()
		if err := errors.Join(node.raft.Shutdown().Error(), transport.Close(), disk.close(), owner.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(node.stop)
	return node
}

// configuration returns the servers that n knows, as "id suffrage", by id.
func (n *stackNode) configuration(t *testing.T) []string {
	t.Helper()
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, server := range future.Configuration().Servers {
		list = append(list, fmt.Sprintf("%s %v", server.ID, server.Suffrage))
	}
	slices.Sort(list)
	return list
}

// knowsWhereItIs reports whether the configuration that n has is right about n.
func (n *stackNode) knowsWhereItIs(t *testing.T) bool {
	t.Helper()
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		t.Fatal(err)
	}
	self, _ := n.gossip.Peer(n.id)
	return slices.ContainsFunc(future.Configuration().Servers, func(s raft.Server) bool {
		return string(s.ID) == n.id && string(s.Address) == self.Meta.Raft
	})
}

// tend does what the leader's loop does in a round: gather, compute, act. All
// non-voters count as caught up.
func (n *stackNode) tend(t *testing.T) error {
	t.Helper()
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return err
	}
	in := membershipInput{
		Leader: raft.ServerID(n.id), Servers: future.Configuration().Servers,
		Peers: n.gossip.Peers(), KeptUp: make(map[raft.ServerID]time.Duration), StableFor: time.Nanosecond,
	}
	for _, server := range in.Servers {
		in.KeptUp[server.ID] = time.Second
	}
	action := membershipStep(in)
	switch {
	case action.Change == membershipKeep:
		return nil
	case action.Server.Suffrage == raft.Voter:
		return n.raft.AddVoter(action.Server.ID, action.Server.Address, future.Index(), time.Second).Error()
	}
	return n.raft.AddNonvoter(action.Server.ID, action.Server.Address, future.Index(), time.Second).Error()
}

func leaderOf(nodes ...*stackNode) *stackNode {
	for _, n := range nodes {
		if n.raft.State() == raft.Leader {
			return n
		}
	}
	return nil
}

func TestThreeNodesFindEachOtherStartAndReplaceTheirLeader(t *testing.T) {
	t.Parallel()
	a := startStack(t, t.TempDir(), "a", 3)
	b := startStack(t, t.TempDir(), "b", 3, a.gossip.Addr())
	dirC := t.TempDir()
	c := startStack(t, dirC, "c", 3, b.gossip.Addr())

	var start bootstrap
	eventually(t, func() bool {
		meta, _ := a.gossip.Peer("a")
		var err error
		start, err = bootstrapDecision(bootstrapInput{
			ID: "a", Address: raft.ServerAddress(meta.Meta.Raft), Expect: 3, Peers: a.gossip.Peers(),
		})
		return err == nil && start.Servers != nil
	})
	if err := a.raft.BootstrapCluster(raft.Configuration{Servers: start.Servers}).Error(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return leaderOf(a, b, c) != nil })

	// A fourth is let in, without a vote: four would outlive no more than three.
	d := startStack(t, t.TempDir(), "d", 0, c.gossip.Addr())
	want := []string{"a Voter", "b Voter", "c Voter", "d Nonvoter"}
	eventually(t, func() bool {
		leader := leaderOf(a, b, c)
		return leader != nil && leader.tend(t) == nil && slices.Equal(d.configuration(t), want)
	})

	// c comes back at another address; that it hears of it shows that it is
	// reached there.
	c.stop()
	c = startStack(t, dirC, "c", 3, a.gossip.Addr())
	eventually(t, func() bool {
		leader := leaderOf(a, b)
		return leader != nil && leader.tend(t) == nil && c.knowsWhereItIs(t)
	})
	if got := c.configuration(t); !slices.Equal(got, want) {
		t.Errorf("c came back to %v, want %v", got, want)
	}

	// The leader goes; the others have another one.
	gone := leaderOf(a, b, c)
	if gone == nil {
		t.Fatal("no leader")
	}
	gone.stop()
	rest := slices.DeleteFunc([]*stackNode{a, b, c}, func(n *stackNode) bool { return n == gone })
	eventually(t, func() bool {
		leader := leaderOf(rest...)
		return leader != nil && leader.raft.Barrier(time.Second).Error() == nil
	})
}
