package raftnode

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// leaderWatch tells when this node learns of another leader.
type leaderWatch struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced when it does
}

func newLeaderWatch() *leaderWatch { return &leaderWatch{changed: make(chan struct{})} }

// next returns a channel that is closed when a leader after the present one is known.
func (w *leaderWatch) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// run listens to Raft until ctx ends.
func (w *leaderWatch) run(ctx context.Context, r *raft.Raft) {
	// If one is waiting to be seen, it does no harm that Raft drops another.
	seen := make(chan raft.Observation, 1)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		leader, ok := o.Data.(raft.LeaderObservation)
		return ok && leader.LeaderID != ""
	})
	r.RegisterObserver(observer)
	defer r.DeregisterObserver(observer)
	for {
		select {
		case <-seen:
			w.mu.Lock()
			w.changed = wake(w.changed)
			w.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}
