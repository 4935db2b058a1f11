package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

// resources are what quotas are about, those of each volume type included.
func resources(state *fsm.State) []string {
	all := []string{fsm.ResourceVolumes, fsm.ResourcePerVolume, fsm.ResourceSnapshots, fsm.ResourceGigabytes, fsm.ResourceBackups, fsm.ResourceBackupGigabytes, fsm.ResourceGroups}
	for _, t := range allTypes(state) {
		for _, noun := range []string{"volumes_", "gigabytes_", "snapshots_"} {
			all = append(all, noun+t.Name)
		}
	}
	return all
}

// showLimits answers GET limits: what the project may have, and what it has.
func (s *Server) showLimits(x *exchange) error {
	if err := s.look(x); err != nil {
		return err
	}
	project := x.project
	if x.admin && x.version >= withLimitsOfProject {
		project = cmp.Or(x.query.Get("project_id"), x.query.Get("tenant_id"), project)
	}
	absolute := map[string]int64{"totalBackupsUsed": 0, "totalBackupGigabytesUsed": 0}
	s.node.View(func(state *fsm.State) {
		for name, resource := range map[string]string{
			"maxTotalVolumes": fsm.ResourceVolumes, "maxTotalSnapshots": fsm.ResourceSnapshots, "maxTotalVolumeGigabytes": fsm.ResourceGigabytes,
			"maxTotalBackups": fsm.ResourceBackups, "maxTotalBackupGigabytes": fsm.ResourceBackupGigabytes,
		} {
			absolute[name] = state.Limit(project, resource)
		}
		u := state.Usage(project)
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
	project, err := x.quotaProject()
	if err != nil {
		return err
	}
	if !usage {
		return s.answerLimits(x, "quota_set", project, project)
	}
	return s.answerQuota(x, "quota_set", project, func(state *fsm.State, resource string) any {
		return map[string]any{"limit": state.Limit(project, resource), "in_use": usedOf(state, project, resource), "reserved": 0}
	})
}

// quotaProject returns the project whose quota is asked for: one's own, or another
// one if a policy allows it.
func (x *exchange) quotaProject() (string, error) {
	project := x.params.ByName("project")
	if x.sees(project) {
		return project, nil
	}
	return project, x.allowed("volume_extension:quotas:show")
}

// quotaDefaults answers GET os-quota-sets/{project}/defaults: what a project may
// have of which nobody has said anything.
func (s *Server) quotaDefaults(x *exchange) error {
	project, err := x.quotaProject()
	if err != nil {
		return err
	}
	return s.answerLimits(x, "quota_set", fsm.DefaultQuota, project)
}

// showQuotaClass answers GET os-quota-class-sets/{class}. Like Cinder it knows of
// every class what is the default for it.
func (s *Server) showQuotaClass(x *exchange) error {
	return s.answerLimits(x, "quota_class_set", fsm.DefaultQuota, x.params.ByName("class"))
}

// answerLimits answers with the limits of a project, under an id if it is not empty.
func (s *Server) answerLimits(x *exchange, noun, project, id string) error {
	return s.answerQuota(x, noun, id, func(state *fsm.State, resource string) any { return state.Limit(project, resource) })
}

// answerQuota answers with what there is to say of each resource.
func (s *Server) answerQuota(x *exchange, noun, id string, of func(state *fsm.State, resource string) any) error {
	if err := s.look(x); err != nil {
		return err
	}
	set := map[string]any{}
	s.node.View(func(state *fsm.State) {
		for _, resource := range resources(state) {
			set[resource] = of(state, resource)
		}
	})
	if id != "" {
		set["id"] = id
	}
	x.json(http.StatusOK, typeJSON, map[string]any{noun: set})
	return nil
}

// usedOf is how much of a resource a project has.
func usedOf(state *fsm.State, project, resource string) int64 {
	noun, volumeType, ofType := strings.Cut(resource, "_")
	used := state.Usage(project)
	if ofType {
		used = state.UsageOfType(project, volumeType)
	}
	switch noun {
	case fsm.ResourceVolumes:
		return used.Volumes
	case fsm.ResourceSnapshots:
		return used.Snapshots
	case fsm.ResourceGigabytes:
		return used.Gigabytes
	case fsm.ResourceGroups:
		return used.Groups
	}
	return 0
}

// updateQuota answers PUT os-quota-sets/{project}.
func (s *Server) updateQuota(x *exchange) error {
	body, err := s.valid(x, "quota_update")
	if err != nil {
		return err
	}
	project := x.params.ByName("project")
	return s.setQuota(x, project, "quota_set", body.sub("quota_set"))
}

// updateQuotaClass answers PUT os-quota-class-sets/default: what every project may
// have that has no limits of its own. There are no other classes: Cinder keeps them,
// and asks none.
func (s *Server) updateQuotaClass(x *exchange) error {
	body, err := s.valid(x, "quota_class_update")
	if err != nil {
		return err
	}
	if class := x.params.ByName("class"); class != "default" {
		return fieldFault("quota_class", class, fmt.Sprintf("%sQuota class %s would have no effect: only default has.", prefixInvalid, cut(class)), "default")
	}
	return s.setQuota(x, fsm.DefaultQuota, "quota_class_set", body.sub("quota_class_set"))
}

// setQuota commits limits of a project, or the defaults of all.
func (s *Server) setQuota(x *exchange, project, noun string, asked object) error {
	if err := s.look(x); err != nil {
		return err
	}
	cmd := fsm.SetQuota{ProjectID: project}
	var err error
	s.node.View(func(state *fsm.State) { cmd.Limits, err = limitsAsked(state, project, noun, asked) })
	if err != nil {
		return err
	}
	if len(cmd.Limits) > 0 {
		if err := s.act(x, project, cmd); err != nil {
			return fmt.Errorf("quota of %s: %w", project, err)
		}
	}
	return s.answerLimits(x, noun, project, "")
}

// limitsAsked reads limits, and refuses those of what there is not, and those that
// are less than the project has of what was limited before, as Cinder does.
func limitsAsked(state *fsm.State, project, noun string, asked object) ([]fsm.Limit, error) {
	known := resources(state)
	q, _ := state.Quota(project)
	var bad []string
	var all []fsm.Limit
	for _, resource := range slices.Sorted(maps.Keys(asked)) { // which error is told must not be chance
		raw := asked[resource]
		switch {
		case resource == "tenant_id" || resource == "id":
			continue
		case !slices.Contains(known, resource):
			bad = append(bad, cut(resource))
			continue
		}
		most, err := limitAsked(resource, raw)
		if err != nil {
			return nil, err
		}
		used := usedOf(state, project, resource)
		if _, set := q.Limit(resource); set && most >= 0 && most < used {
			return nil, fieldFault(resource, pyStr(raw), fmt.Sprintf("Quota %s limit must be equal or greater than existing resources."+
				" Current usage is %d and the requested limit is %d.", resource, used, most))
		}
		all = append(all, fsm.Limit{Resource: resource, Max: most})
	}
	if bad != nil {
		return nil, fieldFault(noun, strings.Join(bad, ", "),
			fmt.Sprintf("%sBad key(s) in %s: %s", prefixInvalid, strings.ReplaceAll(noun, "_", " "), strings.Join(bad, ", ")), known...)
	}
	return all, nil
}

// limitAsked reads one limit, in the words of oslo's validate_integer.
func limitAsked(resource string, raw json.RawMessage) (int64, error) {
	most, err := strconv.ParseInt(strings.TrimSpace(pyStr(raw)), 10, 64)
	switch {
	case err != nil:
		return 0, fieldFault(resource, pyStr(raw), resource+" must be an integer")
	case most < -1:
		return 0, fieldFault(resource, pyStr(raw), resource+" must be >= -1")
	case most > maxSize:
		return 0, fieldFault(resource, pyStr(raw), fmt.Sprintf("%s must be <= %d", resource, int64(maxSize)))
	}
	return most, nil
}

// deleteQuota answers DELETE os-quota-sets/{project}.
func (s *Server) deleteQuota(x *exchange) error {
	project := x.params.ByName("project")
	if err := s.act(x, project, fsm.SetQuota{ProjectID: project}); err != nil {
		return fmt.Errorf("quota of %s: %w", project, err)
	}
	x.empty(http.StatusOK, typeHTML)
	return nil
}
