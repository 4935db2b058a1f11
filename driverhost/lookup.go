package driverhost

import (
	"context"
	"fmt"

	"github.com/lockstep-storage/lockstep/fsm"
)

// lookup is a question to the driver of a service, by somebody who waits.
type lookup struct {
	ctx    context.Context //nolint:containedctx // of who waits: with it ends the call
	answer chan<- found    // has room for one
}

type found struct {
	volumes []Manageable
	err     error
}

// Manageable lists what could be adopted at the site that a cluster uses, as a
// service of this node sees it. It answers [fsm.ErrNotFound] if none is here, and why
// the gate refuses if none may serve.
func (h *Host) Manageable(ctx context.Context, cluster string) ([]Manageable, error) {
	for _, w := range h.workers {
		svc := fsm.Service{Host: w.svc.Host, Cluster: w.svc.Cluster}
		if svc.Group() != cluster {
			continue
		}
		answer := make(chan found, 1)
		select {
		case w.lookups <- lookup{ctx: ctx, answer: answer}:
		case <-ctx.Done():
			return nil, fmt.Errorf("service %s: its driver is not open: %w", w.svc.Host, context.Cause(ctx))
		}
		got := <-answer // whoever takes a question answers it
		return got.volumes, got.err
	}
	return nil, fmt.Errorf("cluster %s has no service here: %w", cluster, fsm.ErrNotFound)
}

// answerLookups asks the driver what others want to know, one at a time, until ctx
// ends. Like every call of a driver these pass the gate.
func (w *worker) answerLookups(ctx context.Context, driver Driver) {
	for {
		select {
		case q := <-w.lookups:
			volumes, err := w.manageable(ctx, q.ctx, driver)
			q.answer <- found{volumes, err}
		case <-ctx.Done():
			return
		}
	}
}

func (w *worker) manageable(ctx, asked context.Context, driver Driver) ([]Manageable, error) {
	adopter, ok := driver.(Adopter)
	if !ok {
		return nil, ErrNoAdoption
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled)
	defer context.AfterFunc(asked, func() { cancel(context.Cause(asked)) })()
	admitted, _, leave, err := w.gate.enter(ctx, fsm.CallLook)
	if err != nil {
		return nil, err
	}
	defer leave()
	return adopter.ManageableVolumes(admitted)
}
