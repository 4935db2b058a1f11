package fsm_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

func TestTheFirstMemberMakesTheClusterAndTheLastOneTakesIt(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	cl := l.cluster(dev)
	equal(t, "site", cl.ActiveBackendID, "default")
	equal(t, "status", cl.ReplicationStatus, fsm.ReplicationEnabled)
	equal(t, "service outside clusters", l.cluster(lone).Single, true)
	if want := []string{"site-b", "site-c"}; !slices.Equal(l.s.Targets(dev), want) {
		t.Errorf("targets %q, want %q", l.s.Targets(dev), want)
	}
	l.volume("v", true)
	for _, host := range []string{n1, n2, n3, lone} {
		l.do(fsm.DeleteService{Host: host, Term: l.term})
	}
	equal(t, "cluster with volumes", l.cluster(dev).Name, dev)
	equal(t, "cluster without", l.cluster(lone).Name, "")
	l.do(fsm.RegisterService{Host: n1, Node: "node1", Cluster: dev})
	l.do(fsm.DeleteVolume{ID: "v"})
	l.finishOps(n1)
	l.do(fsm.DeleteService{Host: n1, Term: l.term})
	equal(t, "cluster whose volumes have gone", l.cluster(dev).Name, "")
}

// Who looks must not take a cluster for one that could fail over.
func TestWithoutTargetsReplicationIsDisabled(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.do(fsm.RegisterService{Host: n1, Node: "node1", Cluster: dev})
	equal(t, "one member without", l.cluster(dev).ReplicationStatus, fsm.ReplicationEnabled)
	for host, node := range map[string]string{n2: "node2", n3: "node3"} {
		l.do(fsm.RegisterService{Host: host, Node: node, Cluster: dev})
	}
	equal(t, "all without", l.cluster(dev).ReplicationStatus, fsm.ReplicationDisabled)
	for cl := range l.s.Clusters() {
		equal(t, "in the list", cl.ReplicationStatus == fsm.ReplicationDisabled, cl.Name == dev)
	}
	l.do(fsm.RegisterService{Host: n3, Node: "node3", Cluster: dev, Targets: []string{"site-b"}})
	equal(t, "again", l.cluster(dev).ReplicationStatus, fsm.ReplicationEnabled)
}

func TestAMemberWhoJoinsIsAsAvailableAsTheOthers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		given  func(l *log)
		reason string
	}{
		"serving":                  {func(*log) {}, ""},
		"failed over":              {func(l *log) { l.failsOver("f1", "site-b") }, fsm.ReasonFailedOver},
		"failed over and enabled":  {func(l *log) { l.failsOver("f1", "site-b"); l.do(fsm.SetClusterDisabled{Cluster: dev}) }, ""},
		"frozen":                   {(*log).freezes, fsm.ReasonFrozen},
		"after a failover failed":  {func(l *log) { l.promotes(); l.do(l.giveUp("f1")) }, fsm.ReasonFailoverError},
		"disabled by the operator": {func(l *log) { l.do(fsm.SetClusterDisabled{Cluster: dev, Disabled: true, Reason: "x"}) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			tc.given(l)
			l.do(fsm.RegisterService{Host: "node4@files", Node: "node4", Cluster: dev})
			svc := l.service("node4@files")
			equal(t, "reason", svc.DisabledReason, tc.reason)
			equal(t, "disabled", svc.Disabled, tc.reason != "")
		})
	}
}

func TestWhatAnOperatorDisabledStaysDisabled(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.do(fsm.SetClusterDisabled{Cluster: dev, Disabled: true, Reason: "audit"},
		fsm.SetServiceDisabled{Host: n2, Disabled: true, Reason: "disk swap"})
	l.failsOver("f1", "site-b")
	l.failsOver("f2", "default")
	equal(t, "cluster", l.cluster(dev).DisabledReason, "audit")
	equal(t, "member", l.service(n2).DisabledReason, "disk swap")
	equal(t, "other member", l.service(n1).Disabled, false)
	l.do(l.switched(n2, "no route"), l.switched(n2, ""))
	equal(t, "member after its driver refused", l.service(n2).DisabledReason, "disk swap")
	l.do(fsm.SetServiceDisabled{Host: n2, Reason: "none"}, fsm.SetClusterDisabled{Cluster: dev, Reason: "none"})
	equal(t, "reason of an enabled cluster", l.cluster(dev).DisabledReason, "")
	equal(t, "reason of an enabled service, which stays to be read", l.service(n2).DisabledReason, "disk swap")
	equal(t, "service", l.service(n2).Disabled, false)
}

func TestAServiceOutsideClustersFailsOverAlone(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.do(fsm.RequestFailover{ID: "f1", Cluster: lone, Mode: fsm.Forced}) // its only target
	equal(t, "target", l.failover("f1").Target, "site-b")
	l.drain("f1")
	l.assign("f1", lone)
	l.claim("f1")
	l.do(l.completed("f1", 0))
	l.do(l.switched(lone, ""))
	l.do(l.s.Plan(l.sees())...)
	equal(t, "phase", l.failover("f1").Phase, fsm.Done)
	equal(t, "status", l.cluster(lone).ReplicationStatus, fsm.ReplicationFailedOver)
	equal(t, "reason", l.service(lone).DisabledReason, fsm.ReasonFailedOver)
	equal(t, "the cluster beside it", l.cluster(dev).Epoch, 1)
	create := fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: lone}}
	l.refused(create, fsm.ErrDisabled)
	l.do(fsm.SetServiceDisabled{Host: lone})
	l.do(create)
}

func TestStatusesAfterAFailover(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		given  func(l *log)
		status fsm.ReplicationStatus
		reason string // of the cluster
		member string
		site   string
	}{
		"failed over": {
			given: func(l *log) { l.failsOver("f1", "site-b") }, status: fsm.ReplicationFailedOver,
			reason: fsm.ReasonFailedOver, member: fsm.ReasonFailedOver, site: "site-b",
		},
		"failed back": {
			given:  func(l *log) { l.failsOver("f1", "site-b"); l.failsOver("f2", "default") },
			status: fsm.ReplicationEnabled, site: "default",
		},
		"failed back while frozen": {
			given:  func(l *log) { l.failsOver("f1", "site-b"); l.freezes(); l.failsOver("f2", "default") },
			status: fsm.ReplicationEnabled, member: fsm.ReasonFrozen, site: "default",
		},
		"target refused at the primary": {
			given:  func(l *log) { l.promotes(); l.do(l.driverRefuses("f1", fsm.InvalidReplicationTarget)) },
			status: fsm.ReplicationEnabled, site: "default",
		},
		"target refused at a secondary": {
			given: func(l *log) {
				l.failsOver("f1", "site-b")
				l.claimed("f2", "site-c")
				l.do(l.driverRefuses("f2", fsm.InvalidReplicationTarget))
			},
			status: fsm.ReplicationFailedOver, reason: fsm.ReasonFailedOver, member: fsm.ReasonFailedOver, site: "site-b",
		},
		"target refused after an earlier error": {
			given: func(l *log) {
				l.promotes()
				l.do(l.driverRefuses("f1", fsm.UnableToFailOver))
				l.claimed("f2", "site-c")
				l.do(l.driverRefuses("f2", fsm.InvalidReplicationTarget))
			},
			status: fsm.ReplicationFailoverError, reason: fsm.ReasonFailoverError, member: fsm.ReasonFailoverError, site: "default",
		},
		"aborted after an earlier error": {
			given: func(l *log) {
				l.promotes()
				l.do(l.driverRefuses("f1", fsm.UnableToFailOver))
				l.ask("f2", "site-c")
				l.do(fsm.AbortFailover{ID: "f2"}, fsm.AbortFailover{ID: "f2"})
			},
			status: fsm.ReplicationFailoverError, reason: fsm.ReasonFailoverError, member: fsm.ReasonFailoverError, site: "default",
		},
		"asked for the site in use after an error": {
			given: func(l *log) {
				l.promotes()
				l.do(l.driverRefuses("f1", fsm.UnableToFailOver))
				l.ask("f2", "default")
			},
			status: fsm.ReplicationEnabled, site: "default",
		},
		"asked for the secondary in use after an error": {
			given: func(l *log) {
				l.failsOver("f1", "site-b")
				l.claimed("f2", "site-c")
				l.do(l.driverRefuses("f2", fsm.UnableToFailOver))
				l.ask("f3", "site-b")
			},
			status: fsm.ReplicationFailedOver, reason: fsm.ReasonFailedOver, member: fsm.ReasonFailedOver, site: "site-b",
		},
		"aborted while gates are held closed": {
			given: func(l *log) {
				l.promotes()
				l.do(l.giveUp("f1"))
				l.ask("f2", "site-c")
				l.do(fsm.AbortFailover{ID: "f2"})
			},
			status: fsm.ReplicationFailoverError, reason: fsm.ReasonFailoverError, member: fsm.ReasonFailoverError, site: "default",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			tc.given(l)
			cl := l.cluster(dev)
			equal(t, "status", cl.ReplicationStatus, tc.status)
			equal(t, "reason", cl.DisabledReason, tc.reason)
			equal(t, "disabled", cl.Disabled, tc.reason != "")
			equal(t, "reason of a member", l.service(n2).DisabledReason, tc.member)
			equal(t, "site", cl.ActiveBackendID, tc.site)
		})
	}
}

func TestAFailoverToTheSiteInUseIsDoneAtOnceAndChangesNothing(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	before := l.cluster(dev)
	l.ask("f1", "default")
	equal(t, "phase", l.failover("f1").Phase, fsm.Done)
	equal(t, "cluster", l.cluster(dev), before)
	equal(t, "commands of the leader", len(l.s.Plan(l.sees())), 0)
}

func TestGatesHeldClosedOpenWithTheNextSwitchOnly(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"default", "site-b", "site-c"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.promotes()
			l.do(l.giveUp("f1"))
			equal(t, "held", l.cluster(dev).Held, true)
			l.ask("f2", target)
			equal(t, "phase", l.failover("f2").Phase, fsm.Draining) // the site in use too is promoted anew
			l.drain("f2")
			l.assign("f2", n2)
			l.claim("f2")
			l.do(l.driverRefuses("f2", fsm.UnableToFailOver))
			equal(t, "held after a refusal", l.cluster(dev).Held, true)
			equal(t, "gate", l.s.Admit(n1, 1, fsm.CallVolume), error(fsm.ErrHeld))
			l.failsOver("f3", target)
			equal(t, "held after the switch", l.cluster(dev).Held, false)
			equal(t, "gate after the switch", l.s.Admit(n1, 2, fsm.CallVolume), nil)
			equal(t, "site", l.cluster(dev).ActiveBackendID, target)
		})
	}
}

func TestWhoReportedInTimeIsNotSilent(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.committed("f1", "site-b")
	l.tell()
	l.do(fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: l.term, Silent: []string{n3, lone, "a@b"}})
	equal(t, "state", l.member(n3).State, fsm.MemberStateSwitched)
	equal(t, "members", len(l.failover("f1").Members), 3)
}

func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.ask("open", "site-b")
	for i := range 1200 {
		l.do(fsm.RequestFailover{ID: fmt.Sprint("f", i), Cluster: lone, Target: "default", Mode: fsm.Forced})
	}
	n := 0
	for f := range l.s.Failovers(0) {
		if n == 0 {
			equal(t, "newest", f.ID, "f1199")
		}
		n++
	}
	equal(t, "kept", n, 1000)
	equal(t, "unfinished one", l.failover("open").Phase, fsm.Draining)
}

func TestVolumeTypesAndNodes(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.do(fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t1", Name: "gold", ExtraSpecs: []fsm.KeyValue{{Key: "replication_enabled", Value: "<is> True"}}}},
		fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t2", Name: "tin"}})
	for name, want := range map[string]bool{"gold": true, "t1": true, "tin": false} {
		typ, ok := l.s.VolumeType(name)
		if !ok || typ.Replicated() != want {
			t.Errorf("%s: found %t, replicated %t", name, ok, typ.Replicated())
		}
	}
	l.do(fsm.DeleteVolumeType{ID: "t2"})
	if _, ok := l.s.VolumeType("tin"); ok {
		t.Error("the deleted type is still there")
	}
	l.do(fsm.RegisterNode{Node: fsm.Node{ID: "node1", API: "http://a"}}, fsm.RegisterNode{Node: fsm.Node{ID: "node1", API: "http://b"}})
	n, _ := l.s.Node("node1")
	equal(t, "address", n.API, "http://b")
	equal(t, "made before changed", n.CreatedAt < n.UpdatedAt, true)
	l.do(fsm.RemoveNode{ID: "node1"})
	for n := range l.s.Nodes() {
		t.Errorf("%s is still there", n.ID)
	}
}

// A leader waits for a node as long as this says.
func TestLeaseSpanIsShortenedOnlyWhenEarlierLeasesAreOver(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tests := []struct{ was, is, running, want time.Duration }{
		{was: 0, is: 5 * s, want: 5 * s},
		{was: 5 * s, is: 9 * s, want: 9 * s},
		{was: 9 * s, is: 5 * s, want: 9 * s},
		{was: 9 * s, is: 5 * s, running: 9*s - 1, want: 9 * s},
		{was: 9 * s, is: 5 * s, running: 9 * s, want: 5 * s},
		{was: 9 * s, is: 0, running: 8 * s, want: 9 * s},
	}
	for _, test := range tests {
		l := newLog(t)
		l.do(
			fsm.RegisterNode{Node: fsm.Node{ID: "node1", LeaseSpan: test.was}},
			fsm.RegisterNode{Node: fsm.Node{ID: "node1", LeaseSpan: test.is}, Running: test.running},
		)
		if n, _ := l.s.Node("node1"); n.LeaseSpan != test.want {
			t.Errorf("%+v: %v", test, n.LeaseSpan)
		}
	}
}
