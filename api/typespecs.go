package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

// storedType returns the volume type that a path means, if its extra specs can be
// changed.
func (s *Server) storedType(x *exchange) (fsm.VolumeType, error) {
	t, err := s.typeByID(x)
	if err != nil {
		return t, err
	}
	if t.ID == defaultTypeID {
		return t, badRequest("The volume type %s is the default volume type and cannot be changed.", t.ID)
	}
	return t, nil
}

// addExtraSpecs answers POST types/{id}/extra_specs with what was added.
func (s *Server) addExtraSpecs(x *exchange) error {
	body, err := s.valid(x, "extra_specs")
	if err != nil {
		return err
	}
	return s.setExtraSpecs(x, body, func(pairs []fsm.KeyValue) any { return map[string]any{"extra_specs": metadata(pairs)} })
}

// setExtraSpec answers PUT types/{id}/extra_specs/{key}.
func (s *Server) setExtraSpec(x *exchange) error {
	body, err := s.valid(x, "extra_spec")
	if err != nil {
		return err
	}
	if key := body.only(); key != x.params.ByName("key") {
		return badRequest("Request body and URI mismatch")
	}
	return s.setExtraSpecs(x, object{"extra_specs": body.raw()}, func(pairs []fsm.KeyValue) any { return metadata(pairs) })
}

func (s *Server) setExtraSpecs(x *exchange, body object, answer func([]fsm.KeyValue) any) error {
	pairs, err := body.metadata("extra_specs")
	if err != nil {
		return err
	}
	t, err := s.storedType(x)
	if err != nil {
		return err
	}
	if err := s.act(x, t.ID, fsm.SetExtraSpecs{ID: t.ID, Set: pairs}); err != nil {
		return fmt.Errorf("extra specs of %s: %w", t.Name, err)
	}
	x.json(http.StatusOK, typeJSON, answer(pairs))
	return nil
}

func noExtraSpec(id, key string) error {
	return newFault(http.StatusNotFound, "Volume Type %s has no extra specs with key %s.", id, key)
}

// showExtraSpec answers GET types/{id}/extra_specs/{key}.
func (s *Server) showExtraSpec(x *exchange) error {
	t, err := s.typeByID(x)
	if err != nil {
		return err
	}
	key := x.params.ByName("key")
	i := slices.IndexFunc(t.ExtraSpecs, func(kv fsm.KeyValue) bool { return kv.Key == key })
	if i < 0 {
		return noExtraSpec(t.ID, key)
	}
	x.json(http.StatusOK, typeJSON, metadata(t.ExtraSpecs[i:i+1]))
	return nil
}

// dropExtraSpec answers DELETE types/{id}/extra_specs/{key}.
func (s *Server) dropExtraSpec(x *exchange) error {
	t, err := s.storedType(x)
	if err != nil {
		return err
	}
	key := x.params.ByName("key")
	err = s.act(x, t.ID, fsm.SetExtraSpecs{ID: t.ID, Drop: key})
	if r, ok := refusedFor(err, fsm.ErrNotFound); ok && r.Field == "key" {
		return noExtraSpec(t.ID, key)
	}
	if err != nil {
		return fmt.Errorf("extra specs of %s: %w", t.Name, err)
	}
	x.empty(http.StatusAccepted, typeJSON)
	return nil
}

// updateType answers PUT types/{id}.
func (s *Server) updateType(x *exchange) error {
	body, err := s.valid(x, "type_update")
	if err != nil {
		return err
	}
	asked := body.sub("volume_type")
	if !asked.has("name") && !asked.has("description") && !asked.has("is_public") {
		return badRequest("Specify volume type name, description, is_public or a combination thereof.")
	}
	if asked.has("name") && strings.TrimSpace(asked.text("name")) == "" {
		return badRequest("Volume type name can not be empty.")
	}
	t, err := s.storedType(x)
	if err != nil {
		return err
	}
	cmd := fsm.EditVolumeType{ID: t.ID, Name: asked.maybe("name"), Description: asked.maybe("description")}
	if asked.has("is_public") {
		public, err := asked.flag("is_public", "true")
		if err != nil {
			return err
		}
		private := !public
		cmd.Private = &private
	}
	if err := s.act(x, t.ID, cmd); err != nil {
		return fmt.Errorf("volume type %s: %w", t.Name, err)
	}
	if t, err = s.typeByID(x); err != nil {
		return err
	}
	row := typeRow(&t)
	delete(row, "os-volume-type-access:is_public") // which Cinder adds everywhere else
	x.json(http.StatusOK, typeJSON, map[string]any{"volume_type": row})
	return nil
}

// maybe returns a field that is a string, nil without one.
func (o object) maybe(name string) *string {
	if !o.has(name) {
		return nil
	}
	return new(o.text(name))
}
