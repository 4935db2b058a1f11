package client

import (
	"context"
	"errors"
	"net/http"
)

// Binary is the binary of every volume service, as Cinder names it.
const Binary = "cinder-volume"

// Service is a volume service as Cinder shows it.
type Service struct {
	Binary            string `json:"binary"`
	Host              string `json:"host"`
	Cluster           string `json:"cluster,omitempty"`
	Zone              string `json:"zone"`
	Status            string `json:"status"` // enabled or disabled
	State             string `json:"state"`  // up or down
	DisabledReason    string `json:"disabled_reason,omitempty"`
	ReplicationStatus string `json:"replication_status,omitempty"`
	ActiveBackendID   string `json:"active_backend_id,omitempty"` // empty: the primary
	Frozen            bool   `json:"frozen"`
	UpdatedAt         string `json:"updated_at,omitempty"`
}

// Services lists all volume services.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	var body struct {
		Services []Service `json:"services"`
	}
	err := c.do(ctx, request{method: http.MethodGet, path: "/v3/os-services"}, &body)
	return body.Services, err
}

func (c *Client) put(ctx context.Context, path string, body any) error {
	return c.do(ctx, request{method: http.MethodPut, path: path, body: body, header: idempotent("")}, nil)
}

// EnableService lets a service take new work.
func (c *Client) EnableService(ctx context.Context, host string) error {
	return c.put(ctx, "/v3/os-services/enable", map[string]string{"host": host, "binary": Binary})
}

// DisableService keeps new work from a service; the reason may be empty.
func (c *Client) DisableService(ctx context.Context, host, reason string) error {
	body := map[string]string{"host": host, "binary": Binary}
	if reason == "" {
		return c.put(ctx, "/v3/os-services/disable", body)
	}
	body["disabled_reason"] = reason
	return c.put(ctx, "/v3/os-services/disable-log-reason", body)
}

// Subject names what is to be frozen or thawed: exactly one of the two.
type Subject struct {
	Cluster string `json:"cluster,omitempty"`
	Host    string `json:"host,omitempty"`
}

// Freeze keeps the volumes of a cluster or service from being managed; their data
// paths work on.
func (c *Client) Freeze(ctx context.Context, s Subject) error {
	return c.put(ctx, "/v3/os-services/freeze", s)
}

// Thaw ends a freeze.
func (c *Client) Thaw(ctx context.Context, s Subject) error {
	return c.put(ctx, "/v3/os-services/thaw", s)
}

// ClusterSummary is a cluster as Cinder shows it.
type ClusterSummary struct {
	Name              string `json:"name"`
	Binary            string `json:"binary"`
	State             string `json:"state"`  // up or down
	Status            string `json:"status"` // enabled or disabled
	NumHosts          int    `json:"num_hosts"`
	NumDownHosts      int    `json:"num_down_hosts"`
	DisabledReason    string `json:"disabled_reason,omitempty"`
	ReplicationStatus string `json:"replication_status,omitempty"`
	ActiveBackendID   string `json:"active_backend_id,omitempty"` // empty: the primary
	Frozen            bool   `json:"frozen"`
	CreatedAt         string `json:"created_at,omitempty"`
	UpdatedAt         string `json:"updated_at,omitempty"`
}

// Clusters lists all clusters.
func (c *Client) Clusters(ctx context.Context) ([]ClusterSummary, error) {
	var body struct {
		Clusters []ClusterSummary `json:"clusters"`
	}
	err := c.do(ctx, request{method: http.MethodGet, path: "/v3/clusters/detail"}, &body)
	return body.Clusters, err
}

// EnableCluster lets a cluster take new work, after a failover on the new site.
func (c *Client) EnableCluster(ctx context.Context, name string) error {
	return c.put(ctx, "/v3/clusters/enable", map[string]string{"name": name, "binary": Binary})
}

// DisableCluster keeps new work from a cluster; the reason may be empty.
func (c *Client) DisableCluster(ctx context.Context, name, reason string) error {
	body := map[string]string{"name": name, "binary": Binary}
	if reason != "" {
		body["disabled_reason"] = reason
	}
	return c.put(ctx, "/v3/clusters/disable", body)
}

// EnsureVolumeType makes a volume type unless one of the name exists.
func (c *Client) EnsureVolumeType(ctx context.Context, name string, extraSpecs map[string]string) error {
	volumeType := map[string]any{"name": name}
	if len(extraSpecs) > 0 {
		volumeType["extra_specs"] = extraSpecs
	}
	body := map[string]any{"volume_type": volumeType}
	err := c.do(ctx, request{method: http.MethodPost, path: "/v3/types", body: body, header: idempotent("")}, nil)
	refused, ok := errors.AsType[*Error](err)
	if ok && (refused.Status == http.StatusConflict || refused.Code == CodeExists) {
		return nil
	}
	return err
}
