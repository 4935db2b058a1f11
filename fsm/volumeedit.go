package fsm

import (
	"fmt"
	"slices"
	"strings"
)

// Edit is a change that a user makes to the description of a volume or a snapshot.
// What is nil stays as it is.
type Edit struct {
	Name        *string    `cbor:"1,keyasint,omitempty"`
	Description *string    `cbor:"2,keyasint,omitempty"`
	Metadata    []KeyValue `cbor:"3,keyasint,omitempty"` // set, by key
	Replace     bool       `cbor:"4,keyasint,omitempty"` // drop what Metadata does not have
	Drop        string     `cbor:"5,keyasint,omitempty"` // a key of the metadata
}

// maxMetadata bounds the metadata of one record.
const maxMetadata = 128

// metadata returns old as the edit leaves it. Old is not changed.
func (e Edit) metadata(old []KeyValue) ([]KeyValue, error) {
	if e.Replace {
		old = nil
	}
	next := setPairs(old, e.Metadata)
	if e.Drop != "" {
		at, ok := findPair(next, e.Drop)
		if !ok {
			return nil, refuseField(ErrNotFound, "key", e.Drop, "Metadata item was not found")
		}
		next = slices.Delete(next, at, at+1)
	}
	if len(next) > maxMetadata {
		return nil, refuseField(ErrTooLarge, "metadata", fmt.Sprint(len(next)), fmt.Sprintf("at most %d items of metadata are allowed", maxMetadata))
	}
	if len(next) == 0 {
		return nil, nil
	}
	return next, nil
}

func findPair(pairs []KeyValue, key string) (int, bool) {
	return slices.BinarySearchFunc(pairs, key, func(kv KeyValue, key string) int { return strings.Compare(kv.Key, key) })
}

// setPairs returns a copy of old, which is ordered by key, with pairs in it.
func setPairs(old, pairs []KeyValue) []KeyValue {
	next := slices.Clone(old)
	for _, kv := range pairs {
		at, ok := findPair(next, kv.Key)
		if ok {
			next[at] = kv
		} else {
			next = slices.Insert(next, at, kv)
		}
	}
	return next
}

// EditVolume changes what a volume is called and described by. It needs no member:
// nothing about it concerns the storage.
type EditVolume struct {
	ID       string `cbor:"1,keyasint"`
	Edit     Edit   `cbor:"2,keyasint"`
	Bootable *bool  `cbor:"3,keyasint,omitempty"`
	Readonly *bool  `cbor:"4,keyasint,omitempty"`
}

func (EditVolume) kind() Kind { return kindEditVolume }

func (c EditVolume) apply(s *State, m Meta) error {
	return s.editVolumeWith(c.ID, m, func(v, seen *Volume) error {
		pairs, err := c.Edit.metadata(v.Metadata)
		if err != nil {
			return err
		}
		v.Metadata = pairs
		if c.Edit.Name != nil {
			v.Name = *c.Edit.Name
		}
		if c.Edit.Description != nil {
			v.Description = *c.Edit.Description
		}
		if c.Bootable != nil {
			v.Bootable = *c.Bootable
		}
		if c.Readonly != nil {
			if seen.Status != StatusAvailable {
				return statusRefusal(seen.Status, "available")
			}
			v.AdminMetadata = setPairs(v.AdminMetadata, []KeyValue{{Key: metadataReadonly, Value: pyBool(c.Readonly)}})
		}
		return nil
	})
}

// The keys of a volume's admin metadata, as Cinder names them.
const (
	metadataReadonly     = "readonly"
	metadataAttachedMode = "attached_mode"
)

// pyBool writes a flag as Cinder stores it in metadata.
func pyBool(v *bool) string {
	if v != nil && *v {
		return "True"
	}
	return "False"
}

// EditSnapshot changes what a snapshot is called and described by.
type EditSnapshot struct {
	ID   string `cbor:"1,keyasint"`
	Edit Edit   `cbor:"2,keyasint"`
}

func (EditSnapshot) kind() Kind { return kindEditSnapshot }

func (c EditSnapshot) apply(s *State, m Meta) error {
	old, ok := s.snapshots.Get(c.ID)
	if !ok {
		return noSnapshot(c.ID)
	}
	sn := new(*old)
	var err error
	if sn.Metadata, err = c.Edit.metadata(sn.Metadata); err != nil {
		return err
	}
	if c.Edit.Name != nil {
		sn.Name = *c.Edit.Name
	}
	if c.Edit.Description != nil {
		sn.Description = *c.Edit.Description
	}
	s.putSnapshot(sn, m)
	return nil
}

// ResetVolume sets the status of a volume that is not as it says, as an
// administrator asks. It is refused while an operation is owed, whose end would
// contradict it. A status that announces an operation is kept as [Volume.Nominal]:
// nothing ends it, and nothing waits for its end.
type ResetVolume struct {
	ID              string       `cbor:"1,keyasint"`
	Status          VolumeStatus `cbor:"2,keyasint,omitempty"`
	MigrationStatus string       `cbor:"3,keyasint,omitempty"` // "none" for none
	Detached        bool         `cbor:"4,keyasint,omitempty"` // forget its attachments
}

func (ResetVolume) kind() Kind { return kindResetVolume }

func (c ResetVolume) apply(s *State, m Meta) error {
	err := s.editVolumeWith(c.ID, m, func(v, _ *Volume) error {
		if v.busy() {
			return statusRefusal(v.Status, "one that no operation is about to end")
		}
		if c.Status != "" {
			v.Status, v.PreviousStatus = VolumeStatus(intern(string(c.Status))), ""
			v.Nominal = c.Status.busy()
		}
		switch c.MigrationStatus {
		case "":
		case "none":
			v.MigrationStatus = ""
		default:
			v.MigrationStatus = c.MigrationStatus
		}
		return nil
	})
	if err == nil && c.Detached {
		for _, a := range s.Attachments(c.ID) {
			s.dropAttachment(&a)
		}
	}
	return err
}

// ResetSnapshot sets the status of a snapshot, under the same conditions.
type ResetSnapshot struct {
	ID     string       `cbor:"1,keyasint"`
	Status VolumeStatus `cbor:"2,keyasint"`
}

func (ResetSnapshot) kind() Kind { return kindResetSnapshot }

func (c ResetSnapshot) apply(s *State, m Meta) error {
	old, ok := s.snapshots.Get(c.ID)
	if !ok {
		return noSnapshot(c.ID)
	}
	if seen, _ := s.Snapshot(c.ID); seen.busy() {
		return statusRefusal(seen.Status, "one that no operation is about to end")
	}
	sn := new(*old)
	sn.Status, sn.Nominal = VolumeStatus(intern(string(c.Status))), c.Status.busy()
	s.putSnapshot(sn, m)
	return nil
}
