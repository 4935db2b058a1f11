package raftnode

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// DefaultVoterLimit is how many voters a deployment has at most: seven
	// outlive three, and every further one slows down each commit.
	DefaultVoterLimit = 7
	// promotionStable is how long a peer has kept up before it may vote.
	promotionStable = 3 * time.Second
	// promotionLag is how many entries behind the leader still counts as
	// keeping up: under load nobody is ever at the leader's index.
	promotionLag = 256
)

// membershipInput is all that the leader looks at to decide who is a peer.
type membershipInput struct {
	Leader     raft.ServerID
	Servers    []raft.Server // the latest Raft configuration
	Peers      []Peer        // from gossip
	Format     int           // the newest version of entries in the log
	VoterLimit int           // 0: DefaultVoterLimit

	// KeptUp is for how long, without a break, each non-voter has been
	// caught up; absent means not at all.
	KeptUp     map[raft.ServerID]time.Duration
	Registered map[raft.ServerID]string // the id of the data directory of each node
	StableFor  time.Duration            // needed of KeptUp for a promotion; 0: promotionStable
}

// membershipChange is the kind of a membershipAction.
type membershipChange int

// One change of the Raft configuration.
const (
	membershipKeep      membershipChange = iota // nothing to do
	membershipAdd                               // AddNonvoter: a new peer
	membershipPromote                           // AddVoter: a peer that has caught up
	membershipReaddress                         // AddVoter or AddNonvoter, by Server.Suffrage, with the new address
	membershipRemove                            // RemoveServer: a peer that has lost its data directory
	membershipRenew                             // register the new data directory of a node that is no peer
)

// String returns the change as a verb for the log.
func (c membershipChange) String() string {
	switch c {
	case membershipKeep:
		return "keep"
	case membershipAdd:
		return "add"
	case membershipPromote:
		return "promote"
	case membershipReaddress:
		return "readdress"
	case membershipRemove:
		return "remove"
	case membershipRenew:
		return "renew"
	}
	return fmt.Sprintf("change %d", int(c))
}

// membershipAction is what the leader should do to the Raft configuration now:
// one change at a time, so that each decision rests on a fresh look.
type membershipAction struct {
	Change membershipChange
	Server raft.Server // as it shall be after the change

	// Blocked says why a live node is not a peer, for an operator to act on.
	Blocked map[raft.ServerID]string
}

// membershipStep decides who joins, moves and votes. It removes nobody who is
// down: that looks like being gone, and only an operator knows which. Who is there
// with an empty data directory is taken out and comes back as a new node. A removed
// node is not added again while it has its old state.
func membershipStep(in membershipInput) membershipAction {
	m := newMembers(in)
	action := membershipAction{Blocked: m.blocked}
	for _, candidates := range []struct {
		change  membershipChange
		servers []raft.Server
	}{
		{membershipRemove, m.emptied()},
		{membershipRenew, m.renewed()},
		{membershipReaddress, m.moved()},
		{membershipAdd, m.joining()},
		{membershipPromote, m.promotable()},
	} {
		if action.Change == membershipKeep && len(candidates.servers) > 0 {
			action.Change, action.Server = candidates.change, candidates.servers[0]
		}
	}
	return action
}

// members is a membershipInput, sorted and indexed.
type members struct {
	membershipInput
	servers map[raft.ServerID]raft.Server
	holder  map[raft.ServerAddress]raft.ServerID // who has an address in the configuration
	alive   []Peer                               // live peers, by name
	blocked map[raft.ServerID]string
}

func newMembers(in membershipInput) *members {
	if in.VoterLimit == 0 {
		in.VoterLimit = DefaultVoterLimit
	}
	if in.StableFor == 0 {
		in.StableFor = promotionStable
	}
	m := &members{
		membershipInput: in,
		servers:         make(map[raft.ServerID]raft.Server, len(in.Servers)),
		holder:          make(map[raft.ServerAddress]raft.ServerID, len(in.Servers)),
		blocked:         make(map[raft.ServerID]string),
	}
	for _, server := range in.Servers {
		m.servers[server.ID] = server
		m.holder[server.Address] = server.ID
	}
	m.alive = live(in.Peers)
	return m
}

// live returns the peers that are alive, by name.
func live(peers []Peer) []Peer {
	alive := slices.Clone(peers)
	alive = slices.DeleteFunc(alive, func(p Peer) bool { return !p.Alive })
	slices.SortFunc(alive, func(a, b Peer) int { return strings.Compare(a.ID, b.ID) })
	return alive
}

// replaced reports whether a node has come back with a data directory that holds
// nothing and is not the one it had.
func (m *members) replaced(peer Peer) bool {
	return otherDirectory(m.Registered[raft.ServerID(peer.ID)], peer.Meta.Directory) && !peer.Meta.HasState
}

// emptied returns the servers that have lost their data directory, if the voters
// that are left are there in a majority without them.
func (m *members) emptied() (emptied []raft.Server) {
	for _, peer := range m.alive {
		lost, ok := m.servers[raft.ServerID(peer.ID)]
		if !ok || !m.replaced(peer) || lost.ID == m.Leader {
			continue
		}
		others, alive := m.votersBut(lost.ID)
		if 2*alive <= others {
			m.blocked[lost.ID] = fmt.Sprintf("its data directory was emptied, and only %d of the %d other voters are up: start them first", alive, others)
			continue
		}
		emptied = append(emptied, lost)
	}
	return emptied
}

// votersBut counts the voters other than id, and those of them that are there
// with the data directory they had.
func (m *members) votersBut(id raft.ServerID) (others, alive int) {
	for _, server := range m.Servers {
		if server.ID == id || server.Suffrage != raft.Voter {
			continue
		}
		others++
		if p := m.find(server.ID); server.ID == m.Leader || p != nil && !m.replaced(*p) {
			alive++
		}
	}
	return others, alive
}

// renewed returns the nodes that are no peers and have a new data directory.
func (m *members) renewed() (renewed []raft.Server) {
	for _, peer := range m.alive {
		id := raft.ServerID(peer.ID)
		if _, ok := m.servers[id]; !ok && m.replaced(peer) {
			renewed = append(renewed, raft.Server{ID: id, Address: raft.ServerAddress(peer.Meta.Raft), Suffrage: raft.Nonvoter})
		}
	}
	return renewed
}

// moved returns the servers that run at another address than the configuration
// says. They cannot be reached there, so nothing is lost by the change.
func (m *members) moved() (moved []raft.Server) {
	for _, peer := range m.alive {
		server, ok := m.servers[raft.ServerID(peer.ID)]
		address := raft.ServerAddress(peer.Meta.Raft)
		if !ok || server.Address == address || m.taken(peer) {
			continue
		}
		server.Address = address
		moved = append(moved, server)
	}
	return moved
}

// joining returns the live nodes that are not yet in the configuration.
func (m *members) joining() (joining []raft.Server) {
	for _, peer := range m.alive {
		id := raft.ServerID(peer.ID)
		if _, ok := m.servers[id]; ok || m.replaced(peer) || m.taken(peer) {
			continue
		}
		switch {
		case peer.Meta.HasState:
			// Two histories under one name would be mixed without an error: both
			// begin with entry 1 of term 1.
			m.blocked[id] = "it has a log although it is not a peer: it was removed, or started a deployment of its own; " +
				"empty its data directory and start it again"
		case peer.Meta.Format < m.Format:
			m.blocked[id] = fmt.Sprintf("it reads log entries up to version %d and the log has version %d: update it",
				peer.Meta.Format, m.Format)
		default:
			joining = append(joining, raft.Server{ID: id, Address: raft.ServerAddress(peer.Meta.Raft), Suffrage: raft.Nonvoter})
		}
	}
	return joining
}

// taken reports whether another server is configured at the peer's address.
func (m *members) taken(peer Peer) bool {
	holder, ok := m.holder[raft.ServerAddress(peer.Meta.Raft)]
	if !ok || holder == raft.ServerID(peer.ID) {
		return false
	}
	m.blocked[raft.ServerID(peer.ID)] = fmt.Sprintf("its address %s is that of peer %s: remove that peer or correct the address",
		peer.Meta.Raft, holder)
	return true
}

// promotable returns the non-voters that shall vote now. From an odd number of
// voters it takes two that are ready: an even number outlives no more losses
// than the odd one below it, but needs one more vote for each commit.
func (m *members) promotable() []raft.Server {
	voters, alive := 0, 0
	for _, server := range m.Servers {
		if server.Suffrage != raft.Voter {
			continue
		}
		voters++
		if server.ID == m.Leader || m.lives(server.ID) {
			alive++
		}
	}
	ready := m.ready()
	limit := m.VoterLimit - (m.VoterLimit+1)%2 // odd
	needed := 1 + voters%2
	// Never ask for a majority that is not there: with the new voter.
	if voters >= limit || len(ready) < needed || alive+1 <= (voters+1)/2 {
		return nil
	}
	return ready
}

// ready returns the non-voters that are alive and have kept up, as voters.
func (m *members) ready() []raft.Server {
	var ready []raft.Server
	for _, peer := range m.alive {
		server, ok := m.servers[raft.ServerID(peer.ID)]
		kept, keeping := m.KeptUp[server.ID]
		registered := peer.Meta.Directory == "" || m.Registered[server.ID] == peer.Meta.Directory
		if ok && server.Suffrage == raft.Nonvoter && registered && keeping && kept >= m.StableFor {
			server.Suffrage = raft.Voter
			ready = append(ready, server)
		}
	}
	return ready
}

func (m *members) lives(id raft.ServerID) bool { return m.find(id) != nil }

// find returns the live peer with a name, or nil.
func (m *members) find(id raft.ServerID) *Peer {
	i := slices.IndexFunc(m.alive, func(p Peer) bool { return p.ID == string(id) })
	if i < 0 {
		return nil
	}
	return &m.alive[i]
}

// caughtUp reports whether a peer that has applied this far keeps up with a
// leader whose commit index was read before the peer was asked.
func caughtUp(applied, commit uint64) bool { return applied+promotionLag >= commit }

// progress remembers since when each non-voter has kept up. The zero value is
// ready to use; a new term starts with a new one.
type progress struct {
	since map[raft.ServerID]time.Time
}

// observe notes who is caught up at now and returns for how long each has been
// so without a break. Who is not in current starts again.
func (p *progress) observe(now time.Time, current []raft.ServerID) map[raft.ServerID]time.Duration {
	since := make(map[raft.ServerID]time.Time, len(current))
	kept := make(map[raft.ServerID]time.Duration, len(current))
	for _, id := range current {
		start, ok := p.since[id]
		if !ok {
			start = now
		}
		since[id], kept[id] = start, now.Sub(start)
	}
	p.since = since
	return kept
}

// bootstrapInput is what a node without state looks at to decide whether it
// starts a deployment.
type bootstrapInput struct {
	ID       raft.ServerID
	Address  raft.ServerAddress
	Expect   int    // the nodes to wait for; 0: join a deployment that others start
	HasState bool   // of this node
	Peers    []Peer // from gossip; with or without this node
}

// bootstrap is the decision: start with Servers, or wait for the reason given.
type bootstrap struct {
	Servers []raft.Server // all voters; nil: do not start a deployment now
	Wait    string        // why not, if it is worth a line in the log
}

// bootstrapDecision says whether this node starts the deployment: one that
// expects itself alone does; of N that expect each other the one with the least
// name does, once it sees exactly them and none has state. The error needs a
// person: the nodes are configured differently.
func bootstrapDecision(in bootstrapInput) (bootstrap, error) {
	if in.HasState || in.Expect <= 0 {
		return bootstrap{}, nil
	}
	others := slices.DeleteFunc(live(in.Peers), func(p Peer) bool { return p.ID == string(in.ID) })
	if i := slices.IndexFunc(others, func(p Peer) bool { return p.Meta.HasState }); i >= 0 {
		return bootstrap{Wait: fmt.Sprintf("node %s belongs to the deployment already: waiting to be added", others[i].ID)}, nil
	}
	servers := []raft.Server{{ID: in.ID, Address: in.Address, Suffrage: raft.Voter}}
	for _, peer := range others {
		switch {
		case peer.Meta.Expect == 0: // it joins later
			continue
		case peer.Meta.Expect != in.Expect:
			return bootstrap{}, fmt.Errorf("bootstrap_expect: this node expects %d nodes, node %s expects %d: set the same on all",
				in.Expect, peer.ID, peer.Meta.Expect)
		}
		servers = append(servers, raft.Server{
			ID: raft.ServerID(peer.ID), Address: raft.ServerAddress(peer.Meta.Raft), Suffrage: raft.Voter,
		})
	}
	slices.SortFunc(servers, func(a, b raft.Server) int { return strings.Compare(string(a.ID), string(b.ID)) })
	switch {
	case len(servers) > in.Expect:
		return bootstrap{}, fmt.Errorf("bootstrap_expect: %d nodes expect to be %d: set %d on all, or 0 on those that shall join later",
			len(servers), in.Expect, len(servers))
	case len(servers) < in.Expect:
		return bootstrap{Wait: fmt.Sprintf("%d of %d expected nodes are here", len(servers), in.Expect)}, nil
	case servers[0].ID != in.ID:
		return bootstrap{Wait: fmt.Sprintf("node %s starts the deployment", servers[0].ID)}, nil
	}
	return bootstrap{Servers: servers}, nil
}
