package fsm

import (
	"cmp"
	"fmt"
)

// checkSource refuses a new volume whose source cannot be copied: it must be there
// and whole, no larger, and of the same cluster.
func (s *State) checkSource(v *Volume) error {
	from := v.SourceVolumeID
	if v.SnapshotID != "" {
		sn, ok := s.Snapshot(v.SnapshotID)
		if !ok {
			return noSnapshot(v.SnapshotID)
		}
		if err := sn.CheckSource(); err != nil {
			return err
		}
		if v.Size < sn.Size {
			return refuseField(ErrInvalid, "size", fmt.Sprint(v.Size), fmt.Sprintf(
				"Volume size '%d'GB cannot be smaller than the snapshot size %dGB. They must be >= original snapshot size.", v.Size, sn.Size))
		}
		from = sn.VolumeID
	}
	if from == "" {
		return nil
	}
	source, ok := s.Volume(from)
	if !ok {
		return noVolume(from)
	}
	if source.group() != v.group() {
		return refuseField(ErrConflict, "source_volid", from, fmt.Sprintf("volume %s is not of %q", from, v.group()))
	}
	if v.SnapshotID == "" {
		if err := cmp.Or(source.CheckSource(), v.checkSourceSize(&source)); err != nil {
			return err
		}
	}
	if made, _ := s.derive(v); made.Site != source.Site {
		return refuseField(ErrConflict, "source_volid", from,
			fmt.Sprintf("Invalid volume: volume %s is at site %q, and its copy would be at %q", from, source.Site, made.Site))
	}
	return nil
}

// CheckSource refuses a snapshot that no volume can be made of as it is now.
func (sn *Snapshot) CheckSource() error {
	if sn.Status == StatusAvailable {
		return nil
	}
	return refuseField(ErrConflict, "snapshot_id", string(sn.Status),
		"Invalid snapshot: Originating snapshot status must be one of 'available' values", string(StatusAvailable))
}

// CheckSource refuses a volume that no other can be cloned from as it is now.
func (v *Volume) CheckSource() error {
	if v.Status == StatusAvailable || v.Status == StatusInUse {
		return nil
	}
	return refuseField(ErrConflict, "source_volid", string(v.Status),
		"Invalid volume: Originating source volume status must be one of 'available, in-use' values", string(StatusAvailable), string(StatusInUse))
}

func (v *Volume) checkSourceSize(source *Volume) error {
	if v.Size < source.Size {
		return refuseField(ErrInvalid, "size", fmt.Sprint(v.Size), fmt.Sprintf(
			"Volume size '%d'GB cannot be smaller than original volume size  %dGB. They must be >= original volume size.", v.Size, source.Size))
	}
	return nil
}
