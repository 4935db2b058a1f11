package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

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
	detail := false
	if x.query.Has("detail") {
		var err error
		if detail, err = parseBool("detail", x.query.Get("detail")); err != nil {
			return err
		}
	}
	if err := x.checkPoolFilters(); err != nil {
		return err
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
		if name := x.query.Get("name"); x.version < withPoolFilters || name == "" || name == row["name"] {
			rows = append(rows, row)
		}
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"pools": rows})
	return nil
}

// checkPoolFilters refuses what pools cannot be filtered by. Before Cinder could filter
// them it looked at nothing.
func (x *exchange) checkPoolFilters() error {
	var invalid []string
	for _, name := range queryKeys(x.r.URL.RawQuery) {
		if !slices.Contains([]string{"name", "detail", "consistency"}, name) {
			invalid = append(invalid, name)
		}
	}
	if invalid != nil && x.version >= withPoolFilters {
		return badRequest("Invalid filters %s are found in query options.", strings.Join(invalid, ","))
	}
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
	if err := s.look(x); err != nil {
		return err
	}
	host := x.params.ByName("host")
	var row map[string]any
	s.node.View(func(state *fsm.State) {
		for svc := range state.Services() {
			if row != nil || !matchesHost(svc.Host, host) && !matchesHost(svc.Cluster, host) {
				continue
			}
			_, backend, _ := strings.Cut(svc.Host, "@")
			row = map[string]any{
				"namespace": "OS::Storage::Capabilities::" + svc.Group(), "vendor_name": "Lockstep", "volume_backend_name": backend,
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
