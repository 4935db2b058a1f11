package fsm_test

import (
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// A failover that a stuck member is in the way of ends with nothing promoted, and
// members serve where they were; once that member is gone for good the next goes on.
func TestStuckMemberEndsAFailoverThatPromotesNothing(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.asks()
	l.do(fsm.MemberDrained{Failover: "f1", Host: n1}, fsm.MemberDrained{Failover: "f1", Host: n2}, fsm.ReportStuck{Host: n3, Stuck: true})
	l.do(l.s.Plan(after(gone(l.sees(), n3), time.Minute))...)
	f := l.failover("f1")
	equal(t, "phase", f.Phase, fsm.Failed)
	equal(t, "error", f.Error, stuckN3)
	for _, host := range []string{n1, n2} {
		if err := l.s.Admit(host, 1, fsm.CallVolume); err != nil {
			t.Errorf("%s does not serve: %v", host, err)
		}
	}
	cl, _ := l.s.Cluster(dev)
	equal(t, "site", cl.ActiveBackendID, "default")
	equal(t, "held", cl.Held, false)

	l.do(fsm.DeleteService{Host: n3, Term: l.term})
	l.ask("f2", "site-b")
	l.drain("f2")
	l.assign("f2", n1)
	l.claim("f2")
}

// One whose executor is stuck may have promoted something: its gates stay closed.
func TestStuckExecutorLeavesTheGatesClosed(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.promotes()
	l.do(fsm.ReportStuck{Host: n1, Stuck: true})
	l.do(l.s.Plan(after(gone(l.sees(), n1), time.Minute))...)
	equal(t, "phase", l.failover("f1").Phase, fsm.Failed)
	if err := l.s.Admit(n2, 1, fsm.CallVolume); err == nil {
		t.Error("a member serves although something may be promoted")
	}
}

// What the last member of a cluster owes does not stay undone for ever once it is gone.
func TestWhatTheLastMemberOwesEndsWithIt(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: "x", Size: 1, Host: lone}})
	l.do(fsm.DeleteService{Host: lone, Term: l.term})
	v, _ := l.s.Volume("x")
	equal(t, "status", v.Status, fsm.StatusError)
}
