package raftnode

import (
	"context"
	"errors"
	"fmt"
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
	changing  chan struct{} // of capacity one: who holds it may change the Raft configuration

	mu      sync.Mutex
	number  uint64           // the term; set before caught is closed
	since   time.Duration    // when caught was closed
	grants  map[string]grant // by service
	leased  chan struct{}    // closed and replaced when a lease is granted
	retired map[string]int   // how many deletions of a service are not answered
	steps   map[string]step  // of unfinished failovers, by id
}

func newReign(n *Node) *reign {
	return &reign{
		node: n, elected: n.cfg.Clock(), caught: make(chan struct{}), committed: make(chan struct{}, 1), logger: n.logger.Named("coordinator"),
		changing: make(chan struct{}, 1),
		grants:   map[string]grant{}, leased: make(chan struct{}), retired: map[string]int{}, steps: map[string]step{},
	}
}

// run leads until the term is over.
func (r *reign) run(ctx context.Context) {
	if !r.catchUp(ctx) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { r.tendMembers(ctx) })
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
		if r.node.commitsIn(ctx, term) == nil {
			r.mu.Lock()
			r.number, r.since = term, r.node.cfg.Clock()
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

// led returns when this node began to lead: when it had caught up.
func (r *reign) led() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.since
}

func (r *reign) term() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.number
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
	o := r.paceAll(s, now)
	o.Term, o.Node, o.Live, o.Gone = r.term(), r.node.cfg.ID, map[string]bool{}, map[string]bool{}
	for svc := range s.Services() {
		o.Live[svc.Host] = r.live(svc.Host, now)
		o.Gone[svc.Host] = r.gone(svc.Host, spanOf(s, svc.Node), now)
	}
	return o
}
