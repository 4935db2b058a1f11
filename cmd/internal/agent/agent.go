// Package agent runs a node: it composes raftnode, driverhost and api, and stops
// them in the reverse order of their start.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/lockstep-storage/lockstep/api"
	"github.com/lockstep-storage/lockstep/cmd/internal/config"
	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/fsm"
	"github.com/lockstep-storage/lockstep/raftnode"
)

// Run runs the node that cfg describes until ctx ends, or until a part of it
// fails. Release is the version of the build.
func Run(ctx context.Context, cfg config.Config, release string, drivers Drivers, logger hclog.Logger) error {
	secure, err := openSecurity(cfg, logger)
	if err != nil {
		return err
	}
	known, err := openUsers(cfg.Auth)
	if err != nil {
		return err
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", cfg.API.Listen)
	if err != nil {
		return fmt.Errorf("api: listen on %s: %w", cfg.API.Listen, err)
	}
	defer func() { _ = listener.Close() }() // the server has closed it, if it was served

	peers := api.NewPeerClient(cfg.Deployment, secure.forAPI())
	process, err := openNode(ctx, cfg, release, peers, secure, logger)
	if err != nil {
		return err
	}
	parts := &lifecycle{logger: logger, abandon: process.Failed()}
	hosts, err := newHosts(cfg, process, drivers, logger)
	if err != nil {
		return errors.Join(err, process.Close())
	}
	server, err := newServer(cfg, release, &adoption{process: process, hosts: hosts, peers: peers}, secure, known, logger)
	if err != nil {
		return errors.Join(err, process.Close())
	}
	parts.add("raft", process.Run)
	parts.add("api", func(ctx context.Context) error { return server.Serve(ctx, secure.listener(listener)) })
	parts.add("files", func(ctx context.Context) error {
		return watchFiles(ctx, logger, append(secure.sources(process), known.sources...))
	})
	parts.add("expiry", secure.warnOfExpiry)
	parts.add("drivers", hosts.Run)
	if err := parts.run(ctx); !errors.Is(err, errAbandoned) {
		return err
	}
	return process.Failure() // the process has to end, with all that runs in it
}

// requestTimeout is how long a request rides out an election before it is answered
// with 503: several elections, and less than most clients wait.
const requestTimeout = 10 * time.Second

func openNode(ctx context.Context, cfg config.Config, release string, peers raftnode.Asker, secure *security, logger hclog.Logger) (*raftnode.Process, error) {
	return raftnode.Open(ctx, raftnode.Place{
		Dir: cfg.DataDir, LogStore: cfg.Raft.LogStore,
		Raft: cfg.Raft.Listen, RaftAddr: cfg.Raft.Advertise,
		Gossip: cfg.Gossip.Listen, GossipAdv: cfg.Gossip.Advertise,
		API: cfg.API.Endpoint().Address(), Seeds: cfg.Gossip.Join,
		Certificates: secure.forRaft(), GossipKeys: secure.gossipKeys,
	}, raftnode.Config{
		ID: cfg.Node, Deployment: cfg.Deployment, Release: release,
		Timing: cfg.Raft.Timing, Lease: cfg.Lease.Timing(), Limits: cfg.Failover.Limits(),
		VoterLimit: cfg.Voters, Expect: cfg.BootstrapExpect,
		Asker: peers, Logger: logger,
	})
}

// newHosts opens nothing yet: a driver is opened once its service holds a lease.
func newHosts(cfg config.Config, process *raftnode.Process, drivers Drivers, logger hclog.Logger) (*driverhost.Host, error) {
	var services []driverhost.Service
	for _, backend := range cfg.Backends {
		driver, err := drivers(cfg, backend)
		if err != nil {
			return nil, fmt.Errorf("backend %s: %w", backend.Name, err)
		}
		host := backend.Host(cfg.Node)
		services = append(services, driverhost.Service{
			Host: host, Node: cfg.Node, Cluster: backend.Cluster, Targets: driver.Targets,
			Open: driver.Open, Lease: process.NewLease(host),
		})
	}
	return driverhost.New(driverhost.Config{State: process, Proposer: process, Services: services, Logger: logger.Named("driverhost")})
}

func newServer(cfg config.Config, release string, adopts *adoption, secure *security, known *users, logger hclog.Logger) (*api.Server, error) {
	hosts := adopts.hosts
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&replicationCollector{hosts: hosts}, secure,
	)
	logs := &logLevels{node: cfg.Node, logger: logger, nodes: adopts.process, peers: adopts.peers}
	node := &apiNode{Process: adopts.process, hosts: hosts, adopts: adopts, logs: logs}
	return api.New(api.Config{
		Node: node, Logger: logger, Deployment: cfg.Deployment, Version: release,
		Local: func(cluster string) string {
			host, _ := hosts.Serves(cluster)
			return host
		},
		Manageable: adopts.manageable, LogLevel: logs.of,
		Ready: node.ready, Metrics: registry, RequestTimeout: requestTimeout, Certificates: secure.forAPI(),
		Authenticator: known.authenticator, Admin: known.admin, Policies: known.policies.Load,
	})
}

// apiNode is a node as the API needs it.
type apiNode struct {
	*raftnode.Process
	hosts  *driverhost.Host
	adopts *adoption
	logs   *logLevels
}

// Answer implements [api.PeerPort].
func (n *apiNode) Answer(ctx context.Context, from, method string, body []byte) ([]byte, error) {
	switch method {
	case methodManageable:
		return n.adopts.answer(ctx, body)
	case methodLogLevel:
		return n.logs.answer(body)
	}
	return n.Process.Answer(ctx, from, method, body)
}

var _ api.Node = (*apiNode)(nil)

// ready says why this node should get no requests: it knows no leader, its drivers
// do not work against the committed sites yet, or the leader refuses their leases.
func (n *apiNode) ready() error {
	if disk := n.Process.Status().Disk; !disk.StalledSince.IsZero() {
		return fmt.Errorf("the disk under %s has not answered for %v", disk.Dir, time.Since(disk.StalledSince).Round(time.Millisecond))
	}
	if n.Process.Status().Leader == "" {
		return fsm.ErrNoLeader
	}
	err := n.hosts.Ready()
	if refused := n.LeaseRefused(); err != nil && refused != nil {
		return fmt.Errorf("%w: %w", err, refused)
	}
	return err
}

// Status implements [api.Membership].
func (n *apiNode) Status() api.Status {
	s := n.Process.Status()
	return api.Status{
		Node: s.Node, Deployment: s.Deployment, Leader: s.Leader, Term: s.Term,
		AppliedIndex: s.AppliedIndex, CommitIndex: s.CommitIndex, Ready: n.ready() == nil, LastContact: s.LastContact,
		Disk: api.Disk{Dir: s.Disk.Dir, StalledSince: s.Disk.StalledSince, FreeBytes: s.Disk.Free, ReserveBytes: s.Disk.Reserve},
	}
}

// Peers implements [api.Membership].
func (n *apiNode) Peers(context.Context) ([]api.Peer, error) {
	seen, err := n.Process.Peers()
	if err != nil {
		return nil, err
	}
	peers := make([]api.Peer, len(seen))
	for i, p := range seen {
		peers[i] = api.Peer{
			ID: p.ID, Raft: p.Raft, API: p.API, Gossip: p.Gossip, Voter: p.Voter, Leader: p.Leader, Alive: p.Alive,
			Release: p.Release, Format: uint8(p.Format), //nolint:gosec // formats are small
		}
	}
	return peers, nil
}

// Presence implements [api.Membership].
func (n *apiNode) Presence(ctx context.Context) (map[string]api.Presence, error) {
	seen, err := n.Process.Presence(ctx)
	if err != nil {
		return nil, err
	}
	all := make(map[string]api.Presence, len(seen))
	for host, p := range seen {
		all[host] = api.Presence(p)
	}
	return all, nil
}
