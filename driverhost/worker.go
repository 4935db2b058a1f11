package driverhost

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

// reportTimeout is how long a worker tries to commit a report before it looks at
// the state again.
const reportTimeout = 30 * time.Second

// worker serves one service: it compares what the state wants with what its
// driver was told, does the one thing that is owed, and reports. Volume operations
// run beside it, many at once.
type worker struct {
	svc    Service
	cfg    Config
	gate   *gate
	logger hclog.Logger

	mu     sync.Mutex
	stats  *Stats
	lost   map[uint64]int // by operation: driver processes that ended during its call
	opened uint64         // drivers so far
	stuck  *bool          // whether processes of a driver cannot be ended; nil: nobody has looked yet
	noted  chan struct{}  // closed and replaced when stuck changes

	lookups chan lookup   // questions to the open driver
	suspect chan struct{} // of capacity one: held by the operation with losses whose call runs
}

func newWorker(cfg Config, svc Service) *worker {
	return &worker{
		svc: svc, cfg: cfg, gate: newGate(svc.Host, cfg.State, svc.Lease),
		logger: cfg.Logger.With("service", svc.Host), lost: map[uint64]int{}, suspect: make(chan struct{}, 1),
		lookups: make(chan lookup), noted: make(chan struct{}),
	}
}

// run keeps a driver open and serves it until ctx ends.
func (w *worker) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { w.register(ctx) })
	wg.Go(func() { w.svc.Lease.Run(ctx) })
	wg.Go(func() { w.gate.watch(ctx) })
	// A driver that cannot be ended may be found out only while the worker stops.
	reporting, reported := context.WithCancel(context.WithoutCancel(ctx))
	defer reported()
	wg.Go(func() { w.reportStuck(reporting) })

	pause := newBackoff(w.cfg.Retry)
	for ctx.Err() == nil {
		began := time.Now()
		err := w.open(ctx)
		if errors.Is(err, errMisfit) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			w.logger.Warn("driver lost, opening it again", "error", err)
			if time.Since(began) > time.Minute {
				pause.reset()
			}
			pause.wait(ctx)
		}
	}
	return nil
}

// register says that this service is there, whenever the state does not show it
// as it is: at its first start, with other targets, and after somebody has deleted
// it although it runs. It changes nothing else (G11).
func (w *worker) register(ctx context.Context) {
	pause := newBackoff(w.cfg.Retry)
	want := fsm.RegisterService{Host: w.svc.Host, Node: w.svc.Node, Cluster: w.svc.Cluster, Targets: w.svc.Targets}
	said := ""
	for ctx.Err() == nil {
		registered, changed := w.registered()
		if registered {
			pause.reset()
			said = ""
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, reportTimeout)
		_, err := w.cfg.Proposer.Propose(attempt, "", want)
		cancel()
		if err == nil {
			continue
		}
		if ctx.Err() == nil && said != err.Error() {
			said = err.Error()
			w.logger.Warn("service not registered yet", "error", err)
		}
		pause.wait(ctx)
	}
}

// registered reports whether the state shows this service as it is.
func (w *worker) registered() (registered bool, changed <-chan struct{}) {
	targets := slices.Compact(slices.Sorted(slices.Values(w.svc.Targets)))
	changed = w.cfg.State.View(func(s *fsm.State) {
		svc, ok := s.Service(w.svc.Host)
		registered = ok && svc.Node == w.svc.Node && svc.Cluster == w.svc.Cluster && slices.Equal(svc.Targets, targets)
	})
	return registered, changed
}

// open opens the driver once this node has caught up, which its lease proves, so
// that the driver gets the committed site, and serves it until it is lost.
func (w *worker) open(ctx context.Context) error {
	if _, err := w.awaitLease(ctx); err != nil {
		return err
	}
	req := OpenRequest{
		Node: w.svc.Node, Host: w.svc.Host, Cluster: w.svc.Cluster, Logger: w.logger.Named("driver"), Lease: w.svc.Lease,
		OnStuck: w.noteStuck,
	}
	w.cfg.State.View(func(s *fsm.State) {
		svc, _ := s.Service(w.svc.Host)
		cl, _ := s.Cluster(svc.Group())
		req.ActiveBackendID, req.Token = cl.ActiveBackendID, Token{Epoch: cl.Epoch, Claim: cl.Claim}
	})
	driver, err := w.svc.Open(ctx, req)
	if err != nil {
		return fmt.Errorf("open driver: %w", err)
	}
	w.noteOpened()
	if err := w.fits(driver); err != nil {
		return errors.Join(err, driver.Close())
	}
	err = w.serve(ctx, driver)
	w.gate.tell(0)
	return errors.Join(err, driver.Close())
}

// errMisfit marks a service that must not run as it is configured.
var errMisfit = errors.New("refusing to start")

// fits refuses a driver that could not follow a failover.
func (w *worker) fits(driver Driver) error {
	_, activeActive := driver.(ActiveActive)
	_, hostFailover := driver.(HostFailover)
	switch {
	case activeActive || len(w.svc.Targets) == 0:
		return nil
	case w.svc.Cluster == "" && hostFailover:
		return nil
	case w.svc.Cluster == "":
		return fmt.Errorf("%w %s: it has replication targets %q, but its driver can neither failover nor failover_host: remove the targets or use another driver",
			errMisfit, w.svc.Host, w.svc.Targets)
	}
	return fmt.Errorf("%w %s: cluster %q has replication targets %q, but its driver lacks failover and failover_completed: remove the targets, take the service out of the cluster or use a driver that supports active/active replication",
		errMisfit, w.svc.Host, w.svc.Cluster, w.svc.Targets)
}

// serve does what is owed until ctx ends or the driver is lost.
func (w *worker) serve(ctx context.Context, driver Driver) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(context.Canceled)
	w.gate.tell(0)
	if p, ok := driver.(Process); ok {
		wg.Go(func() { w.awaitLoss(ctx, p, cancel) })
	}
	wg.Go(func() { w.operate(ctx, driver) })
	wg.Go(func() { w.measure(ctx, driver) })
	wg.Go(func() { w.answerLookups(ctx, driver) })

	pause := newBackoff(w.cfg.Retry)
	var last fsm.Task
	said := ""
	for ctx.Err() == nil {
		task, owed, changed := w.look()
		if task != last {
			pause.reset()
			last, said = task, ""
		}
		if !owed {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		err := w.do(ctx, driver, task)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if said != err.Error() {
			said = err.Error()
			w.logger.Warn("not done, trying again", "task", task.Kind, "failover", task.Failover, "epoch", task.Epoch, "error", err)
		}
		w.pauseWhile(ctx, pause, task)
	}
	if err := context.Cause(ctx); errors.Is(err, ErrDriverLost) {
		return err
	}
	return nil
}

// awaitLoss ends the service of a driver whose process has ended. Whatever it was
// told died with it.
func (w *worker) awaitLoss(ctx context.Context, driver Process, cancel context.CancelCauseFunc) {
	select {
	case <-driver.Lost():
		w.gate.tell(0)
		cancel(ErrDriverLost)
	case <-ctx.Done():
	}
}

// pauseWhile waits until it is time to try task again, or until something else is
// owed. Other changes of the state do not cut it short: a driver that refuses would
// be asked as often as others commit.
func (w *worker) pauseWhile(ctx context.Context, pause *backoff, task fsm.Task) {
	wanted, stop := w.while(ctx, task)
	defer stop()
	pause.wait(wanted)
}

// look returns what is owed now.
func (w *worker) look() (task fsm.Task, owed bool, changed <-chan struct{}) {
	told := w.gate.lastTold()
	changed = w.cfg.State.View(func(s *fsm.State) { task, owed = s.Todo(w.svc.Host, told) })
	return task, owed, changed
}

func (w *worker) do(ctx context.Context, driver Driver, task fsm.Task) error {
	switch task.Kind {
	case fsm.TaskDrain:
		return w.drain(ctx, task)
	case fsm.TaskPromote:
		return w.promote(ctx, driver, task)
	case fsm.TaskSwitch:
		return w.switchTo(ctx, driver, task)
	case fsm.TaskFreeze, fsm.TaskThaw:
		return w.freeze(ctx, driver, task)
	}
	return fmt.Errorf("task %d: %w", task.Kind, fsm.ErrInvalid)
}

// drain waits for the calls in flight, which the state has already cancelled, and
// reports.
func (w *worker) drain(ctx context.Context, task fsm.Task) error {
	wanted, stop := w.while(ctx, task)
	defer stop()
	w.gate.cancelUnwanted()
	if err := w.gate.idle(wanted); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return w.report(ctx, fsm.MemberDrained{Failover: task.Failover, Attempt: task.Attempt, Host: w.svc.Host})
}

// switchTo tells the driver of the committed site, and reports how it took that.
func (w *worker) switchTo(ctx context.Context, driver Driver, task fsm.Task) error {
	wanted, stop := w.while(ctx, task)
	defer stop()
	held, err := w.awaitLease(wanted)
	if err != nil {
		return err
	}
	// The lease proves that the state here has caught up. What it shows now may be
	// more than it did when this began, and nothing may have noticed yet.
	if now, owed, _ := w.look(); !owed || now != task {
		return errSuperseded
	}
	leased, end := under(wanted, held, w.svc.Lease)
	defer end(context.Canceled)
	report := fsm.MemberSwitched{Host: w.svc.Host, Epoch: task.Epoch, ActiveBackendID: task.Target}
	var refused error
	if aa, ok := driver.(ActiveActive); ok {
		refused = aa.FailoverCompleted(leased, FailoverCompletedRequest{
			Token: Token{Epoch: task.Epoch, Claim: task.Claim}, ActiveBackendID: task.Target,
		})
	}
	if err := context.Cause(leased); err != nil {
		return err // nobody may have heard the answer of a call that was cancelled
	}
	if refused == nil {
		w.gate.tell(task.Epoch)
		return w.report(ctx, report)
	}
	report.Error = text(refused.Error())
	if w.reported() == report.Error {
		return refused
	}
	return errors.Join(refused, w.report(ctx, report))
}

// reported returns the error that the state shows for this service.
func (w *worker) reported() (problem string) {
	w.cfg.State.View(func(s *fsm.State) {
		svc, _ := s.Service(w.svc.Host)
		problem = svc.Reported.Error
	})
	return problem
}

// ready says why the service does not work against the committed site, or has not
// said so yet.
func (w *worker) ready() error {
	err := w.gate.admits(fsm.CallFreeze)
	if errors.Is(err, fsm.ErrFailingOver) || errors.Is(err, fsm.ErrHeld) {
		return nil
	}
	if err == nil {
		w.cfg.State.View(func(s *fsm.State) {
			svc, _ := s.Service(w.svc.Host)
			if cl, _ := s.Cluster(svc.Group()); svc.Reported.Epoch != cl.Epoch || svc.Reported.Error != "" {
				err = fsm.ErrBehind
			}
		})
	}
	return err
}

func (w *worker) freeze(ctx context.Context, driver Driver, task fsm.Task) error {
	wanted, stop := w.while(ctx, task)
	defer stop()
	if _, err := w.awaitLease(wanted); err != nil {
		return err
	}
	admitted, token, leave, err := w.gate.enter(wanted, fsm.CallFreeze)
	if err != nil {
		return err
	}
	call := driver.ThawBackend
	if task.Kind == fsm.TaskFreeze {
		call = driver.FreezeBackend
	}
	err = call(admitted, token)
	leave()
	if err != nil {
		return err
	}
	return w.report(ctx, fsm.FreezeReported{Cluster: task.Cluster, Host: w.svc.Host, Frozen: task.Kind == fsm.TaskFreeze})
}

// report commits what was done. Its context is the worker's, not the task's: the
// commit itself ends the task. A report that the state no longer waits for is no
// error: the next look shows what is owed instead.
func (w *worker) report(ctx context.Context, cmd fsm.Command) error {
	attempt, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err := w.cfg.Proposer.Propose(attempt, "", cmd)
	if errors.Is(err, fsm.ErrStale) {
		w.logger.Debug("report superseded", "error", err)
		return nil
	}
	return err
}

// while returns a context that ends when task is no longer what is owed.
func (w *worker) while(ctx context.Context, task fsm.Task) (context.Context, func()) {
	told := w.gate.lastTold()
	return w.whileState(ctx, func(s *fsm.State) bool {
		now, owed := s.Todo(w.svc.Host, told)
		return owed && now == task
	})
}

// whileState returns a context that ends when holds no longer does.
func (w *worker) whileState(ctx context.Context, holds func(*fsm.State) bool) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			var still bool
			changed := w.cfg.State.View(func(s *fsm.State) { still = holds(s) })
			if !still {
				cancel(errSuperseded)
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, func() {
		cancel(context.Canceled)
		wg.Wait()
	}
}

// errSuperseded is the cause with which a call ends that is no longer wanted.
var errSuperseded = errors.New("superseded by a later decision")

// awaitLease returns the context of the lease as soon as one is held.
func (w *worker) awaitLease(ctx context.Context) (context.Context, error) {
	for {
		held, changed := w.svc.Lease.Current()
		if held != nil {
			return held, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
