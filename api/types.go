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

// The volume type that there always is, unless one of that name was made.
const (
	defaultTypeName = "__DEFAULT__"
	defaultTypeID   = "d3fa0170-0000-4000-8000-10c557e90000"
)

func defaultType() fsm.VolumeType {
	return fsm.VolumeType{ID: defaultTypeID, Name: defaultTypeName, Description: "Default Volume Type"}
}

// volumeType returns a volume type by id or name.
func volumeType(state *fsm.State, idOrName string) (fsm.VolumeType, bool) {
	if t, ok := state.VolumeType(idOrName); ok {
		return t, true
	}
	if idOrName == defaultTypeID || idOrName == defaultTypeName {
		return defaultType(), true
	}
	return fsm.VolumeType{}, false
}

// allTypes returns all volume types, in the order of their creation.
func allTypes(state *fsm.State) []fsm.VolumeType {
	all := slices.Collect(state.VolumeTypes())
	if t, _ := volumeType(state, defaultTypeName); t.ID == defaultTypeID {
		all = append(all, t)
	}
	slices.SortStableFunc(all, func(a, b fsm.VolumeType) int { return cmp.Compare(a.CreatedAt, b.CreatedAt) })
	return all
}

// wantedType returns the volume type that a new volume asks for.
func wantedType(state *fsm.State, idOrName string) (fsm.VolumeType, error) {
	t, ok := volumeType(state, idOrName)
	switch {
	case ok:
		return t, nil
	case uuid.Validate(idOrName) == nil:
		return t, noType(idOrName)
	}
	return t, newFault(http.StatusNotFound, "Volume type with name %s could not be found.", idOrName)
}

func noType(id string) error {
	return newFault(http.StatusNotFound, "Volume type %s could not be found.", id)
}

// typeRow writes a volume type as Cinder does.
func typeRow(t *fsm.VolumeType) map[string]any {
	return map[string]any{
		"id": t.ID, "name": t.Name, "is_public": !t.Private, "os-volume-type-access:is_public": !t.Private,
		"description": orNull(t.Description), "extra_specs": metadata(t.ExtraSpecs),
	}
}

// typeDetail adds what only an administrator sees, and takes away the extra specs
// that are not for everybody.
func (x *exchange) typeDetail(t *fsm.VolumeType) map[string]any {
	row := typeRow(t)
	if x.admin {
		row["qos_specs_id"] = nil
		return row
	}
	seen := slices.DeleteFunc(slices.Clone(t.ExtraSpecs), func(kv fsm.KeyValue) bool {
		return !slices.Contains([]string{"replication_enabled", "multiattach", "RESKEY:availability_zones"}, kv.Key)
	})
	row["extra_specs"] = metadata(seen)
	return row
}

// listedType is a volume type and its place among all, by creation.
type listedType struct {
	fsm.VolumeType

	at uint64
}

// listsTypes says which types a list has, of volumes or of groups: the public ones,
// unless is_public of an administrator says otherwise.
func (x *exchange) listsTypes() (wanted func(private bool) bool, err error) {
	asked, public := x.query.Get("is_public"), true
	if x.admin && x.query.Has("is_public") {
		if strings.EqualFold(asked, "none") {
			return func(bool) bool { return true }, nil
		}
		if public, err = parseBool("is_public", asked); err != nil {
			return nil, badRequest("Invalid is_public filter [%s]", cut(asked))
		}
	}
	return func(private bool) bool { return private != public }, nil
}

// listTypes answers GET types, newest first.
func (s *Server) listTypes(x *exchange) error {
	wanted, err := x.listsTypes()
	if err != nil {
		return err
	}
	p, err := x.page()
	if err != nil {
		return err
	}
	delete(p.filters, "is_public")
	delete(p.filters, "project_id") // types belong to none
	if err := s.look(x); err != nil {
		return err
	}
	all := allTypes(s.node.Clone())
	get := func(id string) (listedType, bool) {
		i := slices.IndexFunc(all, func(t fsm.VolumeType) bool { return t.ID == id })
		if i < 0 {
			return listedType{}, false
		}
		return listedType{all[i], uint64(i + 1)}, true
	}
	if _, ok := get(p.marker); !ok {
		p.marked = false // as Cinder has it here
	}
	return list(x, p, lister[listedType]{
		noun: "volume_types", links: "volume_type_links", get: get, missing: noType, open: []string{"extra_specs"},
		rows: func(before uint64) iter.Seq[listedType] {
			return func(yield func(listedType) bool) {
				for i, t := range slices.Backward(all) {
					if at := uint64(i + 1); (before == 0 || at < before) && wanted(t.Private) && !yield(listedType{t, at}) {
						return
					}
				}
			}
		},
		id:    func(t listedType) string { return t.ID },
		index: func(t listedType) uint64 { return t.at },
		row:   func(t listedType) map[string]any { return x.typeDetail(&t.VolumeType) },
		filters: map[string]func(listedType) any{
			"id":          func(t listedType) any { return t.ID },
			"name":        func(t listedType) any { return t.Name },
			"description": func(t listedType) any { return t.Description },
			"extra_specs": func(t listedType) any { return pairFilter(t.ExtraSpecs) },
		},
		sorts: map[string]func(a, b listedType) int{
			"id":          func(a, b listedType) int { return cmp.Compare(a.ID, b.ID) },
			"name":        func(a, b listedType) int { return cmp.Compare(a.Name, b.Name) },
			"description": func(a, b listedType) int { return cmp.Compare(a.Description, b.Description) },
			"created_at":  func(a, b listedType) int { return cmp.Compare(a.at, b.at) },
			"updated_at":  func(a, b listedType) int { return cmp.Compare(a.UpdatedAt, b.UpdatedAt) },
		},
	})
}

func (s *Server) typeByID(x *exchange) (t fsm.VolumeType, err error) {
	if err := s.look(x); err != nil {
		return t, err
	}
	id := x.params.ByName("id")
	ok := false
	s.node.View(func(state *fsm.State) {
		if t, ok = volumeType(state, id); t.ID != id {
			ok = false
		}
		if id == "default" {
			t, ok = volumeType(state, defaultTypeName)
		}
	})
	if !ok || t.Private && !x.admin {
		return t, noType(id)
	}
	return t, nil
}

// showType answers GET types/{id}, and GET types/default.
func (s *Server) showType(x *exchange) error {
	t, err := s.typeByID(x)
	if err != nil {
		return err
	}
	row := x.typeDetail(&t)
	if x.params.ByName("id") == "default" {
		delete(row, "os-volume-type-access:is_public")
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"volume_type": row})
	return nil
}

func (s *Server) showExtraSpecs(x *exchange) error {
	t, err := s.typeByID(x)
	if err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"extra_specs": metadata(t.ExtraSpecs)})
	return nil
}

// createType answers POST types.
func (s *Server) createType(x *exchange) error {
	body, err := s.valid(x, "type_create")
	if err != nil {
		return err
	}
	asked := body.sub("volume_type")
	public, err := asked.flag("os-volume-type-access:is_public", "true")
	if err != nil {
		return err
	}
	specs, err := asked.metadata("extra_specs")
	if err != nil {
		return err
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	t := fsm.VolumeType{ID: ids.of("type"), Name: asked.text("name"), Description: asked.text("description"), Private: !public, ExtraSpecs: specs}
	if err := s.commit(x, ids, t.ID, fsm.CreateVolumeType{Type: t}); err != nil {
		return fmt.Errorf("create volume type %s: %w", t.Name, err)
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"volume_type": typeRow(&t)})
	return nil
}

// deleteType answers DELETE types/{id}.
func (s *Server) deleteType(x *exchange) error {
	t, err := s.typeByID(x)
	if err != nil {
		return err
	}
	if t.Name == defaultTypeName {
		return badRequest("The volume type %s is a default volume type and cannot be deleted.", t.ID)
	}
	for v := range s.node.Clone().Volumes(0) {
		if v.VolumeType == t.Name {
			return badRequest("Target volume type is still in use.")
		}
	}
	if err := s.act(x, t.ID, fsm.DeleteVolumeType{ID: t.ID}); err != nil {
		return fmt.Errorf("delete volume type %s: %w", t.ID, err)
	}
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}
