package raftnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// LeaseTiming says how long members may serve without hearing from the leader,
// and how long the leader waits before it holds a member for gone.
type LeaseTiming struct {
	Duration   time.Duration `yaml:"duration"`    // L: of a lease, counted from before it was asked for
	Kill       time.Duration `yaml:"kill"`        // K: from a lease's end until none of its calls runs
	Grace      time.Duration `yaml:"grace"`       // G: from a grant until its member counts as gone; also a new leader's wait
	ClockError float64       `yaml:"clock_error"` // rho: largest rate error of a clock
	Lateness   time.Duration `yaml:"lateness"`    // q: how late a timer may fire
}

// DefaultLeaseTiming is safe for clocks that are off by a thousandth.
func DefaultLeaseTiming() LeaseTiming {
	return LeaseTiming{
		Duration: 3 * time.Second, Kill: 2500 * time.Millisecond, Grace: 6 * time.Second,
		ClockError: 0.001, Lateness: 100 * time.Millisecond,
	}
}

// validate checks the inequality on which every lease rests:
// G(1-rho) >= (L+K)(1+rho)+q.
func (t LeaseTiming) validate() error {
	if t.Duration <= 0 || t.Kill < 0 || t.Lateness < 0 {
		return fmt.Errorf("lease: duration %v must be positive, kill %v and lateness %v must not be negative", t.Duration, t.Kill, t.Lateness)
	}
	if t.ClockError < 0 || t.ClockError > 0.1 {
		return fmt.Errorf("lease: clock_error %v must be between 0 and 0.1", t.ClockError)
	}
	served := float64(t.Duration+t.Kill)*(1+t.ClockError) + float64(t.Lateness)
	if least := time.Duration(served / (1 - t.ClockError)); t.Grace < least {
		return fmt.Errorf("lease: grace %v is too short: a member may serve for %v (duration + kill, with clock_error and lateness)", t.Grace, least)
	}
	return nil
}

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
}

// errLapsed is the cause with which the context of a lease ends.
var errLapsed = errors.New("the lease has lapsed")

// NewLease returns the lease of a service of this node; it is held while Run runs
// and the leader grants it.
func (n *Node) NewLease(host string) *Lease {
	return &Lease{
		node: n, host: host, timing: n.cfg.Lease, changed: make(chan struct{}), renewed: make(chan struct{}),
		logger: n.logger.Named("lease").With("service", host),
	}
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

// Run asks for the lease until ctx ends, and then gives it up.
func (l *Lease) Run(ctx context.Context) {
	defer l.giveUp()
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := ""
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		l.expire() // its own timer may be late: while the machine sleeps, timers stand still
		next := l.node.cfg.Clock() + l.timing.Duration/3
		err := l.renew(ctx)
		switch {
		case err == nil:
			failing = ""
		case ctx.Err() == nil:
			next = l.node.cfg.Clock() + l.timing.Duration/20
			if failing != err.Error() {
				failing = err.Error()
				l.logger.Debug("no lease", "error", err)
			}
		}
		timer.Reset(l.node.cfg.left(next))
	}
}

func (l *Lease) renew(ctx context.Context) error {
	asked := l.node.cfg.Clock()
	ctx, cancel := context.WithTimeout(ctx, l.timing.Duration/3)
	defer cancel()
	grant, err := askLeader[indexAnswer](ctx, l.node, methodLease, leaseQuestion{Host: l.host, Node: l.node.cfg.ID})
	if err != nil {
		return err
	}
	if err := l.node.Wait(ctx, grant.Index); err != nil {
		return err
	}
	l.extend(asked + l.timing.Duration)
	return nil
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
