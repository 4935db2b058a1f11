package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"text/template"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/config"
)

// The names of what every lab has.
const (
	Backend    = "aa"
	Cluster    = "chaos@aa"
	Deployment = "chaos"
)

// Sites are the backend ids, the primary first.
func Sites() []string { return []string{"default", "site-b", "site-c"} }

// Options say what lab to make.
type Options struct {
	Dir          string        // for everything; it must be there
	Binary       string        // lockstep, an absolute path
	Nodes        int           // at least 1
	Lease        config.Lease  // of every node
	PromoteDelay time.Duration // how long every promotion is held up, so that it has a middle
}

// Lab is a deployment that can be broken.
type Lab struct {
	Network Network
	Nodes   []*Node

	options Options
	held    *os.File // marks the directory as in use
}

// nodesName is the directory of the nodes.
const nodesName = "nodes"

// New makes the disks, the network and the configurations. It starts no agent.
func New(ctx context.Context, o Options) (l *Lab, err error) {
	l = &Lab{options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close(ctx))
		}
	}()
	if l.held, err = hold(o.Dir); err != nil {
		return l, fmt.Errorf("another run works in %s: %w", o.Dir, err)
	}
	if Sandboxed() {
		recoverDisks(ctx, o.Dir)
	}
	if l.Network, err = NewNetwork(ctx, o.Nodes); err != nil {
		return l, err
	}
	for id := 1; id <= o.Nodes; id++ {
		n := &Node{ID: id, Name: "node" + strconv.Itoa(id), network: l.Network}
		n.Dir = filepath.Join(o.Dir, nodesName, n.Name)
		n.argv = []string{o.Binary, "agent", "--config", n.Config()}
		if err := os.MkdirAll(n.Dir, 0o750); err != nil {
			return l, err
		}
		if n.Disk, err = newDisk(ctx, n.Dir); err != nil {
			return l, err
		}
		l.Nodes = append(l.Nodes, n)
		if err := l.WriteConfig(n, o.Nodes); err != nil {
			return l, err
		}
	}
	return l, nil
}

// SiteDir is the directory of a site.
func (l *Lab) SiteDir(site string) string { return filepath.Join(l.options.Dir, "sites", site) }

const configText = `node: {{.Node}}
deployment: {{.Deployment}}
data_dir: {{.Data}}
log_level: info
bootstrap_expect: {{.Expect}}
insecure: true
api: {listen: "{{index .Listen 0}}", advertise: "{{index .Reach 0}}"}
raft:
  listen: "{{index .Listen 1}}"
  advertise: "{{index .Reach 1}}"
  timing: {snapshot_interval: 5s, snapshot_threshold: 512, trailing_logs: 1000}
gossip:
  listen: "{{index .Listen 2}}"
  advertise: "{{index .Reach 2}}"
  join: [{{range $i, $a := .Join}}{{if $i}}, {{end}}"{{$a}}"{{end}}]
lease: {duration: {{.Lease.Duration}}, kill: {{.Lease.Kill}}, grace: {{.Lease.Grace}}, clock_error: {{.Lease.ClockError}}}
failover: {drain: 8s, promote: 20s, switch: 10s}
backends:
  - name: {{.Backend}}
    cluster: {{.Cluster}}
    driver: file
    options:
      sites:
{{- range $id, $dir := .Sites}}
        {{$id}}: {{$dir}}
{{- end}}
      replication_interval: 250ms
      last_sync_timeout: 2s
      promote_delay: {{.PromoteDelay}}
`

// WriteConfig writes the configuration of a node. With expect 0 the node joins
// what others have started.
func (l *Lab) WriteConfig(n *Node, expect int) error {
	tmpl, err := template.New("config").Parse(configText)
	if err != nil {
		return fmt.Errorf("template: %w", err)
	}
	sites := map[string]string{}
	for _, site := range Sites() {
		sites[site] = strconv.Quote(l.SiteDir(site))
	}
	var listen, reach, join []string
	for _, service := range []Service{API, Raft, Gossip} {
		listen = append(listen, l.Network.Listen(n.ID, service))
		reach = append(reach, l.Network.Reach(n.ID, service))
	}
	for id := 1; id <= l.options.Nodes; id++ {
		join = append(join, l.Network.Reach(id, Gossip))
	}
	var text bytes.Buffer
	err = tmpl.Execute(&text, map[string]any{
		"Node": n.Name, "Deployment": Deployment, "Data": strconv.Quote(n.Disk.Data()), "Expect": expect,
		"Listen": listen, "Reach": reach, "Join": join, "Lease": l.options.Lease, "Backend": Backend, "Cluster": Cluster,
		"Sites": sites, "PromoteDelay": l.options.PromoteDelay,
	})
	if err != nil {
		return fmt.Errorf("template: %w", err)
	}
	if _, err := config.Parse(n.Config(), text.Bytes()); err != nil {
		return err
	}
	return os.WriteFile(n.Config(), text.Bytes(), 0o600)
}

// Close ends all processes and unmounts all disks, whatever state they are in.
func (l *Lab) Close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, n := range l.Nodes {
		if n.Disk != nil {
			errs = append(errs, n.Disk.Go())
		}
		for _, driver := range n.Drivers() {
			_ = syscall.Kill(driver, syscall.SIGKILL) // one that has ended needs none
		}
		n.Kill()
	}
	for _, n := range l.Nodes {
		errs = append(errs, n.AwaitEnd(ctx))
		if n.Disk != nil {
			errs = append(errs, n.Disk.close())
		}
	}
	if l.Network != nil {
		errs = append(errs, l.Network.Close())
	}
	if l.held != nil {
		errs = append(errs, l.held.Close())
	}
	return errors.Join(errs...)
}
