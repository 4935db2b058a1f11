package api

import (
	"maps"

	"github.com/lockstep-storage/lockstep/api/auth"
)

// accessTable says for every route, in the notation of the router, what it asks of
// who uses it.
func accessTable() map[string]access {
	table := map[string]access{}
	for _, part := range []map[string]access{plainAccess(), v1Access(), serviceAccess(), volumeAccess(), snapshotAccess(), typeAccess(), groupAccess(), attachmentAccess()} {
		maps.Copy(table, part)
	}
	return table
}

func anyone() access { return access{public: true} }

func needs(policies ...string) access { return access{policies: policies} }

// plainAccess: who watches a node is told whether it lives before it can prove
// anything, and clients have to find out which versions there are. Nodes prove who
// they are by certificates, not by tokens.
func plainAccess() map[string]access {
	return map[string]access{
		"GET /":                     anyone(),
		"GET /livez":                anyone(),
		"GET /readyz":               anyone(),
		"GET /healthcheck":          anyone(),
		"HEAD /healthcheck":         anyone(),
		"GET /v1/openapi.json":      anyone(),
		"POST /internal/v1/:method": anyone(),
		"GET /metrics":              needs("lockstep:metrics"),
	}
}

func v1Access() map[string]access {
	return map[string]access{
		"GET /v1/status":               needs("lockstep:status"),
		"GET /v1/failovers":            needs("lockstep:failovers:get"),
		"POST /v1/failovers":           needs("lockstep:failovers:create"),
		"GET /v1/failovers/:id":        needs("lockstep:failovers:get"),
		"POST /v1/failovers/:id/abort": needs("lockstep:failovers:abort"),
		"GET /v1/clusters":             needs("lockstep:clusters:get"),
		"GET /v1/clusters/:name":       needs("lockstep:clusters:get"),
		"GET /v1/peers":                needs("lockstep:peers:get"),
		"DELETE /v1/peers/:id":         needs("lockstep:peers:remove"),
		"GET /v1/events":               needs("lockstep:events"),
	}
}

func serviceAccess() map[string]access {
	const update = "volume_extension:services:update"
	return map[string]access{
		"GET /v3":                   needs(auth.PolicyAny),
		"GET /v3/":                  needs(auth.PolicyAny),
		"GET /v3/extensions":        needs(auth.PolicyAny),
		"GET /v3/extensions/:alias": needs(auth.PolicyAny),
		"GET /v3/limits":            needs("limits_extension:used_limits"),
		"GET /v3/os-services":       needs("volume_extension:services:index"),
		"PUT /v3/os-services/:action": {inPath: map[string][]string{
			"enable": {update}, "disable": {update}, "disable-log-reason": {update}, "get-log": {update}, "set-log": {update},
			"freeze": {update, "volume:freeze_host"}, "thaw": {update, "volume:thaw_host"},
			"failover_host": {update, "volume:failover_host"}, "failover": {update, "volume:failover_host"},
		}},
		"GET /v3/clusters":                        needs("clusters:get_all"),
		"GET /v3/clusters/:name":                  {policies: []string{"clusters:get"}, list: []string{"clusters:get_all"}},
		"PUT /v3/clusters/:action":                needs("clusters:update"),
		"GET /v3/scheduler-stats/get_pools":       needs("scheduler_extension:scheduler_stats:get_pools"),
		"GET /v3/capabilities/:host":              needs("volume_extension:capabilities"),
		"GET /v3/os-quota-sets/:project":          needs(auth.PolicyAny),
		"GET /v3/os-quota-sets/:project/defaults": needs(auth.PolicyAny),
		"GET /v3/os-quota-class-sets/:class":      needs("volume_extension:quota_classes:get"),
		"PUT /v3/os-quota-class-sets/:class":      needs("volume_extension:quota_classes:update"),
		"PUT /v3/os-quota-sets/:project":          needs("volume_extension:quotas:update"),
		"DELETE /v3/os-quota-sets/:project":       needs("volume_extension:quotas:delete"),
		"GET /v3/os-availability-zone":            needs("volume_extension:availability_zone_list"),
	}
}

func volumeAccess() map[string]access {
	const (
		act   = "volume_extension:volume_actions:"
		force = "volume_extension:volume_admin_actions:"
	)
	return map[string]access{
		"GET /v3/volumes":        needs("volume:get_all"),
		"POST /v3/volumes":       needs("volume:create"),
		"GET /v3/volumes/:id":    {policies: []string{"volume:get"}, list: []string{"volume:get_all"}},
		"PUT /v3/volumes/:id":    needs("volume:update"),
		"DELETE /v3/volumes/:id": needs("volume:delete"),
		"POST /v3/volumes/:id/action": {inBody: map[string][]string{
			"os-extend": {"volume:extend"}, "os-reset_status": {force + "reset_status"},
			"os-force_delete": {force + "force_delete"}, "os-force_detach": {force + "force_detach"},
			"os-initialize_connection": {act + "initialize_connection"}, "os-terminate_connection": {act + "terminate_connection"},
			"os-attach": {act + "attach"}, "os-detach": {act + "detach"},
			"os-reserve": {act + "reserve"}, "os-unreserve": {act + "unreserve"},
			"os-begin_detaching": {act + "begin_detaching"}, "os-roll_detaching": {act + "roll_detaching"},
			"os-update_readonly_flag": {"volume:update_readonly_flag"}, "os-set_bootable": {"volume:update"},
			"os-retype": {"volume:retype"}, "os-unmanage": {"volume_extension:volume_unmanage"}, "revert": {"volume:revert_to_snapshot"},
		}},
		"GET /v3/volumes/:id/metadata":         needs("volume:get_volume_metadata"),
		"POST /v3/volumes/:id/metadata":        needs("volume:create_volume_metadata"),
		"PUT /v3/volumes/:id/metadata":         needs("volume:update_volume_metadata"),
		"GET /v3/volumes/:id/metadata/:key":    needs("volume:get_volume_metadata"),
		"PUT /v3/volumes/:id/metadata/:key":    needs("volume:update_volume_metadata"),
		"DELETE /v3/volumes/:id/metadata/:key": needs("volume:delete_volume_metadata"),
		"GET /v3/manageable_volumes":           needs("volume_extension:list_manageable"),
		"GET /v3/manageable_volumes/detail":    needs("volume_extension:list_manageable"),
		"POST /v3/manageable_volumes":          needs("volume_extension:volume_manage"),
		"GET /v3/os-volume-manage":             needs("volume_extension:list_manageable"),
		"GET /v3/os-volume-manage/detail":      needs("volume_extension:list_manageable"),
		"POST /v3/os-volume-manage":            needs("volume_extension:volume_manage"),
	}
}

func snapshotAccess() map[string]access {
	return map[string]access{
		"GET /v3/snapshots":        needs("volume:get_all_snapshots"),
		"POST /v3/snapshots":       needs("volume:create_snapshot"),
		"GET /v3/snapshots/:id":    {policies: []string{"volume:get_snapshot"}, list: []string{"volume:get_all_snapshots"}},
		"PUT /v3/snapshots/:id":    needs("volume:update_snapshot"),
		"DELETE /v3/snapshots/:id": needs("volume:delete_snapshot"),
		"POST /v3/snapshots/:id/action": {inBody: map[string][]string{
			"os-reset_status":           {"volume_extension:snapshot_admin_actions:reset_status"},
			"os-force_delete":           {"volume_extension:snapshot_admin_actions:force_delete"},
			"os-update_snapshot_status": {"snapshot_extension:snapshot_actions:update_snapshot_status"},
			"os-unmanage":               {"snapshot_extension:snapshot_unmanage"},
		}},
		"GET /v3/manageable_snapshots":           needs("snapshot_extension:list_manageable"),
		"GET /v3/manageable_snapshots/detail":    needs("snapshot_extension:list_manageable"),
		"GET /v3/snapshots/:id/metadata":         needs("volume:get_snapshot_metadata"),
		"POST /v3/snapshots/:id/metadata":        needs("volume:update_snapshot_metadata"),
		"PUT /v3/snapshots/:id/metadata":         needs("volume:update_snapshot_metadata"),
		"GET /v3/snapshots/:id/metadata/:key":    needs("volume:get_snapshot_metadata"),
		"PUT /v3/snapshots/:id/metadata/:key":    needs("volume:update_snapshot_metadata"),
		"DELETE /v3/snapshots/:id/metadata/:key": needs("volume:delete_snapshot_metadata"),
	}
}

func typeAccess() map[string]access {
	const specs = "volume_extension:types_extra_specs:"
	return map[string]access{
		"GET /v3/types":                         needs("volume_extension:type_get_all"),
		"POST /v3/types":                        needs("volume_extension:type_create"),
		"GET /v3/types/:id":                     needs("volume_extension:type_get"),
		"PUT /v3/types/:id":                     needs("volume_extension:type_update"),
		"DELETE /v3/types/:id":                  needs("volume_extension:type_delete"),
		"GET /v3/types/:id/extra_specs":         needs(specs + "index"),
		"POST /v3/types/:id/extra_specs":        needs(specs + "create"),
		"GET /v3/types/:id/extra_specs/:key":    needs(specs + "show"),
		"PUT /v3/types/:id/extra_specs/:key":    needs(specs + "update"),
		"DELETE /v3/types/:id/extra_specs/:key": needs(specs + "delete"),
	}
}

func groupAccess() map[string]access {
	const types, specs = "group:group_types:", "group:group_types_specs:"
	return map[string]access{
		"GET /v3/group_types":                         needs("group:group_types:get"),
		"POST /v3/group_types":                        needs(types + "create"),
		"GET /v3/group_types/:id":                     needs("group:group_types:get"),
		"PUT /v3/group_types/:id":                     needs(types + "update"),
		"DELETE /v3/group_types/:id":                  needs(types + "delete"),
		"GET /v3/group_types/:id/group_specs":         needs(specs + "get_all"),
		"POST /v3/group_types/:id/group_specs":        needs(specs + "create"),
		"GET /v3/group_types/:id/group_specs/:key":    needs(specs + "get"),
		"PUT /v3/group_types/:id/group_specs/:key":    needs(specs + "update"),
		"DELETE /v3/group_types/:id/group_specs/:key": needs(specs + "delete"),
		"GET /v3/groups":                              needs("group:get_all"),
		"POST /v3/groups":                             needs("group:create"),
		"GET /v3/groups/:id":                          {policies: []string{"group:get"}, list: []string{"group:get_all"}},
		"PUT /v3/groups/:id":                          needs("group:update"),
		"POST /v3/groups/:id/action": {inBody: map[string][]string{
			"delete": {"group:delete"}, "reset_status": {"group:reset_status"},
			"enable_replication": {"group:enable_replication"}, "disable_replication": {"group:disable_replication"},
			"failover_replication": {"group:failover_replication"}, "list_replication_targets": {"group:list_replication_targets"},
		}},
	}
}

// attachmentAccess: Cinder asks no policy for looking at attachments of one's own.
func attachmentAccess() map[string]access {
	return map[string]access{
		"GET /v3/attachments":        needs("volume:get_all"),
		"POST /v3/attachments":       needs("volume:attachment_create"),
		"GET /v3/attachments/:id":    {policies: []string{"volume:get"}, list: []string{"volume:get_all"}},
		"PUT /v3/attachments/:id":    needs("volume:attachment_update"),
		"DELETE /v3/attachments/:id": needs("volume:attachment_delete"),
		"POST /v3/attachments/:id/action": {inBody: map[string][]string{
			"os-complete": {"volume:attachment_complete"},
		}},
	}
}
