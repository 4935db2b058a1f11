package raftnode

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

const (
	// probeEvery is how often the disk is asked whether it still writes: one small
	// fsync, some hundredths of a percent of what a disk can do.
	probeEvery = 500 * time.Millisecond
	// silentAfter is how long one probe may take. A sound disk that is busy takes
	// tenths of a second; leases last seconds, and a leader that cannot write makes
	// every one of them lapse.
	silentAfter = 2 * time.Second
	// stuckAfter is how long a disk may hang before the process ends. The kernel
	// gives a command of a local disk 30 seconds and then tries to mend what is
	// broken; what has not come back by then needs a person or a new start.
	stuckAfter = 30 * time.Second
	// watchEvery is how often the watchdog looks at the probe under way.
	watchEvery = 100 * time.Millisecond

	probeFile = "probe" // in the data directory
)

// DiskError is why a process has to end at once: its disk hangs, or has failed to
// write. What Raft holds in memory is then no longer what it has promised to
// keep, so nothing is waited for and nothing is written any more.
type DiskError struct {
	Dir string // the data directory
	Err error
}

// Error implements error.
func (e *DiskError) Error() string {
	return fmt.Sprintf("data directory %s: %v: this process cannot keep what it would have to promise; "+
		"see to the disk, then start it again: nothing that was acknowledged is lost", e.Dir, e.Err)
}

// Unwrap returns what the disk, or the watchdog, has said.
func (e *DiskError) Unwrap() error { return e.Err }

// DataError is why a process does not start: its data directory is damaged,
// another node's, in use, or newer than this release.
type DataError struct {
	Dir string // the data directory
	Err error  // which file, what is wrong with it, what to do
}

// Error implements error.
func (e *DataError) Error() string { return fmt.Sprintf("data directory %s: %v", e.Dir, e.Err) }

// Unwrap returns what is wrong.
func (e *DataError) Unwrap() error { return e.Err }

// DiskStatus is what a node knows of the disk under its data directory.
type DiskStatus struct {
	Dir          string
	StalledSince time.Time // since when it has not answered; zero while it does
	Free         uint64    // bytes, when it last answered
	Reserve      uint64    // bytes below which the deployment takes nothing new
}

// diskWatch asks the disk again and again whether it still writes. Raft does not:
// the loop of a leader whose disk hangs is blocked in a write while its heartbeats
// go on, so it leads for ever and commits nothing. When a probe is overdue the
// node falls silent on Raft's port, others elect a leader, and this node grants,
// proves and accepts nothing; once the disk answers it finds the newer term.
type diskWatch struct {
	dir     string
	silent  time.Duration // silentAfter
	stuck   time.Duration // stuckAfter
	probe   func() (free uint64, err error)
	mute    func() // of the transport
	unmute  func()
	reserve func() uint64
	logger  hclog.Logger
	failed  chan struct{} // closed by fail

	mu     sync.Mutex
	began  time.Time     // of the probe under way; zero between two
	waited time.Duration // for the probe under way, while this process was running
	since  time.Time     // when the probe that is overdue began
	free   uint64
	need   uint64 // to be kept free
	err    error  // with which the process has to end
}

// newDiskWatch returns the watch of dir, where the disk answers as long as nobody
// runs it.
func newDiskWatch(dir string, logger hclog.Logger) *diskWatch {
	return &diskWatch{
		dir: dir, silent: silentAfter, stuck: stuckAfter, probe: func() (uint64, error) { return 0, nil }, mute: func() {}, unmute: func() {},
		reserve: func() uint64 { return 0 }, logger: logger.Named("disk").With("dir", dir), failed: make(chan struct{}),
	}
}

// run watches until ctx ends. The goroutine that writes may hang in the kernel
// for ever and is not waited for; it ends after the write that ctx finds it in.
func (w *diskWatch) run(ctx context.Context) {
	go w.write(ctx)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	looked := time.Now()
	for {
		select {
		case <-tick.C:
			now := time.Now()
			// A process that was stopped for a while has not waited that long for
			// its disk.
			w.look(now, min(now.Sub(looked), 2*watchEvery))
			looked = now
		case <-ctx.Done():
			return
		}
	}
}

// write makes one probe after the other.
func (w *diskWatch) write(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		w.mu.Lock()
		w.began, w.waited = time.Now(), 0
		w.mu.Unlock()
		free, err := w.probe()
		need := w.reserve() // reads the disk
		w.answered(free, need, err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look notes that the probe under way has taken another while.
func (w *diskWatch) look(now time.Time, while time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.began.IsZero() {
		return
	}
	w.waited += while
	if w.waited >= w.silent && w.since.IsZero() {
		w.since = w.began
		w.logger.Error("the disk does not answer: this node is silent until it does, and another one leads",
			"for", now.Sub(w.began).Round(time.Millisecond))
		w.mute()
	}
	if w.waited >= w.stuck {
		w.failLocked(fmt.Errorf("the disk has not answered for %v", now.Sub(w.began).Round(time.Second)))
	}
}

// answered notes what the probe has found.
func (w *diskWatch) answered(free, need uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	took := time.Since(w.began)
	w.began = time.Time{}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		free = 0
	case err != nil:
		w.failLocked(fmt.Errorf("probe: %w", err))
		return
	}
	w.free, w.need = free, need
	if !w.since.IsZero() {
		w.since = time.Time{}
		w.logger.Warn("the disk answers again: this node takes part again", "after", took.Round(time.Millisecond))
		w.unmute()
	}
}

// fail ends the process: what was to be kept is not.
func (w *diskWatch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(err)
}

func (w *diskWatch) failLocked(err error) {
	if w.err != nil {
		return
	}
	w.err = &DiskError{Dir: w.dir, Err: err}
	w.mute()
	close(w.failed)
}

// dead reports whether this node must not answer for what is on its disk.
func (w *diskWatch) dead() bool {
	if w == nil {
		return false // a node without files
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err != nil || !w.since.IsZero()
}

// failure is the error with which the process ends, once failed is closed.
func (w *diskWatch) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *diskWatch) status() DiskStatus {
	if w == nil {
		return DiskStatus{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return DiskStatus{Dir: w.dir, StalledSince: w.since, Free: w.free, Reserve: w.need}
}

// prober returns what writes the mark of the log's end through to the disk, and
// says what is free there.
func prober(mark *tailMark) func() (uint64, error) {
	return func() (uint64, error) {
		if err := mark.write(); err != nil {
			return 0, err
		}
		return freeSpace(filepath.Dir(mark.path))
	}
}

// freeSpace is what an unprivileged process may still write in dir, in bytes.
func freeSpace(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("free space: %w", err)
	}
	return s.Bavail * uint64(s.Bsize), nil //nolint:gosec // a block size is positive
}
