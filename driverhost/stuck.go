package driverhost

import (
	"context"

	"github.com/lockstep-storage/lockstep/fsm"
)

// DriverHealth is how the driver of a service fares.
type DriverHealth struct {
	Opened uint64 // how often a driver was opened since this process started
	Stuck  bool   // processes of a driver cannot be ended
}

func (w *worker) health() DriverHealth {
	w.mu.Lock()
	defer w.mu.Unlock()
	return DriverHealth{Opened: w.opened, Stuck: w.stuck != nil && *w.stuck}
}

// noteOpened notes that a driver is open, and so nothing is left of the one before.
func (w *worker) noteOpened() {
	w.mu.Lock()
	w.opened++
	w.mu.Unlock()
	w.noteStuck(false)
}

// noteStuck notes whether processes of a driver cannot be ended.
func (w *worker) noteStuck(stuck bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stuck = &stuck
	close(w.noted)
	w.noted = make(chan struct{})
}

// reportStuck reports, whenever the state does not show it, whether processes of this
// service's driver cannot be ended. It needs no lease for that, and must not wait for
// the worker, which waits for those processes. It does not pause longer after each
// failure: the sooner a leader that is back hears it, the fewer promotions begin.
func (w *worker) reportStuck(ctx context.Context) {
	for ctx.Err() == nil {
		w.mu.Lock()
		stuck, noted := w.stuck, w.noted
		w.mu.Unlock()
		shown := true
		changed := w.cfg.State.View(func(s *fsm.State) {
			svc, ok := s.Service(w.svc.Host)
			shown = !ok || stuck == nil || svc.Stuck == *stuck
		})
		if shown {
			select {
			case <-changed:
			case <-noted:
			case <-ctx.Done():
			}
			continue
		}
		if err := w.report(ctx, fsm.ReportStuck{Host: w.svc.Host, Stuck: *stuck}); err != nil {
			w.logger.Debug("not reported yet whether the driver is stuck", "error", err)
			newBackoff(w.cfg.Retry).wait(ctx)
		}
	}
}
