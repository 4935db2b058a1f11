package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/lockstep-storage/lockstep/scripts/devcluster"
)

// deployment is a cluster of three nodes, made for one part of a sequence.
type deployment struct {
	*devcluster.Cluster

	nodes []string // base URLs
	next  int      // the node to ask next
	http  *http.Client
}

// startDeployment starts a cluster in a directory of its own. What can be adopted
// lies at the primary site.
func startDeployment(ctx context.Context, binary, dir string, extra ...string) (*deployment, error) {
	if err := layImages(filepath.Join(dir, "sites", "default", "import")); err != nil {
		return nil, err
	}
	cluster, err := devcluster.Start(ctx, binary, dir, append([]string{
		"--node-prefix", "vol", "--cluster", "mycluster", "--backend", "aa",
		"--admins", "admin,lockstep", // Cinder had a second API for the others
	}, extra...)...)
	if err != nil {
		return nil, err
	}
	return &deployment{Cluster: cluster, nodes: cluster.Addrs(""), http: &http.Client{
		Timeout:       devcluster.Patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// end ends the cluster, if there is one.
func (d *deployment) end() error {
	if d == nil {
		return nil
	}
	return d.End()
}

// layImages puts sparse images where the file driver finds what it can adopt.
func layImages(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for i := range int64(3) {
		path := filepath.Join(dir, fmt.Sprintf("lun-%04d", i+1))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		if err := os.Truncate(path, (i+1)<<30); err != nil {
			return err
		}
	}
	return nil
}

// send sends a request as it is, to each node in turn.
func (d *deployment) send(ctx context.Context, method, target string, headers [][2]string, body *string) (answer, error) {
	d.next = (d.next + 1) % len(d.nodes)
	base, err := url.Parse(d.nodes[d.next])
	if err != nil {
		return answer{}, err
	}
	var content io.Reader
	if body != nil {
		content = bytes.NewReader([]byte(*body))
	}
	r, err := http.NewRequestWithContext(ctx, method, d.nodes[d.next], content)
	if err != nil {
		return answer{}, err
	}
	// The path goes out as it was recorded, escaped or not.
	path, query, _ := strings.Cut(target, "?")
	r.URL = &url.URL{Scheme: base.Scheme, Host: base.Host, Opaque: path, RawQuery: query}
	for _, kv := range headers {
		switch name := http.CanonicalHeaderKey(kv[0]); name {
		case "Host":
			r.Host = kv[1]
		case "Content-Length", "Connection":
		default:
			r.Header[name] = append(r.Header[name], kv[1])
		}
	}
	resp, err := d.http.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text)}, err
}

// look reads something with an administrator's eyes.
func (d *deployment) look(ctx context.Context, path string, into any) error {
	a, err := d.send(ctx, http.MethodGet, path, [][2]string{{"X-Auth-Token", adminToken}, {"OpenStack-API-Version", "volume 3.70"}}, nil)
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("GET %s: %d %s", path, a.Status, a.Body)
	}
	return json.Unmarshal([]byte(a.Body), into)
}
