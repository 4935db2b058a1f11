package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

func noGroup(id string) error {
	return newFault(http.StatusNotFound, "Group %s could not be found.", id)
}

// groupSummary writes as much of a group as a list has.
func groupSummary(g *fsm.Group) map[string]any {
	return map[string]any{"id": g.ID, "name": orNull(g.Name)}
}

// groupDetail writes a group as Cinder does.
func (x *exchange) groupDetail(state *fsm.State, g *fsm.Group) map[string]any {
	row := map[string]any{
		"id": g.ID, "status": g.Status, "availability_zone": zone, "created_at": stamp(g.CreatedAt),
		"name": orNull(g.Name), "description": orNull(g.Description), "group_type": g.GroupType, "volume_types": g.VolumeTypes,
	}
	if x.version >= withGroupSnapshots {
		row["group_snapshot_id"], row["source_group_id"] = nil, nil
	}
	if x.version >= withGroupVolumes && isTrue(x.query.Get("list_volume")) {
		row["volumes"] = append([]string{}, state.GroupVolumes(g.ID)...)
	}
	if x.version >= withGroupReplication {
		row["replication_status"] = g.ReplicationStatus
	}
	if x.version >= withGroupProject && x.admin {
		row["project_id"] = g.ProjectID
	}
	return row
}

func groupFilters() map[string]func(fsm.Group) any {
	return map[string]func(fsm.Group) any{
		"id":                 func(g fsm.Group) any { return g.ID },
		"name":               func(g fsm.Group) any { return g.Name },
		"description":        func(g fsm.Group) any { return g.Description },
		"status":             func(g fsm.Group) any { return string(g.Status) },
		"group_type_id":      func(g fsm.Group) any { return g.GroupType },
		"replication_status": func(g fsm.Group) any { return string(g.ReplicationStatus) },
		"availability_zone":  func(fsm.Group) any { return zone },
		"cluster_name":       func(g fsm.Group) any { return func(want string) bool { return g.Cluster == withoutPool(want) } },
		"project_id":         func(g fsm.Group) any { return g.ProjectID },
		"user_id":            func(g fsm.Group) any { return g.UserID },
	}
}

// listGroups answers GET groups.
func (s *Server) listGroups(x *exchange) error {
	return s.groupList(x, func(_ *fsm.State, g *fsm.Group) map[string]any { return groupSummary(g) })
}

func (s *Server) groupList(x *exchange, row func(*fsm.State, *fsm.Group) map[string]any) error {
	p, err := x.page()
	if err != nil {
		return err
	}
	delete(p.filters, "list_volume")
	p.uncounted(x)
	if err := s.look(x); err != nil {
		return err
	}
	state := s.node.Clone()
	return list(x, p, lister[fsm.Group]{
		noun: "groups", links: "group_links", rows: state.Groups, get: state.Group, missing: noGroup,
		id: func(g fsm.Group) string { return g.ID }, index: func(g fsm.Group) uint64 { return g.Index },
		row:  func(g fsm.Group) map[string]any { return row(state, &g) },
		open: []string{"name"}, filters: groupFilters(),
		sorts: map[string]func(a, b fsm.Group) int{
			"id":                func(a, b fsm.Group) int { return cmp.Compare(a.ID, b.ID) },
			"name":              func(a, b fsm.Group) int { return cmp.Compare(a.Name, b.Name) },
			"status":            func(a, b fsm.Group) int { return cmp.Compare(a.Status, b.Status) },
			"group_type_id":     func(a, b fsm.Group) int { return cmp.Compare(a.GroupType, b.GroupType) },
			"availability_zone": func(fsm.Group, fsm.Group) int { return 0 },
			"created_at":        func(a, b fsm.Group) int { return cmp.Compare(a.Index, b.Index) },
			"updated_at":        func(a, b fsm.Group) int { return cmp.Compare(a.UpdatedAt, b.UpdatedAt) },
		},
	})
}

// showGroup answers GET groups/{id}, and GET groups/detail.
func (s *Server) showGroup(x *exchange) error {
	id := x.params.ByName("id")
	if id == "detail" {
		return s.groupList(x, x.groupDetail)
	}
	if x.version >= withGroupVolumes && x.query.Has("list_volume") {
		if _, err := parseBool("list_volume", x.query.Get("list_volume")); err != nil {
			return err
		}
	}
	g, err := s.group(x, id)
	if err != nil {
		return err
	}
	var row map[string]any
	s.node.View(func(state *fsm.State) { row = x.groupDetail(state, &g) })
	x.json(http.StatusOK, typeJSON, map[string]any{"group": row})
	return nil
}

func (s *Server) group(x *exchange, id string) (g fsm.Group, err error) {
	if err := s.look(x); err != nil {
		return g, err
	}
	ok := false
	s.node.View(func(state *fsm.State) { g, ok = state.Group(id) })
	if !ok || !x.sees(g.ProjectID) {
		return g, noGroup(id)
	}
	return g, nil
}

// createGroup answers POST groups. It is there at once: the storage has nothing to do
// before it has a volume.
func (s *Server) createGroup(x *exchange) error {
	body, err := s.valid(x, "group_create")
	if err != nil {
		return err
	}
	asked := body.sub("group")
	if az := asked.text("availability_zone"); az != "" && az != zone {
		return fieldFault("availability_zone", az, fmt.Sprintf("%sAvailability zone '%s' is invalid.", prefixInvalid, az), zone)
	}
	if err := s.look(x); err != nil {
		return err
	}
	up, _, err := s.presence(x)
	if err != nil {
		return err
	}
	g, err := s.newGroup(s.node.Clone(), asked, up)
	if err != nil {
		return err
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	g.ID, g.ProjectID, g.UserID = ids.of("group"), x.project, x.user
	if err := s.commit(x, ids, g.ID, fsm.CreateGroup{Group: g}); err != nil {
		return groupRefusal(fmt.Errorf("create group: %w", err))
	}
	x.json(http.StatusAccepted, typeJSON, map[string]any{"group": groupSummary(&g)})
	return nil
}

// newGroup returns the group that a body asks for, in a cluster that can have volumes
// of all of its types.
func (s *Server) newGroup(state *fsm.State, asked object, up map[string]Presence) (g fsm.Group, err error) {
	kind, err := wantedGroupType(state, asked.text("group_type"))
	if err != nil {
		return g, err
	}
	g = fsm.Group{
		Name: strings.TrimSpace(asked.text("name")), Description: strings.TrimSpace(asked.text("description")), GroupType: kind.ID,
	}
	var types []*fsm.VolumeType
	for _, name := range asked.texts("volume_types") {
		t, err := wantedType(state, name)
		if err != nil {
			return g, err
		}
		types, g.VolumeTypes = append(types, &t), append(g.VolumeTypes, t.ID)
	}
	host, err := s.place(state, up, types...)
	if err != nil {
		return g, err
	}
	svc, _ := state.Service(host)
	g.Cluster = svc.Group()
	return g, nil
}

// updateGroup answers PUT groups/{id}.
func (s *Server) updateGroup(x *exchange) error {
	body, err := s.valid(x, "group_update")
	if err != nil {
		return err
	}
	g, err := s.group(x, x.params.ByName("id"))
	if err != nil {
		return err
	}
	asked := body.sub("group")
	cmd := fsm.EditGroup{ID: g.ID, Add: idList(asked.text("add_volumes")), Remove: idList(asked.text("remove_volumes"))}
	if name := strings.TrimSpace(asked.text("name")); asked.has("name") && name != g.Name {
		cmd.Name = &name
	}
	if description := strings.TrimSpace(asked.text("description")); asked.has("description") && description != g.Description {
		cmd.Description = &description
	}
	s.node.View(func(state *fsm.State) { err = x.checkGroupVolumes(state, &g, &cmd) })
	if err != nil {
		return err
	}
	if cmd.Name == nil && cmd.Description == nil && len(cmd.Add)+len(cmd.Remove) == 0 {
		return badRequest("Invalid Group: Cannot update group %s because no valid name, description, add_volumes, or remove_volumes were provided.", g.ID)
	}
	if err := s.act(x, g.ID, cmd); err != nil {
		return groupRefusal(fmt.Errorf("group %s: %w", g.ID, err))
	}
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}

// idList reads ids that are separated by commas.
func idList(text string) []string {
	if text = strings.Trim(text, ","); text == "" {
		return nil
	}
	ids := strings.Split(text, ",")
	for i := range ids {
		ids[i] = strings.TrimSpace(ids[i])
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// checkGroupVolumes says in Cinder's words which volumes cannot be added or removed.
// Those that are in the group already are dropped from what is added.
func (x *exchange) checkGroupVolumes(state *fsm.State, g *fsm.Group, cmd *fsm.EditGroup) error {
	var both []string
	for _, id := range cmd.Add {
		if slices.Contains(cmd.Remove, id) {
			both = append(both, id)
		}
	}
	if both != nil {
		return badRequest("Invalid volume: UUIDs [%s] are in both add and remove volume list.", quoteAll(both))
	}
	cmd.Add = slices.DeleteFunc(cmd.Add, func(id string) bool { v, ok := state.Volume(id); return ok && v.GroupID == g.ID })
	for _, id := range cmd.Add {
		if why := x.whyNotAdded(state, g, id); why != "" {
			return badRequest("Invalid volume: Cannot add volume %s to group %s %s", id, g.ID, why)
		}
	}
	for _, id := range cmd.Remove {
		v, ok := state.Volume(id)
		valid := []string{"available", "in-use", "error", "error_deleting"}
		if !ok || v.GroupID != g.ID {
			return badRequest("Invalid volume: Cannot remove volume %s from group %s because it is not in the group.", id, g.ID)
		}
		if !slices.Contains(valid, string(v.Status)) {
			return badRequest("Invalid volume: Cannot remove volume %s from group %s because volume is in an invalid state: %s. Valid states are: (%s).",
				id, g.ID, v.Status, quoteAll(valid))
		}
	}
	return nil
}

func (x *exchange) whyNotAdded(state *fsm.State, g *fsm.Group, id string) string {
	v, ok := state.Volume(id)
	t, _ := volumeType(state, v.VolumeType)
	valid := []string{"available", "in-use"}
	switch {
	case !ok || !x.sees(v.ProjectID):
		return "because volume cannot be found."
	case v.GroupID != "":
		return fmt.Sprintf("because it is already in group %s.", v.GroupID)
	case v.ProjectID != g.ProjectID:
		return "as they belong to different projects."
	case t.ID == "":
		return "because it has no volume type."
	case !slices.Contains(g.VolumeTypes, t.ID):
		return fmt.Sprintf("because volume type %s is not supported by the group.", t.ID)
	case !slices.Contains(valid, string(v.Status)):
		return fmt.Sprintf("because volume is in an invalid state: %s. Valid states are: (%s).", v.Status, quoteAll(valid))
	}
	return ""
}

// groupRefusal says in Cinder's words what a command about a group was refused for.
func groupRefusal(err error) error {
	r, ok := errors.AsType[*fsm.Refusal](err)
	if !ok || r.Code != fsm.ErrConflict {
		return err
	}
	prefix := map[string]string{
		"group_id": "Invalid Group: ", "volume_id": "Invalid volume: ", "add_volumes": "Invalid volume: ", "remove_volumes": "Invalid volume: ",
		"status": "Invalid volume: ", "group_type": "Invalid group type: ", "volume_type": "Invalid volume type: ",
	}[r.Field]
	if prefix == "" {
		return err
	}
	return badRequest("%s%s", prefix, r.Message)
}
