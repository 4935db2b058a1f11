package api

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/lockstep-storage/lockstep/fsm"
)

// msgVolumeBusy is Cinder's one message for a volume that cannot be deleted.
const msgVolumeBusy = "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing" +
	" and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer."

// volumeRow writes a volume as Cinder does. A request that creates one gets it
// before a service has it.
func (x *exchange) volumeRow(state *fsm.State, v *fsm.Volume) map[string]any {
	row := map[string]any{
		"id": v.ID, "status": v.Status, "size": v.Size, "availability_zone": "nova",
		"created_at": stamp(v.CreatedAt), "updated_at": stamp(v.UpdatedAt),
		"name": orNull(v.Name), "description": orNull(v.Description), "volume_type": orNull(v.VolumeType),
		"snapshot_id": nil, "source_volid": nil, "metadata": metadata(v.Metadata), "links": x.links("volumes", v.ID),
		"user_id": v.UserID, "bootable": "false", "encrypted": false, "replication_status": orNull(string(v.ReplicationStatus)),
		"consistencygroup_id": nil, "multiattach": false, "attachments": []any{}, "migration_status": nil,
	}
	if x.version >= withGroups {
		row["group_id"] = nil
	}
	if x.version >= withProviderID {
		row["provider_id"], row["shared_targets"], row["service_uuid"] = orNull(v.ProviderID), false, nil
	}
	if x.version >= withClusterName {
		row["cluster_name"] = orNull(v.Cluster)
	}
	if x.version >= withVolumeTypeID {
		row["volume_type_id"] = nil
		if t, ok := volumeType(state, v.VolumeType); ok {
			row["volume_type_id"] = t.ID
		}
	}
	if x.version >= withConsumesQuota {
		row["consumes_quota"] = true
	}
	return row
}

// volumeDetail adds what only an administrator sees.
func (x *exchange) volumeDetail(state *fsm.State, v *fsm.Volume) map[string]any {
	row := x.volumeRow(state, v)
	row["os-vol-tenant-attr:tenant_id"] = v.ProjectID
	row["os-vol-mig-status-attr:migstat"], row["os-vol-mig-status-attr:name_id"] = nil, nil
	row["os-vol-host-attr:host"] = orNull(v.Host)
	return row
}

func noVolume(id string) error {
	return newFault(http.StatusNotFound, "Volume %s could not be found.", id)
}

func volumeFilters() map[string]func(fsm.Volume) any {
	return map[string]func(fsm.Volume) any{
		"id":                 func(v fsm.Volume) any { return v.ID },
		"name":               func(v fsm.Volume) any { return v.Name },
		"status":             func(v fsm.Volume) any { return string(v.Status) },
		"size":               func(v fsm.Volume) any { return strconv.FormatInt(v.Size, 10) },
		"host":               func(v fsm.Volume) any { return func(want string) bool { return matchesHost(v.Host, want) } },
		"cluster_name":       func(v fsm.Volume) any { return v.Cluster },
		"replication_status": func(v fsm.Volume) any { return string(v.ReplicationStatus) },
		"volume_type":        func(v fsm.Volume) any { return v.VolumeType },
		"project_id":         func(v fsm.Volume) any { return v.ProjectID },
		"user_id":            func(v fsm.Volume) any { return v.UserID },
	}
}

// listVolumes answers GET volumes.
func (s *Server) listVolumes(x *exchange) error {
	return s.volumeList(x, func(_ *fsm.State, v *fsm.Volume) map[string]any {
		return map[string]any{"id": v.ID, "name": orNull(v.Name), "links": x.links("volumes", v.ID)}
	})
}

func (s *Server) volumeList(x *exchange, row func(*fsm.State, *fsm.Volume) map[string]any) error {
	p, err := x.page()
	if err != nil {
		return err
	}
	if err := s.look(x); err != nil {
		return err
	}
	state := s.node.Clone()
	return list(x, p, state, lister[fsm.Volume]{
		noun: "volumes", rows: state.Volumes, filters: volumeFilters(),
		id:  func(v fsm.Volume) string { return v.ID },
		row: func(v fsm.Volume) map[string]any { return row(state, &v) },
		marker: func(state *fsm.State, id string) (uint64, error) {
			v, ok := state.Volume(id)
			if !ok {
				return 0, noVolume(id)
			}
			return v.Index, nil
		},
	})
}

// showVolume answers GET volumes/{id}, and GET volumes/detail.
func (s *Server) showVolume(x *exchange) error {
	id := x.params.ByName("id")
	if id == "detail" {
		return s.volumeList(x, x.volumeDetail)
	}
	if err := s.look(x); err != nil {
		return err
	}
	var row map[string]any
	s.node.View(func(state *fsm.State) {
		if v, ok := state.Volume(id); ok {
			row = x.volumeDetail(state, &v)
		}
	})
	if row == nil {
		return noVolume(id)
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"volume": row})
	return nil
}

// owner returns the service of this node that should do work on a volume, if it
// serves there, and what is known of the volume.
func (s *Server) owner(x *exchange, id string) (host string, v fsm.Volume, err error) {
	if err := s.look(x); err != nil {
		return "", v, err
	}
	var ok bool
	s.node.View(func(state *fsm.State) { v, ok = state.Volume(id) })
	if !ok {
		return "", v, noVolume(id)
	}
	return s.localFor(&v), v, nil
}

func (s *Server) localFor(v *fsm.Volume) string {
	if v.Cluster == "" {
		return v.Host
	}
	return s.cfg.Local(v.Cluster)
}

// deleteVolume answers DELETE volumes/{id}.
func (s *Server) deleteVolume(x *exchange) error {
	host, v, err := s.owner(x, x.params.ByName("id"))
	if err != nil {
		return err
	}
	err = s.act(x, v.ID, fsm.DeleteVolume{ID: v.ID, Host: host})
	if _, ok := refusedFor(err, fsm.ErrConflict); ok && s.served(&v) {
		return badRequest(msgVolumeBusy)
	}
	if err != nil {
		return fmt.Errorf("delete volume %s: %w", v.ID, err)
	}
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}

// served reports whether a service is left that could work on the volume.
func (s *Server) served(v *fsm.Volume) bool {
	found := false
	s.node.View(func(state *fsm.State) {
		group := v.Cluster
		if group == "" {
			group = v.Host
		}
		for range state.Members(group) {
			found = true
			return
		}
	})
	return found
}

// actOnVolume answers POST volumes/{id}/action.
func (s *Server) actOnVolume(x *exchange) error {
	body, err := x.body(s.cfg.RequestTimeout, ignoreExtras)
	if err != nil {
		return err
	}
	raw, ok := body["os-extend"]
	if !ok {
		return badRequest("There is no such action: %s. Verify the request body and Content-Type header and try again.", actionName(body))
	}
	size := sizeField("new_size", "integer", "string")
	size.required = true
	args, err := checkObject("os-extend", raw, refuseExtras, []field{size})
	if err != nil {
		return err
	}
	gib, err := args.size("new_size")
	if err != nil {
		return err
	}
	host, v, err := s.owner(x, x.params.ByName("id"))
	if err != nil {
		return err
	}
	err = s.act(x, v.ID, fsm.ExtendVolume{ID: v.ID, Size: gib, Host: host})
	if r, ok := refusedFor(err, fsm.ErrConflict); ok && r.Field == "status" {
		return badRequest("Invalid volume: Volume %s status must be '{'status': 'available'}' to extend, currently %s.", v.ID, r.Value)
	}
	if err != nil {
		return fmt.Errorf("extend volume %s: %w", v.ID, err)
	}
	x.empty(http.StatusAccepted, typeJSON)
	return nil
}

// actionName returns the action that a body asks for, for a message.
func actionName(body object) string {
	first := ""
	for name := range body {
		if first == "" || name < first {
			first = name
		}
	}
	return cut(first)
}
