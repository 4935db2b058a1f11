package driverhost_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/driverhost"
	"github.com/lockstep-storage/lockstep/fsm"
)

const (
	clusterName = "c@aa"
	hostName    = "n1@aa"
	otherHost   = "n2@aa" // a member that nobody runs here
)

// world is the replicated state and the log in front of it: what is proposed is
// applied at once.
type world struct {
	tb testing.TB

	mu      sync.Mutex
	state   *fsm.State
	changed chan struct{}
	index   uint64
	log     []string // the commands of the worker, by type
	lose    func(fsm.Command) error
	silent  bool // changes wake nobody
}

func newWorld(tb testing.TB) *world {
	return &world{tb: tb, state: fsm.NewState(), changed: make(chan struct{})}
}

func (w *world) View(fn func(*fsm.State)) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn(w.state)
	return w.changed
}

func (w *world) Clone() *fsm.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Clone()
}

// Propose is what the worker sees of Raft: commands go through their encoding.
func (w *world) Propose(ctx context.Context, request string, cmd fsm.Command) (uint64, error) {
	w.mu.Lock()
	lose := w.lose
	w.log = append(w.log, strings.TrimPrefix(fmt.Sprintf("%T", cmd), "fsm."))
	w.mu.Unlock()
	if lose != nil {
		if err := lose(cmd); err != nil {
			return 0, err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	entry, err := fsm.Encode(fsm.Meta{Request: request}, cmd)
	if err != nil {
		return 0, err
	}
	if _, cmd, err = fsm.Decode(entry); err != nil {
		return 0, err
	}
	return w.apply(request, cmd)
}

func (w *world) apply(request string, cmd fsm.Command) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	err := w.state.Apply(fsm.Meta{Index: w.index, Term: 1, Request: request, At: fsm.TimeOf(time.Now())}, cmd)
	if w.silent {
		return w.index, err
	}
	close(w.changed)
	w.changed = make(chan struct{})
	return w.index, err
}

// must commits what others would.
func (w *world) must(cmds ...fsm.Command) {
	w.tb.Helper()
	for _, cmd := range cmds {
		if _, err := w.apply("", cmd); err != nil {
			w.tb.Fatalf("%T: %v", cmd, err)
		}
	}
}

// proposed counts the worker's commands of a type.
func (w *world) proposed(kind string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.log {
		if l == kind {
			n++
		}
	}
	return n
}

// loseCommands makes Propose fail where lose says so; nil ends that.
func (w *world) loseCommands(lose func(fsm.Command) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = lose
}

// silence makes changes wake nobody, as if every watcher were late.
func (w *world) silence() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = true
}

func (w *world) cluster(name string) (cl fsm.Cluster) {
	w.View(func(s *fsm.State) { cl, _ = s.Cluster(name) })
	return cl
}

func (w *world) failover(id string) (f fsm.Failover) {
	w.View(func(s *fsm.State) { f, _ = s.Failover(id) })
	return f
}

func (w *world) volume(id string) (v fsm.Volume) {
	w.View(func(s *fsm.State) { v, _ = s.Volume(id) })
	return v
}

// self returns the service that is run here.
func (w *world) self() (svc fsm.Service) {
	w.View(func(s *fsm.State) { svc, _ = s.Service(hostName) })
	return svc
}

// assign is what the coordinator would commit.
func (w *world) assign(id, executor string) {
	w.tb.Helper()
	f := w.failover(id)
	w.must(fsm.Assign{Failover: id, Attempt: f.Attempt, ClaimIndex: f.ClaimIndex, Executor: executor, Term: 1})
}

// switchTo commits a whole failover to site-b that another member has executed.
func (w *world) switchTo(id string) {
	w.tb.Helper()
	w.must(fsm.RequestFailover{ID: id, Cluster: clusterName, Target: "site-b", Mode: fsm.Forced})
	w.assign(id, otherHost)
	w.must(fsm.Claim{Failover: id, Attempt: 1, Host: otherHost})
	w.must(fsm.FailoverCompleted{Failover: id, Attempt: 1, ClaimIndex: w.failover(id).ClaimIndex})
}

// lease is a lease that the test grants and ends.
type lease struct {
	mu      sync.Mutex
	held    context.Context
	end     context.CancelFunc
	changed chan struct{}
}

func newLease() *lease { return &lease{changed: make(chan struct{})} }

func (l *lease) Run(ctx context.Context) {
	<-ctx.Done()
	l.lapse()
}

func (l *lease) Current() (context.Context, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held, l.changed
}

// Deadline is far away while the lease is held.
func (l *lease) Deadline() (time.Duration, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		return 0, l.changed
	}
	return math.MaxInt64, l.changed
}

func (l *lease) grant() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held, l.end = context.WithCancel(context.Background())
		l.wake()
	}
}

func (l *lease) lapse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		l.end()
		l.held = nil
		l.wake()
	}
}

// lapseSilently is what a process sees that was stopped over the end of its lease
// and has a new one: the context of the old one has not ended yet.
func (l *lease) lapseSilently() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held, l.end = context.WithCancel(context.Background())
}

func (l *lease) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// node is one host with one service.
type node struct {
	*world
	*driver
	lease *lease
	host  *driverhost.Host
	ended chan error
	stop  func()
}

// start runs a host with the service that change describes; the defaults are a
// member of the cluster with site-b and site-c as targets.
func start(w *world, d *driver, change func(*driverhost.Config, *driverhost.Service)) *node {
	w.tb.Helper()
	n := &node{world: w, driver: d, lease: newLease(), ended: make(chan error, 1)}
	svc := driverhost.Service{
		Host: hostName, Node: "n1", Cluster: clusterName, Targets: []string{"site-b", "site-c"}, Lease: n.lease,
		Open: opener(d, planner{activeActive{d}}),
	}
	cfg := driverhost.Config{State: w, Proposer: w, StatsEvery: time.Hour, Logger: hclog.NewNullLogger()}
	if change != nil {
		change(&cfg, &svc)
	}
	cfg.Services = []driverhost.Service{svc}
	var err error
	if n.host, err = driverhost.New(cfg); err != nil {
		w.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { n.ended <- n.host.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-n.ended; err != nil {
			w.tb.Error(err)
		}
	})
	w.tb.Cleanup(n.stop)
	synctest.Wait()
	return n
}

// opener opens as, recording for which site.
func opener(d *driver, as driverhost.Driver) driverhost.Opener {
	return func(ctx context.Context, req driverhost.OpenRequest) (driverhost.Driver, error) {
		return as, d.call(ctx, "open", fmt.Sprintf("%s@%d", req.ActiveBackendID, req.Token.Epoch))
	}
}

// member starts the usual service and waits until it serves.
func member(tb testing.TB) *node {
	tb.Helper()
	n := start(newWorld(tb), newDriver(), nil)
	n.must(fsm.RegisterService{Host: otherHost, Node: "n2", Cluster: clusterName, Targets: []string{"site-b", "site-c"}})
	n.lease.grant()
	synctest.Wait()
	if err := n.host.Ready(); err != nil {
		tb.Fatal(err)
	}
	return n
}

// promote asks for a failover, f, that this member shall execute.
func (n *node) promote(mode fsm.Mode) {
	n.tb.Helper()
	n.must(fsm.RequestFailover{ID: "f", Cluster: clusterName, Target: "site-b", Mode: mode})
	synctest.Wait()
	n.assign("f", hostName)
	synctest.Wait()
}

// serves reports whether the member would admit a volume operation.
func (n *node) serves() bool {
	_, ok := n.host.Serves(clusterName)
	return ok
}

func (n *node) create(id string) {
	n.tb.Helper()
	n.must(fsm.CreateVolume{Volume: fsm.Volume{ID: id, Size: 1, Host: hostName}})
	synctest.Wait()
}

func untilCancelled(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func answers(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

var errBroken = errors.New("connection lost")

// bubble runs a test in false time.
func bubble(t *testing.T, name string, story func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, story)
	})
}

func nullLogger() hclog.Logger { return hclog.NewNullLogger() }

func newHost(tb testing.TB, w *world, services ...driverhost.Service) *driverhost.Host {
	tb.Helper()
	h, err := driverhost.New(driverhost.Config{State: w, Proposer: w, Services: services, StatsEvery: time.Hour, Logger: nullLogger()})
	if err != nil {
		tb.Fatal(err)
	}
	return h
}
