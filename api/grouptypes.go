package api

import (
	"cmp"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/lockstep-storage/lockstep/fsm"
)

// The group type that Cinder keeps for what consistency groups once were. It is
// listed, and serves for nothing.
const (
	reservedGroupTypeName = "default_cgsnapshot_type"
	reservedGroupTypeID   = "d3fa0170-0000-4000-8000-10c557e90001"
)

func reservedGroupType() fsm.GroupType {
	description := "Default group type for migrating cgsnapshot"
	return fsm.GroupType{
		ID: reservedGroupTypeID, Name: reservedGroupTypeName, Description: &description,
		Specs: []fsm.KeyValue{{Key: "consistent_group_snapshot_enabled", Value: "<is> True"}},
	}
}

// groupType returns a group type by id.
func groupType(state *fsm.State, id string) (fsm.GroupType, bool) {
	if id == reservedGroupTypeID {
		return reservedGroupType(), true
	}
	t, ok := state.GroupType(id)
	return t, ok && t.ID == id
}

// wantedGroupType returns the group type that a new group asks for, by id or name.
func wantedGroupType(state *fsm.State, idOrName string) (fsm.GroupType, error) {
	t, ok := state.GroupType(idOrName)
	switch {
	case idOrName == reservedGroupTypeID || idOrName == reservedGroupTypeName:
		return t, badRequest("Group_type %s is reserved for migrating CGs to groups. Migrated group can only be operated by CG APIs.", reservedGroupTypeID)
	case ok:
		return t, nil
	case uuid.Validate(idOrName) == nil:
		return t, noGroupType(idOrName)
	}
	return t, newFault(http.StatusNotFound, "Group type with name %s could not be found.", idOrName)
}

func noGroupType(id string) error {
	return newFault(http.StatusNotFound, "Group type %s could not be found.", id)
}

// groupTypeRow writes a group type as Cinder does. Its specs are for administrators.
func (x *exchange) groupTypeRow(t *fsm.GroupType) map[string]any {
	row := map[string]any{"id": t.ID, "name": t.Name, "description": t.Description, "is_public": !t.Private}
	if x.admin {
		row["group_specs"] = metadata(t.Specs)
	}
	return row
}

// listGroupTypes answers GET group_types, newest first.
func (s *Server) listGroupTypes(x *exchange) error {
	wanted, err := x.listsTypes()
	if err != nil {
		return err
	}
	p, err := x.page()
	if err != nil {
		return err
	}
	p.filters, p.count = map[string]string{}, false // Cinder knows no other filter here
	if err := s.look(x); err != nil {
		return err
	}
	state := s.node.Clone()
	return list(x, p, lister[fsm.GroupType]{
		noun: "group_types", links: "group_type_links", missing: noGroupType,
		rows: func(before uint64) iter.Seq[fsm.GroupType] {
			return groupTypes(state, before, wanted)
		},
		get:   func(id string) (fsm.GroupType, bool) { return groupType(state, id) },
		id:    func(t fsm.GroupType) string { return t.ID },
		index: func(t fsm.GroupType) uint64 { return t.Index },
		row:   func(t fsm.GroupType) map[string]any { return x.groupTypeRow(&t) },
		sorts: map[string]func(a, b fsm.GroupType) int{
			"id":         func(a, b fsm.GroupType) int { return cmp.Compare(a.ID, b.ID) },
			"name":       func(a, b fsm.GroupType) int { return cmp.Compare(a.Name, b.Name) },
			"created_at": func(a, b fsm.GroupType) int { return cmp.Compare(a.Index, b.Index) },
			"updated_at": func(a, b fsm.GroupType) int { return cmp.Compare(a.UpdatedAt, b.UpdatedAt) },
		},
	})
}

// groupTypes yields the group types of before the log index before, newest first; the
// reserved one is the oldest.
func groupTypes(state *fsm.State, before uint64, wanted func(private bool) bool) iter.Seq[fsm.GroupType] {
	all := append(slices.Collect(state.GroupTypes()), reservedGroupType())
	slices.SortStableFunc(all, func(a, b fsm.GroupType) int { return cmp.Compare(b.Index, a.Index) })
	return func(yield func(fsm.GroupType) bool) {
		for _, t := range all {
			if (before == 0 || t.Index < before) && wanted(t.Private) && !yield(t) {
				return
			}
		}
	}
}

func (s *Server) groupTypeByID(x *exchange) (t fsm.GroupType, err error) {
	if err := s.look(x); err != nil {
		return t, err
	}
	id, ok := x.params.ByName("id"), false
	s.node.View(func(state *fsm.State) { t, ok = groupType(state, id) })
	if !ok {
		return t, noGroupType(id)
	}
	return t, nil
}

// storedGroupType returns the group type of the path, if it can be changed.
func (s *Server) storedGroupType(x *exchange) (fsm.GroupType, error) {
	t, err := s.groupTypeByID(x)
	if err == nil && t.ID == reservedGroupTypeID {
		err = badRequest("The group type %s is reserved and cannot be changed.", t.ID)
	}
	return t, err
}

// showGroupType answers GET group_types/{id}. There is no default one.
func (s *Server) showGroupType(x *exchange) error {
	if x.params.ByName("id") == "default" {
		return newFault(http.StatusNotFound, "Default group type can not be found.")
	}
	t, err := s.groupTypeByID(x)
	if err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"group_type": x.groupTypeRow(&t)})
	return nil
}

// createGroupType answers POST group_types.
func (s *Server) createGroupType(x *exchange) error {
	body, err := s.valid(x, "group_type_create")
	if err != nil {
		return err
	}
	asked := body.sub("group_type")
	public, err := asked.flag("is_public", "true")
	if err != nil {
		return err
	}
	specs, err := asked.metadata("group_specs")
	if err != nil {
		return err
	}
	if asked.text("name") == reservedGroupTypeName {
		return newFault(http.StatusConflict, "Group Type %s already exists.", reservedGroupTypeName)
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	t := fsm.GroupType{ID: ids.of("group type"), Name: asked.text("name"), Description: asked.maybe("description"), Private: !public, Specs: specs}
	if err := s.commit(x, ids, t.ID, fsm.CreateGroupType{Type: t}); err != nil {
		return fmt.Errorf("create group type %s: %w", t.Name, err)
	}
	x.json(http.StatusAccepted, typeJSON, map[string]any{"group_type": x.groupTypeRow(&t)})
	return nil
}

// updateGroupType answers PUT group_types/{id}.
func (s *Server) updateGroupType(x *exchange) error {
	body, err := s.valid(x, "group_type_update")
	if err != nil {
		return err
	}
	asked := body.sub("group_type")
	switch {
	case asked.has("name") && strings.TrimSpace(asked.text("name")) == "":
		return badRequest("Group type name can not be empty.")
	case !asked.has("name") && !asked.has("description") && !asked.has("is_public"):
		return badRequest("Specify group type name, description or a combination thereof.")
	}
	t, err := s.storedGroupType(x)
	if err != nil {
		return err
	}
	cmd := fsm.EditGroupType{ID: t.ID, Name: asked.maybe("name"), Description: asked.maybe("description")}
	if asked.has("is_public") {
		public, err := asked.flag("is_public", "true")
		if err != nil {
			return err
		}
		cmd.Private = new(!public)
	}
	if err := s.act(x, t.ID, cmd); err != nil {
		return fmt.Errorf("group type %s: %w", t.Name, err)
	}
	if t, err = s.groupTypeByID(x); err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"group_type": x.groupTypeRow(&t)})
	return nil
}

// deleteGroupType answers DELETE group_types/{id}.
func (s *Server) deleteGroupType(x *exchange) error {
	t, err := s.storedGroupType(x)
	if err != nil {
		return err
	}
	err = s.act(x, t.ID, fsm.DeleteGroupType{ID: t.ID})
	if _, ok := refusedFor(err, fsm.ErrConflict); ok {
		return badRequest("Target group type is still in use. Group Type %s deletion is not allowed with groups present with the type.", t.ID)
	}
	if err != nil {
		return fmt.Errorf("delete group type %s: %w", t.ID, err)
	}
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}

// listGroupSpecs answers GET group_types/{id}/group_specs.
func (s *Server) listGroupSpecs(x *exchange) error {
	t, err := s.groupTypeByID(x)
	if err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"group_specs": metadata(t.Specs)})
	return nil
}

// showGroupSpec answers GET group_types/{id}/group_specs/{key}.
func (s *Server) showGroupSpec(x *exchange) error {
	t, err := s.groupTypeByID(x)
	if err != nil {
		return err
	}
	key := x.params.ByName("key")
	i := slices.IndexFunc(t.Specs, func(kv fsm.KeyValue) bool { return kv.Key == key })
	if i < 0 {
		return newFault(http.StatusNotFound, "Group Type %s has no extra spec with key %s.", t.ID, key)
	}
	x.json(http.StatusOK, typeJSON, metadata(t.Specs[i:i+1]))
	return nil
}

// addGroupSpecs answers POST group_types/{id}/group_specs with what was added.
func (s *Server) addGroupSpecs(x *exchange) error {
	body, err := s.valid(x, "group_specs")
	if err != nil {
		return err
	}
	pairs, err := body.metadata("group_specs")
	if err != nil {
		return err
	}
	return s.setGroupSpecs(x, http.StatusAccepted, pairs, map[string]any{"group_specs": metadata(pairs)})
}

// setGroupSpec answers PUT group_types/{id}/group_specs/{key}.
func (s *Server) setGroupSpec(x *exchange) error {
	body, err := s.valid(x, "group_spec")
	if err != nil {
		return err
	}
	if body.only() != x.params.ByName("key") {
		return badRequest("Request body and URI mismatch")
	}
	pairs, err := object{"group_specs": body.raw()}.metadata("group_specs")
	if err != nil {
		return err
	}
	return s.setGroupSpecs(x, http.StatusOK, pairs, metadata(pairs))
}

func (s *Server) setGroupSpecs(x *exchange, status int, pairs []fsm.KeyValue, answer any) error {
	t, err := s.storedGroupType(x)
	if err != nil {
		return err
	}
	if err := s.act(x, t.ID, fsm.EditGroupType{ID: t.ID, Set: pairs}); err != nil {
		return fmt.Errorf("specs of %s: %w", t.Name, err)
	}
	x.json(status, typeJSON, answer)
	return nil
}

// dropGroupSpec answers DELETE group_types/{id}/group_specs/{key}.
func (s *Server) dropGroupSpec(x *exchange) error {
	t, err := s.storedGroupType(x)
	if err != nil {
		return err
	}
	if err := s.act(x, t.ID, fsm.EditGroupType{ID: t.ID, Drop: x.params.ByName("key")}); err != nil {
		return fmt.Errorf("specs of %s: %w", t.Name, err)
	}
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}
