package auth

import "maps"

// defaults are the rules that hold unless a file says otherwise. Cinder knows no
// operator: where its default asks for an administrator, an operator will do for
// what running a deployment takes, but not for what changes the rules of it.
func defaults() map[string][]string {
	admin := []string{RoleAdmin}
	operate := []string{RoleAdmin, RoleOperator}
	look := []string{RoleAdmin, RoleOperator, RoleReader}
	change := []string{RoleAdmin, RoleOperator, RoleMember}
	all := Roles()
	rules := map[string][]string{PolicyAllProjects: operate, PolicyAny: all}
	for _, group := range []struct {
		roles    []string
		policies []string
	}{
		{admin, administration()}, {operate, operation()}, {look, observation()}, {change, changes()}, {all, reading()},
	} {
		for _, name := range group.policies {
			rules[name] = group.roles
		}
	}
	return maps.Clone(rules)
}

// administration changes what holds for everybody.
func administration() []string {
	return []string{
		"lockstep:peers:remove",
		"volume_extension:type_create", "volume_extension:type_update", "volume_extension:type_delete",
		"volume_extension:types_extra_specs:create", "volume_extension:types_extra_specs:update", "volume_extension:types_extra_specs:delete",
		"volume_extension:quotas:update", "volume_extension:quotas:delete", "volume_extension:quota_classes:update",
		"group:group_types:create", "group:group_types:update", "group:group_types:delete", "group:group_types_specs:create",
		"group:group_types_specs:update", "group:group_types_specs:delete",
	}
}

// operation is what a failover takes, before, during and after it.
func operation() []string {
	return []string{
		"lockstep:failovers:create", "lockstep:failovers:abort",
		"volume_extension:services:update", "volume:failover_host", "volume:freeze_host", "volume:thaw_host",
		"clusters:update",
		"group:enable_replication", "group:disable_replication", "group:failover_replication",
		"group:reset_status",
		"volume_extension:volume_admin_actions:reset_status", "volume_extension:volume_admin_actions:force_delete", "volume:force_delete",
		"volume_extension:snapshot_admin_actions:reset_status", "volume_extension:snapshot_admin_actions:force_delete",
		"volume_extension:volume_admin_actions:force_detach", "snapshot_extension:snapshot_actions:update_snapshot_status",
		"volume_extension:list_manageable", "volume_extension:volume_manage", "volume_extension:volume_unmanage",
		"snapshot_extension:list_manageable", "snapshot_extension:snapshot_manage", "snapshot_extension:snapshot_unmanage",
	}
}

// observation shows how the deployment is.
func observation() []string {
	return []string{
		"lockstep:status", "lockstep:metrics", "lockstep:events", "lockstep:failovers:get", "lockstep:clusters:get", "lockstep:peers:get",
		"volume_extension:services:index", "clusters:get_all", "clusters:get",
		"scheduler_extension:scheduler_stats:get_pools", "volume_extension:capabilities",
		"volume_extension:quotas:show", "volume_extension:quota_classes:get", "volume_extension:hosts",
		"group:group_types_specs:get", "group:group_types_specs:get_all",
	}
}

// changes are those of a project's own volumes.
func changes() []string {
	return []string{
		"volume:create", "volume:update", "volume:delete", "volume:extend", "volume:retype",
		"volume:create_volume_metadata", "volume:update_volume_metadata", "volume:delete_volume_metadata",
		"volume:create_snapshot", "volume:update_snapshot", "volume:delete_snapshot", "volume:revert_to_snapshot",
		"volume:update_snapshot_metadata", "volume:delete_snapshot_metadata", "volume:update_readonly_flag",
		"volume:attachment_create", "volume:attachment_update", "volume:attachment_delete", "volume:attachment_complete",
		"volume_extension:volume_actions:attach", "volume_extension:volume_actions:detach",
		"volume_extension:volume_actions:reserve", "volume_extension:volume_actions:unreserve",
		"volume_extension:volume_actions:begin_detaching", "volume_extension:volume_actions:roll_detaching",
		"volume_extension:volume_actions:initialize_connection", "volume_extension:volume_actions:terminate_connection",
		"volume_extension:volume_image_metadata:set", "volume_extension:volume_image_metadata:remove",
		"group:create", "group:update", "group:delete", "group:create_group_snapshot", "group:delete_group_snapshot",
	}
}

// reading shows a project what is its own, and what is everybody's.
func reading() []string {
	return []string{
		"volume:get_all", "volume:get", "volume:get_volume_metadata", "volume:get_all_snapshots", "volume:get_snapshot",
		"volume:get_snapshot_metadata", "volume_extension:type_get_all", "volume_extension:type_get",
		"volume_extension:types_extra_specs:index", "volume_extension:types_extra_specs:show", "limits_extension:used_limits",
		"volume_extension:availability_zone_list", "volume_extension:volume_image_metadata:show",
		"group:get_all", "group:get", "group:list_replication_targets", "group:get_all_group_snapshots", "group:get_group_snapshot", "group:group_types:get",
	}
}
