package raftnode

import (
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func TestDefaultTimingIsWhatRaftAccepts(t *testing.T) {
	t.Parallel()
	if err := DefaultTiming().validate(); err != nil {
		t.Fatal(err)
	}
	cfg := raftConfig("node1", DefaultTiming(), hclog.NewNullLogger())
	if err := raft.ValidateConfig(cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.PreVoteDisabled || cfg.ShutdownOnRemove || !cfg.BatchApplyCh || cfg.NotifyCh != nil {
		t.Errorf("the configuration is not the one the node relies on: %+v", cfg)
	}
}

// TestLeaderOutlivesAStall: the next leader would have to wait for every lease again.
func TestLeaderOutlivesAStall(t *testing.T) {
	t.Parallel()
	story(t, "the only survivor is silent for a moment", 3, 3, func(t *testing.T, f *fleet) {
		leader := f.leader()
		term := leader.raft.CurrentTerm()
		f.kill(f.follower())
		for range 5 {
			f.unplug(leader)
			<-time.After(190 * time.Millisecond)
			f.connect(leader)
			<-time.After(2 * time.Second)
		}
		if got := leader.raft.CurrentTerm(); got != term || leader.raft.State() != raft.Leader {
			t.Errorf("term %d, %v; want to lead in term %d", got, leader.raft.State(), term)
		}
	})
}

func TestTimingNamesEachFieldThatIsOutOfRange(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*Timing){
		"heartbeat":          func(t *Timing) { t.Heartbeat, t.LeaderLease = 10*time.Millisecond, 10*time.Millisecond },
		"election":           func(t *Timing) { t.Election = t.Heartbeat - 1 },
		"leader_lease":       func(t *Timing) { t.LeaderLease = t.Heartbeat + 1 },
		"commit":             func(t *Timing) { t.Commit = 0 },
		"snapshot_interval":  func(t *Timing) { t.SnapshotInterval = time.Millisecond },
		"snapshot_threshold": func(t *Timing) { t.SnapshotThreshold = 0 },
		"trailing_logs":      func(t *Timing) { t.TrailingLogs = 0 },
		"max_append_entries": func(t *Timing) { t.MaxAppendEntries = 1025 },
	} {
		timing := DefaultTiming()
		change(&timing)
		err := timing.validate()
		wantError(t, err, field+" ")
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: other fields are complained about too: %v", field, err)
		}
	}
}

func TestAValidTimingIsValidForRaft(t *testing.T) {
	t.Parallel()
	for name, timing := range map[string]Timing{
		"the least": {50 * time.Millisecond, 50 * time.Millisecond, 10 * time.Millisecond, time.Millisecond, time.Second, 1, 1, 1},
		"the most":  {time.Minute, time.Minute, time.Minute, time.Second, 24 * time.Hour, 1 << 32, 1 << 32, 1024},
	} {
		if err := timing.validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := raft.ValidateConfig(raftConfig("node1", timing, hclog.NewNullLogger())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTimingIsReadFromYAML(t *testing.T) {
	t.Parallel()
	timing := DefaultTiming()
	text := "heartbeat: 1s\nelection: 2s\nleader_lease: 500ms\ncommit: 50ms\nsnapshot_interval: 2m\n" +
		"snapshot_threshold: 1\ntrailing_logs: 2\nmax_append_entries: 3\n"
	if err := yaml.UnmarshalWithOptions([]byte(text), &timing, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	want := Timing{time.Second, 2 * time.Second, 500 * time.Millisecond, 50 * time.Millisecond, 2 * time.Minute, 1, 2, 3}
	if timing != want {
		t.Errorf("got %+v, want %+v", timing, want)
	}
}
