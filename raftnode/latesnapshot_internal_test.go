package raftnode

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// TestSnapshotsThatComeTooLateAreNotInstalled sends a Raft that has applied its log a
// snapshot of before that, as a leader does that was long cut off.
func TestSnapshotsThatComeTooLateAreNotInstalled(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		behind    uint64 // of what is applied
		term      uint64
		succeeds  bool
		installed bool
	}{
		{"late", 1, 100, true, false},
		{"of what is applied", 0, 100, true, false},
		{"late, of a leader that is deposed", 1, 1, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, snapshots := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
				_, here := raft.NewInmemTransport("here")
				_, there := raft.NewInmemTransport("there")
				there.Connect("here", here)
				transport := newPunctual(here, store, anyLeader)
				r, err := raft.NewRaft(raftConfig("here", DefaultTiming(), hclog.NewNullLogger()), newReplica(hclog.NewNullLogger()), transport.logs, store, snapshots, transport)
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := contextOf(t)
				go transport.serve(ctx, r)
				defer stop()
				defer func() { _ = r.Shutdown().Error() }()
				servers := raft.Configuration{Servers: []raft.Server{{ID: "here", Address: "here"}}}
				if err := r.BootstrapCluster(servers).Error(); err != nil {
					t.Fatal(err)
				}
				for r.State() != raft.Leader {
					<-time.After(time.Second)
				}
				for range 3 {
					r.Apply(register(t, 1, "a").Data, 0)
				}
				if err := r.Barrier(0).Error(); err != nil {
					t.Fatal(err)
				}
				before := r.AppliedIndex()
				term := test.term
				if term == 1 {
					term = r.CurrentTerm() - 1
				}
				var answer raft.InstallSnapshotResponse
				err = there.InstallSnapshot("here", "here", &raft.InstallSnapshotRequest{
					SnapshotVersion: raft.SnapshotVersionMax, Term: term, LastLogIndex: before - test.behind, LastLogTerm: 1, Size: 1,
					Configuration: raft.EncodeConfiguration(servers),
				}, &answer, strings.NewReader("x"))
				if err != nil || answer.Success != test.succeeds {
					t.Errorf("the leader hears %+v, %v, want success %v", answer, err, test.succeeds)
				}
				if kept, _ := snapshots.List(); len(kept) != 0 || r.AppliedIndex() != before {
					t.Errorf("%d snapshots, applied %d, want none and %d", len(kept), r.AppliedIndex(), before)
				}
			})
		})
	}
}
