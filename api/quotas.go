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

// defaultLimit is what Cinder allows a project until somebody says otherwise. Here
// a limit on sums is enforced once it was set for a project; of those that nobody
// chose only the size of one request is.
func defaultLimit(resource string) int64 {
	switch resource {
	case fsm.ResourceGigabytes, "backup_gigabytes":
		return 1000
	case fsm.ResourceVolumes, fsm.ResourceSnapshots, "backups", "groups":
		return 10
	}
	return -1
}

// enforced reports whether a limit on a resource has an effect.
func enforced(resource string) bool {
	switch resource {
	case fsm.ResourceVolumes, fsm.ResourceSnapshots, fsm.ResourceGigabytes, fsm.ResourcePerVolume:
		return true
	}
	return false
}

// resources are what quotas are about, those of each volume type included.
func resources(state *fsm.State) []string {
	all := []string{fsm.ResourceVolumes, fsm.ResourcePerVolume, fsm.ResourceSnapshots, fsm.ResourceGigabytes, "backups", "backup_gigabytes", "groups"}
	for _, t := range allTypes(state) {
		for _, noun := range []string{"volumes_", "gigabytes_", "snapshots_"} {
			all = append(all, noun+t.Name)
		}
	}
	return all
}

func limitOf(state *fsm.State, project, resource string) int64 {
	q, _ := state.Quota(project)
	if most, set := q.Limit(resource); set {
		return most
	}
	return defaultLimit(resource)
}

// checkDefaultQuota refuses one request for more than a project may have by default.
func checkDefaultQuota(state *fsm.State, project string, size int64) error {
	q, _ := state.Quota(project)
	if _, set := q.Limit(fsm.ResourceGigabytes); set || size <= defaultLimit(fsm.ResourceGigabytes) {
		return nil // the command itself checks what was set
	}
	return &fault{status: http.StatusRequestEntityTooLarge, Refusal: fsm.Refusal{
		Code: fsm.ErrOverQuota, Field: fsm.ResourceGigabytes, Value: strconv.FormatInt(size, 10),
		Message: fmt.Sprintf("VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota."+
			" Requested %dG, quota is %dG and %dG has been consumed.", size, defaultLimit(fsm.ResourceGigabytes), state.Usage(project).Gigabytes),
	}}
}

// showLimits answers GET limits: what the project may have, and what it has.
func (s *Server) showLimits(x *exchange) error {
	if err := s.look(x); err != nil {
		return err
	}
	absolute := map[string]int64{"totalBackupsUsed": 0, "totalBackupGigabytesUsed": 0}
	s.node.View(func(state *fsm.State) {
		for name, resource := range map[string]string{
			"maxTotalVolumes": fsm.ResourceVolumes, "maxTotalSnapshots": fsm.ResourceSnapshots, "maxTotalVolumeGigabytes": fsm.ResourceGigabytes,
			"maxTotalBackups": "backups", "maxTotalBackupGigabytes": "backup_gigabytes",
		} {
			absolute[name] = limitOf(state, x.project, resource)
		}
		u := state.Usage(x.project)
		absolute["totalVolumesUsed"], absolute["totalSnapshotsUsed"], absolute["totalGigabytesUsed"] = u.Volumes, u.Snapshots, u.Gigabytes
	})
	x.json(http.StatusOK, typeJSON, map[string]any{"limits": map[string]any{"rate": []any{}, "absolute": absolute}})
	return nil
}

// showQuota answers GET os-quota-sets/{project}.
func (s *Server) showQuota(x *exchange) error {
	usage := false
	if x.query.Has("usage") {
		var err error
		if usage, err = parseBool("usage", x.query.Get("usage")); err != nil {
			return err
		}
	}
	project := x.params.ByName("project")
	if !x.sees(project) {
		return x.allowed("volume_extension:quotas:show")
	}
	if err := s.look(x); err != nil {
		return err
	}
	state := s.node.Clone()
	set := quotaSet(state, project)
	if usage {
		used := usedByType(state, project)
		for name, limit := range set {
			set[name] = map[string]any{"limit": limit, "in_use": used[name], "reserved": 0}
		}
	}
	set["id"] = project
	x.json(http.StatusOK, typeJSON, map[string]any{"quota_set": set})
	return nil
}

func quotaSet(state *fsm.State, project string) map[string]any {
	set := map[string]any{}
	for _, resource := range resources(state) {
		set[resource] = limitOf(state, project, resource)
	}
	return set
}

// usedByType counts what a project has, in all and of each type.
func usedByType(state *fsm.State, project string) map[string]int64 {
	u := state.Usage(project)
	used := map[string]int64{fsm.ResourceVolumes: u.Volumes, fsm.ResourceSnapshots: u.Snapshots, fsm.ResourceGigabytes: u.Gigabytes}
	for v := range state.Volumes(0) {
		if v.ProjectID == project {
			used["volumes_"+v.VolumeType]++
			used["gigabytes_"+v.VolumeType] += v.Size
		}
	}
	for sn := range state.Snapshots(0) {
		if sn.ProjectID != project {
			continue
		}
		if v, ok := state.Volume(sn.VolumeID); ok {
			used["snapshots_"+v.VolumeType]++
			used["gigabytes_"+v.VolumeType] += sn.Size
		}
	}
	return used
}

// updateQuota answers PUT os-quota-sets/{project}.
func (s *Server) updateQuota(x *exchange) error {
	body, err := s.valid(x, "quota_update")
	if err != nil {
		return err
	}
	if err := x.allowed("volume_extension:quotas:update"); err != nil {
		return err
	}
	if err := s.look(x); err != nil {
		return err
	}
	project := x.params.ByName("project")
	var known []string
	s.node.View(func(state *fsm.State) { known = resources(state) })
	cmd := fsm.SetQuota{ProjectID: project}
	for resource, raw := range body.sub("quota_set") {
		most, err := strconv.ParseInt(pyStr(raw), 10, 64)
		switch {
		case resource == "tenant_id":
			continue
		case !slices.Contains(known, resource):
			return fieldFault(resource, pyStr(raw), "Bad key(s) in quota set: "+cut(resource), known...)
		case err != nil || most < -1:
			return fieldFault(resource, pyStr(raw), fmt.Sprintf("%sQuota limit must be -1 or greater.", prefixInvalid))
		case !enforced(resource) && most != defaultLimit(resource):
			return fieldFault(resource, pyStr(raw), fmt.Sprintf("%sa limit on %s would have no effect here.", prefixInvalid, resource))
		}
		cmd.Limits = append(cmd.Limits, fsm.Limit{Resource: resource, Max: most})
	}
	slices.SortFunc(cmd.Limits, func(a, b fsm.Limit) int { return cmp.Compare(a.Resource, b.Resource) })
	if len(cmd.Limits) > 0 {
		if err := s.act(x, project, cmd); err != nil {
			return fmt.Errorf("quota of %s: %w", project, err)
		}
	}
	var set map[string]any
	s.node.View(func(state *fsm.State) { set = quotaSet(state, project) })
	x.json(http.StatusOK, typeJSON, map[string]any{"quota_set": set})
	return nil
}

// deleteQuota answers DELETE os-quota-sets/{project}.
func (s *Server) deleteQuota(x *exchange) error {
	if err := x.allowed("volume_extension:quotas:delete"); err != nil {
		return err
	}
	project := x.params.ByName("project")
	if err := s.act(x, project, fsm.SetQuota{ProjectID: project}); err != nil {
		return fmt.Errorf("quota of %s: %w", project, err)
	}
	x.empty(http.StatusOK, typeHTML)
	return nil
}

// listZones answers GET os-availability-zone.
func (s *Server) listZones(x *exchange) error {
	x.json(http.StatusOK, typeJSON, map[string]any{"availabilityZoneInfo": []any{
		map[string]any{"zoneName": zone, "zoneState": map[string]bool{"available": true}},
	}})
	return nil
}

// listPools answers GET scheduler-stats/get_pools: one pool for each cluster that
// new volumes can be made in.
func (s *Server) listPools(x *exchange) error {
	if err := x.allowed("scheduler_extension:scheduler_stats:get_pools"); err != nil {
		return err
	}
	detail := false
	if x.query.Has("detail") {
		var err error
		if detail, err = parseBool("detail", x.query.Get("detail")); err != nil {
			return err
		}
	}
	if err := s.look(x); err != nil {
		return err
	}
	up, _, err := s.presence(x)
	if err != nil {
		return err
	}
	rows := []any{}
	state := s.node.Clone()
	for cl := range state.Clusters() {
		if unfit(state, &cl, &fsm.VolumeType{}) != "" || len(servingIn(state, &cl, up)) == 0 {
			continue
		}
		row := map[string]any{"name": withPool(cl.Name)}
		if detail {
			row["capabilities"] = capabilities(state, &cl)
		}
		if name := x.query.Get("pool_name"); name == "" || name == row["name"] {
			rows = append(rows, row)
		}
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"pools": rows})
	return nil
}

// capabilities is what is known of a backend here. How much room it has is its
// driver's business, and in the metrics of its node.
func capabilities(state *fsm.State, cl *fsm.Cluster) map[string]any {
	_, backend, _ := strings.Cut(cl.Name, "@")
	return map[string]any{
		"volume_backend_name": backend, "pool_name": backend, "vendor_name": "Lockstep", "storage_protocol": volumeProtocol,
		"replication_enabled": len(state.Targets(cl.Name)) > 0, "replication_targets": state.Targets(cl.Name),
		"total_capacity_gb": "unknown", "free_capacity_gb": "unknown", "reserved_percentage": 0, "backend_state": "up",
	}
}

// showCapabilities answers GET capabilities/{host}.
func (s *Server) showCapabilities(x *exchange) error {
	if err := x.allowed("volume_extension:capabilities"); err != nil {
		return err
	}
	if err := s.look(x); err != nil {
		return err
	}
	host := x.params.ByName("host")
	var row map[string]any
	s.node.View(func(state *fsm.State) {
		for svc := range state.Services() {
			if svc.Host != withoutPool(host) {
				continue
			}
			_, backend, _ := strings.Cut(svc.Host, "@")
			row = map[string]any{
				"namespace": "OS::Storage::Capabilities::" + svc.Host, "vendor_name": "Lockstep", "volume_backend_name": backend,
				"pool_name": nil, "driver_version": nil, "storage_protocol": volumeProtocol, "display_name": nil, "description": nil,
				"visibility": nil, "replication_targets": state.Targets(svc.Group()), "properties": map[string]any{},
			}
		}
	})
	if row == nil {
		return newFault(http.StatusNotFound, "Can't find service: %s", host)
	}
	x.json(http.StatusOK, typeJSON, row)
	return nil
}
