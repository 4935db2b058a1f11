package raftnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/fsm"
)

// Lease is the right of one service to serve, as its node holds it. It is asked
// for every third of its duration, counts from before it was asked, never later,
// and only once this node has applied what the leader had committed.
type Lease struct {
	node   *Node
	host   string
	timing LeaseTiming
	logger hclog.Logger

	mu       sync.Mutex
	deadline time.Duration   // on the node's clock
	held     context.Context //nolint:containedctx // it is the lease: it ends when the lease lapses
	end      context.CancelCauseFunc
	timer    *time.Timer   // runs while the lease is held
	changed  chan struct{} // closed and replaced when the lease is gained or lapses
	renewed  chan struct{} // closed and replaced when the deadline moves, too
	refused  error         // why the leader does not grant it, if it says so
}

// errLapsed is the cause with which the context of a lease ends.
var errLapsed = errors.New("the lease has lapsed")

// NewLease returns the lease of a service of this node; it is held while Run runs
// and the leader grants it.
func (n *Node) NewLease(host string) *Lease {
	l := &Lease{
		node: n, host: host, timing: n.cfg.Lease, changed: make(chan struct{}), renewed: make(chan struct{}),
		logger: n.logger.Named("lease").With("service", host),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leases = append(n.leases, l)
	return l
}

// LeaseRefused returns why the leader refuses leases to services of this node, or
// nil if it does not: somebody has to do something about it.
func (n *Node) LeaseRefused() error {
	n.mu.Lock()
	leases := slices.Clone(n.leases)
	n.mu.Unlock()
	var all []error
	for _, l := range leases {
		if err := l.whyRefused(); err != nil {
			all = append(all, fmt.Errorf("lease of %s: %w", l.host, err))
		}
	}
	return errors.Join(all...)
}

// Current returns a context that ends when the lease lapses, or nil if there is
// none now; the channel is closed when that changes. Two calls return the same
// context only if the lease has not lapsed in between, however shortly.
func (l *Lease) Current() (held context.Context, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lapse(l.node.cfg.Clock())
	return l.held, l.changed
}

// Deadline returns when on the node's clock the lease ends unless it is renewed, or
// zero if there is none now; renewed is closed when that changes.
func (l *Lease) Deadline() (until time.Duration, renewed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lapse(l.node.cfg.Clock())
	return l.deadline, l.renewed
}

// whyRefused returns why the leader refused the lease when it was last asked.
func (l *Lease) whyRefused() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// Run asks for the lease until ctx ends, and then gives it up.
func (l *Lease) Run(ctx context.Context) {
	defer l.giveUp()
	timer := time.NewTimer(0)
	defer timer.Stop()
	newLeader := l.node.leader.next()
	for {
		select {
		case <-timer.C:
		case <-newLeader: // it knows of no lease until it is asked
		case <-ctx.Done():
			return
		}
		newLeader = l.node.leader.next()
		l.expire() // its own timer may be late: while the machine sleeps, timers stand still
		asked := l.node.cfg.Clock()
		next := asked + l.timing.Duration/3
		err := l.renew(ctx, asked)
		if ctx.Err() == nil {
			l.note(err)
		}
		if err != nil {
			next = l.node.cfg.Clock() + l.timing.Duration/20
		}
		timer.Reset(l.node.cfg.left(next))
	}
}

// note remembers why there is no lease. A leader that cannot grant it will not do
// so later, either; all else passes.
func (l *Lease) note(err error) {
	if fsm.CodeOf(err) != fsm.ErrConflict {
		if err != nil {
			l.logger.Trace("not granted yet", "error", err)
		}
		err = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && (l.refused == nil || l.refused.Error() != err.Error()) {
		l.logger.Warn("the leader refuses the lease: the service cannot serve", "error", err)
	}
	l.refused = err
}

// renew asks for the lease at the moment asked.
func (l *Lease) renew(ctx context.Context, asked time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, l.timing.Duration/3)
	defer cancel()
	grant, err := askLeader[indexAnswer](ctx, l.node, methodLease, l.question())
	if err != nil {
		return err
	}
	if err := l.node.Wait(ctx, grant.Index); err != nil {
		return err
	}
	l.extend(asked + l.timing.Duration)
	return nil
}

// question is what the leader has to know of a lease.
func (l *Lease) question() leaseQuestion {
	return leaseQuestion{
		Host: l.host, Node: l.node.cfg.ID,
		Duration: l.timing.Duration, Kill: l.timing.Kill, ClockError: l.timing.ClockError,
	}
}

// extend moves the deadline to until, unless that has passed.
func (l *Lease) extend(until time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.node.cfg.Clock()
	l.lapse(now)
	if until <= now || until <= l.deadline {
		return
	}
	l.deadline = until
	if l.held == nil {
		l.held, l.end = context.WithCancelCause(context.Background()) //nolint:forbidigo // ends with the lease
		l.timer = time.AfterFunc(l.node.cfg.left(until), l.expire)
		l.changed = wake(l.changed)
		l.logger.Info("lease granted")
	}
	l.renewed = wake(l.renewed)
}

// expire ends the lease at its deadline, whatever has become of its renewal.
func (l *Lease) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lapse(l.node.cfg.Clock()); l.held != nil {
		l.timer.Reset(l.node.cfg.left(l.deadline))
	}
}

// lapse ends the lease if its deadline has passed. l.mu is held.
func (l *Lease) lapse(now time.Duration) {
	if l.held != nil && now >= l.deadline {
		l.logger.Warn("the lease has lapsed: the service serves nothing until it is granted again")
		l.release()
	}
}

// release ends the lease that is held. l.mu is held.
func (l *Lease) release() {
	l.end(errLapsed)
	l.timer.Stop()
	l.held, l.deadline = nil, 0
	l.changed, l.renewed = wake(l.changed), wake(l.renewed)
}

func (l *Lease) giveUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		l.release()
	}
}

// wake tells those who wait on a channel, and returns the next one.
func wake(ch chan struct{}) chan struct{} {
	close(ch)
	return make(chan struct{})
}
