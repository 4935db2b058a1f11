package fsm

import (
	"cmp"
	"fmt"
	"slices"
)

// CreateVolume asks for a new volume. Host owes the driver's call.
type CreateVolume struct {
	Volume Volume `cbor:"1,keyasint"`
}

func (CreateVolume) kind() Kind { return kindCreateVolume }

func (c CreateVolume) apply(s *State, m Meta) error {
	v := c.Volume
	if err := checkName("id", v.ID); err != nil {
		return err
	}
	if v.Size < 1 {
		return refuseField(ErrInvalid, "size", fmt.Sprint(v.Size), fmt.Sprintf("size %d must be at least 1 GiB", v.Size))
	}
	v.Reference = ""
	if err := s.admitVolume(&v, m); err != nil {
		return err
	}
	if err := cmp.Or(s.joinGroup(&v), s.checkSource(&v)); err != nil {
		return err
	}
	if err := s.checkQuota(&v, Usage{Volumes: 1, Gigabytes: v.Size}); err != nil {
		return err
	}
	s.addVolume(&v)
	s.owe(&Operation{Kind: OpCreateVolume, VolumeID: v.ID, Host: v.Host, Cluster: v.group()}, m)
	return nil
}

// admitVolume refuses a new volume that its host cannot have now, and fills in what
// a new one starts with.
func (s *State) admitVolume(v *Volume, m Meta) error {
	if _, ok := s.volumes.Get(v.ID); ok {
		return refuseField(ErrExists, "id", v.ID, fmt.Sprintf("volume %s exists already", v.ID))
	}
	svc, ok := s.services.Get(v.Host)
	if !ok {
		return notFound("host", "service", v.Host)
	}
	cl, _ := s.clusters.Get(svc.Group())
	if err := s.serves(cl); err != nil {
		return err
	}
	if err := cl.enabled(); err != nil {
		return err
	}
	v.Host, v.Cluster, v.Status = svc.Host, svc.Cluster, StatusCreating
	v.ProjectID, v.UserID, v.VolumeType = intern(v.ProjectID), intern(v.UserID), intern(v.VolumeType)
	v.BackendID, v.FailedEpoch, v.PreviousStatus, v.Nominal = "", 0, "", false
	v.CreatedAt, v.UpdatedAt, v.Index = m.At, 0, m.Index
	v.ReplicationStatus, v.MigrationStatus, v.AdminMetadata = "", "", nil
	return nil
}

// enabled refuses new volumes, copies and growth while a cluster is disabled.
func (c *Cluster) enabled() error {
	if !c.Disabled {
		return nil
	}
	return refuseField(ErrDisabled, "cluster", c.Name, fmt.Sprintf("%q is disabled: %s", c.Name, c.DisabledReason))
}

// serves refuses a request for new work while its cluster cannot do it.
func (s *State) serves(cl *Cluster) error {
	if f, ok := s.unfinished(cl.Name); ok && f.Phase != Switching {
		return failingOver(f)
	}
	switch {
	case cl.Held:
		return refuseField(ErrHeld, "cluster", cl.Name, fmt.Sprintf(
			"the last failover of %q failed with its outcome unknown: fail over or back first", cl.Name))
	case cl.Frozen:
		return refuseField(ErrFrozen, "cluster", cl.Name, "Modification operations are not allowed on frozen storage backends.")
	}
	return nil
}

// ownerFor returns the member that is to do work on a cluster's volume: the one
// asked for, else the one that created the volume, else any.
func (s *State) ownerFor(v *Volume, asked string) string {
	for _, host := range [...]string{asked, v.Host} {
		if svc, ok := s.services.Get(host); ok && svc.Group() == v.group() {
			return host
		}
	}
	return s.memberOr(v.group(), "")
}

func noVolume(id string) error {
	return refuseField(ErrNotFound, "volume_id", id, fmt.Sprintf("Volume %s could not be found.", id))
}

// DeleteVolume asks for a volume to be deleted. Host is the member that should
// do it. It is refused for a volume that is attached or has snapshots, unless
// Force or Cascade say otherwise.
type DeleteVolume struct {
	ID      string `cbor:"1,keyasint"`
	Host    string `cbor:"2,keyasint,omitempty"`
	Cascade bool   `cbor:"3,keyasint,omitempty"` // with its snapshots
	Force   bool   `cbor:"4,keyasint,omitempty"` // whatever its status, unless an operation is owed
}

// maxCascade bounds what one command deletes.
const maxCascade = 1000

func (DeleteVolume) kind() Kind { return kindDeleteVolume }

func (c DeleteVolume) apply(s *State, m Meta) error {
	v, seen, err := s.editVolume(c.ID)
	if err != nil {
		return err
	}
	if seen.busy() || !c.Force && (!seen.Status.deletable() || s.attached(c.ID)) {
		return statusRefusal(seen.Status, "available or error or error_deleting or error_extending")
	}
	if v.GroupID != "" {
		return inGroup(v)
	}
	snapshots, err := s.cascade(c)
	if err != nil {
		return err
	}
	op := &Operation{Kind: OpDeleteVolume, Host: s.ownerFor(v, c.Host), Snapshots: snapshots}
	if v.unmade() {
		op.Kind = OpUnmanageVolume // it is not ours to delete, however far its adoption got
	}
	return s.begin(v, StatusDeleting, op, m)
}

// deletable reports whether a volume of this status can be deleted.
func (st VolumeStatus) deletable() bool {
	return slices.Contains([]VolumeStatus{
		StatusAvailable, StatusError, StatusErrorDeleting, StatusErrorExtending, StatusErrorManaging, StatusErrorRestoring,
	}, st)
}

// cascade returns the snapshots that are deleted with a volume.
func (s *State) cascade(c DeleteVolume) ([]string, error) {
	ids, busy := s.snapshotsIn(c.ID)
	switch {
	case len(ids) == 0:
		return nil, nil
	case !c.Cascade:
		return nil, refuseField(ErrConflict, "volume_id", c.ID, "the volume has snapshots: delete them first")
	case busy:
		return nil, refuseField(ErrConflict, "volume_id", c.ID, "a snapshot of the volume is being made or deleted")
	case len(ids) > maxCascade:
		return nil, refuseField(ErrTooLarge, "volume_id", c.ID, fmt.Sprintf("the volume has more than %d snapshots: delete some first", maxCascade))
	}
	return ids, nil
}

// snapshotsIn returns the ids of a volume's snapshots, at most one more than
// maxCascade, and whether an operation on one of them is owed.
func (s *State) snapshotsIn(volume string) (ids []string, busy bool) {
	eachUnder(&s.snapshotsOf, volume, func(key string, _ struct{}) bool {
		id := key[len(volume)+1:]
		sn, ok := s.snapshots.Get(id)
		busy = busy || ok && sn.busy()
		ids = append(ids, id)
		return len(ids) <= maxCascade
	})
	return ids, busy
}

// ExtendVolume asks for a volume to be grown to Size GiB.
type ExtendVolume struct {
	ID    string `cbor:"1,keyasint"`
	Size  int64  `cbor:"2,keyasint"`
	Host  string `cbor:"3,keyasint,omitempty"`
	InUse bool   `cbor:"4,keyasint,omitempty"` // also while it is in use
}

func (ExtendVolume) kind() Kind { return kindExtendVolume }

func (c ExtendVolume) apply(s *State, m Meta) error {
	v, seen, err := s.editVolume(c.ID)
	if err != nil {
		return err
	}
	if seen.Status != StatusAvailable && (seen.Status != StatusInUse || !c.InUse) {
		return statusRefusal(seen.Status, "available")
	}
	if c.Size <= v.Size {
		return refuseField(ErrInvalid, "new_size", fmt.Sprint(c.Size), fmt.Sprintf(
			"New size for extend must be greater than current size. (current: %d, extended: %d).", v.Size, c.Size))
	}
	if err := s.checkQuota(v, Usage{Gigabytes: c.Size - v.Size}); err != nil {
		return err
	}
	if cl, ok := s.clusters.Get(v.group()); ok {
		if err := cl.enabled(); err != nil {
			return err
		}
	}
	return s.begin(v, StatusExtending, &Operation{Kind: OpExtendVolume, Size: c.Size, Host: s.ownerFor(v, c.Host)}, m)
}

// begin commits the intent to change a volume.
func (s *State) begin(v *Volume, status VolumeStatus, op *Operation, m Meta) error {
	cl, ok := s.clusters.Get(v.group())
	if !ok || op.Host == "" {
		return refuseField(ErrConflict, "volume_id", v.ID, fmt.Sprintf("no service of %q is left", v.group()))
	}
	if err := s.serves(cl); err != nil {
		return err
	}
	v.PreviousStatus, v.Status, v.Nominal = v.Status, status, false
	op.VolumeID, op.Cluster = v.ID, cl.Name
	s.putVolume(v, m)
	s.owe(op, m)
	return nil
}

func statusRefusal(is VolumeStatus, allowed string) error {
	return refuseField(ErrConflict, "status", string(is), fmt.Sprintf("status is %s, but must be %s", is, allowed), allowed)
}
