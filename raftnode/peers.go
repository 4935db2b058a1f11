package raftnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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
	LastContact  time.Time // when the leader was last heard; zero if never
	Disk         DiskStatus
}

// Status returns where this node stands.
func (n *Node) Status() Status {
	leader, _ := n.leaderID()
	contact := n.raft.LastContact()
	if n.raft.State() == raft.Leader {
		contact = time.Now()
	}
	return Status{
		Node: n.cfg.ID, Deployment: n.cfg.Deployment, Leader: leader, Term: n.raft.CurrentTerm(),
		AppliedIndex: n.index(), CommitIndex: n.raft.CommitIndex(), LastContact: contact, Disk: n.cfg.disk.status(),
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
	servers, err := n.servers()
	if err != nil {
		return nil, err
	}
	leader, _ := n.leaderID()
	var all []PeerStatus
	for _, server := range servers {
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

// servers returns the latest Raft configuration, committed or not.
func (n *Node) servers() ([]raft.Server, error) {
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("read the raft configuration: %w", err)
	}
	return future.Configuration().Servers, nil
}

// RemovePeer takes a node out of the deployment, through the leader. Its services
// must have been deleted.
func (n *Node) RemovePeer(ctx context.Context, id string) error {
	asked := false
	return n.persist(ctx, func() error {
		_, err := askLeader[struct{}](ctx, n, methodRemove, id)
		if asked && fsm.CodeOf(err) == fsm.ErrNotFound {
			return nil // removed by the time before, whose answer was lost
		}
		asked = true
		return err
	})
}

func (n *Node) removePeer(ctx context.Context, id string) error {
	r, err := n.leading()
	if err != nil {
		return err
	}
	var hosts []string
	var span time.Duration
	n.View(func(s *fsm.State) {
		span = spanOf(s, id)
		for svc := range s.Services() {
			if svc.Node == id {
				hosts = append(hosts, svc.Host)
			}
		}
	})
	if len(hosts) > 0 {
		if err := n.deleteServices(ctx, hosts, span); err != nil {
			return err
		}
	}
	if id == n.cfg.ID {
		return n.handOver(ctx)
	}
	return r.change(ctx, func() error {
		gone := membershipAction{Change: membershipRemove, Server: raft.Server{ID: raft.ServerID(id)}}
		if err := n.changeMembers(ctx, gone); err != nil {
			return err
		}
		return n.propose(ctx, fsm.RemoveNode{ID: id})
	})
}

// handOver has another node lead, so that this one can be removed: whoever is
// removed can commit nothing after it. It always answers that this node no longer
// leads, or why it still does.
func (n *Node) handOver(ctx context.Context) error {
	_, err := await(ctx, n, func(time.Duration) raft.Future { return n.raft.LeadershipTransfer() })
	if err != nil {
		return &fsm.Refusal{
			Code: fsm.ErrConflict, Field: "node", Value: n.cfg.ID,
			Message: fmt.Sprintf("node %q leads and no other node could take over: %v", n.cfg.ID, err),
		}
	}
	return fsm.ErrNotLeader
}

// deleteServices forgets the services of a node that is to go. One that may still
// hold a lease is in the way: the node has to be stopped first.
func (n *Node) deleteServices(ctx context.Context, hosts []string, span time.Duration) error {
	r, err := n.leading()
	if err != nil {
		return err
	}
	for _, host := range hosts {
		if !r.retire(host, span, n.cfg.Clock()) {
			return &fsm.Refusal{
				Code: fsm.ErrConflict, Field: "node", Value: host,
				Message: fmt.Sprintf("service %q may still hold a lease: stop its node and try again in %v", host, n.cfg.Lease.Grace),
			}
		}
		if err := n.unstick(ctx, host); err != nil {
			r.readmit(host)
			return err
		}
		if err := n.deleteService(ctx, r, host); err != nil {
			return err
		}
	}
	return nil
}

// deleteService forgets a service that has been retired. It has leases again once
// Raft has answered, however long after ctx has ended: what nobody waits for any
// more may still be committed, and then nobody else would say that it was.
func (n *Node) deleteService(ctx context.Context, r *reign, host string) error {
	_, err := outlive(ctx, n, func() (struct{}, error) {
		err := n.propose(context.WithoutCancel(ctx), fsm.DeleteService{Host: host, Term: r.term()})
		if decided(err) {
			r.readmit(host)
		}
		return struct{}{}, err
	})
	return err
}

// decided reports whether an entry that was answered with err is applied, or never
// entered the log. Any other answer means that the leader's term is over, and what
// comes after it decides.
func decided(err error) bool {
	_, refused := errors.AsType[*fsm.Refusal](err)
	return err == nil || refused || errors.Is(err, raft.ErrEnqueueTimeout) || errors.Is(err, raft.ErrLeadershipTransferInProgress)
}

// unstick takes it that a driver that could not be ended is gone: whoever removes its
// node says so. What it owes can then be given to others.
func (n *Node) unstick(ctx context.Context, host string) error {
	var svc fsm.Service
	n.View(func(s *fsm.State) { svc, _ = s.Service(host) })
	if !svc.Stuck {
		return nil
	}
	return n.propose(ctx, fsm.ReportStuck{Host: host})
}

// change lets one at a time look at the Raft configuration and change it: a change
// that rests on an earlier look could take back who was removed. Raft could compare the
// index of the configuration that was seen, but tells nobody what that is.
func (r *reign) change(ctx context.Context, fn func() error) error {
	select {
	case r.changing <- struct{}{}:
		defer func() { <-r.changing }()
		return fn()
	case <-ctx.Done():
		return fmt.Errorf("%w: another change of who is a peer is under way: %w", fsm.ErrNoLeader, context.Cause(ctx))
	}
}

// tendMembers adds, promotes and readdresses peers while this node leads, one
// change at a time.
func (r *reign) tendMembers(ctx context.Context) {
	tick := time.NewTicker(max(r.node.cfg.Interval, 250*time.Millisecond))
	defer tick.Stop()
	var kept progress
	said := map[raft.ServerID]string{}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		_ = r.change(ctx, func() error { // what goes wrong is logged, and looked at again
			r.node.tendOnce(ctx, &kept, said)
			return nil
		})
	}
}

// tendOnce looks at who is a peer and who could be, and makes the change that is due.
// What it has said of a node that cannot join it says no more.
func (n *Node) tendOnce(ctx context.Context, kept *progress, said map[raft.ServerID]string) {
	in, err := n.membershipInput(ctx, kept)
	if err != nil {
		n.logger.Debug("membership not known", "error", err)
		return
	}
	action := membershipStep(in)
	for id, why := range action.Blocked {
		if said[id] != why {
			said[id] = why
			n.logger.Warn("a node cannot join", "peer", id, "reason", why)
		}
	}
	if action.Change == membershipKeep {
		return
	}
	if err := n.changeMembers(ctx, action); err != nil {
		n.logger.Warn("membership not changed", "change", action.Change, "peer", action.Server.ID, "error", err)
		return
	}
	n.logger.Info("membership changed", "change", action.Change, "peer", action.Server.ID, "address", action.Server.Address)
}

// membershipInput looks at who is a peer and who could be.
func (n *Node) membershipInput(ctx context.Context, kept *progress) (membershipInput, error) {
	servers, err := n.servers()
	if err != nil {
		return membershipInput{}, err
	}
	registered := map[raft.ServerID]string{}
	n.View(func(s *fsm.State) {
		for node := range s.Nodes() {
			registered[raft.ServerID(node.ID)] = node.Directory.ID
		}
	})
	return membershipInput{
		Registered: registered,
		Leader:     raft.ServerID(n.cfg.ID), Servers: servers, Peers: n.peers.Peers(), Format: int(fsm.Format),
		VoterLimit: n.cfg.VoterLimit, KeptUp: kept.observe(time.Now(), n.caughtUp(ctx, servers)),
	}, nil
}

// caughtUp asks all non-voters at once how far they have applied the log, and
// returns those that keep up.
func (n *Node) caughtUp(ctx context.Context, servers []raft.Server) (current []raft.ServerID) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	commit := n.raft.CommitIndex()
	keepsUp := make([]bool, len(servers))
	var wg sync.WaitGroup
	for i, server := range servers {
		if server.Suffrage == raft.Voter {
			continue
		}
		wg.Go(func() {
			a, err := ask[indexAnswer](ctx, n, string(server.ID), methodApplied, struct{}{})
			keepsUp[i] = err == nil && caughtUp(a.Index, commit)
		})
	}
	wg.Wait()
	for i, server := range servers {
		if keepsUp[i] {
			current = append(current, server.ID)
		}
	}
	return current
}

func (n *Node) changeMembers(ctx context.Context, action membershipAction) error {
	server := action.Server
	switch action.Change {
	case membershipRemove:
		_, err := await(ctx, n, func(timeout time.Duration) raft.IndexFuture { return n.raft.RemoveServer(server.ID, 0, timeout) })
		return err
	case membershipRenew:
		return n.renew(ctx, string(server.ID))
	case membershipKeep, membershipAdd, membershipPromote, membershipReaddress:
	}
	add := n.raft.AddNonvoter
	if action.Change == membershipPromote || action.Change == membershipReaddress && server.Suffrage == raft.Voter {
		add = n.raft.AddVoter
	}
	_, err := await(ctx, n, func(timeout time.Duration) raft.IndexFuture { return add(server.ID, server.Address, 0, timeout) })
	return err
}

// renew lets a node register the data directory that it has now.
func (n *Node) renew(ctx context.Context, id string) error {
	peer, ok := n.peers.Peer(id)
	if !ok {
		return fmt.Errorf("node %q has gone: %w", id, fsm.ErrNotFound)
	}
	var node fsm.Node
	n.View(func(s *fsm.State) { node, _ = s.Node(id) })
	lost := node.Directory.ID
	node.Directory = fsm.Directory{ID: peer.Meta.Directory}
	return n.propose(ctx, fsm.RegisterNode{Node: node, Replaces: lost})
}

// Snapshot writes a snapshot of the state now. Raft refuses one right after a
// membership change and while leadership is transferred.
func (n *Node) Snapshot() error { return n.raft.Snapshot().Error() }
