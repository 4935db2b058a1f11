package fsm_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

func TestVolumesLiveAndDie(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: n1, Replicated: true, Metadata: []fsm.KeyValue{{Key: "k", Value: "w"}}}})
	equal(t, "asked for", l.vol("v").Status, fsm.StatusCreating)
	equal(t, "replication while creating", l.vol("v").ReplicationStatus, "")
	op := l.s.Owed(n1, 10)[0]
	end := l.end(op, "")
	end.Update = fsm.VolumeUpdate{ProviderLocation: "/default/v", ReplicationDriverData: "d"}
	l.do(end)
	v := l.vol("v")
	equal(t, "created", v.Status, fsm.StatusAvailable)
	equal(t, "replication", v.ReplicationStatus, fsm.ReplicationEnabled)
	equal(t, "location", v.ProviderLocation, "/default/v")
	equal(t, "driver data", v.ReplicationDriverData, "d")
	equal(t, "metadata", v.Metadata[0].Value, "w")
	equal(t, "cluster", v.Cluster, dev)
	l.refused(end, fsm.ErrStale)

	l.do(fsm.ExtendVolume{ID: "v", Size: 5, Host: n2})
	equal(t, "extending", l.vol("v").Status, fsm.StatusExtending)
	l.finishOps(n2)
	equal(t, "extended", l.vol("v").Size, 5)
	l.do(fsm.ExtendVolume{ID: "v", Size: 9})
	l.do(l.end(l.s.Owed(n1, 1)[0], "out of space"))
	equal(t, "not extended", l.vol("v").Status, fsm.StatusErrorExtending)
	equal(t, "size", l.vol("v").Size, 5)
	l.do(fsm.DeleteVolume{ID: "v"})
	l.do(l.end(l.s.Owed(n1, 1)[0], "busy"))
	equal(t, "not deleted", l.vol("v").Status, fsm.StatusErrorDeleting)
	l.do(fsm.DeleteVolume{ID: "v"})
	l.finishOps(n1)
	if _, there := l.s.Volume("v"); there || l.s.VolumeCount() != 0 {
		t.Error("the deleted volume is still there")
	}
	l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: "w", Size: 1, Host: n1}})
	l.do(l.end(l.s.Owed(n1, 1)[0], "array on fire"))
	equal(t, "not created", l.vol("w").Status, fsm.StatusError)
}

func TestSnapshotsLiveAndDie(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.volume("v", true)
	l.do(fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: "s", VolumeID: "v"}, Host: n2})
	equal(t, "asked for", l.snap("s").Status, fsm.StatusCreating)
	l.finishOps(n2)
	equal(t, "taken", l.snap("s").Status, fsm.StatusAvailable)
	equal(t, "size", l.snap("s").Size, 1)
	l.do(fsm.DeleteSnapshot{ID: "s"})
	l.do(l.end(l.s.Owed(n1, 1)[0], "busy"))
	equal(t, "not deleted", l.snap("s").Status, fsm.StatusErrorDeleting)
	l.do(fsm.DeleteSnapshot{ID: "s"})
	l.finishOps(n1)
	if _, there := l.s.Snapshot("s"); there {
		t.Error("the deleted snapshot is still there")
	}
	l.do(fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: "t", VolumeID: "v"}})
	l.do(l.end(l.s.Owed(n1, 1)[0], "array on fire"))
	equal(t, "not taken", l.snap("t").Status, fsm.StatusError)
	l.do(fsm.DeleteSnapshot{ID: "t"})
	l.finishOps(n1)
	l.do(fsm.DeleteVolume{ID: "v"})
}

func TestListsPageNewestFirst(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	for i := range 5 {
		l.volume(fmt.Sprint("v", i), true)
		l.snapshot(fmt.Sprint("s", i), fmt.Sprint("v", i))
	}
	var names []string
	for v := range l.s.Volumes(0) {
		names = append(names, v.ID)
		if len(names) == 2 {
			for rest := range l.s.Volumes(v.Index) {
				names = append(names, rest.ID)
			}
			break
		}
	}
	if want := []string{"v4", "v3", "v2", "v1", "v0"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	names = nil
	for sn := range l.s.Snapshots(l.snap("s2").Index) {
		names = append(names, sn.ID)
	}
	if want := []string{"s1", "s0"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

func TestAVolumeMadeAtTheSecondary(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.failsOver("f1", "site-b")
	l.do(fsm.SetClusterDisabled{Cluster: dev})
	equal(t, "member enabled with its cluster", l.service(n1).Disabled, false)
	l.volume("copied", true)
	l.volume("local", false)
	equal(t, "replicated one", l.vol("copied").ReplicationStatus, fsm.ReplicationFailedOver)
	equal(t, "other one", l.vol("local").Status, fsm.StatusAvailable)
	l.failsOver("f2", "default")
	equal(t, "replicated one after the failback", l.vol("copied").ReplicationStatus, fsm.ReplicationEnabled)
	equal(t, "other one after the failback", l.vol("local").Status, fsm.StatusError)
	l.failsOver("f3", "site-b")
	equal(t, "other one back at its site", l.vol("local").Status, fsm.StatusAvailable)
}

func TestOperationsOfAnOlderEpochAreMadeAgain(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.volume("v", true)
	l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: "new", Size: 1, Host: n1}})
	l.do(fsm.ExtendVolume{ID: "v", Size: 2, Host: n1})
	begun := l.s.Owed(n1, 10)
	late := []fsm.Command{l.end(begun[0], ""), l.end(begun[1], "")}
	l.claimed("f1", "site-b")
	for _, cmd := range late { // the executor has its list of volumes already
		l.refused(cmd, fsm.ErrStale)
	}
	l.do(l.completed("f1", 0))
	for _, cmd := range late {
		l.refused(cmd, fsm.ErrStale)
	}
	equal(t, "status", l.vol("v").Status, fsm.StatusExtending)
	equal(t, "operations owed", len(l.s.Owed(n1, 10)), 2)
	l.finishOps(n1)
	equal(t, "volume made at the new site", l.vol("new").BackendID, "site-b")
	equal(t, "its status", l.vol("new").Status, fsm.StatusAvailable)
	equal(t, "volume extended at the new site", l.vol("v").Size, 2)
}

func TestAnOwedOperationStandsWhenItsVolumeIsOutOfReach(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.volume("local", false)
	l.do(fsm.ExtendVolume{ID: "local", Size: 2, Host: n1})
	l.failsOver("f1", "site-b")
	equal(t, "status", l.vol("local").Status, fsm.StatusExtending)
	l.refused(fsm.DeleteVolume{ID: "local"}, fsm.ErrConflict) // or it would be owed twice
	l.do(l.end(l.s.Owed(n1, 1)[0], "no such volume"))
	equal(t, "status", l.vol("local").Status, fsm.StatusError)
	equal(t, "previous status", l.vol("local").PreviousStatus, fsm.StatusErrorExtending)
	l.do(fsm.DeleteVolume{ID: "local"})
	equal(t, "status", l.vol("local").Status, fsm.StatusDeleting)
	l.do(l.end(l.s.Owed(n1, 1)[0], "no such volume"))
	l.failsOver("f2", "default")
	equal(t, "status after the failback", l.vol("local").Status, fsm.StatusErrorDeleting)
}

func TestAChangeMergesTheResultThatIsNotSettled(t *testing.T) {
	t.Parallel()
	for name, settled := range map[string]bool{"settled before": true, "settled after": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.volume("v", true)
			l.volume("w", true)
			l.committed("f1", "site-b",
				fsm.VolumeResult{VolumeID: "v", VolumeUpdate: fsm.VolumeUpdate{ProviderLocation: "/b/v", ProviderID: "p"}},
				fsm.VolumeResult{VolumeID: "w", Failed: true})
			if settled {
				l.settle()
			}
			l.do(fsm.SetClusterDisabled{Cluster: dev}, fsm.ExtendVolume{ID: "v", Size: 2, Host: n1}, fsm.DeleteVolume{ID: "w", Host: n1})
			equal(t, "location at first", l.vol("v").ProviderLocation, "/b/v")
			extended := l.end(l.s.Owed(n1, 1)[0], "")
			extended.Update.ProviderLocation = "/b/v-grown"
			l.do(extended)
			l.finishOps(n1)
			l.settle()
			equal(t, "size", l.vol("v").Size, 2)
			equal(t, "location", l.vol("v").ProviderLocation, "/b/v-grown")
			equal(t, "id", l.vol("v").ProviderID, "p")
			equal(t, "volumes", l.s.VolumeCount(), 1)
			equal(t, "commands of the leader", len(l.s.Plan(l.sees())), 0)
		})
	}
}

func TestACloneHasItsOwnStage(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.volume("v", true)
	l.claimed("f1", "site-b")
	l.stage("f1", fsm.VolumeResult{VolumeID: "v"})
	staged := l.s.Clone()
	before := digest(t, staged)
	l.stage("f1", fsm.VolumeResult{VolumeID: "v", Failed: true}, fsm.VolumeResult{VolumeID: "w"})
	l.do(l.completed("f1", 2))
	equal(t, "clone after more was staged and committed", digest(t, staged), before)
	committed := l.s.Clone()
	before = digest(t, committed)
	l.settle()
	equal(t, "clone after all was settled", digest(t, committed), before)
}

func TestResultsOfStrangersAreDropped(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.volume("v", true)
	l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: "other", Size: 1, Host: lone, Replicated: true}})
	l.finishOps(lone)
	l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: "unborn", Size: 1, Host: n1, Replicated: true}})
	l.committed("f1", "site-b", fsm.VolumeResult{VolumeID: "other", Failed: true},
		fsm.VolumeResult{VolumeID: "nobody", Failed: true}, fsm.VolumeResult{Failed: true},
		fsm.VolumeResult{VolumeID: "unborn", Failed: true}, fsm.VolumeResult{VolumeID: "v", Failed: true})
	before := l.read()
	l.settle()
	equal(t, "what a reader sees", l.read(), before)
	equal(t, "volume of another cluster", l.vol("other").Status, fsm.StatusAvailable)
	l.finishOps(n1)
	equal(t, "volume made afterwards", l.vol("unborn").Status, fsm.StatusAvailable)
	equal(t, "volume of the cluster", l.vol("v").Status, fsm.StatusError)
}

func TestSettlingGoesOnInBoundedSteps(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.claimed("f1", "site-b")
	const chunks = 3
	results := make([]fsm.VolumeResult, fsm.MaxStagedResults)
	for chunk := range chunks {
		for i := range results {
			results[i] = fsm.VolumeResult{VolumeID: fmt.Sprint(chunk, "/", i)}
		}
		l.stage("f1", results...)
		l.stage("f1", results...) // sent twice: staged once
	}
	l.do(l.completed("f1", chunks*fsm.MaxStagedResults))
	steps := 0
	for ; len(l.s.Plan(l.sees())) > 0; steps++ {
		l.do(l.s.Plan(l.sees())...)
	}
	equal(t, "steps", steps, chunks)
	l.refused(fsm.SettleResults{Cluster: dev, Epoch: 2, Term: l.term}, fsm.ErrStale)
}

func TestAReopenedSiteKeepsWhatItsSwitchHasFailed(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.volume("v", true)
	l.failsOver("f1", "site-b", fsm.VolumeResult{VolumeID: "v", Failed: true})
	l.do(fsm.RequestFailover{ID: "f2", Cluster: dev, Target: "site-c", Mode: fsm.Planned})
	l.drain("f2")
	l.assign("f2", n1)
	l.claim("f2")
	refused := l.driverRefuses("f2", fsm.UnableToFailOver)
	refused.Reopened = true
	l.do(refused)
	cl := l.cluster(dev)
	equal(t, "epoch", cl.Epoch, 3)
	equal(t, "claim", cl.Claim, refused.ClaimIndex)
	equal(t, "site", cl.ActiveBackendID, "site-b")
	equal(t, "status", cl.ReplicationStatus, fsm.ReplicationFailoverError)
	equal(t, "gate before the driver is told anew", l.s.Admit(n1, 2, fsm.CallVolume), error(fsm.ErrBehind))
	task, _ := l.s.Todo(n1, 2)
	equal(t, "task", task.Kind, fsm.TaskSwitch)
	l.tell()
	equal(t, "gate", l.s.Admit(n1, 3, fsm.CallVolume), nil)
	equal(t, "volume that the switch had failed", l.vol("v").ReplicationStatus, fsm.ReplicationFailoverError)
	l.failsOver("f3", "default")
	equal(t, "volume after the failback", l.vol("v").Status, fsm.StatusAvailable)
}

func TestWorkGoesToAMemberOfTheCluster(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.volume("v", true)
	for _, tc := range []struct{ name, asked, want string }{
		{"the one asked", n3, n3},
		{"the one that made it when a stranger is asked", lone, n1},
		{"the one that made it when nobody is asked", "", n1},
	} {
		l.do(fsm.ExtendVolume{ID: "v", Size: l.vol("v").Size + 1, Host: tc.asked})
		equal(t, tc.name, len(l.s.Owed(tc.want, 10)), 1)
		l.finishOps(tc.want)
	}
	l.do(fsm.DeleteService{Host: n1, Term: l.term})
	l.do(fsm.ExtendVolume{ID: "v", Size: 9})
	equal(t, "any when that has left", len(l.s.Owed(n2, 10)), 1)
}
