package raftnode

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/fsm"
)

// reign is what this node knows as the leader of one term: whom it has granted
// leases. It is thrown away when the term ends, so that nothing stale survives.
type reign struct {
	node      *Node
	elected   time.Duration // on the node's clock, as all times here
	caught    chan struct{} // closed once all that earlier leaders committed is applied here
	committed chan struct{} // of capacity one: something was, see spread
	logger    hclog.Logger
	space     shortages

	mu      sync.Mutex
	number  uint64           // the term; set before caught is closed
	grants  map[string]grant // by service
	retired map[string]bool  // services that are about to be deleted
}

// grant is what a leader remembers of a service that has asked for its lease.
type grant struct {
	at     time.Duration // when it last asked
	seen   time.Time     // the same, for people
	expiry time.Duration // until when it may hold a lease
}

func newReign(n *Node) *reign {
	return &reign{
		node: n, elected: n.cfg.Clock(), caught: make(chan struct{}), committed: make(chan struct{}, 1), logger: n.logger.Named("coordinator"),
		grants: map[string]grant{}, retired: map[string]bool{},
	}
}

// run leads until the term is over.
func (r *reign) run(ctx context.Context) {
	if !r.catchUp(ctx) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { r.node.tendMembers(ctx) })
	wg.Go(func() { r.spread(ctx) })
	wg.Go(func() { r.tendSpace(ctx) })
	r.coordinate(ctx)
	wg.Wait()
}

// catchUp waits until all that earlier leaders committed is applied here. Before
// that this node grants nothing and plans nothing.
func (r *reign) catchUp(ctx context.Context) bool {
	for ctx.Err() == nil {
		term := r.node.raft.CurrentTerm()
		_, err := await(ctx, r.node, r.node.raft.Barrier)
		if err == nil && r.node.raft.CurrentTerm() == term {
			r.mu.Lock()
			r.number = term
			r.mu.Unlock()
			close(r.caught)
			r.logger.Info("leading", "term", term)
			return true
		}
		pause := time.NewTimer(r.node.cfg.Interval)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
	return false
}

func (r *reign) ready() bool {
	select {
	case <-r.caught:
		return true
	default:
		return false
	}
}

func (r *reign) term() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.number
}

// note records a grant, before it is made: a grant never shortens an earlier wait.
// It reports whether one may be made.
func (r *reign) note(host string, now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.retired[host] {
		return false
	}
	r.grants[host] = grant{
		at: now, seen: time.Now(),
		expiry: max(r.grants[host].expiry, now+r.node.cfg.Lease.Grace),
	}
	return true
}

// retire refuses a service every lease from now on, if it can hold none any more.
// Without that, one could be granted between this look and the commit of what
// rests on it.
func (r *reign) retire(host string, now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now < r.wait(host) {
		return false
	}
	r.retired[host] = true
	return true
}

func (r *reign) readmit(host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.retired, host)
}

// live reports whether a service may hold a lease that is current, as far as this
// leader knows.
func (r *reign) live(host string, now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.grants[host]
	return ok && now-g.at < r.node.cfg.Lease.Duration
}

// gone reports whether a service can no longer hold a lease.
func (r *reign) gone(host string, now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now >= r.wait(host)
}

// wait is until when a service may hold a lease. An earlier leader may have
// granted one up to this one's election, so nobody is gone before that has run
// out, heard of or not. r.mu is held.
func (r *reign) wait(host string) time.Duration {
	return max(r.elected+r.node.cfg.Lease.Grace, r.grants[host].expiry)
}

func (r *reign) granted() map[string]grant {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.grants)
}

// grant answers a service that asks for a lease: with the index that it must have
// applied before the lease counts.
func (n *Node) grant(ctx context.Context, host, node string) (uint64, error) {
	r, err := n.leading()
	if err != nil {
		return 0, err
	}
	now := n.cfg.Clock()
	var known, overdue bool
	n.View(func(s *fsm.State) {
		svc, ok := s.Service(host)
		known = ok && svc.Node == node
		overdue = s.Overdue(host, fsm.TimeOf(time.Now()), n.cfg.Limits)
	})
	switch {
	case !known:
		return 0, &fsm.Refusal{Code: fsm.ErrNotFound, Message: "the service is not registered", Field: "host", Value: host}
	case overdue:
		return 0, &fsm.Refusal{Code: fsm.ErrConflict, Message: "the service has had its time in a failover", Field: "host", Value: host}
	}
	// The order is the proof: the grant is noted before the commit index is
	// read, so a plan made without it is committed behind that index.
	if !r.note(host, now) {
		return 0, &fsm.Refusal{Code: fsm.ErrConflict, Message: "the service is being deleted", Field: "host", Value: host}
	}
	return n.provenIndex(ctx, r)
}

// provenIndex returns the index of the last command that is committed at some
// moment after the call, and proves that no newer leader can have committed more.
func (n *Node) provenIndex(ctx context.Context, r *reign) (uint64, error) {
	index, err := n.lastCommand(n.raft.CommitIndex())
	if err != nil {
		return 0, err
	}
	if err := n.prover.prove(ctx, r.term()); err != nil {
		return 0, err
	}
	if again, err := n.leading(); err != nil || again != r {
		return 0, fsm.ErrNotLeader
	}
	return index, nil
}

// coordinate is the leader's loop: look, plan, commit, wait. It has no memory: a
// new leader resumes every failover by starting it.
func (r *reign) coordinate(ctx context.Context) {
	tick := time.NewTicker(r.node.cfg.Interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-r.step(ctx):
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// step commits what is to be decided now. It returns what tells of the next
// change, or nil if something went wrong and should not be tried at once. What is
// refused for one cluster does not keep the others waiting.
func (r *reign) step(ctx context.Context) (changed <-chan struct{}) {
	var plan []fsm.Command
	changed = r.node.View(func(s *fsm.State) { plan = s.Plan(r.observe(s)) })
	for _, cmd := range plan {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := r.node.propose(attempt, cmd)
		cancel()
		if err != nil {
			r.logger.Debug("a step was not committed", "step", fmt.Sprintf("%T", cmd), "error", err)
			changed = nil
		}
		if errors.Is(err, fsm.ErrNotLeader) {
			break
		}
	}
	return changed
}

// observe is what the leader sees and the log does not hold.
func (r *reign) observe(s *fsm.State) fsm.Observation {
	now := r.node.cfg.Clock()
	o := fsm.Observation{
		Term: r.term(), Now: fsm.TimeOf(time.Now()), Node: r.node.cfg.ID, Limits: r.node.cfg.Limits,
		Live: map[string]bool{}, Gone: map[string]bool{},
	}
	for svc := range s.Services() {
		o.Live[svc.Host] = r.live(svc.Host, now)
		o.Gone[svc.Host] = r.gone(svc.Host, now)
	}
	return o
}
