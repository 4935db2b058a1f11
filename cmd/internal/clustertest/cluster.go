// Package clustertest runs a whole deployment inside one test: real Raft, real
// leases, coordinator, gates and workers and the real state machine, on a network,
// disks, clocks and a storage array that are simulated, and that fail as they are
// told. A test puts it in a testing/synctest bubble, so its time costs nothing and
// a goroutine left behind fails the test.
package clustertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/fsm"
	"github.com/lockstep-storage/lockstep/raftnode"
)

// ClusterName is the cluster that all members serve.
const ClusterName = "mycluster@aa"

// lease is the lease timing of the members, in proportion to the default.
func lease() raftnode.LeaseTiming {
	return raftnode.LeaseTiming{
		Duration: 1500 * time.Millisecond, Kill: 500 * time.Millisecond, Grace: 2200 * time.Millisecond,
		ClockError: 0.02, Lateness: 50 * time.Millisecond,
	}
}

func timing(snapshots bool) raftnode.Timing { //nolint:revive // one of two timings
	t := raftnode.DefaultTiming()
	t.Heartbeat, t.Election, t.LeaderLease = 500*time.Millisecond, 500*time.Millisecond, 250*time.Millisecond
	t.Commit, t.TrailingLogs = 50*time.Millisecond, 1
	if snapshots {
		t.SnapshotInterval, t.SnapshotThreshold, t.TrailingLogs = time.Second, 10, 40
	}
	return t
}

// Limits are those of the coordinator under test.
func limits() fsm.Limits {
	return fsm.Limits{
		Drain: 5 * time.Second, Promote: 20 * time.Second, Switch: 5 * time.Second,
		Backoff: 100 * time.Millisecond, Attempts: 50,
	}
}

// Options says what is run. The zero value of a field leaves out what it is about.
type Options struct {
	Size      int      // members at the start
	Clusters  []string // that every member serves; default ClusterName
	Seed      uint64   // of the network, the disks and the clocks
	Logger    hclog.Logger
	Drift     float64 // largest rate error of the nodes' clocks
	Snapshots bool    // often, so that nodes which were away get one
	Liars     bool    // disks acknowledge before they sync: never true of real ones
	Stats     *Coverage
}

// Cluster is a deployment and the storage arrays that its members share.
type Cluster struct {
	Members []*Member
	Array   *Array            // of the first cluster
	Arrays  map[string]*Array // by cluster
	History *history.Recorder // of what clients asked for, and were answered

	tb     testing.TB
	opts   Options
	rnd    *rand.Rand
	net    *network
	leases *leases
	oracle *oracle
	began  time.Time
	ending sync.WaitGroup // goroutines that watch or serve a process, or end one

	mu  sync.Mutex
	cut map[string]bool // nodes that are separated from all others
}

// Member is one node with its services, and the disk that outlives a restart.
type Member struct {
	ID    string
	Node  *raftnode.Node
	Hosts *driverhost.Host

	c       *Cluster
	disk    *disk
	rate    float64      // of its clock
	wall    atomic.Int64 // how far its wall clock is ahead, in nanoseconds
	expect  int
	process *process
	stop    func()
	up      bool // guarded by Cluster.mu
}

// Host returns the service that m hosts in the first cluster.
func (m *Member) Host() string { return m.HostIn(m.c.opts.Clusters[0]) }

// HostIn returns the service that m hosts in a cluster.
func (m *Member) HostIn(cluster string) string {
	_, backend, _ := strings.Cut(cluster, "@")
	return m.ID + "@" + backend
}

// New starts size members, with site-b and site-c as replication targets, and
// waits until all serve.
func New(tb testing.TB, size int, logger hclog.Logger) *Cluster {
	tb.Helper()
	return Start(tb, Options{Size: size, Logger: logger})
}

// Start starts a deployment and waits until all its members serve.
func Start(tb testing.TB, opts Options) *Cluster {
	tb.Helper()
	if len(opts.Clusters) == 0 {
		opts.Clusters = []string{ClusterName}
	}
	began := time.Now()
	c := &Cluster{
		tb: tb, opts: opts, began: began, cut: map[string]bool{}, Arrays: map[string]*Array{},
		rnd: rand.New(rand.NewPCG(opts.Seed, 2)), //nolint:gosec // a seed names the run
	}
	c.net = newNetwork(opts.Seed, opts.Stats, c.now)
	c.leases = newLeases(c.now)
	seen := newMoments(c.now)
	c.History = history.NewRecorder(c.now)
	for _, name := range opts.Clusters {
		c.Arrays[name] = newArray(c.leases, seen, opts.Stats)
		c.Arrays[name].touch = c.inTouch
	}
	c.Array = c.Arrays[opts.Clusters[0]]
	c.oracle = newOracle(c.Arrays, seen, opts.Stats, c.now)
	for i := range opts.Size {
		c.add(fmt.Sprintf("vol%d", i+1), opts.Size)
	}
	for _, m := range c.Members {
		c.start(m)
	}
	tb.Cleanup(c.end)
	c.Eventually("all members serve", c.AllServe)
	return c
}

// now is the time since the deployment was started, on no node's clock.
func (c *Cluster) now() time.Duration { return time.Since(c.began) }

// add makes a new member with an empty disk, and a clock that is off by up to
// the drift.
func (c *Cluster) add(id string, expect int) *Member {
	m := &Member{ID: id, c: c, expect: expect, rate: 1 + c.opts.Drift*(2*c.rnd.Float64()-1)}
	m.disk = newDisk(id, rand.New(rand.NewPCG(c.opts.Seed, 100+uint64(len(c.Members))))) //nolint:gosec // a seed names the run
	m.disk.liar, m.disk.stats = c.opts.Liars, c.opts.Stats
	m.disk.now = c.now
	m.disk.fatal = func(p *process) { c.kill(m, p) }
	m.disk.wall = func() time.Duration { return time.Duration(m.wall.Load()) }
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Members = append(c.Members, m)
	return m
}

// Join starts a new member, which the leader takes in by itself.
func (c *Cluster) Join(id string) *Member {
	m := c.add(id, 0)
	c.start(m)
	return m
}

// end stops everything.
func (c *Cluster) end() {
	for _, m := range c.members() {
		m.process.resume()
		m.disk.stall(false)
		c.Release(m)
		m.stop()
		m.process.kill()
		for _, d := range c.drivers(m) {
			d.kill()
		}
	}
	c.ending.Wait()
	for _, a := range c.Arrays {
		a.processes.Wait()
	}
	c.net.end()
	<-time.After(answerTimeout) // Raft does not wait for a transfer of leadership that nobody answers
}

func (c *Cluster) start(m *Member) {
	c.tb.Helper()
	p := newProcess(m)
	p.wire = newWire(c.net, p)
	files := m.disk.open(p)
	node, err := raftnode.New(raftnode.Config{
		ID: m.ID, Deployment: "test", Release: "test", Timing: timing(c.opts.Snapshots), Lease: lease(), Limits: limits(),
		Expect: m.expect, Interval: 100 * time.Millisecond, Meta: m.meta(),
		Storage:   raftnode.Storage{Logs: files, Stable: files, Snapshots: files},
		Transport: p.wire, Discovery: directory{c}, Asker: asker{c, p}, Logger: c.opts.Logger,
		Clock: m.clock,
	})
	if err != nil {
		c.tb.Fatal(err)
	}
	hosts, err := driverhost.New(driverhost.Config{
		State: node, Proposer: node, Retry: 20 * time.Millisecond, StatsEvery: time.Hour, Logger: c.opts.Logger.With("node", m.ID),
		Services: c.services(m, node, p),
	})
	if err != nil {
		c.tb.Fatal(err)
	}
	p.peer, p.hosts = node, hosts
	p.raft.Store(node)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	c.mu.Lock()
	m.Node, m.Hosts, m.process, m.up = node, hosts, p, true
	m.stop = func() { cancel(); <-ended } // no mutex: in a bubble one that waits for it stops the time
	c.mu.Unlock()
	c.net.setProcess(p)
	go func() {
		defer close(ended)
		c.run(ctx, m, p)
	}()
}

// services are those of one process of a member.
func (c *Cluster) services(m *Member, node *raftnode.Node, p *process) (all []driverhost.Service) {
	for _, name := range c.opts.Clusters {
		host := m.HostIn(name)
		all = append(all, driverhost.Service{
			Host: host, Node: m.ID, Cluster: name, Targets: []string{"site-b", "site-c"},
			Open: c.Arrays[name].opener(p), Lease: node.NewLease(host),
		})
	}
	return all
}

// run runs a process until ctx ends, and stops its drivers before its Raft, as the
// agent does.
func (c *Cluster) run(ctx context.Context, m *Member, p *process) {
	last, end := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end()
	wg.Go(func() { _ = p.peer.Run(last) })
	wg.Go(func() { c.oracle.watch(last, m, p) })
	if err := p.hosts.Run(ctx); err != nil && p.lives() {
		c.tb.Error(err)
	}
}

func (m *Member) meta() raftnode.Meta {
	return raftnode.Meta{
		Deployment: "test", Raft: m.ID, API: m.ID + ":80", Format: int(fsm.Format), Expect: m.expect, HasState: m.disk.used(),
	}
}

// clock is what the node of m goes by: it runs at its own rate.
func (m *Member) clock() time.Duration { return time.Hour + time.Duration(float64(m.c.now())*m.rate) }

func (m *Member) alive() bool {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return m.up && !m.c.cut[m.ID]
}

// Restart brings a killed member back with the disk it had.
func (c *Cluster) Restart(m *Member) {
	c.Heal(m)
	c.start(m)
}

// StepWallClock puts the wall clock of a member ahead of all others by that much,
// or behind. The log has the leader's times.
func (c *Cluster) StepWallClock(m *Member, ahead time.Duration) { m.wall.Store(int64(ahead)) }

// Pause stops a member, as SIGSTOP does its process, or with its whole machine.
func (c *Cluster) Pause(m *Member, machine bool) { m.process.pause(machine) }

// Resume lets a stopped member go on.
func (c *Cluster) Resume(m *Member) { m.process.resume() }

// Cut separates a member, which goes on running, from all others.
func (c *Cluster) Cut(m *Member) {
	c.mu.Lock()
	c.cut[m.ID] = true
	c.mu.Unlock()
	for _, o := range c.members() {
		c.net.cut(m.ID, o.ID)
		c.net.cut(o.ID, m.ID)
	}
}

// Heal ends the separation of a member.
func (c *Cluster) Heal(m *Member) {
	c.mu.Lock()
	c.cut[m.ID] = false
	c.mu.Unlock()
	for _, o := range c.members() {
		if !c.isCut(o.ID) {
			c.net.join(m.ID, o.ID)
			c.net.join(o.ID, m.ID)
		}
	}
}

func (c *Cluster) isCut(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut[id]
}

func (c *Cluster) members() []*Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*Member(nil), c.Members...)
}

func (c *Cluster) member(id string) *Member {
	for _, m := range c.members() {
		if m.ID == id {
			return m
		}
	}
	return nil
}

// node returns the running node with the given id.
func (c *Cluster) node(id string) (*raftnode.Node, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.Members {
		if m.ID == id && m.up {
			return m.Node, true
		}
	}
	return nil, false
}

// voters is how many members there were at the start: all vote.
func (c *Cluster) voters() (all []*Member) {
	for _, m := range c.members() {
		if m.expect > 0 {
			all = append(all, m)
		}
	}
	return all
}
