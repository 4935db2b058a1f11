package driverhost

import (
	"context"
	"errors"
	"sync"

	"github.com/lockstep-storage/lockstep/fsm"
)

// errNoLease is why a gate without a lease admits nothing.
var errNoLease = errors.New("no lease")

// gate admits or refuses the driver calls of one service. It has no memory of
// being open: at every entry it asks the applied state and the lease, under one
// lock, and it cancels the calls in flight when either no longer holds.
type gate struct {
	host  string
	state State
	lease Lease

	mu      sync.Mutex
	told    uint64 // epoch that the running driver was told; 0 if none
	running map[*admission]struct{}
	changed chan struct{} // closed and replaced when told changes or a call ends
}

// admission is one call in flight.
type admission struct {
	call   fsm.Call
	cancel context.CancelCauseFunc
}

func newGate(host string, state State, lease Lease) *gate {
	return &gate{host: host, state: state, lease: lease, running: map[*admission]struct{}{}, changed: make(chan struct{})}
}

// tell records which epoch the running driver was told; zero for one that has
// just started, or has ended.
func (g *gate) tell(epoch uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = epoch
	g.wake()
}

func (g *gate) lastTold() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.told
}

// admits reports why a call would not be admitted now.
func (g *gate) admits(call fsm.Call) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, _, err := g.ask(call)
	return err
}

// ask is the question at the gate. g.mu is held.
func (g *gate) ask(call fsm.Call) (held context.Context, token Token, err error) {
	held, _ = g.lease.Current()
	if held == nil {
		return nil, Token{}, errNoLease
	}
	g.state.View(func(s *fsm.State) {
		if err = s.Admit(g.host, g.told, call); err == nil {
			token = tokenOf(s, g.host)
		}
	})
	return held, token, err
}

// tokenOf is the fencing token of ordinary calls of a service.
func tokenOf(s *fsm.State, host string) Token {
	svc, _ := s.Service(host)
	cl, _ := s.Cluster(svc.Group())
	return Token{Epoch: cl.Epoch, Claim: cl.Claim}
}

// await blocks until a call would be admitted, until wanted is false, or until ctx
// ends.
func (g *gate) await(ctx context.Context, call fsm.Call, wanted func(*fsm.State) bool) {
	for {
		g.mu.Lock()
		toldChanged := g.changed
		g.mu.Unlock()
		_, leaseChanged := g.lease.Current()
		var still bool
		stateChanged := g.state.View(func(s *fsm.State) { still = wanted(s) })
		if !still || g.admits(call) == nil {
			return
		}
		select {
		case <-stateChanged:
		case <-leaseChanged:
		case <-toldChanged:
		case <-ctx.Done():
			return
		}
	}
}

// enter admits a call: its context ends with ctx, with the lease, and when the
// state no longer admits it. The caller calls leave when the driver has returned.
func (g *gate) enter(ctx context.Context, call fsm.Call) (admitted context.Context, token Token, leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held, token, err := g.ask(call)
	if err != nil {
		return nil, Token{}, nil, err
	}
	admitted, end := under(ctx, held, g.lease)
	a := &admission{call: call, cancel: end}
	g.running[a] = struct{}{}
	return admitted, token, func() {
		end(context.Canceled)
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.running, a)
		g.wake()
	}, nil
}

// watch cancels the calls in flight that are no longer admitted, until ctx ends.
func (g *gate) watch(ctx context.Context) {
	for {
		// The channels come before the look, so that no change falls in between.
		stateChanged := g.state.View(func(*fsm.State) {})
		_, leaseChanged := g.lease.Current()
		g.cancelUnwanted()
		select {
		case <-stateChanged:
		case <-leaseChanged:
		case <-ctx.Done():
			return
		}
	}
}

func (g *gate) cancelUnwanted() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for a := range g.running {
		if _, _, err := g.ask(a.call); err != nil {
			a.cancel(err)
		}
	}
}

// idle waits until no call is in flight.
func (g *gate) idle(ctx context.Context) error {
	for {
		g.mu.Lock()
		n, changed := len(g.running), g.changed
		g.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// wake tells those who wait for the gate. g.mu is held.
func (g *gate) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// under returns a context for driver calls that ends with ctx and with held, which
// is a lease that is held.
func under(ctx, held context.Context, lease Deadline) (context.Context, context.CancelCauseFunc) {
	both, cancel := context.WithCancelCause(WithDeadline(ctx, underLease{lease: lease, held: held}))
	stop := context.AfterFunc(held, func() { cancel(context.Cause(held)) })
	return both, func(cause error) {
		stop()
		cancel(cause)
	}
}
