package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Status is where one node stands.
type Status struct {
	Node                string   `json:"node"`
	Deployment          string   `json:"deployment"`
	Version             string   `json:"version"`
	Leader              string   `json:"leader"` // empty when none is known
	Leading             bool     `json:"leading"`
	Term                uint64   `json:"term"`
	AppliedIndex        uint64   `json:"applied_index"`
	CommitIndex         uint64   `json:"commit_index"`
	Ready               bool     `json:"ready"`
	NotReady            string   `json:"not_ready"` // why not; empty if it is
	Clusters            int      `json:"clusters"`
	Services            int      `json:"services"`
	Volumes             int      `json:"volumes"`
	UnfinishedFailovers []string `json:"unfinished_failovers"`
	Disk                Disk     `json:"disk,omitzero"`
}

// Disk is what a node knows of the disk under its data directory.
type Disk struct {
	Dir          string    `json:"dir"`
	StalledSince time.Time `json:"stalled_since,omitzero"` // since when it has not answered
	FreeBytes    uint64    `json:"free_bytes"`
	ReserveBytes uint64    `json:"reserve_bytes"` // with less than that free nothing new is taken
}

// Status asks the node that answers first where it stands.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.do(ctx, request{method: http.MethodGet, path: "/v1/status"}, &s)
	return s, err
}

// Peer is one node of the deployment.
type Peer struct {
	ID          string `json:"id"`
	Raft        string `json:"raft"`
	API         string `json:"api"`
	Gossip      string `json:"gossip"`
	Suffrage    string `json:"suffrage"` // voter or nonvoter
	Leader      bool   `json:"leader"`
	Alive       bool   `json:"alive"`
	LastContact string `json:"last_contact"`
	Version     string `json:"version"`
	Format      uint8  `json:"format"` // newest log format that it reads
}

// Peers lists the nodes of the deployment.
func (c *Client) Peers(ctx context.Context) ([]Peer, error) {
	var body struct {
		Peers []Peer `json:"peers"`
	}
	err := c.do(ctx, request{method: http.MethodGet, path: "/v1/peers"}, &body)
	return body.Peers, err
}

// RemovePeer takes a node that is gone for good out of the deployment. Its
// services must have been deleted.
func (c *Client) RemovePeer(ctx context.Context, id string) error {
	return c.do(ctx, request{method: http.MethodDelete, path: "/v1/peers/" + segment(id), header: idempotent("")}, nil)
}

// Cluster is the truth about a cluster, or about a service outside clusters.
type Cluster struct {
	Name              string          `json:"name"`
	Binary            string          `json:"binary"`
	Epoch             uint64          `json:"epoch"`
	ActiveBackendID   string          `json:"active_backend_id"` // never empty
	ReplicationStatus string          `json:"replication_status"`
	Frozen            bool            `json:"frozen"`
	Disabled          bool            `json:"disabled"`
	DisabledReason    string          `json:"disabled_reason"`
	Targets           []string        `json:"targets"`
	Held              bool            `json:"held"`     // gates closed: something may be promoted elsewhere
	Failover          string          `json:"failover"` // the unfinished one
	Members           []ClusterMember `json:"members"`
	Index             uint64          `json:"index"`
}

// Settled reports whether every member follows the committed site and nothing is
// under way.
func (c Cluster) Settled() bool {
	for _, m := range c.Members {
		if m.State != StateCurrent {
			return false
		}
	}
	return c.Failover == "" && len(c.Members) > 0
}

// ClusterMember sets what was committed against what a member has reported.
type ClusterMember struct {
	Host           string `json:"host"`
	Node           string `json:"node"`
	Up             *bool  `json:"up"` // nil when nobody can say
	Disabled       bool   `json:"disabled"`
	DisabledReason string `json:"disabled_reason"`
	Committed      Site   `json:"committed"`
	Reported       Report `json:"reported"`
	State          string `json:"state"` // one of the State constants
	Age            string `json:"age"`   // of the report
}

// The states of a member of a cluster.
const (
	StateCurrent = "current" // its driver was told of the committed site
	StateBehind  = "behind"  // it was not, yet
	StateError   = "error"   // its driver refuses
	StateDown    = "down"    // it holds no lease
	StateStuck   = "stuck"   // processes of its driver cannot be ended: power its node off, then remove it
)

// Site is a committed switch.
type Site struct {
	Epoch           uint64 `json:"epoch"`
	ActiveBackendID string `json:"active_backend_id"`
}

// Report is a member's word on which site its driver works against.
type Report struct {
	Epoch           uint64    `json:"epoch"`
	ActiveBackendID string    `json:"active_backend_id"`
	Error           string    `json:"error"`
	At              time.Time `json:"at,omitzero"`
}

// Cluster reads the truth about a cluster, by its name, or about a service outside
// clusters, by its host.
func (c *Client) Cluster(ctx context.Context, name string) (Cluster, error) {
	var cl Cluster
	err := c.do(ctx, request{method: http.MethodGet, path: "/v1/clusters/" + segment(name)}, &cl)
	return cl, err
}

// Consistency is how fresh an answer has to be.
type Consistency string

// The levels of consistency.
const (
	Linearizable Consistency = "linearizable" // as of now; needs a leader
	Stale        Consistency = "stale"        // what the node that answers knows
)

// AllClusters reads the truth about all clusters, and about the services outside
// clusters.
func (c *Client) AllClusters(ctx context.Context, level Consistency) ([]Cluster, error) {
	var body struct {
		Clusters []Cluster `json:"clusters"`
	}
	query := url.Values{"consistency": {string(level)}}
	err := c.do(ctx, request{method: http.MethodGet, path: "/v1/clusters", query: query}, &body)
	return body.Clusters, err
}

// Ready returns nil once the node that answers is caught up and its local drivers
// were told the committed sites, else why it is not. Use a client of one address.
func (c *Client) Ready(ctx context.Context) error {
	once := c.withPatience(-1)
	return once.do(ctx, request{method: http.MethodGet, path: "/readyz"}, nil)
}

// withPatience returns a client of the same nodes.
func (c *Client) withPatience(d time.Duration) *Client {
	opts := c.opts
	opts.Patience = d
	return &Client{addrs: c.addrs, opts: opts}
}
