package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// groupAction is one action on a group.
type groupAction struct {
	schema string
	since  microversion
	do     func(x *exchange, g *fsm.Group, args object) error
}

func (s *Server) groupActions() map[string]groupAction {
	return map[string]groupAction{
		"delete":                   {schema: "group_delete", do: s.deleteGroup},
		"reset_status":             {schema: "group_reset_status", since: withGroupReset, do: s.resetGroup},
		"enable_replication":       {schema: "group_enable_replication", since: withGroupReplication, do: s.replicateGroup(true)},
		"disable_replication":      {schema: "group_disable_replication", since: withGroupReplication, do: s.replicateGroup(false)},
		"failover_replication":     {schema: "group_failover", since: withGroupReplication, do: s.failOverGroup},
		"list_replication_targets": {schema: "group_list_replication_targets", since: withGroupReplication, do: s.listGroupTargets},
	}
}

// actOnGroup answers POST groups/{id}/action.
func (s *Server) actOnGroup(x *exchange) error {
	name, body, err := x.action(s.cfg.RequestTimeout)
	if err != nil {
		return err
	}
	action, ok := s.groupActions()[name]
	if !ok {
		return noAction(name)
	}
	if x.version < action.since {
		return newFault(http.StatusNotFound, msgNoResource)
	}
	if err := s.schemas.validate(action.schema, x.raw); err != nil {
		return err
	}
	args := body.sub(name)
	if name == "reset_status" {
		if err := checkGroupStatus(args.text("status")); err != nil {
			return err
		}
	}
	g, err := s.group(x, x.params.ByName("id"))
	if err != nil {
		return err
	}
	return action.do(x, &g, args)
}

// actedOnGroup commits what an action asks for.
func (s *Server) actedOnGroup(x *exchange, g *fsm.Group, cmd fsm.Command) error {
	if err := s.act(x, g.ID, cmd); err != nil {
		return groupRefusal(fmt.Errorf("group %s: %w", g.ID, err))
	}
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}

func (s *Server) deleteGroup(x *exchange, g *fsm.Group, args object) error {
	volumes, err := args.flag("delete-volumes", "false")
	if err != nil {
		return err
	}
	return s.actedOnGroup(x, g, fsm.DeleteGroup{ID: g.ID, Volumes: volumes, Host: s.cfg.Local(g.Cluster)})
}

// groupStatuses are those that Cinder lets an administrator set. It names one more
// that it does not take.
func groupStatuses() []string {
	return []string{"error", "available", "creating", "deleting", "deleted", "updating", "in-use", "error_deleting"}
}

func checkGroupStatus(status string) error {
	const prefix = "Invalid Group Status: "
	if strings.TrimSpace(status) == "" {
		return badRequest(prefix + "The 'status' can not be empty.")
	}
	if lower := strings.ToLower(status); lower == "in-use" || !slices.Contains(groupStatuses(), lower) {
		return fieldFault("status", status, fmt.Sprintf("%sGroup status: %s is invalid, valid status are: (%s).",
			prefix, cut(status), quoteAll(groupStatuses())), groupStatuses()...)
	}
	return nil
}

func (s *Server) resetGroup(x *exchange, g *fsm.Group, args object) error {
	return s.actedOnGroup(x, g, fsm.ResetGroup{ID: g.ID, Status: fsm.GroupStatus(strings.ToLower(args.text("status")))})
}

func (s *Server) replicateGroup(enabled bool) func(*exchange, *fsm.Group, object) error {
	return func(x *exchange, g *fsm.Group, _ object) error {
		return s.actedOnGroup(x, g, fsm.SetGroupReplication{ID: g.ID, Enabled: enabled})
	}
}

// groupPatience is how long the answer to a failover of a group waits for its switch:
// Cinder's own is over in a moment, and scripts look at the group right after it.
const groupPatience = 5 * time.Second

// failOverGroup answers failover_replication. As for a cluster, a failover to a
// secondary is forced and a failback is planned; without a site it goes to the first
// target that is not in use. All members of the group's cluster follow, so it is
// operators who may ask for it.
func (s *Server) failOverGroup(x *exchange, g *fsm.Group, args object) error {
	attached, err := args.flag("allow_attached_volume", "false")
	if err != nil {
		return err
	}
	ids, err := x.identities()
	if err != nil {
		return err
	}
	cmd := fsm.RequestFailover{
		ID: ids.of("failover of group " + g.ID), Cluster: g.Cluster, Group: g.ID, Target: args.text("secondary_backend_id"),
		Mode: fsm.Forced, RequestedBy: x.user, Attached: attached,
	}
	if cmd.Target == fsm.DefaultBackendID {
		cmd.Mode = fsm.Planned
	}
	s.node.View(func(state *fsm.State) {
		err = state.CheckGroupType(g.ID)
		for move := range state.Moves(g.Cluster, g.ID) {
			others := slices.DeleteFunc(state.Targets(g.Cluster), func(t string) bool { return t == move.From })
			if cmd.Target == "" && len(others) > 0 {
				cmd.Target = others[0]
			}
		}
	})
	if err != nil {
		return groupRefusal(err)
	}
	if err := s.commit(x, ids, g.ID, cmd); err != nil {
		return groupRefusal(fmt.Errorf("fail over group %s: %w", g.ID, err))
	}
	s.await(x.r.Context(), groupPatience, func(state *fsm.State) bool {
		f, ok := state.Failover(cmd.ID)
		return !ok || f.Phase == fsm.Switching || f.Phase.Terminal()
	})
	x.Header().Set("Location", "/v1/failovers/"+cmd.ID)
	x.Header().Set(headerFailover, cmd.ID)
	x.empty(http.StatusAccepted, typeHTML)
	return nil
}

// listGroupTargets answers list_replication_targets.
func (s *Server) listGroupTargets(x *exchange, g *fsm.Group, _ object) error {
	targets := []any{}
	var err error
	s.node.View(func(state *fsm.State) {
		if err = state.CheckGroupType(g.ID); err == nil {
			for _, t := range state.Targets(g.Cluster) {
				targets = append(targets, map[string]string{"backend_id": t})
			}
		}
	})
	if err != nil {
		return groupRefusal(err)
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"replication_targets": targets})
	return nil
}
