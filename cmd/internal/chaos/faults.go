package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/evidence"
	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
)

// perform injects the faults of a schedule and returns when all are mended, which
// an end of the context brings about at once.
func (w *world) perform(ctx context.Context, faults []planned) {
	var wg sync.WaitGroup
	defer wg.Wait()
	began := time.Now()
	for _, p := range faults {
		if !wait(ctx, p.at-time.Since(began)) {
			return
		}
		wg.Go(func() {
			mend := w.breakIt(ctx, p, "")
			wait(ctx, p.lasts)
			mend()
		})
	}
}

// breakIt injects a fault. Mend must be called, once; it mends the fault, whether
// the context has ended or not, and keeps what happened as evidence.
func (w *world) breakIt(ctx context.Context, p planned, scenario string) (mend func()) {
	f := evidence.Fault{
		Kind: string(p.kind), Nodes: p.nodes, Begin: evidence.Now(), Planned: p.at, Duration: p.lasts, Scenario: scenario,
	}
	w.mu.Lock()
	w.active++
	w.mu.Unlock()
	undo, err := w.inject(ctx, p)
	if err != nil {
		f.Note = err.Error()
	}
	w.verbose("%s of %v for %v", p.kind, p.nodes, p.lasts.Round(time.Millisecond))
	return func() {
		if err := undo(context.WithoutCancel(ctx)); err != nil {
			f.Note += " mend: " + err.Error()
		}
		f.End = evidence.Now()
		w.verbose("%s of %v is over %s", p.kind, p.nodes, f.Note)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.active--
		w.seen.Faults = append(w.seen.Faults, f)
	}
}

func (w *world) verbose(format string, args ...any) {
	if w.options.Verbose {
		w.say(format, args...)
	}
}

// undo mends a fault.
type undo func(context.Context) error

func nothing(context.Context) error { return nil }

// inject injects a fault. Undo is never nil.
func (w *world) inject(ctx context.Context, p planned) (undo, error) {
	switch p.kind {
	case Kill:
		return w.kill(p), nil
	case Stop:
		return w.signal(p, lab.Agent)
	case Pause:
		return w.signal(p, lab.Agent|lab.Drivers)
	case StopDriver:
		return w.signal(p, lab.Drivers)
	case KillDriver:
		return nothing, w.killDrivers(p)
	case Partition, OneWay, Deaf, Delay, Loss:
		return w.network(p), nil
	case DiskFull:
		return w.eachDisk(p, (*lab.Disk).Fill, (*lab.Disk).Free)
	case DiskStall:
		return w.eachDisk(p, (*lab.Disk).Stall, (*lab.Disk).Go)
	case EmptyDisk:
		return w.emptyDisk(ctx, p)
	case OldDisk:
		return w.oldDisk(ctx, p)
	case PowerLoss:
		return w.losePower(ctx, p)
	case ClockStep:
		return w.stepClocks(p)
	case SiteStall:
		return w.stallSites(ctx)
	}
	return nothing, fmt.Errorf("fault %q is unknown", p.kind)
}

func (w *world) node(number int) *lab.Node { return w.lab.Nodes[number-1] }

func (w *world) kill(p planned) undo {
	for _, n := range p.nodes {
		w.node(n).Kill()
	}
	return func(ctx context.Context) error { return w.start(ctx, p.nodes) }
}

func (w *world) start(ctx context.Context, nodes []int) error {
	for _, n := range nodes {
		if err := w.node(n).Start(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (w *world) signal(p planned, parts lab.Part) (undo, error) {
	sent := 0
	for _, n := range p.nodes {
		sent += w.node(n).Signal(syscall.SIGSTOP, parts)
	}
	back := func(context.Context) error {
		for _, n := range p.nodes {
			w.node(n).Signal(syscall.SIGCONT, parts)
		}
		return nil
	}
	if sent == 0 {
		return back, fmt.Errorf("no process to stop")
	}
	return back, nil
}

func (w *world) killDrivers(p planned) error {
	sent := 0
	for _, n := range p.nodes {
		sent += w.node(n).Signal(syscall.SIGKILL, lab.Drivers)
	}
	if sent == 0 {
		return fmt.Errorf("no driver process to kill")
	}
	return nil
}

// others are the nodes that are not in the list.
func (w *world) others(nodes []int) (others []int) {
	for _, n := range w.lab.Nodes {
		if !slices.Contains(nodes, n.ID) {
			others = append(others, n.ID)
		}
	}
	return others
}

func (w *world) network(p planned) undo {
	others := w.others(p.nodes)
	all := slices.Concat(p.nodes, others)
	out, in := lab.Rule{From: p.nodes, To: others, Cut: true}, lab.Rule{From: others, To: p.nodes, Cut: true}
	rules := []lab.Rule{out, in}
	switch p.kind { //nolint:exhaustive // the others are no faults of the network
	case OneWay:
		rules = rules[:1]
	case Deaf:
		rules = rules[1:]
	case Delay:
		const longest = 400 * time.Millisecond
		late := 5*time.Millisecond + time.Duration(p.amount*p.amount*float64(longest))
		rules = []lab.Rule{{From: p.nodes, To: all, Delay: late}, {From: all, To: p.nodes, Delay: late}}
	case Loss:
		const most = 0.4
		lost := 0.01 + most*p.amount*p.amount
		rules = []lab.Rule{{From: p.nodes, To: all, Loss: lost}, {From: all, To: p.nodes, Loss: lost}}
	}
	var mends []func()
	for _, r := range rules {
		mends = append(mends, w.lab.Network.Break(r))
	}
	return func(context.Context) error {
		for _, mend := range mends {
			mend()
		}
		return nil
	}
}

var errDisk = errors.New("the disk cannot be broken here")

func (w *world) eachDisk(p planned, begin, end func(*lab.Disk) error) (undo, error) {
	for _, n := range p.nodes {
		if !w.node(n).Disk.Breakable() {
			return nothing, errDisk
		}
	}
	back := func(context.Context) error {
		for _, n := range p.nodes {
			if err := end(w.node(n).Disk); err != nil {
				return err
			}
		}
		return nil
	}
	for _, n := range p.nodes {
		if err := begin(w.node(n).Disk); err != nil {
			return back, err
		}
	}
	return back, nil
}

// stepClocks makes wall clocks jump by up to a day, forward or back.
func (w *world) stepClocks(p planned) (undo, error) {
	const longest = 24 * time.Hour
	step := time.Duration((2*p.amount - 1) * float64(longest))
	set := func(by time.Duration) error {
		for _, n := range p.nodes {
			if pid := w.node(n).PID(); pid != 0 {
				if err := lab.StepClock(pid, by); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return func(context.Context) error { return set(0) }, set(step)
}

// stallSites holds the lock of every site that is in use: what asks it for anything
// waits, as at an array that does not answer.
func (w *world) stallSites(ctx context.Context) (undo, error) {
	var held []*os.File
	back := func(context.Context) error {
		var errs []error
		for _, f := range held {
			errs = append(errs, f.Close())
		}
		return errors.Join(errs...)
	}
	for _, site := range lab.Sites() {
		dir := w.lab.SiteDir(site)
		if t, err := readToken(dir); err != nil || t.Role != roleActive {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err != nil {
			return back, err
		}
		held = append(held, f)
		err = awaitEvery(ctx, time.Millisecond, lockPatience, func(context.Context) error {
			return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		})
		if err != nil {
			return back, err
		}
	}
	return back, nil
}
