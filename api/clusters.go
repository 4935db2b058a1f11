package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/lockstep-storage/lockstep/fsm"
)

// clusterSums is what a cluster's row says of its members.
type clusterSums struct {
	hosts, down int
	heartbeat   fsm.Time
}

func sums(state *fsm.State, cl *fsm.Cluster, up map[string]Presence) clusterSums {
	var c clusterSums
	for svc := range state.Members(cl.Name) {
		c.hosts++
		p := up[svc.Host]
		if !p.Up {
			c.down++
		}
		c.heartbeat = max(c.heartbeat, p.LastSeen)
	}
	return c
}

func (c clusterSums) up() bool { return c.down < c.hosts }

// clusterRow writes a cluster as Cinder does, in short.
func (x *exchange) clusterRow(cl *fsm.Cluster, c clusterSums) map[string]any {
	row := map[string]any{
		"name": cl.Name, "binary": fsm.Binary, "state": stateWord(c.up()), "status": statusWord(cl.Disabled),
	}
	if x.version >= withReplication {
		row["replication_status"] = cl.ReplicationStatus
	}
	return row
}

// clusterDetail writes a cluster as Cinder does, in full.
func (x *exchange) clusterDetail(cl *fsm.Cluster, c clusterSums) map[string]any {
	row := x.clusterRow(cl, c)
	row["num_hosts"], row["num_down_hosts"], row["last_heartbeat"] = c.hosts, c.down, stamp(c.heartbeat)
	row["created_at"], row["updated_at"] = stamp(cl.CreatedAt), stamp(cl.UpdatedAt)
	row["disabled_reason"] = disabledReason(cl, cl.DisabledReason)
	if x.version >= withReplication {
		row["frozen"], row["active_backend_id"] = cl.Frozen, activeBackend(cl)
	}
	return row
}

// clusterFilter is one filter of the list of clusters.
type clusterFilter struct {
	since microversion
	match func(cl *fsm.Cluster, c clusterSums, want string) (bool, error)
}

// textFilter compares as text; nil, which is null, matches nothing.
func textFilter(since microversion, value func(*fsm.Cluster, clusterSums) any) clusterFilter {
	return clusterFilter{since: since, match: func(cl *fsm.Cluster, c clusterSums, want string) (bool, error) {
		return value(cl, c) == any(want), nil
	}}
}

func boolFilter(since microversion, name string, value func(*fsm.Cluster, clusterSums) bool) clusterFilter {
	return clusterFilter{since: since, match: func(cl *fsm.Cluster, c clusterSums, want string) (bool, error) {
		wanted, err := parseBool(name, want)
		return value(cl, c) == wanted, err
	}}
}

// matchesName takes a name without @backend for every backend, and none for all.
func matchesName(cl *fsm.Cluster, _ clusterSums, want string) (bool, error) {
	return want == "" || matchesHost(cl.Name, want), nil
}

func clusterFilters() map[string]clusterFilter {
	return map[string]clusterFilter{
		"name":               {match: matchesName},
		"binary":             textFilter(0, func(*fsm.Cluster, clusterSums) any { return fsm.Binary }),
		"num_hosts":          textFilter(0, func(_ *fsm.Cluster, c clusterSums) any { return strconv.Itoa(c.hosts) }),
		"num_down_hosts":     textFilter(0, func(_ *fsm.Cluster, c clusterSums) any { return strconv.Itoa(c.down) }),
		"is_up":              boolFilter(0, "is_up", func(_ *fsm.Cluster, c clusterSums) bool { return c.up() }),
		"disabled":           boolFilter(0, "disabled", func(cl *fsm.Cluster, _ clusterSums) bool { return cl.Disabled }),
		"frozen":             boolFilter(withReplication, "frozen", func(cl *fsm.Cluster, _ clusterSums) bool { return cl.Frozen }),
		"replication_status": textFilter(withReplication, func(cl *fsm.Cluster, _ clusterSums) any { return string(cl.ReplicationStatus) }),
		"active_backend_id":  textFilter(withReplication, func(cl *fsm.Cluster, _ clusterSums) any { return activeBackend(cl) }),
	}
}

// clusterQuery returns the filters that the request asks for. Of one that is
// given twice the last counts.
func (x *exchange) clusterQuery() (func(*fsm.Cluster, clusterSums) bool, error) {
	known := clusterFilters()
	var invalid []string
	wanted := map[string]string{}
	for _, key := range queryKeys(x.r.URL.RawQuery) {
		f, ok := known[key]
		switch {
		case key == "consistency":
		case !ok || x.version < f.since:
			invalid = append(invalid, key)
		default:
			wanted[key] = x.query[key][len(x.query[key])-1]
		}
	}
	if invalid != nil {
		return nil, badRequest("%sInvalid filter keys: %s", prefixInvalid, strings.Join(invalid, ", "))
	}
	for key, want := range wanted { // what is no boolean is refused whatever there is to list
		if _, err := known[key].match(&fsm.Cluster{}, clusterSums{}, want); err != nil {
			return nil, err
		}
	}
	return func(cl *fsm.Cluster, c clusterSums) bool {
		for key, want := range wanted {
			if ok, err := known[key].match(cl, c, want); !ok || err != nil {
				return false
			}
		}
		return true
	}, nil
}

// queryKeys returns the keys of a query in order, each once.
func queryKeys(raw string) []string {
	var keys []string
	for pair := range strings.SplitSeq(raw, "&") {
		key, _, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(key)
		if err == nil && key != "" && !strings.Contains(pair, ";") && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// listClusters answers GET clusters.
func (s *Server) listClusters(x *exchange) error { return s.clusterList(x, x.clusterRow) }

func (s *Server) clusterList(x *exchange, row func(*fsm.Cluster, clusterSums) map[string]any) error {
	matches, err := x.clusterQuery()
	if err != nil {
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
	s.node.View(func(state *fsm.State) {
		for cl := range state.Clusters() {
			if c := sums(state, &cl, up); !cl.Single && matches(&cl, c) {
				rows = append(rows, row(&cl, c))
			}
		}
	})
	x.json(http.StatusOK, typeJSON, map[string]any{"clusters": rows})
	return nil
}

// cluster returns a cluster of Cinder's API and what its row says of its members.
func (s *Server) cluster(x *exchange, name, binary string) (fsm.Cluster, clusterSums, error) {
	if err := s.look(x); err != nil {
		return fsm.Cluster{}, clusterSums{}, err
	}
	up, _, err := s.presence(x)
	if err != nil {
		return fsm.Cluster{}, clusterSums{}, err
	}
	var cl fsm.Cluster
	var c clusterSums
	var ok bool
	s.node.View(func(state *fsm.State) {
		for _, found := range clustersNamed(state, name) {
			cl, c, ok = found, sums(state, &found, up), true
			return
		}
	})
	if !ok || binary != fsm.Binary {
		return cl, c, newFault(http.StatusNotFound, "Cluster {'binary': %s, 'name': %s} could not be found.", pyQuote(binary), pyQuote(name))
	}
	return cl, c, nil
}

// showCluster answers GET clusters/{name}, and GET clusters/detail.
func (s *Server) showCluster(x *exchange) error {
	name := x.params.ByName("name")
	if name == "detail" {
		return s.clusterList(x, x.clusterDetail)
	}
	cl, c, err := s.cluster(x, name, fsm.Binary) // Cinder does not look at a binary here
	if err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"cluster": x.clusterDetail(&cl, c)})
	return nil
}

// actOnCluster answers PUT clusters/enable and clusters/disable.
func (s *Server) actOnCluster(x *exchange) error {
	action := x.params.ByName("action")
	if action != "enable" && action != "disable" {
		if _, err := x.body(s.cfg.RequestTimeout); err != nil {
			return err
		}
		return newFault(http.StatusNotFound, "Unknown action")
	}
	body, err := s.valid(x, "cluster_"+action)
	if err != nil {
		return err
	}
	binary := fsm.Binary
	if body.has("binary") {
		binary = body.text("binary")
	}
	cl, c, err := s.cluster(x, body.text("name"), binary)
	if err != nil {
		return err
	}
	cmd := fsm.SetClusterDisabled{
		Cluster: cl.Name, Disabled: action == "disable", Reason: strings.TrimSpace(body.text("disabled_reason")),
	}
	if err := s.act(x, cl.Name, cmd); err != nil {
		return fmt.Errorf("%s cluster %s: %w", action, cl.Name, err)
	}
	cl.Disabled = cmd.Disabled
	row := x.clusterRow(&cl, c)
	row["disabled_reason"] = nil
	if body.has("disabled_reason") {
		row["disabled_reason"] = cmd.Reason
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"cluster": row})
	return nil
}
