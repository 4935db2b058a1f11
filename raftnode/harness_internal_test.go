package raftnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lockstep-storage/lockstep/fsm"
)

// fleet is a deployment of nodes on in-memory stores and transports, for a
// testing/synctest bubble.
type fleet struct {
	tb     testing.TB
	expect int
	nodes  []*fleetNode
	adapt  func(*fleet, *fleetNode, *Config) // what a test has otherwise; may be nil

	mu   sync.Mutex
	cut  map[string]bool
	lose func(from, to, method string) error                          // a question that is lost
	late func(from, to, method string, answer []byte) ([]byte, error) // an answer that is lost, or another
}

// fleetNode is one node, with the disk that outlives a restart.
type fleetNode struct {
	*Node
	id    string
	lease LeaseTiming // with which it starts next
	clock *falseClock
	store *raft.InmemStore
	snaps *raft.InmemSnapshotStore
	trans *raft.InmemTransport
	stop  func()
	up    bool
}

var errUnreachable = errors.New("no route to host")

// startFleet starts nodes a, b, c... of which the first expect form the deployment.
func startFleet(tb testing.TB, size, expect int) *fleet {
	tb.Helper()
	return startAdapted(tb, size, expect, nil)
}

func startAdapted(tb testing.TB, size, expect int, adapt func(*fleet, *fleetNode, *Config)) *fleet {
	tb.Helper()
	f := &fleet{tb: tb, expect: expect, adapt: adapt, cut: map[string]bool{}}
	for i := range size {
		f.nodes = append(f.nodes, &fleetNode{
			id: string(rune('a' + i)), store: raft.NewInmemStore(), snaps: raft.NewInmemSnapshotStore(),
			lease: fleetLease(), clock: &falseClock{since: time.Now(), shown: time.Hour},
		})
	}
	tb.Cleanup(func() {
		for _, n := range f.nodes {
			n.stop()
		}
		// Raft does not wait for a transfer of leadership that nobody answers.
		<-time.After(time.Minute)
	})
	for _, n := range f.nodes {
		f.start(n)
	}
	f.until("a leader that has caught up", func() bool { return f.leader() != nil })
	f.until("all know all", func() bool {
		return !slices.ContainsFunc(f.nodes, func(n *fleetNode) bool {
			return slices.ContainsFunc(f.nodes, func(o *fleetNode) bool { return !knows(n, o.id) })
		})
	})
	return f
}

func (f *fleet) config(n *fleetNode) Config {
	timing := DefaultTiming()
	timing.TrailingLogs = 1
	return Config{
		ID: n.id, Deployment: "test", Timing: timing, Lease: n.lease, Limits: fsm.DefaultLimits(),
		Expect: f.meta(n.id).Expect, Interval: 50 * time.Millisecond, Meta: f.meta(n.id),
		Storage:   Storage{Logs: n.store, Stable: n.store, Snapshots: n.snaps},
		Transport: n.trans, Discovery: f, Asker: fleetAsker{f, n.id}, Logger: hclog.NewNullLogger(),
		Clock: n.clock.now,
	}
}

// falseClock is a node's clock: false time, which goes on while the node is down,
// at a rate of its own.
type falseClock struct {
	mu    sync.Mutex
	since time.Time     // when the rate was set
	shown time.Duration // what the clock showed then
	rate  float64       // by how much it is fast
}

func (c *falseClock) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	passed := time.Since(c.since)
	return c.shown + passed + time.Duration(float64(passed)*c.rate)
}

// run lets the clock go on from what it shows, moved by jump, at another rate.
func (c *falseClock) run(jump time.Duration, rate float64) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since, c.shown, c.rate = time.Now(), now+jump, rate
}

func fleetLease() LeaseTiming {
	return LeaseTiming{
		Duration: 1500 * time.Millisecond, Kill: 500 * time.Millisecond, Grace: 2200 * time.Millisecond,
		ClockError: 0.001, Lateness: 50 * time.Millisecond,
	}
}

// question is how a service of a node asks for its lease.
func (f *fleet) question(host, node string) leaseQuestion {
	t := fleetLease()
	return leaseQuestion{Host: host, Node: node, Duration: t.Duration, Kill: t.Kill, ClockError: t.ClockError}
}

func (f *fleet) start(n *fleetNode) {
	f.tb.Helper()
	_, n.trans = raft.NewInmemTransportWithTimeout(raft.ServerAddress(n.id), 100*time.Millisecond)
	cfg := f.config(n)
	if f.adapt != nil {
		f.adapt(f, n, &cfg)
	}
	node, err := New(cfg)
	if err != nil {
		f.tb.Fatal(err)
	}
	f.mu.Lock()
	n.Node, n.up = node, true
	f.cut[n.id] = false
	f.mu.Unlock()
	f.connect(n)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		began := time.Now()
		if err := <-ended; err != nil {
			f.tb.Error(err)
		}
		if took := time.Since(began); took > 2*time.Second {
			f.tb.Errorf("%s took %v to stop", n.id, took)
		}
	})
}

// kill ends a node at once; restart brings it back with its disk.
func (f *fleet) kill(n *fleetNode) {
	f.isolate(n)
	f.mu.Lock()
	n.up = false
	f.mu.Unlock()
	n.stop()
}

// isolate separates a node, which goes on running, from all others.
func (f *fleet) isolate(n *fleetNode) {
	f.mu.Lock()
	f.cut[n.id] = true
	f.mu.Unlock()
	f.unplug(n)
}

// unplug cuts a node off from the others' Raft.
func (f *fleet) unplug(n *fleetNode) {
	n.trans.DisconnectAll()
	for _, o := range f.nodes {
		if o.trans != nil {
			o.trans.Disconnect(n.trans.LocalAddr())
		}
	}
}

func (f *fleet) heal(n *fleetNode) {
	f.mu.Lock()
	f.cut[n.id] = false
	f.mu.Unlock()
	f.connect(n)
}

func (f *fleet) connect(n *fleetNode) {
	for _, o := range f.nodes {
		if o != n && o.trans != nil && !f.isCut(o.id) {
			n.trans.Connect(o.trans.LocalAddr(), o.trans)
			o.trans.Connect(n.trans.LocalAddr(), n.trans)
		}
	}
}

func (f *fleet) isCut(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cut[id]
}

// losing sets which questions are lost; tamper what becomes of answers.
func (f *fleet) losing(question func(from, to, method string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lose = question
}

func (f *fleet) tamper(answer func(from, to, method string, answer []byte) ([]byte, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.late = answer
}

func (f *fleet) meta(id string) Meta {
	m := Meta{Deployment: "test", Raft: id, API: id, Format: int(fsm.Format), Expect: f.expect}
	if int(id[0]-'a') >= f.expect {
		m.Expect = 0
	}
	return m
}

func (f *fleet) Peers() (all []Peer) {
	for _, n := range f.nodes {
		p, _ := f.Peer(n.id)
		all = append(all, p)
	}
	return all
}

func (f *fleet) Peer(id string) (Peer, bool) {
	return Peer{ID: id, Addr: id, Meta: f.meta(id), Alive: !f.isCut(id)}, true
}

func (*fleet) UpdateMeta(Meta) error { return nil }

// fleetAsker is the network between the nodes' APIs. Errors of the other side go
// through what HTTP carries: a refusal.
type fleetAsker struct {
	f    *fleet
	from string
}

func (a fleetAsker) Ask(ctx context.Context, to, _, method string, body []byte) ([]byte, error) {
	a.f.mu.Lock()
	i := slices.IndexFunc(a.f.nodes, func(n *fleetNode) bool { return n.id == to && n.up })
	lose, late := a.f.lose, a.f.late
	lost := i < 0 || a.f.cut[a.from] || a.f.cut[to]
	a.f.mu.Unlock()
	if lost {
		return nil, errUnreachable
	}
	if lose != nil {
		if err := lose(a.from, to, method); err != nil {
			return nil, err
		}
	}
	answer, err := a.f.nodes[i].Answer(ctx, "", method, body)
	if late != nil && err == nil {
		return late(a.from, to, method, answer)
	}
	if err == nil {
		return answer, nil
	}
	var r *fsm.Refusal
	if !errors.As(err, &r) {
		r = &fsm.Refusal{Code: fsm.CodeOf(err), Message: err.Error()}
	}
	return nil, fmt.Errorf("ask %s: %w", to, r)
}

// until waits for ok to hold.
func (f *fleet) until(what string, ok func() bool) {
	f.tb.Helper()
	for end := time.Now().Add(time.Minute); !ok(); synctestPause() {
		if time.Now().After(end) {
			f.tb.Fatalf("gave up waiting for %s", what)
		}
	}
}

// synctestPause lets false time pass.
func synctestPause() { <-time.After(10 * time.Millisecond) }

// leader returns the node that leads and has caught up, or nil.
func (f *fleet) leader() *fleetNode {
	for _, n := range f.nodes {
		f.mu.Lock()
		up := n.up && !f.cut[n.id]
		f.mu.Unlock()
		if !up {
			continue
		}
		if _, err := n.leading(); err == nil {
			return n
		}
	}
	return nil
}

func (f *fleet) follower() *fleetNode {
	leader := f.leader()
	i := slices.IndexFunc(f.nodes, func(n *fleetNode) bool { return n != leader && n.up && !f.isCut(n.id) })
	return f.nodes[i]
}

// propose commits a command at n within a minute.
func (f *fleet) propose(n *fleetNode, cmd fsm.Command) {
	f.tb.Helper()
	if err := f.offer(n, time.Minute, "", cmd); err != nil {
		f.tb.Fatalf("%T at %s: %v", cmd, n.id, err)
	}
}

func (f *fleet) offer(n *fleetNode, within time.Duration, request string, cmd fsm.Command) error {
	ctx, cancel := context.WithTimeout(f.tb.Context(), within)
	defer cancel()
	_, err := n.Propose(ctx, request, cmd)
	return err
}

// service registers a service of n.
func (f *fleet) service(n *fleetNode) string {
	f.tb.Helper()
	host := n.id + "@aa"
	f.propose(n, fsm.RegisterService{Host: host, Node: n.id, Cluster: "c@aa", Targets: []string{"site-b"}})
	return host
}

// story runs a test on a fresh fleet in false time.
func story(t *testing.T, name string, size, expect int, tell func(t *testing.T, f *fleet)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) { tell(t, startFleet(t, size, expect)) })
	})
}

// contextOf is a context that a test may end before its own cleanup does.
func contextOf(tb testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(tb.Context())
}

func answerOf[A any](a A) ([]byte, error) { return answer(a, nil) }
