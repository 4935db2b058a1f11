package fsm

import (
	"cmp"
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
