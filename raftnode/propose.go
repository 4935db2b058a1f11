package raftnode

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	// firstPause is how long to wait before something is asked again, doubling
	// up to longestPause: a lost answer needs no longer, an election does.
	firstPause   = 10 * time.Millisecond
	longestPause = 160 * time.Millisecond
	// patience is how many faults of its own in a row a leader may answer with.
	// One whose disk fails steps down, and the next one can do better; a fault
	// that follows what it is asked would come for ever.
	patience = 5
)

// Propose commits cmd, here or through the leader, and returns its log index once
// this node's state shows it, so that a client reads its own writes. It rides out
// elections until ctx ends, and then answers [fsm.ErrNoLeader]: the command may
// yet commit. A refusal is a [*fsm.Refusal]. After a lost answer the command is
// offered again, so it must be a compare-and-set or carry a request id.
func (n *Node) Propose(ctx context.Context, request string, cmd fsm.Command) (uint64, error) {
	entry, err := fsm.Encode(fsm.Meta{Request: request, At: fsm.TimeOf(time.Now())}, cmd)
	if err != nil {
		return 0, err
	}
	var done applyAnswer
	err = n.persist(ctx, func() (err error) {
		done, err = n.offer(ctx, entry)
		return err
	})
	if err != nil {
		return 0, err
	}
	if err := n.Wait(ctx, done.Index); err != nil {
		return 0, fmt.Errorf("%w: committed, but not applied here yet: %w", fsm.ErrNoLeader, err)
	}
	if done.Refusal != nil {
		return done.Index, done.Refusal
	}
	return done.Index, nil
}

// persist repeats try until it succeeds, until it fails with what another try
// would not change, or until ctx ends, which is [fsm.ErrNoLeader]. It tries again at
// once when another leader is known.
func (n *Node) persist(ctx context.Context, try func() error) error {
	faults := 0
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		another := n.leader.next()
		err := try()
		if err == nil {
			return nil
		}
		faults++
		if !fault(err) {
			faults = 0
		}
		if !retryable(err) || faults == patience {
			return err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-another:
			pause = firstPause / 2
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", fsm.ErrNoLeader, err)
		}
	}
}

// retryable reports whether another try may succeed: not after an answer that a
// leader has given.
func retryable(err error) bool {
	code := fsm.CodeOf(err)
	return code == fsm.ErrNotLeader || code == fsm.ErrNoLeader || code == fsm.ErrInternal
}

// fault reports whether a node has answered with a fault of its own. An error
// without any code is the network's.
func fault(err error) bool {
	code, answered := errors.AsType[fsm.Code](err)
	return answered && code == fsm.ErrInternal
}

// offer commits an entry through whoever leads now, until another does: a leader that
// stands still, or whose machine is off, does not answer.
func (n *Node) offer(ctx context.Context, entry []byte) (applyAnswer, error) {
	another := n.leader.next()
	id, ok := n.leaderID()
	if !ok {
		return applyAnswer{}, fsm.ErrNotLeader
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		select {
		case <-another:
			cancel()
		case <-ctx.Done():
		}
	})
	return askRaw[applyAnswer](ctx, n, id, methodApply, entry)
}

// apply commits an entry of a node if this one leads, whether it has caught up or
// not.
func (n *Node) apply(ctx context.Context, from string, entry []byte) (applyAnswer, error) {
	_, cmd, err := fsm.Decode(entry)
	if err != nil {
		return applyAnswer{}, err // nothing unreadable ever enters the log
	}
	if err := n.maySay(from, cmd); err != nil {
		return applyAnswer{}, err
	}
	if n.cfg.disk.dead() {
		return applyAnswer{}, fsm.ErrNotLeader
	}
	if err := n.roomFor(cmd); err != nil {
		return applyAnswer{}, err
	}
	future, err := await(ctx, n, func(timeout time.Duration) raft.ApplyFuture { return n.raft.Apply(entry, timeout) })
	if err != nil {
		return applyAnswer{}, err
	}
	n.hasCommitted()
	done := applyAnswer{Index: future.Index()}
	if refused, ok := future.Response().(error); ok && refused != nil {
		if !errors.As(refused, &done.Refusal) {
			done.Refusal = &fsm.Refusal{Code: fsm.CodeOf(refused), Message: refused.Error()}
		}
	}
	return done, nil
}

// roomFor refuses what grows when there is no space for it.
func (n *Node) roomFor(cmd fsm.Command) error {
	n.mu.Lock()
	r := n.reign
	n.mu.Unlock()
	if r == nil || !fsm.Grows(cmd) {
		return nil
	}
	return r.room()
}

// propose commits what this node decided as the leader. It is never forwarded.
func (n *Node) propose(ctx context.Context, cmd fsm.Command) error {
	entry, err := fsm.Encode(fsm.Meta{At: fsm.TimeOf(time.Now())}, cmd)
	if err != nil {
		return err
	}
	done, err := n.apply(ctx, n.cfg.ID, entry)
	if err == nil && done.Refusal != nil {
		return done.Refusal
	}
	return err
}
