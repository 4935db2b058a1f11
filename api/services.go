package api

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/lockstep-storage/lockstep/fsm"
)

// listServices answers GET os-services.
func (s *Server) listServices(x *exchange) error {
	if err := s.look(x); err != nil {
		return err
	}
	up, _, err := s.presence(x)
	if err != nil {
		return err
	}
	rows := []any{}
	s.node.View(func(state *fsm.State) {
		for svc := range state.Services() {
			if host := x.last("host"); host != "" && !matchesHost(svc.Host, host) {
				continue
			}
			if x.query.Has("binary") && x.last("binary") != fsm.Binary {
				continue
			}
			if cl, ok := state.Cluster(svc.Group()); ok {
				rows = append(rows, x.serviceRow(&cl, &svc, up[svc.Host]))
			}
		}
	})
	x.json(http.StatusOK, typeJSON, map[string]any{"services": rows})
	return nil
}

// last returns a parameter; of one that is given several times the last counts.
func (x *exchange) last(name string) string {
	values := x.query[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// serviceRow writes a service as Cinder does. What concerns replication comes from
// its cluster, but a member whose driver refuses the committed site says so.
func (x *exchange) serviceRow(cl *fsm.Cluster, svc *fsm.Service, p Presence) map[string]any {
	seen := max(svc.UpdatedAt, p.LastSeen) // in Cinder a heartbeat updates the row, too
	row := map[string]any{
		"binary": fsm.Binary, "host": svc.Host, "zone": "nova",
		"status": statusWord(svc.Disabled), "state": stateWord(p.Up), "updated_at": stamp(seen),
		"disabled_reason":    disabledReason(cl, svc.DisabledReason),
		"replication_status": cl.ReplicationStatus, "active_backend_id": activeBackend(cl), "frozen": cl.Frozen,
	}
	if refuses(cl, svc) {
		row["status"], row["disabled_reason"] = statusWord(true), svc.Reported.Error
		row["replication_status"] = fsm.ReplicationError
	}
	if svc.Stuck {
		row["status"], row["disabled_reason"] = statusWord(true), svc.StuckReason()
	}
	if x.version >= withClusters {
		row["cluster"] = orNull(svc.Cluster)
	}
	if x.version >= withBackendState {
		row["backend_state"] = nil
	}
	return row
}

// actOnServices answers PUT os-services/{action}.
func (s *Server) actOnServices(x *exchange) error {
	var schema string
	var act func(*exchange, object) error
	switch action := x.params.ByName("action"); {
	case action == "enable":
		schema, act = "service_enable", s.enableService
	case action == "disable":
		schema, act = "service_enable", s.disableService
	case action == "disable-log-reason":
		schema, act = "service_disable_reason", s.disableService
	case action == "freeze":
		schema, act = "service_freeze", s.freeze
	case action == "thaw":
		schema, act = "service_freeze", s.thaw
	case action == "get-log" && x.version >= withLogLevels:
		schema, act = "service_get_log", s.getLogLevels
	case action == "set-log" && x.version >= withLogLevels:
		schema, act = "service_set_log", s.setLogLevels
	case action == "failover_host" || action == "failover" && x.version >= withReplication:
		schema, act = "service_failover", s.failOver
	default:
		if _, err := x.body(s.cfg.RequestTimeout); err != nil {
			return err
		}
		return badRequest(prefixInvalid + "Unknown action")
	}
	body, err := s.valid(x, schema)
	if err != nil {
		return err
	}
	return act(x, body)
}

func (s *Server) enableService(x *exchange, body object) error {
	return s.setService(x, body, fsm.SetServiceDisabled{})
}

func (s *Server) disableService(x *exchange, body object) error {
	return s.setService(x, body, fsm.SetServiceDisabled{Disabled: true})
}

const msgNoHost = "Host field is missing."

// setService enables or disables one service.
func (s *Server) setService(x *exchange, body object, cmd fsm.SetServiceDisabled) error {
	if !body.has("host") {
		return badRequest(prefixInvalid + msgNoHost)
	}
	if err := s.look(x); err != nil {
		return err
	}
	answer := map[string]any{"service": body.text("service"), "binary": body.text("binary"), "host": body.text("host")}
	cmd.Host = body.text("host")
	known := false
	s.node.View(func(state *fsm.State) {
		for svc := range state.Services() { // a host without @backend means the first of its services
			if known = matchesHost(svc.Host, cmd.Host); known {
				cmd.Host = svc.Host
				return
			}
		}
	})
	binary := body.text("binary")
	if binary == "" {
		binary = body.text("service")
	}
	if !known || binary != fsm.Binary {
		return newFault(http.StatusNotFound, "Service %s could not be found on host %s.", binary, cmd.Host)
	}
	if x.params.ByName("action") == "disable-log-reason" {
		cmd.Reason = body.text("disabled_reason")
		answer["disabled_reason"] = orNull(cmd.Reason)
	}
	if err := s.act(x, cmd.Host, cmd); err != nil {
		return err
	}
	answer["disabled"], answer["status"] = cmd.Disabled, statusWord(cmd.Disabled)
	x.json(http.StatusOK, typeJSON, answer)
	return nil
}

// clustersFor returns the clusters that host or cluster in a body mean. Below 3.26
// there is only host.
func (s *Server) clustersFor(x *exchange, body object) ([]fsm.Cluster, error) {
	host, cluster := body.text("host"), body.text("cluster")
	if x.version < withReplication {
		if host == "" {
			return nil, badRequest(prefixInvalid + msgNoHost)
		}
		cluster = ""
	}
	switch {
	case host == "" && cluster == "" && x.params.ByName("action") == "failover_host":
		return nil, badRequest(prefixInvalid + msgNoHost) // as Cinder says that knows no cluster here
	case (host == "") == (cluster == ""):
		return nil, badRequest(prefixInvalid + "One and only one of cluster and host must be set.")
	}
	if err := s.look(x); err != nil {
		return nil, err
	}
	var found []fsm.Cluster
	s.node.View(func(state *fsm.State) {
		if host != "" {
			found = onHost(state, host)
			return
		}
		found = clustersNamed(state, cluster)
	})
	switch {
	case host == "" && len(found) > 1:
		return nil, badRequest("Services from different clusters found.")
	case len(found) > 0:
		return found, nil
	case host != "":
		return nil, badRequest("No service found with host=%s", host)
	}
	return nil, badRequest("No service found with cluster=%s", cluster)
}

func (s *Server) freeze(x *exchange, body object) error {
	return s.setFrozen(x, body, fsm.SetFrozen{Frozen: true})
}

func (s *Server) thaw(x *exchange, body object) error {
	return s.setFrozen(x, body, fsm.SetFrozen{})
}

// setFrozen freezes or thaws every cluster meant.
func (s *Server) setFrozen(x *exchange, body object, cmd fsm.SetFrozen) error {
	clusters, err := s.clustersFor(x, body)
	if err != nil {
		return err
	}
	for _, cl := range clusters {
		if cl.Frozen == cmd.Frozen {
			return badRequest("%sfrozen in %s must be %s to failover.", prefixInvalid, cl.Name, map[bool]string{true: "False", false: "True"}[cmd.Frozen])
		}
	}
	for _, cl := range clusters {
		cmd.Cluster, cmd.Owner = cl.Name, s.cfg.Local(cl.Name)
		if err := s.act(x, cl.Name, cmd); err != nil {
			return err
		}
	}
	x.empty(http.StatusOK, typeJSON)
	return nil
}

// headerFailover names the failover that an answer is about.
const headerFailover = "X-Lockstep-Failover-Id"

// failOver answers PUT os-services/failover and failover_host. A failover to a
// secondary is forced, as Cinder means it; a failback is planned, since both sites
// should be there, and can be forced through /v1.
func (s *Server) failOver(x *exchange, body object) error {
	clusters, err := s.clustersFor(x, body)
	if err != nil {
		return err
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	mode := fsm.Forced
	if body.text("backend_id") == fsm.DefaultBackendID {
		mode = fsm.Planned
	}
	for _, cl := range clusters {
		if slices.Contains([]fsm.ReplicationStatus{fsm.ReplicationDisabled, fsm.ReplicationNotCapable, fsm.ReplicationError}, cl.ReplicationStatus) {
			return badRequest(msgNoFailover, prefixInvalid, cl.Name)
		}
	}
	for _, cl := range clusters {
		cmd := fsm.RequestFailover{
			ID: ids.of("failover " + cl.Name), Cluster: cl.Name, Target: s.targetFor(&cl, body.text("backend_id")), Mode: mode, RequestedBy: x.user,
		}
		if err := s.commit(x, ids, cl.Name, cmd); err != nil {
			return cinderFailoverRefusal(cl.Name, err)
		}
		x.Header().Add("Location", "/v1/failovers/"+cmd.ID)
		x.Header().Add(headerFailover, cmd.ID)
	}
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}

// targetFor returns the site that a request of Cinder's API means. Without one its
// drivers take the first target that is not in use, which the record of the
// failover then names.
func (s *Server) targetFor(cl *fsm.Cluster, asked string) (target string) {
	if asked != "" {
		return asked
	}
	s.node.View(func(state *fsm.State) {
		for _, t := range state.Targets(cl.Name) {
			if t != cl.ActiveBackendID {
				target = t
				return
			}
		}
	})
	return target
}

// msgNoFailover is Cinder's one message for what cannot be failed over as it is.
const msgNoFailover = "%sreplication_status in %s must be ['enabled', 'failed-over'] and must be up to failover."

func cinderFailoverRefusal(cluster string, err error) error {
	if r, ok := refusedFor(err, fsm.ErrNotFound); ok {
		return badRequest("%s", r.Message)
	}
	if r, ok := refusedFor(err, fsm.ErrFailingOver); ok {
		return badRequest(msgNoFailover+" %s", prefixInvalid, cluster, r.Message)
	}
	return fmt.Errorf("fail over %s: %w", cluster, err)
}
