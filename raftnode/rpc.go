package raftnode

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/lockstep-storage/lockstep/fsm"
)

// The questions that nodes ask each other. None is passed on: the node that is
// asked answers, or says that it does not lead.
const (
	methodApply    = "apply"    // commit a command
	methodLease    = "lease"    // grant a service a lease
	methodTerm     = "term"     // which Raft term are you in
	methodRead     = "read"     // up to where must a linearizable read have applied
	methodPresence = "presence" // which services hold leases
	methodApplied  = "applied"  // how far have you applied the log
	methodRemove   = "remove"   // take a node out of the deployment
	methodSpace    = "space"    // how much space is left for your log
	methodPeer     = "peer"     // is it committed that a node is a peer
)

type applyAnswer struct {
	Index   uint64       `cbor:"1,keyasint"`
	Refusal *fsm.Refusal `cbor:"2,keyasint,omitempty"`
}

// leaseQuestion asks for a lease as the member is configured: what matters is not
// what the leader would be content with, but what the member does.
type leaseQuestion struct {
	Host       string        `cbor:"1,keyasint"`
	Node       string        `cbor:"2,keyasint"`
	Duration   time.Duration `cbor:"3,keyasint"`
	Kill       time.Duration `cbor:"4,keyasint"`
	ClockError float64       `cbor:"5,keyasint,omitempty"`
}

func (q leaseQuestion) span() time.Duration {
	return LeaseTiming{Duration: q.Duration, Kill: q.Kill, ClockError: q.ClockError}.Span()
}

type indexAnswer struct {
	Index uint64 `cbor:"1,keyasint"`
}

// Answer answers what another node asks of this one. From is the name that it has
// proved to have, empty if nothing proves who asks: a node that is known speaks
// for nobody else. Any bytes may be offered to it. The error is
// [fsm.ErrNotLeader] where only a leader may answer.
func (n *Node) Answer(ctx context.Context, from, method string, body []byte) ([]byte, error) {
	if n.cfg.disk.dead() {
		// What this node says of its log it may not be able to keep.
		return nil, fmt.Errorf("the disk of node %s does not answer: %w", n.cfg.ID, fsm.ErrNotLeader)
	}
	switch method {
	case methodApply:
		return answer(n.apply(ctx, from, body))
	case methodLease:
		return answerTo(body, func(q leaseQuestion) (indexAnswer, error) {
			if err := speaksFor(from, q.Node); err != nil {
				return indexAnswer{}, err
			}
			index, err := n.grant(ctx, q)
			return indexAnswer{index}, err
		})
	case methodTerm:
		return answer(indexAnswer{n.raft.CurrentTerm()}, nil)
	case methodRead:
		index, err := n.readIndex(ctx)
		return answer(indexAnswer{index}, err)
	case methodPresence:
		return answer(n.presence(ctx))
	case methodSpace:
		return answer(n.space(), nil)
	case methodApplied:
		return answer(indexAnswer{n.raft.AppliedIndex()}, nil)
	case methodPeer:
		return answerTo(body, func(q peerQuestion) (struct{}, error) {
			if err := speaksFor(from, q.Node); err != nil {
				return struct{}{}, err
			}
			return struct{}{}, n.committedPeer(ctx, q)
		})
	case methodRemove:
		return answerTo(body, func(id string) (struct{}, error) { return struct{}{}, n.removePeer(ctx, id) })
	}
	// A newer release asks what this one does not know. It is not "not found",
	// which would read as the answer to what was asked.
	return nil, fmt.Errorf("method %q is not known to this release: %w", method, fsm.ErrInvalid)
}

func answer[A any](a A, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return cbor.Marshal(a)
}

func answerTo[Q, A any](body []byte, fn func(Q) (A, error)) ([]byte, error) {
	var q Q
	if err := cbor.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("question: %w: %w", fsm.ErrInvalid, err)
	}
	return answer(fn(q))
}

// ask puts a question to a node and reads its answer.
func ask[A any](ctx context.Context, n *Node, id, method string, question any) (A, error) {
	var a A
	body, err := cbor.Marshal(question)
	if err != nil {
		return a, fmt.Errorf("encode %s: %w", method, err)
	}
	return askRaw[A](ctx, n, id, method, body)
}

func askRaw[A any](ctx context.Context, n *Node, id, method string, body []byte) (A, error) {
	var a A
	var raw []byte
	var err error
	if id == n.cfg.ID {
		raw, err = n.Answer(ctx, id, method, body)
	} else {
		address, ok := n.addressOf(id)
		if !ok {
			return a, fmt.Errorf("the address of node %q is not known: %w", id, fsm.ErrNotLeader)
		}
		raw, err = n.asker.Ask(ctx, id, address, method, body)
	}
	if err != nil {
		return a, fmt.Errorf("ask %s of %s: %w", method, id, err)
	}
	if err := cbor.Unmarshal(raw, &a); err != nil {
		return a, fmt.Errorf("answer of %s to %s: %w", id, method, err)
	}
	return a, nil
}

// addressOf returns the host:port of a node's API: what it gossips, else what it
// has registered.
func (n *Node) addressOf(id string) (address string, ok bool) {
	if p, ok := n.peers.Peer(id); ok && p.Meta.API != "" {
		return p.Meta.API, true
	}
	n.View(func(s *fsm.State) {
		node, known := s.Node(id)
		address, ok = strings.TrimPrefix(node.API, urlPrefix), known
	})
	return address, ok
}

// urlPrefix is what stands before the address in what a node registers, however
// its API is reached.
const urlPrefix = "http://"

// leaderID returns the id of the leader, if one is known. Raft does not know yet
// that a node whose disk hangs leads no more.
func (n *Node) leaderID() (string, bool) {
	_, id := n.raft.LeaderWithID()
	if string(id) == n.cfg.ID && n.cfg.disk.dead() {
		return "", false
	}
	return string(id), id != ""
}

// askLeader puts a question to the leader, which may be this node.
func askLeader[A any](ctx context.Context, n *Node, method string, question any) (A, error) {
	id, ok := n.leaderID()
	if !ok {
		var none A
		return none, fsm.ErrNotLeader
	}
	return ask[A](ctx, n, id, method, question)
}
