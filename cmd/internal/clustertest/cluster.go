// Package clustertest runs a whole deployment inside one test: real Raft, real
// workers and the real state machine on in-memory stores and transports. A test
// puts it in a testing/synctest bubble, so its time costs nothing and a goroutine
// left behind fails the test.
package clustertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/cmd/internal/history"
	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/fsm"
	"github.com/lockstep-storage/lockstep/raftnode"
)

// ClusterName is the cluster that all members serve.
const ClusterName = "mycluster@aa"

// Lease is the lease timing of the members, in proportion to the default.
func lease() raftnode.LeaseTiming {
	return raftnode.LeaseTiming{
		Duration: 1500 * time.Millisecond, Kill: 500 * time.Millisecond, Grace: 2200 * time.Millisecond,
		ClockError: 0.001, Lateness: 50 * time.Millisecond,
	}
}

func timing() raftnode.Timing {
	t := raftnode.DefaultTiming()
	t.Heartbeat, t.Election, t.LeaderLease = 500*time.Millisecond, 500*time.Millisecond, 250*time.Millisecond
	t.Commit, t.TrailingLogs = 50*time.Millisecond, 1
	return t
}

// Limits are those of the coordinator under test.
func limits() fsm.Limits {
	return fsm.Limits{
		Drain: 5 * time.Second, Promote: 20 * time.Second, Switch: 5 * time.Second,
		Backoff: 100 * time.Millisecond, Attempts: 50,
	}
}

// Cluster is a set of members and the storage array that they share.
type Cluster struct {
	Members []*Member
	Array   *Array
	History *history.Recorder // of the failovers that were asked for with Failover

	began    time.Time
	tb       testing.TB
	logger   hclog.Logger
	inFlight sync.WaitGroup // questions that are on their way

	mu    sync.Mutex
	cut   map[string]bool // nodes that are separated from all others
	delay func() time.Duration
}

// SetDelay makes every question between nodes, and every answer, take as long as
// delay says each time. It is called from many goroutines, one at a time.
func (c *Cluster) SetDelay(delay func() time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay = delay
}

// travel lets a message take its time.
func (c *Cluster) travel(ctx context.Context) error {
	c.mu.Lock()
	var wait time.Duration
	if c.delay != nil {
		wait = c.delay()
	}
	c.mu.Unlock()
	if wait == 0 {
		return context.Cause(ctx)
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Member is one node with its service, and the disk that outlives a restart.
type Member struct {
	ID    string
	Node  *raftnode.Node
	Hosts *driverhost.Host

	store *raft.InmemStore
	snaps raft.SnapshotStore
	trans *raft.InmemTransport
	stop  func()
	up    bool
}

// Host returns the service that m hosts.
func (m *Member) Host() string { return m.ID + "@aa" }

// New starts size members, with site-b and site-c as replication targets, and
// waits until all serve.
func New(tb testing.TB, size int, logger hclog.Logger) *Cluster {
	tb.Helper()
	began := time.Now()
	c := &Cluster{
		tb: tb, Array: newArray(), began: began, cut: map[string]bool{}, logger: logger,
		History: history.NewRecorder(func() time.Duration { return time.Since(began) }),
	}
	for i := range size {
		c.Members = append(c.Members, &Member{
			ID: fmt.Sprintf("vol%d", i+1), store: raft.NewInmemStore(), snaps: raft.NewInmemSnapshotStore(),
		})
	}
	for _, m := range c.Members {
		c.start(m)
	}
	tb.Cleanup(func() {
		for _, m := range c.Members {
			m.stop()
		}
		c.inFlight.Wait()
		<-time.After(answerTimeout) // Raft does not wait for a transfer of leadership that nobody answers
	})
	c.Eventually("all members serve", c.AllServe)
	return c
}

func (c *Cluster) start(m *Member) {
	c.tb.Helper()
	_, m.trans = raft.NewInmemTransportWithTimeout(raft.ServerAddress(m.ID), 100*time.Millisecond)
	node, err := raftnode.New(raftnode.Config{
		ID: m.ID, Deployment: "test", Release: "test", Timing: timing(), Lease: lease(), Limits: limits(),
		Expect: len(c.Members), Interval: 100 * time.Millisecond, Meta: c.meta(m.ID),
		Storage:   raftnode.Storage{Logs: m.store, Stable: m.store, Snapshots: m.snaps},
		Transport: m.trans, Discovery: directory{c}, Asker: asker{c, m.ID}, Logger: c.logger,
		Clock: func() time.Duration { return time.Since(c.began) },
	})
	if err != nil {
		c.tb.Fatal(err)
	}
	hosts, err := driverhost.New(driverhost.Config{
		State: node, Proposer: node, Retry: 20 * time.Millisecond, StatsEvery: time.Hour, Logger: c.logger.With("node", m.ID),
		Services: []driverhost.Service{{
			Host: m.Host(), Node: m.ID, Cluster: ClusterName, Targets: []string{"site-b", "site-c"},
			Open: c.Array.opener(), Lease: node.NewLease(m.Host()),
		}},
	})
	if err != nil {
		c.tb.Fatal(err)
	}
	c.mu.Lock()
	m.Node, m.Hosts, m.up = node, hosts, true
	c.mu.Unlock()
	c.connect(m)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = node.Run(ctx) })
	wg.Go(func() {
		if err := hosts.Run(ctx); err != nil {
			c.tb.Error(err)
		}
	})
	m.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
}

func (c *Cluster) meta(id string) raftnode.Meta {
	return raftnode.Meta{Deployment: "test", Raft: id, API: id + ":80", Format: int(fsm.Format), Expect: len(c.Members)}
}

// Kill ends a member at once: from the first moment nothing of it is heard.
func (c *Cluster) Kill(m *Member) {
	c.Cut(m)
	c.mu.Lock()
	m.up = false
	c.mu.Unlock()
	m.stop()
}

// Stop ends a member as an operator does, who lets it say goodbye.
func (c *Cluster) Stop(m *Member) {
	m.stop()
	c.Cut(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	m.up = false
}

// Restart brings a killed member back with the disk it had.
func (c *Cluster) Restart(m *Member) {
	c.setCut(m, false)
	c.start(m)
}

// Cut separates a member, which goes on running, from all others.
func (c *Cluster) Cut(m *Member) {
	c.setCut(m, true)
	m.trans.DisconnectAll()
	for _, o := range c.Members {
		if o.trans != nil {
			o.trans.Disconnect(raft.ServerAddress(m.ID))
		}
	}
}

// Heal ends the separation of a member.
func (c *Cluster) Heal(m *Member) {
	c.setCut(m, false)
	c.connect(m)
}

func (c *Cluster) setCut(m *Member, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[m.ID] = cut
}

func (c *Cluster) connect(m *Member) {
	for _, o := range c.Members {
		if o != m && o.trans != nil && !c.isCut(o.ID) {
			m.trans.Connect(o.trans.LocalAddr(), o.trans)
			o.trans.Connect(m.trans.LocalAddr(), m.trans)
		}
	}
}

func (c *Cluster) isCut(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut[id]
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

// directory is what gossip would tell, always and at once.
type directory struct{ c *Cluster }

func (d directory) Peers() []raftnode.Peer {
	var all []raftnode.Peer
	for _, m := range d.c.Members {
		p, _ := d.Peer(m.ID)
		all = append(all, p)
	}
	return all
}

func (d directory) Peer(id string) (raftnode.Peer, bool) {
	return raftnode.Peer{ID: id, Addr: id, Meta: d.c.meta(id), Alive: !d.c.isCut(id)}, true
}

func (directory) UpdateMeta(raftnode.Meta) error { return nil }

// asker is the network between the nodes' APIs.
type asker struct {
	c    *Cluster
	from string
}

var errNoRoute = errors.New("no route to host")

type reply struct {
	answer []byte
	err    error
}

// deliver takes a question to a node, which may answer it after its sender has
// given up or was cut off.
func (a asker) deliver(node *raftnode.Node, method string, body []byte) reply {
	late, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	if err := a.c.travel(late); err != nil {
		return reply{err: err}
	}
	answer, err := node.Answer(late, a.from, method, body)
	return reply{answer, err}
}

// answerTimeout is how long a node works on a question whose sender may be gone.
const answerTimeout = 2 * time.Second

func (a asker) Ask(ctx context.Context, id, _, method string, body []byte) ([]byte, error) {
	node, ok := a.c.node(id)
	if !ok || a.c.isCut(id) || a.c.isCut(a.from) {
		return nil, errNoRoute
	}
	replies := make(chan reply, 1)
	a.c.inFlight.Go(func() { replies <- a.deliver(node, method, body) }) //nolint:contextcheck // it outlives its sender on purpose
	select {
	case r := <-replies:
		if err := a.c.travel(ctx); err != nil {
			return nil, err
		}
		if a.c.isCut(id) || a.c.isCut(a.from) {
			return nil, errNoRoute // the answer is lost
		}
		return r.answer, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

var _ raftnode.Discovery = directory{}
