package fsm

import (
	"cmp"
	"fmt"
	"iter"
)

// Snapshot is a snapshot of a volume. When a failover puts the volume out of
// reach, its snapshots are seen in error.
type Snapshot struct {
	ID          string       `cbor:"1,keyasint"`
	VolumeID    string       `cbor:"2,keyasint"`
	ProjectID   string       `cbor:"3,keyasint,omitempty"`
	UserID      string       `cbor:"4,keyasint,omitempty"`
	Name        string       `cbor:"5,keyasint,omitempty"`
	Description string       `cbor:"6,keyasint,omitempty"`
	Status      VolumeStatus `cbor:"7,keyasint"`
	Size        int64        `cbor:"8,keyasint"` // GiB, of the volume when it was taken
	Metadata    []KeyValue   `cbor:"9,keyasint,omitempty"`
	CreatedAt   Time         `cbor:"10,keyasint,omitempty"`
	UpdatedAt   Time         `cbor:"11,keyasint,omitempty"`
	Index       uint64       `cbor:"12,keyasint,omitempty"` // log index of its creation
	Nominal     bool         `cbor:"14,keyasint,omitempty"` // its status was set by hand: no operation is behind it
	Whole       bool         `cbor:"-"`                     // derived: it was made, wherever its volume is now
}

// busy reports whether a member owes an operation on the snapshot.
func (sn *Snapshot) busy() bool { return sn.Status.busy() && !sn.Nominal }

// Snapshot returns a snapshot as the committed switch of its volume's cluster
// leaves it.
func (s *State) Snapshot(id string) (Snapshot, bool) {
	sn, ok := s.snapshots.Get(id)
	if !ok {
		return Snapshot{}, false
	}
	out := *sn
	out.Whole = sn.Status != StatusCreating && sn.Status != StatusError
	v, ok := s.stored(sn.VolumeID)
	if !ok || sn.busy() {
		return out, true
	}
	if _, lost := s.derive(&v); lost {
		out.Status, out.Nominal = StatusError, false
	}
	if v.Status == StatusDeleting && v.busy() { // with all its snapshots
		out.Status, out.Nominal = StatusDeleting, false
	}
	return out, true
}

func noSnapshot(id string) error {
	return refuseField(ErrNotFound, "snapshot_id", id, fmt.Sprintf("Snapshot %s could not be found.", id))
}

// Snapshots yields the snapshots created before the log index before, newest
// first; a before of zero starts with the newest.
func (s *State) Snapshots(before uint64) iter.Seq[Snapshot] {
	return newestFirst(&s.snapshotOrder, s.Snapshot, before)
}

// CreateSnapshot asks for a snapshot of a volume.
type CreateSnapshot struct {
	Snapshot Snapshot `cbor:"1,keyasint"`
	Force    bool     `cbor:"2,keyasint,omitempty"` // also of a volume that is in use
	Host     string   `cbor:"3,keyasint,omitempty"`
}

func (CreateSnapshot) kind() Kind { return kindCreateSnapshot }

func (c CreateSnapshot) apply(s *State, m Meta) error {
	sn := c.Snapshot
	if err := checkName("id", sn.ID); err != nil {
		return err
	}
	if _, ok := s.snapshots.Get(sn.ID); ok {
		return refuseField(ErrExists, "id", sn.ID, fmt.Sprintf("snapshot %s exists already", sn.ID))
	}
	v, ok := s.stored(sn.VolumeID)
	if !ok {
		return noVolume(sn.VolumeID)
	}
	seen, _ := s.derive(&v)
	if seen.Status != StatusAvailable && (seen.Status != StatusInUse || !c.Force) {
		return statusRefusal(seen.Status, "available")
	}
	cl, ok := s.clusters.Get(v.group())
	host := s.ownerFor(&v, c.Host)
	if !ok || host == "" {
		return refuseField(ErrConflict, "volume_id", v.ID, fmt.Sprintf("no service of %q is left", v.group()))
	}
	if err := cmp.Or(s.serves(cl), cl.enabled()); err != nil {
		return err
	}
	sn.Status, sn.Size, sn.Index, sn.CreatedAt, sn.UpdatedAt = StatusCreating, v.Size, m.Index, m.At, 0
	sn.ProjectID, sn.UserID, sn.VolumeID, sn.Nominal = intern(sn.ProjectID), intern(sn.UserID), v.ID, false
	if err := s.checkQuota(&Volume{ProjectID: sn.ProjectID, VolumeType: v.VolumeType}, Usage{Snapshots: 1, Gigabytes: sn.Size}); err != nil {
		return err
	}
	s.addSnapshot(&sn)
	s.owe(&Operation{Kind: OpCreateSnapshot, VolumeID: v.ID, SnapshotID: sn.ID, Host: host, Cluster: cl.Name}, m)
	return nil
}

// DeleteSnapshot asks for a snapshot to be deleted.
type DeleteSnapshot struct {
	ID   string `cbor:"1,keyasint"`
	Host string `cbor:"2,keyasint,omitempty"`
}

func (DeleteSnapshot) kind() Kind { return kindDeleteSnapshot }

func (c DeleteSnapshot) apply(s *State, m Meta) error {
	seen, ok := s.Snapshot(c.ID)
	if !ok {
		return noSnapshot(c.ID)
	}
	if seen.Status != StatusAvailable && seen.Status != StatusError && seen.Status != StatusErrorDeleting {
		return statusRefusal(seen.Status, "available or error")
	}
	v, ok := s.stored(seen.VolumeID)
	if !ok {
		return refuse(ErrInternal, fmt.Sprintf("snapshot %s has no volume", c.ID))
	}
	cl, ok := s.clusters.Get(v.group())
	host := s.ownerFor(&v, c.Host)
	if !ok || host == "" {
		return refuseField(ErrConflict, "snapshot_id", c.ID, fmt.Sprintf("no service of %q is left", v.group()))
	}
	if err := s.serves(cl); err != nil {
		return err
	}
	sn, _ := s.snapshots.Get(c.ID)
	next := new(*sn)
	next.Status, next.Nominal = StatusDeleting, false
	s.putSnapshot(next, m)
	s.owe(&Operation{Kind: OpDeleteSnapshot, VolumeID: v.ID, SnapshotID: sn.ID, Host: host, Cluster: cl.Name}, m)
	return nil
}

// addSnapshot stores a record that is new to the state.
func (s *State) addSnapshot(sn *Snapshot) {
	s.snapshots.Set(sn.ID, sn)
	s.snapshotOrder.Set(sn.Index, sn.ID)
	s.snapshotsOf.Set(under(sn.VolumeID, sn.ID), struct{}{})
	s.use(sn.ProjectID, s.typeOf(sn), Usage{Snapshots: 1, Gigabytes: sn.Size})
}

func (s *State) putSnapshot(sn *Snapshot, m Meta) {
	sn.UpdatedAt = max(sn.UpdatedAt, m.At)
	s.snapshots.Set(sn.ID, sn)
}

func (s *State) dropSnapshot(sn *Snapshot) {
	s.use(sn.ProjectID, s.typeOf(sn), Usage{Snapshots: -1, Gigabytes: -sn.Size})
	s.snapshots.Delete(sn.ID)
	s.snapshotOrder.Delete(sn.Index)
	s.snapshotsOf.Delete(under(sn.VolumeID, sn.ID))
}
