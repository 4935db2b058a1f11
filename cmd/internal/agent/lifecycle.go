package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
)

// slowStop is after how long it is worth a line that a part has not stopped.
const slowStop = 5 * time.Second

// lifecycle runs the parts of a node. The first one to end ends all, and they are
// stopped one after the other, the last started first: drivers before the API,
// the API before Raft. Once abandon is closed nothing is waited for any more:
// what hangs may never come back.
type lifecycle struct {
	logger  hclog.Logger
	abandon <-chan struct{}
	parts   []*part
}

// errAbandoned is why run has returned although parts are still running.
var errAbandoned = errors.New("abandoned")

type part struct {
	name   string
	run    func(context.Context) error
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

func (l *lifecycle) add(name string, run func(context.Context) error) {
	l.parts = append(l.parts, &part{name: name, run: run, ended: make(chan struct{})})
}

func (l *lifecycle) run(ctx context.Context) error {
	first := make(chan struct{}, len(l.parts))
	for _, p := range l.parts {
		// A part lives until it is its turn to stop, not until ctx ends.
		running, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p.cancel = cancel
		go func() {
			defer close(p.ended)
			p.err = p.run(running)
			first <- struct{}{}
		}()
	}
	select {
	case <-ctx.Done():
	case <-first:
	case <-l.abandon:
	}
	stopped := make(chan error, 1)
	go func() {
		var errs []error
		for _, p := range slices.Backward(l.parts) {
			errs = append(errs, l.stop(p))
		}
		stopped <- errors.Join(errs...)
	}()
	select {
	case err := <-stopped:
		return err
	case <-l.abandon:
		return errAbandoned
	}
}

func (l *lifecycle) stop(p *part) error {
	p.cancel()
	timer := time.NewTimer(slowStop)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		l.logger.Warn("still stopping", "part", p.name)
		<-p.ended
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.name, p.err)
	}
	return nil
}
