package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Capture keeps what has reached the disk by now. What was written to its files and
// not synced is in the memory of the machine, and not in it: the file system is
// mounted such that it commits its journal when somebody syncs, and not by itself.
// The node must be stopped, so that nothing is on its way to the disk.
func (d *Disk) Capture(ctx context.Context) error {
	return run(ctx, "cp", "--sparse=always", d.image, d.captured())
}

// Revert makes the disk what it was when it was captured, as after a loss of power.
// The node must not run.
func (d *Disk) Revert(ctx context.Context) error {
	if err := d.unmount(ctx); err != nil {
		return err
	}
	if err := os.Rename(d.captured(), d.image); err != nil {
		return err
	}
	return d.mount(ctx)
}

func (d *Disk) captured() string { return d.image + ".captured" }

func (d *Disk) mount(ctx context.Context) error {
	const journal = 300 // seconds between commits of the journal that nobody asks for
	return run(ctx, "mount", "-o", fmt.Sprintf("loop,commit=%d", journal), d.image, d.Dir)
}

// unmount waits for the last process that has a file of the disk open.
func (d *Disk) unmount(ctx context.Context) error {
	for deadline := time.Now().Add(longestEnd); ; {
		err := unix.Unmount(d.Dir, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("unmount %s: %w", d.Dir, err)
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// AwaitStopped waits until no thread of the agent and of its drivers runs any more,
// after they were sent SIGSTOP. A system call ends first, such as an fsync.
func (n *Node) AwaitStopped(ctx context.Context) error {
	deadline := time.Now().Add(longestEnd)
	for _, pid := range append(n.Drivers(), n.PID()) {
		for pid != 0 && !stopped(pid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("%s: process %d does not stop", n.Name, pid)
			}
			select {
			case <-time.After(lookAgain):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// stopped reports whether every thread of a process is stopped, or gone.
func stopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false
	}
	for _, path := range threads {
		// What cannot be read has ended.
		if state, _ := statOf(path); state != "" && state != "T" && state != "Z" {
			return false
		}
	}
	return true
}
