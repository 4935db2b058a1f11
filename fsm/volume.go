package fsm

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
)

// VolumeStatus is Cinder's status of a volume or a snapshot.
type VolumeStatus string

// The statuses that a volume or a snapshot can have.
const (
	StatusCreating       VolumeStatus = "creating"
	StatusAvailable      VolumeStatus = "available"
	StatusInUse          VolumeStatus = "in-use"
	StatusExtending      VolumeStatus = "extending"
	StatusDeleting       VolumeStatus = "deleting"
	StatusError          VolumeStatus = "error"
	StatusErrorDeleting  VolumeStatus = "error_deleting"
	StatusErrorExtending VolumeStatus = "error_extending"
	StatusReserved       VolumeStatus = "reserved"  // for an attachment to come
	StatusAttaching      VolumeStatus = "attaching" // reserved by hand, or its attachment is under way
	StatusDetaching      VolumeStatus = "detaching"
	StatusMaintenance    VolumeStatus = "maintenance"
	StatusRetyping       VolumeStatus = "retyping"
	StatusUnmanaging     VolumeStatus = "unmanaging"
	StatusErrorManaging  VolumeStatus = "error_managing"
	StatusErrorRestoring VolumeStatus = "error_restoring"
)

// busy reports whether this status announces an operation that a member owes. A
// switch leaves it standing, since the operation is made at the new site.
func (st VolumeStatus) busy() bool {
	return slices.Contains([]VolumeStatus{StatusCreating, StatusExtending, StatusDeleting, StatusRetyping, StatusUnmanaging}, st)
}

// Volume is one volume, with the names and meanings of Cinder's fields. What a
// failover does to all volumes of a cluster is not written into their records: it
// is derived from the cluster's when a volume is read ([State.Volume]).
type Volume struct {
	ID                        string            `cbor:"1,keyasint"`
	ProjectID                 string            `cbor:"2,keyasint,omitempty"`
	UserID                    string            `cbor:"3,keyasint,omitempty"`
	Name                      string            `cbor:"4,keyasint,omitempty"`
	Description               string            `cbor:"5,keyasint,omitempty"`
	Size                      int64             `cbor:"6,keyasint"` // GiB
	Status                    VolumeStatus      `cbor:"7,keyasint"`
	PreviousStatus            VolumeStatus      `cbor:"8,keyasint,omitempty"`
	ReplicationStatus         ReplicationStatus `cbor:"9,keyasint,omitempty"` // derived, never stored; empty while creating
	ReplicationExtendedStatus string            `cbor:"10,keyasint,omitempty"`
	ReplicationDriverData     string            `cbor:"11,keyasint,omitempty"`
	ProviderID                string            `cbor:"12,keyasint,omitempty"`
	ProviderLocation          string            `cbor:"13,keyasint,omitempty"`
	VolumeType                string            `cbor:"14,keyasint,omitempty"` // name
	Replicated                bool              `cbor:"15,keyasint,omitempty"`
	Host                      string            `cbor:"16,keyasint,omitempty"`
	Cluster                   string            `cbor:"17,keyasint,omitempty"` // Cinder's cluster_name
	Metadata                  []KeyValue        `cbor:"18,keyasint,omitempty"`
	BackendID                 string            `cbor:"19,keyasint,omitempty"` // the site that a volume which is not replicated lives at
	FailedEpoch               uint64            `cbor:"20,keyasint,omitempty"` // epoch whose switch failed for this volume
	CreatedAt                 Time              `cbor:"21,keyasint,omitempty"`
	UpdatedAt                 Time              `cbor:"22,keyasint,omitempty"`
	Index                     uint64            `cbor:"23,keyasint,omitempty"` // log index of its creation
	SnapshotID                string            `cbor:"24,keyasint,omitempty"` // that it was made from
	SourceVolumeID            string            `cbor:"25,keyasint,omitempty"` // that it was cloned from
	Bootable                  bool              `cbor:"26,keyasint,omitempty"`
	Multiattach               bool              `cbor:"27,keyasint,omitempty"`
	AdminMetadata             []KeyValue        `cbor:"28,keyasint,omitempty"` // what only administrators change, such as readonly; by key
	MigrationStatus           string            `cbor:"29,keyasint,omitempty"`
	GroupID                   string            `cbor:"30,keyasint,omitempty"`
	Site                      string            `cbor:"-"`                     // derived: where it is, as long as its services can reach it there
	ReplicaGroup              string            `cbor:"-"`                     // derived: the replication group whose site it follows, empty if it follows its cluster's
	Reference                 string            `cbor:"31,keyasint,omitempty"` // what it was called before it was adopted; empty if it was made here
	Nominal                   bool              `cbor:"32,keyasint,omitempty"` // its status was set by hand: no operation is behind it
}

// busy reports whether a member owes an operation on the volume.
func (v *Volume) busy() bool { return v.Status.busy() && !v.Nominal }

// unmade reports whether the volume is not on the storage yet, or never was.
func (v *Volume) unmade() bool {
	return v.Status == StatusCreating && !v.Nominal || v.Reference != "" && v.Size == 0
}

func (v *Volume) group() string { return groupOf(v.Cluster, v.Host) }

func (v *Volume) update(u VolumeUpdate) {
	set := func(field *string, value string) {
		if value != "" {
			*field = value
		}
	}
	set(&v.ProviderID, u.ProviderID)
	set(&v.ProviderLocation, u.ProviderLocation)
	set(&v.ReplicationExtendedStatus, u.ReplicationExtendedStatus)
	set(&v.ReplicationDriverData, u.ReplicationDriverData)
}

// Volume returns a volume as the committed switch leaves it: one that is not
// replicated and lives at another site than the active one is in error, and so is
// one that the last switch failed for; their previous status is kept, and comes
// back when a failback makes it true again (D9).
func (s *State) Volume(id string) (Volume, bool) {
	v, ok := s.stored(id)
	if !ok {
		return Volume{}, false
	}
	out, _ := s.derive(&v)
	return out, true
}

// derive returns v as its cluster leaves it, and whether the switch has put it
// out of reach.
func (s *State) derive(v *Volume) (out Volume, lost bool) {
	out = s.merged(v)
	cl, ok := s.clusters.Get(v.group())
	if !ok {
		return out, false
	}
	g := s.replicaGroup(v)
	at := cl.siteOf(g)
	out.Site = at.backend
	if g != nil {
		out.ReplicaGroup = g.ID
	}
	switch {
	case v.unmade():
		return out, false
	case !out.Replicated:
		out.ReplicationStatus = ReplicationNotCapable
		out.Site = cmp.Or(out.BackendID, out.Site)
		lost = out.Site != at.backend
	case out.FailedEpoch == at.epoch && out.FailedEpoch != 0:
		out.ReplicationStatus = ReplicationFailoverError
		lost = true
	case g != nil:
		out.ReplicationStatus = g.volumeReplication(at)
	default:
		out.ReplicationStatus = cl.settledStatus()
	}
	if lost && !out.busy() {
		out.PreviousStatus, out.Status, out.Nominal = out.Status, StatusError, false
	}
	if lost || out.Replicated {
		out.UpdatedAt = max(out.UpdatedAt, at.at)
	}
	return out, lost
}

// Volumes yields the volumes created before the log index before, newest first;
// a before of zero starts with the newest.
func (s *State) Volumes(before uint64) iter.Seq[Volume] {
	return newestFirst(&s.volumeOrder, s.Volume, before)
}

// VolumeCount returns how many volumes there are.
func (s *State) VolumeCount() int { return s.volumes.Len() }

// ReplicatedVolumes yields the volumes of a cluster that a failover promotes, by
// id.
func (s *State) ReplicatedVolumes(cluster string) iter.Seq[Volume] {
	return func(yield func(Volume) bool) {
		s.volumes.Scan(func(_ string, r *record) bool {
			if !r.replicated {
				return true
			}
			v := r.unpack()
			if v.unmade() || v.group() != cluster {
				return true
			}
			out, _ := s.derive(&v)
			return yield(out)
		})
	}
}

// addVolume stores a record that is new to the state.
func (s *State) addVolume(v *Volume) {
	s.volumes.Set(v.ID, pack(v))
	s.volumeOrder.Set(v.Index, v.ID)
	if v.GroupID != "" {
		s.volumesOfGroup.Set(under(v.GroupID, v.ID), struct{}{})
	}
	n, _ := s.volumesIn.Get(v.group())
	s.volumesIn.Set(v.group(), n+1)
	s.use(v.ProjectID, v.VolumeType, Usage{Volumes: 1, Gigabytes: v.Size})
}

// putVolume stores a changed record.
func (s *State) putVolume(v *Volume, m Meta) {
	s.dropResult(v)
	if old, ok := s.volumes.Get(v.ID); ok && old.size != v.Size {
		s.use(v.ProjectID, v.VolumeType, Usage{Gigabytes: v.Size - old.size})
	}
	v.UpdatedAt = max(v.UpdatedAt, m.At)
	s.volumes.Set(v.ID, pack(v))
}

func (s *State) dropVolume(v *Volume) {
	s.dropResult(v)
	s.volumeGone(v)
	s.use(v.ProjectID, v.VolumeType, Usage{Volumes: -1, Gigabytes: -v.Size})
	s.volumes.Delete(v.ID)
	s.volumeOrder.Delete(v.Index)
	if n, _ := s.volumesIn.Get(v.group()); n > 1 {
		s.volumesIn.Set(v.group(), n-1)
	} else {
		s.volumesIn.Delete(v.group())
	}
}

// editVolumeWith lets change edit a volume, and stores it unless change refuses.
func (s *State) editVolumeWith(id string, m Meta, change func(v, seen *Volume) error) error {
	v, seen, err := s.editVolume(id)
	if err != nil {
		return err
	}
	if err := change(v, &seen); err != nil {
		return err
	}
	s.putVolume(v, m)
	return nil
}

// editVolume returns a volume to be changed and stored again, and the volume as a
// reader sees it.
func (s *State) editVolume(id string) (v *Volume, seen Volume, err error) {
	old, ok := s.stored(id)
	if !ok {
		return nil, Volume{}, noVolume(id)
	}
	seen, _ = s.derive(&old)
	return new(s.merged(&old)), seen, nil
}

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
