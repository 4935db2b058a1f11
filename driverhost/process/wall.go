package process

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/lockstep-storage/lockstep/driverhost"
)

// wall keeps a driver's process from working after its lease. It cancels calls at
// the deadline, and has the kernel end the process a while later.
type wall struct {
	logger hclog.Logger

	mu    sync.Mutex
	after time.Duration // the process may live so long after the deadline; 0: no driver is open
	timer *killTimer
	grant *grant // the lease that was held last
}

var _ driverhost.Deadline = (*wall)(nil)

func newWall(logger hclog.Logger) (*wall, error) {
	timer, err := newKillTimer()
	if err != nil {
		return nil, err
	}
	return &wall{logger: logger, timer: timer}, nil
}

// grant is one unbroken lease as the process knows it. Its context ends with it.
type grant struct {
	ctx    context.Context //nolint:containedctx // it is the lease
	cancel context.CancelCauseFunc
	expire *time.Timer

	mu    sync.Mutex
	until time.Duration
}

// Deadline implements [driverhost.Deadline]. There is nobody to tell of renewals.
func (g *grant) Deadline() (until time.Duration, renewed <-chan struct{}) {
	if g.ctx.Err() != nil {
		return 0, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until, nil
}

// Deadline is that of whatever lease is held now: for what a driver does by itself.
func (w *wall) Deadline() (until time.Duration, renewed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.deadline(), nil
}

// open arms the wall: from now on the process lives until after the deadline. A
// renewal may have come before.
func (w *wall) open(after time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.after = after
	until := w.deadline()
	return w.timer.arm(max(until, 1) + after)
}

// extend notes that the lease lasts until then, and returns it. A lease that has
// passed is not revived: then it is a new one, and what began under the old one
// stays cancelled.
func (w *wall) extend(until time.Duration) (*grant, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, err := driverhost.BootTime()
	if err != nil {
		return nil, err
	}
	if until <= now {
		return nil, driverhost.ErrLeaseEnded
	}
	held := w.deadline()
	if held <= now {
		w.renew(until - now)
	}
	if until > held {
		w.grant.move(until)
		if w.after > 0 {
			err = w.timer.arm(until + w.after)
		}
	}
	return w.grant, err
}

// deadline is when the lease held now ends, or zero. w.mu is held.
func (w *wall) deadline() time.Duration {
	if w.grant == nil {
		return 0
	}
	until, _ := w.grant.Deadline()
	return until
}

// renew begins a new lease. w.mu is held.
func (w *wall) renew(left time.Duration) {
	if w.grant != nil {
		w.grant.cancel(driverhost.ErrLeaseEnded)
	}
	g := &grant{}
	g.ctx, g.cancel = context.WithCancelCause(context.Background()) //nolint:forbidigo // ends with the lease
	g.expire = time.AfterFunc(left, func() { w.lapse(g) })
	w.grant = g
}

func (g *grant) move(until time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = until
}

// lapse ends a lease whose time is up, or waits on.
func (w *wall) lapse(g *grant) {
	g.mu.Lock()
	until := g.until
	g.mu.Unlock()
	now, err := driverhost.BootTime()
	if err == nil && now < until {
		g.expire.Reset(until - now)
		return
	}
	w.logger.Warn("the lease has ended: calls in progress are cancelled")
	g.cancel(driverhost.ErrLeaseEnded)
}
