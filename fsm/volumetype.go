package fsm

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// VolumeType is a kind of volume that users choose from. One whose extra spec
// replication_enabled is "<is> True" makes replicated volumes.
type VolumeType struct {
	ID          string     `cbor:"1,keyasint"`
	Name        string     `cbor:"2,keyasint"`
	Description string     `cbor:"3,keyasint,omitempty"`
	Private     bool       `cbor:"4,keyasint,omitempty"`
	ExtraSpecs  []KeyValue `cbor:"5,keyasint,omitempty"` // by key
	CreatedAt   Time       `cbor:"6,keyasint,omitempty"`
	UpdatedAt   Time       `cbor:"7,keyasint,omitempty"`
}

// Replicated reports whether volumes of the type are replicated.
func (t *VolumeType) Replicated() bool {
	for _, kv := range t.ExtraSpecs {
		if kv.Key == "replication_enabled" {
			return strings.EqualFold(strings.TrimSpace(kv.Value), "<is> true")
		}
	}
	return false
}

// VolumeTypes yields all volume types by id.
func (s *State) VolumeTypes() iter.Seq[VolumeType] { return values(&s.volumeTypes) }

// VolumeType returns the volume type with the given id or name.
func (s *State) VolumeType(idOrName string) (VolumeType, bool) {
	if t, ok := s.volumeTypes.Get(idOrName); ok {
		return *t, true
	}
	for t := range s.VolumeTypes() {
		if t.Name == idOrName {
			return t, true
		}
	}
	return VolumeType{}, false
}

// CreateVolumeType adds a volume type. Its name must be new.
type CreateVolumeType struct {
	Type VolumeType `cbor:"1,keyasint"`
}

func (CreateVolumeType) kind() Kind { return kindCreateVolumeType }

func (c CreateVolumeType) apply(s *State, m Meta) error {
	t := c.Type
	if t.ID == "" || t.Name == "" || len(t.Name) > 255 {
		return refuseField(ErrInvalid, "name", t.Name, "a volume type needs an id and a name of 1 to 255 characters")
	}
	if _, taken := s.VolumeType(t.Name); taken {
		return refuseField(ErrExists, "name", t.Name, fmt.Sprintf("Volume Type %s already exists.", t.Name))
	}
	if _, taken := s.volumeTypes.Get(t.ID); taken {
		return refuseField(ErrExists, "id", t.ID, fmt.Sprintf("Volume Type %s already exists.", t.ID))
	}
	t.CreatedAt = m.At
	s.volumeTypes.Set(t.ID, &t)
	return nil
}

// DeleteVolumeType removes a volume type. Volumes of it stay as they are.
type DeleteVolumeType struct {
	ID string `cbor:"1,keyasint"`
}

func (DeleteVolumeType) kind() Kind { return kindDeleteVolumeType }

func (c DeleteVolumeType) apply(s *State, _ Meta) error {
	if _, ok := s.volumeTypes.Delete(c.ID); !ok {
		return refuseField(ErrNotFound, "id", c.ID, fmt.Sprintf("Volume type %s could not be found.", c.ID))
	}
	return nil
}

// SetExtraSpecs sets extra specs of a volume type, and drops one. Volumes that
// exist stay as they are.
type SetExtraSpecs struct {
	ID   string     `cbor:"1,keyasint"`
	Set  []KeyValue `cbor:"2,keyasint,omitempty"`
	Drop string     `cbor:"3,keyasint,omitempty"`
}

func (SetExtraSpecs) kind() Kind { return kindSetExtraSpecs }

func (c SetExtraSpecs) apply(s *State, m Meta) error {
	old, ok := s.volumeTypes.Get(c.ID)
	if !ok {
		return refuseField(ErrNotFound, "id", c.ID, fmt.Sprintf("Volume type %s could not be found.", c.ID))
	}
	t := new(*old)
	t.ExtraSpecs = setPairs(t.ExtraSpecs, c.Set)
	if c.Drop != "" {
		at, ok := findPair(t.ExtraSpecs, c.Drop)
		if !ok {
			return refuseField(ErrNotFound, "key", c.Drop, fmt.Sprintf(
				"Volume Type %s has no extra specs with key %s.", c.ID, c.Drop))
		}
		t.ExtraSpecs = slices.Delete(t.ExtraSpecs, at, at+1)
	}
	if len(t.ExtraSpecs) > maxMetadata {
		return refuseField(ErrTooLarge, "extra_specs", fmt.Sprint(len(t.ExtraSpecs)), fmt.Sprintf("at most %d extra specs are allowed", maxMetadata))
	}
	t.UpdatedAt = m.At
	s.volumeTypes.Set(t.ID, t)
	return nil
}

// EditVolumeType changes what a volume type is called and described by. Volumes of
// it keep the name that they were made with, so a type in use keeps its own.
type EditVolumeType struct {
	ID          string  `cbor:"1,keyasint"`
	Name        *string `cbor:"2,keyasint,omitempty"`
	Description *string `cbor:"3,keyasint,omitempty"`
	Private     *bool   `cbor:"4,keyasint,omitempty"`
}

func (EditVolumeType) kind() Kind { return kindEditVolumeType }

func (c EditVolumeType) apply(s *State, m Meta) error {
	old, ok := s.volumeTypes.Get(c.ID)
	if !ok {
		return refuseField(ErrNotFound, "id", c.ID, fmt.Sprintf("Volume type %s could not be found.", c.ID))
	}
	t := new(*old)
	if c.Name != nil && *c.Name != t.Name {
		if *c.Name == "" || len(*c.Name) > 255 {
			return refuseField(ErrInvalid, "name", *c.Name, "a volume type needs a name of 1 to 255 characters")
		}
		if _, taken := s.VolumeType(*c.Name); taken {
			return refuseField(ErrExists, "name", *c.Name, fmt.Sprintf("Volume Type %s already exists.", *c.Name))
		}
		if s.typeUsed(t.Name) {
			return refuseField(ErrConflict, "name", t.Name, fmt.Sprintf("volumes of the type %s exist: it keeps its name", t.Name))
		}
		t.Name = *c.Name
	}
	if c.Description != nil {
		t.Description = *c.Description
	}
	if c.Private != nil {
		t.Private = *c.Private
	}
	t.UpdatedAt = m.At
	s.volumeTypes.Set(t.ID, t)
	return nil
}

func (s *State) typeUsed(name string) bool {
	used := false
	s.volumes.Scan(func(_ string, r *record) bool {
		used = r.volumeType == name
		return !used
	})
	return used
}
