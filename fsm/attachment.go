package fsm

import (
	"fmt"
	"iter"
	"slices"
)

// AttachStatus is where an attachment stands, in Cinder's words.
type AttachStatus string

// The statuses of an attachment.
const (
	AttachReserved  AttachStatus = "reserved"
	AttachAttaching AttachStatus = "attaching" // its connector is known
	AttachAttached  AttachStatus = "attached"
)

// Attachment says who uses a volume, or is about to. The storage is told nothing of
// it: where the volume is reached follows from its record.
type Attachment struct {
	ID         string       `cbor:"1,keyasint"`
	VolumeID   string       `cbor:"2,keyasint"`
	ProjectID  string       `cbor:"3,keyasint,omitempty"`
	Status     AttachStatus `cbor:"4,keyasint"`
	Instance   string       `cbor:"5,keyasint,omitempty"` // UUID of a server
	HostName   string       `cbor:"6,keyasint,omitempty"`
	Mountpoint string       `cbor:"7,keyasint,omitempty"`
	Mode       string       `cbor:"8,keyasint,omitempty"` // rw or ro; empty if nobody said
	Connected  bool         `cbor:"9,keyasint,omitempty"` // a connector was given
	AttachedAt Time         `cbor:"10,keyasint,omitempty"`
	CreatedAt  Time         `cbor:"11,keyasint,omitempty"`
	UpdatedAt  Time         `cbor:"12,keyasint,omitempty"`
	Index      uint64       `cbor:"13,keyasint,omitempty"` // log index of its creation
}

// Attachment returns the attachment with the given id.
func (s *State) Attachment(id string) (Attachment, bool) { return deref(s.attachments.Get(id)) }

// Attachments returns the attachments of a volume, by id.
func (s *State) Attachments(volumeID string) []Attachment {
	var all []Attachment
	eachUnder(&s.attachmentsOf, volumeID, func(_, id string) bool {
		if a, ok := s.attachments.Get(id); ok {
			all = append(all, *a)
		}
		return true
	})
	return all
}

// EveryAttachment yields the attachments created before the log index before,
// newest first; a before of zero starts with the newest.
func (s *State) EveryAttachment(before uint64) iter.Seq[Attachment] {
	return newestFirst(&s.attachmentOrder, s.Attachment, before)
}

func (s *State) attached(volumeID string) bool {
	found := false
	eachUnder(&s.attachmentsOf, volumeID, func(string, string) bool { found = true; return false })
	return found
}

func (s *State) putAttachment(a *Attachment) {
	s.attachments.Set(a.ID, a)
	s.attachmentOrder.Set(a.Index, a.ID)
	s.attachmentsOf.Set(under(a.VolumeID, a.ID), a.ID)
}

func (s *State) dropAttachment(a *Attachment) {
	s.attachments.Delete(a.ID)
	s.attachmentOrder.Delete(a.Index)
	s.attachmentsOf.Delete(under(a.VolumeID, a.ID))
}

func noAttachment(id string) error {
	return refuseField(ErrNotFound, "attachment_id", id, fmt.Sprintf("Volume attachment could not be found with filter: attachment_id = %s.", id))
}

// AttachStep is one of the steps by which older clients attach and detach a volume.
type AttachStep uint8

// The steps. Values are stored: append only.
const (
	StepReserve        AttachStep = iota + 1 // available becomes attaching
	StepUnreserve                            // and back
	StepBeginDetaching                       // in-use becomes detaching
	StepRollDetaching                        // and back
)

// MoveAttaching makes one step of a volume's way to being attached or detached.
type MoveAttaching struct {
	VolumeID string     `cbor:"1,keyasint"`
	Step     AttachStep `cbor:"2,keyasint"`
}

func (MoveAttaching) kind() Kind { return kindMoveAttaching }

func (c MoveAttaching) apply(s *State, m Meta) error {
	var from, to VolumeStatus
	switch c.Step {
	case StepReserve:
		from, to = StatusAvailable, StatusAttaching
	case StepUnreserve:
		from, to = StatusAttaching, StatusAvailable
	case StepBeginDetaching:
		from, to = StatusInUse, StatusDetaching
	case StepRollDetaching:
		from, to = StatusDetaching, StatusInUse
	default:
		return refuseField(ErrInvalid, "step", fmt.Sprint(c.Step), "there is no such step")
	}
	return s.editVolumeWith(c.VolumeID, m, func(v, seen *Volume) error {
		switch {
		case seen.Status == from:
			v.Status = to
			if c.Step == StepUnreserve && s.attached(v.ID) {
				v.Status = StatusInUse
			}
		case c.Step == StepReserve && seen.Status == StatusInUse && v.Multiattach:
		case c.Step == StepReserve || c.Step == StepBeginDetaching:
			return statusRefusal(seen.Status, string(from))
		}
		return nil
	})
}

// CreateAttachment notes that a volume is, or is to be, used. One without
// connector reserves the volume.
type CreateAttachment struct {
	Attachment Attachment `cbor:"1,keyasint"`
}

func (CreateAttachment) kind() Kind { return kindCreateAttachment }

func (c CreateAttachment) apply(s *State, m Meta) error {
	a := c.Attachment
	if err := checkName("id", a.ID); err != nil {
		return err
	}
	if _, taken := s.attachments.Get(a.ID); taken {
		return refuseField(ErrExists, "id", a.ID, fmt.Sprintf("attachment %s exists already", a.ID))
	}
	return s.editVolumeWith(a.VolumeID, m, func(v, seen *Volume) error {
		switch {
		case a.Status == AttachAttached && seen.Status == StatusAttaching:
		case seen.Status == StatusAvailable, seen.Status == StatusInUse && v.Multiattach:
		default:
			return statusRefusal(seen.Status, string(StatusAvailable))
		}
		a.ProjectID, a.VolumeID = intern(a.ProjectID), v.ID
		a.CreatedAt, a.UpdatedAt, a.Index, a.AttachedAt = m.At, m.At, m.Index, 0
		v.Status = StatusReserved
		if a.Status == AttachAttached {
			a.AttachedAt = m.At
			v.Status = StatusInUse
			v.AdminMetadata = setPairs(v.AdminMetadata, []KeyValue{{Key: metadataAttachedMode, Value: a.Mode}})
			if _, said := findPair(v.AdminMetadata, metadataReadonly); !said {
				v.AdminMetadata = setPairs(v.AdminMetadata, []KeyValue{{Key: metadataReadonly, Value: pyBool(nil)}})
			}
		} else {
			a.Status = AttachReserved
		}
		s.putAttachment(&a)
		return nil
	})
}

// UpdateAttachment notes the connector of an attachment, or that it is complete, which
// whoever attaches says: as in Cinder also of one without a connector.
type UpdateAttachment struct {
	ID         string `cbor:"1,keyasint"`
	Complete   bool   `cbor:"2,keyasint,omitempty"`
	HostName   string `cbor:"3,keyasint,omitempty"`
	Mountpoint string `cbor:"4,keyasint,omitempty"`
	Mode       string `cbor:"5,keyasint,omitempty"`
}

func (UpdateAttachment) kind() Kind { return kindUpdateAttachment }

func (c UpdateAttachment) apply(s *State, m Meta) error {
	old, ok := s.attachments.Get(c.ID)
	if !ok {
		return noAttachment(c.ID)
	}
	a := new(*old)
	a.UpdatedAt = m.At
	if c.Complete {
		a.Status = AttachAttached
	} else {
		a.Status, a.Connected, a.AttachedAt = AttachAttaching, true, m.At
		a.HostName, a.Mountpoint, a.Mode = c.HostName, c.Mountpoint, c.Mode
	}
	return s.editVolumeWith(a.VolumeID, m, func(v, _ *Volume) error {
		if v.busy() {
			return statusRefusal(v.Status, "one that no operation is about to end")
		}
		v.Status = StatusAttaching
		if c.Complete {
			v.Status = StatusInUse
		}
		s.putAttachment(a)
		return nil
	})
}

// DeleteAttachments notes that a volume is no longer used: by one attachment, or,
// without an id, by nobody.
type DeleteAttachments struct {
	VolumeID string `cbor:"1,keyasint"`
	ID       string `cbor:"2,keyasint,omitempty"`
}

func (DeleteAttachments) kind() Kind { return kindDeleteAttachments }

func (c DeleteAttachments) apply(s *State, m Meta) error {
	if a, ok := s.attachments.Get(c.ID); c.ID != "" && (!ok || a.VolumeID != c.VolumeID) {
		return noAttachment(c.ID)
	}
	return s.editVolumeWith(c.VolumeID, m, func(v, _ *Volume) error {
		for _, a := range s.Attachments(v.ID) {
			if c.ID == "" || a.ID == c.ID {
				s.dropAttachment(&a)
			}
		}
		if !s.attached(v.ID) && !v.busy() {
			v.detach()
		}
		return nil
	})
}

// detach makes a volume that nobody uses available.
func (v *Volume) detach() {
	if slices.Contains([]VolumeStatus{StatusInUse, StatusReserved, StatusAttaching, StatusDetaching}, v.Status) {
		v.Status = StatusAvailable
	}
	if at, ok := findPair(v.AdminMetadata, metadataAttachedMode); ok {
		v.AdminMetadata = append(v.AdminMetadata[:at:at], v.AdminMetadata[at+1:]...)
	}
}
