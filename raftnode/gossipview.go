package raftnode

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

// strangerText marks every refusal of a node of another deployment.
const strangerText = "of another deployment"

// Meta is what a node tells the others about itself by gossip. Encoded it has at
// most [memberlist.MetaMaxSize] bytes, of which the texts may take some 480.
type Meta struct {
	Deployment string `cbor:"1,keyasint"`
	Raft       string `cbor:"2,keyasint"`           // host:port
	API        string `cbor:"3,keyasint"`           // host:port
	Format     int    `cbor:"4,keyasint"`           // newest version of log entries it reads, from 1
	Version    string `cbor:"5,keyasint,omitempty"` // of the build
	Expect     int    `cbor:"6,keyasint,omitempty"` // nodes it waits for to start a deployment; 0: it joins one
	HasState   bool   `cbor:"7,keyasint,omitempty"` // it has a Raft log or snapshot
	Directory  string `cbor:"8,keyasint,omitempty"` // the id of its data directory
}

// Peer is a node as gossip sees it.
type Peer struct {
	ID    string // the node's name, its Raft server id
	Addr  string // gossip ip:port
	Meta  Meta
	Alive bool // a guess: late by a second or two, and now and then wrong
}

// validate says what other nodes would refuse.
func (m Meta) validate() error {
	errs := []error{
		validateName("deployment", m.Deployment),
		validateHostPort("raft address", m.Raft),
		validateHostPort("api address", m.API),
	}
	if m.Format < 1 {
		errs = append(errs, fmt.Errorf("format %d: must be at least 1", m.Format))
	}
	if m.Expect < 0 {
		errs = append(errs, fmt.Errorf("bootstrap_expect %d: must not be negative", m.Expect))
	}
	return errors.Join(errs...)
}

// encode refuses what does not fit: memberlist would panic.
func (m Meta) encode() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	raw, err := cbor.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode gossip of this node: %w", err)
	}
	if len(raw) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("gossip of this node takes %d bytes, at most %d are allowed: shorten "+
			"deployment (%d), raft address (%d), api address (%d) or version (%d)", len(raw), memberlist.MetaMaxSize,
			len(m.Deployment), len(m.Raft), len(m.API), len(m.Version))
	}
	return raw, nil
}

// decodeMeta reads what another node said of itself. Fields that a newer release
// has added are ignored.
func decodeMeta(raw []byte) (Meta, error) {
	if len(raw) > memberlist.MetaMaxSize {
		return Meta{}, fmt.Errorf("gossip meta of %d bytes: at most %d are allowed", len(raw), memberlist.MetaMaxSize)
	}
	mode, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		MaxArrayElements: 16,
		MaxMapPairs:      32,
		MaxNestedLevels:  4,
	}.DecMode()
	if err != nil {
		return Meta{}, fmt.Errorf("decode gossip meta: %w", err)
	}
	var m Meta
	if err := mode.Unmarshal(raw, &m); err != nil {
		return Meta{}, fmt.Errorf("decode gossip meta: %w", err)
	}
	if err := m.validate(); err != nil {
		return Meta{}, fmt.Errorf("gossip meta: %w", err)
	}
	return m, nil
}

// gossipView is what memberlist calls: it refuses nodes of other deployments and
// keeps the last that was heard of each peer. memberlist calls it under its own
// lock, so nothing here may call memberlist; and what memberlist returns from
// Members changes under the reader, so this copy is what is read.
type gossipView struct {
	deployment string
	logger     hclog.Logger

	mu        sync.RWMutex
	meta      []byte // of this node
	peers     map[string]Peer
	strangers map[string]bool // other deployments that were logged
}

var (
	_ memberlist.Delegate      = (*gossipView)(nil)
	_ memberlist.EventDelegate = (*gossipView)(nil)
	_ memberlist.AliveDelegate = (*gossipView)(nil)
	_ memberlist.MergeDelegate = (*gossipView)(nil)
)

func (v *gossipView) list() []Peer {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.SortedFunc(maps.Values(v.peers), func(a, b Peer) int { return strings.Compare(a.ID, b.ID) })
}

func (v *gossipView) find(id string) (Peer, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	peer, ok := v.peers[id]
	return peer, ok
}

func (v *gossipView) setMeta(raw []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.meta = raw
}

// NotifyAlive implements [memberlist.AliveDelegate].
func (v *gossipView) NotifyAlive(node *memberlist.Node) error { return v.admit(node) }

// NotifyMerge implements [memberlist.MergeDelegate]. One stranger among the nodes
// that the other side knows is enough to refuse them all.
func (v *gossipView) NotifyMerge(nodes []*memberlist.Node) error {
	for _, node := range nodes {
		if err := v.admit(node); err != nil {
			return err
		}
	}
	return nil
}

// admit refuses nodes that are not of this deployment, or that say what cannot
// be read.
func (v *gossipView) admit(node *memberlist.Node) error {
	if err := validateName("node", node.Name); err != nil {
		return err
	}
	meta, err := decodeMeta(node.Meta)
	if err != nil {
		return fmt.Errorf("node %q at %s: %w", node.Name, node.Address(), err)
	}
	if meta.Deployment == v.deployment {
		return nil
	}
	err = fmt.Errorf("node %q at %s is %s, %q; this one is %q",
		node.Name, node.Address(), strangerText, meta.Deployment, v.deployment)
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.strangers[meta.Deployment] && len(v.strangers) < loggedStrangers {
		v.strangers[meta.Deployment] = true
		v.logger.Warn("node refused; check the seeds and the deployment of both", "error", err)
	}
	return err
}

// NotifyJoin implements [memberlist.EventDelegate].
func (v *gossipView) NotifyJoin(node *memberlist.Node) {
	v.note(node)
	v.logger.Info("node is up", "node", node.Name, "address", node.Address())
}

// NotifyUpdate implements [memberlist.EventDelegate].
func (v *gossipView) NotifyUpdate(node *memberlist.Node) { v.note(node) }

// NotifyLeave implements [memberlist.EventDelegate]. The peer stays listed, for
// its address is where it will most likely be again.
func (v *gossipView) NotifyLeave(node *memberlist.Node) {
	v.mu.Lock()
	peer, ok := v.peers[node.Name]
	if ok {
		peer.Alive = false
		v.peers[node.Name] = peer
	}
	v.mu.Unlock()
	v.logger.Info("node is down", "node", node.Name, "address", node.Address())
}

func (v *gossipView) note(node *memberlist.Node) {
	meta, err := decodeMeta(node.Meta)
	if err != nil {
		return // NotifyAlive has refused it before
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.peers[node.Name] = Peer{ID: node.Name, Addr: node.Address(), Meta: meta, Alive: true}
}

// NodeMeta implements [memberlist.Delegate]; what is returned fits the limit.
func (v *gossipView) NodeMeta(int) []byte {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.meta
}

// NotifyMsg implements [memberlist.Delegate]: nodes send each other no messages.
func (*gossipView) NotifyMsg([]byte) {}

// GetBroadcasts implements [memberlist.Delegate].
func (*gossipView) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements [memberlist.Delegate].
func (*gossipView) LocalState(bool) []byte { return nil }

// MergeRemoteState implements [memberlist.Delegate].
func (*gossipView) MergeRemoteState([]byte, bool) {}
