package fsm_test

import (
	"slices"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

// The tests of this file carry the names of the faults seen in Cinder, of the
// design. Each fails when the rule is broken that keeps the fault out.

func TestD1_MembersAreToldTheExplicitSiteDefaultIncluded(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.failsOver("f1", "site-b")
	l.claimed("f2", "default")
	task, _ := l.s.Todo(n1, 2)
	equal(t, "target of the promotion", task.Target, "default")
	l.do(l.completed("f2", 0))
	for _, host := range []string{n1, n2, n3} {
		task, _ := l.s.Todo(host, 2)
		equal(t, host+": site", task.Target, "default")
	}
}

func TestD2_AnUnknownTargetIsRefusedBeforeAnythingChanges(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.tell()
	r := l.refusal(fsm.RequestFailover{ID: "f1", Cluster: dev, Target: "site-x", Mode: fsm.Forced}, fsm.ErrInvalid)
	equal(t, "field", r.Field, "backend_id")
	equal(t, "value", r.Value, "site-x")
	if want := []string{"default", "site-b", "site-c"}; !slices.Equal(r.Allowed, want) {
		t.Errorf("allowed %q, want %q", r.Allowed, want)
	}
	// A failed failover leaves every member where it was.
	l.claimed("f1", "site-b")
	l.do(l.driverRefuses("f1", fsm.InvalidReplicationTarget))
	for _, host := range []string{n1, n2, n3} {
		if task, owed := l.s.Todo(host, 1); owed {
			t.Errorf("%s owes %+v", host, task)
		}
		equal(t, host+": gate", l.s.Admit(host, 1, fsm.CallVolume), nil)
	}
}

func TestD3_TheNextLeaderResumes(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.ask("f1", "site-b")
	// Every step is taken by a new leader that knows nothing but a snapshot.
	for step := range 100 {
		l.s, l.term = restored(t, l.s), l.term+1
		equal(t, "start-up", l.try(fsm.RegisterService{Host: n3, Node: "node3", Cluster: dev, Targets: []string{"site-b", "site-c"}}), nil)
		l.do(l.s.Plan(l.sees())...)
		f := l.failover("f1")
		if f.Phase == fsm.Done {
			equal(t, "site", l.cluster(dev).ActiveBackendID, "site-b")
			return
		}
		host := []string{n1, n2, n3}[step%3]
		l.doTask(host)
	}
	t.Fatalf("unfinished: %+v", l.failover("f1"))
}

func TestD4_AMemberBehindServesNothing(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.failsOver("f1", "site-b")
	equal(t, "gate of a driver at the old site", l.s.Admit(n2, 1, fsm.CallVolume), error(fsm.ErrBehind))
	l.refused(fsm.MemberSwitched{Host: n2, Epoch: 1, ActiveBackendID: "default"}, fsm.ErrStale)
	l.refused(fsm.MemberSwitched{Host: n2, Epoch: 2, ActiveBackendID: "default"}, fsm.ErrStale)
}

func TestD5_NoRowStaysDisabledAfterFreezeAndThaw(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.tell()
	before := l.availability()
	l.do(fsm.SetFrozen{Cluster: dev, Frozen: true, Owner: n1})
	l.failsOver("f1", "site-b") // a failover in between does not lose the freeze
	l.failsOver("f2", "default")
	equal(t, "reason after the failback", l.service(n2).DisabledReason, fsm.ReasonFrozen)
	l.do(fsm.DeleteService{Host: n1, Term: l.term}) // nor does the loss of the one that owes it
	task, _ := l.s.Todo(n2, 3)
	equal(t, "task of the next member", task.Kind, fsm.TaskFreeze)
	l.do(fsm.SetFrozen{Cluster: dev, Owner: n3})
	l.do(fsm.RegisterService{Host: n1, Node: "node1", Cluster: dev})
	equal(t, "availability after the thaw", l.availability(), before)
	task, _ = l.s.Todo(n3, 3)
	equal(t, "task of the owner", task.Kind, fsm.TaskThaw)
}

func TestD6_TheSwitchAndItsResultsAreOneCommit(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.volume("v1", true)
	l.volume("v2", true)
	l.claimed("f1", "site-b")
	l.stage("f1", fsm.VolumeResult{VolumeID: "v1", Failed: true})
	// The executor dies; the next one stages its own results.
	l.assign("f1", n2)
	l.claim("f1")
	l.refused(l.completed("f1", 1), fsm.ErrConflict)
	l.stage("f1", fsm.VolumeResult{VolumeID: "v1", Failed: true})
	l.claim("f1") // its lease had lapsed: the call is made again
	l.refused(l.completed("f1", 1), fsm.ErrConflict)
	l.stage("f1", fsm.VolumeResult{VolumeID: "v2", Failed: true})
	l.do(l.completed("f1", 1))
	equal(t, "volume that the first executor called failed", l.vol("v1").Status, fsm.StatusAvailable)
	equal(t, "volume that the second one did", l.vol("v2").Status, fsm.StatusError)
}

func TestD8_EveryMembersReportIsShown(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.committed("f1", "site-b")
	l.do(l.switched(n1, ""), l.switched(n2, "no route"))
	equal(t, "node1", l.member(n1).State, fsm.MemberStateSwitched)
	equal(t, "node2", l.member(n2).Error, "no route")
	equal(t, "node3", l.member(n3).State, fsm.MemberStateDrained)
	equal(t, "node2 is disabled because", l.service(n2).DisabledReason, fsm.ReasonDriverError)
	task, _ := l.s.Todo(n2, 1)
	equal(t, "node2 tries again", task.Kind, fsm.TaskSwitch)
	l.do(l.switched(n2, ""))
	equal(t, "node2 healed", l.member(n2).State, fsm.MemberStateSwitched)
	equal(t, "node2 is now disabled because", l.service(n2).DisabledReason, fsm.ReasonFailedOver)
}

func TestD9_StatusesChangeWithTheSwitchOnlyAndFailbackRestoresThem(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.volume("local", false)
	l.volume("broken", false)
	l.snapshot("snap", "local")
	l.do(fsm.ExtendVolume{ID: "broken", Size: 2, Host: n1})
	l.do(l.end(l.s.Owed(n1, 1)[0], "out of space"))
	before := l.read()

	l.claimed("f1", "site-b")
	l.do(l.driverRefuses("f1", fsm.InvalidReplicationTarget))
	equal(t, "volumes after a failover that failed", l.read(), before)

	l.failsOver("f2", "site-b")
	equal(t, "status", l.vol("local").Status, fsm.StatusError)
	equal(t, "replication", l.vol("local").ReplicationStatus, fsm.ReplicationNotCapable)
	equal(t, "previous status", l.vol("local").PreviousStatus, fsm.StatusAvailable)
	equal(t, "previous status of the broken one", l.vol("broken").PreviousStatus, fsm.StatusErrorExtending)
	equal(t, "snapshot", l.snap("snap").Status, fsm.StatusError)

	l.failsOver("f3", "site-c")
	equal(t, "previous status at a third site", l.vol("local").PreviousStatus, fsm.StatusAvailable)
	l.failsOver("f4", "default")
	equal(t, "status after the failback", l.vol("local").Status, fsm.StatusAvailable)
	equal(t, "previous status after the failback", l.vol("local").PreviousStatus, fsm.VolumeStatus(""))
	equal(t, "status of the broken one", l.vol("broken").Status, fsm.StatusErrorExtending)
	equal(t, "snapshot after the failback", l.snap("snap").Status, fsm.StatusAvailable)
}
