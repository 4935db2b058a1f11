package fsm_test

import (
	"testing"

	"github.com/lockstep-storage/lockstep/fsm"
)

// What users, quotas and attachments change is refused where it makes no sense, and
// changes nothing then.
func TestDescriptionsAreRefused(t *testing.T) {
	t.Parallel()
	yes := true
	for name, tc := range map[string]struct {
		command fsm.Command
		code    fsm.Code
	}{
		"edit a volume nobody knows":             {fsm.EditVolume{ID: "v9"}, fsm.ErrNotFound},
		"drop a key that is not there":           {fsm.EditVolume{ID: "v1", Edit: fsm.Edit{Drop: "x"}}, fsm.ErrNotFound},
		"make a volume readonly that is used":    {fsm.EditVolume{ID: "used", Readonly: &yes}, fsm.ErrConflict},
		"edit a snapshot nobody knows":           {fsm.EditSnapshot{ID: "s9"}, fsm.ErrNotFound},
		"reset a volume nobody knows":            {fsm.ResetVolume{ID: "v9"}, fsm.ErrNotFound},
		"reset what an operation is owed on":     {fsm.ResetVolume{ID: "new", Status: fsm.StatusError}, fsm.ErrConflict},
		"reset a snapshot nobody knows":          {fsm.ResetSnapshot{ID: "s9", Status: fsm.StatusError}, fsm.ErrNotFound},
		"reserve what is used":                   {fsm.MoveAttaching{VolumeID: "used", Step: fsm.StepReserve}, fsm.ErrConflict},
		"detach what is not used":                {fsm.MoveAttaching{VolumeID: "v1", Step: fsm.StepBeginDetaching}, fsm.ErrConflict},
		"a step nobody knows":                    {fsm.MoveAttaching{VolumeID: "v1", Step: 9}, fsm.ErrInvalid},
		"attach twice":                           {fsm.CreateAttachment{Attachment: fsm.Attachment{ID: "a2", VolumeID: "used"}}, fsm.ErrConflict},
		"attach with an id that is taken":        {fsm.CreateAttachment{Attachment: fsm.Attachment{ID: "a1", VolumeID: "v1"}}, fsm.ErrExists},
		"attach a volume nobody knows":           {fsm.CreateAttachment{Attachment: fsm.Attachment{ID: "a2", VolumeID: "v9"}}, fsm.ErrNotFound},
		"update an attachment nobody knows":      {fsm.UpdateAttachment{ID: "a9"}, fsm.ErrNotFound},
		"delete the attachment of another":       {fsm.DeleteAttachments{VolumeID: "v1", ID: "a1"}, fsm.ErrNotFound},
		"delete what is used":                    {fsm.DeleteVolume{ID: "used"}, fsm.ErrConflict},
		"delete what has snapshots":              {fsm.DeleteVolume{ID: "v1"}, fsm.ErrConflict},
		"force what an operation is owed on":     {fsm.DeleteVolume{ID: "new", Force: true}, fsm.ErrConflict},
		"clone what is not there":                {fsm.CreateVolume{Volume: fsm.Volume{ID: "c", Host: n1, Size: 1, SourceVolumeID: "v9"}}, fsm.ErrNotFound},
		"clone what is being made":               {fsm.CreateVolume{Volume: fsm.Volume{ID: "c", Host: n1, Size: 1, SourceVolumeID: "new"}}, fsm.ErrConflict},
		"clone into another cluster":             {fsm.CreateVolume{Volume: fsm.Volume{ID: "c", Host: lone, Size: 1, SourceVolumeID: "v1"}}, fsm.ErrConflict},
		"a volume of a snapshot nobody knows":    {fsm.CreateVolume{Volume: fsm.Volume{ID: "c", Host: n1, Size: 1, SnapshotID: "s9"}}, fsm.ErrNotFound},
		"a quota of nobody":                      {fsm.SetQuota{}, fsm.ErrInvalid},
		"extra specs of a type nobody knows":     {fsm.SetExtraSpecs{ID: "t9"}, fsm.ErrNotFound},
		"extend what is used, for older clients": {fsm.ExtendVolume{ID: "used", Size: 9}, fsm.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newDeployment(t)
			l.volume("v1", true)
			l.volume("used", true)
			l.snapshot("s1", "v1")
			l.do(fsm.CreateAttachment{Attachment: fsm.Attachment{ID: "a1", VolumeID: "used", Status: fsm.AttachAttached}},
				fsm.CreateVolume{Volume: fsm.Volume{ID: "new", Host: n1, Size: 1}})
			before := digest(t, l.s)
			index := l.index
			l.index++
			err := l.s.Apply(fsm.Meta{Index: index, Term: l.term, At: noon}, tc.command)
			if fsm.CodeOf(err) != tc.code || err == nil {
				t.Errorf("got %v, want %s", err, tc.code)
			}
			equal(t, "digest", digest(t, l.s), before)
		})
	}
}

// A volume goes with its snapshots and attachments in one commit, or not at all.
func TestCascade(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.volume("v1", true)
	l.snapshot("s1", "v1")
	l.snapshot("s2", "v1")
	l.do(fsm.DeleteVolume{ID: "v1", Host: n1, Cascade: true})
	if sn, _ := l.s.Snapshot("s1"); sn.Status != fsm.StatusDeleting {
		t.Errorf("s1 is %s while its volume is deleted", sn.Status)
	}
	l.do(fsm.EndOperation{Operation: l.index, Host: n1, Epoch: 1, Error: "busy"})
	v, _ := l.s.Volume("v1")
	sn, ok := l.s.Snapshot("s1")
	if v.Status != fsm.StatusErrorDeleting || !ok || sn.Status != fsm.StatusAvailable {
		t.Errorf("after a failure the volume is %s, its snapshot %s", v.Status, sn.Status)
	}
	l.do(fsm.DeleteVolume{ID: "v1", Host: n1, Cascade: true})
	l.do(fsm.EndOperation{Operation: l.index, Host: n1, Epoch: 1})
	for sn := range l.s.Snapshots(0) {
		t.Errorf("%s is left", sn.ID)
	}
	if _, ok := l.s.Volume("v1"); ok {
		t.Error("the volume is left")
	}
}

// Attachments follow what Cinder's clients do, one way or the other.
func TestAttachments(t *testing.T) {
	t.Parallel()
	l := newDeployment(t)
	l.volume("v1", true)
	status := func(want fsm.VolumeStatus) {
		t.Helper()
		if v, _ := l.s.Volume("v1"); v.Status != want {
			t.Errorf("the volume is %s, want %s", v.Status, want)
		}
	}
	l.do(fsm.CreateAttachment{Attachment: fsm.Attachment{ID: "a1", VolumeID: "v1"}})
	status(fsm.StatusReserved)
	l.do(fsm.UpdateAttachment{ID: "a1", HostName: "h1", Mode: "rw"})
	status(fsm.StatusAttaching)
	l.do(fsm.UpdateAttachment{ID: "a1", Complete: true})
	status(fsm.StatusInUse)
	l.do(fsm.ExtendVolume{ID: "v1", Size: 5, Host: n1, InUse: true})
	l.finishOps(n1)
	status(fsm.StatusInUse)
	l.do(fsm.MoveAttaching{VolumeID: "v1", Step: fsm.StepBeginDetaching})
	status(fsm.StatusDetaching)
	l.do(fsm.MoveAttaching{VolumeID: "v1", Step: fsm.StepRollDetaching})
	status(fsm.StatusInUse)
	l.do(fsm.DeleteAttachments{VolumeID: "v1", ID: "a1"})
	status(fsm.StatusAvailable)
	if left := l.s.Attachments("v1"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
