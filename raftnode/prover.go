package raftnode

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// prover proves that this node still leads: a majority of the voters, each asked
// after the request for the proof arrived, says that its Raft term is still the
// leader's. A newer leader would have needed one of them. Raft's VerifyLeader is
// not that proof: it counts non-voters. One round serves all who wait for it.
type prover struct {
	confirm func(ctx context.Context, term uint64) error
	kick    chan struct{}

	mu      sync.Mutex
	waiting []proofRequest
	closed  bool // nobody makes rounds any more
}

type proofRequest struct {
	term   uint64
	answer chan error // of capacity one
}

func newProver(confirm func(context.Context, uint64) error) *prover {
	return &prover{confirm: confirm, kick: make(chan struct{}, 1)}
}

// prove returns nil once this node is known to have led in term at some moment
// after the call.
func (p *prover) prove(ctx context.Context, term uint64) error {
	req := proofRequest{term: term, answer: make(chan error, 1)}
	if !p.enqueue(req) {
		return fmt.Errorf("prove leadership: the node stops: %w", fsm.ErrNotLeader)
	}
	select {
	case p.kick <- struct{}{}:
	default: // a round that has not begun will see the request
	}
	select {
	case err := <-req.answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("prove leadership: %w", context.Cause(ctx))
	}
}

func (p *prover) enqueue(req proofRequest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.waiting = append(p.waiting, req)
	}
	return !p.closed
}

// run makes rounds until ctx ends, and then lets nobody wait.
func (p *prover) run(ctx context.Context) {
	defer p.close()
	for {
		select {
		case <-p.kick:
			p.round(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (p *prover) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, req := range p.waiting {
		req.answer <- fmt.Errorf("prove leadership: the node stops: %w", fsm.ErrNotLeader)
	}
	p.waiting = nil
}

func (p *prover) round(ctx context.Context) {
	p.mu.Lock()
	requests := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	answers := map[uint64]error{}
	for _, req := range requests {
		err, asked := answers[req.term]
		if !asked {
			err = p.confirm(ctx, req.term)
			answers[req.term] = err
		}
		req.answer <- err
	}
}

// proofTimeout is how long voters have to confirm a term. Raft's own lease would
// make a leader without them step down at about that time.
const proofTimeout = time.Second

// stragglers is how long those whose word is no longer needed may still answer. To
// hang up on the slowest voter in every round would cost a connection each time.
const stragglers = 5 * time.Millisecond

// confirmTerm asks every voter for its term.
func (n *Node) confirmTerm(ctx context.Context, term uint64) error {
	voters, err := n.voters()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	answers := make(chan bool, len(voters))
	var wg sync.WaitGroup
	for _, id := range voters {
		if id == n.cfg.ID {
			answers <- !n.cfg.disk.dead() && n.raft.CurrentTerm() == term
			continue
		}
		wg.Go(func() {
			a, err := ask[indexAnswer](ctx, n, id, methodTerm, struct{}{})
			answers <- err == nil && a.Index == term
		})
	}
	confirmed, denied := 0, 0
	for confirmed <= len(voters)/2 && denied < (len(voters)+1)/2 {
		if <-answers {
			confirmed++
		} else {
			denied++
		}
	}
	late := time.AfterFunc(stragglers, cancel)
	defer late.Stop()
	wg.Wait()
	if confirmed <= len(voters)/2 {
		return fmt.Errorf("%d of %d voters confirm term %d: %w", confirmed, len(voters), term, fsm.ErrNotLeader)
	}
	return nil
}

// provenIndex returns the index of the last command that is committed at some
// moment after the call, and proves that no newer leader can have committed more.
func (n *Node) provenIndex(ctx context.Context, r *reign) (uint64, error) {
	index, err := n.lastCommand(n.raft.CommitIndex())
	if err != nil {
		return 0, err
	}
	if err := n.prover.prove(ctx, r.term()); err != nil {
		return 0, err
	}
	if again, err := n.leading(); err != nil || again != r {
		return 0, fsm.ErrNotLeader
	}
	return index, nil
}

func (n *Node) voters() ([]string, error) {
	servers, err := n.servers()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, server := range servers {
		if server.Suffrage == raft.Voter {
			ids = append(ids, string(server.ID))
		}
	}
	return ids, nil
}
