package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"slices"
)

// Volume is a volume as Cinder shows it.
type Volume struct {
	ID                string            `json:"id"`
	Name              string            `json:"name"`
	Size              int64             `json:"size"` // GiB
	Status            string            `json:"status"`
	VolumeType        string            `json:"volume_type,omitempty"`
	ReplicationStatus string            `json:"replication_status,omitempty"`
	ClusterName       string            `json:"cluster_name,omitempty"`
	Host              string            `json:"os-vol-host-attr:host,omitempty"`
	Metadata          map[string]string `json:"metadata,omitempty"`
	CreatedAt         string            `json:"created_at,omitempty"`
	UpdatedAt         string            `json:"updated_at,omitempty"`
}

// VolumeRequest asks for a volume.
type VolumeRequest struct {
	Name       string            `json:"name,omitempty"`
	Size       int64             `json:"size"` // GiB, at least 1
	VolumeType string            `json:"volume_type,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
}

// pageSize is how much a list asks for at a time.
const pageSize = "500"

// CreateVolume asks for a volume. It answers while the volume is still creating.
func (c *Client) CreateVolume(ctx context.Context, r VolumeRequest) (Volume, error) {
	var body struct {
		Volume Volume `json:"volume"`
	}
	err := c.do(ctx, request{
		method: http.MethodPost, path: "/v3/volumes", header: idempotent(""),
		body: map[string]any{"volume": r},
	}, &body)
	return body.Volume, err
}

// Volume reads one volume.
func (c *Client) Volume(ctx context.Context, id string) (Volume, error) {
	var body struct {
		Volume Volume `json:"volume"`
	}
	err := c.do(ctx, request{method: http.MethodGet, path: "/v3/volumes/" + segment(id)}, &body)
	return body.Volume, err
}

// Volumes yields all volumes, newest first, a page at a time. An error is the last
// thing it yields.
func (c *Client) Volumes(ctx context.Context) iter.Seq2[Volume, error] {
	return pages(func(marker string) ([]Volume, string, error) {
		var page struct {
			Volumes []Volume `json:"volumes"`
			Links   []link   `json:"volumes_links"`
		}
		err := c.do(ctx, request{method: http.MethodGet, path: "/v3/volumes/detail", query: from(marker)}, &page)
		next := ""
		if n := len(page.Volumes); n > 0 && slices.ContainsFunc(page.Links, link.next) {
			next = page.Volumes[n-1].ID
		}
		return page.Volumes, next, err
	})
}

// from asks for the page after a marker.
func from(marker string) url.Values {
	query := url.Values{"limit": {pageSize}}
	if marker != "" {
		query.Set("marker", marker)
	}
	return query
}

// link is how Cinder says that there is another page.
type link struct {
	Rel string `json:"rel"`
}

func (l link) next() bool { return l.Rel == "next" }

// DeleteVolume asks for a volume to be deleted. It answers while that is under way.
func (c *Client) DeleteVolume(ctx context.Context, id string) error {
	return c.do(ctx, request{method: http.MethodDelete, path: "/v3/volumes/" + segment(id), header: idempotent("")}, nil)
}

// ExtendVolume asks for a volume to be grown to size GiB.
func (c *Client) ExtendVolume(ctx context.Context, id string, size int64) error {
	return c.do(ctx, request{
		method: http.MethodPost, path: "/v3/volumes/" + segment(id) + "/action", header: idempotent(""),
		body: map[string]any{"os-extend": map[string]int64{"new_size": size}},
	}, nil)
}

// Snapshot is a snapshot as Cinder shows it.
type Snapshot struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	VolumeID  string `json:"volume_id"`
	Size      int64  `json:"size"` // GiB
	Status    string `json:"status"`
	CreatedAt string `json:"created_at,omitempty"`
	UpdatedAt string `json:"updated_at,omitempty"`
}

// CreateSnapshot asks for a snapshot of a volume.
func (c *Client) CreateSnapshot(ctx context.Context, volumeID, name string) (Snapshot, error) {
	var body struct {
		Snapshot Snapshot `json:"snapshot"`
	}
	err := c.do(ctx, request{
		method: http.MethodPost, path: "/v3/snapshots", header: idempotent(""),
		body: map[string]any{"snapshot": map[string]string{"volume_id": volumeID, "name": name}},
	}, &body)
	return body.Snapshot, err
}

// Snapshot reads one snapshot.
func (c *Client) Snapshot(ctx context.Context, id string) (Snapshot, error) {
	var body struct {
		Snapshot Snapshot `json:"snapshot"`
	}
	err := c.do(ctx, request{method: http.MethodGet, path: "/v3/snapshots/" + segment(id)}, &body)
	return body.Snapshot, err
}

// Snapshots yields all snapshots, newest first, a page at a time. An error is the
// last thing it yields.
func (c *Client) Snapshots(ctx context.Context) iter.Seq2[Snapshot, error] {
	return pages(func(marker string) ([]Snapshot, string, error) {
		var page struct {
			Snapshots []Snapshot `json:"snapshots"`
			Links     []link     `json:"snapshots_links"`
		}
		err := c.do(ctx, request{method: http.MethodGet, path: "/v3/snapshots/detail", query: from(marker)}, &page)
		next := ""
		if n := len(page.Snapshots); n > 0 && slices.ContainsFunc(page.Links, link.next) {
			next = page.Snapshots[n-1].ID
		}
		return page.Snapshots, next, err
	})
}

// DeleteSnapshot asks for a snapshot to be deleted.
func (c *Client) DeleteSnapshot(ctx context.Context, id string) error {
	return c.do(ctx, request{method: http.MethodDelete, path: "/v3/snapshots/" + segment(id), header: idempotent("")}, nil)
}
