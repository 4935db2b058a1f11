package driverhost

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Deadline is when the right to work ends.
type Deadline interface {
	// Deadline returns when, on CLOCK_BOOTTIME (see [BootTime]), the lease ends
	// unless it is renewed, or zero if there is none now. Renewed is closed when
	// that changes.
	Deadline() (until time.Duration, renewed <-chan struct{})
}

// ErrLeaseEnded is why a call was not made, or went no further.
var ErrLeaseEnded = errors.New("the lease has ended")

// BootTime returns the time since the machine started, on CLOCK_BOOTTIME. Unlike the
// clock of timers it goes on while the machine is suspended.
func BootTime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

type deadlineKey struct{}

// WithDeadline returns a context for driver calls that are good until d, for
// [Allowed].
func WithDeadline(ctx context.Context, d Deadline) context.Context {
	return context.WithValue(ctx, deadlineKey{}, d)
}

// DeadlineOf returns the deadline of a driver call, or nil if it was given none.
func DeadlineOf(ctx context.Context) Deadline {
	d, _ := ctx.Value(deadlineKey{}).(Deadline)
	return d
}

// Allowed says why a driver must make no further request to its storage, or nil. A
// driver asks right before each request that changes something: in a process that
// was stopped, the context of the call may not have ended yet although the lease
// has. What is left is a pause between Allowed and the request, which only a
// storage that remembers the [Token] can catch.
func Allowed(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	d := DeadlineOf(ctx)
	if d == nil {
		return nil // the driver was opened by a test or a tool, outside any lease
	}
	now, err := BootTime()
	if err != nil {
		return err
	}
	if until, _ := d.Deadline(); until <= now {
		return ErrLeaseEnded
	}
	return nil
}

// underLease is the deadline of calls under one unbroken lease.
type underLease struct {
	lease Deadline
	held  context.Context //nolint:containedctx // it is the lease
}

// Deadline returns zero once the lease has lapsed, even if there is a new one. The
// look at the lease ends the context of one that has.
func (l underLease) Deadline() (until time.Duration, renewed <-chan struct{}) {
	until, renewed = l.lease.Deadline()
	if l.held.Err() != nil {
		until = 0
	}
	return until, renewed
}
