package fsm

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// GroupType is a kind of group that users choose from. One whose group specs ask for
// replication makes groups that can be failed over on their own.
type GroupType struct {
	ID          string     `cbor:"1,keyasint"`
	Name        string     `cbor:"2,keyasint"`
	Description *string    `cbor:"3,keyasint,omitempty"`
	Private     bool       `cbor:"4,keyasint,omitempty"`
	Specs       []KeyValue `cbor:"5,keyasint,omitempty"` // by key
	CreatedAt   Time       `cbor:"6,keyasint,omitempty"`
	UpdatedAt   Time       `cbor:"7,keyasint,omitempty"`
	Index       uint64     `cbor:"8,keyasint,omitempty"` // log index of its creation
}

// Replicated reports whether groups of the type are replication groups, by either of
// the specs that Cinder knows.
func (t *GroupType) Replicated() bool {
	return slices.ContainsFunc(t.Specs, func(kv KeyValue) bool {
		return (kv.Key == "group_replication_enabled" || kv.Key == "consistent_group_replication_enabled") &&
			strings.EqualFold(strings.TrimSpace(kv.Value), "<is> true")
	})
}

// GroupTypes yields all group types by id.
func (s *State) GroupTypes() iter.Seq[GroupType] { return values(&s.groupTypes) }

// GroupType returns the group type with the given id or name.
func (s *State) GroupType(idOrName string) (GroupType, bool) {
	if t, ok := s.groupTypes.Get(idOrName); ok {
		return *t, true
	}
	for t := range s.GroupTypes() {
		if t.Name == idOrName {
			return t, true
		}
	}
	return GroupType{}, false
}

func noGroupType(id string) error {
	return refuseField(ErrNotFound, "group_type_id", id, fmt.Sprintf("Group type %s could not be found.", id))
}

// checkGroupTypeName refuses a name that is none, or taken.
func (s *State) checkGroupTypeName(name string) error {
	if name == "" || len(name) > 255 {
		return refuseField(ErrInvalid, "name", name, "a group type needs a name of 1 to 255 characters")
	}
	if _, taken := s.GroupType(name); taken {
		return refuseField(ErrExists, "name", name, fmt.Sprintf("Group Type %s already exists.", name))
	}
	return nil
}

// CreateGroupType adds a group type. Its name must be new.
type CreateGroupType struct {
	Type GroupType `cbor:"1,keyasint"`
}

func (CreateGroupType) kind() Kind { return kindCreateGroupType }

func (c CreateGroupType) apply(s *State, m Meta) error {
	t := c.Type
	if err := checkName("id", t.ID); err != nil {
		return err
	}
	if err := s.checkGroupTypeName(t.Name); err != nil {
		return err
	}
	if _, taken := s.GroupType(t.ID); taken {
		return refuseField(ErrExists, "id", t.ID, fmt.Sprintf("Group Type %s already exists.", t.ID))
	}
	if err := checkGroupSpecs(t.Specs); err != nil {
		return err
	}
	t.CreatedAt, t.UpdatedAt, t.Index = m.At, 0, m.Index
	s.groupTypes.Set(t.ID, &t)
	return nil
}

func checkGroupSpecs(specs []KeyValue) error {
	if len(specs) > maxMetadata {
		return refuseField(ErrTooLarge, "group_specs", fmt.Sprint(len(specs)), fmt.Sprintf("at most %d group specs are allowed", maxMetadata))
	}
	return nil
}

// EditGroupType changes what a group type is called and described by, and its specs.
// What is nil or empty stays as it is. Groups that exist stay replication groups, or
// none: where their volumes lie follows from it.
type EditGroupType struct {
	ID          string     `cbor:"1,keyasint"`
	Name        *string    `cbor:"2,keyasint,omitempty"`
	Description *string    `cbor:"3,keyasint,omitempty"`
	Private     *bool      `cbor:"4,keyasint,omitempty"`
	Set         []KeyValue `cbor:"5,keyasint,omitempty"` // specs, by key
	Drop        string     `cbor:"6,keyasint,omitempty"` // key of a spec
}

func (EditGroupType) kind() Kind { return kindEditGroupType }

func (c EditGroupType) apply(s *State, m Meta) error {
	old, ok := s.groupTypes.Get(c.ID)
	if !ok {
		return noGroupType(c.ID)
	}
	t := new(*old)
	if c.Name != nil && *c.Name != t.Name {
		if err := s.checkGroupTypeName(*c.Name); err != nil {
			return err
		}
		t.Name = *c.Name
	}
	if c.Description != nil {
		t.Description = c.Description
	}
	if c.Private != nil {
		t.Private = *c.Private
	}
	t.Specs = setPairs(t.Specs, c.Set)
	if c.Drop != "" {
		at, ok := findPair(t.Specs, c.Drop)
		if !ok {
			return refuseField(ErrNotFound, "key", c.Drop, fmt.Sprintf("Group Type %s has no specs with key %s.", c.ID, c.Drop))
		}
		t.Specs = slices.Delete(t.Specs, at, at+1)
	}
	if err := checkGroupSpecs(t.Specs); err != nil {
		return err
	}
	t.UpdatedAt = m.At
	s.groupTypes.Set(t.ID, t)
	return nil
}

// DeleteGroupType removes a group type that no group has.
type DeleteGroupType struct {
	ID string `cbor:"1,keyasint"`
}

func (DeleteGroupType) kind() Kind { return kindDeleteGroupType }

func (c DeleteGroupType) apply(s *State, _ Meta) error {
	if _, ok := s.groupTypes.Get(c.ID); !ok {
		return noGroupType(c.ID)
	}
	for g := range values(&s.groups) {
		if g.GroupType == c.ID {
			return refuseField(ErrConflict, "group_type_id", c.ID, "Target group type is still in use.")
		}
	}
	s.groupTypes.Delete(c.ID)
	return nil
}
