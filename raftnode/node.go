package raftnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// Storage is what Raft keeps. It must survive a crash of the node.
type Storage struct {
	Logs      raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
}

// hasState reports whether there is a log or a snapshot. A term alone is no history:
// whoever was sent a heartbeat, and nothing else yet, is as new as before.
func (s Storage) hasState() (bool, error) {
	last, err := s.Logs.LastIndex()
	if err != nil {
		return false, fmt.Errorf("read the log: %w", err)
	}
	kept, err := s.Snapshots.List()
	if err != nil {
		return false, fmt.Errorf("list the snapshots: %w", err)
	}
	return last > 0 || len(kept) > 0, nil
}

// Discovery tells which nodes there are and where. All of it is a hint.
type Discovery interface {
	Peers() []Peer
	Peer(id string) (Peer, bool)
	UpdateMeta(Meta) error
}

// Asker carries a question to another node's [Node.Answer].
type Asker interface {
	// Ask sends body to the method of a node, whose API is at address, a
	// host:port. Nobody but that node may get to see it. An error of the other
	// side keeps its [fsm.Code].
	Ask(ctx context.Context, node, address, method string, body []byte) ([]byte, error)
}

// Config says how a node takes part. Fields without a default are required.
type Config struct {
	ID         string
	Deployment string
	Release    string // of the build, for people
	Timing     Timing
	Lease      LeaseTiming
	Limits     fsm.Limits
	VoterLimit int           // default DefaultVoterLimit
	Expect     int           // nodes to start a deployment with; 0 joins one
	Interval   time.Duration // between two looks of the leader that nothing woke; default 100ms
	Meta       Meta          // what gossip tells of this node

	// Clock tells the time since some moment before New was called, for leases
	// on both sides. It must go on while the machine sleeps. Default BootTime.
	Clock func() time.Duration

	Storage   Storage
	Transport raft.Transport
	Discovery Discovery
	Asker     Asker
	Logger    hclog.Logger

	directory fsm.Directory // in this start; zero without files
	disk      *diskWatch    // of the data directory; nil without one
}

func (c Config) validate() error {
	errs := []error{validateName("node", c.ID), validateName("deployment", c.Deployment), c.Timing.validate(), c.Lease.validate()}
	if c.Discovery == nil || c.Asker == nil || c.Transport == nil || c.Logger == nil {
		errs = append(errs, errors.New("discovery, asker, transport and logger are required"))
	}
	if c.Storage.Logs == nil || c.Storage.Stable == nil || c.Storage.Snapshots == nil {
		errs = append(errs, errors.New("storage for logs, votes and snapshots is required"))
	}
	return errors.Join(errs...)
}

// Node is one peer of a deployment.
type Node struct {
	*replica
	cfg       Config
	raft      *raft.Raft
	asker     Asker
	peers     Discovery
	logger    hclog.Logger
	prover    *prover
	transport *punctual
	asked     pending       // what Raft has been asked and has not answered
	began     time.Duration // on the clock
	leader    *leaderWatch

	mu     sync.Mutex
	reign  *reign   // of the current term, while this node leads
	leases []*Lease // of this node's services
	seen   map[string]Presence
}

// New opens the log and starts Raft. What it starts ends with [Node.Run], which
// must be called.
func New(cfg Config) (*Node, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Interval == 0 {
		cfg.Interval = 100 * time.Millisecond
	}
	if cfg.Clock == nil {
		if _, err := bootTime(); err != nil {
			return nil, err
		}
		cfg.Clock = BootTime
	}
	n := &Node{
		replica: newReplica(cfg.Logger), cfg: cfg, asker: cfg.Asker, peers: cfg.Discovery,
		logger: cfg.Logger.With("node", cfg.ID), began: cfg.Clock(), leader: newLeaderWatch(),
	}
	n.prover, n.transport = newProver(n.confirmTerm), newPunctual(cfg.Transport, cfg.Storage.Logs, n.isPeer)
	hasState, err := cfg.Storage.hasState()
	if err != nil {
		return nil, err
	}
	n.cfg.Meta.HasState = hasState
	n.raft, err = raft.NewRaft(raftConfig(cfg.ID, cfg.Timing, cfg.Logger), n.replica,
		n.transport.logs, cfg.Storage.Stable, cfg.Storage.Snapshots, n.transport)
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	return n, nil
}

// Run takes part until ctx ends, and then stops Raft. It leads whenever Raft says
// so. The error is nil after a stop that was asked for.
func (n *Node) Run(ctx context.Context) error {
	var wg, serving sync.WaitGroup
	messages, stop := context.WithCancel(context.WithoutCancel(ctx))
	serving.Go(func() { n.transport.serve(messages, n.raft) })
	defer serving.Wait()
	defer stop() // Raft takes messages until it is shut down
	ctx, cancel := context.WithCancel(ctx)
	wg.Go(func() { n.prover.run(ctx) })
	wg.Go(func() { n.bootstrap(ctx) })
	wg.Go(func() { n.announce(ctx) })
	wg.Go(func() { n.leader.run(ctx, n.raft) })
	wg.Go(func() { n.follow(ctx) })
	wg.Go(func() { n.tellState(ctx) })
	n.lead(ctx)
	n.leave(ctx)
	cancel()
	wg.Wait()
	n.asked.close(2 * n.cfg.Timing.Election) // while it shuts down, Raft leaves some of what it was asked unanswered
	if err := n.raft.Shutdown().Error(); err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	return nil
}

// leave has another node lead before this one stops, so that nobody has to wait
// for an election. It takes no longer than one.
func (n *Node) leave(ctx context.Context) {
	if n.raft.State() != raft.Leader {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*n.cfg.Timing.Election)
	defer cancel()
	if err := n.handOver(ctx); !errors.Is(err, fsm.ErrNotLeader) {
		n.logger.Debug("leadership not handed over", "error", err)
	}
}

// lead runs a reign for every term in which this node leads.
func (n *Node) lead(ctx context.Context) {
	end := func() {}
	for {
		select {
		case leading := <-n.raft.LeaderCh():
			// Two true in a row mean that a term was lost and won in between,
			// so the old reign always ends first.
			end()
			end = func() {}
			if leading {
				end = n.startReign(ctx)
			}
		case <-ctx.Done():
			end()
			return
		}
	}
}

func (n *Node) startReign(ctx context.Context) (end func()) {
	term, cancel := context.WithCancel(ctx)
	r := newReign(n)
	n.mu.Lock()
	n.reign = r
	n.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { r.run(term) })
	return func() {
		n.mu.Lock()
		n.reign = nil
		n.mu.Unlock()
		cancel()
		wg.Wait()
	}
}

// leading returns the reign of this node if it leads and has caught up.
func (n *Node) leading() (*reign, error) {
	n.mu.Lock()
	r := n.reign
	n.mu.Unlock()
	if r == nil || n.cfg.disk.dead() || !r.ready() || n.raft.State() != raft.Leader || n.raft.CurrentTerm() != r.term() {
		return nil, fsm.ErrNotLeader
	}
	return r, nil
}

// bootstrap starts a new deployment when it is this node's part to do so.
func (n *Node) bootstrap(ctx context.Context) {
	tick := time.NewTicker(n.cfg.Interval)
	defer tick.Stop()
	said := ""
	for !n.cfg.Meta.HasState && n.cfg.Expect > 0 && n.raft.LastIndex() == 0 {
		decision, err := bootstrapDecision(bootstrapInput{
			ID: raft.ServerID(n.cfg.ID), Address: n.cfg.Transport.LocalAddr(), Expect: n.cfg.Expect, Peers: n.peers.Peers(),
		})
		switch {
		case err != nil && said != err.Error():
			said = err.Error()
			n.logger.Error("the deployment cannot start", "error", err)
		case err == nil && decision.Wait != "" && said != decision.Wait:
			said = decision.Wait
			n.logger.Info("waiting", "for", said)
		case decision.Servers != nil:
			if err := n.raft.BootstrapCluster(raft.Configuration{Servers: decision.Servers}).Error(); err != nil {
				n.logger.Error("the deployment was not started", "error", err)
				return
			}
			n.logger.Info("started a new deployment", "deployment", n.cfg.Deployment, "servers", len(decision.Servers))
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// tellState lets gossip know once this node has a log: a node with a past is not
// taken for a new one, neither by who starts a deployment nor by who adds peers.
func (n *Node) tellState(ctx context.Context) {
	meta := n.cfg.Meta
	if meta.HasState {
		return
	}
	tick := time.NewTicker(n.cfg.Interval)
	defer tick.Stop()
	for n.raft.LastIndex() == 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	meta.HasState = true
	if err := n.peers.UpdateMeta(meta); err != nil {
		n.logger.Warn("gossip not told that this node has state", "error", err)
	}
}

// announce registers this node, and again whenever what is registered differs.
func (n *Node) announce(ctx context.Context) {
	want := fsm.Node{
		ID: n.cfg.ID, Raft: string(n.cfg.Transport.LocalAddr()), API: urlPrefix + n.cfg.Meta.API,
		Release: n.cfg.Release, Format: fsm.Format, LeaseSpan: n.cfg.Lease.Span(), Directory: n.cfg.directory,
	}
	said := ""
	for ctx.Err() == nil {
		if self, ok := n.peers.Peer(n.cfg.ID); ok {
			want.Gossip = self.Addr
		}
		var same bool
		changed := n.View(func(s *fsm.State) {
			is, ok := s.Node(want.ID)
			is.CreatedAt, is.UpdatedAt, is.Index = 0, 0, 0
			if n.running() < is.LeaseSpan {
				is.LeaseSpan = min(is.LeaseSpan, want.LeaseSpan) // it cannot be shortened yet
			}
			same = ok && is == want
		})
		if !same {
			said = n.register(ctx, want, said)
			changed = nil // look again soon, but not at once: an answer may come as fast as it is asked for
		}
		pause := time.NewTimer(10 * n.cfg.Interval)
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// register registers this node. It returns the warning that was given last: said,
// or another one.
func (n *Node) register(ctx context.Context, as fsm.Node, said string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := n.Propose(ctx, "", fsm.RegisterNode{Node: as, Running: n.running()})
	if err == nil {
		return ""
	}
	if fsm.CodeOf(err) == fsm.ErrConflict && said != err.Error() {
		n.logger.Warn("the deployment knows another data directory of this node: it has to be taken back as a new one", "error", err)
		return err.Error()
	}
	n.logger.Debug("this node is not registered yet", "error", err)
	return said
}
