package raftnode

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// replica puts the pure state under Raft: it decodes entries, guards the state
// with a lock and wakes whoever watches. It calls nobody.
type replica struct {
	mu      sync.RWMutex
	state   *fsm.State
	changed chan struct{} // closed and replaced at every change
	logger  hclog.Logger
}

var _ raft.BatchingFSM = (*replica)(nil)

func newReplica(logger hclog.Logger) *replica {
	return &replica{state: fsm.NewState(), changed: make(chan struct{}), logger: logger}
}

// Apply implements [raft.FSM].
func (r *replica) Apply(entry *raft.Log) any {
	return r.ApplyBatch([]*raft.Log{entry})[0]
}

// ApplyBatch implements [raft.BatchingFSM].
func (r *replica) ApplyBatch(entries []*raft.Log) []any {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.wake()
	answers := make([]any, len(entries))
	for i, entry := range entries {
		if entry.Type == raft.LogCommand {
			answers[i] = r.apply(entry)
		}
	}
	return answers
}

func (r *replica) apply(entry *raft.Log) error {
	meta, cmd, err := fsm.Decode(entry.Data)
	if err != nil {
		// A committed entry that this build cannot read would make the
		// replicas differ from here on: stopping is the only safe answer.
		r.logger.Error("a committed entry cannot be read: run a release that can", "index", entry.Index, "error", err)
		panic(fmt.Sprintf("raftnode: entry %d: %v", entry.Index, err))
	}
	meta.Index, meta.Term = entry.Index, entry.Term
	if !entry.AppendedAt.IsZero() {
		// The leader's clock, which also judges what is overdue, and not the
		// clock of whichever node was asked.
		meta.At = fsm.TimeOf(entry.AppendedAt)
	}
	return r.state.Apply(meta, cmd)
}

// Snapshot implements [raft.FSM]. It runs in Raft's apply loop, so it only takes
// a clone; the snapshot is written from that while applies go on.
func (r *replica) Snapshot() (raft.FSMSnapshot, error) { return clone{r.Clone()}, nil }

// Restore implements [raft.FSM]. A running node never goes back: Raft installs any
// snapshot that a leader of its term sends, and one whose sender has given up on it
// may arrive after a later one, or after the entries that follow it.
func (r *replica) Restore(rc io.ReadCloser) error {
	defer func() { _ = rc.Close() }() // Raft has checked the stream already
	state, err := fsm.ReadState(rc)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.state.Index(); state.Index() < now {
		return fmt.Errorf("a snapshot of index %d came too late: %d is applied", state.Index(), now)
	}
	r.state = state
	r.wake()
	return nil
}

// wake tells all watchers that something changed. r.mu is held.
func (r *replica) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// View calls fn with the current state, which fn must neither keep nor change.
// The channel is closed at the first change after the one that fn sees.
func (r *replica) View(fn func(*fsm.State)) <-chan struct{} {
	r.mu.RLock()
	defer r.mu.RUnlock()
	fn(r.state)
	return r.changed
}

// Clone returns a copy of the state, which is its caller's own.
func (r *replica) Clone() *fsm.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.Clone()
}

// Wait blocks until the command at index has been applied here.
func (r *replica) Wait(ctx context.Context, index uint64) error {
	for {
		var applied uint64
		changed := r.View(func(s *fsm.State) { applied = s.Index() })
		if applied >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for index %d, now at %d: %w", index, applied, context.Cause(ctx))
		}
	}
}

func (r *replica) index() (applied uint64) {
	r.View(func(s *fsm.State) { applied = s.Index() })
	return applied
}

// clone is a state that nobody else uses.
type clone struct{ state *fsm.State }

// Persist implements [raft.FSMSnapshot].
func (c clone) Persist(sink raft.SnapshotSink) error {
	if _, err := c.state.WriteTo(sink); err != nil {
		_ = sink.Cancel()
		return err
	}
	return sink.Close()
}

// Release implements [raft.FSMSnapshot].
func (clone) Release() {}
