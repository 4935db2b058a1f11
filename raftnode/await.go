package raftnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// pending counts what Raft was asked and has not answered yet, so that the node
// can wait for it before it shuts Raft down.
type pending struct {
	mu     sync.Mutex
	closed bool
	asked  sync.WaitGroup
}

func (p *pending) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.asked.Add(1)
	}
	return !p.closed
}

// close lets nothing more begin and waits for what has, but no longer than within: a
// leader that a majority still hears, but that can commit nothing since their disks
// do not write, would wait until they do. What is left is answered by the shutdown.
func (p *pending) close(within time.Duration) {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	answered := make(chan struct{})
	go func() {
		p.asked.Wait()
		close(answered)
	}()
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-answered:
	case <-late.C:
	}
}

// await asks Raft for something and returns its answer, or gives up when ctx ends:
// a disk that hangs keeps Raft from answering, and must not keep a caller with a
// deadline. What was asked may come true all the same.
func await[F raft.Future](ctx context.Context, n *Node, ask func(timeout time.Duration) F) (answer F, err error) {
	return outlive(ctx, n, func() (F, error) {
		future := ask(timeLeft(ctx))
		return future, asOurs(future.Error())
	})
}

// outlive returns what ask does, or gives up when ctx ends. Ask goes on until it has
// its answer; the node waits for it before it shuts Raft down.
func outlive[A any](ctx context.Context, n *Node, ask func() (A, error)) (answer A, err error) {
	if !n.asked.begin() {
		return answer, asOurs(raft.ErrRaftShutdown)
	}
	type outcome struct {
		answer A
		err    error
	}
	answered := make(chan outcome, 1)
	go func() {
		defer n.asked.asked.Done()
		answer, err := ask()
		answered <- outcome{answer, err}
	}()
	select {
	case o := <-answered:
		return o.answer, o.err
	case <-ctx.Done():
		return answer, fmt.Errorf("%w: raft has not answered: %w", fsm.ErrNoLeader, context.Cause(ctx))
	}
}

// commitsIn commits an entry that says nothing, and so all before it in the log, in a
// term that this node leads.
func (n *Node) commitsIn(ctx context.Context, term uint64) error {
	_, err := await(ctx, n, n.raft.Barrier)
	if err == nil && n.raft.CurrentTerm() != term {
		err = fsm.ErrNotLeader
	}
	return err
}

// timeLeft is how long Raft may take to accept something.
func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Until(deadline), time.Millisecond)
	}
	return 10 * time.Second
}

// asOurs gives Raft's ways to say "not me" the one code for it. Some of them are
// ambiguous: the entry may yet commit.
func asOurs(err error) error {
	for _, notLeader := range [...]error{
		raft.ErrNotLeader, raft.ErrLeadershipLost, raft.ErrLeadershipTransferInProgress,
		raft.ErrRaftShutdown, raft.ErrEnqueueTimeout, raft.ErrAbortedByRestore,
	} {
		if errors.Is(err, notLeader) {
			return fmt.Errorf("%w: %w", fsm.ErrNotLeader, err)
		}
	}
	return err
}
