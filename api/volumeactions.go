package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

// volumeAction is one action on a volume.
type volumeAction struct {
	schema string // empty: any arguments
	do     func(x *exchange, host string, v *fsm.Volume, args object) error
}

func (s *Server) volumeActions() map[string]volumeAction {
	return map[string]volumeAction{
		"os-extend":                {schema: "action_extend", do: s.extendVolume},
		"os-reset_status":          {schema: "action_reset_status", do: s.resetVolume},
		"os-force_delete":          {do: s.forceDeleteVolume},
		"os-set_bootable":          {schema: "action_set_bootable", do: s.setBootable},
		"os-update_readonly_flag":  {schema: "action_readonly", do: s.setReadonly},
		"os-retype":                {schema: "action_retype", do: s.retypeVolume},
		"os-unmanage":              {do: s.unmanageVolume},
		"os-initialize_connection": {schema: "action_initialize", do: s.initializeConnection},
		"os-terminate_connection":  {schema: "action_terminate", do: s.accept},
		"os-attach":                {schema: "action_attach", do: s.attachVolume},
		"os-detach":                {schema: "action_detach", do: s.detachVolume},
		"os-reserve":               {do: s.moveAttaching(fsm.StepReserve)},
		"os-unreserve":             {do: s.moveAttaching(fsm.StepUnreserve)},
		"os-begin_detaching":       {do: s.moveAttaching(fsm.StepBeginDetaching)},
		"os-roll_detaching":        {do: s.moveAttaching(fsm.StepRollDetaching)},
	}
}

// actOnVolume answers POST volumes/{id}/action.
func (s *Server) actOnVolume(x *exchange) error {
	name, body, err := x.action(s.cfg.RequestTimeout)
	if err != nil {
		return err
	}
	action, ok := s.volumeActions()[name]
	if !ok {
		return noAction(name)
	}
	if action.schema != "" {
		if err := s.schemas.validate(action.schema, x.raw); err != nil {
			return err
		}
	}
	host, v, err := s.owner(x, x.params.ByName("id"))
	if err != nil {
		return err
	}
	return action.do(x, host, &v, body.sub(name))
}

// accept answers what concerns nobody here: nothing is exported that would have to
// be taken back.
func (s *Server) accept(x *exchange, _ string, _ *fsm.Volume, _ object) error {
	x.empty(http.StatusAccepted, typeJSON)
	return nil
}

// acted commits what an action asks for.
func (s *Server) acted(x *exchange, v *fsm.Volume, cmd fsm.Command) error {
	if err := s.act(x, v.ID, cmd); err != nil {
		return fmt.Errorf("volume %s: %w", v.ID, err)
	}
	x.empty(http.StatusAccepted, typeJSON)
	return nil
}

func (s *Server) extendVolume(x *exchange, host string, v *fsm.Volume, args object) error {
	gib, err := args.size("new_size")
	if err != nil {
		return err
	}
	err = s.acted(x, v, fsm.ExtendVolume{ID: v.ID, Size: gib, Host: host, InUse: x.version >= withExtendInUse})
	if r, ok := refusedFor(err, fsm.ErrConflict); ok && r.Field == "status" {
		return badRequest("Invalid volume: Volume %s status must be '{'status': 'available'}' to extend, currently %s.", v.ID, r.Value)
	}
	return err
}

func (s *Server) forceDeleteVolume(x *exchange, host string, v *fsm.Volume, _ object) error {
	return s.deletion(s.acted(x, v, fsm.DeleteVolume{ID: v.ID, Host: host, Force: true}), v)
}

func (s *Server) setBootable(x *exchange, _ string, v *fsm.Volume, args object) error {
	bootable, err := args.flag("bootable", "false")
	if err != nil {
		return err
	}
	if err := s.act(x, v.ID, fsm.EditVolume{ID: v.ID, Bootable: &bootable}); err != nil {
		return fmt.Errorf("volume %s: %w", v.ID, err)
	}
	x.empty(http.StatusOK, typeJSON)
	return nil
}

func (s *Server) setReadonly(x *exchange, _ string, v *fsm.Volume, args object) error {
	readonly, err := args.flag("readonly", "false")
	if err != nil {
		return err
	}
	err = s.acted(x, v, fsm.EditVolume{ID: v.ID, Readonly: &readonly})
	if r, ok := refusedFor(err, fsm.ErrConflict); ok {
		return badRequest("Invalid volume: Volume %s status must be available to update readonly flag, but current status is: %s.", v.ID, r.Value)
	}
	return err
}

// volumeStatuses are those that Cinder lets an administrator set, in its order.
func volumeStatuses() []string {
	return []string{
		"creating", "available", "deleting", "error", "error_deleting", "error_managing", "managing", "attaching", "in-use",
		"detaching", "maintenance", "restoring-backup", "error_restoring", "reserved", "awaiting-transfer", "backing-up",
		"error_backing-up", "error_extending", "downloading", "uploading", "retyping", "extending",
	}
}

func attachStatuses() []string {
	return []string{"attached", "detached"}
}

func migrationStatuses() []string {
	return []string{"migrating", "error", "success", "completing", "none", "starting"}
}

// resetVolume sets the status of a volume that is not as it says.
func (s *Server) resetVolume(x *exchange, _ string, v *fsm.Volume, args object) error {
	if args.text("status")+args.text("attach_status")+args.text("migration_status") == "" {
		return badRequest("Must specify 'status', 'attach_status' or 'migration_status' for update.")
	}
	for _, f := range []struct {
		name, noun  string
		allowed     []string
		open, close string // of the list, as Python has it
	}{
		{"status", "Volume status", volumeStatuses(), "(", ")"},
		{"attach_status", "Volume attach status", attachStatuses(), "[", "]"},
		{"migration_status", "Volume migration status", migrationStatuses(), "(", ")"},
	} {
		value := strings.ToLower(args.text(f.name))
		if value != "" && !slices.Contains(f.allowed, value) {
			return fieldFault(f.name, value, fmt.Sprintf("%s: %s is invalid, valid statuses are: %s%s%s.",
				f.noun, cut(args.text(f.name)), f.open, quoteAll(f.allowed), f.close), f.allowed...)
		}
	}
	if err := args.unexpected("os-reset_status", args.raw(), "status", "attach_status", "migration_status"); err != nil {
		return err
	}
	return s.acted(x, v, fsm.ResetVolume{
		ID: v.ID, Status: fsm.VolumeStatus(strings.ToLower(args.text("status"))),
		MigrationStatus: strings.ToLower(args.text("migration_status")), Detached: strings.EqualFold(args.text("attach_status"), "detached"),
	})
}

// moveAttaching makes one step of attaching or detaching.
func (s *Server) moveAttaching(step fsm.AttachStep) func(*exchange, string, *fsm.Volume, object) error {
	return func(x *exchange, _ string, v *fsm.Volume, _ object) error {
		err := s.acted(x, v, fsm.MoveAttaching{VolumeID: v.ID, Step: step})
		r, ok := refusedFor(err, fsm.ErrConflict)
		switch {
		case ok && step == fsm.StepReserve:
			return badRequest("Invalid volume: Volume status must be available to reserve, but the status is %s.", r.Value)
		case ok:
			return badRequest("Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach.")
		}
		return err
	}
}

// connection is what a client needs to reach a volume: where it is at the site in
// use. The file driver's volumes are files.
func connection(v *fsm.Volume, mode string) map[string]any {
	return map[string]any{
		"device_path": v.ProviderLocation, "site": v.Site,
		"qos_specs": nil, "access_mode": mode, "encrypted": false, "cacheable": false,
	}
}

// volumeProtocol is the kind of connection of volumes that are files or devices of
// the host.
const volumeProtocol = "local"

func (s *Server) initializeConnection(x *exchange, _ string, v *fsm.Volume, _ object) error {
	if v.ProviderLocation == "" {
		return badRequest("Invalid volume: Volume %s is nowhere yet: its status is %s.", v.ID, v.Status)
	}
	mode := "rw"
	for _, kv := range v.AdminMetadata {
		if kv.Key == "readonly" && kv.Value == "True" {
			mode = "ro"
		}
	}
	data := connection(v, mode)
	x.json(http.StatusOK, typeJSON, map[string]any{"connection_info": map[string]any{"driver_volume_type": volumeProtocol, "data": data}})
	return nil
}

// attachVolume answers os-attach. What is attached already stays so.
func (s *Server) attachVolume(x *exchange, _ string, v *fsm.Volume, args object) error {
	if v.Status == fsm.StatusInUse && !v.Multiattach {
		x.empty(http.StatusAccepted, typeJSON)
		return nil
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	a := fsm.Attachment{
		ID: ids.of("attachment"), VolumeID: v.ID, ProjectID: x.project, Status: fsm.AttachAttached, Instance: args.text("instance_uuid"),
		HostName: args.text("host_name"), Mountpoint: args.text("mountpoint"), Mode: "rw",
	}
	if args.has("mode") {
		a.Mode = args.text("mode")
	}
	err = s.commit(x, ids, a.ID, fsm.CreateAttachment{Attachment: a})
	if r, ok := refusedFor(err, fsm.ErrConflict); ok {
		return badRequest("Invalid volume: status of %s must be available or attaching to attach, not %s.", v.ID, r.Value)
	}
	if err != nil {
		return fmt.Errorf("attach volume %s: %w", v.ID, err)
	}
	x.empty(http.StatusAccepted, typeJSON)
	return nil
}

// detachVolume answers os-detach. What is attached nowhere stays so.
func (s *Server) detachVolume(x *exchange, _ string, v *fsm.Volume, args object) error {
	return s.acted(x, v, fsm.DeleteAttachments{VolumeID: v.ID, ID: args.text("attachment_id")})
}

// summarizeVolumes answers GET volumes/summary.
func (s *Server) summarizeVolumes(x *exchange) error {
	if x.version < withSummary {
		return newFault(http.StatusNotFound, msgNoResource)
	}
	p, err := x.page()
	if err != nil {
		return err
	}
	maps.DeleteFunc(p.filters, func(name, _ string) bool { return name != "project_id" }) // Cinder looks at no other one here
	if err := s.look(x); err != nil {
		return err
	}
	state := s.node.Clone()
	l := lister[fsm.Volume]{filters: volumeFilters(state)}
	var count, size int64
	seen := map[string][]string{}
	for v := range state.Volumes(0) {
		if !l.matches(v, p.filters) {
			continue
		}
		count, size = count+1, size+v.Size
		for _, kv := range v.Metadata {
			if !slices.Contains(seen[kv.Key], kv.Value) && len(seen[kv.Key]) < maxLimit {
				seen[kv.Key] = append(seen[kv.Key], kv.Value)
			}
		}
	}
	summary := map[string]any{"total_count": count, "total_size": size}
	if x.version >= withSummaryMetadata {
		for _, values := range seen {
			slices.Sort(values)
		}
		summary["metadata"] = seen
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"volume-summary": summary})
	return nil
}
