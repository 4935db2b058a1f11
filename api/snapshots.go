package api

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

// msgForceInvalid is Cinder's, as it spells it.
const msgForceInvalid = "Since microversion 3.66 the 'force' flag is invalid for this request.  For backward compatability, " + //nolint:misspell // scripts match it
	"however, when the 'force' flag is passed with a value evaluating to True, it is silently ignored."

func noSnapshot(id string) error {
	return newFault(http.StatusNotFound, "Snapshot %s could not be found.", id)
}

// snapshotRow writes a snapshot as Cinder's list without detail does.
func snapshotRow(sn *fsm.Snapshot) map[string]any {
	return map[string]any{
		"id": sn.ID, "created_at": stamp(sn.CreatedAt), "updated_at": stamp(sn.UpdatedAt), "name": orNull(sn.Name),
		"description": orNull(sn.Description), "volume_id": sn.VolumeID, "status": sn.Status, "size": sn.Size,
		"metadata": metadata(sn.Metadata),
	}
}

// snapshotCreated writes a snapshot as the answer to its creation.
func (x *exchange) snapshotCreated(sn *fsm.Snapshot) map[string]any {
	row := snapshotRow(sn)
	if x.version >= withSnapshotGroup {
		row["group_snapshot_id"] = nil
	}
	if x.version >= withSnapshotUser {
		row["user_id"] = sn.UserID
	}
	if x.version >= withConsumesQuota {
		row["consumes_quota"] = true
	}
	return row
}

func (x *exchange) snapshotDetail(sn *fsm.Snapshot) map[string]any {
	row := x.snapshotCreated(sn)
	row["os-extended-snapshot-attributes:project_id"] = sn.ProjectID
	row["os-extended-snapshot-attributes:progress"] = "0%"
	if sn.Whole {
		row["os-extended-snapshot-attributes:progress"] = "100%"
	}
	return row
}

// listSnapshots answers GET snapshots.
func (s *Server) listSnapshots(x *exchange) error { return s.snapshotList(x, snapshotRow) }

func (s *Server) snapshotList(x *exchange, row func(*fsm.Snapshot) map[string]any) error {
	p, err := x.page()
	if err != nil {
		return err
	}
	if x.version < withSnapshotMetadata {
		delete(p.filters, "metadata")
	}
	if x.version < withSnapshotNameSort && slices.ContainsFunc(p.orders, func(o order) bool { return o.key == "name" }) {
		return fieldFault("sort", "name", prefixInvalid+"Invalid sort key")
	}
	if err := s.look(x); err != nil {
		return err
	}
	state := s.node.Clone()
	ofVolume := volumeFilters(state)
	return list(x, p, lister[fsm.Snapshot]{
		noun: "snapshots", rows: state.Snapshots, get: state.Snapshot, missing: noSnapshot,
		id:    func(sn fsm.Snapshot) string { return sn.ID },
		index: func(sn fsm.Snapshot) uint64 { return sn.Index },
		row:   func(sn fsm.Snapshot) map[string]any { return row(&sn) },
		open:  []string{"name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"},
		sorts: map[string]func(a, b fsm.Snapshot) int{
			"id":         func(a, b fsm.Snapshot) int { return cmp.Compare(a.ID, b.ID) },
			"name":       func(a, b fsm.Snapshot) int { return cmp.Compare(a.Name, b.Name) },
			"status":     func(a, b fsm.Snapshot) int { return cmp.Compare(a.Status, b.Status) },
			"volume_id":  func(a, b fsm.Snapshot) int { return cmp.Compare(a.VolumeID, b.VolumeID) },
			"created_at": func(a, b fsm.Snapshot) int { return cmp.Compare(a.Index, b.Index) },
			"updated_at": func(a, b fsm.Snapshot) int { return cmp.Compare(a.UpdatedAt, b.UpdatedAt) },
		},
		filters: map[string]func(fsm.Snapshot) any{
			"id":         func(sn fsm.Snapshot) any { return sn.ID },
			"name":       func(sn fsm.Snapshot) any { return sn.Name },
			"status":     func(sn fsm.Snapshot) any { return string(sn.Status) },
			"volume_id":  func(sn fsm.Snapshot) any { return sn.VolumeID },
			"project_id": func(sn fsm.Snapshot) any { return sn.ProjectID },
			"user_id":    func(sn fsm.Snapshot) any { return sn.UserID },
			"metadata":   func(sn fsm.Snapshot) any { return pairFilter(sn.Metadata) },

			"display_name":      func(sn fsm.Snapshot) any { return sn.Name },
			"volume_size":       func(sn fsm.Snapshot) any { return strconv.FormatInt(sn.Size, 10) },
			"availability_zone": func(fsm.Snapshot) any { return zone },
			"consumes_quota":    func(fsm.Snapshot) any { return func(want string) bool { return isTrue(want) } },
			"cluster_name":      snapshotOf(state, ofVolume["cluster_name"]),
			"host":              snapshotOf(state, ofVolume["host"]),
			"volume_type_id":    snapshotOf(state, ofVolume["volume_type_id"]),
		},
	})
}

// snapshotOf filters snapshots by something of their volume.
func snapshotOf(state *fsm.State, get func(fsm.Volume) any) func(fsm.Snapshot) any {
	return func(sn fsm.Snapshot) any {
		v, _ := state.Volume(sn.VolumeID)
		return get(v)
	}
}

// isTrue reports whether a filter is asked to be true.
func isTrue(want string) bool {
	yes, err := parseBool("", want)
	return err == nil && yes
}

// showSnapshot answers GET snapshots/{id}, and GET snapshots/detail.
func (s *Server) showSnapshot(x *exchange) error {
	id := x.params.ByName("id")
	if id == "detail" {
		return s.snapshotList(x, x.snapshotDetail)
	}
	sn, err := s.snapshot(x, id)
	if err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"snapshot": x.snapshotDetail(&sn)})
	return nil
}

func (s *Server) snapshot(x *exchange, id string) (sn fsm.Snapshot, err error) {
	if err := s.look(x); err != nil {
		return sn, err
	}
	var ok bool
	s.node.View(func(state *fsm.State) { sn, ok = state.Snapshot(id) })
	if !ok || !x.sees(sn.ProjectID) {
		return sn, noSnapshot(id)
	}
	return sn, nil
}

// createSnapshot answers POST snapshots.
func (s *Server) createSnapshot(x *exchange) error {
	body, err := s.valid(x, "snapshot_create")
	if err != nil {
		return err
	}
	asked := body.sub("snapshot")
	force, err := x.forced(asked)
	if err != nil {
		return err
	}
	sn := fsm.Snapshot{VolumeID: asked.text("volume_id"), ProjectID: x.project, UserID: x.user, Description: asked.text("description")}
	if sn.Name, err = asked.short("name"); err != nil {
		return err
	}
	if sn.Metadata, err = asked.metadata("metadata"); err != nil {
		return err
	}
	host, _, err := s.owner(x, sn.VolumeID)
	if err != nil {
		return err
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	sn.ID = ids.of("snapshot")
	err = s.commit(x, ids, sn.ID, fsm.CreateSnapshot{Snapshot: sn, Force: force, Host: host})
	if r, ok := refusedFor(err, fsm.ErrConflict); ok && r.Field == "status" && r.Value != string(fsm.StatusError) {
		return badRequest("Invalid volume: Volume %s status must be available, but current status is: %s.", sn.VolumeID, r.Value)
	} else if ok && r.Field == "status" {
		return badRequest("Invalid volume: The snapshot cannot be created when the volume is in %s status.", r.Value)
	}
	if err != nil {
		return fmt.Errorf("create snapshot of %s: %w", sn.VolumeID, err)
	}
	s.node.View(func(state *fsm.State) {
		if created, ok := state.Snapshot(sn.ID); ok {
			sn = created
		}
	})
	x.json(http.StatusAccepted, typeJSON, map[string]any{"snapshot": x.snapshotCreated(&sn)})
	return nil
}

// forced reports whether a volume in use may get a snapshot. From 3.66 on it
// always may, and saying no is an error.
func (x *exchange) forced(asked object) (bool, error) {
	def := "false"
	if x.version >= withoutForcedSnapshot {
		def = "true"
	}
	force, err := asked.flag("force", def)
	if err == nil && !force && x.version >= withoutForcedSnapshot {
		return false, badRequest(msgForceInvalid)
	}
	return force, err
}

// deleteSnapshot answers DELETE snapshots/{id}.
func (s *Server) deleteSnapshot(x *exchange) error {
	sn, err := s.snapshot(x, x.params.ByName("id"))
	if err != nil {
		return err
	}
	host, _, err := s.owner(x, sn.VolumeID)
	if err != nil {
		return err
	}
	err = s.act(x, sn.ID, fsm.DeleteSnapshot{ID: sn.ID, Host: host})
	if r, ok := refusedFor(err, fsm.ErrConflict); ok && r.Field == "status" {
		return badRequest("Invalid snapshot: Snapshot status must be available or error and must not be part of a group.")
	}
	if err != nil {
		return fmt.Errorf("delete snapshot %s: %w", sn.ID, err)
	}
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}

// snapshotStatuses are those that Cinder lets an administrator set.
func snapshotStatuses() []string {
	return []string{"error", "available", "creating", "deleting", "deleted", "updating", "error_deleting", "unmanaging", "backing-up", "restoring"}
}

// actOnSnapshot answers POST snapshots/{id}/action.
func (s *Server) actOnSnapshot(x *exchange) error {
	name, body, err := x.action(s.cfg.RequestTimeout)
	if err != nil {
		return err
	}
	if name != "os-reset_status" {
		return noAction(name)
	}
	if err := s.schemas.validate("action_snapshot_reset", x.raw); err != nil {
		return err
	}
	asked := body.sub(name).text("status")
	status := strings.ToLower(asked)
	if !slices.Contains(snapshotStatuses(), status) {
		return fieldFault("status", status, fmt.Sprintf("Snapshot status: %s is invalid, valid statuses are: (%s).", cut(asked), quoteAll(snapshotStatuses())), snapshotStatuses()...)
	}
	sn, err := s.snapshot(x, x.params.ByName("id"))
	if err != nil {
		return err
	}
	if err := s.act(x, sn.ID, fsm.ResetSnapshot{ID: sn.ID, Status: fsm.VolumeStatus(status)}); err != nil {
		return fmt.Errorf("reset snapshot %s: %w", sn.ID, err)
	}
	x.empty(http.StatusAccepted, typeJSON)
	return nil
}
