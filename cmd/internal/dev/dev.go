// Package dev runs a deployment of several agent processes on one machine.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-storage/lockstep/api/client"
)

// Options say what to run.
type Options struct {
	Dir          string        // for everything; made if it is missing
	Nodes        int           // 1 to MaxNodes
	APIPort      int           // of the first node
	NodePrefix   string        // nodes are called this and a number from 1
	Cluster      string        // before the @
	Backend      string        // after the @
	Targets      []string      // backend ids
	PromoteDelay time.Duration // of the file driver
	LogLevel     string        // of the agents
	TLS          bool          // encrypt, with certificates in Dir/tls
	Admins       []string      // users who may do everything; empty: everybody
	Auth         string        // file with the section auth of all nodes; empty: noauth
	Token        string        // to ask the nodes with; empty: as noauth has it
	Binary       string        // lockstep itself
	Out          io.Writer     // for people
}

// MaxNodes is how many nodes one machine is asked to run at most.
const MaxNodes = 20

// maxVoters is how many nodes start the deployment; the others join it.
const maxVoters = 7

// Default is what the command runs unless told otherwise.
func Default() Options {
	return Options{
		Nodes: 3, APIPort: 9776, NodePrefix: "node", Cluster: "dev", Backend: "files",
		Targets: []string{"site-b", "site-c"}, LogLevel: "info",
	}
}

func (o Options) validate() error {
	name := regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)
	for flag, value := range map[string]string{"node-prefix": o.NodePrefix, "cluster": o.Cluster, "backend": o.Backend} {
		if !name.MatchString(value) {
			return fmt.Errorf("--%s %q: must be 1 to 64 letters, digits, '-' and '_'", flag, value)
		}
	}
	for _, user := range o.Admins {
		if !name.MatchString(user) {
			return fmt.Errorf("--admins %q: must be 1 to 64 letters, digits, '-' and '_'", user)
		}
	}
	seen := []string{Primary}
	for _, target := range o.Targets {
		if !name.MatchString(target) || slices.Contains(seen, target) {
			return fmt.Errorf("--targets %q: must be 1 to 64 letters, digits, '-' and '_', each once and none %q", target, Primary)
		}
		seen = append(seen, target)
	}
	last := o.APIPort + portStep*(o.Nodes-1) + 2
	switch {
	case o.Auth != "" && len(o.Admins) > 0:
		return errors.New("--admins: not with --auth, whose file may have them")
	case o.Dir == "":
		return errors.New("--dir: a directory is required")
	case o.Nodes < 1 || o.Nodes > MaxNodes:
		return fmt.Errorf("--nodes %d: must be 1 to %d", o.Nodes, MaxNodes)
	case o.APIPort < 1 || last > 65535:
		return fmt.Errorf("--api-port %d: the ports up to %d must be 1 to 65535", o.APIPort, last)
	case o.PromoteDelay < 0:
		return fmt.Errorf("--promote-delay %v: must not be negative", o.PromoteDelay)
	case !slices.Contains([]string{"trace", "debug", "info", "warn", "error"}, o.LogLevel):
		return fmt.Errorf("--log-level %q: must be one of trace, debug, info, warn, error", o.LogLevel)
	}
	return nil
}

// auth returns what stands below auth in the configuration of each node.
func (o Options) auth() (string, error) {
	if o.Auth == "" {
		var users []string
		for _, user := range o.Admins {
			users = append(users, strconv.Quote(user))
		}
		return "  mode: noauth\n  admins: [" + strings.Join(users, ", ") + "]", nil
	}
	content, err := os.ReadFile(o.Auth)
	if err != nil {
		return "", fmt.Errorf("--auth: %w", err)
	}
	return "  " + strings.ReplaceAll(strings.TrimSpace(string(content)), "\n", "\n  "), nil
}

// Primary is the backend id of the primary site.
const Primary = "default"

// readyIn is how long the nodes have to form a cluster.
const readyIn = 60 * time.Second

// Run runs the nodes until ctx ends, and waits for their ends. Ending as asked is
// no error.
func Run(ctx context.Context, o Options) error {
	if err := o.validate(); err != nil {
		return err
	}
	begin := time.Now()
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	o.Dir = dir
	p, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	children := newChildren(o.Out)
	defer children.end()
	for _, n := range p.nodes {
		if err := children.start(ctx, n); err != nil {
			return err
		}
	}
	if err := p.awaitReady(ctx, children); err != nil {
		if ctx.Err() != nil {
			return nil // it was asked to end
		}
		return err
	}
	if err := p.write(children); err != nil {
		return err
	}
	p.greet(o.Out, time.Since(begin))
	<-ctx.Done()
	fmt.Fprintln(o.Out, "ending all nodes")
	return os.Remove(p.file()) // it says what runs
}

// awaitReady waits until every node serves and has followed the cluster, and makes
// the volume type of replicated volumes.
func (p *plan) awaitReady(ctx context.Context, children *children) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyIn, fmt.Errorf("the cluster was not ready within %v", readyIn))
	defer cancel()
	all, err := client.New(p.addrs(), client.Options{TLS: p.clientTLS, Token: p.options.Token})
	if err != nil {
		return err
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		missing := p.missing(ctx, all)
		if missing == nil {
			break
		}
		select {
		case <-ticker.C:
		case name := <-children.died:
			return fmt.Errorf("%s ended before the cluster was ready; the end of its log %s:\n%s", name, p.node(name).log, tail(p.node(name).log))
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), missing)
		}
	}
	return all.EnsureVolumeType(ctx, replicatedType, map[string]string{"replication_enabled": "<is> True"})
}

const (
	lookEvery      = 25 * time.Millisecond
	replicatedType = "replicated"
)

// missing is why the cluster is not ready, nil if it is.
func (p *plan) missing(ctx context.Context, all *client.Client) error {
	for _, n := range p.nodes {
		if err := n.client.Ready(ctx); err != nil {
			return fmt.Errorf("%s is not ready: %w", n.Name, err)
		}
	}
	status, err := all.Status(ctx)
	if err != nil {
		return err
	}
	if status.Leader == "" {
		return errors.New("nobody leads")
	}
	cl, err := all.Cluster(ctx, p.Cluster)
	if err != nil {
		return err
	}
	if len(cl.Members) < len(p.nodes) || !cl.Settled() {
		return fmt.Errorf("members of %s are not all current yet: %+v", p.Cluster, cl.Members)
	}
	return nil
}

// tail is the end of a log.
func tail(path string) string {
	const most = 2000
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(content[max(0, len(content)-most):]))
}

func (p *plan) greet(w io.Writer, took time.Duration) {
	sites := append([]string{Primary}, p.options.Targets...)
	fmt.Fprintf(w, "%s is ready after %.1fs: %d nodes, sites %s\n\n", p.Cluster, took.Seconds(), len(p.nodes), strings.Join(sites, ", "))
	for _, n := range p.nodes {
		fmt.Fprintf(w, "  %s  %s  pid %d  log %s\n", n.Name, n.API, n.PID, n.log)
	}
	fmt.Fprintf(w, "\nIn another terminal:\n\n  export LOCKSTEP_ADDR=%s\n", strings.Join(p.hosts(), ","))
	if p.CACert != "" {
		fmt.Fprintf(w, "  export LOCKSTEP_CACERT=%s\n", p.CACert)
	}
	fmt.Fprintf(w, "  lockstep status\n  lockstep volume create --size 1 --type %s --name first --wait\n", replicatedType)
	if len(p.options.Targets) > 0 {
		fmt.Fprintf(w, "  lockstep failover %s %s --wait\n  lockstep failback %s --wait\n", p.Cluster, p.options.Targets[0], p.Cluster)
	}
	fmt.Fprintf(w, "\nEverything is in %s. Interrupt to end all nodes.\n", p.options.Dir)
}
