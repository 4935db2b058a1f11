package api

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/lockstep-storage/lockstep/fsm"
)

// msgVolumeBusy is Cinder's one message for a volume that cannot be deleted.
const msgVolumeBusy = "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing" +
	" and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer."

// legacyVolumeRow writes a volume as Cinder did before it had microversions.
func (x *exchange) legacyVolumeRow(state *fsm.State, v *fsm.Volume) map[string]any {
	pairs := metadata(v.Metadata)
	if x.admin {
		maps.Copy(pairs, metadata(v.AdminMetadata))
	}
	row := map[string]any{
		"id": v.ID, "status": v.Status, "size": v.Size, "availability_zone": zone,
		"created_at": stamp(v.CreatedAt), "updated_at": stamp(v.UpdatedAt),
		"name": orNull(v.Name), "description": orNull(v.Description), "volume_type": orNull(v.VolumeType),
		"snapshot_id": orNull(v.SnapshotID), "source_volid": orNull(v.SourceVolumeID), "metadata": pairs, "links": x.links("volumes", v.ID),
		"user_id": v.UserID, "bootable": strconv.FormatBool(v.Bootable), "encrypted": false, "replication_status": orNull(string(v.ReplicationStatus)),
		"consistencygroup_id": nil, "multiattach": v.Multiattach, "attachments": volumeAttachments(state, v),
	}
	if x.admin {
		row["migration_status"] = orNull(v.MigrationStatus)
	}
	return row
}

// volumeRow writes a volume as Cinder does. A request that creates one gets it
// before a service has it.
func (x *exchange) volumeRow(state *fsm.State, v *fsm.Volume) map[string]any {
	row := x.legacyVolumeRow(state, v)
	if x.version >= withGroups {
		row["group_id"] = orNull(v.GroupID)
	}
	if x.version >= withServiceUUID {
		row["shared_targets"], row["service_uuid"] = v.Reference != "", serviceUUID(v)
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
	x.adminFields(row, v)
	return row
}

// adminFields adds what only an administrator sees of a volume in every answer.
func (x *exchange) adminFields(row map[string]any, v *fsm.Volume) {
	if !x.admin {
		return
	}
	if x.version >= withProviderID {
		row["provider_id"] = orNull(v.ProviderID)
	}
	if x.version >= withClusterName {
		row["cluster_name"] = orNull(withPool(v.Cluster))
	}
}

// zone is the one availability zone that there is.
const zone = "nova"

// withPool adds the one pool of a backend to the name of a cluster or service.
func withPool(name string) string {
	if _, backend, ok := strings.Cut(name, "@"); ok {
		return name + "#" + backend
	}
	return name
}

// withoutPool drops the pool from a name.
func withoutPool(name string) string {
	name, _, _ = strings.Cut(name, "#")
	return name
}

// serviceUUID is an id of the service that has made a volume; it follows from its
// host. While there is no such service it is null, and so it is of a volume that was
// adopted.
func serviceUUID(v *fsm.Volume) any {
	if v.Status == fsm.StatusCreating && !v.Nominal || v.Reference != "" {
		return nil
	}
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("lockstep service "+v.Host)).String()
}

// volumeAttachments are those attachments of a volume that are complete.
func volumeAttachments(state *fsm.State, v *fsm.Volume) []any {
	rows := []any{}
	for _, a := range state.Attachments(v.ID) {
		if a.Status == fsm.AttachAttached {
			rows = append(rows, map[string]any{
				"id": v.ID, "attachment_id": a.ID, "volume_id": v.ID, "server_id": orNull(a.Instance),
				"host_name": orNull(a.HostName), "device": orNull(a.Mountpoint), "attached_at": stamp(a.AttachedAt),
			})
		}
	}
	return rows
}

// volumeDetail adds what only an administrator sees in a full answer.
func (x *exchange) volumeDetail(state *fsm.State, v *fsm.Volume) map[string]any {
	row := x.volumeRow(state, v)
	row["os-vol-tenant-attr:tenant_id"] = v.ProjectID
	if x.admin {
		row["os-vol-mig-status-attr:migstat"], row["os-vol-mig-status-attr:name_id"] = orNull(v.MigrationStatus), nil
		row["os-vol-host-attr:host"] = orNull(withPool(v.Host))
	}
	return row
}

func noVolume(id string) error {
	return newFault(http.StatusNotFound, "Volume %s could not be found.", id)
}

func volumeFilters(state *fsm.State) map[string]func(fsm.Volume) any {
	return map[string]func(fsm.Volume) any{
		"id":     func(v fsm.Volume) any { return v.ID },
		"name":   func(v fsm.Volume) any { return orNull(v.Name) },
		"status": func(v fsm.Volume) any { return string(v.Status) },
		"size":   func(v fsm.Volume) any { return strconv.FormatInt(v.Size, 10) },
		"host": func(v fsm.Volume) any {
			return func(want string) bool { return matchesHost(v.Host, withoutPool(want)) }
		},
		"cluster_name": func(v fsm.Volume) any { return func(want string) bool { return v.Cluster == withoutPool(want) } },
		"metadata":     func(v fsm.Volume) any { return pairFilter(v.Metadata) },
		// No volume is made of an image.
		"glance_metadata": func(fsm.Volume) any { return pairFilter(nil) },
		"bootable": func(v fsm.Volume) any {
			return func(want string) bool { is, err := parseBool("bootable", want); return err == nil && is == v.Bootable }
		},
		"migration_status": func(v fsm.Volume) any {
			return func(want string) bool { return want != "" && want == v.MigrationStatus } // null is not empty
		},
		"multiattach": func(v fsm.Volume) any { return func(want string) bool { return isTrue(want) == v.Multiattach } },
		"volume_type_id": func(v fsm.Volume) any {
			t, _ := volumeType(state, v.VolumeType)
			return t.ID
		},
		"consumes_quota":     func(fsm.Volume) any { return func(want string) bool { return isTrue(want) } },
		"display_name":       func(v fsm.Volume) any { return orNull(v.Name) },
		"description":        func(v fsm.Volume) any { return orNull(v.Description) },
		"source_volid":       func(v fsm.Volume) any { return v.SourceVolumeID },
		"snapshot_id":        func(v fsm.Volume) any { return v.SnapshotID },
		"availability_zone":  func(fsm.Volume) any { return zone },
		"replication_status": func(v fsm.Volume) any { return string(v.ReplicationStatus) },
		"volume_type":        func(v fsm.Volume) any { return v.VolumeType },
		"group_id":           func(v fsm.Volume) any { return v.GroupID },
		"project_id":         func(v fsm.Volume) any { return v.ProjectID },
		"user_id":            func(v fsm.Volume) any { return v.UserID },
	}
}

// checkVolumeFilters refuses what is no boolean where one is asked for, in Cinder's
// words for each.
func checkVolumeFilters(filters map[string]string) error {
	if is, ok := filters["bootable"]; ok {
		if _, err := parseBool("bootable", is); err != nil {
			return fieldFault("bootable", is, fmt.Sprintf("%s'bootable = %s'", prefixInvalid, cut(is)), "true", "false")
		}
	}
	if is, ok := filters["consumes_quota"]; ok {
		if _, err := parseBool("use_quota", is); err != nil {
			return err
		}
	}
	return nil
}

// volumeSorts are the keys that volumes are sorted by.
func volumeSorts() map[string]func(a, b fsm.Volume) int {
	return map[string]func(a, b fsm.Volume) int{
		"id":                func(a, b fsm.Volume) int { return cmp.Compare(a.ID, b.ID) },
		"name":              func(a, b fsm.Volume) int { return cmp.Compare(a.Name, b.Name) },
		"status":            func(a, b fsm.Volume) int { return cmp.Compare(a.Status, b.Status) },
		"size":              func(a, b fsm.Volume) int { return cmp.Compare(a.Size, b.Size) },
		"created_at":        func(a, b fsm.Volume) int { return cmp.Compare(a.Index, b.Index) },
		"updated_at":        func(a, b fsm.Volume) int { return cmp.Compare(a.UpdatedAt, b.UpdatedAt) },
		"host":              func(a, b fsm.Volume) int { return cmp.Compare(a.Host, b.Host) },
		"availability_zone": func(fsm.Volume, fsm.Volume) int { return 0 },
		"project_id":        func(a, b fsm.Volume) int { return cmp.Compare(a.ProjectID, b.ProjectID) },
		"bootable": func(a, b fsm.Volume) int {
			return cmp.Compare(strconv.FormatBool(a.Bootable), strconv.FormatBool(b.Bootable))
		},
		"replication_status": func(a, b fsm.Volume) int { return cmp.Compare(a.ReplicationStatus, b.ReplicationStatus) },
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
	if x.version < withGroupFilter {
		delete(p.filters, "group_id")
	}
	if x.version < withImageFilter {
		delete(p.filters, "glance_metadata")
	}
	times, err := x.timeFilters(p.filters)
	if err != nil {
		return err
	}
	if err := checkVolumeFilters(p.filters); err != nil {
		return err
	}
	if err := s.look(x); err != nil {
		return err
	}
	state := s.node.Clone()
	filters := volumeFilters(state)
	filters[createdAt] = func(v fsm.Volume) any { return times[createdAt].of(v.CreatedAt) }
	filters[updatedAt] = func(v fsm.Volume) any { return times[updatedAt].of(v.UpdatedAt) }
	return list(x, p, lister[fsm.Volume]{
		noun: "volumes", rows: state.Volumes, filters: filters, sorts: volumeSorts(),
		open: []string{
			"name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id", "size", "consumes_quota",
			createdAt, updatedAt,
		},
		get: state.Volume, missing: noVolume,
		id:    func(v fsm.Volume) string { return v.ID },
		index: func(v fsm.Volume) uint64 { return v.Index },
		row:   func(v fsm.Volume) map[string]any { return row(state, &v) },
	})
}

// showVolume answers GET volumes/{id}, and GET volumes/detail.
func (s *Server) showVolume(x *exchange) error {
	id := x.params.ByName("id")
	switch id {
	case "detail":
		return s.volumeList(x, x.volumeDetail)
	case "summary":
		return s.summarizeVolumes(x)
	}
	_, v, err := s.owner(x, id)
	if err != nil {
		return err
	}
	var row map[string]any
	s.node.View(func(state *fsm.State) { row = x.volumeDetail(state, &v) })
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
	if !ok || !x.sees(v.ProjectID) {
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
	cascade, force := false, false
	for name, flag := range map[string]*bool{"cascade": &cascade, "force": &force} {
		if x.query.Has(name) {
			if *flag, err = parseBool(name, x.query.Get(name)); err != nil {
				return err
			}
		}
	}
	force = force && x.version >= withForcedDelete
	if force {
		if err := x.allowed("volume:force_delete"); err != nil {
			return err
		}
	}
	if err := s.deletion(s.act(x, v.ID, fsm.DeleteVolume{ID: v.ID, Host: host, Cascade: cascade, Force: force}), &v); err != nil {
		return err
	}
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}

// deletion says in Cinder's words why a volume is not deleted.
func (s *Server) deletion(err error, v *fsm.Volume) error {
	if _, ok := refusedFor(err, fsm.ErrConflict); ok && s.served(v) {
		return badRequest(msgVolumeBusy)
	}
	if err != nil {
		return fmt.Errorf("delete volume %s: %w", v.ID, err)
	}
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
