package api

import (
	"net/http"
	"time"

	"github.com/lockstep-storage/lockstep/fsm"
)

// v1Routes is the route table of Lockstep's own API.
func (s *Server) v1Routes() []route {
	const get, post, del = http.MethodGet, http.MethodPost, http.MethodDelete
	return []route{
		{method: get, path: "/v1/status", handle: s.showStatus},
		{method: get, path: "/v1/failovers", handle: s.listFailovers},
		{method: post, path: "/v1/failovers", handle: s.requestFailover},
		{method: get, path: "/v1/failovers/:id", waits: true, handle: s.showFailover},
		{method: post, path: "/v1/failovers/:id/abort", handle: s.abortFailover},
		{method: get, path: "/v1/clusters", handle: s.listClusterTruth},
		{method: get, path: "/v1/clusters/:name", handle: s.showClusterTruth},
		{method: get, path: "/v1/peers", handle: s.listPeers},
		{method: del, path: "/v1/peers/:id", handle: s.removePeer},
		{method: get, path: "/v1/events", waits: true, handle: s.streamEvents},
		{method: get, path: "/v1/openapi.json", handle: s.showDescription},
	}
}

// when writes a time of the state, nil for none.
func when(t fsm.Time) *time.Time {
	if t == 0 {
		return nil
	}
	at := t.Time()
	return &at
}

// site is an epoch of a cluster and where it has its volumes.
type site struct {
	Epoch           uint64 `json:"epoch"`
	ActiveBackendID string `json:"active_backend_id"`
}

// reportedSite is what a member's driver was last told.
type reportedSite struct {
	site
	Error string     `json:"error"`
	At    *time.Time `json:"at"`
}

// memberView is the truth about one member of a cluster.
type memberView struct {
	Host           string       `json:"host"`
	Node           string       `json:"node"`
	Up             *bool        `json:"up"` // null when nobody can say
	Disabled       bool         `json:"disabled"`
	DisabledReason string       `json:"disabled_reason"`
	Committed      site         `json:"committed"`
	Reported       reportedSite `json:"reported"`
	State          memberState  `json:"state"`
	Age            string       `json:"age"` // of what is reported
}

// clusterView is a cluster of /v1.
type clusterView struct {
	Name              string                `json:"name"`
	Binary            string                `json:"binary"`
	Single            bool                  `json:"single,omitempty"` // a service outside clusters
	Epoch             uint64                `json:"epoch"`
	ActiveBackendID   string                `json:"active_backend_id"`
	ReplicationStatus fsm.ReplicationStatus `json:"replication_status"`
	Frozen            bool                  `json:"frozen"`
	Disabled          bool                  `json:"disabled"`
	DisabledReason    string                `json:"disabled_reason"`
	Targets           []string              `json:"targets"`
	Held              bool                  `json:"held"`
	Failover          string                `json:"failover"` // the unfinished one
	Members           []memberView          `json:"members"`
	Index             uint64                `json:"index"`
}

// truth is what views need beside the state.
type truth struct {
	up    map[string]Presence
	known bool // whether up is
	now   time.Time
}

// truth asks who is up. Without an answer the views say that it is not known.
func (s *Server) truth(x *exchange) (truth, error) {
	up, known, err := s.presence(x)
	return truth{up: up, known: known, now: time.Now()}, err
}

func (t truth) isUp(host string) *bool {
	if !t.known {
		return nil
	}
	up := t.up[host].Up
	return &up
}

func (t truth) member(cl *fsm.Cluster, svc *fsm.Service) memberView {
	m := memberView{
		Host: svc.Host, Node: svc.Node, Up: t.isUp(svc.Host), Disabled: svc.Disabled, DisabledReason: svc.DisabledReason,
		Committed: site{Epoch: cl.Epoch, ActiveBackendID: cl.ActiveBackendID},
		Reported: reportedSite{
			site:  site{Epoch: svc.Reported.Epoch, ActiveBackendID: svc.Reported.ActiveBackendID},
			Error: svc.Reported.Error, At: when(svc.Reported.At),
		},
		State: stateOf(cl, svc, !t.known || t.up[svc.Host].Up),
	}
	if svc.Reported.At != 0 {
		m.Age = max(t.now.Sub(svc.Reported.At.Time()), 0).Round(time.Second).String()
	}
	return m
}

func (t truth) cluster(state *fsm.State, cl *fsm.Cluster) clusterView {
	v := clusterView{
		Name: cl.Name, Binary: fsm.Binary, Single: cl.Single, Epoch: cl.Epoch, ActiveBackendID: cl.ActiveBackendID,
		ReplicationStatus: cl.ReplicationStatus, Frozen: cl.Frozen, Disabled: cl.Disabled, DisabledReason: cl.DisabledReason,
		Targets: append([]string{}, state.Targets(cl.Name)...), Held: cl.Held, Members: []memberView{}, Index: cl.Index,
	}
	if f, ok := state.Unfinished(cl.Name); ok {
		v.Failover = f.ID
	}
	for svc := range state.Members(cl.Name) {
		v.Members = append(v.Members, t.member(cl, &svc))
	}
	return v
}

// listClusterTruth answers GET /v1/clusters, services outside clusters included.
func (s *Server) listClusterTruth(x *exchange) error {
	if err := s.look(x); err != nil {
		return err
	}
	t, err := s.truth(x)
	if err != nil {
		return err
	}
	all := []clusterView{}
	s.node.View(func(state *fsm.State) {
		for cl := range state.Clusters() {
			all = append(all, t.cluster(state, &cl))
		}
	})
	x.json(http.StatusOK, typeJSON, map[string]any{"clusters": all})
	return nil
}

// showClusterTruth answers GET /v1/clusters/{name}. A service outside clusters is
// found by its host.
func (s *Server) showClusterTruth(x *exchange) error {
	if err := s.look(x); err != nil {
		return err
	}
	t, err := s.truth(x)
	if err != nil {
		return err
	}
	name := x.params.ByName("name")
	var view clusterView
	s.node.View(func(state *fsm.State) {
		cl, ok := state.Cluster(name)
		if !ok {
			err = noCluster(state, "name", name)
			return
		}
		view = t.cluster(state, &cl)
	})
	if err != nil {
		return err
	}
	x.json(http.StatusOK, typeJSON, view)
	return nil
}

// showStatus answers GET /v1/status: where this node stands, whoever leads.
func (s *Server) showStatus(x *exchange) error {
	st := s.node.Status()
	s.sayHowStale(x)
	unfinished, clusters, services, volumes, notReady := []string{}, 0, 0, 0, ""
	if err := s.whyNotReady(); err != nil {
		notReady = err.Error()
	}
	s.node.View(func(state *fsm.State) {
		volumes = state.VolumeCount()
		for cl := range state.Clusters() {
			if !cl.Single {
				clusters++
			}
			if f, ok := state.Unfinished(cl.Name); ok {
				unfinished = append(unfinished, f.ID)
			}
		}
		for range state.Services() {
			services++
		}
	})
	x.json(http.StatusOK, typeJSON, map[string]any{
		"node": st.Node, "deployment": s.cfg.Deployment, "version": s.cfg.Version,
		"leader": st.Leader, "leading": st.Leader != "" && st.Leader == st.Node, "term": st.Term,
		"applied_index": st.AppliedIndex, "commit_index": st.CommitIndex, "ready": notReady == "", "not_ready": notReady, "disk": st.Disk,
		"clusters": clusters, "services": services, "volumes": volumes, "unfinished_failovers": unfinished,
	})
	return nil
}

// peerView is a peer of /v1.
type peerView struct {
	ID          string `json:"id"`
	Raft        string `json:"raft"`
	API         string `json:"api"`
	Gossip      string `json:"gossip"`
	Suffrage    string `json:"suffrage"` // voter or nonvoter
	Leader      bool   `json:"leader"`
	Alive       bool   `json:"alive"`
	LastContact string `json:"last_contact"` // ago; empty if not known
	Version     string `json:"version"`
	Format      uint8  `json:"format"`
}

// listPeers answers GET /v1/peers.
func (s *Server) listPeers(x *exchange) error {
	peers, err := s.node.Peers(x.r.Context())
	if err != nil {
		return err
	}
	all := []peerView{}
	for _, p := range peers {
		v := peerView{
			ID: p.ID, Raft: p.Raft, API: p.API, Gossip: p.Gossip, Suffrage: "nonvoter",
			Leader: p.Leader, Alive: p.Alive, Version: p.Release, Format: p.Format,
		}
		if p.Voter {
			v.Suffrage = "voter"
		}
		if !p.LastContact.IsZero() {
			v.LastContact = max(time.Since(p.LastContact), 0).Round(time.Millisecond).String()
		}
		all = append(all, v)
	}
	x.json(http.StatusOK, typeJSON, map[string]any{"peers": all})
	return nil
}

// removePeer answers DELETE /v1/peers/{id}.
func (s *Server) removePeer(x *exchange) error {
	if err := s.node.RemovePeer(x.r.Context(), x.params.ByName("id")); err != nil {
		return err
	}
	x.WriteHeader(http.StatusNoContent)
	return nil
}
