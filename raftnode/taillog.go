package raftnode

import (
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// tailLog is a log that keeps its tail when a snapshot is installed. Raft throws away
// the whole of a log without gaps then, but remembers where it ended, and rejects what
// follows the snapshot until it has started anew or the leader is past that end. The
// algorithm keeps entries that follow from the snapshot (Ongaro and Ousterhout, figure
// 13). Those that do not are of another term than the leader's, all of them, and are
// replaced as they are in any log.
type tailLog struct {
	raft.LogStore
	installing atomic.Uint64 // the last index in the snapshot; 0 if there is none
}

// IsMonotonic implements [raft.MonotonicLogStore].
func (l *tailLog) IsMonotonic() bool {
	store, ok := l.LogStore.(raft.MonotonicLogStore)
	return ok && store.IsMonotonic()
}

// DeleteRange implements [raft.LogStore].
func (l *tailLog) DeleteRange(from, to uint64) error {
	if end := l.installing.Load(); end != 0 && end < to {
		to = end
	}
	if from > to {
		return nil
	}
	return l.LogStore.DeleteRange(from, to)
}
