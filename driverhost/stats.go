package driverhost

import (
	"context"
	"time"
)

// measure asks the driver for its stats now and then, so that nobody who wants to
// see them waits for a storage that does not answer.
func (w *worker) measure(ctx context.Context, driver Driver) {
	tick := time.NewTicker(w.cfg.StatsEvery)
	defer tick.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, 10*w.cfg.StatsEvery)
		stats, err := driver.Stats(attempt)
		cancel()
		if err != nil {
			w.logger.Debug("stats not complete", "error", err)
		}
		if err == nil || len(stats.Targets) > 0 {
			w.mu.Lock()
			w.stats = &stats
			w.mu.Unlock()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *worker) lastStats() (Stats, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stats == nil {
		return Stats{}, false
	}
	return *w.stats, true
}
