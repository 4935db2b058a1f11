package raftnode

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// retryPause is how long to wait before a command is offered again: an election
// takes longer, a lost answer does not.
const retryPause = 10 * time.Millisecond

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
	for {
		done, err := n.offer(ctx, entry)
		if err == nil {
			if err := n.Wait(ctx, done.Index); err != nil {
				return 0, err
			}
			if done.Refusal != nil {
				return done.Index, done.Refusal
			}
			return done.Index, nil
		}
		if !retryable(err) {
			return 0, err
		}
		select {
		case <-time.After(retryPause + rand.N(retryPause)):
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", fsm.ErrNoLeader, err)
		}
	}
}

// retryable reports whether another try may succeed: anything but an answer that
// a leader has given.
func retryable(err error) bool {
	code := fsm.CodeOf(err)
	return code == fsm.ErrNotLeader || code == fsm.ErrNoLeader || code == fsm.ErrInternal
}

// offer commits an entry through whoever leads now.
func (n *Node) offer(ctx context.Context, entry []byte) (applyAnswer, error) {
	id, ok := n.leaderID()
	if !ok {
		return applyAnswer{}, fsm.ErrNotLeader
	}
	return askRaw[applyAnswer](ctx, n, id, methodApply, entry)
}

// answerApply commits an entry on this node if it leads.
func (n *Node) answerApply(ctx context.Context, entry []byte) (applyAnswer, error) {
	if _, _, err := fsm.Decode(entry); err != nil {
		return applyAnswer{}, err // nothing unreadable ever enters the log
	}
	return n.apply(ctx, entry)
}

// apply commits an entry if this node leads, whether it has caught up or not.
func (n *Node) apply(ctx context.Context, entry []byte) (applyAnswer, error) {
	future := n.raft.Apply(entry, timeLeft(ctx))
	if err := future.Error(); err != nil {
		return applyAnswer{}, asOurs(err)
	}
	done := applyAnswer{Index: future.Index()}
	if refused, ok := future.Response().(error); ok && refused != nil {
		if !errors.As(refused, &done.Refusal) {
			done.Refusal = &fsm.Refusal{Code: fsm.CodeOf(refused), Message: refused.Error()}
		}
	}
	return done, nil
}

// propose commits what this node decided as the leader. It is never forwarded.
func (n *Node) propose(ctx context.Context, cmd fsm.Command) error {
	entry, err := fsm.Encode(fsm.Meta{At: fsm.TimeOf(time.Now())}, cmd)
	if err != nil {
		return err
	}
	done, err := n.apply(ctx, entry)
	if err == nil && done.Refusal != nil {
		return done.Refusal
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
