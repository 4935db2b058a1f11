package api

import (
	"crypto/md5" //nolint:gosec // an entity tag as Cinder makes it, not a secret
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

// described is a record that has metadata: a volume or a snapshot.
type described struct {
	noun, id string
	pairs    []fsm.KeyValue
	edit     func(fsm.Edit) fsm.Command
}

// finder returns the record that a path means.
type finder func(x *exchange) (described, error)

func (s *Server) describedVolume(x *exchange) (described, error) {
	_, v, err := s.owner(x, x.params.ByName("id"))
	return described{noun: "Volume", id: v.ID, pairs: v.Metadata, edit: func(e fsm.Edit) fsm.Command {
		return fsm.EditVolume{ID: v.ID, Edit: e}
	}}, err
}

func (s *Server) describedSnapshot(x *exchange) (described, error) {
	sn, err := s.snapshot(x, x.params.ByName("id"))
	return described{noun: "Snapshot", id: sn.ID, pairs: sn.Metadata, edit: func(e fsm.Edit) fsm.Command {
		return fsm.EditSnapshot{ID: sn.ID, Edit: e}
	}}, err
}

// metadataOf are the handlers of the metadata of one kind of record.
type metadataOf struct {
	s    *Server
	find finder
}

// noItem says that a record has no metadata of a key.
func (d described) noItem(key string) error {
	return newFault(http.StatusNotFound, "%s %s has no metadata with key %s.", d.noun, d.id, key)
}

func (d described) item(key string) (fsm.KeyValue, bool) {
	i := slices.IndexFunc(d.pairs, func(kv fsm.KeyValue) bool { return kv.Key == key })
	if i < 0 {
		return fsm.KeyValue{}, false
	}
	return d.pairs[i], true
}

// show answers GET metadata. Like Cinder it sends an entity tag, of the
// body as Python writes it, and calls JSON text.
func (m metadataOf) show(x *exchange) error {
	d, err := m.find(x)
	if err != nil {
		return err
	}
	body := `{"metadata": ` + pythonJSON(d.pairs) + "}"
	if d.noun == "Volume" && x.version >= withMetadataTag {
		sum := md5.Sum([]byte(body)) //nolint:gosec // an entity tag
		x.Header().Set("Etag", hex.EncodeToString(sum[:]))
		x.Header().Del(headerComputeID)
		x.bytes(http.StatusOK, typeHTML, []byte(body))
		return nil
	}
	x.bytes(http.StatusOK, typeJSON, []byte(body))
	return nil
}

// pythonJSON writes metadata as Python's json does, with blanks.
func pythonJSON(pairs []fsm.KeyValue) string {
	items := make([]string, len(pairs))
	for i, kv := range pairs {
		items[i] = string(mustQuote(kv.Key)) + ": " + string(mustQuote(kv.Value))
	}
	return "{" + strings.Join(items, ", ") + "}"
}

// merge answers POST metadata, which keeps the keys it does not name.
func (m metadataOf) merge(x *exchange) error { return m.change(x, fsm.Edit{}) }

// replace answers PUT metadata, which drops them.
func (m metadataOf) replace(x *exchange) error { return m.change(x, fsm.Edit{Replace: true}) }

func (m metadataOf) change(x *exchange, edit fsm.Edit) error {
	body, err := m.s.valid(x, "metadata")
	if err != nil {
		return err
	}
	if edit.Metadata, err = body.metadata("metadata"); err != nil {
		return err
	}
	d, err := m.s.edit(x, m.find, edit)
	if err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"metadata": metadata(d.pairs)})
	return nil
}

// edit commits a change of a record, and returns it as it is then.
func (s *Server) edit(x *exchange, find finder, edit fsm.Edit) (described, error) {
	d, err := find(x)
	if err != nil {
		return d, err
	}
	if err := s.act(x, d.id, d.edit(edit)); err != nil {
		if _, ok := refusedFor(err, fsm.ErrNotFound); ok && edit.Drop != "" {
			return d, d.noItem(edit.Drop)
		}
		return d, fmt.Errorf("edit %s: %w", d.id, err)
	}
	return find(x)
}

func (m metadataOf) showItem(x *exchange) error {
	d, err := m.find(x)
	if err != nil {
		return err
	}
	key := x.params.ByName("key")
	kv, ok := d.item(key)
	if !ok {
		return d.noItem(key)
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"meta": map[string]string{kv.Key: kv.Value}})
	return nil
}

func (m metadataOf) setItem(x *exchange) error {
	body, err := m.s.valid(x, "metadata_item")
	if err != nil {
		return err
	}
	pairs, err := body.metadata("meta")
	if err != nil {
		return err
	}
	if pairs[0].Key != x.params.ByName("key") {
		return badRequest("Request body and URI mismatch")
	}
	if _, err := m.s.edit(x, m.find, fsm.Edit{Metadata: pairs}); err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"meta": metadata(pairs)})
	return nil
}

func (m metadataOf) dropItem(x *exchange) error {
	if _, err := m.s.edit(x, m.find, fsm.Edit{Drop: x.params.ByName("key")}); err != nil {
		return err
	}
	x.empty(http.StatusOK, typeHTML)
	return nil
}

// editAsked returns the change that a body asks for.
func editAsked(asked object) (fsm.Edit, error) {
	var e fsm.Edit
	for field, names := range map[**string][2]string{&e.Name: {"name", "display_name"}, &e.Description: {"description", "display_description"}} {
		for _, name := range names {
			if _, ok := asked[name]; ok {
				text := asked.text(name)
				*field = &text
			}
		}
	}
	if e.Name != nil {
		name, err := (object{"name": json.RawMessage(mustQuote(*e.Name))}).short("name")
		if err != nil {
			return e, err
		}
		e.Name = &name
	}
	if !asked.has("metadata") {
		return e, nil
	}
	e.Replace = true
	var err error
	e.Metadata, err = asked.metadata("metadata")
	return e, err
}

func mustQuote(text string) []byte {
	quoted, _ := json.Marshal(text) // a string can be encoded
	return quoted
}

// updateVolume answers PUT volumes/{id}.
func (s *Server) updateVolume(x *exchange) error {
	body, err := s.validSince(x, "volume_update", withStrictBodies)
	if err != nil {
		return err
	}
	edit, err := editAsked(body.sub("volume"))
	if err != nil {
		return err
	}
	if _, err := s.edit(x, s.describedVolume, edit); err != nil {
		return err
	}
	var row map[string]any
	s.node.View(func(state *fsm.State) {
		if v, ok := state.Volume(x.params.ByName("id")); ok {
			row = x.volumeRow(state, &v)
		}
	})
	x.json(http.StatusOK, typeJSON, map[string]any{"volume": row})
	return nil
}

// updateSnapshot answers PUT snapshots/{id}.
func (s *Server) updateSnapshot(x *exchange) error {
	body, err := s.valid(x, "snapshot_update")
	if err != nil {
		return err
	}
	edit, err := editAsked(body.sub("snapshot"))
	if err != nil {
		return err
	}
	if _, err := s.edit(x, s.describedSnapshot, edit); err != nil {
		return err
	}
	sn, err := s.snapshot(x, x.params.ByName("id"))
	if err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"snapshot": x.snapshotCreated(&sn)})
	return nil
}
