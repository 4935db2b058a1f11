package history

import "github.com/lockstep-storage/lockstep/fsm"

// volume is a volume or a snapshot. The zero value does not exist.
type volume struct {
	status fsm.VolumeStatus
	size   int64
	grows  int64 // what it is being extended to
}

func (v volume) exists() bool { return v.status != "" }

// next ends what a member owes, well or badly.
func (v volume) next() []state {
	switch v.status {
	case fsm.StatusCreating:
		return []state{volume{status: fsm.StatusAvailable, size: v.size}, volume{status: fsm.StatusError, size: v.size}}
	case fsm.StatusExtending:
		return []state{volume{status: fsm.StatusAvailable, size: v.grows}, volume{status: fsm.StatusErrorExtending, size: v.size}}
	case fsm.StatusDeleting:
		return []state{volume{}, volume{status: fsm.StatusErrorDeleting, size: v.size}}
	case fsm.StatusAvailable, fsm.StatusInUse, fsm.StatusError, fsm.StatusErrorDeleting, fsm.StatusErrorExtending,
		fsm.StatusReserved, fsm.StatusAttaching, fsm.StatusDetaching, fsm.StatusMaintenance,
		fsm.StatusRetyping, fsm.StatusUnmanaging, fsm.StatusErrorManaging, fsm.StatusErrorRestoring:
	}
	return nil
}

func (v volume) accept(r Request, a Answer) (state, bool) {
	switch r.Kind {
	case CreateVolume, CreateSnapshot:
		return volume{status: fsm.StatusCreating, size: r.Size}, !v.exists()
	case DeleteVolume, DeleteSnapshot:
		return volume{status: fsm.StatusDeleting, size: v.size}, v.settled()
	case ExtendVolume:
		return volume{status: fsm.StatusExtending, size: v.size, grows: r.Size}, v.status == fsm.StatusAvailable && r.Size > v.size
	case ReadVolume, ReadSnapshot:
		return v, v.seenAs(a)
	case RequestFailover, AbortFailover, ReadFailover, SetFrozen, ReadCluster:
	}
	return v, false
}

// settled reports whether v exists and no member owes anything for it.
func (v volume) settled() bool {
	switch v.status {
	case fsm.StatusAvailable, fsm.StatusError, fsm.StatusErrorDeleting, fsm.StatusErrorExtending:
		return true
	case fsm.StatusCreating, fsm.StatusInUse, fsm.StatusExtending, fsm.StatusDeleting,
		fsm.StatusReserved, fsm.StatusAttaching, fsm.StatusDetaching, fsm.StatusMaintenance,
		fsm.StatusRetyping, fsm.StatusUnmanaging, fsm.StatusErrorManaging, fsm.StatusErrorRestoring:
	}
	return false
}

// seenAs reports whether a reader may see v as a says. While its cluster is at a
// site that does not have the volume, a reader sees it in error; the status comes
// back with the site, so this tells nothing of the state.
func (v volume) seenAs(a Answer) bool {
	status := fsm.VolumeStatus(a.Status)
	if status == fsm.StatusInUse {
		status = fsm.StatusAvailable // an attachment is none of the model's business
	}
	if a.Size != 0 && a.Size != v.size {
		return false
	}
	return v.exists() && (status == v.status || status == fsm.StatusError && v.settled())
}

func (v volume) refuse(r Request, code fsm.Code) bool {
	creates := r.Kind == CreateVolume || r.Kind == CreateSnapshot
	switch {
	case code == fsm.ErrExists:
		return creates && v.exists()
	case creates:
		return true // for the sake of its host, its volume or its cluster
	case code == fsm.ErrNotFound:
		return !v.exists()
	case code == fsm.ErrInvalid && r.Kind == ExtendVolume:
		return v.exists() && r.Size <= v.size
	case r.Kind == ReadVolume || r.Kind == ReadSnapshot:
		return false
	}
	return v.exists()
}
