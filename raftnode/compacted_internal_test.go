package raftnode

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// follower is a Raft that follows a leader which the test plays.
type follower struct {
	t       *testing.T
	raft    *raft.Raft
	logs    gapless
	leader  *raft.InmemTransport
	entries []*raft.Log
}

// gapless is a log that Raft empties when it installs a snapshot, as it does the one
// that is the default.
type gapless struct{ *raft.InmemStore }

func (gapless) IsMonotonic() bool { return true }

const playedTerm = 100 // of the leader; beyond what elections reach here

// anyLeader takes entries into an empty log from whoever sends them.
func anyLeader(context.Context, string) error { return nil }

// newFollower starts a follower that has applied six entries and has the first five
// of them in a snapshot only, and has two more, which are not committed.
func newFollower(t *testing.T) *follower {
	t.Helper()
	f := compacted(t, 1)
	f.send(6, 1, f.entries[7:], 6)
	return f
}

// compacted starts a follower that has applied six entries, which are all in a
// snapshot, and as many of them in its log as trail that.
func compacted(t *testing.T, trailing uint64) *follower {
	t.Helper()
	f := &follower{t: t, logs: gapless{raft.NewInmemStore()}}
	_, here := raft.NewInmemTransport("here")
	_, f.leader = raft.NewInmemTransport("there")
	f.leader.Connect("here", here)
	transport := newPunctual(here, f.logs, anyLeader)
	timing := DefaultTiming()
	timing.TrailingLogs = trailing
	r, err := raft.NewRaft(raftConfig("here", timing, hclog.NewNullLogger()), newReplica(hclog.NewNullLogger()), transport.logs, f.logs, raft.NewInmemSnapshotStore(), transport)
	if err != nil {
		t.Fatal(err)
	}
	f.raft = r
	ctx, stop := context.WithCancel(context.Background())
	go transport.serve(ctx, r)
	t.Cleanup(func() {
		_ = r.Shutdown().Error()
		stop()
	})
	servers := raft.Configuration{Servers: []raft.Server{{ID: "here", Address: "here"}, {ID: "there", Address: "there"}}}
	f.entries = append(f.entries, nil, &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(servers)})
	for i := uint64(2); i <= 8; i++ {
		f.entries = append(f.entries, &raft.Log{Index: i, Term: 1, Type: raft.LogCommand, Data: register(t, i, "a").Data})
	}
	f.send(0, 0, f.entries[1:7], 6)
	f.applied(6)
	if err := r.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if first, _ := f.logs.FirstIndex(); first != 6*trailing {
		t.Fatalf("the log begins at %d, want %d", first, 6*trailing)
	}
	return f
}

// send sends entries after prev, and wants them to be accepted.
func (f *follower) send(prev, prevTerm uint64, entries []*raft.Log, commit uint64) {
	f.t.Helper()
	var answer raft.AppendEntriesResponse
	err := f.leader.AppendEntries("here", "here", &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("there"), Addr: []byte("there")},
		Term:      playedTerm, PrevLogEntry: prev, PrevLogTerm: prevTerm, Entries: entries, LeaderCommitIndex: commit,
	}, &answer)
	if err != nil || !answer.Success {
		f.t.Fatalf("entries after %d: %+v, %v", prev, answer, err)
	}
}

func (f *follower) applied(want uint64) {
	f.t.Helper()
	synctest.Wait()
	if is := f.raft.AppliedIndex(); is != want {
		f.t.Errorf("applied up to %d, want %d", is, want)
	}
}

// TestG5_EntriesThatFollowASnapshotAreTaken sends entries a second time, since their
// answer was lost, when what they follow is in a snapshot only.
func TestG5_EntriesThatFollowASnapshotAreTaken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		prev, upTo      uint64
		conflict        bool // entry 7 is another one
		commit, applied uint64
	}{
		{"from right behind the snapshot", 5, 8, false, 8, 8},
		{"from within the snapshot", 3, 8, false, 8, 8},
		{"all within the snapshot", 2, 4, false, 8, 6},
		{"another end than the follower's", 4, 7, true, 7, 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFollower(t)
				entries := append([]*raft.Log(nil), f.entries[test.prev+1:test.upTo+1]...)
				if test.conflict {
					entries[len(entries)-1] = &raft.Log{Index: 7, Term: 2, Type: raft.LogNoop}
				}
				f.send(test.prev, 1, entries, test.commit)
				f.applied(test.applied)
				var last raft.Log
				if err := f.logs.GetLog(7, &last); err != nil || (last.Term == 2) != test.conflict {
					t.Errorf("entry 7 is of term %d, %v", last.Term, err)
				}
			})
		})
	}
}

// TestG5_EntriesAreTakenWhenAllIsInTheSnapshot sends entries to a follower with an empty
// log: that of a leader whose own snapshot is older, and who has them from there on.
func TestG5_EntriesAreTakenWhenAllIsInTheSnapshot(t *testing.T) {
	t.Parallel()
	for prev := uint64(1); prev <= 6; prev++ {
		synctest.Test(t, func(t *testing.T) {
			f := compacted(t, 0)
			f.send(prev, 1, f.entries[prev+1:], 8)
			f.applied(8)
			if first, _ := f.logs.FirstIndex(); first != 7 {
				t.Errorf("after entries that follow %d the log begins at %d", prev, first)
			}
		})
	}
}

// TestG13_InstallingASnapshotKeepsWhatFollowsIt installs a snapshot that ends before the
// log does. What comes behind it has been acknowledged, and is not sent again.
func TestG13_InstallingASnapshotKeepsWhatFollowsIt(t *testing.T) {
	t.Parallel()
	for name, conflict := range map[string]bool{"the leader has it": false, "the leader has something else": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFollower(t)
				f.install(7)
				if first, _ := f.logs.FirstIndex(); first != 8 {
					t.Errorf("behind a snapshot of seven entries the log begins at %d", first)
				}
				last := f.entries[8]
				if conflict {
					last = &raft.Log{Index: 8, Term: 2, Type: raft.LogNoop}
				}
				f.send(7, 1, []*raft.Log{last}, 8)
				f.applied(8)
				var is raft.Log
				if err := f.logs.GetLog(8, &is); err != nil || is.Term != last.Term {
					t.Errorf("entry 8 is of term %d, %v, want term %d", is.Term, err, last.Term)
				}
			})
		})
	}
}

// install sends a snapshot of the entries up to end.
func (f *follower) install(end uint64) {
	f.t.Helper()
	all := newReplica(hclog.NewNullLogger())
	all.ApplyBatch(f.entries[2 : end+1])
	store := raft.NewInmemSnapshotStore()
	sink, err := store.Create(raft.SnapshotVersionMax, end, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	snapshot, err := all.Snapshot()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := snapshot.Persist(sink); err != nil {
		f.t.Fatal(err)
	}
	meta, content, err := store.Open(sink.ID())
	if err != nil {
		f.t.Fatal(err)
	}
	var answer raft.InstallSnapshotResponse
	err = f.leader.InstallSnapshot("here", "here", &raft.InstallSnapshotRequest{
		RPCHeader:       raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("there"), Addr: []byte("there")},
		SnapshotVersion: raft.SnapshotVersionMax, Term: playedTerm, LastLogIndex: end, LastLogTerm: 1, Size: meta.Size,
		Configuration: f.entries[1].Data, ConfigurationIndex: 1,
	}, &answer, content)
	if err != nil || !answer.Success {
		f.t.Fatalf("a snapshot up to %d: %+v, %v", end, answer, err)
	}
}

// TestG13_OnlyWhatWasComparedIsCommitted tells a follower that has more in its log
// than the leader has compared how far the leader has committed.
func TestG13_OnlyWhatWasComparedIsCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFollower(t)
		f.send(6, 1, nil, 8)
		f.applied(6)
		f.send(6, 1, f.entries[7:8], 8)
		f.applied(7)
	})
}
