package fsm_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

// manages has n1 adopt a volume of project p, with the driver's word on how that
// ended.
func (l *log) manages(id string, replicated bool, size int64, problem string) {
	l.tb.Helper()
	l.do(fsm.ManageVolume{Volume: fsm.Volume{ID: id, Host: n1, ProjectID: "p", Reference: "lun", Replicated: replicated, VolumeType: "n0"}})
	for _, op := range l.s.Owed(n1, 10) {
		end := l.end(op, problem)
		end.Size, end.Update.ProviderID = size, "lun"
		l.do(end)
	}
}

// What is adopted ends as a volume of the size that the driver says, or in error.
func TestManageVolume(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		replicated bool
		size       int64
		problem    string
		limit      int64 // of gigabytes
		status     fsm.VolumeStatus
		want       int64
		replicates fsm.ReplicationStatus
	}{
		"adopted":              {false, 3, "", -1, fsm.StatusAvailable, 3, fsm.ReplicationNotCapable},
		"adopted, replicated":  {true, 3, "", -1, fsm.StatusAvailable, 3, fsm.ReplicationEnabled},
		"a bad reference":      {true, 0, "no such file", -1, fsm.StatusError, 0, ""},
		"of no size":           {false, 0, "", -1, fsm.StatusError, 0, ""},
		"too large for quotas": {true, 3, "", 2, fsm.StatusError, 0, ""},
		"just within quotas":   {true, 3, "", 3, fsm.StatusAvailable, 3, fsm.ReplicationEnabled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.do(fsm.SetQuota{ProjectID: "p", Limits: []fsm.Limit{{Resource: fsm.ResourceGigabytes, Max: tc.limit}}})
			l.manages("m", tc.replicated, tc.size, tc.problem)
			v := l.vol("m")
			equal(t, "status", v.Status, tc.status)
			equal(t, "size", v.Size, tc.want)
			equal(t, "replication status", v.ReplicationStatus, tc.replicates)
			equal(t, "volumes used", l.s.Usage("p").Volumes, 1)
			equal(t, "gigabytes used", l.s.Usage("p").Gigabytes, tc.want)
			promoted := 0
			for range l.s.ReplicatedVolumes(dev) {
				promoted++
			}
			equal(t, "is promoted", promoted == 1, tc.replicated && tc.want > 0)
		})
	}
}

// What was not adopted is given back when it is deleted, never deleted, and its
// quota with it.
func TestDeletingWhatWasNotAdoptedGivesItBack(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		problem string
		command fsm.Command
		want    fsm.OperationKind
	}{
		"not adopted, deleted":   {"no such file", fsm.DeleteVolume{ID: "m", Host: n1}, fsm.OpUnmanageVolume},
		"not adopted, forced":    {"no such file", fsm.DeleteVolume{ID: "m", Host: n1, Force: true}, fsm.OpUnmanageVolume},
		"not adopted, unmanaged": {"no such file", fsm.UnmanageVolume{ID: "m", Host: n1}, fsm.OpUnmanageVolume},
		"adopted, deleted":       {"", fsm.DeleteVolume{ID: "m", Host: n1}, fsm.OpDeleteVolume},
		"adopted, unmanaged":     {"", fsm.UnmanageVolume{ID: "m", Host: n1}, fsm.OpUnmanageVolume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.manages("m", true, 3, tc.problem)
			l.do(tc.command)
			ops := l.s.Owed(n1, 10)
			if len(ops) != 1 || ops[0].Kind != tc.want {
				t.Fatalf("owed: %+v, want one of kind %d", ops, tc.want)
			}
			l.finishOps(n1)
			if _, ok := l.s.Volume("m"); ok {
				t.Error("the volume is still there")
			}
			equal(t, "usage", l.s.Usage("p"), fsm.Usage{})
		})
	}
}

// An adoption and a retype that a failover interrupts are made again at the new
// site, and end in a defined status whatever the driver says there.
func TestOperationsOutliveAFailover(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ask     func(l *log)
		problem string
		status  fsm.VolumeStatus
	}{
		"adopt, found at the new site":     {adopting, "", fsm.StatusAvailable},
		"adopt, not found at the new site": {adopting, "no such file", fsm.StatusError},
		"retype, done at the new site":     {retyping, "", fsm.StatusAvailable},
		"retype, refused at the new site":  {retyping, "no such volume", fsm.StatusError}, // it is not there
		"unmanage, done at the new site":   {unmanaging, "", ""},
		"unmanage, refused":                {unmanaging, "busy", fsm.StatusErrorDeleting},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.do(fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t1", Name: "gold", ExtraSpecs: []fsm.KeyValue{{Key: "replication_enabled", Value: "<is> True"}}}})
			tc.ask(l)
			op := l.s.Owed(n1, 1)[0]
			stale := l.end(op, "")
			stale.Size = 1
			l.failsOver("f1", "site-b")
			if err := l.s.Apply(fsm.Meta{Index: l.index, Term: l.term, At: noon}, stale); fsm.CodeOf(err) != fsm.ErrStale {
				t.Errorf("the end of the old epoch: %v, want %s", err, fsm.ErrStale)
			}
			again := l.end(op, tc.problem)
			again.Size = 1
			l.do(again)
			equal(t, "status", l.vol("v").Status, tc.status)
			equal(t, "owed", len(l.s.Owed(n1, 1)), 0)
		})
	}
}

func adopting(l *log) {
	l.do(fsm.ManageVolume{Volume: fsm.Volume{ID: "v", Host: n1, Reference: "lun"}})
}

func retyping(l *log) {
	l.volume("v", false)
	l.do(fsm.RetypeVolume{ID: "v", Host: n1, Type: "gold"})
}

func unmanaging(l *log) {
	l.volume("v", true)
	l.do(fsm.UnmanageVolume{ID: "v", Host: n1})
}

// A retype changes type, replication and what is counted of the types, at once; a
// driver that refuses it leaves all of it as it was.
func TestRetypeVolume(t *testing.T) {
	t.Parallel()
	for _, problem := range []string{"", "out of licences"} {
		t.Run(problem, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.do(fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t1", Name: "gold", ExtraSpecs: []fsm.KeyValue{{Key: "replication_enabled", Value: "<is> True"}}}},
				fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 2, Host: n1, ProjectID: "p", VolumeType: fsm.DefaultTypeName}})
			l.finishOps(n1)
			l.do(fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: "s", VolumeID: "v", ProjectID: "p"}, Host: n1})
			l.finishOps(n1)
			l.do(fsm.CreateAttachment{Attachment: fsm.Attachment{ID: "a", VolumeID: "v", Status: fsm.AttachAttached}},
				fsm.RetypeVolume{ID: "v", Type: "gold", Host: n1})
			equal(t, "status", l.vol("v").Status, fsm.StatusRetyping)
			op := l.s.Owed(n1, 1)[0]
			equal(t, "snapshots", fmt.Sprint(op.Snapshots), "[s]")
			l.do(l.end(op, problem))
			v := l.vol("v")
			equal(t, "status", v.Status, fsm.StatusInUse)
			wantType, other := "gold", fsm.DefaultTypeName
			if problem != "" {
				wantType, other = other, wantType
			}
			equal(t, "type", v.VolumeType, wantType)
			equal(t, "replicated", v.Replicated, problem == "")
			equal(t, "replication status", v.ReplicationStatus == fsm.ReplicationEnabled, problem == "")
			equal(t, "use of its type", l.s.UsageOfType("p", wantType), fsm.Usage{Volumes: 1, Snapshots: 1, Gigabytes: 4})
			equal(t, "use of the other", l.s.UsageOfType("p", other), fsm.Usage{})
		})
	}
}

// Adopting, giving back and retyping are refused with a reason, and change nothing.
func TestManageIsRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		command fsm.Command
		code    fsm.Code
	}{
		"adopt without a reference":      {fsm.ManageVolume{Volume: fsm.Volume{ID: "m", Host: n1}}, fsm.ErrInvalid},
		"adopt without an id":            {fsm.ManageVolume{Volume: fsm.Volume{Host: n1, Reference: "lun"}}, fsm.ErrInvalid},
		"adopt under an id that exists":  {fsm.ManageVolume{Volume: fsm.Volume{ID: "v", Host: n1, Reference: "lun"}}, fsm.ErrExists},
		"adopt at a host nobody knows":   {fsm.ManageVolume{Volume: fsm.Volume{ID: "m", Host: "a@b", Reference: "lun"}}, fsm.ErrNotFound},
		"adopt more than the quota":      {fsm.ManageVolume{Volume: fsm.Volume{ID: "m", Host: n1, Reference: "lun", ProjectID: "full"}}, fsm.ErrOverQuota},
		"unmanage nobody's":              {fsm.UnmanageVolume{ID: "x"}, fsm.ErrNotFound},
		"unmanage what is used":          {fsm.UnmanageVolume{ID: "used"}, fsm.ErrConflict},
		"unmanage what has snapshots":    {fsm.UnmanageVolume{ID: "snapped"}, fsm.ErrConflict},
		"unmanage what is being made":    {fsm.UnmanageVolume{ID: "new"}, fsm.ErrConflict},
		"retype nobody's":                {fsm.RetypeVolume{ID: "x", Type: "gold"}, fsm.ErrNotFound},
		"retype to a type nobody knows":  {fsm.RetypeVolume{ID: "v", Type: "x"}, fsm.ErrNotFound},
		"retype to the type it has":      {fsm.RetypeVolume{ID: "golden", Type: "t1"}, fsm.ErrConflict},
		"retype what is being made":      {fsm.RetypeVolume{ID: "new", Type: "gold"}, fsm.ErrConflict},
		"retype with a snapshot to come": {fsm.RetypeVolume{ID: "snapping", Type: "gold"}, fsm.ErrConflict},
		"retype more than the quota":     {fsm.RetypeVolume{ID: "v", Type: "tin"}, fsm.ErrOverQuota},
		"retype without targets":         {fsm.RetypeVolume{ID: "alone", Type: "gold"}, fsm.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.do(fsm.RegisterService{Host: "node9@plain", Node: "node9"},
				fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t1", Name: "gold", ExtraSpecs: []fsm.KeyValue{{Key: "replication_enabled", Value: "<is> True"}}}},
				fsm.CreateVolumeType{Type: fsm.VolumeType{ID: "t2", Name: "tin"}},
				fsm.SetQuota{ProjectID: "p", Limits: []fsm.Limit{{Resource: "gigabytes_tin", Max: 0}}},
				fsm.SetQuota{ProjectID: "full", Limits: []fsm.Limit{{Resource: fsm.ResourceVolumes, Max: 0}}},
				fsm.CreateVolume{Volume: fsm.Volume{ID: "v", Size: 1, Host: n1, ProjectID: "p"}},
				fsm.CreateVolume{Volume: fsm.Volume{ID: "golden", Size: 1, Host: n1, VolumeType: "gold", Replicated: true}})
			for _, id := range []string{"used", "snapped", "snapping"} {
				l.volume(id, true)
			}
			l.finishOps(n1)
			l.snapshot("s", "snapped")
			l.do(fsm.CreateVolume{Volume: fsm.Volume{ID: "alone", Size: 1, Host: "node9@plain"}})
			l.finishOps("node9@plain")
			l.do(fsm.CreateAttachment{Attachment: fsm.Attachment{ID: "a", VolumeID: "used", Status: fsm.AttachAttached}},
				fsm.CreateSnapshot{Snapshot: fsm.Snapshot{ID: "s2", VolumeID: "snapping"}, Host: n1},
				fsm.CreateVolume{Volume: fsm.Volume{ID: "new", Size: 1, Host: n1}})
			before := digest(t, l.s)
			err := l.s.Apply(fsm.Meta{Index: l.index, Term: l.term, At: noon}, tc.command)
			if err == nil || fsm.CodeOf(err) != tc.code {
				t.Errorf("got %v, want %s", err, tc.code)
			}
			equal(t, "digest", digest(t, l.s), before)
		})
	}
}

// A status that an administrator sets, and that announces an operation, is shown
// and wedges nothing: nobody waits for an operation that is not owed.
func TestStatusSetByHandWedgesNothing(t *testing.T) {
	t.Parallel()
	for _, status := range []fsm.VolumeStatus{fsm.StatusCreating, fsm.StatusDeleting, fsm.StatusExtending, fsm.StatusRetyping, fsm.StatusUnmanaging} {
		t.Run(string(status), func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.volume("v", true)
			l.snapshot("s", "v")
			l.do(fsm.ResetVolume{ID: "v", Status: status}, fsm.ResetSnapshot{ID: "s", Status: status})
			equal(t, "status", l.vol("v").Status, status)
			equal(t, "status of the snapshot", l.snap("s").Status, status)
			l.failsOver("f1", "site-b") // it is promoted like any other
			equal(t, "replication status", l.vol("v").ReplicationStatus, fsm.ReplicationFailedOver)
			l.do(fsm.SetClusterDisabled{Cluster: dev}, fsm.ResetVolume{ID: "v", Status: fsm.StatusAvailable}, fsm.ResetSnapshot{ID: "s", Status: fsm.StatusAvailable})
			equal(t, "status", l.vol("v").Status, fsm.StatusAvailable)
			l.do(fsm.ResetVolume{ID: "v", Status: status}, fsm.ResetSnapshot{ID: "s", Status: status}, fsm.DeleteVolume{ID: "v", Host: n1, Force: true, Cascade: true})
			l.finishOps(n1)
			if _, ok := l.s.Volume("v"); ok {
				t.Error("the volume cannot be deleted")
			}
		})
	}
}
