// Package devcluster runs lockstep dev for the tools that show and check what a real
// deployment does, and ends it with all its nodes.
package devcluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/lockstep-storage/lockstep/scripts/freeport"
)

// Cluster is a cluster of real nodes on this machine, as its dev.json says.
type Cluster struct {
	Dir    string            `json:"-"`
	Name   string            `json:"cluster"`
	Sites  map[string]string `json:"sites"` // directories by backend id
	Nodes  []Node            `json:"nodes"`
	CACert string            `json:"cacert"` // empty without TLS

	dev *Process
}

// Node is one node of a cluster.
type Node struct {
	Name string   `json:"name"`
	PID  int      `json:"pid"`
	API  string   `json:"api"` // base URL
	Dir  string   `json:"dir"`
	Argv []string `json:"argv"` // starts it again after it was killed
}

// Launch starts the lockstep called binary in dir, which is made if it is missing,
// as lockstep dev with further arguments. Its ports are some that are free now. Call
// Ready before anything else, and End when it has been of use.
func Launch(ctx context.Context, binary, dir string, args ...string) (*Cluster, error) {
	path, err := exec.LookPath(binary)
	if err != nil {
		return nil, fmt.Errorf("-bin: %w (make build builds it)", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	port, err := freeport.Find(ctx, 30)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir}
	argv := append([]string{path, "dev", "--dir", dir, "--api-port", strconv.Itoa(port)}, args...)
	c.dev, err = StartProcess(ctx, argv, c.log())
	return c, err
}

// Start launches a cluster and waits until it is ready.
func Start(ctx context.Context, binary, dir string, args ...string) (*Cluster, error) {
	c, err := Launch(ctx, binary, dir, args...)
	if err != nil {
		return nil, err
	}
	if err := c.Ready(ctx); err != nil {
		return nil, errors.Join(err, c.End())
	}
	return c, nil
}

func (c *Cluster) log() string { return filepath.Join(c.Dir, "dev.log") }

// Ready waits for dev.json, which is written when the cluster is ready, and reads
// it.
func (c *Cluster) Ready(ctx context.Context) error {
	return Await(ctx, "dev.json is there", func() error {
		select {
		case <-c.dev.ended:
			log, _ := os.ReadFile(c.log()) // what it says of its end, if anything
			return Hopeless(fmt.Errorf("lockstep dev has ended: %s", log))
		default:
		}
		content, err := os.ReadFile(filepath.Join(c.Dir, "dev.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(content, c)
	})
}

// Node returns the node of a name.
func (c *Cluster) Node(name string) (Node, error) {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("node: got %q, want one of dev.json", name)
}

// Addrs are the base URLs of all nodes but the one left out.
func (c *Cluster) Addrs(except string) (addrs []string) {
	for _, n := range c.Nodes {
		if n.Name != except {
			addrs = append(addrs, n.API)
		}
	}
	return addrs
}

// End ends the cluster, if there is one, and waits for it.
func (c *Cluster) End() error {
	if c == nil {
		return nil
	}
	return c.dev.End()
}
