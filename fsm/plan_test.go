package fsm_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// gone says of an observation that members can no longer hold a lease.
func gone(o fsm.Observation, hosts ...string) fsm.Observation {
	for _, host := range hosts {
		o.Live[host], o.Gone[host] = false, true
	}
	return o
}

func after(o fsm.Observation, d time.Duration) fsm.Observation {
	o.Now += fsm.Time(d.Microseconds())
	return o
}

// stuckN3 is what an operator reads of a failover that node3 was in the way of.
const stuckN3 = "processes of the driver of node3@files cannot be ended and may still work on the storage: " +
	"power off node3, then remove it from the deployment (lockstep peers remove node3) and fail over again"

func TestPlan(t *testing.T) {
	t.Parallel()
	quiet := func(l *log) fsm.Observation { return l.sees() }
	without := func(hosts ...string) func(l *log) fsm.Observation {
		return func(l *log) fsm.Observation { return gone(l.sees(), hosts...) }
	}
	late := func(d time.Duration, hosts ...string) func(l *log) fsm.Observation {
		return func(l *log) fsm.Observation { return after(gone(l.sees(), hosts...), d) }
	}
	silent := func(hosts ...string) func(l *log) fsm.Observation {
		return func(l *log) fsm.Observation {
			o := after(l.sees(), time.Hour)
			for _, host := range hosts {
				o.Live[host] = false
			}
			return o
		}
	}
	assign := func(attempt uint64, executor string) func(l *log) fsm.Command {
		return func(l *log) fsm.Command {
			return fsm.Assign{Failover: "f1", Attempt: attempt, ClaimIndex: l.failover("f1").ClaimIndex, Executor: executor, Term: 1}
		}
	}
	giveUp := func(attempt uint64, problem string) func(l *log) fsm.Command {
		return func(l *log) fsm.Command {
			return fsm.GiveUp{Failover: "f1", Attempt: attempt, ClaimIndex: l.failover("f1").ClaimIndex, Term: 1, Error: problem}
		}
	}
	always := func(cmd fsm.Command) func(l *log) fsm.Command { return func(*log) fsm.Command { return cmd } }
	drained := func(l *log) { l.ask("f1", "site-b"); l.drain("f1") }
	ended := func(l *log) { l.promotes(); l.do(l.ended("f1")) }

	for name, tc := range map[string]struct {
		given func(l *log)
		sees  func(l *log) fsm.Observation
		want  func(l *log) fsm.Command // nil: nothing
	}{
		"nothing is asked for":                {func(*log) {}, quiet, nil},
		"draining: members have yet to drain": {(*log).asks, quiet, nil},
		"draining: a member is out of touch and not gone": {func(l *log) {
			l.asks()
			l.do(fsm.MemberDrained{Failover: "f1", Host: n1}, fsm.MemberDrained{Failover: "f1", Host: n2})
		}, silent(n3), nil},
		"draining: the last member is gone": {func(l *log) {
			l.asks()
			l.do(fsm.MemberDrained{Failover: "f1", Host: n1}, fsm.MemberDrained{Failover: "f1", Host: n2})
		}, without(n3), assign(0, n1)},
		"draining: all have drained, the leader's comes first": {drained, quiet, assign(0, n1)},
		"draining: the leader's is gone":                       {drained, without(n1), assign(0, n2)},
		"draining: the leader hosts no member":                 {drained, func(l *log) fsm.Observation { o := l.sees(); o.Node = "node9"; return o }, assign(0, n1)},
		"draining: only one has the target":                    {func(l *log) { l.onlyHasTarget(n3); l.ask("f1", "site-d"); l.drain("f1") }, quiet, assign(0, n3)},
		"draining: nobody lives":                               {drained, without(n1, n2, n3), nil},
		"draining: nobody lives for a long time":               {drained, late(time.Hour, n1, n2, n3), giveUp(0, `no live member is configured with "site-b"`)},
		"draining: nobody with the target lives":               {func(l *log) { l.onlyHasTarget(n3); l.ask("f1", "site-d"); l.drain("f1") }, late(time.Hour, n3), giveUp(0, `no live member is configured with "site-d"`)},
		"draining: anyone can go back to the primary":          {func(l *log) { l.failsOver("f0", "site-b"); l.ask("f1", "default"); l.drain("f1") }, without(n1, n3), assign(0, n2)},
		"draining: results of the switch before are first":     {func(l *log) { l.unsettledBefore(); l.drain("f2") }, quiet, always(fsm.SettleResults{Cluster: dev, Epoch: 2, Term: 1})},
		"promoting: the executor has not claimed":              {func(l *log) { drained(l); l.assign("f1", n1) }, late(time.Hour), nil},
		"promoting: the executor is at work":                   {(*log).promotes, late(time.Hour), nil},
		"promoting: the executor is gone":                      {(*log).promotes, without(n1), assign(1, n2)},
		"promoting: the executor is out of touch and not gone": {(*log).promotes, silent(n1), nil},
		"promoting: another member is gone":                    {(*log).promotes, without(n2), nil},
		"promoting: the executor was the only one":             {(*log).promotes, without(n1, n2, n3), nil},
		"promoting: an attempt has just ended":                 {ended, quiet, nil},
		"promoting: an attempt ended, another member is next":  {ended, late(time.Second), assign(1, n2)},
		"promoting: an attempt ended, only its executor lives": {ended, late(time.Second, n2, n3), assign(1, n1)},
		"promoting: the leader's clock is behind":              {ended, late(-time.Hour), assign(1, n2)},
		"promoting: attempts are used up":                      {func(l *log) { l.attempts(8) }, late(time.Hour), giveUp(8, "gave up after 8 attempts: connection lost")},
		"promoting: the last attempt but one has ended":        {func(l *log) { l.attempts(7) }, late(time.Hour), assign(7, n2)},
		"draining: a member is stuck, and gone":                {func(l *log) { drained(l); l.do(fsm.ReportStuck{Host: n3, Stuck: true}) }, without(n3), nil},
		"draining: a member is stuck for too long":             {func(l *log) { drained(l); l.do(fsm.ReportStuck{Host: n3, Stuck: true}) }, late(30*time.Second, n3), giveUp(0, stuckN3)},
		"draining: a member was stuck": {func(l *log) {
			drained(l)
			l.do(fsm.ReportStuck{Host: n3, Stuck: true}, fsm.ReportStuck{Host: n3})
		}, late(time.Hour), assign(0, n1)},
		"promoting: another member is stuck":             {func(l *log) { l.promotes(); l.do(fsm.ReportStuck{Host: n3, Stuck: true}) }, late(time.Hour, n3), nil},
		"promoting: a member is stuck before the claim":  {func(l *log) { drained(l); l.assign("f1", n1); l.do(fsm.ReportStuck{Host: n3, Stuck: true}) }, late(time.Hour), giveUp(1, stuckN3)},
		"promoting: the executor is stuck, and gone":     {func(l *log) { l.promotes(); l.do(fsm.ReportStuck{Host: n1, Stuck: true}) }, without(n1), nil},
		"promoting: the executor is stuck for too long":  {func(l *log) { l.promotes(); l.do(fsm.ReportStuck{Host: n1, Stuck: true}) }, late(time.Hour, n1), giveUp(1, strings.ReplaceAll(stuckN3, "node3", "node1"))},
		"promoting: an attempt ended, a member is stuck": {func(l *log) { ended(l); l.do(fsm.ReportStuck{Host: n3, Stuck: true}) }, late(time.Second), nil},
		"switching: a member is stuck": {func(l *log) {
			l.committed("f1", "site-b")
			l.do(l.switched(n1, ""), l.switched(n2, ""), fsm.ReportStuck{Host: n3, Stuck: true})
		}, without(n3), always(fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: 1})},
		"a member that is stuck owes an operation":          {func(l *log) { l.owes(); l.do(fsm.ReportStuck{Host: n1, Stuck: true}) }, without(n1), nil},
		"switching: nobody has reported":                    {func(l *log) { l.committed("f1", "site-b") }, quiet, nil},
		"switching: all have reported":                      {func(l *log) { l.committed("f1", "site-b"); l.tell() }, quiet, always(fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: 1})},
		"switching: all but one that is gone have reported": {func(l *log) { l.committed("f1", "site-b"); l.do(l.switched(n1, ""), l.switched(n2, "no route")) }, without(n3), always(fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: 1})},
		"switching: one does not answer in time":            {func(l *log) { l.committed("f1", "site-b"); l.do(l.switched(n1, ""), l.switched(n2, "")) }, late(time.Minute), always(fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: 1, Silent: []string{n3}})},
		"switching: results are settled meanwhile":          {func(l *log) { l.committed("f1", "site-b", fsm.VolumeResult{VolumeID: "v"}) }, quiet, always(fsm.SettleResults{Cluster: dev, Epoch: 2, Term: 1})},
		"done":                            {func(l *log) { l.failsOver("f1", "site-b") }, late(time.Hour), nil},
		"failed":                          {(*log).held, late(time.Hour), nil},
		"a lost member owes an operation": {(*log).owes, without(n1), always(fsm.MoveOperations{From: n1, To: n2, Term: 1})},
		"a lost member owes an operation and nobody lives":     {(*log).owes, without(n1, n2, n3), nil},
		"a member that is not gone owes an operation":          {(*log).owes, quiet, nil},
		"a lost member owes a freeze":                          {func(l *log) { l.do(fsm.SetFrozen{Cluster: dev, Frozen: true, Owner: n2}) }, without(n2), always(fsm.MoveOperations{From: n2, To: n1, Term: 1})},
		"a lost member owes an operation, during a failover":   {func(l *log) { l.owes(); l.promotes() }, without(n3), nil},
		"the executor owes an operation and is gone":           {func(l *log) { l.owes(); l.promotes() }, without(n1), assign(1, n2)},
		"a member of another cluster is gone and owes nothing": {func(*log) {}, without(lone), nil},
		"a lost service outside clusters cannot be replaced":   {func(l *log) { l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: "x", Size: 1, Host: lone}}) }, without(lone), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			tc.given(l)
			before := digest(t, l.s)
			got, want := "", ""
			if tc.want != nil {
				want = fmt.Sprintf("%T%+v", tc.want(l), tc.want(l))
			}
			cmds := l.s.Plan(tc.sees(l))
			for _, cmd := range cmds {
				got += fmt.Sprintf("%T%+v", cmd, cmd)
			}
			equal(t, "plan", got, want)
			equal(t, "state after the look", digest(t, l.s), before)
			l.do(cmds...) // and it is accepted
		})
	}
}

func (l *log) onlyHasTarget(host string) {
	l.do(fsm.RegisterService{Host: host, Node: host[:5], Cluster: dev, Targets: []string{"site-b", "site-c", "site-d"}})
}

// attempts lets n attempts end with nobody knowing what they did.
func (l *log) attempts(n int) {
	l.ask("f1", "site-b")
	l.drain("f1")
	for range n {
		l.assign("f1", n1)
		l.claim("f1")
		l.do(l.ended("f1"))
	}
}

// unsettledBefore leaves f2 asked for while results of f1 are not settled.
func (l *log) unsettledBefore() {
	l.committed("f1", "site-b", fsm.VolumeResult{VolumeID: "v"})
	l.tell()
	l.do(fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: l.term})
	l.ask("f2", "site-c")
}

func TestResultsOfTheSwitchBeforeAreNeverMixedWithThose(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.unsettledBefore()
	l.drain("f2")
	l.refused(fsm.Assign{Failover: "f2", Executor: n1, Term: l.term}, fsm.ErrStale)
	l.settle()
	l.assign("f2", n1)
	l.claim("f2")
	l.do(l.completed("f2", 0))
}

func TestBackOffDoublesUpToSixteenTimes(t *testing.T) {
	t.Parallel()
	for attempt, want := range map[int]time.Duration{1: 500 * time.Millisecond, 2: time.Second, 4: 4 * time.Second, 5: 8 * time.Second, 7: 8 * time.Second} {
		l := newDeployment(t)
		l.attempts(attempt)
		if cmds := l.s.Plan(after(l.sees(), want-time.Millisecond-l.sees().Now.Sub(l.failover("f1").StepAt))); len(cmds) != 0 {
			t.Errorf("attempt %d: %T before the back-off of %v has passed", attempt, cmds[0], want)
		}
		if cmds := l.s.Plan(after(l.sees(), want)); len(cmds) != 1 {
			t.Errorf("attempt %d: nothing after %v", attempt, want)
		}
	}
}

func TestMoveOperationsMovesABoundedNumber(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	for i := range 1500 {
		l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: fmt.Sprint("v", i), Size: 1, Host: n1}})
	}
	o := gone(l.sees(), n1)
	for _, want := range []int{1000, 1500} {
		l.do(l.s.Plan(o)...)
		equal(t, "moved", len(l.s.Owed(n2, 2000)), want)
	}
	equal(t, "left", len(l.s.Owed(n1, 2000)), 0)
	equal(t, "commands of the leader", len(l.s.Plan(o)), 0)
	op := l.s.Owed(n2, 1)[0]
	equal(t, "owed by the new one", l.s.Owes(n2, op.ID), true)
	equal(t, "owed by the old one", l.s.Owes(n1, op.ID), false)
	stale := op
	stale.Host = n1
	l.refused(l.end(stale, ""), fsm.ErrStale)
	l.do(l.end(op, ""))
}

func TestTodo(t *testing.T) {
	t.Parallel()
	promotion := func(l *log, mode fsm.Mode) fsm.Task {
		return fsm.Task{Kind: fsm.TaskPromote, Host: n1, Cluster: dev, Failover: "f1", Attempt: 1, From: "default", Target: "site-b", Mode: mode, Epoch: l.cluster(dev).Epoch + 1}
	}
	drain := fsm.Task{Kind: fsm.TaskDrain, Host: n1, Cluster: dev, Failover: "f1"}
	switchTo := func(site string, epoch uint64) fsm.Task {
		return fsm.Task{Kind: fsm.TaskSwitch, Host: n1, Cluster: dev, Target: site, Epoch: epoch}
	}
	for name, tc := range map[string]struct {
		given func(l *log)
		told  uint64
		want  func(l *log) fsm.Task
	}{
		"a driver just started":                  {(*log).tell, 0, func(*log) fsm.Task { return switchTo("default", 1) }},
		"a driver told":                          {(*log).tell, 1, nil},
		"a driver told that has not reported":    {func(*log) {}, 1, func(*log) fsm.Task { return switchTo("default", 1) }},
		"a driver that refused the site":         {func(l *log) { l.do(l.switched(n1, "no route")) }, 1, func(*log) fsm.Task { return switchTo("default", 1) }},
		"draining":                               {(*log).asks, 1, func(*log) fsm.Task { return drain }},
		"draining, a driver just started":        {(*log).asks, 0, func(*log) fsm.Task { return drain }},
		"drained, a driver just started":         {func(l *log) { l.asks(); l.drain("f1") }, 0, nil},
		"promoting, as the executor":             {(*log).promotes, 0, func(l *log) fsm.Task { return promotion(l, fsm.Forced) }},
		"promoting, as another member":           {func(l *log) { l.asks(); l.drain("f1"); l.assign("f1", n2) }, 0, nil},
		"promoting, after the attempt has ended": {func(l *log) { l.promotes(); l.do(l.ended("f1")) }, 0, nil},
		"switching":                              {func(l *log) { l.committed("f1", "site-b") }, 1, func(l *log) fsm.Task { want := switchTo("site-b", 2); want.Claim = l.cluster(dev).Claim; return want }},
		"failed with the gates closed":           {(*log).held, 0, nil},
		"aborted, a driver just started":         {func(l *log) { l.asks(); l.do(fsm.AbortFailover{ID: "f1"}) }, 0, func(*log) fsm.Task { return switchTo("default", 1) }},
		"frozen, a driver just started":          {func(l *log) { l.tell(); l.freezes() }, 0, func(*log) fsm.Task { return switchTo("default", 1) }},
		"frozen": {func(l *log) { l.tell(); l.freezes() }, 1, func(*log) fsm.Task {
			return fsm.Task{Kind: fsm.TaskFreeze, Host: n1, Cluster: dev, Target: "default", Epoch: 1}
		}},
		"draining and frozen": {func(l *log) { l.tell(); l.freezes(); l.asks() }, 1, func(*log) fsm.Task { return drain }},
		"a planned switchover": {func(l *log) {
			l.do(fsm.RequestFailover{ID: "f1", Cluster: dev, Target: "site-b", Mode: fsm.Planned})
			l.drain("f1")
			l.assign("f1", n1)
		}, 1, func(l *log) fsm.Task { return promotion(l, fsm.Planned) }},
		"a failover of another service": {func(l *log) {
			l.tell()
			l.do(fsm.RequestFailover{ID: "f1", Cluster: lone, Target: "site-b", Mode: fsm.Forced})
		}, 1, nil},
		"results of the switch are not settled":   {func(l *log) { l.committed("f1", "site-b", fsm.VolumeResult{VolumeID: "v"}); l.tell() }, 2, nil},
		"the cluster is disabled by the operator": {func(l *log) { l.tell(); l.do(fsm.SetClusterDisabled{Cluster: dev, Disabled: true, Reason: "x"}) }, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			tc.given(l)
			got, owed := l.s.Todo(n1, tc.told)
			var want fsm.Task
			if tc.want != nil {
				want = tc.want(l)
			}
			equal(t, "task", got, want)
			equal(t, "owed", owed, tc.want != nil)
		})
	}
	if _, owed := newDeployment(t).s.Todo("a@b", 0); owed {
		t.Error("a service nobody knows owes something")
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		given        func(l *log)
		told         uint64
		volume, tell error // what calls on volumes, and about a freeze, are answered
	}{
		"told":                         {func(*log) {}, 1, nil, nil},
		"told nothing yet":             {func(*log) {}, 0, fsm.ErrBehind, fsm.ErrBehind},
		"draining":                     {(*log).asks, 1, fsm.ErrFailingOver, fsm.ErrFailingOver},
		"promoting":                    {(*log).promotes, 1, fsm.ErrFailingOver, fsm.ErrFailingOver},
		"switching, not told":          {func(l *log) { l.committed("f1", "site-b") }, 1, fsm.ErrBehind, fsm.ErrBehind},
		"switching, told":              {func(l *log) { l.committed("f1", "site-b") }, 2, nil, nil},
		"done, told":                   {func(l *log) { l.failsOver("f1", "site-b") }, 2, nil, nil},
		"failed with the gates closed": {(*log).held, 1, fsm.ErrHeld, fsm.ErrHeld},
		"frozen":                       {(*log).freezes, 1, fsm.ErrFrozen, nil},
		"disabled by the operator":     {func(l *log) { l.do(fsm.SetServiceDisabled{Host: n1, Disabled: true}) }, 1, nil, nil},
		"another service is failing over": {func(l *log) {
			l.do(fsm.RequestFailover{ID: "f1", Cluster: lone, Target: "site-b", Mode: fsm.Forced})
		}, 1, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			tc.given(l)
			equal(t, "volume call", l.s.Admit(n1, tc.told, fsm.CallVolume), tc.volume)
			equal(t, "freeze call", l.s.Admit(n1, tc.told, fsm.CallFreeze), tc.tell)
		})
	}
	equal(t, "a service nobody knows", newDeployment(t).s.Admit("a@b", 1, fsm.CallVolume), error(fsm.ErrNotFound))
}

func TestOverdue(t *testing.T) {
	t.Parallel()
	limits := fsm.DefaultLimits()
	for name, tc := range map[string]struct {
		given func(l *log)
		host  string
		after time.Duration
		want  bool
	}{
		"nothing is asked for":          {func(*log) {}, n1, time.Hour, false},
		"draining in time":              {(*log).asks, n1, limits.Drain - time.Second, false},
		"draining for too long":         {(*log).asks, n1, limits.Drain, true},
		"drained":                       {func(l *log) { l.asks(); l.do(fsm.MemberDrained{Failover: "f1", Host: n1}) }, n1, time.Hour, false},
		"promoting in time":             {(*log).promotes, n1, limits.Promote - time.Second, false},
		"promoting for too long":        {(*log).promotes, n1, limits.Promote, true},
		"another member promotes":       {(*log).promotes, n2, time.Hour, false},
		"the attempt has ended":         {func(l *log) { l.promotes(); l.do(l.ended("f1")) }, n1, time.Hour, false},
		"switching":                     {func(l *log) { l.committed("f1", "site-b") }, n1, time.Hour, false},
		"a service nobody knows":        {(*log).asks, "a@b", time.Hour, false},
		"draining of another service's": {(*log).asks, lone, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			tc.given(l)
			equal(t, "overdue", l.s.Overdue(tc.host, after(l.sees(), tc.after)), tc.want)
		})
	}
}
