package raftnode

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Timing is how fast Raft notices, decides and cleans up. It must be about the
// same on all nodes of a deployment.
type Timing struct {
	// Heartbeat is how long a follower hears nothing before it asks to be
	// elected, up to twice as long by chance. 50ms to 1m.
	Heartbeat time.Duration `yaml:"heartbeat"`
	// Election is how long a candidate waits for votes. Heartbeat to 1m.
	Election time.Duration `yaml:"election"`
	// LeaderLease is how long a leader goes on without having heard from a
	// majority. 10ms to Heartbeat.
	LeaderLease time.Duration `yaml:"leader_lease"`
	// Commit is how soon, up to twice as long by chance, followers learn that
	// the last entry is committed when no other entry follows. 1ms to 1s.
	Commit time.Duration `yaml:"commit"`
	// SnapshotInterval is how often a node looks whether a snapshot is due.
	// 1s to 24h.
	SnapshotInterval time.Duration `yaml:"snapshot_interval"`
	// SnapshotThreshold is how many entries since the last snapshot make the
	// next one due. At least 1.
	SnapshotThreshold uint64 `yaml:"snapshot_threshold"`
	// TrailingLogs is how many entries are kept after a snapshot, so that a
	// peer that was away for a moment needs no snapshot. At least 1; a
	// configuration file has at least 1000.
	TrailingLogs uint64 `yaml:"trailing_logs"`
	// MaxAppendEntries is how many entries travel in one message. 1 to 1024.
	MaxAppendEntries int `yaml:"max_append_entries"`
}

// DefaultTiming is for nodes within some milliseconds of each other.
//
// A dead leader is replaced after about twice the heartbeat. A leader that stops for
// nothing costs far more: the next one waits until every lease of its time has run out
// (lease.grace) before it goes on without a member that is silent. So a leader has as
// long as its followers have: with one survivor to hear from, and a machine that
// stands still for a quarter of a second, 200ms was too little.
//
// Commit is Raft's usual 50ms: the leader tells followers of a quiet commit by
// itself (spread.go), and this is only what is left if that fails.
//
// MaxAppendEntries counts entries, and an entry may have 1 MiB.
func DefaultTiming() Timing {
	return Timing{
		Heartbeat:         400 * time.Millisecond,
		Election:          400 * time.Millisecond,
		LeaderLease:       400 * time.Millisecond,
		Commit:            50 * time.Millisecond,
		SnapshotInterval:  30 * time.Second,
		SnapshotThreshold: 16384,
		TrailingLogs:      16384,
		MaxAppendEntries:  64,
	}
}

// validate returns all that is wrong, by the names of the configuration file.
func (t Timing) validate() error {
	return errors.Join(
		within("heartbeat", t.Heartbeat, 50*time.Millisecond, time.Minute),
		within("election", t.Election, t.Heartbeat, time.Minute),
		within("leader_lease", t.LeaderLease, 10*time.Millisecond, t.Heartbeat),
		within("commit", t.Commit, time.Millisecond, time.Second),
		within("snapshot_interval", t.SnapshotInterval, time.Second, 24*time.Hour),
		within("snapshot_threshold", t.SnapshotThreshold, 1, 1<<32),
		within("trailing_logs", t.TrailingLogs, 1, 1<<32),
		within("max_append_entries", t.MaxAppendEntries, 1, 1024),
	)
}

func within[T time.Duration | uint64 | int](field string, value, least, most T) error {
	if value < least || value > most {
		return fmt.Errorf("%s %v: must be %v to %v", field, value, least, most)
	}
	return nil
}

// raftConfig returns the configuration of the server id; timing is valid.
// Leadership is watched through LeaderCh: Raft blocks on a NotifyCh.
func raftConfig(id string, timing Timing, logger hclog.Logger) *raft.Config {
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(id)
	cfg.HeartbeatTimeout = timing.Heartbeat
	cfg.ElectionTimeout = timing.Election
	cfg.LeaderLeaseTimeout = timing.LeaderLease
	cfg.CommitTimeout = timing.Commit
	cfg.SnapshotInterval = timing.SnapshotInterval
	cfg.SnapshotThreshold = timing.SnapshotThreshold
	cfg.TrailingLogs = timing.TrailingLogs
	cfg.MaxAppendEntries = timing.MaxAppendEntries
	cfg.BatchApplyCh = true
	cfg.ShutdownOnRemove = false // a removed node stays up to say that it was removed
	cfg.PreVoteDisabled = false  // a node that comes back must not unseat a working leader
	cfg.NoLegacyTelemetry = true
	cfg.Logger = logger.Named("raft")
	return cfg
}
