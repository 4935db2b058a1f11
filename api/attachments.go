package api

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

// attachmentRow writes an attachment as Cinder does.
func (x *exchange) attachmentRow(state *fsm.State, a *fsm.Attachment) map[string]any {
	info := map[string]any{}
	if v, ok := state.Volume(a.VolumeID); ok && a.Connected {
		info = connection(&v, "rw")
		info["driver_volume_type"], info["attachment_id"] = volumeProtocol, a.ID
	}
	attachedAt := stamp(a.AttachedAt)
	if attachedAt == nil {
		attachedAt = ""
	}
	return map[string]any{
		"id": a.ID, "status": a.Status, "instance": orNull(a.Instance), "volume_id": a.VolumeID,
		"attached_at": attachedAt, "detached_at": "", "attach_mode": cmp.Or(a.Mode, "null"), "connection_info": info,
	}
}

func noAttachment(id string) error {
	return newFault(http.StatusNotFound, "Volume attachment could not be found with filter: attachment_id = %s.", id)
}

func (s *Server) attachment(x *exchange) (a fsm.Attachment, err error) {
	if err := s.look(x); err != nil {
		return a, err
	}
	ok := false
	id := x.params.ByName("id")
	s.node.View(func(state *fsm.State) { a, ok = state.Attachment(id) })
	if !ok || !x.sees(a.ProjectID) {
		return a, noAttachment(id)
	}
	return a, nil
}

// answerAttachment answers with an attachment as it is now.
func (s *Server) answerAttachment(x *exchange, id string, change func(*fsm.Attachment)) error {
	var row map[string]any
	s.node.View(func(state *fsm.State) {
		if a, ok := state.Attachment(id); ok {
			change(&a)
			row = x.attachmentRow(state, &a)
		}
	})
	if row == nil {
		return noAttachment(id)
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"attachment": row})
	return nil
}

// listAttachments answers GET attachments, and showAttachment GET
// attachments/detail.
func (s *Server) listAttachments(x *exchange) error {
	return s.attachmentList(x, func(_ *fsm.State, a *fsm.Attachment) map[string]any {
		return map[string]any{"id": a.ID, "status": a.Status, "instance": orNull(a.Instance), "volume_id": a.VolumeID}
	})
}

func (s *Server) attachmentList(x *exchange, row func(*fsm.State, *fsm.Attachment) map[string]any) error {
	p, err := x.page()
	if err != nil {
		return err
	}
	p.uncounted(x)
	if err := s.look(x); err != nil {
		return err
	}
	state := s.node.Clone()
	text := func(get func(*fsm.Attachment) string) func(fsm.Attachment) any {
		return func(a fsm.Attachment) any { return get(&a) }
	}
	return list(x, p, lister[fsm.Attachment]{
		noun: "attachments", alone: true, rows: state.EveryAttachment, get: state.Attachment, missing: noAttachment,
		id:    func(a fsm.Attachment) string { return a.ID },
		index: func(a fsm.Attachment) uint64 { return a.Index },
		row:   func(a fsm.Attachment) map[string]any { return row(state, &a) },
		open:  []string{"volume_id", "status", "instance_id", "attach_status"},
		filters: map[string]func(fsm.Attachment) any{
			"project_id":    text(func(a *fsm.Attachment) string { return a.ProjectID }),
			"volume_id":     text(func(a *fsm.Attachment) string { return a.VolumeID }),
			"status":        text(func(a *fsm.Attachment) string { return string(a.Status) }),
			"attach_status": text(func(a *fsm.Attachment) string { return string(a.Status) }),
			"instance_id":   text(func(a *fsm.Attachment) string { return a.Instance }),
			"instance_uuid": text(func(a *fsm.Attachment) string { return a.Instance }),
		},
		sorts: map[string]func(a, b fsm.Attachment) int{
			"id":         func(a, b fsm.Attachment) int { return cmp.Compare(a.ID, b.ID) },
			"created_at": func(a, b fsm.Attachment) int { return cmp.Compare(a.Index, b.Index) },
			"volume_id":  func(a, b fsm.Attachment) int { return cmp.Compare(a.VolumeID, b.VolumeID) },
		},
	})
}

func (s *Server) showAttachment(x *exchange) error {
	if x.params.ByName("id") == "detail" {
		return s.attachmentList(x, x.attachmentRow)
	}
	a, err := s.attachment(x)
	if err != nil {
		return err
	}
	return s.answerAttachment(x, a.ID, func(*fsm.Attachment) {})
}

// connect notes the connector that a body gives.
func (s *Server) connect(x *exchange, ids identities, a *fsm.Attachment, connector object) error {
	mode := cmp.Or(connector.text("mode"), a.Mode, "rw")
	cmd := fsm.UpdateAttachment{ID: a.ID, HostName: connector.text("host"), Mountpoint: cmp.Or(connector.text("mountpoint"), "na"), Mode: mode}
	if err := s.commit(x, ids, a.ID+" connector", cmd); err != nil {
		return fmt.Errorf("update attachment %s: %w", a.ID, err)
	}
	return nil
}

// asReserved shows an attachment as Cinder does in the answer to a change: as it
// was before its connector was known.
func asReserved(mode string) func(*fsm.Attachment) {
	return func(a *fsm.Attachment) { a.Status, a.AttachedAt, a.Mode = fsm.AttachReserved, 0, mode }
}

// createAttachment answers POST attachments.
func (s *Server) createAttachment(x *exchange) error {
	body, err := s.valid(x, "attachment_create")
	if err != nil {
		return err
	}
	asked := body.sub("attachment")
	if x.version < withAttachMode {
		if err := asked.unexpected("attachment", body["attachment"], "instance_uuid", "connector", "volume_uuid"); err != nil {
			return err
		}
	}
	_, v, err := s.owner(x, asked.text("volume_uuid"))
	if err != nil {
		return err
	}
	if strings.Contains(string(v.Status), "error") {
		return badRequest("Invalid volume: Volume attachments can not be created if the volume is in an error state. The Volume %s currently has a status of: %s ", v.ID, v.Status)
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	a := fsm.Attachment{
		ID: ids.of("attachment"), VolumeID: v.ID, ProjectID: x.project, Instance: asked.text("instance_uuid"), Mode: asked.text("mode"),
	}
	err = s.commit(x, ids, a.ID, fsm.CreateAttachment{Attachment: a})
	if r, ok := refusedFor(err, fsm.ErrConflict); ok {
		return badRequest("Invalid volume: Volume %s status must be available or downloading to reserve, but the current status is %s.", v.ID, r.Value)
	}
	if err != nil {
		return fmt.Errorf("create attachment of %s: %w", v.ID, err)
	}
	if connector := asked.sub("connector"); len(connector) > 0 {
		if err := s.connect(x, ids, &a, connector); err != nil {
			return err
		}
	}
	return s.answerAttachment(x, a.ID, asReserved(a.Mode))
}

// updateAttachment answers PUT attachments/{id}.
func (s *Server) updateAttachment(x *exchange) error {
	body, err := s.valid(x, "attachment_update")
	if err != nil {
		return err
	}
	a, err := s.attachment(x)
	if err != nil {
		return err
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	if err := s.connect(x, ids, &a, body.sub("attachment").sub("connector")); err != nil {
		return err
	}
	return s.answerAttachment(x, a.ID, asReserved(a.Mode))
}

// completeAttachment answers POST attachments/{id}/action.
func (s *Server) completeAttachment(x *exchange) error {
	name, _, err := x.action(s.cfg.RequestTimeout)
	if err != nil {
		return err
	}
	if name != "os-complete" {
		return noAction(name)
	}
	a, err := s.attachment(x)
	if err != nil {
		return err
	}
	if a.Status == fsm.AttachAttached { // it is complete, and may be so twice
		x.empty(http.StatusNoContent, typeJSON)
		return nil
	}
	if err := s.act(x, a.ID, fsm.UpdateAttachment{ID: a.ID, Complete: true}); err != nil {
		return fmt.Errorf("complete attachment %s: %w", a.ID, err)
	}
	x.empty(http.StatusNoContent, typeJSON)
	return nil
}

// deleteAttachment answers DELETE attachments/{id} with those that are left.
func (s *Server) deleteAttachment(x *exchange) error {
	a, err := s.attachment(x)
	if err != nil {
		return err
	}
	if err := s.act(x, a.ID, fsm.DeleteAttachments{VolumeID: a.VolumeID, ID: a.ID}); err != nil {
		return fmt.Errorf("delete attachment %s: %w", a.ID, err)
	}
	rows := []any{}
	s.node.View(func(state *fsm.State) {
		for _, left := range state.Attachments(a.VolumeID) {
			rows = append(rows, x.attachmentRow(state, &left))
		}
	})
	x.json(http.StatusOK, typeJSON, map[string]any{"attachments": rows})
	return nil
}
