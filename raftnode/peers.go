package raftnode

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// Status is where a node stands.
type Status struct {
	Node         string
	Deployment   string
	Leader       string // empty when none is known
	Term         uint64
	AppliedIndex uint64
	CommitIndex  uint64
}

// Status returns where this node stands.
func (n *Node) Status() Status {
	leader, _ := n.leaderID()
	return Status{
		Node: n.cfg.ID, Deployment: n.cfg.Deployment, Leader: leader, Term: n.raft.CurrentTerm(),
		AppliedIndex: n.index(), CommitIndex: n.raft.CommitIndex(),
	}
}

// PeerStatus is a node of the deployment as Raft and gossip see it.
type PeerStatus struct {
	ID      string
	Raft    string
	API     string
	Gossip  string
	Voter   bool
	Leader  bool
	Alive   bool
	Release string
	Format  int
}

// Peers returns the nodes in the Raft configuration, by id.
func (n *Node) Peers() ([]PeerStatus, error) {
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("read the raft configuration: %w", err)
	}
	leader, _ := n.leaderID()
	var all []PeerStatus
	for _, server := range future.Configuration().Servers {
		p := PeerStatus{
			ID: string(server.ID), Raft: string(server.Address),
			Voter: server.Suffrage == raft.Voter, Leader: string(server.ID) == leader,
		}
		if seen, ok := n.peers.Peer(p.ID); ok {
			p.API, p.Gossip, p.Alive = seen.Meta.API, seen.Addr, seen.Alive
			p.Release, p.Format = seen.Meta.Version, seen.Meta.Format
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b PeerStatus) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// RemovePeer takes a node out of the deployment, through the leader. Its services
// must have been deleted.
func (n *Node) RemovePeer(ctx context.Context, id string) error {
	_, err := askLeader[struct{}](ctx, n, methodRemove, id)
	return err
}

func (n *Node) removePeer(ctx context.Context, id string) error {
	if _, err := n.leading(); err != nil {
		return err
	}
	var hosts []string
	n.View(func(s *fsm.State) {
		for svc := range s.Services() {
			if svc.Node == id {
				hosts = append(hosts, svc.Host)
			}
		}
	})
	if len(hosts) > 0 {
		if err := n.deleteServices(ctx, hosts); err != nil {
			return err
		}
	}
	if err := n.raft.RemoveServer(raft.ServerID(id), 0, timeLeft(ctx)).Error(); err != nil {
		return asOurs(err)
	}
	return n.propose(ctx, fsm.RemoveNode{ID: id})
}

// deleteServices forgets the services of a node that is to go. One that may still
// hold a lease is in the way: the node has to be stopped first.
func (n *Node) deleteServices(ctx context.Context, hosts []string) error {
	r, err := n.leading()
	if err != nil {
		return err
	}
	for _, host := range hosts {
		if !r.gone(host, time.Now()) {
			return &fsm.Refusal{
				Code: fsm.ErrConflict, Field: "node", Value: host,
				Message: fmt.Sprintf("service %q may still hold a lease: stop its node and try again in %v", host, n.cfg.Lease.Grace),
			}
		}
		if err := n.propose(ctx, fsm.DeleteService{Host: host, Term: r.term()}); err != nil {
			return err
		}
	}
	return nil
}

// tendMembers adds, promotes and readdresses peers while this node leads, one
// change at a time.
func (n *Node) tendMembers(ctx context.Context) {
	tick := time.NewTicker(max(n.cfg.Interval, 250*time.Millisecond))
	defer tick.Stop()
	var kept progress
	said := map[raft.ServerID]string{}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		in, err := n.membershipInput(ctx, &kept)
		if err != nil {
			n.logger.Debug("membership not known", "error", err)
			continue
		}
		action := membershipStep(in)
		for id, why := range action.Blocked {
			if said[id] != why {
				said[id] = why
				n.logger.Warn("a node cannot join", "peer", id, "reason", why)
			}
		}
		if action.Change == membershipKeep {
			continue
		}
		if err := n.change(ctx, action); err != nil {
			n.logger.Warn("membership not changed", "change", action.Change, "peer", action.Server.ID, "error", err)
			continue
		}
		n.logger.Info("membership changed", "change", action.Change, "peer", action.Server.ID, "address", action.Server.Address)
	}
}

func (n *Node) membershipInput(ctx context.Context, kept *progress) (membershipInput, error) {
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return membershipInput{}, err
	}
	servers := future.Configuration().Servers
	commit := n.raft.CommitIndex()
	var current []raft.ServerID
	for _, server := range servers {
		if server.Suffrage == raft.Voter {
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		a, err := ask[indexAnswer](attempt, n, string(server.ID), methodApplied, struct{}{})
		cancel()
		if err == nil && caughtUp(a.Index, commit) {
			current = append(current, server.ID)
		}
	}
	return membershipInput{
		Leader: raft.ServerID(n.cfg.ID), Servers: servers, Peers: n.peers.Peers(), Format: int(fsm.Format),
		VoterLimit: n.cfg.VoterLimit, KeptUp: kept.observe(time.Now(), current),
	}, nil
}

func (n *Node) change(ctx context.Context, action membershipAction) error {
	timeout := timeLeft(ctx)
	server := action.Server
	if action.Change == membershipPromote || action.Change == membershipReaddress && server.Suffrage == raft.Voter {
		return n.raft.AddVoter(server.ID, server.Address, 0, timeout).Error()
	}
	return n.raft.AddNonvoter(server.ID, server.Address, 0, timeout).Error()
}

// Snapshot writes a snapshot of the state now. Raft refuses one right after a
// membership change and while leadership is transferred.
func (n *Node) Snapshot() error { return n.raft.Snapshot().Error() }
