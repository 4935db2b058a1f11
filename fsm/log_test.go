package fsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	dev  = "dev@files"   // a cluster of three members
	lone = "node1@lone"  // a service outside clusters
	n1   = "node1@files" // the members of dev
	n2   = "node2@files"
	n3   = "node3@files"

	second = fsm.Time(1_000_000)
	noon   = 43_200 * second // of the first day
)

// log applies commands to a state as a Raft log does: each at an index of its own.
type log struct {
	tb    testing.TB
	s     *fsm.State
	index uint64
	term  uint64
	now   fsm.Time
	seen  func(fsm.Meta, fsm.Command) // if set, is told of every command
}

// newLog returns the log of a deployment that has committed nothing.
func newLog(tb testing.TB) *log {
	tb.Helper()
	return &log{tb: tb, s: fsm.NewState(), term: 1, now: noon}
}

// newDeployment returns the log of a deployment with the cluster dev, whose
// members replicate to site-b and site-c, and the service lone.
func newDeployment(tb testing.TB) *log {
	tb.Helper()
	l := newLog(tb)
	for _, host := range []string{n1, n2, n3} {
		l.do(fsm.RegisterService{Host: host, Node: host[:5], Cluster: dev, Targets: []string{"site-c", "site-b"}})
	}
	l.do(fsm.RegisterService{Host: lone, Node: "node1", Targets: []string{"site-b"}})
	return l
}

func (l *log) try(cmd fsm.Command) error { return l.request("", cmd) }

func (l *log) request(id string, cmd fsm.Command) error {
	l.index++
	l.now += second / 1000
	m := fsm.Meta{Index: l.index, Term: l.term, Request: id, At: l.now}
	if l.seen != nil {
		l.seen(m, cmd)
	}
	return l.s.Apply(m, cmd)
}

// do applies commands that must be accepted.
func (l *log) do(cmds ...fsm.Command) {
	l.tb.Helper()
	for _, cmd := range cmds {
		if err := l.try(cmd); err != nil {
			l.tb.Fatalf("%T%+v: %v", cmd, cmd, err)
		}
	}
}

// refused applies a command that must be refused and must change nothing.
func (l *log) refused(cmd fsm.Command, code fsm.Code) {
	l.tb.Helper()
	_ = l.refusal(cmd, code)
}

// refusal does what refused does, and returns the refusal.
func (l *log) refusal(cmd fsm.Command, code fsm.Code) *fsm.Refusal {
	l.tb.Helper()
	before := l.s.Clone()
	err := l.try(cmd)
	if !errors.Is(err, code) {
		l.tb.Fatalf("%T%+v: got %v, want %q", cmd, cmd, err, code)
	}
	// A command that finds nothing brings the copy to the same index.
	if err := before.Apply(fsm.Meta{Index: l.index, At: l.now}, fsm.AbortFailover{}); !errors.Is(err, fsm.ErrNotFound) {
		l.tb.Fatalf("abort of nothing: %v", err)
	}
	if digest(l.tb, before) != digest(l.tb, l.s) {
		l.tb.Errorf("%T%+v was refused and changed the state", cmd, cmd)
	}
	var refusal *fsm.Refusal
	if !errors.As(err, &refusal) {
		refusal = &fsm.Refusal{Code: code}
	}
	return refusal
}

func digest(tb testing.TB, s *fsm.State) string {
	tb.Helper()
	sum, err := s.Digest()
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("%x", sum)
}

// ask requests a forced failover of dev.
func (l *log) ask(id, target string) {
	l.tb.Helper()
	l.do(fsm.RequestFailover{ID: id, Cluster: dev, Target: target, Mode: fsm.Forced})
}

// drain has every member that owes it report its drain.
func (l *log) drain(id string) {
	l.tb.Helper()
	for _, m := range l.failover(id).Members {
		if m.State == fsm.MemberStateWaiting {
			l.do(fsm.MemberDrained{Failover: id, Host: m.Host})
		}
	}
}

// assign gives the failover to an executor.
func (l *log) assign(id, host string) {
	l.tb.Helper()
	f := l.failover(id)
	l.do(fsm.Assign{Failover: id, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Executor: host, Term: l.term})
}

// claim has the executor claim its attempt.
func (l *log) claim(id string) {
	l.tb.Helper()
	f := l.failover(id)
	l.do(fsm.Claim{Failover: id, Attempt: f.Attempt, Host: f.Executor})
}

// claimed brings a new failover to the point where its executor, node1, calls the
// driver.
func (l *log) claimed(id, target string) {
	l.tb.Helper()
	l.ask(id, target)
	l.drain(id)
	l.assign(id, n1)
	l.claim(id)
}

// group adds a group of dev of one of two types, "plain" and "replicating", which it
// makes as needed.
func (l *log) group(id, kind string) {
	l.tb.Helper()
	if _, ok := l.s.GroupType(kind); !ok {
		t := fsm.GroupType{ID: kind, Name: "n-" + kind}
		if kind == "replicating" {
			t.Specs = []fsm.KeyValue{{Key: "consistent_group_replication_enabled", Value: "<is> True"}}
		}
		l.do(fsm.CreateGroupType{Type: t})
	}
	l.do(fsm.CreateGroup{Group: fsm.Group{ID: id, Name: "group-" + id, GroupType: kind, VolumeTypes: []string{"mirrored"}, Cluster: dev}})
}

// replicationGroup adds an enabled replication group of dev, with volumes.
func (l *log) replicationGroup(id string, volumes ...string) {
	l.tb.Helper()
	if _, ok := l.s.VolumeType("mirrored"); !ok {
		l.do(fsm.CreateVolumeType{Type: fsm.VolumeType{
			ID: "mirrored", Name: "mirrored", ExtraSpecs: []fsm.KeyValue{{Key: "replication_enabled", Value: "<is> True"}},
		}})
	}
	l.group(id, "replicating")
	for _, v := range volumes {
		l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: v, Size: 1, Host: n1, Replicated: true, GroupID: id}})
	}
	l.finishOps(n1)
	l.do(fsm.SetGroupReplication{ID: id, Enabled: true})
}

// askGroup requests a forced failover of a group of dev alone.
func askGroup(id, group, target string) fsm.RequestFailover {
	return fsm.RequestFailover{ID: id, Cluster: dev, Group: group, Target: target, Mode: fsm.Forced}
}

// claimedGroup brings the failover of the group g1 to the point where its executor,
// node1, calls the driver.
func (l *log) claimedGroup(id, target string) {
	l.tb.Helper()
	l.do(askGroup(id, "g1", target))
	l.drain(id)
	l.assign(id, n1)
	l.claim(id)
}

// groupFailsOver runs a whole failover of the group g1.
func (l *log) groupFailsOver(id, target string) {
	l.tb.Helper()
	l.claimedGroup(id, target)
	l.do(l.completed(id, 0))
	l.tell()
	l.do(fsm.FinishFailover{Failover: id, Attempt: l.failover(id).Attempt, Term: l.term})
	l.settle()
}

// g1 is the group of that id.
func (l *log) g1() fsm.Group {
	g, _ := l.s.Group("g1")
	return g
}

func (l *log) stage(id string, results ...fsm.VolumeResult) {
	l.tb.Helper()
	f := l.failover(id)
	l.do(fsm.StageResults{Failover: id, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Results: results})
}

func (l *log) completed(id string, results uint64) fsm.FailoverCompleted {
	f := l.failover(id)
	return fsm.FailoverCompleted{Failover: id, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Results: results}
}

func (l *log) driverRefuses(id string, refusal fsm.DriverRefusal) fsm.FailoverRefused {
	f := l.failover(id)
	return fsm.FailoverRefused{Failover: id, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Refusal: refusal, Error: "array says no"}
}

func (l *log) ended(id string) fsm.AttemptEnded {
	f := l.failover(id)
	return fsm.AttemptEnded{Failover: id, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Error: "connection lost"}
}

func (l *log) giveUp(id string) fsm.GiveUp {
	f := l.failover(id)
	return fsm.GiveUp{Failover: id, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Term: l.term, Error: "nobody is left"}
}

// committed brings a new failover to its committed switch.
func (l *log) committed(id, target string, results ...fsm.VolumeResult) {
	l.tb.Helper()
	l.claimed(id, target)
	if len(results) > 0 {
		l.stage(id, results...)
	}
	l.do(l.completed(id, uint64(len(results))))
}

// tell has every member of dev report that it works at the committed site.
func (l *log) tell() {
	l.tb.Helper()
	for svc := range l.s.Members(dev) {
		l.do(l.switched(svc.Host, ""))
	}
}

func (l *log) switched(host, problem string) fsm.MemberSwitched {
	svc, _ := l.s.Service(host)
	cl := l.cluster(svc.Group())
	return fsm.MemberSwitched{Host: host, Epoch: cl.Epoch, ActiveBackendID: cl.ActiveBackendID, Error: problem}
}

// fails over runs a whole failover of dev.
func (l *log) failsOver(id, target string, results ...fsm.VolumeResult) {
	l.tb.Helper()
	l.committed(id, target, results...)
	l.tell()
	l.do(fsm.FinishFailover{Failover: id, Attempt: l.failover(id).Attempt, Term: l.term})
	l.settle()
}

// settle settles what a committed switch has left.
func (l *log) settle() {
	l.tb.Helper()
	for range 1000 {
		cmds := slices.DeleteFunc(l.s.Plan(l.sees()), func(c fsm.Command) bool { _, ok := c.(fsm.SettleResults); return !ok })
		if len(cmds) == 0 {
			return
		}
		l.do(cmds...)
	}
	l.tb.Fatal("results never settle")
}

// sees is what a leader on node1 sees when all members live.
func (l *log) sees() fsm.Observation {
	o := fsm.Observation{
		Term: l.term, Now: l.now, Node: "node1", Live: map[string]bool{}, Gone: map[string]bool{}, Limits: fsm.DefaultLimits(),
	}
	for svc := range l.s.Services() {
		o.Live[svc.Host] = true
	}
	return o
}

// volume creates a volume of dev at node1, and has the driver make it.
func (l *log) volume(id string, replicated bool) {
	l.tb.Helper()
	l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: id, Name: "vol-" + id, Size: 1, Host: n1, Replicated: replicated}})
	l.finishOps(n1)
}

func (l *log) snapshot(id, volume string) {
	l.tb.Helper()
	l.do(fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: id, VolumeID: volume}, Host: n1})
	l.finishOps(n1)
}

// finishOps has a member end well all that it owes.
func (l *log) finishOps(host string) {
	l.tb.Helper()
	for _, op := range l.s.Owed(host, 100) {
		l.do(l.end(op, ""))
	}
}

func (l *log) end(op fsm.Operation, problem string) fsm.EndOperation {
	return fsm.EndOperation{Operation: op.ID, Host: op.Host, Epoch: l.cluster(op.Cluster).Epoch, Error: problem}
}

func (l *log) cluster(name string) fsm.Cluster {
	cl, _ := l.s.Cluster(name)
	return cl
}

func (l *log) failover(id string) fsm.Failover {
	f, _ := l.s.Failover(id)
	return f
}

// member returns the part of a member in the failover f1.
func (l *log) member(host string) fsm.Member {
	for _, m := range l.failover("f1").Members {
		if m.Host == host {
			return m
		}
	}
	return fsm.Member{}
}

func (l *log) service(host string) fsm.Service {
	svc, _ := l.s.Service(host)
	return svc
}

func (l *log) vol(id string) fsm.Volume {
	v, _ := l.s.Volume(id)
	return v
}

func (l *log) snap(id string) fsm.Snapshot {
	sn, _ := l.s.Snapshot(id)
	return sn
}

// equal fails the test if got is not want.
func equal[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// read is all that a reader can see of volumes and snapshots.
func (l *log) read() string {
	var out string
	for v := range l.s.Volumes(0) {
		out += fmt.Sprintf("%+v\n", v)
	}
	for sn := range l.s.Snapshots(0) {
		out += fmt.Sprintf("%+v\n", sn)
	}
	for g := range l.s.Groups(0) {
		out += fmt.Sprintf("%+v\n", g)
	}
	return out
}

// availability is who of dev is disabled, and why.
func (l *log) availability() string {
	cl := l.cluster(dev)
	out := fmt.Sprint(cl.Frozen, cl.Disabled, cl.DisabledReason)
	for svc := range l.s.Members(dev) {
		out += fmt.Sprint("; ", svc.Host, svc.Disabled, svc.DisabledReason)
	}
	return out
}

// doTask does what a member owes whose driver has just started.
func (l *log) doTask(host string) {
	l.tb.Helper()
	task, _ := l.s.Todo(host, 0)
	switch task.Kind {
	case fsm.TaskDrain:
		l.do(fsm.MemberDrained{Failover: task.Failover, Attempt: task.Attempt, Host: host})
	case fsm.TaskPromote:
		if f := l.failover(task.Failover); f.ClaimIndex == 0 {
			l.claim(task.Failover)
		} else {
			l.do(l.completed(task.Failover, 0))
		}
	case fsm.TaskSwitch:
		l.do(l.switched(host, ""))
	case fsm.TaskFreeze, fsm.TaskThaw:
	}
}

// restored returns the state that a snapshot of s restores to.
func restored(tb testing.TB, s *fsm.State) *fsm.State {
	tb.Helper()
	var snapshot bytes.Buffer
	if _, err := s.WriteTo(&snapshot); err != nil {
		tb.Fatal(err)
	}
	out, err := fsm.ReadState(&snapshot)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}
