package fsm_test

import (
	"slices"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// The tests of this file carry the names of the guarantees of the design. Each
// fails when its rule is broken.

func TestG1_OneUnfinishedFailover(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.ask("f1", "site-b")
	another := fsm.RequestFailover{ID: "f2", Cluster: dev, Target: "site-c", Mode: fsm.Forced}
	for _, step := range []func(){
		func() {}, // draining
		func() { l.drain("f1"); l.assign("f1", n1) },
		func() { l.claim("f1") },
		func() { l.do(l.ended("f1")) },
		func() { l.assign("f1", n2); l.claim("f1"); l.do(l.completed("f1", 0)) }, // switching
	} {
		step()
		if r := l.refusal(another, fsm.ErrFailingOver); r.Field != "cluster" || r.Value != dev {
			t.Errorf("in phase %s: the refusal names %s %q", l.failover("f1").Phase, r.Field, r.Value)
		}
	}
	l.do(fsm.RequestFailover{ID: "f1", Cluster: dev, Target: "site-b", Mode: fsm.Forced}) // asked again: the same one
	l.do(fsm.RequestFailover{ID: "f3", Cluster: lone, Target: "site-b", Mode: fsm.Forced})
	l.do(fsm.FinishFailover{Failover: "f1", Attempt: 2, Term: l.term})
	l.do(another)
}

func TestG2_OneSwitchPerEpochAndEpochsOnlyGrow(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	equal(t, "epoch at first", l.cluster(dev).Epoch, 1)
	l.claimed("f1", "site-b")
	completed := l.completed("f1", 0)
	l.do(completed)
	l.refused(completed, fsm.ErrStale)
	equal(t, "epoch after a switch", l.cluster(dev).Epoch, 2)
	l.tell()
	l.do(fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: l.term})
	l.refused(completed, fsm.ErrStale)

	l.claimed("f2", "site-c")
	l.do(l.driverRefuses("f2", fsm.UnableToFailOver))
	equal(t, "epoch after a failed failover", l.cluster(dev).Epoch, 2)
	l.failsOver("f3", "default")
	equal(t, "epoch after a failback", l.cluster(dev).Epoch, 3)
	equal(t, "epoch in the record", l.failover("f3").Epoch, 3)

	// Epochs outlive the members: storage refuses those it has seen.
	for _, host := range []string{n1, n2, n3} {
		l.do(fsm.DeleteService{Host: host, Term: l.term})
	}
	l.do(fsm.RegisterService{Host: n1, Node: "node1", Cluster: dev})
	equal(t, "epoch after all members were replaced", l.cluster(dev).Epoch, 3)
}

func TestG5_EveryFailoverEnds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		drains, claims, ends bool
		live                 []string
		want                 fsm.Phase
	}{
		"nobody ever comes back":                   {want: fsm.Failed},
		"members never drain and lose their lease": {live: []string{n2}, want: fsm.Failed},
		"every attempt ends with nobody knowing":   {drains: true, claims: true, ends: true, live: []string{n1, n2, n3}, want: fsm.Failed},
		"every executor hangs in the call":         {drains: true, claims: true, live: []string{n1, n2, n3}, want: fsm.Failed},
		"no executor ever claims":                  {drains: true, live: []string{n1, n2, n3}, want: fsm.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.ask("f1", "site-b")
			if tc.drains {
				l.drain("f1")
			}
			for range 10_000 {
				f := l.failover("f1")
				if f.Phase.Terminal() {
					equal(t, "phase", f.Phase, tc.want)
					return
				}
				l.now += second
				switch {
				case f.Phase == fsm.Promoting && tc.claims && f.ClaimIndex == 0:
					l.claim("f1")
				case f.Phase == fsm.Promoting && tc.ends && !f.Ended:
					l.do(l.ended("f1"))
				}
				o := l.sees()
				for _, host := range []string{n1, n2, n3} {
					out := !slices.Contains(tc.live, host) || l.s.Overdue(host, o)
					o.Live[host], o.Gone[host] = !out, out
				}
				l.do(l.s.Plan(o)...)
			}
			t.Fatalf("unfinished after hours: %+v", l.failover("f1"))
		})
	}
}

func TestG6_ReadersSeeNoneOfTheSwitchOrAllOfIt(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	for _, id := range []string{"bad", "moved", "plain"} {
		l.volume(id, true)
		l.snapshot("snap-"+id, id)
	}
	l.volume("local", false)
	l.claimed("f1", "site-b")
	before := l.read()
	l.stage("f1", fsm.VolumeResult{VolumeID: "bad", Failed: true})
	l.stage("f1", fsm.VolumeResult{VolumeID: "moved", VolumeUpdate: fsm.VolumeUpdate{ProviderLocation: "/b/moved"}})
	equal(t, "what a reader sees of staged results", l.read(), before)
	if r := l.refusal(l.completed("f1", 3), fsm.ErrConflict); r.Field != "results" || r.Value != "3" {
		t.Errorf("the refusal names %s %q", r.Field, r.Value)
	}
	l.refused(l.completed("f1", 1), fsm.ErrConflict)
	l.do(l.completed("f1", 2))
	unsettled := l.read()
	equal(t, "cluster", l.cluster(dev).ActiveBackendID, "site-b")
	equal(t, "failed volume", l.vol("bad").ReplicationStatus, fsm.ReplicationFailoverError)
	equal(t, "its snapshot", l.snap("snap-bad").Status, fsm.StatusError)
	equal(t, "moved volume", l.vol("moved").ProviderLocation, "/b/moved")
	equal(t, "its status", l.vol("moved").ReplicationStatus, fsm.ReplicationFailedOver)
	equal(t, "volume without a result", l.vol("plain").ReplicationStatus, fsm.ReplicationFailedOver)
	equal(t, "volume that is not replicated", l.vol("local").ReplicationStatus, fsm.ReplicationNotCapable)
	equal(t, "results", l.failover("f1").Results, 2)
	equal(t, "failed results", l.failover("f1").FailedCount, 1)
	l.settle()
	equal(t, "what a reader sees of settled results", l.read(), unsettled)
	equal(t, "commands of the leader", len(l.s.Plan(l.sees())), 0)
}

func TestG7_OneRequestIDHasOneEffect(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	make1 := fsm.CreateVolume{Volume: fsm.Volume{ID: "v1", Size: 1, Host: n1}}
	if err := l.request("r1", make1); err != nil {
		t.Fatal(err)
	}
	first := l.index
	l.finishOps(n1)
	if err := l.request("r2", fsm.DeleteVolume{ID: "v1"}); err != nil {
		t.Fatal(err)
	}
	l.finishOps(n1)
	if err := l.request("r1", make1); err != nil {
		t.Fatalf("the repeated request is answered %v", err)
	}
	if _, there := l.s.Volume("v1"); there {
		t.Error("the repeated request has created the volume again")
	}
	if at, ok := l.s.RequestIndex("r1"); !ok || at != first {
		t.Errorf("request index %d %t, want %d", at, ok, first)
	}

	// A refusal is answered again too, although the request would now succeed.
	if err := l.request("r3", fsm.ExtendVolume{ID: "v2", Size: 2}); fsm.CodeOf(err) != fsm.ErrNotFound {
		t.Fatal(err)
	}
	l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: "v2", Size: 1, Host: n1}})
	l.finishOps(n1)
	if err := l.request("r3", fsm.ExtendVolume{ID: "v2", Size: 2}); fsm.CodeOf(err) != fsm.ErrNotFound {
		t.Errorf("the repeated refusal is answered %v", err)
	}
}

func TestG9_NothingPromotedLeavesMembersServingElseGatesStayClosed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end    func(l *log)
		phase  fsm.Phase
		status fsm.ReplicationStatus
		gate   error
	}{
		"aborted while draining": {
			func(l *log) { l.do(fsm.AbortFailover{ID: "f1"}) }, fsm.Aborted, fsm.ReplicationEnabled, nil,
		},
		"aborted before the first claim": {
			func(l *log) { l.drain("f1"); l.assign("f1", n1); l.do(fsm.AbortFailover{ID: "f1"}) },
			fsm.Aborted, fsm.ReplicationEnabled, nil,
		},
		"target refused": {
			func(l *log) {
				l.drain("f1")
				l.assign("f1", n1)
				l.claim("f1")
				l.do(l.driverRefuses("f1", fsm.InvalidReplicationTarget))
			}, fsm.Failed, fsm.ReplicationEnabled, nil,
		},
		"unable to fail over": {
			func(l *log) {
				l.drain("f1")
				l.assign("f1", n1)
				l.claim("f1")
				l.do(l.driverRefuses("f1", fsm.UnableToFailOver))
			}, fsm.Failed, fsm.ReplicationFailoverError, nil,
		},
		"given up before any claim": {
			func(l *log) { l.drain("f1"); l.do(l.giveUp("f1")) }, fsm.Failed, fsm.ReplicationFailoverError, nil,
		},
		"refused after an attempt whose end nobody knows": {
			func(l *log) {
				l.drain("f1")
				l.assign("f1", n1)
				l.claim("f1")
				l.do(l.ended("f1"))
				l.assign("f1", n2)
				l.claim("f1")
				l.do(l.driverRefuses("f1", fsm.InvalidReplicationTarget))
			}, fsm.Failed, fsm.ReplicationFailoverError, fsm.ErrHeld,
		},
		"refused after a claim of a replaced executor": {
			func(l *log) {
				l.drain("f1")
				l.assign("f1", n1)
				l.claim("f1")
				l.assign("f1", n2)
				l.claim("f1")
				l.do(l.driverRefuses("f1", fsm.UnableToFailOver))
			}, fsm.Failed, fsm.ReplicationFailoverError, fsm.ErrHeld,
		},
		"refused after a second claim of the same attempt": {
			func(l *log) {
				l.drain("f1")
				l.assign("f1", n1)
				l.claim("f1")
				l.claim("f1")
				l.do(l.driverRefuses("f1", fsm.UnableToFailOver))
			}, fsm.Failed, fsm.ReplicationFailoverError, fsm.ErrHeld,
		},
		"given up after a claim": {
			func(l *log) { l.drain("f1"); l.assign("f1", n1); l.claim("f1"); l.do(l.giveUp("f1")) },
			fsm.Failed, fsm.ReplicationFailoverError, fsm.ErrHeld,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.ask("f1", "site-b")
			tc.end(l)
			cl := l.cluster(dev)
			equal(t, "phase", l.failover("f1").Phase, tc.phase)
			equal(t, "status", cl.ReplicationStatus, tc.status)
			equal(t, "site", cl.ActiveBackendID, "default")
			equal(t, "epoch", cl.Epoch, 1)
			equal(t, "gate", l.s.Admit(n2, 1, fsm.CallVolume), tc.gate)
			equal(t, "disabled", cl.Disabled, tc.status == fsm.ReplicationFailoverError)
			equal(t, "member disabled", l.service(n2).Disabled, cl.Disabled)
			if _, owed := l.s.Todo(n2, 0); owed != (tc.gate == nil) {
				t.Errorf("a driver just started is told of the site: %t", owed)
			}
			// Whatever has happened, a failback is accepted and opens the gates.
			l.do(fsm.RequestFailover{ID: "f2", Cluster: dev, Target: "default", Mode: fsm.Forced})
			if tc.gate != nil {
				l.drain("f2")
				l.assign("f2", n3)
				l.claim("f2")
				l.do(l.completed("f2", 0))
			}
			cl = l.cluster(dev)
			equal(t, "gate after failback", l.s.Admit(n2, cl.Epoch, fsm.CallVolume), nil)
			equal(t, "status after failback", cl.ReplicationStatus, fsm.ReplicationEnabled)
			equal(t, "disabled after failback", cl.Disabled || l.service(n2).Disabled, false)
		})
	}
}

func TestG10_LateMembersAreToldBeforeTheyServe(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.committed("f1", "site-b")
	l.do(l.switched(n1, ""), l.switched(n2, ""))
	l.do(fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: l.term, Silent: []string{n3}})
	equal(t, "absent member", l.member(n3).Error, "no answer")

	for name, told := range map[string]uint64{"asleep since epoch 1": 1, "just started": 0} {
		equal(t, name+": gate", l.s.Admit(n3, told, fsm.CallVolume), error(fsm.ErrBehind))
		task, _ := l.s.Todo(n3, told)
		want := fsm.Task{Kind: fsm.TaskSwitch, Host: n3, Cluster: dev, Target: "site-b", Epoch: 2, Claim: l.cluster(dev).Claim}
		equal(t, name+": task", task, want)
	}
	// The state of a snapshot gives the same answers.
	l.s = restored(t, l.s)
	task, _ := l.s.Todo(n3, 1)
	equal(t, "task after a snapshot was installed", task.Kind, fsm.TaskSwitch)
	// One that has reported and starts again is told again.
	task, _ = l.s.Todo(n1, 0)
	equal(t, "task of a member that starts again", task.Kind, fsm.TaskSwitch)

	l.do(l.switched(n3, ""))
	equal(t, "late member", l.member(n3).State, fsm.MemberStateSwitched)
	equal(t, "gate once told", l.s.Admit(n3, 2, fsm.CallVolume), nil)
	if task, owed := l.s.Todo(n3, 2); owed {
		t.Errorf("still owes %+v", task)
	}
}

func TestG11_StartUpChangesNothingAboutTheCluster(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	register := fsm.RegisterService{Host: n2, Node: "node2", Cluster: dev, Targets: []string{"site-b", "site-c"}}
	unchanged := func(when string) {
		t.Helper()
		cl, svc := l.cluster(dev), l.service(n2)
		l.do(register)
		equal(t, when+": cluster", l.cluster(dev), cl)
		now := l.service(n2)
		equal(t, when+": disabled", now.Disabled, svc.Disabled)
		equal(t, when+": reason", now.DisabledReason, svc.DisabledReason)
		equal(t, when+": report", now.Reported, svc.Reported)
	}
	unchanged("at rest")
	l.ask("f1", "site-b")
	unchanged("draining")
	members := len(l.failover("f1").Members)
	l.do(fsm.RegisterService{Host: "node4@files", Node: "node4", Cluster: dev})
	equal(t, "members to drain", len(l.failover("f1").Members), members)
	l.drain("f1")
	l.assign("f1", n1)
	l.claim("f1")
	unchanged("promoting")
	l.do(l.completed("f1", 0))
	unchanged("switching")
	l.tell()
	l.do(fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: l.term}, fsm.SetFrozen{Cluster: dev, Frozen: true})
	unchanged("failed over and frozen")
}

func TestG12_FreezeAndThawAreSymmetric(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.tell()
	l.do(fsm.SetServiceDisabled{Host: n3, Disabled: true, Reason: "disk swap"})
	before := l.availability()
	l.do(fsm.SetFrozen{Cluster: dev, Frozen: true, Owner: n2})
	for _, host := range []string{n1, n2} {
		equal(t, host+" frozen", l.service(host).DisabledReason, fsm.ReasonFrozen)
	}
	equal(t, "operator's reason", l.service(n3).DisabledReason, "disk swap")
	equal(t, "gate for volumes", l.s.Admit(n1, 1, fsm.CallVolume), error(fsm.ErrFrozen))
	equal(t, "gate for the freeze", l.s.Admit(n2, 1, fsm.CallFreeze), nil)
	task, _ := l.s.Todo(n2, 1)
	equal(t, "task", task.Kind, fsm.TaskFreeze)
	l.refused(fsm.FreezeReported{Cluster: dev, Host: n1, Frozen: true}, fsm.ErrStale)
	l.do(fsm.FreezeReported{Cluster: dev, Host: n2, Frozen: true})

	// One who joins is frozen like the others, and thaws with them.
	l.do(fsm.RegisterService{Host: "node4@files", Node: "node4", Cluster: dev})
	equal(t, "new member", l.service("node4@files").DisabledReason, fsm.ReasonFrozen)
	l.do(fsm.SetFrozen{Cluster: dev, Owner: n1})
	equal(t, "new member thawed", l.service("node4@files").Disabled, false)
	task, _ = l.s.Todo(n1, 1)
	equal(t, "task", task.Kind, fsm.TaskThaw)
	l.do(fsm.FreezeReported{Cluster: dev, Host: n1})
	l.do(fsm.DeleteService{Host: "node4@files", Term: l.term})
	equal(t, "availability after the thaw", l.availability(), before)
}

func TestG16_AReplacedExecutorCountsForNothing(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.ask("f1", "site-b")
	l.drain("f1")
	l.assign("f1", n1)
	f := l.failover("f1")
	l.refused(fsm.Claim{Failover: "f1", Attempt: 1, Host: n2}, fsm.ErrStale)

	// The leader decides to replace node1; node1 comes back and claims first.
	replace := fsm.Assign{Failover: "f1", Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Executor: n2, Term: l.term}
	giveUp := l.giveUp("f1")
	l.claim("f1")
	l.refused(replace, fsm.ErrStale)
	l.refused(giveUp, fsm.ErrStale)

	// A claim ends with its lease: after the next one the first counts for nothing.
	late := []fsm.Command{
		l.completed("f1", 0), l.driverRefuses("f1", fsm.UnableToFailOver), l.ended("f1"),
		fsm.StageResults{Failover: "f1", Attempt: 1, ClaimIndex: l.index},
	}
	l.claim("f1")
	for _, cmd := range late {
		l.refused(cmd, fsm.ErrStale)
	}
	// So does all of an attempt that was replaced.
	late = append(late, l.completed("f1", 0), l.driverRefuses("f1", fsm.UnableToFailOver), l.ended("f1"),
		fsm.StageResults{Failover: "f1", Attempt: 1, ClaimIndex: l.index},
		fsm.Claim{Failover: "f1", Attempt: 1, Host: n1})
	l.assign("f1", n2)
	l.claim("f1")
	for _, cmd := range late {
		l.refused(cmd, fsm.ErrStale)
	}
	if _, owed := l.s.Todo(n1, 1); owed {
		t.Error("the replaced executor still owes something")
	}
	l.do(l.completed("f1", 0))
}

func TestOverdueCountsFromTheFirstClaimOfAnAttempt(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	limits := fsm.DefaultLimits()
	l.claimed("f1", "site-b")
	begun := l.now
	l.now += fsm.Time(limits.Promote/time.Microsecond) / 2
	l.claim("f1") // the lease had lapsed
	equal(t, "overdue before its time", l.s.Overdue(n1, fsm.Observation{Now: begun + fsm.Time(limits.Promote/time.Microsecond) - second, Limits: limits}), false)
	equal(t, "overdue after its time", l.s.Overdue(n1, fsm.Observation{Now: begun + fsm.Time(limits.Promote/time.Microsecond), Limits: limits}), true)
}
