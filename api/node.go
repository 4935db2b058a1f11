package api

import (
	"context"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// State is the replicated state as this package reads it.
type State interface {
	// View calls fn with the state, which fn must neither keep nor change;
	// changed is closed at the first change after the one fn sees.
	View(fn func(*fsm.State)) (changed <-chan struct{})

	// Clone returns a copy to page through without holding up commits.
	Clone() *fsm.State

	// Linearize returns once the state here has everything that was committed
	// anywhere before the call. It answers [fsm.ErrNoLeader] when ctx ends first.
	Linearize(ctx context.Context) error
}

// Proposer commits commands, wherever the leader is.
type Proposer interface {
	// Propose commits cmd and returns its log index once the state here shows
	// it. It rides out elections until ctx ends, and answers [fsm.ErrNoLeader]
	// then. A refusal is a [*fsm.Refusal]. A request id makes it safe to repeat.
	Propose(ctx context.Context, request string, cmd fsm.Command) (index uint64, err error)
}

// Membership is who takes part in the deployment.
type Membership interface {
	Status() Status
	Peers(ctx context.Context) ([]Peer, error)

	// RemovePeer takes a node out of Raft; its services must have been deleted.
	RemovePeer(ctx context.Context, id string) error

	// Presence says which services hold a lease, by host, as the leader sees
	// it. With no leader it is [fsm.ErrNoLeader].
	Presence(ctx context.Context) (map[string]Presence, error)
}

// PeerPort answers what another node asks of this one, see [NewPeerClient]. From
// is the name that the other node has proved to have; empty if nothing proves it.
type PeerPort interface {
	Answer(ctx context.Context, from, method string, body []byte) ([]byte, error)
}

// Node is all that the API needs of the node it belongs to.
type Node interface {
	State
	Proposer
	Membership
	PeerPort
}

// Presence is what the leader knows of a service's lease.
type Presence struct {
	Up       bool     // its lease is current
	LastSeen fsm.Time // when it was last granted; zero if not in this leader's term
}

// Status is where a node stands.
type Status struct {
	Node         string
	Deployment   string
	Leader       string // empty when none is known
	Term         uint64
	AppliedIndex uint64
	CommitIndex  uint64
	Ready        bool      // caught up, and local drivers were told the committed sites
	LastContact  time.Time // when the leader was last heard, now if it is this node; zero if not known
	Disk         Disk
}

// Disk is what a node knows of the disk under its data directory.
type Disk struct {
	Dir          string    `json:"dir"`
	StalledSince time.Time `json:"stalled_since,omitzero"` // since when it has not answered
	FreeBytes    uint64    `json:"free_bytes"`
	ReserveBytes uint64    `json:"reserve_bytes"` // with less than that free nothing new is taken
}

// Peer is a node of the deployment as Raft and gossip see it.
type Peer struct {
	ID          string
	Raft        string
	API         string
	Gossip      string
	Voter       bool
	Leader      bool
	Alive       bool
	LastContact time.Time // when it was last heard; zero if not known
	Release     string
	Format      uint8
}
