package fsm_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

// groupDeployment has a replication group g1 of the volumes a and b, and a volume v
// beside it.
func groupDeployment(t *testing.T) *log {
	t.Helper()
	l := newDeployment(t)
	l.replicationGroup("g1", "a", "b")
	l.volume("v", true)
	return l
}

// sites is where the volumes are, as readers see it.
func (l *log) sites(ids ...string) string {
	var all []string
	for _, id := range ids {
		v := l.vol(id)
		all = append(all, fmt.Sprintf("%s %s %s %s", id, v.Site, v.Status, v.ReplicationStatus))
	}
	return strings.Join(all, ", ")
}

// A failover of a group moves its volumes and nothing else, under the cluster's epoch
// and with all of its members.
func TestGroupFailover(t *testing.T) {
	t.Parallel()
	l := groupDeployment(t)
	before := l.cluster(dev)
	l.do(askGroup("f1", "g1", "site-b"))
	equal(t, "status of the group", l.g1().ReplicationStatus, fsm.ReplicationFailingOver)
	equal(t, "members that owe a drain", len(l.failover("f1").Members), 3)
	for _, host := range []string{n1, n2, n3} {
		if err := l.s.Admit(host, before.Epoch, fsm.CallVolume); !errors.Is(err, fsm.ErrFailingOver) {
			t.Errorf("the gate of %s answers %v", host, err)
		}
	}
	l.drain("f1")
	l.assign("f1", n2)
	l.claim("f1")
	task, _ := l.s.Todo(n2, before.Epoch)
	equal(t, "the promotion", fmt.Sprint(task.Kind, task.Group, task.From, task.Target, task.Epoch), fmt.Sprint(fsm.TaskPromote, "g1", "default", "site-b", before.Epoch+1))
	elsewhere := fsm.VolumeUpdate{ProviderLocation: "elsewhere"}
	l.stage("f1", fsm.VolumeResult{VolumeID: "a", VolumeUpdate: elsewhere}, fsm.VolumeResult{VolumeID: "b", Failed: true},
		fsm.VolumeResult{VolumeID: "v", Failed: true, VolumeUpdate: elsewhere})
	equal(t, "before the commit", l.sites("a", "b", "v"), "a default available enabled, b default available enabled, v default available enabled")
	l.do(l.completed("f1", 3))

	want := "a site-b available failed-over, b site-b error failover-error, v default available enabled"
	equal(t, "after the commit", l.sites("a", "b", "v"), want)
	locations := func() string {
		a, _ := l.s.Volume("a")
		v, _ := l.s.Volume("v") // not of the group
		return fmt.Sprintf("%q %q", a.ProviderLocation, v.ProviderLocation)
	}
	equal(t, "locations after the commit", locations(), `"elsewhere" ""`)
	for _, host := range []string{n1, n2, n3} {
		if err := l.s.Admit(host, before.Epoch, fsm.CallVolume); !errors.Is(err, fsm.ErrBehind) {
			t.Errorf("the gate of %s, which was told nothing, answers %v", host, err)
		}
	}
	l.tell()
	l.do(fsm.FinishFailover{Failover: "f1", Attempt: 1, Term: l.term})
	l.settle()
	equal(t, "when it is settled", l.sites("a", "b", "v"), want)
	equal(t, "locations when it is settled", locations(), `"elsewhere" ""`)
	after := l.cluster(dev)
	equal(t, "epoch", after.Epoch, before.Epoch+1)
	equal(t, "the cluster", fmt.Sprint(after.ActiveBackendID, after.ReplicationStatus, after.Disabled, after.SiteEpoch),
		fmt.Sprint(before.ActiveBackendID, before.ReplicationStatus, before.Disabled, before.SiteEpoch))
	equal(t, "the group", l.g1().ReplicationStatus, fsm.ReplicationFailedOver)

	l.groupFailsOver("f2", "default")
	equal(t, "after the failback", l.sites("a", "b", "v"), "a default available enabled, b default available enabled, v default available enabled")
	equal(t, "the group after it", l.g1().ReplicationStatus, fsm.ReplicationEnabled)
}

// A switch of the whole cluster moves its groups, wherever they were; from then on they
// follow it.
func TestGroupsFollowTheirCluster(t *testing.T) {
	t.Parallel()
	l := groupDeployment(t)
	l.replicationGroup("g2", "c")
	l.groupFailsOver("f1", "site-b")
	var moves []fsm.GroupMove
	for m := range l.s.Moves(dev, "") {
		moves = append(moves, m)
	}
	equal(t, "what moves", fmt.Sprint(moves), "[{g1 site-b} {g2 default}]")
	l.failsOver("f2", "site-c")
	equal(t, "after the cluster's", l.sites("a", "c", "v"), "a site-c available failed-over, c site-c available failed-over, v site-c available failed-over")
	l.failsOver("f3", "default")
	equal(t, "after its failback", l.sites("a", "c", "v"), "a default available enabled, c default available enabled, v default available enabled")
}

// A failover of a group that may have promoted something closes the gates, and only its
// repetition or a switch of the whole cluster opens them (G9).
func TestG9_GroupHoldsTheGates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		opens func(*log)
	}{
		{"the group again", func(l *log) { l.groupFailsOver("f2", "site-b") }},
		{"back with the group", func(l *log) { l.groupFailsOver("f2", "default") }},
		{"the cluster", func(l *log) { l.failsOver("f2", "site-c") }},
		{"the cluster where it is", func(l *log) { l.failsOver("f2", "default") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := groupDeployment(t)
			l.replicationGroup("g2", "c")
			l.claimedGroup("f1", "site-b")
			l.do(l.ended("f1"), l.giveUp("f1"))
			equal(t, "held", l.cluster(dev).Held, true)
			equal(t, "the group", l.g1().ReplicationStatus, fsm.ReplicationError)
			if err := l.s.Admit(n1, 1, fsm.CallVolume); !errors.Is(err, fsm.ErrHeld) {
				t.Errorf("the gate answers %v", err)
			}
			l.refused(askGroup("x", "g2", "site-b"), fsm.ErrHeld)
			c.opens(l)
			equal(t, "held after it", l.cluster(dev).Held, false)
			epoch := l.cluster(dev).Epoch
			if err := l.s.Admit(n1, epoch, fsm.CallVolume); err != nil {
				t.Errorf("the gate answers %v", err)
			}
		})
	}
}

// What a group leaves uncertain does not make more of what the cluster did.
func TestG9_GroupDoesNotOpenWhatItsClusterHolds(t *testing.T) {
	t.Parallel()
	l := groupDeployment(t)
	l.claimed("f1", "site-b")
	l.do(l.ended("f1"), l.giveUp("f1"))
	l.refused(askGroup("f2", "g1", "site-b"), fsm.ErrHeld)
	l.claimedGroupAfterHold(t)
}

// claimedGroupAfterHold holds the gates by a group, then by the cluster too.
func (l *log) claimedGroupAfterHold(t *testing.T) {
	t.Helper()
	l.failsOver("back", "default")
	l.claimedGroup("f3", "site-b")
	l.do(l.ended("f3"), l.giveUp("f3"))
	equal(t, "held by", l.cluster(dev).HeldGroup, "g1")
	l.claimed("f4", "site-c")
	l.do(l.ended("f4"), l.giveUp("f4"))
	equal(t, "held by", l.cluster(dev).HeldGroup, "")
	l.refused(askGroup("f5", "g1", "site-b"), fsm.ErrHeld)
}

// A driver that refuses leaves everything where it was.
func TestG9_RefusedGroupFailover(t *testing.T) {
	t.Parallel()
	for refusal, want := range map[fsm.DriverRefusal]fsm.ReplicationStatus{
		fsm.InvalidReplicationTarget: fsm.ReplicationEnabled,
		fsm.UnableToFailOver:         fsm.ReplicationError,
	} {
		l := groupDeployment(t)
		before := l.availability()
		l.claimedGroup("f1", "site-b")
		l.do(l.driverRefuses("f1", refusal))
		equal(t, "availability", l.availability(), before)
		equal(t, "the cluster", l.cluster(dev).ReplicationStatus, fsm.ReplicationEnabled)
		equal(t, "the group", l.g1().ReplicationStatus, want)
		equal(t, "site", l.vol("a").Site, "default")
		if err := l.s.Admit(n1, 1, fsm.CallVolume); err != nil {
			t.Errorf("the gate answers %v", err)
		}
		if want == fsm.ReplicationError {
			l.do(fsm.SetGroupReplication{ID: "g1"}, fsm.SetGroupReplication{ID: "g1", Enabled: true})
			equal(t, "the group, mended", l.g1().ReplicationStatus, fsm.ReplicationEnabled)
		}
	}
}

func TestGroupCommandsAreRefused(t *testing.T) {
	t.Parallel()
	attached := fsm.CreateAttachment{Attachment: fsm.Attachment{ID: "at", VolumeID: "a", Status: fsm.AttachAttached}}
	for _, c := range []struct {
		name  string
		setUp []fsm.Command
		cmd   fsm.Command
		code  fsm.Code
		says  string
	}{
		{"group that is none", nil, askGroup("f", "nope", "site-b"), fsm.ErrNotFound, "nope could not be found"},
		{"group of another cluster", nil, fsm.RequestFailover{ID: "f", Cluster: lone, Group: "g1", Target: "site-b", Mode: fsm.Forced}, fsm.ErrNotFound, "g1"},
		{"site that is none", nil, askGroup("f", "g1", "nope"), fsm.ErrInvalid, `it has "default", "site-b", "site-c"`},
		{"two targets and no choice", nil, askGroup("f", "g1", ""), fsm.ErrInvalid, "name one"},
		{
			"disabled",
			[]fsm.Command{fsm.SetGroupReplication{ID: "g1"}},
			askGroup("f", "g1", "site-b"), fsm.ErrConflict,
			"Group g1 replication status must be ['enabled', 'failed-over'], but current status is: disabled. Cannot failover replication.",
		},
		{
			"group in error",
			[]fsm.Command{fsm.ResetGroup{ID: "g1", Status: fsm.GroupError}},
			askGroup("f", "g1", "site-b"), fsm.ErrConflict,
			"Group g1 status must be ['available'], but current status is: error. Cannot failover replication.",
		},
		{
			"volume in error",
			[]fsm.Command{fsm.ResetVolume{ID: "b", Status: fsm.StatusError}},
			askGroup("f", "g1", "site-b"), fsm.ErrConflict,
			"Volume b status must be ['available', 'in-use'], but current status is: error. Cannot failover replication.",
		},
		{
			"attached",
			[]fsm.Command{attached},
			askGroup("f", "g1", "site-b"), fsm.ErrConflict,
			"Volume a is attached but allow_attached_volume flag is False. Cannot failover replication.",
		},
		{"second failover", []fsm.Command{askGroup("f1", "g1", "site-b")}, askGroup("f2", "g1", "site-c"), fsm.ErrFailingOver, "f1"},
		{
			"cluster while its group moves",
			[]fsm.Command{askGroup("f1", "g1", "site-b")},
			fsm.RequestFailover{ID: "f2", Cluster: dev, Target: "site-c", Mode: fsm.Forced},
			fsm.ErrFailingOver, "f1",
		},
		{
			"group while its cluster moves",
			[]fsm.Command{fsm.RequestFailover{ID: "f1", Cluster: dev, Target: "site-c", Mode: fsm.Forced}},
			askGroup("f2", "g1", "site-b"), fsm.ErrFailingOver, "f1",
		},
		{
			"same id, other group",
			[]fsm.Command{askGroup("f1", "g1", "site-b")},
			fsm.RequestFailover{ID: "f1", Cluster: dev, Target: "site-b", Mode: fsm.Forced},
			fsm.ErrConflict, "other parameters",
		},
		{"enabling while it moves", []fsm.Command{askGroup("f1", "g1", "site-b")}, fsm.SetGroupReplication{ID: "g1", Enabled: true}, fsm.ErrConflict, "failing-over"},
		{"deleting while it moves", []fsm.Command{askGroup("f1", "g1", "site-b")}, fsm.DeleteGroup{ID: "g1", Volumes: true}, fsm.ErrFailingOver, "f1"},
		{"deleting a volume of a group", nil, fsm.DeleteVolume{ID: "a", Force: true}, fsm.ErrConflict, "group"},
		{"deleting with volumes", nil, fsm.DeleteGroup{ID: "g1"}, fsm.ErrConflict, "Group g1 still contains volumes. The delete-volumes flag is required to delete it."},
		{"deleting what is attached", []fsm.Command{attached}, fsm.DeleteGroup{ID: "g1", Volumes: true}, fsm.ErrConflict, "attached"},
		{"taking a replicated volume out", nil, fsm.EditGroup{ID: "g1", Remove: []string{"a"}}, fsm.ErrConflict, "leaves it when it is deleted"},
		{"a replicated volume joining later", nil, fsm.EditGroup{ID: "g1", Add: []string{"v"}}, fsm.ErrConflict, "joins replication group g1 when it is made"},
		{"volume of another cluster", nil, fsm.CreateVolume{Volume: fsm.Volume{ID: "x", Size: 1, Host: lone, GroupID: "g1"}}, fsm.ErrConflict, "not of"},
		{"volume in no group", nil, fsm.CreateVolume{Volume: fsm.Volume{ID: "x", Size: 1, Host: n1, GroupID: "nope"}}, fsm.ErrNotFound, "nope"},
		{"type in use", nil, fsm.DeleteGroupType{ID: "replicating"}, fsm.ErrConflict, "still in use"},
		{"status that nothing ends", nil, fsm.ResetGroup{ID: "g1", Status: fsm.GroupDeleting}, fsm.ErrInvalid, "deleting"},
		{
			"quota",
			[]fsm.Command{fsm.SetQuota{ProjectID: "p", Limits: []fsm.Limit{{Resource: "groups", Max: 0}}}},
			fsm.CreateGroup{Group: fsm.Group{ID: "q", ProjectID: "p", GroupType: "replicating", VolumeTypes: []string{"t"}, Cluster: dev}},
			fsm.ErrOverQuota, "groups allowed (0)",
		},
		{"frozen", []fsm.Command{fsm.SetFrozen{Cluster: dev, Frozen: true}}, fsm.DeleteGroup{ID: "g1", Volumes: true}, fsm.ErrFrozen, "frozen"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := groupDeployment(t)
			l.do(c.setUp...)
			if r := l.refusal(c.cmd, c.code); !strings.Contains(r.Message, c.says) {
				t.Errorf("it says %q, not %q", r.Message, c.says)
			}
		})
	}
}

// A copy is made where its source is.
func TestCopiesOfGroups(t *testing.T) {
	t.Parallel()
	l := groupDeployment(t)
	l.groupFailsOver("f1", "site-b")
	copied := func(id, group string) fsm.CreateVolume {
		return fsm.CreateVolume{Volume: fsm.Volume{ID: id, Size: 1, Host: n1, Replicated: true, SourceVolumeID: "a", GroupID: group}}
	}
	l.refused(copied("x", ""), fsm.ErrConflict)
	l.do(copied("y", "g1"))
	l.finishOps(n1)
	equal(t, "the copy", l.sites("y"), "y site-b available failed-over")
}

// A group goes with the last of its volumes, or stays if one of them does.
func TestDeleteGroup(t *testing.T) {
	t.Parallel()
	l := groupDeployment(t)
	l.do(fsm.DeleteGroup{ID: "g1", Volumes: true, Host: n2})
	owed := l.s.Owed(n2, 10)
	equal(t, "operations", len(owed), 2)
	l.do(l.end(owed[0], "broken"))
	equal(t, "the group", l.g1().Status, fsm.GroupErrorDeleting)
	l.do(l.end(owed[1], ""))
	equal(t, "volumes left", fmt.Sprint(l.s.GroupVolumes("g1")), "[a]")
	l.do(fsm.DeleteGroup{ID: "g1", Volumes: true, Host: n2})
	l.finishOps(n2)
	if _, ok := l.s.Group("g1"); ok {
		t.Error("the group is still there")
	}
	equal(t, "groups in use", l.s.Usage("").Groups, 0)
}
