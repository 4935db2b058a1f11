package chaos

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/lockstep-storage/lockstep/cmd/internal/chaos/lab"
)

// rejoinWithin is how long a node may take to be ready on a disk that was replaced.
const rejoinWithin = 20 * time.Second

// emptyDisk starts a node again with an empty disk. A node that says that it will
// not work like that gets its own disk back, as it asks for. Nothing else is broken
// meanwhile: a voter that forgets is one that the others have to do without.
func (w *world) emptyDisk(ctx context.Context, p planned) (undo, error) {
	return w.replaceDisks(ctx, p, func(ctx context.Context, n int) error {
		node := w.node(n)
		if err := node.Disk.Copy(ctx); err != nil {
			return err
		}
		return node.Disk.Empty()
	})
}

// oldDisk starts a node again with what its disk held some time ago, as after a
// machine was put back to an old snapshot.
func (w *world) oldDisk(ctx context.Context, p planned) (undo, error) {
	for _, n := range p.nodes {
		node := w.node(n)
		node.Kill()
		if err := node.AwaitEnd(ctx); err != nil {
			return nothing, err
		}
		if err := node.Disk.Copy(ctx); err != nil {
			return nothing, err
		}
	}
	if err := w.start(ctx, p.nodes); err != nil {
		return nothing, err
	}
	wait(ctx, p.lasts)
	return w.replaceDisks(ctx, p, func(_ context.Context, n int) error { return w.node(n).Disk.Exchange() })
}

// replaceDisks kills nodes, does something to their disks and starts them again.
func (w *world) replaceDisks(ctx context.Context, p planned, with func(context.Context, int) error) (undo, error) {
	ctx = context.WithoutCancel(ctx)
	for _, n := range p.nodes {
		w.node(n).Kill()
		if err := w.node(n).AwaitEnd(ctx); err != nil {
			return nothing, err
		}
		if err := with(ctx, n); err != nil {
			return nothing, err
		}
	}
	if err := w.start(ctx, p.nodes); err != nil {
		return nothing, err
	}
	return func(ctx context.Context) error { return w.rejoined(ctx, p.nodes) }, nil
}

// rejoined waits until nodes are ready, and gives those that are not their own disk
// back.
func (w *world) rejoined(ctx context.Context, nodes []int) error {
	for _, n := range nodes {
		err := await(ctx, rejoinWithin, w.nodes[n-1].Ready)
		if err == nil {
			continue
		}
		node := w.node(n)
		node.Kill()
		if err := node.AwaitEnd(ctx); err != nil {
			return err
		}
		if err := node.Disk.Restore(); err != nil {
			return err
		}
		if err := w.start(ctx, nodes); err != nil {
			return err
		}
		return fmt.Errorf("%s was not ready on the disk that it got, and has its own again: %w", node.Name, err)
	}
	return nil
}

// losePower ends nodes as a loss of their power at one moment would: they start again
// with what had reached their disks. All are stopped first, so that none sees another
// come back with less than it had acknowledged.
func (w *world) losePower(ctx context.Context, p planned) (undo, error) {
	for _, n := range p.nodes {
		if !w.node(n).Disk.Breakable() {
			return nothing, errDisk
		}
	}
	back := func(ctx context.Context) error { return w.start(ctx, p.nodes) }
	for _, n := range p.nodes {
		w.node(n).Signal(syscall.SIGSTOP, lab.Agent|lab.Drivers)
	}
	for _, step := range []func(*lab.Node) error{
		func(n *lab.Node) error { return n.AwaitStopped(ctx) },
		func(n *lab.Node) error { return n.Disk.Capture(ctx) },
		func(n *lab.Node) error { n.Kill(); return n.AwaitEnd(ctx) },
		func(n *lab.Node) error { return n.Disk.Revert(ctx) },
	} {
		for _, n := range p.nodes {
			if err := step(w.node(n)); err != nil {
				return w.resume(p, back), err
			}
		}
	}
	return back, nil
}

// resume is for a loss of power that got stuck: what is stopped goes on as well.
func (w *world) resume(p planned, back undo) undo {
	return func(ctx context.Context) error {
		for _, n := range p.nodes {
			w.node(n).Signal(syscall.SIGCONT, lab.Agent|lab.Drivers)
		}
		return back(ctx)
	}
}
