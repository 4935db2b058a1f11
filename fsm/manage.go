package fsm

import (
	"fmt"
	"unicode/utf8"
)

// maxReference bounds what a driver is told of a volume that it is to adopt.
const maxReference = 1024

// ManageVolume asks for what is on the storage already to be taken over as a new
// volume. Its Reference says what; its Host owes the driver's call, which says how
// large it is.
type ManageVolume struct {
	Volume Volume `cbor:"1,keyasint"`
}

func (ManageVolume) kind() Kind { return kindManageVolume }

func (c ManageVolume) apply(s *State, m Meta) error {
	v := c.Volume
	if err := checkName("id", v.ID); err != nil {
		return err
	}
	if v.Reference == "" || len(v.Reference) > maxReference || !utf8.ValidString(v.Reference) {
		return refuseField(ErrInvalid, "ref", v.Reference, fmt.Sprintf("a reference must be text of 1 to %d bytes", maxReference))
	}
	v.Size, v.SnapshotID, v.SourceVolumeID, v.GroupID = 0, "", "", ""
	if err := s.admitVolume(&v, m); err != nil {
		return err
	}
	if err := s.checkQuota(&v, Usage{Volumes: 1}); err != nil {
		return err
	}
	s.addVolume(&v)
	s.owe(&Operation{Kind: OpManageVolume, VolumeID: v.ID, Host: v.Host, Cluster: v.group()}, m)
	return nil
}

// endManage makes an adopted volume one like any other. One that failed, or for
// which the project has no room, stays in error and of no size: deleting it gives
// back what may have been taken, and deletes nothing.
func (c EndOperation) endManage(s *State, v *Volume, cl *Cluster) {
	v.FailedEpoch = 0
	if c.Error != "" || c.Size < 1 || s.checkQuota(v, Usage{Gigabytes: c.Size}) != nil {
		v.Status = StatusError
		return
	}
	v.Status, v.Size = StatusAvailable, c.Size
	if !v.Replicated {
		v.BackendID = intern(cl.ActiveBackendID)
	}
}

// UnmanageVolume asks for a volume to be forgotten, and left on the storage where
// it can be adopted. It is refused as its deletion would be.
type UnmanageVolume struct {
	ID   string `cbor:"1,keyasint"`
	Host string `cbor:"2,keyasint,omitempty"` // that should do it
}

func (UnmanageVolume) kind() Kind { return kindUnmanageVolume }

func (c UnmanageVolume) apply(s *State, m Meta) error {
	v, seen, err := s.editVolume(c.ID)
	if err != nil {
		return err
	}
	if seen.busy() || !seen.Status.deletable() || s.attached(c.ID) {
		return statusRefusal(seen.Status, "available or error or error_extending or error_managing")
	}
	if v.GroupID != "" {
		return inGroup(v)
	}
	if _, err := s.cascade(DeleteVolume{ID: c.ID}); err != nil {
		return err
	}
	return s.begin(v, StatusUnmanaging, &Operation{Kind: OpUnmanageVolume, Host: s.ownerFor(v, c.Host)}, m)
}

// RetypeVolume asks for a volume to get another type, where it is.
type RetypeVolume struct {
	ID   string `cbor:"1,keyasint"`
	Type string `cbor:"2,keyasint"` // id or name of the new type
	Host string `cbor:"3,keyasint,omitempty"`
}

func (RetypeVolume) kind() Kind { return kindRetypeVolume }

func (c RetypeVolume) apply(s *State, m Meta) error {
	v, seen, err := s.editVolume(c.ID)
	if err != nil {
		return err
	}
	t, ok := s.typeNamed(c.Type)
	if !ok {
		return refuseField(ErrNotFound, "new_type", c.Type, fmt.Sprintf("Volume type %s could not be found.", c.Type))
	}
	if seen.busy() || seen.Status != StatusAvailable && seen.Status != StatusInUse {
		return statusRefusal(seen.Status, "available or in-use")
	}
	if t.Name == v.VolumeType {
		return refuseField(ErrConflict, "new_type", c.Type, fmt.Sprintf("volume %s is of type %s already", v.ID, t.Name))
	}
	if t.Replicated() && len(s.Targets(v.group())) == 0 {
		return refuseField(ErrConflict, "new_type", c.Type, fmt.Sprintf("%q has no replication targets", v.group()))
	}
	snapshots, busy := s.snapshotsIn(v.ID)
	switch {
	case v.GroupID != "":
		return inGroup(v)
	case busy:
		return refuseField(ErrConflict, "volume_id", v.ID, "a snapshot of the volume is being made or deleted")
	case len(snapshots) > maxCascade:
		return refuseField(ErrTooLarge, "volume_id", v.ID, fmt.Sprintf("the volume has more than %d snapshots: delete some first", maxCascade))
	}
	if err := s.checkTypeQuota(v, t.Name); err != nil {
		return err
	}
	if cl, ok := s.clusters.Get(v.group()); ok {
		if err := cl.enabled(); err != nil {
			return err
		}
	}
	return s.begin(v, StatusRetyping, &Operation{
		Kind: OpRetypeVolume, Host: s.ownerFor(v, c.Host), Snapshots: snapshots, VolumeType: t.Name, Replicated: t.Replicated(),
	}, m)
}

// typeNamed returns a volume type, the one that volumes have by default included:
// it is there without anybody having made it.
func (s *State) typeNamed(idOrName string) (VolumeType, bool) {
	if t, ok := s.VolumeType(idOrName); ok || idOrName != DefaultTypeName {
		return t, ok
	}
	return VolumeType{Name: DefaultTypeName}, true
}

// DefaultTypeName is the type that volumes have for which nobody asks for one.
const DefaultTypeName = "__DEFAULT__"

// endRetype gives a volume its new type if the driver could, and leaves it as it
// was if not.
func (c EndOperation) endRetype(s *State, op *Operation, v *Volume, before VolumeStatus, cl *Cluster) {
	v.Status = before
	if c.Error != "" {
		return
	}
	s.eachUse(v, func(project string, u Usage) {
		s.count(typeKey(project, v.VolumeType), u.negative())
		s.count(typeKey(project, op.VolumeType), u)
	})
	v.VolumeType, v.Replicated = intern(op.VolumeType), op.Replicated
	v.BackendID, v.FailedEpoch = "", 0
	if !v.Replicated {
		v.BackendID = intern(cl.ActiveBackendID)
	}
}
